# needs: iptables-legacy ip6tables-legacy nft ip unshare python3
# A proxy that stands for every address: TPROXY and the match "socket" of iptables, tproxy and socket of nft,
# for TCP and UDP by IPv4 and IPv6. What the program itself sends is marked and looped back for it.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
ip addr add 10.0.0.1/32 dev lo
ip addr add fd00::1/128 dev lo nodad
for v in -4 -6; do
  ip $v rule add fwmark 1 lookup 100
  ip $v route add local default dev lo table 100
done
ip route add default dev lo
ip -6 route add default dev lo
cat >talk.py <<'END'
import errno, socket, struct, sys

V4, V6 = socket.AF_INET, socket.AF_INET6
FAR = {V4: ("192.0.2.7", 80), V6: ("2001:db8::7", 80)}
HERE = {V4: "10.0.0.1", V6: "fd00::1"}

def transparent(s, family):
    s.setsockopt(socket.SOL_IP if family == V4 else socket.IPPROTO_IPV6, 19 if family == V4 else 75, 1)

def tcp(family, proxy):
    l = socket.socket(family, socket.SOCK_STREAM)
    if proxy:
        transparent(l, family)
    l.bind((HERE[family] if proxy else "", 9000))
    l.listen(5)
    l.settimeout(5)
    c = socket.socket(family, socket.SOCK_STREAM)
    c.settimeout(0.3)
    c.bind((HERE[family], 0))
    try:
        c.connect(FAR[family])
    except OSError as e:
        return "no connection" if isinstance(e, TimeoutError) else errno.errorcode[e.errno]
    a, peer = l.accept()
    c.sendall(b"question")
    got = a.recv(100)
    a.sendall(b"answer")
    result = (got, c.recv(100), c.getpeername()[:2], a.getsockname()[:2], peer[:2] == c.getsockname()[:2])
    c.close()
    result += (a.recv(100),)
    a.close()
    l.close()
    return result

def udp(family):
    l = socket.socket(family, socket.SOCK_DGRAM)
    transparent(l, family)
    level, number = (socket.SOL_IP, 20) if family == V4 else (socket.IPPROTO_IPV6, 74)
    l.setsockopt(level, number, 1)
    l.bind((HERE[family], 9000))
    l.settimeout(5)
    c = socket.socket(family, socket.SOCK_DGRAM)
    c.bind((HERE[family], 0))
    c.settimeout(5)
    c.sendto(b"question", FAR[family])
    data, control, flags, peer = l.recvmsg(100, 200)
    where = [(struct.unpack("!H", v[2:4])[0], socket.inet_ntop(family, v[4:8] if family == V4 else v[8:24])) for _, _, v in control]
    # The answer comes from where the question went.
    s = socket.socket(family, socket.SOCK_DGRAM)
    transparent(s, family)
    s.bind(FAR[family])
    s.sendto(b"answer", peer)
    return data, where, c.recvfrom(100)[0]

for what in sys.argv[1:]:
    print(what, {"tcp4": lambda: tcp(V4, True), "tcp6": lambda: tcp(V6, True), "plain4": lambda: tcp(V4, False),
                 "udp4": lambda: udp(V4), "udp6": lambda: udp(V6)}[what]())
END
echo "== iptables"
for t in iptables-legacy ip6tables-legacy; do
  far=192.0.2.7 here=10.0.0.1
  [ $t = ip6tables-legacy ] && far=2001:db8::7 here=fd00::1
  for p in tcp udp; do
    $t -w -t mangle -A OUTPUT -d $far -p $p -j MARK --set-mark 1
    $t -w -t mangle -A PREROUTING -d $far -p $p --dport 80 -j TPROXY --on-ip $here --on-port 9000 --tproxy-mark 1/1
  done
  $t -w -t mangle -S
  # Without a protocol, at another hook, in another table: none of these.
  $t -w -t mangle -A PREROUTING -j TPROXY --on-port 9000 2>/dev/null || echo "needs a protocol"
  $t -w -t mangle -A OUTPUT -p tcp -j TPROXY --on-port 9000 2>/dev/null || echo "not in OUTPUT"
  $t -w -t nat -A PREROUTING -p tcp -j TPROXY --on-port 9000 2>/dev/null || echo "not in nat"
done
python3 talk.py tcp4 tcp6 udp4 udp6
echo "== a socket that is not transparent gets nothing"
python3 talk.py plain4
echo "== the match"
for t in iptables-legacy ip6tables-legacy; do
  $t -w -t mangle -N DIVERT
  $t -w -t mangle -A DIVERT -j MARK --set-mark 1
  $t -w -t mangle -A DIVERT -j ACCEPT
  $t -w -t mangle -I PREROUTING -p tcp -m socket --transparent -j DIVERT
  $t -w -t mangle -I PREROUTING -p tcp -m socket --nowildcard --restore-skmark -m comment --comment seen
done
iptables-legacy -w -t mangle -Z
python3 talk.py tcp4 tcp6
# What the match did not see is the SYN alone.
iptables-legacy -w -t mangle -nvxL PREROUTING | awk '/TPROXY/ {print $4, $1}'
iptables-legacy -w -t mangle -nvxL PREROUTING | awk '/DIVERT/ {print "diverted", ($1 > 3)}'
for t in iptables-legacy ip6tables-legacy; do
  $t -w -t mangle -F
  $t -w -t mangle -X
done
echo "== nft"
nft -f - <<'END'
table inet proxy {
  chain out {
    type route hook output priority mangle;
    ip daddr 192.0.2.7 meta mark set 1
    ip6 daddr 2001:db8::7 meta mark set 1
  }
  chain pre {
    type filter hook prerouting priority mangle;
    socket transparent 1 meta mark set 1 counter accept
    ip daddr 192.0.2.7 meta l4proto { tcp, udp } tproxy ip to 10.0.0.1:9000 meta mark set 1 accept
    ip6 daddr 2001:db8::7 meta l4proto { tcp, udp } tproxy ip6 to [fd00::1]:9000 meta mark set 1 accept
  }
}
END
python3 talk.py tcp4 tcp6 udp4 udp6
nft list chain inet proxy pre | sed 's/packets [0-9]* bytes [0-9]*/packets N/'
nft 'add rule inet proxy out meta l4proto tcp tproxy to :9000' 2>&1 | grep -o 'Operation not supported'
nft 'add rule inet proxy pre socket mark 5 socket wildcard 0 counter'
nft list chain inet proxy pre | grep -o 'socket mark.*counter'
