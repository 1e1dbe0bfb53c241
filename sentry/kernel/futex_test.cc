#include "sentry/kernel/futex.h"

#include <gtest/gtest.h>
#include <linux/futex.h>
#include <sys/mman.h>

#include <set>

#include "sentry/mm/testing/fake_address_space.h"
#include "sentry/mm/testing/memory_file.h"

namespace ringwall {
namespace {

using testing::FakePlatform;
using testing::MemoryFile;

constexpr uint32_t kAll = FUTEX_BITSET_MATCH_ANY;
constexpr int kRw = PROT_READ | PROT_WRITE;

class TestWaiter final : public FutexWaiter {
 public:
  void OnWake() override { ++wakes; }
  int wakes = 0;
};

class FutexTest : public ::testing::Test {
 protected:
  FutexTest() : mm_(std::move(MemoryManager::Create(platform_).value())) {
    private_ = Map(MAP_PRIVATE | MAP_ANONYMOUS);
    shared_ = Map(MAP_SHARED | MAP_ANONYMOUS);
  }
  GuestAddr Map(int flags, RefPtr<File> file = nullptr, int prot = kRw) {
    return *mm_->Mmap({GuestAddr(), kPageSize, prot, flags, std::move(file), 0}, {});
  }
  FutexWord Private(uint64_t at = 0) { return {*mm_, private_ + at, false}; }
  FutexWord Shared(uint64_t at = 0) { return {*mm_, shared_ + at, true}; }
  void Set(const FutexWord& w, uint32_t value) {
    ASSERT_TRUE(w.mm.CopyOut(w.addr, std::as_bytes(std::span(&value, 1))).ok());
  }
  uint32_t Get(const FutexWord& w) {
    uint32_t value = 0;
    EXPECT_TRUE(w.mm.CopyIn(w.addr, std::as_writable_bytes(std::span(&value, 1))).ok());
    return value;
  }
  template <typename T>
  void Store(GuestAddr at, T value) {
    ASSERT_TRUE(mm_->CopyOut(at, std::as_bytes(std::span(&value, 1))).ok());
  }
  FutexTable::OwnerLook Alive() {
    return [](int) { return FutexOwner::kAlive; };
  }

