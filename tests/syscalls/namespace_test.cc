// clone, unshare and setns with namespaces, /proc/PID/ns, the id maps of user namespaces, and pid
// namespaces. Each case works in a child with a user namespace of its own, so it needs no privilege.
#include <grp.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <linux/capability.h>
#include <sys/ioctl.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/utsname.h>

#include <thread>

#include "tests/util/namespace_util.h"
#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr int kNsGetUserns = 0xb701, kNsGetParent = 0xb702, kNsGetNstype = 0xb703,
              kNsGetOwnerUid = 0xb704;

int WriteError(const std::string& path, const std::string& text) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.ok()) return errno;
  return write(fd.get(), text.data(), text.size()) < 0 ? errno : 0;
}

std::string NsName(const std::string& who, const char* kind) {
  char buf[64];
  const ssize_t n = readlink(("/proc/" + who + "/ns/" + kind).c_str(), buf, sizeof(buf));
  return n < 0 ? "" : std::string(buf, n);
}

pid_t Clone(uint64_t flags, int* pidfd = nullptr) {
  clone_args args = {};
  args.flags = flags | (pidfd != nullptr ? CLONE_PIDFD : 0);
  args.pidfd = reinterpret_cast<uint64_t>(pidfd);
  args.exit_signal = SIGCHLD;
  return static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
}

int WaitFor(pid_t pid) {
  int status = -1;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// --- unshare

TEST(UnshareTest, RefusesUnknownFlags) {
  EXPECT_FAILS(unshare(0x1), EINVAL);
  EXPECT_FAILS(unshare(CLONE_VFORK), EINVAL);
  EXPECT_FAILS(unshare(CLONE_PARENT_SETTID), EINVAL);
  EXPECT_OK(unshare(0));
  EXPECT_OK(unshare(CLONE_FILES | CLONE_FS | CLONE_SYSVSEM));
  EXPECT_OK(unshare(CLONE_THREAD | CLONE_SIGHAND | CLONE_VM));
}

TEST(UnshareTest, ThreadsCannotLeaveTheirProcess) {
  EXPECT_TRUE(Exited(InChild([] {
    std::thread other([] {
      CHECK_CHILD(unshare(CLONE_THREAD) == -1 && errno == EINVAL);
      CHECK_CHILD(unshare(CLONE_SIGHAND) == -1 && errno == EINVAL);
      CHECK_CHILD(unshare(CLONE_VM) == -1 && errno == EINVAL);
      CHECK_CHILD(unshare(CLONE_NEWUSER) == -1 && errno == EINVAL);
      CHECK_CHILD(unshare(CLONE_FS) == 0);
      CHECK_CHILD(unshare(CLONE_FILES) == 0);
    });
    other.join();
    return 0;
  })));
}

TEST(UnshareTest, NamespacesNeedPrivilege) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    for (const int flag : {CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET,
                           CLONE_NEWCGROUP}) {
      CHECK_CHILD(unshare(flag) == -1 && errno == EPERM);
      CHECK_CHILD(Clone(flag) == -1 && errno == EPERM);
    }
    return 0;
  })));
}

TEST(UnshareTest, AUserNamespaceGivesThePrivilegeForTheOthers) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    const std::string before = NsName("self", "uts");
    CHECK_CHILD(unshare(CLONE_NEWUSER | CLONE_NEWUTS) == 0);
    CHECK_CHILD(NsName("self", "uts") != before);
    for (const int flag : {CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET}) {
      CHECK_CHILD(unshare(flag) == 0);
    }
    return 0;
  })));
}

TEST(UnshareTest, EachKindGetsANewNumber) {
  EXPECT_TRUE(Exited(InChild([] {
    BecomeRootInside();
    const struct {
      int flag;
      const char* name;
    } kinds[] = {{CLONE_NEWNS, "mnt"}, {CLONE_NEWUTS, "uts"}, {CLONE_NEWIPC, "ipc"},
                 {CLONE_NEWNET, "net"}, {CLONE_NEWCGROUP, "cgroup"},
                 {CLONE_NEWUSER, "user"}};
    for (const auto& kind : kinds) {
      const std::string before = NsName("self", kind.name);
      CHECK_CHILD(!before.empty());
      CHECK_CHILD(unshare(kind.flag) == 0);
      CHECK_CHILD(NsName("self", kind.name) != before);
      CHECK_CHILD(NsName("self", kind.name).starts_with(std::string(kind.name) + ":["));
    }
    return 0;
  })));
}

