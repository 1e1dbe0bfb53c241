// Rules of signals that random calls have found.
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr int kAutodisarm = static_cast<int>(1u << 31);

struct KernelAction {
  uintptr_t handler;
  uint64_t flags;
  uintptr_t restorer;
  uint64_t mask;
};
uint64_t Bit(int signal) { return uint64_t{1} << (signal - 1); }

TEST(SigactionRulesTest, UnknownFlagsAreDropped) {
  EXPECT_TRUE(Exited(InChild([] {
    KernelAction act = {1, 0x10400 | uint64_t{1} << 40 | SA_RESTART | 0x800, 0, 0}, old = {};
    CHECK_CHILD(syscall(SYS_rt_sigaction, SIGUSR1, &act, nullptr, 8) == 0);
    CHECK_CHILD(syscall(SYS_rt_sigaction, SIGUSR1, nullptr, &old, 8) == 0);
    CHECK_CHILD(old.flags == (SA_RESTART | 0x800));
    return 0;
  })));
}
TEST(SigactionRulesTest, ActionIsReadBeforeTheNumberIsLookedAt) {
  EXPECT_FAILS(syscall(SYS_rt_sigaction, 100, 8, nullptr, 8), EFAULT);
  EXPECT_FAILS(syscall(SYS_rt_sigaction, 100, nullptr, 8, 8), EINVAL);
}

stack_t g_inside;
int g_frame_flags;
void Look(int, siginfo_t*, void* context) {
  sigaltstack(nullptr, &g_inside);
  g_frame_flags = static_cast<ucontext_t*>(context)->uc_stack.ss_flags;
}
TEST(SigaltstackRulesTest, AutodisarmHoldsForHandlersElsewhereAndWithoutAStack) {
  EXPECT_TRUE(Exited(InChild([] {
    static char room[32768];
    struct sigaction sa = {};
    sa.sa_sigaction = Look;
    sa.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &sa, nullptr);
    stack_t stack = {room, kAutodisarm, sizeof(room)}, now = {};
    CHECK_CHILD(sigaltstack(&stack, nullptr) == 0);
    raise(SIGUSR1);
    CHECK_CHILD(g_inside.ss_flags == SS_DISABLE && g_inside.ss_size == 0);
    CHECK_CHILD(g_frame_flags == kAutodisarm);
    CHECK_CHILD(sigaltstack(nullptr, &now) == 0 && now.ss_flags == kAutodisarm && now.ss_size == sizeof(room));
    stack.ss_flags = kAutodisarm | SS_DISABLE;
    CHECK_CHILD(sigaltstack(&stack, nullptr) == 0);
    CHECK_CHILD(sigaltstack(nullptr, &now) == 0 && now.ss_flags == (kAutodisarm | SS_DISABLE));
    raise(SIGUSR1);
    CHECK_CHILD(g_inside.ss_flags == SS_DISABLE);
    CHECK_CHILD(sigaltstack(nullptr, &now) == 0 && now.ss_flags == (kAutodisarm | SS_DISABLE));
    return 0;
  })));
}
TEST(WaitRulesTest, AnEndedChildIsNoneForWhoWaitsForStops) {
  const pid_t child = fork();
  if (child == 0) _exit(3);
  siginfo_t info = {};
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT));
  EXPECT_FAILS(waitid(P_PID, static_cast<id_t>(child), &info, WSTOPPED | WNOHANG), ECHILD);
  EXPECT_FAILS(waitid(P_PID, static_cast<id_t>(child), &info, WSTOPPED | WCONTINUED), ECHILD);
  EXPECT_OK(waitpid(child, nullptr, 0));
}
TEST(WaitRulesTest, AnIgnoredChildSignalIsNotQueuedWhereItIsBlocked) {
  EXPECT_TRUE(Exited(InChild([] {
    signal(SIGCHLD, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    if (fork() == 0) _exit(0);
    CHECK_CHILD(wait(nullptr) == -1 && errno == ECHILD);
    sigset_t pending;
    CHECK_CHILD(sigpending(&pending) == 0 && sigismember(&pending, SIGCHLD) == 0);
    return 0;
  })));
}
TEST(TimerRulesTest, OverrunsOfATimerThatIsLateFromTheStart) {
  EXPECT_TRUE(Exited(InChild([] {
    uint64_t set = Bit(SIGUSR1);
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, nullptr, 8);
    struct sigaction sa = {};
    sa.sa_sigaction = Look;
    sa.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &sa, nullptr);
    sigevent event = {};
    event.sigev_signo = SIGUSR1;
    timer_t timer;
    CHECK_CHILD(timer_create(CLOCK_REALTIME, &event, &timer) == 0);
    itimerspec past = {};
    past.it_value.tv_nsec = 1, past.it_interval.tv_sec = 100000000;
    CHECK_CHILD(timer_settime(timer, TIMER_ABSTIME, &past, nullptr) == 0);
    siginfo_t info = {};
    const timespec limit = {10, 0};
    CHECK_CHILD(syscall(SYS_rt_sigtimedwait, &set, &info, &limit, 8) == SIGUSR1);
    CHECK_CHILD(info.si_overrun >= 10 && timer_getoverrun(timer) == info.si_overrun);
    return 0;
  })));
}
TEST(TimerRulesTest, ASilentTimerIsOffWhenItHasRunOut) {
  sigevent event = {};
  event.sigev_notify = SIGEV_NONE;
  timer_t timer;
  ASSERT_OK(timer_create(CLOCK_MONOTONIC, &event, &timer));
  itimerspec past = {}, now = {};
  past.it_value.tv_nsec = 1;
  ASSERT_OK(timer_settime(timer, TIMER_ABSTIME, &past, nullptr));
  ASSERT_OK(timer_gettime(timer, &now));
  EXPECT_EQ(now.it_value.tv_nsec, 0);
  timer_delete(timer);
}
TEST(SignalfdRulesTest, RecordsFollowTheKindOfTheSignal) {
  EXPECT_TRUE(Exited(InChild([] {
    const uint64_t set = Bit(SIGUSR1) | Bit(SIGCHLD);
    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, nullptr, 8);
    const int fd = static_cast<int>(syscall(SYS_signalfd4, -1, &set, 8, SFD_NONBLOCK));
    siginfo_t info = {};
    info.si_signo = SIGUSR1, info.si_pid = 5, info.si_value.sival_int = 9;
    const auto send = [&](int signal, int code) {
      info.si_signo = signal, info.si_code = code;
      syscall(SYS_rt_sigqueueinfo, getpid(), signal, &info);
      signalfd_siginfo got = {};
      if (read(fd, &got, sizeof(got)) != sizeof(got)) got.ssi_signo = 0;
      return got;
    };
    CHECK_CHILD(send(SIGUSR1, SI_USER).ssi_int == 0 && send(SIGUSR1, SI_USER).ssi_pid == 5);
    CHECK_CHILD(send(SIGUSR1, SI_QUEUE).ssi_int == 9);
    CHECK_CHILD(send(SIGUSR1, 5).ssi_pid == 0 && send(SIGUSR1, 5).ssi_band == 5);
    CHECK_CHILD(send(SIGCHLD, SI_KERNEL).ssi_status == 0);
    return 0;
  })));
}

}  // namespace
}  // namespace ringwall::test
