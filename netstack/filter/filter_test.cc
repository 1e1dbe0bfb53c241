// The filter: tables as iptables gives them, connection tracking and NAT over real stacks.
#include <gtest/gtest.h>

#include "netstack/device/veth.h"
#include "netstack/filter/nft_expr.h"
#include "netstack/tcp/endpoint.h"
#include "netstack/testing/fake_host.h"
#include "netstack/testing/xt_rules.h"
#include "netstack/udp/endpoint.h"

namespace ringwall::net::testing {
namespace {

using Rules = XtRules;
using Rule = XtRules::Rule;
constexpr int32_t kAccept = kXtAccept, kDrop = kXtDrop, kReturn = kXtReturn;
constexpr uint32_t kFilter = kXtFilterHooks, kNat = kXtNatHooks;

class FilterTest : public ::testing::Test {
 protected:
  struct Node {
    FakeHost host;
    Ref<Stack> stack = MakeRef<Stack>(host);
    Node() {
      const IfIndex lo = *stack->AddInterface({.name = "lo", .kind = LinkKind::kLoopback,
                                               .mtu = 65536}, nullptr);
      EXPECT_TRUE(stack->SetUp(lo, true).ok());
    }
    ~Node() { stack->Shutdown(); }
    Ref<UdpEndpoint> Bound(uint16_t port) {
      Ref<UdpEndpoint> u = stack->NewUdp(Family::kV4);
      EXPECT_TRUE(u->Bind({IpAddr::Any(Family::kV4), port}).ok());
      return u;
    }
  };
  static IfIndex Add(Node& n, const char* name, uint8_t mac, Ref<VethEnd> end, IpPrefix prefix) {
    const IfIndex i = *n.stack->AddInterface({.name = name, .mac = {{2, 0, 0, 0, 0, mac}},
                                              .type = "veth", .carrier = false}, end);
    end->pair().Place(end->side(), RefPtr<Stack>(n.stack), i);
    EXPECT_TRUE(n.stack->SetUp(i, true).ok());
    EXPECT_TRUE(n.stack->AddAddress(i, prefix).ok());
    return i;
  }
  // inside (10.0.0.2) -- router (10.0.0.1, 192.0.2.1) -- outside (192.0.2.2)
  void Build() {
    auto [a, b] = VethPair::Create();
    auto [c, d] = VethPair::Create();
    inside_if_ = Add(inside_, "eth0", 1, a, {IpAddr::V4(10, 0, 0, 2), 24});
    Add(router_, "in0", 2, b, {IpAddr::V4(10, 0, 0, 1), 24});
    Add(router_, "out0", 3, c, {IpAddr::V4(192, 0, 2, 1), 24});
    Add(outside_, "eth0", 4, d, {IpAddr::V4(192, 0, 2, 2), 24});
    StackConfig config = router_.stack->Config();
    config.forwarding4 = true;
    router_.stack->SetConfig(config);
    ASSERT_TRUE(inside_.stack->AddRoute({.dst = {IpAddr::Any(Family::kV4), 0},
                                         .gateway = IpAddr::V4(10, 0, 0, 1)}).ok());
  }
  static NetResult<size_t> Send(UdpEndpoint& u, const IpAddr& to, uint16_t port) {
    SendParams params;
    params.to = SockAddr{to, port};
    const uint8_t byte = 'x';
    return u.Send(Chain(Slice::Copy({&byte, 1})), params);
  }
  Node inside_, router_, outside_;
  IfIndex inside_if_ = 0;
};

TEST_F(FilterTest, TablesBeginWithTheirPolicies) {
  NetResult<XtSnapshot> t = router_.stack->FilterTable(Family::kV4, "filter");
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t->info.valid_hooks, kFilter);
  EXPECT_EQ(t->info.count, 4u);
  EXPECT_EQ(t->info.size, 152u * 3 + 176);
  t = router_.stack->FilterTable(Family::kV6, "nat");
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t->info.size, 208u * 4 + 232);
  EXPECT_FALSE(router_.stack->FilterTable(Family::kV4, "nosuch").ok());
}

