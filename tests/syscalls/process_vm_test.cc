// process_vm_readv and writev, /proc/PID/mem, kcmp, pidfd_getfd: what one process does to another.
#include <linux/kcmp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

struct Shared {
  char text[8192];
  uint64_t number;
};

// A child with memory of its own, which waits to be killed.
class Other {
 public:
  Other() {
    int fds[2];
    EXPECT_OK(pipe(fds));
    pid_ = fork();
    if (pid_ == 0) {
      memset(buffer.text, 'c', sizeof(buffer.text));
      buffer.number = 77;
      static_cast<void>(!write(fds[1], "x", 1));
      for (;;) pause();
    }
    char c;
    EXPECT_EQ(read(fds[0], &c, 1), 1);
    close(fds[0]), close(fds[1]);
  }
  ~Other() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }
  static Shared buffer;

 private:
  pid_t pid_;
};
Shared Other::buffer;

TEST(ProcessVmTest, ReadsAndWrites) {
  Other other;
  char here[100] = {};
  iovec local = {here, 10}, remote = {Other::buffer.text, 10};
  EXPECT_EQ(process_vm_readv(other.pid(), &local, 1, &remote, 1, 0), 10);
  EXPECT_EQ(std::string(here), "cccccccccc");
  memcpy(here, "hello", 5);
  local.iov_len = 5;
  EXPECT_EQ(process_vm_writev(other.pid(), &local, 1, &remote, 1, 0), 5);
  local.iov_len = 10;
  EXPECT_EQ(process_vm_readv(other.pid(), &local, 1, &remote, 1, 0), 10);
  EXPECT_EQ(std::string(here), "helloccccc");
  EXPECT_EQ(Other::buffer.text[0], 0);  // not ours
}

TEST(ProcessVmTest, PiecesNeedNotMatch) {
  Other other;
  char a[3] = {}, b[7] = {};
  iovec local[2] = {{a, 3}, {b, 7}};
  iovec remote[3] = {{Other::buffer.text, 1}, {Other::buffer.text + 4096, 4}, {Other::buffer.text, 100}};
  EXPECT_EQ(process_vm_readv(other.pid(), local, 2, remote, 3, 0), 10);
  EXPECT_EQ(process_vm_readv(other.pid(), local, 2, remote, 2, 0), 5);
  EXPECT_EQ(process_vm_readv(other.pid(), local, 0, remote, 2, 0), 0);
  EXPECT_EQ(process_vm_readv(other.pid(), local, 2, remote, 0, 0), 0);
}

TEST(ProcessVmTest, Errors) {
  Other other;
  char c;
  iovec local = {&c, 1}, remote = {Other::buffer.text, 1};
  EXPECT_FAILS(process_vm_readv(other.pid(), &local, 1, &remote, 1, 1), EINVAL);
  EXPECT_FAILS(process_vm_readv(0x3fffffff, &local, 1, &remote, 1, 0), ESRCH);
  EXPECT_FAILS(process_vm_readv(other.pid(), &local, 1025, &remote, 1, 0), EINVAL);
  EXPECT_FAILS(process_vm_readv(other.pid(), &local, 1, &remote, 1025, 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_process_vm_readv, other.pid(), 16, 1, &remote, 1, 0), EFAULT);
  EXPECT_FAILS(syscall(SYS_process_vm_readv, other.pid(), &local, 1, 16, 1, 0), EFAULT);
  remote = {BadAddress(), 1};
  EXPECT_FAILS(process_vm_readv(other.pid(), &local, 1, &remote, 1, 0), EFAULT);
  EXPECT_FAILS(process_vm_writev(other.pid(), &local, 1, &remote, 1, 0), EFAULT);
  remote = {Other::buffer.text, static_cast<size_t>(-1)};
  EXPECT_FAILS(process_vm_readv(other.pid(), &local, 1, &remote, 1, 0), EINVAL);
  // Protection counts, other than for a debugger.
  remote = {NoAccessPage(), 1};
  EXPECT_FAILS(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), EFAULT);
  static const char constant = 'k';
  remote = {const_cast<char*>(&constant), 1};
  EXPECT_FAILS(process_vm_writev(other.pid(), &local, 1, &remote, 1, 0), EFAULT);
  // No remote piece of any length: nobody is asked for.
  remote = {Other::buffer.text, 0};
  EXPECT_EQ(process_vm_readv(0x3fffffff, &local, 1, &remote, 1, 0), 0);
}

TEST(ProcessVmTest, StopsAtAHole) {
  char* p = static_cast<char*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_OK(munmap(p + 4096, 4096));
  std::vector<char> here(8192);
  iovec local = {here.data(), 8192}, remote = {p, 8192};
  EXPECT_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), 4096);
  EXPECT_EQ(process_vm_writev(getpid(), &local, 1, &remote, 1, 0), 4096);
  munmap(p, 4096);
}