TEST(UnshareTest, AChrootKeepsOneFromMakingUserNamespaces) {
  const TempDir dir;
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside();
    CHECK_CHILD(chroot(dir.path().c_str()) == 0);
    CHECK_CHILD(unshare(CLONE_NEWUSER) == -1 && errno == EPERM);
    return 0;
  })));
}

// --- uts

TEST(UtsNamespaceTest, NamesAreItsOwn) {
  char before[65];
  ASSERT_OK(gethostname(before, sizeof(before)));
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside(CLONE_NEWUTS);
    char now[65];
    CHECK_CHILD(gethostname(now, sizeof(now)) == 0 && strcmp(now, before) == 0);
    CHECK_CHILD(sethostname("inside", 6) == 0);
    CHECK_CHILD(setdomainname("domain", 6) == 0);
    utsname u;
    CHECK_CHILD(uname(&u) == 0);
    CHECK_CHILD(strcmp(u.nodename, "inside") == 0 && strcmp(u.domainname, "domain") == 0);
    CHECK_CHILD(syscall(SYS_sethostname, "x", -1) == -1 && errno == EINVAL);
    CHECK_CHILD(syscall(SYS_sethostname, "x", 65) == -1 && errno == EINVAL);
    CHECK_CHILD(ReadFile("/proc/sys/kernel/hostname") == "inside\n");
    return 0;
  })));
  char after[65];
  ASSERT_OK(gethostname(after, sizeof(after)));
  EXPECT_STREQ(after, before);
}

TEST(UtsNamespaceTest, TheOuterNameNeedsOuterPrivilege) {
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside();
    CHECK_CHILD(sethostname("inside", 6) == -1 && errno == EPERM);
    CHECK_CHILD(setdomainname("inside", 6) == -1 && errno == EPERM);
    return 0;
  })));
}

// --- user namespaces

TEST(UserNamespaceTest, IdsAreNobodysBeforeAMap) {
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(unshare(CLONE_NEWUSER) == 0);
    CHECK_CHILD(getuid() == 65534 && geteuid() == 65534);
    CHECK_CHILD(getgid() == 65534 && getegid() == 65534);
    CHECK_CHILD(ReadFile("/proc/self/uid_map").empty());
    CHECK_CHILD(ReadFile("/proc/self/setgroups") == "allow\n");
    CHECK_CHILD(setuid(0) == -1 && errno == EINVAL);
    CHECK_CHILD(setgid(0) == -1 && errno == EINVAL);
    CHECK_CHILD(setgroups(0, nullptr) == -1 && errno == EPERM);
    struct stat st;
    CHECK_CHILD(stat("/", &st) == 0 && st.st_uid == 65534);
    return 0;
  })));
}

TEST(UserNamespaceTest, AMapIsWrittenOnce) {
  EXPECT_TRUE(Exited(InChild([] {
    const std::string uid = std::to_string(geteuid());
    CHECK_CHILD(unshare(CLONE_NEWUSER) == 0);
    CHECK_CHILD(Write("/proc/self/uid_map", "7 " + uid + " 1\n"));
    CHECK_CHILD(getuid() == 7);
    CHECK_CHILD(WriteError("/proc/self/uid_map", "8 " + uid + " 1\n") == EPERM);
    char line[64];
    snprintf(line, sizeof(line), "%10u %10s %10u\n", 7, uid.c_str(), 1);
    CHECK_CHILD(ReadFile("/proc/self/uid_map") == line);
    return 0;
  })));
}

TEST(UserNamespaceTest, BadMapsAreRefused) {
  EXPECT_TRUE(Exited(InChild([] {
    const std::string uid = std::to_string(geteuid());
    CHECK_CHILD(unshare(CLONE_NEWUSER) == 0);
    const char* const kMap = "/proc/self/uid_map";
    for (const char* bad : {"x", "0", "0 0", "0 0 0", "0 0 1 1", "-1 0 1", "0 0 4294967295 ",
                            "4294967295 0 1", "0 4294967295 1", "0 0 1\n0 1 1", "0 0 1\n1 0 1", "\n"}) {
      const int error = WriteError(kMap, bad);
      if (error != EINVAL && !(error == EPERM && std::string(bad).starts_with("0 0 4294967295"))) {
        dprintf(2, "map \"%s\": %s\n", bad, ErrnoName(error).c_str());
        return 1;
      }
    }
    CHECK_CHILD(WriteError(kMap, std::string(5000, ' ')) == EINVAL);
    return 0;
  })));
}

