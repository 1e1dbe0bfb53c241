#!/usr/bin/env python3
"""Unix sockets and FIFOs of the host in a shared folder: --host-uds, --host-fifo, and what is shut without."""

import os
import shutil
import socket
import sys
import threading

from lib import Skip, expect, expect_equal, main

# Says "ok" or the error's name for each thing tried.
GUEST = """
import errno, os, select, socket, sys
def tried(what, call):
    try: print(what, call() or "ok", flush=True)
    except OSError as e: print(what, errno.errorcode[e.errno], flush=True)
S, D, Q = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
def to(name, kind=S):
    s = socket.socket(socket.AF_UNIX, kind)
    s.connect("/share/" + name)
    return s
def echo(size):
    with to("stream") as s:
        assert s.getpeername() == "/share/stream"
        s.sendall(b"x" * size)
        s.shutdown(socket.SHUT_WR)
        return sum(iter(lambda: len(s.recv(65536)), 0))
def records():
    with to("packets", Q) as s:
        s.send(b"one"); s.send(b"three")
        return [s.recv(2), s.recv(100)]
def server(name, kind=S):
    s = socket.socket(socket.AF_UNIX, kind)
    s.bind("/share/" + name)
    return s
def serve(name):
    with server(name) as s:
        s.listen(5)
        print("listening", flush=True)
        p = select.poll()
        p.register(s, select.POLLIN)
        assert p.poll(60000)
        c, _ = s.accept()
        with c: c.sendall(b"got " + c.recv(100))
def passes_files():
    with to("stream") as s:
        socket.send_fds(s, [b"x"], [0])
def fifo(name, mode, text=None):
    with open("/share/" + name, mode) as f:
        return f.write(text) and "ok" if text else f.read()
"""


def guest(box, flags, script, mode="rw"):
    return box.start("do", "-v", f"{box.share}:/share:{mode}", "python3", "-c", GUEST + script, flags=flags,
                     universal_newlines=True)


def prepare(box):
    if shutil.which("python3") is None:
        raise Skip("no python3")
    box.share = os.path.join(box.folder, "share")
    os.mkdir(box.share)


def at(box, name):
    return os.path.join(box.share, name)


def listener(box, name, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_UNIX, kind)
    s.bind(at(box, name))
    if kind != socket.SOCK_DGRAM:
        s.listen(5)
    return s


def echoing(server):
    def run():
        connection, _ = server.accept()
        with connection:
            while True:
                data = connection.recv(65536)
                if not data:
                    break
                connection.sendall(data)
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_guest_connects_to_sockets_of_the_host(box):
    prepare(box)
    with listener(box, "stream") as stream, listener(box, "packets", socket.SOCK_SEQPACKET) as packets, \
         listener(box, "log", socket.SOCK_DGRAM) as log:
        threads = [echoing(stream), echoing(packets)]
        child = guest(box, ("--host-uds=open",), """
tried("echo", lambda: echo(100000))
tried("records", records)
def log():
    with to("log", D) as s: s.send(b"connected")
    socket.socket(socket.AF_UNIX, D).sendto(b"named", "/share/log")
tried("log", log)
tried("files", passes_files)
tried("wrong type", lambda: to("stream", D))
tried("bind", lambda: server("new") and "ok")
tried("inside", lambda: server("own").listen(5) or to("own") and "ok")
""")
        out, err = child.communicate(timeout=60)
        expect_equal(out, "echo 100000\nrecords [b'on', b'three']\nlog ok\nfiles EPERM\nwrong type EPROTOTYPE\n"
                     "bind ok\ninside ECONNREFUSED\n", err)
        expect_equal((log.recv(100), log.recv(100)), (b"connected", b"named"))
        for thread in threads:
            thread.join(30)


def test_guest_makes_sockets_for_the_host(box):
    prepare(box)
    child = guest(box, ("--host-uds=create",), """
tried("serve", lambda: serve("in"))
d = server("messages", D)
print("bound", flush=True)
tried("message", lambda: d.recv(100))
tried("again", lambda: server("messages", D) and "ok")
tried("connect", lambda: to("other") and "ok")
""")
    with listener(box, "other"):
        expect_equal(child.stdout.readline(), "listening\n")
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(at(box, "in"))
            s.sendall(b"ping")
            expect_equal(s.recv(100), b"got ping")
        expect_equal(child.stdout.readline(), "serve ok\n")
        with socket.socket(socket.AF_UNIX) as s:  # nobody serves it any more
            expect_equal(s.connect_ex(at(box, "in")), 111)
        expect_equal(child.stdout.readline(), "bound\n")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(b"hello", at(box, "messages"))
        out, err = child.communicate(timeout=60)
        expect_equal(out, "message b'hello'\nagain EADDRINUSE\nconnect ECONNREFUSED\n", err)


