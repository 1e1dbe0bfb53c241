# needs: gcc ip unshare
# fixture: gcc -O1 -o $FIXTURE/facts $SRC/socket_facts.c
# Binds of two sockets to one port, groups, queues of listeners, TCP_INFO: each answers as natively. The program's
# other parts (c, s, e, u, d: control messages, errors, buffers, devices) still differ in some lines.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
for part in b g l i; do
  "$FIXTURE/facts" $part
done
