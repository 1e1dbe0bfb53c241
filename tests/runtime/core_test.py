#!/usr/bin/env python3
"""kernel.core_pattern and its kin, which natively are the whole machine's: names, programs, set-id processes."""

import sys

from lib import expect_script, main

COMMON = r"""
import ctypes, os, resource, signal, subprocess, time
libc = ctypes.CDLL(None)
resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
os.umask(0)
os.mkdir("/tmp/here")
os.chdir("/tmp/here")
os.chmod(".", 0o777)
def sysctl(name, value):
    with open("/proc/sys/" + name, "w") as f:
        f.write(value)
def crash(before=lambda: None, signo=signal.SIGSEGV):
    pid = os.fork()
    if pid == 0:
        before()
        os.kill(os.getpid(), signo)
    return pid, os.WCOREDUMP(os.waitpid(pid, 0)[1])
def left():
    names = sorted(os.listdir("."))
    for name in names: os.unlink(name)
    return names
"""

NAMES = COMMON + r"""
sysctl("kernel/core_uses_pid", "1")
pid, dumped = crash()
print(dumped, left() == [f"core.{pid}"])
sysctl("kernel/core_pattern", "c-%e-%p-%i-%u-%g-%s-%c-%d-%%-%Q-%E")
pid, dumped = crash(signo=signal.SIGABRT)
names = left()
exe = os.readlink("/proc/self/exe").replace("/", "!")
comm = open("/proc/self/comm").read().strip()
print(dumped, names == [f"c-{comm}-{pid}-{pid}-0-0-6-18446744073709551615-1-%--{exe}"] or names)
sysctl("kernel/core_uses_pid", "0")
# What a process calls itself leads nowhere else.
def rename():
    with open("/proc/self/comm", "w") as f: f.write("../../x")
sysctl("kernel/core_pattern", "%e")
print(crash(rename)[1], left())
sysctl("kernel/core_pattern", "/tmp/absolute")
print(crash()[1], left(), os.path.getsize("/tmp/absolute") > 4096)
os.unlink("/tmp/absolute")
sysctl("kernel/core_pattern", "missing/core")
print(crash()[1], left())
sysctl("kernel/core_pattern", "x" * 200)
print(len(open("/proc/sys/kernel/core_pattern").read()))
"""

PROGRAM = COMMON + r"""
with open("/tmp/handler", "w") as f:
    f.write('#!/bin/sh\nprintf "%s\\n" "$#" "$1" "$2" >/tmp/told\nid -u >>/tmp/told\npwd >>/tmp/told\n'
            'cat >/tmp/piped\nmv /tmp/told /tmp/done\n')
os.chmod("/tmp/handler", 0o755)
def handled():
    while not os.path.exists("/tmp/done"): time.sleep(0.01)
    told = open("/tmp/done").read().split("\n")
    os.unlink("/tmp/done")
    piped = open("/tmp/piped", "rb").read()
    return told, piped
def named():
    with open("/proc/self/comm", "w") as f: f.write("two words")
    # The limit is for files.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setuid(65534)
    libc.prctl(4, 1)  # PR_SET_DUMPABLE
sysctl("kernel/core_pattern", "|/tmp/handler  %e %p")
pid, dumped = crash(named)
told, piped = handled()
print(dumped, told == ["2", "two words", str(pid), "0", "/", ""] or told, piped[:4], len(piped) > 100000, left())
sysctl("kernel/core_pattern", "|/nowhere/handler")
print(crash()[1], left())
sysctl("kernel/core_pattern", "|")
print(crash()[1], left())
# Whose limit is 1 handles cores itself.
sysctl("kernel/core_pattern", "|/tmp/handler")
print(crash(lambda: resource.setrlimit(resource.RLIMIT_CORE, (1, 1)))[1], left())
# One that does not read to the end.
sysctl("kernel/core_pattern", "|/bin/true")
print(crash()[1], left())
"""

SET_ID = COMMON + r"""
other = lambda: os.setuid(65534)
print(crash(other)[1], left())
sysctl("fs/suid_dumpable", "1")
print(crash(other)[1], os.stat("core").st_uid, left())
sysctl("fs/suid_dumpable", "2")
print(crash(other)[1], left())
sysctl("kernel/core_pattern", "/tmp/here/core")
print(crash(other)[1], os.stat("core").st_uid, oct(os.stat("core").st_mode))
# What is there already stays.
print(crash(other)[1], left())
try:
    sysctl("fs/suid_dumpable", "3")
except OSError as e:
    print(e.strerror)
"""

NOT_BY_OTHERS = COMMON + r"""
for names in ([], ["-Ur"]):
    script = "import os,sys\ntry:\n os.setuid(65534) if len(sys.argv) == 1 else 0\n open('/proc/sys/kernel/core_pattern', 'w')\n print('opened')\nexcept OSError as e: print(e.strerror)\n"
    command = ["python3", "-c", script]
    if names: command = ["unshare", "-Ur"] + command + ["root elsewhere"]
    print(subprocess.run(command, capture_output=True, text=True, preexec_fn=(lambda: os.setuid(1000)) if names else None).stdout.strip())
"""

NUMBERS = r"""
import os
def sysctl(value):
    with open("/proc/sys/kernel/pid_max", "w") as f: f.write(value)
for bad in "300", "4194305":
    try: sysctl(bad)
    except OSError as e: print(e.strerror)
sysctl("330")
seen = set()
for turn in range(400):
    pid = os.fork()
    if pid == 0: os._exit(0)
    os.waitpid(pid, 0)
    seen.add(pid)
print(max(seen) < 330, len(seen) > 25)
sysctl("4194304")
"""


def test_the_pattern_names_the_file(box):
    expect_script(box, NAMES, "True True\nTrue True\nTrue ['..!..!x']\nTrue [] True\nFalse []\n128\n")


def test_a_program_gets_the_core(box):
    expect_script(box, PROGRAM, "True True b'\\x7fELF' True []\nFalse []\nFalse []\nFalse []\nTrue []\n")


def test_processes_that_changed_their_ids(box):
    expect_script(box, SET_ID, "False []\nTrue 65534 ['core']\nFalse []\nTrue 0 0o100600\nFalse ['core']\nInvalid argument\n")


def test_only_root_names_the_file(box):
    expect_script(box, NOT_BY_OTHERS, "Permission denied\nPermission denied\n")


def test_numbers_stay_below_pid_max(box):
    expect_script(box, NUMBERS, "Invalid argument\nInvalid argument\nTrue True\n")


if __name__ == "__main__":
    sys.exit(main())
