#!/usr/bin/env python3
"""Programs inside against the host's own stack over a veth pair: both directions, IPv4 and IPv6.

Each case has two network namespaces of its own: the container's, which --network=sandbox takes over, and the
host's side with Linux's stack. What is answered must be right; where both sides can watch, they must see the same.
"""

import contextlib
import ctypes
import fcntl
import glob
import hashlib
import json
import os
import random
import re
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading

from lib import ALL_CAPS, Skip, eventually, expect, expect_equal, main

HOST, GUEST = {4: "10.77.0.1", 6: "fd77::1"}, {4: "10.77.0.2", 6: "fd77::2"}
CAPS = ALL_CAPS + ["CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_SETPCAP", "CAP_FSETID"]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SIOCETHTOOL, ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO = 0x8946, 0x17, 0x1f, 0x24


def url(address, rest):
    return f"http://[{address}]:{rest}" if ":" in address else f"http://{address}:{rest}"


def namespace(stack):
    """A network namespace, by a process that does nothing in it."""
    read_end, write_end = os.pipe()
    child = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 600"], stdout=write_end,
                             stdin=subprocess.DEVNULL)
    stack.callback(lambda: (child.kill(), child.wait()))
    os.close(write_end)
    with os.fdopen(read_end, "rb") as f:
        if f.read(1) != b"\n":
            raise Skip("no network namespaces here")
    return child.pid


