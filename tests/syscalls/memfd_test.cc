// memfd_create(2): flags, and what the execute bits have to do with seals.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr unsigned kNoExecSeal = 8, kExec = 16;
constexpr int kSealExec = 0x20, kSealFutureWrite = 0x10;

int Mode(int fd) {
  struct stat st;
  return fstat(fd, &st) == 0 ? static_cast<int>(st.st_mode & 07777) : -1;
}

TEST(MemfdTest, FlagsAndNamesAreChecked) {
  EXPECT_EQ(memfd_create("x", 0x20), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(memfd_create("x", 21u << 26), -1);
  EXPECT_EQ(errno, EINVAL);
  // No processor has pages of 64 KiB or 16 GiB that Linux would call huge.
  for (const unsigned log : {16u, 34u}) {
    EXPECT_EQ(memfd_create("x", MFD_HUGETLB | log << 26), -1);
    EXPECT_EQ(errno, ENODEV);
  }
  EXPECT_EQ(memfd_create("x", MFD_HUGETLB | 0x20), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(memfd_create("x", kNoExecSeal | kExec), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(memfd_create(nullptr, 0), -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_EQ(memfd_create(std::string(250, 'a').c_str(), 0), -1);
  EXPECT_EQ(errno, EINVAL);
  const int fd = memfd_create(std::string(249, 'a').c_str(), 0);
  EXPECT_GE(fd, 0);
  close(fd);
}

TEST(MemfdTest, NoExecSealMeansTheSeal) {
  const int fd = memfd_create("x", kNoExecSeal);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(Mode(fd), 0666);
  EXPECT_EQ(fcntl(fd, F_GET_SEALS), kSealExec);
  EXPECT_EQ(fchmod(fd, 0777), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(fchmod(fd, 0600), 0);
  EXPECT_EQ(Mode(fd), 0600);
  EXPECT_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
  EXPECT_EQ(fcntl(fd, F_GET_SEALS), kSealExec | F_SEAL_SHRINK);
  close(fd);
}

// vm.memfd_noexec: 1 makes files without either flag not executable, 2 refuses executable ones; a namespace below
// may only forbid more.
TEST(MemfdTest, ANamespaceMayForbidExecutableOnes) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  constexpr const char* kRule = "/proc/sys/vm/memfd_noexec";
  const auto write_rule = [](const char* value) {
    const int fd = open(kRule, O_WRONLY | O_CLOEXEC);
    const int error = write(fd, value, strlen(value)) < 0 ? errno : 0;
    close(fd);
    return error;
  };
  const auto seals = [](unsigned flags) {
    const int fd = memfd_create("x", flags);
    const int got = fd < 0 ? -errno : fcntl(fd, F_GET_SEALS);
    close(fd);
    return got;
  };
  EXPECT_TRUE(Exited(InChild([&] {
    if (unshare(CLONE_NEWPID) != 0) return 1;
    return Exited(InChild([&] {
      if (ReadFile(kRule) != "0\n") return 2;
      if (seals(0) != F_SEAL_SEAL || seals(MFD_ALLOW_SEALING) != 0) return 3;
      if (write_rule("3") != EINVAL || write_rule("x") != EINVAL) return 4;
      if (write_rule("1") != 0 || ReadFile(kRule) != "1\n") return 5;
      if (seals(0) != kSealExec || seals(kExec) != F_SEAL_SEAL || seals(kNoExecSeal) != kSealExec) return 6;
      if (write_rule("2") != 0) return 7;
      if (seals(0) != kSealExec || seals(kExec) != -EACCES || seals(kNoExecSeal) != kSealExec) return 8;
      if (write_rule("1") != 0 || unshare(CLONE_NEWPID) != 0) return 9;
      return Exited(InChild([&] {
        if (ReadFile(kRule) != "1\n" || write_rule("0") != EINVAL) return 10;
        return write_rule("2") == 0 && seals(kExec) == -EACCES ? 0 : 11;
      })) && seals(kExec) == F_SEAL_SEAL ? 0 : 12;
    })) ? 0 : 13;
  })));
}

TEST(MemfdTest, OthersAreExecutableAndSealedAgainstSeals) {
  const int fd = memfd_create("x", kExec);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(Mode(fd), 0777);
  EXPECT_EQ(fcntl(fd, F_GET_SEALS), F_SEAL_SEAL);
  EXPECT_EQ(fcntl(fd, F_ADD_SEALS, kSealExec), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(fchmod(fd, 0600), 0);
  EXPECT_EQ(fchmod(fd, 0700), 0);
  close(fd);
}

TEST(MemfdTest, SealingExecOfAnExecutableSealsWritesToo) {
  const int fd = memfd_create("x", MFD_ALLOW_SEALING);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(fcntl(fd, F_GET_SEALS), 0);
  EXPECT_EQ(fcntl(fd, F_ADD_SEALS, kSealExec), 0);
  EXPECT_EQ(fcntl(fd, F_GET_SEALS), kSealExec | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | kSealFutureWrite);
  EXPECT_EQ(fchmod(fd, 0666), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(write(fd, "x", 1), -1);
  EXPECT_EQ(errno, EPERM);
  close(fd);
}

TEST(HugePagesTest, ThePoolIsEmpty) {
  constexpr size_t kHuge = 2 << 20;
  const auto map = [](int flags) {
    void* p = mmap(nullptr, kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | flags, -1, 0);
    return p == MAP_FAILED ? errno : 0;
  };
  EXPECT_EQ(map(0), ENOMEM);
  EXPECT_EQ(map(21 << 26), ENOMEM);
  EXPECT_EQ(map(22 << 26), EINVAL);
  const auto get = [](int flags) {
    return shmget(IPC_PRIVATE, kHuge, IPC_CREAT | SHM_HUGETLB | 0600 | flags) == -1 ? errno : 0;
  };
  EXPECT_EQ(get(0), ENOMEM);
  EXPECT_EQ(get(21 << 26), ENOMEM);
  EXPECT_EQ(get(22 << 26), EINVAL);
}

}  // namespace
}  // namespace ringwall::test
