// libFuzzer target: frames, time and socket calls for a whole stack with listening and connected
// sockets. The input is a list of commands; segments for live connections start from correct ones,
// so that the fuzzer gets past the checks. Whatever comes, the stack must not crash, leak or hang.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "netstack/filter/nft_expr.h"
#include "netstack/ip/raw_endpoint.h"
#include "netstack/link/packet_endpoint.h"
#include "netstack/tcp/endpoint.h"
#include "netstack/testing/fake_host.h"
#include "netstack/udp/endpoint.h"
#include "netstack/wire/checksum.h"

namespace ringwall::net::testing {
namespace {

const MacAddr kOurMac{{2, 0, 0, 0, 0, 1}};
const MacAddr kPeerMac{{2, 0, 0, 0, 0, 2}};
const IpAddr kOur = IpAddr::V4(10, 0, 0, 1);
const IpAddr kPeer = IpAddr::V4(10, 0, 0, 2);

void Must(bool ok) {
  if (!ok) std::abort();
}

class Reader {
 public:
  Reader(const uint8_t* p, size_t n) : p_(p), n_(n) {}
  bool empty() const { return n_ == 0; }
  uint8_t Byte() {
    if (n_ == 0) return 0;
    n_--;
    return *p_++;
  }
  uint16_t Word() { return static_cast<uint16_t>(Byte() << 8 | Byte()); }
  ByteSpan Bytes(size_t n) {
    n = std::min(n, n_);
    ByteSpan s(p_, n);
    p_ += n;
    n_ -= n;
    return s;
  }

 private:
  const uint8_t* p_;
  size_t n_;
};

class World {
 public:
  World() : stack_(MakeRef<Stack>(host_)) {
    InterfaceConfig lo;
    lo.name = "lo";
    lo.kind = LinkKind::kLoopback;
    lo.mtu = 65536;
    Must(stack_->SetUp(*stack_->AddInterface(lo, nullptr), true).ok());
    InterfaceConfig c;
    c.name = "eth0";
    c.mac = kOurMac;
    sink_ = MakeRef<CaptureSink>();
    eth_ = *stack_->AddInterface(c, sink_);
    Must(stack_->AddAddress(eth_, {kOur, 24}).ok());
    Must(stack_->AddAddress(eth_, {*IpAddr::Parse("2001:db8::1"), 64}, true).ok());
    Must(stack_->SetUp(eth_, true).ok());
    Must(stack_->SetNeighbour(eth_, kPeer, kPeerMac).ok());
    listener_ = stack_->NewTcp(Family::kV6);
    Must(listener_->Bind({IpAddr::Any(Family::kV6), 80}).ok());
    Must(listener_->Listen(4).ok());
    client_ = stack_->NewTcp(Family::kV4);
    Must(client_->Bind({kOur, 5000}).ok());
    (void)client_->Connect({kPeer, 4000});
    udp_ = stack_->NewUdp(Family::kV6);
    Must(udp_->Bind({IpAddr::Any(Family::kV6), 53}).ok());
    raw_ = stack_->NewRaw(Family::kV4, kProtoUdp);
    tap_ = stack_->NewPacket(true, 0);
    Watch();
  }
  ~World() {
    for (auto& e : accepted_) e->Close();
    listener_->Close();
    client_->Close();
    udp_->Close();
    raw_->Close();
    tap_->Close();
    stack_->Shutdown();
  }

