// Forged signal frames, the registers and masks they carry, and segment registers.
#include <immintrin.h>
#include <sched.h>
#include <sys/auxv.h>

#include "tests/security/hostile.h"

namespace ringwall::test {
namespace {

// What lies at the stack pointer when rt_sigreturn is called: the rest of an rt_sigframe.
struct Frame {
  ucontext_t uc;
  siginfo_t info;
  alignas(64) unsigned char fp[4096];
};

void Sigreturn(const void* frame) {
  asm volatile("mov %0,%%rsp\n mov $15,%%eax\n syscall\n ud2" ::"r"(frame) : "memory");
}

// Takes a true frame as a base: what a handler got.
ucontext_t g_true;
void TakeFrame() {
  struct sigaction sa = {};
  sa.sa_sigaction = [](int, siginfo_t*, void* c) { memcpy(&g_true, c, sizeof(g_true)); };
  sa.sa_flags = SA_SIGINFO;
  sigaction(SIGUSR1, &sa, nullptr);
  raise(SIGUSR1);
}

// Runs a child that returns through the frame that `forge` makes from a true one.
template <typename F>
void ExpectHarmless(const char* what, F forge) {
  EXPECT_TRUE(AimFailed(RunHostile([&] {
    static Frame frame;
    static char stack[65536];
    TakeFrame();
    frame.uc = g_true;
    frame.uc.uc_mcontext.fpregs = nullptr;
    frame.uc.uc_mcontext.gregs[REG_RSP] = reinterpret_cast<greg_t>(stack + sizeof(stack) - 8);
    frame.uc.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(+[] { _exit(kFailed); });
    forge(frame);
    Sigreturn(&frame);
    return kFailed;
  }, 3000))) << what;
}

TEST(ForgedFrameTest, PlainOneWorks) {
  ExpectHarmless("plain", [](Frame&) {});
}

TEST(ForgedFrameTest, SelectorsAndFlagsOfTheKernel) {
  for (uint64_t cs : {0x10ull, 0x08ull, 0x23ull, 0x33ull, 0x0ull, 0xffffull, 0x7ull, 0x0full}) {
    for (uint64_t ss : {0x18ull, 0x2bull, 0x0ull, 0x10ull}) {
      ExpectHarmless("cs and ss", [=](Frame& f) {
        f.uc.uc_mcontext.gregs[REG_CSGSFS] = static_cast<greg_t>(cs | ss << 48);
      });
    }
  }
  ExpectHarmless("iopl, nt, tf, ac, vm", [](Frame& f) { f.uc.uc_mcontext.gregs[REG_EFL] = 0x3ffffffff; });
  ExpectWell();
}

TEST(ForgedFrameTest, InstructionAndStackPointersAnywhere) {
  std::vector<uint64_t> places = {0, 1, 0x8000000000000000ull, 0xffffffff81000000ull, 0x7ffffffff000,
                                  0xffffffffff600000ull, getauxval(AT_SYSINFO_EHDR)};
  for (uint64_t p : SafePlaces()) places.push_back(p);
  for (uint64_t p : places) {
    ExpectHarmless("rip", [=](Frame& f) { f.uc.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(p); });
    ExpectHarmless("rsp", [=](Frame& f) { f.uc.uc_mcontext.gregs[REG_RSP] = static_cast<greg_t>(p); });
  }
  ExpectWell();
}

TEST(ForgedFrameTest, FloatingPointStateAnywhereAndOfAnySize) {
  std::vector<uint64_t> places = {8, 0x8000000000000000ull, 0xffffffff81000000ull, 0x7ffffffff000 - 64};
  for (uint64_t p : SafePlaces()) places.push_back(p);
  for (uint64_t p : places) {
    ExpectHarmless("fpregs", [=](Frame& f) {
      f.uc.uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(p);
    });
  }
  for (uint32_t size : {0u, 1u, 511u, 576u, 2696u, 4096u, 0x7fffffffu, 0xffffffffu}) {
    ExpectHarmless("xstate size", [=](Frame& f) {
      memset(f.fp, 0xff, sizeof(f.fp));
      const uint32_t magic = 0x46505853;
      memcpy(f.fp + 464, &magic, 4);
      memcpy(f.fp + 468, &size, 4);
      memcpy(f.fp + 480, &size, 4);
      f.uc.uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(f.fp);
      f.uc.uc_flags = 7;
    });
  }
  ExpectHarmless("bad mxcsr", [](Frame& f) {
    memset(f.fp, 0, sizeof(f.fp));
    memset(f.fp + 24, 0xff, 8);
    f.uc.uc_mcontext.fpregs = reinterpret_cast<fpregset_t>(f.fp);
  });
  ExpectWell();
}

TEST(ForgedFrameTest, FrameInOddPlaces) {
  std::vector<uint64_t> places = {0, 8, 0x8000000000000000ull, 0xffffffff81000000ull, 0x7ffffffff000};
  for (uint64_t p : SafePlaces()) places.push_back(p);
  for (uint64_t p : places) {
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      Sigreturn(reinterpret_cast<void*>(p));
      return kFailed;
    }, 3000))) << std::hex << p;
  }
  ExpectWell();
}

