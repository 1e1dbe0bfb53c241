# needs: gcc ip unshare
# fixture: gcc -O1 -o $FIXTURE/walk $SRC/option_walk.c
# Every number of every level of socket options, on the sockets named here, with values of all sizes: each
# answers as natively. socket_options_* have the others.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
echo "0 2147483647" >/proc/sys/net/ipv4/ping_group_range
"$FIXTURE/walk" tcp udp6-connected
