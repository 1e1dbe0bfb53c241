# needs: gcc ip unshare
# fixture: gcc -O1 -o $FIXTURE/waits $SRC/blocking_waits.c -lutil -lrt
# What becomes of each call that waits when signals, stops, tracers, ends of its file or other threads come upon it.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
parts=8
for ((i = 0; i < parts; i++)); do
  mkdir $i
  (cd $i && exec "$FIXTURE/waits" $i $parts >told) &
done
wait
for ((i = 0; i < parts; i++)); do
  cat $i/told
  rm -r $i
done
