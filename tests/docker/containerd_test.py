#!/usr/bin/env python3
"""containerd's `ctr` with its runc shim and runsc as the binary. A containerd of the test's own. Prints
"ok NAME", "not ok NAME" or "skip NAME: why"."""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "runtime"))
from docker_test import busybox_tree  # noqa: E402
from lib import BUSYBOX, Result, eventually, expect, expect_equal  # noqa: E402


class Containerd:
    def __init__(self, runsc, platform, folder):
        self.folder = folder
        self.tree = busybox_tree(folder)
        self.runsc = os.path.join(folder, "runsc")
        with open(self.runsc, "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\nexec {runsc} --platform={platform} \"$@\"\n")
        os.chmod(self.runsc, 0o755)
        at = lambda name: os.path.join(folder, name)
        config = at("config.toml")
        with open(config, "w", encoding="ascii") as f:
            f.write(f'version = 2\nroot = "{at("root")}"\nstate = "{at("state")}"\n'
                    f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\n  address = "{at("sock")}"\n')
        with open(at("log"), "wb") as log:
            self.daemon = subprocess.Popen(["containerd", "--config", config], stdin=subprocess.DEVNULL, stdout=log,
                                           stderr=log, start_new_session=True)

    def __call__(self, *args, check=None):
        done = subprocess.run(["ctr", "-a", os.path.join(self.folder, "sock"), "-n", "ringwall", *args], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, timeout=120, check=False)
        result = Result(done.returncode, done.stdout, done.stderr)
        if check is not None:
            expect_equal(result.code, check, args, result)
        return result

    def run(self, *args, **kwargs):
        *flags, name, program = args
        return self("run", "--runtime", "io.containerd.runc.v2", "--runc-binary", self.runsc, "--rootfs", *flags, self.tree, name,
                    "sh", "-c", program, **kwargs)

    def up(self):
        for _ in range(200):
            if self("version").code == 0:
                return True
            if self.daemon.poll() is not None:
                return False
            time.sleep(0.1)
        return False

    def stop(self):
        self.daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.daemon.wait(30)
        if self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()


def test_run(ctr):
    result = ctr.run("--rm", "one", "echo hi; uname -r; exit 5")
    expect_equal((result.code, result.out), (5, "hi\n6.12.0\n"), result)


def test_life_of_a_task(ctr):
    ctr.run("-d", "two", "trap 'exit 3' TERM; while :; do sleep 0.1; done", check=0)
    expect("RUNNING" in ctr("task", "ls", check=0).out)
    result = ctr("task", "exec", "--exec-id", "e", "two", "sh", "-c", "echo inside; exit 4")
    expect_equal((result.code, result.out), (4, "inside\n"), result)
    ctr("task", "pause", "two", check=0)
    expect("PAUSED" in ctr("task", "ls", check=0).out)
    ctr("task", "resume", "two", check=0)
    expect(len(ctr("task", "ps", "two", check=0).out.splitlines()) >= 2)
    ctr("task", "metrics", "two", check=0)
    ctr("task", "kill", "-s", "TERM", "two", check=0)
    eventually(lambda: "STOPPED" in ctr("task", "ls").out)
    ctr("task", "rm", "two")
    ctr("containers", "rm", "two", check=0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runsc", required=True)
    parser.add_argument("--platform", default="systrap")
    args = parser.parse_args()
    for reason, holds in (("it needs root", os.geteuid() != 0), ("no containerd here", shutil.which("containerd") is None),
                          ("no ctr here", shutil.which("ctr") is None), ("no busybox here", BUSYBOX is None)):
        if holds:
            print(f"skip containerd: {reason}")
            return 0
    failed = False
    with tempfile.TemporaryDirectory(prefix="ringwall-docker-ctr-", ignore_cleanup_errors=True) as folder:
        ctr = Containerd(os.path.abspath(args.runsc), args.platform, folder)
        try:
            if not ctr.up():
                print("skip containerd: it does not start here")
                return 0
            for name, function in [(n[5:], f) for n, f in globals().items() if n.startswith("test_")]:
                try:
                    function(ctr)
                    print(f"ok {name}", flush=True)
                except Exception:  # pylint: disable=broad-except
                    failed = True
                    traceback.print_exc(file=sys.stdout)
                    print(f"not ok {name}", flush=True)
        finally:
            ctr.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
