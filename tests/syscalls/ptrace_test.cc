// ptrace: attaching, stops for signals and system calls, registers, memory, steps and breakpoints.
#include "tests/util/ptrace_util.h"

namespace ringwall::test {
namespace {

TEST(PtraceTest, TraceMeOnceOnly) {
  const pid_t pid = Child([] {
    if (Ptrace(PTRACE_TRACEME, 0) != 0) return 1;
    if (Ptrace(PTRACE_TRACEME, 0) != -1 || errno != EPERM) return 2;
    return 0;
  });
  EXPECT_EQ(Wait(pid), 0);
}

TEST(PtraceTest, SignalStopsAndCont) {
  const pid_t pid = Tracee([] { return 7; });
  EXPECT_EQ(State(pid), 't');
  siginfo_t info;
  EXPECT_OK(Ptrace(PTRACE_GETSIGINFO, pid, 0, Ptr(&info)));
  EXPECT_EQ(info.si_signo, SIGSTOP);
  EXPECT_EQ(info.si_code, SI_TKILL);
  EXPECT_EQ(info.si_pid, pid);
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 7 << 8);
}

TEST(PtraceTest, RequestsNeedAStoppedTraceeOfOurs) {
  const pid_t pid = Child(PauseForever);
  uint64_t word;
  EXPECT_FAILS(Ptrace(PTRACE_PEEKDATA, pid, 0, Ptr(&word)), ESRCH);
  EXPECT_FAILS(Ptrace(PTRACE_CONT, pid), ESRCH);
  EXPECT_FAILS(Ptrace(PTRACE_DETACH, pid), ESRCH);
  EXPECT_FAILS(Ptrace(PTRACE_KILL, pid), ESRCH);
  EXPECT_FAILS(Ptrace(PTRACE_INTERRUPT, pid), ESRCH);
  EXPECT_FAILS(Ptrace(12345, pid), ESRCH);
  EXPECT_FAILS(Ptrace(PTRACE_ATTACH, 0x3fffffff), ESRCH);
  EXPECT_FAILS(Ptrace(PTRACE_ATTACH, getpid()), EPERM);
  EXPECT_OK(Ptrace(PTRACE_SEIZE, pid, 0, 0));
  EXPECT_FAILS(Ptrace(PTRACE_GETREGS, pid, 0, 0), ESRCH);  // it runs
  EXPECT_FAILS(Ptrace(PTRACE_ATTACH, pid), EPERM);
  EXPECT_FAILS(Ptrace(PTRACE_SEIZE, pid), EPERM);
  Kill(pid);
}

TEST(PtraceTest, ResumeWantsAValidSignal) {
  const pid_t pid = Tracee([] { return 0; });
  EXPECT_FAILS(Ptrace(PTRACE_CONT, pid, 0, 65), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_DETACH, pid, 0, 65), EIO);
  EXPECT_FAILS(Ptrace(0x7777, pid), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_LISTEN, pid), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_INTERRUPT, pid), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_SETOPTIONS, pid, 0, 0x80000000), EINVAL);
  Kill(pid);
}

TEST(PtraceTest, AttachStopsDetachLetsGo) {
  const pid_t pid = Child(PauseForever);
  ASSERT_OK(Ptrace(PTRACE_ATTACH, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGSTOP));
  siginfo_t info;
  EXPECT_OK(Ptrace(PTRACE_GETSIGINFO, pid, 0, Ptr(&info)));
  EXPECT_EQ(info.si_signo, SIGSTOP);
  EXPECT_OK(Ptrace(PTRACE_DETACH, pid));
  AwaitState(pid, 'S');
  EXPECT_FAILS(Ptrace(PTRACE_CONT, pid), ESRCH);
  // Detach delivers a signal.
  ASSERT_OK(Ptrace(PTRACE_ATTACH, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGSTOP));
  EXPECT_OK(Ptrace(PTRACE_DETACH, pid, 0, SIGTERM));
  EXPECT_EQ(Wait(pid), SIGTERM);
}

