# needs: python3
cat > mp.py <<'EOF'
import multiprocessing as mp, os, time
def square(x): return x * x
def child(q, lock, value, array):
    for _ in range(100):
        with lock: value.value += 1
    array[1] = 2.5
    q.put("done")
def talk(c):
    while (m := c.recv()) != "stop": c.send(m * 2)
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        ctx = mp.get_context(method)
        with ctx.Pool(4) as pool: print(method, sum(pool.map(square, range(200))))
        q, lock, v, a = ctx.Queue(), ctx.Lock(), ctx.Value("i", 0), ctx.Array("d", 3)
        ps = [ctx.Process(target=child, args=(q, lock, v, a)) for _ in range(3)]
        [p.start() for p in ps]; [q.get() for _ in ps]; [p.join() for p in ps]
        print(v.value, a[1], [p.exitcode for p in ps])
        c, d = ctx.Pipe()
        p = ctx.Process(target=talk, args=(d,)); p.start()
        c.send([1, 2]); print(c.recv()); c.send("stop"); p.join(); print(p.exitcode)
    from multiprocessing import shared_memory
    s = shared_memory.SharedMemory(create=True, size=100); s.buf[0] = 7
    t = shared_memory.SharedMemory(name=s.name); print(t.buf[0]); t.close(); s.close(); s.unlink()
    from concurrent.futures import ProcessPoolExecutor
    with ProcessPoolExecutor(2) as e: print(list(e.map(square, range(5))))
EOF
python3 mp.py
