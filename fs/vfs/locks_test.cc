#include "fs/vfs/locks.h"

#include <gtest/gtest.h>

namespace ringwall {
namespace {

int owner_a, owner_b, owner_c;

RangeLock Range(const void* owner, uint64_t start, uint64_t last, bool write) {
  RangeLock r;
  r.owner = owner;
  r.start = start;
  r.last = last;
  r.write = write;
  return r;
}

TEST(FileLocksTest, ReadersShareWritersDoNot) {
  FileLocks locks;
  EXPECT_TRUE(locks.Lock(Range(&owner_a, 0, 9, false), false).ok());
  EXPECT_TRUE(locks.Lock(Range(&owner_b, 5, 20, false), false).ok());
  EXPECT_EQ(locks.Lock(Range(&owner_b, 0, 3, true), false).error_value(), EAGAIN);
  EXPECT_TRUE(locks.Lock(Range(&owner_b, 10, 15, true), false).ok());
  const auto conflict = locks.FindConflict(Range(&owner_a, 0, RangeLock::kEnd, true));
  ASSERT_TRUE(conflict.has_value());
  EXPECT_EQ(conflict->owner, &owner_b);
  EXPECT_EQ(conflict->start, 5u);
}

TEST(FileLocksTest, UnlockSplitsAndNeighboursMerge) {
  FileLocks locks;
  EXPECT_TRUE(locks.Lock(Range(&owner_a, 0, 99, true), false).ok());
  locks.Unlock(Range(&owner_a, 40, 59, false));
  EXPECT_EQ(locks.List().size(), 2u);
  EXPECT_TRUE(locks.Lock(Range(&owner_b, 40, 59, true), false).ok());
  EXPECT_EQ(locks.Lock(Range(&owner_b, 39, 59, true), false).error_value(), EAGAIN);
  locks.DropOwner(&owner_b, false);
  EXPECT_TRUE(locks.Lock(Range(&owner_a, 40, 59, true), false).ok());
  ASSERT_EQ(locks.List().size(), 1u);
  EXPECT_EQ(locks.List()[0].range.last, 99u);
}

TEST(FileLocksTest, OfdAndPosixConflictEvenInOneProcess) {
  FileLocks locks;
  EXPECT_TRUE(locks.Lock(Range(&owner_a, 0, 9, true), false).ok());
  RangeLock ofd = Range(&owner_a, 0, 9, true);
  ofd.ofd = true;
  EXPECT_EQ(locks.Lock(ofd, false).error_value(), EAGAIN);
  locks.DropOwner(&owner_a, true);
  EXPECT_EQ(locks.List().size(), 1u);
}

TEST(FileLocksTest, ARingOfWaitersIsADeadlock) {
  FileLocks one, two;
  EXPECT_TRUE(one.Lock(Range(&owner_a, 0, 0, true), false).ok());
  EXPECT_TRUE(two.Lock(Range(&owner_b, 0, 0, true), false).ok());
  EXPECT_EQ(two.Lock(Range(&owner_a, 0, 0, true), true).error_value(), EAGAIN);
  EXPECT_EQ(one.Lock(Range(&owner_b, 0, 0, true), true).error_value(), EDEADLK);
  EXPECT_EQ(one.Lock(Range(&owner_c, 0, 0, true), true).error_value(), EAGAIN);
  FileLocks::StopWaiting(&owner_a);
  EXPECT_EQ(one.Lock(Range(&owner_b, 0, 0, true), true).error_value(), EAGAIN);
  for (const int* owner : {&owner_a, &owner_b, &owner_c}) FileLocks::StopWaiting(owner);
}

TEST(FileLocksTest, RangesFollowFcntl) {
  EXPECT_EQ(FileLocks::MakeRange(100, -10, 5)->start, 90u);
  EXPECT_EQ(FileLocks::MakeRange(100, -10, 5)->last, 94u);
  EXPECT_EQ(FileLocks::MakeRange(100, 0, -5)->start, 95u);
  EXPECT_EQ(FileLocks::MakeRange(100, 0, -5)->last, 99u);
  EXPECT_EQ(FileLocks::MakeRange(0, 5, 0)->last, RangeLock::kEnd);
  EXPECT_EQ(FileLocks::MakeRange(0, -1, 0).error_value(), EINVAL);
  EXPECT_EQ(FileLocks::MakeRange(0, 2, -5).error_value(), EINVAL);
  EXPECT_EQ(FileLocks::MakeRange(INT64_MAX, 1, 0).error_value(), EOVERFLOW);
  EXPECT_EQ(FileLocks::MakeRange(0, INT64_MAX, 2).error_value(), EOVERFLOW);
}

TEST(FileLocksTest, FlockConvertsByDroppingFirst) {
  FileLocks locks;
  const File* a = reinterpret_cast<const File*>(&owner_a);
  const File* b = reinterpret_cast<const File*>(&owner_b);
  EXPECT_TRUE(locks.Flock(a, FlockType::kShared).ok());
  EXPECT_TRUE(locks.Flock(b, FlockType::kShared).ok());
  EXPECT_EQ(locks.Flock(a, FlockType::kExclusive).error_value(), EAGAIN);
  // a has lost its shared lock by the attempt.
  EXPECT_TRUE(locks.Flock(b, FlockType::kExclusive).ok());
  locks.Funlock(b);
  EXPECT_TRUE(locks.Flock(a, FlockType::kExclusive).ok());
}

}  // namespace
}  // namespace ringwall