TEST(PtraceTest, AttachToAStoppedProcess) {
  const pid_t pid = Child(PauseForever);
  EXPECT_OK(kill(pid, SIGSTOP));
  int status;
  EXPECT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  EXPECT_EQ(status, StopStatus(SIGSTOP));
  ASSERT_OK(Ptrace(PTRACE_ATTACH, pid));
  EXPECT_EQ(State(pid), 't');
  EXPECT_EQ(Wait(pid), StopStatus(SIGSTOP));
  Kill(pid);
}

TEST(PtraceTest, SignalsAreReportedChangedAndTakenAway) {
  const pid_t pid = Tracee([] {
    signal(SIGUSR1, SIG_IGN);  // ignored ones are seen all the same
    raise(SIGUSR1);
    raise(SIGUSR2);
    raise(SIGTERM);
    return 3;
  });
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGUSR1));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid, 0, SIGUSR1));
  EXPECT_EQ(Wait(pid), StopStatus(SIGUSR2));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid, 0, 0));  // it would have died
  EXPECT_EQ(Wait(pid), StopStatus(SIGTERM));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid, 0, SIGALRM));
  EXPECT_EQ(Wait(pid), SIGALRM);
}

TEST(PtraceTest, ChangedSignalComesFromTheTracer) {
  static siginfo_t seen;
  const pid_t pid = Tracee([] {
    struct sigaction sa = {};
    sa.sa_flags = SA_SIGINFO;
    sa.sa_sigaction = [](int, siginfo_t* info, void*) { seen = *info; };
    sigaction(SIGUSR2, &sa, nullptr);
    raise(SIGUSR1);
    return seen.si_signo == SIGUSR2 && seen.si_code == SI_USER && seen.si_pid == getppid() ? 0 : 1;
  });
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGUSR1));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid, 0, SIGUSR2));
  EXPECT_EQ(Wait(pid), 0);
}

TEST(PtraceTest, SetSigInfo) {
  static siginfo_t seen;
  const pid_t pid = Tracee([] {
    struct sigaction sa = {};
    sa.sa_flags = SA_SIGINFO;
    sa.sa_sigaction = [](int, siginfo_t* info, void*) { seen = *info; };
    sigaction(SIGUSR1, &sa, nullptr);
    raise(SIGUSR1);
    return seen.si_value.sival_int;
  });
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGUSR1));
  siginfo_t info;
  EXPECT_OK(Ptrace(PTRACE_GETSIGINFO, pid, 0, Ptr(&info)));
  info.si_value.sival_int = 42;
  EXPECT_OK(Ptrace(PTRACE_SETSIGINFO, pid, 0, Ptr(&info)));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid, 0, SIGUSR1));
  EXPECT_EQ(Wait(pid), 42 << 8);
}

TEST(PtraceTest, PeekAndPokeMemory) {
  static volatile uint64_t word = 0x1122334455667788;
  void* none = mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  static const uint64_t constant = 5;
  const pid_t pid = Tracee([] { return static_cast<int>(word); });
  uint64_t got = 0;
  EXPECT_OK(Ptrace(PTRACE_PEEKDATA, pid, Ptr(&word), Ptr(&got)));
  EXPECT_EQ(got, 0x1122334455667788u);
  EXPECT_OK(Ptrace(PTRACE_POKEDATA, pid, Ptr(&word), 33));
  EXPECT_EQ(word, 0x1122334455667788u);  // ours is another
  // What the tracee itself must not: by force.
  EXPECT_OK(Ptrace(PTRACE_PEEKDATA, pid, Ptr(none), Ptr(&got)));
  EXPECT_EQ(got, 0u);
  EXPECT_OK(Ptrace(PTRACE_POKEDATA, pid, Ptr(none) + 8, 77));
  EXPECT_OK(Ptrace(PTRACE_PEEKTEXT, pid, Ptr(none) + 8, Ptr(&got)));
  EXPECT_EQ(got, 77u);
  EXPECT_OK(Ptrace(PTRACE_POKETEXT, pid, Ptr(&constant), 6));
  EXPECT_OK(Ptrace(PTRACE_PEEKTEXT, pid, Ptr(&constant), Ptr(&got)));
  EXPECT_EQ(got, 6u);
  // Nothing is mapped there.
  EXPECT_FAILS(Ptrace(PTRACE_PEEKDATA, pid, 16, Ptr(&got)), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_POKEDATA, pid, 16, 1), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_PEEKDATA, pid, ~uint64_t{7}, Ptr(&got)), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_PEEKDATA, pid, Ptr(&word), 16), EFAULT);
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 33 << 8);
  munmap(none, 4096);
}

