#!/usr/bin/env python3
"""Debian's trinity inside: random calls with random arguments; what else runs in the sandbox stays well.

RINGWALL_TRINITY_SECONDS (3): how long each case goes on once calls are made.
"""

import os
import shutil
import sys

from lib import Skip, expect_equal, main

SECONDS = float(os.environ.get("RINGWALL_TRINITY_SECONDS", "3"))
SCRIPT = r"""
mkdir /tmp/here; chmod 777 /tmp/here; cd /tmp/here
i=0; while :; do i=$((i + 1)); echo $i >/tmp/beat; sleep 0.05; done & beat=$!
setsid COMMAND trinity --disable-fds=perf --disable-fds=sockets -q -C 4 -l off -x reboot </dev/null >/tmp/said 2>&1 & it=$!
until grep -q 'Tried 8 32-bit' /tmp/said; do kill -0 $it || exit 1; sleep 0.1; done  # its children are at work
sleep SECONDS; kill -KILL -$it; wait $it; echo status $?
one=$(cat /tmp/beat); while [ "$(cat /tmp/beat)" = "$one" ]; do sleep 0.05; done; echo beats
cat /proc/loadavg >/dev/null && ls / | wc -l >/dev/null && sh -c 'exit 7'; echo child $?
kill $beat
"""


def hammer(box, command, more=""):
    if not shutil.which("trinity"):
        raise Skip("no trinity here")
    script = SCRIPT.replace("SECONDS", str(SECONDS)).replace("COMMAND trinity", f"{command} trinity{more}")
    result = box.call("do", "sh", "-c", script, timeout=SECONDS + 100)
    expect_equal(result.out, "status 137\nbeats\nchild 7\n", result)
    expect_equal(result.code, 0, result)


def test_as_an_ordinary_user(box):
    hammer(box, "setpriv --reuid 65534 --regid 65534 --clear-groups")


def test_as_root(box):
    """In a process namespace of its own: what may signal everybody would end the witness, as on Linux."""
    hammer(box, "unshare -m -p -f --kill-child", " --dangerous")


if __name__ == "__main__":
    sys.exit(main())
