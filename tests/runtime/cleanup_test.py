#!/usr/bin/env python3
"""A part of a sandbox is killed at any moment: nothing is left, and the caller hears which part died."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

from lib import descendants, eventually, expect, expect_equal, gone, main


def parts(sentry):
    """The sandbox's host processes by kind."""
    kinds = {"sentry": [sentry], "gofer": [], "stub": []}
    for pid in sorted(descendants(sentry) - {sentry}):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                kinds["gofer" if f.read().strip() == "runsc-gofer" else "stub"].append(pid)
    return kinds


def stub_of(sentry, program):
    """The host process whose memory holds `program`; others are in stock, or of other guest processes."""
    def find():
        for pid in parts(sentry)["stub"]:
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as f:
                    if any(line.rstrip().endswith("/" + program) for line in f):
                        return pid
        return None
    return eventually(find, "the stub of " + program)


def keep_mounts_apart():
    """What other tests mount meanwhile is not seen here, where the host lets us."""
    libc = ctypes.CDLL(None)
    if libc.unshare(0x20000) == 0:  # CLONE_NEWNS
        libc.mount(None, b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE


def zygote_of(sentry):
    """The first of the Sentry's children that stubs are among; their numbers may have begun again at 2."""
    with open(f"/proc/{sentry}/task/{sentry}/children", encoding="ascii") as f:
        children = [int(pid) for pid in f.read().split()]
    stubs = parts(sentry)["stub"]
    return next(pid for pid in children if pid in stubs)


def mounts():
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as f:
        return sorted(line.split()[4] for line in f)


def sentry_of(pid):
    """The child of an attached runsc."""
    def find():
        for child in descendants(pid) - {pid}:
            with contextlib.suppress(OSError):
                with open(f"/proc/{child}/stat", encoding="ascii", errors="replace") as f:
                    if int(f.read().rpartition(")")[2].split()[1]) == pid:
                        return child
        return 0
    return eventually(find, "the Sentry")


SCRIPT = "sleep 1000 & (while :; do sh -c 'echo x >/tmp/y; cat /etc/passwd >/dev/null'; done) & echo up; wait"


def test_killed_parts_of_a_detached_container(box):
    before = mounts()
    for kind in ("sentry", "gofer", "stub"):
        box.up(SCRIPT)
        sentry = box.state()["pid"]
        eventually(lambda: len(parts(sentry)["stub"]) > 2)
        everything = descendants(sentry)
        for pid in parts(sentry)[kind][-1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if kind == "stub":
            # One guest process ends; the sandbox goes on.
            expect_equal(box.call("exec", "c", "echo", "alive", check=0).out, "alive\n")
            box.call("kill", "c", "KILL", check=0)
        eventually(lambda: box.status() == "stopped", kind)
        eventually(lambda: gone(everything), "all processes gone after the " + kind)
        expect(box.call("exec", "c", "true").code != 0)
        box.call("delete", "c", check=0)
        expect(not os.listdir(box.root), os.listdir(box.root))
    expect_equal(mounts(), before)


def attached(box, command, victim):
    child = box.start(*command, universal_newlines=True)
    expect_equal(child.stdout.readline(), "up\n")
    sentry = sentry_of(child.pid)
    everything = descendants(sentry)
    os.kill({"sentry": sentry, "gofer": parts(sentry)["gofer"][0]}[victim], signal.SIGKILL)
    _, err = child.communicate(timeout=60)
    eventually(lambda: gone(everything), "all processes gone")
    return child.returncode, err


def test_the_caller_of_do_hears_which_part_died(box):
    code, err = attached(box, ("do", "sh", "-c", "echo up; sleep 1000"), "sentry")
    expect(code == 137 and "Sentry" in err and "SIGKILL" in err, code, err)
    code, err = attached(box, ("do", "sh", "-c", "echo up; sleep 1000"), "gofer")
    expect(code >= 128 and "gofer" in err and "SIGKILL" in err, code, err)


def test_the_caller_of_run_hears_which_part_died(box):
    box.shell("echo up; sleep 1000")
    box.write_config()
    for victim, word in (("sentry", "Sentry"), ("gofer", "gofer")):
        code, err = attached(box, ("run", "--bundle", box.bundle, "c"), victim)
        expect(code >= 128 and word in err, code, err)
        expect(not os.listdir(box.root), os.listdir(box.root))


def test_killed_caller_leaves_nothing(box):
    for command in (("do", "sh", "-c", "echo up; sleep 1000 & sleep 1000"),
                    ("run", "--bundle", box.bundle, "c")):
        box.shell("echo up; sleep 1000 & sleep 1000")
        box.write_config()
        child = box.start(*command, universal_newlines=True)
        expect_equal(child.stdout.readline(), "up\n")
        everything = descendants(sentry_of(child.pid))
        child.kill()
        child.communicate(timeout=60)
        eventually(lambda: gone(everything), "all processes gone")
        if command[0] == "run":
            expect_equal(box.status(), "stopped")
            box.call("delete", "c", check=0)
            expect(not os.listdir(box.root))


def test_create_killed_at_any_moment(box):
    """SIGKILL to the creating command, ever later: `delete --force` clears away whatever there is."""
    box.write_config()
    before = mounts()
    for step in range(25):
        child = box.start("create", "--bundle", box.bundle, "k", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(step * 0.001)
        child.kill()
        child.wait(60)
        box.call("delete", "--force", "k", check=0)
        expect(not os.path.isdir(box.root) or not os.listdir(box.root), step)
    eventually(lambda: not box.processes(), "no process is left", box.processes())
    expect_equal(mounts(), before)


def test_any_part_killed_at_any_moment_of_the_start(box):
    box.shell("echo up; sleep 1000")
    box.write_config()
    before = mounts()
    for step in range(15):
        child = box.start("run", "--bundle", box.bundle, "k", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          universal_newlines=True)
        time.sleep(step * 0.001)
        below = sorted(descendants(child.pid) - {child.pid})
        victim = "the caller"
        if below:
            with contextlib.suppress(OSError):
                pid = below[step % len(below)]
                with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                    victim = f.read().strip()
                os.kill(pid, signal.SIGKILL)
        else:
            child.kill()
        try:
            _, err = child.communicate(timeout=2)
            expect(err or child.returncode == -9, step, child.returncode, "no word of what died", victim)
        except subprocess.TimeoutExpired:
            # A stub that was not needed any more: the container runs.
            child.kill()
            child.communicate(timeout=60)
        box.call("delete", "--force", "k", check=0)
        expect(not os.path.exists(box.root) or not os.listdir(box.root), step)
    eventually(lambda: not box.processes(), "no process is left")
    expect_equal(mounts(), before)


def test_lost_stub_ends_its_guest_process_only(box):
    child = box.start("do", "sh", "-c", "sh -c 'while :; do :; done'; echo code=$?", universal_newlines=True)
    sentry = sentry_of(child.pid)

    def busy():  # there may be one in stock, too
        def ticks(pid):
            with open(f"/proc/{pid}/stat", encoding="utf-8") as f:
                return int(f.read().rsplit(")", 1)[1].split()[11])
        most = max(parts(sentry)["stub"], key=ticks, default=None)
        return most if most and ticks(most) >= 10 else None

    os.kill(eventually(busy), signal.SIGKILL)
    out, err = child.communicate(timeout=60)
    expect_equal((out, child.returncode), ("code=137\n", 0), err)


def test_lost_stub_is_noticed_while_its_process_sleeps(box):
    child = box.start("do", "sh", "-c", "sleep 1000; echo code=$?", universal_newlines=True)
    sentry = sentry_of(child.pid)
    os.kill(stub_of(sentry, "sleep"), signal.SIGKILL)
    out, err = child.communicate(timeout=60)
    expect_equal((out, child.returncode), ("code=137\n", 0), err)
    expect("stub" in err and "(sleep)" in err and "SIGKILL" in err, err)


def test_the_caller_hears_of_a_lost_stub_and_zygote(box):
    for victim, words in (("stub", ("stub of process", "(sleep)")), ("zygote", ("zygote",))):
        child = box.start("do", "sleep", "1000", universal_newlines=True)
        sentry = sentry_of(child.pid)
        stub = stub_of(sentry, "sleep")
        everything = descendants(sentry)
        os.kill(stub if victim == "stub" else zygote_of(sentry), signal.SIGKILL)
        _, err = child.communicate(timeout=60)
        expect_equal(child.returncode, 137, err)
        expect("SIGKILL" in err and all(w in err for w in words), err)
        eventually(lambda: gone(everything), "all processes gone")


def test_host_file_truncated_while_mapped(box):
    """SIGBUS for the guest that touches the lost part; the Sentry lives."""
    shared = os.path.join(box.folder, "shared")
    os.mkdir(shared)
    path = os.path.join(shared, "f")
    with open(path, "wb") as f:
        f.write(b"x" * 65536)
    script = ("import mmap, os, sys\n"
              "f = open('/mnt/f', 'rb'); m = mmap.mmap(f.fileno(), 65536, prot=mmap.PROT_READ)\n"
              "print(m[40000], flush=True); sys.stdin.readline(); print(m[40000], flush=True)\n")
    child = box.start("do", "-v", f"{shared}:/mnt", "sh", "-c", f"{sys.executable} -c \"$S\"; echo code=$?; echo alive",
                      universal_newlines=True, stdin=subprocess.PIPE, env=dict(os.environ, S=script),
                      flags=("--file-access-mounts=shared",))
    expect_equal(child.stdout.readline(), "120\n")
    os.truncate(path, 0)
    out, err = child.communicate("\n", timeout=60)
    expect_equal(out, "code=135\nalive\n", err)
    expect_equal(child.returncode, 0)


if __name__ == "__main__":
    keep_mounts_apart()
    sys.exit(main())
