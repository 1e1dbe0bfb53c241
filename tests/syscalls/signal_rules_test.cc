// Rules of sending, queueing, stopping and ending by signals.
#include <linux/futex.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include <atomic>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

int Queue(pid_t pid, int signo, int code, int value = 0) {
  siginfo_t info = {};
  info.si_signo = signo;
  info.si_code = code;
  info.si_value.sival_int = value;
  return static_cast<int>(syscall(SYS_rt_sigqueueinfo, pid, signo, &info));
}

void BlockAll() {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
}

int Take(int signo, siginfo_t* info) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signo);
  const timespec now = {};
  return sigtimedwait(&set, info, &now);
}

void AwaitState(pid_t pid, char state) {
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  for (int i = 0; i < 20000; i++) {
    const std::string text = ReadFile(path);
    const size_t end = text.rfind(')');
    if (end != std::string::npos && text[end + 2] == state) return;
    usleep(500);
  }
  ADD_FAILURE() << pid << " is not " << state;
}

TEST(SignalRulesTest, QueueLimit) {
  EXPECT_TRUE(Exited(InChildAsNobody([] {
    BlockAll();
    const rlimit limit = {3, 3};
    CHECK_CHILD(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    int queued = 0;
    while (queued < 10 && Queue(getpid(), 40, SI_QUEUE, queued) == 0) queued++;
    CHECK_CHILD(queued == 3 && errno == EAGAIN);
    CHECK_CHILD(syscall(SYS_tgkill, getpid(), getpid(), 41) == -1 && errno == EAGAIN);
    // kill's come through without what they carry, standard ones in any case.
    CHECK_CHILD(kill(getpid(), 41) == 0);
    CHECK_CHILD(kill(getpid(), SIGUSR1) == 0);
    siginfo_t info;
    CHECK_CHILD(Take(41, &info) == 41 && info.si_code == SI_USER && info.si_pid == 0);
    for (int i = 0; i < 3; i++) CHECK_CHILD(Take(40, &info) == 40 && info.si_value.sival_int == i);
    CHECK_CHILD(Take(40, &info) == -1 && errno == EAGAIN);
    CHECK_CHILD(Queue(getpid(), 40, SI_QUEUE) == 0);
    return 0;
  })));
}

TEST(SignalRulesTest, WhoMayClaimWhat) {
  const pid_t child = fork();
  if (child == 0) {
    BlockAll();
    for (;;) pause();
  }
  AwaitState(child, 'S');
  EXPECT_OK(Queue(child, SIGUSR1, SI_QUEUE));
  EXPECT_OK(Queue(child, SIGUSR1, -77));
  EXPECT_FAILS(Queue(child, SIGUSR1, SI_USER), EPERM);
  EXPECT_FAILS(Queue(child, SIGUSR1, SI_KERNEL), EPERM);
  EXPECT_FAILS(Queue(child, SIGUSR1, SI_TKILL), EPERM);
  EXPECT_FAILS(Queue(child, 65, SI_QUEUE), EINVAL);
  EXPECT_FAILS(Queue(child, -1, SI_QUEUE), EINVAL);
  EXPECT_OK(Queue(child, 0, SI_QUEUE));
  EXPECT_FAILS(Queue(0x3fffffff, SIGUSR1, SI_QUEUE), ESRCH);
  EXPECT_FAILS(syscall(SYS_rt_sigqueueinfo, child, SIGUSR1, nullptr), EFAULT);
  siginfo_t info = {};
  info.si_code = SI_QUEUE;
  EXPECT_FAILS(syscall(SYS_rt_tgsigqueueinfo, 0, child, SIGUSR1, &info), EINVAL);
  EXPECT_FAILS(syscall(SYS_rt_tgsigqueueinfo, child, -1, SIGUSR1, &info), EINVAL);
  EXPECT_FAILS(syscall(SYS_rt_tgsigqueueinfo, getpid(), child, SIGUSR1, &info), ESRCH);
  EXPECT_FAILS(syscall(SYS_tgkill, child, child, 65), EINVAL);
  EXPECT_FAILS(syscall(SYS_tgkill, -1, child, SIGUSR1), EINVAL);
  EXPECT_FAILS(syscall(SYS_tkill, -1, SIGUSR1), EINVAL);
  EXPECT_FAILS(syscall(SYS_tkill, 0x3fffffff, SIGUSR1), ESRCH);
  EXPECT_FAILS(kill(child, 65), EINVAL);
  EXPECT_FAILS(kill(-0x3fffffff, 0), ESRCH);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_FAILS(kill(child, 0), ESRCH);
}

TEST(SignalRulesTest, OneMayClaimAnythingToOneself) {
  EXPECT_TRUE(Exited(InChild([] {
    BlockAll();
    CHECK_CHILD(Queue(getpid(), SIGUSR1, SI_KERNEL, 5) == 0);
    siginfo_t info;
    CHECK_CHILD(Take(SIGUSR1, &info) == SIGUSR1 && info.si_code == SI_KERNEL);
    return 0;
  })));
}

TEST(SignalRulesTest, PidfdSendSignal) {
  const pid_t child = fork();
  if (child == 0) {
    for (;;) pause();
  }
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  ASSERT_OK(fd);
  siginfo_t info = {};
  info.si_signo = SIGUSR1;
  info.si_code = SI_QUEUE;
  EXPECT_OK(syscall(SYS_pidfd_send_signal, fd, 0, nullptr, 0));
  EXPECT_FAILS(syscall(SYS_pidfd_send_signal, fd, SIGUSR2, &info, 0), EINVAL);
  info.si_code = SI_USER;
  EXPECT_FAILS(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, &info, 0), EPERM);
  EXPECT_FAILS(syscall(SYS_pidfd_send_signal, 0, SIGUSR1, nullptr, 0), EBADF);
  // A directory of /proc stands for its process too, but not that of a thread, nor any other.
  const std::string proc = "/proc/" + std::to_string(child);
  Fd process(open(proc.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_OK(syscall(SYS_pidfd_send_signal, process.get(), 0, nullptr, 0));
  Fd by_path(open(proc.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  EXPECT_FAILS(syscall(SYS_pidfd_send_signal, by_path.get(), 0, nullptr, 0), EBADF);
  Fd threads(open((proc + "/task").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_FAILS(syscall(SYS_pidfd_send_signal, threads.get(), 0, nullptr, 0), EBADF);
  Fd thread(open((proc + "/task/" + std::to_string(child)).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_FAILS(syscall(SYS_pidfd_send_signal, thread.get(), 0, nullptr, 0), EBADF);
  EXPECT_FAILS(syscall(SYS_pidfd_send_signal, fd, SIGUSR1, nullptr, 0x1000), EINVAL);
  EXPECT_OK(syscall(SYS_pidfd_send_signal, fd, SIGTERM, nullptr, 0));
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, SIGTERM);
  EXPECT_FAILS(syscall(SYS_pidfd_send_signal, fd, SIGTERM, nullptr, 0), ESRCH);
  EXPECT_FAILS(syscall(SYS_pidfd_send_signal, process.get(), SIGTERM, nullptr, 0), ESRCH);
  close(fd);
}

TEST(SignalRulesTest, StopAndContinueAreReportedOnce) {
  const pid_t child = fork();
  if (child == 0) {
    std::thread t([] {
      for (;;) pause();
    });
    for (;;) pause();
  }
  AwaitState(child, 'S');
  ASSERT_OK(kill(child, SIGSTOP));
  siginfo_t info = {};
  EXPECT_OK(waitid(P_PID, static_cast<id_t>(child), &info, WSTOPPED | WNOWAIT));
  EXPECT_EQ(info.si_code, CLD_STOPPED);
  EXPECT_EQ(info.si_status, SIGSTOP);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, WUNTRACED), child);
  EXPECT_EQ(status, SIGSTOP << 8 | 0x7f);
  EXPECT_EQ(waitpid(child, &status, WUNTRACED | WNOHANG), 0);
  AwaitState(child, 'T');
  EXPECT_OK(kill(child, SIGSTOP));  // is stopped already
  EXPECT_EQ(waitpid(child, &status, WUNTRACED | WNOHANG), 0);
  EXPECT_OK(kill(child, SIGCONT));
  EXPECT_EQ(waitpid(child, &status, WCONTINUED), child);
  EXPECT_EQ(status, 0xffff);
  EXPECT_EQ(waitpid(child, &status, WCONTINUED | WUNTRACED | WNOHANG), 0);
  EXPECT_OK(kill(child, SIGCONT));  // runs already
  EXPECT_EQ(waitpid(child, &status, WCONTINUED | WNOHANG), 0);
  EXPECT_OK(kill(child, SIGSTOP));
  EXPECT_EQ(waitpid(child, &status, WUNTRACED), child);
  EXPECT_OK(kill(child, SIGKILL));
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, SIGKILL);
}

TEST(SignalRulesTest, SignalsWaitWhileStopped) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGUSR1, [](int) { _exit(6); });
    for (;;) pause();
  }
  AwaitState(child, 'S');
  int status;
  kill(child, SIGSTOP);
  EXPECT_EQ(waitpid(child, &status, WUNTRACED), child);
  kill(child, SIGUSR1);
  EXPECT_EQ(waitpid(child, &status, WNOHANG), 0);
  kill(child, SIGCONT);
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 6 << 8);
}

