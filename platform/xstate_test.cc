#include "platform/xstate.h"

#include <gtest/gtest.h>

#include <vector>

namespace ringwall {
namespace {

TEST(XStateTest, InitialStateIsAccepted) {
  std::vector<std::byte> area(XStateSize());
  InitXState(area);
  EXPECT_TRUE(CheckXState(area).ok());
}

TEST(XStateTest, MalformedAreasAreRefused) {
  std::vector<std::byte> area(XStateSize());
  InitXState(area);
  const auto refused_with = [&](size_t offset, std::byte value) {
    std::vector<std::byte> bad = area;
    bad[offset] = value;
    return CheckXState(bad).error_value() == EINVAL;
  };
  EXPECT_TRUE(refused_with(519, std::byte{0x40}));  // a feature of xstate_bv that nobody has
  EXPECT_TRUE(refused_with(527, std::byte{0x80}));  // compacted format
  EXPECT_TRUE(refused_with(560, std::byte{1}));     // reserved
  EXPECT_TRUE(refused_with(27, std::byte{0x80}));   // reserved bit of MXCSR
  area.pop_back();
  EXPECT_EQ(CheckXState(area).error_value(), EINVAL);
}

}  // namespace
}  // namespace ringwall