TEST_F(FilterTest, InputDropIsSilent) {
  Ref<UdpEndpoint> server = inside_.Bound(7), client = inside_.Bound(8);
  Rules rules(kFilter);
  rules.Add(Hook::kLocalIn, Rule().Protocol(17).Match("udp", 0, XtUdpPort(7)).Jump(kDrop));
  ASSERT_TRUE(rules.Load(*inside_.stack, "filter").ok());
  EXPECT_TRUE(Send(*client, IpAddr::V4(127, 0, 0, 1), 7).ok());
  EXPECT_FALSE(server->Receive().ok());
  // Its counter has counted; back to the policies.
  NetResult<std::vector<XtCounter>> old = Rules(kFilter).Load(*inside_.stack, "filter");
  ASSERT_TRUE(old.ok());
  EXPECT_EQ((*old)[0].packets, 1u);
  EXPECT_EQ((*old)[0].bytes, 29u);
  EXPECT_TRUE(Send(*client, IpAddr::V4(127, 0, 0, 1), 7).ok());
  EXPECT_TRUE(server->Receive().ok());
}

TEST_F(FilterTest, OutputDropIsEperm) {
  Ref<UdpEndpoint> client = inside_.Bound(8);
  Rules rules(kFilter);
  rules.Add(Hook::kLocalOut, Rule().Protocol(17).Jump(kDrop));
  ASSERT_TRUE(rules.Load(*inside_.stack, "filter").ok());
  EXPECT_EQ(Send(*client, IpAddr::V4(127, 0, 0, 1), 7).error(), NetError::kPermission);
}

TEST_F(FilterTest, RejectIsRefused) {
  Ref<UdpEndpoint> server = inside_.Bound(7), client = inside_.Bound(8);
  Rules rules(kFilter);
  rules.Add(Hook::kLocalIn,
            Rule().Protocol(17).Match("udp", 0, XtUdpPort(7)).Target("REJECT", 0, {3, 0, 0, 0}));
  ASSERT_TRUE(rules.Load(*inside_.stack, "filter").ok());
  ASSERT_TRUE(client->Connect({IpAddr::V4(127, 0, 0, 1), 7}).ok());
  EXPECT_TRUE(client->Send(Chain(Slice::Copy({reinterpret_cast<const uint8_t*>("x"), 1})), {}).ok());
  EXPECT_EQ(client->TakeError(), NetError::kRefused);
}

TEST_F(FilterTest, RejectWithResetRefusesTcp) {
  Ref<TcpEndpoint> server = inside_.stack->NewTcp(Family::kV4);
  ASSERT_TRUE(server->Bind({IpAddr::Loopback(Family::kV4), 7}).ok());
  ASSERT_TRUE(server->Listen(1).ok());
  std::vector<uint8_t> port(12);
  const uint16_t v[4] = {0, 65535, 7, 7};
  std::memcpy(port.data(), v, sizeof(v));
  Rules rules(kFilter);
  rules.Add(Hook::kLocalIn,
            Rule().Protocol(6).Match("tcp", 0, port).Target("REJECT", 0, {7, 0, 0, 0}));
  ASSERT_TRUE(rules.Load(*inside_.stack, "filter").ok());
  Ref<TcpEndpoint> client = inside_.stack->NewTcp(Family::kV4);
  static_cast<void>(client->Connect({IpAddr::Loopback(Family::kV4), 7}));
  EXPECT_EQ(client->TakeError(), NetError::kRefused);
  client->Close();
  server->Close();
}

TEST_F(FilterTest, RedirectOfOwnTraffic) {
  Ref<UdpEndpoint> server = inside_.Bound(7), client = inside_.Bound(8);
  Rules rules(kNat);
  rules.Add(Hook::kLocalOut, Rule().Protocol(17).Match("udp", 0, XtUdpPort(53))
                                 .Target("REDIRECT", 0, XtRange({}, 7)));
  ASSERT_TRUE(rules.Load(*inside_.stack, "nat").ok());
  ASSERT_TRUE(Send(*client, IpAddr::V4(127, 0, 0, 1), 53).ok());
  NetResult<Datagram> got = server->Receive();
  ASSERT_TRUE(got.ok());
  // The answer seems to come from the port that was asked.
  ASSERT_TRUE(Send(*server, got->from.addr, got->from.port).ok());
  NetResult<Datagram> answer = client->Receive();
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->from.port, 53);
}

