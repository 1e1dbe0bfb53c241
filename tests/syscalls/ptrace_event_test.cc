// ptrace: events of fork, exec and exit, seizing and group stops, threads, tracers that end.
#include "tests/util/ptrace_util.h"

namespace ringwall::test {
namespace {

TEST(PtraceEventTest, ForkEvents) {
  struct Row {
    int event;
    uint64_t options;
    int (*make)();
  };
  const Row rows[] = {
      {PTRACE_EVENT_FORK, PTRACE_O_TRACEFORK, [] {
         const pid_t c = fork();
         if (c == 0) _exit(5);
         int s;
         waitpid(c, &s, 0);
         return s >> 8;
       }},
      {PTRACE_EVENT_VFORK, PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE, [] {
         const pid_t c = vfork();
         if (c == 0) _exit(5);
         int s;
         waitpid(c, &s, 0);
         return s >> 8;
       }},
      {PTRACE_EVENT_CLONE, PTRACE_O_TRACECLONE, [] {
         signal(SIGUSR1, SIG_IGN);
         const long c = syscall(SYS_clone, SIGUSR1, 0, 0, 0, 0);
         if (c == 0) _exit(5);
         int s;
         waitpid(static_cast<pid_t>(c), &s, __WALL);
         return s >> 8;
       }},
  };
  for (const Row& row : rows) {
    const pid_t pid = Tracee(row.make);
    EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, row.options));
    EXPECT_OK(Ptrace(PTRACE_CONT, pid));
    EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP, row.event));
    uint64_t child = 0;
    EXPECT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, Ptr(&child)));
    EXPECT_GT(child, 0u);
    siginfo_t info;
    EXPECT_OK(Ptrace(PTRACE_GETSIGINFO, pid, 0, Ptr(&info)));
    EXPECT_EQ(info.si_code, row.event << 8 | SIGTRAP);
    EXPECT_EQ(info.si_pid, pid);
    const pid_t c = static_cast<pid_t>(child);
    EXPECT_EQ(Wait(c), StopStatus(SIGSTOP));
    EXPECT_OK(Ptrace(PTRACE_CONT, c));
    EXPECT_OK(Ptrace(PTRACE_CONT, pid));
    EXPECT_EQ(Wait(c), 5 << 8);
    int status = Wait(pid);
    while (WIFSTOPPED(status)) {
      if (row.event == PTRACE_EVENT_VFORK && status >> 16 == PTRACE_EVENT_VFORK_DONE) {
        EXPECT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, Ptr(&child)));
        EXPECT_EQ(static_cast<pid_t>(child), c);
        EXPECT_OK(Ptrace(PTRACE_CONT, pid));
      } else {
        EXPECT_EQ(status, StopStatus(row.event == PTRACE_EVENT_CLONE ? SIGUSR1 : SIGCHLD));
        EXPECT_OK(Ptrace(PTRACE_CONT, pid, 0, static_cast<uint64_t>(WSTOPSIG(status))));
      }
      status = Wait(pid);
    }
    EXPECT_EQ(status, 5 << 8);
  }
}

TEST(PtraceEventTest, ExecEventAndLegacyTrap) {
  for (const bool event : {false, true}) {
    const pid_t pid = Tracee([] {
      execl("/bin/true", "true", nullptr);
      return 1;
    });
    EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, event ? PTRACE_O_TRACEEXEC : 0));
    EXPECT_OK(Ptrace(PTRACE_CONT, pid));
    EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP, event ? PTRACE_EVENT_EXEC : 0));
    uint64_t message = 0;
    EXPECT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, Ptr(&message)));
    EXPECT_EQ(message, event ? static_cast<uint64_t>(pid) : 0u);
    const user_regs_struct r = Regs(pid);
    // The event comes before the call's result.
    EXPECT_EQ(static_cast<int64_t>(r.rax), event ? -ENOSYS : 0);
    EXPECT_EQ(r.orig_rax, static_cast<uint64_t>(SYS_execve));
    EXPECT_OK(Ptrace(PTRACE_CONT, pid));
    EXPECT_EQ(Wait(pid), 0);
  }
}

TEST(PtraceEventTest, ExitEvent) {
  const pid_t pid = Tracee([] { return 9; });
  EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP, PTRACE_EVENT_EXIT));
  uint64_t message = 0;
  EXPECT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, Ptr(&message)));
  EXPECT_EQ(message, 9u << 8);
  EXPECT_EQ(Regs(pid).orig_rax, static_cast<uint64_t>(SYS_exit_group));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 9 << 8);
}