TEST(PtraceTest, PokeLeavesSharedReadOnlyMemoryAlone) {
  const int fd = memfd_create("x", 0);
  ASSERT_OK(fd);
  ASSERT_OK(ftruncate(fd, 4096));
  void* p = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);
  ASSERT_NE(p, MAP_FAILED);
  const pid_t pid = Tracee([] { return 0; });
  EXPECT_FAILS(Ptrace(PTRACE_POKEDATA, pid, Ptr(p), 1), EIO);
  Kill(pid);
  munmap(p, 4096);
  close(fd);
}

TEST(PtraceTest, RegistersByAllWays) {
  const pid_t pid = Tracee([] { return 0; });
  user_regs_struct r = Regs(pid), again = {};
  EXPECT_EQ(r.cs, 0x33u);
  EXPECT_EQ(r.ss, 0x2bu);
  EXPECT_EQ(r.orig_rax, static_cast<uint64_t>(SYS_tgkill));
  EXPECT_EQ(r.rax, 0u);
  iovec iov = {&again, sizeof(again)};
  EXPECT_OK(Ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, Ptr(&iov)));
  EXPECT_EQ(iov.iov_len, sizeof(again));
  EXPECT_EQ(memcmp(&r, &again, sizeof(r)), 0);
  iov = {&again, 16};
  EXPECT_OK(Ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, Ptr(&iov)));
  EXPECT_EQ(iov.iov_len, 16u);
  iov = {&again, 15};
  EXPECT_FAILS(Ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, Ptr(&iov)), EINVAL);
  iov = {&again, 16};
  EXPECT_FAILS(Ptrace(PTRACE_GETREGSET, pid, 0x7777, Ptr(&iov)), EINVAL);
  EXPECT_FAILS(Ptrace(PTRACE_GETREGSET, pid, NT_PRSTATUS, 16), EFAULT);
  uint64_t word = 0;
  EXPECT_OK(Ptrace(PTRACE_PEEKUSR, pid, offsetof(struct user, regs.rip), Ptr(&word)));
  EXPECT_EQ(word, r.rip);
  EXPECT_OK(Ptrace(PTRACE_POKEUSR, pid, offsetof(struct user, regs.r15), 0xabcdef));
  EXPECT_EQ(Regs(pid).r15, 0xabcdefu);
  EXPECT_FAILS(Ptrace(PTRACE_PEEKUSR, pid, 3, Ptr(&word)), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_PEEKUSR, pid, 928, Ptr(&word)), EIO);
  EXPECT_OK(Ptrace(PTRACE_PEEKUSR, pid, 920, Ptr(&word)));
  EXPECT_FAILS(Ptrace(PTRACE_POKEUSR, pid, 240, 0), EIO);
  // What must not be set.
  EXPECT_FAILS(Ptrace(PTRACE_POKEUSR, pid, offsetof(struct user, regs.cs), 0x10), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_POKEUSR, pid, offsetof(struct user, regs.cs), 0), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_POKEUSR, pid, offsetof(struct user, regs.ss), 0), EIO);
  EXPECT_FAILS(Ptrace(PTRACE_POKEUSR, pid, offsetof(struct user, regs.fs_base), ~uint64_t{0}), EIO);
  EXPECT_OK(Ptrace(PTRACE_POKEUSR, pid, offsetof(struct user, regs.eflags), ~uint64_t{0}));
  EXPECT_EQ(Regs(pid).eflags & ~uint64_t{0x54dd5}, r.eflags & ~uint64_t{0x54dd5});
  EXPECT_OK(Ptrace(PTRACE_SETREGS, pid, 0, Ptr(&r)));
  again = Regs(pid);
  EXPECT_EQ(memcmp(&r, &again, sizeof(r)), 0);
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 0);
}

