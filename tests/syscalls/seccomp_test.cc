// seccomp: strict mode, filters and what their actions do. Each case runs in a child.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <ucontext.h>

#include <atomic>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

using Program = std::vector<sock_filter>;

sock_filter Stmt(int code, uint32_t k) { return {static_cast<uint16_t>(code), 0, 0, k}; }
sock_filter Jump(int code, uint32_t k, int jt, int jf) {
  return {static_cast<uint16_t>(code), static_cast<uint8_t>(jt), static_cast<uint8_t>(jf), k};
}
// Call `nr` gets `action`, all others are allowed.
Program On(long nr, uint32_t action) {
  return {Stmt(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
          Jump(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(nr), 0, 1),
          Stmt(BPF_RET | BPF_K, action), Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
}
long Seccomp(unsigned op, unsigned flags, void* args) { return syscall(SYS_seccomp, op, flags, args); }
long Install(const Program& program, unsigned flags = 0) {
  sock_fprog prog = {static_cast<unsigned short>(program.size()), const_cast<sock_filter*>(program.data())};
  return Seccomp(SECCOMP_SET_MODE_FILTER, flags, &prog);
}
void NoNewPrivs() { CHECK_CHILD(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0); }

std::string StatusLine(const std::string& name) {
  const std::string all = ReadFile("/proc/self/status");
  const size_t at = all.find("\n" + name + ":\t");
  if (at == std::string::npos) return "";
  const size_t from = at + name.size() + 3;
  return all.substr(from, all.find('\n', from) - from);
}

TEST(SeccompTest, ArgumentsAreChecked) {
  EXPECT_FAILS(Seccomp(99, 0, nullptr), EINVAL);
  EXPECT_FAILS(Seccomp(SECCOMP_SET_MODE_STRICT, 1, nullptr), EINVAL);
  int x;
  EXPECT_FAILS(Seccomp(SECCOMP_SET_MODE_STRICT, 0, &x), EINVAL);
  EXPECT_FAILS(Seccomp(SECCOMP_SET_MODE_FILTER, 0x80000000, &x), EINVAL);
  EXPECT_FAILS(Seccomp(SECCOMP_SET_MODE_FILTER, 0, nullptr), EFAULT);
  EXPECT_FAILS(prctl(PR_SET_SECCOMP, 0, 0, 0, 0), EINVAL);
  EXPECT_FAILS(prctl(PR_SET_SECCOMP, 3, 0, 0, 0), EINVAL);
  EXPECT_EQ(prctl(PR_GET_SECCOMP, 0, 0, 0, 0), 0);
  const int status = InChild([] {
    NoNewPrivs();
    sock_fprog prog = {0, nullptr};
    CHECK_CHILD(Seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog) == -1 && errno == EINVAL);
    prog = {1, nullptr};
    CHECK_CHILD(Seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog) == -1 && errno == EINVAL);
    prog = {1, reinterpret_cast<sock_filter*>(16)};
    CHECK_CHILD(Seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog) == -1 && errno == EFAULT);
    prog = {5000, nullptr};
    CHECK_CHILD(Seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog) == -1 && errno == EINVAL);
    CHECK_CHILD(Install({Stmt(BPF_LD | BPF_W | BPF_ABS, 64), Stmt(BPF_RET | BPF_K, 0)}) == -1 &&
                errno == EINVAL);
    return 0;
  });
  EXPECT_TRUE(Exited(status));
}

TEST(SeccompTest, NeedsNoNewPrivsOrTheCapability) {
  const int status = InChildAsNobody([] {
    CHECK_CHILD(Install(On(SYS_getuid, SECCOMP_RET_ALLOW)) == -1 && errno == EACCES);
    NoNewPrivs();
    CHECK_CHILD(Install(On(SYS_getuid, SECCOMP_RET_ALLOW)) == 0);
    return 0;
  });
  EXPECT_TRUE(Exited(status));
}

