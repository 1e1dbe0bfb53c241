// Clocks, sleeps, POSIX timers, interval timers, timerfd and CPU-time clocks.
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <time.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

int64_t Ns(const timespec& t) { return t.tv_sec * 1'000'000'000LL + t.tv_nsec; }
int64_t Us(const timeval& t) { return t.tv_sec * 1'000'000LL + t.tv_usec; }
int64_t Now(clockid_t clock) {
  timespec t = {};
  EXPECT_OK(clock_gettime(clock, &t));
  return Ns(t);
}

// Some 50 us.
void Compute() {
  volatile int count = 0;
  while (count < 100'000) {
    const int next = count + 1;
    count = next;
  }
}

volatile sig_atomic_t g_ticks;
siginfo_t g_info;
void Tick(int, siginfo_t* info, void*) {
  g_ticks = g_ticks + 1;
  g_info = *info;
}
void CatchAlarm(int sig) {
  g_ticks = 0;
  struct sigaction sa = {};
  sa.sa_sigaction = Tick;
  sa.sa_flags = SA_SIGINFO;
  ASSERT_OK(sigaction(sig, &sa, nullptr));
}

TEST(ClockTest, MonotonicNeverGoesBack) {
  for (clockid_t clock : {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE}) {
    int64_t last = Now(clock);
    EXPECT_GT(last, 0);
    for (int i = 0; i < 1000; ++i) {
      const int64_t now = Now(clock);
      ASSERT_GE(now, last) << clock;
      last = now;
    }
  }
}

TEST(ClockTest, VdsoAndSystemCallAgree) {
  for (clockid_t clock : {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME}) {
    timespec a, b, c;
    ASSERT_OK(clock_gettime(clock, &a));
    ASSERT_OK(syscall(SYS_clock_gettime, clock, &b));
    ASSERT_OK(clock_gettime(clock, &c));
    EXPECT_LE(Ns(a), Ns(b));
    EXPECT_LE(Ns(b), Ns(c));
  }
}

TEST(ClockTest, WallClocksAgree) {
  timeval tv;
  ASSERT_OK(gettimeofday(&tv, nullptr));
  const int64_t now = Now(CLOCK_REALTIME);
  EXPECT_LT(std::abs(now / 1000 - (tv.tv_sec * 1000000LL + tv.tv_usec)), 5000000);
  EXPECT_LE(std::abs(time(nullptr) - now / 1000000000), 5);
  EXPECT_EQ(syscall(SYS_time, nullptr), syscall(SYS_time, nullptr));
}

TEST(ClockTest, ResolutionAndErrors) {
  timespec t;
  ASSERT_OK(clock_getres(CLOCK_MONOTONIC, &t));
  EXPECT_EQ(Ns(t), 1);
  EXPECT_FAILS(syscall(SYS_clock_gettime, 99, &t), EINVAL);
  EXPECT_FAILS(syscall(SYS_clock_getres, 99, &t), EINVAL);
  EXPECT_FAILS(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, BadAddress()), EFAULT);
  EXPECT_FAILS(syscall(SYS_gettimeofday, BadAddress(), nullptr), EFAULT);
  EXPECT_FAILS(clock_settime(CLOCK_MONOTONIC, &t), EINVAL);
}

TEST(ClockTest, CpuTimeAdvancesWithWorkAndNotWithSleep) {
  const int64_t before = Now(CLOCK_PROCESS_CPUTIME_ID);
  usleep(30000);
  const int64_t slept = Now(CLOCK_PROCESS_CPUTIME_ID) - before;
  EXPECT_LT(slept, 20000000);
  const int64_t thread = Now(CLOCK_THREAD_CPUTIME_ID);
  while (Now(CLOCK_THREAD_CPUTIME_ID) - thread < 10000000) {
  }
  EXPECT_GE(Now(CLOCK_PROCESS_CPUTIME_ID) - before, 9000000);
}