TEST(UserNamespaceTest, WithoutPrivilegeOnlyOnesOwnIdIsMapped) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    CHECK_CHILD(prctl(PR_SET_DUMPABLE, 1) == 0);
    CHECK_CHILD(unshare(CLONE_NEWUSER) == 0);
    CHECK_CHILD(WriteError("/proc/self/uid_map", "0 0 1") == EPERM);
    CHECK_CHILD(WriteError("/proc/self/uid_map", "0 65534 2") == EPERM);
    // The group needs setgroups to be given up first.
    CHECK_CHILD(WriteError("/proc/self/gid_map", "0 65534 1") == EPERM);
    CHECK_CHILD(Write("/proc/self/setgroups", "deny"));
    CHECK_CHILD(Write("/proc/self/gid_map", "0 65534 1"));
    CHECK_CHILD(Write("/proc/self/uid_map", "0 65534 1"));
    CHECK_CHILD(getuid() == 0 && getgid() == 0);
    CHECK_CHILD(WriteError("/proc/self/setgroups", "allow") == EPERM);
    CHECK_CHILD(ReadFile("/proc/self/setgroups") == "deny\n");
    CHECK_CHILD(setgroups(0, nullptr) == -1 && errno == EPERM);
    CHECK_CHILD(setuid(0) == 0 && setgid(0) == 0);
    CHECK_CHILD(setuid(1) == -1 && errno == EINVAL);
    return 0;
  })));
}

TEST(UserNamespaceTest, SetgroupsFileTakesTwoWords) {
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(unshare(CLONE_NEWUSER) == 0);
    CHECK_CHILD(WriteError("/proc/self/setgroups", "maybe") == EINVAL);
    CHECK_CHILD(WriteError("/proc/self/setgroups", "allow") == 0);
    CHECK_CHILD(WriteError("/proc/self/setgroups", "deny\n") == 0);
    CHECK_CHILD(WriteError("/proc/self/setgroups", "allow") == EPERM);
    return 0;
  })));
}

TEST(UserNamespaceTest, CapabilitiesAreFullInsideAndNoneOutside) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    CHECK_CHILD(unshare(CLONE_NEWUSER) == 0);
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    CHECK_CHILD(syscall(SYS_capget, &header, data) == 0);
    CHECK_CHILD((data[0].effective & (1u << CAP_SYS_ADMIN)) != 0);
    CHECK_CHILD((data[0].permitted & (1u << CAP_SETUID)) != 0);
    CHECK_CHILD(data[0].inheritable == 0);
    // What is not of this namespace stays out of reach.
    CHECK_CHILD(sethostname("x", 1) == -1 && errno == EPERM);
    CHECK_CHILD(chown("/", 65534, -1) == -1);
    CHECK_CHILD(kill(1, 0) == -1 && (errno == EPERM || errno == ESRCH));
    return 0;
  })));
}

// Whose capabilities come and go with its ids is the root of the namespace, whatever it is outside.
TEST(UserNamespaceTest, CapabilitiesFollowTheRootInside) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0777));
  Pipe ready, go;
  const pid_t child = fork();
  if (child == 0) {
    const auto has = [](int cap) {
      __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
      __user_cap_data_struct data[2] = {};
      CHECK_CHILD(syscall(SYS_capget, &header, data) == 0);
      const uint32_t bit = 1u << cap;
      return std::pair((data[0].effective & bit) != 0, (data[0].permitted & bit) != 0);
    };
    using Caps = std::pair<bool, bool>;
    CHECK_CHILD(unshare(CLONE_NEWUSER) == 0);
    char c = 'x';
    CHECK_CHILD(write(ready.writer.get(), &c, 1) == 1 && read(go.reader.get(), &c, 1) == 1);
    CHECK_CHILD(setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0);
    CHECK_CHILD(has(CAP_SYS_ADMIN) == Caps(true, true));
    setfsuid(5);
    CHECK_CHILD(has(CAP_CHOWN) == Caps(false, true) && has(CAP_SYS_ADMIN) == Caps(true, true));
    setfsuid(0);
    CHECK_CHILD(has(CAP_CHOWN) == Caps(true, true));
    CHECK_CHILD(setresuid(-1, 5, -1) == 0 && has(CAP_SYS_ADMIN) == Caps(false, true));
    CHECK_CHILD(setresuid(-1, 0, -1) == 0 && has(CAP_SYS_ADMIN) == Caps(true, true));
    // access() asks with what the real id would have.
    const std::string closed = dir / "closed";
    CHECK_CHILD(mkdir(closed.c_str(), 0) == 0 && access(closed.c_str(), R_OK) == 0);
    CHECK_CHILD(setresuid(5, 0, 0) == 0 && access(closed.c_str(), R_OK) == -1 && errno == EACCES);
    CHECK_CHILD(setresuid(5, 5, 5) == 0 && has(CAP_SYS_ADMIN) == Caps(false, false));
    _exit(0);
  }
  const std::string proc = "/proc/" + std::to_string(child) + "/";
  char c;
  ASSERT_EQ(read(ready.reader.get(), &c, 1), 1);
  EXPECT_EQ(WriteError(proc + "uid_map", "0 100000 10"), 0);
  EXPECT_EQ(WriteError(proc + "gid_map", "0 100000 10"), 0);
  ASSERT_EQ(write(go.writer.get(), &c, 1), 1);
  EXPECT_EQ(WaitFor(child), 0);
}

