#!/usr/bin/env python3
"""Podman with --runtime runsc: containers of a busybox tree through their lives. Storage, state and
configuration are the test's own. Prints "ok NAME", "not ok NAME" or "skip NAME: why"."""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "runtime"))
from docker_test import busybox_tree  # noqa: E402
from lib import BUSYBOX, Result, eventually, expect, expect_equal  # noqa: E402

LIMIT = 120


class Podman:
    def __init__(self, runsc, platform, folder):
        at = lambda name: os.path.join(folder, name)
        # Podman takes a path alone.
        with open(at("runsc"), "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\nexec {runsc} --platform={platform} \"$@\"\n")
        os.chmod(at("runsc"), 0o755)
        self.folder = folder
        self.prefix = ["podman", "--root", at("data"), "--runroot", at("run"), "--tmpdir", at("tmp"), "--storage-driver=vfs",
                       "--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime", at("runsc")]

    def __call__(self, *args, stdin=None, check=None):
        done = subprocess.run([*self.prefix, *args], input=stdin if stdin is not None else "", stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=LIMIT, check=False)
        result = Result(done.returncode, done.stdout, done.stderr)
        if check is not None:
            expect_equal(result.code, check, args, result)
        return result

    def run(self, *args, **kwargs):
        return self("run", "--rm", "--network=none", *args, **kwargs)


def test_run(podman):
    expect_equal(podman.run("box", "sh", "-c", "echo hi; uname -r; id -u").out, "hi\n6.12.0\n0\n")
    expect_equal(podman.run("box", "sh", "-c", "exit 42").code, 42)
    expect_equal(podman.run("-i", "box", "cat", stdin="through\n").out, "through\n")
    expect_equal(podman.run("box", "nope").code, 127)
    expect_equal(podman.run("box", "/etc/passwd").code, 126)


def test_life_of_a_container(podman):
    podman("run", "-d", "--name", "a", "--network=none", "box", "sh", "-c",
           "trap 'echo got term; exit 3' TERM; echo up; while :; do sleep 0.1; done", check=0)
    eventually(lambda: "up" in podman("logs", "a").out)
    expect_equal(podman("exec", "a", "sh", "-c", "echo inside; exit 7").code, 7)
    expect_equal(podman("exec", "-i", "a", "cat", stdin="abc").out, "abc")
    podman("pause", "a", check=0)
    expect_equal(podman("inspect", "-f", "{{.State.Status}}", "a").out, "paused\n")
    podman("unpause", "a", check=0)
    expect("a" in podman("stats", "--no-stream", "a", check=0).out)
    podman("stop", "-t", "10", "a", check=0)
    expect_equal(podman("inspect", "-f", "{{.State.ExitCode}}", "a").out, "3\n")
    expect("got term" in podman("logs", "a").out)
    podman("rm", "a", check=0)


def test_network_of_another_container(podman):
    podman("run", "-d", "--name", "first", "--network=none", "box", "httpd", "-f", "-p", "80", "-h", "/", check=0)
    ask = "printf 'GET /nothing HTTP/1.0\\r\\n\\r\\n' | nc 127.0.0.1 80; ps"
    join = ("run", "--rm", "--network=container:first", "box", "sh", "-c", ask)
    out = eventually(lambda: [o for o in [podman(*join).out] if "404" in o], "an answer from the first")[0]
    expect("httpd" not in out, out)
    podman("rm", "-f", "-t", "0", "first", check=0)


def test_options(podman):
    shared = os.path.join(podman.folder, "shared")
    os.mkdir(shared)
    out = podman.run("--read-only", "--tmpfs", "/t", "-v", shared + ":/v:ro", "box", "sh", "-c",
                     "touch /x 2>/dev/null || echo ro; touch /t/x && echo rw; touch /v/x 2>/dev/null || echo ro").out
    expect_equal(out, "ro\nrw\nro\n")
    out = podman.run("--user", "1000", "--cap-drop=ALL", "--memory=64m", "--pids-limit=100", "--ulimit", "nofile=99:99", "box",
                     "sh", "-c", "id -u; ulimit -n; grep CapEff /proc/self/status; grep MemTotal /proc/meminfo | tr -s ' '").out
    expect_equal(out, "1000\n99\nCapEff:\t0000000000000000\nMemTotal: 65536 kB\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runsc", required=True)
    parser.add_argument("--platform", default="systrap")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    for reason, holds in (("it needs root", os.geteuid() != 0), ("no podman here", shutil.which("podman") is None),
                          ("no conmon here", shutil.which("conmon") is None), ("no busybox here", BUSYBOX is None)):
        if holds:
            print(f"skip podman: {reason}")
            return 0
    tests = {n[5:]: f for n, f in globals().items() if n.startswith("test_")}
    failed = False
    with tempfile.TemporaryDirectory(prefix="ringwall-podman-", ignore_cleanup_errors=True) as folder:
        podman = Podman(os.path.abspath(args.runsc), args.platform, folder)
        pack = subprocess.run(["tar", "-C", busybox_tree(folder), "-c", "."], stdout=subprocess.PIPE, check=True)
        with open(os.path.join(folder, "box.tar"), "wb") as f:
            f.write(pack.stdout)
        imported = podman("import", os.path.join(folder, "box.tar"), "localhost/box")
        if imported.code != 0:
            print(f"skip podman: it cannot import an image here: {imported.err.strip()[-160:]}")
            return 0
        for name, function in tests.items():
            if args.names and name not in args.names:
                continue
            try:
                function(podman)
                print(f"ok {name}", flush=True)
            except Exception:  # pylint: disable=broad-except
                failed = True
                traceback.print_exc(file=sys.stdout)
                print(f"not ok {name}", flush=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            podman("rm", "-f", "-a", "-t", "0")
            podman("rmi", "-f", "-a")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
