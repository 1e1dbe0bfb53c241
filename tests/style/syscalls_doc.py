#!/usr/bin/env python3
"""docs/syscalls.md from the table of system calls (syscalls/table_x86_64.cc).

Without arguments: says whether the page is what the table makes of it. --write makes it anew. Also
holds the counts that the project aims at: no row missing, at least FULL full and at most PARTIAL partial.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
TABLE = ROOT / "syscalls" / "table_x86_64.cc"
PAGE = ROOT / "docs" / "syscalls.md"
LAST, PARTIAL = 462, 40
# Linux has no x86-64 calls with these numbers.
GAP = range(336, 424)

ROW = re.compile(r'\{(\d+), "([^"]+)",\s*(.*?)Support::k(\w+)\s*(?:,\s*"((?:[^"\\]|\\.)*)")?', re.S)
LEVELS = {"Full": "full", "Partial": "partial", "None": "not there"}


def rows():
    for m in ROW.finditer(TABLE.read_text()):
        number, name, handler, level, note = m.groups()
        note = note or ""
        if level == "None" and not note:
            note = "ENOSYS"
        yield int(number), name, LEVELS[level], note


def page(all_rows):
    count = {level: sum(1 for r in all_rows if r[2] == level) for level in LEVELS.values()}
    lines = [
        "# System calls",
        "",
        "Made from `syscalls/table_x86_64.cc` by `tests/style/syscalls_doc.py --write`; a test keeps it true.",
        "",
        f"x86-64 Linux 6.12: {len(all_rows)} calls, {count['full']} in full, {count['partial']} in part, "
        f"{count['not there']} not there (they answer as a kernel without the feature).",
        "",
        "| number | call | support | note |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {n} | {name} | {level} | {note} |" for n, name, level, note in all_rows]
    return "\n".join(lines) + "\n"


def check():
    """Yields what is wrong."""
    all_rows = list(rows())
    have = [r[0] for r in all_rows]
    for n in range(LAST + 1):
        if n not in GAP and n not in have:
            yield f"{TABLE.name}: no row for system call {n}"
    if have != sorted(set(have)):
        yield f"{TABLE.name}: rows are not in order"
    partial = sum(1 for r in all_rows if r[2] == "partial")
    if partial > PARTIAL:
        yield f"{TABLE.name}: {partial} rows are partial, at most {PARTIAL} may be"
    if not PAGE.exists() or PAGE.read_text() != page(all_rows):
        yield f"{PAGE.name} is not what the table says: run tests/style/syscalls_doc.py --write"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page(list(rows())))
    problems = list(check())
    print("\n".join(problems) or "ok")
    sys.exit(1 if problems else 0)
