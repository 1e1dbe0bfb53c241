// A Stack over a packet socket, against the host's own stack at the other end of a veth pair.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <sys/socket.h>

#include <thread>

#include "netstack/tcp/endpoint.h"
#include "netstack/udp/endpoint.h"
#include "runsc/net/attach.h"
#include "runsc/net/host_network.h"
#include "runsc/net/testing.h"

namespace ringwall {
namespace {

using net::IpAddr;
using testing::CurrentNamespace;
using testing::Eventually;

const IpAddr kHost4 = IpAddr::V4(10, 77, 0, 1), kGuest4 = IpAddr::V4(10, 77, 0, 2);
const IpAddr kHost6 = *IpAddr::Parse("fd77::1"), kGuest6 = *IpAddr::Parse("fd77::2");

#define ASSERT_HOST_OK(expr)                                     \
  do {                                                           \
    auto&& ok_result = (expr);                                   \
    ASSERT_TRUE(ok_result.ok()) << ok_result.error().message();  \
  } while (false)

struct Address {
  sockaddr_storage bytes = {};
  socklen_t size = 0;
  sockaddr* raw() { return reinterpret_cast<sockaddr*>(&bytes); }
};

Address HostAddress(const IpAddr& addr, uint16_t port) {
  Address out;
  if (addr.is_v4()) {
    sockaddr_in* in = reinterpret_cast<sockaddr_in*>(&out.bytes);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    std::memcpy(&in->sin_addr, addr.data(), 4);
    out.size = sizeof(*in);
  } else {
    sockaddr_in6* in = reinterpret_cast<sockaddr_in6*>(&out.bytes);
    in->sin6_family = AF_INET6;
    in->sin6_port = htons(port);
    std::memcpy(&in->sin6_addr, addr.data(), 16);
    out.size = sizeof(*in);
  }
  return out;
}

class LinkTest : public ::testing::TestWithParam<net::Family> {
 protected:
  void SetUp() override {
    home_ = CurrentNamespace();
    if (unshare(CLONE_NEWNET) != 0) GTEST_SKIP() << "no network namespaces here";
    UniqueFd container = CurrentNamespace();
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    UniqueFd host = CurrentNamespace();

    HostResult<RtNetlink> netlink = RtNetlink::Open();
    ASSERT_HOST_OK(netlink);
    HostResult<void> made = testing::MakeVeth(*netlink, "host0", "eth0", container.get());
    if (!made.ok()) GTEST_SKIP() << made.error().message();
    const unsigned host_if = if_nametoindex("host0");
    ASSERT_HOST_OK(testing::SetUp(*netlink, 1));
    ASSERT_HOST_OK(testing::SetUp(*netlink, host_if));
    ASSERT_HOST_OK(testing::SetAddress(*netlink, host_if, AF_INET, kHost4, 24));
    ASSERT_HOST_OK(testing::SetAddress(*netlink, host_if, AF_INET6, kHost6, 64));

    ASSERT_EQ(setns(container.get(), CLONE_NEWNET), 0);
    HostResult<RtNetlink> inside = RtNetlink::Open();
    ASSERT_HOST_OK(inside);
    const unsigned guest_if = if_nametoindex("eth0");
    ASSERT_HOST_OK(testing::SetUp(*inside, guest_if));
    ASSERT_HOST_OK(testing::SetAddress(*inside, guest_if, AF_INET, kGuest4, 24));
    ASSERT_HOST_OK(testing::SetAddress(*inside, guest_if, AF_INET6, kGuest6, 64));
    rtmsg route = {};
    route.rtm_family = AF_INET;
    route.rtm_table = RT_TABLE_MAIN;
    route.rtm_protocol = RTPROT_BOOT;
    route.rtm_type = RTN_UNICAST;
    NetlinkMessage add(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route);
    add.Add(RTA_GATEWAY, kHost4.data(), 4);
    add.Add(RTA_OIF, guest_if);
    ASSERT_HOST_OK(inside->Request(add, "add a route"));
    HostResult<NetworkConfig> config = TakeOverNetwork({.pid = getpid(), .id = "first"});
    ASSERT_HOST_OK(config);
    config_ = std::move(*config);
    // Another container that joins the namespace is told whose it is.
    HostResult<NetworkConfig> again = TakeOverNetwork({.pid = getpid(), .id = "second"});
    ASSERT_FALSE(again.ok());
    EXPECT_NE(again.error().message().find("container first,"), std::string::npos);
    addresses_left_ = 0;
    NetlinkMessage ask(RTM_GETADDR, 0, ifaddrmsg{});
    ASSERT_HOST_OK(inside->Dump(ask, "list", [&](uint16_t, std::span<const uint8_t>) {
      addresses_left_++;
    }));
    ASSERT_EQ(setns(host.get(), CLONE_NEWNET), 0);

    stack_.emplace(MakeRef<net::Stack>(time_));
    time_.Start(**stack_);
    net::IfIndex lo =
        *(*stack_)->AddInterface({.name = "lo", .kind = net::LinkKind::kLoopback, .mtu = 65536},
                                 nullptr);
    ASSERT_TRUE((*stack_)->SetUp(lo, true).ok());
  }
  void Attach() { ASSERT_HOST_OK(AttachNetwork(**stack_, std::move(config_))); }
  void TearDown() override {
    if (stack_) {
      (*stack_)->Shutdown();
      time_.Stop();
    }
    // The namespaces, and with them the links and their threads' sockets, go with this one.
    RW_CHECK(setns(home_.get(), CLONE_NEWNET) == 0);
  }