def test_fifos_of_the_host(box):
    prepare(box)
    for name in ("down", "up"):
        os.mkfifo(at(box, name))
    child = guest(box, ("--host-fifo=open",), """
tried("no reader", lambda: os.open("/share/up", os.O_WRONLY | os.O_NONBLOCK))
tried("read", lambda: fifo("down", "r"))
tried("write", lambda: fifo("up", "w", "to the host"))
""")
    expect_equal(child.stdout.readline(), "no reader ENXIO\n")
    with open(at(box, "down"), "w", encoding="ascii") as f:
        f.write("to the guest")
    with open(at(box, "up"), encoding="ascii") as f:
        expect_equal(f.read(), "to the host")
    out, err = child.communicate(timeout=60)
    expect_equal(out, "read to the guest\nwrite ok\n", err)


def test_nothing_of_it_without_the_flags(box):
    prepare(box)
    os.mkfifo(at(box, "fifo"))
    script = """
tried("connect", lambda: to("stream") and "ok")
tried("own socket", lambda: server("own").listen(5) or "ok")
tried("no reader", lambda: os.open("/share/fifo", os.O_WRONLY | os.O_NONBLOCK))
"""
    with listener(box, "stream"):
        reader = os.open(at(box, "fifo"), os.O_RDONLY | os.O_NONBLOCK)  # the guest's FIFO is another one
        out, err = guest(box, (), script).communicate(timeout=60)
        expect_equal(out, "connect ECONNREFUSED\nown socket ok\nno reader ENXIO\n", err)
        with socket.socket(socket.AF_UNIX) as s:
            expect_equal(s.connect_ex(at(box, "own")), 111)
        os.close(reader)
        # Nothing is made where the mount is read-only.
        out, err = guest(box, ("--host-uds=all",), script.replace("own\")", "fresh\")"), "ro").communicate(timeout=60)
        expect_equal(out.splitlines()[:2], ["connect ok", "own socket EROFS"], err)


def test_flags_are_checked(box):
    for flag, words in (("--host-uds=some", "none, open, create, all"), ("--host-fifo=create", "none, open"),
                        ("--fdlimit=3", "descriptors")):
        result = box.call("do", "true", flags=(flag,))
        expect(result.code == 125 and words in result.err, flag, result)


def test_more_open_files_than_descriptors_are_kept(box):
    prepare(box)
    for i in range(700):
        with open(at(box, f"f{i}"), "w", encoding="ascii") as f:
            f.write(str(i))
    script = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
files = []
try:
    for i in range(700): files.append(open(f"/share/f{i}"))
    print("all")
except OSError as e: print(errno.errorcode[e.errno])
del files
print(sum(int(open(f"/share/f{i}").read()) for i in range(700)))
"""
    out, err = guest(box, (), script).communicate(timeout=60)
    expect_equal(out, "all\n244650\n", err)
    out, err = guest(box, ("--fdlimit=300",), script).communicate(timeout=60)
    expect_equal(out.splitlines()[1:], ["244650"], out, err)
    expect(out.splitlines()[0] in ("EMFILE", "ENFILE"), out)


def test_exhausted_descriptors_are_an_error_that_passes(box):
    prepare(box)
    for i in range(6):
        with open(at(box, f"f{i}"), "w", encoding="ascii") as f:
            f.write("text")
    out, err = guest(box, ("--fdlimit=300",), """
held = []
try:
    while True:
        held.append(os.memfd_create("m"))
        os.truncate(held[-1], 1 << 20)
except OSError as e: print(errno.errorcode[e.errno] in ("ENFILE", "EMFILE"))
def looks():
    found = set()
    for i in range(6):
        try: found.add(open(f"/share/f{i}").read())
        except OSError as e: found.add(errno.errorcode[e.errno])
    return found
print(looks() <= {"text", "ENFILE", "EMFILE"})
for fd in held: os.close(fd)
print(looks())
""").communicate(timeout=60)
    expect_equal(out, "True\nTrue\n{'text'}\n", err)


if __name__ == "__main__":
    sys.exit(main())
