#!/usr/bin/env python3
"""Networking under Docker: a dockerd of the test's own runs containers of a busybox tree with
--runtime=runsc. Prints "ok NAME", "not ok NAME: why" or "skip NAME: why" per case.

    check.py --runsc build/runsc [CASE...]

Nothing of another dockerd on the machine is touched: data, sockets, bridge and address range are this
one's and go with it.
"""

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

CASES = {}


def case(f):
    CASES[f.__name__.replace("_", "-")] = f
    return f


class Docker:
    def __init__(self, runsc):
        self.folder = tempfile.mkdtemp(prefix="ringwall-dockernet-")
        self.bridge = "rw%d" % (os.getpid() % 10_000_000)
        self.subnet = "172.%d.%d" % (20 + os.getpid() % 8, os.getpid() // 8 % 250)
        self.count = 0
        self.networks = []
        at = lambda name: os.path.join(self.folder, name)
        self.run_quietly("ip", "link", "add", self.bridge, "type", "bridge")
        self.run_quietly("ip", "addr", "add", self.subnet + ".1/24", "dev", self.bridge)
        self.run_quietly("ip", "link", "set", self.bridge, "up")
        config = {
            "data-root": at("data"), "exec-root": at("exec"), "pidfile": at("pid"),
            "hosts": ["unix://" + at("docker.sock")], "storage-driver": "vfs",
            "bridge": self.bridge, "runtimes": {"runsc": {"path": os.path.abspath(runsc)}},
        }
        with open(at("daemon.json"), "w", encoding="utf-8") as f:
            json.dump(config, f)
        self.log = open(at("log"), "wb")
        self.daemon = subprocess.Popen(["dockerd", "--config-file", at("daemon.json")],
                                       stdout=self.log, stderr=self.log, stdin=subprocess.DEVNULL,
                                       start_new_session=True)
        self.env = dict(os.environ, DOCKER_HOST="unix://" + at("docker.sock"))
        self.env.pop("DOCKER_CONTEXT", None)

    @staticmethod
    def run_quietly(*command):
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def docker(self, *args, check=True, timeout=90, **kw):
        done = subprocess.run(["docker", *args], env=self.env, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout, check=False, **kw)
        out = done.stdout.decode(errors="replace").strip()
        if check and done.returncode != 0:
            raise AssertionError("docker %s: %s" % (" ".join(args), out))
        return out

    def wait(self):
        for _ in range(200):
            done = subprocess.run(["docker", "version"], env=self.env, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, check=False)
            if done.returncode == 0:
                return True
            if self.daemon.poll() is not None:
                return False
            time.sleep(0.1)
        return False

    def make_image(self):
        tree = os.path.join(self.folder, "tree")
        for name in ("bin", "etc", "tmp", "www"):
            os.makedirs(os.path.join(tree, name))
        shutil.copy(shutil.which("busybox"), os.path.join(tree, "bin/busybox"))
        tools = subprocess.run(["busybox", "--list"], stdout=subprocess.PIPE, check=True)
        for tool in tools.stdout.decode().split():
            link = os.path.join(tree, "bin", tool)
            if not os.path.lexists(link):
                os.symlink("busybox", link)
        with open(os.path.join(tree, "www/index.html"), "w", encoding="utf-8") as f:
            f.write("served\n")
        with open(os.path.join(tree, "etc/passwd"), "w", encoding="utf-8") as f:
            f.write("root:x:0:0:root:/:/bin/sh\n")
        tar = subprocess.run(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE, check=True)
        self.docker("import", "-", "box", input=tar.stdout)

    def run(self, *args, **kw):
        return self.docker("run", "--rm", "--runtime=runsc", *args, **kw)

    def server(self, *args):
        """A container with a web server; returns its id."""
        return self.docker("run", "-d", "--runtime=runsc", *args, "box", "httpd", "-f", "-p", "80",
                           "-h", "/www").splitlines()[-1]

    def address(self, container):
        return self.docker("inspect", "-f",
                           "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)

    def network(self):
        self.count += 1
        name = "n%d-%d" % (os.getpid(), self.count)
        self.docker("network", "create", name)
        self.networks.append(name)
        return name

    def stop(self):
        ids = self.docker("ps", "-aq", check=False).split()
        if ids:
            self.docker("rm", "-f", *ids, check=False)
        for name in self.networks:
            self.docker("network", "rm", name, check=False)
        self.daemon.send_signal(signal.SIGTERM)
        try:
            self.daemon.wait(30)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
        self.log.close()
        self.run_quietly("ip", "link", "del", self.bridge)
        shutil.rmtree(self.folder, ignore_errors=True)


def expect(condition, what):
    if not condition:
        raise AssertionError(what)


def get(url):
    """From the host itself."""
    try:
        with urllib.request.urlopen(url, timeout=5) as page:
            return page.read().decode().strip()
    except (OSError, http.client.HTTPException) as why:
        return str(why)


def fetch(docker, url, *args):
    last = ""
    for _ in range(30):  # the server may not listen yet
        # Not wget: the static one of Debian crashes without the C library's files, natively too.
        host = url.split("/")[2]
        last = docker.run(*args, "box", "sh", "-c",
                          "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 nc %s 80" % host, check=False)
        if last.endswith("served"):
            return
        time.sleep(0.3)
    raise AssertionError("wget %s: %s" % (url, last))


@case
def bridge_gives_the_address_docker_chose(docker):
    out = docker.run("box", "ip", "addr")
    expect("inet %s." % docker.subnet in out, out)
    expect("127.0.0.1/8" in out, out)
    routes = docker.run("box", "ip", "route")
    expect("default via %s.1" % docker.subnet in routes, routes)


@case
def one_container_fetches_from_another(docker):
    server = docker.server()
    fetch(docker, "http://%s/" % docker.address(server))


@case
def ping_between_containers(docker):
    server = docker.server()
    out = docker.run("box", "ping", "-c", "2", "-W", "5", docker.address(server), check=False)
    expect(" 0% packet loss" in out, out)


@case
def published_port_is_reached_from_the_host(docker):
    server = docker.server("-p", "127.0.0.1:0:80")
    port = docker.docker("port", server, "80").splitlines()[0].rsplit(":", 1)[1]
    last = ""
    for _ in range(30):
        last = get("http://127.0.0.1:%s/" % port)
        if last == "served":
            return
        time.sleep(0.3)
    raise AssertionError(last)


@case
def network_none_has_a_loopback_only(docker):
    out = docker.run("--network=none", "box", "ip", "addr")
    expect("127.0.0.1/8" in out and "eth0" not in out, out)


@case
def network_host_reaches_what_the_host_does(docker):
    server = docker.server()
    fetch(docker, "http://%s/" % docker.address(server), "--network=host")


def free_port():
    with socket.socket() as s:
        s.bind(("", 0))
        return s.getsockname()[1]


@case
def network_host_listens_on_the_hosts_addresses(docker):
    port = free_port()
    docker.docker("run", "-d", "--name", "hosted", "--runtime=runsc", "--network=host", "box", "httpd", "-f", "-p",
                  str(port), "-h", "/www")
    for address in ("127.0.0.1", docker.subnet + ".1"):
        last = ""
        for _ in range(30):
            last = get("http://%s:%d/" % (address, port))
            if last == "served":
                break
            time.sleep(0.3)
        expect(last == "served", address + ": " + last)
    out = docker.run("--network=host", "box", "httpd", "-f", "-p", str(port), check=False)
    expect("in use" in out, out)
    docker.docker("rm", "-f", "hosted")
    # The port is free again.
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("", port))
        s.listen()


@case
def network_host_serves_privileged_ports(docker):
    # Below 1024: where nobody else has it.
    low = next((p for p in range(1023, 900, -1) if get("http://127.0.0.1:%d/" % p) != "served"), 1000)
    docker.docker("run", "-d", "--name", "low", "--runtime=runsc", "--network=host", "box", "httpd", "-f", "-p", str(low),
                  "-h", "/www")
    for _ in range(30):
        if get("http://127.0.0.1:%d/" % low) == "served":
            return
        time.sleep(0.3)
    raise AssertionError(docker.docker("logs", "low", check=False))


@case
def two_networks_two_interfaces(docker):
    first, second = docker.network(), docker.network()
    container = docker.docker("create", "--runtime=runsc", "--network", first, "box", "ip", "addr")
    docker.docker("network", "connect", second, container)
    out = docker.docker("start", "-a", container)
    expect("eth0" in out and "eth1" in out, out)


@case
def names_on_a_network_of_its_own(docker):
    network = docker.network()
    docker.server("--network", network, "--name", "web")
    fetch(docker, "http://web/", "--network", network)


@case
def network_of_another_container(docker):
    first = docker.server("--name", "first")
    address = docker.address(first)
    second = docker.docker("run", "-d", "--runtime=runsc", "--network=container:first", "box", "httpd", "-f", "-p", "81",
                           "-h", "/www").splitlines()[-1]
    fetch(docker, "http://127.0.0.1/", "--network=container:first")
    out = docker.run("--network=container:first", "box", "sh", "-c", "ip addr; ps; cat /proc/1/comm")
    expect(address in out and "httpd" not in out, out)
    # The second serves the first's loopback; its end leaves the first alone.
    ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 5 nc 127.0.0.1 81"
    for _ in range(30):
        out = docker.docker("exec", first, "sh", "-c", ask, check=False)
        if out.endswith("served"):
            break
        time.sleep(0.3)
    expect(out.endswith("served"), out)
    docker.docker("rm", "-f", second)
    fetch(docker, "http://%s/" % address)
    out = docker.docker("run", "--runtime=runsc", "--network=container:first", "--name", "code", "box", "sh", "-c",
                        "exit 7", check=False)
    expect(docker.docker("inspect", "-f", "{{.State.ExitCode}}", "code") == "7", out)


@case
def names_by_the_network_of_another_container(docker):
    network = docker.network()
    docker.server("--network", network, "--name", "web2")
    docker.server("--network", network, "--name", "peer")
    fetch(docker, "http://web2/", "--network=container:peer")


@case
def restart_keeps_the_network(docker):
    server = docker.server()
    docker.docker("restart", "-t", "1", server)
    fetch(docker, "http://%s/" % docker.address(server))


@case
def the_hosts_own_interfaces_are_left_alone(docker):
    addresses = lambda: subprocess.run(["ip", "-o", "addr", "show", "dev", docker.bridge], stdout=subprocess.PIPE, check=True).stdout
    before = addresses()
    docker.run("--network=host", "box", "true")
    expect(addresses() == before and before, addresses())


def missing():
    for tool in ("dockerd", "docker", "busybox", "iptables", "ip"):
        if shutil.which(tool) is None:
            return "%s is not installed" % tool
    if os.geteuid() != 0:
        return "dockerd needs root"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runsc", required=True)
    parser.add_argument("cases", nargs="*")
    args = parser.parse_args()
    chosen = args.cases or list(CASES)
    why = missing()
    docker = None
    if why is None:
        docker = Docker(args.runsc)
        if not docker.wait():
            docker.stop()
            docker, why = None, "dockerd does not start here"
    if why is not None:
        for name in chosen:
            print("skip docker/%s: %s" % (name, why))
        return 0
    failed = 0
    try:
        docker.make_image()
        for name in chosen:
            try:
                CASES[name](docker)
                print("ok docker/%s" % name, flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as e:
                failed += 1
                print("not ok docker/%s: %s" % (name, str(e)[:2000]), flush=True)
            ids = docker.docker("ps", "-aq", check=False).split()
            if ids:
                docker.docker("rm", "-f", *ids, check=False)
    finally:
        docker.stop()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