TEST(SeccompTest, AvailableActions) {
  for (uint32_t action : {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP,
                          SECCOMP_RET_ERRNO, SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW}) {
    EXPECT_OK(Seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action));
  }
  uint32_t action = 0x12340000;
  EXPECT_FAILS(Seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action), EOPNOTSUPP);
  EXPECT_FAILS(Seccomp(SECCOMP_GET_ACTION_AVAIL, 1, &action), EINVAL);
  EXPECT_FAILS(Seccomp(SECCOMP_GET_ACTION_AVAIL, 0, nullptr), EFAULT);
  seccomp_notif_sizes sizes = {};
  EXPECT_OK(Seccomp(SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
  EXPECT_EQ(sizes.seccomp_data, sizeof(seccomp_data));
  EXPECT_EQ(sizes.seccomp_notif, sizeof(seccomp_notif));
  EXPECT_EQ(sizes.seccomp_notif_resp, sizeof(seccomp_notif_resp));
  EXPECT_FAILS(Seccomp(SECCOMP_GET_NOTIF_SIZES, 1, &sizes), EINVAL);
}

TEST(SeccompTest, StrictModeKillsAllButFour) {
  int status = InChild([] {
    CHECK_CHILD(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) == 0);
    static_cast<void>(!write(1, "", 0));
    syscall(SYS_exit, 5);
    return 0;
  });
  EXPECT_TRUE(Exited(status, 5));
  status = InChild([] {
    CHECK_CHILD(Seccomp(SECCOMP_SET_MODE_STRICT, 0, nullptr) == 0);
    syscall(SYS_getppid);
    return 0;
  });
  EXPECT_TRUE(KilledBy(status, SIGKILL));
}

TEST(SeccompTest, StrictModeKillsTheThreadOnly) {
  const int status = InChild([] {
    std::atomic<bool> ready{false};
    std::thread t([&] {
      prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0);
      ready = true;
      syscall(SYS_getppid);
      _exit(9);
    });
    t.join();
    return ready ? 0 : 1;
  });
  EXPECT_TRUE(Exited(status));
}

TEST(SeccompTest, ErrnoOfFilters) {
  const int status = InChild([] {
    NoNewPrivs();
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_ERRNO | 77)) == 0);
    CHECK_CHILD(syscall(SYS_getppid) == -1 && errno == 77);
    // Not more than MAX_ERRNO.
    CHECK_CHILD(Install(On(SYS_getpgrp, SECCOMP_RET_ERRNO | 0xffff)) == 0);
    CHECK_CHILD(syscall(SYS_getpgrp) == -1 && errno == 4095);
    CHECK_CHILD(Install(On(SYS_getsid, SECCOMP_RET_ERRNO)) == 0);
    CHECK_CHILD(syscall(SYS_getsid, 0) == 0);
    CHECK_CHILD(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2);
    CHECK_CHILD(StatusLine("Seccomp") == "2");
    CHECK_CHILD(StatusLine("Seccomp_filters") == "3");
    CHECK_CHILD(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT, 0, 0, 0) == -1 && errno == EINVAL);
    return 0;
  });
  EXPECT_TRUE(Exited(status));
}

TEST(SeccompTest, CallsThatNeedNoKernelObeyToo) {
  const int status = InChild([] {
    NoNewPrivs();
    // Often enough to be on any fast path.
    for (int i = 0; i < 100; i++) {
      syscall(SYS_getpid), syscall(SYS_gettid), syscall(SYS_getuid), syscall(SYS_sched_yield);
    }
    CHECK_CHILD(Install(On(SYS_getpid, SECCOMP_RET_ERRNO | 1)) == 0);
    CHECK_CHILD(syscall(SYS_getpid) == -1 && errno == EPERM);
    CHECK_CHILD(syscall(SYS_gettid) > 0);
    CHECK_CHILD(Install(On(SYS_sched_yield, SECCOMP_RET_ERRNO | 2)) == 0);
    CHECK_CHILD(syscall(SYS_sched_yield) == -1 && errno == 2);
    timespec ts;
    CHECK_CHILD(Install(On(SYS_clock_gettime, SECCOMP_RET_ERRNO | 3)) == 0);
    CHECK_CHILD(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts) == -1 && errno == 3);
    return 0;
  });
  EXPECT_TRUE(Exited(status));
}