TEST(SignalRulesTest, WaitsGoOnAfterAStop) {
  struct Row {
    const char* name;
    int (*wait)();
  };
  static int fds[2];
  ASSERT_OK(pipe(fds));
  const Row rows[] = {
      {"nanosleep", [] { const timespec t = {0, 900'000'000}; return nanosleep(&t, nullptr); }},
      {"poll", [] { return poll(nullptr, 0, 900); }},
      {"futex", [] {
         uint32_t word = 0;
         const timespec t = {0, 900'000'000};
         return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &t, nullptr, 0) == -1 && errno == ETIMEDOUT ? 0 : 1;
       }},
      {"read", [] {
         char c;
         return read(fds[0], &c, 1) == 1 ? 0 : 1;
       }},
  };
  for (const Row& row : rows) {
    const pid_t child = fork();
    if (child == 0) _exit(row.wait() == 0 ? 0 : 1);
    AwaitState(child, 'S');
    kill(child, SIGSTOP);
    int status;
    EXPECT_EQ(waitpid(child, &status, WUNTRACED), child) << row.name;
    if (row.name == rows[3].name) {
      EXPECT_EQ(write(fds[1], "x", 1), 1);
    }
    kill(child, SIGCONT);
    EXPECT_EQ(waitpid(child, &status, 0), child) << row.name;
    EXPECT_EQ(status, 0) << row.name;
  }
  close(fds[0]), close(fds[1]);
}