  FakePlatform platform_;
  Ref<MemoryManager> mm_;
  FutexTable table_;
  GuestAddr private_, shared_;
};

TEST_F(FutexTest, AWaitNeedsTheExpectedValue) {
  TestWaiter w;
  Set(Private(), 5);
  EXPECT_EQ(table_.Wait(w, Private(), 4, kAll).error_value(), EAGAIN);
  EXPECT_FALSE(table_.Finish(w));
  ASSERT_TRUE(table_.Wait(w, Private(), 5, kAll).ok());
  EXPECT_EQ(*table_.Wake(Private(), 1, kAll), 1);
  EXPECT_TRUE(w.woken());
  EXPECT_EQ(w.wakes, 1);
  EXPECT_TRUE(table_.Finish(w));
  EXPECT_EQ(*table_.Wake(Private(), 1, kAll), 0);
}

TEST_F(FutexTest, BadWordsAreRefused) {
  TestWaiter w;
  EXPECT_EQ(table_.Wait(w, Private(2), 0, kAll).error_value(), EINVAL);
  EXPECT_EQ(table_.Wait(w, Private(), 0, 0).error_value(), EINVAL);
  EXPECT_EQ(table_.Wait(w, {*mm_, GuestAddr(0x20000)}, 0, kAll).error_value(), EFAULT);
  EXPECT_EQ(table_.Wait(w, {*mm_, GuestAddr(kStubStart)}, 0, kAll).error_value(), EFAULT);
  EXPECT_EQ(table_.Wake({*mm_, GuestAddr(0x20000), true}, 1, kAll).error_value(), EFAULT);
  EXPECT_EQ(*table_.Wake({*mm_, GuestAddr(0x20000), false}, 1, kAll), 0);
  EXPECT_EQ(table_.Wake(Private(), 1, 0).error_value(), EINVAL);
}

TEST_F(FutexTest, WakesComeInOrderAndCount) {
  TestWaiter a, b, c;
  for (TestWaiter* w : {&a, &b, &c}) ASSERT_TRUE(table_.Wait(*w, Private(), 0, kAll).ok());
  EXPECT_EQ(*table_.Wake(Private(), 2, kAll), 2);
  EXPECT_TRUE(a.woken() && b.woken() && !c.woken());
  EXPECT_TRUE(table_.Finish(a));
  EXPECT_TRUE(table_.Finish(b));
  EXPECT_FALSE(table_.Finish(c));
  EXPECT_EQ(*table_.Wake(Private(), 1, kAll), 0);
}

TEST_F(FutexTest, BitsetsSelect) {
  TestWaiter a, b;
  ASSERT_TRUE(table_.Wait(a, Private(), 0, 1).ok());
  ASSERT_TRUE(table_.Wait(b, Private(), 0, 2).ok());
  EXPECT_EQ(*table_.Wake(Private(), 9, 2), 1);
  EXPECT_TRUE(b.woken());
  table_.Finish(a);
  table_.Finish(b);
}

TEST_F(FutexTest, SharedWordsMeetAcrossProcesses) {
  auto child = std::move(mm_->Fork().value());
  TestWaiter w;
  ASSERT_TRUE(table_.Wait(w, {*child, shared_ + 8, true}, 0, kAll).ok());
  EXPECT_EQ(*table_.Wake({*mm_, shared_ + 12, true}, 1, kAll), 0);
  EXPECT_EQ(*table_.Wake({*mm_, shared_ + 8, false}, 1, kAll), 0);
  EXPECT_EQ(*table_.Wake({*mm_, shared_ + 8, true}, 1, kAll), 1);
  table_.Finish(w);
  // Private ones do not.
  ASSERT_TRUE(table_.Wait(w, {*child, private_, false}, 0, kAll).ok());
  EXPECT_EQ(*table_.Wake(Private(), 1, kAll), 0);
  table_.Finish(w);
}

TEST_F(FutexTest, TwoMappingsOfOneFileMeet) {
  auto file = MemoryFile::Create(std::string(kPageSize, '\0'));
  const GuestAddr a = Map(MAP_SHARED, file), b = Map(MAP_SHARED, file);
  TestWaiter w;
  ASSERT_TRUE(table_.Wait(w, {*mm_, a + 4, true}, 0, kAll).ok());
  EXPECT_EQ(*table_.Wake({*mm_, b + 4, true}, 1, kAll), 1);
  table_.Finish(w);
}

TEST_F(FutexTest, RequeueWakesAndMoves) {
  TestWaiter w[4];
  for (TestWaiter& x : w) ASSERT_TRUE(table_.Wait(x, Private(), 0, kAll).ok());
  EXPECT_EQ(table_.Requeue(Private(), Private(64), 1, 2, 7u).error_value(), EAGAIN);
  EXPECT_EQ(table_.Requeue(Private(), Private(64), -1, 2, {}).error_value(), EINVAL);
  EXPECT_EQ(*table_.Requeue(Private(), Private(64), 1, 2, 0u), 3);
  EXPECT_TRUE(w[0].woken());
  EXPECT_EQ(*table_.Wake(Private(64), 9, kAll), 2);
  EXPECT_EQ(*table_.Wake(Private(), 9, kAll), 1);
  for (TestWaiter& x : w) EXPECT_TRUE(table_.Finish(x));
}

TEST_F(FutexTest, WakeOpChangesTheWordAndWakesBoth) {
  TestWaiter a, b;
  Set(Private(64), 7);
  ASSERT_TRUE(table_.Wait(a, Private(), 0, kAll).ok());
  ASSERT_TRUE(table_.Wait(b, Private(64), 7, kAll).ok());
  const uint32_t op = FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 7);
  EXPECT_EQ(*table_.WakeOp(Private(), Private(64), 1, 1, op), 2);
  EXPECT_EQ(Get(Private(64)), 10u);
  table_.Finish(a);
  ASSERT_TRUE(table_.Finish(b));
  ASSERT_TRUE(table_.Wait(b, Private(64), 10, kAll).ok());
  const uint32_t shift = FUTEX_OP(FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 4, FUTEX_OP_CMP_LT, -1);
  EXPECT_EQ(*table_.WakeOp(Private(), Private(64), 1, 1, shift), 0);
  EXPECT_EQ(Get(Private(64)), 26u);
  EXPECT_EQ(table_.WakeOp(Private(), Private(64), 1, 1, 0x70000000).error_value(), ENOSYS);
  const GuestAddr read_only = Map(MAP_PRIVATE | MAP_ANONYMOUS, nullptr, PROT_READ);
  EXPECT_EQ(table_.WakeOp(Private(), {*mm_, read_only}, 1, 1, op).error_value(), EFAULT);
  table_.Finish(b);
}

TEST_F(FutexTest, WaitMultipleQueuesAllOrNone) {
  TestWaiter a, b;
  FutexWaiter* const waiters[] = {&a, &b};
  const FutexTable::WaitvEntry bad[] = {{Private(), 0}, {Private(64), 9}};
  EXPECT_EQ(table_.WaitMultiple(waiters, bad).error_value(), EAGAIN);
  EXPECT_EQ(*table_.Wake(Private(), 1, kAll), 0);
  const FutexTable::WaitvEntry good[] = {{Private(), 0}, {Shared(64), 0}};
  EXPECT_EQ(*table_.WaitMultiple(waiters, good), -1);
  EXPECT_EQ(*table_.Wake(Shared(64), 1, kAll), 1);
  EXPECT_FALSE(table_.Finish(a));
  EXPECT_TRUE(table_.Finish(b));
}

TEST_F(FutexTest, APiLockIsTakenAndHandedOver) {
  TestWaiter a, b, c;
  EXPECT_TRUE(*table_.LockPi(a, Private(), 10, false, Alive()));
  EXPECT_EQ(Get(Private()), 10u);
  EXPECT_EQ(table_.LockPi(a, Private(), 10, false, Alive()).error_value(), EDEADLK);
  EXPECT_EQ(table_.LockPi(b, Private(), 11, true, Alive()).error_value(), EAGAIN);
  EXPECT_FALSE(*table_.LockPi(b, Private(), 11, false, Alive()));
  EXPECT_FALSE(*table_.LockPi(c, Private(), 12, false, Alive()));
  EXPECT_EQ(Get(Private()), 10u | FUTEX_WAITERS);
  EXPECT_EQ(table_.Wake(Private(), 1, kAll).error_value(), EINVAL);
  EXPECT_EQ(table_.UnlockPi(Private(), 11).error_value(), EPERM);
  EXPECT_TRUE(table_.UnlockPi(Private(), 10).ok());
  EXPECT_EQ(Get(Private()), 11u | FUTEX_WAITERS);
  EXPECT_TRUE(table_.Finish(b));
  EXPECT_FALSE(table_.Finish(c));  // a time-out
  EXPECT_TRUE(table_.UnlockPi(Private(), 11).ok());
  EXPECT_EQ(Get(Private()), 0u);
}

TEST_F(FutexTest, APiLockOfADeadOwnerSaysSo) {
  TestWaiter a;
  Set(Private(), 77);
  const auto gone = [](int) { return FutexOwner::kGone; };
  EXPECT_EQ(table_.LockPi(a, Private(), 10, false, gone).error_value(), ESRCH);
  const auto exiting = [](int) { return FutexOwner::kExiting; };
  EXPECT_EQ(table_.LockPi(a, Private(), 10, false, exiting).error_value(), EBUSY);
  // It ends while somebody waits.
  Set(Private(), 77);
  EXPECT_FALSE(*table_.LockPi(a, Private(), 10, false, Alive()));
  table_.ExitPi(77);
  EXPECT_TRUE(table_.Finish(a));
  EXPECT_EQ(Get(Private()), 10u | FUTEX_WAITERS | FUTEX_OWNER_DIED);
}

TEST_F(FutexTest, RequeuePiGivesTheLockToTheFirst) {
  TestWaiter w[3];
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(table_.WaitRequeuePi(w[i], Private(), 0, kAll, Private(64), 20 + i).ok());
  }
  EXPECT_EQ(table_.Wake(Private(), 1, kAll).error_value(), EINVAL);
  EXPECT_EQ(table_.RequeuePi(Private(), Private(), 1, 9, 0, Alive()).error_value(), EINVAL);
  EXPECT_EQ(table_.RequeuePi(Private(), Private(128), 1, 9, 0, Alive()).error_value(), EINVAL);
  EXPECT_EQ(table_.RequeuePi(Private(), Private(64), 2, 9, 0, Alive()).error_value(), EINVAL);
  EXPECT_EQ(table_.RequeuePi(Private(), Private(64), 1, 9, 5, Alive()).error_value(), EAGAIN);
  EXPECT_EQ(*table_.RequeuePi(Private(), Private(64), 1, 9, 0, Alive()), 3);
  EXPECT_TRUE(w[0].woken() && !w[1].woken());
  EXPECT_EQ(Get(Private(64)), 20u | FUTEX_WAITERS);
  EXPECT_TRUE(table_.UnlockPi(Private(64), 20).ok());
  EXPECT_TRUE(w[1].woken());
  EXPECT_TRUE(table_.UnlockPi(Private(64), 21).ok());
  for (TestWaiter& x : w) EXPECT_TRUE(table_.Finish(x));
}

