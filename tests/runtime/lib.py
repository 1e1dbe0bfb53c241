"""What the runtime's tests share: a busybox bundle, running runsc, and the frame of a test script.

A script defines functions named test_*, each of which gets a Box; it prints "ok NAME", "not ok NAME" or
"skip NAME: why" for each and ends with 1 when one failed.
"""

import argparse
import contextlib
import copy
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

BUSYBOX = next((p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), None)
LIMIT = 60  # seconds for one command
ALL_CAPS = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETUID", "CAP_SETGID",
            "CAP_MKNOD", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_NET_BIND_SERVICE"]


class Skip(Exception):
    pass


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def __repr__(self):
        return f"exit code {self.code}\nstdout: {self.out!r}\nstderr: {self.err!r}"


def expect(condition, *what):
    if not condition:
        raise AssertionError("\n".join(str(w) for w in what))


def expect_equal(got, wanted, *what):
    expect(got == wanted, f"got    {got!r}\nwanted {wanted!r}", *what)


def expect_script(box, script, wanted):
    """Runs a Python script inside and compares what it prints."""
    result = box.call("do", "python3", "-c", script, check=0)
    expect_equal(result.out, wanted, result)


def eventually(holds, *what, limit=30.0):
    """Waits until holds() is true and returns what it gave."""
    end = time.monotonic() + limit
    while True:
        value = holds()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("did not come true: " + " ".join(str(w) for w in what))
        time.sleep(0.01)


def sleeps_in_recvmmsg(pid):
    """Whether it waits for an answer of the sandbox's (call 299)."""
    with open(f"/proc/{pid}/syscall", encoding="ascii") as f:
        return f.read().startswith("299 ")


def default_config():
    caps = {name: list(ALL_CAPS) for name in ("bounding", "effective", "permitted")}
    return {
        "ociVersion": "1.2.0",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": caps,
        },
        "root": {"path": "rootfs"},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount")]},
    }


