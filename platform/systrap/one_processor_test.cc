// Hand-overs where the Sentry's thread and the guest's share a processor and so yield to each other: that
// each answer reaches the guest whatever one of the two does between them.
#include <sched.h>
#include <sys/syscall.h>

#include <thread>

#include "platform/testing/platform_fixture.h"
#include "sentry/base/thread_place.h"

namespace ringwall {
namespace {

class OneProcessorTest : public PlatformTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(sched_getaffinity(0, sizeof all_, &all_), 0);
    const cpu_set_t one = OneProcessor(static_cast<size_t>(sched_getcpu()));
    ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    PlatformTest::SetUp();
  }
  void TearDown() override {
    as_ = nullptr;
    platform_ = nullptr;
    EXPECT_EQ(sched_setaffinity(0, sizeof all_, &all_), 0);
  }
  // umask for ever, each with what the last one returned.
  static Code EchoLoop() {
    return Code()
        .Bytes({0xb8, SYS_umask, 0, 0, 0})
        .Syscall()
        .Bytes({0x48, 0x89, 0xc7})  // mov %rax, %rdi
        .JumpBack(10);
  }
  // The same after `turns` of a loop.
  static Code ComputingLoop(int turns) {
    return Code()
        .Bytes({0xb9, turns & 0xff, turns >> 8 & 0xff, turns >> 16 & 0xff, turns >> 24})
        .Bytes({0xff, 0xc9, 0x75, 0xfc})  // 1: dec %ecx; jnz 1b
        .Bytes({0xb8, SYS_umask, 0, 0, 0})
        .Syscall()
        .Bytes({0x48, 0x89, 0xc7})
        .JumpBack(19);
  }
  // Answers `calls` calls and looks that each answer arrives; `between` runs before each.
  template <typename Between>
  static void Answer(Context& c, uint64_t calls, Between between) {
    for (uint64_t i = 0; i < calls; ++i) {
      ASSERT_EQ(c.Switch().kind, EventKind::kSyscall);
      ASSERT_EQ(c.regs().orig_rax, static_cast<uint64_t>(SYS_umask));
      if (i != 0) {
        ASSERT_EQ(c.regs().rdi, i - 1);
      }
      between(i);
      c.regs().rax = i;
    }
  }

  cpu_set_t all_;
};

INSTANTIATE_TEST_SUITE_P(Systrap, OneProcessorTest, testing::Values("systrap"), PlatformName);

TEST_P(OneProcessorTest, EachAnswerArrives) {
  auto c = Start(*as_, EchoLoop());
  Answer(*c, 5000, [](uint64_t) {});
}

TEST_P(OneProcessorTest, AlsoAfterSleeps) {
  auto c = Start(*as_, EchoLoop());
  // Seldom enough that the stub goes on yielding, and always.
  for (const uint64_t every : {16u, 1u}) {
    Answer(*c, 1000, [&](uint64_t i) {
      if (i % every == 0) c->BeforeSleep();
    });
    c->regs().rax = 0;
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
  }
}

TEST_P(OneProcessorTest, AlsoOfAGuestThatComputes) {
  auto c = Start(*as_, ComputingLoop(5'000'000));
  Answer(*c, 10, [](uint64_t) {});
}

TEST_P(OneProcessorTest, AlsoBesideAnotherPair) {
  RefPtr<AddressSpace> space = NewSpace();
  auto a = Start(*as_, EchoLoop()), b = Start(*space, EchoLoop());
  std::thread other([&] { Answer(*b, 2000, [](uint64_t) {}); });
  Answer(*a, 2000, [](uint64_t) {});
  other.join();
}

TEST_P(OneProcessorTest, AKickReachesAGuestThatWaits) {
  auto c = Start(*as_, EchoLoop());
  Answer(*c, 100, [](uint64_t) {});
  c->Interrupt();
  EventKind kind = c->Switch().kind;
  for (int i = 0; i < 2 && kind == EventKind::kSyscall; ++i) kind = c->Switch().kind;
  EXPECT_EQ(kind, EventKind::kInterrupted);
}

// Where both may spin, the host may leave them on one processor all the same.
class BesideTest : public PlatformTest {};

INSTANTIATE_TEST_SUITE_P(Systrap, BesideTest, testing::Values("systrap"), PlatformName);

TEST_P(BesideTest, EachAnswerArrivesWhereverTheyAre) {
  cpu_set_t all;
  ASSERT_EQ(sched_getaffinity(0, sizeof all, &all), 0);
  const cpu_set_t one = OneProcessor(static_cast<size_t>(sched_getcpu()));
  auto c = Start(*as_, Code().Bytes({0xb8, SYS_umask, 0, 0, 0}).Syscall().Bytes({0x48, 0x89, 0xc7}).JumpBack(10));
  for (uint64_t i = 0; i < 3000; ++i) {
    // The guest's thread is sent here and set free, and so is this one.
    if (i % 100 == 0) {
      ASSERT_TRUE(c->SetAffinity(i % 200 == 0 ? one : all).ok());
    }
    if (i % 300 == 0) {
      ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
    }
    if (i % 300 == 200) {
      ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
    }
    ASSERT_EQ(c->Switch().kind, EventKind::kSyscall);
    ASSERT_EQ(c->regs().orig_rax, static_cast<uint64_t>(SYS_umask));
    if (i != 0) {
      ASSERT_EQ(c->regs().rdi, i - 1);
    }
    c->regs().rax = i;
    if (i % 7 == 0) c->BeforeSleep();
  }
  EXPECT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
}

}  // namespace
}  // namespace ringwall
