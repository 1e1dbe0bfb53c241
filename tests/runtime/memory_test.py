#!/usr/bin/env python3
"""--file-memory: what the sandbox's files and shared memory may take of the host's memory."""

import re
import sys

from lib import expect, expect_equal, main

LIMIT = 64  # MiB

# Fills one kind after the other until it is refused, and gives each back.
BY_CALLS = r"""
import ctypes, errno, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
chunk = b"x" * (1 << 20)
def fill(name, fd):
    n = 0
    try:
        while n < 512:
            n += os.write(fd, chunk) / (1 << 20)
        why = 0
    except OSError as e:
        why = e.errno
    os.close(fd)
    print(name, errno.errorcode.get(why, why), round(n))
fill("memfd", os.memfd_create("a"))
fill("tmpfs", os.open("/dev/shm", os.O_TMPFILE | os.O_RDWR))
fill("overlay", os.open("/root", os.O_TMPFILE | os.O_RDWR))
fd = os.memfd_create("b")
try:
    os.posix_fallocate(fd, 0, 512 << 20)
    print("fallocate")
except OSError as e:
    print("fallocate", errno.errorcode[e.errno])
os.close(fd)
fill("again", os.memfd_create("c"))
# Many small files, which lie elsewhere than big ones.
os.mkdir("/dev/shm/many")
n = 0
try:
    while n < 8192:
        with open(f"/dev/shm/many/{n}", "wb") as f:
            f.write(chunk[:65536])
        n += 1
    why = 0
except OSError as e:
    why = e.errno
print("small", errno.errorcode.get(why, why), n // 16)
"""

# Each child writes to memory that it shares with its parent, who must live on.
BY_MAPPINGS = r"""
import ctypes, mmap, os, time
SIZE = 1 << 30
def shared():
    return mmap.mmap(-1, SIZE)
def memfd():
    fd = os.memfd_create("a")
    os.ftruncate(fd, SIZE)
    return mmap.mmap(fd, SIZE)
def file():
    fd = os.open("/dev/shm/f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, SIZE)
    os.unlink("/dev/shm/f")
    return mmap.mmap(fd, SIZE)
def sysv():
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    i = libc.shmget(0, ctypes.c_size_t(SIZE), 0o600)
    at = libc.shmat(i, None, 0)
    libc.shmctl(i, 0, None)
    return (ctypes.c_char * SIZE).from_address(at)
for make in shared, memfd, file, sysv:
    pid = os.fork()
    if pid == 0:
        memory = make()
        for at in range(0, SIZE, 4096):
            memory[at:at+1] = b"x"
            if at % (1 << 20) == 0: time.sleep(0.0005)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    print(make.__name__, os.WTERMSIG(status) if os.WIFSIGNALED(status) else "lived")
for turn in range(200):  # what the last one held comes back soon after its end, not always before
    try:
        m = mmap.mmap(-1, 1 << 20)
        break
    except OSError:
        time.sleep(0.01)
m[:] = b"y" * (1 << 20)
print("well")
"""


def test_calls_are_refused_at_the_limit(box):
    result = box.call("do", "python3", "-c", BY_CALLS, flags=(f"--file-memory={LIMIT}m",), check=0)
    lines = dict((line.split()[0], line.split()[1:]) for line in result.out.splitlines())
    for name in ("memfd", "tmpfs", "overlay", "again", "small"):
        expect_equal(lines[name][0], "ENOSPC", result)
        expect(LIMIT - 6 <= int(lines[name][1]) <= LIMIT, name, result)
    expect_equal(lines["fallocate"], ["ENOSPC"], result)


def test_who_writes_beyond_it_by_mappings_is_ended(box):
    result = box.call("do", "python3", "-c", BY_MAPPINGS, flags=(f"--file-memory={LIMIT}m",), check=0)
    expect_equal(result.out, "shared 9\nmemfd 9\nfile 9\nsysv 9\nwell\n", result)


def test_bad_sizes_are_refused(box):
    result = box.call("do", "true", flags=("--file-memory=much",))
    expect_equal(result.code, 125)
    expect(re.search("--file-memory.*much", result.err), result)


if __name__ == "__main__":
    sys.exit(main())
