#!/usr/bin/env python3
"""Sysctls with an effect, which natively are the whole machine's."""

import sys

from lib import expect_script, main

COMMON = r"""
import ctypes, errno, mmap, os, resource, subprocess
def sysctl(name, value=None):
    path = "/proc/sys/" + name.replace(".", "/")
    if value is None: return open(path).read()
    with open(path, "w") as f: f.write(value)
def attempt(f, *args):
    try: f(*args)
    except OSError as e: return errno.errorcode[e.errno]
    except ValueError: return "ValueError"
    return "ok"
"""

EFFECTS = COMMON + r"""
limit = lambda n: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, n))
print(attempt(limit, 1 << 20), attempt(limit, (1 << 20) + 1))
sysctl("fs.nr_open", str(1 << 21))
print(attempt(limit, (1 << 20) + 1), attempt(sysctl, "fs.nr_open", "63"))

# Alternating protections keep mappings apart.
def maps(n):
    m = mmap.mmap(-1, n * 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    libc = ctypes.CDLL(None, use_errno=True)
    at = ctypes.addressof(ctypes.c_char.from_buffer(m))
    for i in range(0, n, 2):
        if libc.mprotect(ctypes.c_void_p(at + i * 4096), 4096, 1) != 0: return errno.errorcode[ctypes.get_errno()]
    return "ok"
print(maps(2000))
sysctl("vm.max_map_count", "1500")
print(maps(2000))
sysctl("vm.max_map_count", "65530")
print(maps(2000))

stack = lambda: subprocess.run(["grep", "stack", "/proc/self/maps"], capture_output=True, text=True).stdout
print(stack() == stack())
sysctl("kernel.randomize_va_space", "0")
print(stack() == stack())

sysctl("kernel.ns_last_pid", "5000")
pid = os.fork()
if pid == 0: os._exit(0)
os.waitpid(pid, 0)
print(pid, sysctl("kernel.ns_last_pid").strip(), attempt(sysctl, "kernel.ns_last_pid", "-1"))

# Four times all the memory there is.
huge = 4 * os.sysconf("SC_PHYS_PAGES") * 4096
sysctl("vm.overcommit_memory", "1")
print(attempt(lambda: mmap.mmap(-1, huge, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()))
sysctl("kernel.overflowuid", "1234")
sysctl("kernel.overflowgid", "2345")
print(subprocess.run("unshare -U sh -c 'id -u; id -g; stat -c %u:%g /'", shell=True, capture_output=True, text=True).stdout.split())
print(attempt(sysctl, "kernel.overflowuid", "65536"))
os.setuid(1000)
print(attempt(sysctl, "kernel.ns_last_pid", "6000"), attempt(sysctl, "vm.max_map_count", "1"))
"""

VALUES = COMMON + r"""
sysctl("kernel.printk", "7 5")
print(sysctl("kernel.printk").split())
print(attempt(sysctl, "kernel.printk", "x"))
sysctl("kernel.tainted", "2")
sysctl("kernel.tainted", "64")
print(sysctl("kernel.tainted").strip())
sysctl("kernel.panic_on_warn", "1")
print(sysctl("kernel.panic_on_warn").strip(), attempt(sysctl, "kernel.panic_on_warn", "2"))
"""


def test_limits_hold_as_they_are_set(box):
    expect_script(box, EFFECTS, "ok ValueError\nok EINVAL\nok\nENOMEM\nok\nFalse\nTrue\n5001 5001 EINVAL\nok\n['1234', '2345', '1234:2345']\nEINVAL\nEPERM EACCES\n")


def test_values_are_kept(box):
    expect_script(box, VALUES, "['7', '5', '1', '7']\nEINVAL\n66\n1 EINVAL\n")


if __name__ == "__main__":
    sys.exit(main())
