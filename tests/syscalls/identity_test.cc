// getpid and who we are: pids, users, groups, and setting them.
#include <grp.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

TEST(IdentityTest, PidIsSteadyAndEqualsTheMainThreadsTid) {
  EXPECT_GT(getpid(), 0);
  EXPECT_EQ(getpid(), syscall(SYS_getpid));
  EXPECT_EQ(getpid(), syscall(SYS_gettid));
}

TEST(IdentityTest, ThreadsShareThePidButNotTheTid) {
  pid_t pid = 0, tid = 0;
  std::thread([&] {
    pid = static_cast<pid_t>(syscall(SYS_getpid));
    tid = static_cast<pid_t>(syscall(SYS_gettid));
  }).join();
  EXPECT_EQ(pid, getpid());
  EXPECT_NE(tid, getpid());
}

TEST(IdentityTest, ChildHasItsOwnPidAndUsAsParent) {
  const pid_t us = getpid();
  EXPECT_TRUE(Exited(InChild([=] { return getpid() != us && getppid() == us ? 0 : 1; })));
}

TEST(IdentityTest, RealAndEffectiveIdsAgreeWithGetres) {
  uid_t r, e, s;
  ASSERT_OK(getresuid(&r, &e, &s));
  EXPECT_EQ(r, getuid());
  EXPECT_EQ(e, geteuid());
  gid_t gr, ge, gs;
  ASSERT_OK(getresgid(&gr, &ge, &gs));
  EXPECT_EQ(gr, getgid());
  EXPECT_EQ(ge, getegid());
}

TEST(IdentityTest, GetresuidChecksEachPointer) {
  uid_t id;
  EXPECT_FAILS(syscall(SYS_getresuid, BadAddress(), &id, &id), EFAULT);
  EXPECT_FAILS(syscall(SYS_getresuid, &id, BadAddress(), &id), EFAULT);
  EXPECT_FAILS(syscall(SYS_getresgid, &id, &id, BadAddress()), EFAULT);
}

TEST(IdentityTest, GroupsCountFitsAndTooSmallABufferIsRefused) {
  const int n = getgroups(0, nullptr);
  ASSERT_OK(n);
  std::vector<gid_t> groups(n + 1);
  EXPECT_EQ(getgroups(n + 1, groups.data()), n);
  EXPECT_FAILS(getgroups(-1, groups.data()), EINVAL);
  if (n > 1) {
    EXPECT_FAILS(getgroups(n - 1, groups.data()), EINVAL);
  }
}

TEST(IdentityTest, RootMayBecomeAnyoneAndNotReturn) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_TRUE(Exited(InChild([] {
    const gid_t extra[] = {10, 20};
    CHECK_CHILD(setgroups(2, extra) == 0);
    gid_t got[4];
    CHECK_CHILD(getgroups(4, got) == 2 && got[0] == 10 && got[1] == 20);
    CHECK_CHILD(setresgid(3, 4, 5) == 0);
    CHECK_CHILD(getgid() == 3 && getegid() == 4);
    CHECK_CHILD(setresuid(1000, 1001, 1002) == 0);
    uid_t r, e, s;
    CHECK_CHILD(getresuid(&r, &e, &s) == 0 && r == 1000 && e == 1001 && s == 1002);
    CHECK_CHILD(setuid(0) == -1 && errno == EPERM);
    CHECK_CHILD(setgroups(0, nullptr) == -1 && errno == EPERM);
    CHECK_CHILD(seteuid(1002) == 0 && geteuid() == 1002);
    CHECK_CHILD(setresuid(-1, -1, 1000) == 0);
    CHECK_CHILD(setreuid(-1, 1001) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST(IdentityTest, FsuidFollowsTheEffectiveUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(setfsuid(77) == 0);
    CHECK_CHILD(setfsuid(-1) == 77);
    CHECK_CHILD(seteuid(5) == 0);
    CHECK_CHILD(setfsuid(-1) == 5);
    CHECK_CHILD(setfsgid(-1) == static_cast<int>(getegid()));
    return 0;
  })));
}

TEST(IdentityTest, FsuidTakesNoCapabilitiesWhereNothingIsFixedUp) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_TRUE(Exited(InChild([] {
    const auto may_override = [] {
      const std::string status = ReadFile("/proc/self/status");
      const size_t at = status.find("CapEff:");
      return (strtoull(status.c_str() + at + 7, nullptr, 16) & 2) != 0;
    };
    CHECK_CHILD(prctl(PR_SET_SECUREBITS, 4) == 0);
    setfsuid(77);
    CHECK_CHILD(may_override());
    setfsuid(0);
    CHECK_CHILD(prctl(PR_SET_SECUREBITS, 0) == 0);
    setfsuid(77);
    CHECK_CHILD(!may_override());
    return 0;
  })));
}

TEST(IdentityTest, ExecThatChangesTheIdsForFilesLeavesNoDumps) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  // The files of a process whose memory may not be dumped are root's.
  const auto run = [](bool as_root) {
    return InChild([as_root] {
      CHECK_CHILD(setresuid(5, 5, 0) == 0);
      if (as_root) setfsuid(0);
      execl("/bin/sh", "sh", "-c", "test $(stat -c %u /proc/$$/stat) = $0", as_root ? "0" : "5", nullptr);
      return 99;
    });
  };
  EXPECT_TRUE(Exited(run(false)));
  EXPECT_TRUE(Exited(run(true)));
}

TEST(IdentityTest, ChownThatTakesTheSetUserBitIsForOwners) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  const std::string name = dir / "f";
  close(open(name.c_str(), O_CREAT | O_RDWR, 0755));
  ASSERT_OK(chmod(dir.path().c_str(), 0755));
  EXPECT_TRUE(Exited(InChildAsNobody([&] { return chown(name.c_str(), -1u, -1u) == 0 ? 0 : 1; })));
  ASSERT_OK(chmod(name.c_str(), 04755));
  EXPECT_TRUE(Exited(InChildAsNobody([&] { return chown(name.c_str(), -1u, -1u) == -1 && errno == EPERM ? 0 : 1; })));
  EXPECT_OK(chown(name.c_str(), -1u, -1u));
  struct stat st;
  ASSERT_OK(stat(name.c_str(), &st));
  EXPECT_EQ(st.st_mode & 07777, 0755u);
}

TEST(IdentityTest, AnOrdinaryUserMayNotBecomeRoot) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    CHECK_CHILD(setuid(0) == -1 && errno == EPERM);
    CHECK_CHILD(setgid(0) == -1 && errno == EPERM);
    CHECK_CHILD(setresuid(-1, 0, -1) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST(IdentityTest, UmaskReturnsTheOldOneAndKeepsNineBits) {
  const mode_t old = umask(0777777);
  EXPECT_EQ(umask(old), 0777u);
}

}  // namespace
}  // namespace ringwall::test