TEST(ForgedFrameTest, RandomFrames) {
  uint64_t seed = 88172645463325252ull;
  for (int round = 0; round < 150; ++round) {
    ExpectHarmless("random", [&](Frame& f) {
      auto* words = reinterpret_cast<uint64_t*>(&f.uc);
      for (size_t i = 0; i < sizeof(f.uc) / 8; ++i) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        if ((seed & 3) == 0) words[i] = seed & 4 ? seed : RW_STUB_START + (seed & 0xffffffff);
      }
    });
    seed += 0x9e3779b97f4a7c15ull;
  }
  ExpectWell();
}

// The kernel's own frame, returned to where it belongs, with anything else in it.
TEST(ForgedFrameTest, TrueFramesFilledWithNonsense) {
  static uint64_t seed;
  static int width;
  for (int round = 0; round < 60; ++round) {
    EXPECT_TRUE(NeverReached(RunHostile([&] {
      seed = 88172645463325252ull + static_cast<uint64_t>(round) * 0x9e3779b97f4a7c15ull;
      width = round % 3;
      struct sigaction sa = {};
      sa.sa_sigaction = [](int, siginfo_t*, void* c) {
        auto* uc = static_cast<ucontext_t*>(c);
        const ucontext_t was = *uc;
        const auto scribble = [](void* at, size_t size, uint64_t often) {
          auto* words = static_cast<uint64_t*>(at);
          for (size_t i = 0; i < size / 8; ++i) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            if (seed % often == 0) words[i] = seed & 64 ? seed : RW_STUB_START + (seed & 0xffffffff);
          }
        };
        auto* fp = reinterpret_cast<char*>(was.uc_mcontext.fpregs);
        if (width != 0) scribble(fp, 2048, 200);
        if (width != 1) scribble(&uc->uc_mcontext, sizeof(uc->uc_mcontext), 8);
        scribble(&uc->uc_sigmask, 8, 2);
        uc->uc_mcontext.gregs[REG_RIP] = was.uc_mcontext.gregs[REG_RIP];
        if (width != 2) uc->uc_mcontext.fpregs = was.uc_mcontext.fpregs;
        if (seed % 4 != 0) {
          uc->uc_mcontext.gregs[REG_RSP] = was.uc_mcontext.gregs[REG_RSP];
          uc->uc_mcontext.gregs[REG_RBP] = was.uc_mcontext.gregs[REG_RBP];
        }
      };
      sa.sa_flags = SA_SIGINFO;
      sigaction(SIGUSR1, &sa, nullptr);
      for (int i = 0; i < 40; ++i) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, nullptr);
        raise(SIGUSR1);
      }
      return kFailed;
    }, 3000)));
  }
  ExpectWell();
}

