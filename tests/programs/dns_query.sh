# needs: dnsmasq dig musl-gcc ip unshare python3
# fixture: musl-gcc -static -o $FIXTURE/resolve $SRC/resolve.c
# dnsmasq asked by dig (UDP, TCP, both families), by glibc and by a static musl program.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -nm bash "$0"
fi
ip link set lo up
echo nameserver 127.0.0.1 >resolv.conf
mount --bind resolv.conf /etc/resolv.conf
dnsmasq --no-daemon --no-resolv --no-hosts --user=root --pid-file --listen-address=127.0.0.1,::1 --bind-interfaces \
  --address=/one.test/192.0.2.1 --address=/one.test/2001:db8::1 --txt-record=big.test,"$(printf 'x%.0s' $(seq 200))","$(printf 'y%.0s' $(seq 200))","$(printf 'z%.0s' $(seq 200))" \
  --address=/two.test/192.0.2.2 --local=/absent.test/ --local=/two.test/ --log-facility=/dev/null 2>/dev/null &
server=$!
for _ in $(seq 100); do dig +short +timeout=1 +tries=1 @127.0.0.1 one.test >/dev/null 2>&1 && break; sleep 0.05; done
dig +short @127.0.0.1 one.test A
dig +short @::1 one.test AAAA
dig +short +tcp @127.0.0.1 one.test A
dig +short +bufsize=512 +ignore @127.0.0.1 big.test TXT | wc -c
dig +short +bufsize=512 @127.0.0.1 big.test TXT | wc -c
dig +timeout=1 +tries=1 @127.0.0.1 -p 9 one.test 2>&1 | grep -o 'connection refused' | head -1
getent ahosts one.test | sort | head -3
getent hosts two.test
"$FIXTURE/resolve" one.test two.test absent.test
python3 -c 'import socket; print(sorted(x[4][0] for x in socket.getaddrinfo("one.test", 80, type=socket.SOCK_STREAM)))'
kill $server; wait $server || true
umount /etc/resolv.conf
rm resolv.conf
