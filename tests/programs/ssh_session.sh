# needs: sshd ssh scp sftp ssh-keygen python3 ip unshare
# OpenSSH: a command, a login with a pseudo-terminal, scp both ways, sftp, ports forwarded each way and by SOCKS,
# a refusal.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -nm bash "$0"
fi
ip link set lo up
mkdir -p /run/sshd 2>/dev/null || true
mount -t tmpfs none /root 2>/dev/null || true
export HOME=/root
ssh-keygen -q -t ed25519 -N '' -f hostkey; ssh-keygen -q -t ed25519 -N '' -f key
cp key.pub allowed && chmod 600 allowed
cat >conf <<CONF
Port 2222
ListenAddress 127.0.0.1
HostKey $PWD/hostkey
AuthorizedKeysFile $PWD/allowed
StrictModes no
PermitRootLogin yes
UsePAM no
PidFile none
PrintMotd no
PrintLastLog no
Subsystem sftp internal-sftp
CONF
$(command -v sshd) -D -f "$PWD/conf" -E log &
server=$!
opts="-F /dev/null -i $PWD/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
for _ in $(seq 100); do ssh $opts -p 2222 root@127.0.0.1 true 2>/dev/null && break; sleep 0.1; done
ssh $opts -p 2222 root@127.0.0.1 'echo over $((6*7)); exit 3' || echo "status $?"
ssh $opts -p 2222 -tt root@127.0.0.1 'test -t 0 && echo terminal; stty size' </dev/null | tr -d '\r'
head -c 3000000 /dev/zero | tr '\0' 's' >big
scp -q $opts -P 2222 big root@127.0.0.1:"$PWD/there" && cmp big there && echo sent
scp -q $opts -P 2222 root@127.0.0.1:"$PWD/there" back && cmp big back && echo fetched
sftp -q $opts -P 2222 -b - root@127.0.0.1 <<SFTP | sed "s|$PWD|HERE|g"
mkdir $PWD/folder
put big $PWD/folder/one
rename $PWD/folder/one $PWD/folder/two
symlink $PWD/folder/two $PWD/folder/link
get $PWD/folder/link fetched
ls -1 $PWD/folder
chmod 600 $PWD/folder/two
rm $PWD/folder/link
-get $PWD/folder/none
SFTP
cmp big fetched && stat -c '%a %s' folder/two
head -c 1000000 big | ssh $opts -p 2222 root@127.0.0.1 'wc -c'
python3 - <<'PY' &
import socket
s = socket.create_server(("127.0.0.1", 7000))
for _ in range(3):
    c, _ = s.accept()
    c.sendall(c.recv(100).upper())
    c.close()
PY
echoer=$!
ssh $opts -p 2222 -N -L 7001:127.0.0.1:7000 -R 7002:127.0.0.1:7000 -D 7003 root@127.0.0.1 & tunnel=$!
python3 - <<'PY'
import socket, time
for port in (7001, 7002, 7003):
    for _ in range(100):
        try:
            c = socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            time.sleep(0.05)
    if port == 7003:  # SOCKS5: no authentication; connect to a name
        c.sendall(b"\5\1\0")
        assert c.recv(2) == b"\5\0"
        c.sendall(b"\5\1\0\3\x09127.0.0.1" + (7000).to_bytes(2, "big"))
        print("socks", c.recv(100)[:2])
    c.sendall(b"through")
    print(port, c.recv(100))
PY
kill $tunnel; wait $echoer
rm key; ssh-keygen -q -t ed25519 -N '' -f key
ssh $opts -o BatchMode=yes -p 2222 root@127.0.0.1 true 2>&1 || echo "refused $?"
kill $server
rm -rf hostkey* key* allowed conf log big there back folder fetched
