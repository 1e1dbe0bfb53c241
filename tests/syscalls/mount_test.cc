// mount and umount2: file systems, binds, moves, flags, propagation, locked mounts, and what /proc says of them. Each case works in a child with a user and a mount namespace of
// its own, so it needs no privilege.
#include <dirent.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "tests/util/mount_util.h"
#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr int kDeep = 10000;  // more calls in each other than a kernel's stack holds

// --- mount: file systems and arguments

TEST(MountTest, NeedsPrivilege) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    CHECK_FAILS(mount("none", "/tmp", "tmpfs", 0, nullptr), EPERM);
    CHECK_FAILS(mount("/", "/tmp", nullptr, MS_BIND, nullptr), EPERM);
    CHECK_FAILS(umount2("/tmp", 0), EPERM);
    CHECK_FAILS(umount2("/", MNT_DETACH), EPERM);
    CHECK_FAILS(syscall(SYS_pivot_root, "/", "/"), EPERM);
    CHECK_FAILS(chroot("/"), EPERM);
    return 0;
  })));
}

TEST(MountTest, AFileSystemCoversADirectory) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m", "m/below"});
    CHECK_CHILD(mount("src", "m", "tmpfs", 0, "size=1m,mode=700") == 0);
    CHECK_CHILD(!Exists("m/below"));
    struct stat st;
    CHECK_CHILD(stat("m", &st) == 0 && (st.st_mode & 07777) == 0700 && st.st_uid == 0);
    const MountLine line = LineOf("m");
    CHECK_CHILD(line.type == "tmpfs" && line.source == "src" && line.root == "/");
    CHECK_CHILD(line.options == "rw,relatime");
    CHECK_CHILD(line.super_options.find("size=1024k") != std::string::npos);
    CHECK_CHILD(line.super_options.find("mode=700") != std::string::npos);
    struct statfs fs;
    CHECK_CHILD(statfs("m", &fs) == 0 && fs.f_type == 0x01021994 && fs.f_blocks == 256);
    CHECK_CHILD(umount("m") == 0);
    CHECK_CHILD(Exists("m/below"));
    CHECK_FAILS(umount("m"), EINVAL);
    return 0;
  })));
}

TEST(MountTest, BadArguments) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m"});
    Touch("f");
    CHECK_FAILS(mount("none", "m", nullptr, 0, nullptr), EINVAL);
    CHECK_FAILS(mount("none", "m", "nosuchfs", 0, nullptr), ENODEV);
    CHECK_FAILS(mount("none", "missing", "tmpfs", 0, nullptr), ENOENT);
    CHECK_FAILS(mount("none", "f", "tmpfs", 0, nullptr), ENOTDIR);
    CHECK_FAILS(mount("none", "f/x", "tmpfs", 0, nullptr), ENOTDIR);
    CHECK_FAILS(mount("none", "", "tmpfs", 0, nullptr), ENOENT);
    CHECK_FAILS(mount("none", "m", "tmpfs", 0, "nosuchoption"), EINVAL);
    CHECK_FAILS(mount("none", "m", "tmpfs", 0, "size=x"), EINVAL);
    CHECK_FAILS(mount("none", "m", "tmpfs", 0, "mode=9"), EINVAL);
    CHECK_FAILS(mount("none", "m", "tmpfs", 1ul << 31, nullptr), EINVAL);
    CHECK_FAILS(mount("none", static_cast<const char*>(BadAddress()), "tmpfs", 0, nullptr), EFAULT);
    CHECK_FAILS(mount("none", "m", static_cast<const char*>(BadAddress()), 0, nullptr), EFAULT);
    CHECK_FAILS(mount(static_cast<const char*>(BadAddress()), "m", "tmpfs", 0, nullptr), EFAULT);
    CHECK_FAILS(mount("none", "m", "tmpfs", 0, BadAddress()), EFAULT);
    const std::string name(5000, 'x');
    CHECK_FAILS(mount("none", name.c_str(), "tmpfs", 0, nullptr), ENAMETOOLONG);
    CHECK_FAILS(mount("none", "m", name.c_str(), 0, nullptr), EINVAL);
    CHECK_FAILS(mount(name.c_str(), "m", "tmpfs", 0, nullptr), EINVAL);
    // A device is needed, and devtmpfs is not for user namespaces.
    CHECK_FAILS(mount("none", "m", "devtmpfs", 0, nullptr), EPERM);
    return 0;
  })));
}

TEST(MountTest, TheOldMagicIsLetPass) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m"});
    CHECK_CHILD(mount("none", "m", "tmpfs", 0xc0ed0000 | MS_NOSUID, nullptr) == 0);
    CHECK_CHILD(LineOf("m").options == "rw,nosuid,relatime");
    return 0;
  })));
}

TEST(MountTest, MountsStackOnOnePlace) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m"});
    for (const char* name : {"one", "two", "three"}) {
      CHECK_CHILD(mount(name, "m", "tmpfs", 0, nullptr) == 0);
      Touch((std::string("m/") + name).c_str());
    }
    CHECK_CHILD(Count("m") == 3);
    CHECK_CHILD(Exists("m/three") && !Exists("m/two"));
    CHECK_CHILD(umount("m") == 0);
    CHECK_CHILD(Exists("m/two") && !Exists("m/one"));
    CHECK_CHILD(umount("m") == 0 && umount("m") == 0);
    CHECK_FAILS(umount("m"), EINVAL);
    return 0;
  })));
}

