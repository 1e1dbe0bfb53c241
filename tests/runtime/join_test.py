#!/usr/bin/env python3
"""Containers that join the sandbox of another one by its network namespace (docker run --network=container:X):
one loopback for both, everything else of their own."""

import contextlib
import copy
import json
import os
import shutil
import signal
import socket
import subprocess

from lib import LIMIT, Skip, descendants, eventually, expect, expect_equal, gone, main, read_until, receive_fd

SANDBOX = ("--network=sandbox",)


class Two:
    """A container `a`, and a bundle whose containers join it."""

    def __init__(self, box, script="sleep 1000"):
        if os.geteuid() != 0:
            raise Skip("needs root")
        self.box = box
        box.config["linux"]["namespaces"].append({"type": "network"})
        box.up(script, name="a", flags=SANDBOX)
        self.sentry = box.state("a")["pid"]
        self.bundle = os.path.join(box.folder, "second")
        shutil.copytree(box.bundle, self.bundle, symlinks=True)
        self.config = copy.deepcopy(box.config)
        self.config["hostname"] = "second"
        self.config["linux"]["namespaces"][-1]["path"] = f"/proc/{self.sentry}/ns/net"
        with open(os.path.join(self.bundle, "rootfs/mine"), "w", encoding="ascii") as f:
            f.write("the second's\n")

    def write(self, *args):
        self.config["process"]["args"] = list(args)
        with open(os.path.join(self.bundle, "config.json"), "w", encoding="utf-8") as f:
            json.dump(self.config, f)

    def up(self, script="sleep 1000", name="b", command=("run", "--detach")):
        self.write("/bin/sh", "-c", script)
        with open(os.path.join(self.box.folder, "out"), "ab") as out:
            done = subprocess.run(self.box.command(*command, "--bundle", self.bundle, name, flags=SANDBOX),
                                  stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=LIMIT, check=False)
        expect_equal(done.returncode, 0, self.box.output())
        return self.box.state(name)["pid"]

    def run(self, script, check=0):
        """A third container to its end."""
        self.write("/bin/sh", "-c", script)
        return self.box.call("run", "--bundle", self.bundle, "r", flags=SANDBOX, check=check)

    def inside(self, name, script, check=0):
        return self.box.call("exec", name, "sh", "-c", script, check=check).out

    def settled(self):
        """What there is when one container has come and gone; the sandbox keeps some things in stock by then."""
        self.run("true")
        self.inside("a", "true")
        return self.count()

    def count(self):
        return len(self.processes()), len(os.listdir(f"/proc/{self.sentry}/fd"))

    def clean(self, before):
        return all(now <= then for now, then in zip(self.count(), before))

    def only_the_first_is_left(self, before):
        eventually(lambda: self.clean(before), "nothing is left over", before, limit=10.0)
        expect_equal(self.box.call("list", "--quiet", check=0).out, "a\n")
        expect_equal(self.inside("a", "echo still"), "still\n")

    def processes(self):
        return descendants(self.sentry) | set(self.box.processes())


def serve(two, name, port, text):
    """A server inside that answers one caller."""
    server = two.box.start("exec", name, "sh", "-c", f"echo {text} | busybox nc -l -p {port}")
    eventually(lambda: f":{port:04X} 0" in two.inside(name, "cat /proc/net/tcp /proc/net/tcp6"), "a listener")
    return server


def test_one_loopback_in_both_directions(box):
    two = Two(box)
    two.up()
    for server, client, port in (("a", "b", 7001), ("b", "a", 7002)):
        child = serve(two, server, port, "from-" + server)
        expect_equal(two.inside(client, f"busybox nc 127.0.0.1 {port} </dev/null"), f"from-{server}\n")
        child.communicate(timeout=LIMIT)
    links = [two.inside(name, "readlink /proc/self/ns/net") for name in "ab"]
    expect_equal(links[0], links[1])