TEST_F(FilterTest, MasqueradeHidesTheInside) {
  Build();
  Ref<UdpEndpoint> server = outside_.Bound(7), client = inside_.Bound(8);
  Rules rules(kNat);
  rules.Add(Hook::kPostRouting, Rule().Out("out0").Target("MASQUERADE", 0, XtRange({}, 0)));
  ASSERT_TRUE(rules.Load(*router_.stack, "nat").ok());
  ASSERT_TRUE(Send(*client, IpAddr::V4(192, 0, 2, 2), 7).ok());
  NetResult<Datagram> got = server->Receive();
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->from.addr, IpAddr::V4(192, 0, 2, 1));
  EXPECT_EQ(got->from.port, 8);
  ASSERT_TRUE(Send(*server, got->from.addr, got->from.port).ok());
  NetResult<Datagram> answer = client->Receive();
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->from.addr, IpAddr::V4(192, 0, 2, 2));
  ASSERT_EQ(router_.stack->Connections().size(), 1u);
  EXPECT_NE(router_.stack->Connections()[0]->status & kCtSrcNat, 0u);
}

TEST_F(FilterTest, DnatPublishesAPort) {
  Build();
  Ref<UdpEndpoint> server = inside_.Bound(80), client = outside_.Bound(9);
  Rules rules(kNat);
  rules.Add(Hook::kPreRouting, Rule().Protocol(17).Match("udp", 0, XtUdpPort(8080))
                                   .Target("DNAT", 0, XtRange(IpAddr::V4(10, 0, 0, 2), 80)));
  ASSERT_TRUE(rules.Load(*router_.stack, "nat").ok());
  ASSERT_TRUE(Send(*client, IpAddr::V4(192, 0, 2, 1), 8080).ok());
  NetResult<Datagram> got = server->Receive();
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(got->from.addr, IpAddr::V4(192, 0, 2, 2));
  ASSERT_TRUE(Send(*server, got->from.addr, got->from.port).ok());
  NetResult<Datagram> answer = client->Receive();
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->from.addr, IpAddr::V4(192, 0, 2, 1));
  EXPECT_EQ(answer->from.port, 8080);
}

TEST_F(FilterTest, OnlyAnswersGetIn) {
  Build();
  Ref<UdpEndpoint> server = outside_.Bound(7), client = inside_.Bound(8);
  ASSERT_TRUE(outside_.stack->AddRoute({.dst = {IpAddr::V4(10, 0, 0, 0), 24},
                                        .gateway = IpAddr::V4(192, 0, 2, 1)}).ok());
  Rules rules(kFilter);
  // ESTABLISHED and RELATED, then what comes from inside; else nothing.
  rules.Add(Hook::kForward, Rule().Match("state", 0, XtState(6)).Jump(kAccept));
  rules.Add(Hook::kForward, Rule().Out("in0").Jump(kDrop));
  ASSERT_TRUE(rules.Load(*router_.stack, "filter").ok());
  ASSERT_TRUE(Send(*server, IpAddr::V4(10, 0, 0, 2), 8).ok());
  EXPECT_FALSE(client->Receive().ok());
  ASSERT_TRUE(Send(*client, IpAddr::V4(192, 0, 2, 2), 7).ok());
  ASSERT_TRUE(server->Receive().ok());
  ASSERT_TRUE(Send(*server, IpAddr::V4(10, 0, 0, 2), 8).ok());
  EXPECT_TRUE(client->Receive().ok());
}

TEST_F(FilterTest, BlobsThatCannotBeAreRefused) {
  const auto load = [&](const std::function<void(XtInfo&, std::vector<uint8_t>&)>& spoil) {
    XtInfo info;
    std::vector<uint8_t> blob;
    Rules rules(kFilter);
    rules.Add(Hook::kLocalIn, Rule().Jump(kAccept));
    rules.Build(&info, &blob);
    spoil(info, blob);
    NetResult<std::vector<XtCounter>> r =
        inside_.stack->ReplaceFilterTable(Family::kV4, "filter", info, blob);
    return r.ok() ? std::optional<NetError>() : r.error();
  };
  EXPECT_FALSE(load([](XtInfo&, std::vector<uint8_t>&) {}).has_value());
  EXPECT_EQ(load([](XtInfo& i, auto&) { i.count++; }), NetError::kInvalid);
  EXPECT_EQ(load([](XtInfo& i, auto&) { i.entries[1] = 8; }), NetError::kInvalid);
  EXPECT_EQ(load([](XtInfo& i, auto&) { i.underflows[1] = 0; i.underflows[2] = 4; }),
            NetError::kInvalid);
  EXPECT_EQ(load([](XtInfo& i, auto&) { i.valid_hooks = 0x1f; }), NetError::kInvalid);
  EXPECT_EQ(load([](XtInfo&, auto& b) { b.resize(b.size() - 8); }), NetError::kInvalid);
  EXPECT_EQ(load([](XtInfo&, auto& b) { b[90] = 0; b[91] = 0; }), NetError::kInvalid);
  EXPECT_EQ(load([](XtInfo&, auto& b) { b[88] = 0xff; }), NetError::kInvalid);
  // A jump into the middle of an entry; one that leads to itself.
  EXPECT_EQ(load([](XtInfo&, auto& b) { b[144] = 8; b[145] = b[146] = b[147] = 0; }),
            NetError::kInvalid);
  EXPECT_EQ(load([](XtInfo&, auto& b) { b[144] = b[145] = b[146] = b[147] = 0; }),
            NetError::kLoop);
  for (uint32_t seed = 1; seed < 3000; seed++) {
    // Whatever is spoilt, it is refused or works; nothing is read outside.
    static_cast<void>(load([&](XtInfo&, std::vector<uint8_t>& b) {
      uint32_t x = seed * 2654435761u;
      for (int k = 0; k < 3; k++) {
        b[x % b.size()] = static_cast<uint8_t>(x >> 24);
        x = x * 1664525 + 1013904223;
      }
    }));
    Ref<UdpEndpoint> u = inside_.Bound(8);
    static_cast<void>(Send(*u, IpAddr::V4(127, 0, 0, 1), 7));
    u->Close();
  }
}

