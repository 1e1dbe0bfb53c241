# needs: ping traceroute mtr tcpdump ip nsenter unshare
# Two hosts behind a router, each a network namespace: ping, traceroute, mtr, and what tcpdump hears.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
unshare -n sleep 60 & a=$!
unshare -n sleep 60 & b=$!
trap 'kill $a $b' EXIT
sleep 0.3
ip link set lo up
ip link add ra type veth peer name ea; ip link add rb type veth peer name eb
ip link set ea netns $a; ip link set eb netns $b
ip addr add 10.1.0.1/24 dev ra; ip addr add 10.2.0.1/24 dev rb
ip -6 addr add fd01::1/64 dev ra nodad; ip -6 addr add fd02::1/64 dev rb nodad
ip link set ra up; ip link set rb up
echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
ina() { nsenter -t $a -n "$@"; }
inb() { nsenter -t $b -n "$@"; }
ina ip link set lo up; ina ip addr add 10.1.0.2/24 dev ea; ina ip -6 addr add fd01::2/64 dev ea nodad; ina ip link set ea up
ina ip route add default via 10.1.0.1; ina ip -6 route add default via fd01::1
inb ip link set lo up; inb ip addr add 10.2.0.2/24 dev eb; inb ip -6 addr add fd02::2/64 dev eb nodad; inb ip link set eb up
inb ip route add default via 10.2.0.1; inb ip -6 route add default via fd02::1
ina ping -q -c 3 -i 0.2 -W 2 10.2.0.2 | grep -o '3 packets.*loss'
ina ping -q -c 2 -i 0.2 -W 2 fd02::2 | grep -o '2 packets.*loss'
ina ping -q -c 2 -i 0.2 -W 2 -s 4000 10.2.0.2 | grep -o '2 packets.*loss'
ina ping -c 1 -W 0.3 -t 1 10.2.0.2 | grep -o 'From.*exceeded' || true
ina ping -c 1 -W 0.3 10.3.0.1 2>&1 | grep -o 'From.*nreachable' || true
ina ping -M do -c 1 -W 0.3 -s 2000 10.2.0.2 2>&1 | grep -o 'essage too long.*' || true
ina traceroute -n -q 1 -N 1 -w 1 10.2.0.2 | awk '{print $1, $2}' | tail -n +2
ina traceroute -6 -n -q 1 -N 1 -w 1 fd02::2 | awk '{print $1, $2}' | tail -n +2
ina traceroute -I -n -q 1 -N 1 -w 1 10.2.0.2 | awk '{print $1, $2}' | tail -n +2
ina mtr -n -r -c 2 -i 0.2 -G 0.5 -Z 1 10.2.0.2 | awk 'NR > 2 {print $2}'
inb timeout 5 tcpdump -n -l -t -c 4 -i eb 'icmp and host 10.1.0.2' >heard 2>/dev/null & dump=$!
sleep 0.7
ina ping -q -c 2 -i 0.2 10.2.0.2 >/dev/null
wait $dump || true
sed 's/id [0-9]*/id ID/' heard
rm heard