TEST(ProcessVmTest, NeedsTheRight) {
  if (getuid() != 0) GTEST_SKIP() << "needs root";
  Other other;
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    char c;
    iovec local = {&c, 1}, remote = {Other::buffer.text, 1};
    CHECK_CHILD(process_vm_readv(other.pid(), &local, 1, &remote, 1, 0) == -1 && errno == EPERM);
    CHECK_CHILD(process_vm_writev(other.pid(), &local, 1, &remote, 1, 0) == -1 && errno == EPERM);
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/mem", other.pid());
    CHECK_CHILD(open(path, O_RDONLY) == -1 && errno == EACCES);
    CHECK_CHILD(syscall(SYS_kcmp, getpid(), other.pid(), KCMP_VM, 0, 0) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST(ProcMemTest, ReadsAndWritesByForce) {
  Other other;
  char path[64];
  snprintf(path, sizeof(path), "/proc/%d/mem", other.pid());
  Fd fd(open(path, O_RDWR));
  ASSERT_TRUE(fd.ok());
  const auto at = [](const void* p) { return static_cast<off_t>(reinterpret_cast<uintptr_t>(p)); };
  uint64_t number = 0;
  EXPECT_EQ(pread(fd.get(), &number, 8, at(&Other::buffer.number)), 8);
  EXPECT_EQ(number, 77u);
  number = 78;
  EXPECT_EQ(pwrite(fd.get(), &number, 8, at(&Other::buffer.number)), 8);
  number = 0;
  EXPECT_EQ(lseek(fd.get(), at(&Other::buffer.number), SEEK_SET), at(&Other::buffer.number));
  EXPECT_EQ(read(fd.get(), &number, 8), 8);
  EXPECT_EQ(number, 78u);
  static const volatile uint64_t constant = 5;
  number = 6;
  EXPECT_EQ(pwrite(fd.get(), &number, 8, at(const_cast<uint64_t*>(&constant))), 8);
  number = 0;
  EXPECT_EQ(pread(fd.get(), &number, 8, at(const_cast<uint64_t*>(&constant))), 8);
  EXPECT_EQ(number, 6u);
  EXPECT_EQ(constant, 5u);
  EXPECT_FAILS(pread(fd.get(), &number, 8, 16), EIO);
  EXPECT_FAILS(pwrite(fd.get(), &number, 8, 16), EIO);
}

TEST(ProcMemTest, OwnTextMayBeWrittenThroughIt) {
  Fd fd(open("/proc/self/mem", O_RDWR));
  ASSERT_TRUE(fd.ok());
  char* p = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  EXPECT_EQ(pwrite(fd.get(), "abc", 3, reinterpret_cast<off_t>(p)), 3);
  EXPECT_EQ(memcmp(p, "abc", 3), 0);
  munmap(p, 4096);
}

TEST(KcmpTest, TellsWhatIsShared) {
  const auto kcmp = [](pid_t a, pid_t b, int type, unsigned long x = 0, unsigned long y = 0) {
    return syscall(SYS_kcmp, a, b, type, x, y);
  };
  Other other;
  const pid_t me = getpid();
  for (int type : {KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND}) {
    EXPECT_EQ(kcmp(me, me, type), 0);
    EXPECT_GT(kcmp(me, other.pid(), type), 0);
    // An order: one is less, the other greater.
    EXPECT_EQ(kcmp(me, other.pid(), type) + kcmp(other.pid(), me, type), 3);
  }
  EXPECT_EQ(kcmp(me, other.pid(), KCMP_FILE, 1, 1), 0);
  const int copy = dup(1);
  EXPECT_EQ(kcmp(me, me, KCMP_FILE, 1, static_cast<unsigned long>(copy)), 0);
  close(copy);
  EXPECT_FAILS(kcmp(me, me, KCMP_FILE, 1, 9999), EBADF);
  EXPECT_FAILS(kcmp(me, me, 99), EINVAL);
  EXPECT_FAILS(kcmp(me, 0x3fffffff, KCMP_VM), ESRCH);
}

TEST(PidfdGetfdTest, TakesADescriptor) {
  int fds[2];
  ASSERT_OK(pipe(fds));
  Other other;  // has both
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, other.pid(), 0));
  ASSERT_OK(pidfd);
  close(fds[1]);
  const int got = static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, fds[1], 0));
  ASSERT_OK(got);
  EXPECT_EQ(fcntl(got, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(write(got, "y", 1), 1);
  char c = 0;
  EXPECT_EQ(read(fds[0], &c, 1), 1);
  EXPECT_EQ(c, 'y');
  EXPECT_FAILS(syscall(SYS_pidfd_getfd, pidfd, 9999, 0), EBADF);
  EXPECT_FAILS(syscall(SYS_pidfd_getfd, pidfd, 0, 1), EINVAL);
  EXPECT_FAILS(syscall(SYS_pidfd_getfd, 1, 0, 0), EBADF);
  EXPECT_FAILS(syscall(SYS_pidfd_getfd, -1, 0, 0), EBADF);
  kill(other.pid(), SIGKILL);
  siginfo_t info;
  EXPECT_OK(waitid(P_PID, static_cast<id_t>(other.pid()), &info, WEXITED | WNOWAIT));
  EXPECT_FAILS(syscall(SYS_pidfd_getfd, pidfd, 0, 0), ESRCH);
  close(got), close(pidfd), close(fds[0]);
}

}  // namespace
}  // namespace ringwall::test
