// One rule of an RFC a test: IPv4 and IPv6 on the way in, fragments, ICMP, UDP, ARP, NDP, forwarding.
#include "netstack/testing/ip_test_base.h"

namespace ringwall::net::testing {
namespace {

class IpRuleTest : public IpTest {
 protected:
  // A UDP datagram to a bound port as bytes from the IP header on, to be bent.
  std::vector<uint8_t> Datagram4(const std::string& text = "text") {
    const IpHeader h = From(kProtoUdp);
    Packet p = Udp(h, 5, 1000, text);
    const size_t n = p.size();
    h.Write(p.Prepend(h.size()), n);
    const Slice f = p.Flatten();
    return {f.data(), f.data() + f.size()};
  }
  void Fix(std::vector<uint8_t>& d) {
    const size_t header = (d[0] & 0xfu) * 4;
    Store16(&d[10], 0);
    Store16(&d[10], ChecksumOf({d.data(), header}));
  }
  void Raw(const std::vector<uint8_t>& d, uint16_t type = kEthIpv4, const MacAddr& to = kOurMac) {
    SendFrame(type, Packet(Chain(Slice::Copy(d))), to);
  }
  void Part(const Slice& whole, uint32_t from, uint32_t n, bool more, uint16_t id = 1, uint8_t tos = 0) {
    IpHeader h = From(kProtoUdp);
    h.id = id;
    h.tos = tos;
    h.fragment_offset = static_cast<uint16_t>(from);
    h.more_fragments = more;
    SendIp(h, Packet(Chain(whole.Sub(from, n))));
  }
  void Part6(const Slice& whole, uint32_t from, uint32_t n, bool more, uint32_t id = 77) {
    Packet p(Chain(whole.Sub(from, n)));
    Ipv6Fragment{kProtoUdp, from, more, id}.Write(p.Prepend(Ipv6Fragment::kSize));
    SendIp(From(kProtoFragment, true), std::move(p));
  }
  Slice Whole(bool v6 = false, size_t n = 1592) {
    return Udp(From(kProtoUdp, v6), 5, 1000, std::string(n, 'q')).Flatten();
  }
  // type and code of the next ICMP message of ours, or (-1, -1).
  std::pair<int, int> NextIcmp(bool v6 = false) {
    last_ = NextIp(v6 ? kProtoIcmpv6 : kProtoIcmp).value_or(Slice());
    const size_t at = v6 ? 40 : 20;
    if (last_.size() < at + 8) return {-1, -1};
    return {last_.data()[at], last_.data()[at + 1]};
  }
  // The 32 bits behind an ICMP header's checksum, of the message that NextIcmp found.
  uint32_t Rest(bool v6 = false) const { return Load32(last_.data() + (v6 ? 44 : 24)); }
  static constexpr std::pair<int, int> kNone = {-1, -1};
  Ref<UdpEndpoint> Bound(bool v6 = false) {
    KnowPeer();
    return NewUdp(v6 ? Family::kV6 : Family::kV4, 1000);
  }
  // An IPv6 packet whose extension headers are given, with UDP behind.
  void Extended(uint8_t first, std::vector<uint8_t> headers, const IpAddr* dst = nullptr) {
    IpHeader h = From(first, true);
    if (dst != nullptr) h.dst = *dst;
    const IpHeader plain = [&] { IpHeader u = From(kProtoUdp, true); u.dst = h.dst; return u; }();
    Packet p = Udp(plain, 5, 1000, "text");
    headers.insert(headers.end(), p.header().begin(), p.header().end());
    Packet all(Chain(Slice::Copy(headers)));
    for (const Slice& s : p.payload.slices()) all.payload.Append(s);
    SendIp(h, std::move(all), dst != nullptr && dst->IsMulticast() ? MulticastMac(*dst) : kOurMac);
  }
  Slice last_;
};

// ---- IPv4 in: RFC 791 3.1, RFC 1122 3.2.1 ----

TEST_F(IpRuleTest, AnotherVersionIsDropped) {  // RFC 1122 3.2.1.1
  Ref<UdpEndpoint> u = Bound();
  std::vector<uint8_t> d = Datagram4();
  d[0] = 0x55;
  Fix(d);
  Raw(d);
  EXPECT_EQ(Receive(*u), "nothing");
  EXPECT_EQ(stack_->GetCounters().ip4.in_hdr_errors, 1u);
}

TEST_F(IpRuleTest, BadHeaderChecksumIsDroppedSilently) {  // RFC 1122 3.2.1.2
  Ref<UdpEndpoint> u = Bound();
  std::vector<uint8_t> d = Datagram4();
  d[10] ^= 1;
  Raw(d);
  EXPECT_EQ(Receive(*u), "nothing");
  EXPECT_EQ(NextIcmp(), kNone);
}

TEST_F(IpRuleTest, HeaderShorterThanFiveWordsIsDropped) {  // RFC 791 3.1
  Ref<UdpEndpoint> u = Bound();
  std::vector<uint8_t> d = Datagram4();
  d[0] = 0x44;
  Raw(d);
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, LengthBeyondTheFrameIsDropped) {  // RFC 791 3.1
  Ref<UdpEndpoint> u = Bound();
  std::vector<uint8_t> d = Datagram4();
  Store16(&d[2], static_cast<uint16_t>(d.size() + 1));
  Fix(d);
  Raw(d);
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, PaddingOfTheFrameIsNoData) {  // RFC 894
  Ref<UdpEndpoint> u = Bound();
  std::vector<uint8_t> d = Datagram4();
  d.resize(d.size() + 14, 0xee);
  Raw(d);
  EXPECT_EQ(Receive(*u), "text");
}

TEST_F(IpRuleTest, OptionsThatAskNothingPass) {  // RFC 1122 3.2.1.8
  Ref<UdpEndpoint> u = Bound();
  IpHeader h = From(kProtoUdp);
  static const uint8_t options[8] = {1, 7, 4, 4, 1, 0, 0, 0};  // NOP, record route, NOP, end
  h.options = options;
  SendIp(h, Udp(h, 5, 1000, "text"));
  EXPECT_EQ(Receive(*u), "text");
}

TEST_F(IpRuleTest, MalformedOptionIsAParameterProblem) {  // RFC 1122 3.2.2.5
  Bound();
  IpHeader h = From(kProtoUdp);
  static const uint8_t options[4] = {1, 7, 9, 4};  // longer than the header
  h.options = options;
  SendIp(h, Udp(h, 5, 1000, "text"));
  EXPECT_EQ(NextIcmp(), (std::pair{int{kIcmpParamProblem}, 0}));
  EXPECT_EQ(Rest() >> 24, 21u);  // RFC 792: the octet where it was found
}

TEST_F(IpRuleTest, StrictSourceRouteIsRefused) {  // RFC 7126 4.4
  Ref<UdpEndpoint> u = Bound();
  IpHeader h = From(kProtoUdp);
  static const uint8_t options[8] = {137, 7, 4, 10, 0, 0, 9, 0};
  h.options = options;
  SendIp(h, Udp(h, 5, 1000, "text"));
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, LoopbackDestinationDoesNotComeFromOutside) {  // RFC 1122 3.2.1.3 (g)
  Ref<UdpEndpoint> u = Bound();
  IpHeader h = From(kProtoUdp);
  h.dst = IpAddr::V4(127, 0, 0, 1);
  SendIp(h, Udp(h, 5, 1000, "text"));
  EXPECT_EQ(Receive(*u), "nothing");
  EXPECT_EQ(stack_->GetCounters().ip4.in_martian, 1u);
}

TEST_F(IpRuleTest, UnicastInALinkBroadcastIsDropped) {  // RFC 1122 3.3.6
  Ref<UdpEndpoint> u = Bound();
  const IpHeader h = From(kProtoUdp);
  SendIp(h, Udp(h, 5, 1000, "text"), MacAddr::Broadcast());
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, AnothersDatagramIsNotForwardedByAHost) {  // RFC 1122 3.2.1.3
  KnowPeer();
  IpHeader h = From(kProtoUdp);
  h.dst = IpAddr::V4(10, 0, 0, 9);
  SendIp(h, Udp(h, 5, 1000, "text"));
  EXPECT_EQ(NextIcmp(), kNone);
  EXPECT_EQ(stack_->GetCounters().ip4.in_addr_errors, 1u);
}

TEST_F(IpRuleTest, TtlOfOneIsEnoughToArrive) {  // RFC 1122 3.2.1.7
  Ref<UdpEndpoint> u = Bound();
  IpHeader h = From(kProtoUdp);
  h.ttl = 1;
  SendIp(h, Udp(h, 5, 1000, "text"));
  EXPECT_EQ(Receive(*u), "text");
}

TEST_F(IpRuleTest, EchoReplyHasTheRequestsTos) {  // RFC 1122 3.2.2.6
  KnowPeer();
  IpHeader h = From(kProtoIcmp);
  h.tos = 0x10;
  SendIp(h, Icmp(h, kIcmpEcho, 0, 7, "abc"));
  EXPECT_EQ(NextIcmp(), (std::pair{0, 0}));
  EXPECT_EQ(last_.data()[1], 0x10);
}

// ---- Fragments: RFC 791 3.2, RFC 8200 4.5, RFC 5722, RFC 6946, RFC 3168 5.3 ----

TEST_F(IpRuleTest, MiddlePartOfAnOddSizeIsAParameterProblem) {  // RFC 791 3.2
  Bound();
  Part(Whole(), 0, 801, true);
  EXPECT_EQ(NextIcmp(), (std::pair{int{kIcmpParamProblem}, 0}));
}

TEST_F(IpRuleTest, PartsOfTwoDatagramsDoNotMix) {  // RFC 791 3.2
  Ref<UdpEndpoint> u = Bound();
  Part(Whole(), 0, 800, true, 1);
  Part(Whole(), 800, 800, false, 2);
  EXPECT_EQ(Receive(*u), "nothing");
  Part(Whole(), 800, 800, false, 1);
  EXPECT_EQ(Receive(*u).size(), 1592u);
}

TEST_F(IpRuleTest, PartsOfTwoProtocolsDoNotMix) {  // RFC 791 3.2
  Ref<UdpEndpoint> u = Bound();
  Part(Whole(), 0, 800, true);
  IpHeader h = From(kProtoTcp);
  h.id = 1;
  h.fragment_offset = 800;
  SendIp(h, Packet(Chain(Whole().Sub(800, 800))));
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, PartsOfTwoHostsDoNotMix) {  // RFC 791 3.2
  Ref<UdpEndpoint> u = Bound();
  Part(Whole(), 0, 800, true);
  IpHeader h = From(kProtoUdp);
  h.src = IpAddr::V4(10, 0, 0, 3);
  h.id = 1;
  h.fragment_offset = 800;
  SendIp(h, Packet(Chain(Whole().Sub(800, 800))));
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, TwoDifferentEndsThrowAllAway) {  // RFC 5722 4
  Ref<UdpEndpoint> u = Bound();
  Part(Whole(), 800, 800, false);
  Part(Whole(), 800, 400, false);
  Part(Whole(), 0, 800, true);
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, MarkOfOnePartMarksTheWhole) {  // RFC 3168 5.3
  Ref<UdpEndpoint> u = Bound();
  Part(Whole(), 0, 800, true, 1, 2);
  Part(Whole(), 800, 800, false, 1, 3);
  NetResult<Datagram> d = u->Receive();
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->tos & 3, 3);
}

TEST_F(IpRuleTest, MarkBesideANotCapablePartIsDropped) {  // RFC 3168 5.3
  Ref<UdpEndpoint> u = Bound();
  Part(Whole(), 0, 800, true, 1, 0);
  Part(Whole(), 800, 800, false, 1, 3);
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, WaitForPartsEndsAfterThirtySeconds) {  // RFC 1122 3.3.2
  Ref<UdpEndpoint> u = Bound();
  Part(Whole(), 0, 800, true);
  AdvanceMs(30001);
  Part(Whole(), 800, 800, false);
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, Ipv6WaitEndsAfterSixtySeconds) {  // RFC 8200 4.5
  Ref<UdpEndpoint> u = Bound(true);
  Part6(Whole(true), 0, 800, true);
  AdvanceMs(59000);
  EXPECT_EQ(NextIcmp(true).first == kIcmp6TimeExceeded, false);
  sink_->frames.clear();
  AdvanceMs(2000);
  EXPECT_EQ(NextIcmp(true), (std::pair{int{kIcmp6TimeExceeded}, 1}));
  Part6(Whole(true), 800, 800, false);
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, Ipv6OverlapThrowsAllAway) {  // RFC 5722 4
  Ref<UdpEndpoint> u = Bound(true);
  Part6(Whole(true), 0, 800, true);
  Part6(Whole(true), 792, 8, true);
  Part6(Whole(true), 800, 800, false);
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, AtomicFragmentIsWholeByItself) {  // RFC 6946 3
  Ref<UdpEndpoint> u = Bound(true);
  Part6(Whole(true), 0, 800, true);
  const Slice other = Udp(From(kProtoUdp, true), 5, 1000, "alone").Flatten();
  Part6(other, 0, static_cast<uint32_t>(other.size()), false);  // the same identification
  EXPECT_EQ(Receive(*u), "alone");
  Part6(Whole(true), 800, 800, false);
  EXPECT_EQ(Receive(*u).size(), 1592u);
}

TEST_F(IpRuleTest, Ipv6PartOfAnOddSizeIsAParameterProblem) {  // RFC 8200 4.5
  Bound(true);
  Part6(Whole(true), 0, 801, true);
  EXPECT_EQ(NextIcmp(true), (std::pair{int{kIcmp6ParamProblem}, 0}));
  EXPECT_EQ(Rest(true), 4u);  // the payload length
}

// ---- Extension headers: RFC 8200 4 ----

TEST_F(IpRuleTest, UnknownOptionToSkipIsSkipped) {  // RFC 8200 4.2: 00
  Ref<UdpEndpoint> u = Bound(true);
  Extended(60, {kProtoUdp, 0, 0x1e, 4, 0, 0, 0, 0});
  EXPECT_EQ(Receive(*u), "text");
}

TEST_F(IpRuleTest, UnknownOptionToDiscardIsSilent) {  // RFC 8200 4.2: 01
  Ref<UdpEndpoint> u = Bound(true);
  Extended(60, {kProtoUdp, 0, 0x5e, 4, 0, 0, 0, 0});
  EXPECT_EQ(Receive(*u), "nothing");
  EXPECT_NE(NextIcmp(true).first, kIcmp6ParamProblem);
}

TEST_F(IpRuleTest, UnknownOptionToReportIsReported) {  // RFC 8200 4.2: 10
  Bound(true);
  Extended(60, {kProtoUdp, 0, 0x9e, 4, 0, 0, 0, 0});
  EXPECT_EQ(NextIcmp(true), (std::pair{int{kIcmp6ParamProblem}, 2}));
  EXPECT_EQ(Rest(true), 42u);
}

TEST_F(IpRuleTest, UnknownOptionToAGroupMayBeSilent) {  // RFC 8200 4.2: 11
  Bound(true);
  const IpAddr all = *IpAddr::Parse("ff02::1");
  Extended(60, {kProtoUdp, 0, 0xde, 4, 0, 0, 0, 0}, &all);
  EXPECT_NE(NextIcmp(true).first, kIcmp6ParamProblem);
}

TEST_F(IpRuleTest, HopByHopIsFirstOrNotAtAll) {  // RFC 8200 4.1
  Bound(true);
  Extended(60, {0, 0, 1, 4, 0, 0, 0, 0, kProtoUdp, 0, 1, 4, 0, 0, 0, 0});
  EXPECT_EQ(NextIcmp(true), (std::pair{int{kIcmp6ParamProblem}, 1}));
}

TEST_F(IpRuleTest, RoutingHeaderWithSegmentsLeftIsRefused) {  // RFC 5095 3
  Ref<UdpEndpoint> u = Bound(true);
  std::vector<uint8_t> routing(24);
  routing[0] = kProtoUdp;
  routing[1] = 2;
  routing[3] = 1;
  Extended(43, routing);
  EXPECT_EQ(Receive(*u), "nothing");
  EXPECT_EQ(NextIcmp(true), (std::pair{int{kIcmp6ParamProblem}, 0}));
}

TEST_F(IpRuleTest, RoutingHeaderWithoutSegmentsLeftIsSkipped) {  // RFC 8200 4.4
  Ref<UdpEndpoint> u = Bound(true);
  std::vector<uint8_t> routing(24);
  routing[0] = kProtoUdp;
  routing[1] = 2;
  Extended(43, routing);
  EXPECT_EQ(Receive(*u), "text");
}

TEST_F(IpRuleTest, NoNextHeaderIsTheEnd) {  // RFC 8200 4.7
  Bound(true);
  SendIp(From(59, true), Body("whatever"));
  EXPECT_NE(NextIcmp(true).first, kIcmp6ParamProblem);
}

TEST_F(IpRuleTest, UnknownNextHeaderIsReported) {  // RFC 4443 3.4
  Bound(true);
  SendIp(From(200, true), Body("whatever"));
  EXPECT_EQ(NextIcmp(true), (std::pair{int{kIcmp6ParamProblem}, 1}));
}

TEST_F(IpRuleTest, GroupIsNoSource) {  // RFC 4291 2.7
  Ref<UdpEndpoint> u = Bound(true);
  IpHeader h = From(kProtoUdp, true);
  h.src = *IpAddr::Parse("ff02::5");
  SendIp(h, Udp(h, 5, 1000, "text"));
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, MappedAddressesDoNotTravel) {  // RFC 4942 2.2
  Ref<UdpEndpoint> u = Bound(true);
  IpHeader h = From(kProtoUdp, true);
  h.src = *IpAddr::Parse("::ffff:10.0.0.2");
  SendIp(h, Udp(h, 5, 1000, "text"));
  EXPECT_EQ(Receive(*u), "nothing");
}

// ---- ICMP: RFC 792, RFC 1122 3.2.2, RFC 4443, RFC 6918 ----

TEST_F(IpRuleTest, ObsoleteRequestsAreIgnored) {  // RFC 6918 3
  KnowPeer();
  const IpHeader h = From(kProtoIcmp);
  for (uint8_t type : {13, 15, 17, 4, 5, 9, 10, 30}) SendIp(h, Icmp(h, type, 0, 7, std::string(40, 'x')));
  EXPECT_EQ(NextIcmp(), kNone);
}

TEST_F(IpRuleTest, BadIcmpChecksumIsDropped) {  // RFC 1122 3.2.2
  KnowPeer();
  const IpHeader h = From(kProtoIcmp);
  Packet p = Icmp(h, kIcmpEcho, 0, 7, "abc");
  p.header_data()[2] ^= 1;
  SendIp(h, std::move(p));
  EXPECT_EQ(NextIcmp(), kNone);
  EXPECT_EQ(stack_->GetCounters().icmp4.in_csum_errors, 1u);
}

TEST_F(IpRuleTest, ShortIcmpIsDropped) {  // RFC 792
  KnowPeer();
  SendIp(From(kProtoIcmp), Body("abc"));
  EXPECT_EQ(NextIcmp(), kNone);
  EXPECT_EQ(stack_->GetCounters().icmp4.in_errors, 1u);
}

TEST_F(IpRuleTest, NoErrorAboutALaterFragment) {  // RFC 1122 3.2.2
  KnowPeer();
  IpHeader h = From(200);
  h.fragment_offset = 800;
  SendIp(h, Body(std::string(16, 'x')));
  AdvanceMs(40000);
  EXPECT_EQ(NextIcmp(), kNone);
}

TEST_F(IpRuleTest, ErrorQuotesAtMost576Bytes) {  // RFC 1812 4.3.2.3
  KnowPeer();
  const IpHeader h = From(kProtoUdp);
  SendIp(h, Udp(h, 5, 7, std::string(1400, 'x')));
  EXPECT_EQ(NextIcmp(), (std::pair{int{kIcmpUnreachable}, 3}));
  EXPECT_EQ(last_.size(), 576u);
}

TEST_F(IpRuleTest, Ipv6ErrorFitsTheLeastMtu) {  // RFC 4443 2.4 (c)
  KnowPeer();
  const IpHeader h = From(kProtoUdp, true);
  SendIp(h, Udp(h, 5, 7, std::string(1400, 'x')));
  EXPECT_EQ(NextIcmp(true), (std::pair{int{kIcmp6Unreachable}, 4}));
  EXPECT_EQ(last_.size(), 1280u);
}

TEST_F(IpRuleTest, Ipv6EchoToAllNodesIsAnsweredFromOurOwn) {  // RFC 4443 4.2
  KnowPeer();
  IpHeader h = From(kProtoIcmpv6, true);
  h.dst = *IpAddr::Parse("ff02::1");
  SendIp(h, Icmp(h, kIcmp6Echo, 0, 7, "abc"), MulticastMac(h.dst));
  EXPECT_EQ(NextIcmp(true), (std::pair{int{kIcmp6EchoReply}, 0}));
  EXPECT_EQ(IpAddr::V6(last_.data() + 8), our6_);
}

// ---- UDP: RFC 768, RFC 8200 8.1 ----

TEST_F(IpRuleTest, LengthBelowTheHeaderIsDropped) {  // RFC 768
  Ref<UdpEndpoint> u = Bound();
  std::vector<uint8_t> d = Datagram4();
  Store16(&d[24], 7);
  Raw(d);
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, UdpLengthBeyondTheDatagramIsDropped) {  // RFC 768
  Ref<UdpEndpoint> u = Bound();
  std::vector<uint8_t> d = Datagram4();
  Store16(&d[24], 13);
  Store16(&d[26], 0);
  Raw(d);
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, NoChecksumIsFineForIpv4) {  // RFC 768
  Ref<UdpEndpoint> u = Bound();
  std::vector<uint8_t> d = Datagram4();
  Store16(&d[26], 0);
  Raw(d);
  EXPECT_EQ(Receive(*u), "text");
}

TEST_F(IpRuleTest, NoChecksumIsNotFineForIpv6) {  // RFC 8200 8.1
  Ref<UdpEndpoint> u = Bound(true);
  const IpHeader h = From(kProtoUdp, true);
  Packet p = Udp(h, 5, 1000, "text");
  Store16(p.header_data() + 6, 0);
  SendIp(h, std::move(p));
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(IpRuleTest, SourcePortMayBeNone) {  // RFC 768
  Ref<UdpEndpoint> u = Bound();
  const IpHeader h = From(kProtoUdp);
  SendIp(h, Udp(h, 0, 1000, "text"));
  NetResult<Datagram> d = u->Receive();
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->from.port, 0);
}

// ---- ARP: RFC 826, RFC 5227 ----

TEST_F(IpRuleTest, ArpOfAnotherHardwareIsDropped) {  // RFC 826
  Packet p;
  ArpPacket{ArpOp::kRequest, kPeerMac, kPeer, {}, kOur}.Write(p.Prepend(ArpPacket::kSize));
  p.header_data()[1] = 6;
  SendFrame(kEthArp, std::move(p), MacAddr::Broadcast());
  EXPECT_FALSE(NextArp());
  EXPECT_EQ(stack_->GetCounters().arp_malformed, 1u);
}

TEST_F(IpRuleTest, CutArpIsDropped) {  // RFC 826
  Packet p;
  ArpPacket{ArpOp::kRequest, kPeerMac, kPeer, {}, kOur}.Write(p.Prepend(ArpPacket::kSize));
  SendFrame(kEthArp, Packet(Chain(p.Flatten().Sub(0, 20))), MacAddr::Broadcast());
  EXPECT_FALSE(NextArp());
}

TEST_F(IpRuleTest, RequestTeachesTheAskersAddress) {  // RFC 826: merge
  Packet p;
  ArpPacket{ArpOp::kRequest, kPeerMac, kPeer, {}, kOur}.Write(p.Prepend(ArpPacket::kSize));
  SendFrame(kEthArp, std::move(p), MacAddr::Broadcast());
  ASSERT_TRUE(NextArp());
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  ASSERT_TRUE(SendTo(*u, kPeer, 9, "hi").ok());
  EXPECT_TRUE(NextIp(kProtoUdp));  // no question before it
}

// ---- NDP: RFC 4861 ----

TEST_F(IpRuleTest, SolicitationForAnotherIsIgnored) {  // RFC 4861 7.2.3
  KnowPeer();
  IpHeader h = From(kProtoIcmpv6, true);
  h.ttl = 255;
  const IpAddr target = *IpAddr::Parse("2001:db8::99");
  std::string body(reinterpret_cast<const char*>(target.data()), 16);
  SendIp(h, Icmp(h, kNdpNeighbourSolicit, 0, 0, body));
  EXPECT_NE(NextIcmp(true).first, kNdpNeighbourAdvert);
}

TEST_F(IpRuleTest, OptionOfNoLengthIsRefused) {  // RFC 4861 4.6
  KnowPeer();
  IpHeader h = From(kProtoIcmpv6, true);
  h.ttl = 255;
  std::string body(reinterpret_cast<const char*>(our6_.data()), 16);
  body += std::string("\x01\x00\x02\x00\x00\x00\x00\x02", 8);
  SendIp(h, Icmp(h, kNdpNeighbourSolicit, 0, 0, body));
  EXPECT_NE(NextIcmp(true).first, kNdpNeighbourAdvert);
  EXPECT_EQ(stack_->GetCounters().icmp6.in_bad_ndp, 1u);
}

TEST_F(IpRuleTest, SolicitationWithACodeIsRefused) {  // RFC 4861 7.1.1
  KnowPeer();
  IpHeader h = From(kProtoIcmpv6, true);
  h.ttl = 255;
  std::string body(reinterpret_cast<const char*>(our6_.data()), 16);
  SendIp(h, Icmp(h, kNdpNeighbourSolicit, 1, 0, body));
  EXPECT_NE(NextIcmp(true).first, kNdpNeighbourAdvert);
}

TEST_F(IpRuleTest, AdvertOfARouterFarAwayIsRefused) {  // RFC 4861 6.1.2
  IpHeader h = From(kProtoIcmpv6, true);
  h.ttl = 255;
  h.dst = *IpAddr::Parse("ff02::1");
  SendIp(h, Icmp(h, kNdpRouterAdvert, 0, 0x40000708, std::string(8, 0)), MulticastMac(h.dst));
  bool found = false;
  for (const RouteEntry& r : stack_->Routes()) found |= r.gateway == peer6_;
  EXPECT_FALSE(found);
}

TEST_F(IpRuleTest, RedirectIsIgnored) {  // accept_redirects is off
  KnowPeer();
  IpHeader h = From(kProtoIcmpv6, true);
  h.ttl = 255;
  h.src = *IpAddr::Parse("fe80::2");
  std::string body(reinterpret_cast<const char*>(IpAddr::Parse("fe80::9")->data()), 16);
  body += std::string(reinterpret_cast<const char*>(peer6_.data()), 16);
  const size_t routes = stack_->Routes().size();
  SendIp(h, Icmp(h, kNdpRedirect, 0, 0, body));
  EXPECT_EQ(stack_->Routes().size(), routes);
}

// ---- Forwarding: RFC 1812 5, RFC 4443 3 ----

class ForwardRuleTest : public IpRuleTest {
 protected:
  ForwardRuleTest() {
    StackConfig c = stack_->Config();
    c.forwarding4 = c.forwarding6 = true;
    stack_->SetConfig(c);
    InterfaceConfig far;
    far.name = "far0";
    far.kind = LinkKind::kIp;
    far.mtu = 1280;
    out_ = MakeRef<CaptureSink>();
    far_ = *stack_->AddInterface(far, out_);
    EXPECT_TRUE(stack_->AddAddress(far_, {IpAddr::V4(10, 1, 0, 1), 24}).ok());
    EXPECT_TRUE(stack_->AddAddress(far_, {*IpAddr::Parse("2001:db8:1::1"), 64}, true).ok());
    EXPECT_TRUE(stack_->SetUp(far_, true).ok());
    KnowPeer();
    sink_->frames.clear();
    out_->frames.clear();
  }
  IpHeader To(bool v6 = false) {
    IpHeader h = From(kProtoUdp, v6);
    h.dst = v6 ? *IpAddr::Parse("2001:db8:1::5") : IpAddr::V4(10, 1, 0, 5);
    return h;
  }
  std::optional<Slice> Out() {
    if (out_->frames.empty()) return std::nullopt;
    Slice s = out_->frames.front();
    out_->frames.pop_front();
    return s;
  }
  RefPtr<CaptureSink> out_;
  IfIndex far_ = 0;
};

TEST_F(ForwardRuleTest, TtlFallsByOneAndTheChecksumHolds) {  // RFC 1812 5.3.1
  IpHeader h = To();
  h.ttl = 9;
  SendIp(h, Udp(h, 5, 7, "text"));
  std::optional<Slice> d = Out();
  ASSERT_TRUE(d);
  std::optional<Ipv4View> v = Ipv4View::Parse(d->span());
  ASSERT_TRUE(v);
  EXPECT_EQ(v->ttl(), 8);
  EXPECT_TRUE(v->ChecksumOk());
}

TEST_F(ForwardRuleTest, NoRouteIsUnreachable) {  // RFC 1812 5.2.7.1
  IpHeader h = From(kProtoUdp);
  h.dst = IpAddr::V4(192, 0, 2, 1);
  SendIp(h, Udp(h, 5, 7, "text"));
  EXPECT_EQ(NextIcmp(), (std::pair{int{kIcmpUnreachable}, 0}));
}

TEST_F(ForwardRuleTest, TooLargeWithoutFragmentsTellsTheMtu) {  // RFC 1191 4
  IpHeader h = To();
  h.dont_fragment = true;
  SendIp(h, Udp(h, 5, 7, std::string(1400, 'x')));
  EXPECT_FALSE(Out());
  EXPECT_EQ(NextIcmp(), (std::pair{int{kIcmpUnreachable}, 4}));
  EXPECT_EQ(Rest(), 1280u);
}

TEST_F(ForwardRuleTest, TooLargeIsCutWhereItMayBe) {  // RFC 1812 5.2.6
  const IpHeader h = To();
  SendIp(h, Udp(h, 5, 7, std::string(1400, 'x')));
  std::optional<Slice> a = Out(), b = Out();
  ASSERT_TRUE(a && b);
  std::optional<Ipv4View> first = Ipv4View::Parse(a->span()), second = Ipv4View::Parse(b->span());
  EXPECT_TRUE(first->more_fragments());
  EXPECT_FALSE(second->more_fragments());
  EXPECT_EQ(second->fragment_offset(), first->payload().size());
  EXPECT_EQ(first->payload().size() + second->payload().size(), 1408u);
}

TEST_F(ForwardRuleTest, Ipv6TooLargeTellsTheMtu) {  // RFC 4443 3.2
  const IpHeader h = To(true);
  SendIp(h, Udp(h, 5, 7, std::string(1400, 'x')));
  EXPECT_FALSE(Out());
  EXPECT_EQ(NextIcmp(true), (std::pair{int{kIcmp6PacketTooBig}, 0}));
  EXPECT_EQ(Rest(true), 1280u);
}

TEST_F(ForwardRuleTest, Ipv6HopLimitEnds) {  // RFC 4443 3.3
  IpHeader h = To(true);
  h.ttl = 1;
  SendIp(h, Udp(h, 5, 7, "text"));
  EXPECT_FALSE(Out());
  EXPECT_EQ(NextIcmp(true), (std::pair{int{kIcmp6TimeExceeded}, 0}));
}

TEST_F(ForwardRuleTest, LinkLocalSourceStaysOnItsLink) {  // RFC 3927 7
  IpHeader h = To();
  h.src = IpAddr::V4(169, 254, 1, 1);
  SendIp(h, Udp(h, 5, 7, "text"));
  EXPECT_FALSE(Out());
}

TEST_F(ForwardRuleTest, BroadcastIsNotForwarded) {  // RFC 2644 2
  IpHeader h = To();
  h.dst = IpAddr::V4(10, 1, 0, 255);
  SendIp(h, Udp(h, 5, 7, "text"));
  EXPECT_FALSE(Out());
}

TEST_F(ForwardRuleTest, GroupIsNotForwarded) {  // RFC 1812 5.3.5, without multicast routing
  IpHeader h = To();
  h.dst = IpAddr::V4(239, 1, 1, 1);
  SendIp(h, Udp(h, 5, 7, "text"), MulticastMac(h.dst));
  EXPECT_FALSE(Out());
}

TEST_F(ForwardRuleTest, AdvertsOfRoutersAreNotHeard) {  // RFC 4861 6.2.6
  IpHeader h = From(kProtoIcmpv6, true);
  h.ttl = 255;
  h.src = *IpAddr::Parse("fe80::2");
  h.dst = *IpAddr::Parse("ff02::1");
  SendIp(h, Icmp(h, kNdpRouterAdvert, 0, 0x40000708, std::string(8, 0)), MulticastMac(h.dst));
  for (const RouteEntry& r : stack_->Routes()) EXPECT_NE(r.gateway, h.src);
}

}  // namespace
}  // namespace ringwall::net::testing
