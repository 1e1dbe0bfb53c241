// Floods by a hostile peer, one test each: what they cost stays bounded, and an honest flow beside them lives.
#include "netstack/testing/ip_test_base.h"
#include "netstack/testing/tcp_test_base.h"

namespace ringwall::net::testing {
namespace {

constexpr int kMany = 20000;

class HostileTcpTest : public TcpTest {
 protected:
  // The honest peer says `text` next and is heard; ours is acknowledged.
  void FlowLives(TcpEndpoint& e, const std::string& text) {
    Drain();
    Send({.flags = kAck | kPsh, .seq = 1 + said_, .ack = 1 + heard_, .data = text});
    said_ += static_cast<int64_t>(text.size());
    EXPECT_EQ(Read(e), text);
    Drain();
    EXPECT_TRUE(Write(e, "answer").ok());
    AdvanceMs(1);
    std::string got;
    for (const Got& g : Drain()) got += g.data;
    EXPECT_EQ(got, "answer");
    heard_ += 6;
    Send({.flags = kAck, .seq = 1 + said_, .ack = 1 + heard_});
    EXPECT_EQ(e.State(), TcpState::kEstablished);
  }
  int64_t said_ = 0, heard_ = 0;
};

TEST_F(HostileTcpTest, SynFloodLeavesConnectionsAlone) {  // RFC 4987
  Ref<TcpEndpoint> e = Established();
  for (int i = 0; i < kMany; i++) {
    peer_port_ = static_cast<uint16_t>(10000 + i);
    Send({.flags = kSyn, .seq = i * 77});
    sink_->frames.clear();
  }
  peer_port_ = kPeerPort;
  FlowLives(*e, "hello");
}

TEST_F(HostileTcpTest, OutOfOrderFloodIsBoundedByTheBuffer) {  // RFC 9293 3.8.6
  Ref<TcpEndpoint> e = Established();
  for (int i = 0; i < kMany; i++) {
    Send({.flags = kAck, .seq = 2 + (i * 7919) % 60000, .ack = 1, .data = std::string(1 + i % 3, 'x')});
    sink_->frames.clear();
  }
  EXPECT_LE(static_cast<size_t>(e->GetOption(Option::kReceiveBuffer).TakeValue()), size_t{6} << 20);
  // The missing byte, and all that the flood told of behind it.
  Send({.flags = kAck, .seq = 1, .ack = 1, .data = "y"});
  const std::string read = Read(*e);
  ASSERT_FALSE(read.empty());
  EXPECT_EQ(read[0], 'y');
  said_ = static_cast<int64_t>(read.size());
  // In sequence, over whatever is queued still.
  Drain();
  Send({.flags = kAck, .seq = 1 + said_, .ack = 1, .data = std::string(1000, 'z')});
  EXPECT_FALSE(Read(*e).empty());
  EXPECT_EQ(e->State(), TcpState::kEstablished);
}

TEST_F(HostileTcpTest, AckFloodIsAnsweredWithinTheLimit) {  // RFC 5961 5, 7
  Ref<TcpEndpoint> e = Established();
  size_t answers = 0;
  for (int i = 0; i < kMany; i++) {
    // Of the past, of the future, and the same again.
    const int64_t ack = i % 3 == 0 ? -100000 - i : i % 3 == 1 ? 100000 + i : 1;
    Send({.flags = kAck, .seq = 1, .ack = ack});
    answers += Drain().size();
  }
  EXPECT_LE(answers, size_t{2} * stack_->Config().tcp_challenge_ack_limit);
  FlowLives(*e, "hello");
}

TEST_F(HostileTcpTest, ResetsThatDoNotFitExactlyEndNothing) {  // RFC 5961 3.2
  Ref<TcpEndpoint> e = Established();
  size_t answers = 0;
  for (int i = 0; i < kMany; i++) {
    // Every second one lies in the window.
    const int64_t seq = i % 2 == 0 ? 2 + i : -100000 - i;
    Send({.flags = kRst, .seq = seq});
    Send({.flags = kSyn, .seq = seq});
    answers += Drain().size();
  }
  EXPECT_LE(answers, size_t{2} * stack_->Config().tcp_challenge_ack_limit);
  FlowLives(*e, "hello");
}

TEST_F(HostileTcpTest, TinyWindowsMakeNoStormAndHoldTheBufferOnly) {  // RFC 9293 3.8.6.2.1
  Ref<TcpEndpoint> e = Established();
  size_t queued = 0;
  for (;;) {
    NetResult<size_t> n = Write(*e, std::string(16384, 'q'));
    if (!n.ok() || *n == 0) break;
    queued += *n;
    ASSERT_LE(queued, size_t{16} << 20);
  }
  Drain();
  int64_t acked = 1;
  size_t sent = 0;
  for (int i = 0; i < 2000; i++) {
    Send({.flags = kAck, .seq = 1, .ack = acked, .window = static_cast<uint16_t>(i % 3)});
    AdvanceMs(1);
    for (const Got& g : Drain()) {
      sent++;
      acked = std::max(acked, RelSeq(g) + static_cast<int64_t>(g.data.size()));
    }
  }
  EXPECT_LE(sent, 4000u);
  // A window as it should be: the data go on.
  Send({.flags = kAck, .seq = 1, .ack = acked, .window = 65535});
  AdvanceMs(1);
  size_t bytes = 0;
  for (const Got& g : Drain()) bytes += g.data.size();
  EXPECT_GE(bytes, 1460u);
}

class HostileLinkTest : public IpTest {};

TEST_F(HostileLinkTest, ArpFloodLeavesTheHonestPeer) {
  Ref<UdpEndpoint> u = NewUdp(Family::kV4, 1000);
  for (int i = 0; i < kMany; i++) {
    Packet p;
    ArpPacket{i % 2 == 0 ? ArpOp::kRequest : ArpOp::kReply, kPeerMac,
              IpAddr::V4(0x0a000100u + static_cast<uint32_t>(i)), {}, kOur}
        .Write(p.Prepend(ArpPacket::kSize));
    SendFrame(kEthArp, std::move(p));
    sink_->frames.clear();
  }
  EXPECT_LE(stack_->Neighbours(eth_).size(), 1024u);
  const IpHeader h = From(kProtoUdp);
  SendIp(h, Udp(h, 5, 1000, "hello"));
  EXPECT_EQ(Receive(*u), "hello");
}

TEST_F(HostileLinkTest, SolicitationFloodIsBoundedAndTheHonestPeerIsHeard) {  // RFC 3756 4.3.2, RFC 6583
  Ref<UdpEndpoint> u = NewUdp(Family::kV6, 1000);
  for (uint32_t i = 0; i < kMany; i++) {
    IpHeader h = From(kProtoIcmpv6, true);
    std::array<uint8_t, 16> from = peer6_.bytes();
    from[12] = 9, from[13] = static_cast<uint8_t>(i >> 16), from[14] = static_cast<uint8_t>(i >> 8), from[15] = static_cast<uint8_t>(i);
    h.src = IpAddr::V6(from.data());
    h.dst = our6_.SolicitedNode();
    h.ttl = 255;
    std::string body(reinterpret_cast<const char*>(our6_.data()), 16);
    body += std::string("\1\1", 2) + std::string(reinterpret_cast<const char*>(kPeerMac.b.data()), 6);
    SendIp(h, Icmp(h, kNdpNeighbourSolicit, 0, 0, body), MulticastMac(h.dst));
    sink_->frames.clear();
  }
  EXPECT_LE(stack_->Neighbours(eth_).size(), 1024u);
  const IpHeader h = From(kProtoUdp, true);
  SendIp(h, Udp(h, 5, 1000, "hello"));
  EXPECT_EQ(Receive(*u), "hello");
}

TEST_F(HostileLinkTest, RouterAdvertisementFloodIsBounded) {  // RFC 6980's neighbours: addresses and routes
  for (uint32_t i = 0; i < 2000; i++) {
    IpHeader h = From(kProtoIcmpv6, true);
    std::array<uint8_t, 16> link = {0xfe, 0x80};
    link[14] = static_cast<uint8_t>(i >> 8), link[15] = static_cast<uint8_t>(i);
    h.src = IpAddr::V6(link.data());
    h.dst = our6_;
    h.ttl = 255;
    std::string body("\7\10\0\0\0\0\0\0", 8);  // reachable and retransmit times; below: a prefix of its own
    body += std::string("\3\4\100\300", 4) + std::string("\0\1\0\0\0\1\0\0\0\0\0\0", 12);
    std::array<uint8_t, 16> prefix = {0x20, 1, 0xd, 0xb9};
    prefix[4] = static_cast<uint8_t>(i >> 8), prefix[5] = static_cast<uint8_t>(i);
    body += std::string(reinterpret_cast<const char*>(prefix.data()), 16);
    SendIp(h, Icmp(h, 134, 0, 0x40000708, body));
    sink_->frames.clear();
  }
  size_t addresses = 0;
  for (const InterfaceInfo& i : stack_->Interfaces()) addresses += i.addresses.size();
  EXPECT_LE(addresses, 64u);
}

}  // namespace
}  // namespace ringwall::net::testing
