// Settings of tasks and processes: scheduling, I/O priority, memory policy, personality, prctl, limits.
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

struct SchedAttr {
  uint32_t size = 0, policy = 0;
  uint64_t flags = 0;
  int32_t nice = 0;
  uint32_t priority = 0;
  uint64_t runtime = 0, deadline = 0, period = 0;
  uint32_t util_min = 0, util_max = 0;
};

long SetAttr(pid_t pid, SchedAttr* a, unsigned flags = 0) {
  return syscall(SYS_sched_setattr, pid, a, flags);
}
long GetAttr(pid_t pid, SchedAttr* a, unsigned size = sizeof(SchedAttr), unsigned flags = 0) {
  return syscall(SYS_sched_getattr, pid, a, size, flags);
}

void Burn(int64_t ns) {
  timespec t;
  const auto now = [&] {
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1'000'000'000 + t.tv_nsec;
  };
  const int64_t end = now() + ns;
  while (now() < end) {
  }
}

TEST(SchedAttrTest, GetChecksItsArguments) {
  SchedAttr a = {};
  EXPECT_OK(GetAttr(0, &a));
  EXPECT_EQ(a.size, 56u);
  EXPECT_EQ(a.policy, static_cast<uint32_t>(SCHED_OTHER));
  EXPECT_OK(GetAttr(0, &a, 48));
  EXPECT_EQ(a.size, 48u);
  EXPECT_FAILS(GetAttr(0, &a, 47), EINVAL);
  EXPECT_FAILS(GetAttr(0, &a, 5000), EINVAL);
  EXPECT_FAILS(GetAttr(0, nullptr), EINVAL);
  EXPECT_FAILS(GetAttr(-1, &a), EINVAL);
  EXPECT_FAILS(GetAttr(0, &a, 56, 1), EINVAL);
  EXPECT_FAILS(GetAttr(4194300, &a), ESRCH);
}

TEST(SchedAttrTest, SetChecksItsArguments) {
  SchedAttr a = {.size = 48};
  EXPECT_OK(SetAttr(0, &a));
  EXPECT_FAILS(SetAttr(0, nullptr), EINVAL);
  EXPECT_FAILS(SetAttr(-1, &a), EINVAL);
  EXPECT_FAILS(SetAttr(0, &a, 1), EINVAL);
  EXPECT_FAILS(SetAttr(4194300, &a), ESRCH);
  a = {.size = 47};
  EXPECT_FAILS(SetAttr(0, &a), E2BIG);
  EXPECT_GE(a.size, 56u);
  a = {.size = 48, .policy = 1234};
  EXPECT_FAILS(SetAttr(0, &a), EINVAL);
  a = {.size = 48, .policy = SCHED_FIFO};
  EXPECT_FAILS(SetAttr(0, &a), EINVAL);  // no priority
  a = {.size = 48, .policy = SCHED_OTHER, .priority = 1};
  EXPECT_FAILS(SetAttr(0, &a), EINVAL);
  a = {.size = 48, .policy = SCHED_FIFO, .priority = 100};
  EXPECT_FAILS(SetAttr(0, &a), EINVAL);
  a = {.size = 48, .flags = 1 << 20};
  EXPECT_FAILS(SetAttr(0, &a), EINVAL);
  a = {.size = 48, .policy = 6, .runtime = 10'000'000, .deadline = 5'000'000};
  EXPECT_FAILS(SetAttr(0, &a), EINVAL);  // more than its deadline allows
}

TEST(SchedAttrTest, NiceAndPolicyAreKept) {
  EXPECT_EQ(InChild([] {
    SchedAttr a = {.size = 48, .policy = SCHED_BATCH, .nice = 5};
    CHECK_CHILD(SetAttr(0, &a) == 0);
    CHECK_CHILD(sched_getscheduler(0) == SCHED_BATCH);
    CHECK_CHILD(getpriority(PRIO_PROCESS, 0) == 5);
    a = {};
    CHECK_CHILD(GetAttr(0, &a) == 0);
    CHECK_CHILD(a.policy == SCHED_BATCH && a.nice == 5);
    return 0;
  }), 0);
}

