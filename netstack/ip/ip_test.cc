// IPv4, IPv6, ARP, NDP, ICMP, fragments, UDP, routes: a scripted host on an Ethernet link.
#include "netstack/testing/ip_test_base.h"

namespace ringwall::net::testing {
namespace {

class ArpTest : public IpTest {};
class NdpTest : public IpTest {};
class IcmpTest : public IpTest {};
class FragmentTest : public IpTest {};
class UdpTest : public IpTest {};
class RouteTest : public IpTest {};
class RawTest : public IpTest {};

// ---- ARP: RFC 826, RFC 5227 ----

TEST_F(ArpTest, RequestForUsIsAnswered) {
  Packet p;
  ArpPacket{ArpOp::kRequest, kPeerMac, kPeer, {}, kOur}.Write(p.Prepend(ArpPacket::kSize));
  SendFrame(kEthArp, std::move(p), MacAddr::Broadcast());
  std::optional<ArpPacket> a = NextArp();
  ASSERT_TRUE(a);
  EXPECT_EQ(a->op, ArpOp::kReply);
  EXPECT_EQ(a->sender_mac, kOurMac);
  EXPECT_EQ(a->target_mac, kPeerMac);
}

TEST_F(ArpTest, RequestForAnotherIsIgnored) {
  Packet p;
  ArpPacket{ArpOp::kRequest, kPeerMac, kPeer, {}, IpAddr::V4(10, 0, 0, 3)}.Write(
      p.Prepend(ArpPacket::kSize));
  SendFrame(kEthArp, std::move(p), MacAddr::Broadcast());
  EXPECT_FALSE(NextArp());
  EXPECT_TRUE(stack_->Neighbours(eth_).empty());  // nor is anything learnt
}

TEST_F(ArpTest, ProbeForUsIsAnsweredAndTeachesNothing) {  // RFC 5227 2.1.1
  Packet p;
  ArpPacket{ArpOp::kRequest, kPeerMac, IpAddr::V4(0, 0, 0, 0), {}, kOur}.Write(
      p.Prepend(ArpPacket::kSize));
  SendFrame(kEthArp, std::move(p), MacAddr::Broadcast());
  EXPECT_TRUE(NextArp());
  EXPECT_TRUE(stack_->Neighbours(eth_).empty());
}

TEST_F(ArpTest, ConflictIsDefended) {  // RFC 5227 2.4
  Packet p;
  ArpPacket{ArpOp::kRequest, kPeerMac, kOur, {}, kOur}.Write(p.Prepend(ArpPacket::kSize));
  SendFrame(kEthArp, std::move(p), MacAddr::Broadcast());
  std::optional<ArpPacket> a = NextArp();
  ASSERT_TRUE(a);
  EXPECT_EQ(a->sender_ip, kOur);
  EXPECT_EQ(a->target_ip, kOur);
}

TEST_F(ArpTest, DatagramWaitsForTheAnswer) {  // RFC 1122 2.3.2.2
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  ASSERT_TRUE(SendTo(*u, kPeer, 9, "hi").ok());
  std::optional<ArpPacket> a = NextArp();
  ASSERT_TRUE(a);
  EXPECT_EQ(a->target_ip, kPeer);
  Packet p;
  ArpPacket{ArpOp::kReply, kPeerMac, kPeer, kOurMac, kOur}.Write(p.Prepend(ArpPacket::kSize));
  SendFrame(kEthArp, std::move(p));
  EXPECT_TRUE(NextIp(kProtoUdp));
}

TEST_F(ArpTest, SilenceFailsTheSender) {  // RFC 1122 2.3.2.1; Linux EHOSTUNREACH
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  ASSERT_TRUE(u->Connect({kPeer, 9}).ok());
  ASSERT_TRUE(u->SetOption(Option::kRecvErr, 1).ok());
  SendParams none;
  ASSERT_TRUE(u->Send(Body("hi").payload, none).ok());
  AdvanceMs(5000);
  EXPECT_EQ(u->TakeError(), NetError::kHostUnreach);
}

TEST_F(ArpTest, AnswerNotAskedForIsIgnored) {  // a forged reply makes no entry
  Packet p;
  ArpPacket{ArpOp::kReply, kPeerMac, kPeer, kOurMac, kOur}.Write(p.Prepend(ArpPacket::kSize));
  SendFrame(kEthArp, std::move(p));
  EXPECT_TRUE(stack_->Neighbours(eth_).empty());
}

TEST_F(ArpTest, StaleNeighbourIsProbedByUnicast) {  // RFC 4861 7.3.3, RFC 1122 2.3.2.1
  Packet p;
  ArpPacket{ArpOp::kRequest, kPeerMac, kPeer, {}, kOur}.Write(p.Prepend(ArpPacket::kSize));
  SendFrame(kEthArp, std::move(p));
  sink_->frames.clear();
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  ASSERT_TRUE(SendTo(*u, kPeer, 9, "hi").ok());
  EXPECT_TRUE(NextIp(kProtoUdp));  // sent at once: the entry is stale, not gone
  AdvanceMs(5001);
  bool probed = false;
  for (const Slice& f : sink_->frames) {
    std::optional<EthernetView> e = EthernetView::Parse(f.span());
    probed |= e->type() == kEthArp && e->dst() == kPeerMac;
  }
  EXPECT_TRUE(probed);
}

TEST_F(ArpTest, FloodOfNeighboursIsBounded) {  // hostile peer
  for (int i = 0; i < 5000; i++) {
    Packet p;
    ArpPacket{
        ArpOp::kRequest, kPeerMac, IpAddr::V4(0x0a000100u + static_cast<uint32_t>(i)), {}, kOur}
        .Write(p.Prepend(ArpPacket::kSize));
    SendFrame(kEthArp, std::move(p));
    sink_->frames.clear();
  }
  EXPECT_LE(stack_->Neighbours(eth_).size(), 1024u);
}

// ---- NDP: RFC 4861, RFC 4862 ----

TEST_F(NdpTest, SolicitationIsAnswered) {  // RFC 4861 7.2.4
  IpHeader h = From(kProtoIcmpv6, true);
  h.dst = our6_.SolicitedNode();
  h.ttl = 255;
  std::string body(reinterpret_cast<const char*>(our6_.data()), 16);
  body += std::string("\1\1", 2) + std::string(reinterpret_cast<const char*>(kPeerMac.b.data()), 6);
  SendIp(h, Icmp(h, kNdpNeighbourSolicit, 0, 0, body), MulticastMac(h.dst));
  std::optional<Slice> d = NextIp(kProtoIcmpv6);
  ASSERT_TRUE(d);
  EXPECT_EQ(d->data()[40], kNdpNeighbourAdvert);
  EXPECT_EQ(d->data()[44] & 0x60, 0x60);  // solicited, override
  EXPECT_EQ(d->data()[7], 255);
}

TEST_F(NdpTest, HopLimitBelow255IsDropped) {  // RFC 4861 7.1.1
  IpHeader h = From(kProtoIcmpv6, true);
  h.dst = our6_.SolicitedNode();
  h.ttl = 254;
  const std::string body(reinterpret_cast<const char*>(our6_.data()), 16);
  SendIp(h, Icmp(h, kNdpNeighbourSolicit, 0, 0, body), MulticastMac(h.dst));
  EXPECT_FALSE(NextIp(kProtoIcmpv6));
  EXPECT_EQ(stack_->GetCounters().icmp6.in_bad_ndp, 1u);
}

TEST_F(NdpTest, DuplicateAddressIsFound) {  // RFC 4862 5.4.4
  const IpAddr fresh = *IpAddr::Parse("2001:db8::77");
  ASSERT_TRUE(stack_->AddAddress(eth_, {fresh, 64}).ok());
  IpHeader h = From(kProtoIcmpv6, true);
  h.src = fresh;
  h.dst = *IpAddr::Parse("ff02::1");
  h.ttl = 255;
  std::string body(reinterpret_cast<const char*>(fresh.data()), 16);
  body += std::string("\2\1", 2) + std::string(reinterpret_cast<const char*>(kPeerMac.b.data()), 6);
  SendIp(h, Icmp(h, kNdpNeighbourAdvert, 0, 0x20000000, body), MulticastMac(h.dst));
  AdvanceMs(2000);
  for (const InterfaceInfo& i : stack_->Interfaces()) {
    for (const InterfaceAddress& a : i.addresses) {
      if (a.prefix.addr == fresh) {
        EXPECT_EQ(a.state, AddressState::kDuplicate);
      }
    }
  }
}

TEST_F(NdpTest, TentativeAddressBecomesUsable) {  // RFC 4862 5.4
  const IpAddr fresh = *IpAddr::Parse("2001:db8::78");
  ASSERT_TRUE(stack_->AddAddress(eth_, {fresh, 64}).ok());
  sink_->frames.clear();
  AdvanceMs(1100);
  bool found = false;
  for (const InterfaceInfo& i : stack_->Interfaces()) {
    for (const InterfaceAddress& a : i.addresses) {
      found |= a.prefix.addr == fresh && a.state == AddressState::kPreferred;
    }
  }
  EXPECT_TRUE(found);
}

class RaTest : public NdpTest {
 protected:
  void Advertise(uint16_t router_seconds, uint32_t valid, uint32_t preferred) {
    IpHeader h = From(kProtoIcmpv6, true);
    h.src = *IpAddr::Parse("fe80::99");
    h.dst = *IpAddr::Parse("ff02::1");
    h.ttl = 255;
    std::string body(8, 0);
    uint8_t o[32] = {3, 4, 64, 0xc0};
    Store32(o + 4, valid);
    Store32(o + 8, preferred);
    std::memcpy(o + 16, IpAddr::Parse("2001:db8:5::")->data(), 16);
    body += std::string(reinterpret_cast<const char*>(o), 32);
    SendIp(h, Icmp(h, kNdpRouterAdvert, 0, 64u << 24 | router_seconds, body), MulticastMac(h.dst));
  }
  std::optional<InterfaceAddress> Auto() {
    for (const InterfaceInfo& i : stack_->Interfaces()) {
      for (const InterfaceAddress& a : i.addresses) {
        if (a.autoconf) return a;
      }
    }
    return std::nullopt;
  }
};

TEST_F(RaTest, PrefixMakesAnAddressAndARoute) {  // RFC 4862 5.5.3, RFC 4861 6.3.4
  Advertise(1800, 7200, 3600);
  std::optional<InterfaceAddress> a = Auto();
  ASSERT_TRUE(a);
  EXPECT_EQ(a->prefix.addr.ToString(), "2001:db8:5::ff:fe00:1");
  NetResult<Route> r = stack_->LookupRoute({.dst = *IpAddr::Parse("2001:4860::1")});
  ASSERT_TRUE(r.ok());
  EXPECT_EQ(r->next_hop.ToString(), "fe80::99");
}

TEST_F(RaTest, LifetimesEnd) {  // RFC 4862 5.5.4
  Advertise(1800, 7200, 3600);
  AdvanceMs(3601 * 1000);
  EXPECT_EQ(Auto()->state, AddressState::kDeprecated);
  AdvanceMs(3600 * 1000);
  EXPECT_FALSE(Auto());
  EXPECT_FALSE(stack_->LookupRoute({.dst = *IpAddr::Parse("2001:4860::1")}).ok());
}

TEST_F(RaTest, ShortLifetimeIsHeldToTwoHours) {  // RFC 4862 5.5.3 (e)
  Advertise(1800, 86400, 3600);
  Advertise(1800, 10, 5);
  AdvanceMs(60 * 1000);
  EXPECT_TRUE(Auto());
}

TEST_F(RaTest, RouterSolicitationsAreSent) {  // RFC 4861 6.3.7
  sink_->frames.clear();
  AdvanceMs(15000);
  int n = 0;
  while (std::optional<Slice> d = NextIp(kProtoIcmpv6)) n += d->data()[40] == kNdpRouterSolicit;
  EXPECT_EQ(n, 3);
}

// ---- ICMP: RFC 792, RFC 1122, RFC 4443 ----

TEST_F(IcmpTest, EchoIsAnswered) {  // RFC 1122 3.2.2.6
  KnowPeer();
  for (bool v6 : {false, true}) {
    IpHeader h = From(v6 ? kProtoIcmpv6 : kProtoIcmp, v6);
    SendIp(h, Icmp(h, v6 ? kIcmp6Echo : kIcmpEcho, 0, 0x00070001, "payload"));
    std::optional<Slice> d = NextIp(h.protocol);
    ASSERT_TRUE(d);
    const Slice m = d->Sub(v6 ? 40 : 20);
    EXPECT_EQ(m.data()[0], v6 ? kIcmp6EchoReply : kIcmpEchoReply);
    EXPECT_EQ(Load32(m.data() + 4), 0x00070001u);
    EXPECT_EQ(m.size(), 15u);
    std::optional<IcmpView> view = IcmpView::Parse(m.span());
    EXPECT_TRUE(v6 ? view->ChecksumOkV6(our6_, peer6_) : view->ChecksumOkV4());
  }
}

TEST_F(IcmpTest, BroadcastEchoIsIgnored) {  // icmp_echo_ignore_broadcasts
  KnowPeer();
  IpHeader h = From(kProtoIcmp);
  h.dst = IpAddr::V4(10, 0, 0, 255);
  SendIp(h, Icmp(h, kIcmpEcho, 0, 1, "x"), MacAddr::Broadcast());
  EXPECT_FALSE(NextIp(kProtoIcmp));
}

TEST_F(IcmpTest, ClosedUdpPortIsUnreachable) {  // RFC 1122 4.1.3.1
  KnowPeer();
  IpHeader h = From(kProtoUdp);
  SendIp(h, Udp(h, 5, 7, "abc"));
  std::optional<Slice> d = NextIp(kProtoIcmp);
  ASSERT_TRUE(d);
  EXPECT_EQ(d->data()[20], kIcmpUnreachable);
  EXPECT_EQ(d->data()[21], kIcmpPortUnreach);
  h = From(kProtoUdp, true);
  SendIp(h, Udp(h, 5, 7, "abc"));
  d = NextIp(kProtoIcmpv6);
  ASSERT_TRUE(d);
  EXPECT_EQ(d->data()[40], kIcmp6Unreachable);
  EXPECT_EQ(d->data()[41], kIcmp6PortUnreach);
}

TEST_F(IcmpTest, UnknownProtocolIsUnreachable) {  // RFC 1122 3.2.2.1, RFC 4443 3.4
  KnowPeer();
  SendIp(From(200), Body("x"));
  EXPECT_EQ(NextIp(kProtoIcmp)->data()[21], kIcmpProtoUnreach);
  SendIp(From(200, true), Body("x"));
  EXPECT_EQ(NextIp(kProtoIcmpv6)->data()[40], kIcmp6ParamProblem);
}

TEST_F(IcmpTest, NoErrorAboutAnError) {  // RFC 1122 3.2.2
  KnowPeer();
  IpHeader h = From(kProtoIcmp);
  Packet p = Icmp(h, kIcmpUnreachable, 3, 0, std::string(28, 'x'));
  SendIp(h, std::move(p));
  EXPECT_FALSE(NextIp(kProtoIcmp));
}

TEST_F(IcmpTest, NoErrorAboutABroadcast) {  // RFC 1122 3.2.2
  KnowPeer();
  IpHeader h = From(kProtoUdp);
  h.dst = IpAddr::V4(10, 0, 0, 255);
  SendIp(h, Udp(h, 5, 7, "abc"), MacAddr::Broadcast());
  EXPECT_FALSE(NextIp(kProtoIcmp));
}

TEST_F(IcmpTest, ErrorsAreLimited) {  // RFC 4443 2.4(f), RFC 1812 4.3.2.8
  KnowPeer();
  IpHeader h = From(kProtoUdp);
  for (int i = 0; i < 100; i++) SendIp(h, Udp(h, 5, 7, "abc"));
  int n = 0;
  while (NextIp(kProtoIcmp)) n++;
  EXPECT_EQ(n, 6);
  AdvanceMs(1000);
  SendIp(h, Udp(h, 5, 7, "abc"));
  EXPECT_TRUE(NextIp(kProtoIcmp));
}

TEST_F(IcmpTest, MartianSourcesAreDropped) {  // RFC 1122 3.2.1.3
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  for (const IpAddr& src : {IpAddr::V4(127, 0, 0, 1), IpAddr::V4(224, 0, 0, 5),
                            IpAddr::V4(255, 255, 255, 255), kOur, IpAddr::V4(10, 0, 0, 255)}) {
    IpHeader h = From(kProtoUdp);
    h.src = src;
    SendIp(h, Udp(h, 5, 1000, "evil"));
  }
  EXPECT_EQ(Receive(*u), "nothing");
  EXPECT_EQ(stack_->GetCounters().ip4.in_martian, 5u);
}

TEST_F(IcmpTest, SourceRouteIsRefused) {  // RFC 7126 4.3; accept_source_route 0
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  IpHeader h = From(kProtoUdp);
  static const uint8_t options[8] = {131, 7, 4, 10, 0, 0, 9, 0};
  h.options = options;
  SendIp(h, Udp(h, 5, 1000, "evil"));
  EXPECT_EQ(Receive(*u), "nothing");
}

// ---- Fragments ----

class FragmentV4Test : public FragmentTest {
 protected:
  void Part(uint16_t id, uint32_t from, const Slice& whole, uint32_t n, bool more) {
    IpHeader h = From(kProtoUdp);
    h.id = id;
    h.fragment_offset = static_cast<uint16_t>(from);
    h.more_fragments = more;
    SendIp(h, Packet(Chain(whole.Sub(from, n))));
  }
};

TEST_F(FragmentV4Test, AnyOrderMakesTheDatagram) {  // RFC 791 3.2
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  const std::string text(2000, 'q');
  const Slice whole = Udp(From(kProtoUdp), 5, 1000, text).Flatten();
  Part(1, 1600, whole, 408, false);
  Part(1, 800, whole, 800, true);
  EXPECT_EQ(Receive(*u), "nothing");
  Part(1, 0, whole, 800, true);
  EXPECT_EQ(Receive(*u), text);
  EXPECT_EQ(stack_->GetCounters().ip4.reasm_oks, 1u);
}

TEST_F(FragmentV4Test, RepeatedPartIsIgnored) {
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  const std::string text(1592, 'q');
  const Slice whole = Udp(From(kProtoUdp), 5, 1000, text).Flatten();
  Part(1, 0, whole, 800, true);
  Part(1, 0, whole, 800, true);
  Part(1, 800, whole, 800, false);
  EXPECT_EQ(Receive(*u), text);
}

TEST_F(FragmentV4Test, OverlapThrowsAllAway) {  // RFC 5722 4 (Linux for IPv4 too)
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  const Slice whole = Udp(From(kProtoUdp), 5, 1000, std::string(1592, 'q')).Flatten();
  Part(1, 0, whole, 800, true);
  Part(1, 792, whole, 8, true);
  Part(1, 800, whole, 800, false);
  EXPECT_EQ(Receive(*u), "nothing");
  EXPECT_EQ(stack_->GetCounters().ip4.reasm_overlaps, 1u);
}

TEST_F(FragmentV4Test, BeyondTheLargestDatagramIsDropped) {  // ping of death
  const Slice data = Slice::Copy(std::vector<uint8_t>(1000, 1));
  IpHeader h = From(kProtoUdp);
  h.id = 9;
  h.fragment_offset = 65528;
  SendIp(h, Packet(Chain(data)));
  EXPECT_EQ(stack_->GetCounters().ip4.reasm_fails, 1u);
}

TEST_F(FragmentV4Test, TimeoutIsReportedWhenTheFirstPartCame) {  // RFC 792, RFC 1122 3.3.2
  KnowPeer();
  const Slice whole = Udp(From(kProtoUdp), 5, 1000, std::string(1592, 'q')).Flatten();
  Part(1, 0, whole, 800, true);
  Part(2, 800, whole, 800, false);
  sink_->frames.clear();
  AdvanceMs(31000);
  std::optional<Slice> d = NextIp(kProtoIcmp);
  ASSERT_TRUE(d);
  EXPECT_EQ(d->data()[20], kIcmpTimeExceeded);
  EXPECT_EQ(d->data()[21], 1);
  EXPECT_FALSE(NextIp(kProtoIcmp));  // not about the one without a first part
}

TEST_F(FragmentV4Test, FloodIsBoundedAndTheLegitimateFlowLives) {  // hostile peer
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  const Slice junk = Slice::Copy(std::vector<uint8_t>(1000, 1));
  for (uint32_t i = 0; i < 20000; i++) {
    IpHeader h = From(kProtoUdp);
    h.src = IpAddr::V4(0x0a000000u + (i % 200) + 10);
    h.id = static_cast<uint16_t>(i);
    h.fragment_offset = 800;
    h.more_fragments = true;
    SendIp(h, Packet(Chain(junk)));
  }
  const std::string text(1592, 'q');
  const Slice whole = Udp(From(kProtoUdp), 5, 1000, text).Flatten();
  Part(1, 0, whole, 800, true);
  Part(1, 800, whole, 800, false);
  EXPECT_EQ(Receive(*u), text);
}

TEST(ReassemblyTest, MemoryStaysBelowItsLimit) {
  Reassembly r;
  const Slice junk = Slice::Copy(std::vector<uint8_t>(1480, 1));
  for (uint32_t i = 0; i < 50000; i++) {
    Reassembly::Part p;
    p.offset = 1480 * (1 + i % 5);
    p.more = true;
    p.data = junk;
    (void)r.Add({IpAddr::V4(i / 7), kOur, i / 5, 17, 1}, std::move(p), TimePoint());
    ASSERT_LE(r.memory(), Reassembly::kMaxMemory + 65536);
  }
}

TEST_F(FragmentTest, Ipv6FragmentsMakeTheDatagram) {  // RFC 8200 4.5
  Ref<UdpEndpoint> u = NewUdp(Family::kV6, 1000);
  const std::string text(1592, 'q');
  const Slice whole = Udp(From(kProtoUdp, true), 5, 1000, text).Flatten();
  for (uint32_t at : {800u, 0u}) {
    IpHeader h = From(kProtoFragment, true);
    Packet p(Chain(whole.Sub(at, 800)));
    Ipv6Fragment{kProtoUdp, at, at == 0, 77}.Write(p.Prepend(Ipv6Fragment::kSize));
    SendIp(h, std::move(p));
  }
  EXPECT_EQ(Receive(*u), text);
}

TEST_F(FragmentTest, NestedFragmentHeadersAreRefused) {  // recursion by a hostile peer
  IpHeader h = From(kProtoFragment, true);
  std::string body;
  for (int i = 0; i < 1000; i++) body += std::string("\x2c\0\0\0\0\0\0\1", 8);
  SendIp(h, Body(body));
  EXPECT_EQ(stack_->GetCounters().ip6.in_hdr_errors, 1u);
}

TEST_F(FragmentTest, LargeDatagramLeavesInFragments) {  // RFC 791 3.2, RFC 8200 5
  KnowPeer();
  for (bool v6 : {false, true}) {
    Ref<UdpEndpoint> u = NewUdp(v6 ? Family::kV6 : Family::kV4, v6 ? 1001 : 1000);
    ASSERT_TRUE(SendTo(*u, v6 ? peer6_ : kPeer, 9, std::string(4000, 'z')).ok());
    int parts = 0;
    size_t bytes = 0;
    while (std::optional<Slice> d = NextIp(v6 ? kProtoFragment : kProtoUdp)) {
      EXPECT_LE(d->size(), 1500u);
      bytes += d->size() - (v6 ? 48 : 20);
      parts++;
    }
    EXPECT_EQ(parts, 3);
    EXPECT_EQ(bytes, 4008u);
  }
}

TEST_F(FragmentTest, DontFragmentRefusesLargeDatagrams) {  // ip(7) IP_PMTUDISC_DO
  KnowPeer();
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  ASSERT_TRUE(u->SetOption(Option::kMtuDiscover, 2).ok());
  EXPECT_EQ(SendTo(*u, kPeer, 9, std::string(4000, 'z')).error(), NetError::kMessageSize);
  EXPECT_TRUE(SendTo(*u, kPeer, 9, std::string(1472, 'z')).ok());
}

// ---- UDP ----

TEST_F(UdpTest, DatagramCarriesItsAddresses) {
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  IpHeader h = From(kProtoUdp);
  h.ttl = 33;
  h.tos = 8;
  SendIp(h, Udp(h, 5, 1000, "abc"));
  NetResult<Datagram> d = u->Receive();
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(Text(*d), "abc");
  EXPECT_EQ(d->from.addr, kPeer);
  EXPECT_EQ(d->from.port, 5);
  EXPECT_EQ(d->to, kOur);
  EXPECT_EQ(d->ttl, 33);
  EXPECT_EQ(d->tos, 8);
}

TEST_F(UdpTest, BadChecksumIsDropped) {  // RFC 1122 4.1.3.4
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  IpHeader h = From(kProtoUdp);
  Packet p = Udp(h, 5, 1000, "abc");
  p.header_data()[6] ^= 1;
  SendIp(h, std::move(p));
  EXPECT_EQ(Receive(*u), "nothing");
  EXPECT_EQ(stack_->GetCounters().udp4.in_csum_errors, 1u);
}

TEST_F(UdpTest, ConnectedHearsItsPeerOnly) {
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  ASSERT_TRUE(u->Connect({kPeer, 5}).ok());
  IpHeader h = From(kProtoUdp);
  SendIp(h, Udp(h, 6, 1000, "other"));
  SendIp(h, Udp(h, 5, 1000, "mine"));
  EXPECT_EQ(Receive(*u), "mine");
  EXPECT_EQ(Receive(*u), "nothing");
  ASSERT_TRUE(u->Connect({IpAddr(), 0}).ok());
  SendIp(h, Udp(h, 6, 1000, "any"));
  EXPECT_EQ(Receive(*u), "any");
}

TEST_F(UdpTest, PortUnreachableRefusesTheConnected) {  // RFC 1122 4.1.3.3
  Ref<UdpEndpoint> u = stack_->NewUdp(Family::kV4);
  kept_.push_back(u);
  ASSERT_TRUE(u->Connect({IpAddr::Loopback(Family::kV4), 9}).ok());
  ASSERT_TRUE(u->Send(Body("x").payload, {}).ok());
  EXPECT_NE(u->Poll() & kError, 0u);
  EXPECT_EQ(u->Send(Body("x").payload, {}).error(), NetError::kRefused);
  EXPECT_TRUE(u->Send(Body("x").payload, {}).ok());
}

TEST_F(UdpTest, ErrorQueueQuotesThePacket) {  // ip(7) IP_RECVERR
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  ASSERT_TRUE(u->SetOption(Option::kRecvErr, 1).ok());
  ASSERT_TRUE(SendTo(*u, IpAddr::Loopback(Family::kV4), 9, "lost").ok());
  std::optional<QueuedError> e = u->TakeQueuedError();
  ASSERT_TRUE(e);
  EXPECT_EQ(e->error, NetError::kRefused);
  EXPECT_EQ(e->origin, 2);
  EXPECT_EQ(e->type, 3);
  EXPECT_EQ(e->code, 3);
  EXPECT_EQ(e->destination.port, 9);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(e->payload.data()), e->payload.size()),
            "lost");
}