// Of this process: ~pid << 3 | 0 to 2, with 4 for the thread; 3 is a device's, and 7 nothing.
TEST(ClockTest, NumbersBelowZero) {
  timespec at = {0, -1}, coarse;
  timex change = {};
  ASSERT_OK(clock_getres(CLOCK_REALTIME_COARSE, &coarse));
  for (const clockid_t own : {-8, -7, -6, -4, -3, -2}) {
    EXPECT_FAILS(syscall(SYS_clock_settime, own, BadAddress()), EFAULT);
    EXPECT_FAILS(syscall(SYS_clock_settime, own, &at), EPERM);
    EXPECT_FAILS(syscall(SYS_clock_adjtime, own, &change), EOPNOTSUPP);
    timespec resolution;
    ASSERT_OK(syscall(SYS_clock_getres, own, &resolution));
    EXPECT_EQ(resolution.tv_nsec, (own & 3) == 2 ? 1 : coarse.tv_nsec) << own;
  }
  constexpr clockid_t kDevice = -5, kNothing = -1;
  for (const clockid_t clock : {kDevice, kNothing}) {
    EXPECT_FAILS(syscall(SYS_clock_settime, clock, BadAddress()), EFAULT);
    EXPECT_FAILS(syscall(SYS_clock_settime, clock, &at), EINVAL);
    EXPECT_FAILS(syscall(SYS_clock_adjtime, clock, &change), clock == kDevice ? EINVAL : EOPNOTSUPP);
    const int refusal = clock == kDevice ? EOPNOTSUPP : EINVAL;
    EXPECT_FAILS(syscall(SYS_clock_nanosleep, clock, 0, &at, nullptr), refusal);
    int timer;
    EXPECT_FAILS(syscall(SYS_timer_create, clock, nullptr, &timer), refusal);
  }
}