// Frames cut anywhere are read to their end and no further, whatever a rule asks for.
TEST_F(FilterTest, FramesOfEveryLengthAreRead) {
  Packet p(Chain(Slice::Copy(std::vector<uint8_t>(24, 7))));
  IpHeader h;
  h.src = IpAddr::V4(10, 0, 0, 1);
  h.dst = IpAddr::V4(10, 0, 0, 2);
  h.protocol = kProtoTcp;
  h.Write(p.Prepend(h.size()), p.size());
  WriteEthernet(p.Prepend(kEthHeader), {{2, 0, 0, 0, 0, 1}}, {{2, 0, 0, 0, 0, 2}}, kEthIpv4);
  const Slice whole = p.Flatten();
  Conntrack conntrack(inside_.stack->config().ct);
  for (size_t n = kEthHeader; n <= whole.size(); n++) {
    for (uint16_t type : {kEthIpv4, kEthIpv6, kEthArp}) {
      FilterPacket f = FilterPacket::ParseFrame(whole.span().first(n), kEthHeader, type, FilterPacket::Sum::kFull);
      EXPECT_EQ(f.is_ip(), type == kEthIpv4 && n == whole.size());
      EXPECT_EQ(f.link().size(), kEthHeader);
      EXPECT_EQ(f.Frame().size(), n);
      NftTable table;
      NftPacket packet{f, *inside_.stack, conntrack, Hook::kPreRouting, table, 0};
      packet.layer = NftFamily::kNetdev;
      for (uint32_t base = 0; base < 3; base++) {
        for (uint32_t offset = 0; offset < 80; offset++) {
          NftSpec s;
          s.kind = "payload";
          s.base = base;
          s.offset = offset;
          s.length = 4;
          NftRegs regs;
          const bool read = (*MakeNftExpr(s, {}))->Eval(regs, packet);
          const size_t start = base == 0 ? 0 : base == 1 ? kEthHeader : kEthHeader + f.transport();
          EXPECT_EQ(read, start + offset + 4 <= n && (base != 2 || f.is_ip())) << n << " " << base << " " << offset;
          if (read) {
            EXPECT_EQ(std::memcmp(regs.bytes.data(), whole.data() + start + offset, 4), 0);
          }
        }
      }
    }
  }
}

TEST_F(FilterTest, UnknownExtensionsAreNotFound) {
  Rules match(kFilter), target(kFilter), place(kFilter);
  match.Add(Hook::kLocalIn, Rule().Match("nosuch", 0, {0}).Jump(kAccept));
  EXPECT_EQ(match.Load(*inside_.stack, "filter").error(), NetError::kNotFound);
  target.Add(Hook::kLocalIn, Rule().Target("NOSUCH", 0, {0}));
  EXPECT_EQ(target.Load(*inside_.stack, "filter").error(), NetError::kNotFound);
  place.Add(Hook::kLocalIn, Rule().Target("DNAT", 0, XtRange(IpAddr::V4(1, 2, 3, 4), 0)));
  EXPECT_EQ(place.Load(*inside_.stack, "filter").error(), NetError::kInvalid);
  static_cast<void>(kReturn);
}

}  // namespace
}  // namespace ringwall::net::testing