def test_everything_else_is_its_own(box):
    two = Two(box, "touch /theirs; exec sleep 1000")
    two.up("sleep 2000 & exec sleep 3000")
    expect_equal(two.inside("b", "hostname; cat /mine; cat /proc/1/cmdline | tr '\\0' ' '"),
                 "second\nthe second's\nsleep 3000 ")
    expect_equal(two.inside("a", "hostname"), "box\n")
    two.inside("b", "test -e /theirs", check=1)
    two.inside("a", "test -e /mine", check=1)
    for kind in ("pid", "ipc", "uts", "mnt", "cgroup"):
        numbers = [two.inside(name, f"readlink /proc/self/ns/{kind}") for name in "ab"]
        expect(numbers[0] != numbers[1], kind, numbers)
    for name, own, other in (("a", "sleep 1000", "sleep 3000"), ("b", "sleep 3000", "sleep 1000")):
        for seen in (two.inside(name, "ps"), box.call("ps", name, check=0).out):
            expect("sleep" in seen, seen)
        args = two.inside(name, "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done")
        expect(own in args and other not in args, args)
    # Numbers of the other's processes mean nothing here, and a signal to everybody stays here.
    two.inside("b", "kill -9 -1; true")
    expect_equal(two.inside("b", "cat /proc/1/comm; ls /proc | grep -c '^[0-9]'").split()[0], "sleep")
    expect_equal(box.status("a"), "running")
    expect(len(json.loads(box.call("ps", "--format", "json", "b", check=0).out)) == 1, "one process is left")


def test_exit_codes_and_what_is_left(box):
    two = Two(box)
    before = two.settled()
    expect_equal(two.run("echo out; echo err >&2; exit 7", check=7).out, "out\n")
    two.only_the_first_is_left(before)
    two.write("/bin/nothing")
    box.call("run", "--bundle", two.bundle, "r", flags=SANDBOX, check=127)
    two.config["linux"]["sysctl"] = {"kernel.shm_rmid_forced": "none"}
    expect("sysctl" in two.run("true", check=125).err)
    two.only_the_first_is_left(before)


def test_the_life_of_one(box):
    two = Two(box)
    before = two.settled()
    pid = two.up("trap 'exit 3' TERM; while :; do sleep 0.05; done", command=("create",))
    expect_equal(box.status("b"), "created")
    box.call("exec", "b", "true", check=125)
    box.call("start", "b", check=0)
    expect_equal((box.status("b"), box.state("b")["pid"]), ("running", pid))
    stats = json.loads(box.call("events", "--stats", "b", check=0).out)["data"]
    expect(stats["pids"]["current"] >= 1, stats)
    box.call("delete", "b", check=125)
    box.call("pause", "b", check=0)
    expect_equal((box.status("b"), box.status("a")), ("paused", "running"))
    expect_equal(two.inside("a", "echo goes on"), "goes on\n")
    box.call("resume", "b", check=0)
    waiter = box.start_waiting("wait", "b")
    eventually(lambda: box.call("kill", "b", "TERM").code == 0)
    expect_equal(json.loads(waiter.communicate(timeout=LIMIT)[0])["exitStatus"], 3)
    eventually(lambda: gone([pid]))
    expect_equal(box.status("b"), "stopped")
    box.call("kill", "b", "TERM", check=125)
    box.call("delete", "b", check=0)
    two.only_the_first_is_left(before)


def test_pause_of_the_first_leaves_the_second(box):
    two = Two(box)
    two.up()
    box.call("pause", "a", check=0)
    expect_equal(two.inside("b", "echo goes on"), "goes on\n")
    box.call("resume", "a", check=0)


def test_delete_in_every_state(box):
    two = Two(box)
    before = two.settled()
    two.up(command=("create",))
    box.call("delete", "b", check=0)
    two.only_the_first_is_left(before)
    two.up("sleep 1000 & sleep 2000")
    box.call("delete", "--force", "b", check=0)
    two.only_the_first_is_left(before)
    two.up()
    box.call("pause", "b", check=0)
    box.call("delete", "--force", "b", check=0)
    two.only_the_first_is_left(before)


def test_its_host_processes_killed(box):
    two = Two(box)
    before = two.settled()
    pid = two.up()
    os.kill(pid, signal.SIGKILL)
    # Itself, too: what was counted before may have had one more that was about to end.
    two_gone = lambda: gone([pid]) and two.clean(before)
    eventually(two_gone)
    expect_equal(box.status("b"), "stopped")
    box.call("delete", "b", check=0)
    # Its gofer: the container ends, the sandbox does not.
    pid = two.up()
    gofer = [p for p in descendants(pid) if p != pid]
    expect_equal(len(gofer), 1)
    os.kill(gofer[0], signal.SIGKILL)
    eventually(two_gone)
    expect_equal(box.status("b"), "stopped")
    box.call("delete", "b", check=0)
    two.only_the_first_is_left(before)