  void Step(Reader& in) {
    switch (in.Byte() % 11) {
      case 0: {  // any frame
        Slice f = Slice::Copy(in.Bytes(in.Byte()));
        if (!f.empty()) stack_->Input(eth_, {f});
        break;
      }
      case 1: {  // any IPv4 payload of a protocol, with a right header
        Packet p(Chain(Slice::Copy(in.Bytes(in.Byte() + 1u))));
        IpHeader h;
        h.src = kPeer;
        h.dst = kOur;
        h.protocol = in.Byte();
        const uint16_t fragment = in.Word();
        h.fragment_offset = static_cast<uint16_t>((fragment & 0xff) * 8);
        h.more_fragments = (fragment & 0x8000) != 0;
        h.id = in.Byte();
        SendIp(h, std::move(p));
        break;
      }
      case 2: {  // any IPv6 payload
        Packet p(Chain(Slice::Copy(in.Bytes(in.Byte() + 1u))));
        IpHeader h;
        h.src = *IpAddr::Parse((in.Byte() & 1) != 0 ? "2001:db8::2" : "fe80::2");
        h.dst = *IpAddr::Parse((in.Byte() & 1) != 0 ? "2001:db8::1" : "ff02::1");
        h.protocol = in.Byte();
        h.ttl = 255;
        if (h.protocol == kProtoIcmpv6 && p.payload.size() >= 4) {
          Slice s = p.payload.Flatten();
          uint8_t* m = s.buffer()->data();
          Store16(m + 2, 0);
          Checksum c;
          c.AddPseudo(h.src, h.dst, kProtoIcmpv6, static_cast<uint32_t>(s.size()));
          c.Add(s.span());
          Store16(m + 2, c.Finish());
        }
        SendIp(h, std::move(p));
        break;
      }
      case 3:
      case 4:
      case 5:
        Segment(in);
        break;
      case 6:
        RunUntil(*stack_, host_, host_.now + Duration::Millis(in.Word()));
        break;
      case 7: {
        TcpEndpoint& e = Pick(in);
        const ByteSpan b = in.Bytes(in.Byte());
        (void)e.Send(b, (b.size() & 1) != 0);
        if (b.size() == 7) (void)e.SendUrgent('u');
        break;
      }
      case 8: {
        TcpEndpoint& e = Pick(in);
        NetResult<Chain> c = e.Peek(in.Word());
        if (c.ok()) e.Consume(c->size());
        (void)e.ReceiveUrgent(false);
        (void)e.Poll();
        (void)e.Info();
        (void)udp_->Receive();
        (void)raw_->Receive();
        break;
      }
      case 9: {
        const uint8_t what = in.Byte();
        TcpEndpoint& e = Pick(in);
        if (what < 40) {
          (void)e.Shutdown((what & 1) != 0, (what & 2) != 0);
        } else if (what < 48) {
          (void)e.Connect({IpAddr(), 0});
        } else {
          (void)e.SetOption(static_cast<Option>(what % static_cast<int>(Option::kCount)),
                            in.Word());
        }
        break;
      }
      case 10:
        Rules(in);
        break;
    }
    if (accepted_.size() < 4) {
      NetResult<Ref<TcpEndpoint>> a = listener_->Accept();
      if (a.ok()) accepted_.push_back(*a);
    }
    Watch();
  }

 private:
  // nftables over frames: fields anywhere in them looked at, and on the way in written to.
  void Rules(Reader& in) {
    const auto chain = [&](NftTable& t, const char* name, uint32_t number) {
      NftChain c;
      c.name = name;
      c.type = "filter";
      c.base = NftHook{static_cast<Hook>(number), number, 0, {"eth0"}};
      for (size_t n = in.Byte() % 5u; n > 0; n--) {
        Ref<NftRule> rule = MakeRef<NftRule>();
        NftSpec s;
        const uint8_t what = in.Byte();
        s.kind = (what & 3) == 3 ? "meta" : "payload";
        s.base = what % 3u;
        s.key = in.Byte() % 33u;
        s.offset = in.Byte();
        s.length = 1 + in.Byte() % 32u;
        s.has_sreg = number == kNftIngress && t.family == NftFamily::kNetdev && (what & 0x80) != 0;
        NetResult<Ref<NftExpr>> e = MakeNftExpr(s, {});
        if (e.ok()) rule->exprs.push_back(*e);
        c.rules.push_back(rule);
      }
      t.chain_order.push_back(name);
      t.chains.emplace(name, std::move(c));
    };
    stack_->ChangeNft([&](NftRuleset& r, bool* good) {
      r.tables.clear();
      for (NftFamily f : {NftFamily::kNetdev, NftFamily::kArp}) {
        NftTable t;
        t.family = f;
        t.name = "t";
        chain(t, "in", kNftIngress);
        chain(t, "out", kNftEgress);
        r.tables.push_back(std::move(t));
      }
      *good = true;
      return 0;
    });
  }

