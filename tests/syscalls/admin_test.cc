// Calls of administration and odds and ends: the log, clocks of the system, old calls, newer ones that
// work on other processes.
#include <linux/mman.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <time.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr long kCachestat = 451;  // newer than Debian 12's headers

TEST(SyslogTest, ChecksItsArguments) {
  char buf[64];
  EXPECT_GT(syscall(SYS_syslog, 10, nullptr, 0), 0);
  EXPECT_OK(syscall(SYS_syslog, 3, buf, sizeof(buf)));
  EXPECT_FAILS(syscall(SYS_syslog, 3, nullptr, 10), EINVAL);
  EXPECT_FAILS(syscall(SYS_syslog, 3, buf, -1), EINVAL);
  EXPECT_FAILS(syscall(SYS_syslog, 100, buf, 1), EINVAL);
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_FAILS(syscall(SYS_syslog, 8, nullptr, 9), EINVAL);
  EXPECT_EQ(InChildAsNobody([] {
    char own[16];
    CHECK_CHILD(syscall(SYS_syslog, 5, nullptr, 0) == -1 && errno == EPERM);
    CHECK_CHILD(syscall(SYS_syslog, 2, own, 16) == -1 && errno == EPERM);
    return 0;
  }), 0);
}

TEST(TimexTest, ShowsTheClock) {
  timex t = {};
  EXPECT_GE(adjtimex(&t), 0);
  EXPECT_GT(t.time.tv_sec, 1'600'000'000);
  EXPECT_GT(t.tick, 0);
  EXPECT_FAILS(syscall(SYS_adjtimex, 8), EFAULT);
  t = {};
  EXPECT_GE(clock_adjtime(CLOCK_REALTIME, &t), 0);
  EXPECT_FAILS(clock_adjtime(CLOCK_MONOTONIC, &t), EOPNOTSUPP);
  EXPECT_FAILS(clock_adjtime(99, &t), EINVAL);
  t.modes = 0x8000;
  EXPECT_FAILS(adjtimex(&t), EINVAL);
}

TEST(TimexTest, NobodyMayNotSetTheTime) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_EQ(InChildAsNobody([] {
    timex t = {};
    t.modes = ADJ_TICK;
    t.tick = 10000;
    CHECK_CHILD(adjtimex(&t) == -1 && errno == EPERM);
    const timeval now = {1'700'000'000, 0};
    CHECK_CHILD(settimeofday(&now, nullptr) == -1 && errno == EPERM);
    const timespec ts = {1'700'000'000, 0};
    CHECK_CHILD(clock_settime(CLOCK_REALTIME, &ts) == -1 && errno == EPERM);
    return 0;
  }), 0);
  const timeval bad = {0, 1'000'000};
  EXPECT_FAILS(syscall(SYS_settimeofday, &bad, nullptr), EINVAL);
}

TEST(PrivilegedTest, NobodyGetsEperm) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_EQ(InChildAsNobody([] {
    CHECK_CHILD(syscall(SYS_vhangup) == -1 && errno == EPERM);
    CHECK_CHILD(syscall(SYS_reboot, 0xfee1dead, 672274793, 0, 0) == -1 && errno == EPERM);
    CHECK_CHILD(syscall(SYS_swapon, "/none", 0) == -1 && errno == EPERM);
    CHECK_CHILD(syscall(SYS_swapoff, "/none") == -1 && errno == EPERM);
    CHECK_CHILD(syscall(SYS_acct, "/tmp") == -1 && errno == EPERM);
    return 0;
  }), 0);
  EXPECT_FAILS(syscall(SYS_reboot, 1, 2, 3, 0), EINVAL);
}

TEST(SysfsCallTest, NamesAndNumbers) {
  const long count = syscall(SYS_sysfs, 3);
  if (count == -1 && errno == ENOSYS) GTEST_SKIP() << "a kernel without CONFIG_SYSFS_SYSCALL";
  ASSERT_GT(count, 0);
  const long proc = syscall(SYS_sysfs, 1, "proc");
  ASSERT_OK(proc);
  char name[64] = {};
  EXPECT_OK(syscall(SYS_sysfs, 2, proc, name));
  EXPECT_STREQ(name, "proc");
  EXPECT_FAILS(syscall(SYS_sysfs, 1, "no-such-fs"), EINVAL);
  EXPECT_FAILS(syscall(SYS_sysfs, 2, count, name), EINVAL);
  EXPECT_FAILS(syscall(SYS_sysfs, 2, 0, 1), EFAULT);
  EXPECT_FAILS(syscall(SYS_sysfs, 1, 1), EFAULT);
  EXPECT_FAILS(syscall(SYS_sysfs, 9), EINVAL);
}

TEST(UstatTest, OfAFileSystem) {
  struct stat st;
  ASSERT_OK(stat("/proc", &st));
  char out[64];
  EXPECT_OK(syscall(SYS_ustat, static_cast<unsigned>(st.st_dev), out));
  EXPECT_FAILS(syscall(SYS_ustat, static_cast<unsigned>(st.st_dev), nullptr), EFAULT);
  EXPECT_FAILS(syscall(SYS_ustat, 0xfffffu, out), EINVAL);
}

TEST(GetdentsTest, OldRecordsCarryTheTypeLast) {
  TempDir dir;
  ASSERT_OK(mkdir((dir.path() + "/folder").c_str(), 0700));
  Fd file(open((dir.path() + "/file").c_str(), O_CREAT | O_WRONLY, 0600));
  Fd fd(open(dir.path().c_str(), O_RDONLY | O_DIRECTORY));
  alignas(8) char buf[4096];
  const long n = syscall(SYS_getdents, fd.get(), buf, sizeof(buf));
  ASSERT_GT(n, 0);
  int seen = 0;
  for (long at = 0; at < n;) {
    const unsigned short length = *reinterpret_cast<unsigned short*>(buf + at + 16);
    const std::string name = buf + at + 18;
    const unsigned char type = static_cast<unsigned char>(buf[at + length - 1]);
    if (name == "file") seen += type == 8 ? 1 : 100;
    if (name == "folder") seen += type == 4 ? 10 : 100;
    at += length;
  }
  EXPECT_EQ(seen, 11);
  EXPECT_EQ(syscall(SYS_getdents, fd.get(), buf, sizeof(buf)), 0);
  lseek(fd.get(), 0, SEEK_SET);
  EXPECT_FAILS(syscall(SYS_getdents, fd.get(), buf, 8), EINVAL);
  EXPECT_FAILS(syscall(SYS_getdents, fd.get(), 8, 4096), EFAULT);
  EXPECT_FAILS(syscall(SYS_getdents, file.get(), buf, 4096), ENOTDIR);
  EXPECT_FAILS(syscall(SYS_getdents, -1, buf, 4096), EBADF);
}

TEST(GetcwdTest, OutsideTheRootIsUnreachable) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  TempDir dir;
  ASSERT_OK(mkdir((dir.path() + "/jail").c_str(), 0700));
  EXPECT_EQ(InChild([&] {
    char buf[4096];
    CHECK_CHILD(chdir(dir.path().c_str()) == 0);
    CHECK_CHILD(chroot("jail") == 0);
    CHECK_CHILD(syscall(SYS_getcwd, buf, sizeof(buf)) > 0);
    CHECK_CHILD(strncmp(buf, "(unreachable)", 13) == 0);
    return 0;
  }), 0);
}

