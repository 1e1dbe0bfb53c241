#!/usr/bin/env python3
"""Runs a program of random calls natively and inside with the same seeds and compares what it tells.

Prints "ok SEED" or "not ok SEED" with the first lines that differ, for each seed. By hand, more seeds find
more:   compare.py build/tests/differential/files --runsc build/runsc --mount bind --seeds 1-500
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

# All seeds in one sandbox: each in an empty folder, which is listed at the end. The time limit is a hang's: some
# seeds give themselves the least priority and take minutes beside programs that want the processors.
LOOP = r"""
ulimit -c 0; cd "$1"; program=$2; count=$3; from=$4; to=$5
for seed in $(seq $from $to); do
  mkdir t && cd t || exit 1
  echo "seed $seed"; timeout -s KILL 150 $program $seed $count 2>&1 || echo "status $?"
  cd "$1" && chmod u+rwx t && find t -type d -exec chmod u+rwx {} \; 2>/dev/null
  find t ! -type d -printf '%P %y %m %U %G %l\n' | LC_ALL=C sort; rm -rf t
done
"""
# Settings of the machine that change answers.
SETTINGS = ("fs/protected_hardlinks", "fs/protected_symlinks", "fs/protected_fifos", "fs/protected_regular")


def run(prefix, folder, args, prepare=""):
    first, last = args.seeds.split("-")
    command = prefix + ["sh", "-c", prepare + LOOP, "loop", folder, args.program, args.count, first, last]
    # Without what containers lack: the right to pass limits.
    command = ["setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource"] + command if prefix == [] \
        else command
    out = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         check=False).stdout.decode(errors="replace")
    return dict((part.split("\n", 1)[0], part.split("\n")[1:]) for part in out.split("seed ")[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--runsc", required=True)
    parser.add_argument("--platform", default="systrap")
    parser.add_argument("--mount", default="overlay", choices=["overlay", "tmpfs", "bind", "shared"])
    parser.add_argument("--seeds", default="1-12")
    parser.add_argument("--count", default="250")
    args = parser.parse_args()
    args.program = os.path.abspath(args.program)
    native = tempfile.mkdtemp(prefix="ringwall-differential-", dir="/var/tmp")
    inside = tempfile.mkdtemp(prefix="ringwall-differential-", dir="/var/tmp")
    try:
        want = run([], native, args)
        folder = "/dev/shm" if args.mount == "tmpfs" else inside
        shared = ["--file-access-mounts=shared"] if args.mount == "shared" else []
        volume = ["-v", f"{inside}:{inside}:rw"] if args.mount in ("bind", "shared") else []
        prepare = ""
        for name in SETTINGS:
            with open("/proc/sys/" + name, encoding="ascii") as f:
                prepare += f"echo {f.read().strip()} >/proc/sys/{name};"
        got = run([args.runsc, f"--platform={args.platform}", "--network=none"] + shared + ["do"] + volume,
                  folder, args, prepare)
    finally:
        shutil.rmtree(native, ignore_errors=True)
        shutil.rmtree(inside, ignore_errors=True)
    failed = False
    first, last = (int(n) for n in args.seeds.split("-"))
    for seed in map(str, range(first, last + 1)):
        a, b = want.get(seed, ["(nothing natively)"]), got.get(seed, ["(nothing inside)"])
        if a == b:
            print(f"ok {seed}")
            continue
        failed = True
        pairs = [(x, y) for x, y in zip(a + [""] * len(b), b + [""] * len(a)) if x != y]
        for x, y in pairs[:3]:
            print(f"  natively: {x}\n  inside:   {y}")
        print(f"not ok {seed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
