#!/usr/bin/env python3
"""What config.json says and a container then has: root, mounts, paths, devices, limits, names."""

import os
import stat
import subprocess
import sys

from lib import eventually, expect, expect_equal, main


def status_fields(text):
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_identity(box):
    box.config["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o77}
    box.config["process"]["cwd"] = "/tmp"
    box.config["process"]["env"] += ["A=b c"]
    box.config["domainname"] = "example.org"
    out = box.out("id -u; id -g; id -G; umask; pwd; echo $A; echo $HOME; hostname; cat /proc/sys/kernel/domainname; echo $$")
    expect_equal(out, "1000\n1001\n1001 5 6\n0077\n/tmp\nb c\n/srv/user\nbox\nexample.org\n1\n")


def test_all_five_capability_sets(box):
    box.config["process"]["capabilities"] = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_CHOWN", "CAP_SETUID"],
        "ambient": ["CAP_SETUID"],
    }
    box.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    got = status_fields(box.out("cat /proc/self/status"))
    # What execve makes of them for a user that is not root: the ambient ones.
    expect_equal(int(got["CapBnd"], 16), 1 << 5 | 1 | 1 << 7 | 1 << 13)
    expect_equal(int(got["CapInh"], 16), 1 | 1 << 7)
    expect_equal(int(got["CapAmb"], 16), 1 << 7)
    expect_equal(int(got["CapPrm"], 16), 1 << 7)
    expect_equal(int(got["CapEff"], 16), 1 << 7)