TEST(UserNamespaceTest, RootInsideOwnsWhatItsUserOwns) {
  const TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0777));
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    BecomeRootInside();
    const std::string file = dir.File("f", "x", 0600);
    struct stat st;
    CHECK_CHILD(stat(file.c_str(), &st) == 0 && st.st_uid == 0 && st.st_gid == 0);
    CHECK_CHILD(chown(file.c_str(), 0, 0) == 0);
    CHECK_CHILD(chown(file.c_str(), 1, 0) == -1 && errno == EINVAL);
    CHECK_CHILD(chmod(file.c_str(), 04755) == 0);
    // A directory of the outer root is not ours whatever our capabilities are.
    CHECK_CHILD(stat("/", &st) == 0 && st.st_uid == 65534);
    CHECK_CHILD(chmod("/", 0777) == -1);
    CHECK_CHILD(mknod((dir / "dev").c_str(), S_IFCHR | 0600, 0x103) == -1 && errno == EPERM);
    return 0;
  })));
  struct stat st;
  ASSERT_OK(stat((dir / "f").c_str(), &st));
  EXPECT_EQ(st.st_uid, getuid() == 0 ? 65534 : getuid());
}

TEST(UserNamespaceTest, TheMapReadsDifferentlyFromElsewhere) {
  Pipe ready, go;
  const pid_t child = fork();
  if (child == 0) {
    BecomeRootInside();
    CHECK_CHILD(write(ready.writer.get(), "x", 1) == 1);
    char c;
    CHECK_CHILD(read(go.reader.get(), &c, 1) == 1);
    _exit(0);
  }
  char c;
  ASSERT_EQ(read(ready.reader.get(), &c, 1), 1);
  char line[64];
  snprintf(line, sizeof(line), "%10u %10u %10u\n", 0, geteuid(), 1);
  EXPECT_EQ(ReadFile("/proc/" + std::to_string(child) + "/uid_map"), line);
  EXPECT_NE(NsName(std::to_string(child), "user"), NsName("self", "user"));
  ASSERT_EQ(write(go.writer.get(), "x", 1), 1);
  EXPECT_TRUE(Exited(WaitFor(child)));
}

TEST(UserNamespaceTest, TheyNestToADepthOf33) {
  EXPECT_TRUE(Exited(InChild([] {
    const uid_t uid = geteuid();
    int depth = 0;
    int error = 0;
    uid_t outer = uid;
    gid_t outer_group = getegid();
    for (; depth < 40; depth++) {
      if (unshare(CLONE_NEWUSER) != 0) {
        error = errno;
        break;
      }
      if (depth == 0) CHECK_CHILD(Write("/proc/self/setgroups", "deny"));
      CHECK_CHILD(Write("/proc/self/uid_map", "0 " + std::to_string(outer) + " 1"));
      CHECK_CHILD(Write("/proc/self/gid_map", "0 " + std::to_string(outer_group) + " 1"));
      outer = outer_group = 0;
    }
    CHECK_CHILD(error == ENOSPC);
    return 0;
  })));
}

// --- /proc/PID/ns and setns

TEST(SetnsTest, BadDescriptors) {
  EXPECT_FAILS(setns(-1, 0), EBADF);
  Fd file(open("/dev/null", O_RDONLY));
  EXPECT_FAILS(setns(file.get(), 0), EINVAL);
  Fd ns(open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC));
  ASSERT_TRUE(ns.ok());
  EXPECT_FAILS(setns(ns.get(), CLONE_NEWNET), EINVAL);
  Fd path(open("/proc/self/ns/uts", O_PATH | O_CLOEXEC));
  EXPECT_FAILS(setns(path.get(), 0), EBADF);
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  Fd own(pidfd);
  EXPECT_FAILS(setns(own.get(), 0), EINVAL);
  EXPECT_FAILS(setns(own.get(), CLONE_VM), EINVAL);
}

