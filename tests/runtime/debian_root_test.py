#!/usr/bin/env python3
"""A Debian root as debootstrap makes one, entered as a bundle: dpkg, apt from a local repository, users.

The root is made of what is installed here: the files of the essential packages and of apt, with their
database. They are linked, not copied, where that can be; the overlay keeps the container from changing them.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys

from lib import ALL_CAPS, Skip, expect, expect_equal, main

CAPS = ALL_CAPS + ["CAP_FOWNER", "CAP_FSETID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_AUDIT_WRITE"]
MORE = ("apt", "passwd", "adduser", "debianutils", "gpgv", "debian-archive-keyring")


def packages():
    """The essential packages and those of MORE with all they depend on, as {name: paragraph}."""
    with open("/var/lib/dpkg/status", encoding="utf-8", errors="replace") as f:
        paragraphs = f.read().split("\n\n")
    by_name, provided = {}, {}
    for text in paragraphs:
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*)$", text, re.M))
        if "installed" in fields.get("Status", "").split():
            by_name[fields["Package"]] = (text, fields)
            for name in re.findall(r"[a-z0-9.+-]+(?= \(=|,|$)", fields.get("Provides", "")):
                provided[name] = fields["Package"]
    wanted = [n for n, (_, f) in by_name.items() if f.get("Essential") == "yes"] + [m for m in MORE if m in by_name]
    chosen = {}
    while wanted:
        name = wanted.pop()
        name = name if name in by_name else provided.get(name)
        if name is None or name in chosen:
            continue
        text, fields = by_name[name]
        chosen[name] = text
        for group in (fields.get("Depends", "") + "," + fields.get("Pre-Depends", "")).split(","):
            names = [re.split(r"[ :(]", n.strip())[0] for n in group.split("|")]
            if not any(n in chosen for n in names):
                wanted += [n for n in names if n in by_name or n in provided][:1]
    return chosen


def link(source, target):
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def make_root(root):
    for d in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink("/" + d):
            os.symlink(os.readlink("/" + d), os.path.join(root, d))
            os.makedirs(os.path.join(root, "usr", d), exist_ok=True)
    for d in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "proc", "sys", "dev", "tmp", "root",
              "var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log/apt", "run"):
        os.makedirs(os.path.join(root, d), exist_ok=True)
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    chosen = packages()
    info = "/var/lib/dpkg/info/"
    for name in os.listdir(info):
        if name.rsplit(".", 1)[0].split(":")[0] in chosen or name == "format":
            link(info + name, root + info + name)
    names = set()
    for name in os.listdir(root + info):
        if name.endswith(".list"):
            with open(info + name, encoding="utf-8") as f:
                names.update(f.read().split("\n"))
    for path in sorted(names - {"", "/."}):
        target = root + os.path.realpath(os.path.dirname(path)) + "/" + os.path.basename(path)
        if os.path.lexists(target) or not os.path.lexists(path):
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            os.makedirs(target, exist_ok=True)
            shutil.copystat(path, target)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            link(path, target)
    # What maintainer scripts make.
    for path in ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/nsswitch.conf", "etc/ld.so.cache",
                 "var/lib/dpkg/triggers/File", "var/lib/dpkg/triggers/Unincorp", "var/lib/dpkg/diversions",
                 "var/lib/dpkg/statoverride", "etc/environment", "etc/pam.d/common-account",
                 "etc/pam.d/common-auth", "etc/pam.d/common-password", "etc/pam.d/common-session",
                 "etc/pam.d/common-session-noninteractive"):
        if os.path.exists("/" + path):
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            shutil.copy2("/" + path, os.path.join(root, path))
    with open(os.path.join(root, "var/lib/dpkg/diversions"), "a", encoding="ascii"):
        pass
    for name in ("awk", "nawk", "which"):  # alternatives
        for folder in ("usr/bin", "etc/alternatives"):
            path = os.path.join(folder, name)
            if os.path.islink("/" + path) and not os.path.lexists(os.path.join(root, path)):
                os.makedirs(os.path.join(root, folder), exist_ok=True)
                os.symlink(os.readlink("/" + path), os.path.join(root, path))
    with open(os.path.join(root, "var/lib/dpkg/status"), "w", encoding="utf-8") as f:
        f.write("\n\n".join(chosen[n] for n in sorted(chosen)) + "\n\n")
    with open(os.path.join(root, "etc/apt/sources.list"), "w", encoding="ascii") as f:
        f.write("deb [trusted=yes] file:/srv/repo ./\n")
    shutil.rmtree(os.path.join(root, "etc/apt/sources.list.d"), ignore_errors=True)
    return len(chosen)


def make_package(repo, name, depends, script):
    tree = os.path.join(repo, "tree")
    os.makedirs(os.path.join(tree, "DEBIAN"))
    os.makedirs(os.path.join(tree, "usr/bin"))
    control = (f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: T <t@example.test>\n"
               f"{depends}Description: {name}\n")
    with open(os.path.join(tree, "DEBIAN/control"), "w", encoding="ascii") as f:
        f.write(control)
    for path, text in ((f"usr/bin/{name}", f"#!/bin/sh\necho this is {name}\n"), ("DEBIAN/postinst", script)):
        with open(os.path.join(tree, path), "w", encoding="ascii") as f:
            f.write(text)
        os.chmod(os.path.join(tree, path), 0o755)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, f"{repo}/{name}.deb"], check=True,
                   stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    with open(f"{repo}/{name}.deb", "rb") as f:
        data = f.read()
    return (f"{control}Filename: ./{name}.deb\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n")


def make_repository(root):
    repo = os.path.join(root, "srv/repo")
    os.makedirs(repo)
    text = make_package(repo, "demo-base", "",
                        "#!/bin/sh\nset -e\nadduser --system --group --home /var/lib/demo demo-user\n")
    text += make_package(repo, "demo-top", "Depends: demo-base (>= 0.5), libc6\n",
                         "#!/bin/sh\nset -e\ninstall -o demo-user -m 600 /dev/null /var/lib/demo/state\n")
    with open(os.path.join(repo, "Packages"), "w", encoding="ascii") as f:
        f.write(text)


SCRIPT = r"""
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
quiet() { "$@" >/tmp/log 2>&1; code=$?; [ $code = 0 ] || cat /tmp/log; echo "$1 $2: $code"; }
cat /proc/1/comm; dpkg -l | grep -c ^ii; dpkg --audit; echo "audit $?"
quiet apt-get update
quiet apt-get install -y --no-install-recommends demo-top
demo-top; demo-base; dpkg -s demo-top | grep Status; stat -c '%U %a' /var/lib/demo/state
dpkg -V demo-top demo-base; apt-cache policy demo-top | sed -n 2p
su -s /bin/sh demo-user -c 'id -un; cat /var/lib/demo/state && echo mine'
su -s /bin/sh nobody -c 'cat /var/lib/demo/state' 2>&1
quiet apt-get purge -y demo-top demo-base
ls /usr/bin/demo-* 2>&1; dpkg -i /srv/repo/demo-top.deb 2>&1 | grep -c 'dependency problems'
quiet apt-get -y -f install
useradd -m -s /bin/bash someone && su - someone -c 'cd; echo x > f; stat -c %U f' && userdel -r someone; echo "users $?"
perl -e 'print join(",", map { $_ * 2 } 1..5), "\n"'; quiet ldconfig -v
"""


def test_dpkg_and_apt_work_in_a_debian_root(box):
    for tool in ("dpkg-deb", "apt-get"):
        if shutil.which(tool) is None:
            raise Skip("no " + tool)
    if os.geteuid() != 0:
        raise Skip("not root")
    shutil.rmtree(box.rootfs)
    os.mkdir(box.rootfs)
    count = make_root(box.rootfs)
    make_repository(box.rootfs)
    before = sum(len(files) for _, _, files in os.walk(box.rootfs))
    box.config["process"]["args"] = ["/bin/bash", "-c", SCRIPT]
    box.config["process"]["capabilities"] = {k: CAPS for k in ("bounding", "effective", "permitted")}
    box.config["mounts"].append({"destination": "/dev/shm", "type": "tmpfs", "source": "shm"})
    box.write_config()
    result = box.call("run", "--bundle", box.bundle, "c", timeout=200)
    expect_equal(result.out, f"""bash
{count}
audit 0
apt-get update: 0
apt-get install: 0
this is demo-top
this is demo-base
Status: install ok installed
demo-user 600
  Installed: 1.0
demo-user
mine
cat: /var/lib/demo/state: Permission denied
apt-get purge: 0
ls: cannot access '/usr/bin/demo-*': No such file or directory
2
apt-get -y: 0
someone
users 0
2,4,6,8,10
ldconfig -v: 0
""", result)
    expect_equal(result.code, 0)
    expect_equal(sum(len(files) for _, _, files in os.walk(box.rootfs)), before, "the root was written to")


if __name__ == "__main__":
    sys.exit(main())
