// A scripted host at 10.0.0.2 (or 2001:db8::2) on an Ethernet link, against a stack at 10.0.0.1: for
// tests of IPv4, IPv6, ARP, NDP, ICMP, fragments and UDP.
#ifndef RINGWALL_NETSTACK_TESTING_IP_TEST_BASE_H_
#define RINGWALL_NETSTACK_TESTING_IP_TEST_BASE_H_

#include <gtest/gtest.h>

#include "netstack/ip/raw_endpoint.h"
#include "netstack/link/packet_endpoint.h"
#include "netstack/testing/fake_host.h"
#include "netstack/udp/endpoint.h"
#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/udp.h"

namespace ringwall::net::testing {

inline const MacAddr kOurMac{{2, 0, 0, 0, 0, 1}};
inline const MacAddr kPeerMac{{2, 0, 0, 0, 0, 2}};
inline const IpAddr kOur = IpAddr::V4(10, 0, 0, 1);
inline const IpAddr kPeer = IpAddr::V4(10, 0, 0, 2);

class IpTest : public ::testing::Test {
 protected:
  IpTest() { Start({}); }
  ~IpTest() override {
    for (auto& e : kept_) e->Close();
    stack_->Shutdown();
  }
  void Start(const StackConfig& config) {
    if (stack_) stack_->Shutdown();
    stack_ = MakeRef<Stack>(host_, config);
    InterfaceConfig lo;
    lo.name = "lo";
    lo.kind = LinkKind::kLoopback;
    lo.mtu = 65536;
    EXPECT_TRUE(stack_->SetUp(*stack_->AddInterface(lo, nullptr), true).ok());
    InterfaceConfig c;
    c.name = "eth0";
    c.mac = kOurMac;
    sink_ = MakeRef<CaptureSink>();
    eth_ = *stack_->AddInterface(c, sink_);
    EXPECT_TRUE(stack_->AddAddress(eth_, {kOur, 24}).ok());
    EXPECT_TRUE(stack_->AddAddress(eth_, {our6_, 64}, true).ok());
    EXPECT_TRUE(stack_->SetUp(eth_, true).ok());
    sink_->frames.clear();
  }
  void KnowPeer() {
    EXPECT_TRUE(stack_->SetNeighbour(eth_, kPeer, kPeerMac).ok());
    EXPECT_TRUE(stack_->SetNeighbour(eth_, peer6_, kPeerMac).ok());
  }
  void AdvanceMs(int64_t ms) { RunUntil(*stack_, host_, host_.now + Duration::Millis(ms)); }

  void SendFrame(uint16_t type, Packet p, const MacAddr& dst = kOurMac) {
    WriteEthernet(p.Prepend(kEthHeader), dst, kPeerMac, type);
    stack_->Input(eth_, {p.Flatten()});
  }
  static Packet Body(const std::string& data) {
    return Packet(Chain(Slice::Copy({reinterpret_cast<const uint8_t*>(data.data()), data.size()})));
  }
  void SendIp(IpHeader h, Packet p, const MacAddr& dst = kOurMac) {
    const size_t n = p.size();
    h.Write(p.Prepend(h.size()), n);
    SendFrame(h.src.is_v4() ? kEthIpv4 : kEthIpv6, std::move(p), dst);
  }
  IpHeader From(uint8_t protocol, bool v6 = false) const {
    IpHeader h;
    h.src = v6 ? peer6_ : kPeer;
    h.dst = v6 ? our6_ : kOur;
    h.protocol = protocol;
    return h;
  }
  static Packet Udp(const IpHeader& h, uint16_t sport, uint16_t dport, const std::string& data) {
    Packet p = Body(data);
    WriteUdp(p.Prepend(kUdpHeader), sport, dport, data.size());
    Checksum c;
    c.AddPseudo(h.src, h.dst, kProtoUdp, static_cast<uint32_t>(p.size()));
    c.Add(p.header());
    for (const Slice& s : p.payload.slices()) c.Add(s.span());
    Store16(p.header_data() + 6, c.Finish());
    return p;
  }
  static Packet Icmp(const IpHeader& h, uint8_t type, uint8_t code, uint32_t rest,
                     const std::string& body) {
    Packet p = Body(body);
    WriteIcmp(p.Prepend(kIcmpHeader), type, code, rest);
    Checksum c;
    if (h.src.is_v6()) {
      c.AddPseudo(h.src, h.dst, kProtoIcmpv6, static_cast<uint32_t>(p.size()));
    }
    c.Add(p.header());
    for (const Slice& s : p.payload.slices()) c.Add(s.span());
    Store16(p.header_data() + 2, c.Finish());
    return p;
  }
  std::optional<Slice> NextFrame() {
    if (sink_->frames.empty()) return std::nullopt;
    Slice f = sink_->frames.front();
    sink_->frames.pop_front();
    return f;
  }
  std::optional<ArpPacket> NextArp() {
    while (std::optional<Slice> f = NextFrame()) {
      std::optional<EthernetView> e = EthernetView::Parse(f->span());
      if (e && e->type() == kEthArp) return ArpPacket::Parse(e->payload());
    }
    return std::nullopt;
  }
  // The next frame of this IP protocol, its datagram.
  std::optional<Slice> NextIp(uint8_t protocol) {
    while (std::optional<Slice> f = NextFrame()) {
      std::optional<EthernetView> e = EthernetView::Parse(f->span());
      if (!e) continue;
      Slice d = f->Sub(kEthHeader);
      if (e->type() == kEthIpv4 && d.data()[9] == protocol) return d;
      if (e->type() == kEthIpv6 && d.data()[6] == protocol) return d;
    }
    return std::nullopt;
  }
  Ref<UdpEndpoint> NewUdp(Family f, uint16_t port) {
    Ref<UdpEndpoint> u = stack_->NewUdp(f);
    kept_.push_back(u);
    EXPECT_TRUE(u->Bind({IpAddr::Any(f), port}).ok());
    return u;
  }
  static std::string Text(const Datagram& d) {
    std::string s(d.data.size(), 0);
    d.data.CopyTo(reinterpret_cast<uint8_t*>(s.data()));
    return s;
  }
  static std::string Receive(UdpEndpoint& u) {
    NetResult<Datagram> d = u.Receive();
    return d.ok() ? Text(*d) : "nothing";
  }
  NetResult<size_t> SendTo(UdpEndpoint& u, const IpAddr& a, uint16_t port, const std::string& s) {
    SendParams p;
    p.to = SockAddr{a, port};
    return u.Send(Body(s).payload, p);
  }

  FakeHost host_;
  RefPtr<Stack> stack_;
  RefPtr<CaptureSink> sink_;
  IfIndex eth_ = 0;
  IpAddr our6_ = *IpAddr::Parse("2001:db8::1");
  IpAddr peer6_ = *IpAddr::Parse("2001:db8::2");
  std::vector<Ref<Endpoint>> kept_;
};

}  // namespace ringwall::net::testing

#endif  // RINGWALL_NETSTACK_TESTING_IP_TEST_BASE_H_