  TcpEndpoint& Pick(Reader& in) {
    const size_t i = in.Byte() % (accepted_.size() + 1);
    return i == accepted_.size() ? *client_ : *accepted_[i];
  }
  void SendIp(IpHeader h, Packet p) {
    const size_t n = p.size();
    h.Write(p.Prepend(h.size()), n);
    WriteEthernet(p.Prepend(kEthHeader), kOurMac, kPeerMac,
                  h.src.is_v4() ? kEthIpv4 : kEthIpv6);
    stack_->Input(eth_, {p.Flatten()});
  }
  // A segment near what the stack last said to that port.
  void Segment(Reader& in) {
    const uint8_t which = in.Byte();
    TcpSegment t;
    t.dst_port = (which & 1) != 0 ? 80 : 5000;
    t.src_port = (which & 1) != 0 ? static_cast<uint16_t>(4001 + (which >> 6)) : 4000;
    const Heard& heard = heard_[t.src_port % 8];
    t.flags = in.Byte();
    t.seq = SeqNum(heard.ack + static_cast<uint32_t>(static_cast<int16_t>(in.Word()) / 8));
    t.ack = SeqNum(heard.seq - (in.Byte() & 0x7f) * ((which & 2) != 0 ? 100u : 0u));
    t.window = in.Word();
    t.urgent = in.Byte();
    const uint8_t options = in.Byte();
    if ((options & 1) != 0) t.options.mss = in.Word();
    if ((options & 2) != 0) t.options.window_scale = in.Byte();
    if ((options & 4) != 0) t.options.sack_permitted = true;
    if ((options & 8) != 0) {
      t.options.timestamps = TcpTimestamps{static_cast<uint32_t>(host_.now.millis()) + in.Byte(),
                                           heard.ts - in.Byte()};
    }
    if ((options & 16) != 0 && (options & 7) == 0) {
      t.options.sack_count = static_cast<uint8_t>(1 + in.Byte() % 3);
      for (size_t i = 0; i < t.options.sack_count; i++) {
        const SeqNum from(heard.seq - in.Word());
        t.options.sack[i] = {from, from + in.Word()};
      }
    }
    if (t.options.size() > 40) t.options = {};
    Packet p(Chain(Slice::Copy(in.Bytes(in.Byte()))));
    t.Write(p.Prepend(t.header_size()));
    Checksum c;
    c.AddPseudo(kPeer, kOur, kProtoTcp, static_cast<uint32_t>(p.size()));
    c.Add(p.header());
    for (const Slice& s : p.payload.slices()) c.Add(s.span());
    Store16(p.header_data() + 16, c.Finish());
    IpHeader h;
    h.src = kPeer;
    h.dst = kOur;
    h.protocol = kProtoTcp;
    h.tos = which >> 2 & 3;
    SendIp(h, std::move(p));
  }
  // Reads what went out: every frame must be well formed.
  void Watch() {
    while (!sink_->frames.empty()) {
      const Slice f = sink_->frames.front();
      sink_->frames.pop_front();
      std::optional<EthernetView> eth = EthernetView::Parse(f.span());
      Must(eth.has_value());
      if (eth->type() == kEthIpv6) Must(Ipv6View::Parse(eth->payload()).has_value());
      if (eth->type() != kEthIpv4) continue;
      std::optional<Ipv4View> ip = Ipv4View::Parse(eth->payload());
      Must(ip.has_value() && ip->ChecksumOk());
      if (ip->protocol() != kProtoTcp) continue;
      std::optional<TcpView> tcp = TcpView::Parse(ip->payload());
      Must(tcp.has_value() && tcp->ChecksumOk(ip->src(), ip->dst()));
      const TcpSegment s = tcp->ToSegment();
      Heard& h = heard_[s.dst_port % 8];
      h.seq = s.seq.value() + static_cast<uint32_t>(tcp->payload().size()) +
              ((s.flags & (kSyn | kFin)) != 0 ? 1 : 0);
      if (s.Has(kAck)) h.ack = s.ack.value();
      if (s.options.timestamps) h.ts = s.options.timestamps->value;
    }
  }

  struct Heard {
    uint32_t seq = 0, ack = 0, ts = 0;
  };
  FakeHost host_;
  Ref<Stack> stack_;
  RefPtr<CaptureSink> sink_;
  IfIndex eth_ = 0;
  RefPtr<TcpEndpoint> listener_, client_;
  std::vector<Ref<TcpEndpoint>> accepted_;
  RefPtr<UdpEndpoint> udp_;
  RefPtr<RawEndpoint> raw_;
  RefPtr<PacketEndpoint> tap_;
  Heard heard_[8];
};

}  // namespace
}  // namespace ringwall::net::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ringwall::net::testing;
  World world;
  Reader in(data, size);
  for (int i = 0; i < 400 && !in.empty(); i++) world.Step(in);
  return 0;
}
