// pivot_root and chroot. Each case works in a child with a user and a mount namespace of its own, so it needs no
// privilege.
#include <dirent.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "tests/util/mount_util.h"
#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

TEST(PivotRootTest, PutsTheOldRootAside) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"new"});
    CHECK_CHILD(mount("none", "new", "tmpfs", 0, nullptr) == 0);
    Mkdirs({"new/old", "new/here"});
    CHECK_CHILD(syscall(SYS_pivot_root, "new", "new/old") == 0);
    CHECK_CHILD(chdir("/") == 0);
    CHECK_CHILD(Exists("/here") && Exists("/old/proc"));
    CHECK_CHILD(umount2("/old", MNT_DETACH) == 0);
    CHECK_CHILD(!Exists("/old/proc"));
    CHECK_CHILD(rmdir("/old") == 0);
    return 0;
  })));
}

TEST(PivotRootTest, OnItselfAndAway) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"new"});
    CHECK_CHILD(mount("none", "new", "tmpfs", 0, nullptr) == 0);
    Mkdirs({"new/here"});
    CHECK_CHILD(chdir("new") == 0);
    CHECK_CHILD(syscall(SYS_pivot_root, ".", ".") == 0);
    CHECK_CHILD(umount2(".", MNT_DETACH) == 0);
    CHECK_CHILD(chdir("/") == 0);
    CHECK_CHILD(Exists("/here") && !Exists("/proc"));
    return 0;
  })));
}

TEST(PivotRootTest, MovesThoseWhoStoodInTheOldRoot) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"new"});
    CHECK_CHILD(mount("none", "new", "tmpfs", 0, nullptr) == 0);
    Mkdirs({"new/old", "new/here"});
    Pipe go;
    const pid_t child = fork();
    if (child == 0) {
      CHECK_CHILD(chdir("/") == 0);
      go.writer.Reset();
      char c;
      CHECK_CHILD(read(go.reader.get(), &c, 1) == 0);
      _exit(Exists("here") && Exists("/here") ? 0 : 1);
    }
    usleep(20000);
    CHECK_CHILD(syscall(SYS_pivot_root, "new", "new/old") == 0);
    go.writer.Reset();
    int status;
    CHECK_CHILD(waitpid(child, &status, 0) == child);
    return WEXITSTATUS(status);
  })));
}

TEST(PivotRootTest, WhatCannotBe) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"new", "plain", "plain/old"});
    Touch("f");
    CHECK_CHILD(mount("none", "new", "tmpfs", 0, nullptr) == 0);
    Mkdirs({"new/old"});
    CHECK_FAILS(syscall(SYS_pivot_root, "missing", "new/old"), ENOENT);
    CHECK_FAILS(syscall(SYS_pivot_root, "f", "new/old"), ENOTDIR);
    CHECK_FAILS(syscall(SYS_pivot_root, "new", "f"), ENOTDIR);
    CHECK_FAILS(syscall(SYS_pivot_root, "plain", "plain/old"), EINVAL);
    CHECK_FAILS(syscall(SYS_pivot_root, "new", "plain"), EINVAL);
    // EBUSY where the root is the top of the namespace, EINVAL where it is locked above another.
    CHECK_CHILD(syscall(SYS_pivot_root, "/", "new/old") == -1 && (errno == EBUSY || errno == EINVAL));
    CHECK_CHILD(mount(nullptr, "new", nullptr, MS_SHARED, nullptr) == 0);
    CHECK_FAILS(syscall(SYS_pivot_root, "new", "new/old"), EINVAL);
    return 0;
  })));
}

TEST(ChrootTest, HidesWhatIsOutside) {
  EXPECT_TRUE(Exited(InMounts([] {
    Mkdirs({"r", "r/in", "locked"});
    Touch("f");
    CHECK_FAILS(chroot("missing"), ENOENT);
    CHECK_FAILS(chroot("f"), ENOTDIR);
    CHECK_FAILS(chroot(static_cast<const char*>(BadAddress())), EFAULT);
    CHECK_CHILD(chroot("r") == 0);
    CHECK_CHILD(Exists("/in") && !Exists("/proc"));
    CHECK_CHILD(chdir("/") == 0);
    CHECK_CHILD(Exists("../../in"));
    char cwd[64];
    CHECK_CHILD(getcwd(cwd, sizeof(cwd)) != nullptr && std::string(cwd) == "/");
    return 0;
  })));
}

}  // namespace
}  // namespace ringwall::test
