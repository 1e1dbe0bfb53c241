#!/usr/bin/env python3
"""Runs what CTest knows of, two at a time, and counts single test cases.

CTest's list is the one source (names, commands, labels, time limits); what this adds is a count of
cases instead of binaries, a rerun of the cases behind one that killed its binary, and the closing
line "N passed, N failed, N skipped". Cases are understood in two forms of output: GoogleTest's, and
lines "ok NAME", "not ok NAME" and "skip NAME: why". A binary that prints neither is one case.

What fails natively beside other tests is run once more when nothing else does: the sandbox has no part
in it. A case that passes then is "unsteady": shown with the text of its failure, listed at the end, not
counted as passed. More than a few such tests are failures all the same, and with --once each of them.
What fails inside has failed, however seldom it does.
"""

import argparse
import concurrent.futures
import fnmatch
import json
import os
import re
import select
import signal
import subprocess
import sys
import time

GTEST_LINE = re.compile(r"^\[ +(RUN|OK|FAILED|SKIPPED) +\] ([\w/]+\.[\w/]+)(?:,| \(|$)", re.M)
PLAIN_LINE = re.compile(r"^(ok|not ok|skip) (\S.*)$", re.M)
MAX_RERUNS = 40
MAX_UNSTEADY = 3  # tests that get a second run
QUIET_LIMIT = 20.0  # seconds without a line that a single case may take


class Case:
    def __init__(self, name, verdict, text=""):
        self.name, self.verdict, self.text = name, verdict, text


def load_tests(build, patience):
    out = subprocess.run(["ctest", "--show-only=json-v1"], cwd=build, check=True,
                         stdout=subprocess.PIPE, stdin=subprocess.DEVNULL).stdout
    tests = []
    for entry in json.loads(out)["tests"]:
        if "command" not in entry:
            continue
        props = {p["name"]: p["value"] for p in entry.get("properties", [])}
        tests.append({
            "name": entry["name"],
            "command": entry["command"],
            "labels": props.get("LABELS", []),
            "timeout": patience * float(props.get("TIMEOUT", 120)),
            "quiet": patience * QUIET_LIMIT,
            "serial": bool(props.get("RUN_SERIAL", False)),
            "env": dict(e.split("=", 1) for e in props.get("ENVIRONMENT", [])),
        })
    return tests


def run_once(command, env, limit, cwd, quiet_limit=None):
    """Runs one command in its own session and returns (output, status or None after a limit).

    quiet_limit ends a program that prints nothing for so long: one case that hangs, not all.
    """
    deadline = time.monotonic() + limit
    read_end, write_end = os.pipe()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=write_end, stderr=write_end,
                             cwd=cwd, env=env, start_new_session=True)
    os.close(write_end)
    os.set_blocking(read_end, False)
    chunks, status, last_heard = [], None, time.monotonic()
    while True:
        status = child.poll()
        # A short turn, so that an end whose pipe is still held by a stray process is seen.
        if select.select([read_end], [], [], 0.05 if status is None else 0)[0]:
            chunk = os.read(read_end, 1 << 16)
            if chunk:
                chunks.append(chunk)
                last_heard = time.monotonic()
                continue
            if status is None:
                time.sleep(0.01)
        now = time.monotonic()
        if status is not None:
            break
        if now > deadline or (quiet_limit and now - last_heard > quiet_limit):
            break
    try:  # whatever it left behind in its session goes too
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()
    os.close(read_end)
    return b"".join(chunks).decode(errors="replace"), status


def gtest_cases(output):
    """Splits GoogleTest's output into finished cases and the one that was running at the end."""
    cases, running, start = [], None, 0
    for match in GTEST_LINE.finditer(output):
        kind, name = match.groups()
        if kind == "RUN":
            running, start = name, match.end()
        elif running == name:
            text = output[start:match.start()].strip()
            verdict = {"OK": "passed", "FAILED": "failed", "SKIPPED": "skipped"}[kind]
            cases.append(Case(name, verdict, text))
            running = None
    return cases, (running, output[start:].strip())