class Box:
    """A folder with a bundle and a state directory of its own, and the way to call runsc on them."""

    def __init__(self, runsc, platform, folder):
        self.runsc, self.platform, self.folder = runsc, platform, folder
        self.bundle = os.path.join(folder, "bundle")
        self.root = os.path.join(folder, "state")
        self.rootfs = os.path.join(self.bundle, "rootfs")
        self.config = default_config()
        for d in ("bin", "etc", "tmp", "proc", "dev", "sys", "root", "srv/user"):
            os.makedirs(os.path.join(self.rootfs, d))
        os.chmod(os.path.join(self.rootfs, "tmp"), 0o1777)
        shutil.copy(BUSYBOX, os.path.join(self.rootfs, "bin/busybox"))
        for applet in ("sh", "cat", "echo", "true", "false", "sleep", "id", "ls", "ps", "pwd", "env",
                       "hostname", "mount", "touch", "mkdir", "rm", "stat", "dd", "kill", "test",
                       "stty", "tty", "head", "wc", "grep", "df", "chown", "chmod", "seq", "mkfifo",
                       "readlink", "umask", "tr", "nproc", "free", "date", "tail", "mknod", "umount"):
            os.symlink("busybox", os.path.join(self.rootfs, "bin", applet))
        with open(os.path.join(self.rootfs, "etc/passwd"), "w", encoding="ascii") as f:
            f.write("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/srv/user:/bin/sh\n")
        self.write_config()

    def write_config(self):
        with open(os.path.join(self.bundle, "config.json"), "w", encoding="utf-8") as f:
            json.dump(self.config, f)

    def shell(self, script):
        self.config["process"]["args"] = ["/bin/sh", "-c", script]

    def command(self, *args, flags=()):
        return [self.runsc, "--root", self.root, "--platform", self.platform, "--network=none",
                "--ignore-cgroups", *flags, *args]

    def call(self, *args, stdin=None, flags=(), check=None, timeout=LIMIT, **kwargs):
        """Runs one command to its end. check: the exit code that it must have."""
        done = subprocess.run(self.command(*args, flags=flags), input=stdin if stdin is not None else "",
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                              universal_newlines=True, errors="replace", check=False, **kwargs)
        result = Result(done.returncode, done.stdout, done.stderr)
        if check is not None:
            expect_equal(result.code, check, args, result)
        return result

    def start(self, *args, flags=(), **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("stdout", subprocess.PIPE)
        kwargs.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen(self.command(*args, flags=flags), **kwargs)

    def start_waiting(self, *args):
        """A command that has asked the sandbox and waits for its answer."""
        child = self.start(*args, universal_newlines=True)
        eventually(lambda: child.poll() is not None or sleeps_in_recvmmsg(child.pid), *args)
        return child

    def run(self, script=None, *more, name="c", **kwargs):
        """`runsc run` of the bundle with a shell script."""
        if script is not None:
            self.shell(script)
        self.write_config()
        return self.call("run", "--bundle", self.bundle, *more, name, **kwargs)

    def out(self, script, *more, **kwargs):
        """The output of a script that must succeed."""
        result = self.run(script, *more, **kwargs)
        expect_equal(result.code, 0, result)
        return result.out

    def up(self, script="sleep 1000", name="c", flags=()):
        """A container in the background."""
        self.shell(script)
        self.write_config()
        # Pipes that the container keeps would keep `call` waiting.
        with open(os.path.join(self.folder, "out"), "ab") as out:
            done = subprocess.run(self.command("run", "--detach", "--bundle", self.bundle, name, flags=flags),
                                  stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=LIMIT,
                                  check=False)
        expect_equal(done.returncode, 0, self.output())

    def output(self):
        """What containers in the background have printed."""
        with open(os.path.join(self.folder, "out"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def state(self, name="c"):
        return json.loads(self.call("state", name, check=0).out)

    def status(self, name="c"):
        return self.state(name)["status"]

    def processes(self):
        """The host's processes of this box's sandboxes: the Sentry and what descends from it."""
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/environ", "rb") as f:
                    if ("RINGWALL_BOX=" + self.folder).encode() in f.read().split(b"\0"):
                        found.append(int(entry))
        return found

    def end(self):
        if os.path.isdir(self.root):
            for name in os.listdir(self.root):
                self.call("delete", "--force", name)


def descendants(pid):
    """Host processes below `pid`, itself included, that are no zombies."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as f:
                    fields = f.read().rpartition(")")[2].split()
                if fields[0] != "Z":
                    parents[int(entry)] = int(fields[1])
    found, grew = {pid} & set(parents), True
    while grew:
        more = {p for p, parent in parents.items() if parent in found and p not in found}
        grew = bool(more)
        found |= more
    return found


def gone(pids):
    for pid in pids:
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
                if f.read().rpartition(")")[2].split()[0] not in "ZX":
                    return False
    return True


def receive_fd(connection):
    """One message with a descriptor, as --console-socket's peer gets it."""
    data, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return struct.unpack("i", payload[:4])[0], data
    raise AssertionError("no descriptor came")


def read_until(fd, text, limit=20.0):
    """Reads from a terminal until `text` has come; returns all of it."""
    got, end = b"", time.monotonic() + limit
    while text.encode() not in got:
        if time.monotonic() > end:
            raise AssertionError(f"{text!r} did not come; this did: {got!r}")
        if select.select([fd], [], [], 0.1)[0]:
            try:
                chunk = os.read(fd, 4096)
            except OSError:
                chunk = b""
            if not chunk:
                raise AssertionError(f"the end came before {text!r}: {got!r}")
            got += chunk
    return got.decode(errors="replace")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runsc", required=True)
    parser.add_argument("--platform", default="systrap")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    tests = {n[5:]: f for n, f in vars(sys.modules["__main__"]).items() if n.startswith("test_")}
    failed = False
    for name, function in tests.items():
        if args.names and name not in args.names:
            continue
        if BUSYBOX is None:
            print(f"skip {name}: no busybox here", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="ringwall-runtime-") as folder:
            os.chmod(folder, 0o755)
            os.environ["RINGWALL_BOX"] = folder
            box = Box(os.path.abspath(args.runsc), args.platform, folder)
            try:
                function(box)
                print(f"ok {name}", flush=True)
            except Skip as why:
                print(f"skip {name}: {why}", flush=True)
            except Exception:  # pylint: disable=broad-except
                failed = True
                traceback.print_exc(file=sys.stdout)
                print(f"not ok {name}", flush=True)
            finally:
                box.end()
    return 1 if failed else 0