TEST_F(UdpTest, BroadcastNeedsTheOption) {  // socket(7) SO_BROADCAST
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  EXPECT_EQ(SendTo(*u, IpAddr::V4(10, 0, 0, 255), 9, "x").error(), NetError::kAccess);
  ASSERT_TRUE(u->SetOption(Option::kBroadcast, 1).ok());
  EXPECT_TRUE(SendTo(*u, IpAddr::V4(10, 0, 0, 255), 9, "x").ok());
  std::optional<Slice> f = NextFrame();
  ASSERT_TRUE(f);
  EXPECT_TRUE(EthernetView::Parse(f->span())->dst().IsBroadcast());
}

TEST_F(UdpTest, MulticastReachesTheJoined) {  // RFC 1112 7.2
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  const IpAddr group = IpAddr::V4(239, 1, 2, 3);
  IpHeader h = From(kProtoUdp);
  h.dst = group;
  SendIp(h, Udp(h, 5, 1000, "before"), MulticastMac(group));
  EXPECT_EQ(Receive(*u), "nothing");
  ASSERT_TRUE(u->JoinGroup(group, eth_).ok());
  EXPECT_EQ(u->JoinGroup(group, eth_).error(), NetError::kAddrInUse);
  std::optional<Slice> report = NextIp(kProtoIgmp);  // RFC 3376 5.1
  ASSERT_TRUE(report);
  SendIp(h, Udp(h, 5, 1000, "after"), MulticastMac(group));
  EXPECT_EQ(Receive(*u), "after");
  ASSERT_TRUE(u->LeaveGroup(group, eth_).ok());
  EXPECT_TRUE(NextIp(kProtoIgmp));
  SendIp(h, Udp(h, 5, 1000, "gone"), MulticastMac(group));
  EXPECT_EQ(Receive(*u), "nothing");
}