TEST(PtraceTest, FloatingPointRegisters) {
  const pid_t pid = Tracee([] {
    volatile double d = 1.5;
    asm volatile("movsd %0, %%xmm5" : : "m"(d) : "xmm5");
    asm volatile("int3" : : : "xmm5");
    double out;
    asm volatile("movsd %%xmm5, %0" : "=m"(out));
    return out == 2.25 ? 0 : 1;
  });
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
  user_fpregs_struct fp = {}, set = {};
  EXPECT_OK(Ptrace(PTRACE_GETFPREGS, pid, 0, Ptr(&fp)));
  double d;
  memcpy(&d, &fp.xmm_space[5 * 4], sizeof(d));
  EXPECT_EQ(d, 1.5);
  EXPECT_EQ(fp.mxcsr, 0x1f80u);
  EXPECT_EQ(fp.cwd, 0x37f);
  iovec iov = {&set, sizeof(set)};
  EXPECT_OK(Ptrace(PTRACE_GETREGSET, pid, NT_PRFPREG, Ptr(&iov)));
  EXPECT_EQ(memcmp(&fp, &set, sizeof(fp)), 0);
  std::vector<char> x(16384);
  iov = {x.data(), x.size()};
  EXPECT_OK(Ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, Ptr(&iov)));
  EXPECT_GE(iov.iov_len, 576u);
  EXPECT_LT(iov.iov_len, x.size());
  uint64_t xcr0;
  memcpy(&xcr0, &x[464], sizeof(xcr0));
  EXPECT_EQ(xcr0 & 3, 3u);
  EXPECT_EQ(memcmp(&x[160 + 5 * 16], &fp.xmm_space[5 * 4], 16), 0);
  iov.iov_len = 512;
  EXPECT_FAILS(Ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, Ptr(&iov)), EFAULT);
  d = 2.25;
  memcpy(&fp.xmm_space[5 * 4], &d, sizeof(d));
  EXPECT_OK(Ptrace(PTRACE_SETFPREGS, pid, 0, Ptr(&fp)));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 0);
}

TEST(PtraceTest, SyscallStopsComeInPairs) {
  const pid_t pid = Tracee([] {
    syscall(SYS_getpid);
    syscall(SYS_close, -1);
    return 0;
  });
  EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
  // Out of the stop of raise's own call first.
  EXPECT_OK(Ptrace(PTRACE_SYSCALL, pid));
  int status = Wait(pid);
  std::vector<std::pair<int64_t, int64_t>> calls;
  bool entry = true;
  int64_t nr = -1;
  for (int i = 0; i < 60 && WIFSTOPPED(status); i++) {
    EXPECT_EQ(status, StopStatus(SIGTRAP | 0x80));
    const user_regs_struct r = Regs(pid);
    // The first stop may be the exit from tgkill, whose entry nobody traced.
    uint64_t message = 0;
    EXPECT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, Ptr(&message)));
    entry = message == PTRACE_EVENTMSG_SYSCALL_ENTRY;
    if (entry) {
      EXPECT_EQ(static_cast<int64_t>(r.rax), -ENOSYS);
      nr = static_cast<int64_t>(r.orig_rax);
    } else {
      calls.emplace_back(r.orig_rax, r.rax);
      if (nr != -1) {
        EXPECT_EQ(static_cast<int64_t>(r.orig_rax), nr);
      }
    }
    EXPECT_OK(Ptrace(PTRACE_SYSCALL, pid));
    status = Wait(pid);
  }
  EXPECT_EQ(status, 0);
  const auto has = [&](int64_t call, int64_t result) {
    for (const auto& c : calls) {
      if (c.first == call && c.second == result) return true;
    }
    return false;
  };
  EXPECT_TRUE(has(SYS_getpid, pid));
  EXPECT_TRUE(has(SYS_close, -EBADF));
}

// Runs to the entry of call `nr`.
void RunToEntry(pid_t pid, uint64_t nr) {
  for (int i = 0; i < 100; i++) {
    ASSERT_OK(Ptrace(PTRACE_SYSCALL, pid));
    ASSERT_EQ(Wait(pid), StopStatus(SIGTRAP | 0x80));
    uint64_t message = 0;
    ASSERT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, Ptr(&message)));
    if (message == PTRACE_EVENTMSG_SYSCALL_ENTRY && Regs(pid).orig_rax == nr) return;
  }
  FAIL() << "no call " << nr;
}

