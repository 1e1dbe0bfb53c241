// chattr's flags (FS_IOC_SETFLAGS), file capabilities and set-id bits on exec.
#include <linux/capability.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

#include <functional>
#include <vector>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

class FlagsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    file_ = dir_.File("f", "content");
    fd_.Reset(open(file_.c_str(), O_RDONLY));
    int flags;
    if (ioctl(fd_.get(), FS_IOC_GETFLAGS, &flags) != 0) GTEST_SKIP() << "no flags here";
    base_ = flags;
  }
  void TearDown() override { Set(0); }
  int Set(int flags) {
    flags |= base_;
    return ioctl(fd_.get(), FS_IOC_SETFLAGS, &flags);
  }
  TempDir dir_;
  std::string file_;
  Fd fd_;
  int base_ = 0;
};

TEST_F(FlagsTest, ImmutableFilesStayAsTheyAre) {
  ASSERT_OK(Set(FS_IMMUTABLE_FL));
  int now = 0;
  ASSERT_OK(ioctl(fd_.get(), FS_IOC_GETFLAGS, &now));
  EXPECT_EQ(now & FS_IMMUTABLE_FL, FS_IMMUTABLE_FL);
  EXPECT_FAILS(open(file_.c_str(), O_WRONLY), EPERM);
  EXPECT_FAILS(open(file_.c_str(), O_RDWR | O_APPEND), EPERM);
  EXPECT_FAILS(truncate(file_.c_str(), 0), EPERM);
  EXPECT_FAILS(unlink(file_.c_str()), EPERM);
  EXPECT_FAILS(rename(file_.c_str(), (dir_ / "g").c_str()), EPERM);
  EXPECT_FAILS(link(file_.c_str(), (dir_ / "g").c_str()), EPERM);
  EXPECT_FAILS(chmod(file_.c_str(), 0600), EPERM);
  EXPECT_FAILS(chown(file_.c_str(), 1, 1), EPERM);
  EXPECT_FAILS(utimensat(AT_FDCWD, file_.c_str(), nullptr, 0), EPERM);
  EXPECT_FAILS(setxattr(file_.c_str(), "user.x", "y", 1, 0), EPERM);
  EXPECT_FAILS(access(file_.c_str(), W_OK), EPERM);
  EXPECT_OK(access(file_.c_str(), R_OK));
  ASSERT_OK(Set(0));
  EXPECT_OK(unlink(file_.c_str()));
}

TEST_F(FlagsTest, AppendOnlyFilesGrow) {
  ASSERT_OK(Set(FS_APPEND_FL));
  EXPECT_FAILS(open(file_.c_str(), O_WRONLY), EPERM);
  EXPECT_FAILS(open(file_.c_str(), O_WRONLY | O_APPEND | O_TRUNC), EPERM);
  Fd fd(open(file_.c_str(), O_WRONLY | O_APPEND));
  ASSERT_TRUE(fd.ok());
  EXPECT_EQ(write(fd.get(), "x", 1), 1);
  EXPECT_FAILS(ftruncate(fd.get(), 0), EPERM);
  EXPECT_FAILS(truncate(file_.c_str(), 0), EPERM);
  EXPECT_FAILS(unlink(file_.c_str()), EPERM);
  EXPECT_FAILS(chmod(file_.c_str(), 0600), EPERM);
  EXPECT_OK(utimensat(AT_FDCWD, file_.c_str(), nullptr, 0));
  const timespec past[2] = {{1, 0}, {1, 0}};
  EXPECT_FAILS(utimensat(AT_FDCWD, file_.c_str(), past, 0), EPERM);
}

TEST_F(FlagsTest, ImmutableDirectoriesTakeNoNames) {
  const std::string folder = dir_ / "d";
  ASSERT_OK(mkdir(folder.c_str(), 0755));
  ASSERT_OK(mkdir((folder + "/sub").c_str(), 0755));
  Fd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY));
  int flags = base_ | FS_IMMUTABLE_FL;
  ASSERT_OK(ioctl(fd.get(), FS_IOC_SETFLAGS, &flags));
  EXPECT_FAILS(mkdir((folder + "/new").c_str(), 0755), EPERM);
  EXPECT_FAILS(rmdir((folder + "/sub").c_str()), EPERM);
  EXPECT_FAILS(open((folder + "/f").c_str(), O_CREAT | O_WRONLY, 0600), EPERM);
  flags = base_;
  ASSERT_OK(ioctl(fd.get(), FS_IOC_SETFLAGS, &flags));
  EXPECT_OK(rmdir((folder + "/sub").c_str()));
}

