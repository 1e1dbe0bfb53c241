# needs: redis-server redis-cli redis-benchmark ip unshare
# redis: commands, a pipeline, publish and subscribe, a blocking pop, many clients, the save by fork.
set -eu
if [ -z "${RW_NET:-}" ]; then
  RW_NET=1 exec unshare -n bash "$0"
fi
ip link set lo up
redis-server --port 6379 --bind 127.0.0.1 ::1 --dir "$PWD" --logfile "$PWD/log" --save '' --daemonize no >/dev/null &
server=$!
for _ in $(seq 100); do redis-cli ping >/dev/null 2>&1 && break; sleep 0.05; done
redis-cli set a 1; redis-cli -h ::1 incrby a 41; redis-cli append s abc
for i in $(seq 500); do echo "SET k$i v$i"; done | redis-cli --pipe | tail -1
redis-cli dbsize
redis-cli blpop list 5 >popped & pop=$!
sleep 0.3; redis-cli rpush list x >/dev/null; wait $pop; cat popped
timeout 2 redis-cli subscribe news >heard & sub=$!
sleep 0.5; redis-cli publish news hello; wait $sub || true; cat heard
redis-benchmark -q -n 2000 -c 8 -P 4 -t set,get 2>/dev/null | tr '\r' '\n' | grep -c 'requests per second' || true
redis-cli save; redis-cli bgrewriteaof; sleep 0.3; redis-cli info persistence | grep -c aof_rewrite_in_progress
redis-cli shutdown nosave || true
wait $server || true
rm -rf log popped heard dump.rdb appendonlydir
