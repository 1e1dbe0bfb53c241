# needs: lsof python3
# What lsof finds open of one process: files, a deleted one, pipes, sockets, a mapped file; and who has a file.
cat >holder.py <<'P'
import mmap, os, socket, sys
a = open("kept", "w+b"); a.write(b"x" * 5000); a.flush()
m = mmap.mmap(a.fileno(), 4096)
b = open("gone", "w"); b.write("abc"); b.flush(); os.unlink("gone")
r, w = os.pipe(); u = socket.socket(socket.AF_UNIX); u.bind("sock"); u.listen(1)
t = socket.socket(); t.bind(("127.0.0.1", 0)); t.listen(1)
e = __import__("select").epoll(); d = os.open(".", os.O_RDONLY)
open("ready", "w").write(str(t.getsockname()[1])); sys.stdin.read()
P
mkfifo in; python3 holder.py <in & p=$!; exec 9>in; until [ -s ready ]; do sleep 0.01; done; port=$(cat ready)
lsof -n -P -w -p $p -a -d '0-99' -F ftn | sed "s#$PWD#W#; s/:$port/:PORT/; s/0x[0-9a-f]*/X/g; s/ino=[0-9]*/ino/" | grep -v '^p' | paste -sd' ' | sed 's/ f/\nf/g' | sed 's/[0-9]\{4,\}/N/g'
lsof -w -t kept | grep -cx $p; lsof -w -a -p $p -d mem,txt -F n | grep -c 'python3\|kept'
lsof -w -a -p $p +L1 -F n | grep -c gone; lsof -n -P -w -a -p $p -i TCP -s TCP:LISTEN -t | grep -cx $p
lsof -w -a -p $p -U -F n | grep -c sock
exec 9>&-; wait $p; echo "ended $?"; lsof -w kept; echo "nobody $?"; rm -f kept sock in ready holder.py
