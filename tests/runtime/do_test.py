#!/usr/bin/env python3
"""runsc do: a program on a read-only view of the host, its streams, signals, options and users."""

import os
import pty
import pwd
import shutil
import signal
import socket
import subprocess
import sys

from lib import BUSYBOX, Skip, eventually, expect, expect_equal, main, read_until


def do(box, *args, **kwargs):
    return box.call("do", *args, **kwargs)


def test_view_of_the_host_is_read_only(box):
    path = os.path.join(box.folder, "file")
    with open(path, "w", encoding="ascii") as f:
        f.write("host\n")
    out = do(box, "sh", "-c", f"cat {path}; echo inside > {path}; cat {path}; echo n > {box.folder}/new; pwd",
             cwd=box.folder, check=0).out
    expect_equal(out, f"host\ninside\n{os.path.realpath(box.folder)}\n")
    with open(path, encoding="ascii") as f:
        expect_equal(f.read(), "host\n")
    expect(not os.path.exists(os.path.join(box.folder, "new")))
    result = do(box, "touch", path + "2", flags=("--overlay2=none",))
    expect(result.code != 0 and "Read-only" in result.err, result)


def test_environment_and_ids_are_the_callers(box):
    os.environ["RINGWALL_MARK"] = "a  b"
    out = do(box, "sh", "-c", "echo \"$RINGWALL_MARK\"; id -u; umask; ulimit -n", check=0).out
    native = subprocess.run(["sh", "-c", "echo \"$RINGWALL_MARK\"; id -u; umask; ulimit -n"],
                            stdout=subprocess.PIPE, universal_newlines=True, check=True).stdout
    expect_equal(out, native)


def test_exit_codes(box):
    for code in (0, 1, 77, 255):
        expect_equal(do(box, "sh", "-c", f"exit {code}").code, code)
    for name in ("TERM", "KILL", "SEGV", "HUP"):
        expect_equal(do(box, "sh", "-c", f"kill -{name} $$").code, 128 + getattr(signal, "SIG" + name), name)
    expect_equal(do(box, "/no/such/program").code, 127)
    expect_equal(do(box, "nosuchprogram").code, 127)
    expect_equal(do(box, "/etc/passwd").code, 126)
    expect_equal(do(box, "/").code, 126)


def test_a_killed_process_is_the_guests_own_doing(box):
    """Killed with threads that compute: nobody is told of a stub that was lost."""
    result = do(box, "python3", "-c", """if True:
        import os, threading, time
        def busy():
            while True: time.sleep(0.001)
        def start():
            child = os.fork()
            if child == 0:
                for n in range(4): threading.Thread(target=busy, daemon=True).start()
                busy()
            return child
        for turn in range(4):
            children = [start() for n in range(4)]
            time.sleep(0.2)
            for child in children: os.kill(child, 9)
            print([os.waitpid(child, 0)[1] for child in children])
        start()
        time.sleep(0.2)""", check=0)
    expect_equal((result.out, result.err), ("[9, 9, 9, 9]\n" * 4, ""))


def test_signals_are_passed_through(box):
    for name in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH"):
        child = box.start("do", "sh", "-c", f"trap 'echo got {name}; exit 5' {name}; echo up; while :; do sleep 0.02; done",
                          universal_newlines=True)
        expect_equal(child.stdout.readline(), "up\n")
        child.send_signal(getattr(signal, "SIG" + name))
        out, err = child.communicate(timeout=60)
        expect_equal((child.returncode, out), (5, f"got {name}\n"), err)
    child = box.start("do", "sleep", "1000")
    while not any(child.poll() is None for _ in (1,)):
        pass
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=60)
    expect(child.returncode in (143, -15), child.returncode)


def test_ignored_and_blocked_signals_are_inherited(box):
    def prepare():
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})

    out = do(box, "grep", "-E", "Sig(Ign|Blk)", "/proc/self/status", preexec_fn=prepare, check=0).out
    fields = {l.split()[0]: int(l.split()[1], 16) for l in out.splitlines()}
    expect(fields["SigIgn:"] & 1 << 9, out)
    expect(fields["SigBlk:"] & 1 << 11, out)