TEST(SignalRulesTest, HandlersEndWaitsThatAreNotRestarted) {
  EXPECT_TRUE(Exited(InChild([] {
    struct sigaction sa = {};
    sa.sa_handler = [](int) {};
    sa.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &sa, nullptr);
    const itimerval soon = {{0, 5000}, {0, 5000}};  // again, for one that comes before the wait
    timespec t = {5, 0}, rem = {};
    setitimer(ITIMER_REAL, &soon, nullptr);
    CHECK_CHILD(nanosleep(&t, &rem) == -1 && errno == EINTR && rem.tv_sec >= 3);
    setitimer(ITIMER_REAL, &soon, nullptr);
    CHECK_CHILD(poll(nullptr, 0, 5000) == -1 && errno == EINTR);
    setitimer(ITIMER_REAL, &soon, nullptr);
    CHECK_CHILD(pause() == -1 && errno == EINTR);
    return 0;
  })));
}

TEST(SignalRulesTest, CoreFlagFollowsTheLimit) {
  TempDir dir;
  for (const bool core : {false, true}) {
    for (const int signo : {SIGSEGV, SIGABRT, SIGQUIT, SIGTERM}) {
      const int status = InChild([&] {
        if (chdir(dir.path().c_str()) != 0) return 1;
        const rlimit limit = {core ? RLIM_INFINITY : 0, RLIM_INFINITY};
        if (setrlimit(RLIMIT_CORE, &limit) != 0) return 2;
        raise(signo);
        return 0;
      });
      EXPECT_TRUE(KilledBy(status, signo));
      EXPECT_EQ(WCOREDUMP(status) != 0, core && signo != SIGTERM) << signo;
    }
  }
}

