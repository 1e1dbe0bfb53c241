#!/usr/bin/env python3
"""Checks of the source tree that no compiler makes. Prints "ok RULE" or "not ok RULE", with places.

include-layers   an #include of another folder only in the direction ARCHITECTURE.md gives
file-size        no source file above 1000 lines
one-try          TRY is the whole initialiser or the whole statement, once a statement
unsafe-files     inline assembly only in *_unsafe.cc and .S
paths-exist      each path that a README or ARCHITECTURE names exists
no-local-paths   no path of the machine it was written on
no-todo          no bare TODO
"""

import os
import re
import subprocess
import sys

import syscalls_doc

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CODE = (".cc", ".h", ".S", ".c")
MAX_LINES = 1000

# Folder -> folders it may include from, besides its own. Longest prefix wins.
LAYERS = {
    "sentry/base": [],
    "sentry/abi": ["sentry/base"],
    "platform": ["sentry/base", "sentry/abi"],
    "netstack": ["sentry/base"],
    "gofer/proto": ["sentry/base", "sentry/abi"],
    "gofer/client": ["sentry/base", "sentry/abi", "gofer/proto"],
    "gofer": ["sentry/base", "sentry/abi", "gofer/proto", "runsc/filter"],
    "fs/vfs": ["sentry/base", "sentry/abi", "sentry/auth", "platform", "netstack", "gofer/proto"],
    "sentry": ["sentry", "platform", "netstack", "gofer/proto", "fs/vfs"],
    "fs": ["sentry", "platform", "netstack", "gofer/proto", "gofer/client", "fs"],
    "syscalls": ["sentry", "platform", "netstack", "gofer/proto", "fs"],
    "runsc/boot": ["sentry", "platform", "netstack", "gofer", "fs", "syscalls", "runsc"],
    "runsc/net": ["sentry/base", "netstack", "runsc"],
    "runsc": ["sentry/base", "sentry/abi", "platform", "netstack/wire", "gofer", "fs/gofer", "runsc"],
    "tests": ["*"],
    "benchmarks": ["*"],
}


def tracked():
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                         stdout=subprocess.PIPE).stdout.decode()
    return [p for p in out.splitlines() if os.path.isfile(os.path.join(ROOT, p))]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as f:
        return f.read()


def below(path, folder):
    return path == folder or path.startswith(folder + "/")


def strip_comments(text):
    """Blanks comments and the insides of literals, keeping every line where it is."""
    def blank(match):
        token = match.group(0)
        if token.startswith("/"):
            return re.sub(r"[^\n]", " ", token)
        return token[0] + " " * (len(token) - 2) + token[-1] if "\n" not in token else token
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', blank, text,
                  flags=re.S)


def check_layers(files):
    tops = sorted({f.split("/")[0] for f in LAYERS})
    for path in files:
        if not path.endswith((".cc", ".h")) or path.split("/")[0] not in tops:
            continue
        # A unit test may reach for whatever it needs to set the stage.
        if path.endswith("_test.cc") or "/testing/" in path:
            continue
        home = max((l for l in LAYERS if below(path, l)), key=len, default=None)
        if home is None:
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not match or match.group(1).split("/")[0] not in tops:
                continue
            target = match.group(1)
            allowed = LAYERS[home] + [home]
            if "*" not in allowed and not any(below(target, a) for a in allowed):
                yield f"{path}:{number}: {home} may not include {target}"


def check_size(files):
    for path in files:
        if path.endswith(CODE + (".py", ".sh")):
            lines = read(path).count("\n")
            if lines > MAX_LINES:
                yield f"{path}: {lines} lines"


def statement_start(text, at):
    """The place behind the ; { or } that begins the statement around `at`; for (a; b) is one."""
    depth = 0
    for i in range(at - 1, -1, -1):
        if text[i] == ")":
            depth += 1
        elif text[i] == "(":
            depth -= 1
            if depth < 0:
                return i
        elif depth == 0 and text[i] in ";{}":
            return i + 1
    return 0


