# needs: python3
/usr/bin/env python3 - <<'EOF'
import threading, queue, time, os, signal, mmap, tempfile
q, out = queue.Queue(), []
lock = threading.Lock()
def work():
    while (n := q.get()) is not None:
        with lock: out.append(n * n)
ts = [threading.Thread(target=work) for _ in range(16)]
for t in ts: t.start()
for i in range(2000): q.put(i)
for _ in ts: q.put(None)
for t in ts: t.join()
print(sum(out))
b = threading.Barrier(8); hits = []
def meet():
    for i in range(20):
        b.wait(); hits.append(i)
ts = [threading.Thread(target=meet) for _ in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]
print(len(hits))
e = threading.Event()
threading.Timer(0.05, e.set).start(); print(e.wait(10))
got = []
signal.signal(signal.SIGUSR1, lambda *a: got.append(a[0]))
os.kill(os.getpid(), signal.SIGUSR1); time.sleep(0.01); print(got)
signal.setitimer(signal.ITIMER_REAL, 0.02); signal.signal(signal.SIGALRM, lambda *a: got.append("alarm"))
signal.pause(); print(got)
with tempfile.TemporaryFile() as f:
    f.write(b"x" * 8192); f.flush()
    m = mmap.mmap(f.fileno(), 8192); m[100:105] = b"hello"; m.flush()
    f.seek(98); print(f.read(9)); m.close()
m = mmap.mmap(-1, 4096)
pid = os.fork()
if pid == 0: m[0:5] = b"child"; os._exit(0)
os.waitpid(pid, 0); print(m[0:5])
EOF