TEST(MountTest, FlagsShowAndWork) {
  EXPECT_TRUE(Exited(InMounts([] {
    const struct {
      unsigned long flag;
      const char* text;
      unsigned long st;
    } flags[] = {{MS_RDONLY, "ro,relatime", ST_RDONLY},
                 {MS_NOSUID, "rw,nosuid,relatime", ST_NOSUID},
                 {MS_NODEV, "rw,nodev,relatime", ST_NODEV},
                 {MS_NOEXEC, "rw,noexec,relatime", ST_NOEXEC},
                 {MS_NOATIME, "rw,noatime", ST_NOATIME},
                 {MS_NODIRATIME, "rw,nodiratime,relatime", ST_NODIRATIME},
                 {MS_STRICTATIME, "rw", 0},
                 {MS_RELATIME, "rw,relatime", ST_RELATIME}};
    Mkdirs({"m"});
    for (const auto& f : flags) {
      CHECK_CHILD(mount("none", "m", "tmpfs", f.flag, nullptr) == 0);
      if (LineOf("m").options != f.text) {
        dprintf(2, "%s instead of %s\n", LineOf("m").options.c_str(), f.text);
        return 1;
      }
      struct statvfs vfs;
      CHECK_CHILD(statvfs("m", &vfs) == 0);
      CHECK_CHILD(f.st == 0 ? (vfs.f_flag & (ST_RELATIME | ST_NOATIME)) == 0
                            : (vfs.f_flag & f.st) == f.st);
      CHECK_CHILD(umount("m") == 0);
    }
    CHECK_CHILD(mount("none", "m", "tmpfs", MS_RDONLY, nullptr) == 0);
    CHECK_FAILS(mkdir("m/d", 0755), EROFS);
    CHECK_FAILS(open("m/f", O_CREAT | O_RDWR, 0644), EROFS);
    CHECK_CHILD(LineOf("m").super_options.starts_with("ro"));
    return 0;
  })));
}

TEST(MountTest, NosymfollowStopsAtLinks) {
  EXPECT_TRUE(Exited(InMounts([] {
    constexpr long kFlag = 0x2000;  // ST_NOSYMFOLLOW
    Mkdirs({"m"});
    CHECK_CHILD(mount("none", "m", "tmpfs", 0, nullptr) == 0);
    Touch("m/f");
    CHECK_CHILD(symlink("f", "m/link") == 0 && symlink("m/f", "outside") == 0);
    CHECK_CHILD(mount(nullptr, "m", nullptr, MS_REMOUNT | MS_BIND | MS_NOSYMFOLLOW, nullptr) == 0);
    struct stat st;
    char text[4];
    CHECK_FAILS(stat("m/link", &st), ELOOP);
    CHECK_FAILS(open("m/link", O_RDONLY), ELOOP);
    CHECK_CHILD(lstat("m/link", &st) == 0 && S_ISLNK(st.st_mode));
    CHECK_CHILD(readlink("m/link", text, sizeof(text)) == 1);
    CHECK_CHILD(stat("outside", &st) == 0);
    struct statfs fs;
    CHECK_CHILD(statfs("m", &fs) == 0 && (fs.f_flags & kFlag) != 0);
    CHECK_CHILD(LineOf("m").options.find("nosymfollow") != std::string::npos);
    CHECK_CHILD(mount(nullptr, "m", nullptr, MS_REMOUNT | MS_BIND, nullptr) == 0);
    CHECK_CHILD(stat("m/link", &st) == 0 && statfs("m", &fs) == 0 && (fs.f_flags & kFlag) == 0);
    return 0;
  })));
}

TEST(MountTest, NoexecKeepsProgramsFromRunning) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m"});
    CHECK_CHILD(mount("none", "m", "tmpfs", MS_NOEXEC, nullptr) == 0);
    Fd fd(open("m/x", O_CREAT | O_WRONLY | O_CLOEXEC, 0755));
    CHECK_CHILD(write(fd.get(), "#!/bin/true\n", 12) == 12);
    fd.Reset();
    CHECK_FAILS(execl("m/x", "x", nullptr), EACCES);
    CHECK_FAILS(access("m/x", X_OK), EACCES);
    Fd file(open("m/x", O_RDONLY | O_CLOEXEC));
    void* p = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file.get(), 0);
    CHECK_CHILD(p == MAP_FAILED && errno == EPERM);
    return 0;
  })));
}