TEST_F(UdpTest, QueryIsAnsweredByAReport) {  // RFC 3376 5.2
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  ASSERT_TRUE(u->JoinGroup(IpAddr::V4(239, 1, 2, 3), eth_).ok());
  AdvanceMs(5000);
  sink_->frames.clear();
  IpHeader h = From(kProtoIgmp);
  h.dst = IpAddr::V4(224, 0, 0, 1);
  h.ttl = 1;
  std::vector<uint8_t> q = {0x11, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  Store16(&q[2], ChecksumOf(q));
  SendIp(h, Packet(Chain(Slice::Copy(q))), MulticastMac(h.dst));
  AdvanceMs(1100);
  EXPECT_TRUE(NextIp(kProtoIgmp));
}

TEST_F(UdpTest, BindConflicts) {  // ip(7), socket(7)
  Ref<UdpEndpoint> a = NewUdp(Family::kV4, 1000);
  Ref<UdpEndpoint> b = stack_->NewUdp(Family::kV4);
  kept_.push_back(b);
  EXPECT_EQ(b->Bind({kOur, 1000}).error(), NetError::kAddrInUse);
  EXPECT_EQ(b->Bind({IpAddr::V4(1, 2, 3, 4), 1000}).error(), NetError::kAddrNotAvail);
  EXPECT_TRUE(b->Bind({kOur, 1001}).ok());
  EXPECT_EQ(b->Bind({kOur, 1002}).error(), NetError::kInvalid);
}

TEST_F(UdpTest, ReusePortSharesByFlow) {  // socket(7) SO_REUSEPORT
  std::vector<Ref<UdpEndpoint>> group;
  for (int i = 0; i < 4; i++) {
    Ref<UdpEndpoint> u = stack_->NewUdp(Family::kV4);
    kept_.push_back(u);
    ASSERT_TRUE(u->SetOption(Option::kReusePort, 1).ok());
    ASSERT_TRUE(u->Bind({IpAddr::Any(Family::kV4), 1000}).ok());
    group.push_back(u);
  }
  IpHeader h = From(kProtoUdp);
  for (uint16_t p = 1; p <= 400; p++) SendIp(h, Udp(h, p, 1000, "x"));
  int total = 0;
  for (auto& u : group) {
    int n = 0;
    while (u->Receive().ok()) n++;
    EXPECT_GT(n, 40);
    total += n;
  }
  EXPECT_EQ(total, 400);
}

TEST_F(UdpTest, ReceiveBufferIsBounded) {
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  ASSERT_TRUE(u->SetOption(Option::kReceiveBuffer, 10000).ok());
  IpHeader h = From(kProtoUdp);
  for (int i = 0; i < 1000; i++) SendIp(h, Udp(h, 5, 1000, std::string(1000, 'x')));
  EXPECT_GT(stack_->GetCounters().udp4.rcvbuf_errors, 900u);
  int n = 0;
  while (u->Receive().ok()) n++;
  EXPECT_GT(n, 5);
  EXPECT_LT(n, 25);
}

TEST_F(UdpTest, SegmentationOffloadCutsTheBatch) {  // udp(7) UDP_SEGMENT
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  Ref<UdpEndpoint> v = NewUdp(Family::kV4, 2000);
  SendParams p;
  p.to = SockAddr{IpAddr::Loopback(Family::kV4), 2000};
  p.gso_size = 100;
  ASSERT_TRUE(u->Send(Body(std::string(250, 'g')).payload, p).ok());
  EXPECT_EQ(Receive(*v).size(), 100u);
  EXPECT_EQ(Receive(*v).size(), 100u);
  EXPECT_EQ(Receive(*v).size(), 50u);
}

TEST_F(UdpTest, TooLargeIsRefused) {
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  EXPECT_EQ(SendTo(*u, IpAddr::Loopback(Family::kV4), 9, std::string(65508, 'x')).error(),
            NetError::kMessageSize);
  EXPECT_TRUE(SendTo(*u, IpAddr::Loopback(Family::kV4), 9, std::string(65507, 'x')).ok());
}

TEST_F(UdpTest, Ipv6EndpointSpeaksIpv4) {  // RFC 3493 3.7
  Ref<UdpEndpoint> u = NewUdp(Family::kV6, 1000);
  IpHeader h = From(kProtoUdp);
  SendIp(h, Udp(h, 5, 1000, "four"));
  NetResult<Datagram> d = u->Receive();
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->from.addr.ToString(), "::ffff:10.0.0.2");
}