TEST_F(FlagsTest, OnlyThePrivilegedSetThem) {
  ASSERT_OK(chmod(dir_.path().c_str(), 0777));
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    int flags = base_ | FS_NODUMP_FL;
    CHECK_CHILD(ioctl(fd_.get(), FS_IOC_SETFLAGS, &flags) == -1 && errno == EPERM);
    Fd own(open((dir_ / "own").c_str(), O_CREAT | O_RDWR, 0600));
    int mine = 0;
    CHECK_CHILD(ioctl(own.get(), FS_IOC_GETFLAGS, &mine) == 0);
    mine |= FS_NODUMP_FL;
    CHECK_CHILD(ioctl(own.get(), FS_IOC_SETFLAGS, &mine) == 0);
    mine |= FS_IMMUTABLE_FL;
    CHECK_CHILD(ioctl(own.get(), FS_IOC_SETFLAGS, &mine) == -1 && errno == EPERM);
    return 0;
  })));
  EXPECT_FAILS(ioctl(fd_.get(), FS_IOC_GETFLAGS, BadAddress()), EFAULT);
}


// --- exec

// A copy of `program` with this owner and mode.
std::string CopyOf(const TempDir& dir, const std::string& program, uid_t uid, gid_t gid, mode_t mode) {
  const std::string copy = dir.File("copy", ReadFile(program), 0755);
  EXPECT_OK(chown(copy.c_str(), uid, gid));
  EXPECT_OK(chmod(copy.c_str(), mode));
  return copy;
}

// Lines of /proc/self/status as a program sees them that nobody runs.
std::string StatusOf(const std::string& program) {
  Pipe out;
  InChildAsNobody([&] {
    dup2(out.writer.get(), 1);
    execl(program.c_str(), "cat", "/proc/self/status", nullptr);
    dprintf(1, "exec failed with %s\n", ErrnoName(errno).c_str());
    return 1;
  });
  out.writer.Reset();
  std::string all;
  char chunk[4096];
  ssize_t n;
  while ((n = read(out.reader.get(), chunk, sizeof(chunk))) > 0) all.append(chunk, n);
  return all;
}

std::string Field(const std::string& status, const std::string& name) {
  const size_t at = status.find("\n" + name + ":\t");
  if (at == std::string::npos) return status.substr(0, 60);
  const size_t start = at + name.size() + 3;
  return status.substr(start, status.find('\n', start) - start);
}

void SetCaps(const std::string& file, uint32_t permitted, bool effective) {
  const uint32_t caps[5] = {0x02000000u | (effective ? 1u : 0u), permitted, 0, 0, 0};
  EXPECT_OK(setxattr(file.c_str(), "security.capability", caps, sizeof(caps), 0));
}

class ExecPrivilegeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root";
    ASSERT_OK(chmod(dir_.path().c_str(), 0755));
  }
  TempDir dir_;
};

TEST_F(ExecPrivilegeTest, SetIdBits) {
  const std::string program = CopyOf(dir_, "/bin/cat", 1234, 0, 04755);
  std::string status = StatusOf(program);
  EXPECT_EQ(Field(status, "Uid"), "65534\t1234\t1234\t1234");
  EXPECT_EQ(Field(status, "Gid"), "65534\t65534\t65534\t65534");
  ASSERT_OK(chown(program.c_str(), 0, 1234));
  ASSERT_OK(chmod(program.c_str(), 02755));
  status = StatusOf(program);
  EXPECT_EQ(Field(status, "Uid"), "65534\t65534\t65534\t65534");
  EXPECT_EQ(Field(status, "Gid"), "65534\t1234\t1234\t1234");
  // Without group execution the bit means something else.
  ASSERT_OK(chmod(program.c_str(), 02745));
  EXPECT_EQ(Field(StatusOf(program), "Gid"), "65534\t65534\t65534\t65534");
}