TEST(ForgedFrameTest, MaskOfEverythingDoesNotSaveFromAKill) {
  for (bool busy : {true, false}) {
    Pipe ready;
    const pid_t pid = fork();
    if (pid == 0) {
      static Frame frame;
      static char stack[65536];
      static int fd;
      static bool spin;
      fd = ready.writer.get();
      spin = busy;
      TakeFrame();
      frame.uc = g_true;
      frame.uc.uc_mcontext.fpregs = nullptr;
      memset(&frame.uc.uc_sigmask, 0xff, sizeof(frame.uc.uc_sigmask));
      frame.uc.uc_mcontext.gregs[REG_RSP] = reinterpret_cast<greg_t>(stack + sizeof(stack) - 8);
      frame.uc.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(+[] {
        if (write(fd, "x", 1) != 1) _exit(1);
        while (spin) asm volatile("pause");
        for (;;) pause();
      });
      Sigreturn(&frame);
    }
    ready.writer.Reset();
    char c;
    EXPECT_EQ(read(ready.reader.get(), &c, 1), 1);
    usleep(5000);
    ASSERT_OK(kill(pid, SIGKILL));
    int status = -1;
    const int64_t end = NowMs() + 5000;
    pid_t got;
    while ((got = waitpid(pid, &status, WNOHANG)) == 0 && NowMs() < end) usleep(500);
    EXPECT_EQ(got, pid) << "a spinning task with a forged mask outlives SIGKILL";
    EXPECT_TRUE(KilledBy(status, SIGKILL));
  }
  ExpectWell();
}

TEST(ForgedFrameTest, MaskOfEverythingDoesNotStopTheOthersFromStoppingIt) {
  // SIGSTOP, group exit by another thread and exec by another thread need the thread to be caught.
  EXPECT_TRUE(Exited(RunHostile([] {
    static volatile bool spinning;
    static Frame frame;
    alignas(16) static char stacks[2][65536];
    frame.uc.uc_mcontext.gregs[REG_CSGSFS] = 0x002b000000000033;
    frame.uc.uc_mcontext.gregs[REG_EFL] = 0x202;
    frame.uc.uc_mcontext.gregs[REG_RSP] = reinterpret_cast<greg_t>(stacks[0] + 65536 - 8);
    memset(&frame.uc.uc_sigmask, 0xff, sizeof(frame.uc.uc_sigmask));
    frame.uc.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(+[] {
      spinning = true;
      for (;;) asm volatile("pause");
    });
    // A thread that blocks all through a forged frame and spins; then this thread exits the group.
    const int tid = clone([](void*) {
      Sigreturn(&frame);
      return 0;
    }, stacks[1] + 65536, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM,
                          nullptr);
    while (!spinning) usleep(100);
    _exit(tid > 0 ? 5 : 6);
    return 7;
  }), 5));
  ExpectWell();
}

TEST(SegmentTest, BasesAnywhereThenCalls) {
  std::vector<uint64_t> places = {0, 8, 0x7ffffffff000, 0x123456789000};
  for (uint64_t p : SafePlaces()) places.push_back(p);
  for (uint64_t p : places) {
    for (int code : {0x1001 /* ARCH_SET_GS */, 0x1002 /* ARCH_SET_FS */}) {
      EXPECT_TRUE(AimFailed(RunHostile([=] {
        // Without libc: with a foreign FS its wrappers cannot even set errno.
        long r, pid = 0;
        asm volatile("syscall" : "=a"(r) : "0"(158L), "D"((long)code), "S"(p) : "rcx", "r11", "memory");
        for (int i = 0; i < 40; ++i) {
          asm volatile("syscall" : "=a"(pid) : "0"(39L) : "rcx", "r11", "memory");
        }
        asm volatile("syscall" : "=a"(r) : "0"(231L), "D"(pid > 0 ? 0L : 1L) : "rcx", "r11", "memory");
        return kFailed;
      }, 3000))) << std::hex << code << " " << p;
    }
  }
  ExpectWell();
}

__attribute__((target("fsgsbase"))) void WriteGsBase(uint64_t v) { _writegsbase_u64(v); }

