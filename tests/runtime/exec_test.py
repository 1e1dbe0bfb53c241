#!/usr/bin/env python3
"""runsc exec: streams, exit codes, users, terminals, process.json, detached processes."""

import fcntl
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

from lib import eventually, expect, expect_equal, gone, main, read_until, receive_fd


def test_streams_and_exit_code(box):
    box.up()
    result = box.call("exec", "c", "sh", "-c", "cat; echo error >&2; exit 9", stdin="input\n")
    expect_equal((result.code, result.out, result.err), (9, "input\n", "error\n"))
    for code in (0, 1, 127, 255):
        expect_equal(box.call("exec", "c", "sh", "-c", f"exit {code}").code, code)
    expect_equal(box.call("exec", "c", "sh", "-c", "kill -TERM $$").code, 143)
    expect_equal(box.call("exec", "c", "sh", "-c", "kill -KILL $$").code, 137)


def test_large_streams(box):
    box.up()
    data = "0123456789abcdef\n" * 100000
    expect_equal(box.call("exec", "c", "cat", stdin=data, check=0).out, data)


def test_is_in_the_container(box):
    box.up("sleep 777")
    expect("sleep 777" in box.call("exec", "c", "ps", check=0).out)
    expect_equal(box.call("exec", "c", "hostname", check=0).out, "box\n")
    expect_equal(box.call("exec", "c", "sh", "-c", "echo $PPID", check=0).out, "0\n")
    box.call("exec", "c", "touch", "/tmp/x", check=0)
    expect_equal(box.call("exec", "c", "ls", "/tmp", check=0).out, "x\n")


def test_missing_and_broken_programs(box):
    box.up()
    for program, code, text in (("nope", 127, "executable file not found"),
                                ("/nope", 127, "no such file or directory"),
                                ("/etc/passwd", 126, "permission denied"),
                                ("/bin", 126, "permission denied")):
        result = box.call("exec", "c", program)
        expect_equal(result.code, code, program, result)
        expect(text in result.err, result)
    with open(os.path.join(box.rootfs, "bin/rubbish"), "wb") as f:
        f.write(b"\x01\x02\x03")
    os.chmod(os.path.join(box.rootfs, "bin/rubbish"), 0o755)
    box.call("delete", "--force", "c", check=0)
    box.up()
    result = box.call("exec", "c", "rubbish")
    expect_equal(result.code, 126, result)
    expect("exec format error" in result.err, result)
    expect_equal(box.status(), "running")
    log = os.path.join(box.folder, "log.json")
    box.call("exec", "c", "nope", flags=("--log", log, "--log-format", "json"))
    with open(log, encoding="utf-8") as f:
        last = json.loads(f.read().splitlines()[-1])
    expect(last["level"] == "error" and "not found" in last["msg"], last)


def test_cwd_env_user(box):
    box.up()
    result = box.call("exec", "--cwd", "/tmp", "--env", "A=b", "-e", "C=d e", "--user", "1000:1000", "c",
                      "sh", "-c", "pwd; echo $A-$C; id; echo $HOME", check=0)
    expect_equal(result.out, "/tmp\nb-d e\nuid=1000(user) gid=1000\n/srv/user\n")
    expect_equal(box.call("exec", "-u", "1000", "-g", "5", "-g", "7", "c", "id", "-G", check=0).out, "0 5 7\n")
    expect_equal(box.call("exec", "c", "sh", "-c", "echo $HOME", check=0).out, "/root\n")
    expect_equal(box.call("exec", "--user=4711", "c", "sh", "-c", "echo $HOME", check=0).out, "/\n")
    expect(box.call("exec", "--cwd", "/none", "c", "true").code != 0)
    expect(box.call("exec", "--user", "joe", "c", "true").code != 0)


def caps(box, *flags):
    text = box.call("exec", *flags, "c", "grep", "Cap", "/proc/self/status", check=0).out
    return {l.split(":")[0]: int(l.split()[1], 16) for l in text.splitlines()}


def test_capabilities(box):
    for name in ("bounding", "effective", "permitted"):
        box.config["process"]["capabilities"][name] = ["CAP_KILL", "CAP_CHOWN"]
    box.up()
    expect_equal(caps(box), {"CapInh": 0, "CapPrm": 0x21, "CapEff": 0x21, "CapBnd": 0x21, "CapAmb": 0})
    more = caps(box, "--cap", "CAP_SYS_ADMIN", "--cap", "net_raw")
    expect_equal(more["CapEff"], 0x21 | 1 << 21 | 1 << 13)
    expect_equal(caps(box, "--user", "1000")["CapEff"], 0)
    expect(box.call("exec", "--cap", "CAP_NONSENSE", "c", "true").code != 0)


