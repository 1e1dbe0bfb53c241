#include <fcntl.h>

#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "sentry/base/guest_addr.h"
#include "sentry/base/host_error.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {
namespace {

Result<int> Half(int n) {
  if (n % 2 != 0) return Errno(EINVAL);
  return n / 2;
}

Result<int> Quarter(int n) {
  const int half = TRY(Half(n));
  const int quarter = TRY(Half(half));
  return quarter;
}

TEST(ResultTest, TryPassesValuesAndErrorsOn) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(6).error_value(), EINVAL);
}

TEST(ResultTest, MovesItsValueOnce) {
  Result<std::unique_ptr<int>> r(std::make_unique<int>(3));
  Result<std::unique_ptr<int>> moved(std::move(r));
  EXPECT_EQ(**moved, 3);
  moved = Result<std::unique_ptr<int>>(Errno(EIO));
  EXPECT_EQ(moved.error_value(), EIO);
}

struct Counted : RefCounted<Counted> {
  explicit Counted(int* gone) : gone(gone) {}
  ~Counted() override { ++*gone; }
  int* gone;
};
struct Derived : Counted {
  using Counted::Counted;
};

TEST(RefTest, LastReferenceDestroysOnce) {
  int gone = 0;
  {
    Ref<Derived> d = MakeRef<Derived>(&gone);
    Ref<Counted> base = d;
    RefPtr<Counted> maybe = base;
    Result<Ref<Counted>> r = Result<Ref<Derived>>(std::move(d));
    EXPECT_EQ(base->ref_count_for_test(), 3u);
  }
  EXPECT_EQ(gone, 1);
}

TEST(GuestAddrTest, OverflowIsSeen) {
  EXPECT_FALSE(GuestRange::Make(GuestAddr(~0ull), 1).has_value());
  EXPECT_FALSE(PageUp(~0ull - 5).has_value());
  EXPECT_EQ(*PageUp(1), kPageSize);
  EXPECT_EQ(*PageUp(0), 0u);
}

TEST(HostErrorTest, NamesOperationObjectAndReason) {
  HostError e = HostError::WithErrno(ENOENT, "open", "/x").Wrap("bundle");
  EXPECT_EQ(e.message(), "bundle: open /x: No such file or directory");
  EXPECT_EQ(e.error(), ENOENT);
}

TEST(UniqueFdTest, ClosesWhatItOwns) {
  int raw;
  {
    UniqueFd fd(open("/dev/null", O_RDONLY));
    raw = fd.get();
    EXPECT_GE(fcntl(raw, F_GETFD), 0);
  }
  EXPECT_EQ(fcntl(raw, F_GETFD), -1);
}

#ifdef RINGWALL_LOCKDEP
TEST(LockdepDeathTest, WrongOrderAborts) {
  Mutex<LockClass::kTask> task;
  Mutex<LockClass::kMm> mm;
  EXPECT_DEATH(
      {
        MutexLock inner(task);
        MutexLock outer(mm);
      },
      "lock order");
}

TEST(LockdepDeathTest, SameLockTwiceAborts) {
  Mutex<LockClass::kTask> task;
  const Mutex<LockClass::kTask>* const same = &task;  // of which clang does not know that
  EXPECT_DEATH(
      {
        MutexLock once(task);
        MutexLock twice(*same, Nested{});
      },
      "twice");
}

TEST(LockdepDeathTest, AssertHeldLooksAtTheVeryLock) {
  Mutex<LockClass::kTask> one, other;
  {
    MutexLock lock(one);
    one.AssertHeld();
  }
  EXPECT_DEATH(one.AssertHeld(), "must be held");
  EXPECT_DEATH(
      {
        MutexLock lock(other);
        one.AssertHeld();
      },
      "must be held");
  EXPECT_DEATH(
      {
        ReaderLock lock(one);
        one.AssertHeld();
      },
      "must be held");
}

TEST(LockdepDeathTest, WaitWithAnInnerLockAborts) {
  Mutex<LockClass::kMm> mm;
  Mutex<LockClass::kTask> task;
  CondVar changed;
  EXPECT_DEATH(
      {
        MutexLock outer(mm);
        MutexLock inner(task);
        changed.Wait(mm);
      },
      "taken inside");
}
#endif

}  // namespace
}  // namespace ringwall
