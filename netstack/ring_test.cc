#include "netstack/ring.h"

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <random>

namespace ringwall::net {
namespace {

TEST(RingTest, TakesNoMemoryBeforeItHoldsAnything) {
  Ring<int> ring;
  EXPECT_TRUE(ring.empty());
  EXPECT_EQ(ring.capacity(), 0U);
  EXPECT_EQ(ring.begin(), ring.end());
  ring.clear();
  EXPECT_EQ(ring.capacity(), 0U);
}

TEST(RingTest, GivesALargeBlockBackWhenItIsEmpty) {
  Ring<int> ring;
  for (int i = 0; i < 100; i++) ring.push_back(i);
  EXPECT_GE(ring.capacity(), 100U);
  while (!ring.empty()) ring.pop_front();
  EXPECT_EQ(ring.capacity(), 0U);
  ring.push_back(1);
  ring.pop_front();
  EXPECT_GT(ring.capacity(), 0U);  // a few are kept for the next one
}

TEST(RingTest, EndsEachElementOnce) {
  const auto count = std::make_shared<int>(0);
  {
    Ring<std::shared_ptr<int>> ring;
    for (int i = 0; i < 9; i++) ring.push_back(count);
    ring.pop_front();
    ring.push_back(ring.front());
    EXPECT_EQ(count.use_count(), 10);
    ring.EraseIf([](const auto&) { return true; });
    EXPECT_EQ(count.use_count(), 1);
    ring.push_back(count);
  }
  EXPECT_EQ(count.use_count(), 1);
}

TEST(RingTest, IsLikeADequeUnderRandomChanges) {
  std::mt19937 random(7);
  Ring<std::unique_ptr<int>> ring;
  std::deque<int> model;
  for (int turn = 0; turn < 20'000; turn++) {
    const int value = static_cast<int>(random() % 1000);
    const auto at = static_cast<ptrdiff_t>(random() % (model.size() + 1));
    switch (random() % 8) {
      case 0:
      case 1:
        ring.push_back(std::make_unique<int>(value));
        model.push_back(value);
        break;
      case 2:
        ring.Insert(static_cast<size_t>(at), std::make_unique<int>(value));
        model.insert(model.begin() + at, value);
        break;
      case 3:
        if (value < 30) {
          ring.EraseIf([](const auto& p) { return *p % 3 == 0; });
          std::erase_if(model, [](int v) { return v % 3 == 0; });
        }
        break;
      case 4:
        if (value == 0) {
          ring.clear();
          model.clear();
        }
        break;
      case 5: {
        const auto less = [](const auto& a, const auto& b) { return *a < *b; };
        if (value < 10) {
          std::stable_sort(ring.begin(), ring.end(), less);
          std::stable_sort(model.begin(), model.end());
        }
        break;
      }
      default:
        if (model.empty()) break;
        EXPECT_EQ(*ring.front(), model.front());
        EXPECT_EQ(*ring.back(), model.back());
        ring.pop_front();
        model.pop_front();
        break;
    }
    ASSERT_EQ(ring.size(), model.size());
    ASSERT_TRUE(std::equal(ring.begin(), ring.end(), model.begin(), model.end(),
                           [](const auto& a, int b) { return *a == b; }));
  }
}

}  // namespace
}  // namespace ringwall::net