TEST(MountTest, ProcOfANewPidNamespace) {
  EXPECT_TRUE(Exited(InChild([] {
    BecomeRootInside(CLONE_NEWNS | CLONE_NEWPID);
    CHECK_CHILD(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    const pid_t child = fork();
    if (child == 0) {
      CHECK_CHILD(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == 0);
      char self[32] = {};
      CHECK_CHILD(readlink("/proc/self", self, sizeof(self)) == 1 && self[0] == '1');
      CHECK_CHILD(ReadFile("/proc/self/stat").starts_with("1 ("));
      CHECK_CHILD(!Exists("/proc/2"));
      DIR* dir = opendir("/proc");
      int processes = 0;
      while (dirent* e = readdir(dir)) processes += e->d_name[0] >= '1' && e->d_name[0] <= '9';
      closedir(dir);
      CHECK_CHILD(processes == 1);
      _exit(0);
    }
    int status;
    CHECK_CHILD(waitpid(child, &status, 0) == child);
    return WEXITSTATUS(status);
  })));
}

// --- umount

TEST(UmountTest, BadArguments) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m", "d"});
    CHECK_CHILD(symlink("m", "link") == 0);
    CHECK_CHILD(mount("none", "m", "tmpfs", 0, nullptr) == 0);
    CHECK_FAILS(umount2("m", 0x100), EINVAL);
    CHECK_FAILS(umount2("m", MNT_EXPIRE | MNT_DETACH), EINVAL);
    CHECK_FAILS(umount2("d", 0), EINVAL);
    CHECK_FAILS(umount2("missing", 0), ENOENT);
    CHECK_FAILS(umount2("", 0), ENOENT);
    CHECK_FAILS(umount2(static_cast<const char*>(BadAddress()), 0), EFAULT);
    CHECK_FAILS(umount2("link", UMOUNT_NOFOLLOW), EINVAL);
    CHECK_CHILD(umount2("m", MNT_FORCE) == 0);
    CHECK_CHILD(mount("none", "m", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(umount2("link", 0) == 0);
    return 0;
  })));
}

TEST(MountTest, RamfsKnowsItsModeAlone) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m", "n"});
    CHECK_CHILD(mount("none", "m", "ramfs", 0, "size=1m,mode=700,nosuchoption,modes=9") == 0);
    CHECK_FAILS(mount("none", "n", "ramfs", 0, "mode=9"), EINVAL);
    CHECK_FAILS(mount("none", "n", "ramfs", 0, "mode"), EINVAL);
    struct statfs s;
    CHECK_CHILD(statfs("m", &s) == 0);
    CHECK_CHILD(s.f_type == 0x858458f6 && s.f_bsize == 4096 && s.f_namelen == 255);
    CHECK_CHILD(s.f_blocks == 0 && s.f_bfree == 0 && s.f_files == 0 && s.f_ffree == 0);
    struct stat root;
    CHECK_CHILD(stat("m", &root) == 0 && (root.st_mode & 07777) == 0700 && root.st_uid == 0);
    const MountLine line = Mountinfo().back();
    CHECK_CHILD(line.type == "ramfs" && line.super_options == "rw,mode=700");
    // A remount takes no notice of what it understands.
    CHECK_CHILD(mount("none", "m", nullptr, MS_REMOUNT, "mode=755,size=x") == 0);
    CHECK_FAILS(mount("none", "m", nullptr, MS_REMOUNT, "mode=9"), EINVAL);
    CHECK_CHILD(Mountinfo().back().super_options == "rw,mode=700");
    CHECK_CHILD(mount("none", "n", "ramfs", 0, nullptr) == 0);
    CHECK_CHILD(stat("n", &root) == 0 && (root.st_mode & 07777) == 0755);
    CHECK_CHILD(Mountinfo().back().super_options == "rw");
    {
      Fd fd(open("n/f", O_RDWR | O_CREAT | O_CLOEXEC, 0644));
      CHECK_CHILD(write(fd.get(), "text", 4) == 4);
      char text[8] = {};
      CHECK_CHILD(pread(fd.get(), text, sizeof(text), 0) == 4 && strcmp(text, "text") == 0);
    }
    CHECK_FAILS(setxattr("n/f", "user.a", "1", 1, 0), EOPNOTSUPP);
    CHECK_FAILS(getxattr("n/f", "user.a", nullptr, 0), EOPNOTSUPP);
    CHECK_FAILS(removexattr("n/f", "user.a"), EOPNOTSUPP);
    CHECK_CHILD(listxattr("n/f", nullptr, 0) == 0);
    return 0;
  })));
}

TEST(UmountTest, BusyWhileInUse) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m"});
    CHECK_CHILD(mount("none", "m", "tmpfs", 0, nullptr) == 0);
    {
      Fd fd(open("m", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      CHECK_FAILS(umount("m"), EBUSY);
    }
    {
      Fd fd(open("m", O_PATH | O_CLOEXEC));
      CHECK_FAILS(umount("m"), EBUSY);
    }
    Mkdirs({"m/sub"});
    CHECK_CHILD(mount("none", "m/sub", "tmpfs", 0, nullptr) == 0);
    CHECK_FAILS(umount("m"), EBUSY);
    CHECK_CHILD(umount("m/sub") == 0);
    CHECK_CHILD(chdir("m") == 0);
    CHECK_FAILS(umount2("../m", 0), EBUSY);
    CHECK_CHILD(chdir("..") == 0);
    Touch("m/f");
    Fd file(open("m/f", O_RDONLY | O_CLOEXEC));
    void* p = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, file.get(), 0);
    file.Reset();
    CHECK_FAILS(umount("m"), EBUSY);
    CHECK_CHILD(munmap(p, 4096) == 0);
    CHECK_CHILD(umount("m") == 0);
    return 0;
  })));
}

TEST(UmountTest, DetachLeavesItToItsUsers) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m"});
    CHECK_CHILD(mount("none", "m", "tmpfs", 0, nullptr) == 0);
    Touch("m/f");
    Mkdirs({"m/sub"});
    CHECK_CHILD(mount("none", "m/sub", "tmpfs", 0, nullptr) == 0);
    Touch("m/sub/g");
    Fd dir(open("m", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    CHECK_CHILD(umount2("m", MNT_DETACH) == 0);
    CHECK_CHILD(!Exists("m/f"));
    CHECK_CHILD(faccessat(dir.get(), "f", F_OK, 0) == 0);
    // What was mounted in it is gone from it too.
    CHECK_CHILD(faccessat(dir.get(), "sub/g", F_OK, 0) == -1);
    CHECK_CHILD(openat(dir.get(), "..", O_RDONLY) >= 0);
    CHECK_CHILD(fchdir(dir.get()) == 0);
    char cwd[4096];
    CHECK_CHILD(syscall(SYS_getcwd, cwd, sizeof(cwd)) > 0);
    CHECK_CHILD(std::string(cwd) == "(unreachable)/");
    return 0;
  })));
}