TEST(SchedTest, ResetOnForkHoldsForTheChild) {
  EXPECT_EQ(InChild([] {
    sched_param p = {};
    CHECK_CHILD(setpriority(PRIO_PROCESS, 0, 3) == 0);
    CHECK_CHILD(sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &p) == 0);
    CHECK_CHILD(sched_getscheduler(0) == (SCHED_BATCH | SCHED_RESET_ON_FORK));
    const pid_t child = fork();
    if (child == 0) _exit(sched_getscheduler(0) == SCHED_BATCH ? 0 : 1);
    int status = -1;
    CHECK_CHILD(waitpid(child, &status, 0) == child && status == 0);
    return 0;
  }), 0);
}

TEST(SchedTest, OrdinaryUsersGetNoRealTime) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_EQ(InChild([] {
    const rlimit none = {0, 0};
    CHECK_CHILD(setrlimit(RLIMIT_RTPRIO, &none) == 0);
    CHECK_CHILD(setresuid(65534, 65534, 65534) == 0);
    sched_param p = {.sched_priority = 1};
    CHECK_CHILD(sched_setscheduler(0, SCHED_FIFO, &p) == -1 && errno == EPERM);
    p.sched_priority = 0;
    CHECK_CHILD(sched_setscheduler(0, SCHED_IDLE, &p) == 0);
    return 0;
  }), 0);
}

TEST(SchedTest, SetschedulerChecksItsArguments) {
  sched_param p = {};
  EXPECT_FAILS(sched_setscheduler(0, SCHED_OTHER, nullptr), EINVAL);
  EXPECT_FAILS(sched_setscheduler(-1, SCHED_OTHER, &p), EINVAL);
  EXPECT_FAILS(sched_setscheduler(0, -5, &p), EINVAL);
  EXPECT_FAILS(sched_setscheduler(0, 4, &p), EINVAL);
  EXPECT_FAILS(sched_setparam(0, nullptr), EINVAL);
  EXPECT_FAILS(sched_getparam(0, nullptr), EINVAL);
  EXPECT_FAILS(sched_getparam(4194300, &p), ESRCH);
  p.sched_priority = -1;
  EXPECT_FAILS(sched_setparam(0, &p), EINVAL);
}

long IoprioSet(int which, int who, int value) {
  return syscall(SYS_ioprio_set, which, who, value);
}
long IoprioGet(int which, int who) { return syscall(SYS_ioprio_get, which, who); }

TEST(IoprioTest, SetAndGet) {
  EXPECT_EQ(InChild([] {
    CHECK_CHILD(IoprioSet(1, 0, (2 << 13) | 5) == 0);
    CHECK_CHILD(IoprioGet(1, 0) == ((2 << 13) | 5));
    CHECK_CHILD(IoprioGet(1, getpid()) == ((2 << 13) | 5));
    CHECK_CHILD(IoprioSet(1, 0, 3 << 13) == 0);
    CHECK_CHILD(IoprioGet(1, 0) == 3 << 13);
    CHECK_CHILD(IoprioGet(2, 0) >= 0);
    return 0;
  }), 0);
  EXPECT_FAILS(IoprioSet(4, 0, 2 << 13), EINVAL);
  EXPECT_FAILS(IoprioSet(1, 0, 7 << 13), EINVAL);
  EXPECT_FAILS(IoprioSet(1, 0, 3), EINVAL);  // a level without a class
  EXPECT_FAILS(IoprioSet(1, 4194300, 2 << 13), ESRCH);
  EXPECT_FAILS(IoprioGet(0, 0), EINVAL);
}

long GetMempolicy(int* mode, unsigned long* nodes, unsigned long max, void* addr, unsigned flags) {
  return syscall(SYS_get_mempolicy, mode, nodes, max, addr, flags);
}

