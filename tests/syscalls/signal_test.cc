// Signals: dispositions, masks, queueing, delivery, restart, alternate stacks, faults.
#include <poll.h>
#include <setjmp.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <ucontext.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

volatile sig_atomic_t g_count;
siginfo_t g_info;
ucontext_t g_context;

void Count(int) { g_count = g_count + 1; }
void Keep(int, siginfo_t* info, void* context) {
  g_count = g_count + 1;
  g_info = *info;
  memcpy(&g_context, context, sizeof(g_context));
}

class SignalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    g_count = 0;
    memset(&g_info, 0, sizeof(g_info));
  }
  void TearDown() override {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    for (int sig : {SIGUSR1, SIGUSR2, SIGCHLD, SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGBUS, SIGALRM, 40})
      signal(sig, SIG_DFL);
  }
  static void Handle(int sig, void (*handler)(int), int flags = 0) {
    struct sigaction sa = {};
    sa.sa_handler = handler;
    sa.sa_flags = flags;
    ASSERT_OK(sigaction(sig, &sa, nullptr));
  }
  static void HandleInfo(int sig, void (*handler)(int, siginfo_t*, void*), int flags = 0) {
    struct sigaction sa = {};
    sa.sa_sigaction = handler;
    sa.sa_flags = SA_SIGINFO | flags;
    ASSERT_OK(sigaction(sig, &sa, nullptr));
  }
  static sigset_t Set(std::initializer_list<int> sigs) {
    sigset_t set;
    sigemptyset(&set);
    for (int s : sigs) sigaddset(&set, s);
    return set;
  }
  static void Block(int sig) {
    const sigset_t set = Set({sig});
    ASSERT_OK(sigprocmask(SIG_BLOCK, &set, nullptr));
  }
  static void Unblock(int sig) {
    const sigset_t set = Set({sig});
    ASSERT_OK(sigprocmask(SIG_UNBLOCK, &set, nullptr));
  }
};

TEST_F(SignalTest, HandlerRunsBeforeKillReturns) {
  Handle(SIGUSR1, Count);
  ASSERT_OK(kill(getpid(), SIGUSR1));
  EXPECT_EQ(g_count, 1);
}

TEST_F(SignalTest, SiginfoOfKillTgkillAndQueue) {
  HandleInfo(SIGUSR1, Keep);
  ASSERT_OK(kill(getpid(), SIGUSR1));
  EXPECT_EQ(g_info.si_code, SI_USER);
  EXPECT_EQ(g_info.si_pid, getpid());
  EXPECT_EQ(g_info.si_uid, getuid());
  ASSERT_OK(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1));
  EXPECT_EQ(g_info.si_code, SI_TKILL);
  ASSERT_OK(sigqueue(getpid(), SIGUSR1, sigval{.sival_int = 1234}));
  EXPECT_EQ(g_info.si_code, SI_QUEUE);
  EXPECT_EQ(g_info.si_value.sival_int, 1234);
}

TEST_F(SignalTest, SignalIsBlockedInItsOwnHandlerUnlessNodefer) {
  static int depth, most;
  depth = most = 0;
  struct H {
    static void Run(int) {
      ++depth;
      most = std::max(most, depth);
      g_count = g_count + 1;
      if (g_count < 3) raise(SIGUSR1);
      --depth;
    }
  };
  Handle(SIGUSR1, H::Run);
  raise(SIGUSR1);
  EXPECT_EQ(g_count, 3);
  EXPECT_EQ(most, 1);
  g_count = 0;
  Handle(SIGUSR1, H::Run, SA_NODEFER);
  raise(SIGUSR1);
  EXPECT_EQ(most, 3);
}

TEST_F(SignalTest, HandlerMaskIsAddedAndRemoved) {
  static bool blocked_inside;
  struct H {
    static void Run(int) {
      sigset_t now;
      sigprocmask(SIG_SETMASK, nullptr, &now);
      blocked_inside = sigismember(&now, SIGUSR2);
    }
  };
  struct sigaction sa = {};
  sa.sa_handler = H::Run;
  sigaddset(&sa.sa_mask, SIGUSR2);
  ASSERT_OK(sigaction(SIGUSR1, &sa, nullptr));
  raise(SIGUSR1);
  EXPECT_TRUE(blocked_inside);
  sigset_t now;
  ASSERT_OK(sigprocmask(SIG_SETMASK, nullptr, &now));
  EXPECT_FALSE(sigismember(&now, SIGUSR2));
}