class Pair:
    """The container up in its namespace, joined to Linux's in another; `with` ends both."""

    def __init__(self, box, *needs, relay=None, two=False):
        missing = [n for n in ("ip", "unshare", "nsenter") + needs if not shutil.which(n, path=PATH)]
        if os.geteuid() != 0 or missing:
            raise Skip("needs " + (" ".join(missing) or "root"))
        self.box, self.stack, self.relay, self.two = box, contextlib.ExitStack(), relay, two

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self.host, self.inner = namespace(stack), namespace(stack)
            self.wire(stack)
            config = self.box.config
            config["root"] = {"path": "/"}
            config["process"]["env"] = [f"PATH={PATH}", "HOME=/tmp", "LC_ALL=C.UTF-8"]
            config["process"]["cwd"] = "/tmp"
            for name in config["process"]["capabilities"]:
                config["process"]["capabilities"][name] = CAPS
            config["mounts"] += [{"destination": d, "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}
                                 for d in ("/tmp", "/run")]
            config["linux"]["devices"] = [{"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200}]
            link = {"type": "network"}
            config["linux"]["namespaces"].append(link)
            for name, pid in [("c", self.inner), ("d", self.host)][:2 if self.two else 1]:
                link["path"] = f"/proc/{pid}/ns/net"
                self.box.up("exec sleep 600", name=name, flags=("--network=sandbox",))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.box.end()
        self.stack.close()

    def wire(self, stack):
        def ip(pid, line):
            subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", *line.split()], check=True, timeout=30,
                           capture_output=True)
        ends = [(self.host, "host0", HOST), (self.inner, "eth0", GUEST)]
        if self.relay is None:
            ip(self.host, f"link add host0 type veth peer name eth0 netns /proc/{self.inner}/ns/net")
        else:
            middle = namespace(stack)
            for pid, name, _ in ends:
                ip(pid, f"link add {name} type veth peer name to-{name} netns /proc/{middle}/ns/net")
                ip(middle, f"link set to-{name} up")
        for pid, name, addresses in ends:
            for line in ("link set lo up", f"addr add {addresses[4]}/24 dev {name}",
                         f"addr add {addresses[6]}/64 dev {name} nodad", f"link set {name} up"):
                ip(pid, line)
        if self.relay is not None:
            for pid, names in ((middle, ["to-host0", "to-eth0"]), (self.host, ["host0"]), (self.inner, ["eth0"])):
                plain_frames(pid, names)
            stack.enter_context(self.relay.between(middle, "to-host0", "to-eth0"))

    def outside(self, *command, **kwargs):
        """Popen in the host's side, or in the second container."""
        if self.two:
            return self.box.start("exec", "d", *command, stderr=subprocess.STDOUT, **kwargs)
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("stdout", subprocess.PIPE)
        kwargs.setdefault("stderr", subprocess.STDOUT)
        kwargs.setdefault("cwd", self.box.folder)
        child = subprocess.Popen(["nsenter", "-t", str(self.host), "-n", *command],
                                 env={"PATH": PATH, "HOME": self.box.folder, "LC_ALL": "C.UTF-8"}, **kwargs)
        self.stack.callback(lambda: (child.kill(), child.wait()))
        return child

    def inside(self, *command, **kwargs):
        return self.box.start("exec", "c", *command, stderr=subprocess.STDOUT, **kwargs)

    @staticmethod
    def said(child, limit=60):
        out = child.communicate(timeout=limit)[0].decode(errors="replace")
        expect_equal(child.returncode, 0, child.args, out)
        return out

    def both(self, way, *command):
        """Runs it inside (way "out") or on the host's side ("in"); its output."""
        return self.said(self.inside(*command) if way == "out" else self.outside(*command))

    def listening(self, way, port, kind="-t"):
        """Waits until something listens where `way` leads to."""
        ask = ["ss", "-Hln", kind, f"sport = :{port}"]
        eventually(lambda: str(port) in self.both("in" if way == "out" else "out", *ask), "a listener at", port)


def in_namespace(pid, work):
    """Calls work() on a thread that has entered the process's network namespace; what it gives."""
    result = []

    def run():
        with open(f"/proc/{pid}/ns/net", "rb") as f:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(f.fileno(), 0x40000000) == 0:
                result.append(work())
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    expect(result, "entered the namespace")
    return result[0]


def plain_frames(pid, names):
    """No segments of 64 KiB and no open checksums: what a relay of frames can pass on."""
    def work():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for name in names:
                for command in (ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_STXCSUM):
                    value = ctypes.create_string_buffer(struct.pack("II", command, 0))
                    fcntl.ioctl(s, SIOCETHTOOL, struct.pack("16sP16x", name.encode(), ctypes.addressof(value)))
        return True
    in_namespace(pid, work)


class Relay:
    """Passes frames between two links and loses, repeats, reorders and corrupts some, the same by each seed."""

    def __init__(self, seed, lose=0.0, repeat=0.0, swap=0.0, corrupt=0.0):
        self.random = random.Random(seed)
        self.chances = [("lose", lose), ("repeat", repeat), ("swap", swap), ("corrupt", corrupt)]
        self.done = dict.fromkeys((n for n, _ in self.chances), 0)

    @contextlib.contextmanager
    def between(self, pid, *names):
        def work():
            sockets = []
            for name in names:
                s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
                s.bind((name, 3))
                sockets.append(s)
            return sockets
        sockets = in_namespace(pid, work)
        stop_read, stop_write = os.pipe()
        thread = threading.Thread(target=self.pass_on, args=(sockets, stop_read))
        thread.start()
        try:
            yield
        finally:
            os.close(stop_write)
            thread.join()
            os.close(stop_read)
            for s in sockets:
                s.close()

    def fate(self):
        at = self.random.random()
        for name, chance in self.chances:
            if at < chance:
                self.done[name] += 1
                return name
            at -= chance
        return None

    def pass_on(self, sockets, stop):
        kept = {}
        while True:
            ready = select.select([*sockets, stop], [], [], 0.02)[0]
            if stop in ready:
                return
            if not ready:  # nothing follows that could overtake it
                for to, frame in kept.items():
                    to.send(frame)
                kept.clear()
            for s in ready:
                frame, where = s.recvfrom(65536)
                if where[2] == socket.PACKET_OUTGOING:
                    continue
                to = sockets[1 - sockets.index(s)]
                fate = self.fate()
                if fate == "corrupt" and len(frame) > 60:
                    at = self.random.randrange(34, len(frame))
                    frame = frame[:at] + bytes([frame[at] ^ 1 << self.random.randrange(8)]) + frame[at + 1:]
                if fate == "swap" and to not in kept:
                    kept[to] = frame
                    continue
                with contextlib.suppress(OSError):
                    for _ in range({"lose": 0, "repeat": 2}.get(fate, 1)):
                        to.send(frame)
                    if to in kept:
                        to.send(kept.pop(to))


SERVE = r"""
import hashlib, http.server, socket
class H(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_PUT(self):
        left, sum = int(self.headers["Content-Length"]), hashlib.sha256()
        if self.headers.get("Expect"):
            self.send_response_only(100)
            self.end_headers()
        while left:
            piece = self.rfile.read(min(left, 65536))
            sum.update(piece)
            left -= len(piece)
        body = sum.hexdigest().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.send_response(200)
        body = bytes(i * 7 % 251 for i in range(1000)) * int(self.path[1:])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
class S(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
S(("::", 8080), H).serve_forever()
"""


def body(thousands):
    return bytes(i * 7 % 251 for i in range(1000)) * thousands


def web(pair, thousands):
    """Files fetched and sent through HTTP both ways over both protocols."""
    want = hashlib.sha256(body(thousands)).hexdigest()
    for way, there in (("out", HOST), ("in", GUEST)):
        server = (pair.outside if way == "out" else pair.inside)("python3", "-c", SERVE)
        pair.listening(way, 8080)
        for v in (4, 6):
            source = url(there[v], f"8080/{thousands}")
            get = f"curl -sS -o here {source}" if v == 4 else f"wget -qO here {source}"
            out = pair.both(way, "sh", "-c", f"cd $(mktemp -d) && {get} && sha256sum <here && "
                            f"curl -sS -T here {url(there[v], '8080/put')}")
            expect_equal(out.replace("-", "").split(), [want, want], way, v)
        server.kill()
        server.wait()


def test_http(box):
    """curl and wget against python's http.server, three megabytes each way."""
    with Pair(box, "curl", "wget", "python3") as pair:
        web(pair, 3000)


def test_http_over_a_bad_link(box):
    """The same while a relay loses, repeats, reorders and corrupts frames: Linux's TCP and ours recover alike."""
    relay = Relay(7, lose=0.01, repeat=0.01, swap=0.02, corrupt=0.005)
    with Pair(box, "curl", "wget", "python3", relay=relay) as pair:
        web(pair, 500)
        expect(all(relay.done.values()), relay.done)


def test_nginx(box):
    """nginx inside read from the host's side, many at once."""
    with Pair(box, "nginx", "curl") as pair:
        conf = ("daemon off; pid /tmp/pid; error_log /tmp/log crit; user root; events {} http { access_log off; "
                "sendfile on; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; "
                "uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; server { listen 80; listen [::]:80; root /tmp/www; } }")
        make = (f"mkdir -p /tmp/www /tmp/tmp; head -c 1000000 /dev/zero >/tmp/www/big; echo '{conf}' >/tmp/conf; "
                "exec nginx -p /tmp -c /tmp/conf -e /tmp/log")
        pair.inside("sh", "-c", make)
        pair.listening("in", 80)
        for v in (4, 6):
            one = url(GUEST[v], "80/big")
            out = pair.both("in", "sh", "-c", f"seq 30 | xargs -P 6 -I@ curl -gs -o /dev/null -w '%{{http_code}} "
                            f"%{{size_download}}\\n' '{one}' | sort | uniq -c")
            expect_equal(out.split(), ["30", "200", "1000000"])


def test_ping_and_traces(box):
    """ping, traceroute and mtr each way, and a path that is too narrow."""
    with Pair(box, "ping", "traceroute", "mtr") as pair:
        for way, there in (("out", HOST), ("in", GUEST)):
            for v in (4, 6):
                ping = pair.both(way, "ping", "-q", "-c", "3", "-i", "0.02", "-s", "4000", there[v])
                expect("3 packets transmitted, 3 received" in ping, ping)
                for kind in ("-U", "-I"):
                    trace = pair.both(way, "traceroute", kind, "-n", "-q", "1", "-N", "1", "-w", "2", there[v])
                    expect_equal(trace.splitlines()[1].split()[:2], ["1", there[v]], trace)
                mtr = pair.both(way, "mtr", "-n", "-r", "-c", "2", "-i", "0.05", "-G", "0.1", "-Z", "1", there[v])
                expect(f"{there[v]} " in mtr and " 0.0% " in mtr, mtr)


def test_tcpdump_sees_what_the_host_sees(box):
    """tcpdump inside, through its packet ring, prints what tcpdump at the other end of the link prints."""
    with Pair(box, "tcpdump", "ping") as pair:
        for v in (4, 6):
            dump = ["tcpdump", "-n", "-t", "-l", "-v", "-c", "6", "icmp or (icmp6 and ip6[40] >= 128 and ip6[40] <= 129)"]
            there = pair.outside(*dump[:-1], "-i", "host0", dump[-1])
            here = pair.inside(*dump[:-1], "-i", "eth0", dump[-1])
            for child in (there, here):
                line = b""
                while b"listening on" not in line:
                    line = child.stdout.readline()
                    expect(line, "tcpdump listens")
            pair.both("in", "ping", "-q", "-c", "3", "-i", "0.02", "-s", "100", GUEST[v])
            seen = [[l for l in pair.said(c).splitlines() if "ICMP" in l or l.startswith(("IP", " "))]
                    for c in (there, here)]
            expect_equal(seen[1], seen[0])
            expect("echo request" in "".join(seen[0]), seen[0])


def test_dns(box):
    """dig and the C library's resolver inside against dnsmasq on the host's side, by UDP and TCP."""
    with Pair(box, "dnsmasq", "dig") as pair:
        texts = ",".join(c * 200 for c in "abcdefg")
        pair.outside("dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", "--user=root", "--pid-file", "--conf-file=/dev/null",
                     "--interface=host0", "--bind-interfaces", "--log-facility=/dev/null", "--address=/one.test/192.0.2.1",
                     "--address=/one.test/2001:db8::1", f"--txt-record=big.test,{texts}")
        pair.listening("out", 53)
        for v in (4, 6):
            ask = ["dig", "+short", f"@{HOST[v]}"]
            expect_equal(pair.both("out", *ask, "one.test", "A"), "192.0.2.1\n")
            expect_equal(pair.both("out", *ask, "+tcp", "one.test", "AAAA"), "2001:db8::1\n")
            expect_equal(len(pair.both("out", *ask, "+bufsize=512", "big.test", "TXT")), 7 * 203)
        out = pair.both("out", "sh", "-c", f"echo nameserver {HOST[4]} >/etc/resolv.conf; getent ahosts one.test")
        expect_equal({l.split()[0] for l in out.splitlines()}, {"192.0.2.1", "2001:db8::1"})


def test_ssh_and_scp(box):
    """A login with a terminal, scp and a forwarded port from the host's side to sshd inside."""
    with Pair(box, "sshd", "ssh", "scp", "ssh-keygen") as pair:
        key = os.path.join(box.folder, "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=30)
        with open(key + ".pub", encoding="ascii") as f:
            public = f.read().strip()
        conf = ("HostKey /tmp/hostkey\nAuthorizedKeysFile /tmp/allowed\nStrictModes no\nPermitRootLogin yes\nUsePAM no\n"
                "PidFile none\nPrintMotd no\nPrintLastLog no\nSubsystem sftp internal-sftp\n")
        make = ("mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f /tmp/hostkey; "
                f"echo '{public}' >/tmp/allowed; printf '{conf}' >/tmp/conf; exec $(command -v sshd) -D -f /tmp/conf -E /tmp/log")
        pair.inside("sh", "-c", make)
        pair.listening("in", 22)
        options = ["-F", "/dev/null", "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                   "-o", "LogLevel=ERROR"]
        out = pair.both("in", "ssh", *options, "-tt", f"root@{GUEST[4]}", "test -t 0 && stty size && echo $SSH_CONNECTION")
        expect(f"{HOST[4]} " in out and "0 0" in out, out)
        big = os.path.join(box.folder, "big")
        with open(big, "wb") as f:
            f.write(body(2000))
        pair.both("in", "scp", "-q", *options, big, f"root@[{GUEST[6]}]:/tmp/big")
        pair.both("in", "scp", "-q", *options, f"root@{GUEST[4]}:/tmp/big", big + ".back")
        with open(big + ".back", "rb") as f:
            expect(f.read() == body(2000), "what was sent came back")
        pair.inside("python3", "-c", SERVE)
        pair.listening("in", 8080)
        pair.outside("ssh", *options, "-N", "-L", "7001:127.0.0.1:8080", f"root@{GUEST[6]}")
        eventually(lambda: "7001" in pair.both("in", "ss", "-Hlnt", "sport = :7001"), "the forwarded port")
        expect_equal(len(pair.both("in", "curl", "-s", "http://127.0.0.1:7001/50")), len(body(50).decode(errors="replace")))
        # The other way: a port of the container's that ends at the host's side.
        pair.outside("python3", "-c", SERVE)
        pair.listening("out", 8080)
        pair.outside("ssh", *options, "-N", "-R", "7002:127.0.0.1:8080", f"root@{GUEST[4]}")
        pair.listening("in", 7002)
        out = pair.both("out", "sh", "-c", "curl -sS http://127.0.0.1:7002/700 | sha256sum")
        expect_equal(out.split()[0], hashlib.sha256(body(700)).hexdigest())


def test_iperf3(box):
    """iperf3 each way with one and four streams, by TCP and UDP."""
    with Pair(box, "iperf3") as pair:
        for way, there in (("out", HOST), ("in", GUEST)):
            server = pair.outside("iperf3", "-s") if way == "out" else pair.inside("iperf3", "-s")
            pair.listening(way, 5201)
            for v, options in ((4, ["-n", "20M"]), (6, ["-n", "20M", "-R", "-P", "4"]), (4, ["-u", "-b", "5M", "-n", "200K"])):
                # After each run the server closes its socket and makes it anew: what comes in between is refused, or
                # reset if it still met the old one's queue.
                def run(way=way, address=there[v], options=options):
                    told = json.loads(pair.both(way, "iperf3", "-J", "-c", address, *options))
                    return None if not told["end"] and re.search("unable to connect|reset by peer", told.get("error", "")) else told
                told = eventually(run)
                end = told["end"]
                got = end.get("sum_received", end.get("sum", {"bytes": 0}))["bytes"]
                expect(got > 0, way, v, options, told.get("error"), end)
            server.kill()
            server.wait()


def test_redis(box):
    """redis inside asked from the host's side, and the other way: a pipeline and eight clients."""
    with Pair(box, "redis-server", "redis-cli", "redis-benchmark") as pair:
        for way, there in (("out", HOST), ("in", GUEST)):
            command = ["redis-server", "--bind", there[4], there[6], "--protected-mode", "no", "--save", "", "--dir", "/tmp"]
            server = pair.outside(*command) if way == "out" else pair.inside(*command)
            pair.listening(way, 6379)
            out = pair.both(way, "sh", "-c", "for i in $(seq 500); do echo SET k$i v$i; done | "
                            f"redis-cli -h {there[6]} --pipe | tail -1; redis-cli -h {there[4]} dbsize")
            expect_equal(out.split(), ["errors:", "0,", "replies:", "500", "500"])
            out = pair.both(way, "redis-benchmark", "-h", there[4], "-q", "-n", "1000", "-c", "8", "-P", "4", "-t", "set,get")
            expect_equal(out.count("requests per second"), 2, out)
            server.kill()
            server.wait()


ECHO = r"""
import asyncio, hashlib, sys
async def serve(reader, writer):
    while piece := await reader.read(50000):
        writer.write(piece)
        await writer.drain()
    writer.close()
async def client(host, n):
    reader, writer = await asyncio.open_connection(host, 7000)
    sent, got = hashlib.sha256(), hashlib.sha256()
    for i in range(20):
        message = bytes([n + i]) * (1 + i * 997)
        sent.update(message)
        writer.write(message)
        got.update(await reader.readexactly(len(message)))
    big = bytes([n]) * 600000
    sent.update(big)
    async def send():
        writer.write(big)
        await writer.drain()
        writer.write_eof()
    _, rest = await asyncio.gather(send(), reader.read())
    got.update(rest)
    writer.close()
    return sent.digest() == got.digest()
async def main():
    if len(sys.argv) == 1:
        await (await asyncio.start_server(serve, None, 7000)).serve_forever()
    print(sum(await asyncio.gather(*(client(h, n) for h in sys.argv[1:] for n in range(5)))))
asyncio.run(main())
"""


def asks_itself(pair, way, there, port, program, answer):
    """A program that serves without arguments, and with addresses asks itself at the other side over both protocols."""
    server = (pair.outside if way == "out" else pair.inside)(*program)
    pair.listening(way, port)
    expect_equal(pair.both(way, *program, there[4], there[6]), answer)
    server.kill()
    server.wait()


def test_asyncio(box):
    """Ten clients of asyncio at once, each way, over both protocols: messages, then a stream that fills the window."""
    with Pair(box, "python3") as pair:
        for way, there in (("out", HOST), ("in", GUEST)):
            asks_itself(pair, way, there, 7000, ("python3", "-c", ECHO), "10\n")


NODE = r"""
const http = require('http'), crypto = require('crypto');
const hash = (b) => crypto.createHash('sha256').update(b).digest('hex');
if (process.argv.length < 2) http.createServer((q, r) => {
  const h = crypto.createHash('sha256');
  q.on('data', (d) => h.update(d));
  q.on('end', () => r.end(h.digest('hex') + 'x'.repeat(300000)));
}).listen(8081, '::');
else (async () => {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 3 });
  const ask = (host, body) => new Promise((good, bad) => {
    const q = http.request({ host, port: 8081, method: 'POST', agent }, (r) => {
      let all = '';
      r.on('data', (d) => { all += d; });
      r.on('end', () => good(all.length === 300064 && all.startsWith(hash(body))));
    });
    q.on('error', bad);
    q.end(body);
  });
  const hosts = process.argv.slice(1);
  const done = await Promise.all(Array.from({ length: 20 }, (_, i) => ask(hosts[i % 2], Buffer.alloc(i * 20000, i))));
  console.log(done.filter((x) => x).length);
  agent.destroy();
})();
"""


def test_node(box):
    """node's http each way: requests with bodies over a few connections that are kept."""
    with Pair(box, "node") as pair:
        for way, there in (("out", HOST), ("in", GUEST)):
            asks_itself(pair, way, there, 8081, ("node", "-e", NODE), "20\n")


def test_postgresql(box):
    """PostgreSQL inside, asked from the host's side: rows in and out, and pgbench with four clients."""
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not places:
        raise Skip("needs postgresql")
    place = places[-1]
    with Pair(box, "setpriv") as pair:
        as_other = "setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/tmp/db"
        make = (f"mkdir -m 700 /tmp/db; chown 65534:65534 /tmp/db; cd /tmp/db; "
                f"{as_other} {place}/initdb -U rw -A trust -N -D data >/dev/null; "
                "echo 'host all all all trust' >>data/pg_hba.conf; "
                f"exec {as_other} {place}/postgres -D data -p 5433 -c 'listen_addresses=*' -c unix_socket_directories= "
                "-c fsync=off -c shared_buffers=16MB")
        pair.inside("sh", "-c", make)
        pair.listening("in", 5433)
        sql = ("create table t as select i as id, 'word ' || i as word from generate_series(1, 5000) i; "
               "select count(*), sum(id) from t; select host(inet_client_addr())")
        ask = [f"{place}/psql", "-U", "rw", "-d", "postgres", "-p", "5433", "-qAt"]
        eventually(lambda: pair.outside(*ask, "-h", GUEST[4], "-c", "select 1").communicate()[0] == b"1\n", "PostgreSQL answers")
        expect_equal(pair.both("in", *ask, "-h", GUEST[6], "-c", sql), f"5000|12502500\n{HOST[6]}\n")
        expect_equal(len(pair.both("in", *ask, "-h", GUEST[4], "-c", "select repeat('p', 2000000)")), 2000001)
        bench = [f"{place}/pgbench", "-U", "rw", "-p", "5433", "-h", GUEST[4]]
        pair.both("in", *bench, "-i", "-q", "-s", "1", "postgres")
        out = pair.both("in", *bench, "-n", "-c", "4", "-t", "20", "postgres")
        expect("actually processed: 80/80" in out, out)


def test_openvpn_between_two_sandboxes(box):
    """A tunnel over /dev/net/tun from one container to another: pings and streams go through it."""
    with Pair(box, "openvpn", "ping", "curl", two=True) as pair:
        key = subprocess.run(["openvpn", "--genkey", "secret", "/dev/stdout"], stdout=subprocess.PIPE, check=True,
                             timeout=30).stdout.decode()
        for way, there, ends in (("out", HOST, "10.6.0.1 10.6.0.2"), ("in", GUEST, "10.6.0.2 10.6.0.1")):
            command = (f"echo '{key}' >/tmp/key; exec openvpn --dev tun7 --dev-type tun --secret /tmp/key --cipher "
                       f"AES-256-CBC --verb 0 --remote {there[4]} --ifconfig {ends}")
            (pair.inside if way == "out" else pair.outside)("sh", "-c", command)
        eventually(lambda: ", 1 received" in pair.inside("ping", "-c", "1", "-W", "1", "10.6.0.2").communicate()[0].decode(),
                   "the tunnel")
        for way, address in (("out", "10.6.0.2"), ("in", "10.6.0.1")):
            (pair.outside if way == "out" else pair.inside)("python3", "-c", SERVE)
            pair.listening(way, 8080)
            out = pair.both(way, "sh", "-c", f"curl -sS {url(address, '8080/1000')} | sha256sum")
            expect_equal(out.split()[0], hashlib.sha256(body(1000)).hexdigest())


if __name__ == "__main__":
    sys.exit(main())