// ---- Routes ----

TEST_F(RouteTest, LongestPrefixThenMetric) {
  auto add = [&](const char* net, uint8_t len, const char* gw, uint32_t metric) {
    RouteEntry r;
    r.dst = {*IpAddr::Parse(net), len};
    r.gateway = *IpAddr::Parse(gw);
    r.metric = metric;
    EXPECT_TRUE(stack_->AddRoute(r).ok()) << net;
  };
  add("0.0.0.0", 0, "10.0.0.254", 0);
  add("20.0.0.0", 8, "10.0.0.10", 100);
  add("20.0.0.0", 8, "10.0.0.11", 50);
  add("20.1.0.0", 16, "10.0.0.12", 0);
  auto hop = [&](const char* a) {
    return stack_->LookupRoute({.dst = *IpAddr::Parse(a)})->next_hop;
  };
  EXPECT_EQ(hop("8.8.8.8"), IpAddr::V4(10, 0, 0, 254));
  EXPECT_EQ(hop("20.2.2.2"), IpAddr::V4(10, 0, 0, 11));
  EXPECT_EQ(hop("20.1.2.2"), IpAddr::V4(10, 0, 0, 12));
  EXPECT_EQ(hop("10.0.0.77"), IpAddr::V4(10, 0, 0, 77));
}