TEST(PtraceTest, SyscallCanBeChanged) {
  const pid_t pid = Tracee([] {
    // Made close(-1), with what it says changed; then skipped.
    const long a = syscall(SYS_getppid);
    const long b = syscall(SYS_getuid);
    const long c = syscall(SYS_geteuid) == -1 ? errno : 0;
    return a == 1234 && b == -1 && errno == 77 && c == ENOSYS ? 0 : 1;
  });
  EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
  RunToEntry(pid, SYS_getppid);
  user_regs_struct r = Regs(pid);
  r.orig_rax = SYS_close;
  r.rdi = static_cast<uint64_t>(-1);
  EXPECT_OK(Ptrace(PTRACE_SETREGS, pid, 0, Ptr(&r)));
  EXPECT_OK(Ptrace(PTRACE_SYSCALL, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP | 0x80));
  r = Regs(pid);
  EXPECT_EQ(static_cast<int64_t>(r.rax), -EBADF);
  r.rax = 1234;
  EXPECT_OK(Ptrace(PTRACE_SETREGS, pid, 0, Ptr(&r)));
  RunToEntry(pid, SYS_getuid);
  r = Regs(pid);
  r.orig_rax = ~uint64_t{0};
  r.rax = static_cast<uint64_t>(-77);
  EXPECT_OK(Ptrace(PTRACE_SETREGS, pid, 0, Ptr(&r)));
  RunToEntry(pid, SYS_geteuid);
  r = Regs(pid);
  r.orig_rax = ~uint64_t{0};
  EXPECT_OK(Ptrace(PTRACE_SETREGS, pid, 0, Ptr(&r)));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  int status = Wait(pid);
  EXPECT_EQ(WEXITSTATUS(status), 1);  // the errno of getuid is lost by then
}

TEST(PtraceTest, SyscallInfo) {
  const pid_t pid = Tracee([] {
    syscall(SYS_close, -1);
    syscall(1000, 1, 2, 3, 4, 5, 6);
    return 0;
  });
  struct ptrace_syscall_info info;
  const auto get = [&](size_t size) {
    memset(&info, 0, sizeof(info));
    return Ptrace(static_cast<int>(PTRACE_GET_SYSCALL_INFO), pid, size, Ptr(&info));
  };
  EXPECT_EQ(get(sizeof(info)), 24);
  EXPECT_EQ(info.op, 0);
  EXPECT_EQ(info.arch, static_cast<uint32_t>(AUDIT_ARCH_X86_64));
  EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
  RunToEntry(pid, SYS_close);
  EXPECT_EQ(get(sizeof(info)), 80);
  EXPECT_EQ(info.op, 1);
  EXPECT_EQ(info.entry.nr, static_cast<uint64_t>(SYS_close));
  const user_regs_struct r = Regs(pid);
  EXPECT_EQ(info.instruction_pointer, r.rip);
  EXPECT_EQ(info.stack_pointer, r.rsp);
  EXPECT_OK(Ptrace(PTRACE_SYSCALL, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP | 0x80));
  EXPECT_EQ(get(sizeof(info)), 33);
  EXPECT_EQ(info.op, 2);
  EXPECT_EQ(info.exit.rval, -EBADF);
  EXPECT_EQ(info.exit.is_error, 1);
  RunToEntry(pid, 1000);
  EXPECT_EQ(get(sizeof(info)), 80);
  for (uint64_t i = 0; i < 6; i++) EXPECT_EQ(info.entry.args[i], i + 1);
  EXPECT_EQ(get(8), 80);
  EXPECT_EQ(info.instruction_pointer, 0u);
  Kill(pid);
}