TEST(SignalRulesTest, AltStackRules) {
  EXPECT_TRUE(Exited(InChild([] {
    stack_t s = {}, old = {};
    CHECK_CHILD(sigaltstack(nullptr, &old) == 0 && old.ss_flags == SS_DISABLE);
    static char memory[64 << 10];
    s.ss_sp = memory;
    s.ss_size = 2047;
    CHECK_CHILD(sigaltstack(&s, nullptr) == -1 && errno == ENOMEM);
    s.ss_size = sizeof(memory);
    s.ss_flags = 8;
    CHECK_CHILD(sigaltstack(&s, nullptr) == -1 && errno == EINVAL);
    CHECK_CHILD(sigaltstack(reinterpret_cast<stack_t*>(16), nullptr) == -1 && errno == EFAULT);
    s.ss_flags = 0;
    CHECK_CHILD(sigaltstack(&s, nullptr) == 0);
    struct sigaction sa = {};
    sa.sa_flags = SA_ONSTACK;
    sa.sa_handler = [](int) {
      stack_t now = {}, none = {};
      CHECK_CHILD(sigaltstack(nullptr, &now) == 0 && now.ss_flags == SS_ONSTACK);
      none.ss_flags = SS_DISABLE;
      CHECK_CHILD(sigaltstack(&none, nullptr) == -1 && errno == EPERM);
    };
    sigaction(SIGUSR1, &sa, nullptr);
    raise(SIGUSR1);
    s.ss_flags = static_cast<int>(1u << 31);  // SS_AUTODISARM
    CHECK_CHILD(sigaltstack(&s, nullptr) == 0);
    sa.sa_handler = [](int) {
      stack_t now = {};
      CHECK_CHILD(sigaltstack(nullptr, &now) == 0 && now.ss_flags == SS_DISABLE);
    };
    sigaction(SIGUSR1, &sa, nullptr);
    raise(SIGUSR1);
    CHECK_CHILD(sigaltstack(nullptr, &old) == 0 && old.ss_flags == static_cast<int>(1u << 31));
    return 0;
  })));
}

TEST(SignalRulesTest, KillOfAGroupAndPermissions) {
  if (getuid() != 0) GTEST_SKIP() << "needs root";
  const pid_t root = fork();
  if (root == 0) {
    for (;;) pause();
  }
  EXPECT_TRUE(Exited(InChildAsNobody([&] {
    CHECK_CHILD(kill(root, SIGTERM) == -1 && errno == EPERM);
    CHECK_CHILD(kill(root, 0) == -1 && errno == EPERM);
    CHECK_CHILD(kill(root, SIGCONT) == 0);  // the same session
    CHECK_CHILD(Queue(root, SIGTERM, SI_QUEUE) == -1 && errno == EPERM);
    CHECK_CHILD(syscall(SYS_tkill, root, SIGTERM) == -1 && errno == EPERM);
    return 0;
  })));
  kill(root, SIGKILL);
  waitpid(root, nullptr, 0);
}

TEST(SignalRulesTest, ExitStatusOfTheLastThread) {
  EXPECT_TRUE(Exited(InChild([] {
                       std::thread([] {
                         const std::string stat = "/proc/" + std::to_string(getpid()) + "/stat";
                         while (ReadFile(stat).find(") Z ") == std::string::npos) usleep(500);
                         syscall(SYS_exit, 5);
                       }).detach();
                       syscall(SYS_exit, 3);
                       return 0;
                     }),
                     5));
}

}  // namespace
}  // namespace ringwall::test