def test_rlimits_and_no_new_privs(box):
    box.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 111},
                                        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
                                        {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": 2 << 20}]
    box.config["process"]["noNewPrivileges"] = True
    box.config["process"]["oomScoreAdj"] = 300
    out = box.out("ulimit -Sn; ulimit -Hn; ulimit -Ss; ulimit -Hs; grep NoNewPrivs /proc/self/status; cat /proc/self/oom_score_adj")
    expect_equal(out, "99\n111\n1024\n2048\nNoNewPrivs:\t1\n300\n")


def test_read_only_root_with_mounts_in_it(box):
    """Mount points that are not there are made before the root becomes read-only."""
    box.config["root"]["readonly"] = True
    box.config["mounts"] += [{"destination": "/new/deep/tmp", "type": "tmpfs", "source": "tmpfs"},
                             {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}]
    out = box.out("touch /x 2>/dev/null || echo root is ro; touch /new/deep/tmp/x && echo tmpfs is rw; "
                  "touch /new/deep/x 2>/dev/null || echo below is ro; touch /run/x 2>/dev/null || echo run is ro; "
                  "grep -w / /proc/mounts | head -1 | grep -wo ro")
    expect_equal(out, "root is ro\ntmpfs is rw\nbelow is ro\nrun is ro\nro\n")
    expect(not os.path.exists(os.path.join(box.rootfs, "new")), "the host's tree is as it was")
    result = box.run("true", flags=("--overlay2=none",))
    expect(result.code != 0 and "/new/deep/tmp" in result.err, result)
    os.makedirs(os.path.join(box.rootfs, "new/deep/tmp"))
    os.makedirs(os.path.join(box.rootfs, "run"))
    expect_equal(box.run("touch /new/deep/tmp/x && echo fine", flags=("--overlay2=none",)).out, "fine\n")


def test_overlay_modes(box):
    marker = os.path.join(box.rootfs, "marker")
    for mode in ("root:memory", "root:self", f"root:dir={box.folder}", "all:memory", "root:memory,size=1m"):
        result = box.run("echo x > /marker && cat /marker", flags=("--overlay2=" + mode,))
        expect_equal((result.code, result.out), (0, "x\n"), mode, result)
        expect(not os.path.exists(marker), mode)
    expect_equal(box.run("echo y > /marker; rm /etc/passwd", flags=("--overlay2=none",)).code, 0)
    with open(marker, encoding="ascii") as f:
        expect_equal(f.read(), "y\n")
    expect(not os.path.exists(os.path.join(box.rootfs, "etc/passwd")))
    result = box.run("dd if=/dev/zero of=/big bs=64k count=100", flags=("--overlay2=root:memory,size=1m",))
    expect(result.code != 0 and "No space left" in result.err, result)
    for bad in ("root", "self", "root:tape", "root:memory,size=x"):
        expect(box.run("true", flags=("--overlay2=" + bad,)).code != 0, bad)
    left = [n for n in os.listdir(box.rootfs) + os.listdir(box.folder) if "upper" in n]
    expect(not left, left)


def test_bind_mounts(box):
    shared = os.path.join(box.folder, "shared")
    os.makedirs(os.path.join(shared, "sub"))
    single = os.path.join(box.folder, "single")
    for path in (os.path.join(shared, "file"), single):
        with open(path, "w", encoding="ascii") as f:
            f.write("host\n")
    box.config["mounts"] += [
        {"destination": "/rw", "source": shared, "type": "bind", "options": ["rbind", "rw"]},
        {"destination": "/ro", "source": shared, "options": ["bind", "ro"]},
        {"destination": "/etc/single", "source": single, "type": "bind", "options": ["bind", "ro"]},
        {"destination": "/noexec", "source": os.path.join(box.rootfs, "bin"), "type": "bind",
         "options": ["rbind", "noexec", "nosuid", "nodev", "rprivate"]},
    ]
    out = box.out("cat /rw/file /ro/file /etc/single; echo new > /rw/new; cat /ro/new; "
                  "touch /ro/x 2>/dev/null || echo ro; echo x 2>/dev/null > /etc/single || echo ro file; "
                  "/noexec/true 2>/dev/null || echo noexec; mkdir /rw/sub/dir; ls -d /ro/sub/dir; "
                  "grep /noexec /proc/mounts | grep -o nosuid,nodev,noexec")
    expect_equal(out, "host\nhost\nhost\nnew\nro\nro file\nnoexec\n/ro/sub/dir\nnosuid,nodev,noexec\n")
    with open(os.path.join(shared, "new"), encoding="ascii") as f:
        expect_equal(f.read(), "new\n")
    box.config["mounts"][-1]["source"] = "/no/such/dir"
    result = box.run("true")
    expect(result.code != 0 and "/no/such/dir" in result.err and "/noexec" in result.err, result)


def test_relative_bind_source_is_in_the_bundle(box):
    os.mkdir(os.path.join(box.bundle, "data"))
    with open(os.path.join(box.bundle, "data/f"), "w", encoding="ascii") as f:
        f.write("hello")
    box.config["mounts"].append({"destination": "/data", "source": "data", "type": "bind", "options": ["bind"]})
    expect_equal(box.out("cat /data/f"), "hello")


def test_tmpfs_options(box):
    box.config["mounts"].append({"destination": "/t", "type": "tmpfs", "source": "mytmp", "options": [
        "size=128k", "mode=1750", "uid=7", "gid=8", "nosuid", "nodev", "noexec"]})
    out = box.out("stat -c '%a %u %g' /t; dd if=/dev/zero of=/t/x bs=4k count=100 2>&1 | grep -o 'No space'; "
                  "df /t | tail -1 | tr -s ' ' | head -c 10; echo; grep ' /t ' /proc/mounts")
    lines = out.splitlines()
    expect_equal(lines[:3], ["1750 7 8", "No space", "mytmp 128 "], out)
    expect("nosuid,nodev,noexec" in lines[3] and "size=128k" in lines[3], out)
    box.config["mounts"][-1]["options"] = ["size=rubbish"]
    result = box.run("true")
    expect(result.code != 0 and "/t" in result.err, result)


def test_propagation_is_shown(box):
    box.config["mounts"] += [{"destination": "/s", "type": "tmpfs", "source": "t", "options": ["shared"]},
                             {"destination": "/u", "type": "tmpfs", "source": "t", "options": ["unbindable"]}]
    out = box.out("grep ' /s ' /proc/self/mountinfo; grep ' /u ' /proc/self/mountinfo")
    expect("shared:" in out.splitlines()[0] and "unbindable" in out.splitlines()[1], out)
    box.config["linux"]["rootfsPropagation"] = "sideways"
    result = box.run("true")
    expect(result.code != 0 and "rootfsPropagation" in result.err, result)


def test_masked_and_read_only_paths(box):
    with open(os.path.join(box.rootfs, "etc/secret"), "w", encoding="ascii") as f:
        f.write("secret\n")
    box.config["linux"]["maskedPaths"] = ["/etc/secret", "/srv", "/no/such", "/proc/kcore", "/proc/meminfo"]
    box.config["linux"]["readonlyPaths"] = ["/tmp", "/proc/sys", "/no/such/either", "/etc/passwd"]
    out = box.out("cat /etc/secret; ls /srv; cat /proc/meminfo; touch /srv/x 2>/dev/null || echo masked; "
                  "touch /tmp/x 2>/dev/null || echo ro; echo x 2>/dev/null >> /etc/passwd || echo ro file; "
                  "echo n 2>/dev/null > /proc/sys/kernel/hostname || echo ro sys; touch /etc/new && echo rw")
    expect_equal(out, "masked\nro\nro file\nro sys\nrw\n")


def test_devices(box):
    box.config["linux"]["devices"] = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/sub/fifo", "type": "p"},
        {"path": "/dev/block", "type": "b", "major": 8, "minor": 17},
        {"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}]
    out = box.out("stat -c '%F %a %u %g %t:%T' /dev/mine /dev/sub/fifo /dev/block; cat /dev/mine; echo x > /dev/null; "
                  "cat /dev/block 2>/dev/null || echo no driver; ls /dev | tr '\\n' ' '")
    lines = out.splitlines()
    expect_equal(lines[:4], ["character special file 640 3 4 1:3", "fifo 666 0 0 0:0",
                             "block special file 666 0 0 8:11", "no driver"], out)
    for name in ("full", "null", "ptmx", "random", "shm", "stdin", "tty", "urandom", "zero", "fd"):
        expect(name in lines[4].split(), name, out)


def test_standard_devices_work(box):
    out = box.out("head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; echo x 2>/dev/null > /dev/full || echo full; "
                  "cat /dev/null; echo out > /dev/stdout; { echo err > /dev/stderr; } 2>&1 | cat; readlink /dev/fd")
    expect_equal(out.replace(" ", ""), "3\n5\nfull\nout\nerr\n/proc/self/fd\n")


def test_what_has_no_effect_is_said(box):
    box.config["linux"]["sysctl"] = {"net.no.such": "1"}
    box.config["process"]["apparmorProfile"] = "docker-default"
    box.config["linux"]["intelRdt"] = {"closID": "x"}
    box.config["bogusField"] = 1
    box.config["process"]["execCPUAffinity"] = {"initial": "0"}
    box.config["linux"]["personality"] = {"domain": "LINUX32"}
    log = os.path.join(box.folder, "log")
    expect_equal(box.run("true", flags=("--log", log)).code, 0)
    with open(log, encoding="utf-8") as f:
        text = f.read()
    for name in ("net.no.such", "apparmorProfile", "intelRdt", "bogusField", "execCPUAffinity", "personality"):
        expect(name in text, name, text)


def test_overlay_lies_on_disk(box):
    upper = os.path.join(box.folder, "upper")
    os.mkdir(upper)
    mode = f"--overlay2=root:dir={upper},size=8m"
    box.up("dd if=/dev/zero of=/big bs=1M count=4 2>/dev/null; echo made; sleep 1000", flags=(mode,))
    eventually(lambda: "made" in box.output())
    sentry = box.state()["pid"]
    held = [os.stat(f"/proc/{sentry}/fd/{fd}") for fd in os.listdir(f"/proc/{sentry}/fd")]
    expect(any(s.st_dev == os.stat(upper).st_dev and s.st_size == 4 << 20 and s.st_nlink == 0 for s in held), held)
    script = "dd if=/dev/zero of=/more bs=1M count=8 2>&1 | grep -o 'No space'; cat /big | wc -c; rm /more; echo x >> /big; cat /big | wc -c"
    expect_equal(box.call("exec", "c", "sh", "-c", script, check=0).out.split(), ["No", "space", "4194304", "4194306"])
    expect_equal(os.listdir(upper), [], "nothing there has a name")
    box.call("delete", "--force", "c", check=0)
    expect_equal(sorted(os.listdir(box.rootfs)), sorted(set(os.listdir(box.rootfs)) - {"big", "more"}))


def seccomp(*rules, default="SCMP_ACT_ALLOW"):
    return {"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": list(rules)}


def test_seccomp_is_enforced_inside(box):
    box.config["linux"]["seccomp"] = seccomp(
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
        {"names": ["symlink", "symlinkat", "no_such_call"], "action": "SCMP_ACT_KILL_PROCESS"},
        {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 10, "op": "SCMP_CMP_EQ"}]})
    box.config["process"]["capabilities"] = {}
    out = box.out("mkdir /tmp/d 2>&1 | grep -o 'Permission denied'; busybox ln -s a /tmp/b; echo code=$?; touch /tmp/f && echo made; "
                  "kill -USR1 $$ 2>/dev/null || echo refused; kill -0 $$ && echo allowed; grep Seccomp: /proc/self/status")
    expect_equal(out, "Permission denied\ncode=159\nmade\nrefused\nallowed\nSeccomp:\t2\n")
    for privs in (False, True):
        box.config["process"]["noNewPrivileges"] = privs
        box.up(name="x")
        result = box.call("exec", "x", "mkdir", "/tmp/d")
        expect(result.code == 1 and "Permission denied" in result.err, result)
        box.call("delete", "--force", "x", check=0)


