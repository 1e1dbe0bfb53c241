# needs: gcc ip unshare
# fixture: gcc -O1 -o $FIXTURE/facts $SRC/device_facts.c
# Calls about devices, packet sockets, filters and raw sockets: each answers as natively.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
# Nothing is sent of its own accord.
echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
ip link set lo up
ip link add d0 type veth peer name d9
ip link set d9 up
ip addr add 10.77.0.1/24 broadcast 10.77.0.255 dev d0
ip addr add 10.77.0.2/24 dev d0 label d0:1
ip link set d0 up
ip link add down type veth peer name dowp
for part in i c p f r s n; do
  "$FIXTURE/facts" $part
done
