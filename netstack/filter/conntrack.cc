#include "netstack/filter/conntrack.h"

#include <algorithm>
#include <span>

#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/ip.h"
#include "netstack/wire/udp.h"

namespace ringwall::net {
namespace {

// Messages that have answers, and the "icmp" of their tuple; 0 for the others.
uint8_t IcmpPair(bool v4, uint8_t type) {
  struct Row {
    uint8_t type, pair;
  };
  static constexpr Row kV4[] = {{8, 1}, {0, 2}, {13, 3}, {14, 4}, {15, 5}, {16, 6}, {17, 7}, {18, 8}};
  static constexpr Row kV6[] = {{128, 1}, {129, 2}, {139, 9}, {140, 10}};
  for (const Row& r : v4 ? std::span<const Row>(kV4) : std::span<const Row>(kV6)) {
    if (r.type == type) return r.pair;
  }
  return 0;
}

// Neighbour discovery and group membership belong to nothing (icmpv6_error()).
bool Untracked6(uint8_t type) { return (type >= 130 && type <= 137) || type == 143; }

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
    t.icmp = IcmpPair(p.is_v4(), p.bytes()[p.transport()]);
    if (t.icmp == 0) return std::nullopt;
    t.sport = t.dport = Load16(&p.bytes()[p.transport() + 4]);
  } else if (p.protocol() == kProtoIcmp || p.protocol() == kProtoIcmpv6) {
    return std::nullopt;  // cut short, or the other version's
  }
  return t;
}