// What the kernel does for a program is its system time, whoever does it.
TEST(ClockTest, CallsAreSystemTime) {
  const int fd = memfd_create("calls", MFD_CLOEXEC);
  ASSERT_GE(fd, 0);
  const std::vector<char> data(1 << 20);
  rusage before, now = {};
  ASSERT_OK(getrusage(RUSAGE_SELF, &before));
  const int64_t until = Now(CLOCK_MONOTONIC) + 20'000'000'000;
  while (Now(CLOCK_MONOTONIC) < until) {
    ASSERT_EQ(pwrite(fd, data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
    ASSERT_OK(getrusage(RUSAGE_SELF, &now));
    if (Us(now.ru_stime) - Us(before.ru_stime) >= 30'000) break;
  }
  EXPECT_GE(Us(now.ru_stime) - Us(before.ru_stime), 30'000);
  close(fd);
}

// A thread that waits has no part in what the others compute, whoever asks.
TEST(ClockTest, EachThreadHasItsOwnTime) {
  std::atomic<bool> stop{false};
  std::atomic<int64_t> computed{0};
  clockid_t other_clock;
  std::thread other([&] {
    const int64_t from = Now(CLOCK_THREAD_CPUTIME_ID);
    int64_t spent = 0;
    while (!stop.load()) {
      Compute();
      spent = Now(CLOCK_THREAD_CPUTIME_ID) - from;
      computed.store(spent);
    }
  });
  ASSERT_EQ(pthread_getcpuclockid(other.native_handle(), &other_clock), 0);
  const int64_t mine = Now(CLOCK_THREAD_CPUTIME_ID), process = Now(CLOCK_PROCESS_CPUTIME_ID);
  const int64_t theirs = Now(other_clock);
  const int64_t until = Now(CLOCK_MONOTONIC) + 20'000'000'000;
  while (computed.load() < 150'000'000 && Now(CLOCK_MONOTONIC) < until) usleep(20'000);
  const int64_t their_part = Now(other_clock) - theirs;
  const int64_t own_part = Now(CLOCK_THREAD_CPUTIME_ID) - mine;
  const int64_t whole = Now(CLOCK_PROCESS_CPUTIME_ID) - process;
  rusage self;
  ASSERT_OK(getrusage(RUSAGE_THREAD, &self));
  stop.store(true);
  other.join();
  EXPECT_GE(their_part, 100'000'000);
  EXPECT_LT(own_part, 50'000'000);
  EXPECT_GE(whole, their_part);
  EXPECT_LT(Us(self.ru_utime) + Us(self.ru_stime), (mine + own_part) / 1000 + 20'000);
}

// Also one that waits on a futex.
TEST(ClockTest, WaitForAThreadIsNoTime) {
  const int64_t mine = Now(CLOCK_THREAD_CPUTIME_ID);
  std::thread other([] {
    const int64_t from = Now(CLOCK_THREAD_CPUTIME_ID);
    while (Now(CLOCK_THREAD_CPUTIME_ID) - from < 150'000'000) {
      Compute();
    }
  });
  other.join();
  EXPECT_LT(Now(CLOCK_THREAD_CPUTIME_ID) - mine, 50'000'000);
}

TEST(ClockTest, RusageAndTimesTellTheSameStory) {
  const int64_t start = Now(CLOCK_PROCESS_CPUTIME_ID);
  while (Now(CLOCK_PROCESS_CPUTIME_ID) - start < 40000000) {
  }
  rusage u;
  ASSERT_OK(getrusage(RUSAGE_SELF, &u));
  const int64_t us = (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + u.ru_utime.tv_usec +
                     u.ru_stime.tv_usec;
  EXPECT_GE(us, 30000);
  tms t;
  EXPECT_GT(times(&t), 0);
  EXPECT_GE(t.tms_utime + t.tms_stime, 2);
  EXPECT_FAILS(getrusage(99, &u), EINVAL);
  EXPECT_FAILS(syscall(SYS_getrusage, RUSAGE_SELF, BadAddress()), EFAULT);
  EXPECT_FAILS(syscall(SYS_times, BadAddress()), EFAULT);
}

TEST(SleepTest, NanosleepSleepsAtLeastSoLong) {
  const timespec ask = {0, 5000000};
  const int64_t start = Now(CLOCK_MONOTONIC);
  ASSERT_OK(nanosleep(&ask, nullptr));
  EXPECT_GE(Now(CLOCK_MONOTONIC) - start, 5000000);
}

TEST(SleepTest, AbsoluteSleep) {
  timespec until;
  ASSERT_OK(clock_gettime(CLOCK_MONOTONIC, &until));
  until.tv_nsec += 5000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_nsec -= 1000000000;
    ++until.tv_sec;
  }
  EXPECT_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr), 0);
  EXPECT_GE(Now(CLOCK_MONOTONIC), Ns(until));
  until.tv_sec = 1;
  EXPECT_EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &until, nullptr), 0);
}

TEST(SleepTest, Errors) {
  const timespec bad = {0, 1000000000}, negative = {-1, 0}, ok = {0, 1};
  EXPECT_FAILS(nanosleep(&bad, nullptr), EINVAL);
  EXPECT_FAILS(nanosleep(&negative, nullptr), EINVAL);
  EXPECT_FAILS(syscall(SYS_nanosleep, BadAddress(), nullptr), EFAULT);
  EXPECT_EQ(clock_nanosleep(99, 0, &ok, nullptr), EINVAL);
  EXPECT_EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &ok, nullptr), EINVAL);
}

TEST(AlarmTest, AlarmReturnsTheRestAndFires) {
  CatchAlarm(SIGALRM);
  EXPECT_EQ(alarm(100), 0u);
  const unsigned rest = alarm(0);
  EXPECT_GE(rest, 90u);
  EXPECT_LE(rest, 100u);
  EXPECT_EQ(alarm(0), 0u);
  const itimerval soon = {{0, 0}, {0, 3000}};
  ASSERT_OK(setitimer(ITIMER_REAL, &soon, nullptr));
  pause();
  EXPECT_EQ(g_ticks, 1);
  EXPECT_EQ(g_info.si_code, SI_KERNEL);
}

