"""The whole programs that bench.py measures: what each needs, how its folder is made, its command."""

import os
import shutil


class Program:
    """A shell script whose wall time is taken; with `timed_inside` it times a part of itself."""

    def __init__(self, name, script, needs, prepare=None, repeat=1, rounds=3, timed_inside=False):
        self.name, self.script, self.needs = name, script, needs
        self.prepare = prepare or (lambda folder: None)
        self.repeat, self.rounds, self.timed_inside = repeat, rounds, timed_inside

    def missing(self):
        return [n for n in self.needs if not (shutil.which(n) or os.path.exists(n))]


def c_project(folder):
    """Forty C files that include a good deal and a Makefile."""
    for i in range(40):
        with open(os.path.join(folder, f"unit{i}.c"), "w", encoding="utf-8") as f:
            f.write("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
                    "#include <unistd.h>\n#include <pthread.h>\n#include <sys/socket.h>\n")
            for j in range(30):
                f.write(f"int f{i}_{j}(int x) {{ int s = {j}; for (int k = 0; k < x; ++k) "
                        f"s += k * {i + 1} ^ (int)strlen(\"{j}\"); return s; }}\n")
    with open(os.path.join(folder, "main.c"), "w", encoding="utf-8") as f:
        f.write("#include <stdio.h>\n" + "".join(f"int f{i}_0(int);\n" for i in range(40)))
        f.write("int main(void) { int s = 0;\n" +
                "".join(f"s += f{i}_0(3);\n" for i in range(40)) +
                "printf(\"%d\\n\", s); return 0; }\n")
    with open(os.path.join(folder, "Makefile"), "w", encoding="utf-8") as f:
        objects = " ".join(f"unit{i}.o" for i in range(40)) + " main.o"
        f.write(f"CFLAGS = -O1\nprog: {objects}\n\t$(CC) -o $@ {objects}\n")


def many_files(folder):
    """Six hundred small files in twenty folders, for git."""
    for d in range(20):
        os.makedirs(os.path.join(folder, "tree", f"dir{d}"))
        for i in range(30):
            with open(os.path.join(folder, "tree", f"dir{d}", f"file{i}.txt"), "w",
                      encoding="utf-8") as f:
                f.write("".join(f"line {k} of file {d}/{i}\n" for k in range(20 + i)))


GIT = "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b " \
      "GIT_CONFIG_GLOBAL=/dev/null HOME=$PWD; "


def git_repository(folder):
    many_files(folder)
    script = GIT + "cd tree && git init -q . && git add . && git commit -qm one"
    if os.system(f"cd {folder} && ({script}) >/dev/null 2>&1") != 0:
        raise RuntimeError("cannot make a git repository")


PROGRAMS = [
    Program("bash_300_true", "exec bash -c 'for ((i=0;i<300;i++)); do /bin/true; done'", ["bash"]),
    Program("python_100_subprocess", "exec /usr/bin/python3 -c '\n"
            "import subprocess\nfor i in range(100): subprocess.run([\"/bin/true\"], check=True)'",
            ["/usr/bin/python3"]),
    Program("start_python3", "exec /usr/bin/python3 -c pass", ["/usr/bin/python3"], repeat=7),
    Program("start_perl", "exec perl -e 1", ["perl"], repeat=7),
    Program("start_node", "exec node -e 1", ["node"], repeat=5),
    Program("start_java", "exec java -Xshare:auto -version 2>/dev/null", ["java"], repeat=3),
    Program("make_40_c", "exec make -s -j2", ["make", "cc"], c_project),
    Program("git_init_commit", GIT + "cd tree && git init -q . && git add . && git commit -qm one",
            ["git"], many_files),
    Program("git_clone", GIT + "git clone -q tree copy", ["git"], git_repository),
    Program("git_status", GIT + "cd tree && git status --porcelain", ["git"], git_repository,
            repeat=5),
    Program("git_gc", GIT + "cd tree && git gc -q", ["git"], git_repository),
    Program("tar_copy_include", "mkdir out && tar cf - -C /usr include | tar xf - -C out",
            ["tar", "/usr/include"]),
    Program("find_usr_include", "find /usr/include -type f | wc -l >/dev/null",
            ["find", "/usr/include"], repeat=3),
    Program("grep_usr_include", "grep -rl EINVAL /usr/include >/dev/null",
            ["grep", "/usr/include"], repeat=2),
    Program("sh_pipeline", "i=0; while [ $i -lt 100 ]; do echo $i | cat | wc -c >/dev/null; "
            "i=$((i+1)); done", ["cat", "wc"]),
    Program("gzip_8m", "head -c 8000000 /dev/zero | tr '\\0' 'a' | gzip -c | gzip -dc | wc -c "
            ">/dev/null", ["gzip"]),
    Program("python_threads", "exec /usr/bin/python3 -c '\n"
            "import threading, hashlib\n"
            "def f():\n  for i in range(2000): hashlib.sha256(bytes(4096)).digest()\n"
            "ts=[threading.Thread(target=f) for _ in range(8)]\n"
            "[t.start() for t in ts]; [t.join() for t in ts]'", ["/usr/bin/python3"]),
]