TEST(SetnsTest, GoesBackToWhatADescriptorHolds) {
  EXPECT_TRUE(Exited(InChild([] {
    BecomeRootInside(CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP);
    for (const char* kind : {"uts", "ipc", "net", "cgroup"}) {
      const std::string path = std::string("/proc/self/ns/") + kind;
      const std::string before = NsName("self", kind);
      Fd old(open(path.c_str(), O_RDONLY | O_CLOEXEC));
      CHECK_CHILD(old.ok());
      const int flag = ioctl(old.get(), kNsGetNstype);
      CHECK_CHILD(flag == CLONE_NEWUTS || flag == CLONE_NEWIPC || flag == CLONE_NEWNET ||
                  flag == CLONE_NEWCGROUP);
      CHECK_CHILD(unshare(flag) == 0);
      CHECK_CHILD(NsName("self", kind) != before);
      CHECK_CHILD(setns(old.get(), flag) == 0);
      CHECK_CHILD(NsName("self", kind) == before);
    }
    return 0;
  })));
}

TEST(SetnsTest, ForeignNamespacesNeedPrivilegeOverThem) {
  Fd outer(open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC));
  Fd outer_user(open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside(CLONE_NEWUTS);
    CHECK_CHILD(setns(outer.get(), CLONE_NEWUTS) == -1 && errno == EPERM);
    CHECK_CHILD(setns(outer_user.get(), CLONE_NEWUSER) == -1 && errno == EPERM);
    Fd own(open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC));
    CHECK_CHILD(setns(own.get(), CLONE_NEWUSER) == -1 && errno == EINVAL);
    return 0;
  })));
}

TEST(SetnsTest, FilesOfOneNamespaceAreOneInode) {
  struct stat a, b;
  Fd one(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC));
  Fd two(open(("/proc/" + std::to_string(getpid()) + "/ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_OK(fstat(one.get(), &a));
  ASSERT_OK(fstat(two.get(), &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_EQ(a.st_dev, b.st_dev);
  EXPECT_EQ(NsName("self", "mnt"), "mnt:[" + std::to_string(a.st_ino) + "]");
  EXPECT_TRUE(S_ISREG(a.st_mode));
  EXPECT_EQ(a.st_mode & 0777, 0444u);
  char c;
  EXPECT_FAILS(read(one.get(), &c, 1), EINVAL);
  EXPECT_FAILS(open("/proc/self/ns/mnt", O_RDWR), EPERM);
  EXPECT_FAILS(open("/proc/self/ns/nothing", O_RDONLY), ENOENT);
}

TEST(SetnsTest, ByPidfdSeveralAtOnce) {
  Pipe ready, go;
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside();
    const pid_t child = Clone(CLONE_NEWUTS | CLONE_NEWIPC);
    if (child == 0) {
      CHECK_CHILD(sethostname("child", 5) == 0);
      CHECK_CHILD(write(ready.writer.get(), "x", 1) == 1);
      char c;
      CHECK_CHILD(read(go.reader.get(), &c, 1) == 1);
      _exit(0);
    }
    CHECK_CHILD(child > 0);
    char c;
    CHECK_CHILD(read(ready.reader.get(), &c, 1) == 1);
    Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
    CHECK_CHILD(setns(pidfd.get(), CLONE_NEWUTS | CLONE_NEWIPC) == 0);
    char name[65];
    CHECK_CHILD(gethostname(name, sizeof(name)) == 0 && strcmp(name, "child") == 0);
    CHECK_CHILD(NsName("self", "ipc") == NsName(std::to_string(child), "ipc"));
    CHECK_CHILD(write(go.writer.get(), "x", 1) == 1);
    CHECK_CHILD(WaitFor(child) == 0);
    CHECK_CHILD(setns(pidfd.get(), CLONE_NEWUTS) == -1 && errno == ESRCH);
    return 0;
  })));
}

TEST(NsIoctlTest, TypesParentsAndOwners) {
  Fd uts(open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(ioctl(uts.get(), kNsGetNstype), CLONE_NEWUTS);
  EXPECT_FAILS(ioctl(uts.get(), kNsGetParent), EINVAL);
  uid_t owner;
  EXPECT_FAILS(ioctl(uts.get(), kNsGetOwnerUid, &owner), EINVAL);
  EXPECT_FAILS(ioctl(uts.get(), 0xb7ff), ENOTTY);
  EXPECT_TRUE(Exited(InChild([&] {
    const uid_t uid = geteuid();
    Fd outer(open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC));
    BecomeRootInside(CLONE_NEWUTS | CLONE_NEWPID);
    Fd user(open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC));
    CHECK_CHILD(ioctl(user.get(), kNsGetNstype) == CLONE_NEWUSER);
    uid_t who = 77;
    CHECK_CHILD(ioctl(user.get(), kNsGetOwnerUid, &who) == 0 && who == 0);
    (void)uid;
    // What is above is out of sight.
    CHECK_CHILD(ioctl(user.get(), kNsGetParent) == -1 && errno == EPERM);
    Fd own(open("/proc/self/ns/uts", O_RDONLY | O_CLOEXEC));
    Fd of(ioctl(own.get(), kNsGetUserns));
    struct stat a, b;
    CHECK_CHILD(fstat(of.get(), &a) == 0 && fstat(user.get(), &b) == 0 && a.st_ino == b.st_ino);
    return 0;
  })));
}