TEST(SeccompTest, PrecedenceOfActions) {
  const int status = InChild([] {
    NoNewPrivs();
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_ERRNO | 5)) == 0);
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_LOG)) == 0);
    CHECK_CHILD(syscall(SYS_getppid) == -1 && errno == 5);
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_TRACE)) == 0);
    CHECK_CHILD(syscall(SYS_getppid) == -1 && errno == 5);
    // The newest of equals.
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_ERRNO | 6)) == 0);
    CHECK_CHILD(syscall(SYS_getppid) == -1 && errno == 6);
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_KILL_PROCESS)) == 0);
    syscall(SYS_getppid);
    return 0;
  });
  EXPECT_TRUE(KilledBy(status, SIGSYS));
}

TEST(SeccompTest, LogAllowsTraceAndUserNotifWithoutListenersDoNot) {
  const int status = InChild([] {
    NoNewPrivs();
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_LOG)) == 0);
    CHECK_CHILD(syscall(SYS_getppid) == getppid());
    CHECK_CHILD(Install(On(SYS_getuid, SECCOMP_RET_TRACE | 1)) == 0);
    CHECK_CHILD(syscall(SYS_getuid) == -1 && errno == ENOSYS);
    CHECK_CHILD(Install(On(SYS_getgid, SECCOMP_RET_USER_NOTIF)) == 0);
    CHECK_CHILD(syscall(SYS_getgid) == -1 && errno == ENOSYS);
    // An action that nobody knows kills.
    CHECK_CHILD(Install(On(SYS_geteuid, 0x00020000)) == 0);
    syscall(SYS_geteuid);
    return 0;
  });
  EXPECT_TRUE(KilledBy(status, SIGSYS));
}

siginfo_t g_info;
ucontext_t g_context;

TEST(SeccompTest, TrapTellsTheCall) {
  const int status = InChild([] {
    struct sigaction sa = {};
    sa.sa_flags = SA_SIGINFO;
    sa.sa_sigaction = [](int, siginfo_t* info, void* context) {
      g_info = *info;
      g_context = *static_cast<ucontext_t*>(context);
      static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RAX] = 1234;
    };
    CHECK_CHILD(sigaction(SIGSYS, &sa, nullptr) == 0);
    NoNewPrivs();
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_TRAP | 55)) == 0);
    CHECK_CHILD(syscall(SYS_getppid, 7) == 1234);
    CHECK_CHILD(g_info.si_signo == SIGSYS && g_info.si_code == 1 && g_info.si_errno == 55);
    CHECK_CHILD(g_info.si_syscall == SYS_getppid && g_info.si_arch == AUDIT_ARCH_X86_64);
    CHECK_CHILD(g_info.si_call_addr == reinterpret_cast<void*>(g_context.uc_mcontext.gregs[REG_RIP]));
    CHECK_CHILD(g_context.uc_mcontext.gregs[REG_RAX] == SYS_getppid);
    CHECK_CHILD(g_context.uc_mcontext.gregs[REG_RDI] == 7);
    // Blocked or ignored, it kills.
    signal(SIGSYS, SIG_IGN);
    syscall(SYS_getppid);
    return 0;
  });
  EXPECT_TRUE(KilledBy(status, SIGSYS));
}

TEST(SeccompTest, KillThreadOfMany) {
  const int status = InChild([] {
    NoNewPrivs();
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_KILL_THREAD)) == 0);
    std::thread([] { syscall(SYS_getppid); }).join();
    return 3;
  });
  EXPECT_TRUE(Exited(status, 3));
}

TEST(SeccompTest, KillProcessEndsAllThreads) {
  const int status = InChild([] {
    NoNewPrivs();
    signal(SIGSYS, [](int) { _exit(4); });  // is not asked
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_KILL_PROCESS)) == 0);
    std::thread([] { syscall(SYS_getppid); }).join();
    return 3;
  });
  EXPECT_TRUE(KilledBy(status, SIGSYS));
}