TEST(UmountTest, ExpiresAtTheSecondAsking) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m"});
    CHECK_CHILD(mount("none", "m", "tmpfs", 0, nullptr) == 0);
    CHECK_FAILS(umount2("m", MNT_EXPIRE), EAGAIN);
    // Any use starts it anew.
    CHECK_CHILD(Exists("m/."));
    CHECK_FAILS(umount2("m", MNT_EXPIRE), EAGAIN);
    {
      Fd fd(open("m", O_RDONLY | O_CLOEXEC));
      CHECK_FAILS(umount2("m", MNT_EXPIRE), EBUSY);
    }
    CHECK_FAILS(umount2("m", MNT_EXPIRE), EAGAIN);
    CHECK_CHILD(umount2("m", MNT_EXPIRE) == 0);
    CHECK_FAILS(umount2("m", MNT_EXPIRE), EINVAL);
    return 0;
  })));
}

// --- bind, move, remount

TEST(BindTest, ShowsASubtreeElsewhere) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "a/sub", "b"});
    Touch("a/sub/f");
    CHECK_CHILD(mount("a/sub", "b", nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(Exists("b/f"));
    Touch("b/g");
    CHECK_CHILD(Exists("a/sub/g"));
    const MountLine line = LineOf("b");
    CHECK_CHILD(line.root == "/a/sub" && line.source == "work" && line.type == "tmpfs");
    struct stat one, two;
    CHECK_CHILD(stat("a/sub/f", &one) == 0 && stat("b/f", &two) == 0);
    CHECK_CHILD(one.st_ino == two.st_ino && one.st_dev == two.st_dev);
    // Links and renames do not cross mounts, even of one file system.
    CHECK_FAILS(rename("b/f", "a/f"), EXDEV);
    CHECK_FAILS(link("b/f", "a/f"), EXDEV);
    CHECK_CHILD(umount("b") == 0);
    return 0;
  })));
}

TEST(BindTest, NoWayUpFromWhatWasMovedOutOfIt) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "a/sub", "a/sub/deep", "b", "elsewhere"});
    Touch("elsewhere/secret");
    CHECK_CHILD(mount("a", "b", nullptr, MS_BIND, nullptr) == 0);
    Fd work(open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    CHECK_CHILD(work.ok() && chdir("b/sub/deep") == 0);
    CHECK_CHILD(Exists("../../sub"));
    CHECK_CHILD(renameat(work.get(), "a/sub", work.get(), "elsewhere/sub") == 0);
    CHECK_FAILS(chdir("../.."), ENOENT);
    CHECK_FAILS(access("../../secret", F_OK), ENOENT);
    CHECK_FAILS(open("../../secret", O_RDONLY), ENOENT);
    CHECK_CHILD(chdir("/") == 0);
    return 0;
  })));
}

TEST(BindTest, FilesBindToFiles) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"d"});
    CHECK_CHILD(Write("/dev/null", ""));
    Touch("a");
    Touch("b");
    CHECK_CHILD(Write("a", "hello"));
    CHECK_CHILD(mount("a", "b", nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(ReadFile("b") == "hello");
    CHECK_FAILS(unlink("b"), EBUSY);
    CHECK_FAILS(rename("b", "c"), EBUSY);
    CHECK_FAILS(mount("a", "d", nullptr, MS_BIND, nullptr), ENOTDIR);
    CHECK_FAILS(mount("d", "a", nullptr, MS_BIND, nullptr), ENOTDIR);
    CHECK_FAILS(mount(nullptr, "d", nullptr, MS_BIND, nullptr), EINVAL);
    CHECK_FAILS(mount("", "d", nullptr, MS_BIND, nullptr), EINVAL);
    CHECK_FAILS(mount("missing", "d", nullptr, MS_BIND, nullptr), ENOENT);
    CHECK_CHILD(umount("b") == 0 && ReadFile("b").empty());
    return 0;
  })));
}

TEST(BindTest, RecursiveTakesTheMountsBelow) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "a/m", "b", "c"});
    CHECK_CHILD(mount("in", "a/m", "tmpfs", 0, nullptr) == 0);
    Touch("a/m/f");
    CHECK_CHILD(mount("a", "b", nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(Exists("b/m") && !Exists("b/m/f"));
    CHECK_CHILD(mount("a", "c", nullptr, MS_BIND | MS_REC, nullptr) == 0);
    CHECK_CHILD(Exists("c/m/f"));
    CHECK_FAILS(umount("c"), EBUSY);
    CHECK_CHILD(umount2("c", MNT_DETACH) == 0);
    CHECK_CHILD(Count("c/m") == 0 && Exists("a/m/f"));
    return 0;
  })));
}

