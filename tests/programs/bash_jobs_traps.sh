# needs: bash sleep
set -m
sleep 100 & sleep 200 &
jobs | sed 's/\[\([0-9]\)\].*sleep/\1 sleep/'
kill %1; wait %1; echo "first $?"
kill -STOP %2; while ! jobs -s | grep -q sleep; do :; done
jobs -s | sed 's/.*Stopped/Stopped/'
kill -CONT %2; kill -TERM %2; wait %2; echo "second $?"
trap 'echo usr1' USR1; trap 'echo term' TERM; trap 'echo bye' EXIT; trap 'echo chld' CHLD
kill -USR1 $$; kill -TERM $$
true & wait $!
trap - CHLD
(trap 'echo sub; exit 5' INT; kill -INT $BASHPID); echo "sub $?"
bash -c 'trap "" TERM; kill -TERM $$; echo survived'
bash -c 'kill -SEGV $$'; echo "segv $?"
bash -c 'kill -KILL $$'; echo "kill $?"
bash -c 'ulimit -n 20; exec 30>x' 2>/dev/null; echo "limit $?"
trap 'echo err at line' ERR; false
f() { local x=1; trap 'echo return' RETURN; }; f
sleep 0.05 & p=$!; wait $p; echo "waited $?"
timeout 0.1 sleep 10; echo "timeout $?"
(sleep 100 & echo $! > pid; wait) & sleep 0.1; kill "$(cat pid)"; wait; rm pid
disown -a; echo done