TEST_F(SignalTest, ResethandFallsBackToDefault) {
  Handle(SIGUSR1, Count, SA_RESETHAND);
  raise(SIGUSR1);
  struct sigaction sa;
  ASSERT_OK(sigaction(SIGUSR1, nullptr, &sa));
  EXPECT_EQ(sa.sa_handler, SIG_DFL);
}

TEST_F(SignalTest, SigactionReturnsTheOldOne) {
  Handle(SIGUSR1, Count, SA_RESTART | SA_NODEFER);
  struct sigaction old;
  ASSERT_OK(sigaction(SIGUSR1, nullptr, &old));
  EXPECT_EQ(old.sa_handler, Count);
  EXPECT_EQ(old.sa_flags & (SA_RESTART | SA_NODEFER | SA_SIGINFO), SA_RESTART | SA_NODEFER);
}

TEST_F(SignalTest, Errors) {
  struct sigaction sa = {};
  EXPECT_FAILS(sigaction(SIGKILL, &sa, nullptr), EINVAL);
  EXPECT_FAILS(sigaction(SIGSTOP, &sa, nullptr), EINVAL);
  EXPECT_FAILS(syscall(SYS_rt_sigaction, 65, nullptr, nullptr, 8), EINVAL);
  EXPECT_FAILS(syscall(SYS_rt_sigaction, SIGUSR1, nullptr, nullptr, 4), EINVAL);
  EXPECT_FAILS(syscall(SYS_rt_sigaction, SIGUSR1, BadAddress(), nullptr, 8), EFAULT);
  EXPECT_FAILS(kill(getpid(), 65), EINVAL);
  EXPECT_FAILS(kill(getpid(), -1), EINVAL);
  EXPECT_FAILS(kill(1 << 22, 0), ESRCH);
  EXPECT_FAILS(syscall(SYS_tgkill, getpid(), 1 << 22, 0), ESRCH);
  EXPECT_FAILS(syscall(SYS_tgkill, -1, 1, 0), EINVAL);
  EXPECT_OK(kill(getpid(), 0));
  sigset_t set;
  EXPECT_FAILS(syscall(SYS_rt_sigprocmask, 7, &set, nullptr, 8), EINVAL);
  EXPECT_FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, nullptr, 7), EINVAL);
  EXPECT_FAILS(syscall(SYS_rt_sigprocmask, SIG_BLOCK, BadAddress(), nullptr, 8), EFAULT);
}

TEST_F(SignalTest, AnOrdinaryUserMayNotSignalRoot) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  const pid_t us = getpid();
  EXPECT_TRUE(Exited(InChildAsNobody([=] {
    CHECK_CHILD(kill(us, 0) == -1 && errno == EPERM);
    return 0;
  })));
}

TEST_F(SignalTest, BlockedSignalWaitsAndStandardOnesMerge) {
  Handle(SIGUSR1, Count);
  Block(SIGUSR1);
  raise(SIGUSR1);
  raise(SIGUSR1);
  sigset_t pending;
  ASSERT_OK(sigpending(&pending));
  EXPECT_TRUE(sigismember(&pending, SIGUSR1));
  EXPECT_EQ(g_count, 0);
  Unblock(SIGUSR1);
  EXPECT_EQ(g_count, 1);
}

TEST_F(SignalTest, RealTimeSignalsQueueInOrder) {
  static int values[4];
  struct H {
    static void Run(int, siginfo_t* info, void*) {
      values[g_count & 3] = info->si_value.sival_int;
      g_count = g_count + 1;
    }
  };
  HandleInfo(40, H::Run);
  Block(40);
  for (int i = 1; i <= 3; ++i) ASSERT_OK(sigqueue(getpid(), 40, sigval{.sival_int = i}));
  Unblock(40);
  EXPECT_EQ(g_count, 3);
  EXPECT_EQ(values[0] * 100 + values[1] * 10 + values[2], 123);
}

