#!/usr/bin/env python3
"""Errors say what is wrong and what to do; exit codes are those of runc and docker; flags are taken in
every spelling."""

import json
import os
import subprocess
import sys

from lib import expect, expect_equal, main


def refused(box, *words, name="c", flags=(), code=125):
    result = box.call("run", "--bundle", box.bundle, name, flags=flags)
    expect_equal(result.code, code, result)
    for word in words:
        expect(word in result.err, word, result)
    expect(not os.path.exists(box.root) or not os.listdir(box.root), "nothing is left")
    return result


def test_missing_bundle(box):
    result = box.call("run", "--bundle", "/no/such/bundle", "c")
    expect(result.code == 125 and "/no/such/bundle" in result.err, result)
    os.remove(os.path.join(box.bundle, "config.json"))
    refused(box, "config.json", "runsc spec")


def write(box, text):
    with open(os.path.join(box.bundle, "config.json"), "w", encoding="utf-8") as f:
        f.write(text)


def test_json_errors_name_line_field_and_expectation(box):
    write(box, '{\n  "ociVersion": "1.2.0",\n  "process": {\n    "args": "true"\n  }\n}\n')
    refused(box, "line 4", "process.args", "expected a list", "found a string")
    write(box, '{\n  "ociVersion": "1.2.0",\n  "process": {"user": {"uid": -1}}\n}\n')
    refused(box, "line 3", "process.user.uid", "-1")
    write(box, '{\n  "ociVersion": "1.2.0",\n  "root": {"readonly": "yes"}\n}\n')
    refused(box, "line 3", "root.readonly", "expected true or false")
    write(box, '{\n  "ociVersion": "1.2.0"\n  "root": {}\n}\n')
    refused(box, "line 3")
    write(box, "")
    refused(box, "line 1")


def test_fields_that_are_missing_or_wrong(box):
    def without(change, *words):
        config = json.loads(json.dumps(box.config))
        change(config)
        write(box, json.dumps(config))
        refused(box, *words)

    without(lambda c: c.pop("ociVersion"), "ociVersion")
    without(lambda c: c.update(ociVersion="2.0.0"), "ociVersion", "2.0.0")
    without(lambda c: c.pop("process"), "process")
    without(lambda c: c.pop("root"), "root")
    without(lambda c: c["process"].update(args=[]), "process.args")
    without(lambda c: c["process"].update(cwd="relative"), "process.cwd")
    without(lambda c: c["process"].update(rlimits=[{"type": "RLIMIT_X", "soft": 1, "hard": 1}]), "rlimits[0]")
    without(lambda c: c["process"].update(rlimits=[{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}]), "soft")
    without(lambda c: c["linux"]["namespaces"].append({"type": "moon"}), "moon")
    without(lambda c: c["linux"]["namespaces"].append({"type": "pid"}), "twice")
    without(lambda c: c["linux"].update(devices=[{"path": "/dev/x", "type": "z"}]), "devices[0].type")
    without(lambda c: c["linux"].update(seccomp={"defaultAction": "SCMP_ACT_X"}), "seccomp.defaultAction")
    without(lambda c: c["mounts"].append({"destination": "/x"}), "/x", "type")
    without(lambda c: c["root"].update(path="nowhere"), "root.path", "nowhere")


def test_programs_that_cannot_run(box):
    for program, code, text in (("nope", 127, "executable file not found in $PATH"),
                                ("/bin/nope", 127, "no such file or directory"),
                                ("/etc/passwd", 126, "permission denied"),
                                ("/etc", 126, "permission denied")):
        box.config["process"]["args"] = [program]
        box.write_config()
        refused(box, program, text, code=code)
    box.config["process"]["args"] = ["true"]
    box.config["process"]["cwd"] = "/no/dir"
    box.write_config()
    refused(box, "/no/dir", code=126)


def test_commands_on_what_does_not_exist(box):
    for command in (("state", "x"), ("start", "x"), ("kill", "x"), ("delete", "x"), ("exec", "x", "true"),
                    ("ps", "x"), ("pause", "x"), ("resume", "x"), ("wait", "x"), ("events", "x"),
                    ("usage", "x")):
        result = box.call(*command)
        expect(result.code != 0 and "does not exist" in result.err, command, result)


def test_usage_errors(box):
    for command in (("nonsense",), ("state",), ("state", "a", "b"), ("run", "--nonsense", "x"), ("kill",),
                    ("do",), ("exec",), ("do", "--cpus", "many", "true"), ("do", "--memory", "lots", "true")):
        result = box.call(*command)
        expect_equal(result.code, 125, command, result)
        expect(result.err.startswith("runsc: "), command, result)
    expect("did you mean" in box.call("stat", "x").err)
    expect("did you mean" in box.call("run", "--bundel", "x", "y").err)