TEST(BindTest, ReadOnlyByASecondCall) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "b"});
    // The flags of the first call do not count.
    CHECK_CHILD(mount("a", "b", nullptr, MS_BIND | MS_RDONLY, nullptr) == 0);
    Touch("b/f");
    CHECK_CHILD(mount(nullptr, "b", nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr) == 0);
    CHECK_FAILS(open("b/f", O_WRONLY), EROFS);
    CHECK_FAILS(open("b/g", O_WRONLY | O_CREAT, 0644), EROFS);
    CHECK_FAILS(unlink("b/f"), EROFS);
    CHECK_FAILS(chmod("b/f", 0600), EROFS);
    CHECK_FAILS(access("b/f", W_OK), EROFS);
    Touch("a/g");
    const MountLine line = LineOf("b");
    CHECK_CHILD(line.options == "ro,relatime" && line.super_options.starts_with("rw"));
    CHECK_CHILD(mount(nullptr, "b", nullptr, MS_BIND | MS_REMOUNT, nullptr) == 0);
    Touch("b/h");
    return 0;
  })));
}

TEST(RemountTest, ReadOnlyNeedsNoWriters) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m"});
    CHECK_CHILD(mount("none", "m", "tmpfs", 0, nullptr) == 0);
    Fd fd(open("m/f", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    CHECK_FAILS(mount(nullptr, "m", nullptr, MS_REMOUNT | MS_RDONLY, nullptr), EBUSY);
    CHECK_FAILS(mount(nullptr, "m", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), EBUSY);
    fd.Reset();
    CHECK_CHILD(mount(nullptr, "m", nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0);
    CHECK_FAILS(open("m/f", O_WRONLY), EROFS);
    CHECK_CHILD(LineOf("m").super_options.starts_with("ro"));
    CHECK_CHILD(mount(nullptr, "m", nullptr, MS_REMOUNT, nullptr) == 0);
    CHECK_CHILD(open("m/f", O_WRONLY) >= 0);
    return 0;
  })));
}

TEST(MountTest, FurtherNamesCountAsInodes) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m"});
    CHECK_CHILD(mount("none", "m", "tmpfs", 0, "nr_inodes=3") == 0);
    Touch("m/a");
    CHECK_CHILD(link("m/a", "m/b") == 0);
    CHECK_FAILS(link("m/a", "m/c"), ENOSPC);
    CHECK_FAILS(mkdir("m/c", 0700), ENOSPC);
    CHECK_CHILD(unlink("m/a") == 0);
    CHECK_CHILD(mkdir("m/c", 0700) == 0);
    return 0;
  })));
}

TEST(RemountTest, ChangesOptionsAndFlags) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"m", "d"});
    CHECK_CHILD(mount("none", "m", "tmpfs", MS_NOATIME, "size=64k") == 0);
    CHECK_CHILD(mount(nullptr, "m", nullptr, MS_REMOUNT | MS_NOSUID, "size=128k") == 0);
    struct statfs fs;
    CHECK_CHILD(statfs("m", &fs) == 0 && fs.f_blocks == 32);
    // Access times stay as they were when nothing is said of them.
    CHECK_CHILD(LineOf("m").options == "rw,nosuid,noatime");
    CHECK_FAILS(mount(nullptr, "m", nullptr, MS_REMOUNT, "nosuchoption"), EINVAL);
    CHECK_FAILS(mount(nullptr, "d", nullptr, MS_REMOUNT, nullptr), EINVAL);
    CHECK_FAILS(mount(nullptr, "d", nullptr, MS_REMOUNT | MS_BIND, nullptr), EINVAL);
    return 0;
  })));
}

TEST(MoveTest, TakesAMountElsewhere) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "b", "plain"});
    Touch("f");
    CHECK_CHILD(mount("none", "a", "tmpfs", 0, nullptr) == 0);
    Mkdirs({"a/sub"});
    CHECK_CHILD(mount("none", "a/sub", "tmpfs", 0, nullptr) == 0);
    const int id = LineOf("a").id;
    CHECK_CHILD(mount("a", "b", nullptr, MS_MOVE, nullptr) == 0);
    CHECK_CHILD(LineOf("b").id == id && Count("a") == 0 && Count("b/sub") == 1);
    CHECK_FAILS(mount("plain", "a", nullptr, MS_MOVE, nullptr), EINVAL);
    CHECK_FAILS(mount("b", "b/sub", nullptr, MS_MOVE, nullptr), ELOOP);
    CHECK_FAILS(mount("b", "f", nullptr, MS_MOVE, nullptr), EINVAL);
    CHECK_FAILS(mount("/", "a", nullptr, MS_MOVE, nullptr), EINVAL);
    CHECK_FAILS(mount(nullptr, "a", nullptr, MS_MOVE, nullptr), EINVAL);
    CHECK_FAILS(mount("missing", "a", nullptr, MS_MOVE, nullptr), ENOENT);
    return 0;
  })));
}

// --- propagation

