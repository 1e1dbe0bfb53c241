// The short way between two endpoints of one stack, and what programs see of it.
#include "netstack/testing/lossy_link.h"
#include "netstack/tcp/protocol.h"
#include "netstack/testing/tcp_test_base.h"
#include "netstack/link/packet_endpoint.h"

namespace ringwall::net::testing {
namespace {

class TcpLoopbackTest : public TcpTest {
 protected:
  void Join(Family f = Family::kV4) {
    const IpAddr a = IpAddr::Loopback(f);
    listener_ = NewEndpointOf(f);
    ASSERT_TRUE(listener_->Bind({a, 0}).ok());
    ASSERT_TRUE(listener_->Listen(5).ok());
    client_ = NewEndpointOf(f);
    NetResult<void> r = client_->Connect({a, listener_->LocalAddress()->port});
    EXPECT_EQ(r.error(), NetError::kInProgress);
    NetResult<Ref<TcpEndpoint>> s = listener_->Accept();
    ASSERT_TRUE(s.ok());
    server_ = *s;
    kept_.push_back(*s);
    EXPECT_TRUE(client_->Connect({a, 1}).ok());
  }
  Ref<TcpEndpoint> NewEndpointOf(Family f) {
    Ref<TcpEndpoint> e = stack_->NewTcp(f);
    kept_.push_back(e);
    return e;
  }
  RefPtr<TcpEndpoint> client_, server_;
};

TEST_F(TcpLoopbackTest, ConnectIsDoneWhenTheCallReturns) {
  Join();
  EXPECT_EQ(client_->State(), TcpState::kEstablished);
  EXPECT_EQ(server_->State(), TcpState::kEstablished);
}

TEST_F(TcpLoopbackTest, BytesArriveWithinTheCall) {
  Join();
  ASSERT_TRUE(Write(*client_, "ping").ok());
  EXPECT_EQ(Read(*server_), "ping");
  ASSERT_TRUE(Write(*server_, "pong").ok());
  EXPECT_EQ(Read(*client_), "pong");
}

TEST_F(TcpLoopbackTest, LargeSlicesAreNotCopied) {
  Join();
  Ref<Buffer> b = Buffer::New(60000);
  std::memset(b->data(), 'x', 60000);
  b->set_used(60000);
  const uint8_t* bytes = b->data();
  NetResult<size_t> n = client_->Send(Chain(Slice(std::move(b), 0, 60000)));
  ASSERT_TRUE(n.ok());
  NetResult<Chain> c = server_->Peek(60000);
  ASSERT_TRUE(c.ok());
  EXPECT_EQ(c->slices()[0].data(), bytes);
  server_->Consume(c->size());
}

TEST_F(TcpLoopbackTest, MegabytesBothWays) {
  for (Family f : {Family::kV4, Family::kV6}) {
    Join(f);
    Stream there(Ref<TcpEndpoint>(client_), Ref<TcpEndpoint>(server_), 8 << 20, 3);
    Stream back(Ref<TcpEndpoint>(server_), Ref<TcpEndpoint>(client_), 8 << 20, 4);
    bool a = false, b = false;
    for (int i = 0; i < 100000 && !(a && b); i++) {
      a = there.Step();
      b = back.Step();
      if (!(a && b)) AdvanceMs(1);
    }
    EXPECT_TRUE(there.Whole());
    EXPECT_TRUE(back.Whole());
  }
}

TEST_F(TcpLoopbackTest, ReaderThatStopsStopsTheWriter) {  // RFC 9293 3.8.6
  Join();
  size_t sent = 0;
  while (true) {
    NetResult<size_t> n = Write(*client_, std::string(65536, 'a'));
    if (!n.ok()) {
      EXPECT_EQ(n.error(), NetError::kWouldBlock);
      break;
    }
    sent += *n;
    ASSERT_LT(sent, 64u << 20);
  }
  EXPECT_EQ(client_->Poll() & kWritable, 0u);
  size_t read = 0;
  while (read < sent) {
    const std::string s = Read(*server_);
    if (s.empty()) AdvanceMs(300);
    read += s.size();
  }
  EXPECT_EQ(read, sent);
  EXPECT_NE(client_->Poll() & kWritable, 0u);
}

TEST_F(TcpLoopbackTest, RefusedAtOnce) {
  Ref<TcpEndpoint> e = NewEndpointOf(Family::kV4);
  EXPECT_EQ(e->Connect({IpAddr::Loopback(Family::kV4), 9}).error(), NetError::kInProgress);
  EXPECT_EQ(e->Connect({IpAddr::Loopback(Family::kV4), 9}).error(), NetError::kRefused);
  EXPECT_EQ(e->Connect({IpAddr::Loopback(Family::kV4), 9}).error(), NetError::kInProgress);
}

TEST_F(TcpLoopbackTest, DualListenerTakesIpv4AsMapped) {  // ipv6(7) IPV6_V6ONLY
  Ref<TcpEndpoint> l = NewEndpointOf(Family::kV6);
  ASSERT_TRUE(l->Bind({IpAddr::Any(Family::kV6), 7777}).ok());
  ASSERT_TRUE(l->Listen(5).ok());
  Ref<TcpEndpoint> c = NewEndpointOf(Family::kV4);
  (void)c->Connect({IpAddr::Loopback(Family::kV4), 7777});
  NetResult<Ref<TcpEndpoint>> s = l->Accept();
  ASSERT_TRUE(s.ok());
  kept_.push_back(*s);
  EXPECT_EQ((*s)->RemoteAddress()->addr.ToString(), "::ffff:127.0.0.1");
  Ref<TcpEndpoint> four = NewEndpointOf(Family::kV4);
  EXPECT_EQ(four->Bind({IpAddr::Any(Family::kV4), 7777}).error(), NetError::kAddrInUse);
}

TEST_F(TcpLoopbackTest, V6OnlyListenerLeavesIpv4Free) {
  Ref<TcpEndpoint> l = NewEndpointOf(Family::kV6);
  ASSERT_TRUE(l->SetOption(Option::kV6Only, 1).ok());
  ASSERT_TRUE(l->Bind({IpAddr::Any(Family::kV6), 7777}).ok());
  ASSERT_TRUE(l->Listen(5).ok());
  Ref<TcpEndpoint> four = NewEndpointOf(Family::kV4);
  EXPECT_TRUE(four->Bind({IpAddr::Any(Family::kV4), 7777}).ok());
}

TEST_F(TcpLoopbackTest, TapSeesRealPackets) {
  Ref<PacketEndpoint> tap = stack_->NewPacket(true, 3);
  kept_.push_back(tap);
  Join();
  ASSERT_TRUE(Write(*client_, "seen").ok());
  EXPECT_EQ(Read(*server_), "seen");
  bool found = false;
  while (true) {
    NetResult<Datagram> d = tap->Receive();
    if (!d.ok()) break;
    const Slice flat = d->data.Flatten();
    const std::string s(reinterpret_cast<const char*>(flat.data()), flat.size());
    found |= s.find("seen") != std::string::npos;
  }
  EXPECT_TRUE(found);
}

TEST_F(TcpLoopbackTest, ManyConnectionsComeAndGo) {
  Ref<TcpEndpoint> l = NewEndpointOf(Family::kV4);
  ASSERT_TRUE(l->Bind({IpAddr::Loopback(Family::kV4), 5000}).ok());
  ASSERT_TRUE(l->Listen(128).ok());
  for (int i = 0; i < 3000; i++) {
    Ref<TcpEndpoint> c = stack_->NewTcp(Family::kV4);
    (void)c->Connect({IpAddr::Loopback(Family::kV4), 5000});
    NetResult<Ref<TcpEndpoint>> s = l->Accept();
    ASSERT_TRUE(s.ok()) << i;
    c->Close();
    (*s)->Close();
  }
  EXPECT_EQ(stack_->tcp().connections(), 0u);
  EXPECT_EQ(stack_->tcp().time_waits(), 3000u);
  AdvanceMs(61000);
  EXPECT_EQ(stack_->tcp().time_waits(), 0u);
}

TEST_F(TcpLoopbackTest, SelfConnect) {  // RFC 9293 3.5, simultaneous open with oneself
  Ref<TcpEndpoint> e = NewEndpointOf(Family::kV4);
  ASSERT_TRUE(e->Bind({IpAddr::Loopback(Family::kV4), 6000}).ok());
  (void)e->Connect({IpAddr::Loopback(Family::kV4), 6000});
  EXPECT_EQ(e->State(), TcpState::kEstablished);
  ASSERT_TRUE(Write(*e, "me").ok());
  EXPECT_EQ(Read(*e), "me");
}

TEST_F(TcpLoopbackTest, ObserverHearsOfDataAndEnd) {
  struct Ears : EndpointObserver {
    void OnReadiness(uint32_t bits) override { heard |= bits; }
    uint32_t heard = 0;
  };
  Ref<Ears> made = MakeRef<Ears>();
  Ears& ears = *made;
  Join();
  server_->SetObserver(made);
  ASSERT_TRUE(Write(*client_, "x").ok());
  EXPECT_NE(ears.heard & kReadable, 0u);
  ears.heard = 0;
  client_->Close();
  EXPECT_NE(ears.heard & kReadHangup, 0u);
  server_->SetObserver(nullptr);
}

TEST_F(TcpLoopbackTest, IdleConnectionsHaveNoTimers) {
  Join();
  AdvanceMs(1000);
  EXPECT_TRUE(stack_->NextDeadline().IsNever());
}

}  // namespace
}  // namespace ringwall::net::testing