// --- pid namespaces

// What is left of a process that nobody has waited for: its numbers and its user.
TEST(NamespaceFileTest, ZombieHasThoseOfItsPidAndUserOnly) {
  const pid_t child = fork();
  ASSERT_OK(child);
  if (child == 0) _exit(0);
  siginfo_t info;
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT));
  const std::string zombie = std::to_string(child);
  for (const char* gone : {"mnt", "uts", "ipc", "net", "cgroup", "pid_for_children"}) {
    EXPECT_EQ(NsName(zombie, gone), "") << gone;
    EXPECT_EQ(errno, ENOENT) << gone;
  }
  EXPECT_EQ(NsName(zombie, "pid"), NsName("self", "pid"));
  EXPECT_EQ(NsName(zombie, "user"), NsName("self", "user"));
  EXPECT_FAILS(open(("/proc/" + zombie + "/mountinfo").c_str(), O_RDONLY), EINVAL);
  Fd pidfd(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
  EXPECT_FAILS(setns(pidfd.get(), CLONE_NEWUTS), ESRCH);
  EXPECT_EQ(WaitFor(child), 0);
}

TEST(PidNamespaceTest, TheFirstChildIsOne) {
  EXPECT_TRUE(Exited(InChild([] {
    BecomeRootInside();
    const pid_t child = Clone(CLONE_NEWPID);
    if (child == 0) {
      CHECK_CHILD(getpid() == 1);
      CHECK_CHILD(syscall(SYS_getpid) == 1 && syscall(SYS_gettid) == 1);
      CHECK_CHILD(getppid() == 0);
      CHECK_CHILD(getpgrp() == 0 && getsid(0) == 0);
      CHECK_CHILD(setsid() == 1);
      CHECK_CHILD(getpgrp() == 1 && getsid(0) == 1);
      const pid_t grandchild = fork();
      if (grandchild == 0) _exit(getppid() == 1 && getpid() == 2 ? 0 : 1);
      CHECK_CHILD(grandchild == 2);
      CHECK_CHILD(WaitFor(grandchild) == 0);
      CHECK_CHILD(kill(100, 0) == -1 && errno == ESRCH);
      _exit(0);
    }
    CHECK_CHILD(child > 1);
    return WEXITSTATUS(WaitFor(child));
  })));
}

TEST(PidNamespaceTest, UnshareIsForChildrenOnly) {
  EXPECT_TRUE(Exited(InChild([] {
    BecomeRootInside();
    const pid_t before = getpid();
    const std::string own = NsName("self", "pid");
    CHECK_CHILD(unshare(CLONE_NEWPID) == 0);
    CHECK_CHILD(getpid() == before);
    CHECK_CHILD(NsName("self", "pid") == own);
    // There is nothing in it yet.
    CHECK_CHILD(NsName("self", "pid_for_children").empty() && errno == ENOENT);
    // A thread would be in two namespaces.
    clone_args args = {};
    args.flags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
    CHECK_CHILD(syscall(SYS_clone3, &args, sizeof(args)) == -1 && errno == EINVAL);
    const pid_t child = fork();
    if (child == 0) _exit(getpid() == 1 ? 0 : 1);
    CHECK_CHILD(WaitFor(child) == 0);
    // Its init is gone, and with it the namespace.
    CHECK_CHILD(fork() == -1 && errno == ENOMEM);
    return 0;
  })));
}