def test_file_with_an_offset(box):
    path = os.path.join(box.folder, "data")
    with open(path, "wb") as f:
        f.write(b"0123456789")
    with open(path, "r+b", buffering=0) as f:
        f.seek(3)
        out = subprocess.run(box.command("do", "dd", "bs=2", "count=1"), stdin=f, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, check=True, timeout=60).stdout
        expect_equal(out, b"34")
        expect_equal(f.tell(), 5, "the caller's position moved as it would have outside")
    with open(path, "ab") as f:
        subprocess.run(box.command("do", "sh", "-c", "echo x; echo y"), stdin=subprocess.DEVNULL, stdout=f,
                       check=True, timeout=60)
    with open(path, "rb") as f:
        expect_equal(f.read(), b"0123456789x\ny\n")


def test_sockets_pipes_and_closed_streams(box):
    ours, theirs = socket.socketpair()
    child = box.start("do", "cat", stdin=theirs, stdout=theirs)
    theirs.close()
    ours.send(b"over a socket")
    ours.shutdown(socket.SHUT_WR)
    got = b""
    while chunk := ours.recv(100):
        got += chunk
    expect_equal((child.wait(60), got), (0, b"over a socket"))
    data = os.urandom(1 << 20)
    done = subprocess.run(box.command("do", "cat"), input=data, stdout=subprocess.PIPE, check=True, timeout=60)
    expect(done.stdout == data, "a megabyte through pipes")
    result = subprocess.run(box.command("do", "sh", "-c", "test -e /proc/self/fd/0 || echo closed >&2"),
                            preexec_fn=lambda: os.close(0), stderr=subprocess.PIPE, check=True, timeout=60,
                            stdin=None)
    expect_equal(result.stderr, b"closed\n")


def test_broken_pipe(box):
    child = box.start("do", "sh", "-c", "while :; do echo y; done; echo end >&2")
    child.stdout.readline()
    child.stdout.close()
    # sh dies of SIGPIPE as it would outside.
    expect_equal(child.wait(60), 141)


def test_terminal(box):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(box.runsc, box.command("do", "sh", "-c", "test -t 0 && tty; stty size >/dev/null; echo code=$?; read x; echo got $x; sleep 1000"))
    text = read_until(fd, "code=0")
    expect("/dev/pts/" in text, text)
    os.write(fd, b"hello\n")
    read_until(fd, "got hello")

    def ended():  # dash forgets one that comes while it makes its child, outside as well
        os.write(fd, b"\x03")
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    try:
        eventually(ended, "the end by ^C")
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    _, status = os.waitpid(pid, 0)
    expect(os.WIFEXITED(status) and os.WEXITSTATUS(status) == 130 or os.WTERMSIG(status) == 2, status)
    os.close(fd)


def test_volumes(box):
    shared = os.path.join(box.folder, "shared")
    os.mkdir(shared)
    with open(os.path.join(shared, "f"), "w", encoding="ascii") as f:
        f.write("host\n")
    out = do(box, "-v", shared + ":/mnt:rw", "--volume", shared + ":/srv:ro", "-v", f"{shared}/f:/tmp/deep/er/f", "sh", "-c",
             "cat /mnt/f /srv/f /tmp/deep/er/f; echo new > /mnt/new; cat /srv/new; touch /srv/x 2>/dev/null || echo ro",
             check=0).out
    expect_equal(out, "host\nhost\nhost\nnew\nro\n")
    with open(os.path.join(shared, "new"), encoding="ascii") as f:
        expect_equal(f.read(), "new\n")
    expect(do(box, "-v", "/no/such:/x", "true").code == 125)
    expect(do(box, "-v", shared + ":relative", "true").code == 125)


def test_options(box):
    out = do(box, "--hostname", "inside", "--cwd", "/usr", "-e", "A=b", "--ulimit", "nofile=55:66", "--cpus=1",
             "--memory", "64m", "sh", "-c",
             "hostname; pwd; echo $A; ulimit -n; ulimit -Hn; nproc; grep MemTotal /proc/meminfo | tr -s ' '", check=0).out
    expect_equal(out, "inside\n/usr\nb\n55\n66\n1\nMemTotal: 65536 kB\n")
    if os.geteuid() == 0:
        expect_equal(do(box, "--uid", "1234", "--gid", "99", "id", "-u", check=0).out, "1234\n")
    for bad in (("--uid", "x"), ("--ulimit", "nofile"), ("--ulimit", "x=1"), ("--memory", "1q"), ("--cwd", "/no/dir")):
        expect(do(box, *bad, "true").code in (125, 126), bad)


SERVE = """
import socket, sys
t = socket.create_server(("", int(sys.argv[1])))
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind(("", int(sys.argv[1])))
print("up", flush=True)
c, _ = t.accept()
c.sendall(b"tcp")
c.close()
data, peer = u.recvfrom(100)
u.sendto(b"udp " + data, peer)
t.close()
try:
    socket.create_server(("", int(sys.argv[2])))
except OSError as why:
    print(why.errno, flush=True)
sys.stdin.readline()
"""


