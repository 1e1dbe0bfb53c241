#include "sentry/kernel/load_average.h"

#include <gtest/gtest.h>

namespace ringwall {
namespace {

constexpr int64_t kSecond = 1'000'000'000, kMinute = 60 * kSecond;

TEST(LoadAverageTest, NearsWhatRunsAndFallsWhenNothingDoes) {
  LoadAverage load;
  load.Look(kMinute, kMinute, 1, 2);
  EXPECT_NEAR(load.values()[0], 0.632, 0.001);
  EXPECT_NEAR(load.values()[1], 0.181, 0.001);
  EXPECT_NEAR(load.values()[2], 0.064, 0.001);
  load.Look(11 * kMinute, 11 * kMinute, 1, 2);
  EXPECT_NEAR(load.values()[0], 1.0, 0.001);
  load.Look(12 * kMinute, 11 * kMinute, 0, 2);
  EXPECT_NEAR(load.values()[0], 0.368, 0.001);
}

TEST(LoadAverageTest, ManyLooksAreAsOne) {
  LoadAverage often, once;
  for (int64_t s = 1; s <= 60; s++) often.Look(s * kSecond, s * kSecond / 2, 1, 2);
  once.Look(kMinute, kMinute / 2, 1, 2);
  for (size_t i = 0; i < 3; i++) EXPECT_NEAR(often.values()[i], once.values()[i], 1e-9);
}

TEST(LoadAverageTest, WhoWaitsForAProcessorCounts) {
  LoadAverage load;
  load.Look(10 * kMinute, 20 * kMinute, 8, 2);
  EXPECT_NEAR(load.values()[0], 8.0, 0.01);
}

TEST(LoadAverageTest, LooksInOneSecondAndLostTimeChangeNothing) {
  LoadAverage load;
  load.Look(kSecond / 2, kSecond / 2, 1, 1);
  EXPECT_EQ(load.values()[0], 0.0);
  load.Look(kMinute, kMinute, 1, 2);
  const double before = load.values()[0];
  load.Look(kMinute + kSecond / 2, kMinute, 1, 2);
  EXPECT_EQ(load.values()[0], before);
  load.Look(2 * kMinute, 0, 1, 2);
  EXPECT_NEAR(load.values()[0], before * 0.368, 0.001);
}

}  // namespace
}  // namespace ringwall