TEST(PtraceEventTest, ExitEventOfAKilledOne) {
  const pid_t pid = Tracee(PauseForever);
  EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  AwaitState(pid, 'S');
  EXPECT_OK(kill(pid, SIGKILL));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP, PTRACE_EVENT_EXIT));
  uint64_t message = 0;
  EXPECT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, Ptr(&message)));
  EXPECT_EQ(message, static_cast<uint64_t>(SIGKILL));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), SIGKILL);
}

TEST(PtraceEventTest, SigKillEndsAStop) {
  const pid_t pid = Tracee([] { return 0; });
  EXPECT_OK(kill(pid, SIGKILL));
  EXPECT_EQ(Wait(pid), SIGKILL);
  const pid_t other = Tracee([] { return 0; });
  EXPECT_OK(Ptrace(PTRACE_KILL, other));
  EXPECT_EQ(Wait(other), SIGKILL);
}

TEST(PtraceEventTest, SeizeAndInterrupt) {
  const pid_t pid = Child(PauseForever);
  AwaitState(pid, 'S');
  EXPECT_FAILS(Ptrace(PTRACE_SEIZE, pid, 1, 0), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_SEIZE, pid, 0, 0x80000000), EIO);
  ASSERT_OK(Ptrace(PTRACE_SEIZE, pid));
  EXPECT_EQ(waitpid(pid, nullptr, __WALL | WNOHANG), 0);
  EXPECT_OK(Ptrace(PTRACE_INTERRUPT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP, PTRACE_EVENT_STOP));
  siginfo_t info;
  EXPECT_OK(Ptrace(PTRACE_GETSIGINFO, pid, 0, Ptr(&info)));
  EXPECT_EQ(info.si_code, PTRACE_EVENT_STOP << 8 | SIGTRAP);
  EXPECT_EQ(info.si_signo, SIGTRAP);
  const user_regs_struct r = Regs(pid);
  EXPECT_EQ(static_cast<int64_t>(r.rax), -514);  // ERESTARTNOHAND
  EXPECT_EQ(r.orig_rax, static_cast<uint64_t>(SYS_pause));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  AwaitState(pid, 'S');
  Kill(pid);
}

TEST(PtraceEventTest, GroupStopOfASeizedOne) {
  const pid_t pid = Child(PauseForever);
  ASSERT_OK(Ptrace(PTRACE_SEIZE, pid));
  EXPECT_OK(kill(pid, SIGSTOP));
  EXPECT_EQ(Wait(pid), StopStatus(SIGSTOP));  // about to be delivered
  EXPECT_OK(Ptrace(PTRACE_CONT, pid, 0, SIGSTOP));
  EXPECT_EQ(Wait(pid), StopStatus(SIGSTOP, PTRACE_EVENT_STOP));
  EXPECT_OK(Ptrace(PTRACE_LISTEN, pid));
  EXPECT_FAILS(Ptrace(PTRACE_GETREGS, pid, 0, 0), ESRCH);
  EXPECT_EQ(waitpid(pid, nullptr, __WALL | WNOHANG), 0);
  EXPECT_OK(kill(pid, SIGCONT));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP, PTRACE_EVENT_STOP));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGCONT));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid, 0, SIGCONT));
  AwaitState(pid, 'S');
  Kill(pid);
}

TEST(PtraceEventTest, GroupStopOfAnAttachedOne) {
  const pid_t pid = Tracee([] {
    raise(SIGTSTP);
    return 6;
  });
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTSTP));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid, 0, SIGSTOP));
  EXPECT_EQ(Wait(pid), StopStatus(SIGSTOP));
  siginfo_t info;
  EXPECT_FAILS(Ptrace(PTRACE_GETSIGINFO, pid, 0, Ptr(&info)), EINVAL);  // no signal's stop
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 6 << 8);
}

