// A guest's stack behind the NAT, against sockets of a network namespace that the test makes.
#include "runsc/net/nat.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "netstack/ip/raw_endpoint.h"
#include "netstack/tcp/endpoint.h"
#include "netstack/udp/endpoint.h"
#include "netstack/wire/icmp.h"
#include "runsc/net/attach.h"
#include "runsc/net/testing.h"

namespace ringwall {
namespace {

using net::IpAddr;
using net::SockAddr;
using testing::Eventually;

// Addresses of the "host" that are not its loopback.
const IpAddr kHost4 = IpAddr::V4(10, 99, 0, 1), kHost6 = *IpAddr::Parse("fd99::1");

class NatTest : public ::testing::TestWithParam<net::Family> {
 protected:
  void SetUp() override {
    home_ = testing::CurrentNamespace();
    if (unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "no network namespaces here";
    HostResult<RtNetlink> netlink = RtNetlink::Open();
    ASSERT_TRUE(netlink.ok());
    ASSERT_TRUE(testing::SetUp(*netlink, 1).ok());
    ASSERT_TRUE(testing::SetAddress(*netlink, 1, AF_INET, kHost4, 32).ok());
    ASSERT_TRUE(testing::SetAddress(*netlink, 1, AF_INET6, kHost6, 128).ok());
    // The kernel sets an IPv6 address up a little later.
    const UniqueFd self(socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    HostSockAddr at(SockAddr{kHost6, 9});
    ASSERT_TRUE(Eventually([&] { return bind(self.get(), at.raw(), at.size) == 0; }));
    ASSERT_TRUE(Eventually([&] {
      char c = 0;
      sendto(self.get(), &c, 1, 0, at.raw(), at.size);
      return recv(self.get(), &c, 1, MSG_DONTWAIT) == 1;
    }));
  }

  // The NAT's thread shares our namespace, since it is made after we entered it.
  void Start(NatOptions options = {}) {
    int pair[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    options.link.reset(pair[1]);
    options.ping4.reset(socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMP));
    options.ping6.reset(socket(AF_INET6, SOCK_RAW | SOCK_NONBLOCK, IPPROTO_ICMPV6));
    nat_ = std::make_unique<Nat>(std::move(options));
    HostResult<void> prepared = nat_->Prepare();
    ASSERT_TRUE(prepared.ok()) << prepared.error().message();
    thread_ = std::thread([this] {
      while (!stop_ && nat_->Turn(20)) {
      }
    });

    stack_.emplace(MakeRef<net::Stack>(time_));
    time_.Start(**stack_);
    net::IfIndex lo =
        *(*stack_)->AddInterface({.name = "lo", .kind = net::LinkKind::kLoopback, .mtu = 65536},
                                 nullptr);
    ASSERT_TRUE((*stack_)->SetUp(lo, true).ok());
    const NatAddresses& a = NatAddresses::Get();
    NetworkConfig config;
    LinkConfig& eth0 = config.links.emplace_back();
    eth0.name = "eth0";
    eth0.mac = a.guest_mac;
    eth0.mtu = a.mtu;
    eth0.offload = eth0.rx_checked = true;
    eth0.addresses = {{a.guest4, a.len4}, {a.guest6, a.len6}};
    eth0.neighbours = {{a.gateway4, a.gateway_mac}, {a.gateway6, a.gateway_mac}};
    eth0.wake.reset(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    hostile_.reset(dup(pair[0]));
    eth0.fd.reset(pair[0]);
    for (const IpAddr& gateway : {a.gateway4, a.gateway6}) {
      RouteConfig route;
      route.link = 0;
      route.dst = {IpAddr::Any(gateway.family()), 0};
      route.gateway = gateway;
      config.routes.push_back(route);
    }
    HostResult<void> attached = AttachNetwork(**stack_, std::move(config));
    ASSERT_TRUE(attached.ok()) << attached.error().message();
  }

  void TearDown() override {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    nat_.reset();
    if (stack_) {
      (*stack_)->Shutdown();
      time_.Stop();
    }
    RW_CHECK(setns(home_.get(), CLONE_NEWNET) == 0);
  }

  net::Stack& stack() { return **stack_; }
  bool v4() const { return GetParam() == net::Family::kV4; }
  IpAddr host() const { return v4() ? kHost4 : kHost6; }
  IpAddr gateway() const {
    return v4() ? NatAddresses::Get().gateway4 : NatAddresses::Get().gateway6;
  }
  IpAddr guest() const { return v4() ? NatAddresses::Get().guest4 : NatAddresses::Get().guest6; }
  int family() const { return v4() ? AF_INET : AF_INET6; }

  UniqueFd Bound(int type, const IpAddr& addr, uint16_t port) {
    UniqueFd fd(socket(family(), type | SOCK_CLOEXEC, 0));
    const int one = 1;
    setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    HostSockAddr at(SockAddr{addr, port, 0});
    EXPECT_EQ(bind(fd.get(), at.raw(), at.size), 0);
    if (type == SOCK_STREAM) {
      EXPECT_EQ(listen(fd.get(), 128), 0);
    }
    return fd;
  }
  Ref<net::TcpEndpoint> Connect(const SockAddr& to) {
    Ref<net::TcpEndpoint> e = stack().NewTcp(GetParam());
    EXPECT_EQ(e->Connect(to).error(), net::NetError::kInProgress);
    return e;
  }
  // The end of a connect: nothing when it succeeded.
  std::optional<net::NetError> Outcome(net::TcpEndpoint& e) {
    EXPECT_TRUE(Eventually([&] { return (e.Poll() & (net::kWritable | net::kError)) != 0; }));
    return e.TakeError();
  }
  static std::string ReadAll(net::TcpEndpoint& e) {
    std::string out;
    EXPECT_TRUE(Eventually([&] {
      while (true) {
        net::NetResult<net::Chain> c = e.Peek(1 << 16);
        if (!c.ok()) return c.error() != net::NetError::kWouldBlock;
        if (c->empty()) return true;
        for (const net::Slice& s : c->slices()) {
          out.append(reinterpret_cast<const char*>(s.data()), s.size());
        }
        e.Consume(c->size());
      }
    }));
    return out;
  }
  static net::ByteSpan Bytes(const std::string& s) {
    return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
  }

  UniqueFd home_, hostile_;
  std::unique_ptr<Nat> nat_;
  std::thread thread_;
  std::atomic<bool> stop_{false};
  testing::RealTimeHost time_;
  std::optional<Ref<net::Stack>> stack_;
};

TEST_P(NatTest, ConnectionsCarryBytesAndEnds) {
  Start();
  const UniqueFd listener = Bound(SOCK_STREAM, host(), 7000);
  for (int round = 0; round < 20; round++) {
    Ref<net::TcpEndpoint> e = Connect({host(), 7000});
    const UniqueFd peer(accept(listener.get(), nullptr, nullptr));
    ASSERT_FALSE(Outcome(*e).has_value());
    ASSERT_TRUE(e->Send(Bytes("question")).ok());
    ASSERT_TRUE(e->Shutdown(false, true).ok());
    char text[64];
    EXPECT_EQ(recv(peer.get(), text, sizeof(text), MSG_WAITALL), 8);
    EXPECT_EQ(send(peer.get(), "answer", 6, 0), 6);
    EXPECT_EQ(shutdown(peer.get(), SHUT_WR), 0);
    EXPECT_EQ(ReadAll(*e), "answer");
    e->Close();
  }
}

TEST_P(NatTest, LargeStreamsArriveWhole) {
  Start();
  constexpr size_t kSize = 32 << 20;
  const UniqueFd listener = Bound(SOCK_STREAM, host(), 7000);
  Ref<net::TcpEndpoint> e = Connect({host(), 7000});
  const UniqueFd peer(accept(listener.get(), nullptr, nullptr));
  ASSERT_FALSE(Outcome(*e).has_value());
  // The peer echoes.
  std::thread echo([&] {
    std::vector<char> data(1 << 16);
    while (true) {
      const ssize_t n = recv(peer.get(), data.data(), data.size(), 0);
      if (n <= 0) break;
      for (ssize_t at = 0; at < n;) {
        const ssize_t m = send(peer.get(), data.data() + at, static_cast<size_t>(n - at), 0);
        ASSERT_GT(m, 0);
        at += m;
      }
    }
    shutdown(peer.get(), SHUT_WR);
  });
  std::thread sender([&] {
    std::vector<uint8_t> data(1 << 16);
    for (size_t sent = 0; sent < kSize;) {
      for (size_t i = 0; i < data.size(); i++) data[i] = static_cast<uint8_t>((sent + i) * 7 >> 3);
      for (size_t at = 0; at < data.size();) {
        net::NetResult<size_t> n = e->Send(net::ByteSpan(data).subspan(at));
        if (n.ok()) at += *n;
        if (!n.ok()) sched_yield();
      }
      sent += data.size();
    }
    EXPECT_TRUE(e->Shutdown(false, true).ok());
  });
  size_t got = 0;
  bool right = true;
  EXPECT_TRUE(Eventually([&] {
    while (true) {
      net::NetResult<net::Chain> c = e->Peek(1 << 20);
      if (!c.ok()) return false;
      if (c->empty()) return true;
      for (const net::Slice& s : c->slices()) {
        for (size_t i = 0; i < s.size(); i++) {
          right &= s.data()[i] == static_cast<uint8_t>((got + i) * 7 >> 3);
        }
        got += s.size();
      }
      e->Consume(c->size());
    }
  }));
  sender.join();
  echo.join();
  EXPECT_EQ(got, kSize);
  EXPECT_TRUE(right);
  e->Close();
}

TEST_P(NatTest, ManyConnectionsToOnePlace) {
  Start();
  constexpr int kCount = 200;
  const UniqueFd listener = Bound(SOCK_STREAM, host(), 7000);
  std::thread server([&] {
    for (int i = 0; i < kCount; i++) {
      const UniqueFd peer(accept(listener.get(), nullptr, nullptr));
      char c = 0;
      EXPECT_EQ(recv(peer.get(), &c, 1, 0), 1);
      EXPECT_EQ(send(peer.get(), &c, 1, 0), 1);
    }
  });
  std::vector<Ref<net::TcpEndpoint>> all;
  for (int i = 0; i < kCount; i++) all.push_back(Connect({host(), 7000}));
  for (int i = 0; i < kCount; i++) {
    ASSERT_FALSE(Outcome(*all[static_cast<size_t>(i)]).has_value());
    ASSERT_TRUE(all[static_cast<size_t>(i)]->Send(Bytes(std::string(1, static_cast<char>(i)))).ok());
  }
  for (int i = 0; i < kCount; i++) {
    EXPECT_EQ(ReadAll(*all[static_cast<size_t>(i)]), std::string(1, static_cast<char>(i)));
    all[static_cast<size_t>(i)]->Close();
  }
  server.join();
}

TEST_P(NatTest, RefusalsAndLackOfRoutesAreTold) {
  Start();
  Ref<net::TcpEndpoint> refused = Connect({host(), 7999});
  EXPECT_EQ(Outcome(*refused), net::NetError::kRefused);
  refused->Close();
  // No route leads there: an error that does not end the attempt at once, as on Linux.
  Ref<net::UdpEndpoint> udp = stack().NewUdp(GetParam());
  ASSERT_TRUE(udp->Connect({v4() ? IpAddr::V4(192, 0, 2, 1) : *IpAddr::Parse("2001:db8::1"), 9}).ok());
  ASSERT_TRUE(udp->SetOption(v4() ? net::Option::kRecvErr : net::Option::kRecvErr6, 1).ok());
  std::optional<net::NetError> error;
  EXPECT_TRUE(Eventually([&] {
    (void)udp->Send(net::Chain(net::Slice::Copy(Bytes("x"))), {});
    if (std::optional<net::NetError> e = udp->TakeError()) error = e;
    return error.has_value();
  }));
  EXPECT_EQ(error, net::NetError::kNetUnreach);
  udp->Close();
}

TEST_P(NatTest, HostsLoopbackIsOutOfReach) {
  Start();
  const UniqueFd listener = Bound(SOCK_STREAM, IpAddr::Loopback(GetParam()), 7000);
  Ref<net::TcpEndpoint> e = Connect({gateway(), 7000});
  EXPECT_EQ(Outcome(*e), net::NetError::kRefused);
  e->Close();
  // A frame to 127.0.0.1 by hand, with a SYN in it.
  struct {
    VnetHeader vnet;
    uint8_t frame[54] = {};
  } raw;
  const NatAddresses& a = NatAddresses::Get();
  net::WriteEthernet(raw.frame, a.gateway_mac, a.guest_mac, net::kEthIpv4);
  net::IpHeader ip;
  ip.src = a.guest4;
  ip.dst = IpAddr::V4(127, 0, 0, 1);
  ip.protocol = net::kProtoTcp;
  ip.Write(raw.frame + 14, 20);
  net::Store16(raw.frame + 34, 1234);
  net::Store16(raw.frame + 36, 7000);
  raw.frame[46] = 0x50;
  raw.frame[47] = 2;
  ASSERT_GT(send(hostile_.get(), &raw, sizeof(VnetHeader) + 54, 0), 0);
  pollfd wait = {listener.get(), POLLIN, 0};
  EXPECT_EQ(poll(&wait, 1, 200), 0);
}

TEST_P(NatTest, HostsLoopbackByTheGatewayWhenAsked) {
  NatOptions options;
  options.host_loopback = true;
  Start(std::move(options));
  const UniqueFd listener = Bound(SOCK_STREAM, IpAddr::Loopback(GetParam()), 7000);
  Ref<net::TcpEndpoint> e = Connect({gateway(), 7000});
  const UniqueFd peer(accept(listener.get(), nullptr, nullptr));
  EXPECT_FALSE(Outcome(*e).has_value());
  e->Close();
}

TEST_P(NatTest, DatagramsAreAnsweredAndStrangersAreNotHeard) {
  Start();
  const UniqueFd server = Bound(SOCK_DGRAM, host(), 6000), other = Bound(SOCK_DGRAM, host(), 6001);
  Ref<net::UdpEndpoint> udp = stack().NewUdp(GetParam());
  ASSERT_TRUE(udp->Bind({IpAddr::Any(GetParam()), 5000}).ok());
  for (const size_t size : {0u, 1u, 1472u, 20000u, 65000u}) {
    net::SendParams params;
    params.to = SockAddr{host(), 6000};
    std::vector<uint8_t> data(size, 7);
    ASSERT_TRUE(udp->Send(net::Chain(net::Slice::Copy(data)), params).ok());
    std::vector<uint8_t> got(70'000);
    pollfd wait = {server.get(), POLLIN, 0};
    ASSERT_EQ(poll(&wait, 1, 10'000), 1);
    HostSockAddr from;
    ASSERT_EQ(recvfrom(server.get(), got.data(), got.size(), 0, from.raw(), &from.size),
              static_cast<ssize_t>(size));
    // Another port of the same host is another peer.
    ASSERT_EQ(sendto(other.get(), "spam", 4, 0, from.raw(), from.size), 4);
    ASSERT_EQ(sendto(server.get(), got.data(), size, 0, from.raw(), from.size),
              static_cast<ssize_t>(size));
    std::optional<net::Datagram> answer;
    ASSERT_TRUE(Eventually([&] {
      net::NetResult<net::Datagram> d = udp->Receive();
      if (d.ok()) answer = *d;
      return d.ok();
    }));
    EXPECT_EQ(answer->data.size(), size);
    EXPECT_EQ(answer->from, (SockAddr{host(), 6000}));
  }
  udp->Close();
}

TEST_P(NatTest, ClosedUdpPortIsRefused) {
  Start();
  Ref<net::UdpEndpoint> udp = stack().NewUdp(GetParam());
  ASSERT_TRUE(udp->Connect({host(), 6999}).ok());
  std::optional<net::NetError> error;
  EXPECT_TRUE(Eventually([&] {
    net::NetResult<size_t> n = udp->Send(net::Chain(net::Slice::Copy(Bytes("x"))), {});
    if (!n.ok()) error = n.error();
    return error.has_value();
  }));
  EXPECT_EQ(error, net::NetError::kRefused);
  udp->Close();
}

TEST_P(NatTest, NamesAreAskedAtTheGateway) {
  NatOptions options;
  options.resolvers.push_back({host(), 5353});
  Start(std::move(options));
  const UniqueFd resolver = Bound(SOCK_DGRAM, host(), 5353);
  Ref<net::UdpEndpoint> udp = stack().NewUdp(GetParam());
  net::SendParams params;
  params.to = SockAddr{gateway(), 53};
  ASSERT_TRUE(udp->Send(net::Chain(net::Slice::Copy(Bytes("question"))), params).ok());
  char text[64];
  HostSockAddr from;
  ASSERT_EQ(recvfrom(resolver.get(), text, sizeof(text), 0, from.raw(), &from.size), 8);
  ASSERT_EQ(sendto(resolver.get(), "answer", 6, 0, from.raw(), from.size), 6);
  std::optional<net::Datagram> answer;
  ASSERT_TRUE(Eventually([&] {
    net::NetResult<net::Datagram> d = udp->Receive();
    if (d.ok()) answer = *d;
    return d.ok();
  }));
  EXPECT_EQ(answer->from, (SockAddr{gateway(), 53}));
  udp->Close();
  const UniqueFd listener = Bound(SOCK_STREAM, host(), 5353);
  Ref<net::TcpEndpoint> tcp = Connect({gateway(), 53});
  EXPECT_FALSE(Outcome(*tcp).has_value());
  tcp->Close();
}

TEST_P(NatTest, PublishedPortsReachTheGuest) {
  NatOptions options;
  options.published.push_back({Bound(SOCK_STREAM, IpAddr::Any(GetParam()), 8080), false, 80});
  fcntl(options.published[0].fd.get(), F_SETFL, O_NONBLOCK);
  options.published.push_back({Bound(SOCK_DGRAM, IpAddr::Any(GetParam()), 8081), true, 81});
  Start(std::move(options));
  Ref<net::TcpEndpoint> listener = stack().NewTcp(GetParam());
  ASSERT_TRUE(listener->Bind({IpAddr::Any(GetParam()), 80}).ok());
  ASSERT_TRUE(listener->Listen(10).ok());
  Ref<net::UdpEndpoint> udp = stack().NewUdp(GetParam());
  ASSERT_TRUE(udp->Bind({IpAddr::Any(GetParam()), 81}).ok());
  for (const IpAddr& at : {host(), IpAddr::Loopback(GetParam())}) {
    const UniqueFd client(socket(family(), SOCK_STREAM, 0));
    HostSockAddr to(SockAddr{at, 8080});
    ASSERT_EQ(connect(client.get(), to.raw(), to.size), 0);
    std::optional<Ref<net::TcpEndpoint>> peer;
    ASSERT_TRUE(Eventually([&] {
      net::NetResult<Ref<net::TcpEndpoint>> a = listener->Accept();
      if (a.ok()) peer.emplace(*a);
      return a.ok();
    }));
    EXPECT_EQ((*peer)->RemoteAddress()->addr, at.IsLoopback() ? gateway() : at);
    ASSERT_EQ(send(client.get(), "hello", 5, 0), 5);
    shutdown(client.get(), SHUT_WR);
    EXPECT_EQ(ReadAll(**peer), "hello");
    ASSERT_TRUE((*peer)->Send(Bytes("welcome")).ok());
    (*peer)->Close();
    char text[64];
    EXPECT_EQ(recv(client.get(), text, sizeof(text), MSG_WAITALL), 7);

    const UniqueFd asker(socket(family(), SOCK_DGRAM, 0));
    HostSockAddr port(SockAddr{at, 8081});
    ASSERT_EQ(sendto(asker.get(), "ask", 3, 0, port.raw(), port.size), 3);
    std::optional<net::Datagram> got;
    ASSERT_TRUE(Eventually([&] {
      net::NetResult<net::Datagram> d = udp->Receive();
      if (d.ok()) got = *d;
      return d.ok();
    }));
    net::SendParams params;
    params.to = got->from;
    ASSERT_TRUE(udp->Send(net::Chain(net::Slice::Copy(Bytes("told"))), params).ok());
    HostSockAddr from;
    EXPECT_EQ(recvfrom(asker.get(), text, sizeof(text), 0, from.raw(), &from.size), 4);
    EXPECT_EQ(from.Get().port, 8081);
  }
  // Nobody listens in the guest: the client is reset.
  listener->Close();
  const UniqueFd late(socket(family(), SOCK_STREAM, 0));
  HostSockAddr to(SockAddr{host(), 8080});
  ASSERT_EQ(connect(late.get(), to.raw(), to.size), 0);
  char c = 0;
  EXPECT_LE(recv(late.get(), &c, 1, 0), 0);
  udp->Close();
}

TEST_P(NatTest, PingIsAnswered) {
  Start();
  for (const IpAddr& to : {gateway(), host()}) {
    Ref<net::RawEndpoint> ping =
        stack().NewRaw(GetParam(), v4() ? net::kProtoIcmp : net::kProtoIcmpv6, true);
    uint8_t echo[16] = {v4() ? net::kIcmpEcho : net::kIcmp6Echo};
    echo[7] = 3;
    net::SendParams params;
    params.to = SockAddr{to, 0};
    std::optional<net::Datagram> got;
    ASSERT_TRUE(ping->Send(net::Chain(net::Slice::Copy(echo)), params).ok());
    EXPECT_TRUE(Eventually([&] {
      net::NetResult<net::Datagram> d = ping->Receive();
      if (d.ok()) got = *d;
      return d.ok();
    }));
    if (got) {
      EXPECT_EQ(got->from.addr, to);
    }
    ping->Close();
  }
}

TEST_P(NatTest, NonsenseFromTheSentryIsSurvived) {
  Start();
  uint64_t state = 88172645463325252;
  const NatAddresses& a = NatAddresses::Get();
  for (int i = 0; i < 20'000; i++) {
    uint8_t frame[sizeof(VnetHeader) + 200];
    for (uint8_t& b : frame) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      b = static_cast<uint8_t>(state);
    }
    uint8_t* f = frame + sizeof(VnetHeader);
    static constexpr uint16_t kTypes[] = {net::kEthIpv4, net::kEthIpv6, net::kEthArp, 0x8100};
    net::WriteEthernet(f, a.gateway_mac, a.guest_mac, kTypes[i % 4]);
    if (i % 4 == 0 && i % 3 != 0) {
      net::IpHeader ip;
      ip.src = a.guest4;
      ip.dst = IpAddr::V4(10, 99, 0, static_cast<uint8_t>(i));
      static constexpr uint8_t kProtocols[] = {6, 17, 1, 132, 6};
      ip.protocol = kProtocols[i % 5];
      ip.Write(f + 14, 200 - 34);
    }
    const size_t size = i % 7 == 0 ? state % sizeof(frame) + 1 : sizeof(frame);
    ssize_t n = -1;
    for (int tries = 0; n < 0 && tries < 10'000; tries++) {
      n = send(hostile_.get(), frame, size, MSG_DONTWAIT);
      if (n < 0) sched_yield();
    }
  }
  const UniqueFd listener = Bound(SOCK_STREAM, host(), 7000);
  Ref<net::TcpEndpoint> e = Connect({host(), 7000});
  EXPECT_FALSE(Outcome(*e).has_value());
  e->Close();
}

INSTANTIATE_TEST_SUITE_P(Families, NatTest,
                         ::testing::Values(net::Family::kV4, net::Family::kV6),
                         [](const auto& p) { return p.param == net::Family::kV4 ? "V4" : "V6"; });

}  // namespace
}  // namespace ringwall