TEST(MempolicyTest, OfTheTask) {
  EXPECT_EQ(InChild([] {
    unsigned long nodes[16] = {1};
    int mode = -1;
    CHECK_CHILD(GetMempolicy(&mode, nullptr, 0, nullptr, 0) == 0 && mode == MPOL_DEFAULT);
    nodes[0] = 1;
    CHECK_CHILD(syscall(SYS_set_mempolicy, MPOL_BIND, nodes, 1024) == 0);
    nodes[0] = 0;
    CHECK_CHILD(GetMempolicy(&mode, nodes, 1024, nullptr, 0) == 0);
    CHECK_CHILD(mode == MPOL_BIND && nodes[0] == 1);
    // Memory without a policy shows the default, not the task's.
    CHECK_CHILD(GetMempolicy(&mode, nodes, 1024, nodes, MPOL_F_ADDR) == 0);
    CHECK_CHILD(mode == MPOL_DEFAULT && nodes[0] == 0);
    CHECK_CHILD(syscall(SYS_set_mempolicy, MPOL_DEFAULT, nullptr, 0) == 0);
    CHECK_CHILD(syscall(SYS_set_mempolicy, 77, nodes, 1024) == -1 && errno == EINVAL);
    nodes[0] = 0;
    CHECK_CHILD(syscall(SYS_set_mempolicy, MPOL_BIND, nodes, 1024) == -1 && errno == EINVAL);
    return 0;
  }), 0);
  EXPECT_FAILS(GetMempolicy(nullptr, nullptr, 0, nullptr, 1 << 10), EINVAL);
}