TEST(PropagationTest, KindsShowInMountinfo) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "b"});
    CHECK_CHILD(mount("none", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(LineOf("a").optional.empty());
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SHARED, nullptr) == 0);
    CHECK_CHILD(LineOf("a").optional.starts_with("shared:"));
    // A slave without peers has no master.
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SLAVE, nullptr) == 0);
    CHECK_CHILD(LineOf("a").optional.empty());
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_UNBINDABLE, nullptr) == 0);
    CHECK_CHILD(LineOf("a").optional == "unbindable");
    CHECK_FAILS(mount("a", "b", nullptr, MS_BIND, nullptr), EINVAL);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_PRIVATE, nullptr) == 0);
    CHECK_CHILD(LineOf("a").optional.empty());
    CHECK_CHILD(mount("a", "b", nullptr, MS_BIND, nullptr) == 0);
    CHECK_FAILS(mount(nullptr, "a", nullptr, MS_SHARED | MS_PRIVATE, nullptr), EINVAL);
    CHECK_FAILS(mount(nullptr, "a", nullptr, MS_SHARED | MS_NOSUID, nullptr), EINVAL);
    Mkdirs({"d"});
    CHECK_FAILS(mount(nullptr, "d", nullptr, MS_SHARED, nullptr), EINVAL);
    return 0;
  })));
}

TEST(PropagationTest, PeersSeeEachOthersMounts) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "b"});
    CHECK_CHILD(mount("none", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SHARED, nullptr) == 0);
    Mkdirs({"a/x", "a/y"});
    CHECK_CHILD(mount("a", "b", nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(LineOf("b").optional == LineOf("a").optional);
    CHECK_CHILD(mount("none", "a/x", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(Count("b/x") == 1);
    CHECK_CHILD(LineOf("a/x").optional == LineOf("b/x").optional);
    CHECK_CHILD(mount("none", "b/y", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(Count("a/y") == 1);
    CHECK_CHILD(umount("b/x") == 0);
    CHECK_CHILD(Count("a/x") == 0);
    // A copy that is in use keeps the original from going.
    Fd busy(open("b/y", O_RDONLY | O_CLOEXEC));
    CHECK_FAILS(umount("a/y"), EBUSY);
    busy.Reset();
    CHECK_CHILD(umount("a/y") == 0 && Count("b/y") == 0);
    return 0;
  })));
}

TEST(PropagationTest, SlavesOnlyReceive) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "b"});
    CHECK_CHILD(mount("none", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SHARED, nullptr) == 0);
    Mkdirs({"a/x", "a/y"});
    CHECK_CHILD(mount("a", "b", nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "b", nullptr, MS_SLAVE, nullptr) == 0);
    const std::string group = LineOf("a").optional.substr(7);
    CHECK_CHILD(LineOf("b").optional == "master:" + group);
    CHECK_CHILD(mount("none", "a/x", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(Count("b/x") == 1);
    CHECK_CHILD(LineOf("b/x").optional == "master:" + LineOf("a/x").optional.substr(7));
    CHECK_CHILD(mount("none", "b/y", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(Count("a/y") == 0);
    CHECK_CHILD(umount("b/x") == 0);
    CHECK_CHILD(Count("a/x") == 1);
    // Shared and a slave at once.
    CHECK_CHILD(mount(nullptr, "b", nullptr, MS_SHARED, nullptr) == 0);
    CHECK_CHILD(LineOf("b").optional.starts_with("shared:") &&
                LineOf("b").optional.ends_with(" master:" + group));
    return 0;
  })));
}

TEST(PropagationTest, ASlaveOfASlaveHearsOfItToo) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "b", "c", "d"});
    CHECK_CHILD(mount("none", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SHARED, nullptr) == 0);
    Mkdirs({"a/x"});
    CHECK_CHILD(mount("a", "b", nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "b", nullptr, MS_SLAVE, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "b", nullptr, MS_SHARED, nullptr) == 0);
    CHECK_CHILD(mount("b", "c", nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(mount("b", "d", nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "d", nullptr, MS_SLAVE, nullptr) == 0);
    CHECK_CHILD(mount("none", "a/x", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(Count("b/x") == 1 && Count("c/x") == 1 && Count("d/x") == 1);
    CHECK_CHILD(LineOf("b/x").optional == LineOf("c/x").optional);
    const std::string b = LineOf("b/x").optional;
    CHECK_CHILD(b.starts_with("shared:") && b.find("master:") != std::string::npos);
    const std::string group = b.substr(7, b.find(' ') - 7);
    CHECK_CHILD(LineOf("d/x").optional == "master:" + group);
    CHECK_CHILD(umount("a/x") == 0);
    CHECK_CHILD(Count("b/x") == 0 && Count("c/x") == 0 && Count("d/x") == 0);
    return 0;
  })));
}

TEST(PropagationTest, MovesOutOfSharedParentsAreRefused) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "b", "c"});
    CHECK_CHILD(mount("none", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SHARED, nullptr) == 0);
    Mkdirs({"a/x", "a/y"});
    CHECK_CHILD(mount("none", "a/x", "tmpfs", 0, nullptr) == 0);
    CHECK_FAILS(mount("a/x", "b", nullptr, MS_MOVE, nullptr), EINVAL);
    CHECK_CHILD(mount("none", "b", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "b", nullptr, MS_UNBINDABLE, nullptr) == 0);
    CHECK_FAILS(mount("b", "a/y", nullptr, MS_MOVE, nullptr), EINVAL);
    CHECK_CHILD(mount(nullptr, "b", nullptr, MS_PRIVATE, nullptr) == 0);
    CHECK_CHILD(mount("b", "a/y", nullptr, MS_MOVE, nullptr) == 0);
    CHECK_CHILD(LineOf("a/y").optional.starts_with("shared:"));
    return 0;
  })));
}