def test_process_json(box):
    box.up()
    path = os.path.join(box.folder, "process.json")
    process = {"args": ["sh", "-c", "id -u; pwd; echo $X; ulimit -n; umask; grep NoNewPrivs /proc/self/status"],
               "cwd": "/tmp", "env": ["PATH=/bin", "X=y"], "user": {"uid": 5, "gid": 6, "umask": 0o27},
               "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}], "noNewPrivileges": True}
    with open(path, "w", encoding="utf-8") as f:
        json.dump(process, f)
    expect_equal(box.call("exec", "--process", path, "c", check=0).out,
                 "5\n/tmp\ny\n77\n0027\nNoNewPrivs:\t1\n")
    with open(path, "w", encoding="utf-8") as f:
        f.write('{"args": ["true"],\n"cwd": 5}')
    result = box.call("exec", "-p", path, "c")
    expect(result.code != 0 and "line 2" in result.err and "cwd" in result.err, result)


def test_detached(box):
    box.up()
    pid_file, inner = (os.path.join(box.folder, n) for n in ("pid", "inner"))
    subprocess.run(box.command("exec", "--detach", "--pid-file", pid_file, "--internal-pid-file", inner, "c", "sh", "-c",
                               "while [ ! -e /tmp/end ]; do sleep 0.02; done; exit 3"),
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, timeout=60)
    with open(pid_file, encoding="ascii") as f:
        pid = int(f.read())
    with open(inner, encoding="ascii") as f:
        inner_pid = int(f.read())
    expect(not gone([pid]))
    expect_equal(box.call("exec", "c", "kill", "-0", str(inner_pid)).code, 0)
    waiter = box.start_waiting("wait", "--pid", str(inner_pid), "c")
    box.call("exec", "c", "touch", "/tmp/end", check=0)
    out, _ = waiter.communicate(timeout=60)
    expect_equal(json.loads(out)["exitStatus"], 3)
    eventually(lambda: gone([pid]), "the process that stands for it")
    expect(str(inner_pid) not in box.call("ps", "c").out.split(), "it was reaped")


def test_signals_go_on(box):
    box.up()
    child = box.start("exec", "c", "sh", "-c", "trap 'echo got; exit 4' TERM; echo up; while :; do sleep 0.02; done",
                      universal_newlines=True)
    expect_equal(child.stdout.readline(), "up\n")
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=60)
    expect_equal((child.returncode, out), (4, "got\n"), err)
    child = box.start("exec", "c", "sh", "-c", "echo up; while :; do sleep 0.02; done", universal_newlines=True)
    expect_equal(child.stdout.readline(), "up\n")
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    expect_equal(child.returncode, 130)


def test_ends_with_the_container(box):
    box.up()
    child = box.start("exec", "c", "sh", "-c", "echo up; sleep 1000", universal_newlines=True)
    expect_equal(child.stdout.readline(), "up\n")
    box.call("kill", "c", "KILL", check=0)
    child.communicate(timeout=60)
    expect(child.returncode in (137, 128, 125), child.returncode)


def test_preserved_descriptors(box):
    box.up()
    read_end, write_end = os.pipe()
    os.write(write_end, b"through a descriptor")
    os.close(write_end)
    # 3 and 4, so that numbers are certain.
    spare = os.open("/dev/null", os.O_RDONLY)

    def place():
        os.dup2(spare, 103)
        os.dup2(read_end, 104)
        os.dup2(103, 3)
        os.dup2(104, 4)

    done = subprocess.run(box.command("exec", "--preserve-fds", "2", "c", "sh", "-c", "cat <&4"),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=place,
                          close_fds=False, check=False, timeout=60)
    expect_equal((done.returncode, done.stdout), (0, b"through a descriptor"))


class Terminal:
    """A console socket and the terminal that comes over it."""

    def __init__(self, box):
        self.path = os.path.join(box.folder, "console.sock")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.listener.settimeout(60)
        self.fd = -1

    def take(self):
        connection, _ = self.listener.accept()
        self.fd, _ = receive_fd(connection)
        connection.close()
        os.set_blocking(self.fd, False)
        return self.fd

    def resize(self, rows, cols):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def close(self):
        os.close(self.fd)


