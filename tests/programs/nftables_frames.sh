# needs: nft unshare ip nsenter ping python3 sysctl
# nftables of the families bridge, arp and netdev between two namespaces at a bridge: rules that count and
# drop at each hook, ingress and egress, packets rewritten and sent elsewhere, what is listed, and the errors.
set -u
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
quiet6() { "$@" sysctl -qw net.ipv6.conf.all.disable_ipv6=1; }
ip link set lo up
quiet6
ip link add br0 type bridge
ip link set br0 address 02:00:00:00:01:00
ip addr add 10.9.0.254/24 dev br0
ip link set br0 up
unshare -n sleep 1000 & A=$!
unshare -n sleep 1000 & B=$!
trap 'kill $A $B' EXIT
for pid in $A $B; do
  while [ "$(readlink /proc/$pid/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.01; done
done
ina() { nsenter -t $A -n "$@"; }
inb() { nsenter -t $B -n "$@"; }
quiet6 ina
quiet6 inb
ip link add pa address 02:00:00:00:01:0a type veth peer name ea address 02:00:00:00:00:0a
ip link add pb address 02:00:00:00:01:0b type veth peer name eb address 02:00:00:00:00:0b
ip link set ea netns $A
ip link set eb netns $B
ip link set pa master br0 up
ip link set pb master br0 up
ina ip addr add 10.9.0.1/24 dev ea
ina ip link set ea up
inb ip addr add 10.9.0.2/24 dev eb
inb ip link set eb up
from_a() { ina ping -c1 -W"$2" "$1" >/dev/null; echo "$3: $?"; }
forget() { ina ip neigh flush all; inb ip neigh flush all; ip neigh flush all; }
nft -f - <<'NFT'
table bridge b {
  set macs {
    type ether_addr; elements = { 02:00:00:00:00:0a }
  }
  chain pre {
    type filter hook prerouting priority -300; policy accept;
    ether type arp counter
    iifname "pa" ether saddr @macs ip protocol icmp counter
    meta pkttype broadcast counter
  }
  chain in {
    type filter hook input priority 0; policy accept;
    ip daddr 10.9.0.254 icmp type echo-request counter
  }
  chain across {
    type filter hook forward priority 0; policy accept;
    icmp type echo-request iifname "pa" oifname "pb" counter
    ip saddr 10.9.0.2 icmp type echo-reply counter
  }
  chain out {
    type filter hook output priority 0; policy accept;
    icmp type echo-reply oifname "pa" counter
  }
  chain post {
    type filter hook postrouting priority 300; policy accept;
    ip protocol icmp counter
    arp operation reply counter
  }
}
table arp a {
  chain in {
    type filter hook input priority 0; policy accept;
    arp operation request arp saddr ip 10.9.0.1 counter
  }
  chain out {
    type filter hook output priority 0; policy accept;
    arp operation reply arp saddr ip 10.9.0.254 counter
  }
}
table netdev n {
  chain ing {
    type filter hook ingress device "pa" priority 0; policy accept;
    ip daddr 10.9.0.2 icmp type echo-request counter
    meta protocol arp arp operation request counter
    meta length 84 counter
  }
  chain eg {
    type filter hook egress device "pb" priority 0; policy accept;
    ip daddr 10.9.0.2 counter
    meta length 98 counter
  }
  chain loop {
    type filter hook ingress device "lo" priority 0; policy accept;
    udp dport 9 counter
  }
}
table inet i {
  chain ing {
    type filter hook ingress device "pa" priority 10; policy accept;
    icmp type echo-request counter
    meta nfproto ipv4 counter
  }
}
NFT
echo "loaded $?"
nft list ruleset
from_a 10.9.0.2 2 "through the bridge"
from_a 10.9.0.254 2 "to the bridge"
python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x"*20, ("127.0.0.1", 9))'
nft list ruleset | grep -E 'chain|counter|table'
nft add rule bridge b across icmp type echo-request drop
from_a 10.9.0.2 0.2 "dropped in forward"
from_a 10.9.0.254 2 "not forwarded"
nft flush chain bridge b across
nft add chain bridge b across '{ policy drop; }'
from_a 10.9.0.2 0.2 "policy drop"
nft add chain bridge b across '{ policy accept; }'
nft add rule bridge b in ip daddr 10.9.0.254 drop
from_a 10.9.0.254 0.2 "dropped in input"
nft flush chain bridge b in
nft add rule bridge b out icmp type echo-reply drop
from_a 10.9.0.254 0.2 "dropped in output"
nft flush chain bridge b out
nft add rule bridge b pre ether saddr 02:00:00:00:00:0a meta mark set 5
nft add rule bridge b across meta mark 5 drop
from_a 10.9.0.2 0.2 "dropped by mark"
nft flush chain bridge b across
nft add rule netdev n ing ip protocol icmp drop
from_a 10.9.0.2 0.2 "dropped at ingress"
nft flush chain netdev n ing
nft add rule netdev n eg ip protocol icmp drop
from_a 10.9.0.2 0.2 "dropped at egress"
nft flush chain netdev n eg
nft add rule arp a in arp saddr ip 10.9.0.1 drop
forget
from_a 10.9.0.254 0.2 "arp dropped"
nft flush chain arp a in
nft add rule arp a out drop
forget
from_a 10.9.0.254 0.2 "arp answer dropped"
nft flush chain arp a out
from_a 10.9.0.254 3 "arp again"
# An address that nobody has becomes one that somebody has, both ways.
ina ip neigh replace 10.9.0.77 lladdr 02:00:00:00:00:0b dev ea
nft add rule netdev n ing ip daddr 10.9.0.77 ip daddr set 10.9.0.2
nft add rule netdev n eg counter
nft add chain netdev n back '{ type filter hook egress device "pa" priority 0; }'
nft add rule netdev n back ip saddr 10.9.0.2 ip saddr set 10.9.0.77
from_a 10.9.0.77 2 "rewritten"
nft list table netdev n | sed 's/packets [0-9]* bytes [0-9]*/packets N/'
nft flush table netdev n
# Another destination's frame, sent to where it is not for; and past the bridge.
nft add rule netdev n ing icmp type echo-request ether daddr set 02:00:00:00:00:0c
from_a 10.9.0.2 0.2 "to a stranger's address"
nft flush chain netdev n ing
nft add rule netdev n ing icmp type echo-request ip daddr 10.9.0.2 fwd to "pb"
nft add rule bridge b across icmp type echo-request counter drop
from_a 10.9.0.2 2 "past the bridge"
nft list chain bridge b across
nft flush chain bridge b across
nft flush chain netdev n ing
nft add rule netdev n ing icmp type echo-request reject with icmp type admin-prohibited
ina ping -c1 -W1 10.9.0.2 | grep -o 'Packet filtered\|100% packet loss'
nft flush ruleset
from_a 10.9.0.2 2 "last"
for f in "arp input forward output" "bridge prerouting postrouting" "netdev ingress egress"; do
  set -- $f
  f=$1
  shift
  echo "== $f"
  nft add table $f x
  for h in "$@"; do
    for t in filter nat; do
      d=
      [ $f != netdev ] || d="device pa"
      nft add chain $f x "$h$t" "{ type $t hook $h $d priority 0; }" >err 2>&1
      echo "$h $t: $? $(head -1 err)"
    done
  done
  nft add chain $f x plain
  for r in "ct state new" "fib saddr type local" "socket mark 1" "meta ibrname br0" reject; do
    nft add rule $f x plain "$r" >err 2>&1
    echo "$r: $? $(head -1 err)"
  done
  nft -f - <<NFT
add rule $f x plain meta mark set 1
add rule $f x plain log
add rule $f x plain rt classid 1
add rule $f x plain meta skuid 0
add rule $f x plain meta pkttype broadcast
add rule $f x plain notrack
add rule $f x plain limit rate 1/second
add rule $f x plain quota 1 bytes
add rule $f x plain ether saddr 02:00:00:00:00:01
add rule $f x plain vlan id 3
add rule $f x plain arp operation request
add rule $f x plain meta l4proto tcp
add rule $f x plain numgen inc mod 2 0
NFT
  nft list table $f x
done
nft add rule netdev x plain dup to pa
nft add chain netdev x two '{ type filter hook ingress devices = { pa, pb } priority 0; }'
nft list table netdev x
nft add rule netdev x egressfilter reject 2>&1
nft flush ruleset
nft list ruleset
rm -f err
