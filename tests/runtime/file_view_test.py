#!/usr/bin/env python3
"""Files of the host that a guest reads again and again, while the host changes them; and what debug --stats says."""

import os
import re
import sys

from lib import eventually, expect, expect_equal, main

# Reads are of one descriptor all the time; a line on stdin has one place read, or says how often at random.
GUEST = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
size = 65536
for i in range(400):
    assert os.pread(fd, size, i % 4 * size) == b"x" * size
print("hot", flush=True)
for line in sys.stdin:
    what, n = line.split()
    if what == "at":
        data = os.pread(fd, size, int(n))
        print(len(data), "".join(sorted(set(data.decode()))), flush=True)
    else:
        wrong = 0
        for i in range(int(n)):
            data = os.pread(fd, size, i % 4 * size)
            wrong += len(data) > size or bool(set(data) - set(b"x\\0"))
        print("wrong", wrong, flush=True)
"""


def test_the_host_changes_a_file_that_is_read(box):
    path = os.path.join(box.folder, "file")
    with open(path, "w", encoding="ascii") as f:
        f.write("x" * 300000)
    child = box.start("do", "python3", "-c", GUEST, path, stdin=-1, universal_newlines=True)

    def ask(what, n):
        child.stdin.write(f"{what} {n}\n")
        child.stdin.flush()
        return child.stdout.readline().split()

    expect_equal(child.stdout.readline(), "hot\n")
    expect_equal(ask("at", 1000), ["65536", "x"])
    os.truncate(path, 10001)
    expect_equal(ask("at", 1000), ["9001", "x"])
    expect_equal(ask("at", 100000), ["0"])
    with open(path, "r+", encoding="ascii") as f:
        f.write("y" * 200000)
    expect_equal(ask("at", 1000), ["65536", "y"])
    expect_equal(ask("at", 150000), ["50000", "y"])
    # A file that comes and goes under the reads themselves.
    with open(path, "w", encoding="ascii") as f:
        f.write("x" * 300000)
    child.stdin.write("often 4000\n")
    child.stdin.flush()
    fd = os.open(path, os.O_RDWR)
    for _ in range(300):
        os.ftruncate(fd, 3000)
        os.pwrite(fd, b"x" * 300000, 0)
    os.close(fd)
    expect_equal(child.stdout.readline().split(), ["wrong", "0"])
    out, err = child.communicate(timeout=60)
    expect_equal((child.returncode, out), (0, ""), err)


def test_stats_count_views(box):
    with open(os.path.join(box.rootfs, "big"), "wb") as f:
        f.write(b"x" * (8 << 20))
    box.up("dd if=/big of=/dev/null bs=64k; echo read; sleep 1000")
    eventually(lambda: "read\n" in box.output(), "dd")
    out = box.call("debug", "--stats", "c", check=0).out
    found = re.search(r"views of files: (\d+) made, (\d+) reads copied by stubs, (\d+) of them done again", out)
    expect(found, out)
    made, copied, again = map(int, found.groups())
    if box.platform == "systrap":
        expect(made >= 1 and 50 <= copied <= 128 and again == 0, out)
    else:
        expect_equal((made, copied, again), (0, 0, 0), out)


if __name__ == "__main__":
    sys.exit(main())