TEST(SegmentTest, BaseWrittenByInstruction) {
  if ((getauxval(AT_HWCAP2) & 2) == 0) GTEST_SKIP() << "no FSGSBASE";
  std::vector<uint64_t> places = {0, 0x123456789000};
  for (uint64_t p : SafePlaces()) places.push_back(p);
  for (uint64_t p : places) {
    const int status = RunHostile([=] {
      const pid_t before = getpid();
      WriteGsBase(p);
      for (int i = 0; i < 40; ++i) {
        if (syscall(SYS_getpid) != before || syscall(SYS_getppid) <= 0) return 1;
      }
      return InChild([] { return 0; });
    }, 3000);
    // The top 4 GiB hold what systrap maps for itself: a base there is taken for its own, and the
    // forger may pay with its life. No program has memory there.
    const bool reserved = Inside() && p >> 32 == 0x7fff;
    EXPECT_TRUE(reserved ? AimFailed(status) : Exited(status)) << std::hex << p;
  }
  EXPECT_TRUE(AimFailed(RunHostile([] {
    WriteGsBase(0x8000000000000000ull);
    return kFailed;
  })));
  ExpectWell();
}

TEST(SegmentTest, SelectorsOfAllKinds) {
  for (uint16_t sel : {0, 3, 0x23, 0x2b, 0x33, 0x53, 0x5b, 0x63, 0x7b, 0x10, 0x18, 0x07, 0xffff}) {
    for (int which = 0; which < 4; ++which) {
      EXPECT_TRUE(AimFailed(RunHostile([=] {
        switch (which) {
          case 0: asm volatile("mov %0,%%ds" ::"r"(sel)); break;
          case 1: asm volatile("mov %0,%%es" ::"r"(sel)); break;
          case 2: asm volatile("mov %0,%%gs" ::"r"(sel)); break;
          case 3: asm volatile("mov %0,%%ss" ::"r"(sel)); break;
        }
        for (int i = 0; i < 5; ++i) {
          if (syscall(SYS_getppid) <= 0) return 1;
        }
        signal(SIGUSR1, [](int) {});
        raise(SIGUSR1);
        return kFailed;
      }, 3000))) << sel << " in " << which;
    }
  }
  ExpectWell();
}

TEST(SegmentTest, LocalDescriptorTableGivesNothing) {
  EXPECT_TRUE(AimFailed(RunHostile([] {
    struct {
      uint32_t entry, base, limit, flags;
    } d = {0, 0, 0xfffff, 0x51};
    const long r = syscall(SYS_modify_ldt, 1, &d, sizeof(d));
    return r == 0 && Inside() ? kReached : kFailed;
  })));
}

TEST(StackPointerTest, AnywhereDuringCallsAndSignals) {
  std::vector<uint64_t> places = {0, 8, 0x8000000000000000ull, 0xffffffff81000000ull, 0x7ffffffff000};
  for (uint64_t p : SafePlaces()) places.push_back(p + 0x800);
  for (uint64_t p : places) {
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      signal(SIGUSR1, [](int) {});
      const long us = getpid();
      long r, last;
      asm volatile(
          "mov %%rsp,%%rbx\n mov %[sp],%%rsp\n"
          "mov $39,%%eax\n syscall\n mov $110,%%eax\n syscall\n mov %%rax,%[last]\n"
          "mov $62,%%eax\n mov %[us],%%rdi\n mov $10,%%esi\n syscall\n"
          "mov %%rbx,%%rsp\n"
          : "=&a"(r), [last] "=&r"(last)
          : [sp] "r"(p), [us] "r"(us)
          : "rbx", "rcx", "rdi", "rsi", "r11", "memory");
      return last > 0 ? kFailed : 1;
    }, 3000))) << std::hex << p;
  }
  ExpectWell();
}

TEST(RseqTest, DescriptorIntoTheStub) {
  for (uint64_t place : SafePlaces()) {
    EXPECT_TRUE(AimFailed(RunHostile([=] {
      static struct alignas(32) {
        uint32_t cpu_start, cpu;
        uint64_t cs;
        uint32_t flags, pad[3];
      } area;
      static struct alignas(32) {
        uint32_t version, flags;
        uint64_t start, length, abort;
      } cs;
      syscall(334, &area, 32, 0, 0x53053053);
      cs = {0, 0, 0, ~0ull, place};
      area.cs = reinterpret_cast<uint64_t>(&cs);
      for (int i = 0; i < 200; ++i) sched_yield();
      area.cs = place;
      for (int i = 0; i < 200; ++i) sched_yield();
      return kFailed;
    }, 3000))) << std::hex << place;
  }
  ExpectWell();
}

}  // namespace
}  // namespace ringwall::test
