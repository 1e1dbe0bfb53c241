# needs: openvpn ip nsenter ping python3 unshare
# OpenVPN between two network namespaces: /dev/net/tun, a key of both, bytes through the tunnel.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
unshare -n sleep 60 & peer=$!
sleep 0.3
inside() { nsenter -t $peer -n "$@"; }
ip link set lo up; inside ip link set lo up
ip link add va type veth peer name vb; ip link set vb netns $peer
ip addr add 10.5.0.1/24 dev va; ip link set va up
inside ip addr add 10.5.0.2/24 dev vb; inside ip link set vb up
openvpn --genkey secret static.key
opt="--dev-type tun --secret static.key --cipher AES-256-CBC --verb 0 --ping 1 --ping-exit 20"
openvpn $opt --dev tun7 --remote 10.5.0.2 --ifconfig 10.6.0.1 10.6.0.2 >log1 2>&1 & one=$!
inside openvpn $opt --dev tun7 --remote 10.5.0.1 --ifconfig 10.6.0.2 10.6.0.1 >log2 2>&1 & two=$!
trap 'kill $one $two $peer' EXIT
for _ in $(seq 50); do ping -q -c 1 -W 1 10.6.0.2 >/dev/null 2>&1 && break; sleep 0.1; done
ping -q -c 3 -i 0.2 -W 2 10.6.0.2 | grep -o '3 packets.*loss'
ip -o -4 addr show tun7 | sed 's/^[0-9]*: *//; s/ valid.*//; s/\\ *$//'
cat >serve.py <<'PY'
import socket
s = socket.create_server(("10.6.0.2", 7000))
open("ready", "w").close()
c, _ = s.accept()
n = 0
while True:
    d = c.recv(65536)
    if not d:
        break
    n += len(d)
c.sendall(b"%d" % n)
PY
inside python3 serve.py &
while [ ! -e ready ]; do sleep 0.05; done
python3 - <<'PY'
import socket
c = socket.create_connection(("10.6.0.2", 7000))
c.sendall(b"v" * 1000000)
c.shutdown(socket.SHUT_WR)
print(c.recv(100))
PY
rm -f static.key log1 log2 ready serve.py
