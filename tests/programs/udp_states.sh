# needs: gcc ip unshare
# fixture: gcc -O1 -o $FIXTURE/states $SRC/udp_states.c
# UDP sockets in every state and every call on each of them, over IPv4, over IPv6 and over IPv4 by sockets of IPv6,
# then random calls by seeds: each answers as natively. The seeds left out meet what Linux's route cache of a socket
# remembers of a connect that failed, and sources that are groups.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
for kind in 4 6 m; do
  "$FIXTURE/states" $kind
done
walk() {
  kind=$1
  shift
  "$FIXTURE/states" "$kind" $(for seed in "$@"; do echo "$seed" 40; done)
}
walk 4 1 3 5
walk 6 1 2 4
walk m 3 4 6
