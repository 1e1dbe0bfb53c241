# needs: iptables-nft ip6tables-nft iptables-nft-save iptables-nft-restore unshare ip python3
# iptables as Debian has it, over nftables, in a network namespace of the script's own.
set -u
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
I=iptables-nft
$I -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
$I -A INPUT -p tcp --dport 8001 -j REJECT --reject-with tcp-reset
$I -A INPUT -p tcp -m multiport --dports 8002,8003 -m comment --comment "two ports" -j DROP
$I -A INPUT -p udp --dport 9001 -m limit --limit 5/min --limit-burst 2 -j ACCEPT
$I -A INPUT -p udp --dport 9001 -j DROP
$I -N OTHER
$I -A OTHER -s 127.0.0.0/8 -m mark ! --mark 0x5 -j RETURN
$I -A OTHER -j LOG --log-prefix "other "
$I -A INPUT -p tcp --dport 8004 -j OTHER
$I -A INPUT -i lo -p icmp --icmp-type echo-request -j DROP
$I -P FORWARD DROP
$I -t nat -A OUTPUT -p tcp --dport 7001 -j REDIRECT --to-ports 7000
$I -t nat -A OUTPUT -p tcp -d 192.0.2.1 --dport 7002 -j DNAT --to-destination 127.0.0.1:7000
$I -t nat -A POSTROUTING -d 192.0.2.1 -j MASQUERADE
$I -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j RETURN
$I -t mangle -A OUTPUT -p udp -j MARK --set-mark 9
$I -t mangle -A OUTPUT -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1000
$I -S; $I -t nat -S; $I -t mangle -S
ip addr add 192.0.2.1/32 dev lo
python3 - <<'PY'
import socket, threading
def tcp(host, port):
    s = socket.socket(); s.settimeout(0.3)
    try:
        s.connect((host, port)); return s.recv(9).decode()
    except TimeoutError: return "silence"
    except OSError as e: return e.strerror
    finally: s.close()
l = socket.create_server(("127.0.0.1", 7000), backlog=20)
def serve():
    while True:
        c, _ = l.accept(); c.sendall(b"welcome"); c.close()
threading.Thread(target=serve, daemon=True).start()
servers = [socket.create_server(("127.0.0.1", p)) for p in (8001, 8002, 8003)]
for host, port in [("127.0.0.1", 7001), ("192.0.2.1", 7002), ("127.0.0.1", 8001), ("127.0.0.1", 8002),
                   ("127.0.0.1", 8003), ("127.0.0.1", 8005)]:
    print(host, port, tcp(host, port))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
h = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); h.bind(("127.0.0.1", 9001)); h.settimeout(0.3)
for _ in range(4): u.sendto(b"x", ("127.0.0.1", 9001))
n = 0
try:
    while True: h.recv(9); n += 1
except TimeoutError: print("of four", n)
PY
$I -L INPUT -n -v -x | awk 'NR > 2 && !/ESTABLISHED/ { print $1, $3 }'
$I -C INPUT -p tcp --dport 8001 -j REJECT --reject-with tcp-reset; echo "there $?"
$I -C INPUT -p tcp --dport 8009 -j DROP 2>&1; echo "not there $?"
$I -I INPUT 2 -s 10.0.0.1 -j DROP; $I -R INPUT 2 -s 10.0.0.2 -j DROP; $I -D INPUT -p udp --dport 9001 -j DROP
iptables-nft-save | grep -v '^#' | sed 's/\[[0-9:]*\]/[N:N]/' > saved
cat saved
$I -F; $I -t nat -F; $I -X OTHER; $I -S
iptables-nft-restore < saved; echo "restored $?"
iptables-nft-save | grep -v '^#' | sed 's/\[[0-9:]*\]/[N:N]/' | cmp - saved && echo same
$I -X OTHER 2>&1; echo "in use $?"
$I -N OTHER 2>&1; echo "exists $?"
$I -A INPUT -j NOSUCH 2>&1; echo "unknown $?"
ip6tables-nft -A INPUT -p tcp --dport 1 -j REJECT; ip6tables-nft -S
