#include "sentry/mm/vma.h"

#include <gtest/gtest.h>

#include <optional>
#include <random>
#include <vector>

namespace ringwall {
namespace {

constexpr uint64_t kBase = 0x10'0000'0000;

GuestRange Pages(uint64_t first, uint64_t count) {
  return {GuestAddr(kBase + first * kPageSize), GuestAddr(kBase + (first + count) * kPageSize)};
}

Vma Anon(uint64_t first, uint64_t count, int prot = PROT_READ | PROT_WRITE) {
  return Vma{.range = Pages(first, count), .prot = prot};
}

TEST(VmaTreeTest, NeighboursThatAreAlikeMerge) {
  VmaTree tree;
  tree.Insert(Anon(0, 2));
  tree.Insert(Anon(4, 2));
  EXPECT_EQ(tree.size(), 2u);
  tree.Insert(Anon(2, 2));
  ASSERT_EQ(tree.size(), 1u);
  EXPECT_EQ(tree.begin()->second.range, Pages(0, 6));
  tree.Insert(Anon(6, 1, PROT_READ));
  EXPECT_EQ(tree.size(), 2u);
  EXPECT_EQ(tree.total(), 7 * kPageSize);
  EXPECT_EQ(tree.data(), 6 * kPageSize);
}

TEST(VmaTreeTest, RemoveSplitsAtItsEdges) {
  VmaTree tree;
  VmaTree::Dropped dropped;
  tree.Insert(Anon(0, 10));
  EXPECT_EQ(tree.SplitsFor(Pages(3, 2)), 2u);
  tree.Remove(Pages(3, 2), &dropped);
  EXPECT_EQ(tree.size(), 2u);
  EXPECT_EQ(tree.total(), 8 * kPageSize);
  EXPECT_FALSE(tree.Covers(Pages(2, 2)));
  EXPECT_TRUE(tree.Covers(Pages(5, 5)));
  EXPECT_EQ(tree.Find(Pages(3, 1).start), nullptr);
}

TEST(VmaTreeTest, ChangeMergesBack) {
  VmaTree tree;
  tree.Insert(Anon(0, 10));
  tree.Change(Pages(3, 2), [](Vma& vma) { vma.prot = PROT_NONE; });
  EXPECT_EQ(tree.size(), 3u);
  EXPECT_EQ(tree.data(), 8 * kPageSize);
  tree.Change(Pages(3, 2), [](Vma& vma) { vma.prot = PROT_READ | PROT_WRITE; });
  EXPECT_EQ(tree.size(), 1u);
}

TEST(VmaTreeTest, TheStackReserveIsNotCounted) {
  VmaTree tree;
  VmaTree::Dropped dropped;
  Vma stack = Anon(0, 100);
  stack.grows_down = true;
  tree.Insert(stack);
  tree.SetStackReserve(Pages(0, 90));
  EXPECT_EQ(tree.total(), 10 * kPageSize);
  EXPECT_EQ(tree.stack(), 10 * kPageSize);
  tree.Remove(Pages(0, 50), &dropped);
  EXPECT_EQ(tree.total(), 50 * kPageSize);
}

TEST(VmaTreeTest, ARangeBelowAGrowingMappingKeepsTheGuardGap) {
  VmaTree tree;
  tree.SetTop(Pages(1000, 0).start);
  Vma stack = Anon(900, 100);
  stack.grows_down = true;
  tree.Insert(stack);
  const std::optional<GuestAddr> at =
      tree.FindTopDown(kPageSize, GuestAddr(kPageSize), Pages(1000, 0).start);
  ASSERT_TRUE(at.has_value());
  EXPECT_EQ(*at, Pages(900 - 256 - 1, 0).start);
}

// The search remembers where nothing is free; it must still find what a plain walk finds.
TEST(VmaTreeTest, FindTopDownAgreesWithAPlainSearch) {
  std::mt19937 random(7);
  constexpr uint64_t kTotal = 300;
  for (int round = 0; round < 60; ++round) {
    VmaTree tree;
    VmaTree::Dropped dropped;
    std::vector<bool> used(kTotal, false);
    tree.SetTop(Pages(kTotal, 0).start);
    for (int step = 0; step < 300; ++step) {
      const uint64_t n = 1 + random() % 9;
      if (random() % 2 == 0) {
        std::optional<uint64_t> want;
        for (uint64_t first = kTotal - n + 1; first-- > 0 && !want;) {
          bool free = true;
          for (uint64_t i = 0; i < n; ++i) free &= !used[first + i];
          if (free) want = first;
        }
        const std::optional<GuestAddr> got =
            tree.FindTopDown(n * kPageSize, GuestAddr(kBase), Pages(kTotal, 0).start);
        ASSERT_EQ(got.has_value(), want.has_value());
        if (!want) continue;
        ASSERT_EQ(*got, Pages(*want, 0).start);
        tree.Insert(Anon(*want, n, static_cast<int>(random() % 8)));
        for (uint64_t i = 0; i < n; ++i) used[*want + i] = true;
      } else {
        const uint64_t first = random() % (kTotal - n);
        tree.Remove(Pages(first, n), &dropped);
        for (uint64_t i = 0; i < n; ++i) used[first + i] = false;
      }
    }
  }
}

}  // namespace
}  // namespace ringwall