// Linux takes an address of the interface for a gateway: the destination itself is the next hop then.
TEST_F(RouteTest, OwnAddressIsNoFurtherHop) {
  RouteEntry r;
  r.dst = {IpAddr::V4(20, 0, 0, 1), 32};
  r.gateway = stack_->LookupRoute({.dst = IpAddr::V4(10, 0, 0, 77)})->src;
  ASSERT_TRUE(stack_->AddRoute(r).ok());
  const Route found = *stack_->LookupRoute({.dst = IpAddr::V4(20, 0, 0, 1)});
  EXPECT_EQ(found.next_hop, IpAddr::V4(20, 0, 0, 1));
  EXPECT_EQ(found.src, r.gateway);
  r.dst = {IpAddr::V4(20, 0, 0, 2), 32};
  r.gateway = IpAddr::V4(10, 0, 0, 255);
  EXPECT_EQ(stack_->AddRoute(r).error(), NetError::kInvalid);
}

TEST_F(RouteTest, ErrorsAreLinuxs) {  // ip(7), rtnetlink(7)
  EXPECT_EQ(stack_->LookupRoute({.dst = IpAddr::V4(9, 9, 9, 9)}).error(), NetError::kNetUnreach);
  RouteEntry r;
  r.dst = {IpAddr::V4(9, 0, 0, 0), 8};
  r.type = RouteType::kUnreachable;
  ASSERT_TRUE(stack_->AddRoute(r).ok());
  EXPECT_EQ(stack_->AddRoute(r).error(), NetError::kExists);
  EXPECT_EQ(stack_->LookupRoute({.dst = IpAddr::V4(9, 9, 9, 9)}).error(), NetError::kHostUnreach);
  r.type = RouteType::kProhibit;
  ASSERT_TRUE(stack_->AddRoute(r, true).ok());
  EXPECT_EQ(stack_->LookupRoute({.dst = IpAddr::V4(9, 9, 9, 9)}).error(), NetError::kAccess);
  ASSERT_TRUE(stack_->RemoveRoute(r).ok());
  EXPECT_EQ(stack_->RemoveRoute(r).error(), NetError::kNoProcess);
}

