// Interfaces made of interfaces and of pairs: veth, bridge, VLAN, tun, and what moves between stacks.
#include <gtest/gtest.h>

#include "netstack/device/dummy.h"
#include "netstack/device/tun.h"
#include "netstack/device/veth.h"
#include "netstack/testing/fake_host.h"
#include "netstack/udp/endpoint.h"
#include "netstack/wire/checksum.h"
#include "netstack/wire/ip.h"
#include "netstack/wire/tcp.h"

namespace ringwall::net::testing {
namespace {

MacAddr Mac(uint8_t last) { return {{2, 0, 0, 0, 0, last}}; }

class DeviceTest : public ::testing::Test {
 protected:
  struct Node {
    FakeHost host;
    Ref<Stack> stack = MakeRef<Stack>(host);
    IfIndex iface = 0;
    Node() {
      const IfIndex lo = *stack->AddInterface({.name = "lo", .kind = LinkKind::kLoopback,
                                               .mtu = 65536}, nullptr);
      EXPECT_TRUE(stack->SetUp(lo, true).ok());
    }
    ~Node() { stack->Shutdown(); }
  };

  static void Join(Node& a, Node& b, uint8_t n, IfIndex* ia, IfIndex* ib) {
    auto [ea, eb] = VethPair::Create();
    const auto config = [&](uint8_t last) {
      return InterfaceConfig{.name = "veth" + std::to_string(last), .mac = Mac(last),
                             .type = "veth", .carrier = false};
    };
    *ia = *a.stack->AddInterface(config(n), ea);
    *ib = *b.stack->AddInterface(config(static_cast<uint8_t>(n + 1)), eb);
    ea->pair().Place(0, RefPtr<Stack>(a.stack), *ia);
    ea->pair().Place(1, RefPtr<Stack>(b.stack), *ib);
    EXPECT_TRUE(a.stack->SetUp(*ia, true).ok());
    EXPECT_TRUE(b.stack->SetUp(*ib, true).ok());
  }