// A bind of a directory onto itself lies on its own peer: it is seen at both, and neither is in use.
TEST(PropagationTest, ABindOnItselfComesOffAgain) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "b", "d"});
    CHECK_CHILD(mount("t", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SHARED, nullptr) == 0);
    CHECK_CHILD(mount("a", "b", nullptr, MS_BIND, nullptr) == 0);
    Mkdirs({"a/x"});
    CHECK_CHILD(mount("a/x", "a/x", nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(mount("d", "a/x", nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(umount("a/x") == 0);
    CHECK_CHILD(umount("a/x") == 0);
    CHECK_FAILS(umount("a/x"), EINVAL);
    CHECK_FAILS(umount("b/x"), EINVAL);
    CHECK_CHILD(umount("b") == 0 && umount("a") == 0);
    return 0;
  })));
}

// What moves onto a peer of its own gets a copy of itself there too.
TEST(PropagationTest, AMoveOntoAPeerReachesItself) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "b"});
    CHECK_CHILD(mount("t", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SHARED, nullptr) == 0);
    CHECK_CHILD(mount("a", "b", nullptr, MS_BIND, nullptr) == 0);
    Mkdirs({"a/x", "a/y"});
    CHECK_CHILD(mount("a", "b/x", nullptr, MS_MOVE, nullptr) == 0);
    CHECK_CHILD(!Exists("a/y") && Exists("b/x/y") && Exists("b/x/x/y") && !Exists("b/x/x/x/y"));
    CHECK_FAILS(umount("b/x"), EBUSY);
    CHECK_CHILD(umount("b/x/x") == 0);
    CHECK_CHILD(umount("b") == 0);
    return 0;
  })));
}

// Mounts that an unmount reaches may lie on each other: those below go once those on them do.
TEST(PropagationTest, AnUnmountTakesNestedPeers) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a"});
    CHECK_CHILD(mount("t", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SHARED, nullptr) == 0);
    Mkdirs({"a/x"});
    CHECK_CHILD(mount("a/x", "a/x", nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(mount("a", "a/x", nullptr, MS_BIND | MS_REC, nullptr) == 0);
    CHECK_CHILD(Mountinfo().size() >= 6 && Exists("a/x/x"));
    CHECK_CHILD(umount("a/x/x") == 0);
    CHECK_CHILD(!Exists("a/x/x"));
    CHECK_CHILD(umount("a/x") == 0);
    CHECK_FAILS(umount("a/x"), EINVAL);
    CHECK_CHILD(umount("a") == 0);
    return 0;
  })));
}

TEST(PropagationTest, RecursiveChangesAll) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a"});
    CHECK_CHILD(mount("none", "a", "tmpfs", 0, nullptr) == 0);
    Mkdirs({"a/x"});
    CHECK_CHILD(mount("none", "a/x", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SHARED | MS_REC, nullptr) == 0);
    CHECK_CHILD(LineOf("a/x").optional.starts_with("shared:"));
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_PRIVATE, nullptr) == 0);
    CHECK_CHILD(LineOf("a/x").optional.starts_with("shared:"));
    return 0;
  })));
}

TEST(PropagationTest, NamespacesArePeers) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a"});
    CHECK_CHILD(mount("none", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SHARED, nullptr) == 0);
    Mkdirs({"a/x", "a/y"});
    Pipe ready, go;
    const pid_t child = fork();
    if (child == 0) {
      CHECK_CHILD(unshare(CLONE_NEWNS) == 0);
      CHECK_CHILD(mount("none", "a/x", "tmpfs", 0, nullptr) == 0);
      Touch("a/x/f");
      CHECK_CHILD(write(ready.writer.get(), "x", 1) == 1);
      char c;
      CHECK_CHILD(read(go.reader.get(), &c, 1) == 1);
      CHECK_CHILD(Count("a/y") == 1);
      _exit(0);
    }
    char c;
    CHECK_CHILD(read(ready.reader.get(), &c, 1) == 1);
    CHECK_CHILD(Exists("a/x/f"));
    CHECK_CHILD(mount("none", "a/y", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(write(go.writer.get(), "x", 1) == 1);
    int status;
    CHECK_CHILD(waitpid(child, &status, 0) == child);
    // What it mounted stays here when its namespace goes.
    CHECK_CHILD(Exists("a/x/f"));
    return WEXITSTATUS(status);
  })));
}

// --- user namespaces

TEST(LockedMountTest, WhatCameFromOutsideCannotBeTakenOff) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a", "b"});
    CHECK_CHILD(mount("none", "a", "tmpfs", MS_RDONLY | MS_NOSUID, nullptr) == 0);
    CHECK_CHILD(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
    CHECK_CHILD(Write("/proc/self/uid_map", "0 0 1"));
    CHECK_CHILD(Write("/proc/self/gid_map", "0 0 1"));
    CHECK_FAILS(umount("a"), EINVAL);
    CHECK_FAILS(umount2("a", MNT_DETACH), EINVAL);
    CHECK_FAILS(mount("a", "b", nullptr, MS_MOVE, nullptr), EINVAL);
    CHECK_FAILS(mount(".", "b", nullptr, MS_BIND, nullptr), EINVAL);
    CHECK_CHILD(mount(".", "b", nullptr, MS_BIND | MS_REC, nullptr) == 0);
    CHECK_FAILS(mount(nullptr, "a", nullptr, MS_REMOUNT | MS_BIND | MS_NOSUID, nullptr), EPERM);
    CHECK_FAILS(mount(nullptr, "a", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY, nullptr), EPERM);
    CHECK_FAILS(mount(nullptr, "a", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NOATIME,
                      nullptr), EPERM);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV,
                      nullptr) == 0);
    // One's own are one's own.
    CHECK_CHILD(mount("none", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(umount("a") == 0);
    return 0;
  })));
}