TEST_F(RouteTest, RuleByMarkChoosesTheTable) {
  RouteEntry r;
  r.dst = {IpAddr::Any(Family::kV4), 0};
  r.gateway = IpAddr::V4(10, 0, 0, 33);
  r.table = 100;
  ASSERT_TRUE(stack_->AddRoute(r).ok());
  RuleEntry rule;
  rule.priority = 10;
  rule.mark = 7;
  rule.mark_mask = 0xffffffff;
  rule.table = 100;
  stack_->AddRule(rule);
  EXPECT_FALSE(stack_->LookupRoute({.dst = IpAddr::V4(9, 9, 9, 9)}).ok());
  EXPECT_TRUE(stack_->LookupRoute({.dst = IpAddr::V4(9, 9, 9, 9), .mark = 7}).ok());
}

TEST_F(RouteTest, DownInterfaceHasNoRoutes) {
  EXPECT_TRUE(stack_->LookupRoute({.dst = kPeer}).ok());
  ASSERT_TRUE(stack_->SetUp(eth_, false).ok());
  EXPECT_FALSE(stack_->LookupRoute({.dst = kPeer}).ok());
  ASSERT_TRUE(stack_->SetUp(eth_, true).ok());
  EXPECT_TRUE(stack_->LookupRoute({.dst = kPeer}).ok());
}

