#include "gofer/proto/codec.h"

#include <sys/stat.h>

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace ringwall::gofer {
namespace {

TEST(ReaderTest, GivesNothingPastTheEnd) {
  const std::vector<uint8_t> bytes(7, 1);
  Reader in(bytes);
  EXPECT_EQ(in.Read<uint64_t>().error_value(), EINVAL);
  EXPECT_EQ(in.left(), 7u);  // a failed read takes nothing
  EXPECT_TRUE(in.Read<uint32_t>().ok());
  EXPECT_EQ(in.ReadBytes(4).error_value(), EINVAL);
  EXPECT_EQ(in.ReadBytes(SIZE_MAX).error_value(), EINVAL);
  EXPECT_EQ(in.ReadBytes(3)->size(), 3u);
  EXPECT_TRUE(in.End().ok());
}

TEST(ReaderTest, LeftOverBytesAreAnError) {
  const std::vector<uint8_t> bytes(5);
  Reader in(bytes);
  ASSERT_TRUE(in.Read<uint32_t>().ok());
  EXPECT_EQ(in.End().error_value(), EINVAL);
}

TEST(WriterTest, NeverPassesItsRoomAndRemembersThatItWould) {
  uint8_t room[12] = {};
  room[11] = 77;
  Writer out(std::span<uint8_t>(room, 11));
  out.Put(uint64_t{1});
  out.Put(uint32_t{2});
  EXPECT_TRUE(out.overflow());
  out.Put(uint8_t{3});  // would fit, but the message is already spoiled
  EXPECT_EQ(out.used(), 8u);
  EXPECT_EQ(room[11], 77);
  out.Patch(5, uint32_t{9});  // past what was put
  EXPECT_EQ(room[5], 0);
  out.Truncate(0);
  EXPECT_FALSE(out.overflow());
}

TEST(NameTest, TakesEveryByteButSlashAndNul) {
  for (int c = 0; c < 256; ++c) {
    const std::string text = std::string("a") + static_cast<char>(c);
    Result<Name> name = Name::Make(text);
    if (c == 0 || c == '/') {
      EXPECT_EQ(name.error_value(), EINVAL) << c;
    } else {
      ASSERT_TRUE(name.ok()) << c;
      EXPECT_EQ(name->view(), text);
      EXPECT_EQ(std::string(name->c_str()), text);
    }
  }
}

TEST(NameTest, RefusesDotsEmptyAndLong) {
  EXPECT_EQ(CheckName(""), EINVAL);
  EXPECT_EQ(CheckName("."), EINVAL);
  EXPECT_EQ(CheckName(".."), EINVAL);
  EXPECT_EQ(CheckName("..."), 0);
  EXPECT_EQ(CheckName(std::string(255, 'x')), 0);
  EXPECT_EQ(CheckName(std::string(256, 'x')), ENAMETOOLONG);
}

TEST(AttrTest, RefusesWhatNoFileHas) {
  Attr attr;
  EXPECT_FALSE(AttrIsSane(attr));  // no type
  attr.mode = S_IFREG | 0644;
  EXPECT_TRUE(AttrIsSane(attr));
  attr.size = uint64_t{1} << 63;
  EXPECT_FALSE(AttrIsSane(attr));
  attr.size = 0;
  attr.mtime.nsec = 1000000000;
  EXPECT_FALSE(AttrIsSane(attr));
  attr.mtime.nsec = 0;
  attr.mode |= 1 << 20;
  EXPECT_FALSE(AttrIsSane(attr));
}

}  // namespace
}  // namespace ringwall::gofer
