#!/usr/bin/env python3
"""The life of a container: create, start, state, kill, delete, pause, hooks, races."""

import json
import os
import shlex
import subprocess
import sys
import threading

from lib import Skip, descendants, eventually, expect, expect_equal, gone, main


def test_run_returns_the_programs_exit_code(box):
    for code in (0, 1, 42, 255):
        expect_equal(box.run(f"exit {code}").code, code)
    expect_equal(box.run("kill -9 $$; sleep 1; exit 3").code, 3, "init does not kill itself")
    expect_equal(box.run("sh -c 'kill -9 $$'; exit $?").code, 137)
    expect(not os.listdir(box.root), "run leaves nothing")


def test_create_start_kill_delete(box):
    box.shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done")
    box.write_config()
    pid_file = os.path.join(box.folder, "pid")
    with open(os.path.join(box.folder, "out"), "wb") as out:
        done = subprocess.run(box.command("create", "--bundle", box.bundle, "--pid-file", pid_file, "c"),
                              stdout=out, stderr=out, stdin=subprocess.DEVNULL, check=False)
    expect_equal(done.returncode, 0, box.output())
    state = box.state()
    expect_equal(state["status"], "created")
    expect_equal(state["id"], "c")
    expect_equal(state["bundle"], box.bundle)
    expect_equal(state["ociVersion"], "1.2.0")
    with open(pid_file, encoding="ascii") as f:
        expect_equal(int(f.read()), state["pid"])
    expect_equal(box.output(), "", "nothing runs before start")
    box.call("start", "c", check=0)
    eventually(lambda: "up" in box.output(), "the program's output")
    expect_equal(box.status(), "running")
    expect(box.call("start", "c").code != 0, "start refuses a second time")
    expect(box.call("delete", "c").code != 0, "delete refuses what runs")
    box.call("kill", "c", "TERM", check=0)
    eventually(lambda: box.status() == "stopped", "stopped")
    expect_equal(box.state()["pid"], 0)
    expect(box.call("kill", "c", "TERM").code != 0, "kill refuses what is stopped")
    expect(box.call("exec", "c", "true").code != 0, "exec refuses what is stopped")
    expect_equal(json.loads(box.call("list", "--format=json", check=0).out)[0]["id"], "c")
    box.call("delete", "c", check=0)
    expect(box.call("state", "c").code != 0)
    expect(not os.listdir(box.root))


def test_kill_of_a_created_container(box):
    box.shell("echo ran")
    box.write_config()
    with open(os.path.join(box.folder, "out"), "wb") as out:
        subprocess.run(box.command("create", "--bundle", box.bundle, "c"), stdin=subprocess.DEVNULL, stdout=out,
                       stderr=out, check=True, timeout=60)
    pids = descendants(box.state()["pid"])
    box.call("kill", "c", "KILL", check=0)
    eventually(lambda: box.status() == "stopped", "stopped")
    expect_equal(box.output(), "", "nothing has run")
    expect(box.call("start", "c").code != 0, "start refuses what is stopped")
    box.call("delete", "c", check=0)
    expect(gone(pids) and not os.listdir(box.root))


def test_delete_of_a_created_container(box):
    with open(os.path.join(box.folder, "out"), "wb") as out:
        subprocess.run(box.command("create", "--bundle", box.bundle, "c"), stdin=subprocess.DEVNULL, stdout=out,
                       stderr=out, check=True, timeout=60)
    pids = descendants(box.state()["pid"])
    box.call("delete", "c", check=0)
    expect(gone(pids) and not os.listdir(box.root))


def test_names_are_checked_and_unique(box):
    box.up()
    result = box.call("run", "--bundle", box.bundle, "c")
    expect(result.code != 0 and "already" in result.err, result)
    expect_equal(box.status(), "running", "the first one lives on")
    for bad in ("a/b", "..", "", "a b", "x" * 256):
        expect(box.call("create", "--bundle", box.bundle, bad).code != 0, bad)


def test_list_shows_all(box):
    box.up(name="one")
    box.up(name="two")
    table = box.call("list", check=0).out
    expect("one" in table and "two" in table and "running" in table, table)
    expect_equal(box.call("list", "-q", check=0).out.split(), ["one", "two"])
    rows = json.loads(box.call("list", "-format", "json", check=0).out)
    expect_equal([r["status"] for r in rows], ["running", "running"])


