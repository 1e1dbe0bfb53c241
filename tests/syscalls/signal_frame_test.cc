// What a handler finds in its frame and what it changes there, wherever the frame lies. Each is done
// many times over: the first calls of a site may go another way than the later ones.
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <xmmintrin.h>

#include <atomic>
#include <thread>

#include "tests/util/test_util.h"

namespace ringwall::test {
namespace {

constexpr int kRounds = 100;
constexpr size_t kPage = 4096;

int g_count;
int g_order[4];
void (*g_edit)(ucontext_t*);
siginfo_t g_info;

void Run(int sig, siginfo_t* info, void* context) {
  if (g_count < 4) g_order[g_count] = sig;
  ++g_count;
  g_info = *info;
  if (g_edit != nullptr) g_edit(static_cast<ucontext_t*>(context));
}

class SignalFrameTest : public ::testing::Test {
 protected:
  void SetUp() override {
    g_count = 0;
    g_edit = nullptr;
  }
  void TearDown() override {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    stack_t off = {};
    off.ss_flags = SS_DISABLE;
    sigaltstack(&off, nullptr);
    for (int sig : {SIGUSR1, SIGUSR2, SIGSEGV, SIGBUS}) signal(sig, SIG_DFL);
  }
};

void Handle(int sig, int flags = 0, void (*handler)(int, siginfo_t*, void*) = Run) {
  struct sigaction sa = {};
  sa.sa_sigaction = handler;
  sa.sa_flags = SA_SIGINFO | flags;
  sigaction(sig, &sa, nullptr);
}

char* Pages(size_t n, int flags = MAP_PRIVATE) {
  void* p = mmap(nullptr, n * kPage, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? nullptr : static_cast<char*>(p);
}

// kill(getpid(), sig) with a stack pointer of one's own; the value of rbx afterwards.
uint64_t KillOn(char* stack, int sig) {
  uint64_t rbx = 42;
  const long pid = getpid();
  asm volatile(
      "mov %%rsp,%%r12\n mov %[stack],%%rsp\n mov $62,%%eax\n syscall\n mov %%r12,%%rsp"
      : "+b"(rbx)
      : [stack] "r"(stack), "D"(pid), "S"(static_cast<long>(sig))
      : "rax", "rcx", "r11", "r12", "memory", "cc");
  return rbx;
}

TEST_F(SignalFrameTest, RegistersEditedByTheHandler) {
  Handle(SIGUSR1);
  g_edit = [](ucontext_t* uc) { uc->uc_mcontext.gregs[REG_RBX] += 100; };
  alignas(16) static char stack[65536];
  for (int i = 0; i < kRounds; ++i) ASSERT_EQ(KillOn(stack + sizeof(stack), SIGUSR1), 142u);
  EXPECT_EQ(g_count, kRounds);
}

TEST_F(SignalFrameTest, ResultEditedByTheHandler) {
  Handle(SIGUSR1);
  g_edit = [](ucontext_t* uc) {
    if (uc->uc_mcontext.gregs[REG_RAX] == 0) uc->uc_mcontext.gregs[REG_RAX] = 77;
  };
  for (int i = 0; i < kRounds; ++i) ASSERT_EQ(kill(getpid(), SIGUSR1), 77);
}

TEST_F(SignalFrameTest, FlagsEditedByTheHandler) {
  Handle(SIGUSR1);
  g_edit = [](ucontext_t* uc) { uc->uc_mcontext.gregs[REG_EFL] ^= 0x8d5; };  // OF SF ZF AF PF CF
  for (int i = 0; i < kRounds; ++i) {
    uint64_t before, after;
    asm volatile(
        "sub $128,%%rsp\n pushfq\n pop %%rbx\n mov $62,%%eax\n syscall\n pushfq\n pop %%r12\n"
        "add $128,%%rsp\n mov %%r12,%[after]"
        : "=&b"(before), [after] "=&r"(after)
        : "D"(static_cast<long>(getpid())), "S"(static_cast<long>(SIGUSR1))
        : "rax", "rcx", "r11", "r12", "memory", "cc");
    ASSERT_EQ((before ^ after) & 0x8d5, 0x8d5u);
  }
  EXPECT_EQ(g_count, kRounds);
}

TEST_F(SignalFrameTest, InstructionPointerEditedByTheHandler) {
  Handle(SIGUSR1);
  // Over the move behind the call.
  g_edit = [](ucontext_t* uc) { uc->uc_mcontext.gregs[REG_RIP] += 7; };
  for (int i = 0; i < kRounds; ++i) {
    uint64_t moved = 1;
    asm volatile("mov $62,%%eax\n syscall\n mov $2,%%rbx\n"  // seven bytes
                 : "+b"(moved)
                 : "D"(static_cast<long>(getpid())), "S"(static_cast<long>(SIGUSR1))
                 : "rax", "rcx", "r11", "memory", "cc");
    ASSERT_EQ(moved, 1u);
  }
}

TEST_F(SignalFrameTest, MaskEditedByTheHandler) {
  Handle(SIGUSR1);
  g_edit = [](ucontext_t* uc) { sigaddset(&uc->uc_sigmask, SIGUSR2); };
  for (int i = 0; i < kRounds; ++i) {
    kill(getpid(), SIGUSR1);
    sigset_t now;
    sigprocmask(SIG_SETMASK, nullptr, &now);
    ASSERT_EQ(sigismember(&now, SIGUSR2), 1);
    ASSERT_EQ(sigismember(&now, SIGUSR1), 0);
    sigdelset(&now, SIGUSR2);
    sigprocmask(SIG_SETMASK, &now, nullptr);
  }
}

// What a handler unblocks in its frame is delivered when it returns.
TEST_F(SignalFrameTest, MaskOpenedByTheHandlerLetsSignalsIn) {
  Handle(SIGUSR1);
  Handle(SIGUSR2, 0, [](int, siginfo_t*, void*) { g_count += 1000; });
  g_edit = [](ucontext_t* uc) { sigdelset(&uc->uc_sigmask, SIGUSR2); };
  sigset_t two;
  sigemptyset(&two);
  sigaddset(&two, SIGUSR2);
  for (int i = 0; i < kRounds; ++i) {
    sigprocmask(SIG_BLOCK, &two, nullptr);
    kill(getpid(), SIGUSR2);
    ASSERT_EQ(g_count, i * 1001);
    kill(getpid(), SIGUSR1);
    ASSERT_EQ(g_count, (i + 1) * 1001);
  }
}

TEST_F(SignalFrameTest, VectorRegisterEditedByTheHandler) {
  Handle(SIGUSR1);
  g_edit = [](ucontext_t* uc) { uc->uc_mcontext.fpregs->_xmm[3].element[0] += 5; };
  for (int i = 0; i < kRounds; ++i) {
    uint32_t out = 0;
    asm volatile("movd %[in],%%xmm3\n mov $62,%%eax\n syscall\n movd %%xmm3,%[out]"
                 : [out] "=&r"(out)
                 : [in] "r"(i), "D"(static_cast<long>(getpid())), "S"(static_cast<long>(SIGUSR1))
                 : "rax", "rcx", "r11", "xmm3", "memory", "cc");
    ASSERT_EQ(out, static_cast<uint32_t>(i) + 5);
  }
}

TEST_F(SignalFrameTest, HandlersStartWithAFreshVectorState) {
  static uint32_t mxcsr, low;
  Handle(SIGUSR1, 0, [](int, siginfo_t*, void*) {
    asm volatile("movd %%xmm7,%0" : "=r"(low));
    mxcsr = _mm_getcsr();
  });
  const uint32_t before = _mm_getcsr();
  for (int i = 0; i < kRounds; ++i) {
    mxcsr = 0, low = 1;
    _mm_setcsr(before ^ 0x6000);  // rounds towards zero
    asm volatile("pcmpeqd %%xmm7,%%xmm7\n mov $62,%%eax\n syscall" ::"D"(static_cast<long>(getpid())),
                 "S"(static_cast<long>(SIGUSR1))
                 : "rax", "rcx", "r11", "xmm7", "memory", "cc");
    const uint32_t after = _mm_getcsr();
    _mm_setcsr(before);
    ASSERT_EQ(mxcsr, 0x1f80u);
    ASSERT_EQ(low, 0u);
    ASSERT_EQ(after, before ^ 0x6000);
  }
}

TEST_F(SignalFrameTest, FaultsEditedOrMendedByTheHandler) {
  static char* page;
  page = Pages(1);
  Handle(SIGSEGV, 0, [](int, siginfo_t* info, void* context) {
    ++g_count;
    g_info = *info;
    auto* uc = static_cast<ucontext_t*>(context);
    if (g_count % 2 == 0) {
      uc->uc_mcontext.gregs[REG_RIP] += 2;  // over the store
    } else {
      mprotect(page, kPage, PROT_READ | PROT_WRITE);
    }
  });
  for (int i = 0; i < kRounds; ++i) {
    page[0] = 7;
    mprotect(page, kPage, PROT_READ);
    asm volatile("movb %%al,(%%rdi)" ::"D"(page), "a"(i) : "memory");
    ASSERT_EQ(g_info.si_addr, page);
    ASSERT_EQ(g_info.si_code, SEGV_ACCERR);
    mprotect(page, kPage, PROT_READ | PROT_WRITE);
    ASSERT_EQ(page[0], i % 2 == 0 ? static_cast<char>(i) : 7);
    ASSERT_EQ(g_count, i + 1);
  }
}

// The calls of the vsyscall page: what they cannot write to is a fault of the page, not an error.
TEST_F(SignalFrameTest, BadPointersGivenToTheVsyscallPageFaultThere) {
  constexpr uintptr_t kVsyscalls = 0xffff'ffff'ff60'0000, kTime = 0x400;
  Handle(SIGSEGV);
  static uintptr_t fault_at;
  g_edit = [](ucontext_t* context) {
    greg_t* const r = context->uc_mcontext.gregs;
    fault_at = static_cast<uintptr_t>(r[REG_RIP]);
    r[REG_RAX] = -5;
    r[REG_RIP] = *reinterpret_cast<greg_t*>(r[REG_RSP]);  // as the page's own ret
    r[REG_RSP] += 8;
  };
  for (int i = 0; i < kRounds; ++i) {
    for (const uintptr_t call : {kVsyscalls, kVsyscalls + kTime}) {
      EXPECT_EQ(reinterpret_cast<long (*)(uintptr_t, uintptr_t)>(call)(1, 0), -5);
      EXPECT_EQ(fault_at, call);
    }
  }
  EXPECT_EQ(g_count, 2 * kRounds);
}

TEST_F(SignalFrameTest, TwoSignalsAtOnceStackTheirFrames) {
  Handle(SIGUSR1);
  Handle(SIGUSR2);
  sigset_t both, old;
  sigemptyset(&both);
  sigaddset(&both, SIGUSR1);
  sigaddset(&both, SIGUSR2);
  for (int i = 0; i < kRounds; ++i) {
    g_count = 0;
    sigprocmask(SIG_BLOCK, &both, nullptr);
    kill(getpid(), SIGUSR2);
    kill(getpid(), SIGUSR1);
    ASSERT_EQ(g_count, 0);
    memset(&old, 0, sizeof(old));
    // The call's output is there, although handlers run before it returns.
    ASSERT_EQ(sigprocmask(SIG_UNBLOCK, &both, &old), 0);
    ASSERT_EQ(sigismember(&old, SIGUSR1), 1);
    ASSERT_EQ(g_count, 2);
    // The lower number's frame is made first, so the other's handler runs first.
    ASSERT_EQ(g_order[0], SIGUSR2);
    ASSERT_EQ(g_order[1], SIGUSR1);
  }
}

TEST_F(SignalFrameTest, OutputIsThereWhenTheHandlerRuns) {
  static sigset_t old;
  static int seen;
  Handle(SIGUSR1, 0, [](int, siginfo_t*, void*) { seen = sigismember(&old, SIGUSR1); });
  sigset_t one;
  sigemptyset(&one);
  sigaddset(&one, SIGUSR1);
  for (int i = 0; i < kRounds; ++i) {
    sigprocmask(SIG_BLOCK, &one, nullptr);
    kill(getpid(), SIGUSR1);
    memset(&old, 0, sizeof(old));
    seen = -1;
    sigprocmask(SIG_UNBLOCK, &one, &old);
    ASSERT_EQ(seen, 1);
  }
}

TEST_F(SignalFrameTest, AlternativeStackIsPutBackFromTheFrame) {
  char* const first = Pages(8);
  char* const second = Pages(8);
  stack_t on = {};
  on.ss_sp = first;
  on.ss_size = 8 * kPage;
  Handle(SIGUSR1);
  static char* other;
  other = second;
  g_edit = [](ucontext_t* uc) { uc->uc_stack.ss_sp = other; };
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_OK(sigaltstack(&on, nullptr));
    kill(getpid(), SIGUSR1);
    stack_t now = {};
    ASSERT_OK(sigaltstack(nullptr, &now));
    ASSERT_EQ(now.ss_sp, second);
  }
  // And by the frame of a handler that has set another meanwhile.
  g_edit = [](ucontext_t*) {
    stack_t mine = {};
    mine.ss_sp = other;
    mine.ss_size = 8 * kPage;
    sigaltstack(&mine, nullptr);
  };
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_OK(sigaltstack(&on, nullptr));
    kill(getpid(), SIGUSR1);
    stack_t now = {};
    ASSERT_OK(sigaltstack(nullptr, &now));
    ASSERT_EQ(now.ss_sp, first);
  }
  munmap(first, 8 * kPage);
  munmap(second, 8 * kPage);
}

TEST_F(SignalFrameTest, AutodisarmedStackComesBack) {
  char* const area = Pages(8);
  stack_t on = {};
  on.ss_sp = area;
  on.ss_size = 8 * kPage;
  on.ss_flags = static_cast<int>(1U << 31);  // SS_AUTODISARM
  ASSERT_OK(sigaltstack(&on, nullptr));
  static int flags;
  Handle(SIGUSR1, SA_ONSTACK);
  g_edit = [](ucontext_t*) {
    stack_t now = {};
    sigaltstack(nullptr, &now);
    flags = now.ss_flags;
  };
  for (int i = 0; i < kRounds; ++i) {
    flags = 0;
    kill(getpid(), SIGUSR1);
    ASSERT_EQ(flags, SS_DISABLE);
    stack_t now = {};
    ASSERT_OK(sigaltstack(nullptr, &now));
    ASSERT_EQ(now.ss_sp, area);
  }
  stack_t off = {};
  off.ss_flags = SS_DISABLE;
  sigaltstack(&off, nullptr);
  munmap(area, 8 * kPage);
}

TEST_F(SignalFrameTest, FramesAcrossPagesAndAtTheirEdge) {
  char* const area = Pages(8);
  Handle(SIGUSR1);
  for (size_t back = 0; back < kPage; back += 64) {
    ASSERT_EQ(KillOn(area + 8 * kPage - back, SIGUSR1), 42u);
  }
  EXPECT_EQ(g_count, static_cast<int>(kPage / 64));
  munmap(area, 8 * kPage);
}

// The frame begins in a page that is there and ends in one that is not, or the reverse.
TEST_F(SignalFrameTest, NoRoomForTheFrameIsASegmentationFault) {
  for (const bool on_stack : {false, true}) {
    for (size_t room : {size_t{0}, size_t{200}, size_t{600}, size_t{1500}}) {
      const int status = InChild([&] {
        char* const area = Pages(2);
        char* const alt = Pages(8);
        munmap(area, kPage);
        stack_t on = {};
        on.ss_sp = alt;
        on.ss_size = 8 * kPage;
        sigaltstack(&on, nullptr);
        Handle(SIGUSR1);
        if (on_stack) {
          Handle(SIGSEGV, SA_ONSTACK, [](int, siginfo_t* info, void*) {
            _exit(info->si_code == SI_KERNEL ? 7 : 8);
          });
        }
        KillOn(area + kPage + room, SIGUSR1);
        return 1;
      });
      if (on_stack) {
        EXPECT_TRUE(Exited(status, 7)) << room;
      } else {
        EXPECT_TRUE(KilledBy(status, SIGSEGV)) << room;
      }
    }
  }
}

// A handler of SIGSEGV without a stack for its frame cannot run.
TEST_F(SignalFrameTest, NoRoomForTheFaultsFrameKills) {
  EXPECT_TRUE(KilledBy(InChild([] {
    Handle(SIGSEGV);
    asm volatile("mov $0x100,%%rsp\n movb $1,(%%rsp)" ::: "memory");
    return 1;
  }), SIGSEGV));
}

// The mask and the registers of before, when the frame found no room.
TEST_F(SignalFrameTest, NothingOfAFailedFrameStays) {
  EXPECT_TRUE(Exited(InChild([] {
    static uint64_t rsp, rbx;
    static char* bad;
    char* const alt = Pages(8);
    bad = Pages(1) + 128;
    stack_t on = {};
    on.ss_sp = alt;
    on.ss_size = 8 * kPage;
    sigaltstack(&on, nullptr);
    munmap(bad - 128 - kPage, kPage);
    Handle(SIGUSR1);
    Handle(SIGSEGV, SA_ONSTACK, [](int, siginfo_t*, void* context) {
      auto* uc = static_cast<ucontext_t*>(context);
      rsp = static_cast<uint64_t>(uc->uc_mcontext.gregs[REG_RSP]);
      rbx = static_cast<uint64_t>(uc->uc_mcontext.gregs[REG_RBX]);
      CHECK_CHILD(uc->uc_mcontext.gregs[REG_RAX] == 0);
      CHECK_CHILD(sigismember(&uc->uc_sigmask, SIGUSR1) == 0);
      ++g_count;
    });
    uint32_t xmm = 0;
    for (int i = 0; i < kRounds; ++i) {
      asm volatile("movd %[i],%%xmm5" ::[i] "r"(i) : "xmm5");
      CHECK_CHILD(KillOn(bad, SIGUSR1) == 42);
      asm volatile("movd %%xmm5,%0" : "=r"(xmm));
      CHECK_CHILD(rsp == reinterpret_cast<uint64_t>(bad) && rbx == 42);
    }
    CHECK_CHILD(g_count == kRounds);
    return 0;
  })));
}

// The frame is where another thread writes all the time: whatever comes of it is the program's own.
TEST_F(SignalFrameTest, FrameRewrittenMeanwhileHarmsNobodyElse) {
  for (int seed = 0; seed < 4; ++seed) {
    const int status = InChild([&] {
      static char* area;
      area = Pages(4, MAP_SHARED);
      Handle(SIGUSR1);
      std::atomic<bool> stop{false};
      std::thread writer([&] {
        uint32_t x = 12345 + static_cast<uint32_t>(seed);
        while (!stop.load(std::memory_order_relaxed)) {
          x = x * 1664525 + 1013904223;
          // The xstate's header and notes, MXCSR, flags, masks: all but where it goes on.
          area[3 * kPage + x % 900 + 64] = static_cast<char>(x >> 24);
        }
      });
      alarm(20);
      for (int i = 0; i < 3000; ++i) KillOn(area + 4 * kPage, SIGUSR1);
      stop = true;
      writer.join();
      return 0;
    });
    EXPECT_TRUE(WIFEXITED(status) || WIFSIGNALED(status));
  }
  EXPECT_EQ(kill(getpid(), 0), 0);
}

// A frame that is returned to twice, and by a jump out of the handler never.
TEST_F(SignalFrameTest, HandlersLeftByAJump) {
  static sigjmp_buf back;
  Handle(SIGUSR1, 0, [](int, siginfo_t*, void*) {
    ++g_count;
    siglongjmp(back, 1);
  });
  Handle(SIGUSR2);
  for (int i = 0; i < kRounds; ++i) {
    if (sigsetjmp(back, 1) == 0) {
      kill(getpid(), SIGUSR1);
      FAIL();
    }
    kill(getpid(), SIGUSR2);
    ASSERT_EQ(g_count, 2 * (i + 1));
  }
}

TEST_F(SignalFrameTest, HandlersInHandlers) {
  static int depth;
  Handle(SIGUSR1, SA_NODEFER, [](int, siginfo_t*, void*) {
    ++g_count;
    if (++depth < 5) kill(getpid(), SIGUSR1);
    --depth;
  });
  for (int i = 0; i < kRounds; ++i) {
    kill(getpid(), SIGUSR1);
    ASSERT_EQ(g_count, 5 * (i + 1));
  }
}

// The site that a frame returns to is new to the program, or gone, when it returns.
TEST_F(SignalFrameTest, CodeThatChangesWhileAHandlerRuns) {
  // mov $62,%eax; syscall; ret, called with its arguments in place.
  static const unsigned char kCode[] = {0xb8, 62, 0, 0, 0, 0x0f, 0x05, 0xc3};
  static char* code;
  code = Pages(1);
  static bool rewrite;
  Handle(SIGUSR1);
  g_edit = [](ucontext_t*) {
    if (!rewrite) return;
    mprotect(code, kPage, PROT_READ | PROT_WRITE);
    memcpy(code, kCode, sizeof(kCode));
    mprotect(code, kPage, PROT_READ | PROT_EXEC);
  };
  memcpy(code, kCode, sizeof(kCode));
  mprotect(code, kPage, PROT_READ | PROT_EXEC);
  const auto call = reinterpret_cast<long (*)(long, long)>(code);
  for (int i = 0; i < kRounds; ++i) {
    rewrite = i % 20 == 19;
    ASSERT_EQ(call(getpid(), SIGUSR1), 0);
    ASSERT_EQ(g_count, i + 1);
  }
  munmap(code, kPage);
}

TEST_F(SignalFrameTest, AnotherThreadsMaskAndSignalsWhileHandlersReturn) {
  std::atomic<bool> stop{false};
  static std::atomic<int> count;
  count = 0;
  Handle(SIGUSR1, 0, [](int, siginfo_t*, void*) { count.fetch_add(1); });
  std::atomic<pid_t> tid{0};
  std::thread busy([&] {
    tid = static_cast<pid_t>(syscall(SYS_gettid));
    while (!stop.load()) kill(getpid(), 0);
  });
  while (tid == 0) std::this_thread::yield();
  for (int i = 0; i < 500; ++i) {
    const int before = count;
    syscall(SYS_tgkill, getpid(), tid.load(), SIGUSR1);
    while (count == before) std::this_thread::yield();
  }
  stop = true;
  busy.join();
  EXPECT_EQ(count, 500);
}

}  // namespace
}  // namespace ringwall::test
