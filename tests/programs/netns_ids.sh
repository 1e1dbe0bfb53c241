# needs: ip unshare mount sysctl
# Named network namespaces and the numbers by which they know each other, as iproute2 gives and tells them; what
# netconf and the statistics of an interface tell.
set -u
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -nm bash "$0"
fi
x() {
  echo "\$ $*"
  "$@" 2>&1 | sed -E 's/ether [0-9a-f:]+/ether M/'
}
# Namespaces end in their own time.
gone() {
  while ip netns list-id | grep -q "nsid $1 "; do sleep 0.05; done
}
mkdir -p /run/netns
mount -t tmpfs none /run/netns
ip link set lo up
sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
x ip netconf
x ip netconf show dev lo
x ip stats show dev lo group link
x ip netns add a
x ip netns add b
x ip netns list-id
x ip netns set a 5
x ip netns set b 5
x ip netns set a 6
x ip netns set b auto
x ip netns list-id
x ip netns list-id nsid 5
x ip netns list-id nsid 7
x ip -n a netns list-id
x ip -n a netns set b 2
x ip netns list-id target-nsid 5
x ip netns list-id target-nsid 9
x ip netns list-id target-nsid 5 nsid 0
x ip netns | sort
x ip netns del b
gone 0
x ip netns list-id
x ip netns add c
x ip link add v0 type veth peer name v1 netns c
x ip link show v0
x ip -n c link show v1
x ip netns list-id
x ip -n c netns list-id
x ip -n a link add w0 type veth peer name w1 netns c
x ip -n c netns list-id
x ip -n c link show w1
x ip netns exec c ip -o link show v1
x ip netns del c
gone 0
x ip netns list-id
x ip link show v0
x ip netns del a
x ip netns del a