def test_kill_by_name_number_and_pid(box):
    box.up("trap 'echo usr1' USR1; trap 'echo usr2' USR2; sleep 1000 & echo $! > /tmp/pid; "
           "while :; do wait; sleep 0.05; done")
    # Not before it has its traps: without them it ignores both, as the first of its namespace.
    eventually(lambda: box.call("exec", "c", "test", "-s", "/tmp/pid").code == 0)
    box.call("kill", "c", "SIGUSR1", check=0)
    eventually(lambda: "usr1" in box.output())
    box.call("kill", "c", "12", check=0)
    eventually(lambda: "usr2" in box.output())
    expect(box.call("kill", "c", "NOSUCH").code != 0)
    pid = box.call("exec", "c", "cat", "/tmp/pid", check=0).out.strip()
    box.call("kill", "--pid", pid, "c", "KILL", check=0)
    eventually(lambda: box.call("exec", "c", "kill", "-0", pid).code != 0)
    expect(box.call("kill", "--pid", "9999", "c", "KILL").code != 0)


def test_kill_all_reaches_every_process(box):
    box.up("trap : TERM; sh -c 'trap \"echo child; exit\" TERM; echo ready; while :; do sleep 0.02; done' & "
           "while :; do sleep 1; done")
    eventually(lambda: "ready" in box.output(), "the child has its trap")
    eventually(lambda: box.call("kill", "--all", "c", "TERM", check=0) and "child" in box.output())
    box.call("kill", "--all", "c", "KILL", check=0)
    eventually(lambda: box.status() == "stopped")


def test_killed_init_takes_all_with_it(box):
    box.up("sleep 1000 & sleep 1000 & sleep 1000")
    sentry = box.state()["pid"]
    pids = eventually(lambda: descendants(sentry) if len(descendants(sentry)) > 4 else None)
    box.call("kill", "c", "KILL", check=0)
    eventually(lambda: gone(pids), "all processes of the sandbox gone")


def test_pause_and_resume(box):
    box.up("i=0; while :; do i=$((i+1)); echo tick; sleep 0.02; done")
    eventually(lambda: "tick" in box.output())
    box.call("pause", "c", check=0)
    expect_equal(box.status(), "paused")
    before = box.output()
    for _ in range(10):
        box.call("state", "c", check=0)
    expect_equal(box.output(), before, "a paused container prints nothing")
    expect(box.call("pause", "c").code != 0)
    expect(box.call("exec", "c", "true").code != 0, "exec refuses a paused container")
    box.call("resume", "c", check=0)
    expect_equal(box.status(), "running")
    eventually(lambda: len(box.output()) > len(before))
    expect(box.call("resume", "c").code != 0)
    box.call("pause", "c", check=0)
    box.call("kill", "c", "KILL", check=0)
    eventually(lambda: box.status() == "stopped", "SIGKILL ends a paused container")


def test_pause_stops_computing(box):
    box.up("while :; do :; done & while :; do :; done")
    box.call("pause", "c", check=0)

    def cpu():
        return json.loads(box.call("events", "--stats", "c", check=0).out)["data"]["cpu"]["usage"]["total"]

    first = cpu()
    for _ in range(20):
        box.call("state", "c", check=0)
    # The tasks' last way out of guest code may still be counted.
    expect(cpu() - first < 20_000_000, "CPU time stands still", cpu(), first)


def test_delete_force(box):
    box.up("sleep 1000 & sleep 1000")
    pids = descendants(box.state()["pid"])
    box.call("delete", "--force", "c", check=0)
    expect(gone(pids), "delete --force waits for the end")
    expect(not os.listdir(box.root))
    box.call("delete", "--force", "c", check=0)
    expect(box.call("delete", "c").code != 0)


