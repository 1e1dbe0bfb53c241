// A scripted TCP peer at 10.0.0.2 (or 2001:db8::2) on a bare IP link, against a stack at 10.0.0.1:
// says segments, looks at what comes back and when.
#ifndef RINGWALL_NETSTACK_TESTING_TCP_TEST_BASE_H_
#define RINGWALL_NETSTACK_TESTING_TCP_TEST_BASE_H_

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "netstack/tcp/endpoint.h"
#include "netstack/testing/fake_host.h"
#include "netstack/wire/checksum.h"

namespace ringwall::net::testing {

inline constexpr uint16_t kOurPort = 80;
inline constexpr uint16_t kPeerPort = 4000;

// A segment as a script writes it. Numbers are relative: seq 0 is the peer's SYN, ack 0 ours.
struct Seg {
  uint8_t flags = kAck;
  int64_t seq = 0;
  int64_t ack = 0;
  std::string data = {};
  uint16_t window = 65535;
  uint16_t urgent = 0;
  TcpOptions options = {};
  uint8_t tos = 0;
};

struct Got {
  TcpSegment segment;
  std::string data;
  IpAddr src, dst;
  uint8_t tos = 0;
  uint8_t ttl = 0;
  bool dont_fragment = false;
  TimePoint at;
  bool Has(uint8_t f) const { return segment.Has(f); }
};

class TcpTest : public ::testing::Test {
 protected:
  TcpTest() { Start({}); }
  ~TcpTest() override {
    for (auto& e : kept_) e->Close();
    stack_->Shutdown();
  }

  void Start(const StackConfig& config, uint32_t mtu = 1500) {
    if (stack_) stack_->Shutdown();
    stack_ = MakeRef<Stack>(host_, config);
    InterfaceConfig lo;
    lo.name = "lo";
    lo.kind = LinkKind::kLoopback;
    lo.mtu = 65536;
    lo_ = *stack_->AddInterface(lo, nullptr);
    EXPECT_TRUE(stack_->SetUp(lo_, true).ok());
    InterfaceConfig tun;
    tun.name = "tun0";
    tun.kind = LinkKind::kIp;
    tun.mtu = mtu;
    sink_ = MakeRef<CaptureSink>();
    tun_ = *stack_->AddInterface(tun, sink_);
    EXPECT_TRUE(stack_->AddAddress(tun_, {our_, 24}).ok());
    EXPECT_TRUE(stack_->SetUp(tun_, true).ok());
  }

  // ---- Time ----
  void Advance(Duration d) { RunUntil(*stack_, host_, host_.now + d); }
  void AdvanceMs(int64_t ms) { Advance(Duration::Millis(ms)); }

  // ---- The peer ----
  void Send(const Seg& s) {
    TcpSegment t;
    t.src_port = peer_port_;
    t.dst_port = local_port_;
    t.seq = SeqNum(peer_iss_ + static_cast<uint32_t>(s.seq));
    t.ack = s.flags & kAck ? SeqNum(our_iss_ + static_cast<uint32_t>(s.ack)) : SeqNum(0);
    t.flags = s.flags;
    t.window = s.window;
    t.urgent = s.urgent;
    t.options = s.options;
    if (timestamps_ && !t.options.timestamps && !(s.flags & kRst)) {
      t.options.timestamps = TcpTimestamps{PeerTs(), last_ts_};
    }
    SendRaw(t, s.data, s.tos);
  }
  void SendRaw(const TcpSegment& t, const std::string& data, uint8_t tos = 0) {
    Packet p(Chain(Slice::Copy({reinterpret_cast<const uint8_t*>(data.data()), data.size()})));
    t.Write(p.Prepend(t.header_size()));
    Checksum c;
    c.AddPseudo(peer_, our_, kProtoTcp, static_cast<uint32_t>(p.size()));
    c.Add(p.header());
    for (const Slice& s : p.payload.slices()) c.Add(s.span());
    Store16(p.header_data() + 16, c.Finish());
    IpHeader h;
    h.src = peer_;
    h.dst = our_;
    h.protocol = kProtoTcp;
    h.tos = tos;
    const size_t size = p.size();
    h.Write(p.Prepend(h.size()), size);
    stack_->Input(tun_, {p.Flatten()});
  }
  uint32_t PeerTs() const { return 1000 + static_cast<uint32_t>(host_.now.millis()); }