def test_sysctls_are_set(box):
    box.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "net.core.somaxconn": "77", "kernel.msgmax": "4096",
                                     "fs.mqueue.msg_max": "20", "kernel.domainname": "example.org"}
    box.config["linux"]["readonlyPaths"] = ["/proc/sys"]
    box.config["process"]["capabilities"] = {}
    out = box.out("cd /proc/sys; cat net/ipv4/ip_forward net/core/somaxconn kernel/msgmax fs/mqueue/msg_max kernel/domainname; "
                  "echo 0 2>/dev/null > net/ipv4/ip_forward || echo ro")
    expect_equal(out, "1\n77\n4096\n20\nexample.org\nro\n")
    for key, value in (("kernel.msgmax", "many"), ("kernel.ostype", "Other")):
        box.config["linux"]["sysctl"] = {key: value}
        result = box.run("true")
        expect(result.code == 125 and "linux.sysctl" in result.err and key in result.err, result)


def test_namespaces_by_path(box):
    def with_path(kind, path):
        box.config["linux"]["namespaces"] = [{"type": t} for t in ("pid", "ipc", "uts", "mount") if t != kind]
        box.config["linux"]["namespaces"].append({"type": kind, "path": path})

    with_path("ipc", "/proc/self/ns/ipc")
    result = box.run("true")
    expect(result.code == 0 and "linux.namespaces[3].path" in result.err, result)
    with_path("ipc", "/proc/self/ns/pid")
    result = box.run("true")
    expect(result.code == 125 and "is not a ipc namespace" in result.err, result)
    with_path("ipc", "/no/such/file")
    result = box.run("true")
    expect(result.code == 125 and "/no/such/file" in result.err and "linux.namespaces[3].path" in result.err, result)
    del box.config["hostname"]
    with_path("uts", "/proc/self/ns/uts")
    expect_equal(box.out("hostname"), os.uname().nodename + "\n")
    box.config["linux"]["namespaces"] = [{"type": "mount"}]
    result = box.run("hostname")
    expect_equal(result.out, os.uname().nodename + "\n")
    expect("no pid namespace" in result.err and "no ipc namespace" in result.err, result)