TEST(MempolicyTest, OfMemory) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  char* p = static_cast<char*>(mmap(nullptr, 4 * page, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(p, MAP_FAILED);
  unsigned long nodes[16] = {1};
  int mode = -1;
  EXPECT_OK(syscall(SYS_mbind, p + page, page, MPOL_BIND, nodes, 1024, 0));
  EXPECT_OK(GetMempolicy(&mode, nullptr, 0, p + page, MPOL_F_ADDR));
  EXPECT_EQ(mode, MPOL_BIND);
  EXPECT_OK(GetMempolicy(&mode, nullptr, 0, p + 2 * page, MPOL_F_ADDR));
  EXPECT_EQ(mode, MPOL_DEFAULT);
  p[page] = 1;
  EXPECT_OK(GetMempolicy(&mode, nullptr, 0, p + page, MPOL_F_ADDR | MPOL_F_NODE));
  EXPECT_EQ(mode, 0);
  EXPECT_FAILS(syscall(SYS_mbind, p + 1, page, MPOL_BIND, nodes, 1024, 0), EINVAL);
  EXPECT_FAILS(syscall(SYS_mbind, p, page, MPOL_BIND, nodes, 1024, 1 << 20), EINVAL);
  void* pages[2] = {p + page, p + 3 * page};
  int status[2] = {99, 99};
  EXPECT_OK(syscall(SYS_move_pages, 0, 2, pages, nullptr, status, 0));
  EXPECT_EQ(status[0], 0);
  EXPECT_EQ(status[1], -ENOENT);
  EXPECT_FAILS(syscall(SYS_move_pages, 0, 1, pages, nullptr, status, 1 << 10), EINVAL);
  munmap(p, 4 * page);
  EXPECT_FAILS(syscall(SYS_mbind, p, page, MPOL_BIND, nodes, 1024, 0), EFAULT);
}

TEST(PersonalityTest, IsInheritedAndActs) {
  EXPECT_EQ(InChild([] {
    CHECK_CHILD(personality(UNAME26 | STICKY_TIMEOUTS) == 0);
    CHECK_CHILD(personality(0xffffffff) == (UNAME26 | STICKY_TIMEOUTS));
    utsname u;
    CHECK_CHILD(uname(&u) == 0 && strncmp(u.release, "2.6.", 4) == 0);
    timeval tv = {0, 100};
    CHECK_CHILD(select(0, nullptr, nullptr, nullptr, &tv) == 0 && tv.tv_usec == 100);
    const pid_t child = fork();
    if (child == 0) _exit(personality(0xffffffff) == (UNAME26 | STICKY_TIMEOUTS) ? 0 : 1);
    int status = -1;
    CHECK_CHILD(waitpid(child, &status, 0) == child && status == 0);
    return 0;
  }), 0);
}

TEST(PersonalityTest, ReadImpliesExecShowsInMaps) {
  EXPECT_EQ(InChild([] {
    CHECK_CHILD(personality(READ_IMPLIES_EXEC) == 0);
    void* p = mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK_CHILD(p != MAP_FAILED);
    char line[512], want[64];
    snprintf(want, sizeof(want), "%lx-", reinterpret_cast<unsigned long>(p));
    FILE* maps = fopen("/proc/self/maps", "r");
    bool found = false;
    while (fgets(line, sizeof(line), maps) != nullptr) {
      if (strstr(line, "r-xp") != nullptr) {
        unsigned long from, to;
        sscanf(line, "%lx-%lx", &from, &to);
        const unsigned long at = reinterpret_cast<unsigned long>(p);
        found |= from <= at && at < to;
      }
    }
    CHECK_CHILD(found);
    return 0;
  }), 0);
}

TEST(PrctlTest, SettingsThatAreRemembered) {
  EXPECT_EQ(InChild([] {
    CHECK_CHILD(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0) == 0);
    CHECK_CHILD(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_EARLY);
    CHECK_CHILD(prctl(PR_MCE_KILL, PR_MCE_KILL_CLEAR, 0, 0, 0) == 0);
    CHECK_CHILD(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0) == PR_MCE_KILL_DEFAULT);
    CHECK_CHILD(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
    CHECK_CHILD(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
    CHECK_CHILD(prctl(PR_SET_TIMERSLACK, 70000) == 0);
    const pid_t child = fork();
    if (child == 0) {
      CHECK_CHILD(prctl(PR_GET_TIMERSLACK) == 70000);
      CHECK_CHILD(prctl(PR_SET_TIMERSLACK, 1) == 0);
      CHECK_CHILD(prctl(PR_SET_TIMERSLACK, 0) == 0);
      CHECK_CHILD(prctl(PR_GET_TIMERSLACK) == 70000);
      _exit(0);
    }
    int status = -1;
    CHECK_CHILD(waitpid(child, &status, 0) == child && status == 0);
    return 0;
  }), 0);
}

TEST(PrctlTest, BadArgumentsAreEinval) {
  EXPECT_FAILS(prctl(PR_MCE_KILL, 7, 0, 0, 0), EINVAL);
  EXPECT_FAILS(prctl(PR_MCE_KILL_GET, 1, 0, 0, 0), EINVAL);
  EXPECT_FAILS(prctl(PR_SET_THP_DISABLE, 1, 1, 0, 0), EINVAL);
  EXPECT_FAILS(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0), EINVAL);
  EXPECT_FAILS(prctl(PR_GET_SPECULATION_CTRL, 0, 1, 0, 0), EINVAL);
  EXPECT_FAILS(prctl(PR_GET_SPECULATION_CTRL, 99, 0, 0, 0), ENODEV);
  EXPECT_FAILS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 1, 0, 0), EINVAL);
  EXPECT_FAILS(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, 99, 0, 0), EINVAL);
  EXPECT_FAILS(prctl(PR_SET_MM, PR_SET_MM_START_CODE, 4096, 0, 1), EINVAL);
  EXPECT_FAILS(prctl(12345, 0, 0, 0, 0), EINVAL);
}

TEST(PrctlTest, SecurebitsObeyTheirLocks) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_EQ(InChild([] {
    constexpr unsigned long kNoRoot = 1, kNoRootLocked = 2;
    CHECK_CHILD(prctl(PR_SET_SECUREBITS, kNoRoot | kNoRootLocked) == 0);
    CHECK_CHILD(prctl(PR_GET_SECUREBITS) == (kNoRoot | kNoRootLocked));
    CHECK_CHILD(prctl(PR_SET_SECUREBITS, 0) == -1 && errno == EPERM);
    return 0;
  }), 0);
}

