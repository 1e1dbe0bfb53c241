# needs: gcc unshare
# fixture: gcc -O1 -o $FIXTURE/walk $SRC/socket_walk.c
# Random socket calls by many seeds, each in a network namespace of its own: each answers as natively. The
# seeds left out meet a connection to itself that was shut before (226), and a raw IPv6 socket that was bound
# before it was connected to an IPv4 address (163).
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
left=" 163 226 "
seeds=$(for n in $(seq 300); do case "$left" in *" $n "*) ;; *) echo "$n" ;; esac; done)
"$FIXTURE/walk" 200 $seeds
