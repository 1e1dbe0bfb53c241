#include "fs/socket/control.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

namespace ringwall {
namespace {

std::vector<std::byte> Message(uint64_t length, int32_t level, int32_t type,
                               std::string_view data) {
  const CmsgHeader h = {length, level, type};
  std::vector<std::byte> out(CmsgAlign(sizeof(h) + data.size()));
  memcpy(out.data(), &h, sizeof(h));
  memcpy(out.data() + sizeof(h), data.data(), data.size());
  return out;
}

Result<int> Count(std::span<const std::byte> bytes) {
  int n = 0;
  TRY(ForEachControl(bytes, [&](const ControlMessage&) -> Result<void> {
    n++;
    return {};
  }));
  return n;
}

TEST(ControlTest, WalksWholeMessages) {
  std::vector<std::byte> bytes = Message(20, 1, 2, "abcd");
  const std::vector<std::byte> second = Message(17, 3, 4, "x");
  bytes.insert(bytes.end(), second.begin(), second.end());
  EXPECT_EQ(*Count(bytes), 2);
  EXPECT_EQ(*Count({}), 0);
  EXPECT_EQ(*Count(std::span(bytes).first(15)), 0);  // not even a header
}

TEST(ControlTest, RefusesLengthsThatCannotBe) {
  for (uint64_t length : {uint64_t{0}, uint64_t{15}, uint64_t{25}, ~uint64_t{0}}) {
    EXPECT_EQ(Count(Message(length, 1, 1, "abcdefgh")).error_value(), EINVAL) << length;
  }
  // The padding of the last one may be missing.
  EXPECT_EQ(*Count(std::span<const std::byte>(Message(17, 1, 1, "a")).first(17)), 1);
}

TEST(ControlTest, WriterCutsAsPutCmsgDoes) {
  ControlOut none(15);
  none.Put(1, 2, int32_t{7});
  EXPECT_TRUE(none.truncated());
  EXPECT_TRUE(none.bytes().empty());
  ControlOut half(18);
  half.Put(1, 2, int32_t{7});
  EXPECT_TRUE(half.truncated());
  EXPECT_EQ(half.bytes().size(), 18u);
  ControlOut exact(20);
  exact.Put(1, 2, int32_t{7});
  EXPECT_FALSE(exact.truncated());
  EXPECT_EQ(exact.bytes().size(), 20u);
  ControlOut padded(100);
  padded.Put(1, 2, int32_t{7});
  EXPECT_EQ(padded.bytes().size(), 24u);
  EXPECT_EQ(padded.left(), 76u);
}

}  // namespace
}  // namespace ringwall