TEST(CpuLimitTest, SoftLimitSignalsAndHardLimitKills) {
  EXPECT_TRUE(KilledBy(InChild([] {
    const rlimit lim = {1, 1};
    setrlimit(RLIMIT_CPU, &lim);
    for (;;) {
    }
    return 0;
  }), SIGKILL));
  EXPECT_TRUE(KilledBy(InChild([] {
    const rlimit lim = {1, 5};
    setrlimit(RLIMIT_CPU, &lim);
    for (;;) {
    }
    return 0;
  }), SIGXCPU));
}

TEST(CpuTimerTest, ExpiresWithCpuTime) {
  for (const clockid_t clock : {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID}) {
    timer_t timer;
    sigevent ev = {};
    ev.sigev_notify = SIGEV_SIGNAL;
    ev.sigev_signo = SIGUSR1;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    ASSERT_OK(timer_create(clock, &ev, &timer));
    const itimerspec when = {{0, 0}, {0, 20'000'000}};
    ASSERT_OK(timer_settime(timer, 0, &when, nullptr));
    itimerspec left;
    ASSERT_OK(timer_gettime(timer, &left));
    EXPECT_GT(left.it_value.tv_nsec, 0);
    EXPECT_LE(left.it_value.tv_nsec, 20'000'000);
    // Linux looks at these timers at its ticks, and only while the thread runs: the first 30 ms may have none that
    // comes late enough.
    siginfo_t info;
    const timespec at_once = {0, 0};
    int got = -1;
    for (int i = 0; i < 10 && got < 0; i++) {
      Burn(30'000'000);
      got = sigtimedwait(&set, &info, &at_once);
    }
    ASSERT_EQ(got, SIGUSR1);
    EXPECT_EQ(info.si_code, SI_TIMER);
    EXPECT_OK(timer_delete(timer));
  }
}

TEST(CpuTimerTest, SleepOnAnothersClock) {
  Pipe go;
  const pid_t child = fork();
  if (child == 0) {
    char c;
    read(go.reader.get(), &c, 1);
    for (;;) {
    }
  }
  clockid_t clock;
  ASSERT_EQ(clock_getcpuclockid(child, &clock), 0);
  ASSERT_EQ(write(go.writer.get(), "x", 1), 1);
  const timespec nap = {0, 20'000'000};
  EXPECT_EQ(clock_nanosleep(clock, 0, &nap, nullptr), 0);
  timespec used;
  EXPECT_OK(clock_gettime(clock, &used));
  EXPECT_GE(used.tv_sec * 1'000'000'000 + used.tv_nsec, 20'000'000);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &nap, nullptr), EINVAL);
  EXPECT_FAILS(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &nap, nullptr),
               EOPNOTSUPP);
  EXPECT_FAILS(timer_create(~4194300 << 3 | 2, nullptr, nullptr), EINVAL);
}

TEST(MembarrierTest, EachCommand) {
  const auto call = [](int cmd, unsigned flags = 0) {
    return syscall(SYS_membarrier, cmd, flags, 0);
  };
  const long mask = call(0);
  ASSERT_OK(mask);
  EXPECT_EQ(InChild([&] {
    CHECK_CHILD(call(8) == -1 && errno == EPERM);  // PRIVATE_EXPEDITED before registering
    CHECK_CHILD(call(16) == 0);
    CHECK_CHILD(call(8) == 0);
    CHECK_CHILD(call(4) == 0);
    CHECK_CHILD(call(2) == 0);
    if ((mask & 64) != 0) {
      CHECK_CHILD(call(32) == -1 && errno == EPERM);
      CHECK_CHILD(call(64) == 0);
      CHECK_CHILD(call(32) == 0);
    }
    CHECK_CHILD(call(0, 1) == -1 && errno == EINVAL);
    CHECK_CHILD(call(-1) == -1 && errno == EINVAL);
    return 0;
  }), 0);
}

}  // namespace
}  // namespace ringwall::test
