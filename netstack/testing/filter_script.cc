#include "netstack/testing/filter_script.h"

#include <algorithm>
#include <sstream>

#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/ip.h"
#include "netstack/wire/tcp.h"
#include "netstack/wire/udp.h"
#include "sentry/base/check.h"

namespace ringwall::net::testing {
namespace {

struct Named {
  char letter;
  bool outside;
  uint8_t number;
};
constexpr Named kHosts[] = {{'R', false, 1}, {'A', false, 2}, {'B', false, 3}, {'C', false, 4},
                            {'P', true, 1},  {'X', true, 2},  {'Y', true, 3},  {'Q', true, 9},
                            {'Z', true, 10}};

uint32_t Number(const std::string& s) { return static_cast<uint32_t>(std::stoul(s)); }

std::pair<uint32_t, uint32_t> Pair(const std::string& s) {
  const size_t dash = s.find('-');
  if (dash == std::string::npos) return {Number(s), Number(s)};
  return {Number(s.substr(0, dash)), Number(s.substr(dash + 1))};
}

// The value behind a word, or nothing; flags are words without one.
std::optional<std::string> After(const std::vector<std::string>& w, size_t at, const char* key) {
  for (size_t i = at; i < w.size(); i++) {
    if (w[i] == "about") break;
    if (w[i] == key) return i + 1 < w.size() ? w[i + 1] : std::string();
  }
  return std::nullopt;
}

bool Has(const std::vector<std::string>& w, size_t at, const char* key) {
  return After(w, at, key).has_value();
}

uint32_t NumberAfter(const std::vector<std::string>& w, size_t at, const char* key, uint32_t none) {
  const std::optional<std::string> s = After(w, at, key);
  return s ? Number(*s) : none;
}

constexpr const char* kFlagLetters = "FSRP.U";

uint8_t Flags(const std::string& s) {
  uint8_t f = 0;
  for (char c : s) {
    const size_t bit = std::string(kFlagLetters).find(c);
    if (bit != std::string::npos) f = static_cast<uint8_t>(f | 1u << bit);
  }
  return f;
}

std::string FlagText(uint8_t flags) {
  std::string s;
  for (char c : std::string("SFRPU.")) {
    if ((flags & 1u << std::string(kFlagLetters).find(c)) != 0) s += c;
  }
  return s.empty() ? "-" : s;
}

Packet Body(size_t n) {
  std::vector<uint8_t> bytes(n);
  for (size_t i = 0; i < n; i++) bytes[i] = static_cast<uint8_t>('a' + i % 26);
  return Packet(Chain(Slice::Copy(bytes)));
}

void PutSum(Packet& p, size_t field, const IpAddr& src, const IpAddr& dst, uint8_t protocol) {
  Checksum c;
  if (protocol != kProtoIcmp) c.AddPseudo(src, dst, protocol, static_cast<uint32_t>(p.size()));
  c.Add(p.header());
  for (const Slice& s : p.payload.slices()) c.Add(s.span());
  const uint16_t sum = c.Finish();
  Store16(p.header_data() + field, sum == 0 && protocol == kProtoUdp ? uint16_t{0xffff} : sum);
}

std::string N(uint64_t n) { return std::to_string(n); }

}  // namespace

FilterRuleTest::~FilterRuleTest() {
  if (socket_) socket_->Close();
  if (stack_) stack_->Shutdown();
}

IpAddr FilterRuleTest::Host(const std::string& letter) const {
  for (const Named& h : kHosts) {
    if (letter != std::string(1, h.letter)) continue;
    if (!v6_) return h.outside ? IpAddr::V4(192, 0, 2, h.number) : IpAddr::V4(10, 0, 0, h.number);
    return *IpAddr::Parse((h.outside ? "2001:db8:2::" : "2001:db8:1::") + N(h.number));
  }
  ADD_FAILURE() << "no such host: " << letter;
  return IpAddr();
}

std::string FilterRuleTest::Name(const IpAddr& a) const {
  for (const Named& h : kHosts) {
    if (Host(std::string(1, h.letter)) == a) return std::string(1, h.letter);
  }
  return a.ToString();
}

SockAddr FilterRuleTest::End(const std::string& s) const {
  return {Host(s.substr(0, 1)), s.size() > 2 ? static_cast<uint16_t>(Number(s.substr(2))) : uint16_t{0}};
}

void FilterRuleTest::SetUp() {
  StackConfig config;
  config.forwarding4 = config.forwarding6 = true;
  stack_ = MakeRef<Stack>(host_, config);
  const IfIndex lo = *stack_->AddInterface({.name = "lo", .kind = LinkKind::kLoopback, .mtu = 65536},
                                           nullptr);
  EXPECT_TRUE(stack_->SetUp(lo, true).ok());
  for (const char* name : {"in0", "out0"}) {
    Port& p = ports_[name];
    p.sink = MakeRef<CaptureSink>();
    p.index = *stack_->AddInterface({.name = name, .kind = LinkKind::kIp, .mtu = 1500}, p.sink);
    const bool out = std::string_view(name) == "out0";
    EXPECT_TRUE(stack_->AddAddress(p.index, {out ? IpAddr::V4(192, 0, 2, 1) : IpAddr::V4(10, 0, 0, 1),
                                             24}).ok());
    EXPECT_TRUE(stack_->AddAddress(p.index, {*IpAddr::Parse(out ? "2001:db8:2::1" : "2001:db8:1::1"),
                                             64}, true).ok());
    EXPECT_TRUE(stack_->SetUp(p.index, true).ok());
    p.sink->frames.clear();
  }
}

void FilterRuleTest::Step(Words w) {
  const std::string& verb = w[0];
  if (verb == "v6") {
    v6_ = true;
  } else if (verb == "config") {
    StackConfig c = stack_->Config();
    const uint32_t v = Number(w.at(2));
    if (w[1] == "udp") c.ct.udp = v;
    else if (w[1] == "loose") c.ct.tcp_loose = v != 0;
    else if (w[1] == "liberal") c.ct.tcp_be_liberal = v != 0;
    else if (w[1] == "checksum") c.ct.checksum = v != 0;
    else if (w[1] == "max") c.ct.max = v;
    else ADD_FAILURE() << "no such setting";
    stack_->SetConfig(c);
  } else if (verb == "rule") {
    AddRule(w);
    Load();
  } else if (verb == ">") {
    Inject(std::move(w));
  } else if (verb == "<") {
    Expect(w);
  } else if (verb == "quiet" || verb == "drain") {
    for (auto& [name, p] : ports_) {
      if (verb == "quiet") {
        EXPECT_TRUE(p.sink->frames.empty())
            << name << ": " << Describe(p.sink->frames.front().span());
      }
      p.sink->frames.clear();
    }
  } else if (verb == "wait" || verb == "waits") {
    const int64_t n = Number(w.at(1));
    RunUntil(*stack_, host_, host_.now + (verb == "wait" ? Duration::Millis(n) : Duration::Seconds(n)));
  } else if (verb == "conns") {
    EXPECT_EQ(stack_->Connections().size(), Number(w.at(1)));
  } else if (verb == "conn") {
    CheckConnection(w);
  } else if (verb == "down") {
    EXPECT_TRUE(stack_->SetUp(ports_.at(w.at(1)).index, false).ok());
  } else if (verb == "up") {
    EXPECT_TRUE(stack_->SetUp(ports_.at(w.at(1)).index, true).ok());
  } else if (verb == "mtu") {
    EXPECT_TRUE(stack_->SetMtu(ports_.at(w.at(1)).index, Number(w.at(2))).ok());
  } else if (verb == "deladdr") {
    const IpAddr a = Host(w.at(1) == "in0" ? "R" : "P");
    EXPECT_TRUE(stack_->RemoveAddress(ports_.at(w.at(1)).index,
                                      {a, v6_ ? uint8_t{64} : uint8_t{24}}).ok());
  } else if (verb == "bind") {
    socket_ = stack_->NewUdp(family());
    EXPECT_TRUE(socket_->Bind({IpAddr::Any(family()), static_cast<uint16_t>(Number(w.at(1)))}).ok());
  } else if (verb == "got") {
    NetResult<Datagram> d = socket_->Receive();
    ASSERT_TRUE(d.ok()) << "nothing came";
    heard_ = d->from;
    EXPECT_EQ(Name(heard_.addr) + ":" + N(heard_.port), w.at(1));
  } else if (verb == "nothing") {
    EXPECT_FALSE(socket_->Receive().ok());
  } else if (verb == "answer" || verb == "say") {
    SendParams params;
    params.to = verb == "say" ? End(w.at(1)) : heard_;
    EXPECT_TRUE(socket_->Send(Body(4).payload, params).ok());
  } else {
    ADD_FAILURE() << "no such step: " << verb;
  }
}

// ---- Rules ----

XtRules& FilterRuleTest::Table(const std::string& name) {
  std::unique_ptr<XtRules>& t = tables_[name];
  if (!t) {
    t = std::make_unique<XtRules>(name == "nat"      ? kXtNatHooks
                                  : name == "filter" ? kXtFilterHooks
                                  : name == "raw"    ? kXtRawHooks
                                                     : kXtAllHooks);
  }
  return *t;
}

void FilterRuleTest::Load() {
  for (auto& [name, table] : tables_) {
    EXPECT_TRUE(table->Load(*stack_, name.c_str(), family()).ok()) << name;
  }
}

void FilterRuleTest::AddRule(const Words& w) {
  static const std::map<std::string, Hook> kChains = {{"pre", Hook::kPreRouting},
                                                      {"in", Hook::kLocalIn},
                                                      {"forward", Hook::kForward},
                                                      {"out", Hook::kLocalOut},
                                                      {"post", Hook::kPostRouting}};
  XtRules::Rule rule(family());
  for (size_t i = 3; i < w.size(); i++) {
    const std::string& k = w[i];
    const auto next = [&] { return w.at(++i); };
    if (k == "out") {
      rule.Out(next().c_str());
    } else if (k == "in") {
      rule.In(next().c_str());
    } else if (k == "proto") {
      rule.Protocol(static_cast<uint16_t>(Number(next())));
    } else if (k == "to") {
      rule.Dst(Host(next()));
    } else if (k == "udp") {
      rule.Protocol(kProtoUdp).Match("udp", 0, XtUdpPort(static_cast<uint16_t>(Number(next()))));
    } else if (k == "tcp") {
      std::vector<uint8_t> d(12);
      const uint16_t port = static_cast<uint16_t>(Number(next()));
      const uint16_t v[4] = {0, 65535, port, port};
      std::memcpy(d.data(), v, sizeof(v));
      rule.Protocol(kProtoTcp).Match("tcp", 0, d);
    } else if (k == "state") {
      std::stringstream in(next());
      uint32_t mask = 0;
      for (std::string s; std::getline(in, s, ',');) {
        mask |= s == "inv" ? 1u : s == "est" ? 2u : s == "rel" ? 4u : s == "new" ? 8u : 64u;
      }
      rule.Match("state", 0, XtState(mask));
    } else if (k == "accept" || k == "drop") {
      rule.Jump(k == "accept" ? kXtAccept : kXtDrop);
    } else if (k == "notrack") {
      rule.Target("NOTRACK", 0, {});
    } else if (k == "reject") {
      const uint8_t with = v6_ ? 4 : 3;
      rule.Target("REJECT", 0, {with, 0, 0, 0});
    } else if (k == "mark") {
      std::vector<uint8_t> d(8, 0xff);
      const uint32_t mark = Number(next());
      std::memcpy(d.data(), &mark, 4);
      rule.Target("MARK", 2, d);
    } else if (k == "connmark" || k == "restore") {
      std::vector<uint8_t> d(16);
      const uint32_t v[3] = {k == "connmark" ? Number(next()) : 0, ~0u, ~0u};
      std::memcpy(d.data(), v, sizeof(v));
      d[12] = k == "connmark" ? 0 : 2;
      rule.Target("CONNMARK", 1, d);
    } else {
      IpAddr low, high;
      std::pair<uint32_t, uint32_t> range = {0, 0};
      bool random = false;
      while (i + 1 < w.size()) {
        const std::string a = next();
        if (a == "ports") {
          range = Pair(next());
        } else if (a == "random") {
          random = true;
        } else {
          low = Host(a.substr(0, 1));
          high = a.size() > 2 ? Host(a.substr(2)) : low;
        }
      }
      static const std::map<std::string, const char*> kTargets = {
          {"masquerade", "MASQUERADE"}, {"snat", "SNAT"}, {"dnat", "DNAT"}, {"redirect", "REDIRECT"}};
      ASSERT_TRUE(kTargets.contains(k)) << k;
      const uint16_t from = static_cast<uint16_t>(range.first), to = static_cast<uint16_t>(range.second);
      const bool fixed = k == "masquerade" || k == "redirect";
      if (v6_ || !fixed) {
        rule.Target(kTargets.at(k), fixed ? 0 : 1, XtNewRange(low, high, from, to, random));
      } else {
        std::vector<uint8_t> d = XtRange(IpAddr(), from);
        Store16(&d[18], to);
        d[4] = static_cast<uint8_t>(d[4] | (random ? 4 : 0));
        rule.Target(kTargets.at(k), 0, d);
      }
    }
  }
  Table(w.at(1)).Add(kChains.at(w.at(2)), rule);
}

// ---- Packets ----

Packet FilterRuleTest::Build(const Words& w, size_t at) const {
  const std::string& kind = w.at(at);
  IpHeader h;
  Packet p;
  size_t rest = at + 3;
  if (kind == "udp") {
    const SockAddr src = End(w.at(at + 1)), dst = End(w.at(at + 2));
    h.src = src.addr;
    h.dst = dst.addr;
    h.protocol = kProtoUdp;
    p = Body(NumberAfter(w, rest, "len", 4));
    const size_t n = p.size();
    WriteUdp(p.Prepend(kUdpHeader), src.port, dst.port, n);
    if (!Has(w, rest, "nosum")) PutSum(p, 6, h.src, h.dst, kProtoUdp);
  } else if (kind == "tcp") {
    const SockAddr src = End(w.at(at + 1)), dst = End(w.at(at + 2));
    h.src = src.addr;
    h.dst = dst.addr;
    h.protocol = kProtoTcp;
    rest = at + 5;
    TcpSegment t;
    t.src_port = src.port;
    t.dst_port = dst.port;
    t.flags = Flags(w.at(at + 3));
    t.seq = SeqNum(Number(w.at(at + 4)));
    t.ack = SeqNum(NumberAfter(w, rest, "ack", 0));
    t.window = static_cast<uint16_t>(NumberAfter(w, rest, "win", 10000));
    if (Has(w, rest, "scale")) {
      t.options.window_scale = static_cast<uint8_t>(NumberAfter(w, rest, "scale", 0));
    }
    if (const std::optional<std::string> sack = After(w, rest, "sack")) {
      const auto [a, b] = Pair(*sack);
      t.options.sack[0] = {SeqNum(a), SeqNum(b)};
      t.options.sack_count = 1;
    }
    p = Body(NumberAfter(w, rest, "len", 0));
    t.Write(p.Prepend(t.header_size()));
    PutSum(p, 16, h.src, h.dst, kProtoTcp);
  } else if (kind == "icmp") {
    h.src = End(w.at(at + 3)).addr;
    h.dst = End(w.at(at + 4)).addr;
    h.protocol = v6_ ? kProtoIcmpv6 : kProtoIcmp;
    rest = at + 5;
    const auto about = std::find(w.begin() + static_cast<ptrdiff_t>(rest), w.end(), "about");
    p = Body(4);
    if (about != w.end()) {
      const Slice quoted = Build(w, static_cast<size_t>(about - w.begin()) + 1).Flatten();
      p = Packet(Chain(quoted.Sub(0, std::min<size_t>(quoted.size(), NumberAfter(w, rest, "quote", 500)))));
    }
    uint32_t field = NumberAfter(w, rest, "id", 0) << 16;
    if (Has(w, rest, "mtu")) field = NumberAfter(w, rest, "mtu", 0);
    WriteIcmp(p.Prepend(kIcmpHeader), static_cast<uint8_t>(Number(w.at(at + 1))),
              static_cast<uint8_t>(Number(w.at(at + 2))), field);
    PutSum(p, 2, h.src, h.dst, h.protocol);
  } else {
    EXPECT_EQ(kind, "ip") << "no such packet";
    h.protocol = static_cast<uint8_t>(Number(w.at(at + 1)));
    h.src = End(w.at(at + 2)).addr;
    h.dst = End(w.at(at + 3)).addr;
    rest = at + 4;
    p = Body(16);
  }
  if (Has(w, rest, "badsum")) {
    const size_t field = kind == "udp" ? 6 : kind == "tcp" ? 16 : 2;
    p.header_data()[field] ^= 0x55;
  }
  h.ttl = static_cast<uint8_t>(NumberAfter(w, rest, "ttl", 64));
  h.dont_fragment = Has(w, rest, "df");
  if (const std::optional<std::string> part = After(w, rest, "part")) {
    const auto [from, to] = Pair(*part);
    const Slice whole = p.Flatten();
    const bool more = to < whole.size();
    p = Packet(Chain(whole.Sub(from, to - from)));
    if (v6_) {
      Ipv6Fragment{h.protocol, from, more, 77}.Write(p.Prepend(Ipv6Fragment::kSize));
      h.protocol = kProtoFragment;
    } else {
      h.id = static_cast<uint16_t>(NumberAfter(w, rest, "fragid", 7));
      h.fragment_offset = static_cast<uint16_t>(from);
      h.more_fragments = more;
    }
  }
  const size_t n = p.size();
  h.Write(p.Prepend(h.size()), n);
  return p;
}

std::string FilterRuleTest::DescribeTransport(uint8_t protocol, ByteSpan b, const IpAddr& src,
                                              const IpAddr& dst, bool quoted) const {
  const auto sum_ok = [&](bool pseudo) {
    if (quoted) return true;
    Checksum c;
    if (pseudo) c.AddPseudo(src, dst, protocol, static_cast<uint32_t>(b.size()));
    c.Add(b);
    return c.Valid();
  };
  if (protocol == kProtoUdp && b.size() >= kUdpHeader) {
    std::string s = "udp " + Name(src) + ":" + N(Load16(&b[0])) + " " + Name(dst) + ":" +
                    N(Load16(&b[2]));
    const size_t n = Load16(&b[4]) - kUdpHeader;
    if (n != 4) s += " len " + N(n);
    if (Load16(&b[6]) == 0) return s + " nosum";
    return sum_ok(true) ? s : s + " badsum";
  }
  if (protocol == kProtoTcp && b.size() >= 20) {
    std::string s = "tcp " + Name(src) + ":" + N(Load16(&b[0])) + " " + Name(dst) + ":" +
                    N(Load16(&b[2])) + " " + FlagText(b[13] & 0x3f) + " " + N(Load32(&b[4]));
    if ((b[13] & 0x10) != 0) s += " ack " + N(Load32(&b[8]));
    const size_t n = b.size() - (b[12] >> 4) * 4u;
    if (n != 0 && !quoted) s += " len " + N(n);
    return sum_ok(true) ? s : s + " badsum";
  }
  if ((protocol == kProtoIcmp || protocol == kProtoIcmpv6) && b.size() >= kIcmpHeader) {
    std::string s = "icmp " + N(b[0]) + " " + N(b[1]) + " " + Name(src) + " " + Name(dst);
    const bool v6 = protocol == kProtoIcmpv6;
    const bool error = v6 ? b[0] < 128 : b[0] == 3 || b[0] == 4 || b[0] == 5 || b[0] == 11 || b[0] == 12;
    if (!error && Load16(&b[4]) != 0) s += " id " + N(Load16(&b[4]));
    if (error && Load32(&b[4]) != 0) s += " mtu " + N(Load32(&b[4]));
    if (!sum_ok(v6)) s += " badsum";
    if (error) {
      const ByteSpan q = b.subspan(kIcmpHeader);
      s += " about ";
      if (q.size() < 20) return s + "nothing";
      if (q[0] >> 4 == 4) {
        const size_t header = (q[0] & 0xfu) * 4;
        if (ChecksumOf(q.first(header)) != 0) s += "badheader ";
        return s + DescribeTransport(q[9], q.subspan(header), IpAddr::V4(&q[12]), IpAddr::V4(&q[16]), true);
      }
      return s + DescribeTransport(q[6], q.subspan(40), IpAddr::V6(&q[8]), IpAddr::V6(&q[24]), true);
    }
    return s;
  }
  return "ip " + N(protocol) + " " + Name(src) + " " + Name(dst);
}

std::string FilterRuleTest::Describe(ByteSpan d) const {
  if (d[0] >> 4 == 4) {
    const std::optional<Ipv4View> v = Ipv4View::Parse(d);
    if (!v) return "not IPv4";
    std::string s;
    if (!v->ChecksumOk()) s = "badheader ";
    if (v->is_fragment()) {
      const size_t from = v->fragment_offset();
      return s + "part " + Name(v->src()) + " " + Name(v->dst()) + " " + N(from) + "-" +
             N(from + v->payload().size()) + (v->more_fragments() ? " more" : "");
    }
    return s + DescribeTransport(v->protocol(), v->payload(), v->src(), v->dst(), false);
  }
  const std::optional<Ipv6View> v = Ipv6View::Parse(d);
  if (!v) return "not IPv6";
  if (v->next_header() == kProtoFragment) {
    const std::optional<Ipv6Fragment> f = Ipv6Fragment::Parse(v->payload());
    if (!f) return "bad fragment";
    return "part " + Name(v->src()) + " " + Name(v->dst()) + " " + N(f->offset) + "-" +
           N(f->offset + v->payload().size() - Ipv6Fragment::kSize) + (f->more ? " more" : "");
  }
  return DescribeTransport(v->next_header(), v->payload(), v->src(), v->dst(), false);
}

void FilterRuleTest::Inject(Words w) {
  std::string want;
  if (w.size() > 2 && w[w.size() - 2] == "=") {
    want = w.back();
    w.resize(w.size() - 2);
  }
  static constexpr std::pair<uint32_t, const char*> kClasses[] = {
      {8, "new"}, {2, "est"}, {4, "rel"}, {1, "inv"}, {64, "untracked"}};
  const auto mangle = [&] {
    XtRules t(kXtAllHooks);
    for (const auto& [mask, name] : kClasses) {
      t.Add(Hook::kPreRouting, XtRules::Rule(family()).Match("state", 0, XtState(mask)).Jump(kXtAccept));
    }
    return t.Load(*stack_, "mangle", family());
  };
  if (!want.empty()) {
    ASSERT_TRUE(mangle().ok());
  }
  const Port& port = ports_.at(w.at(1));
  stack_->Input(port.index, {Build(w, 2).Flatten()});
  if (want.empty()) return;
  NetResult<std::vector<XtCounter>> counters = mangle();
  ASSERT_TRUE(counters.ok());
  std::string got;
  for (size_t i = 0; i < std::size(kClasses); i++) {
    if ((*counters)[i].packets != 0) got += kClasses[i].second;
  }
  EXPECT_EQ(got, want);
}

void FilterRuleTest::Expect(const Words& w) {
  std::string want;
  for (size_t i = 2; i < w.size(); i++) want += (i > 2 ? " " : "") + w[i];
  std::deque<Slice>& frames = ports_.at(w.at(1)).sink->frames;
  ASSERT_FALSE(frames.empty()) << "silence";
  const Slice f = frames.front();
  frames.pop_front();
  EXPECT_EQ(Describe(f.span()), want);
}

void FilterRuleTest::CheckConnection(const Words& w) {
  static constexpr const char* kStates[] = {"none",       "syn_sent", "syn_recv",  "established",
                                            "fin_wait",   "close_wait", "last_ack", "time_wait",
                                            "close",      "syn_sent2"};
  std::vector<Ref<Connection>> all = stack_->Connections();
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a->id < b->id; });
  const size_t n = Number(w.at(1));
  ASSERT_LT(n, all.size());
  const Connection& c = *all[n];
  const std::string& field = w.at(2);
  const auto flag = [&](uint32_t bit) { EXPECT_EQ((c.status & bit) != 0, w.at(3) == "yes") << field; };
  if (field == "state") {
    EXPECT_EQ(kStates[c.tcp_state], w.at(3));
  } else if (field == "timeout") {
    EXPECT_EQ((c.expires - host_.now).seconds(), Number(w.at(3)));
  } else if (field == "mark") {
    EXPECT_EQ(c.mark, Number(w.at(3)));
  } else if (field == "packets") {
    EXPECT_EQ(N(c.counters[0].packets) + " " + N(c.counters[1].packets), w.at(3) + " " + w.at(4));
  } else if (field == "bytes") {
    EXPECT_EQ(N(c.counters[0].bytes) + " " + N(c.counters[1].bytes), w.at(3) + " " + w.at(4));
  } else if (field == "reply") {
    const CtTuple& t = c.tuples[1];
    EXPECT_EQ(Name(t.src) + ":" + N(t.sport) + " " + Name(t.dst) + ":" + N(t.dport),
              w.at(3) + " " + w.at(4));
  } else if (field == "assured") {
    flag(kCtAssured);
  } else if (field == "seen") {
    flag(kCtSeenReply);
  } else if (field == "snat") {
    flag(kCtSrcNat);
  } else if (field == "dnat") {
    flag(kCtDstNat);
  } else {
    ADD_FAILURE() << "no such field: " << field;
  }
}

void RegisterFilterRules(const std::string& folder) {
  ReadRules(folder, [](const std::string& suite, const std::string& test, const std::string& file,
                       int line, const ScriptedRule& rule) {
    ::testing::RegisterTest(suite.c_str(), test.c_str(), nullptr, nullptr, file.c_str(), line,
                            [rule]() -> FilterRuleTest* { return new FilterRuleTest(rule); });
  });
}

}  // namespace ringwall::net::testing