def test_races_of_delete(box):
    """Many deletions of one container at once: one does it, none hangs or breaks."""
    for _ in range(3):
        box.up()
        codes = []
        threads = [threading.Thread(target=lambda: codes.append(
            box.call("delete", "--force", "c").code)) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        expect_equal(codes, [0] * 6)
        expect(not os.listdir(box.root), os.listdir(box.root))


def test_race_of_create_and_delete(box):
    box.write_config()
    for _ in range(5):
        creator = box.start("create", "--bundle", box.bundle, "r", stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)
        for _ in range(5):
            box.call("delete", "--force", "r", check=0)
        creator.wait()
        box.call("delete", "--force", "r", check=0)
        expect(not os.listdir(box.root), os.listdir(box.root))


def test_wait(box):
    box.up("while [ ! -e /tmp/end ]; do sleep 0.02; done; exit 5")
    waiter = box.start_waiting("wait", "c")
    box.call("exec", "c", "touch", "/tmp/end", check=0)
    out, err = waiter.communicate(timeout=60)
    expect_equal(waiter.returncode, 0, err)
    expect_equal(json.loads(out), {"id": "c", "exitStatus": 5})


def test_events_and_ps(box):
    box.up("sleep 1000 & sleep 1000")
    eventually(lambda: box.call("ps", "c").out.count("sleep") >= 2)
    expect(json.loads(box.call("usage", "c", check=0).out)["Total"] > 4096)
    event = json.loads(box.call("events", "--stats", "c", check=0).out)
    expect_equal((event["type"], event["id"]), ("stats", "c"))
    expect(event["data"]["memory"]["usage"]["usage"] > 0, event)
    expect(event["data"]["pids"]["current"] >= 2, event)
    expect(event["data"]["cpu"]["usage"]["total"] > 0, event)
    pids = json.loads(box.call("ps", "--format", "json", "c", check=0).out)
    sentry = descendants(box.state()["pid"])
    expect(len(pids) >= 2 and set(pids) <= sentry, pids, sentry)
    table = box.call("ps", "c", check=0).out.splitlines()
    expect_equal(table[0].split()[:3], ["UID", "PID", "PPID"])


def test_debug(box):
    box.up("sleep 1000")
    eventually(lambda: "clock_nanosleep" in box.call("debug", "--stacks", "c", check=0).out or
               "nanosleep" in box.call("debug", "--stacks", "c", check=0).out)
    expect("sleep" in box.call("debug", "--ps", "c", check=0).out)
    expect("syscall" in box.call("debug", "--stats", "c", check=0).out)
    box.call("debug", "--strace=on", "c", check=0)
    box.call("debug", "--strace=off", "c", check=0)
    box.call("debug", "--strace=openat,read", "--log-level=debug", "c", check=0)
    expect(box.call("debug", "c").code != 0)


def hook(box, name, script):
    path = os.path.join(box.folder, name)
    with open(path, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\n" + script)
    os.chmod(path, 0o755)
    return {"path": path, "args": [name, "argument"], "env": ["A=b"]}


def test_hooks_run_in_order_with_the_state(box):
    log = os.path.join(box.folder, "log")
    stages = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    box.config["hooks"] = {
        s: [hook(box, s, f'read state; echo "{s} $1 $A $state" >> {log}\n')] for s in stages}
    box.config["hooks"]["startContainer"] = [
        {"path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/state; echo $A >> /tmp/state"], "env": ["PATH=/bin", "A=b"]}]
    box.shell("cat /tmp/state")
    box.write_config()
    with open(os.path.join(box.folder, "out"), "wb") as out:
        subprocess.run(box.command("create", "--bundle", box.bundle, "c"), stdin=subprocess.DEVNULL,
                       stdout=out, stderr=out, check=False)

    def lines():
        with open(log, encoding="utf-8") as f:
            return [l.split(" ", 3) for l in f.read().splitlines()]

    expect_equal([l[0] for l in lines()], ["prestart", "createRuntime", "createContainer"], box.output())
    for line in lines():
        expect_equal(line[1:3], ["argument", "b"])
        state = json.loads(line[3])
        expect_equal((state["id"], state["status"]), ("c", "creating"), line[0])
        expect(state["pid"] > 0)
    box.call("start", "c", check=0)
    eventually(lambda: box.status() == "stopped")
    expect_equal(lines()[-1][0], "poststart")
    inside = box.output()
    expect('"status":"created"' in inside.replace(" ", "") and inside.endswith("b\n"), inside)
    box.call("delete", "c", check=0)
    expect_equal(lines()[-1][0], "poststop")
    expect_equal(json.loads(lines()[-1][3])["status"], "stopped")


def test_hook_may_ask_for_the_state(box):
    out = os.path.join(box.folder, "asked")
    line = " ".join(box.command("state", "c"))
    box.config["hooks"] = {"createRuntime": [hook(box, "ask", f"{line} > {out}; {box.runsc} --root {box.root} list >> {out}\n")]}
    expect_equal(box.run("true").code, 0)
    with open(out, encoding="utf-8") as f:
        expect("created" in f.read())


def test_failing_hook_ends_the_creation(box):
    ran = os.path.join(box.folder, "ran")
    box.config["hooks"] = {"createRuntime": [hook(box, "bad", "echo broken; exit 3\n")],
                           "poststop": [hook(box, "stop", f"touch {ran}\n")]}
    result = box.run("true")
    expect(result.code != 0 and "createRuntime" in result.err and "broken" in result.err, result)
    expect(os.path.exists(ran), "poststop hooks run")
    expect(not os.listdir(box.root))
    box.config["hooks"] = {"prestart": [dict(hook(box, "slow", "sleep 100\n"), timeout=1)]}
    result = box.run("true")
    expect(result.code != 0 and "longer" in result.err, result)
    box.config["hooks"] = {"startContainer": [{"path": "/bin/false"}]}
    result = box.run("true")
    expect(result.code != 0 and "startContainer" in result.err, result)


def test_cgroup_is_made_and_removed(box):
    base = "/sys/fs/cgroup"
    pids = os.path.join(base, "pids") if os.path.isdir(os.path.join(base, "pids")) else base
    if os.geteuid() != 0 or not os.access(pids, os.W_OK):
        raise Skip("no cgroup that could be written")
    probe = os.path.join(pids, f"ringwall-probe-{os.getpid()}")
    try:
        os.mkdir(probe)
        os.rmdir(probe)
    except OSError as why:
        raise Skip(f"no cgroup can be made: {why}") from why
    name = f"ringwall-test-{os.getpid()}"
    box.config["linux"]["cgroupsPath"] = f"/{name}/inner"
    box.config["linux"]["resources"] = {"memory": {"limit": 200 << 20}}
    box.shell("sleep 1000")
    box.write_config()
    command = [c for c in box.command("run", "--detach", "--bundle", box.bundle, "c") if c != "--ignore-cgroups"]
    with open(os.path.join(box.folder, "out"), "wb") as errors:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=errors, check=False, timeout=60)
    if done.returncode != 0 and "memory" in box.output():
        raise Skip("no memory cgroup here")
    expect_equal(done.returncode, 0, box.output())
    v1 = os.path.isdir(os.path.join(base, "memory"))
    folder = os.path.join(base, "memory" if v1 else "", name, "inner")
    limit = os.path.join(folder, "memory.limit_in_bytes" if v1 else "memory.max")
    with open(limit, encoding="ascii") as f:
        expect_equal(int(f.read()), 200 << 20)
    groups = [os.path.join(base, c, name, "inner") for c in os.listdir(base)] if v1 else [folder]
    for group in filter(os.path.isdir, groups):
        with open(os.path.join(group, "cgroup.procs"), encoding="ascii") as f:
            inside = f.read().split()
        # The Sentry, and with it all it has started: the gofer, the stubs.
        expect(str(box.state()["pid"]) in inside and len(inside) > 3, group, inside)
    box.call("update", "--memory", "100m", "c", check=0)
    with open(limit, encoding="ascii") as f:
        expect_equal(int(f.read()), 100 << 20)
    box.call("delete", "--force", "c", check=0)
    expect(not os.path.exists(folder), folder)
    for controller in os.listdir(base):
        top = os.path.join(base, controller, name)
        if os.path.isdir(top):
            os.rmdir(top)
    if os.path.isdir(os.path.join(base, name)):
        os.rmdir(os.path.join(base, name))


