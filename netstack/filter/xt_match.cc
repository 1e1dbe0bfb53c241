// The matches of iptables: which there are, what their data must look like, and what they say.
// Compare Linux's net/netfilter/xt_*.c.
#include <algorithm>

#include "netstack/filter/tproxy.h"
#include "netstack/filter/xtables.h"
#include "netstack/stack.h"
#include "netstack/wire/ip.h"
#include "netstack/wire/tcp.h"

namespace ringwall::net {
namespace {

using MatchFn = bool (*)(ByteSpan, XtPacket&);
using CheckFn = bool (*)(ByteSpan, uint16_t protocol);

template <typename T>
T At(ByteSpan b, size_t at) {
  return XtRead<T>(b, at);
}

bool InRange(uint16_t v, uint16_t low, uint16_t high, bool invert) {
  return (v >= low && v <= high) != invert;
}

// struct xt_tcp: spts[2], dpts[2], option, flg_mask, flg_cmp, invflags.
bool TcpMatch(ByteSpan d, XtPacket& x) {
  const FilterPacket& p = x.packet;
  if (!p.has_ports() || p.protocol() != kProtoTcp) return false;
  const uint8_t inv = d[11];
  if (!InRange(p.src_port(), At<uint16_t>(d, 0), At<uint16_t>(d, 2), (inv & 1) != 0)) return false;
  if (!InRange(p.dst_port(), At<uint16_t>(d, 4), At<uint16_t>(d, 6), (inv & 2) != 0)) return false;
  const ByteSpan h = p.bytes().subspan(p.transport());
  if (((h[13] & d[9]) == d[10]) == ((inv & 4) != 0)) return false;
  if (d[8] == 0) return true;
  const size_t size = std::min<size_t>((h[12] >> 4) * 4u, h.size());
  bool found = false;
  for (size_t i = 20; i < size && !found;) {
    found = h[i] == d[8];
    if (h[i] < 2) {
      i++;
    } else {
      if (i + 1 >= size || h[i + 1] == 0) break;
      i += h[i + 1];
    }
  }
  return found != ((inv & 8) != 0);
}

bool UdpMatch(ByteSpan d, XtPacket& x) {
  const FilterPacket& p = x.packet;
  if (!p.has_ports() || p.protocol() != kProtoUdp) return false;
  const uint8_t inv = d[8];
  return InRange(p.src_port(), At<uint16_t>(d, 0), At<uint16_t>(d, 2), (inv & 1) != 0) &&
         InRange(p.dst_port(), At<uint16_t>(d, 4), At<uint16_t>(d, 6), (inv & 2) != 0);
}

// struct ipt_icmp, ip6t_icmp: type, code[2], invflags.
bool IcmpMatch(ByteSpan d, XtPacket& x) {
  const FilterPacket& p = x.packet;
  if (!p.IsIcmp()) return false;
  const uint8_t type = p.bytes()[p.transport()], code = p.bytes()[p.transport() + 1];
  const bool any = p.is_v4() && d[0] == 0xff;
  const bool same = any || (type == d[0] && code >= d[1] && code <= d[2]);
  return same != ((d[3] & 1) != 0);
}

// XT_CONNTRACK_STATE_*: by IP_CT_ESTABLISHED 0, RELATED 1, NEW 2.
uint32_t StateBits(const FilterPacket& p) {
  uint32_t bits = 1;  // INVALID
  switch (p.meta.info) {
    case CtInfo::kEstablished: bits = 1 << 1; break;
    case CtInfo::kRelated: bits = 1 << 2; break;
    case CtInfo::kNew: bits = 1 << 3; break;
    case CtInfo::kUntracked: return 1 << 8;
    default: return 1;
  }
  const Connection* c = p.meta.connection.get();
  if (c != nullptr && (c->status & kCtSrcNat) != 0) bits |= 1 << 6;
  if (c != nullptr && (c->status & kCtDstNat) != 0) bits |= 1 << 7;
  return bits;
}

bool StateMatch(ByteSpan d, XtPacket& x) {
  // struct xt_state_info has the bits of UNTRACKED and the three states only.
  const uint32_t mask = At<uint32_t>(d, 0);
  uint32_t bits = StateBits(x.packet) & ~0xc0u;
  if (bits == 1u << 8) bits = 1u << 6;
  return (mask & bits) != 0;
}

bool MaskedAddr(const IpAddr& a, ByteSpan d, size_t at) {
  for (size_t i = 0; i < a.size(); i++) {
    if ((a.byte(i) & d[at + 16 + i]) != d[at + i]) return false;
  }
  return true;
}

// struct xt_conntrack_mtinfo1, 2 and 3: they differ behind byte 148.
bool ConntrackMatch(ByteSpan d, XtPacket& x, int revision) {
  const uint16_t flags = At<uint16_t>(d, 146), invert = At<uint16_t>(d, 148);
  const uint32_t state = revision == 1 ? d[150] : At<uint16_t>(d, 150);
  const uint32_t status = revision == 1 ? d[151] : At<uint16_t>(d, 152);
  const FilterPacket& p = x.packet;
  if ((flags & 0x0001) != 0 &&
      ((state & StateBits(p)) != 0) == ((invert & 0x0001) != 0)) {
    return false;
  }
  const Connection* c = p.meta.connection.get();
  if (c == nullptr) return (flags & ~0x2001) == 0;
  const auto refuse = [&](uint16_t bit, bool holds) {
    return (flags & bit) != 0 && holds == ((invert & bit) != 0);
  };
  if (refuse(0x1000, p.meta.reply)) return false;
  if (refuse(0x0002, c->tuples[0].protocol == At<uint16_t>(d, 136))) return false;
  if (refuse(0x0004, MaskedAddr(c->tuples[0].src, d, 0))) return false;
  if (refuse(0x0008, MaskedAddr(c->tuples[0].dst, d, 32))) return false;
  if (refuse(0x0010, MaskedAddr(c->tuples[1].src, d, 64))) return false;
  if (refuse(0x0020, MaskedAddr(c->tuples[1].dst, d, 96))) return false;
  const uint16_t ports[4] = {c->tuples[0].sport, c->tuples[0].dport, c->tuples[1].sport,
                             c->tuples[1].dport};
  for (size_t i = 0; i < 4; i++) {
    const uint16_t low = At<uint16_t>(d, 138 + 2 * i);
    const bool holds = revision < 3 ? __builtin_bswap16(low) == ports[i]
                                    : ports[i] >= low && ports[i] <= At<uint16_t>(d, 154 + 2 * i);
    if (refuse(static_cast<uint16_t>(0x0100 << i), holds)) return false;
  }
  return !refuse(0x0040, (status & c->status) != 0);
}

// struct xt_multiport and xt_multiport_v1.
bool MultiportMatch(ByteSpan d, XtPacket& x, bool v1) {
  const FilterPacket& p = x.packet;
  if (!p.has_ports()) return false;
  const size_t n = std::min<size_t>(d[1], 15);
  const auto hit = [&](uint16_t port) {
    for (size_t i = 0; i < n; i++) {
      const uint16_t low = At<uint16_t>(d, 2 + 2 * i);
      uint16_t high = low;
      if (v1 && d[32 + i] != 0 && i + 1 < n) high = At<uint16_t>(d, 2 + 2 * ++i);
      if (port >= low && port <= high) return true;
    }
    return false;
  };
  bool found = false;
  if (d[0] != 1) found = hit(p.src_port());
  if (!found && d[0] != 0) found = hit(p.dst_port());
  return found != (v1 && d[47] != 0);
}

bool AddrType(Stack& stack, const IpAddr& a, uint16_t mask, IfIndex only) {
  uint16_t bits = 1 << 1;  // UNICAST
  if (a.IsMulticast()) {
    bits = 1 << 5;
  } else if (stack.IsBroadcast(a)) {
    bits = 1 << 3;
  } else if (Interface* owner = stack.OwnerOf(a); owner != nullptr &&
             (only == 0 || owner->index == only || owner->is_loopback())) {
    bits = 1 << 2;
  }
  return (mask & bits) != 0;
}

bool AddrTypeMatch(ByteSpan d, XtPacket& x, bool v1) {
  const uint16_t source = At<uint16_t>(d, 0), dest = At<uint16_t>(d, 2);
  const uint32_t first = At<uint32_t>(d, 4);
  const bool invert_source = v1 ? (first & 1) != 0 : first != 0;
  const bool invert_dest = v1 ? (first & 2) != 0 : At<uint32_t>(d, 8) != 0;
  IfIndex only = 0;
  if (v1 && (first & 4) != 0) only = x.packet.in;
  if (v1 && (first & 8) != 0) only = x.packet.out;
  if (source != 0 && AddrType(x.stack, x.packet.src(), source, only) == invert_source) return false;
  return dest == 0 || AddrType(x.stack, x.packet.dst(), dest, only) != invert_dest;
}

// struct xt_rateinfo: avg in 1/10000 s between packets, burst. A token bucket in nanoseconds.
bool LimitMatch(ByteSpan d, XtPacket& x) {
  const int64_t cost = int64_t{At<uint32_t>(d, 0)} * 100000;
  const int64_t cap = cost * At<uint32_t>(d, 4);
  const int64_t now = x.stack.now().nanos();
  // The state is when the bucket will be full again.
  int64_t full = static_cast<int64_t>(*x.state);
  if (full < now) full = now;
  if (full - now + cost > cap) return false;
  *x.state = static_cast<uint64_t>(full + cost);
  return true;
}

// struct xt_owner_match_info: uid_min, uid_max, gid_min, gid_max, match, invert.
bool OwnerMatch(ByteSpan d, XtPacket& x) {
  const uint8_t match = d[16], invert = d[17];
  const std::optional<uint32_t>& uid = x.packet.meta.uid;
  if (!uid) return ((match ^ invert) & 7) == 0 || (match & 4 & invert) != 0;
  if ((match & 4) != 0 && (invert & 4) != 0) return false;
  if ((match & 1) != 0 &&
      (*uid >= At<uint32_t>(d, 0) && *uid <= At<uint32_t>(d, 4)) == ((invert & 1) != 0)) {
    return false;
  }
  return (match & 2) == 0;  // groups of the sender are not known here
}

bool StatisticMatch(ByteSpan d, XtPacket& x) {
  const uint16_t mode = At<uint16_t>(d, 0);
  const bool invert = (At<uint16_t>(d, 2) & 1) != 0;
  bool hit;
  if (mode == 0) {
    hit = (x.stack.Random64() & 0x7fffffff) < At<uint32_t>(d, 8);
  } else {
    const uint64_t every = uint64_t{At<uint32_t>(d, 8)} + 1;
    hit = (*x.state)++ % every == At<uint32_t>(d, 12) % every;
  }
  return hit != invert;
}

// struct xt_socket_mtinfo1: flags. A socket bound to no address counts only where that is asked for.
bool SocketMatch(ByteSpan d, XtPacket& x) {
  constexpr uint8_t kTransparent = 1, kNoWildcard = 2, kRestoreMark = 4;
  const uint8_t flags = d.empty() ? 0 : d[0];
  const std::optional<FoundSocket> s = FindSocketOf(x.stack, x.packet);
  if (!s || (s->whole && s->any_address && (flags & kNoWildcard) == 0)) return false;
  if ((flags & kTransparent) != 0 && !s->transparent) return false;
  if ((flags & kRestoreMark) != 0 && s->whole) x.packet.meta.mark = s->mark;
  return true;
}

struct Match {
  const char* name;
  uint8_t revision;
  size_t size;
  Family family;  // kNone: both
  uint8_t protocol;  // that the rule must name; 0: any
  MatchFn fn;
  CheckFn check;
};

constexpr Match kMatches[] = {
    {"tcp", 0, 12, Family::kNone, kProtoTcp, TcpMatch,
     [](ByteSpan d, uint16_t) { return (d[11] & ~0x0f) == 0; }},
    {"udp", 0, 10, Family::kNone, kProtoUdp, UdpMatch,
     [](ByteSpan d, uint16_t) { return (d[8] & ~0x03) == 0; }},
    {"icmp", 0, 4, Family::kV4, kProtoIcmp, IcmpMatch,
     [](ByteSpan d, uint16_t) { return (d[3] & ~0x01) == 0; }},
    {"icmp6", 0, 4, Family::kV6, kProtoIcmpv6, IcmpMatch,
     [](ByteSpan d, uint16_t) { return (d[3] & ~0x01) == 0; }},
    {"state", 0, 4, Family::kNone, 0, StateMatch, nullptr},
    {"conntrack", 1, 152, Family::kNone, 0,
     [](ByteSpan d, XtPacket& x) { return ConntrackMatch(d, x, 1); }, nullptr},
    {"conntrack", 2, 156, Family::kNone, 0,
     [](ByteSpan d, XtPacket& x) { return ConntrackMatch(d, x, 2); }, nullptr},
    {"conntrack", 3, 164, Family::kNone, 0,
     [](ByteSpan d, XtPacket& x) { return ConntrackMatch(d, x, 3); }, nullptr},
    {"multiport", 0, 32, Family::kNone, 0,
     [](ByteSpan d, XtPacket& x) { return MultiportMatch(d, x, false); },
     [](ByteSpan d, uint16_t p) { return (p == kProtoTcp || p == kProtoUdp) && d[0] <= 2 && d[1] <= 15; }},
    {"multiport", 1, 48, Family::kNone, 0,
     [](ByteSpan d, XtPacket& x) { return MultiportMatch(d, x, true); },
     [](ByteSpan d, uint16_t p) { return (p == kProtoTcp || p == kProtoUdp) && d[0] <= 2 && d[1] <= 15; }},
    {"comment", 0, 256, Family::kNone, 0, [](ByteSpan, XtPacket&) { return true; }, nullptr},
    {"mark", 1, 12, Family::kNone, 0,
     [](ByteSpan d, XtPacket& x) {
       return ((x.packet.meta.mark & At<uint32_t>(d, 4)) == At<uint32_t>(d, 0)) != (d[8] != 0);
     }, nullptr},
    {"connmark", 1, 12, Family::kNone, 0,
     [](ByteSpan d, XtPacket& x) {
       const Connection* c = x.packet.meta.connection.get();
       return c != nullptr &&
              ((c->mark & At<uint32_t>(d, 4)) == At<uint32_t>(d, 0)) != (d[8] != 0);
     }, nullptr},
    {"socket", 0, 0, Family::kV4, 0, SocketMatch, nullptr},
    {"socket", 1, 1, Family::kNone, 0, SocketMatch, [](ByteSpan d, uint16_t) { return d[0] <= 1; }},
    {"socket", 2, 1, Family::kNone, 0, SocketMatch, [](ByteSpan d, uint16_t) { return d[0] <= 3; }},
    {"socket", 3, 1, Family::kNone, 0, SocketMatch, [](ByteSpan d, uint16_t) { return d[0] <= 7; }},
    {"owner", 1, 20, Family::kNone, 0, OwnerMatch, nullptr},
    {"addrtype", 0, 12, Family::kV4, 0,
     [](ByteSpan d, XtPacket& x) { return AddrTypeMatch(d, x, false); }, nullptr},
    {"addrtype", 1, 8, Family::kNone, 0,
     [](ByteSpan d, XtPacket& x) { return AddrTypeMatch(d, x, true); },
     [](ByteSpan d, uint16_t) { return (At<uint32_t>(d, 4) & 0xc) != 0xc; }},
    {"limit", 0, 40, Family::kNone, 0, LimitMatch,
     [](ByteSpan d, uint16_t) {
       const uint32_t burst = At<uint32_t>(d, 4);
       return burst != 0 && At<uint32_t>(d, 0) <= UINT32_MAX / burst;
     }},
    {"length", 0, 5, Family::kNone, 0,
     [](ByteSpan d, XtPacket& x) {
       const size_t n = x.packet.size() - (x.packet.is_v4() ? 0 : kIpv6Header);
       return (n >= At<uint16_t>(d, 0) && n <= At<uint16_t>(d, 2)) != (d[4] != 0);
     }, nullptr},
    {"ttl", 0, 2, Family::kV4, 0,
     [](ByteSpan d, XtPacket& x) {
       const uint8_t t = x.packet.ttl();
       return d[0] == 0 ? t == d[1] : d[0] == 1 ? t != d[1] : d[0] == 2 ? t < d[1] : t > d[1];
     }, nullptr},
    {"statistic", 0, 32, Family::kNone, 0, StatisticMatch,
     [](ByteSpan d, uint16_t) { return At<uint16_t>(d, 0) <= 1 && (At<uint16_t>(d, 2) & ~1) == 0; }},
};

const Match* Find(std::string_view name, uint8_t revision, Family family) {
  for (const Match& m : kMatches) {
    if (name == m.name && revision == m.revision &&
        (m.family == Family::kNone || m.family == family)) {
      return &m;
    }
  }
  return nullptr;
}

}  // namespace

std::optional<uint8_t> XtMatchRevision(std::string_view name, Family family) {
  std::optional<uint8_t> best;
  for (const Match& m : kMatches) {
    if (name != m.name || (m.family != Family::kNone && m.family != family)) continue;
    if (!best || m.revision > *best) best = m.revision;
  }
  return best;
}

NetResult<void> XtCheckMatch(std::string_view name, uint8_t revision, ByteSpan data, Family family,
                             uint16_t protocol, bool inverted) {
  const Match* m = Find(name, revision, family);
  if (m == nullptr) return NetError::kNotFound;
  if (data.size() != XtAlign(m->size)) return NetError::kInvalid;
  if (m->protocol != 0 && (protocol != m->protocol || inverted)) return NetError::kInvalid;
  if (m->check != nullptr && !m->check(data, inverted ? 0 : protocol)) return NetError::kInvalid;
  return {};
}

bool XtMatches(std::string_view name, uint8_t revision, ByteSpan data, XtPacket& x) {
  const Match* m = Find(name, revision, x.packet.is_v4() ? Family::kV4 : Family::kV6);
  return m != nullptr && m->fn(data, x);
}

}  // namespace ringwall::net
