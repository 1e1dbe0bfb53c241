# needs: gcc ip unshare
# fixture: gcc -O1 -o $FIXTURE/walk $SRC/socket_walk.c
# Random socket calls by some seeds: each answers as natively.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
"$FIXTURE/walk" 1 20 200
