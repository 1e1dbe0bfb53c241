// The memory thread and the guest threads that wake it: nobody keeps it from its orders, and who tries
// has only itself to wait for.
#include <linux/futex.h>
#include <pthread.h>
#include <sys/time.h>

#include "tests/security/hostile.h"

namespace ringwall::test {
namespace {

// System-call instructions of the stub's functions, from where some futex calls are allowed. Behind them
// are the ways back, which lead out of the stub at once.
std::vector<uint64_t> StubCalls() {
  std::vector<uint64_t> places;
  if (!Inside()) return places;
  CatchFaults();
  for (uint64_t page = RW_STUB_TEXT; page < RW_STUB_TEXT + 0x8000; page += 4096) {
    if (!Readable(page)) continue;
    const auto* p = reinterpret_cast<const unsigned char*>(page);
    for (int i = 0; i < 4095; ++i) {
      const bool returns = i < 4092 && (p[i + 2] == 0xc3 || (p[i + 2] == 0x5b && p[i + 3] == 0xc3));
      if (p[i] == 0x0f && p[i + 1] == 0x05 && returns) places.push_back(page + static_cast<uint64_t>(i));
    }
  }
  for (int sig : {SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS, SIGALRM}) signal(sig, SIG_DFL);
  return places;
}

void JumpToFutex(uint64_t place, uint64_t word, long op, uint64_t other) {
  if (sigsetjmp(g_escape, 1) != 0) return;
  register uint64_t r10 asm("r10") = 1;
  register uint64_t r8 asm("r8") = other;
  register uint64_t r9 asm("r9") = 1;
  asm volatile("jmp *%[place]" ::[place] "c"(place), "a"(static_cast<long>(SYS_futex)), "D"(word),
               "S"(op), "d"(1L), "r"(r10), "r"(r8), "r"(r9)
               : "memory", "rbx", "r11", "r12", "r13", "r14", "r15");
}

// Orders are still carried out: memory comes, changes and goes.
bool MemoryWorks() {
  for (int i = 0; i < 10; ++i) {
    void* m = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED) return false;
    *static_cast<volatile char*>(m) = 1;
    if (mprotect(m, 8192, PROT_READ) != 0 || munmap(m, 8192) != 0) return false;
  }
  return true;
}

TEST(OrdersTest, TheMemoryThreadCannotBeMovedAway) {
  constexpr long kOps[] = {FUTEX_WAIT,    FUTEX_WAKE,        FUTEX_REQUEUE,     FUTEX_CMP_REQUEUE,
                           FUTEX_WAKE_OP, FUTEX_WAIT_BITSET, FUTEX_WAKE_BITSET, FUTEX_LOCK_PI,
                           FUTEX_CMP_REQUEUE_PI, FUTEX_WAIT_REQUEUE_PI};
  static uint32_t own[1024];
  const std::vector<uint64_t> places = StubCalls();
  EXPECT_EQ(places.empty(), !Inside());
  for (const uint64_t place : places) {
    for (const uint64_t word : {uint64_t{RW_STUB_COMMAND} + RW_CMD_SEQ, uint64_t{RW_STUB_REPLY} + RW_REPLY_DONE,
                                uint64_t{RW_STUB_REPLY} + RW_REPLY_BELL}) {
      const int status = RunHostile([&] {
        CatchFaults();
        for (const long op : kOps) {
          const itimerval soon = {{}, {0, 300000}}, never = {};
          setitimer(ITIMER_REAL, &soon, nullptr);
          JumpToFutex(place, word, op, reinterpret_cast<uint64_t>(own));
          setitimer(ITIMER_REAL, &never, nullptr);
        }
        return MemoryWorks() ? kFailed : kReached;
      }, 5000);
      EXPECT_TRUE(NeverReached(status)) << std::hex << place;
      EXPECT_FALSE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
          << "hangs after a futex call at " << std::hex << place;
    }
  }
  ExpectWell();
}

// Orders by the dozen while another thread spoils the stack and the words of those who pass them on.
TEST(OrdersTest, SpoiledHelpersHoldUpNobodyElse) {
  if (!Inside()) GTEST_SKIP() << "there are no regions";
  for (int round = 0; round < 6; ++round) {
    const pid_t pid = fork();
    if (pid == 0) {
      pthread_t thread;
      const auto spoil = [](void*) -> void* {
        CatchFaults();
        for (uint32_t x = 1;; x = x * 1664525 + 1013904223) {
          // The stubs' stacks, and the words that hand over.
          const uint64_t at = RW_STUB_REGIONS + (x >> 8) % 2 * RW_REGION_SIZE +
                              ((x & 1) != 0 ? 0x2000 + (x >> 12) % 0x1000 : (x >> 12) % 0x40);
          Survives([=] { *reinterpret_cast<volatile uint8_t*>(at) = static_cast<uint8_t>(x >> 24); });
          for (int i = 0; i < 200; ++i) asm volatile("pause");
        }
      };
      pthread_create(&thread, nullptr, spoil, nullptr);
      for (;;) MemoryWorks();
    }
    // The one who looks at it takes the lock that its orders are given under.
    const std::string maps = "/proc/" + std::to_string(pid) + "/maps";
    const int64_t start = NowMs();
    for (int i = 0; i < 20; ++i) {
      ReadFile(maps);
      usleep(1000);
    }
    EXPECT_LT(NowMs() - start, 8000);
    kill(pid, SIGKILL);
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
  }
  ExpectWell();
}

// The word that the memory thread sleeps on is set back to what it was before each order, and the hint that it
// sleeps is taken away: nobody wakes it but who waits for the answer.
TEST(OrdersTest, AForgedBellLosesNoOrder) {
  if (!Inside()) GTEST_SKIP() << "there is no such word";
  const int status = RunHostile([] {
    pthread_t thread;
    const auto spoil = [](void*) -> void* {
      CatchFaults();
      for (;;) {
        Survives([] {
          auto* const bell = reinterpret_cast<volatile uint32_t*>(RW_STUB_REPLY + RW_REPLY_BELL);
          auto* const sleeping = reinterpret_cast<volatile uint32_t*>(RW_STUB_REPLY + RW_REPLY_SLEEPING);
          const uint32_t before = *bell;
          for (int i = 0; i < 500; ++i) *sleeping = 0;
          *bell = before;
        });
      }
    };
    pthread_create(&thread, nullptr, spoil, nullptr);
    for (int i = 0; i < 5; ++i) {
      if (!MemoryWorks()) return kReached;
    }
    return kFailed;
  }, 30000);
  EXPECT_TRUE(AimFailed(status));
  ExpectWell();
}

}  // namespace
}  // namespace ringwall::test