TEST(PidNamespaceTest, InitThatTracedItsDeadGoesAllTheSame) {
  EXPECT_TRUE(Exited(InChild([] {
    BecomeRootInside();
    const pid_t child = Clone(CLONE_NEWPID);
    if (child == 0) {
      const pid_t traced = fork();
      if (traced == 0) _exit(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0 ? 3 : 1);
      siginfo_t info;
      CHECK_CHILD(waitid(P_PID, traced, &info, WEXITED | WNOWAIT) == 0 && info.si_status == 3);
      _exit(7);
    }
    const int status = WaitFor(child);
    CHECK_CHILD(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    return 0;
  })));
}

TEST(PidNamespaceTest, InitBuriesChildrenThatTellNothing) {
  EXPECT_TRUE(Exited(InChild([] {
    BecomeRootInside();
    const pid_t child = Clone(CLONE_NEWPID);
    if (child == 0) {
      clone_args args = {};  // no signal at its end
      if (syscall(SYS_clone3, &args, sizeof(args)) == 0) {
        for (;;) pause();
      }
      _exit(7);
    }
    const int status = WaitFor(child);
    CHECK_CHILD(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    return 0;
  })));
}

TEST(PidNamespaceTest, TheDeathOfInitKillsAll) {
  Pipe alive;
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside();
    const pid_t child = Clone(CLONE_NEWPID);
    if (child == 0) {
      for (int i = 0; i < 3; i++) {
        const pid_t p = fork();
        if (p == 0) {
          if (i == 2 && fork() == 0) setsid();
          for (;;) pause();
        }
      }
      usleep(20000);
      _exit(7);
    }
    const int status = WaitFor(child);
    CHECK_CHILD(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    return 0;
  })));
  // Nobody holds the writing end any more.
  alive.writer.Reset();
  char c;
  EXPECT_EQ(read(alive.reader.get(), &c, 1), 0);
}

TEST(PidNamespaceTest, OrphansGoToInit) {
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside();
    const pid_t child = Clone(CLONE_NEWPID);
    if (child == 0) {
      const pid_t middle = fork();
      if (middle == 0) {
        if (fork() == 0) {
          while (getppid() != 1) usleep(1000);
          _exit(5);
        }
        _exit(0);
      }
      CHECK_CHILD(WaitFor(middle) == 0);
      int status;
      const pid_t orphan = wait(&status);
      CHECK_CHILD(orphan == 3 && WEXITSTATUS(status) == 5);
      _exit(0);
    }
    return WEXITSTATUS(WaitFor(child));
  })));
}

TEST(PidNamespaceTest, InitHearsOnlyWhatItHandles) {
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside();
    Pipe ready;
    const pid_t child = Clone(CLONE_NEWPID);
    if (child == 0) {
      // From within: nothing that it does not handle.
      CHECK_CHILD(kill(1, SIGTERM) == 0);
      CHECK_CHILD(kill(1, SIGKILL) == 0);
      const pid_t p = fork();
      if (p == 0) _exit(kill(1, SIGKILL) == 0 && kill(1, SIGSTOP) == 0 ? 0 : 1);
      CHECK_CHILD(WaitFor(p) == 0);
      CHECK_CHILD(write(ready.writer.get(), "x", 1) == 1);
      for (;;) pause();
    }
    char c;
    CHECK_CHILD(read(ready.reader.get(), &c, 1) == 1);
    // From outside: neither, but for SIGKILL and SIGSTOP.
    CHECK_CHILD(kill(child, SIGTERM) == 0);
    usleep(10000);
    CHECK_CHILD(waitpid(child, nullptr, WNOHANG) == 0);
    CHECK_CHILD(kill(child, SIGKILL) == 0);
    const int status = WaitFor(child);
    CHECK_CHILD(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    return 0;
  })));
}

TEST(PidNamespaceTest, ASenderFromOutsideIsZero) {
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    const pid_t child = Clone(CLONE_NEWPID);
    if (child == 0) {
      siginfo_t info;
      CHECK_CHILD(sigwaitinfo(&set, &info) == SIGUSR1);
      CHECK_CHILD(info.si_pid == 0 && info.si_code == SI_USER);
      _exit(0);
    }
    CHECK_CHILD(kill(child, SIGUSR1) == 0);
    siginfo_t info;
    CHECK_CHILD(sigwaitinfo(&set, &info) == SIGCHLD);
    CHECK_CHILD(info.si_pid == child && info.si_status == 0);
    siginfo_t waited = {};
    CHECK_CHILD(waitid(P_PID, child, &waited, WEXITED) == 0);
    CHECK_CHILD(waited.si_pid == child && waited.si_status == 0);
    return 0;
  })));
}

TEST(PidNamespaceTest, ProcShowsTheNumbersOfItsNamespace) {
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside(CLONE_NEWNS);
    const pid_t child = Clone(CLONE_NEWPID);
    if (child == 0) {
      // The old /proc still shows the outer numbers.
      const std::string status = ReadFile("/proc/self/status");
      const size_t at = status.find("NSpid:\t");
      CHECK_CHILD(at != std::string::npos);
      const std::string line = status.substr(at, status.find('\n', at) - at);
      CHECK_CHILD(line.ends_with("\t1"));
      CHECK_CHILD(atoi(line.c_str() + 7) > 1);
      _exit(0);
    }
    return WEXITSTATUS(WaitFor(child));
  })));
}