def test_network_host_serves_the_hosts_ports(box):
    taken = socket.create_server(("", 0))
    with socket.socket() as s:
        s.bind(("", 0))
        port = s.getsockname()[1]
    child = box.start("do", sys.executable, "-c", SERVE, str(port), str(taken.getsockname()[1]), flags=("--network=host",),
                      stdin=subprocess.PIPE, universal_newlines=True)
    expect_equal(child.stdout.readline(), "up\n")
    with socket.create_connection(("127.0.0.1", port), 20) as c:
        expect_equal(c.recv(100), b"tcp")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as u:
        u.settimeout(20)
        u.sendto(b"ping", ("127.0.0.1", port))
        expect_equal(u.recv(100), b"udp ping")
    expect_equal(child.stdout.readline(), "98\n", "EADDRINUSE of the host")
    # Closed inside, so closed outside.
    expect(socket.socket().connect_ex(("127.0.0.1", port)) != 0)
    child.communicate("\n", timeout=60)
    taken.close()


def cgroups_of_do():
    base = "/sys/fs/cgroup"
    tops = [base] if os.path.exists(base + "/cgroup.controllers") else [os.path.join(base, d) for d in os.listdir(base)]
    return [os.path.join(top, name) for top in tops for name in os.listdir(top) if name.startswith("runsc-do-")]


def test_limits_are_held_by_a_cgroup(box):
    base = "/sys/fs/cgroup"
    top = base if os.path.exists(base + "/cgroup.controllers") else base + "/memory"
    if os.geteuid() != 0 or not os.access(top, os.W_OK):
        raise Skip("no cgroup that could be written")
    probe = f"{top}/ringwall-probe-{os.getpid()}"
    try:
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError as why:
        raise Skip(f"no cgroup can be made: {why}") from why
    # With cgroups, which Box leaves out.
    command = [c for c in box.command("do", "--memory=200m", "--cpus=1", "--pids-limit=200", "sh", "-c", "echo up; read x")
               if c != "--ignore-cgroups"]
    for killed in (False, True):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                 universal_newlines=True)
        first = child.stdout.readline()
        expect(first == "up\n", first + child.communicate()[1] if first != "up\n" else "")
        mine = [c for c in cgroups_of_do() if c.endswith(f"-{child.pid}")]
        limits = [os.path.join(c, f) for c in mine for f in ("memory.max", "memory.limit_in_bytes")]
        values = [open(f, encoding="ascii").read() for f in limits if os.path.exists(f)]  # pylint: disable=consider-using-with
        expect_equal([int(v) for v in values], [200 << 20])
        if killed:
            child.kill()
        child.communicate("\n", timeout=60)
        if not killed:
            expect(not any(os.path.exists(c) for c in mine), mine)
    # What a killed caller left goes with the next one.
    eventually(lambda: subprocess.run(command, input="\n", stdout=subprocess.DEVNULL, universal_newlines=True,
                                      check=True) and not any(os.path.exists(c) for c in mine), mine)


def test_background_processes_end_with_it(box):
    out = do(box, "sh", "-c", "sleep 1000 & echo started", check=0).out
    expect_equal(out, "started\n")
    expect(not box.processes(), box.processes())


def test_is_not_init(box):
    expect_equal(do(box, "sh", "-c", "test $$ -ne 1 && echo fine", check=0).out, "fine\n")
    expect_equal(do(box, "sh", "-c", "kill -9 $$").code, 137)


def test_process_1(box):
    """The Sentry's own: seen as others are, deaf, an heir of orphans, and nothing that can run."""
    look = ("cut -d' ' -f1-6 /proc/1/stat; tr '\\0' ' ' </proc/1/cmdline; echo; readlink /proc/1/cwd;"
            "grep -c stack /proc/1/maps; kill -TERM 1; kill -KILL 1; kill -STOP 1; kill -0 1 && cat /proc/1/comm")
    expect_equal(do(box, "sh", "-c", look, check=0).out, "1 (init) S 0 1 1\n/sbin/init \n/\n1\ninit\n")
    orphan = ("(sh -c 'while [ \"$(cut -d\\  -f4 /proc/$$/stat)\" != 1 ]; do :; done; echo mine >/tmp/orphan.$$' &);"
              "while ! cat /tmp/orphan.* 2>/dev/null; do :; done;"
              "while [ \"$(ls -d /proc/[0-9]* | wc -l)\" -gt 4 ]; do :; done; echo reaped")
    expect_equal(do(box, "sh", "-c", orphan, check=0).out, "mine\nreaped\n")
    trace = ("import ctypes, os; p = ctypes.CDLL(None).ptrace; ATTACH, DETACH, PEEK = 16, 17, 2\n"
             "print(p(ATTACH, 1, 0, 0), os.waitpid(1, 0), p(PEEK, 1, 8, 0), p(DETACH, 1, 0, 0), os.kill(1, 0))")
    expect_equal(do(box, "python3", "-c", trace, check=0).out, "0 (1, 4991) -1 0 None\n")


