# needs: ip unshare sysctl
# What iproute2 prints of links, addresses, routes, rules and neighbours in a namespace of the script's own,
# and what routes it finds.
set -u
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
x() {
  echo "\$ $*"
  "$@" 2>&1 | sed -E 's/ (num[tr]xqueues) [0-9]+//g; s/"num_[tr]x_queues":[0-9]+,//g; s/ uid 0//'
}
x ip addr
x ip -d link show lo
x ip route
x ip rule
x ip -6 rule
x ip route get 127.0.0.1
x ip -6 route get ::1
ip link set lo up
sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
x ip addr
x ip -4 route show table all
x ip route get 127.0.0.1
x ip route get 127.1.2.3
x ip -6 route get ::1
x ip route get 1.2.3.4
x ip -6 route get 2001:db8::1
ip link add v0 address 02:00:00:00:00:01 type veth peer name v1 address 02:00:00:00:00:02
ip link add d0 address 02:00:00:00:00:03 type veth peer name d9 address 02:00:00:00:00:13
ip addr add 10.1.0.1/24 dev v0
ip addr add 10.1.0.5/24 dev v0
ip addr add 10.2.0.1/24 brd + dev d0 label d0:x
ip addr add 10.3.0.1 peer 10.3.0.2/32 dev d0
ip -6 addr add fd00:1::1/64 dev v0 nodad
ip -6 addr add fd00:2::1/64 dev d0 nodad
for i in v0 v1 d0 d9; do ip link set $i up; done
for i in v0 v1 d0 d9; do
  while ip -6 addr show dev $i | grep -q tentative || ! ip -6 addr show dev $i | grep -q fe80; do sleep 0.05; done
done
x ip addr
x ip -d link show v0
x ip -br addr
x ip -br link
x ip -o -4 addr
x ip -j addr show d0
x ip -j route
x ip -j -d link show v0
x ip route
x ip route show table local
x ip -6 route show table main dev v0
x ip route get 10.1.0.1
x ip route get 10.1.0.255
x ip route get 10.1.0.7
ip route add default via 10.1.0.254
ip route add 192.0.2.0/24 via 10.1.0.253 metric 5 mtu 1400
ip route add 198.51.100.0/24 dev d0 src 10.2.0.1
ip route add blackhole 203.0.113.0/24
ip route add unreachable 203.0.113.128/25
ip route add prohibit 203.0.113.64/26
ip route add throw 203.0.113.32/27
ip route add 172.16.0.0/16 nexthop via 10.1.0.7 weight 2 nexthop dev d0 weight 1
ip route add 10.50.0.0/16 via 10.1.0.9 table 100
ip rule add from 10.2.0.0/16 table 100
ip rule add fwmark 5 table 100 pref 50
ip rule add to 9.9.9.9 lookup main pref 60
ip rule add iif nothere lookup 100 pref 70
ip rule add oif d0 lookup main pref 75
ip rule add uidrange 100-200 lookup 100 pref 80
ip rule add ipproto tcp dport 80 lookup 100 pref 90
ip rule add not to 0.0.0.0/0 blackhole pref 95
x ip rule
x ip -j rule
x ip route
x ip route show table 100
x ip -4 route show table all
x ip -d route
for a in 10.1.0.1 10.1.0.7 10.1.0.255 10.2.0.9 10.3.0.2 192.0.2.1 198.51.100.7 203.0.113.1 203.0.113.200 \
  203.0.113.70 203.0.113.33 8.8.8.8; do
  x ip route get $a
done
x ip route get 10.50.0.1 mark 5
x ip route get 8.8.8.8 oif d0
x ip route get 10.1.0.7 from 10.1.0.5
x ip route get 8.8.8.8 from 9.9.9.9
x ip route get 10.1.0.1 from 10.1.0.7 iif v0
x ip route get fibmatch 192.0.2.1
x ip route get fibmatch 8.8.8.8
x ip -d route get 192.0.2.1
x ip -j route get 192.0.2.1
ip -6 route add default via fd00:1::fe
ip -6 route add 2001:db8:1::/48 via fd00:1::9 metric 50
ip -6 route add unreachable 2001:db8:2::/48
ip -6 route add blackhole 2001:db8:3::/48
ip -6 route add prohibit 2001:db8:4::/48
x ip -6 route show table main root 2000::/3
for a in fd00:1::1 fd00:1::5 2001:db8:1::1 2001:db8:2::1 2001:db8:3::1 2001:db8:4::1 2001:db8:9::1; do
  x ip -6 route get $a
done
x ip -6 route get fe80::1 oif v0
x ip -6 route get 2001:db8:1::1 from fd00:2::1
x ip -6 route get fibmatch 2001:db8:1::1
x ip neigh add 10.1.0.7 lladdr 02:00:00:00:00:77 dev v0
x ip neigh add 10.1.0.8 lladdr 02:00:00:00:00:78 dev v0 nud stale
x ip -6 neigh add fd00:1::7 lladdr 02:00:00:00:00:79 dev v0 nud noarp router
x ip -4 neigh | LC_ALL=C sort
x ip -j neigh show nud permanent
x ip neigh get 10.1.0.7 dev v0
x ip neigh del 10.1.0.99 dev v0
x ip link set nothere up
x ip link del lo
x ip addr add 10.1.0.1/24 dev v0
x ip addr del 10.9.9.9/24 dev v0
x ip route del 1.2.3.0/24
x ip route add 192.0.2.0/24 via 10.1.0.253 metric 5
x ip route add 5.5.5.0/24 via 99.99.99.99
x ip rule del pref 4000
x ip link add v0 type veth
x ip link add zz type nosuchkind
x ip link set v0 mtu 10
x ip link set v0 master nothere
x ip addr show to 10.1.0.0/24
x ip netconf show dev v0