TEST(PtraceTest, OutputIsThereAtTheExitStop) {
  static char buffer[64];
  static int fds[2];
  ASSERT_OK(pipe(fds));
  ASSERT_EQ(write(fds[1], "hello", 5), 5);
  const pid_t pid = Tracee([] {
    syscall(SYS_read, fds[0], buffer, 5);
    return 0;
  });
  EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
  RunToEntry(pid, SYS_read);
  EXPECT_OK(Ptrace(PTRACE_SYSCALL, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP | 0x80));
  uint64_t word = 0;
  EXPECT_OK(Ptrace(PTRACE_PEEKDATA, pid, Ptr(buffer), Ptr(&word)));
  EXPECT_EQ(memcmp(&word, "hello", 5), 0);
  Kill(pid);
  close(fds[0]), close(fds[1]);
}

TEST(PtraceTest, InputPokedAtTheEntryStopCounts) {
  static char name[16] = "/dev/null";
  const pid_t pid = Tracee([] { return syscall(SYS_access, name, F_OK) == -1 && errno == ENOENT ? 0 : 1; });
  EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
  RunToEntry(pid, SYS_access);
  uint64_t word;
  memcpy(&word, "/dev/nix", 8);
  EXPECT_OK(Ptrace(PTRACE_POKEDATA, pid, Ptr(name), word));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 0);
}

TEST(PtraceTest, SysemuMakesNoCall) {
  const pid_t pid = Tracee([] { return syscall(SYS_getppid) == 4242 ? 0 : 1; });
  for (int i = 0; i < 50; i++) {
    ASSERT_OK(Ptrace(PTRACE_SYSEMU, pid));
    ASSERT_EQ(Wait(pid), StopStatus(SIGTRAP));
    if (Regs(pid).orig_rax == SYS_getppid) break;
  }
  EXPECT_OK(Ptrace(PTRACE_POKEUSR, pid, offsetof(struct user, regs.rax), 4242));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 0);
}

TEST(PtraceTest, SingleStepsOneInstruction) {
  const pid_t pid = Tracee([] {
    asm volatile(
        "int3\n"
        "mov $1, %%eax\n"
        "mov $2, %%ecx\n"
        "pushf\n"
        "pop %%rdx\n"
        "nop\n"
        :
        :
        : "rax", "rcx", "rdx");
    return 0;
  });
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
  siginfo_t info;
  EXPECT_OK(Ptrace(PTRACE_GETSIGINFO, pid, 0, Ptr(&info)));
  EXPECT_EQ(info.si_code, SI_KERNEL);
  const uint64_t start = Regs(pid).rip;
  const uint64_t expected[] = {5, 10, 11, 12, 13};
  for (const uint64_t offset : expected) {
    EXPECT_OK(Ptrace(PTRACE_SINGLESTEP, pid));
    EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
    EXPECT_OK(Ptrace(PTRACE_GETSIGINFO, pid, 0, Ptr(&info)));
    EXPECT_EQ(info.si_code, TRAP_TRACE);
    const user_regs_struct r = Regs(pid);
    EXPECT_EQ(r.rip - start, offset);
    EXPECT_EQ(r.eflags & 0x100, 0u);
  }
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 0);
}

TEST(PtraceTest, SingleStepOverASystemCall) {
  for (const int warm : {0, 100}) {  // often enough to be patched
    const pid_t pid = Tracee([warm] {
      for (int i = 0; i <= warm; i++) {
        if (i == warm) asm volatile("int3");
        long nr = SYS_getuid;
        asm volatile("mov $102, %%eax\nsyscall\nnop\nnop\nnop\nnop\nnop" : "+a"(nr) : : "rcx", "r11", "memory");
      }
      return 0;
    });
    EXPECT_OK(Ptrace(PTRACE_CONT, pid));
    EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
    // To the syscall instruction.
    uint64_t word = 0;
    for (int i = 0; i < 100; i++) {
      EXPECT_OK(Ptrace(PTRACE_PEEKTEXT, pid, Regs(pid).rip, Ptr(&word)));
      if ((word & 0xffff) == 0x050f) break;
      EXPECT_OK(Ptrace(PTRACE_SINGLESTEP, pid));
      EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
    }
    EXPECT_EQ(word & 0xffff, 0x050fu);
    const uint64_t at = Regs(pid).rip;
    EXPECT_OK(Ptrace(PTRACE_SINGLESTEP, pid));
    EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
    const user_regs_struct r = Regs(pid);
    EXPECT_EQ(r.rip, at + 2);
    EXPECT_EQ(r.rax, getuid());
    siginfo_t info;
    EXPECT_OK(Ptrace(PTRACE_GETSIGINFO, pid, 0, Ptr(&info)));
    EXPECT_EQ(info.si_code, TRAP_BRKPT);
    EXPECT_OK(Ptrace(PTRACE_SINGLESTEP, pid));
    EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
    EXPECT_EQ(Regs(pid).rip, at + 3);
    EXPECT_OK(Ptrace(PTRACE_CONT, pid));
    EXPECT_EQ(Wait(pid), 0);
  }
}