def test_the_hosts_proc_and_sys_are_out_of_reach(box):
    """The host's files are shared with what is mounted below them, but not the host's kernel."""
    if os.geteuid() != 0:
        raise Skip("needs root to share /")
    script = ("for d in proc sys; do test -d /host/$d && echo there; ls /host/$d >/dev/null 2>&1 || echo closed; "
              "cat /host/$d/self/status /host/$d/kernel/profiling 2>/dev/null || echo refused; done")
    out = do(box, "-v", "/:/host:rw", "sh", "-c", script, check=0).out
    expect_equal(out, "there\nclosed\nrefused\n" * 2)
    expect(do(box, "-v", "/proc:/mnt", "true").code != 0)


def test_ordinary_user(box):
    if os.geteuid() != 0:
        raise Skip("not root: everything here is run by an ordinary user")
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as why:
        raise Skip("no user nobody") from why
    # The build folder need not be open to everyone.
    runsc = os.path.join(box.folder, "runsc")
    shutil.copy(box.runsc, runsc)
    home = os.path.join(box.folder, "home")
    os.mkdir(home)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    os.chmod(box.folder, 0o755)

    def become():
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)

    def run(*args):
        return subprocess.run([runsc, "--platform", box.platform, "--network=none"] + list(args), preexec_fn=become,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=home,
                              env={"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": home},
                              universal_newlines=True, check=False, timeout=60)

    done = run("do", "sh", "-c", "id -u; pwd; echo x > f; cat f; stat -c %u /etc; cat /etc/shadow 2>/dev/null || echo refused")
    expect_equal(done.returncode, 0, done.stderr)
    expect_equal(done.stdout, f"{nobody.pw_uid}\n{os.path.realpath(home)}\nx\n65534\nrefused\n")
    expect(not os.listdir(home), "nothing written")
    done = run("do", "-v", f"{home}:{home}:rw", "touch", f"{home}/made")
    expect_equal(done.returncode, 0, done.stderr)
    expect_equal(os.stat(f"{home}/made").st_uid, nobody.pw_uid)
    # A bundle of its own.
    shutil.copytree(box.bundle, os.path.join(box.folder, "theirs"), symlinks=True)
    box.config["process"]["args"] = ["/bin/id", "-u"]
    box.write_config()
    shutil.copy(os.path.join(box.bundle, "config.json"), os.path.join(box.folder, "theirs/config.json"))
    done = run("run", "--bundle", os.path.join(box.folder, "theirs"), "c")
    expect_equal((done.returncode, done.stdout), (0, "0\n"), done.stderr)