TEST(PtraceEventTest, TracerDeathLetsGoOrKills) {
  for (const bool kill_too : {false, true}) {
    int fds[2];
    ASSERT_OK(pipe(fds));
    const pid_t target = Child([&] {
      close(fds[0]);
      return PauseForever();
    });
    close(fds[1]);
    const pid_t tracer = Child([&] {
      if (Ptrace(PTRACE_SEIZE, target, 0, kill_too ? PTRACE_O_EXITKILL : 0) != 0) return 1;
      if (Ptrace(PTRACE_INTERRUPT, target) != 0) return 2;
      int status;
      if (waitpid(target, &status, __WALL) != target) return 3;
      return 0;
    });
    EXPECT_EQ(Wait(tracer), 0);
    if (kill_too) {
      EXPECT_EQ(Wait(target), SIGKILL);
    } else {
      AwaitState(target, 'S');
      Kill(target);
    }
    close(fds[0]);
  }
}

TEST(PtraceEventTest, ParentSeesTheEndAfterAnotherTracer) {
  const pid_t target = Child(PauseForever);
  int go[2];
  ASSERT_OK(pipe(go));
  const pid_t tracer = Child([&] {
    if (Ptrace(PTRACE_SEIZE, target) != 0) return 1;
    char c = 'x';
    if (write(go[1], &c, 1) != 1) return 2;
    int status;
    if (waitpid(target, &status, __WALL) != target || status != SIGTERM) return 3;
    return 0;
  });
  char c;
  ASSERT_EQ(read(go[0], &c, 1), 1);
  EXPECT_OK(kill(target, SIGKILL));
  int status = 0;
  EXPECT_EQ(waitpid(target, &status, 0), target);
  EXPECT_EQ(status, SIGKILL);
  EXPECT_EQ(Wait(tracer), 3 << 8);  // it saw SIGKILL
  close(go[0]), close(go[1]);
}

TEST(PtraceEventTest, SignalMaskAndPendingSignals) {
  const pid_t pid = Tracee([] {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, 40);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    for (int i = 1; i <= 3; i++) {
      sigval v;
      v.sival_int = i;
      sigqueue(getpid(), 40, v);
    }
    syscall(SYS_tgkill, getpid(), getpid(), SIGUSR1);
    asm volatile("int3");
    return 0;
  });
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
  uint64_t mask = 0;
  EXPECT_OK(Ptrace(PTRACE_GETSIGMASK, pid, 8, Ptr(&mask)));
  EXPECT_EQ(mask, 1ul << (SIGUSR1 - 1) | 1ul << 39);
  EXPECT_FAILS(Ptrace(PTRACE_GETSIGMASK, pid, 4, Ptr(&mask)), EINVAL);
  siginfo_t infos[4];
  struct {
    uint64_t off;
    uint32_t flags;
    int32_t nr;
  } args = {0, PTRACE_PEEKSIGINFO_SHARED, 4};
  EXPECT_EQ(Ptrace(PTRACE_PEEKSIGINFO, pid, Ptr(&args), Ptr(infos)), 3);
  for (int i = 0; i < 3; i++) EXPECT_EQ(infos[i].si_value.sival_int, i + 1);
  args = {1, PTRACE_PEEKSIGINFO_SHARED, 1};
  EXPECT_EQ(Ptrace(PTRACE_PEEKSIGINFO, pid, Ptr(&args), Ptr(infos)), 1);
  EXPECT_EQ(infos[0].si_value.sival_int, 2);
  args = {0, 0, 4};
  EXPECT_EQ(Ptrace(PTRACE_PEEKSIGINFO, pid, Ptr(&args), Ptr(infos)), 1);
  EXPECT_EQ(infos[0].si_signo, SIGUSR1);
  args = {9, 0, 4};
  EXPECT_EQ(Ptrace(PTRACE_PEEKSIGINFO, pid, Ptr(&args), Ptr(infos)), 0);
  args = {0, 2, 4};
  EXPECT_FAILS(Ptrace(PTRACE_PEEKSIGINFO, pid, Ptr(&args), Ptr(infos)), EINVAL);
  mask = 1ul << 39;
  EXPECT_OK(Ptrace(PTRACE_SETSIGMASK, pid, 8, Ptr(&mask)));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGUSR1));
  Kill(pid);
}

TEST(PtraceEventTest, ThreadsAreTracedOneByOne) {
  const pid_t pid = Tracee([] {
    std::thread([] { syscall(SYS_exit, 4); }).detach();
    usleep(1000);
    for (int i = 0; i < 1000; i++) {
      if (access("/nonexistent", F_OK) == 0) return 1;
    }
    return 8;
  });
  EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP, PTRACE_EVENT_CLONE));
  uint64_t message = 0;
  EXPECT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, Ptr(&message)));
  const pid_t thread = static_cast<pid_t>(message);
  EXPECT_EQ(Wait(thread), StopStatus(SIGSTOP));
  EXPECT_OK(Ptrace(PTRACE_CONT, thread));
  EXPECT_EQ(Wait(thread), 4 << 8);  // a thread's own end
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 8 << 8);
}

