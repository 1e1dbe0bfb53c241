#include "fs/netlink/message.h"

#include <gtest/gtest.h>

namespace ringwall::netlink {
namespace {

TEST(MessageTest, BuiltMessagesAreFoundAgain) {
  Builder b;
  b.Begin(16, NLM_F_REQUEST, 5, 9);
  b.Put(uint32_t{1});
  b.Text(3, "abc");
  const size_t nest = b.Nest(4);
  b.U32(1, 77);
  b.U8(2, 8);
  b.Unnest(nest);
  b.End();
  b.Begin(17, 0, 6, 9);
  b.End();
  MessageWalk walk(b.bytes());
  std::optional<Message> m = walk.Next();
  ASSERT_TRUE(m.has_value());
  EXPECT_EQ(m->header.type, 16);
  EXPECT_EQ(m->header.sequence, 5u);
  ExtAck ack;
  Result<Attrs<4>> a = ParseAttrs<4>(m->payload.subspan(4), {}, &ack);
  ASSERT_TRUE(a.ok());
  EXPECT_EQ(a->Get(3)->Text(), "abc");
  Result<Attrs<2>> in = ParseAttrs<2>(a->Get(4)->data, {}, &ack);
  ASSERT_TRUE(in.ok());
  EXPECT_EQ(in->U32(1), 77u);
  EXPECT_EQ(in->Get(2)->U8(), 8);
  m = walk.Next();
  ASSERT_TRUE(m.has_value());
  EXPECT_EQ(m->header.type, 17);
  EXPECT_TRUE(m->payload.empty());
  EXPECT_FALSE(walk.Next().has_value());
}

TEST(MessageTest, LengthsThatCannotBeEndTheWalk) {
  Header h{sizeof(Header) + 4, 16, 0, 0, 0};
  const Bytes bytes(reinterpret_cast<const uint8_t*>(&h), sizeof(h));
  EXPECT_FALSE(MessageWalk(bytes).Next().has_value());
  h.length = 3;
  EXPECT_FALSE(MessageWalk(bytes).Next().has_value());
  EXPECT_FALSE(MessageWalk(bytes.first(8)).Next().has_value());
  h.length = sizeof(Header);
  EXPECT_TRUE(MessageWalk(bytes).Next().has_value());
}

TEST(MessageTest, AttributesAreBounded) {
  const uint8_t cut[] = {8, 0, 1, 0, 5, 5};  // says 8, has 6
  EXPECT_FALSE(AttrWalk(cut).Next().has_value());
  const uint8_t tiny[] = {3, 0, 1, 0};
  EXPECT_FALSE(AttrWalk(tiny).Next().has_value());
  const uint8_t odd[] = {5, 0, 1, 0, 9};  // the padding is not there
  AttrWalk walk(odd);
  std::optional<Attr> a = walk.Next();
  ASSERT_TRUE(a.has_value());
  EXPECT_EQ(a->U8(), 9);
  EXPECT_EQ(a->U32(), 9u);  // what is not there reads as zero
  EXPECT_FALSE(walk.Next().has_value());
}

TEST(MessageTest, PoliciesRefuse) {
  const auto check = [](std::vector<uint8_t> data, AttrRule rule) {
    Attr a;
    a.type = 1;
    a.data = data;
    ExtAck ack;
    return CheckAttr(a, rule, &ack).error_value();
  };
  EXPECT_EQ(check({1, 2}, {AttrKind::kU32}), ERANGE);
  EXPECT_EQ(check({1, 2, 3, 4, 5}, {AttrKind::kU32}), 0);
  EXPECT_EQ(check({1, 2, 3, 4, 5}, {AttrKind::kU32, 0, true}), EINVAL);
  EXPECT_EQ(check({'a', 'b', 'c', 0}, {AttrKind::kString, 3}), 0);
  EXPECT_EQ(check({'a', 'b', 'c', 'd'}, {AttrKind::kString, 3}), ERANGE);
  EXPECT_EQ(check({}, {AttrKind::kString, 3}), ERANGE);
  EXPECT_EQ(check({1, 2, 3}, {AttrKind::kBinary, 2}), ERANGE);
  EXPECT_EQ(check({1}, {AttrKind::kFlag}), ERANGE);
  EXPECT_EQ(check({1, 2, 3}, {AttrKind::kNested}), ERANGE);
}

TEST(MessageTest, StrictParsingRefusesWhatIsNotKnown) {
  Builder b;
  b.U32(9, 1);
  ExtAck ack;
  EXPECT_TRUE(ParseAttrs<4>(b.bytes(), {}, &ack).ok());
  EXPECT_EQ(ParseAttrs<4>(b.bytes(), {}, &ack, true).error_value(), EINVAL);
  b.bytes().push_back(1);
  b.bytes().push_back(1);
  EXPECT_EQ(ParseAttrs<9>(b.bytes(), {}, &ack, true).error_value(), EINVAL);
}

TEST(MessageTest, RepeatedAttributesKeepTheLast) {
  Builder b;
  b.U32(1, 1);
  b.U32(1, 2);
  ExtAck ack;
  Result<Attrs<1>> a = ParseAttrs<1>(b.bytes(), {}, &ack);
  ASSERT_TRUE(a.ok());
  EXPECT_EQ(a->U32(1), 2u);
}

TEST(MessageTest, CancelTakesTheMessageBack) {
  Builder b;
  b.Begin(1, 0, 0, 0);
  b.End();
  const size_t size = b.size();
  b.Begin(2, 0, 0, 0);
  b.U32(1, 1);
  b.Cancel();
  EXPECT_EQ(b.size(), size);
}

}  // namespace
}  // namespace ringwall::netlink