// The tuple of the packet that an ICMP error quotes.
std::optional<CtTuple> Conntrack::QuotedTuple(const FilterPacket& p, size_t at,
                                              size_t* transport_at) {
  const ByteSpan b = p.bytes().subspan(at);
  CtTuple t;
  size_t transport = 0;
  if (p.is_v4()) {
    if (b.size() < kIpv4Header || b[0] >> 4 != 4) return std::nullopt;
    transport = (b[0] & 0xfu) * 4;
    if ((Load16(&b[6]) & 0x1fff) != 0) return std::nullopt;  // no ports in there
    t.src = IpAddr::V4(&b[12]);
    t.dst = IpAddr::V4(&b[16]);
    t.protocol = b[9];
  } else {
    if (b.size() < kIpv6Header || b[0] >> 4 != 6) return std::nullopt;
    const Ipv6Walk walk = WalkIpv6(b, b[6], kIpv6Header, 6);
    if (walk.stop != Ipv6Walk::Stop::kUpper) return std::nullopt;
    transport = walk.offset;
    t.src = IpAddr::V6(&b[8]);
    t.dst = IpAddr::V6(&b[24]);
    t.protocol = walk.protocol;
  }
  if (b.size() < transport + 8) return std::nullopt;
  *transport_at = at + transport;
  if (t.protocol == kProtoTcp || t.protocol == kProtoUdp) {
    t.sport = Load16(&b[transport]);
    t.dport = Load16(&b[transport + 2]);
  } else if (t.protocol == kProtoIcmp || t.protocol == kProtoIcmpv6) {
    t.icmp = IcmpPair(p.is_v4(), b[transport]);
    if (t.icmp == 0) return std::nullopt;  // an error about an error, or something of neighbours
    t.sport = t.dport = Load16(&b[transport + 4]);
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
  Tell(c, Event::kDestroy);
  const std::array<CtTuple, 2> tuples = c.tuples;
  for (const CtTuple& t : tuples) {
    auto it = table_.find(t);
    if (it != table_.end() && it->second.first.get() == &c) table_.erase(it);
  }
}

template <typename F>
void Conntrack::DropIf(F which) {
  std::vector<Ref<Connection>> gone;
  for (const auto& [tuple, entry] : table_) {
    if (!entry.second && which(*entry.first)) gone.push_back(Ref<Connection>(entry.first));
  }
  for (const Ref<Connection>& c : gone) Drop(*c);
}

void Conntrack::Flush(TimePoint) {
  DropIf([](const Connection&) { return true; });
}

void Conntrack::MakeRoom(TimePoint now) {
  DropIf([&](const Connection& c) { return c.expires <= now; });
  if (size() < Most()) return;
  // Those that nobody answered go before those that work (early_drop()).
  DropIf([](const Connection& c) { return (c.status & kCtAssured) == 0; });
}

// The checks of tcp_error(), udp_error() and icmp_error(): whoever receives it drops it anyway.
bool Conntrack::Sound(const FilterPacket& p) const {
  if (!settings_.checksum) return true;
  const ByteSpan segment = p.bytes().subspan(std::min(p.transport(), p.size()));
  if (p.sum() != FilterPacket::Sum::kFull || p.later_fragment() || p.first_fragment()) return true;
  if (p.has_ports()) {
    if (p.protocol() == kProtoUdp) {
      const uint16_t length = Load16(&segment[4]);
      if (length < kUdpHeader || length > segment.size()) return false;
      if (Load16(&segment[6]) == 0) return p.is_v4();  // RFC 768: none; RFC 8200 8.1: must be
    }
  } else if (!p.IsIcmp()) {
    return true;
  }
  Checksum sum;
  if (p.protocol() != kProtoIcmp) {
    sum.AddPseudo(p.src(), p.dst(), p.protocol(), static_cast<uint32_t>(segment.size()));
  }
  sum.Add(segment);
  return sum.Valid();
}

void Conntrack::In(FilterPacket& p, TimePoint now, uint64_t) {
  now_ = now;
  if (p.meta.info != CtInfo::kNone) return;  // seen: the loopback, or raw's CT target
  p.meta.info = CtInfo::kInvalid;
  if (!Sound(p)) return;
  if (std::optional<size_t> quoted = p.quoted()) return InError(p, *quoted, now);
  const std::optional<CtTuple> tuple = TupleOf(p);
  if (!tuple) {
    if (p.IsIcmp() && !p.is_v4() && Untracked6(p.bytes()[p.transport()])) {
      p.meta.info = CtInfo::kUntracked;
    }
    return;
  }
  bool reply = false;
  RefPtr<Connection> c(Find(*tuple, now, &reply));
  CtVerdict verdict = CtVerdict::kAgain;
  const uint32_t status = c ? c->status : 0;
  const uint8_t state = c ? c->tcp_state : 0;
  if (c) verdict = Update(*c, p, reply, now);
  if (verdict == CtVerdict::kAgain) {
    if (c) Drop(*c);
    reply = false;
    if (tuple->icmp != 0 && tuple->icmp % 2 == 0) return;  // an answer to nothing
    if (size() >= Most()) MakeRoom(now);
    if (size() >= Most()) return;
    Ref<Connection> fresh = MakeRef<Connection>();
    fresh->tuples = {*tuple, tuple->Inverse()};
    fresh->id = next_id_++;
    fresh->stream_from = now + Duration::Seconds(2);
    c = fresh;
    verdict = Update(*c, p, false, now);
  }
  if (verdict == CtVerdict::kInvalid || verdict == CtVerdict::kAgain) return;
  p.meta.connection = c;
  p.meta.reply = reply;
  p.meta.info = reply || (c->status & kCtSeenReply) != 0 ? CtInfo::kEstablished : CtInfo::kNew;
  if (reply) c->status |= kCtSeenReply;
  if (verdict == CtVerdict::kGone) return Drop(*c);
  if (c->status != status || c->tcp_state != state) Tell(*c, Event::kUpdate);
}

CtVerdict Conntrack::Update(Connection& c, const FilterPacket& p, bool reply, TimePoint now) {
  const bool answered = (c.status & kCtSeenReply) != 0;
  CtVerdict verdict = CtVerdict::kOk;
  switch (p.protocol()) {
    case kProtoTcp:
      verdict = CtTcpUpdate(c, p, reply, now, settings_);
      break;
    case kProtoUdp: {
      // Questions with one answer are over soon; what goes on after two seconds is a stream.
      const bool stream = answered && now > c.stream_from;
      c.expires = now + Duration::Seconds(stream ? settings_.udp_stream : settings_.udp);
      if (stream) c.status |= kCtAssured;
      break;
    }
    case kProtoIcmp:
      c.expires = now + Duration::Seconds(settings_.icmp);
      break;
    case kProtoIcmpv6:
      c.expires = now + Duration::Seconds(settings_.icmp6);
      break;
    default:
      c.expires = now + Duration::Seconds(settings_.generic);
      break;
  }
  if (verdict == CtVerdict::kOk || verdict == CtVerdict::kGone) {
    c.counters[reply].packets++;
    c.counters[reply].bytes += p.size();
  }
  return verdict;
}

void Conntrack::InError(FilterPacket& p, size_t quoted, TimePoint now) {
  p.meta.info = CtInfo::kInvalid;
  size_t transport;
  const std::optional<CtTuple> inner = QuotedTuple(p, quoted, &transport);
  if (!inner) return;
  bool reply = false;
  // The quoted packet went the other way: the error belongs to the inverse's direction.
  RefPtr<Connection> c(Find(inner->Inverse(), now, &reply));
  if (!c) return;
  // It must go to the end that sent what it quotes (nf_conntrack_inet_error()).
  if (p.dst() != c->tuples[reply].dst) return;
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
  Tell(*c, Event::kNew);
  return true;
}

NetResult<void> Conntrack::Insert(Ref<Connection> c, TimePoint now) {
  bool ignored;
  for (const CtTuple& t : c->tuples) {
    if (Find(t, now, &ignored) != nullptr) return NetError::kExists;
  }
  if (size() >= Most()) return NetError::kNoMemory;
  c->status |= kCtConfirmed;
  c->id = next_id_++;
  table_[c->tuples[0]] = {c, false};
  table_[c->tuples[1]] = {c, true};
  Tell(*c, Event::kNew);
  return {};
}

bool Conntrack::Change(const CtTuple& tuple, TimePoint now,
                       const std::function<void(Connection&)>& change) {
  bool reply;
  RefPtr<Connection> c(Find(tuple, now, &reply));
  if (!c) return false;
  change(*c);
  Tell(*c, Event::kUpdate);
  return true;
}

bool Conntrack::Forget(const CtTuple& tuple, TimePoint now) {
  bool reply;
  RefPtr<Connection> c(Find(tuple, now, &reply));
  if (!c) return false;
  Drop(*c);
  return true;
}

void Conntrack::ForgetMasqueraded(IfIndex iface) {
  DropIf([&](const Connection& c) { return c.masquerade == iface; });
}

std::vector<Ref<Connection>> Conntrack::List(TimePoint now) {
  DropIf([&](const Connection& c) { return c.expires <= now; });
  std::vector<Ref<Connection>> out;
  for (const auto& [tuple, entry] : table_) {
    if (!entry.second && entry.first->expires > now) out.push_back(Ref<Connection>(entry.first));
  }
  return out;
}

// ---- Translation ----

bool Conntrack::Taken(const CtTuple& t, const Connection& self) const {
  auto it = table_.find(t);
  return it != table_.end() && it->second.first.get() != &self &&
         it->second.first->expires > now_;
}

bool Conntrack::SetUp(Connection& c, const NatRange& range, bool source, uint64_t random) {
  c.status |= source ? kCtSrcNatDone : kCtDstNatDone;
  if (range.masquerade != 0) c.masquerade = range.masquerade;
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
  size_t transport;
  const std::optional<CtTuple> inner = QuotedTuple(p, at, &transport);
  if (!inner) return;
  uint8_t* b = p.mutable_bytes() + at;
  const size_t header = transport - at;
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
