#!/usr/bin/env python3
"""Measures native, gVisor (where given) and Ringwall in one run; prints a table, writes JSON and SVG.

Subjects are the lines that build/benchmarks/ringwall_micro prints, and whole programs. A program's
wall time is taken inside, around the program alone; start-up of the sandbox is a subject of its
own. CPU time is user and system of every process of the sandbox (or of the native program), start
to end, read from a cgroup that they run in: cgroup v2's cpu.stat, else v1's cpuacct; without
either, from the usage of reaped children, which the table's head then says.
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import chart  # noqa: E402
import network  # noqa: E402
import programs  # noqa: E402
import servers  # noqa: E402


class Cgroup:
    """A cgroup of our own that counts CPU time and knows its processes; None where there is none."""

    def __init__(self, parent, kind):
        self.path, self.kind = os.path.join(parent, f"ringwall-bench-{os.getpid()}"), kind
        os.mkdir(self.path)

    @staticmethod
    def create():
        with open("/proc/self/mounts", encoding="utf-8") as mounts:
            lines = [line.split() for line in mounts]
        v2 = [m[1] for m in lines if m[2] == "cgroup2"]
        v1 = [m[1] for m in lines if m[2] == "cgroup" and "cpuacct" in m[3].split(",")]
        for parent, kind in [(p, "v2") for p in v2] + [(p, "v1") for p in v1]:
            try:
                group = Cgroup(parent, kind)
                if group.cpu_seconds() is not None:
                    return group
                group.remove()
            except OSError:
                pass
        return None

    def enter(self):
        with open(os.path.join(self.path, "cgroup.procs"), "w", encoding="utf-8") as procs:
            procs.write(str(os.getpid()))

    def cpu_seconds(self):
        try:
            if self.kind == "v1":
                with open(os.path.join(self.path, "cpuacct.usage"), encoding="utf-8") as f:
                    return int(f.read()) / 1e9
            with open(os.path.join(self.path, "cpu.stat"), encoding="utf-8") as f:
                return int(dict(line.split() for line in f)["usage_usec"]) / 1e6
        except (OSError, KeyError):
            return None

    def processes(self):
        pids = []
        for folder, _, files in os.walk(self.path):
            if "cgroup.procs" in files:
                with open(os.path.join(folder, "cgroup.procs"), encoding="utf-8") as procs:
                    pids += [int(p) for p in procs.read().split()]
        return pids

    def end(self, limit=5.0):
        """Kills what is left inside and waits until it is gone. Returns how many were left."""
        left = self.processes()
        until = time.monotonic() + limit
        while self.processes() and time.monotonic() < until:
            for pid in self.processes():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)
        return len(left)

    def remove(self):
        self.end()
        for folder, _, _ in os.walk(self.path, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                pass


class System:
    """One way to run a command: natively, or behind the words that put it into a sandbox."""

    def __init__(self, name, prefix, run_prefix=None):
        self.name, self.prefix, self.run_prefix = name, prefix, run_prefix
        self.results = {}

    def command(self, argv):
        return self.prefix + argv


class Runner:
    def __init__(self, group):
        self.group = group

    def popen(self, argv, cwd, env, out, err):
        def enter():
            os.setsid()
            if self.group:
                self.group.enter()
        return subprocess.Popen(argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out,
                                stderr=err, preexec_fn=enter)

    def run(self, argv, cwd, env=None, limit=300):
        """Returns (status, stdout, stderr, wall seconds, cpu seconds)."""
        before = self.group.cpu_seconds() if self.group else None
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            start = time.monotonic()
            child = self.popen(argv, cwd, env, out, err)
            usage, status, deadline = None, None, start + limit
            while True:
                pid, code, used = os.wait4(child.pid, os.WNOHANG)
                if pid:
                    status, usage = os.waitstatus_to_exitcode(code), used
                    break
                if time.monotonic() > deadline:
                    os.killpg(child.pid, signal.SIGKILL)
                    os.wait4(child.pid, 0)
                    break
                time.sleep(0.0005)
            wall = time.monotonic() - start
            child.returncode = status if status is not None else -9
            cpu = usage.ru_utime + usage.ru_stime if usage else None
            if self.group:
                time.sleep(0.02)  # what ends behind the last process' back
                self.group.end()
                cpu = self.group.cpu_seconds() - before
            out.seek(0)
            err.seek(0)
            return status, out.read().decode(errors="replace"), err.read().decode(
                errors="replace"), wall, cpu


def run_micro(runner, system, binary, names, cwd, note):
    status, out, err, _, _ = runner.run(system.command([binary] + names), cwd, limit=900)
    for line in out.splitlines():
        name, _, value = line.partition(" ")
        try:
            system.results[name] = {"unit": "ns", "wall": float(value)}
        except ValueError:
            note(f"{system.name}: {line}")
    if status != 0:
        note(f"{system.name}: micro ended with {status}: {err.strip()[-300:]}")


def run_program(runner, system, binary, program, work, note):
    walls, cpus = [], []
    for _ in range(program.rounds):
        folder = os.path.join(work, "program")
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        try:
            program.prepare(folder)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            note(f"{program.name}: {error}")
            return
        argv = ["/bin/sh", "-c", program.script]
        if not program.timed_inside:
            argv = [binary, "--time", str(program.repeat)] + argv
        status, _, err, _, cpu = runner.run(system.command(argv), folder,
                                            dict(os.environ, MICRO=binary), limit=120)
        timed = [line for line in err.splitlines() if line.startswith("timed ") and
                 line.split()[1].isdigit()]
        if status != 0 or not timed:
            note(f"{system.name}: {program.name} ended with {status}: {err.strip()[-300:]}")
            return
        numbers = [int(t) / 1e9 for t in timed[0].split()[1:]]
        walls.append(numbers[len(numbers) // 2])
        cpus.append(cpu / program.repeat if cpu is not None else None)
    best = min(range(len(walls)), key=lambda i: walls[i])
    system.results[program.name] = {"unit": "s", "wall": walls[best], "cpu": min(
        (c for c in cpus if c is not None), default=None)}


def run_timed(runner, system, binary, name, times, command, work, note):
    """Times whole commands from a process that is in the cgroup already (entering it is slow)."""
    status, _, err, _, cpu = runner.run([binary, "--time", str(times)] + command, work, limit=120)
    timed = [line.split()[1:] for line in err.splitlines() if line.startswith("timed ")]
    if status != 0 or not timed or not timed[0][0].isdigit():
        note(f"{system.name}: {name}: {status} {err.strip()[-300:]}")
        return
    walls = sorted(int(t) / 1e9 for t in timed[0])
    system.results[name] = {"unit": "s", "wall": walls[len(walls) // 2],
                            "cpu": cpu / times if cpu is not None else None}


def run_startup(runner, system, binary, work, note):
    run_timed(runner, system, binary, "do_true", 20, system.command(["/bin/true"]), work, note)


def write_bundle(folder):
    rootfs = os.path.join(folder, "rootfs")
    for name in ("bin", "proc", "dev", "tmp"):
        os.makedirs(os.path.join(rootfs, name))
    shutil.copy("/bin/busybox", os.path.join(rootfs, "bin", "busybox"))
    config = {
        "ociVersion": "1.0.2",
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "cwd": "/",
                    "args": ["/bin/busybox", "true"], "env": ["PATH=/bin"]},
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")]},
    }
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as out:
        json.dump(config, out)


def run_oci(runner, system, binary, work, note):
    if not system.run_prefix or not os.path.exists("/bin/busybox") or os.geteuid() != 0:
        return
    bundle = os.path.join(work, "bundle")
    shutil.rmtree(bundle, ignore_errors=True)
    os.mkdir(bundle)
    write_bundle(bundle)
    run_timed(runner, system, binary, "oci_run_true", 11,
              ["/bin/sh", "-c", f"exec {' '.join(system.run_prefix)} run --bundle {bundle} b-$$"],
              work, note)


def pss_kib(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as f:
            for line in f:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def run_idle(runner, system, work, note):
    """Memory of all processes of a sandbox that sleeps, and the CPU time it takes in 10 s."""
    if not runner.group:
        return
    child = runner.popen(system.command(["/bin/sleep", "1000"]), work, None, subprocess.DEVNULL,
                         subprocess.DEVNULL)
    try:
        time.sleep(2)
        if child.poll() is not None:
            note(f"{system.name}: the idle sandbox ended with {child.returncode}")
            return
        memory = sum(pss_kib(pid) for pid in runner.group.processes())
        before = runner.group.cpu_seconds()
        time.sleep(10)
        used = runner.group.cpu_seconds() - before
        system.results["idle_memory"] = {"unit": "KiB", "wall": memory}
        system.results["idle_cpu_10s"] = {"unit": "s", "wall": used}
    finally:
        runner.group.end()
        child.wait()


OTHERS = ["held_connection_end", "held_connections_cpu_5s", "do_true", "oci_run_true", "idle_memory",
          "idle_cpu_10s"]


def geometric_mean(values):
    values = [v for v in values if v and v > 0]
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def shown(result, key="wall"):
    if not result or result.get(key) is None:
        return "-"
    value, unit = result[key], result["unit"]
    if unit == "ns":
        return f"{value:,.0f} ns" if value >= 100 else f"{value:.1f} ns"
    if unit == "KiB":
        return f"{value:,.0f} KiB" if value >= 100 else f"{value:.1f} KiB"
    if unit == "s/GB":
        return f"{8 / value:.1f} Gb/s" if key == "wall" else f"{value:.2f} s/GB"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.1f} ms"


def ratio(result, base, key="wall"):
    if not result or not base or result.get(key) is None or not base.get(key):
        return None
    return result[key] / base[key]


def print_table(systems, cpu_source):
    native, others = systems[0], systems[1:]
    names = list(dict.fromkeys(n for s in systems for n in s.results))
    print(f"\nCPU time: {cpu_source}\n")
    head = ["subject", "native"] + [f"{s.name}{x}" for s in others for x in ("", " x", " cpu x")]
    rows = []
    for name in names:
        base = native.results.get(name)
        row = [name, shown(base)]
        for s in others:
            got = s.results.get(name)
            wall, cpu = ratio(got, base), ratio(got, base, "cpu")
            row += [shown(got), f"{wall:.2f}" if wall else "-", f"{cpu:.2f}" if cpu else ""]
        rows.append(row)
    means = []
    for label, unit in (("geometric mean, small", "ns"), ("geometric mean, programs", "s")):
        row = [label, ""]
        for s in others:
            pick = [n for n in names if native.results.get(n, {}).get("unit") == unit and
                    n not in ("do_true",)]
            wall = geometric_mean([ratio(s.results.get(n), native.results[n]) for n in pick])
            cpu = geometric_mean([ratio(s.results.get(n), native.results[n], "cpu") for n in pick])
            row += ["", f"{wall:.2f}" if wall else "-", f"{cpu:.2f}" if cpu else ""]
        means.append(row)
    rows += means
    widths = [max(len(r[i]) for r in [head] + rows) for i in range(len(head))]
    for row in [head] + rows:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w)
                        for i, (c, w) in enumerate(zip(row, widths))).rstrip())


def main():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="the build folder")
    parser.add_argument("--gvisor", default=os.environ.get("RINGWALL_BENCH_GVISOR"),
                        help="a gVisor runsc to measure too (or RINGWALL_BENCH_GVISOR)")
    parser.add_argument("--platform", default="systrap", help="Ringwall's platform, or 'both'")
    parser.add_argument("--only", action="append", default=[],
                        help="only subjects whose name holds this (repeatable)")
    parser.add_argument("--parts", default="micro,programs,servers,network,startup,idle",
                        help="comma list of micro, programs, servers, network (veth, held "
                             "connections), startup, idle")
    parser.add_argument("--list", action="store_true", help="names the subjects and ends")
    parser.add_argument("--out", help="where JSON and SVG go (default: the build folder)")
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)

    parts = args.parts.split(",")
    wanted = lambda name: not args.only or any(o in name for o in args.only)
    build = os.path.abspath(args.build)
    out = os.path.abspath(args.out or build)
    binary = os.path.join(build, "benchmarks", "ringwall_micro")
    runsc = os.path.join(build, "runsc")
    systems = [System("native", [])]
    if args.gvisor:
        base = [args.gvisor, "--network=none", "--ignore-cgroups"]
        systems.append(System("gVisor", base + ["do"], base))
    if os.path.isfile(runsc) and os.access(runsc, os.X_OK):
        for platform in (["systrap", "ptrace"] if args.platform == "both" else [args.platform]):
            base = [runsc, f"--platform={platform}"]
            name = "Ringwall" if args.platform != "both" else platform
            systems.append(System(name, base + ["do"], base))
    else:
        print(f"{runsc} is not there: measuring without it", file=sys.stderr)

    chosen = [p for part, some in (("programs", programs.PROGRAMS), ("servers", servers.SERVERS))
              if part in parts for p in some if wanted(p.name)]
    if args.list:
        subprocess.run([binary, "--list"], check=True)
        for name in [p.name for p in chosen] + [n for n, _ in network.STREAMS] + OTHERS:
            print(name)
        return 0

    notes = []
    note = lambda text: (notes.append(text), print("  ! " + text))
    group = Cgroup.create()
    cpu_source = {"v2": "cgroup v2 cpu.stat", "v1": "cgroup v1 cpuacct"}.get(
        group.kind if group else "", "usage of reaped children only (no cgroup to be had)")
    runner = Runner(group)
    work = tempfile.mkdtemp(prefix="ringwall-bench-")
    os.chmod(work, 0o755)  # PostgreSQL runs as another user
    for program in chosen:
        if program.missing():
            note(f"skipped: {program.name}: not installed: {' '.join(program.missing())}")
    if "network" in parts and network.missing():
        note(f"skipped: the streams over veth: {network.missing()}")
    try:
        for system in systems:
            print(f"== {system.name}")
            if "micro" in parts:
                run_micro(runner, system, binary, args.only, work, note)
            for program in chosen:
                if not program.missing():
                    run_program(runner, system, binary, program, work, note)
            if "network" in parts:
                if not network.missing():
                    network.run_streams(runner, system, work, wanted, note)
                if wanted("held_connection"):
                    network.run_held(runner, system, binary, work, pss_kib, note)
            if "startup" in parts and wanted("do_true"):
                run_startup(runner, system, binary, work, note)
                run_oci(runner, system, binary, work, note)
            if "idle" in parts and wanted("idle"):
                run_idle(runner, system, work, note)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if group:
            group.remove()
    print_table(systems, cpu_source)
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "bench.json"), "w", encoding="utf-8") as f:
        json.dump({"cpu_time_from": cpu_source, "kernel": os.uname().release,
                   "cpus": os.cpu_count(), "notes": notes,
                   "systems": {s.name: s.results for s in systems}}, f, indent=1)
    chart.write(os.path.join(out, "bench.svg"), systems)
    print(f"\n{out}/bench.json  {out}/bench.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