TEST_F(ExecPrivilegeTest, SetUidRootGivesAllCapabilities) {
  const std::string program = CopyOf(dir_, "/bin/cat", 0, 0, 04755);
  const std::string status = StatusOf(program);
  EXPECT_EQ(Field(status, "Uid"), "65534\t0\t0\t0");
  EXPECT_EQ(Field(status, "CapEff"), Field(status, "CapBnd"));
  EXPECT_EQ(Field(status, "CapPrm"), Field(status, "CapBnd"));
}

TEST_F(ExecPrivilegeTest, FileCapabilities) {
  const std::string program = CopyOf(dir_, "/bin/cat", 0, 0, 0755);
  SetCaps(program, 1u << CAP_NET_RAW, true);
  std::string status = StatusOf(program);
  EXPECT_EQ(Field(status, "CapEff"), "0000000000002000");
  EXPECT_EQ(Field(status, "CapPrm"), "0000000000002000");
  EXPECT_EQ(Field(status, "Uid"), "65534\t65534\t65534\t65534");
  // Permitted only.
  SetCaps(program, 1u << CAP_NET_RAW, false);
  status = StatusOf(program);
  EXPECT_EQ(Field(status, "CapEff"), "0000000000000000");
  EXPECT_EQ(Field(status, "CapPrm"), "0000000000002000");
  ASSERT_OK(removexattr(program.c_str(), "security.capability"));
  EXPECT_EQ(Field(StatusOf(program), "CapPrm"), "0000000000000000");
}

TEST_F(ExecPrivilegeTest, CapabilitiesThatCannotBeGivenEndTheExec) {
  const std::string program = CopyOf(dir_, "/bin/cat", 0, 0, 0755);
  SetCaps(program, 1u << CAP_NET_RAW, true);
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(prctl(PR_CAPBSET_DROP, CAP_NET_RAW) == 0);
    CHECK_CHILD(setgid(65534) == 0 && setuid(65534) == 0);
    execl(program.c_str(), "cat", "/dev/null", nullptr);
    return errno == EPERM ? 0 : 1;
  })));
  SetCaps(program, 1u << CAP_NET_RAW, false);
  EXPECT_TRUE(Exited(InChild([&] {
    CHECK_CHILD(prctl(PR_CAPBSET_DROP, CAP_NET_RAW) == 0);
    CHECK_CHILD(setgid(65534) == 0 && setuid(65534) == 0);
    execl(program.c_str(), "cat", "/dev/null", nullptr);
    return 1;
  })));
}

TEST_F(ExecPrivilegeTest, NoNewPrivilegesMeansNone) {
  const std::string program = CopyOf(dir_, "/bin/cat", 0, 0, 06755);
  SetCaps(program, 1u << CAP_NET_RAW, true);
  Pipe out;
  InChild([&] {
    CHECK_CHILD(setgid(65534) == 0 && setuid(65534) == 0);
    CHECK_CHILD(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    dup2(out.writer.get(), 1);
    execl(program.c_str(), "cat", "/proc/self/status", nullptr);
    return 1;
  });
  out.writer.Reset();
  char chunk[8192];
  const ssize_t n = read(out.reader.get(), chunk, sizeof(chunk));
  const std::string status(chunk, n > 0 ? n : 0);
  EXPECT_EQ(Field(status, "Uid"), "65534\t65534\t65534\t65534");
  EXPECT_EQ(Field(status, "Gid"), "65534\t65534\t65534\t65534");
  EXPECT_EQ(Field(status, "CapPrm"), "0000000000000000");
}

TEST_F(ExecPrivilegeTest, NosuidMountsGiveNothing) {
  const std::string program = CopyOf(dir_, "/bin/cat", 0, 0, 06755);
  EXPECT_TRUE(Exited(InChild([&] {
    if (unshare(CLONE_NEWNS) != 0) return 0;
    CHECK_CHILD(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    CHECK_CHILD(mount(dir_.path().c_str(), dir_.path().c_str(), nullptr, MS_BIND, nullptr) == 0);
    CHECK_CHILD(mount(nullptr, dir_.path().c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_NOSUID, nullptr) == 0);
    const std::string status = StatusOf(program);
    CHECK_CHILD(Field(status, "Uid") == "65534\t65534\t65534\t65534");
    CHECK_CHILD(Field(status, "CapPrm") == "0000000000000000");
    return 0;
  })));
}

TEST_F(ExecPrivilegeTest, BadFileCapabilitiesAreRefused) {
  const std::string file = dir_.File("f", "");
  const uint32_t caps[6] = {0x02000000, 1, 0, 0, 0, 0};
  EXPECT_FAILS(setxattr(file.c_str(), "security.capability", caps, 4, 0), EINVAL);
  EXPECT_FAILS(setxattr(file.c_str(), "security.capability", caps, 24, 0), EINVAL);
  const uint32_t bad[5] = {0x05000000, 1, 0, 0, 0};
  EXPECT_FAILS(setxattr(file.c_str(), "security.capability", bad, sizeof(bad), 0), EINVAL);
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(setxattr(file.c_str(), "security.capability", caps, 20, 0) == -1 && errno == EPERM);
    return 0;
  })));
}

