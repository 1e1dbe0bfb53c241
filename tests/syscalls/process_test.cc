// fork, vfork, clone, wait4, waitid and exit.
#include <dirent.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/resource.h>

#include <atomic>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

TEST(ForkTest, MemoryIsACopy) {
  volatile int value = 1;
  EXPECT_TRUE(Exited(InChild([&] {
    value = 2;
    return value;
  }), 2));
  EXPECT_EQ(value, 1);
}

TEST(ForkTest, DescriptorsAreSharedOpenFiles) {
  TempDir dir;
  Fd fd(open(dir.File("f", "abcdef").c_str(), O_RDWR));
  EXPECT_TRUE(Exited(InChild([&] {
    char b[2];
    return read(fd.get(), b, 2) == 2 ? 0 : 1;
  })));
  EXPECT_EQ(lseek(fd.get(), 0, SEEK_CUR), 2);
}

TEST(ForkTest, ManyChildrenAllComeBack) {
  constexpr int kChildren = 50;
  for (int i = 0; i < kChildren; ++i) {
    if (fork() == 0) _exit(i);
  }
  bool seen[kChildren] = {};
  for (int i = 0; i < kChildren; ++i) {
    int status = 0;
    ASSERT_OK(wait(&status));
    ASSERT_TRUE(WIFEXITED(status));
    seen[WEXITSTATUS(status)] = true;
  }
  for (bool s : seen) EXPECT_TRUE(s);
  EXPECT_FAILS(wait(nullptr), ECHILD);
}

TEST(ForkTest, DeepChain) {
  // Each generation forks the next; the depth comes back as the exit status.
  struct Chain {
    static int Run(int depth) {
      if (depth == 0) return 0;
      const int status = InChild([=] { return Run(depth - 1); });
      return WIFEXITED(status) ? WEXITSTATUS(status) + 1 : 100;
    }
  };
  EXPECT_EQ(Chain::Run(10), 10);
}

TEST(ForkTest, BigMemoryIsCopiedOnWrite) {
  constexpr size_t kSize = 32 << 20;
  char* p = static_cast<char*>(
      mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  for (size_t i = 0; i < kSize; i += 4096) p[i] = static_cast<char>(i >> 12);
  EXPECT_TRUE(Exited(InChild([&] {
    for (size_t i = 0; i < kSize; i += 4096) {
      CHECK_CHILD(p[i] == static_cast<char>(i >> 12));
      p[i] = 0x55;
    }
    return 0;
  })));
  for (size_t i = 0; i < kSize; i += 4096) ASSERT_EQ(p[i], static_cast<char>(i >> 12));
  munmap(p, kSize);
}

TEST(ForkTest, OnlyTheCallingThreadLives) {
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) usleep(1000);
  });
  EXPECT_TRUE(Exited(InChild([] {
    DIR* d = opendir("/proc/self/task");
    int n = 0;
    while (readdir(d) != nullptr) ++n;
    closedir(d);
    return n == 3 ? 0 : 1;  // ".", ".." and ourselves
  })));
  stop = true;
  other.join();
}

TEST(WaitTest, StatusOfExitAndSignal) {
  EXPECT_TRUE(Exited(InChild([] { return 77; }), 77));
  EXPECT_TRUE(Exited(InChild([] { return 0x1234; }), 0x34));
  EXPECT_TRUE(KilledBy(InChild([] { return kill(getpid(), SIGKILL); }), SIGKILL));
  const int status = InChild([] {
    signal(SIGABRT, SIG_DFL);
    const struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    return raise(SIGABRT);
  });
  EXPECT_TRUE(KilledBy(status, SIGABRT));
  EXPECT_FALSE(WCOREDUMP(status));
}

TEST(WaitTest, NohangReturnsZeroWhileItRuns) {
  Pipe p;
  const pid_t pid = fork();
  if (pid == 0) {
    char c;
    p.writer.Reset();
    _exit(static_cast<int>(read(p.reader.get(), &c, 1)));
  }
  int status = 5;
  EXPECT_EQ(waitpid(pid, &status, WNOHANG), 0);
  p.writer.Reset();
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status));
}