def test_mounts_that_cannot_be(box):
    box.config["mounts"].append({"destination": "/x", "type": "cgroup", "source": "cgroup"})
    result = box.run("true")
    expect(result.code == 0 and "/x" in result.err and "cgroup" in result.err, result)
    for mount, words in (({"type": "zfs"}, ("/x", "zfs")),
                         ({"type": "bind", "source": "/tmp", "options": ["bind", "idmap"]}, ("/x", "id-mapped"))):
        box.config["mounts"][-1] = dict(mount, destination="/x")
        result = box.run("true")
        expect(result.code == 125 and all(w in result.err for w in words), result)


def test_memory_and_cpus_are_shown(box):
    box.config["linux"]["resources"] = {"memory": {"limit": 64 << 20}, "cpu": {"quota": 100000, "period": 100000}}
    out = box.out("grep MemTotal /proc/meminfo; nproc; grep -c processor /proc/cpuinfo")
    expect_equal(out.split()[1:], ["65536", "kB", "1", "1"], out)


def test_stdio_of_run(box):
    result = box.run("cat; echo err >&2", stdin="through")
    expect_equal((result.code, result.out, result.err), (0, "through", "err\n"))
    path = os.path.join(box.folder, "file")
    with open(path, "w+", encoding="ascii") as f:
        f.write("before\n")
        f.flush()
        box.shell("echo inside; echo more")
        box.write_config()
        subprocess.run(box.command("run", "--bundle", box.bundle, "c"), stdout=f, stdin=subprocess.DEVNULL, check=True)
        f.seek(0)
        expect_equal(f.read(), "before\ninside\nmore\n")