def run_gtest(test, env, cwd):
    cases, reruns, deadline = [], 0, time.monotonic() + test["timeout"]
    while True:
        command = list(test["command"])
        if cases:
            command.append("--gtest_filter=-" + ":".join(c.name for c in cases))
        output, status = run_once(command, env, max(5.0, deadline - time.monotonic()), cwd,
                                  test["quiet"])
        done, (running, tail) = gtest_cases(output)
        cases += done
        if status == 0 or (status == 1 and running is None and "[==========]" in output
                           and any(c.verdict == "failed" for c in done)):
            return cases
        what = "ran out of time" if status is None else f"ended with status {status}"
        if running is not None:
            cases.append(Case(running, "failed", f"{what} in this case\n{tail[-3000:]}"))
        elif not done or status is None:
            cases.append(Case("(whole)", "failed", f"{what}\n{output[-3000:]}"))
            return cases
        else:
            cases.append(Case("(end)", "failed", f"{what} after the last case\n{tail[-3000:]}"))
            return cases
        reruns += 1
        if reruns > MAX_RERUNS or (status is None and reruns > 3):
            cases.append(Case("(rest)", "failed", "too many cases end the whole binary"))
            return cases


def is_gtest(test):
    return "gtest" in test["labels"] or "unit" in test["labels"]


def run_test(test, build):
    env = dict(os.environ, **test["env"])
    started = time.monotonic()
    if is_gtest(test):
        cases = run_gtest(test, env, build)
    else:
        output, status = run_once(test["command"], env, test["timeout"], build)
        kinds = {"ok": "passed", "not ok": "failed", "skip": "skipped"}
        cases, start = [], 0
        for match in PLAIN_LINE.finditer(output):
            text = output[start:match.start()].strip()
            cases.append(Case(match.group(2), kinds[match.group(1)], text))
            start = match.end()
        if status is None:
            cases.append(Case("(time)", "failed", f"ran out of time\n{output[start:][-3000:]}"))
        elif not cases:
            verdict = {0: "passed", 77: "skipped"}.get(status, "failed")
            cases = [Case("(whole)", verdict, output[-3000:])]
        elif status != 0 and not any(c.verdict == "failed" for c in cases):
            cases.append(Case("(end)", "failed", f"ended with status {status}\n{output[start:]}"))
    return test, cases, time.monotonic() - started


KNOWN_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "known_failures.txt")


def load_known():
    """Patterns of "test case" that are known to fail, each with its reason."""
    known = []
    with open(KNOWN_FILE, encoding="utf-8") as lines:
        for line in lines:
            text, _, reason = line.partition("#")
            if text.strip():
                known.append((text.strip(), reason.strip()))
    return known


def mark_known(test, cases, known):
    """What fails and is listed becomes "known": reported as such, never as passed."""
    for case in cases:
        if case.verdict != "failed":
            continue
        for pattern, reason in known:
            if fnmatch.fnmatchcase(f"{test['name']} {case.name}", pattern):
                case.verdict, case.reason = "known", reason
                break


def failed_cases(cases):
    return [c for c in cases if c.verdict == "failed"]


def merge_second_run(first, second):
    """The cases of both runs of a test: what failed in the first and not in the second is unsteady."""
    failed_again = {c.name for c in failed_cases(second)}
    unsteady = {c.name: Case(c.name, "unsteady", c.text) for c in failed_cases(first) if c.name not in failed_again}
    return [c for c in second if c.name not in unsteady] + list(unsteady.values())


def wanted(test, args):
    if args.label and not set(args.label) & set(test["labels"]):
        return False
    if args.exclude and set(args.exclude) & set(test["labels"]):
        return False
    return not args.names or any(fnmatch.fnmatch(test["name"], n) for n in args.names)