// How contents change, and whether that is so for the file's privileges too.
struct Change {
  const char* name;
  int open_flags;
  std::function<bool(int fd, const std::string& path)> change;
  bool drops = true;
};

const std::vector<Change>& Changes() {
  static const auto* all = new std::vector<Change>{
      {"write", 0, [](int fd, const std::string&) { return write(fd, "x", 1) == 1; }},
      {"write of nothing", 0, [](int fd, const std::string&) { return write(fd, "x", 0) == 0; }, false},
      {"pwrite", 0, [](int fd, const std::string&) { return pwrite(fd, "x", 1, 2) == 1; }},
      {"ftruncate", 0, [](int fd, const std::string&) { return ftruncate(fd, 1) == 0; }},
      {"truncate", 0, [](int, const std::string& path) { return truncate(path.c_str(), 1) == 0; }},
      {"O_TRUNC", O_TRUNC, [](int, const std::string&) { return true; }},
      {"fallocate", 0, [](int fd, const std::string&) { return fallocate(fd, 0, 0, 100) == 0; }},
      {"sendfile", 0, [](int fd, const std::string&) {
         Fd in(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
         return sendfile(fd, in.get(), nullptr, 10) == 10;
       }},
      {"splice", 0, [](int fd, const std::string&) {
         Pipe p;
         return write(p.writer.get(), "abc", 3) == 3 && splice(p.reader.get(), nullptr, fd, nullptr, 3, 0) == 3;
       }},
  };
  return *all;
}

TEST_F(ExecPrivilegeTest, StrangersThatWriteTakeThePrivileges) {
  for (const Change& c : Changes()) {
    for (const mode_t mode : {04777, 02777, 02767, 06767}) {
      const std::string path = CopyOf(dir_, "/bin/true", 0, 0, mode);
      SetCaps(path, 1u << CAP_NET_RAW, true);
      EXPECT_TRUE(Exited(InChildAsNobody([&] {
        Fd fd(open(path.c_str(), O_RDWR | O_CLOEXEC | c.open_flags));
        CHECK_CHILD(fd.ok() && c.change(fd.get(), path));
        struct stat st;
        CHECK_CHILD(fstat(fd.get(), &st) == 0);
        CHECK_CHILD((st.st_mode & 07777) == (c.drops ? mode & 0777 : mode));
        char caps[64];
        const ssize_t n = fgetxattr(fd.get(), "security.capability", caps, sizeof(caps));
        CHECK_CHILD(c.drops ? n == -1 && errno == ENODATA : n > 0);
        return 0;
      }))) << c.name << " " << std::oct << mode;
      unlink(path.c_str());
    }
  }
}

TEST_F(ExecPrivilegeTest, RootThatWritesTakesOnlyTheFilesCapabilities) {
  for (const Change& c : Changes()) {
    const std::string path = CopyOf(dir_, "/bin/true", 0, 0, 06777);
    // A second time, after they were given anew.
    for (int round = 0; round < 2; ++round) {
      SetCaps(path, 1u << CAP_NET_RAW, true);
      Fd fd(open(path.c_str(), O_RDWR | O_CLOEXEC | c.open_flags));
      ASSERT_TRUE(fd.ok() && c.change(fd.get(), path)) << c.name;
      struct stat st;
      ASSERT_OK(fstat(fd.get(), &st));
      EXPECT_EQ(st.st_mode & 07777, 06777u) << c.name;
      char caps[64];
      EXPECT_EQ(fgetxattr(fd.get(), "security.capability", caps, sizeof(caps)) > 0, !c.drops) << c.name;
    }
    unlink(path.c_str());
  }
}

}  // namespace
}  // namespace ringwall::test