TEST(SeccompTest, SeesArgumentsArchitectureAndPlace) {
  const int status = InChild([] {
    NoNewPrivs();
    const Program by_argument = {
        Stmt(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)),
        Jump(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        Stmt(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        Stmt(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        Jump(BPF_JMP | BPF_JEQ | BPF_K, SYS_close, 0, 3),
        Stmt(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args) + 8 * 5 + 4),
        Jump(BPF_JMP | BPF_JEQ | BPF_K, 0xabcd, 0, 1),
        Stmt(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 99),
        Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    CHECK_CHILD(Install(by_argument) == 0);
    CHECK_CHILD(syscall(SYS_close, -1, 0, 0, 0, 0, 0xabcd00000000) == -1 && errno == 99);
    CHECK_CHILD(syscall(SYS_close, -1, 0, 0, 0, 0, 0xabce00000000) == -1 && errno == EBADF);
    // The address behind the instruction, twice from the same place.
    const Program by_place = {Stmt(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                              Jump(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsid, 0, 3),
                              Stmt(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, instruction_pointer)),
                              Stmt(BPF_ALU | BPF_AND | BPF_K, 0xfff),
                              Stmt(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
                              Jump(BPF_JMP | BPF_JSET | BPF_K, SECCOMP_RET_ERRNO, 0, 1),
                              Stmt(BPF_RET | BPF_A, 0), Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    Program fixed = by_place;
    fixed[1].jf = 5;
    CHECK_CHILD(Install(fixed) == 0);
    long result = 0;
    uint64_t place = 0;
    for (int i = 0; i < 50; i++) {
      asm volatile("mov %2, %%eax\nxor %%edi, %%edi\nsyscall\n1: lea 1b(%%rip), %1"
                   : "=&a"(result), "=&r"(place)
                   : "i"(SYS_getsid)
                   : "rcx", "r11", "rdi", "memory");
      CHECK_CHILD(-result == static_cast<long>(place & 0xfff));
    }
    return 0;
  });
  EXPECT_TRUE(Exited(status));
}

TEST(SeccompTest, InheritedByForkAndExec) {
  int status = InChild([] {
    NoNewPrivs();
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_ERRNO | 7)) == 0);
    const int inner = InChild([] {
      CHECK_CHILD(syscall(SYS_getppid) == -1 && errno == 7);
      return 0;
    });
    CHECK_CHILD(inner == 0);
    std::thread([] { CHECK_CHILD(syscall(SYS_getppid) == -1 && errno == 7); }).join();
    return 0;
  });
  EXPECT_TRUE(Exited(status));
  status = InChild([] {
    NoNewPrivs();
    CHECK_CHILD(Install(On(SYS_getcwd, SECCOMP_RET_KILL_PROCESS)) == 0);
    execl("/bin/pwd", "pwd", "-P", nullptr);
    return 1;
  });
  EXPECT_TRUE(KilledBy(status, SIGSYS));
}

TEST(SeccompTest, SyncOfThreads) {
  const int status = InChild([] {
    NoNewPrivs();
    std::atomic<int> stage{0};
    std::atomic<int> seen{-1};
    std::thread t([&] {
      while (stage.load() == 0) sched_yield();
      seen = syscall(SYS_getppid) == -1 ? errno : 0;
    });
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_ERRNO | 8), SECCOMP_FILTER_FLAG_TSYNC) == 0);
    stage = 1;
    t.join();
    CHECK_CHILD(seen == 8);
    return 0;
  });
  EXPECT_TRUE(Exited(status));
}

TEST(SeccompTest, SyncFailsWhenAThreadHasItsOwn) {
  const int status = InChild([] {
    NoNewPrivs();
    std::atomic<int> stage{0};
    std::atomic<pid_t> tid{0};
    std::thread t([&] {
      CHECK_CHILD(Install(On(SYS_getsid, SECCOMP_RET_ALLOW)) == 0);
      tid = static_cast<pid_t>(syscall(SYS_gettid));
      while (stage.load() == 0) sched_yield();
    });
    while (tid.load() == 0) sched_yield();
    const Program p = On(SYS_getppid, SECCOMP_RET_ERRNO | 8);
    CHECK_CHILD(Install(p, SECCOMP_FILTER_FLAG_TSYNC) == tid.load());
    CHECK_CHILD(Install(p, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH) == -1 &&
                errno == ESRCH);
    CHECK_CHILD(syscall(SYS_getppid) == getppid());  // nothing was installed
    stage = 1;
    t.join();
    return 0;
  });
  EXPECT_TRUE(Exited(status));
}