TEST(WaitTest, Errors) {
  int status;
  EXPECT_FAILS(waitpid(1 << 22, &status, 0), ECHILD);
  EXPECT_FAILS(waitpid(getppid(), &status, 0), ECHILD);
  EXPECT_FAILS(waitpid(-1, &status, 0x100), EINVAL);
  siginfo_t info;
  EXPECT_FAILS(waitid(P_PID, 1, &info, 0), EINVAL);
  EXPECT_FAILS(waitid(static_cast<idtype_t>(9), 1, &info, WEXITED), EINVAL);
  EXPECT_FAILS(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
  EXPECT_FAILS(syscall(SYS_wait4, INT32_MIN, &status, 0, nullptr), ESRCH);
}

TEST(WaitTest, BadStatusAddressStillReaps) {
  const pid_t pid = fork();
  if (pid == 0) _exit(0);
  siginfo_t info;
  ASSERT_OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
  EXPECT_FAILS(syscall(SYS_wait4, pid, BadAddress(), 0, nullptr), EFAULT);
  EXPECT_FAILS(waitpid(pid, nullptr, 0), ECHILD);
}

TEST(WaitTest, WaitidFillsSiginfo) {
  const pid_t pid = fork();
  if (pid == 0) _exit(9);
  siginfo_t info = {};
  ASSERT_OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
  EXPECT_EQ(info.si_pid, pid);
  EXPECT_EQ(info.si_signo, SIGCHLD);
  EXPECT_EQ(info.si_code, CLD_EXITED);
  EXPECT_EQ(info.si_status, 9);
  EXPECT_EQ(info.si_uid, getuid());
  ASSERT_OK(waitid(P_PID, pid, &info, WEXITED));
  EXPECT_FAILS(waitid(P_PID, pid, &info, WEXITED), ECHILD);
}

TEST(WaitTest, StopAndContinueAreSeen) {
  const pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  int status;
  ASSERT_OK(kill(pid, SIGSTOP));
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  EXPECT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  EXPECT_EQ(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
  ASSERT_OK(kill(pid, SIGCONT));
  ASSERT_EQ(waitpid(pid, &status, WCONTINUED), pid);
  EXPECT_TRUE(WIFCONTINUED(status));
  ASSERT_OK(kill(pid, SIGTERM));
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(KilledBy(status, SIGTERM));
}

TEST(WaitTest, RusageOfAChildCountsItsWork) {
  const pid_t pid = fork();
  if (pid == 0) {
    timespec t;
    do {
      clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    } while (t.tv_nsec < 30000000 && t.tv_sec == 0);
    _exit(0);
  }
  int status;
  rusage usage = {};
  ASSERT_EQ(wait4(pid, &status, 0, &usage), pid);
  const int64_t us = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                     usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
  EXPECT_GE(us, 15000);
  EXPECT_GT(usage.ru_maxrss, 0);
}

TEST(WaitTest, IgnoredSigchldReapsByItself) {
  EXPECT_TRUE(Exited(InChild([] {
    signal(SIGCHLD, SIG_IGN);
    const pid_t pid = fork();
    if (pid == 0) _exit(3);
    int status;
    CHECK_CHILD(waitpid(pid, &status, 0) == -1 && errno == ECHILD);
    return 0;
  })));
}

// A child that nobody is to wait for is gone when its signal interrupts the wait, which says so.
TEST(WaitTest, ChildrenThatLeaveNothingAndAHandler) {
  EXPECT_TRUE(Exited(InChild([] {
    struct sigaction sa = {};
    sa.sa_handler = [](int) {};
    sa.sa_flags = SA_NOCLDWAIT;
    CHECK_CHILD(sigaction(SIGCHLD, &sa, nullptr) == 0);
    for (int i = 0; i < 20; i++) {
      const pid_t pid = fork();
      if (pid == 0) {
        usleep(1000);
        _exit(0);
      }
      CHECK_CHILD(wait(nullptr) == -1 && errno == ECHILD);
    }
    return 0;
  })));
}

TEST(WaitTest, AnyThreadMayWaitForAnothersChild) {
  const pid_t pid = fork();
  if (pid == 0) _exit(4);
  std::thread([=] {
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_TRUE(Exited(status, 4));
  }).join();
}

TEST(OrphanTest, GoesToTheSubreaper) {
  EXPECT_TRUE(Exited(InChild([] {
    CHECK_CHILD(syscall(SYS_prctl, 36 /* PR_SET_CHILD_SUBREAPER */, 1, 0, 0, 0) == 0);
    Pipe p;
    const pid_t us = getpid();
    const pid_t middle = fork();
    if (middle == 0) {
      const pid_t inner = fork();
      if (inner == 0) {
        // Wait until the parent is gone, then say who adopted us.
        while (getppid() != us) usleep(1000);
        _exit(write(p.writer.get(), "k", 1) == 1 ? 42 : 1);
      }
      _exit(0);
    }
    int status;
    CHECK_CHILD(waitpid(middle, &status, 0) == middle);
    char c;
    CHECK_CHILD(read(p.reader.get(), &c, 1) == 1);
    CHECK_CHILD(wait(&status) > 0 && WEXITSTATUS(status) == 42);
    return 0;
  })));
}

TEST(VforkTest, ParentWaitsAndSeesTheChildsWrites) {
  static volatile int shared;
  shared = 0;
  const pid_t pid = vfork();
  if (pid == 0) {
    shared = 5;
    _exit(6);
  }
  EXPECT_EQ(shared, 5);
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status, 6));
}

