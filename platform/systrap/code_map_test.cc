#include "platform/systrap/code_map.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

namespace ringwall::systrap {
namespace {

constexpr int kText = PROT_READ | PROT_EXEC;
constexpr GuestRange Pages(uint64_t from, uint64_t to) {
  return {GuestAddr(from * kPageSize), GuestAddr(to * kPageSize)};
}

TEST(CodeMapTest, DataIsOfNoInterest) {
  CodeMap map;
  map.Mapped(Pages(1, 4), PROT_READ | PROT_WRITE, false);
  EXPECT_FALSE(map.Find(GuestAddr(kPageSize)));
  map.Protected(Pages(2, 3), kText);
  ASSERT_TRUE(map.Find(GuestAddr(2 * kPageSize)));
  EXPECT_EQ(map.Find(GuestAddr(2 * kPageSize))->range, Pages(2, 3));
  map.Protected(Pages(1, 4), PROT_READ);
  EXPECT_EQ(map.size(), 0u);
}

TEST(CodeMapTest, HolesSplitAndEqualPiecesJoin) {
  CodeMap map;
  map.Mapped(Pages(10, 20), kText, false);
  map.Unmapped(Pages(14, 15));
  EXPECT_EQ(map.Find(GuestAddr(10 * kPageSize))->range, Pages(10, 14));
  EXPECT_FALSE(map.Find(GuestAddr(14 * kPageSize)));
  EXPECT_TRUE(map.Overlaps(Pages(13, 15)));
  EXPECT_FALSE(map.Overlaps(Pages(14, 15)));
  map.Mapped(Pages(14, 15), kText, false);
  EXPECT_EQ(map.Find(GuestAddr(17 * kPageSize))->range, Pages(10, 20));
  map.Protected(Pages(12, 13), PROT_READ | PROT_WRITE | PROT_EXEC);
  EXPECT_EQ(map.Find(GuestAddr(17 * kPageSize))->range, Pages(13, 20));
}

TEST(CodeMapTest, SharedMappingsStayShared) {
  CodeMap map;
  map.Mapped(Pages(2, 4), PROT_READ, true);
  map.Protected(Pages(1, 5), kText);
  EXPECT_TRUE(map.Find(GuestAddr(2 * kPageSize))->shared);
  EXPECT_FALSE(map.Find(GuestAddr(1 * kPageSize))->shared);
  EXPECT_FALSE(map.Find(GuestAddr(4 * kPageSize))->shared);
  EXPECT_EQ(map.Find(GuestAddr(2 * kPageSize))->range, Pages(2, 4));
}

TEST(CodeMapTest, MovedCodeIsAtItsNewPlaceOnly) {
  CodeMap map;
  map.Mapped(Pages(2, 4), kText, false);
  map.Mapped(Pages(10, 14), PROT_READ, true);
  map.Moved(Pages(2, 4), Pages(11, 13), false);
  EXPECT_FALSE(map.Find(GuestAddr(2 * kPageSize)));
  EXPECT_FALSE(map.Find(GuestAddr(11 * kPageSize))->shared);
  EXPECT_TRUE(map.Find(GuestAddr(13 * kPageSize))->shared);
}

}  // namespace
}  // namespace ringwall::systrap