TEST(SeccompTest, TooManyFiltersAreEnomem) {
  const int status = InChild([] {
    NoNewPrivs();
    Program big(4096, Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    int installed = 0;
    while (Install(big) == 0) installed++;
    CHECK_CHILD(errno == ENOMEM);
    // A small one still fits: each is counted as the kernel translates it, and 4 more.
    const Program jumps(600, Jump(BPF_JMP | BPF_JEQ | BPF_K, 0x80000000, 1, 1));
    Program small = jumps;
    small.insert(small.end(), 3, Stmt(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    while (Install(small) == 0) installed++;
    CHECK_CHILD(errno == ENOMEM);
    return installed;
  });
  EXPECT_TRUE(Exited(status, 7));
}

TEST(SeccompTest, FilterCanForbidSeccompAndPrctl) {
  const int status = InChild([] {
    NoNewPrivs();
    CHECK_CHILD(Install(On(SYS_seccomp, SECCOMP_RET_ERRNO | 11)) == 0);
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_ALLOW)) == -1 && errno == 11);
    return 0;
  });
  EXPECT_TRUE(Exited(status));
}

long Ptrace(int request, pid_t pid, uint64_t addr = 0, uint64_t data = 0) {
  return syscall(SYS_ptrace, request, pid, addr, data);
}

TEST(SeccompTest, TracersAreAsked) {
  const pid_t pid = fork();
  if (pid == 0) {
    NoNewPrivs();
    CHECK_CHILD(Ptrace(PTRACE_TRACEME, 0) == 0);
    raise(SIGSTOP);
    CHECK_CHILD(Install(On(SYS_getppid, SECCOMP_RET_TRACE | 0x1234)) == 0);
    CHECK_CHILD(syscall(SYS_getppid) == getppid());
    _exit(syscall(SYS_getppid) == 42 ? 0 : 1);
  }
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP));
  // The call, getppid of the comparison, and the one whose result is made up.
  for (int i = 0; i < 3; i++) {
    ASSERT_OK(Ptrace(PTRACE_CONT, pid));
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_EQ(status, PTRACE_EVENT_SECCOMP << 16 | SIGTRAP << 8 | 0x7f);
    uint64_t message = 0;
    EXPECT_OK(Ptrace(PTRACE_GETEVENTMSG, pid, 0, reinterpret_cast<uint64_t>(&message)));
    EXPECT_EQ(message, 0x1234u);
  }
  struct ptrace_syscall_info info;
  EXPECT_EQ(Ptrace(static_cast<int>(PTRACE_GET_SYSCALL_INFO), pid, sizeof(info), reinterpret_cast<uint64_t>(&info)), 84);
  EXPECT_EQ(info.op, PTRACE_SYSCALL_INFO_SECCOMP);
  EXPECT_EQ(info.seccomp.nr, static_cast<uint64_t>(SYS_getppid));
  EXPECT_EQ(info.seccomp.ret_data, 0x1234u);
  // orig_rax, rax.
  EXPECT_OK(Ptrace(PTRACE_POKEUSR, pid, 15 * 8, ~uint64_t{0}));
  EXPECT_OK(Ptrace(PTRACE_POKEUSR, pid, 10 * 8, 42));
  sock_filter got[16];
  if (getuid() == 0) {
    EXPECT_EQ(Ptrace(static_cast<int>(PTRACE_SECCOMP_GET_FILTER), pid, 0, 0), 4);
    EXPECT_EQ(Ptrace(static_cast<int>(PTRACE_SECCOMP_GET_FILTER), pid, 0, reinterpret_cast<uint64_t>(got)), 4);
    const Program want = On(SYS_getppid, SECCOMP_RET_TRACE | 0x1234);
    EXPECT_EQ(memcmp(got, want.data(), 32), 0);
    EXPECT_FAILS(Ptrace(static_cast<int>(PTRACE_SECCOMP_GET_FILTER), pid, 1, 0), ENOENT);
  }
  EXPECT_OK(Ptrace(PTRACE_CONT, pid));
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace ringwall::test