  static bool Reaches(Node& from, Node& to, const IpAddr& dst) {
    Ref<UdpEndpoint> server = to.stack->NewUdp(Family::kV4);
    EXPECT_TRUE(server->Bind({IpAddr::Any(Family::kV4), 7}).ok());
    Ref<UdpEndpoint> client = from.stack->NewUdp(Family::kV4);
    SendParams params;
    params.to = SockAddr{dst, 7};
    const uint8_t byte = 1;
    (void)client->Send(Chain(Slice::Copy({&byte, 1})), params);
    const bool got = server->Receive().ok();
    server->Close();
    client->Close();
    return got;
  }
};

TEST_F(DeviceTest, VethCarriesBothWays) {
  Node a, b;
  Join(a, b, 1, &a.iface, &b.iface);
  ASSERT_TRUE(a.stack->AddAddress(a.iface, {IpAddr::V4(10, 0, 0, 1), 24}).ok());
  ASSERT_TRUE(b.stack->AddAddress(b.iface, {IpAddr::V4(10, 0, 0, 2), 24}).ok());
  EXPECT_TRUE(Reaches(a, b, IpAddr::V4(10, 0, 0, 2)));
  EXPECT_TRUE(Reaches(b, a, IpAddr::V4(10, 0, 0, 1)));
}

TEST_F(DeviceTest, VethCarrierFollowsBothEnds) {
  Node a, b;
  Join(a, b, 1, &a.iface, &b.iface);
  EXPECT_TRUE(a.stack->FindInterfaceInfo(a.iface)->config.carrier);
  ASSERT_TRUE(b.stack->SetUp(b.iface, false).ok());
  EXPECT_FALSE(a.stack->FindInterfaceInfo(a.iface)->config.carrier);
  EXPECT_EQ(a.stack->FindInterfaceInfo(a.iface)->flags & (kIffUp | kIffRunning), kIffUp);
}

TEST_F(DeviceTest, VethEndsGoTogether) {
  Node a, b;
  Join(a, b, 1, &a.iface, &b.iface);
  ASSERT_TRUE(a.stack->RemoveInterface(a.iface).ok());
  EXPECT_FALSE(b.stack->FindInterfaceInfo(b.iface).has_value());
}

TEST_F(DeviceTest, StackOutlivesItsHostAfterShutdown) {
  Node a;
  RefPtr<Stack> left;
  {
    Node b;
    Join(a, b, 1, &a.iface, &b.iface);
    left = RefPtr<Stack>(b.stack);
  }
  EXPECT_FALSE(a.stack->FindInterfaceInfo(a.iface).has_value());
  left->Input(1, {.data = Slice::Copy({})});
  EXPECT_TRUE(left->Interfaces().empty());
}

TEST_F(DeviceTest, VethWithinOneStack) {
  Node a;
  IfIndex x = 0, y = 0;
  Join(a, a, 1, &x, &y);
  ASSERT_TRUE(a.stack->RemoveInterface(x).ok());
  EXPECT_FALSE(a.stack->FindInterfaceInfo(y).has_value());
}

TEST_F(DeviceTest, BridgeForwardsAndLearns) {
  Node hub, a, b;
  const IfIndex br = *hub.stack->AddInterface({.name = "br0", .mac = Mac(99), .type = "bridge"},
                                              nullptr);
  IfIndex pa = 0, pb = 0;
  Join(hub, a, 1, &pa, &a.iface);
  Join(hub, b, 3, &pb, &b.iface);
  ASSERT_TRUE(hub.stack->ChangeLink(pa, {.master = br}).ok());
  ASSERT_TRUE(hub.stack->ChangeLink(pb, {.master = br}).ok());
  EXPECT_FALSE(hub.stack->FindInterfaceInfo(br)->flags & kIffRunning);
  ASSERT_TRUE(hub.stack->SetUp(br, true).ok());
  EXPECT_TRUE(hub.stack->FindInterfaceInfo(br)->flags & kIffRunning);
  ASSERT_TRUE(a.stack->AddAddress(a.iface, {IpAddr::V4(10, 0, 0, 1), 24}).ok());
  ASSERT_TRUE(b.stack->AddAddress(b.iface, {IpAddr::V4(10, 0, 0, 2), 24}).ok());
  ASSERT_TRUE(hub.stack->AddAddress(br, {IpAddr::V4(10, 0, 0, 3), 24}).ok());
  EXPECT_TRUE(Reaches(a, b, IpAddr::V4(10, 0, 0, 2)));
  EXPECT_TRUE(Reaches(a, hub, IpAddr::V4(10, 0, 0, 3)));
  EXPECT_TRUE(Reaches(hub, b, IpAddr::V4(10, 0, 0, 2)));
  bool learnt = false;
  for (const FdbEntry& e : hub.stack->ForwardingDatabase(br)) {
    learnt = learnt || (e.mac == Mac(2) && e.port == pa && !e.permanent);
  }
  EXPECT_TRUE(learnt);
  // A bridge has its least port's address.
  EXPECT_EQ(hub.stack->FindInterfaceInfo(br)->mac, Mac(1));
  ASSERT_TRUE(hub.stack->RemoveInterface(br).ok());
  EXPECT_EQ(hub.stack->FindInterfaceInfo(pa)->master, 0u);
}

TEST_F(DeviceTest, VlanFramesAreTagged) {
  Node a, b;
  IfIndex la = 0, lb = 0;
  Join(a, b, 1, &la, &lb);
  const auto vlan = [](Node& n, IfIndex lower, uint8_t last) {
    const IfIndex v = *n.stack->AddInterface({.name = "v5", .mac = Mac(last), .type = "vlan",
                                              .lower = lower, .vlan_id = 5}, nullptr);
    EXPECT_TRUE(n.stack->SetUp(v, true).ok());
    return v;
  };
  const IfIndex va = vlan(a, la, 1), vb = vlan(b, lb, 2);
  ASSERT_TRUE(a.stack->AddAddress(va, {IpAddr::V4(10, 5, 0, 1), 24}).ok());
  ASSERT_TRUE(b.stack->AddAddress(vb, {IpAddr::V4(10, 5, 0, 2), 24}).ok());
  EXPECT_TRUE(Reaches(a, b, IpAddr::V4(10, 5, 0, 2)));
  ASSERT_TRUE(a.stack->SetUp(la, false).ok());
  EXPECT_FALSE(a.stack->FindInterfaceInfo(va)->up);
  ASSERT_TRUE(a.stack->RemoveInterface(la).ok());
  EXPECT_FALSE(a.stack->FindInterfaceInfo(va).has_value());
}

TEST_F(DeviceTest, TunQueuesForItsReader) {
  class Reader final : public TunLink::Observer {
   public:
    void OnTun() override { told++; }
    int told = 0;
  } reader;
  Node a;
  Ref<TunLink> tun = MakeRef<TunLink>();
  a.iface = *a.stack->AddInterface({.name = "tun0", .kind = LinkKind::kIp, .type = "tun"}, tun);
  ASSERT_TRUE(tun->Attach(&reader));
  EXPECT_FALSE(tun->Attach(&reader));
  ASSERT_TRUE(a.stack->SetUp(a.iface, true).ok());
  while (tun->Read()) {
  }
  ASSERT_TRUE(a.stack->AddAddress(a.iface, {IpAddr::V4(10, 9, 0, 1), 24}).ok());
  EXPECT_FALSE(Reaches(a, a, IpAddr::V4(10, 9, 0, 2)));
  std::optional<TunLink::Frame> out = tun->Read();
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->bytes.data()[0] >> 4, 4);
  EXPECT_EQ(out->header.flags, 0);
  EXPECT_GT(reader.told, 0);
  tun->Detach(&reader);
}

TEST_F(DeviceTest, OffloadedChecksumIsLeftToTheReader) {
  struct Reader final : TunLink::Observer {
    void OnTun() override {}
  } reader;
  Node a;
  Ref<TunLink> tun = MakeRef<TunLink>();
  a.iface = *a.stack->AddInterface({.name = "tun0", .kind = LinkKind::kIp, .type = "tun"}, tun);
  ASSERT_TRUE(tun->Attach(&reader));
  ASSERT_TRUE(a.stack->SetUp(a.iface, true).ok());
  ASSERT_TRUE(a.stack->AddAddress(a.iface, {IpAddr::V4(10, 9, 0, 1), 24}).ok());
  ASSERT_TRUE(a.stack->ChangeLink(a.iface, {.tx_checksum = true}).ok());
  while (tun->Read()) {
  }
  EXPECT_FALSE(Reaches(a, a, IpAddr::V4(10, 9, 0, 2)));
  std::optional<TunLink::Frame> out = tun->Read();
  ASSERT_TRUE(out.has_value());
  EXPECT_EQ(out->header.flags, VnetHeader::kNeedsChecksum);
  EXPECT_EQ(out->header.checksum_start, kIpv4Header);
  EXPECT_EQ(out->header.checksum_offset, 6);
  std::vector<uint8_t> frame(out->bytes.data(), out->bytes.data() + out->bytes.size());
  ASSERT_TRUE(out->header.CompleteChecksum(frame));
  Checksum sum;
  sum.AddPseudo(IpAddr::V4(10, 9, 0, 1), IpAddr::V4(10, 9, 0, 2), kProtoUdp,
                static_cast<uint32_t>(frame.size() - kIpv4Header));
  sum.Add(std::span(frame).subspan(kIpv4Header));
  EXPECT_TRUE(sum.Valid());
  VnetHeader outside{.flags = VnetHeader::kNeedsChecksum,
                     .checksum_start = static_cast<uint16_t>(frame.size() - 1)};
  EXPECT_FALSE(outside.CompleteChecksum(frame));
  tun->Detach(&reader);
}

// What a link with TSO does: the header's checksum, numbers, PSH and FIN belong to each piece.
TEST(SplitTcpTest, CutsAtTheSizeAndChecksumsEach) {
  for (const bool v4 : {true, false}) {
    const IpAddr src = v4 ? IpAddr::V4(10, 0, 0, 1) : IpAddr::V4(10, 0, 0, 1).Mapped();
    const IpAddr dst = v4 ? IpAddr::V4(10, 0, 0, 2) : IpAddr::V4(10, 0, 0, 2).Mapped();
    std::vector<uint8_t> data(2500);
    for (size_t i = 0; i < data.size(); i++) data[i] = static_cast<uint8_t>(i * 7);
    TcpSegment seg;
    seg.seq = SeqNum(5000);
    seg.flags = kAck | kPsh | kFin | kCwr;
    IpHeader ip;
    ip.src = src, ip.dst = dst, ip.protocol = kProtoTcp, ip.id = 7;
    std::vector<uint8_t> packet(ip.size() + seg.header_size() + data.size());
    ip.Write(packet.data(), packet.size() - ip.size());
    seg.Write(packet.data() + ip.size());
    std::copy(data.begin(), data.end(), packet.end() - 2500);
    const auto parts = SplitTcp(packet, 0, 1000);
    ASSERT_TRUE(parts.has_value());
    ASSERT_EQ(parts->size(), 3u);
    size_t at = 0;
    for (const Slice& part : *parts) {
      const ByteSpan transport = part.span().subspan(ip.size());
      if (v4) {
        EXPECT_TRUE(Ipv4View::Parse(part.span())->ChecksumOk());
        EXPECT_EQ(Ipv4View::Parse(part.span())->id(), 7 + at / 1000);
      }
      const TcpView view = *TcpView::Parse(transport);
      EXPECT_TRUE(view.ChecksumOk(src, dst));
      const TcpSegment got = view.ToSegment();
      EXPECT_EQ(got.seq, SeqNum(5000) + static_cast<uint32_t>(at));
      EXPECT_EQ(got.Has(kFin), at == 2000);
      EXPECT_EQ(got.Has(kPsh), at == 2000);
      EXPECT_EQ(got.Has(kCwr), at == 0);
      EXPECT_TRUE(std::equal(view.payload().begin(), view.payload().end(), data.begin() + static_cast<long>(at)));
      at += view.payload().size();
    }
    EXPECT_EQ(at, data.size());
    EXPECT_FALSE(SplitTcp(packet, 0, 0).has_value());
    EXPECT_FALSE(SplitTcp(ByteSpan(packet).first(30), 0, 1000).has_value());
    packet[v4 ? 9 : 6] = kProtoUdp;
    EXPECT_FALSE(SplitTcp(packet, 0, 1000).has_value());
  }
}

TEST_F(DeviceTest, DetachedInterfaceGoesOnElsewhere) {
  Node a, b;
  a.iface = *a.stack->AddInterface({.name = "dummy0", .mac = Mac(1), .type = "dummy",
                                    .no_arp = true}, MakeRef<DummySink>());
  NetResult<DetachedInterface> d = a.stack->DetachInterface(a.iface);
  ASSERT_TRUE(d.ok());
  EXPECT_EQ(a.stack->IndexOf("dummy0"), 0u);
  EXPECT_TRUE(b.stack->AddInterface(d->config, d->sink).ok());
  EXPECT_NE(b.stack->IndexOf("dummy0"), 0u);
}

// ---- Administration ----

TEST_F(DeviceTest, RouteAddFollowsLinuxFlags) {  // fib_table_insert()
  Node a;
  a.iface = *a.stack->AddInterface({.name = "d0", .mac = Mac(1), .type = "dummy"},
                                   MakeRef<DummySink>());
  ASSERT_TRUE(a.stack->SetUp(a.iface, true).ok());
  RouteEntry r;
  r.dst = {IpAddr::V4(10, 1, 0, 0), 16};
  r.oif = a.iface;
  EXPECT_EQ(a.stack->AddRoute(r, RouteAdd{.create = false, .exclusive = false}).error(),
            NetError::kNotFound);
  EXPECT_TRUE(a.stack->AddRoute(r, RouteAdd{}).ok());
  EXPECT_EQ(a.stack->AddRoute(r, RouteAdd{}).error(), NetError::kExists);
  r.scope = 253;
  EXPECT_TRUE(a.stack->AddRoute(r, RouteAdd{.exclusive = false, .replace = true}).ok());
  EXPECT_EQ(a.stack->AddRoute(r, RouteAdd{.exclusive = false, .append = true}).error(),
            NetError::kExists);
  r.metric = 7;
  EXPECT_TRUE(a.stack->AddRoute(r, RouteAdd{}).ok());
  EXPECT_EQ(a.stack->Routes().size(), 4u);  // two, fe80::/64 and what lo has for ::1
}

TEST_F(DeviceTest, SecondaryAddressesGoWithTheFirst) {  // promote_secondaries is off
  Node a;
  a.iface = *a.stack->AddInterface({.name = "d0", .mac = Mac(1), .type = "dummy"},
                                   MakeRef<DummySink>());
  ASSERT_TRUE(a.stack->AddAddress(a.iface, {IpAddr::V4(10, 0, 0, 1), 24}).ok());
  ASSERT_TRUE(a.stack->AddAddress(a.iface, {IpAddr::V4(10, 0, 0, 2), 24}).ok());
  EXPECT_TRUE(a.stack->FindInterfaceInfo(a.iface)->addresses[1].secondary);
  ASSERT_TRUE(a.stack->RemoveAddress(a.iface, {IpAddr::V4(10, 0, 0, 1), 24}).ok());
  EXPECT_TRUE(a.stack->FindInterfaceInfo(a.iface)->addresses.empty());
}

TEST_F(DeviceTest, LinkChangesAreCheckedBeforeAnyIsMade) {
  Node a;
  a.iface = *a.stack->AddInterface({.name = "d0", .mac = Mac(1), .type = "dummy"},
                                   MakeRef<DummySink>());
  EXPECT_EQ(a.stack->ChangeLink(a.iface, {.name = "lo"}).error(), NetError::kExists);
  EXPECT_EQ(a.stack->ChangeLink(a.iface, {.name = "a/b"}).error(), NetError::kInvalid);
  EXPECT_EQ(a.stack->ChangeLink(a.iface, {.name = "new", .mtu = 1}).error(), NetError::kInvalid);
  EXPECT_EQ(a.stack->NameOf(a.iface), "d0");
  EXPECT_EQ(a.stack->ChangeLink(a.iface, {.mac = MacAddr::Broadcast()}).error(),
            NetError::kAddrNotAvail);
}

TEST_F(DeviceTest, SocketsAreDescribed) {
  Node a;
  Ref<UdpEndpoint> u = a.stack->NewUdp(Family::kV4);
  u->SetOwner(1000, 77);
  ASSERT_TRUE(u->Bind({IpAddr::Loopback(Family::kV4), 53}).ok());
  std::vector<SocketInfo> all = a.stack->Sockets(SocketInfo::Kind::kUdp);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].local.port, 53);
  EXPECT_EQ(all[0].uid, 1000u);
  EXPECT_EQ(all[0].inode, 77u);
  EXPECT_EQ(all[0].state, 7);
  u->Close();
  EXPECT_TRUE(a.stack->Sockets(SocketInfo::Kind::kUdp).empty());
}

}  // namespace
}  // namespace ringwall::net::testing