def test_flags_in_every_spelling(box):
    box.config["process"]["args"] = ["/bin/echo", "fine"]
    box.write_config()
    for line in (["--root", box.root, "--network", "none", "run", "--bundle", box.bundle, "c"],
                 ["-root=" + box.root, "-network=none", "run", "-bundle", box.bundle, "c"],
                 ["run", "--root", box.root, "--network=none", "-bundle=" + box.bundle, "c"],
                 ["run", "-root", box.root, "-network", "none", "c", "--bundle", box.bundle],
                 ["--debug=false", "--root", box.root, "--bundle", box.bundle, "--network=none", "run", "c"],
                 ["--systemd-cgroup=false", "--root", box.root, "--network=none", "run", "-b", box.bundle, "c"]):
        line = ["--ignore-cgroups", "--platform=" + box.platform] + line
        done = subprocess.run([box.runsc] + line, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, check=False, timeout=60)
        expect_equal((done.returncode, done.stdout), (0, b"fine\n"), line, done.stderr)


def test_log_gets_the_error_as_engines_read_it(box):
    log = os.path.join(box.folder, "log.json")
    box.config["process"]["args"] = ["nope"]
    box.write_config()
    refused(box, "nope", flags=("--log", log, "--log-format", "json"), code=127)
    with open(log, encoding="utf-8") as f:
        entries = [json.loads(line) for line in f]
    expect_equal(entries[-1]["level"], "error")
    expect("nope" in entries[-1]["msg"])
    os.remove(log)
    refused(box, "nope", flags=("--log", log, "--log-format", "json-k8s"), code=127)
    with open(log, encoding="utf-8") as f:
        entries = [json.loads(line) for line in f]
    expect_equal(sorted(entries[-1]), ["level", "log", "time"])
    expect("nope" in entries[-1]["log"])


def test_the_table_of_system_calls(box):
    rows = json.loads(box.call("syscalls", "--format", "json", check=0).out)
    expect_equal([row["name"] for row in rows[:3]], ["read", "write", "open"])
    expect_equal({row["support"] for row in rows}, {"full", "partial", "none"})
    refused_rows = [row for row in rows if row["support"] == "none"]
    expect(all(row["note"].startswith("answers E") for row in refused_rows), refused_rows)
    expect_equal(len(box.call("syscalls", check=0).out.splitlines()), len(rows) + 1)
    expect_equal(len(box.call("syscalls", "-o", "csv", check=0).out.splitlines()), len(rows) + 1)
    expect_equal(box.call("syscalls", "-o", "xml").code, 125)


def test_commands_of_other_runtimes(box):
    for name in ("checkpoint", "restore", "portforward"):
        result = box.call(name, "c")
        expect(result.code == 125 and "not supported" in result.err, name, result)
    expect("spec: 1.2.0" in box.call("-v", check=0).out)
    expect_equal(box.call("list", "--format", "text", check=0).out, box.call("list", check=0).out)


def test_spec_features_help(box):
    folder = os.path.join(box.folder, "fresh")
    os.makedirs(os.path.join(folder, "rootfs"))
    box.call("spec", "--bundle", folder, check=0)
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        expect_equal(json.load(f)["ociVersion"], "1.2.0")
    expect(box.call("spec", "--bundle", folder).code != 0, "it does not overwrite")
    features = json.loads(box.call("features", check=0).out)
    expect_equal(features["ociVersionMax"], "1.2.0")
    expect("runsc" in box.call("help", check=0).out)
    expect("--bundle" in box.call("run", "--help", check=0).out)
    expect("spec: 1.2.0" in box.call("--version", check=0).out)


def test_install_and_uninstall(box):
    path = os.path.join(box.folder, "docker/daemon.json")
    box.call("install", "--config_file", path, "--runtime", "mine", "--", "--platform=ptrace", check=0)
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    expect_equal(config, {"runtimes": {"mine": {"path": box.runsc, "runtimeArgs": ["--platform=ptrace"]}}})
    config["data-root"] = "/x"
    with open(path, "w", encoding="utf-8") as f:
        json.dump(config, f)
    box.call("install", "--config_file", path, check=0)
    box.call("uninstall", "--config_file", path, "--runtime", "mine", check=0)
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    expect_equal(config, {"data-root": "/x", "runtimes": {"runsc": {"path": box.runsc}}})
    expect(box.call("uninstall", "--config_file", path, "--runtime", "mine").code != 0)
    with open(path, "w", encoding="utf-8") as f:
        f.write("{ not json")
    expect(box.call("install", "--config_file", path).code != 0)


if __name__ == "__main__":
    sys.exit(main())
