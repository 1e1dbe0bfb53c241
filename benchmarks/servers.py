"""Servers with their clients, both inside one sandbox, as programs for bench.py.

A script starts its server, waits until that answers, and has the client alone timed by $MICRO --time;
the CPU time is that of all of it. Each says what it needs and ends what it started.
"""

import os
import subprocess

from programs import Program

POSTGRES = "/usr/lib/postgresql/15/bin"

# `wait_for COMMAND...`: until the command succeeds, for 20 s at most.
HEAD = ("set -eu\nwait_for() { i=0; until \"$@\" >/dev/null 2>&1; do i=$((i+1)); [ $i -lt 400 ]; "
        "sleep 0.05; done; }\n")



def database(folder):
    """A PostgreSQL cluster with pgbench's tables, made natively by the user nobody."""
    as_nobody = "runuser -u nobody --" if os.geteuid() == 0 else ""
    script = f"""set -eu
    chmod 755 . ; mkdir db; [ $(id -u) != 0 ] || chown nobody db; cd db
    export PATH={POSTGRES}:$PATH
    {as_nobody} initdb -D data -A trust -U me --no-sync -E UTF8 --locale=C
    {as_nobody} sh -c 'cat >>data/postgresql.conf' <<EOF
listen_addresses = ''
unix_socket_directories = '{folder}/db'
shared_buffers = 32MB
logging_collector = off
autovacuum = off
EOF
    {as_nobody} pg_ctl -D data -l {folder}/db/log -w start
    {as_nobody} pgbench -h {folder}/db -U me -q -i -s 2 postgres
    {as_nobody} pg_ctl -D data -m fast -w stop"""
    done = subprocess.run(["/bin/bash", "-c", script], cwd=folder, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"cannot make a database: {done.stderr[-300:]}")


def pgbench(options):
    return (HEAD + f"export PATH={POSTGRES}:$PATH\ncd db\n"
            "as=; [ $(id -u) != 0 ] || as='runuser -u nobody --'\n"
            "$as pg_ctl -D data -l $PWD/log -w -t 60 start >/dev/null\n"
            f"$as $MICRO --time 1 pgbench -h $PWD -U me -n {options} postgres >/dev/null\n"
            "$as pg_ctl -D data -m fast -w stop >/dev/null\n")


def redis(port, options):
    return (HEAD + f"redis-server --port {port} --save '' --logfile '' --dir . >/dev/null & s=$!\n"
            f"wait_for redis-cli -p {port} ping\n"
            f"$MICRO --time 1 redis-benchmark -p {port} -t set,get -c 8 {options} -q >/dev/null\n"
            "kill $s; wait $s || true\n")


def site(folder):
    """A page of 10 KB and nginx's configuration."""
    with open(os.path.join(folder, "page"), "wb") as f:
        f.write(b"0123456789" * 1024)
    os.mkdir(os.path.join(folder, "t"))
    user = "user root;\n" if os.geteuid() == 0 else ""
    temp = "".join(f"{kind}_temp_path {folder}/t;\n"
                   for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    with open(os.path.join(folder, "conf"), "w", encoding="utf-8") as f:
        f.write(f"{user}daemon off;\nworker_processes 1;\npid {folder}/pid;\nerror_log {folder}/e;\n"
                "events { worker_connections 512; }\nhttp {\naccess_log off;\nsendfile on;\n"
                f"{temp}keepalive_requests 100000000;\n"
                f"server {{ listen 127.0.0.1:7801; root {folder}; }}\n}}\n")


# wrk runs by time, so what it prints becomes the time of 10,000 requests.
NGINX = (HEAD + "nginx -p $PWD -c $PWD/conf 2>/dev/null & s=$!\n"
         "wait_for sh -c 'test -s pid && curl -sf http://127.0.0.1:7801/page'\n"
         "wrk -t 1 -c 8 -d 2 http://127.0.0.1:7801/page >out\n"
         "kill $s; wait $s || true\n"
         "awk '/Requests.sec:/ { printf \"timed %d\\n\", 1e13 / $2 }' out >&2\n")

ASYNCIO = '''
import asyncio, time
CLIENTS, TURNS = 10, 300
async def serve(reader, writer):
    while (line := await reader.readline()):
        writer.write(line)
        await writer.drain()
    writer.close()
async def client(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for i in range(TURNS):
        writer.write(b"hello %d\\n" % i)
        await writer.drain()
        assert await reader.readline() == b"hello %d\\n" % i
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*(client(port) for _ in range(CLIENTS)))
    server.close()
asyncio.run(main())
'''


def asyncio_script(folder):
    with open(os.path.join(folder, "echo.py"), "w", encoding="utf-8") as f:
        f.write(ASYNCIO)


REDIS_NEEDS = ["redis-server", "redis-benchmark", "redis-cli"]
PG_NEEDS = [POSTGRES + "/initdb", "pgbench"] + (["runuser"] if os.geteuid() == 0 else [])

SERVERS = [
    Program("pgbench_1_client", pgbench("-c 1 -t 500"), PG_NEEDS, database, rounds=2, timed_inside=True),
    Program("pgbench_4_clients", pgbench("-c 4 -j 2 -t 200"), PG_NEEDS, database, rounds=2,
            timed_inside=True),
    Program("redis_8_clients", redis(7802, "-n 8000"), REDIS_NEEDS, rounds=2, timed_inside=True),
    Program("redis_8_clients_p16", redis(7803, "-n 50000 -P 16"), REDIS_NEEDS, rounds=2,
            timed_inside=True),
    Program("nginx_wrk_10k", NGINX, ["nginx", "wrk", "curl", "awk"], site, rounds=2,
            timed_inside=True),
    Program("asyncio_echo_10", "exec /usr/bin/python3 echo.py", ["/usr/bin/python3"],
            asyncio_script),
]
