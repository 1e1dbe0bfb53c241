# needs: gcc ip unshare
# fixture: gcc -O1 -o $FIXTURE/facts $SRC/netlink_facts.c
# What routing netlink says to requests of every type, family, attribute and size, strict and not: as natively.
# Left out: getting one neighbour, which newer kernels refuse in other words; dumps of neighbours, whose end tells
# in newer kernels what was not heeded; queueing disciplines and labels of addresses, which cannot be set inside.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
told() {  # part object...
  part=$1
  shift
  for object in "$@"; do
    "$FIXTURE/facts" "$part" "$object"
  done
}
told d link addr route rule neightbl netconf stats nsid
told h addr route rule neightbl netconf stats nsid
told g link addr rule neightbl netconf stats nsid
told n link neigh neightbl netconf stats nsid
told x link addr rule neightbl netconf stats nsid
told s link
