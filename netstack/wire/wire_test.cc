#include <gtest/gtest.h>

#include <vector>

#include "netstack/wire/checksum.h"
#include "netstack/wire/ethernet.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/ip.h"
#include "netstack/wire/tcp.h"
#include "netstack/wire/udp.h"

namespace ringwall::net {
namespace {

using Bytes = std::vector<uint8_t>;

TEST(ChecksumTest, KnownSum) {  // RFC 1071 3
  const Bytes b = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(SumBytes(b.data(), b.size()), 0xddf2);
}

TEST(ChecksumTest, PiecesGiveTheSumOfTheWhole) {  // RFC 1071 2(B)
  Bytes b;
  for (int i = 0; i < 301; i++) b.push_back(static_cast<uint8_t>(i * 37 + 11));
  const uint16_t whole = SumBytes(b.data(), b.size());
  for (size_t a = 0; a <= b.size(); a += 7) {
    for (size_t c = a; c <= b.size(); c += 13) {
      Checksum sum;
      sum.Add(ByteSpan(b).first(a));
      sum.Add(ByteSpan(b).subspan(a, c - a));
      sum.Add(ByteSpan(b).subspan(c));
      ASSERT_EQ(sum.Folded(), whole) << a << " " << c;
    }
  }
}

TEST(ChecksumTest, UpdateEqualsRecomputation) {  // RFC 1624 3
  Bytes b = {1, 2, 3, 4, 5, 6, 7, 8};
  const uint16_t before = ChecksumOf(b);
  Store32(&b[4], 0xdeadbeef);
  EXPECT_EQ(ChecksumUpdate32(before, 0x05060708, 0xdeadbeef), ChecksumOf(b));
}

TEST(AddressTest, TextAndBack) {
  for (const char* text : {"10.1.2.3", "::1", "fe80::1", "2001:db8::5"}) {
    ASSERT_TRUE(IpAddr::Parse(text)) << text;
    EXPECT_EQ(IpAddr::Parse(text)->ToString(), text);
  }
  EXPECT_FALSE(IpAddr::Parse("1.2.3"));
  EXPECT_FALSE(IpAddr::Parse(std::string(100, '1')));
}

TEST(AddressTest, MappedAndUnmapped) {  // RFC 4291 2.5.5.2
  const IpAddr v4 = IpAddr::V4(1, 2, 3, 4);
  EXPECT_EQ(v4.Mapped().ToString(), "::ffff:1.2.3.4");
  EXPECT_EQ(v4.Mapped().Unmapped(), v4);
}

TEST(AddressTest, SolicitedNodeAndItsMac) {  // RFC 4291 2.7.1, RFC 2464 7
  const IpAddr group = IpAddr::Parse("2001:db8::1234:5678")->SolicitedNode();
  EXPECT_EQ(group.ToString(), "ff02::1:ff34:5678");
  EXPECT_EQ(MulticastMac(group), (MacAddr{{0x33, 0x33, 0xff, 0x34, 0x56, 0x78}}));
  EXPECT_EQ(MulticastMac(IpAddr::V4(224, 129, 2, 3)),
            (MacAddr{{0x01, 0x00, 0x5e, 0x01, 0x02, 0x03}}));  // RFC 1112 6.4
}

TEST(AddressTest, PrefixHoldsItsHosts) {
  const IpPrefix p{IpAddr::V4(10, 1, 2, 3), 23};
  EXPECT_TRUE(p.Contains(IpAddr::V4(10, 1, 3, 255)));
  EXPECT_FALSE(p.Contains(IpAddr::V4(10, 1, 4, 0)));
  EXPECT_EQ(p.Network(), IpAddr::V4(10, 1, 2, 0));
  EXPECT_EQ(*p.Broadcast(), IpAddr::V4(10, 1, 3, 255));
  EXPECT_FALSE((IpPrefix{IpAddr::V4(10, 1, 2, 3), 31}.Broadcast()));  // RFC 3021 2.1
  EXPECT_TRUE((IpPrefix{IpAddr::Any(Family::kV4), 0}.Contains(IpAddr::V4(9, 9, 9, 9))));
}

TEST(EthernetTest, ShortFramesAreRefused) {
  Bytes b(13);
  EXPECT_FALSE(EthernetView::Parse(b));
  b.resize(14);
  EXPECT_TRUE(EthernetView::Parse(b));
  b[12] = 0x81;
  EXPECT_FALSE(EthernetView::Parse(b));
  b.resize(18);
  b[17] = 7;
  ASSERT_TRUE(EthernetView::Parse(b));
  EXPECT_EQ(EthernetView::Parse(b)->type(), 7);
}

TEST(ArpTest, RoundTrip) {  // RFC 826
  ArpPacket p;
  p.op = ArpOp::kReply;
  p.sender_mac = {{1, 2, 3, 4, 5, 6}};
  p.sender_ip = IpAddr::V4(10, 0, 0, 1);
  p.target_ip = IpAddr::V4(10, 0, 0, 2);
  Bytes b(ArpPacket::kSize);
  p.Write(b.data());
  std::optional<ArpPacket> q = ArpPacket::Parse(b);
  ASSERT_TRUE(q);
  EXPECT_EQ(q->sender_ip, p.sender_ip);
  EXPECT_EQ(q->op, ArpOp::kReply);
  b[7] = 3;
  EXPECT_FALSE(ArpPacket::Parse(b));
  b.resize(27);
  EXPECT_FALSE(ArpPacket::Parse(b));
}

TEST(Ipv4Test, RoundTripCutsPadding) {  // RFC 791 3.1
  IpHeader h;
  h.src = IpAddr::V4(1, 2, 3, 4);
  h.dst = IpAddr::V4(5, 6, 7, 8);
  h.protocol = kProtoUdp;
  h.id = 77;
  h.fragment_offset = 1480;
  h.more_fragments = true;
  Bytes b(64);
  h.Write(b.data(), 16);
  std::optional<Ipv4View> v = Ipv4View::Parse(b);
  ASSERT_TRUE(v);
  EXPECT_TRUE(v->ChecksumOk());
  EXPECT_EQ(v->payload().size(), 16u);
  EXPECT_EQ(v->fragment_offset(), 1480u);
  EXPECT_TRUE(v->more_fragments());
  b[8] ^= 1;
  EXPECT_FALSE(Ipv4View::Parse(b)->ChecksumOk());
}

TEST(Ipv4Test, LengthsThatLieAreRefused) {  // RFC 1122 3.2.1
  Bytes b(20);
  b[0] = 0x45;
  Store16(&b[2], 21);
  EXPECT_FALSE(Ipv4View::Parse(b));
  Store16(&b[2], 19);
  EXPECT_FALSE(Ipv4View::Parse(b));
  Store16(&b[2], 20);
  EXPECT_TRUE(Ipv4View::Parse(b));
  b[0] = 0x44;
  EXPECT_FALSE(Ipv4View::Parse(b));
  b[0] = 0x46;
  EXPECT_FALSE(Ipv4View::Parse(b));
  b[0] = 0x65;
  EXPECT_FALSE(Ipv4View::Parse(b));
}

Bytes Ipv6With(uint8_t next, Bytes payload) {
  IpHeader h;
  h.src = *IpAddr::Parse("fe80::1");
  h.dst = *IpAddr::Parse("fe80::2");
  h.protocol = next;
  Bytes b(kIpv6Header);
  h.Write(b.data(), payload.size());
  b.insert(b.end(), payload.begin(), payload.end());
  return b;
}

TEST(Ipv6Test, WalkFindsTheTransport) {  // RFC 8200 4.1
  Bytes b = Ipv6With(kProtoHopByHop, {kProtoDestOpts, 0, 1, 4, 0, 0, 0, 0,  //
                                      kProtoTcp, 0, 5, 2, 0, 0, 1, 0, 9, 9});
  Ipv6Walk w = WalkIpv6(b, kProtoHopByHop, kIpv6Header, 6);
  EXPECT_EQ(w.stop, Ipv6Walk::Stop::kUpper);
  EXPECT_EQ(w.protocol, kProtoTcp);
  EXPECT_EQ(w.offset, kIpv6Header + 16);
  EXPECT_TRUE(w.router_alert);
}

TEST(Ipv6Test, HopByHopElsewhereIsAProblem) {  // RFC 8200 4.1
  Bytes b = Ipv6With(kProtoDestOpts, {kProtoHopByHop, 0, 1, 4, 0, 0, 0, 0,  //
                                      kProtoTcp, 0, 1, 4, 0, 0, 0, 0});
  Ipv6Walk w = WalkIpv6(b, kProtoDestOpts, kIpv6Header, 6);
  EXPECT_EQ(w.stop, Ipv6Walk::Stop::kParamProblem);
  EXPECT_EQ(w.code, 1);
}

TEST(Ipv6Test, UnknownOptionsFollowTheirTopBits) {  // RFC 8200 4.2
  auto walk = [](uint8_t type) {
    Bytes b = Ipv6With(kProtoDestOpts, {kProtoTcp, 0, type, 0, 1, 2, 0, 0});
    return WalkIpv6(b, kProtoDestOpts, kIpv6Header, 6);
  };
  EXPECT_EQ(walk(0x1e).stop, Ipv6Walk::Stop::kUpper);
  EXPECT_EQ(walk(0x5e).stop, Ipv6Walk::Stop::kMalformed);
  EXPECT_EQ(walk(0x9e).stop, Ipv6Walk::Stop::kParamProblem);
  EXPECT_EQ(walk(0x9e).pointer, 42u);
  EXPECT_FALSE(walk(0x9e).silent_if_multicast);
  EXPECT_TRUE(walk(0xde).silent_if_multicast);
}

TEST(Ipv6Test, RoutingHeaderWithSegmentsLeftIsAProblem) {  // RFC 5095 3
  Bytes b = Ipv6With(kProtoRouting, {kProtoTcp, 0, 0, 1, 0, 0, 0, 0});
  Ipv6Walk w = WalkIpv6(b, kProtoRouting, kIpv6Header, 6);
  EXPECT_EQ(w.stop, Ipv6Walk::Stop::kParamProblem);
  EXPECT_EQ(w.pointer, 42u);
}

TEST(Ipv6Test, HeadersPastTheEndAreMalformed) {
  Bytes b = Ipv6With(kProtoDestOpts, {kProtoTcp, 1, 1, 4, 0, 0, 0, 0});
  EXPECT_EQ(WalkIpv6(b, kProtoDestOpts, kIpv6Header, 6).stop, Ipv6Walk::Stop::kMalformed);
  b = Ipv6With(kProtoDestOpts, {kProtoTcp});
  EXPECT_EQ(WalkIpv6(b, kProtoDestOpts, kIpv6Header, 6).stop, Ipv6Walk::Stop::kMalformed);
  b = Ipv6With(kProtoFragment, {kProtoTcp, 0, 0, 0});
  EXPECT_EQ(WalkIpv6(b, kProtoFragment, kIpv6Header, 6).stop, Ipv6Walk::Stop::kMalformed);
}

TEST(TcpWireTest, OptionsRoundTrip) {  // RFC 7323 2, 3; RFC 2018 2, 3
  TcpSegment s;
  s.src_port = 1;
  s.dst_port = 2;
  s.flags = kSyn;
  s.options.mss = 1460;
  s.options.window_scale = 7;
  s.options.sack_permitted = true;
  s.options.timestamps = TcpTimestamps{5, 6};
  Bytes b(s.header_size());
  EXPECT_EQ(b.size(), 20u + 20u);
  s.Write(b.data());
  std::optional<TcpView> v = TcpView::Parse(b);
  ASSERT_TRUE(v);
  TcpSegment r = v->ToSegment();
  EXPECT_EQ(r.options.mss, 1460);
  EXPECT_EQ(r.options.window_scale, 7);
  EXPECT_TRUE(r.options.sack_permitted);
  EXPECT_EQ(r.options.timestamps, s.options.timestamps);
}

TEST(TcpWireTest, SackBlocksFitBesideTimestamps) {  // RFC 2018 3
  TcpSegment s;
  s.options.timestamps = TcpTimestamps{5, 6};
  s.options.sack_count = 3;
  s.options.sack[2] = {SeqNum(10), SeqNum(20)};
  EXPECT_EQ(s.options.size(), 40u);
  Bytes b(s.header_size());
  s.Write(b.data());
  TcpSegment r = TcpView::Parse(b)->ToSegment();
  EXPECT_EQ(r.options.sack_count, 3);
  EXPECT_EQ(r.options.sack[2], s.options.sack[2]);
}

TEST(TcpWireTest, EverySizeOfOptionsIsWhatWriteProduces) {
  for (int bits = 0; bits < 64; bits++) {
    TcpSegment s;
    if (bits & 1) s.options.mss = 1;
    if (bits & 2) s.options.window_scale = 2;
    if (bits & 4) s.options.sack_permitted = true;
    if (bits & 8) s.options.timestamps = TcpTimestamps{3, 4};
    if (bits & 16) s.options.sack_count = 1;
    if (bits & 32) {
      s.options.fast_open = true;
      s.options.cookie_size = 8;
    }
    if (s.options.size() > 40) continue;
    Bytes b(s.header_size(), 0xee);
    s.Write(b.data());
    TcpSegment r = TcpView::Parse(b)->ToSegment();
    EXPECT_EQ(r.options.mss.has_value(), s.options.mss.has_value()) << bits;
    EXPECT_EQ(r.options.window_scale, s.options.window_scale) << bits;
    EXPECT_EQ(r.options.timestamps, s.options.timestamps) << bits;
    EXPECT_EQ(r.options.sack_count, s.options.sack_count) << bits;
    EXPECT_EQ(r.options.cookie_size, s.options.cookie_size) << bits;
  }
}

TEST(TcpWireTest, BrokenOptionsEndTheList) {  // RFC 9293 3.1, MUST-7
  auto parse = [](Bytes b) { return TcpOptions::Parse(b); };
  EXPECT_FALSE(parse({2, 4, 5}).mss);
  EXPECT_FALSE(parse({2, 0, 5, 5}).mss);
  EXPECT_FALSE(parse({2, 1, 5, 5}).mss);
  EXPECT_FALSE(parse({2}).mss);
  EXPECT_FALSE(parse({2, 3, 5, 1}).mss);
  EXPECT_EQ(parse({99, 3, 0, 2, 4, 1, 0}).mss, 256);
  EXPECT_FALSE(parse({0, 2, 4, 1, 0}).mss);
  EXPECT_EQ(parse({5, 9, 0, 0, 0, 0, 0, 0, 0}).sack_count, 0);
}

TEST(TcpWireTest, DataOffsetIsChecked) {  // RFC 9293 3.1
  Bytes b(24);
  b[12] = 0x40;
  EXPECT_FALSE(TcpView::Parse(b));
  b[12] = 0x70;
  EXPECT_FALSE(TcpView::Parse(b));
  b[12] = 0x60;
  EXPECT_TRUE(TcpView::Parse(b));
  b.resize(19);
  EXPECT_FALSE(TcpView::Parse(b));
}

TEST(SeqNumTest, OrderIsModular) {  // RFC 9293 3.4
  EXPECT_TRUE(SeqNum(0xffffffff).Before(SeqNum(0)));
  EXPECT_TRUE(SeqNum(5).After(SeqNum(0xfffffff0)));
  EXPECT_TRUE(SeqNum(1).InWindow(SeqNum(0xfffffffe), 4));
  EXPECT_FALSE(SeqNum(2).InWindow(SeqNum(0xfffffffe), 4));
}

TEST(UdpWireTest, LengthIsChecked) {  // RFC 768
  Bytes b(10);
  WriteUdp(b.data(), 1, 2, 2);
  EXPECT_EQ(UdpView::Parse(b)->payload().size(), 2u);
  Store16(&b[4], 11);
  EXPECT_FALSE(UdpView::Parse(b));
  Store16(&b[4], 7);
  EXPECT_FALSE(UdpView::Parse(b));
}

TEST(UdpWireTest, NoChecksumIsForIpv4Only) {  // RFC 768, RFC 8200 8.1
  Bytes b(8);
  WriteUdp(b.data(), 1, 2, 0);
  EXPECT_TRUE(UdpView::Parse(b)->ChecksumOk(IpAddr::V4(1), IpAddr::V4(2)));
  EXPECT_FALSE(UdpView::Parse(b)->ChecksumOk(IpAddr::Loopback(Family::kV6),
                                            IpAddr::Loopback(Family::kV6)));
}

TEST(NdpWireTest, OptionOfLengthZeroIsRefused) {  // RFC 4861 7.1.1
  EXPECT_FALSE(NdpOptions::Parse(Bytes{1, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_FALSE(NdpOptions::Parse(Bytes{1, 2, 0, 0, 0, 0, 0, 0}));
  EXPECT_FALSE(NdpOptions::Parse(Bytes{1}));
  EXPECT_TRUE(NdpOptions::Parse(Bytes{1, 1, 1, 2, 3, 4, 5, 6})->source_mac.has_value());
  EXPECT_TRUE(NdpOptions::Parse(Bytes{}));
}

TEST(NdpWireTest, MulticastTargetIsRefused) {  // RFC 4861 7.1.1
  Bytes b(24);
  b[0] = kNdpNeighbourSolicit;
  b[8] = 0xff;
  EXPECT_FALSE(NeighbourSolicit::Parse(*IcmpView::Parse(b)));
  b[8] = 0xfe;
  EXPECT_TRUE(NeighbourSolicit::Parse(*IcmpView::Parse(b)));
  b.resize(23);
  EXPECT_FALSE(NeighbourSolicit::Parse(*IcmpView::Parse(b)));
}

TEST(GroupQueryTest, VersionsAndTimes) {  // RFC 3376 4.1.1, 7.1
  Bytes b = {0x11, 0, 0, 0, 0, 0, 0, 0};
  Store16(&b[2], ChecksumOf(b));
  EXPECT_EQ(GroupQuery::ParseIgmp(b)->version, 1);
  EXPECT_EQ(GroupQuery::ParseIgmp(b)->max_response_ms, 10000u);
  b = {0x11, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  Store16(&b[2], ChecksumOf(b));
  EXPECT_EQ(GroupQuery::ParseIgmp(b)->version, 3);
  EXPECT_EQ(GroupQuery::ParseIgmp(b)->max_response_ms, 12800u);
  b[2] ^= 1;
  EXPECT_FALSE(GroupQuery::ParseIgmp(b));
}

TEST(WireTest, NoParserReadsPastShortInput) {  // under ASan this is the check
  for (size_t n = 0; n < 80; n++) {
    for (int fill : {0x00, 0x45, 0x60, 0x50, 0xff, 0x01}) {
      const Bytes b(n, static_cast<uint8_t>(fill));
      if (auto v = EthernetView::Parse(b)) (void)v->payload();
      if (auto v = Ipv4View::Parse(b)) {
        EXPECT_LE(v->header_size(), n);
      }
      if (auto v = Ipv6View::Parse(b)) (void)WalkIpv6(b, v->next_header(), 40, 6);
      if (auto v = TcpView::Parse(b)) (void)v->ToSegment();
      if (auto v = UdpView::Parse(b)) (void)v->payload();
      if (auto v = IcmpView::Parse(b)) {
        (void)NeighbourAdvert::Parse(*v);
        (void)RouterAdvert::Parse(*v);
        (void)GroupQuery::ParseMld(*v);
      }
      (void)ArpPacket::Parse(b);
      (void)GroupQuery::ParseIgmp(b);
      (void)Ipv6Fragment::Parse(b);
    }
  }
}

}  // namespace
}  // namespace ringwall::net