def test_it_ends_with_the_first(box):
    two = Two(box)
    child = None
    two.write("/bin/sh", "-c", "echo up; exec sleep 1000")
    child = box.start("run", "--bundle", two.bundle, "b", flags=SANDBOX)
    expect_equal(child.stdout.readline(), b"up\n")
    two.up(name="never-started", command=("create",))
    box.call("kill", "a", "KILL", check=0)
    child.communicate(timeout=LIMIT)
    expect_equal(child.returncode, 137)
    eventually(lambda: box.status("never-started") == "stopped")
    eventually(lambda: not box.processes())


def test_one_joins_by_the_pid_of_one_that_joined(box):
    two = Two(box)
    pid = two.up()
    two.config["linux"]["namespaces"][-1]["path"] = f"/proc/{pid}/ns/net"
    child = serve(two, "a", 7003, "found")
    expect_equal(two.run("busybox nc 127.0.0.1 7003 </dev/null").out, "found\n")
    child.communicate(timeout=LIMIT)


def test_the_stand_in_and_its_gofer_are_confined(box):
    two = Two(box)
    pid = two.up()
    for at in descendants(pid):
        with open(f"/proc/{at}/status", encoding="ascii") as f:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        expect_equal((status["Seccomp"], status["NoNewPrivs"]), ("2", "1"), status)
        if at == pid:
            expect_equal((status["CapPrm"], status["CapBnd"], status["Uid"].split()[0]), ("0" * 16, "0" * 16, "65534"))
        expect_equal(os.listdir(f"/proc/{at}/root"), [])
        expect(os.readlink(f"/proc/{at}/ns/mnt") != os.readlink("/proc/self/ns/mnt"), "its own mounts")


def test_cgroups_of_its_own(box):
    base = "/sys/fs/cgroup"
    top = os.path.join(base, "pids") if os.path.isdir(os.path.join(base, "pids")) else base
    name = f"ringwall-join-{os.getpid()}"
    group = os.path.join(top, name)
    try:
        os.mkdir(group)
        os.rmdir(group)
    except OSError as why:
        raise Skip(f"no cgroup can be made: {why}") from why
    two = Two(box)
    two.config["linux"]["cgroupsPath"] = "/" + name
    two.write("/bin/sleep", "1000")
    command = [c for c in box.command("run", "--detach", "--bundle", two.bundle, "b", flags=SANDBOX)
               if c != "--ignore-cgroups"]
    with open(os.path.join(box.folder, "out"), "ab") as out:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=LIMIT, check=False)
    expect_equal(done.returncode, 0, box.output())
    with open(os.path.join(group, "cgroup.procs"), encoding="ascii") as f:
        expect_equal({int(line) for line in f}, descendants(box.state("b")["pid"]))
    box.call("update", "--pids-limit", "50", "b", check=0)
    with open(os.path.join(group, "pids.max"), encoding="ascii") as f:
        expect_equal(f.read(), "50\n")
    box.call("delete", "--force", "b", check=0)
    expect(not os.path.exists(group), group)


def test_hooks_see_its_pid(box):
    two = Two(box)
    seen = os.path.join(box.folder, "seen")
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat > {seen}"]}
    inside = {"path": "/bin/sh", "args": ["sh", "-c", "echo started > /from-hook"], "env": ["PATH=/bin"]}
    two.config["hooks"] = {"createRuntime": [hook], "startContainer": [inside]}
    pid = two.up()
    with open(seen, encoding="utf-8") as f:
        state = json.load(f)
    expect_equal((state["id"], state["pid"], state["status"]), ("b", pid, "creating"))
    expect_equal(two.inside("b", "cat /from-hook"), "started\n")


def test_a_terminal_of_its_own(box):
    two = Two(box)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        path = os.path.join(box.folder, "console.sock")
        listener.bind(path)
        listener.listen(1)
        two.config["process"]["terminal"] = True
        two.write("/bin/sh")
        box.call("create", "--bundle", two.bundle, "--console-socket", path, "b", flags=SANDBOX, check=0)
        connection, _ = listener.accept()
        fd, _ = receive_fd(connection)
        connection.close()
    box.call("start", "b", check=0)
    os.write(fd, b"tty; ls /dev/pts; echo name=$?\n")
    expect("/dev/pts/0" in read_until(fd, "name=0"))
    os.write(fd, b"sleep 100\n")
    eventually(lambda: "sleep" in box.call("ps", "b").out)
    os.write(fd, b"\x03")
    os.write(fd, b"echo interrupted=$?\n")
    read_until(fd, "interrupted=130")
    expect_equal(two.inside("a", "ls /dev/pts"), "ptmx\n")
    os.write(fd, b"exit 5\n")
    eventually(lambda: box.status("b") == "stopped")
    os.close(fd)


if __name__ == "__main__":
    raise SystemExit(main())