TEST(ItimerTest, RepeatsAndReportsWhatIsLeft) {
  CatchAlarm(SIGALRM);
  const itimerval often = {{0, 2000}, {0, 2000}};
  ASSERT_OK(setitimer(ITIMER_REAL, &often, nullptr));
  while (g_ticks < 4) pause();
  itimerval now;
  ASSERT_OK(getitimer(ITIMER_REAL, &now));
  EXPECT_EQ(now.it_interval.tv_usec, 2000);
  const itimerval off = {};
  ASSERT_OK(setitimer(ITIMER_REAL, &off, &now));
  EXPECT_FAILS(setitimer(static_cast<__itimer_which>(9), &off, nullptr), EINVAL);
  const itimerval bad = {{0, 0}, {0, 1000000}};
  EXPECT_FAILS(setitimer(ITIMER_REAL, &bad, nullptr), EINVAL);
}

TEST(ItimerTest, CpuTimersCountCpuOnly) {
  CatchAlarm(SIGPROF);
  const itimerval soon = {{0, 0}, {0, 10000}};
  ASSERT_OK(setitimer(ITIMER_PROF, &soon, nullptr));
  usleep(30000);
  EXPECT_EQ(g_ticks, 0);
  while (g_ticks == 0) asm volatile("" ::: "memory");
  EXPECT_EQ(g_ticks, 1);
  signal(SIGPROF, SIG_DFL);
}

// A profiler sees the threads that run, not the one that began the timer and sleeps.
thread_local int t_busy = -1;
std::atomic<int> g_told[3];  // by busy thread; the last: anybody else
void NoteThread(int) { g_told[t_busy < 0 ? 2 : t_busy]++; }

// Two threads compute until both were told five times, or more than ten seconds of CPU time are spent in vain.
void ComputeUntilTold(const std::function<void()>& start, const std::function<void()>& stop) {
  for (std::atomic<int>& told : g_told) told = 0;
  std::atomic<bool> done{false};
  std::vector<std::thread> busy;
  for (int i = 0; i < 2; i++) {
    busy.emplace_back([i, &done] {
      t_busy = i;
      while (!done) Compute();
    });
  }
  start();
  while ((g_told[0] < 5 || g_told[1] < 5) && g_told[2] < 1000) usleep(1000);
  stop();
  done = true;
  for (std::thread& t : busy) t.join();
  EXPECT_GE(g_told[0], 5);
  EXPECT_GE(g_told[1], 5);
}

TEST(ItimerTest, CpuTimersTellThreadsThatRun) {
  signal(SIGPROF, NoteThread);
  signal(SIGVTALRM, NoteThread);
  for (const __itimer_which which : {ITIMER_PROF, ITIMER_VIRTUAL}) {
    const itimerval often = {{0, 10000}, {0, 10000}}, off = {};
    ComputeUntilTold([&] { EXPECT_OK(setitimer(which, &often, nullptr)); },
                     [&] { EXPECT_OK(setitimer(which, &off, nullptr)); });
  }
  signal(SIGVTALRM, SIG_DFL);
  signal(SIGPROF, SIG_DFL);
}

TEST(PosixTimerTest, CpuTimersTellThreadsThatRun) {
  signal(SIGUSR2, NoteThread);
  sigevent e = {};
  e.sigev_notify = SIGEV_SIGNAL;
  e.sigev_signo = SIGUSR2;
  timer_t id;
  ASSERT_OK(timer_create(CLOCK_PROCESS_CPUTIME_ID, &e, &id));
  const itimerspec often = {{0, 10'000'000}, {0, 10'000'000}};
  ComputeUntilTold([&] { EXPECT_OK(timer_settime(id, 0, &often, nullptr)); }, [&] { EXPECT_OK(timer_delete(id)); });
  signal(SIGUSR2, SIG_DFL);
}