TEST_F(SignalTest, KillAndStopCannotBeBlocked) {
  const sigset_t set = Set({SIGKILL, SIGSTOP, SIGUSR2});
  ASSERT_OK(sigprocmask(SIG_BLOCK, &set, nullptr));
  sigset_t now;
  ASSERT_OK(sigprocmask(SIG_SETMASK, nullptr, &now));
  EXPECT_FALSE(sigismember(&now, SIGKILL));
  EXPECT_FALSE(sigismember(&now, SIGSTOP));
  EXPECT_TRUE(sigismember(&now, SIGUSR2));
}

TEST_F(SignalTest, IgnoredSignalVanishes) {
  signal(SIGUSR1, SIG_IGN);
  Block(SIGUSR1);
  raise(SIGUSR1);
  signal(SIGUSR1, SIG_IGN);  // setting to ignore also drops what is pending
  sigset_t pending;
  ASSERT_OK(sigpending(&pending));
  EXPECT_FALSE(sigismember(&pending, SIGUSR1));
}

TEST_F(SignalTest, SigsuspendSwapsTheMaskAndReturnsEintr) {
  Handle(SIGUSR1, Count);
  Block(SIGUSR1);
  raise(SIGUSR1);
  const sigset_t open = Set({});
  EXPECT_FAILS(sigsuspend(&open), EINTR);
  EXPECT_EQ(g_count, 1);
  sigset_t now;
  ASSERT_OK(sigprocmask(SIG_SETMASK, nullptr, &now));
  EXPECT_TRUE(sigismember(&now, SIGUSR1));
}

TEST_F(SignalTest, SigtimedwaitTakesWithoutAHandler) {
  Block(SIGUSR1);
  ASSERT_OK(sigqueue(getpid(), SIGUSR1, sigval{.sival_int = 8}));
  const sigset_t set = Set({SIGUSR1});
  siginfo_t info;
  EXPECT_EQ(sigwaitinfo(&set, &info), SIGUSR1);
  EXPECT_EQ(info.si_value.sival_int, 8);
  const timespec soon = {0, 1000000};
  EXPECT_FAILS(sigtimedwait(&set, &info, &soon), EAGAIN);
  const timespec bad = {0, -1};
  EXPECT_FAILS(sigtimedwait(&set, &info, &bad), EINVAL);
}

