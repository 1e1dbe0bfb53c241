#!/usr/bin/env python3
"""Docker with --runtime=runsc: containers of a busybox and a Debian image through their whole lives.

Starts a dockerd of its own (own data and exec roots, no networks), so that it touches nobody else's
containers. Prints "ok NAME", "not ok NAME" or "skip NAME: why".
"""

import argparse
import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "runtime"))
from lib import BUSYBOX, Result, Skip, eventually, expect, expect_equal, read_until  # noqa: E402

LIMIT = 120


class Docker:
    def __init__(self, runsc, platform, folder, cache):
        self.folder, self.cache = folder, cache
        self.socket = "unix://" + os.path.join(folder, "docker.sock")
        self.daemon = None
        config = os.path.join(folder, "daemon.json")
        for name, more in (("runsc", ()), ("runsc-build", ("--overlay2=none",)),
                           ("runsc-shared", ("--overlay2=none", "--file-access=shared"))):
            subprocess.run([runsc, "install", "--config_file", config, "--runtime", name, "--", "--platform=" + platform, *more],
                           check=True, stdout=subprocess.DEVNULL)
        self.log = os.path.join(folder, "dockerd.log")
        with open(self.log, "wb") as log:
            self.daemon = subprocess.Popen(
                ["dockerd", "--config-file", config, "--data-root", os.path.join(folder, "data"), "--exec-root",
                 os.path.join(folder, "exec"), "--pidfile", os.path.join(folder, "pid"), "--host", self.socket,
                 "--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def up(self):
        for _ in range(600):
            if self.daemon.poll() is not None:
                return False
            with contextlib.suppress(subprocess.TimeoutExpired):
                if self("version").code == 0:
                    return True
            time.sleep(0.1)
        return False

    def why(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            lines = [l.strip() for l in f if "level=info" not in l and "level=warning" not in l]
        return lines[-1][-160:] if lines else "it does not answer"

    def command(self, *args):
        return ["docker", "--host", self.socket, *args]

    def __call__(self, *args, stdin=None, check=None):
        done = subprocess.run(self.command(*args), input=stdin if stdin is not None else "", stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=LIMIT, check=False)
        result = Result(done.returncode, done.stdout, done.stderr)
        if check is not None:
            expect_equal(result.code, check, args, result)
        return result

    def run(self, *args, **kwargs):
        return self("run", "--rm", "--runtime=runsc", "--network=none", *args, **kwargs)

    def out(self, *args, **kwargs):
        result = self.run(*args, **kwargs)
        expect_equal(result.code, 0, args, result)
        return result.out

    def start(self, name, *args):
        self("run", "-d", "--name", name, "--runtime=runsc", "--network=none", *args, check=0)

    def inspect(self, name, what):
        return json.loads(self("inspect", "-f", "{{json ." + what + "}}", name, check=0).out)

    def load(self, name, tree):
        pack = subprocess.Popen(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE)
        subprocess.run(self.command("import", "-", name), stdin=pack.stdout, stdout=subprocess.DEVNULL, check=True,
                       timeout=LIMIT)
        pack.wait()

    def stop(self):
        if self.daemon is None:
            return
        self.daemon.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.daemon.wait(60)
        if self.daemon.poll() is None:
            self.daemon.kill()
            self.daemon.wait()
        # What it had mounted.
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as f:
            points = [l.split()[4] for l in f if self.folder in l.split()[4]]
        for point in reversed(points):
            subprocess.run(["umount", "-l", point], check=False)


def busybox_tree(folder):
    tree = os.path.join(folder, "busybox")
    for d in ("bin", "etc", "tmp", "root"):
        os.makedirs(os.path.join(tree, d))
    os.chmod(os.path.join(tree, "tmp"), 0o1777)
    shutil.copy(BUSYBOX, os.path.join(tree, "bin/busybox"))
    names = subprocess.run([BUSYBOX, "--list"], stdout=subprocess.PIPE, universal_newlines=True, check=True)
    for name in names.stdout.split():
        if name != "busybox":
            os.symlink("busybox", os.path.join(tree, "bin", name))
    with open(os.path.join(tree, "etc/passwd"), "w", encoding="ascii") as f:
        f.write("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n")
    with open(os.path.join(tree, "etc/group"), "w", encoding="ascii") as f:
        f.write("root:x:0:\nuser:x:1000:\n")
    return tree


def test_run(docker):
    out = docker.out("busybox", "sh", "-c", "echo hi; uname -r; cat /proc/1/comm; hostname")
    lines = out.splitlines()
    expect_equal(lines[:3], ["hi", "6.12.0", "sh"])
    expect_equal(docker.run("busybox", "sh", "-c", "exit 42").code, 42)
    expect_equal(docker.run("-i", "busybox", "cat", stdin="through\n").out, "through\n")
    expect_equal(docker.run("busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?").code, 137)


def test_exit_codes_of_what_cannot_run(docker):
    expect_equal(docker.run("busybox", "nope").code, 127)
    expect_equal(docker.run("busybox", "/nope").code, 127)
    expect_equal(docker.run("busybox", "/etc/passwd").code, 126)
    expect_equal(docker.run("--no-such-flag", "busybox", "true").code, 125)


def test_detached_logs_exec_top_stats_stop(docker):
    docker.start("aa", "busybox", "sh", "-c", "trap 'echo got term; exit 5' TERM; echo up; while :; do sleep 0.1; done")
    eventually(lambda: "up" in docker("logs", "aa").out)
    expect_equal(docker("exec", "aa", "sh", "-c", "echo inside; exit 7").code, 7)
    expect_equal(docker("exec", "-i", "aa", "cat", stdin="abc").out, "abc")
    expect_equal(docker("exec", "-u", "1000", "-w", "/tmp", "-e", "Q=r", "aa", "sh", "-c", "id -u; pwd; echo $Q").out,
                 "1000\n/tmp\nr\n")
    # Older Dockers say 126 of both, with any runtime.
    result = docker("exec", "aa", "nope")
    expect(result.code in (126, 127) and "not found" in result.out + result.err, result)
    result = docker("exec", "aa", "/etc/passwd")
    expect(result.code == 126 and "permission denied" in result.out + result.err, result)
    docker("exec", "-d", "aa", "touch", "/tmp/done", check=0)
    eventually(lambda: docker("exec", "aa", "test", "-e", "/tmp/done").code == 0)
    expect(len(docker("top", "aa", check=0).out.splitlines()) >= 2)
    expect("aa" in docker("stats", "--no-stream", "aa", check=0).out)
    docker("stop", "aa", check=0)
    expect("got term" in docker("logs", "aa").out)
    expect_equal(docker.inspect("aa", "State")["ExitCode"], 5)
    docker("rm", "aa", check=0)


def test_stop_kills_what_does_not_listen(docker):
    docker.start("bb", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    docker("stop", "-t", "1", "bb", check=0)
    expect_equal(docker.inspect("bb", "State")["ExitCode"], 137)
    docker("rm", "bb", check=0)
    docker.start("bb", "busybox", "sleep", "1000")
    docker("kill", "bb", check=0)
    expect_equal(docker("wait", "bb").out, "137\n")
    docker("start", "bb", check=0)
    expect_equal(docker.inspect("bb", "State")["Status"], "running")
    docker("restart", "-t", "0", "bb", check=0)
    docker("rm", "-f", "bb", check=0)


def test_pause(docker):
    docker.start("cc", "busybox", "sh", "-c", "while :; do echo tick; sleep 0.05; done")
    docker("pause", "cc", check=0)
    expect_equal(docker.inspect("cc", "State")["Status"], "paused")
    before = docker("logs", "cc").out
    time.sleep(0.5)
    expect_equal(docker("logs", "cc").out, before)
    docker("unpause", "cc", check=0)
    eventually(lambda: len(docker("logs", "cc").out) > len(before))
    docker("rm", "-f", "cc", check=0)


def test_read_only_tmpfs_and_volumes(docker):
    out = docker.out("--read-only", "--tmpfs", "/t:size=1m", "busybox", "sh", "-c",
                     "touch /x 2>/dev/null || echo ro; touch /t/x && echo rw; df /t | tail -1 | tr -s ' ' | cut -d' ' -f2")
    expect_equal(out, "ro\nrw\n1024\n")
    shared = os.path.join(docker.folder, "shared")
    os.mkdir(shared)
    with open(os.path.join(shared, "f"), "w", encoding="ascii") as f:
        f.write("host\n")
    out = docker.out("-v", shared + ":/v", "-v", shared + ":/r:ro", "busybox", "sh", "-c",
                     "cat /v/f; echo new > /v/g; cat /r/g; touch /r/x 2>/dev/null || echo ro")
    expect_equal(out, "host\nnew\nro\n")
    with open(os.path.join(shared, "g"), encoding="ascii") as f:
        expect_equal(f.read(), "new\n")
    docker("volume", "create", "vol", check=0)
    docker.out("-v", "vol:/v", "busybox", "sh", "-c", "echo kept > /v/f")
    expect_equal(docker.out("-v", "vol:/v", "busybox", "cat", "/v/f"), "kept\n")


def test_options(docker):
    out = docker.out("-u", "1000:1000", "-w", "/tmp", "-e", "A=b", "--hostname", "host", "busybox", "sh", "-c",
                     "id -u; id -g; pwd; echo $A; hostname; cat /etc/hostname")
    expect_equal(out, "1000\n1000\n/tmp\nb\nhost\nhost\n")
    out = docker.out("--memory=64m", "--cpus=1", "--ulimit", "nofile=100:200", "--shm-size=1m", "--oom-score-adj=300",
                     "busybox", "sh", "-c", "grep MemTotal /proc/meminfo | tr -s ' '; nproc; ulimit -n; ulimit -Hn; "
                     "df /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2; cat /proc/self/oom_score_adj")
    expect_equal(out, "MemTotal: 65536 kB\n1\n100\n200\n1024\n300\n")
    out = docker.out("--cap-drop=ALL", "--cap-add=KILL", "--security-opt", "no-new-privileges", "busybox", "sh", "-c",
                     "grep -E 'CapEff|NoNewPrivs' /proc/self/status; chown 1 /tmp 2>/dev/null || echo refused")
    expect_equal(out, "CapEff:\t0000000000000020\nNoNewPrivs:\t1\nrefused\n")
    expect_equal(docker.out("--device", "/dev/null:/dev/mine", "busybox", "sh", "-c", "echo x > /dev/mine; stat -c %t:%T /dev/mine"),
                 "1:3\n")


def test_seccomp_and_sysctls(docker):
    status = "grep Seccomp: /proc/self/status; mkdir /tmp/d 2>/dev/null || echo refused"
    expect_equal(docker.out("busybox", "sh", "-c", status), "Seccomp:\t2\n", "Docker's own profile")
    expect_equal(docker.out("--security-opt", "seccomp=unconfined", "busybox", "sh", "-c", status), "Seccomp:\t0\n")
    profile = os.path.join(docker.folder, "profile.json")
    with open(profile, "w", encoding="ascii") as f:
        json.dump({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
                   "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}, f)
    docker.start("sc", "--security-opt", "seccomp=" + profile, "busybox", "sleep", "1000")
    expect_equal(docker("exec", "sc", "sh", "-c", status).out, "Seccomp:\t2\nrefused\n")
    docker("rm", "-f", "sc", check=0)
    out = docker.out("--sysctl", "net.core.somaxconn=77", "--sysctl", "kernel.msgmax=4096", "busybox", "cat",
                     "/proc/sys/net/core/somaxconn", "/proc/sys/kernel/msgmax")
    expect_equal(out, "77\n4096\n")


def test_update_and_restart_policy(docker):
    docker.start("up", "--memory=64m", "--memory-swap=128m", "--pids-limit=200", "busybox", "sleep", "1000")
    files = [f"/sys/fs/cgroup/{kind}/docker/{docker.inspect('up', 'Id')}/{name}"
             for kind, name in (("memory", "memory.limit_in_bytes"), ("", "memory.max"))]

    def limit():
        for name in files:
            with contextlib.suppress(OSError):
                with open(name, encoding="ascii") as f:
                    return int(f.read())
        return None

    before = limit()
    docker("update", "--memory=80m", "--memory-swap=160m", "up", check=0)
    expect_equal(docker.inspect("up", "HostConfig.Memory"), 80 << 20)
    if before is not None:
        expect_equal((before, limit()), (64 << 20, 80 << 20))
    docker("rm", "-f", "up", check=0)
    docker.start("again", "--restart=on-failure:2", "busybox", "sh", "-c", "exit 3")
    eventually(lambda: docker.inspect("again", "RestartCount") == 2 and docker.inspect("again", "State")["Status"] == "exited")
    expect_equal(docker.inspect("again", "State")["ExitCode"], 3)
    docker("rm", "-f", "again", check=0)


def test_init(docker):
    if shutil.which("docker-init") is None:
        raise Skip("no docker-init here")
    out = docker.out("--init", "busybox", "sh", "-c", "cat /proc/1/comm; sleep 0.1 & exec echo done")
    expect_equal(out, "docker-init\ndone\n")


def test_health_check(docker):
    docker.start("hh", "--health-cmd", "test -e /tmp/well", "--health-interval", "0.2s", "--health-retries", "1", "busybox",
                 "sleep", "1000")
    eventually(lambda: docker.inspect("hh", "State.Health")["Status"] == "unhealthy")
    docker("exec", "hh", "touch", "/tmp/well", check=0)
    eventually(lambda: docker.inspect("hh", "State.Health")["Status"] == "healthy")
    docker("rm", "-f", "hh", check=0)


def terminal(docker, *args):
    pid, fd = pty.fork()
    if pid == 0:
        os.execvp("docker", docker.command(*args))
    os.set_blocking(fd, False)
    os.write(fd, b"tty; echo first=$?\n")
    expect("/dev/pts/" in read_until(fd, "first=0"))
    os.write(fd, b"echo waiting; sleep 1000\n")
    read_until(fd, "waiting\r\n")
    end = time.monotonic() + 30
    while True:
        os.write(fd, b"\x03")
        with contextlib.suppress(AssertionError):
            os.write(fd, b"echo code=$?\n")
            read_until(fd, "code=130", 2)
            break
        expect(time.monotonic() < end, "an interrupt from the terminal")
    os.write(fd, b"exit 9\n")
    end = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            os.read(fd, 4096)
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        expect(time.monotonic() < end, "the end of docker")
        time.sleep(0.02)
    os.close(fd)
    return os.WEXITSTATUS(status)


def test_terminals(docker):
    expect_equal(terminal(docker, "run", "--rm", "-it", "--runtime=runsc", "--network=none", "busybox", "sh"), 9)
    docker.start("tt", "busybox", "sleep", "1000")
    expect_equal(terminal(docker, "exec", "-it", "tt", "sh"), 9)
    docker("rm", "-f", "tt", check=0)


def test_attach(docker):
    docker.start("at", "-i", "busybox", "cat")
    child = subprocess.Popen(docker.command("attach", "at"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             universal_newlines=True)
    child.stdin.write("to cat\n")
    child.stdin.flush()
    expect_equal(child.stdout.readline(), "to cat\n")
    docker("kill", "at", check=0)
    expect_equal(child.wait(LIMIT), 137)
    child.stdin.close()
    child.stdout.close()
    docker("rm", "-f", "at", check=0)


def test_copy(docker):
    docker("create", "--name", "cp", "--runtime=runsc", "--network=none", "busybox", "cat", "/in", check=0)
    path = os.path.join(docker.folder, "in")
    with open(path, "w", encoding="ascii") as f:
        f.write("copied\n")
    docker("cp", path, "cp:/in", check=0)
    expect_equal(docker("start", "-a", "cp").out, "copied\n")
    docker("rm", "cp", check=0)


def test_copy_while_it_runs(docker):
    """Where the container's files are the host's, and the host's changes are looked for."""
    docker("run", "-d", "--name", "cr", "--runtime=runsc-shared", "--network=none", "busybox", "sh", "-c",
           "echo out > /out; sleep 1000", check=0)
    path = os.path.join(docker.folder, "into")
    with open(path, "w", encoding="ascii") as f:
        f.write("into\n")
    eventually(lambda: docker("exec", "cr", "test", "-s", "/out").code == 0)
    expect(docker("exec", "cr", "cat", "/into").code != 0)
    docker("cp", path, "cr:/into", check=0)
    expect_equal(docker("exec", "cr", "cat", "/into").out, "into\n")
    docker("cp", "cr:/out", path, check=0)
    with open(path, encoding="ascii") as f:
        expect_equal(f.read(), "out\n")
    docker("rm", "-f", "cr", check=0)


def test_commit_and_copy_out(docker):
    """Without the overlay Docker sees what a container wrote."""
    script = "echo made > /made; chown 5:6 /made; chmod 640 /made; rm /etc/group; ln -s made /link; mkfifo /fifo"
    docker("run", "--name", "co", "--runtime=runsc-build", "--network=none", "busybox", "sh", "-c", script, check=0)
    diff = docker("diff", "co", check=0).out.split("\n")
    for line in ("A /made", "A /link", "D /etc/group"):
        expect(line in diff, line, diff)
    docker("commit", "co", "committed", check=0)
    out = docker.out("committed", "sh", "-c", "stat -c '%a %u %g' /made; cat /link; test -e /etc/group || echo gone; test -p /fifo && echo fifo")
    expect_equal(out, "640 5 6\nmade\ngone\nfifo\n")
    docker("cp", "co:/made", os.path.join(docker.folder, "out"), check=0)
    with open(os.path.join(docker.folder, "out"), encoding="ascii") as f:
        expect_equal(f.read(), "made\n")
    docker("rm", "co", check=0)


def test_killed_sandbox_is_seen(docker):
    docker.start("ks", "busybox", "sleep", "1000")
    os.kill(docker.inspect("ks", "State.Pid"), signal.SIGKILL)
    eventually(lambda: docker.inspect("ks", "State")["Status"] == "exited")
    expect_equal(docker.inspect("ks", "State")["ExitCode"], 137)
    docker("rm", "ks", check=0)


def test_sandbox_in_a_plain_container(docker):
    """runsc do inside a container of the ordinary runtime, with what its engine leaves."""
    if shutil.which("runc") is None:
        raise Skip("no runc here")
    for more in ((), ("-u", "1000", "--cap-drop=ALL", "--security-opt", "no-new-privileges")):
        done = docker("run", "--rm", "--network=none", *more, "-v", docker.runsc + ":/runsc:ro", "busybox", "/runsc",
                      "--platform=" + docker.platform, "do", "sh", "-c", "echo x > /tmp/f; cat /tmp/f; id -u; ls / | cat >/dev/null; exit 6")
        expect_equal((done.code, done.out), (6, f"x\n{1000 if more else 0}\n"), more, done)


def test_debian(docker):
    tree = os.path.join(docker.cache, "debian")
    if not os.path.exists(os.path.join(tree, "complete")):
        if shutil.which("debootstrap") is None:
            raise Skip("no debootstrap here")
        shutil.rmtree(tree, ignore_errors=True)
        done = subprocess.run(["debootstrap", "--variant=minbase", "bookworm", tree], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False, timeout=400)
        if done.returncode != 0:
            raise Skip("debootstrap failed: " + done.stdout.decode(errors="replace").strip().splitlines()[-1])
        with open(os.path.join(tree, "complete"), "w", encoding="ascii"):
            pass
    docker.load("debian", tree)
    out = docker.out("debian", "bash", "-c", "cat /etc/debian_version | cut -d. -f1; perl -e 'print 6*7, \"\\n\"'; "
                     "dpkg -l | grep -c '^ii' | tr -d '[:digit:]'; echo a b | awk '{print $2}'; "
                     "for i in 1 2 3; do echo $i; done | sort -r | head -1")
    expect_equal(out, "12\n42\n\nb\n3\n")
    docker.start("deb", "debian", "sleep", "1000")
    expect_equal(docker("exec", "deb", "bash", "-c", "ls /usr/bin | wc -l | tr -d '[:digit:]'; exit 4").code, 4)
    expect_equal(docker("exec", "deb", "dpkg-divert", "--list", check=0).code, 0)
    docker("stop", "-t", "0", "deb", check=0)
    docker("rm", "deb", check=0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runsc", required=True)
    parser.add_argument("--platform", default="systrap")
    parser.add_argument("--cache", default=tempfile.gettempdir())
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    for reason, holds in (("it needs root", os.geteuid() != 0), ("no dockerd here", shutil.which("dockerd") is None),
                          ("no docker here", shutil.which("docker") is None), ("no busybox here", BUSYBOX is None)):
        if holds:
            print(f"skip docker: {reason}")
            return 0
    tests = {n[5:]: f for n, f in globals().items() if n.startswith("test_")}
    failed = False
    with tempfile.TemporaryDirectory(prefix="ringwall-docker-", ignore_cleanup_errors=True) as folder:
        docker = Docker(os.path.abspath(args.runsc), args.platform, folder, args.cache)
        docker.runsc, docker.platform = os.path.abspath(args.runsc), args.platform
        try:
            if not docker.up():
                print(f"skip docker: dockerd cannot run here: {docker.why()}")
                return 0
            docker.load("busybox", busybox_tree(folder))
            probe = docker("run", "--rm", "--network=none", "busybox", "true")
            if probe.code != 0:
                print(f"skip docker: it cannot run a container of its own runtime: {probe.err.strip()[-160:]}")
                return 0
            for name, function in tests.items():
                if args.names and name not in args.names:
                    continue
                try:
                    function(docker)
                    print(f"ok {name}", flush=True)
                except Skip as why:
                    print(f"skip {name}: {why}", flush=True)
                except Exception:  # pylint: disable=broad-except
                    failed = True
                    traceback.print_exc(file=sys.stdout)
                    print(f"not ok {name}", flush=True)
            for name in docker("ps", "-aq").out.split():
                docker("rm", "-f", name)
        finally:
            docker.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