// Since Linux 6.13; earlier ones deliver what waits.
TEST(PosixTimerTest, WhatWaitsGoesWithTheOldSetting) {
  int major = 0, minor = 0;
  const std::string version = ReadFile("/proc/version");
  ASSERT_EQ(sscanf(version.c_str(), "Linux version %d.%d", &major, &minor), 2);
  const bool ours = version.find("Ringwall") != std::string::npos;
  if (!ours && major * 100 + minor < 613) GTEST_SKIP() << "a kernel before 6.13";
  sigset_t set, old, pending;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, &old);
  sigevent e = {};
  e.sigev_notify = SIGEV_SIGNAL;
  e.sigev_signo = SIGUSR1;
  const itimerspec soon = {{}, {0, 1}}, late = {{}, {1000, 0}};
  const auto waits = [&] {
    sigpending(&pending);
    return sigismember(&pending, SIGUSR1);
  };
  for (const bool deletes : {false, true}) {
    timer_t timer;
    ASSERT_OK(timer_create(CLOCK_MONOTONIC, &e, &timer));
    ASSERT_OK(timer_settime(timer, 0, &soon, nullptr));
    while (!waits()) usleep(100);
    EXPECT_OK(deletes ? timer_delete(timer) : timer_settime(timer, 0, &late, nullptr));
    siginfo_t info;
    const timespec none = {};
    EXPECT_FAILS(sigtimedwait(&set, &info, &none), EAGAIN);
    if (!deletes) {
      EXPECT_OK(timer_delete(timer));
    }
  }
  sigprocmask(SIG_SETMASK, &old, nullptr);
}

TEST(PosixTimerTest, SignalsWithItsValue) {
  CatchAlarm(SIGUSR1);
  sigevent e = {};
  e.sigev_notify = SIGEV_SIGNAL;
  e.sigev_signo = SIGUSR1;
  e.sigev_value.sival_int = 321;
  timer_t timer;
  ASSERT_OK(timer_create(CLOCK_MONOTONIC, &e, &timer));
  const itimerspec soon = {{0, 0}, {0, 2000000}};
  ASSERT_OK(timer_settime(timer, 0, &soon, nullptr));
  while (g_ticks == 0) pause();
  EXPECT_EQ(g_info.si_code, SI_TIMER);
  EXPECT_EQ(g_info.si_value.sival_int, 321);
  itimerspec left;
  ASSERT_OK(timer_gettime(timer, &left));
  EXPECT_EQ(Ns(left.it_value), 0);
  EXPECT_EQ(timer_getoverrun(timer), 0);
  ASSERT_OK(timer_delete(timer));
  EXPECT_FAILS(syscall(SYS_timer_delete, 12345), EINVAL);
  signal(SIGUSR1, SIG_DFL);
}

// A timer whose SIGUSR1 stays queued until it is waited for.
void MakeQueuedTimer(clockid_t clock, sigset_t* set, timer_t* timer) {
  sigemptyset(set);
  sigaddset(set, SIGUSR1);
  ASSERT_OK(sigprocmask(SIG_BLOCK, set, nullptr));
  sigevent e = {};
  e.sigev_notify = SIGEV_SIGNAL;
  e.sigev_signo = SIGUSR1;
  ASSERT_OK(timer_create(clock, &e, timer));
}

// Deletes it and what it has queued.
void EndQueuedTimer(timer_t timer, const sigset_t& set) {
  ASSERT_OK(timer_delete(timer));
  const timespec now = {};
  while (sigtimedwait(&set, nullptr, &now) == SIGUSR1) {
  }
  ASSERT_OK(sigprocmask(SIG_UNBLOCK, &set, nullptr));
}