TEST(PtraceTest, StepIntoAHandler) {
  static void (*const handler)(int) = [](int) {};
  const pid_t pid = Tracee([] {
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    return 0;
  });
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGUSR1));
  EXPECT_OK(Ptrace(PTRACE_SINGLESTEP, pid, 0, SIGUSR1));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
  EXPECT_EQ(Regs(pid).rip, Ptr(handler));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 0);
}

__attribute__((noinline)) int Breakable(int x) {
  asm volatile("");
  return x + 1;
}

TEST(PtraceTest, BreakpointByPokingText) {
  const pid_t pid = Tracee([] { return Breakable(4); });
  uint64_t word = 0;
  const uint64_t at = Ptr(&Breakable);
  EXPECT_OK(Ptrace(PTRACE_PEEKTEXT, pid, at, Ptr(&word)));
  EXPECT_OK(Ptrace(PTRACE_POKETEXT, pid, at, (word & ~uint64_t{0xff}) | 0xcc));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
  user_regs_struct r = Regs(pid);
  EXPECT_EQ(r.rip, at + 1);
  EXPECT_EQ(r.rdi, 4u);
  r.rip = at;
  r.rdi = 10;
  EXPECT_OK(Ptrace(PTRACE_POKETEXT, pid, at, word));
  EXPECT_OK(Ptrace(PTRACE_SETREGS, pid, 0, Ptr(&r)));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 11 << 8);
}

TEST(PtraceTest, HardwareWatchpoint) {
  static volatile uint32_t watched[4];
  const pid_t pid = Tracee([] {
    watched[0] = 1;
    watched[1] = 2;
    watched[2] = 3;
    return 0;
  });
  const auto reg = [](int n) { return offsetof(struct user, u_debugreg) + static_cast<size_t>(n) * 8; };
  ASSERT_OK(Ptrace(PTRACE_POKEUSR, pid, reg(0), Ptr(&watched[1])));
  // Writes of 4 bytes.
  ASSERT_OK(Ptrace(PTRACE_POKEUSR, pid, reg(7), 0x1 | 0xd << 16));
  uint64_t word = 0;
  EXPECT_OK(Ptrace(PTRACE_PEEKUSR, pid, reg(0), Ptr(&word)));
  EXPECT_EQ(word, Ptr(&watched[1]));
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), StopStatus(SIGTRAP));
  siginfo_t info;
  EXPECT_OK(Ptrace(PTRACE_GETSIGINFO, pid, 0, Ptr(&info)));
  EXPECT_EQ(info.si_code, TRAP_HWBKPT);
  EXPECT_OK(Ptrace(PTRACE_PEEKUSR, pid, reg(6), Ptr(&word)));
  EXPECT_EQ(word & 0xf, 1u);
  EXPECT_OK(Ptrace(PTRACE_PEEKDATA, pid, Ptr(&watched[1]), Ptr(&word)));
  EXPECT_EQ(word, 2u);  // and not 3 yet
  EXPECT_OK(Ptrace(PTRACE_POKEUSR, pid, reg(7), 0));
  EXPECT_FAILS(Ptrace(PTRACE_POKEUSR, pid, reg(0), ~uint64_t{0}), EINVAL);
  EXPECT_FAILS(Ptrace(PTRACE_POKEUSR, pid, reg(4), 1), EIO);
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  EXPECT_EQ(Wait(pid), 0);
}

}  // namespace
}  // namespace ringwall::test
