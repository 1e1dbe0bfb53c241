# needs: redis-server redis-cli redis-benchmark
# A server on a unix socket: commands, a pipeline, blocking reads, an append-only file that outlives SIGKILL.
redis-server --port 0 --unixsocket "$PWD/s" --appendonly yes --appendfsync always --save '' \
  --logfile "$PWD/log" --daemonize yes --pidfile "$PWD/pid" >/dev/null
cli() { redis-cli -s "$PWD/s" "$@"; }
until [ "$(cli ping 2>/dev/null)" = PONG ]; do sleep 0.05; done
cli set a 1; cli incrby a 41; cli rpush l x y z; cli lrange l 0 -1; cli setex short 100 v; cli ttl short >/dev/null
seq 1 2000 | sed 's/.*/SET key:& value-&/' | cli --pipe | tail -1
cli dbsize; cli get key:1234
cli eval 'local s = 0; for i = 1, 1000 do s = s + tonumber(redis.call("GET", "a")) end; return s' 0
cli blpop queue 10 >popped & cli lpush queue job; wait $!; cat popped
cli subscribe news >heard & sub=$!
until [ "$(cli publish news extra)" = 1 ]; do sleep 0.05; done
until grep -q extra heard; do sleep 0.05; done; kill $sub; wait $sub 2>/dev/null; head -3 heard
redis-benchmark -s "$PWD/s" -n 2000 -c 20 -t set,get,lpush -q 2>&1 | tr '\r' '\n' | grep -c 'requests per second, p50'
cli bgrewriteaof >/dev/null
until cli info persistence | grep -q 'aof_rewrite_in_progress:0'; do sleep 0.05; done
cli bgsave >/dev/null; until cli info persistence | grep -q 'rdb_bgsave_in_progress:0'; do sleep 0.05; done
cli info persistence | tr -d '\r' | grep 'last_.*status'
p=$(cat pid); kill -KILL "$p"; while kill -0 "$p" 2>/dev/null; do sleep 0.02; done
cli ping >/dev/null 2>&1; echo "gone $?"
redis-server --port 0 --unixsocket "$PWD/s" --appendonly yes --save '' --logfile "$PWD/log" --daemonize yes --pidfile "$PWD/pid" >/dev/null
until [ "$(cli ping 2>/dev/null)" = PONG ]; do sleep 0.05; done
cli get key:2000; cli get a; cli llen l
cli shutdown nosave; while kill -0 "$(cat pid 2>/dev/null)" 2>/dev/null; do sleep 0.02; done
redis-check-rdb dump.rdb | grep -c 'RDB looks OK'
rm -rf s log pid popped heard dump.rdb appendonlydir