TEST(PosixTimerTest, OverrunsAreCounted) {
  CatchAlarm(SIGUSR1);
  sigset_t set;
  timer_t timer;
  ASSERT_NO_FATAL_FAILURE(MakeQueuedTimer(CLOCK_MONOTONIC, &set, &timer));
  const itimerspec often = {{0, 1000000}, {0, 1000000}};
  ASSERT_OK(timer_settime(timer, 0, &often, nullptr));
  usleep(20000);
  siginfo_t info;
  ASSERT_EQ(sigwaitinfo(&set, &info), SIGUSR1);
  EXPECT_GE(info.si_overrun, 5);
  ASSERT_NO_FATAL_FAILURE(EndQueuedTimer(timer, set));
  signal(SIGUSR1, SIG_DFL);
}

// More than an int counts, here of every nanosecond since 1970, is told as the most that it counts.
TEST(PosixTimerTest, OverrunsAreCapped) {
  sigset_t set;
  timer_t timer;
  ASSERT_NO_FATAL_FAILURE(MakeQueuedTimer(CLOCK_REALTIME, &set, &timer));
  const itimerspec every = {{0, 1}, {1, 0}};
  ASSERT_OK(timer_settime(timer, TIMER_ABSTIME, &every, nullptr));
  siginfo_t info;
  ASSERT_EQ(sigwaitinfo(&set, &info), SIGUSR1);
  ASSERT_NO_FATAL_FAILURE(EndQueuedTimer(timer, set));
  EXPECT_EQ(info.si_overrun, INT_MAX);
}

TEST(PosixTimerTest, Errors) {
  timer_t timer;
  sigevent e = {};
  e.sigev_notify = 77;
  EXPECT_FAILS(syscall(SYS_timer_create, CLOCK_MONOTONIC, &e, &timer), EINVAL);
  EXPECT_FAILS(syscall(SYS_timer_create, 99, nullptr, &timer), EINVAL);
  EXPECT_FAILS(syscall(SYS_timer_create, CLOCK_MONOTONIC, nullptr, BadAddress()), EFAULT);
  const itimerspec bad = {{0, 0}, {0, -1}};
  int id;
  ASSERT_OK(syscall(SYS_timer_create, CLOCK_MONOTONIC, nullptr, &id));
  EXPECT_FAILS(syscall(SYS_timer_settime, id, 0, &bad, nullptr), EINVAL);
  EXPECT_OK(syscall(SYS_timer_delete, id));
}

TEST(TimerfdTest, CountsExpirations) {
  Fd fd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  uint64_t n = 0;
  EXPECT_FAILS(read(fd.get(), &n, 8), EAGAIN);
  const itimerspec often = {{0, 1000000}, {0, 1000000}};
  ASSERT_OK(timerfd_settime(fd.get(), 0, &often, nullptr));
  usleep(15000);
  pollfd p = {fd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, -1), 1);
  EXPECT_EQ(read(fd.get(), &n, 8), 8);
  EXPECT_GE(n, 5u);
  itimerspec now;
  ASSERT_OK(timerfd_gettime(fd.get(), &now));
  EXPECT_EQ(now.it_interval.tv_nsec, 1000000);
  EXPECT_FAILS(read(fd.get(), &n, 4), EINVAL);
}

TEST(TimerfdTest, BlockingReadAndAbsoluteTime) {
  Fd fd(timerfd_create(CLOCK_REALTIME, 0));
  itimerspec at = {};
  ASSERT_OK(clock_gettime(CLOCK_REALTIME, &at.it_value));
  ASSERT_OK(timerfd_settime(fd.get(), TFD_TIMER_ABSTIME, &at, nullptr));
  uint64_t n = 0;
  EXPECT_EQ(read(fd.get(), &n, 8), 8);
  EXPECT_EQ(n, 1u);
  EXPECT_FAILS(timerfd_create(99, 0), EINVAL);
  EXPECT_FAILS(timerfd_create(CLOCK_MONOTONIC, 0x40), EINVAL);
  EXPECT_FAILS(timerfd_settime(0, 0, &at, nullptr), EINVAL);
}

}  // namespace
}  // namespace ringwall::test