def report(results, args):
    total = {"passed": 0, "failed": 0, "unsteady": 0, "known": 0, "skipped": 0}
    by_label = {}
    for test, cases, _ in results:
        group = next((l for l in ("native", "systrap", "ptrace") if l in test["labels"]),
                     test["labels"][0] if test["labels"] else "other")
        counts = by_label.setdefault(group, dict.fromkeys(total, 0))
        for case in cases:
            total[case.verdict] += 1
            counts[case.verdict] += 1
    skips = [(t["name"], c) for t, cases, _ in results for c in cases if c.verdict == "skipped"]
    if skips:
        print("\nskipped:")
        for name, case in skips:
            why = case.text.splitlines()[-1].strip() if case.text else ""
            print(f"  {name} {case.name} {why}"[:160])
    known = [(t["name"], c) for t, cases, _ in results for c in cases if c.verdict == "known"]
    if known:
        print("\nknown to fail (tests/known_failures.txt), not done yet:")
        for name, case in known:
            print(f"  {name} {case.name}: {case.reason}")
    unsteady = [(t["name"], c) for t, cases, _ in results for c in cases if c.verdict == "unsteady"]
    if unsteady:
        print("\nunsteady (failed natively beside other tests, passed alone: the test is to be mended):")
        for name, case in unsteady:
            print(f"  {name} {case.name}")
    fails = [(t["name"], c) for t, cases, _ in results for c in failed_cases(cases)]
    if fails:
        print("\nfailed:")
        for name, case in fails:
            print(f"  {name} {case.name}")
    if args.failures:
        with open(args.failures, "w", encoding="utf-8") as out:
            for name, case in fails + unsteady:
                print(f"{name} {case.name} {case.verdict}\n    " + case.text.replace("\n", "\n    "), file=out)
    print()
    for label, counts in sorted(by_label.items()):
        print(f"{label:10}", ", ".join(f"{counts[v]} {v}" for v in counts))
    if total["known"]:
        print(f"{total['known']} cases are known to fail; the line below counts them as skipped")
    if total["unsteady"]:
        print(f"{total['unsteady']} cases are unsteady; the line below counts them as skipped")
    total["skipped"] += total.pop("known") + total.pop("unsteady")
    print(", ".join(f"{total[v]} {v}" for v in total))
    return total["failed"]


def main():
    parser = argparse.ArgumentParser(prog="./dev test", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="patterns of test names")
    parser.add_argument("--build", default="build", help="the build folder")
    parser.add_argument("-l", "--label", action="append", help="only tests with one of these")
    parser.add_argument("-L", "--exclude", action="append", help="no tests with one of these")
    parser.add_argument("-j", "--jobs", type=int, default=max(2, os.cpu_count() or 2))
    parser.add_argument("--list", action="store_true", help="print the names only")
    parser.add_argument("--patience", type=float, default=1.0,
                        help="multiplies all time limits (sanitizers are slow)")
    parser.add_argument("--once", action="store_true", help="no second run of what failed")
    parser.add_argument("--failures", help="write the text of failures to this file")
    args = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    # A shell's background jobs ignore these, and what they start inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)

    build = os.path.abspath(args.build)
    tests = [t for t in load_tests(build, args.patience) if wanted(t, args)]
    if args.list:
        print("\n".join(f"{t['name']}  {' '.join(t['labels'])}" for t in tests))
        return 0
    if not tests:
        print("no test has such a name and label", file=sys.stderr)
        return 2
    known = load_known()

    def show(result):
        """Marks what is known to fail, prints the result and gives it back."""
        test, cases, seconds = result
        mark_known(test, cases, known)
        failed = failed_cases(cases)
        print(f"{'FAIL' if failed else 'ok  '} {test['name']} "
              f"({len(cases)} cases, {seconds:.1f} s)")
        for case in failed:
            print(f"     {case.name}\n       " + case.text[-2000:].replace("\n", "\n       "))
        return result

    # Those that bear none of their kind beside them (each has an engine of its own) have a lane of their
    # own: they wait more than they compute.
    pool = concurrent.futures.ThreadPoolExecutor(args.jobs)
    lane = concurrent.futures.ThreadPoolExecutor(1)
    with pool, lane:
        # The long ones first, so that the end is not one long test alone.
        order = sorted(tests, key=lambda t: -t["timeout"])
        results = [show(future.result()) for future in concurrent.futures.as_completed(
            [(lane if t["serial"] else pool).submit(run_test, t, build) for t in order])]

    again = [r for r in results if "native" in r[0]["labels"] and failed_cases(r[1])]
    if not args.once and len(again) <= MAX_UNSTEADY:
        for test, cases, _ in again:
            print(f"once more, alone: {test['name']}")
            _, second, _ = show(run_test(test, build))
            cases[:] = merge_second_run(cases, second)
    return 1 if report(results, args) else 0


if __name__ == "__main__":
    sys.exit(main())
