# needs: gcc ip unshare
# fixture: gcc -O1 -o $FIXTURE/facts $SRC/socket_facts.c
# Binds of two sockets to one port, what control messages ask for, groups, queues of listeners, TCP_INFO:
# each answers as natively. The program's other parts (c, e, u, d: control messages that come, errors of datagrams that
# are too long, buffers; devices, which waits for minutes) still differ in some lines.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
for part in b s g l i; do
  "$FIXTURE/facts" $part
done