def test_hostile_root_paths_stay_inside(box):
    """Symlinks of the image lead nowhere outside of it, for mounts and devices too."""
    os.symlink("/etc", os.path.join(box.rootfs, "link"))
    os.symlink("../../../../../../../etc", os.path.join(box.rootfs, "up"))
    outside = os.path.join(box.folder, "outside")
    os.mkdir(outside)
    os.symlink(outside, os.path.join(box.rootfs, "escape"))
    box.config["mounts"] += [{"destination": "/link/m", "type": "tmpfs", "source": "t"},
                             {"destination": "/up/n", "type": "tmpfs", "source": "t"}]
    out = box.out("ls -d /etc/m /etc/n; cat /up/passwd | head -1; ls /escape 2>/dev/null || echo nothing")
    expect_equal(out.splitlines(), ["/etc/m", "/etc/n", "root:x:0:0:root:/root:/bin/sh", "nothing"])
    expect(not os.path.exists("/etc/m") and not os.listdir(outside))


def test_special_host_files_in_the_root(box):
    """A FIFO works inside, a device node of the image is no way to the host's device."""
    os.mkfifo(os.path.join(box.rootfs, "fifo"))
    if os.geteuid() == 0:
        os.mknod(os.path.join(box.rootfs, "mem"), stat.S_IFCHR | 0o666, os.makedev(1, 1))
        os.mknod(os.path.join(box.rootfs, "zero"), stat.S_IFCHR | 0o666, os.makedev(1, 5))
    out = box.out("(echo x > /fifo) & cat /fifo; head -c 1 /mem 2>/dev/null >/tmp/m || echo no mem; echo done")
    expect_equal(out.splitlines()[0], "x", out)
    expect_equal(out.splitlines()[-1], "done", out)


if __name__ == "__main__":
    sys.exit(main())
