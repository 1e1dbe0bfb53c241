# needs: vim python3
# Keys, searches, undo, a shell command, a filter, a window that changes its size; then without a terminal.
python3 - <<'EOF'
import os, sys
sys.path.insert(0, os.environ["SRC"])
from screen import Screen, show
open("text", "w").write("".join(f"line {i}\n" for i in range(1, 301)))
s = Screen(["vim", "-u", "NONE", "-N", "-i", "NONE", "text"])
show(s.until('"text" 300L', "^line 23$")); show(s.keys("\x06", "^line 22$", "^line 44$"))
s.keys("G", "^line 300$"); s.keys("oadded by hand\x1b", "added by hand")
s.keys(":1,3d\r", "3 fewer lines", "^line 4$"); s.keys("gg/line 77\r", "^line 77$")
s.keys("dd:%s/line 2/LINE two/g\r", "substitutions on"); s.keys("u", "changes; before"); s.keys(":set nu\r", "^ *[0-9]+ line")
s.keys(":w\r", "written"); s.keys(":!echo from the shell\r", "^from the shell", "Press ENTER"); s.keys("\r")
s.keys(":r !seq 3\r", "^ *[0-9]+ 3$"); s.keys(":sp\r", r"text \[\+\](.|\n)*text \[\+\]"); s.resize(30, 60); s.until(r"(.*\n){28}text \[\+\]")
s.keys(":echo &lines &columns\r", "30 60"); s.keys(":only\r:wq\r"); print(s.end())
EOF
echo "status $?"
printf 'one\ntwo\nthree\n' >in; vim -u NONE -i NONE -es -c '%s/two/2/' -c 'w! out' -c 'qa!' in </dev/null; cat out
vim -u NONE -i NONE -es -c 'put =system(\"echo sys\")' -c 'w out2' -c 'qa!' </dev/null; cat out2
ls -A