def test_odd_surroundings(box):
    """Limits, a removed directory, a bare environment: the program's affair, not the sandbox's."""
    gone = os.path.join(box.folder, "gone")
    os.mkdir(gone)
    command = " ".join(box.command("do"))
    out = subprocess.run(["sh", "-c", f"cd {gone}; rmdir {gone}; {command} echo fine"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, check=True, timeout=60, universal_newlines=True).stdout
    expect_equal(out, "fine\n")
    out = subprocess.run(box.command("do", "/bin/echo", "bare"), env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         check=True, timeout=60, universal_newlines=True).stdout
    expect_equal(out, "bare\n")
    limits = ["ulimit -n 64; {} sh -c 'ulimit -n'", "ulimit -c 0; {} sh -c 'ulimit -c'", "ulimit -s 256; {} sh -c 'ulimit -s'"]
    may_raise = subprocess.run(["bash", "-c", "ulimit -v 2000000; ulimit -v unlimited"], stderr=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, check=False).returncode == 0
    if may_raise:
        limits += ["ulimit -v 2000000; {} sh -c 'ulimit -v'", "ulimit -f 100; {} sh -c 'ulimit -f'"]
    for line in limits:
        got = subprocess.run(["bash", "-c", line.format(command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             check=False, timeout=60, universal_newlines=True)
        native = subprocess.run(["bash", "-c", line.format("")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                check=False, timeout=60, universal_newlines=True)
        expect_equal((got.returncode, got.stdout), (native.returncode, native.stdout), line)
    out = subprocess.run(["nice", "-n", "7"] + box.command("do", "nice"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         check=True, timeout=60, universal_newlines=True).stdout
    expect_equal(int(out), 7 + os.nice(0))
    out = do(box, "sh", "-c", "echo $#", *[str(i) for i in range(20000)], check=0).out
    expect_equal(out, "19999\n")


def test_where_the_host_refuses_remote_copies(box):
    """As in a container whose engine refuses process_vm_readv: the stub's memory thread copies."""
    os.environ["RINGWALL_COPY_BY_ORDER"] = "1"
    try:
        data = "x" * 300000
        result = do(box, "sh", "-c", "cat; ls / >/dev/null; sh -c 'exit 3'", stdin=data)
        expect_equal((result.code, result.out), (3, data))
        expect_equal(do(box, BUSYBOX, "sh", "-c", "echo a | cat | cat", check=0).out, "a\n")
    finally:
        del os.environ["RINGWALL_COPY_BY_ORDER"]


# What gVisor's runsc takes, as it writes it in its own help; "=" where a value follows.
GVISOR_FLAGS = """debug systemd-cgroup log-packets debug-to-user-log alsologtostderr allow-flag-override profile
oci-seccomp enable-core-tags allow-suid kvm-use-cpu-nums allow-rootfs-tar-annotation app-huge-pages
gvisor-marker-file ignore-cgroups mount-cgroup-v2 iouring directfs net-raw allow-packet-socket-write
allow-live-tcp-migration gso software-gso gvisor-gro tx-checksum-offload rx-checksum-offload reproduce-nat
reproduce-nftables net-disconnect-ok pause-external-networking allow-connected-on-save nvproxy nvproxy-docker
nvproxy-allow-unsupported-driver rdmaproxy tpuproxy strace-event cpu-num-from-quota
systrap-disable-syscall-patching systrap-disable-fast-path buffer-pooling vfs2 fuse lisafs cgroupfs
fsgofer-host-uds save-restore-netstack EXPERIMENTAL-xdp-need-wakeup log-format=text debug-log-format=text
debug-command=boot panic-log=/dev/null coverage-report=/dev/null pcap-log=/dev/null traceback=system
metric-server=:9 final-metrics-log=/dev/null profiling-metrics=x profiling-metrics-log=/dev/null
profiling-metrics-rate-us=1000 strace-log-size=64 strace-syscalls=open platform_device_path=/dev/null
watchdog-action=log panic-signal=12 profile-block=/dev/null profile-cpu=/dev/null profile-gc-interval=1s
profile-heap=/dev/null profile-mutex=/dev/null trace=/dev/null ref-leak-mode=disabled pod-init-config=/dev/null
host-settings=ignore sidecar-release-enforcement-policy=NEVER restore-spec-validation=enforce
control-rpc-stop-timeout=15s shared-root=/tmp file-access=exclusive file-access-mounts=shared
overlay2=root:memory,size=64m host-uds=none host-fifo=none character-device-policy=emulated-only
override-procs=kallsyms fdlimit=1000 dcache=1000 gofer-network-namespace=null qdisc=fifo qdisc-tbf-rate=0
qdisc-tbf-burst=0 num-network-channels=1 network-processors-per-channel=0 EXPERIMENTAL-xdp=off
nvproxy-driver-version=latest nvproxy-allowed-driver-capabilities=utility"""


def test_flags_of_gvisor_are_taken(box):
    flags = GVISOR_FLAGS.split()
    log = os.path.join(box.folder, "log")
    expect_equal(do(box, "echo", "hi", flags=["--log", log] + ["--" + f for f in flags], check=0).out, "hi\n")
    with open(log, encoding="utf-8") as f:
        warnings = f.read()
    # What has no effect is said; what has one is not.
    expect("--rdmaproxy has no effect" in warnings and "--fdlimit" not in warnings, warnings)
    # One dash, the value a word of its own, behind the command.
    split = [word for f in flags for word in ("-" + f).split("=", 1)]
    expect_equal(do(box, *split, "echo", "hi", check=0).out, "hi\n")
    result = do(box, "--no-such-flag", "true")
    expect(result.code != 0 and "no-such-flag" in result.err, result)


if __name__ == "__main__":
    sys.exit(main())
