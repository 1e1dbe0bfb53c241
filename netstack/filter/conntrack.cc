#include "netstack/filter/conntrack.h"

#include <algorithm>

#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/ip.h"
#include "netstack/wire/tcp.h"

namespace ringwall::net {
namespace {

// TCP_CONNTRACK_*, as far as they are told apart here.
enum TcpCt : uint8_t {
  kTcpNone = 0,
  kTcpSynSent = 1,
  kTcpSynRecv = 2,
  kTcpEstablished = 3,
  kTcpFinWait = 4,
  kTcpCloseWait = 5,
  kTcpLastAck = 6,
  kTcpTimeWait = 7,
  kTcpClose = 8,
};

Duration TcpTimeout(uint8_t state) {
  switch (state) {
    case kTcpSynSent: return Duration::Seconds(120);
    case kTcpSynRecv: return Duration::Seconds(60);
    case kTcpEstablished: return Duration::Seconds(432000);
    case kTcpFinWait: return Duration::Seconds(120);
    case kTcpCloseWait: return Duration::Seconds(60);
    case kTcpLastAck: return Duration::Seconds(30);
    case kTcpTimeWait: return Duration::Seconds(120);
    default: return Duration::Seconds(10);
  }
}

// The next state after a segment; nullopt: it fits none.
std::optional<uint8_t> NextTcp(uint8_t state, uint8_t flags, bool reply) {
  const bool syn = (flags & kSyn) != 0, ack = (flags & kAck) != 0, fin = (flags & kFin) != 0;
  if ((flags & kRst) != 0) return state == kTcpNone ? std::nullopt : std::optional<uint8_t>(kTcpClose);
  if (syn && !ack) {
    if (state == kTcpNone || state == kTcpSynSent || state >= kTcpTimeWait) {
      return reply && state == kTcpSynSent ? uint8_t{kTcpSynRecv} : uint8_t{kTcpSynSent};
    }
    return state;  // a repeat, or one that the receiver answers with an ACK
  }
  if (syn) {
    if (state == kTcpNone) return std::nullopt;
    return state == kTcpSynSent && reply ? uint8_t{kTcpSynRecv} : state;
  }
  if (fin) {
    switch (state) {
      case kTcpNone:
      case kTcpSynRecv:
      case kTcpEstablished: return uint8_t{kTcpFinWait};
      case kTcpFinWait:
      case kTcpCloseWait: return uint8_t{kTcpLastAck};
      default: return state;
    }
  }
  if (!ack) return std::nullopt;
  switch (state) {
    case kTcpNone:
    case kTcpSynRecv: return uint8_t{kTcpEstablished};  // nf_conntrack_tcp_loose
    case kTcpFinWait: return uint8_t{kTcpCloseWait};
    case kTcpLastAck: return uint8_t{kTcpTimeWait};
    default: return state;
  }
}

}  // namespace

std::optional<CtTuple> Conntrack::TupleOf(const FilterPacket& p) {
  if (p.later_fragment()) return std::nullopt;
  CtTuple t;
  t.src = p.src();
  t.dst = p.dst();
  t.protocol = p.protocol();
  if (p.protocol() == kProtoTcp || p.protocol() == kProtoUdp) {
    if (!p.has_ports()) return std::nullopt;
    t.sport = p.src_port();
    t.dport = p.dst_port();
  } else if (p.IsIcmp()) {
    const std::optional<uint16_t> id = p.echo_id();
    if (!id) return std::nullopt;
    t.sport = t.dport = *id;
    const uint8_t type = p.bytes()[p.transport()];
    t.icmp = type == 8 || type == 128 ? 1 : 2;
  }
  return t;
}

// The tuple of the packet that an ICMP error quotes.
std::optional<CtTuple> Conntrack::QuotedTuple(const FilterPacket& p, size_t at) {
  const ByteSpan b = p.bytes().subspan(at);
  CtTuple t;
  size_t transport = 0;
  if (p.is_v4()) {
    if (b.size() < kIpv4Header || b[0] >> 4 != 4) return std::nullopt;
    transport = (b[0] & 0xfu) * 4;
    t.src = IpAddr::V4(&b[12]);
    t.dst = IpAddr::V4(&b[16]);
    t.protocol = b[9];
  } else {
    if (b.size() < kIpv6Header || b[0] >> 4 != 6) return std::nullopt;
    transport = kIpv6Header;
    t.src = IpAddr::V6(&b[8]);
    t.dst = IpAddr::V6(&b[24]);
    t.protocol = b[6];
  }
  if (b.size() < transport + 8) return std::nullopt;
  if (t.protocol == kProtoTcp || t.protocol == kProtoUdp) {
    t.sport = Load16(&b[transport]);
    t.dport = Load16(&b[transport + 2]);
  } else if (t.protocol == kProtoIcmp || t.protocol == kProtoIcmpv6) {
    const uint8_t type = b[transport];
    t.sport = t.dport = Load16(&b[transport + 4]);
    t.icmp = type == 8 || type == 128 ? 1 : 2;
  }
  return t;
}

std::optional<CtTuple> Conntrack::Original(const CtTuple& t, TimePoint now) {
  bool reply;
  const Connection* c = Find(t, now, &reply);
  if (c == nullptr) return std::nullopt;
  return c->tuples[0];
}

Connection* Conntrack::Find(const CtTuple& t, TimePoint now, bool* reply) {
  auto it = table_.find(t);
  if (it == table_.end()) return nullptr;
  Connection* c = it->second.first.get();
  if (c->expires <= now) {
    Ref<Connection> hold(*c);
    Drop(*hold);
    return nullptr;
  }
  *reply = it->second.second;
  return c;
}

void Conntrack::Drop(const Connection& c) {
  const std::array<CtTuple, 2> tuples = c.tuples;
  for (const CtTuple& t : tuples) {
    auto it = table_.find(t);
    if (it != table_.end() && it->second.first.get() == &c) table_.erase(it);
  }
}

void Conntrack::MakeRoom(TimePoint now) {
  absl::erase_if(table_, [&](const auto& kv) { return kv.second.first->expires <= now; });
  if (size() < kMax) return;
  // Those that nobody answered go before those that work (early_drop()).
  absl::erase_if(table_, [&](const auto& kv) {
    return (kv.second.first->status & kCtAssured) == 0;
  });
}

void Conntrack::In(FilterPacket& p, TimePoint now, uint64_t) {
  if (p.meta.info != CtInfo::kNone) return;  // seen: the loopback, or raw's CT target
  if (std::optional<size_t> quoted = p.quoted()) return InError(p, *quoted, now);
  const std::optional<CtTuple> tuple = TupleOf(p);
  p.meta.info = CtInfo::kInvalid;
  if (!tuple) {
    // Neighbour discovery and the like belong to nothing.
    if (p.IsIcmp() && !p.is_v4()) p.meta.info = CtInfo::kUntracked;
    return;
  }
  bool reply = false;
  RefPtr<Connection> c(Find(*tuple, now, &reply));
  if (!c) {
    if (tuple->icmp == 2) return;  // an answer to nothing
    if (size() >= kMax) MakeRoom(now);
    if (size() >= kMax) return;
    Ref<Connection> fresh = MakeRef<Connection>();
    fresh->tuples = {*tuple, tuple->Inverse()};
    fresh->id = next_id_++;
    c = fresh;
  }
  if (!Update(*c, p, reply, now)) return;
  p.meta.connection = c;
  p.meta.reply = reply;
  if (reply) {
    p.meta.info = CtInfo::kEstablished;
    c->status |= kCtSeenReply;
  } else {
    p.meta.info = (c->status & kCtSeenReply) != 0 ? CtInfo::kEstablished : CtInfo::kNew;
  }
}

bool Conntrack::Update(Connection& c, FilterPacket& p, bool reply, TimePoint now) {
  const bool answered = reply || (c.status & kCtSeenReply) != 0;
  switch (p.protocol()) {
    case kProtoTcp: {
      const uint8_t flags = p.bytes()[p.transport() + 13];
      const std::optional<uint8_t> next = NextTcp(c.tcp_state, flags, reply);
      if (!next) return false;
      c.tcp_state = *next;
      if (c.tcp_state >= kTcpEstablished && answered) c.status |= kCtAssured;
      // A reset before any answer takes the entry away with it.
      c.expires = now + TcpTimeout(c.tcp_state);
      break;
    }
    case kProtoUdp:
      c.expires = now + Duration::Seconds(answered ? 120 : 30);
      if (answered) c.status |= kCtAssured;
      break;
    case kProtoIcmp:
    case kProtoIcmpv6:
      c.expires = now + Duration::Seconds(30);
      break;
    default:
      c.expires = now + Duration::Seconds(600);
      break;
  }
  c.counters[reply].packets++;
  c.counters[reply].bytes += p.size();
  return true;
}

void Conntrack::InError(FilterPacket& p, size_t quoted, TimePoint now) {
  p.meta.info = CtInfo::kInvalid;
  const std::optional<CtTuple> inner = QuotedTuple(p, quoted);
  if (!inner) return;
  bool reply = false;
  // The quoted packet went the other way: the error belongs to the inverse's direction.
  RefPtr<Connection> c(Find(inner->Inverse(), now, &reply));
  if (!c) return;
  p.meta.connection = c;
  p.meta.reply = reply;
  p.meta.info = CtInfo::kRelated;
}

bool Conntrack::Confirm(FilterPacket& p, TimePoint now) {
  Connection* c = p.meta.connection.get();
  if (c == nullptr || (c->status & kCtConfirmed) != 0 || p.meta.info == CtInfo::kRelated) {
    return true;
  }
  bool ignored;
  for (const CtTuple& t : c->tuples) {
    if (Find(t, now, &ignored) != nullptr) return false;
  }
  c->status |= kCtConfirmed;
  table_[c->tuples[0]] = {p.meta.connection, false};
  table_[c->tuples[1]] = {p.meta.connection, true};
  return true;
}

std::vector<Ref<Connection>> Conntrack::List(TimePoint now) {
  std::vector<Ref<Connection>> out;
  for (const auto& [tuple, entry] : table_) {
    if (!entry.second && entry.first->expires > now) out.push_back(Ref<Connection>(entry.first));
  }
  return out;
}

// ---- Translation ----

bool Conntrack::Taken(const CtTuple& t, const Connection& self) const {
  auto it = table_.find(t);
  return it != table_.end() && it->second.first.get() != &self;
}

bool Conntrack::SetUp(Connection& c, const NatRange& range, bool source, uint64_t random) {
  c.status |= source ? kCtSrcNatDone : kCtDstNatDone;
  // What the packet looks like now, with what was decided so far.
  const CtTuple now = c.tuples[1].Inverse();
  CtTuple want = now;
  IpAddr& addr = source ? want.src : want.dst;
  uint16_t& port = source ? want.sport : want.dport;
  if (!range.min.IsNone()) {
    const bool inside = range.min <= addr && addr <= range.max;
    if (!inside) {
      addr = range.min;
      if (range.max != range.min && addr.is_v4() && range.max.v4() > range.min.v4()) {
        // One address for each pair of ends, by hash.
        const uint64_t span = uint64_t{range.max.v4()} - range.min.v4() + 1;
        addr = IpAddr::V4(range.min.v4() +
                          static_cast<uint32_t>((now.src.v4() * 2654435761u) % span));
      }
    }
  }
  const bool echo = want.icmp != 0;
  const bool has_ports = want.protocol == kProtoTcp || want.protocol == kProtoUdp || echo;
  const auto place = [&](uint16_t p) {
    port = p;
    if (echo) want.sport = want.dport = p;
  };
  const auto free = [&] { return !Taken(want.Inverse(), c); };
  bool found = false;
  if (has_ports) {
    uint32_t low = range.min_port, high = range.max_port;
    if (range.has_ports) {
      const bool inside = port >= low && port <= high;
      if (inside && !range.random && free()) found = true;
    } else {
      if (!range.random && free()) found = true;
      // As Linux: low ports stay low.
      low = port < 512 ? 1 : port < 1024 ? 600 : 1024;
      high = port < 512 ? 511 : port < 1024 ? 1023 : 65535;
    }
    if (!found) {
      if (high < low) return false;
      const uint32_t span = high - low + 1;
      const uint32_t tries = std::min<uint32_t>(span, 1024);
      // A destination range starts with its first port; a source's anywhere.
      const uint32_t from = source || range.random ? static_cast<uint32_t>(random % span) : 0;
      for (uint32_t i = 0; i < tries && !found; i++) {
        place(static_cast<uint16_t>(low + (from + i) % span));
        found = free();
      }
      if (!found) return false;
    }
  } else if (!free()) {
    return false;
  }
  if (want == now) return true;
  c.status |= source ? kCtSrcNat : kCtDstNat;
  c.tuples[1] = want.Inverse();
  return true;
}

void Conntrack::Translate(FilterPacket& p, bool source) const {
  const Connection* c = p.meta.connection.get();
  if (c == nullptr) return;
  uint32_t bit = source ? kCtSrcNat : kCtDstNat;
  if (p.meta.reply) bit ^= kCtSrcNat | kCtDstNat;
  if ((c->status & bit) == 0) return;
  // The inverse of the other direction's tuple is what this direction looks like outside.
  const CtTuple want = c->tuples[p.meta.reply ? 0 : 1].Inverse();
  if (std::optional<size_t> quoted = p.quoted()) return TranslateQuoted(p, *quoted, want, source);
  if (source) {
    p.SetSrc(want.src);
    if (want.icmp != 0) p.SetEchoId(want.sport); else p.SetPort(true, want.sport);
  } else {
    p.SetDst(want.dst);
    if (want.icmp != 0) p.SetEchoId(want.dport); else p.SetPort(false, want.dport);
  }
}

// An ICMP error: the quoted packet went the other way, so its other end changes.
void Conntrack::TranslateQuoted(FilterPacket& p, size_t at, const CtTuple& want,
                                bool source) const {
  const std::optional<CtTuple> inner = QuotedTuple(p, at);
  if (!inner) return;
  uint8_t* b = p.mutable_bytes() + at;
  const size_t header = p.is_v4() ? (b[0] & 0xfu) * 4 : kIpv6Header;
  const IpAddr& addr = source ? want.src : want.dst;
  const uint16_t port = source ? want.sport : want.dport;
  // Our source was the quoted packet's destination.
  std::memcpy(b + (p.is_v4() ? (source ? 16 : 12) : (source ? 24 : 8)), addr.data(), addr.size());
  if (inner->icmp != 0) {
    Store16(b + header + 4, port);
  } else if (inner->protocol == kProtoTcp || inner->protocol == kProtoUdp) {
    Store16(b + header + (source ? 2 : 0), port);
  }
  if (p.is_v4() && p.size() >= at + header) {
    Store16(b + 10, 0);
    Store16(b + 10, ChecksumOf({b, header}));
  }
  // A router on the way keeps its own address in the source.
  if (!source) p.SetDst(want.dst);
  if (source && p.src() == inner->dst) p.SetSrc(want.src);
  p.CompleteChecksum();
}

}  // namespace ringwall::net
