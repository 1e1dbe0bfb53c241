"""The link to the host, and connections that are only held.

iperf3 runs inside and its server on the host, joined by a veth pair whose inner end is in a network
namespace made here and removed at the end; sandboxes take it over with --network=sandbox.
"""

import json
import os
import shutil
import subprocess
import time

HOST, INSIDE, PORT = "10.213.7.1", "10.213.7.2", 7811
SECONDS = 2
# name, options of iperf3: `out` is from the inside to the host.
STREAMS = [("veth_out_1", []), ("veth_in_1", ["-R"]), ("veth_out_8", ["-P", "8"]),
           ("veth_in_8", ["-P", "8", "-R"])]


def missing():
    if os.geteuid() != 0:
        return "needs root for a network namespace"
    absent = [n for n in ("ip", "iperf3") if not shutil.which(n)]
    return f"not installed: {' '.join(absent)}" if absent else None


class Wire:
    """A network namespace with one end of a veth pair in it; `with` removes both and the server."""

    def __init__(self):
        self.name = f"rwbench{os.getpid() % 100000}"
        self.server = None

    def __enter__(self):
        def ip(*words):
            subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)
        try:
            ip("netns", "add", self.name)
            ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            ip("addr", "add", f"{HOST}/24", "dev", self.name)
            ip("link", "set", self.name, "up")
            for words in (["addr", "add", f"{INSIDE}/24", "dev", "eth0"],
                          ["link", "set", "eth0", "up"], ["link", "set", "lo", "up"]):
                ip("-n", self.name, *words)
            self.server = subprocess.Popen(["iperf3", "-s", "-B", HOST, "-p", str(PORT)],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError):
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.server:
            self.server.kill()
            self.server.wait()
        for words in (["link", "del", self.name], ["netns", "del", self.name]):
            subprocess.run(["ip", *words], check=False, capture_output=True, timeout=20)


def write_bundle(folder, netns, argv):
    config = {
        "ociVersion": "1.0.2",
        "process": {"terminal": False, "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": argv,
                    "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "root": {"path": "/", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}],
        "linux": {"namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount")] +
                                [{"type": "network", "path": f"/run/netns/{netns}"}]},
    }
    with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as out:
        json.dump(config, out)


def run_streams(runner, system, work, wanted, note):
    """Wall and CPU seconds per GB of each of STREAMS; the CPU is that of the side inside."""
    for name, options in STREAMS:
        if not wanted(name):
            continue
        argv = ["iperf3", "-c", HOST, "-p", str(PORT), "-t", str(SECONDS), "-J"] + options
        folder = os.path.join(work, "wire")
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        with Wire() as wire:
            if system.run_prefix:
                write_bundle(folder, wire.name, argv)
                command = system.run_prefix + ["--network=sandbox", "run", "--bundle", folder,
                                               wire.name]
            else:
                command = ["ip", "netns", "exec", wire.name] + argv
            status, out, err, _, cpu = runner.run(command, folder, limit=SECONDS + 30)
        try:
            end = json.loads(out)["end"]
            size = end["sum_received"]["bytes"] / 1e9
            speed = end["sum_received"]["bits_per_second"] / 8e9
            system.results[name] = {"unit": "s/GB", "wall": 1 / speed,
                                    "cpu": cpu / size if cpu is not None else None}
        except (ValueError, KeyError, ZeroDivisionError):
            note(f"{system.name}: {name} ended with {status}: {(out + err).strip()[-300:]}")


def run_held(runner, system, binary, work, pss, note, count=10000):
    """Memory of each end of `count` loopback connections, and CPU time while nothing happens."""
    if not runner.group or not system.run_prefix:
        return  # natively the memory is the kernel's, and not in any process
    memory = {}
    for held in (0, count):
        child = runner.popen(system.command([binary, "--hold", str(held)]), work, None,
                             subprocess.PIPE, subprocess.DEVNULL)
        try:
            os.set_blocking(child.stdout.fileno(), False)
            until, said = time.monotonic() + 60, b""
            while b"\n" not in said and child.poll() is None and time.monotonic() < until:
                said += child.stdout.read() or b""
                time.sleep(0.05)
            if not said.startswith(b"held"):
                note(f"{system.name}: held connections: {said.decode(errors='replace').strip()}")
                return
            time.sleep(2)
            memory[held] = sum(pss(pid) for pid in runner.group.processes())
            before = runner.group.cpu_seconds()
            time.sleep(5 if held else 0)
            used = runner.group.cpu_seconds() - before
        finally:
            runner.group.end()
            child.wait()
            child.stdout.close()
    each = (memory[count] - memory[0]) / (2 * count)
    system.results["held_connection_end"] = {"unit": "KiB", "wall": each}
    system.results["held_connections_cpu_5s"] = {"unit": "s", "wall": used}