  // The next segment that left, if any.
  std::optional<Got> Next() {
    while (!sink_->frames.empty()) {
      Slice f = sink_->frames.front();
      sink_->frames.pop_front();
      std::optional<Ipv4View> ip = Ipv4View::Parse(f.span());
      if (!ip || ip->protocol() != kProtoTcp) continue;
      EXPECT_TRUE(ip->ChecksumOk());
      std::optional<TcpView> tcp = TcpView::Parse(ip->payload());
      EXPECT_TRUE(tcp.has_value());
      EXPECT_TRUE(tcp->ChecksumOk(ip->src(), ip->dst()));
      Got g;
      g.segment = tcp->ToSegment();
      g.data.assign(reinterpret_cast<const char*>(tcp->payload().data()), tcp->payload().size());
      g.src = ip->src();
      g.dst = ip->dst();
      g.tos = ip->tos();
      g.ttl = ip->ttl();
      g.dont_fragment = ip->dont_fragment();
      g.at = host_.now;
      if (g.segment.options.timestamps) last_ts_ = g.segment.options.timestamps->value;
      return g;
    }
    return std::nullopt;
  }
  int64_t RelSeq(const Got& g) const {
    return static_cast<int32_t>(g.segment.seq.value() - our_iss_);
  }
  int64_t RelAck(const Got& g) const {
    return static_cast<int32_t>(g.segment.ack.value() - peer_iss_);
  }
  // Expects one segment with exactly these flags, sequence and acknowledgement numbers.
  Got Expect(uint8_t flags, int64_t seq, int64_t ack, size_t size = 0) {
    std::optional<Got> g = Next();
    EXPECT_TRUE(g.has_value()) << "silence instead of flags " << int{flags};
    if (!g) return {};
    EXPECT_EQ(int{g->segment.flags}, int{flags});
    EXPECT_EQ(RelSeq(*g), seq);
    if (flags & kAck) {
      EXPECT_EQ(RelAck(*g), ack);
    }
    EXPECT_EQ(g->data.size(), size);
    return *g;
  }
  Got ExpectAck(int64_t ack, int64_t seq = 1) { return Expect(kAck, seq, ack); }
  void ExpectSilence() {
    std::optional<Got> g = Next();
    EXPECT_FALSE(g.has_value()) << "flags " << (g ? int{g->segment.flags} : 0) << " seq "
                                << (g ? RelSeq(*g) : 0) << " ack " << (g ? RelAck(*g) : 0)
                                << " size " << (g ? g->data.size() : 0);
  }
  std::vector<Got> Drain() {
    std::vector<Got> all;
    while (std::optional<Got> g = Next()) all.push_back(*g);
    return all;
  }

  // ---- Openings ----
  Ref<TcpEndpoint> NewEndpoint() {
    Ref<TcpEndpoint> e = stack_->NewTcp(Family::kV4);
    kept_.push_back(e);
    return e;
  }
  Ref<TcpEndpoint> Listener(int backlog = 16) {
    Ref<TcpEndpoint> l = NewEndpoint();
    EXPECT_TRUE(l->SetOption(Option::kReuseAddr, 1).ok());
    EXPECT_TRUE(l->Bind({our_, kOurPort}).ok());
    EXPECT_TRUE(l->Listen(backlog).ok());
    local_port_ = kOurPort;
    return l;
  }
  static TcpOptions SynOptions(uint16_t mss = 1460, bool sack = true, int scale = 7) {
    TcpOptions o;
    o.mss = mss;
    o.sack_permitted = sack;
    if (scale >= 0) o.window_scale = static_cast<uint8_t>(scale);
    return o;
  }
  // The three-way handshake by the peer; returns the accepted endpoint.
  Ref<TcpEndpoint> Established(TcpOptions options = SynOptions(), uint16_t window = 65535) {
    listener_ = Listener();
    Send({.flags = kSyn, .seq = 0, .window = window, .options = options});
    std::optional<Got> synack = Next();
    EXPECT_TRUE(synack.has_value());
    our_iss_ = synack->segment.seq.value();
    EXPECT_TRUE(synack->Has(kSyn) && synack->Has(kAck));
    AdvanceMs(handshake_ms_);
    Send({.flags = kAck, .seq = 1, .ack = 1, .window = window});
    NetResult<Ref<TcpEndpoint>> e = listener_->Accept();
    EXPECT_TRUE(e.ok());
    kept_.push_back(*e);
    ExpectSilence();
    return *e;
  }
  // An active open by the stack; returns the SYN.
  Got Connect(Ref<TcpEndpoint> e) {
    NetResult<void> r = e->Connect({peer_, kPeerPort});
    EXPECT_FALSE(r.ok());
    EXPECT_EQ(r.error(), NetError::kInProgress);
    std::optional<Got> syn = Next();
    EXPECT_TRUE(syn.has_value());
    our_iss_ = syn->segment.seq.value();
    local_port_ = syn->segment.src_port;
    return *syn;
  }
  static NetResult<size_t> Write(TcpEndpoint& e, const std::string& s, bool more = false) {
    return e.Send(ByteSpan(reinterpret_cast<const uint8_t*>(s.data()), s.size()), more);
  }
  static std::string Read(TcpEndpoint& e, size_t n = 1 << 20) {
    NetResult<Chain> c = e.Peek(n);
    if (!c.ok()) return "";
    std::string out(c->size(), 0);
    c->CopyTo(reinterpret_cast<uint8_t*>(out.data()));
    e.Consume(out.size());
    return out;
  }

  FakeHost host_;
  RefPtr<Stack> stack_;
  RefPtr<CaptureSink> sink_;
  IfIndex lo_ = 0, tun_ = 0;
  IpAddr our_ = IpAddr::V4(10, 0, 0, 1);
  IpAddr peer_ = IpAddr::V4(10, 0, 0, 2);
  uint16_t peer_port_ = kPeerPort;
  uint16_t local_port_ = kOurPort;
  uint32_t peer_iss_ = 0xfffffff0;  // so that every test crosses 2^32
  uint32_t our_iss_ = 0;
  int64_t handshake_ms_ = 0;  // the round trip that the handshake shows
  bool timestamps_ = false;
  uint32_t last_ts_ = 0;
  RefPtr<TcpEndpoint> listener_;
  std::vector<Ref<Endpoint>> kept_;
};

}  // namespace ringwall::net::testing

#endif  // RINGWALL_NETSTACK_TESTING_TCP_TEST_BASE_H_