TEST(PidNamespaceTest, OneCanEnterAChildNamespaceButNotAParent) {
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside();
    Fd own(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC));
    Pipe ready, go;
    const pid_t child = Clone(CLONE_NEWPID);
    if (child == 0) {
      CHECK_CHILD(setns(own.get(), CLONE_NEWPID) == -1 && (errno == EINVAL || errno == EPERM));
      CHECK_CHILD(write(ready.writer.get(), "x", 1) == 1);
      char c;
      CHECK_CHILD(read(go.reader.get(), &c, 1) == 1);
      _exit(0);
    }
    char c;
    CHECK_CHILD(read(ready.reader.get(), &c, 1) == 1);
    Fd theirs(open(("/proc/" + std::to_string(child) + "/ns/pid").c_str(), O_RDONLY | O_CLOEXEC));
    CHECK_CHILD(setns(theirs.get(), CLONE_NEWPID) == 0);
    CHECK_CHILD(NsName("self", "pid_for_children") == NsName(std::to_string(child), "pid"));
    const pid_t injected = fork();
    if (injected == 0) _exit(getpid() == 2 && getppid() == 0 ? 0 : 1);
    CHECK_CHILD(WaitFor(injected) == 0);
    CHECK_CHILD(write(go.writer.get(), "x", 1) == 1);
    return WEXITSTATUS(WaitFor(child));
  })));
}

TEST(PidNamespaceTest, NestedNumbersAreAllThere) {
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside();
    const pid_t child = Clone(CLONE_NEWPID);
    if (child == 0) {
      const pid_t inner = Clone(CLONE_NEWPID);
      if (inner == 0) _exit(getpid() == 1 && getppid() == 0 ? 0 : 1);
      CHECK_CHILD(inner == 2);
      _exit(WEXITSTATUS(WaitFor(inner)));
    }
    return WEXITSTATUS(WaitFor(child));
  })));
}

TEST(PidNamespaceTest, SetTidChoosesTheNumbers) {
  EXPECT_TRUE(Exited(InChild([&] {
    BecomeRootInside();
    const pid_t child = Clone(CLONE_NEWPID);
    if (child == 0) {
      pid_t wanted[] = {42};
      clone_args args = {};
      args.exit_signal = SIGCHLD;
      args.set_tid = reinterpret_cast<uint64_t>(wanted);
      args.set_tid_size = 1;
      pid_t p = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
      if (p == 0) _exit(getpid() == 42 ? 0 : 1);
      CHECK_CHILD(p == 42);
      CHECK_CHILD(WaitFor(p) == 0);
      wanted[0] = 1;
      CHECK_CHILD(syscall(SYS_clone3, &args, sizeof(args)) == -1 && errno == EEXIST);
      wanted[0] = 0;
      CHECK_CHILD(syscall(SYS_clone3, &args, sizeof(args)) == -1 && errno == EINVAL);
      wanted[0] = -1;
      CHECK_CHILD(syscall(SYS_clone3, &args, sizeof(args)) == -1 && errno == EINVAL);
      args.set_tid_size = 0;
      CHECK_CHILD(syscall(SYS_clone3, &args, sizeof(args)) == -1 && errno == EINVAL);
      args.set_tid_size = 33;
      CHECK_CHILD(syscall(SYS_clone3, &args, sizeof(args)) == -1 && errno == EINVAL);
      _exit(0);
    }
    return WEXITSTATUS(WaitFor(child));
  })));
}

TEST(CloneFlagsTest, CombinationsThatCannotBe) {
  const uint64_t kBad[] = {CLONE_NEWNS | CLONE_FS,
                           CLONE_NEWUSER | CLONE_FS,
                           CLONE_NEWIPC | CLONE_SYSVSEM,
                           CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM,
                           CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM};
  for (const uint64_t flags : kBad) EXPECT_FAILS(Clone(flags), EINVAL);
}

TEST(CloneFlagsTest, AllNamespacesAtOnce) {
  EXPECT_TRUE(Exited(InChild([&] {
    const pid_t child = Clone(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC |
                              CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP);
    if (child == 0) _exit(getpid() == 1 && getuid() == 65534 ? 0 : 1);
    CHECK_CHILD(child > 0);
    return WEXITSTATUS(WaitFor(child));
  })));
}

}  // namespace
}  // namespace ringwall::test
