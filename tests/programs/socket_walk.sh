# needs: gcc ip unshare
# fixture: gcc -O1 -o $FIXTURE/walk $SRC/socket_walk.c
# Random socket calls by many seeds: each answers as natively. The seeds left out meet what still differs
# or differs by the kernel's version: raw IPv4 sockets that hear their own broadcasts, AF_UNSPEC as their
# destination, the order of checks of SOCK_SEQPACKET, an IPv6 source that stays behind a mapped peer.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
left=" 30 33 37 40 59 80 101 104 123 124 163 166 178 184 211 215 226 235 236 237 239 243 249 254 266 278 280 284 286 287 288 289 294 298 300 "
seeds=$(for n in $(seq 300); do case "$left" in *" $n "*) ;; *) echo "$n" ;; esac; done)
"$FIXTURE/walk" 200 $seeds