TEST_F(RouteTest, SourceOfTheRightScopeIsChosen) {  // RFC 6724 5, rule 2
  EXPECT_EQ(stack_->LookupRoute({.dst = peer6_})->src, our6_);
}

TEST_F(RouteTest, ForwardingLowersTheTtlAndReportsItsEnd) {  // RFC 1812 5.3.1
  StackConfig c;
  c.forwarding4 = true;
  Start(c);
  KnowPeer();
  InterfaceConfig tun;
  tun.name = "tun0";
  tun.kind = LinkKind::kIp;
  Ref<CaptureSink> other = MakeRef<CaptureSink>();
  const IfIndex t = *stack_->AddInterface(tun, other);
  ASSERT_TRUE(stack_->AddAddress(t, {IpAddr::V4(10, 9, 0, 1), 24}).ok());
  ASSERT_TRUE(stack_->SetUp(t, true).ok());
  other->frames.clear();
  IpHeader h = From(kProtoUdp);
  h.dst = IpAddr::V4(10, 9, 0, 5);
  h.ttl = 9;
  SendIp(h, Udp(h, 5, 7, "through"));
  ASSERT_EQ(other->frames.size(), 1u);
  std::optional<Ipv4View> v = Ipv4View::Parse(other->frames[0].span());
  ASSERT_TRUE(v);
  EXPECT_TRUE(v->ChecksumOk());
  EXPECT_EQ(v->ttl(), 8);
  h.ttl = 1;
  SendIp(h, Udp(h, 5, 7, "through"));
  EXPECT_EQ(NextIp(kProtoIcmp)->data()[20], kIcmpTimeExceeded);
}