long RawClone(unsigned long flags, void* stack = nullptr, int* ptid = nullptr, int* ctid = nullptr) {
  return syscall(SYS_clone, flags, stack, ptid, ctid, 0);
}

TEST(CloneTest, FlagRules) {
  EXPECT_FAILS(RawClone(CLONE_THREAD), EINVAL);
  EXPECT_FAILS(RawClone(CLONE_SIGHAND), EINVAL);
  EXPECT_FAILS(RawClone(CLONE_FS | CLONE_NEWNS), EINVAL);
}

TEST(CloneTest, ParentAndChildTidsAreStored) {
  int ptid = 0, ctid = 0;
  const long pid = RawClone(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, nullptr, &ptid, &ctid);
  ASSERT_OK(pid);
  if (pid == 0) _exit(ctid == syscall(SYS_gettid) ? 0 : 1);
  EXPECT_EQ(ptid, pid);
  EXPECT_EQ(ctid, 0);
  int status;
  ASSERT_EQ(waitpid(static_cast<pid_t>(pid), &status, 0), pid);
  EXPECT_TRUE(Exited(status));
}

TEST(CloneTest, CloneFilesSharesDescriptors) {
  alignas(16) static char stack[65536];
  struct Child {
    static int Run(void* fd) { return close(*static_cast<int*>(fd)); }
  };
  int fd = dup(0);
  const pid_t pid =
      clone(Child::Run, stack + sizeof(stack), CLONE_FILES | CLONE_VM | SIGCHLD, &fd);
  ASSERT_OK(pid);
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status));
  EXPECT_FAILS(fcntl(fd, F_GETFD), EBADF);
}

TEST(CloneTest, OtherExitSignalNeedsWclone) {
  const long pid = RawClone(0);
  if (pid == 0) _exit(1);
  int status;
  EXPECT_FAILS(waitpid(static_cast<pid_t>(pid), &status, 0), ECHILD);
  EXPECT_EQ(waitpid(static_cast<pid_t>(pid), &status, __WCLONE), pid);
  EXPECT_TRUE(Exited(status, 1));
}

TEST(CloneTest, Clone3ForksAndChecksItsSize) {
  clone_args args = {};
  args.exit_signal = SIGCHLD;
  const long pid = syscall(SYS_clone3, &args, sizeof(args));
  ASSERT_OK(pid);
  if (pid == 0) _exit(8);
  int status;
  ASSERT_EQ(waitpid(static_cast<pid_t>(pid), &status, 0), pid);
  EXPECT_TRUE(Exited(status, 8));
  EXPECT_FAILS(syscall(SYS_clone3, &args, 8), EINVAL);
  EXPECT_FAILS(syscall(SYS_clone3, BadAddress(), sizeof(args)), EFAULT);
  args.flags = 1ull << 60;
  EXPECT_FAILS(syscall(SYS_clone3, &args, sizeof(args)), EINVAL);
}