TEST_F(SignalTest, SignalfdReadsThem) {
  Block(SIGUSR1);
  const sigset_t set = Set({SIGUSR1});
  Fd fd(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  ASSERT_TRUE(fd.ok());
  signalfd_siginfo info;
  EXPECT_FAILS(read(fd.get(), &info, sizeof(info)), EAGAIN);
  raise(SIGUSR1);
  pollfd p = {fd.get(), POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  EXPECT_EQ(read(fd.get(), &info, sizeof(info)), static_cast<ssize_t>(sizeof(info)));
  EXPECT_EQ(info.ssi_signo, static_cast<uint32_t>(SIGUSR1));
  EXPECT_EQ(info.ssi_pid, static_cast<uint32_t>(getpid()));
  EXPECT_FAILS(read(fd.get(), &info, 4), EINVAL);
  EXPECT_FAILS(signalfd(0, &set, 0), EINVAL);
}

// Blocks reading an empty pipe while a second thread signals us.
ssize_t InterruptedRead(int flags) {
  struct sigaction sa = {};
  sa.sa_handler = Count;
  sa.sa_flags = flags;
  sigaction(SIGUSR1, &sa, nullptr);
  Pipe p;
  const pid_t tid = static_cast<pid_t>(syscall(SYS_gettid));
  std::atomic<bool> returned = false;
  std::thread other([&] {
    // A read that is not restarted gets no byte: a signal may come before it has begun.
    const bool restarts = (flags & SA_RESTART) != 0;
    while (restarts ? g_count == 0 : !returned.load()) {
      usleep(2000);
      if (g_count == 0 || !restarts) syscall(SYS_tgkill, getpid(), tid, SIGUSR1);
    }
    if (!restarts) return;
    usleep(5000);
    if (write(p.writer.get(), "x", 1) != 1) abort();
  });
  char c;
  const ssize_t n = read(p.reader.get(), &c, 1);
  const int error = errno;
  returned.store(true);
  other.join();
  errno = error;
  return n;
}

TEST_F(SignalTest, ReadIsInterruptedWithoutRestart) { EXPECT_FAILS(InterruptedRead(0), EINTR); }
TEST_F(SignalTest, ReadGoesOnWithRestart) { EXPECT_EQ(InterruptedRead(SA_RESTART), 1); }

TEST_F(SignalTest, NanosleepReturnsTheRestAndNeverRestarts) {
  Handle(SIGALRM, Count, SA_RESTART);
  itimerval soon = {{0, 0}, {0, 5000}};
  ASSERT_OK(setitimer(ITIMER_REAL, &soon, nullptr));
  const timespec ask = {10, 0};
  timespec rest = {};
  EXPECT_FAILS(nanosleep(&ask, &rest), EINTR);
  EXPECT_GE(rest.tv_sec, 8);
  EXPECT_LT(rest.tv_sec, 10);
  EXPECT_EQ(g_count, 1);
}

TEST_F(SignalTest, StopAndContinueDoNotDisturbASleep) {
  // The restart block of nanosleep: a stopped and continued sleeper sleeps out its time.
  const pid_t pid = fork();
  if (pid == 0) {
    const timespec ask = {0, 60000000};
    _exit(nanosleep(&ask, nullptr) == 0 ? 0 : 1);
  }
  usleep(5000);
  int status;
  ASSERT_OK(kill(pid, SIGSTOP));
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  ASSERT_OK(kill(pid, SIGCONT));
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(Exited(status));
}

TEST_F(SignalTest, AltStackIsUsedAndReported) {
  static char* where;
  struct H {
    static void Run(int) {
      char here;
      where = &here;
      stack_t now;
      sigaltstack(nullptr, &now);
      g_count = now.ss_flags;
    }
  };
  std::vector<char> memory(65536);
  stack_t alt = {memory.data(), 0, memory.size()};
  ASSERT_OK(sigaltstack(&alt, nullptr));
  Handle(SIGUSR1, H::Run, SA_ONSTACK);
  raise(SIGUSR1);
  EXPECT_TRUE(where >= memory.data() && where < memory.data() + memory.size());
  EXPECT_EQ(g_count, SS_ONSTACK);
  stack_t old;
  alt.ss_flags = SS_DISABLE;
  ASSERT_OK(sigaltstack(&alt, &old));
  EXPECT_EQ(old.ss_sp, memory.data());
  EXPECT_EQ(old.ss_flags, 0);
  stack_t small = {memory.data(), 0, 100};
  EXPECT_FAILS(sigaltstack(&small, nullptr), ENOMEM);
  stack_t odd = {memory.data(), 77, memory.size()};
  EXPECT_FAILS(sigaltstack(&odd, nullptr), EINVAL);
  EXPECT_FAILS(syscall(SYS_sigaltstack, BadAddress(), nullptr), EFAULT);
}

TEST_F(SignalTest, AltStackCannotChangeWhileInUse) {
  static int error;
  struct H {
    static void Run(int) {
      stack_t off = {nullptr, SS_DISABLE, 0};
      error = sigaltstack(&off, nullptr) == 0 ? 0 : errno;
    }
  };
  std::vector<char> memory(65536);
  stack_t alt = {memory.data(), 0, memory.size()};
  ASSERT_OK(sigaltstack(&alt, nullptr));
  Handle(SIGUSR1, H::Run, SA_ONSTACK);
  raise(SIGUSR1);
  EXPECT_EQ(error, EPERM);
  stack_t off = {nullptr, SS_DISABLE, 0};
  ASSERT_OK(sigaltstack(&off, nullptr));
}

sigjmp_buf g_jump;
void KeepAndJump(int, siginfo_t* info, void* context) {
  g_info = *info;
  memcpy(&g_context, context, sizeof(g_context));
  siglongjmp(g_jump, 1);
}

TEST_F(SignalTest, SegvSaysAddressAndCause) {
  HandleInfo(SIGSEGV, KeepAndJump);
  char* page = static_cast<char*>(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  EXPECT_EQ(page[0], 0);  // now the page is there, so the fault is one of protection
  if (sigsetjmp(g_jump, 1) == 0) {
    *const_cast<volatile char*>(page + 5) = 1;
    FAIL() << "no fault";
  }
  EXPECT_EQ(g_info.si_signo, SIGSEGV);
  EXPECT_EQ(g_info.si_code, SEGV_ACCERR);
  EXPECT_EQ(g_info.si_addr, page + 5);
  EXPECT_EQ(g_context.uc_mcontext.gregs[REG_TRAPNO], 14);
  EXPECT_EQ(g_context.uc_mcontext.gregs[REG_ERR] & 7, 7);
  EXPECT_EQ(g_context.uc_mcontext.gregs[REG_CR2], reinterpret_cast<greg_t>(page + 5));
  munmap(page, 4096);
  if (sigsetjmp(g_jump, 1) == 0) {
    *const_cast<volatile char*>(page) = 1;
    FAIL() << "no fault";
  }
  EXPECT_EQ(g_info.si_code, SEGV_MAPERR);
  EXPECT_EQ(g_info.si_addr, page);
}

TEST_F(SignalTest, NoncanonicalAddressIsAGeneralProtectionFault) {
  HandleInfo(SIGSEGV, KeepAndJump);
  if (sigsetjmp(g_jump, 1) == 0) {
    *reinterpret_cast<volatile char*>(0x8000000000000000ull) = 1;
    FAIL() << "no fault";
  }
  EXPECT_EQ(g_info.si_code, SI_KERNEL);
  EXPECT_EQ(g_info.si_addr, nullptr);
  EXPECT_EQ(g_context.uc_mcontext.gregs[REG_TRAPNO], 13);
}

TEST_F(SignalTest, DivideIllegalBreakpointAndBusErrors) {
  HandleInfo(SIGFPE, KeepAndJump);
  HandleInfo(SIGILL, KeepAndJump);
  HandleInfo(SIGTRAP, Keep);
  HandleInfo(SIGBUS, KeepAndJump);
  if (sigsetjmp(g_jump, 1) == 0) {
    asm volatile("xor %%ecx,%%ecx\n xor %%edx,%%edx\n mov $1,%%eax\n div %%ecx" ::: "eax", "ecx",
                 "edx");
  }
  EXPECT_EQ(g_info.si_signo, SIGFPE);
  EXPECT_EQ(g_info.si_code, FPE_INTDIV);
  if (sigsetjmp(g_jump, 1) == 0) asm volatile("ud2");
  EXPECT_EQ(g_info.si_signo, SIGILL);
  EXPECT_EQ(g_info.si_code, ILL_ILLOPN);
  EXPECT_EQ(g_info.si_addr, reinterpret_cast<void*>(g_context.uc_mcontext.gregs[REG_RIP]));
  asm volatile("int3");
  EXPECT_EQ(g_info.si_signo, SIGTRAP);
  EXPECT_EQ(g_info.si_code, SI_KERNEL);
  TempDir dir;
  Fd fd(open(dir.File("f", "x").c_str(), O_RDWR));
  char* p = static_cast<char*>(mmap(nullptr, 8192, PROT_READ, MAP_SHARED, fd.get(), 0));
  if (sigsetjmp(g_jump, 1) == 0) {
    (void)*const_cast<volatile char*>(p + 4096);
    FAIL() << "no fault";
  }
  EXPECT_EQ(g_info.si_signo, SIGBUS);
  EXPECT_EQ(g_info.si_code, BUS_ADRERR);
  EXPECT_EQ(g_info.si_addr, p + 4096);
  munmap(p, 8192);
}

TEST_F(SignalTest, BlockedFaultKills) {
  EXPECT_TRUE(KilledBy(InChild([] {
    Handle(SIGSEGV, Count);
    Block(SIGSEGV);
    *static_cast<volatile char*>(BadAddress()) = 1;
    return 0;
  }), SIGSEGV));
}

TEST_F(SignalTest, FaultInAHandlerWithoutStackKills) {
  EXPECT_TRUE(KilledBy(InChild([] {
    Handle(SIGUSR1, Count);
    // With the stack pointer nowhere, no frame can be pushed.
    asm volatile(
        "mov $0x10,%%rsp\n"
        "mov %0,%%edi\n mov %1,%%esi\n mov $62,%%eax\n syscall\n"
        :
        : "r"(getpid()), "r"(static_cast<int>(SIGUSR1))
        : "rax", "rdi", "rsi", "rcx", "r11", "memory");
    return 0;
  }), SIGSEGV));
}

TEST_F(SignalTest, HandlerMayChangeTheRegistersItReturnsTo) {
  struct H {
    static void Run(int, siginfo_t*, void* context) {
      auto* uc = static_cast<ucontext_t*>(context);
      uc->uc_mcontext.gregs[REG_RIP] += 2;  // over the ud2
      uc->uc_mcontext.gregs[REG_RAX] = 4711;
    }
  };
  HandleInfo(SIGILL, H::Run);
  uint64_t rax = 0;
  asm volatile("ud2" : "=a"(rax) : "0"(rax));
  EXPECT_EQ(rax, 4711u);
}

TEST_F(SignalTest, SingleStepTrapsOncePerInstruction) {
  struct H {
    static void Run(int, siginfo_t* info, void* context) {
      g_count = g_count + 1;
      g_info = *info;
      auto* uc = static_cast<ucontext_t*>(context);
      if (g_count == 3) uc->uc_mcontext.gregs[REG_EFL] &= ~0x100;
    }
  };
  HandleInfo(SIGTRAP, H::Run);
  asm volatile(
      "sub $128,%%rsp\n pushfq\n orq $0x100,(%%rsp)\n popfq\n nop\n nop\n nop\n nop\n add $128,%%rsp" ::
          : "cc", "memory");
  EXPECT_EQ(g_count, 3);
  EXPECT_EQ(g_info.si_code, TRAP_TRACE);
}

// The handler scribbles over every vector register; the interrupted code must see none of it.
void Scribble(int) {
  g_count = g_count + 1;
  asm volatile("pcmpeqd %%xmm0,%%xmm0\n pcmpeqd %%xmm1,%%xmm1\n pcmpeqd %%xmm15,%%xmm15" ::
                   : "xmm0", "xmm1", "xmm15");
  if (__builtin_cpu_supports("avx512f")) {
    asm volatile("vpternlogd $0xff,%%zmm0,%%zmm0,%%zmm0\n vpternlogd $0xff,%%zmm31,%%zmm31,%%zmm31\n"
                 "kxnorw %%k1,%%k1,%%k1" ::: "memory");
  } else if (__builtin_cpu_supports("avx")) {
    asm volatile("vcmptrueps %%ymm0,%%ymm0,%%ymm0" ::: "memory");
  }
}

TEST_F(SignalTest, VectorRegistersSurviveAHandler) {
  Handle(SIGUSR1, Scribble);
  uint8_t in[64], out0[64], out1[64];
  for (int i = 0; i < 64; ++i) in[i] = static_cast<uint8_t>(i * 3 + 1);
  const long pid = getpid();
  long result;
  if (__builtin_cpu_supports("avx512f")) {
    uint32_t mask_out = 0;
    asm volatile(
        "vmovdqu64 (%[in]),%%zmm0\n vmovdqu64 (%[in]),%%zmm31\n mov $0x1234,%%ecx\n"
        "kmovw %%ecx,%%k1\n mov $62,%%eax\n syscall\n"
        "vmovdqu64 %%zmm0,(%[out0])\n vmovdqu64 %%zmm31,(%[out1])\n kmovw %%k1,%%ecx\n"
        "mov %%ecx,%[mask]\n vzeroupper\n"
        : "=&a"(result), [mask] "=&r"(mask_out)
        : [in] "r"(in), [out0] "r"(out0), [out1] "r"(out1), "D"(pid), "S"((long)SIGUSR1)
        : "rcx", "r11", "memory", "xmm0");
    EXPECT_EQ(mask_out, 0x1234u);
  } else {
    memcpy(out0, in, 64);
    memcpy(out1, in, 64);
    asm volatile(
        "movdqu (%[in]),%%xmm0\n movdqu (%[in]),%%xmm15\n mov $62,%%eax\n syscall\n"
        "movdqu %%xmm0,(%[out0])\n movdqu %%xmm15,(%[out1])\n"
        : "=&a"(result)
        : [in] "r"(in), [out0] "r"(out0), [out1] "r"(out1), "D"(pid), "S"((long)SIGUSR1)
        : "rcx", "r11", "memory", "xmm0", "xmm15");
  }
  EXPECT_EQ(result, 0);
  EXPECT_EQ(g_count, 1);
  EXPECT_EQ(memcmp(in, out0, 64), 0);
  EXPECT_EQ(memcmp(in, out1, 64), 0);
}

TEST_F(SignalTest, VectorRegistersSurviveAPlainSystemCall) {
  uint8_t in[16], out[16];
  for (int i = 0; i < 16; ++i) in[i] = static_cast<uint8_t>(i + 1);
  for (long nr : {SYS_getpid, SYS_getppid, SYS_sched_yield, SYS_umask}) {
    long result;
    asm volatile("movdqu (%[in]),%%xmm7\n syscall\n movdqu %%xmm7,(%[out])\n"
                 : "=a"(result)
                 : "0"(nr), [in] "r"(in), [out] "r"(out), "D"(022L)
                 : "rcx", "r11", "memory", "xmm7");
    EXPECT_EQ(memcmp(in, out, 16), 0) << nr;
  }
}

TEST_F(SignalTest, GeneralRegistersFlagsAndRedZoneSurviveASystemCall) {
  for (int round = 0; round < 3; ++round) {  // the first may trap, the later ones run a patched site
    static uint64_t bad, flags;  // static: the stack pointer moves below
    bad = 0;
    asm volatile(
        "sub $256,%%rsp\n"
        "movq $0x5a5a,-8(%%rsp)\n movq $0x6b6b,-128(%%rsp)\n"
        "mov $0x1111,%%rbx\n mov $0x3333,%%r8\n mov $0x4444,%%r9\n mov $0x5555,%%r10\n"
        "mov $0x6666,%%r12\n mov $0x7777,%%r13\n mov $0x8888,%%r14\n mov $0x9999,%%r15\n"
        "mov $0xaaaa,%%rdi\n mov $0xbbbb,%%rsi\n mov $0xcccc,%%rdx\n"
        "std\n stc\n mov $110,%%eax\n syscall\n pushfq\n popq %[flags]\n cld\n"
        "xor $0x1111,%%rbx\n or %%rbx,%[bad]\n xor $0x3333,%%r8\n or %%r8,%[bad]\n"
        "xor $0x4444,%%r9\n or %%r9,%[bad]\n xor $0x5555,%%r10\n or %%r10,%[bad]\n"
        "xor $0x6666,%%r12\n or %%r12,%[bad]\n xor $0x7777,%%r13\n or %%r13,%[bad]\n"
        "xor $0x8888,%%r14\n or %%r14,%[bad]\n xor $0x9999,%%r15\n or %%r15,%[bad]\n"
        "xor $0xaaaa,%%rdi\n or %%rdi,%[bad]\n xor $0xbbbb,%%rsi\n or %%rsi,%[bad]\n"
        "xor $0xcccc,%%rdx\n or %%rdx,%[bad]\n"
        "movq -128(%%rsp),%%rcx\n xor $0x6b6b,%%rcx\n or %%rcx,%[bad]\n"
        "add $256,%%rsp\n"
        : [bad] "+m"(bad), [flags] "=m"(flags)
        :
        : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
          "r15", "memory", "cc");
    EXPECT_EQ(bad, 0u) << round;
    EXPECT_EQ(flags & 0x401, 0x401u) << round;  // direction and carry as we left them
  }
}

TEST_F(SignalTest, SyscallClobbersRcxWithTheReturnAddressAndR11WithFlags) {
  uint64_t rcx = 0, r11 = 0, next = 0;
  asm volatile("lea 1f(%%rip),%[next]\n mov $39,%%eax\n syscall\n1:\n mov %%rcx,%[rcx]\n mov %%r11,%[r11]"
               : [rcx] "=m"(rcx), [r11] "=m"(r11), [next] "=&r"(next)
               :
               : "rax", "rcx", "r11", "memory");
  EXPECT_EQ(rcx, next);
  EXPECT_EQ(r11 & 0x202, 0x202u);
}

TEST_F(SignalTest, SignalsBetweenThreadsReachTheRightOne) {
  Block(SIGUSR1);
  std::atomic<pid_t> tid{0};
  std::thread other([&] {
    const sigset_t set = Set({SIGUSR1});
    tid = static_cast<pid_t>(syscall(SYS_gettid));
    siginfo_t info;
    EXPECT_EQ(sigwaitinfo(&set, &info), SIGUSR1);
  });
  while (tid == 0) usleep(100);
  ASSERT_OK(syscall(SYS_tgkill, getpid(), tid.load(), SIGUSR1));
  other.join();
}

TEST_F(SignalTest, ProcessSignalGoesToAThreadThatDoesNotBlockIt) {
  static std::atomic<pid_t> taker;
  taker = 0;
  struct H {
    static void Run(int) { taker = static_cast<pid_t>(syscall(SYS_gettid)); }
  };
  Handle(SIGUSR1, H::Run);
  std::atomic<pid_t> tid{0};
  std::thread other([&] {
    tid = static_cast<pid_t>(syscall(SYS_gettid));
    while (taker == 0) usleep(100);
  });
  while (tid == 0) usleep(100);
  Block(SIGUSR1);
  ASSERT_OK(kill(getpid(), SIGUSR1));
  other.join();
  EXPECT_EQ(taker, tid);
}

TEST_F(SignalTest, SigchldTellsWhatHappened) {
  HandleInfo(SIGCHLD, Keep);
  Block(SIGCHLD);
  const pid_t pid = fork();
  if (pid == 0) _exit(33);
  int status;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  Unblock(SIGCHLD);
  EXPECT_EQ(g_info.si_code, CLD_EXITED);
  EXPECT_EQ(g_info.si_pid, pid);
  EXPECT_EQ(g_info.si_status, 33);
}

TEST_F(SignalTest, BusyThreadIsInterrupted) {
  // A loop without system calls still takes its signal.
  Handle(SIGALRM, Count);
  itimerval soon = {{0, 0}, {0, 3000}};
  ASSERT_OK(setitimer(ITIMER_REAL, &soon, nullptr));
  while (g_count == 0) asm volatile("pause");
  EXPECT_EQ(g_count, 1);
}

TEST_F(SignalTest, ThousandsOfSignalsAndNoneIsLost) {
  Handle(SIGUSR1, Count);
  for (int i = 0; i < 3000; ++i) raise(SIGUSR1);
  EXPECT_EQ(g_count, 3000);
}

TEST_F(SignalTest, ForkKeepsHandlersAndDropsPending) {
  Handle(SIGUSR1, Count);
  Block(SIGUSR1);
  raise(SIGUSR1);
  EXPECT_TRUE(Exited(InChild([] {
    sigset_t pending;
    sigpending(&pending);
    CHECK_CHILD(!sigismember(&pending, SIGUSR1));
    Unblock(SIGUSR1);
    CHECK_CHILD(g_count == 0);
    raise(SIGUSR1);
    return g_count == 1 ? 0 : 1;
  })));
}

TEST_F(SignalTest, DefaultActions) {
  for (int sig : {SIGURG, SIGWINCH, SIGCHLD, SIGCONT}) {
    EXPECT_TRUE(Exited(InChild([=] { return raise(sig); }))) << sig;
  }
  for (int sig : {SIGHUP, SIGINT, SIGALRM, SIGTERM, SIGIO, SIGPWR, SIGVTALRM, SIGSTKFLT, 34, 64}) {
    EXPECT_TRUE(KilledBy(InChild([=] { return kill(getpid(), sig); }), sig)) << sig;
  }
}

}  // namespace
}  // namespace ringwall::test