// ---- Raw, ping, packet endpoints ----

TEST_F(RawTest, PingEndpointRoundTrip) {  // icmp(7)
  Ref<RawEndpoint> p = stack_->NewRaw(Family::kV4, kProtoIcmp, true);
  kept_.push_back(p);
  SendParams to;
  to.to = SockAddr{IpAddr::Loopback(Family::kV4), 0};
  ASSERT_TRUE(p->Send(Body(std::string("\x08\0\0\0\0\0\0\1hello", 13)).payload, to).ok());
  NetResult<Datagram> d = p->Receive();
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(Text(*d).substr(8), "hello");
  EXPECT_EQ(p->Send(Body(std::string("\x00\0\0\0\0\0\0\1", 8)).payload, to).error(),
            NetError::kInvalid);
}

TEST_F(RawTest, RawHearsWithTheHeader) {  // raw(7)
  Ref<RawEndpoint> r = stack_->NewRaw(Family::kV4, kProtoUdp);
  kept_.push_back(r);
  IpHeader h = From(kProtoUdp);
  SendIp(h, Udp(h, 5, 7, "abc"));
  NetResult<Datagram> d = r->Receive();
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(d->data.size(), 20u + 8 + 3);
}

TEST_F(RawTest, RawHearsTheLoopbackToo) {  // raw(7); not the short way then
  Ref<RawEndpoint> r = stack_->NewRaw(Family::kV4, kProtoUdp);
  kept_.push_back(r);
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  ASSERT_TRUE(SendTo(*u, IpAddr::Loopback(Family::kV4), 1000, "loop").ok());
  EXPECT_EQ(Receive(*u), "loop");
  EXPECT_EQ(r->Receive()->data.size(), 20u + 8 + 4);
}

TEST_F(RawTest, PacketEndpointSeesBothDirections) {  // packet(7)
  KnowPeer();
  Ref<PacketEndpoint> p = stack_->NewPacket(true, 3);
  kept_.push_back(p);
  IpHeader h = From(kProtoIcmp);
  SendIp(h, Icmp(h, kIcmpEcho, 0, 1, "x"));
  NetResult<Datagram> in = p->Receive();
  NetResult<Datagram> out = p->Receive();
  ASSERT_TRUE(in.ok() && out.ok());
  EXPECT_EQ(in->packet_type, 0);
  EXPECT_EQ(out->packet_type, 4);
  EXPECT_EQ(in->ethertype, kEthIpv4);
}

}  // namespace
}  // namespace ringwall::net::testing