  net::Stack& stack() { return **stack_; }
  bool v4() const { return GetParam() == net::Family::kV4; }
  IpAddr host() const { return v4() ? kHost4 : kHost6; }
  IpAddr guest() const { return v4() ? kGuest4 : kGuest6; }
  int family() const { return v4() ? AF_INET : AF_INET6; }

  UniqueFd home_;
  NetworkConfig config_;
  int addresses_left_ = -1;
  testing::RealTimeHost time_;
  std::optional<Ref<net::Stack>> stack_;
};

TEST_P(LinkTest, ConfigurationIsReadAndTakenAway) {
  ASSERT_EQ(config_.links.size(), 1u);
  const LinkConfig& link = config_.links[0];
  EXPECT_EQ(link.name, "eth0");
  EXPECT_EQ(link.mtu, 1500u);
  EXPECT_FALSE(link.mac.IsZero());
  EXPECT_TRUE(link.fd.valid());
  EXPECT_TRUE(std::count(link.addresses.begin(), link.addresses.end(),
                         net::IpPrefix{kGuest4, 24}) == 1);
  EXPECT_TRUE(std::count(link.addresses.begin(), link.addresses.end(),
                         net::IpPrefix{kGuest6, 64}) == 1);
  bool default_route = false;
  for (const RouteConfig& r : config_.routes) default_route |= r.dst.len == 0 && r.gateway == kHost4;
  EXPECT_TRUE(default_route);
  EXPECT_EQ(addresses_left_, 0);
}

TEST_P(LinkTest, HostPingsTheStack) {
  Attach();
  const UniqueFd ping(socket(family(), SOCK_RAW, v4() ? static_cast<int>(IPPROTO_ICMP)
                                                      : static_cast<int>(IPPROTO_ICMPV6)));
  ASSERT_TRUE(ping.valid());
  Address to = HostAddress(guest(), 0);
  uint8_t echo[16] = {static_cast<uint8_t>(v4() ? 8 : 128)};
  if (v4()) {
    echo[2] = 0xf7;
    echo[3] = 0xff;
  }
  const bool answered = Eventually([&] {
    sendto(ping.get(), echo, sizeof(echo), 0, to.raw(), to.size);
    uint8_t answer[128];
    const ssize_t n = recv(ping.get(), answer, sizeof(answer), MSG_DONTWAIT);
    return n > 0 && (v4() ? n > 20 && answer[20] == 0 : answer[0] == 129);
  });
  EXPECT_TRUE(answered);
}

TEST_P(LinkTest, DatagramsGoBothWays) {
  Attach();
  Ref<net::UdpEndpoint> endpoint = stack().NewUdp(GetParam());
  ASSERT_TRUE(endpoint->Bind({IpAddr::Any(GetParam()), 5000}).ok());
  const UniqueFd peer(socket(family(), SOCK_DGRAM, 0));
  Address at = HostAddress(host(), 6000), to = HostAddress(guest(), 5000);
  ASSERT_EQ(bind(peer.get(), at.raw(), at.size), 0);
  for (const size_t size : {1u, 1000u, 1472u, 9000u}) {
    const std::vector<uint8_t> data(size, static_cast<uint8_t>(size));
    ASSERT_EQ(sendto(peer.get(), data.data(), size, 0, to.raw(), to.size),
              static_cast<ssize_t>(size));
    size_t got = 0;
    ASSERT_TRUE(Eventually([&] {
      net::NetResult<net::Datagram> d = endpoint->Receive();
      if (d.ok()) got = d->data.size();
      return d.ok();
    }));
    EXPECT_EQ(got, size);
    net::SendParams params;
    params.to = net::SockAddr{host(), 6000};
    ASSERT_TRUE(endpoint->Send(net::Chain(net::Slice::Copy(data)), params).ok());
    std::vector<uint8_t> back(70'000);
    pollfd wait = {peer.get(), POLLIN, 0};
    ASSERT_EQ(poll(&wait, 1, 10'000), 1);
    EXPECT_EQ(recv(peer.get(), back.data(), back.size(), 0), static_cast<ssize_t>(size));
  }
  endpoint->Close();
}

constexpr size_t kStream = 64 << 20;

TEST_P(LinkTest, StreamToTheHost) {
  Attach();
  const UniqueFd listener(socket(family(), SOCK_STREAM, 0));
  Address at = HostAddress(host(), 7000);
  ASSERT_EQ(bind(listener.get(), at.raw(), at.size), 0);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  Ref<net::TcpEndpoint> endpoint = stack().NewTcp(GetParam());
  ASSERT_FALSE(endpoint->Connect({host(), 7000}).ok());
  const UniqueFd peer(accept(listener.get(), nullptr, nullptr));
  ASSERT_TRUE(peer.valid());
  ASSERT_TRUE(Eventually([&] { return (endpoint->Poll() & net::kWritable) != 0; }));
  std::thread sender([&] {
    size_t sent = 0;
    while (sent < kStream) {
      Ref<net::Buffer> b = net::Buffer::New(65536);
      for (size_t i = 0; i < 65536; i += 4096) b->data()[i] = static_cast<uint8_t>((sent + i) >> 12);
      b->set_used(65536);
      net::Chain chain(net::Slice(std::move(b), 0, 65536));
      while (!chain.empty()) {
        net::NetResult<size_t> n = endpoint->Send(chain);
        if (!n.ok()) {
          sched_yield();
          continue;
        }
        sent += *n;
        chain = chain.Sub(*n);
      }
    }
    EXPECT_TRUE(endpoint->Shutdown(false, true).ok());
  });
  std::vector<uint8_t> data(1 << 20);
  size_t got = 0;
  bool right = true;
  while (true) {
    const ssize_t n = recv(peer.get(), data.data(), data.size(), 0);
    if (n <= 0) break;
    for (size_t i = (4096 - got % 4096) % 4096; i < static_cast<size_t>(n); i += 4096) {
      right &= data[i] == static_cast<uint8_t>((got + i) >> 12);
    }
    got += static_cast<size_t>(n);
  }
  sender.join();
  EXPECT_EQ(got, kStream);
  EXPECT_TRUE(right);
  endpoint->Close();
}

TEST_P(LinkTest, StreamFromTheHost) {
  Attach();
  Ref<net::TcpEndpoint> listener = stack().NewTcp(GetParam());
  ASSERT_TRUE(listener->Bind({IpAddr::Any(GetParam()), 7001}).ok());
  ASSERT_TRUE(listener->Listen(5).ok());
  const UniqueFd peer(socket(family(), SOCK_STREAM, 0));
  Address to = HostAddress(guest(), 7001);
  ASSERT_EQ(connect(peer.get(), to.raw(), to.size), 0);
  std::optional<Ref<net::TcpEndpoint>> endpoint;
  ASSERT_TRUE(Eventually([&] {
    net::NetResult<Ref<net::TcpEndpoint>> a = listener->Accept();
    if (a.ok()) endpoint.emplace(*a);
    return a.ok();
  }));
  std::thread sender([&] {
    std::vector<uint8_t> data(1 << 20);
    for (size_t sent = 0; sent < kStream; sent += data.size()) {
      for (size_t i = 0; i < data.size(); i += 4096) data[i] = static_cast<uint8_t>((sent + i) >> 12);
      ASSERT_EQ(send(peer.get(), data.data(), data.size(), 0), static_cast<ssize_t>(data.size()));
    }
    shutdown(peer.get(), SHUT_WR);
  });
  size_t got = 0;
  bool right = true;
  while (true) {
    net::NetResult<net::Chain> chain = (*endpoint)->Peek(1 << 20);
    if (!chain.ok()) {
      ASSERT_EQ(chain.error(), net::NetError::kWouldBlock);
      sched_yield();
      continue;
    }
    if (chain->empty()) break;
    for (const net::Slice& s : chain->slices()) {
      for (size_t i = (4096 - got % 4096) % 4096; i < s.size(); i += 4096) {
        right &= s.data()[i] == static_cast<uint8_t>((got + i) >> 12);
      }
      got += s.size();
    }
    (*endpoint)->Consume(chain->size());
  }
  sender.join();
  EXPECT_EQ(got, kStream);
  EXPECT_TRUE(right);
  (*endpoint)->Close();
  listener->Close();
}

TEST_P(LinkTest, NonsenseFromTheLinkIsSurvived) {
  Attach();
  const UniqueFd raw(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
  sockaddr_ll to = {};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = static_cast<int>(if_nametoindex("host0"));
  uint64_t state = 88172645463325252;
  for (int i = 0; i < 20'000; i++) {
    uint8_t frame[1514];
    for (uint8_t& b : frame) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      b = static_cast<uint8_t>(state);
    }
    std::memset(frame, 0xff, 6);
    static constexpr uint16_t kTypes[] = {0x0800, 0x86dd, 0x0806, 0x8100};
    const uint16_t type = htons(kTypes[i % 4]);
    std::memcpy(frame + 12, &type, 2);
    frame[14] = static_cast<uint8_t>(i % 8 < 4 ? 0x45 : 0x60);
    sendto(raw.get(), frame, 14 + state % 1500, 0, reinterpret_cast<sockaddr*>(&to), sizeof(to));
  }
  Ref<net::UdpEndpoint> endpoint = stack().NewUdp(GetParam());
  ASSERT_TRUE(endpoint->Bind({IpAddr::Any(GetParam()), 5000}).ok());
  const UniqueFd peer(socket(family(), SOCK_DGRAM, 0));
  Address at = HostAddress(guest(), 5000);
  EXPECT_TRUE(Eventually([&] {
    sendto(peer.get(), "x", 1, 0, at.raw(), at.size);
    return endpoint->Receive().ok();
  }));
  endpoint->Close();
}

INSTANTIATE_TEST_SUITE_P(Families, LinkTest,
                         ::testing::Values(net::Family::kV4, net::Family::kV6),
                         [](const auto& p) { return p.param == net::Family::kV4 ? "V4" : "V6"; });

}  // namespace
}  // namespace ringwall
