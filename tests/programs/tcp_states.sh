# needs: gcc ip unshare
# fixture: gcc -O1 -o $FIXTURE/states $SRC/tcp_states.c
# TCP sockets in every state and every call on each of them, then random calls by seeds: each answers as natively.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
"$FIXTURE/states"
"$FIXTURE/states" 6
"$FIXTURE/states" $(for seed in $(seq 4); do echo $seed 40; done)
"$FIXTURE/states" 6 $(for seed in $(seq 21 22); do echo $seed 40; done)
