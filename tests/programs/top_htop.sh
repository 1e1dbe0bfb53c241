# needs: top htop ps pgrep free vmstat uptime w python3
# What process viewers show of three processes that are known: names, states, parents, threads, niceness.
base=$(nice); sleep 1000 & a=$!; nice -n 3 sleep 1001 & b=$!; (exec -a renamed sleep 1002) & c=$!
cat >busy.py <<'P'
import threading, time
for i in range(3): threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
open("ready", "w").close(); time.sleep(1000)
P
python3 busy.py & d=$!; until [ -e ready ]; do sleep 0.01; done
mine() { sed "s/\b$a\b/A/; s/\b$b\b/B/; s/\b$c\b/C/; s/\b$d\b/D/; s/\b$$\b/SELF/"; }
ps -o pid=,ppid=,s=,ni=,nlwp=,comm= -p $a,$b,$c,$d | awk -v n=$base '{$4 -= n; print}' | mine
ps -o args= -p $c; ps -T -p $d -o comm= | wc -l; ps -o etimes= -p $a | tr -d ' ' | grep -c '^[0-9]$'
pgrep -P $$ -c sleep; pgrep -P $$ -f 'renamed 1002' | mine
top -b -n 1 -w 120 -p $a,$b,$d -o PID | awk -v n=$base 'f {print $1, $3 - n, $4 - n, $8, $NF} /PID USER/ {f = 1}' | mine | sort
top -b -n 1 -H -p $d | grep -c python3; top -b -n 2 -d 0.1 | grep -c '^Tasks:'
python3 - $a <<'P'
import os, sys
sys.path.insert(0, os.environ["SRC"])
from screen import Screen
s = Screen(["htop", "-d", "2", "-C", "-p", sys.argv[1]], rows=24, cols=90)
s.until("sleep 1000", "Tasks:"); s.keys("q"); print("htop", s.end())
s = Screen(["top", "-d", "1", "-p", sys.argv[1]], rows=20, cols=90)
s.until("sleep", "Tasks:"); s.keys("q"); print("top", s.end())
P
free -m | awk 'NR == 2 {print ($2 > 0 && $3 > 0 && $7 > 0)}'; vmstat 1 1 | wc -l; uptime | grep -c 'load average'
kill -STOP $a; until [ "$(ps -o s= -p $a)" = T ]; do sleep 0.01; done; echo stopped
kill -KILL $a $b $c $d; wait 2>/dev/null; rm -rf ready busy.py