def check_terminal(terminal):
    """A shell at the terminal: job control, sizes, names, interrupts, hang-up."""
    fd = terminal.fd
    os.write(fd, b"tty; stty size; echo first=$?\n")
    expect("/dev/pts/" in read_until(fd, "first=0"))
    terminal.resize(33, 77)
    os.write(fd, b"stty size; echo second=$?\n")
    expect("33 77" in read_until(fd, "second=0"))
    os.write(fd, b"test -t 0 && echo x > /dev/tty; echo y > $(tty); echo third=$?\n")
    text = read_until(fd, "third=0")
    expect("x\r\n" in text and "y\r\n" in text, text)
    os.write(fd, b"echo waiting; sleep 1000\n")
    read_until(fd, "waiting\r\n")
    # The shell has to have given the terminal to its child.
    end = time.monotonic() + 20
    while True:
        os.write(fd, b"\x03")
        try:
            read_until(fd, "^C", 1)
            os.write(fd, b"echo code=$?\n")
            read_until(fd, "code=130", 1)
            break
        except AssertionError:
            if time.monotonic() > end:
                raise
    os.write(fd, b"sh -c \"trap 'echo win; exit' WINCH; echo set; while :; do sleep 0.05; done\"\n")
    read_until(fd, "set\r\n")
    terminal.resize(44, 88)
    read_until(fd, "win\r\n")


def test_terminal_of_exec(box):
    box.up()
    terminal = Terminal(box)
    pid_file = os.path.join(box.folder, "pid")
    box.call("exec", "--tty", "--detach", "--console-socket", terminal.path, "--pid-file", pid_file,
             "c", "sh", check=0)
    terminal.take()
    check_terminal(terminal)
    os.write(terminal.fd, b"exit\n")
    with open(pid_file, encoding="ascii") as f:
        pid = int(f.read())
    eventually(lambda: gone([pid]))
    terminal.close()
    expect_equal(box.call("exec", "c", "ls", "/dev/pts", check=0).out, "ptmx\n")


def test_terminal_of_a_container(box):
    terminal = Terminal(box)
    box.config["process"]["terminal"] = True
    box.config["process"]["consoleSize"] = {"height": 21, "width": 43}
    box.config["process"]["args"] = ["/bin/sh"]
    box.write_config()
    box.call("create", "--bundle", box.bundle, "--console-socket", terminal.path, "c", check=0)
    terminal.take()
    box.call("start", "c", check=0)
    os.write(terminal.fd, b"stty size; echo size=$?\n")
    expect("21 43" in read_until(terminal.fd, "size=0"))
    check_terminal(terminal)
    expect_equal(box.call("exec", "c", "ls", "/dev/pts", check=0).out.split(), ["0", "ptmx"])
    os.write(terminal.fd, b"echo to the console > /dev/console; echo fourth=$?\n")
    expect("to the console\r\n" in read_until(terminal.fd, "fourth=0"))
    terminal.close()
    eventually(lambda: box.status() == "stopped", "a hang-up ends the shell")


def test_terminal_needs_a_socket(box):
    box.up()
    result = box.call("exec", "--tty", "--detach", "c", "sh")
    expect(result.code != 0 and "console-socket" in result.err, result)
    box.call("delete", "--force", "c", check=0)
    box.config["process"]["terminal"] = True
    box.write_config()
    result = box.call("create", "--bundle", box.bundle, "c")
    expect(result.code != 0 and "console-socket" in result.err, result)


def test_own_terminal_is_passed_through(box):
    box.up()
    pid, fd = pty.fork()
    if pid == 0:
        command = box.command("exec", "--tty", "c", "sh", "-c", "tty; test -t 1; echo code=$?; cat")
        os.execv(command[0], command)
    text = read_until(fd, "code=0")
    expect("/dev/pts/" in text, text)
    os.write(fd, b"\x04")
    _, status = os.waitpid(pid, 0)
    expect_equal(os.WEXITSTATUS(status), 0)
    os.close(fd)


def test_many_at_once(box):
    box.up()
    children = [box.start("exec", "c", "sh", "-c", f"echo {i}; exit {i}", universal_newlines=True) for i in range(20)]
    for i, child in enumerate(children):
        out, err = child.communicate(timeout=60)
        expect_equal((child.returncode, out), (i, f"{i}\n"), err)


if __name__ == "__main__":
    sys.exit(main())
