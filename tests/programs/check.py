#!/usr/bin/env python3
"""Runs one program script natively and inside a sandbox and compares what it said, returned and left.

A script runs under bash in an empty folder with a fixed environment. Lines at its top say what it
needs:   # needs: git make          (commands; the test is skipped without them)
         # if: python3 -c 'import test.test_socket'   (skipped where this fails)
         # fixture: gcc -o $FIXTURE/prog $SRC/prog.c   (made once, natively, seen inside)
         # verdict: its own                            (a suite that judges itself)
Without --runsc it runs natively twice, which proves that the script itself is steady. What differs is run
natively up to twice more, never again inside, and must be what one of these runs was. A suite that judges
itself runs once and in one place only: nothing is compared, its status must be 0.
"""

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin:/usr/lib/go/bin"

# What runs in both places: the script in a folder of its own, then an account of the folder.
WRAPPER = r"""
work=$(mktemp -d /tmp/ringwall-program-XXXXXX) && cd "$work" || exit 125
export HOME=$work/home; mkdir home
bash "$1" </dev/null
echo "== status $?"
rm -rf home
cd "$work" && find . -type f -exec sha256sum {} + | LC_ALL=C sort -k2
find . \( -type d -printf '%y %m %p\n' \) -o \( -type l -printf '%y %l %p\n' \) -o \
  \( -printf '%y %m %s %p\n' \) | LC_ALL=C sort
cd / && rm -rf "$work"
"""


def header(text, key):
    return re.findall(rf"^# {key}: (.*)$", text, re.M)


def make_fixture(text, name, base):
    folder = os.path.join(base, name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, ".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = os.path.join(folder, ".made")
        commands = header(text, "fixture")
        if os.path.exists(stamp):
            with open(stamp, encoding="utf-8") as f:
                if f.read() == repr(commands):
                    return folder
        env = dict(os.environ, FIXTURE=folder, SRC=os.path.join(HERE, "src"), PATH=PATH,
                   GOCACHE=os.path.join(base, "go-cache"), GOPATH=os.path.join(base, "go"),
                   GOFLAGS="-mod=mod", GOTOOLCHAIN="local", GOPROXY="off", CGO_ENABLED="0", HOME=folder)
        for command in commands:
            done = subprocess.run(["bash", "-ec", command], env=env, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder,
                                  check=False)
            if done.returncode != 0:
                raise RuntimeError(f"{command}\n{done.stdout.decode(errors='replace')}")
        with open(stamp, "w", encoding="utf-8") as f:
            f.write(repr(commands))
    return folder


def run(prefix, script, fixture, limit):
    env = {"PATH": PATH, "LC_ALL": "C.UTF-8", "TZ": "UTC", "TERM": "dumb", "FIXTURE": fixture,
           "SRC": os.path.join(HERE, "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(prefix + ["bash", "-c", WRAPPER, "wrapper", script], env=env, cwd="/",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=limit, check=False)
    except subprocess.TimeoutExpired as late:
        return f"(ran out of {limit} s)\n" + (late.stdout or b"").decode(errors="replace"), \
            (late.stderr or b"").decode(errors="replace")
    out = re.sub(r"/tmp/ringwall-program-\w{6}", "WORK", done.stdout.decode(errors="replace"))
    if done.returncode != 0:
        out += f"(wrapper ended with {done.returncode})\n"
    return out, done.stderr.decode(errors="replace")


def difference(want, got):
    a, b = want.splitlines(), got.splitlines()
    lines = []
    for i in range(max(len(a), len(b))):
        x, y = a[i] if i < len(a) else None, b[i] if i < len(b) else None
        if x != y:
            lines.append(f"line {i + 1}: expected {x!r}, got {y!r}")
        if len(lines) == 8:
            break
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("script")
    parser.add_argument("--runsc", help="the runsc to compare with")
    parser.add_argument("--platform", default="systrap")
    parser.add_argument("--fixtures", required=True, help="folder for what fixtures make")
    parser.add_argument("--show", action="store_true", help="print the native output")
    args = parser.parse_args()
    args.script = os.path.abspath(args.script)
    name = os.path.basename(args.script).removesuffix(".sh")
    with open(args.script, encoding="utf-8") as f:
        text = f.read()
    missing = [n for n in " ".join(header(text, "needs")).split()
               if not shutil.which(n, path=PATH)]
    if missing:
        print(f"skip {name}: needs {' '.join(missing)}")
        return 0
    for condition in header(text, "if"):
        if subprocess.run(["bash", "-c", condition], env={"PATH": PATH}, stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            print(f"skip {name}: {condition} fails")
            return 0
    try:
        fixture = make_fixture(text, name, os.path.abspath(args.fixtures))
    except RuntimeError as error:
        print(f"{error}\nnot ok {name} (fixture)")
        return 1
    prefix = []
    if args.runsc:
        prefix = [args.runsc, f"--platform={args.platform}", "do"]
    if header(text, "verdict") == ["its own"]:
        said, err = run(prefix, args.script, fixture, 270)
        good = "== status 0\n" in said
        if args.show or not good:
            print(f"{said[-4000:]}\nstderr: {err[-1500:]}")
        print(f"{'ok' if good else 'not ok'} {name}")
        return 0 if good else 1
    native, native_err = run([], args.script, fixture, 100)
    if args.show:
        print(native)
    if "== status 0\n" not in native:
        print(f"natively:\n{native[-2000:]}\n{native_err[-1000:]}\nnot ok {name} (natively)")
        return 1
    other, other_err = run(prefix, args.script, fixture, 180)
    # The host itself may have been late with something once: what it does in another run counts as well.
    told = [native]
    while other not in told and len(told) < 3:
        told.append(run([], args.script, fixture, 100)[0])
    if other not in told:
        print(f"{difference(native, other)}\nstderr: {other_err[-1500:]}\nnot ok {name}")
        return 1
    print(f"ok {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
