# needs: conntrack ip unshare
# Connections made and changed from outside, as conntrackd and load balancers do: conntrack -I and -U.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
mask() { sed -E 's/^([a-z0-9]+ +[0-9]+) [0-9]+/\1 T/; s/ use=[0-9]+//; s/ +/ /g'; }
show() { conntrack -L "$@" 2>/dev/null | mask | LC_ALL=C sort; }
try() { conntrack "$@" 2>&1 | tail -1 | mask; }
try -I -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80 --state ESTABLISHED -t 100
try -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 53 -t 100 -m 7 -u SEEN_REPLY
try -I -p tcp -s fd00::1 -d fd00::2 --sport 1000 --dport 80 --state SYN_SENT -t 50 -u ASSURED
try -I -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 77 -t 20
# Where the answers come from, and go to: another address, another port.
try -I -p tcp -s 10.0.0.1 -d 10.0.0.3 -r 10.0.0.9 -q 10.0.0.1 --sport 1 --dport 2 --reply-port-src 22 --reply-port-dst 1 --state ESTABLISHED -t 60
show; show -f ipv6
echo "== translated"
try -I -p tcp -s 10.1.0.1 -d 10.1.0.2 --sport 5 --dport 6 --state ESTABLISHED -t 60 --dst-nat 10.1.0.9
try -I -p tcp -s 10.1.0.1 -d 10.1.0.2 --sport 7 --dport 6 --state ESTABLISHED -t 60 --dst-nat 10.1.0.9:80
try -I -p udp -s 10.1.0.1 -d 10.1.0.2 --sport 9 --dport 6 -t 60 --src-nat 192.0.2.1:1000
try -I -p udp -s 10.1.0.1 -d 10.1.0.2 --sport 10 --dport 6 -t 60 --src-nat 192.0.2.1:1000
try -I -p udp -s 10.1.0.1 -d 10.1.0.2 --sport 11 --dport 6 -t 60 --src-nat 192.0.2.1 --dst-nat 10.1.0.8
try -I -p udp -s fd00::5 -d fd00::6 --sport 11 --dport 6 -t 60 --dst-nat fd00::7
try -U -p udp -s 10.1.0.1 -d 10.1.0.2 --sport 11 --dport 6 --dst-nat 10.1.0.7
show -s 10.1.0.1; show -f ipv6 -p udp
conntrack -L -n 2>/dev/null | mask | LC_ALL=C sort
conntrack -L -g 2>/dev/null | mask | LC_ALL=C sort
conntrack -D -s 10.1.0.1 2>&1 >/dev/null | tail -1
conntrack -D -f ipv6 -s fd00::5 2>&1 >/dev/null | tail -1
echo "== again"
try -I -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 53 -t 100
echo "== changed"
try -U -p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 53 -m 9 -u ASSURED -t 200
try -U -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1000 --dport 80 --state TIME_WAIT -t 30
show
conntrack -L -p udp 2>/dev/null | awk '{print ($3 > 190)}'
try -U -p tcp -s 1.1.1.1 -d 10.0.0.2 --sport 1000 --dport 80 -m 1
conntrack -D -s 10.0.0.1 2>&1 >/dev/null | tail -1
show