TEST(PtraceEventTest, ExecByAThreadTakesTheLeadersNumber) {
  const pid_t pid = Tracee([] {
    std::thread([] { execl("/bin/true", "true", nullptr); }).detach();
    return PauseForever();
  });
  EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP, PTRACE_EVENT_CLONE));
  uint64_t message = 0;
  EXPECT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, Ptr(&message)));
  const pid_t thread = static_cast<pid_t>(message);
  EXPECT_EQ(Wait(thread), StopStatus(SIGSTOP));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_OK(Ptrace(PTRACE_CONT, thread));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP, PTRACE_EVENT_EXEC));
  EXPECT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, Ptr(&message)));
  EXPECT_EQ(static_cast<pid_t>(message), thread);
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 0);
}

TEST(PtraceEventTest, StatusShowsTheTracer) {
  const pid_t pid = Tracee([] { return 0; });
  char path[64], text[4096] = {};
  snprintf(path, sizeof(path), "/proc/%d/status", pid);
  const int fd = open(path, O_RDONLY);
  ASSERT_OK(fd);
  ASSERT_GT(read(fd, text, sizeof(text) - 1), 0);
  close(fd);
  EXPECT_NE(strstr(text, ("TracerPid:\t" + std::to_string(getpid())).c_str()), nullptr);
  EXPECT_NE(strstr(text, "State:\tt (tracing stop)"), nullptr);
  Kill(pid);
}

TEST(PtraceEventTest, WaitidTellsTrapped) {
  const pid_t pid = Tracee([] {
    asm volatile("int3");
    return 0;
  });
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  siginfo_t info = {};
  EXPECT_OK(waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOWAIT));
  EXPECT_EQ(info.si_code, CLD_TRAPPED);
  EXPECT_EQ(info.si_status, SIGTRAP);
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
  EXPECT_EQ(waitpid(pid, nullptr, __WALL | WNOHANG), 0);
  Kill(pid);
}

TEST(PtraceEventTest, NeedsTheRightToLook) {
  if (getuid() != 0) GTEST_SKIP() << "needs root";
  const pid_t target = Child(PauseForever);  // root's
  const pid_t pid = Child([&] {
    if (setresgid(1000, 1000, 1000) != 0 || setresuid(1000, 1000, 1000) != 0) return 1;
    if (Ptrace(PTRACE_ATTACH, target) != -1 || errno != EPERM) return 2;
    if (Ptrace(PTRACE_SEIZE, target) != -1 || errno != EPERM) return 3;
    // One's own child may be traced, but not when it is not dumpable.
    int fds[2];
    if (pipe(fds) != 0) return 4;
    const pid_t own = fork();
    if (own == 0) {
      prctl(PR_SET_DUMPABLE, 0);
      if (write(fds[1], "x", 1) != 1) _exit(1);
      PauseForever();
    }
    char c;
    if (read(fds[0], &c, 1) != 1) return 5;
    const bool refused = Ptrace(PTRACE_ATTACH, own) == -1 && errno == EPERM;
    kill(own, SIGKILL);
    return refused ? 0 : 6;
  });
  EXPECT_EQ(Wait(pid), 0);
  Kill(target);
}

TEST(PtraceEventTest, RestartedSleepIsSeenAsRestartSyscall) {
  const pid_t pid = Child([] {
    timespec ts = {1000, 0};
    nanosleep(&ts, nullptr);
    return 0;
  });
  AwaitState(pid, 'S');
  ASSERT_OK(Ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD));
  EXPECT_OK(Ptrace(PTRACE_INTERRUPT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP, PTRACE_EVENT_STOP));
  EXPECT_EQ(static_cast<int64_t>(Regs(pid).rax), -516);
  EXPECT_OK(Ptrace(PTRACE_SYSCALL, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP | 0x80));
  EXPECT_EQ(Regs(pid).orig_rax, static_cast<uint64_t>(SYS_restart_syscall));
  EXPECT_OK(Ptrace(PTRACE_SYSCALL, pid));
  AwaitState(pid, 'S');
  Kill(pid);
}

}  // namespace
}  // namespace ringwall::test