def check_try(files):
    start = re.compile(r"^\s*(?:return\s+)?(?:(?:const\s+)?[\w:<>,&*\s\[\]]*?[\w\].>)-]+\s*=\s*)?TRY\(")
    for path in files:
        if not path.endswith((".cc", ".h")) or path.endswith("result.h"):
            continue
        text = strip_comments(read(path))
        text = re.sub(r"^[ \t]*#(?:[^\n\\\\]|\\\\.)*", lambda m: re.sub(r"[^\n]", " ", m.group(0)),
                      text, flags=re.M | re.S)
        for match in re.finditer(r"\bTRY\(", text):
            line = text.count("\n", 0, match.start()) + 1
            head = text[statement_start(text, match.start()):match.start()]
            # case labels, and the heads of if/else/for before an unbraced statement
            head = re.sub(r"^\s*(?:(?:case\s[^;]*?|default|public|private|protected)\s*(?<!:):(?!:)\s*)+", "",
                          head)
            head = re.sub(r"^\s*(?:else\s+)?(?:if|while|for)\s*(?:constexpr\s*)?"
                          r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)\s*", "", head)
            head = re.sub(r"^\s*else\s+", "", head)
            depth, end = 0, match.end() - 1
            for end in range(match.end() - 1, len(text)):
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                if depth == 0:
                    break
            rest = text[end + 1:end + 80].lstrip()
            if not start.match(head.replace("\n", " ") + "TRY(") or not rest.startswith(";"):
                yield f"{path}:{line}: TRY inside a larger expression"


def check_unsafe(files):
    for path in files:
        if not path.endswith((".cc", ".h")) or below(path, "tests") or below(path, "benchmarks"):
            continue
        if "unsafe" in os.path.basename(path) or path.endswith("_test.cc"):
            continue
        for number, line in enumerate(strip_comments(read(path)).splitlines(), 1):
            if re.search(r"\b(?:asm|__asm__)\b\s*(?:volatile|__volatile__|goto)?\s*\(", line):
                yield f"{path}:{number}: inline assembly outside *_unsafe"


def check_paths(files):
    tops = {f.split("/")[0] for f in files if "/" in f}
    known = set(files)
    folders = {os.path.dirname(f)[:i] for f in files
               for i in [m.start() for m in re.finditer("/", os.path.dirname(f) + "/")]}
    for path in files:
        if not path.endswith(".md"):
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            for name in re.findall(r"`((?:\./)?[\w.-]+(?:/[\w.*-]+)*/?)`", line):
                name = name.removeprefix("./").rstrip("/")
                top = name.split("/")[0]
                if top not in tops and name not in known and "/" in name:
                    continue
                if "*" in name or top in ("build",) or top not in tops:
                    continue
                if name not in known and name not in folders:
                    local = os.path.normpath(os.path.join(os.path.dirname(path), name))
                    if local not in known and local not in folders:
                        yield f"{path}:{number}: no {name}"


def check_local(files):
    pattern = re.compile("/" + "work/|/home/" + r"\w|/tmp/" + r"[a-z]+-[a-z]+\.txt|pypi" + r"\.org")
    for path in files:
        if path.endswith(CODE + (".md", ".py", ".sh", ".txt", ".cmake", ".json")) or path == "dev":
            for number, line in enumerate(read(path).splitlines(), 1):
                if pattern.search(line):
                    yield f"{path}:{number}: {line.strip()[:80]}"


def check_todo(files):
    for path in files:
        if path.endswith(CODE):
            for number, line in enumerate(read(path).splitlines(), 1):
                if re.search(r"\bTO" + r"DO\b|\bXX" + r"X\b(?!\w)", line) and "XXXXXX" not in line:
                    yield f"{path}:{number}: {line.strip()[:80]}"


def check_syscalls(files):
    """docs/syscalls.md says what the table of system calls says."""
    yield from syscalls_doc.check()


RULES = {
    "include-layers": check_layers,
    "file-size": check_size,
    "one-try": check_try,
    "unsafe-files": check_unsafe,
    "paths-exist": check_paths,
    "no-local-paths": check_local,
    "no-todo": check_todo,
    "syscalls-doc": check_syscalls,
}


def main():
    files = tracked()
    failed = False
    for name, rule in RULES.items():
        places = list(rule(files))
        for place in places:
            print("  " + place)
        print(("not ok " if places else "ok ") + name)
        failed |= bool(places)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