def test_cgroup_of_version_2(box):
    """In a mount namespace where that is what the host has, whatever the machine has."""
    enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c"]
    mount = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && mkdir /sys/fs/cgroup/$0 && rmdir /sys/fs/cgroup/$0"
    name = f"ringwall-test-{os.getpid()}"
    if subprocess.run(enter + [mount, name], capture_output=True, check=False).returncode != 0:
        raise Skip("no cgroup of version 2 can be made")
    box.config["linux"]["cgroupsPath"] = f"/{name}/inner"
    box.shell("sleep 1000")
    box.write_config()
    runsc = shlex.join(c for c in box.command() if c != "--ignore-cgroups")
    script = f"""{mount}
        {runsc} run --detach --bundle {box.bundle} c </dev/null >/dev/null || exit
        cat /sys/fs/cgroup/{name}/inner/cgroup.procs
        {runsc} delete --force c
        test ! -d /sys/fs/cgroup/{name}/inner && rmdir /sys/fs/cgroup/{name} && echo gone"""
    done = subprocess.run(enter + [script, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                          universal_newlines=True, timeout=60)
    lines = done.stdout.split()
    expect(lines[-1:] == ["gone"] and len(lines) > 4 and all(l.isdigit() for l in lines[:-1]), done.stdout)


def test_the_sentry_has_one_malloc_arena(box):
    """Others lie at a multiple of 64 MiB and end at the next, and grow by a host call for each page."""
    box.up("for i in 1 2 3; do (find /bin >/dev/null) & done; wait; echo up; sleep 1000")
    eventually(lambda: "up" in box.output(), "the program's output")
    heap = 64 << 20
    with open(f"/proc/{box.state()['pid']}/maps", encoding="utf-8", errors="replace") as f:
        fields = [line.split() for line in f]
    maps = [(*(int(at, 16) for at in m[0].split("-")), m[1]) for m in fields if len(m) == 5]
    arenas = [a for a, b in zip(maps, maps[1:])
              if a[2] == "rw-p" and a[0] % heap == 0 and b[2] == "---p" and a[1] == b[0] and b[1] == a[0] + heap]
    expect_equal(arenas, [])
    box.call("delete", "--force", "c", check=0)


if __name__ == "__main__":
    sys.exit(main())
