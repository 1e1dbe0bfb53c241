# needs: less python3
# Pages forth and back, searches, a window that changes its size, files that grow, pipes longer than memory.
python3 - <<'EOF'
import os, sys
sys.path.insert(0, os.environ["SRC"])
from screen import Screen, show
open("text", "w").write("".join(f"line {i} {'*' * (i % 9)}\n" for i in range(1, 2001)))
os.environ.update(LESSHISTFILE="-", LESS="")
s = Screen(["less", "text"], rows=12, cols=40)
s.until("^line 11 ", "^text"); show(s.keys(" ", r"^line 12 (.|\n)*^line 22 \**\n:")); show(s.keys("b", r"^line 1 (.|\n)*^line 11 \**\n:"))
show(s.keys("/line 1234\r", r"^line 1234 (.|\n)*^line 1244 \**\n:")); s.keys("G", r"^line 2000 \**\n.*END"); s.keys("g", r"^line 11 \**\n:")
show(s.keys("50p", r"^line 1\d\d\d (.|\n)*\n:")); s.keys("g", r"^line 11 \**\n:")
s.keys("!echo $((6*7)) shell\r", "42 shell"); s.keys("\r"); s.keys("G", "END"); s.resize(20, 50)
show(s.keys("g", r"^line 1 (.|\n)*^line 19 \**\n:")); s.keys("q"); print(s.end())
s = Screen(["sh", "-c", "for i in 1 2 3; do echo part $i; done | less"], rows=8, cols=30)
s.until("part 3", "END"); s.keys("q"); print(s.end())
open("grows", "w").write("first\n")
s = Screen(["less", "+F", "grows"], rows=8, cols=40); s.until("Waiting")
open("grows", "a").write("second\n"); s.until("^second"); s.keys("\x03", "END"); s.keys("q"); print(s.end())
s = Screen(["sh", "-c", "seq 10000000 | less"], rows=6, cols=20); s.until("^5"); s.keys("q"); print(s.end())
EOF
echo "status $?"; less text </dev/null | tail -1; rm -f grows