// head -> lock at 256 -> lock at 320 -> head; the word is 16 behind each entry.
TEST_F(FutexTest, TheRobustListOfTheDeadIsReleased) {
  const GuestAddr head = shared_, one = shared_ + 256, two = shared_ + 320, pending = shared_ + 384;
  Store<uint64_t>(head, one.value());
  Store<int64_t>(head + 8, 16);
  Store<uint64_t>(head + 16, pending.value());
  Store<uint64_t>(one, two.value());
  Store<uint64_t>(two, head.value());
  Set(Shared(256 + 16), 42 | FUTEX_WAITERS);
  Set(Shared(320 + 16), 43);  // somebody else's
  Set(Shared(384 + 16), 0);
  TestWaiter a, b;
  ASSERT_TRUE(table_.Wait(a, Shared(256 + 16), 42 | FUTEX_WAITERS, kAll).ok());
  ASSERT_TRUE(table_.Wait(b, Shared(384 + 16), 0, kAll).ok());
  table_.ExitRobustList(*mm_, head, 42);
  EXPECT_EQ(Get(Shared(256 + 16)), FUTEX_OWNER_DIED | FUTEX_WAITERS);
  EXPECT_EQ(Get(Shared(320 + 16)), 43u);
  EXPECT_TRUE(table_.Finish(a));
  EXPECT_TRUE(table_.Finish(b));
}

TEST_F(FutexTest, AHostileRobustListEnds) {
  Store<uint64_t>(shared_, (shared_ + 64).value());
  Store<uint64_t>(shared_ + 64, (shared_ + 64).value());  // a circle without the head
  table_.ExitRobustList(*mm_, shared_, 1);
  Store<uint64_t>(shared_, ~uint64_t{0});
  table_.ExitRobustList(*mm_, shared_, 1);
  table_.ExitRobustList(*mm_, GuestAddr(~uint64_t{7}), 1);
}

}  // namespace
}  // namespace ringwall