TEST(LockedMountTest, SharedMountsBecomeSlaves) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a"});
    CHECK_CHILD(mount("none", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, "a", nullptr, MS_SHARED, nullptr) == 0);
    const std::string group = LineOf("a").optional.substr(7);
    const pid_t child = fork();
    if (child == 0) {
      CHECK_CHILD(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
      CHECK_CHILD(LineOf("a").optional == "master:" + group);
      _exit(0);
    }
    int status;
    CHECK_CHILD(waitpid(child, &status, 0) == child && status == 0);
    // A slave whose master is gone is nobody's slave.
    CHECK_CHILD(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
    CHECK_CHILD(LineOf("a").optional.empty());
    return 0;
  })));
}

TEST(LockedMountTest, DevicesOfAUserNamespaceDoNotOpen) {
  EXPECT_TRUE(Exited(InMounts([] {
    CHECK_FAILS(mknod("null", S_IFCHR | 0666, makedev(1, 3)), EPERM);
    CHECK_CHILD(mknod("whiteout", S_IFCHR | 0666, 0) == 0);
    CHECK_CHILD(mkfifo("fifo", 0600) == 0);
    return 0;
  })));
}

// --- /proc

TEST(ProcMountsTest, MountsIsOneLineForEach) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a b"});
    CHECK_CHILD(mount("so urce", "a b", "tmpfs", MS_NOEXEC, "size=4k") == 0);
    const std::string mounts = ReadFile("/proc/self/mounts");
    char cwd[4096];
    CHECK_CHILD(getcwd(cwd, sizeof(cwd)) != nullptr);
    const std::string start = "so\\040urce " + std::string(cwd) + "/a\\040b tmpfs rw,noexec,relatime,size=4k";
    const size_t at = mounts.find(start);
    CHECK_CHILD(at != std::string::npos);
    CHECK_CHILD(mounts.find(" 0 0\n", at) != std::string::npos);
    const std::string stats = ReadFile("/proc/self/mountstats");
    CHECK_CHILD(stats.find("device so\\040urce mounted on " + std::string(cwd) + "/a\\040b with fstype tmpfs\n") !=
                std::string::npos);
    return 0;
  })));
}

TEST(ProcMountsTest, ParentsAreListedBeforeTheirChildren) {
  EXPECT_TRUE(Exited(InMounts([] {
    const std::vector<MountLine> all = Mountinfo();
    CHECK_CHILD(!all.empty());
    struct stat st;
    CHECK_CHILD(stat(".", &st) == 0);
    const MountLine own = LineOf("");
    CHECK_CHILD(own.dev == std::to_string(major(st.st_dev)) + ":" + std::to_string(minor(st.st_dev)));
    bool parent = false;
    for (const MountLine& m : all) parent |= m.id == own.parent;
    CHECK_CHILD(parent);
    return 0;
  })));
}

TEST(ProcMountsTest, AChangeIsAnEvent) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"a"});
    Fd mounts(open("/proc/self/mounts", O_RDONLY));
    pollfd p = {mounts.get(), POLLPRI, 0};
    CHECK_CHILD(poll(&p, 1, 0) == 0);
    CHECK_CHILD(mount("x", "a", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(poll(&p, 1, 0) == 1 && p.revents == (POLLPRI | POLLERR));
    CHECK_CHILD(poll(&p, 1, 0) == 0);  // told once
    Fd events(epoll_create1(0));
    epoll_event event = {EPOLLPRI, {}};
    CHECK_CHILD(epoll_ctl(events.get(), EPOLL_CTL_ADD, mounts.get(), &event) == 0);
    CHECK_CHILD(umount("a") == 0);
    CHECK_CHILD(epoll_wait(events.get(), &event, 1, 10'000) == 1 && (event.events & EPOLLPRI) != 0);
    return 0;
  })));
}

TEST(MountTest, NotOnTheLinksOfDescriptors) {
  EXPECT_TRUE(Exited(InMounts([] {
    Touch("a");
    Touch("b");
    Fd a(open("a", O_RDONLY));
    Fd link(open(("/proc/self/fd/" + std::to_string(a.get())).c_str(), O_PATH | O_NOFOLLOW));
    const std::string place = "/proc/self/fd/" + std::to_string(link.get());
    CHECK_CHILD(mount("b", place.c_str(), "", MS_BIND, nullptr) == -1 && errno == ENOENT);
    return 0;
  })));
}

// A tree of any depth ends with its file system, whoever held which part of it.
TEST(MountTest, DeepTreesEnd) {
  EXPECT_TRUE(Exited(InMounts([] {
    CHECK_CHILD(mkdir("m", 0755) == 0 && mount("deep", "m", "tmpfs", 0, nullptr) == 0);
    CHECK_CHILD(chdir("m") == 0);
    for (int i = 0; i < kDeep; i++) {
      if (mkdir("d", 0755) != 0 || chdir("d") != 0) return 1;
    }
    CHECK_CHILD(chdir("/") == 0);
    const int fd = open("/proc/self/mounts", O_RDONLY);  // what it ends with works on
    CHECK_CHILD(fd >= 0 && close(fd) == 0);
    return 0;
  })));
}

}  // namespace
}  // namespace ringwall::test
