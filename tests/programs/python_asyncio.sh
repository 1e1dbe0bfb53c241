# needs: python3
python3 - <<'EOF'
import asyncio, os, socket, signal
async def reader_of_pipe():
    r, w = os.pipe()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(r, "rb"))
    tr, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(w, "wb"))
    tr.write(b"x" * 200000 + b"\n"); tr.close()
    print(len(await reader.readline()))
async def process():
    p = await asyncio.create_subprocess_exec("sort", "-n", stdin=asyncio.subprocess.PIPE,
                                             stdout=asyncio.subprocess.PIPE)
    out, _ = await p.communicate(b"3\n1\n2\n"); print(out, p.returncode)
    ps = [await asyncio.create_subprocess_shell(f"exit {i}") for i in range(8)]
    print([await p.wait() for p in ps])
async def unix():
    async def serve(r, w):
        while line := await r.readline(): w.write(line.upper())
        w.close()
    server = await asyncio.start_unix_server(serve, "sock")
    async def client(n):
        r, w = await asyncio.open_unix_connection("sock")
        for i in range(50):
            w.write(f"message {n} {i}\n".encode()); await w.drain()
            line = await r.readline()
        w.close(); return line
    print(await asyncio.gather(*(client(n) for n in range(5))))
    server.close(); os.unlink("sock")
async def timers():
    order = []
    async def nap(t): await asyncio.sleep(t); order.append(t)
    await asyncio.gather(nap(0.06), nap(0.02), nap(0.04)); print(order)
    try: await asyncio.wait_for(asyncio.sleep(10), 0.01)
    except asyncio.TimeoutError: print("timeout")
    ev = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, ev.set)
    os.kill(os.getpid(), signal.SIGUSR1); await ev.wait(); print("signal")
    print(await asyncio.to_thread(lambda: 42))
async def main():
    await reader_of_pipe(); await process(); await unix(); await timers()
asyncio.run(main())
EOF