TEST(ThreadTest, ManyThreadsComeAndGo) {
  std::atomic<int> sum{0};
  for (int round = 0; round < 10; ++round) {
    std::vector<std::thread> threads;
    for (int i = 0; i < 20; ++i) threads.emplace_back([&] { ++sum; });
    for (auto& t : threads) t.join();
  }
  EXPECT_EQ(sum, 200);
}

TEST(ThreadTest, ExitGroupEndsThemAll) {
  EXPECT_TRUE(Exited(InChild([] {
    for (int i = 0; i < 4; ++i) std::thread([] { for (;;) pause(); }).detach();
    std::thread([] { _exit(12); }).join();
    return 1;
  }), 12));
}

TEST(ThreadTest, LeaderMayExitFirst) {
  EXPECT_TRUE(Exited(InChild([] {
    std::thread([] {
      usleep(20000);
      _exit(21);
    }).detach();
    syscall(SYS_exit, 1);
    return 1;
  }), 21));
}

TEST(ThreadTest, FatalSignalToOneEndsThemAll) {
  EXPECT_TRUE(KilledBy(InChild([] {
    std::thread([] { syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGTERM); }).join();
    for (;;) pause();
    return 1;
  }), SIGTERM));
}

// The signal that tells of the child comes with the child: the wait ends well.
TEST(WaitTest, IsNotInterruptedByTheChildsOwnSignal) {
  struct sigaction action = {}, old;
  action.sa_handler = [](int) {};
  sigaction(SIGUSR1, &action, &old);
  for (int i = 0; i < 20; i++) {
    const long pid = RawClone(SIGUSR1);
    if (pid == 0) _exit(7);
    int status = -1;
    ASSERT_EQ(waitpid(static_cast<pid_t>(pid), &status, __WALL), pid) << ErrnoName(errno);
    EXPECT_TRUE(Exited(status, 7));
  }
  sigaction(SIGUSR1, &old, nullptr);
}

TEST(PidfdTest, BecomesReadableAndSignals) {
  const pid_t pid = fork();
  if (pid == 0) {
    for (;;) pause();
  }
  Fd fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  ASSERT_TRUE(fd.ok());
  EXPECT_OK(syscall(SYS_pidfd_send_signal, fd.get(), SIGKILL, nullptr, 0));
  siginfo_t info = {};
  EXPECT_OK(waitid(static_cast<idtype_t>(3 /* P_PIDFD */), fd.get(), &info, WEXITED));
  EXPECT_EQ(info.si_status, SIGKILL);
  EXPECT_FAILS(syscall(SYS_pidfd_send_signal, fd.get(), 0, nullptr, 0), ESRCH);
  EXPECT_FAILS(syscall(SYS_pidfd_open, -1, 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_pidfd_open, 1 << 22, 0), ESRCH);
}

}  // namespace
// The low byte of clone's flags need not be a signal; then nothing is sent, and __WALL waits for it.
TEST(ProcessTest, AnExitSignalThatIsNoneIsNotSent) {
  for (const unsigned long number : {0ul, 65ul, 200ul, 255ul}) {
    const long pid = syscall(SYS_clone, number, nullptr, nullptr, nullptr, nullptr);
    ASSERT_GE(pid, 0) << number;
    if (pid == 0) _exit(5);
    int status = 0;
    EXPECT_EQ(waitpid(static_cast<pid_t>(pid), &status, 0), -1);
    EXPECT_EQ(errno, ECHILD);
    ASSERT_EQ(waitpid(static_cast<pid_t>(pid), &status, __WALL), pid);
    EXPECT_EQ(WEXITSTATUS(status), 5);
  }
}

}  // namespace ringwall::test