TEST(PreadvTest, NegativeOffsetIsEinval) {
  TempDir dir;
  Fd fd(open((dir.path() + "/f").c_str(), O_CREAT | O_RDWR, 0600));
  char c = 'x';
  const iovec iov = {&c, 1};
  EXPECT_FAILS(pwritev(fd.get(), &iov, 1, -1), EINVAL);
  EXPECT_FAILS(preadv(fd.get(), &iov, 1, -1), EINVAL);
  EXPECT_EQ(preadv2(fd.get(), &iov, 1, -1, 0), 0);
}

TEST(FsyncTest, IsForFilesOnly) {
  Pipe p;
  EXPECT_FAILS(fsync(p.writer.get()), EINVAL);
  EXPECT_FAILS(fdatasync(p.writer.get()), EINVAL);
  Fd null(open("/dev/null", O_WRONLY));
  EXPECT_FAILS(fsync(null.get()), EINVAL);
  Fd dir(open("/tmp", O_RDONLY));
  EXPECT_OK(fsync(dir.get()));
}

int PidfdOf(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

TEST(PidfdGetfdTest, TakesAnothersDescriptor) {
  Pipe p, hold;
  const pid_t child = fork();
  if (child == 0) {
    hold.writer.Reset();
    char c;
    read(hold.reader.get(), &c, 1);
    _exit(0);
  }
  Fd pidfd(PidfdOf(child));
  ASSERT_TRUE(pidfd.ok());
  Fd copy(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), p.writer.get(), 0)));
  ASSERT_TRUE(copy.ok());
  EXPECT_EQ(fcntl(copy.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(write(copy.get(), "x", 1), 1);
  char c = 0;
  EXPECT_EQ(read(p.reader.get(), &c, 1), 1);
  EXPECT_FAILS(syscall(SYS_pidfd_getfd, pidfd.get(), 9999, 0), EBADF);
  EXPECT_FAILS(syscall(SYS_pidfd_getfd, pidfd.get(), 0, 1), EINVAL);
  EXPECT_FAILS(syscall(SYS_pidfd_getfd, -1, 0, 0), EBADF);
  EXPECT_FAILS(syscall(SYS_pidfd_getfd, p.reader.get(), 0, 0), EBADF);
  hold.writer.Reset();
  waitpid(child, nullptr, 0);
  EXPECT_FAILS(syscall(SYS_pidfd_getfd, pidfd.get(), 0, 0), ESRCH);
}

// struct pidfd_info and its ioctl of Linux 6.15.
struct PidfdInfo {
  uint64_t mask, cgroup;
  uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
constexpr unsigned long kPidfdGetInfo = 0xc040ff0b;

TEST(PidfdInfoTest, SaysWhoAndHowItEnded) {
  Pipe hold;
  const pid_t child = fork();
  if (child == 0) {
    hold.writer.Reset();
    char c;
    read(hold.reader.get(), &c, 1);
    _exit(42);
  }
  Fd pidfd(PidfdOf(child));
  PidfdInfo info = {};
  info.mask = 8;  // PIDFD_INFO_EXIT
  if (ioctl(pidfd.get(), kPidfdGetInfo, &info) == -1 && errno == ENOTTY) {
    hold.writer.Reset();
    waitpid(child, nullptr, 0);
    GTEST_SKIP() << "Linux before 6.13";
  }
  EXPECT_EQ(info.mask & 8, 0u);
  EXPECT_EQ(info.pid, static_cast<uint32_t>(child));
  EXPECT_EQ(info.ppid, static_cast<uint32_t>(getpid()));
  EXPECT_EQ(info.euid, geteuid());
  EXPECT_FAILS(ioctl(pidfd.get(), kPidfdGetInfo, nullptr), EINVAL);
  EXPECT_FAILS(ioctl(hold.reader.get(), kPidfdGetInfo, &info), ENOTTY);
  hold.writer.Reset();
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  info = {};
  EXPECT_FAILS(ioctl(pidfd.get(), kPidfdGetInfo, &info), ESRCH);
  info.mask = 8;
  EXPECT_OK(ioctl(pidfd.get(), kPidfdGetInfo, &info));
  EXPECT_EQ(info.exit_code, status);
}

TEST(FallocateTest, ObeysTheFileSizeLimit) {
  TempDir dir;
  EXPECT_EQ(InChild([&] {
    signal(SIGXFSZ, SIG_IGN);
    Fd fd(open((dir.path() + "/f").c_str(), O_CREAT | O_RDWR, 0600));
    const rlimit lim = {8192, RLIM_INFINITY};
    CHECK_CHILD(setrlimit(RLIMIT_FSIZE, &lim) == 0);
    CHECK_CHILD(fallocate(fd.get(), 0, 0, 8192) == 0);
    CHECK_CHILD(fallocate(fd.get(), 0, 0, 8193) == -1 && errno == EFBIG);
    CHECK_CHILD(ftruncate(fd.get(), 8193) == -1 && errno == EFBIG);
    CHECK_CHILD(pwrite(fd.get(), "x", 1, 8192) == -1 && errno == EFBIG);
    CHECK_CHILD(pwrite(fd.get(), "xyz", 3, 8190) == 2);
    return 0;
  }), 0);
}

TEST(ProcessMadviseTest, AdvisesItself) {
  Fd self(PidfdOf(getpid()));
  void* p = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  iovec iov = {p, 8192};
  EXPECT_EQ(syscall(SYS_process_madvise, self.get(), &iov, 1, 20 /* MADV_COLD */, 0), 8192);
  EXPECT_FAILS(syscall(SYS_process_madvise, self.get(), &iov, 1, 20, 1), EINVAL);
  EXPECT_FAILS(syscall(SYS_process_madvise, -1, &iov, 1, 20, 0), EBADF);
  EXPECT_FAILS(syscall(SYS_process_madvise, self.get(), &iov, 1, 9999, 0), EINVAL);
  munmap(p, 8192);
}

TEST(ProcessMreleaseTest, WantsADyingProcess) {
  Fd self(PidfdOf(getpid()));
  EXPECT_FAILS(syscall(SYS_process_mrelease, self.get(), 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_process_mrelease, self.get(), 1), EINVAL);
  EXPECT_FAILS(syscall(SYS_process_mrelease, -1, 0), EBADF);
}

TEST(PkeyTest, WithoutKeys) {
  EXPECT_FAILS(syscall(SYS_pkey_alloc, 1, 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_pkey_alloc, 0, 0xff), EINVAL);
  EXPECT_FAILS(syscall(SYS_pkey_free, 77), EINVAL);
  void* p = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  EXPECT_OK(syscall(SYS_pkey_mprotect, p, 4096, PROT_READ | PROT_WRITE, -1));
  *static_cast<char*>(p) = 1;
  EXPECT_FAILS(syscall(SYS_pkey_mprotect, p, 4096, PROT_READ, 77), EINVAL);
  munmap(p, 4096);
}

TEST(CachestatTest, ChecksItsArguments) {
  TempDir dir;
  Fd fd(open((dir.path() + "/f").c_str(), O_CREAT | O_RDWR, 0600));
  ASSERT_EQ(write(fd.get(), "hello", 5), 5);
  uint64_t range[2] = {0, 4096}, out[5] = {};
  EXPECT_OK(syscall(kCachestat, fd.get(), range, out, 0));
  EXPECT_EQ(out[0], 1u);
  EXPECT_FAILS(syscall(kCachestat, fd.get(), range, out, 1), EINVAL);
  EXPECT_FAILS(syscall(kCachestat, -1, range, out, 0), EBADF);
  EXPECT_FAILS(syscall(kCachestat, fd.get(), 8, out, 0), EFAULT);
  EXPECT_FAILS(syscall(kCachestat, fd.get(), range, 8, 0), EFAULT);
}

TEST(SharedFutexTest, WakeOfUnmappedMemoryIsEfault) {
  void* p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  EXPECT_EQ(syscall(SYS_futex, p, 1 /* FUTEX_WAKE */, 1), 0);
  mprotect(p, 4096, PROT_NONE);
  EXPECT_FAILS(syscall(SYS_futex, p, 1, 1), EFAULT);
  munmap(p, 4096);
  EXPECT_FAILS(syscall(SYS_futex, p, 1, 1), EFAULT);
}

TEST(RestartSyscallTest, WithNothingToRestartIsEintr) {
  EXPECT_FAILS(syscall(SYS_restart_syscall), EINTR);
}

TEST(EpollPathTest, PathDescriptorIsEbadf) {
  Fd ep(static_cast<int>(syscall(SYS_epoll_create1, 0)));
  Fd path(open("/tmp", O_PATH));
  char event[12] = {1};
  EXPECT_FAILS(syscall(SYS_epoll_ctl, ep.get(), 1, path.get(), event), EBADF);
}

}  // namespace
}  // namespace ringwall::test
