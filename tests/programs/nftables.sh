# needs: nft unshare ip python3
# nft in a network namespace of the script's own: rules that count, drop, reject and translate, sets
# and maps of all kinds, what is listed of them, and the errors of what cannot be.
set -u
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
list() { nft list "$@"; }
nft -f - <<'NFT'
table inet box {
  counter seen { }
  quota much { over 10 mbytes }
  set ports { type inet_service; elements = { 8001, 8002 } }
  set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.0.2.1-192.0.2.9 } }
  set pairs { type ipv4_addr . inet_service; elements = { 127.0.0.1 . 8003 } }
  set late { type ipv4_addr; flags dynamic,timeout; timeout 1h; }
  map verdicts { type inet_service : verdict; elements = { 8004 : drop, 8005 : jump away } }
  chain away {
    counter reject with icmpx type port-unreachable
  }
  chain in {
    type filter hook input priority 0; policy accept;
    ct state established,related counter accept
    tcp dport @ports counter reject with tcp reset
    ip daddr . tcp dport @pairs counter drop
    ip saddr @nets counter
    tcp dport vmap @verdicts
    udp dport 9001 counter name seen
    udp dport { 9002, 9003-9005 } add @late { ip saddr } counter drop
    meta mark 7 counter
    limit rate 10/second burst 5 packets udp dport 9100 counter
  }
  chain out {
    type filter hook output priority filter; policy accept;
    udp dport 9006 meta mark set 7 ct mark set meta mark
    oifname "lo" tcp dport 8006 reject
  }
}
table ip move {
  chain pre {
    type nat hook output priority -100; policy accept;
    tcp dport 7001 redirect to :7000
    ip daddr 192.0.2.77 tcp dport 7002 dnat to 127.0.0.1:7000
    tcp dport 7003-7004 dnat to tcp dport map { 7003 : 127.0.0.1 . 7000, 7004 : 127.0.0.1 . 7000 }
  }
  chain post {
    type nat hook postrouting priority srcnat; policy accept;
    ip daddr 192.0.2.77 masquerade
  }
}
NFT
echo "loaded $?"
ip addr add 192.0.2.77/32 dev lo
list ruleset
python3 - <<'PY'
import socket
def tcp(host, port):
    s = socket.socket(); s.settimeout(0.3)
    try:
        s.connect((host, port)); return s.recv(9).decode()
    except TimeoutError: return "silence"
    except OSError as e: return e.strerror
    finally: s.close()
l = socket.create_server(("127.0.0.1", 7000), backlog=20)
import threading
def serve():
    while True:
        c, _ = l.accept(); c.sendall(b"welcome"); c.close()
threading.Thread(target=serve, daemon=True).start()
servers = [socket.create_server(("127.0.0.1", p)) for p in (8001, 8003, 8004, 8005, 8006, 8007)]
for host, port in [("127.0.0.1", 7000), ("127.0.0.1", 7001), ("192.0.2.77", 7002), ("127.0.0.1", 7003),
                   ("127.0.0.1", 8001), ("127.0.0.1", 8003), ("127.0.0.1", 8004), ("127.0.0.1", 8005),
                   ("127.0.0.1", 8006)]:
    print(host, port, tcp(host, port))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 0)); u.settimeout(0.3)
heard = {p: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for p in (9001, 9002, 9004, 9006)}
for p, s in heard.items():
    s.bind(("127.0.0.1", p)); s.settimeout(0.3); u.sendto(b"x" * 10, ("127.0.0.1", p))
for p, s in heard.items():
    try: print(p, s.recv(20))
    except TimeoutError: print(p, "silence")
PY
list counter inet box seen
list set inet box late | sed 's/expires [0-9a-z]*/expires SOON/'
nft add element inet box ports '{ 8010, 8011 }'
nft delete element inet box ports '{ 8001 }'
list set inet box ports
nft get element inet box nets '{ 10.1.2.3 }'
nft get element inet box nets '{ 11.1.2.3 }' 2>&1
nft add rule inet box away tcp dport 1 accept
nft insert rule inet box away tcp dport 2 accept
nft -a list chain inet box away
nft delete rule inet box away handle 99999 2>&1
nft delete chain inet box away 2>&1
nft add rule inet box nothere accept 2>&1
nft create table inet box 2>&1
nft add chain inet box loopa; nft add chain inet box loopb
nft add rule inet box loopa jump loopb
nft add rule inet box loopb jump loopa 2>&1
nft flush chain inet box loopa; nft delete chain inet box loopb; nft delete chain inet box loopa
nft add chain inet box lonely; nft rename chain inet box lonely gone; nft list chain inet box gone
nft delete chain inet box gone
nft -f - 2>&1 <<'NFT'
add table ip half
add chain ip half c
add rule ip half nochain accept
NFT
list tables
nft flush set inet box ports; list set inet box ports
nft delete table ip move; list tables
nft flush ruleset; list ruleset; echo "empty $?"
