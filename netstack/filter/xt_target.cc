// The targets of iptables but the verdicts. Compare Linux's net/netfilter/xt_*.c and ipt_REJECT.c.
#include <algorithm>

#include "netstack/filter/tproxy.h"
#include "netstack/filter/xt_actions.h"
#include "netstack/stack.h"
#include "netstack/tcp/protocol.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/ip.h"
#include "netstack/wire/tcp.h"

namespace ringwall::net {
namespace {

using TargetFn = Verdict (*)(ByteSpan, XtPacket&);

template <typename T>
T At(ByteSpan b, size_t at) {
  return XtRead<T>(b, at);
}

constexpr uint32_t Bit(Hook h) { return 1u << static_cast<uint32_t>(h); }
constexpr uint32_t kDst = Bit(Hook::kPreRouting) | Bit(Hook::kLocalOut);
constexpr uint32_t kSrc = Bit(Hook::kPostRouting) | Bit(Hook::kLocalIn);
constexpr uint32_t kFilterHooks =
    Bit(Hook::kLocalIn) | Bit(Hook::kForward) | Bit(Hook::kLocalOut);

// ---- NAT ----

constexpr uint32_t kMapIps = 1, kHasPorts = 2, kRandom = 4 | 16;

Verdict Nat(XtPacket& x, const NatRange& range, bool source) {
  Connection* c = x.packet.meta.connection.get();
  if (c == nullptr) return Verdict::kDrop;
  if (x.packet.meta.info != CtInfo::kNew && x.packet.meta.info != CtInfo::kRelated) {
    return Verdict::kAccept;
  }
  x.translated = true;
  return x.conntrack.SetUp(*c, range, source, x.stack.Random64()) ? Verdict::kAccept
                                                                   : Verdict::kDrop;
}

void Ports(NatRange& r, uint32_t flags, ByteSpan d, size_t at) {
  r.has_ports = (flags & kHasPorts) != 0;
  r.random = (flags & kRandom) != 0;
  r.min_port = Load16(&d[at]);
  r.max_port = Load16(&d[at + 2]);
}

// struct nf_nat_ipv4_multi_range_compat: rangesize, flags, min_ip, max_ip, min, max.
NatRange OldRange(ByteSpan d) {
  NatRange r;
  const uint32_t flags = At<uint32_t>(d, 4);
  if ((flags & kMapIps) != 0) {
    r.min = IpAddr::V4(&d[8]);
    r.max = IpAddr::V4(&d[12]);
  }
  Ports(r, flags, d, 16);
  return r;
}

// struct nf_nat_range: flags, min_addr, max_addr, min_proto, max_proto.
NatRange NewRange(ByteSpan d, bool v4) {
  NatRange r;
  const uint32_t flags = At<uint32_t>(d, 0);
  if ((flags & kMapIps) != 0) {
    r.min = v4 ? IpAddr::V4(&d[4]) : IpAddr::V6(&d[4]);
    r.max = v4 ? IpAddr::V4(&d[20]) : IpAddr::V6(&d[20]);
  }
  Ports(r, flags, d, 36);
  return r;
}

NatRange RangeOf(ByteSpan d, XtPacket& x) {
  // The old form is 24 bytes long, the new ones 40 and more.
  return d.size() <= 24 ? OldRange(d) : NewRange(d, x.packet.is_v4());
}

Verdict Masquerade(ByteSpan d, XtPacket& x) {
  NatRange r = RangeOf(d, x);
  r.min = r.max = XtMasqueradeAddress(x);
  r.masquerade = x.packet.out;
  if (r.min.IsNone()) return Verdict::kDrop;
  return Nat(x, r, true);
}

Verdict Redirect(ByteSpan d, XtPacket& x) {
  NatRange r = RangeOf(d, x);
  r.min = r.max = XtRedirectAddress(x);
  if (r.min.IsNone()) return Verdict::kDrop;
  return Nat(x, r, false);
}

// ---- REJECT ----

Verdict Reject(ByteSpan d, XtPacket& x) {
  const uint32_t with = At<uint32_t>(d, 0);
  if (with == (x.packet.is_v4() ? 7u : 6u)) {
    XtSendTcpReset(x);
    return Verdict::kDrop;
  }
  static constexpr uint8_t kV4[] = {0, 1, 2, 3, 3, 9, 10, 3, 13};
  static constexpr uint8_t kV6[] = {0, 1, 2, 3, 4, 4, 4, 5, 6};
  XtSendUnreachable(x, (x.packet.is_v4() ? kV4 : kV6)[with < 8 ? with : 8]);
  return Verdict::kDrop;
}

// ---- TCPMSS, TTL, HL ----

// struct xt_tcpmss_info: the size, or 0xffff for what the path takes (xt_TCPMSS.c).
Verdict TcpMss(ByteSpan d, XtPacket& x) {
  FilterPacket& p = x.packet;
  if (p.protocol() != kProtoTcp || !p.has_ports()) return Verdict::kContinue;
  const size_t at = p.transport();
  const ByteSpan h = p.bytes().subspan(at);
  if ((h[13] & kSyn) == 0) return Verdict::kContinue;
  uint32_t want = At<uint16_t>(d, 0);
  if (want == 0xffff) {
    const uint32_t headers = p.is_v4() ? 40 : 60;
    NetResult<Route> there = x.stack.FindRoute({.dst = p.dst()});
    NetResult<Route> back = x.stack.FindRoute({.dst = p.src()});
    uint32_t mtu = 65535;
    if (there.ok()) mtu = std::min(mtu, x.stack.PathMtu(*there));
    if (back.ok()) mtu = std::min(mtu, x.stack.PathMtu(*back));
    if (mtu <= headers) return Verdict::kDrop;
    want = mtu - headers;
  }
  const size_t size = std::min<size_t>((h[12] >> 4) * 4u, h.size());
  for (size_t i = 20; i + 1 < size;) {
    if (h[i] == 0) break;
    if (h[i] == 1) {
      i++;
      continue;
    }
    if (h[i + 1] < 2) break;
    if (h[i] == 2 && h[i + 1] == 4 && i + 4 <= size) {
      if (Load16(&h[i + 2]) > want) p.SetTransport16(i + 2, static_cast<uint16_t>(want));
      return Verdict::kContinue;
    }
    i += h[i + 1];
  }
  // A SYN that offers none means 536, which is never too much here; one is not put in.
  return Verdict::kContinue;
}

// struct ipt_TTL_info and ip6t_HL_info: mode (set, increase, decrease), value.
Verdict TimeToLive(ByteSpan d, XtPacket& x) {
  const int now = x.packet.ttl();
  int want = d[1];
  if (d[0] == 1) want = std::min(now + want, 255);
  if (d[0] == 2) want = std::max(now - want, 0);
  x.packet.SetTtl(static_cast<uint8_t>(want));
  return Verdict::kContinue;
}

// struct xt_connmark_tginfo1: ctmark, ctmask, nfmask, mode.
Verdict ConnMark(ByteSpan d, XtPacket& x) {
  Connection* c = x.packet.meta.connection.get();
  if (c == nullptr) return Verdict::kContinue;
  const uint32_t mark = At<uint32_t>(d, 0), ctmask = At<uint32_t>(d, 4), nfmask = At<uint32_t>(d, 8);
  switch (d[12]) {
    case 0: c->mark = (c->mark & ~ctmask) ^ mark; break;
    case 1: c->mark = (c->mark & ~ctmask) ^ (x.packet.meta.mark & nfmask); break;
    default:
      x.packet.meta.mark = (x.packet.meta.mark & ~nfmask) ^ (c->mark & ctmask);
      break;
  }
  return Verdict::kContinue;
}

// struct xt_tproxy_target_info: mark_mask, mark_value, laddr, lport; revision 1 with an address of 16 bytes.
Verdict Tproxy(XtPacket& x, ByteSpan d, const IpAddr& addr, uint16_t port) {
  if (!GiveToSocket(x.stack, x.packet, addr, port)) return Verdict::kDrop;
  x.packet.meta.mark = (x.packet.meta.mark & ~At<uint32_t>(d, 0)) ^ At<uint32_t>(d, 4);
  return Verdict::kAccept;
}

Verdict NoTrack(ByteSpan, XtPacket& x) {
  if (x.packet.meta.info == CtInfo::kNone) x.packet.meta.info = CtInfo::kUntracked;
  return Verdict::kContinue;
}

struct Target {
  const char* name;
  uint8_t revision;
  size_t size;
  Family family;
  const char* table;  // that alone may use it; null: any
  uint32_t hooks;     // that alone may; 0: any
  TargetFn fn;
};

constexpr Target kTargets[] = {
    {"REJECT", 0, 4, Family::kNone, "filter", kFilterHooks, Reject},
    {"LOG", 0, 32, Family::kNone, nullptr, 0,
     [](ByteSpan d, XtPacket& x) {
       // struct ipt_log_info: level, logflags, prefix[30].
       const char* prefix = reinterpret_cast<const char*>(&d[2]);
       FilterLog(x, d[0], d[1], {prefix, strnlen(prefix, 30)});
       return Verdict::kContinue;
     }},
    {"MARK", 2, 8, Family::kNone, nullptr, 0,
     [](ByteSpan d, XtPacket& x) {
       x.packet.meta.mark = (x.packet.meta.mark & ~At<uint32_t>(d, 4)) ^ At<uint32_t>(d, 0);
       return Verdict::kContinue;
     }},
    {"CONNMARK", 1, 16, Family::kNone, nullptr, 0, ConnMark},
    {"NOTRACK", 0, 0, Family::kNone, "raw", 0, NoTrack},
    {"TCPMSS", 0, 2, Family::kNone, nullptr,
     Bit(Hook::kForward) | Bit(Hook::kLocalOut) | Bit(Hook::kPostRouting), TcpMss},
    {"TTL", 0, 2, Family::kV4, "mangle", 0, TimeToLive},
    {"HL", 0, 2, Family::kV6, "mangle", 0, TimeToLive},
    {"DNAT", 0, 24, Family::kV4, "nat", kDst,
     [](ByteSpan d, XtPacket& x) { return Nat(x, OldRange(d), false); }},
    {"DNAT", 1, 40, Family::kNone, "nat", kDst,
     [](ByteSpan d, XtPacket& x) { return Nat(x, NewRange(d, x.packet.is_v4()), false); }},
    {"DNAT", 2, 44, Family::kNone, "nat", kDst,
     [](ByteSpan d, XtPacket& x) { return Nat(x, NewRange(d, x.packet.is_v4()), false); }},
    {"SNAT", 0, 24, Family::kV4, "nat", kSrc,
     [](ByteSpan d, XtPacket& x) { return Nat(x, OldRange(d), true); }},
    {"SNAT", 1, 40, Family::kNone, "nat", kSrc,
     [](ByteSpan d, XtPacket& x) { return Nat(x, NewRange(d, x.packet.is_v4()), true); }},
    {"MASQUERADE", 0, 24, Family::kV4, "nat", Bit(Hook::kPostRouting), Masquerade},
    {"MASQUERADE", 0, 40, Family::kV6, "nat", Bit(Hook::kPostRouting), Masquerade},
    {"REDIRECT", 0, 24, Family::kV4, "nat", kDst, Redirect},
    {"TPROXY", 0, 16, Family::kV4, "mangle", Bit(Hook::kPreRouting),
     [](ByteSpan d, XtPacket& x) { return Tproxy(x, d, IpAddr::V4(&d[8]), Load16(&d[12])); }},
    {"TPROXY", 1, 28, Family::kNone, "mangle", Bit(Hook::kPreRouting),
     [](ByteSpan d, XtPacket& x) {
       return Tproxy(x, d, x.packet.is_v4() ? IpAddr::V4(&d[8]) : IpAddr::V6(&d[8]), Load16(&d[24]));
     }},
    {"REDIRECT", 0, 40, Family::kV6, "nat", kDst, Redirect},
};

const Target* Find(std::string_view name, uint8_t revision, Family family) {
  for (const Target& t : kTargets) {
    if (name == t.name && revision == t.revision &&
        (t.family == Family::kNone || t.family == family)) {
      return &t;
    }
  }
  return nullptr;
}

}  // namespace

void XtSendTcpReset(XtPacket& x) {
  const FilterPacket& p = x.packet;
  if (!p.has_ports()) return;
  std::optional<TcpView> view = TcpView::Parse(p.bytes().subspan(p.transport()));
  if (!view) return;
  const TcpSegment s = view->ToSegment();
  if ((s.flags & kRst) != 0) return;
  // SYN and FIN count as a byte each: RFC 9293 3.10.7.1.
  const size_t length = p.size() - p.transport() - view->header_size() + s.Has(kSyn) + s.Has(kFin);
  x.stack.AttachTo(&p.meta);
  x.stack.tcp().SendReset({p.dst(), p.src(), view->dst_port(), view->src_port()}, p.in, s, length);
  x.stack.AttachTo(nullptr);
}

void XtSendUnreachable(XtPacket& x, uint8_t code) {
  FilterPacket& p = x.packet;
  IpReceived about;
  about.src = p.src();
  about.dst = p.dst();
  about.iface = p.in != 0 ? p.in : p.out;
  about.protocol = p.protocol();
  about.tos = p.tos();
  about.meta = p.meta;
  x.stack.SendIcmpError(about, p.slice(), p.is_v4() ? kIcmpUnreachable : kIcmp6Unreachable, code, 0);
}

IpAddr XtMasqueradeAddress(XtPacket& x) {
  return x.stack.SelectSource(x.packet.dst(), x.packet.out);
}

IpAddr XtRedirectAddress(XtPacket& x) {
  const Family family = x.packet.is_v4() ? Family::kV4 : Family::kV6;
  if (x.hook == Hook::kLocalOut) return IpAddr::Loopback(family);
  Interface* in = x.stack.FindInterface(x.packet.in);
  if (in == nullptr) return IpAddr();
  for (const InterfaceAddress& a : in->addresses) {
    const IpAddr& own = a.prefix.addr;
    const bool link_local = own.is_v6() && own.IsLinkLocal() && !x.packet.dst().IsLinkLocal();
    if (own.family() == family && !link_local) return own;
  }
  return IpAddr();
}

std::optional<uint8_t> XtTargetRevision(std::string_view name, Family family) {
  if (name.empty() || name == "ERROR") return uint8_t{0};
  std::optional<uint8_t> best;
  for (const Target& t : kTargets) {
    if (name != t.name || (t.family != Family::kNone && t.family != family)) continue;
    if (!best || t.revision > *best) best = t.revision;
  }
  return best;
}

NetResult<void> XtCheckTarget(std::string_view name, uint8_t revision, ByteSpan data,
                              Family family, std::string_view table, uint32_t hooks,
                              std::optional<uint16_t> protocol) {
  const Target* t = Find(name, revision, family);
  if (t == nullptr) return NetError::kNotFound;
  if (data.size() != XtAlign(t->size)) return NetError::kInvalid;
  if (t->table != nullptr && table != t->table) return NetError::kInvalid;
  if (t->hooks != 0 && (hooks & ~t->hooks) != 0) return NetError::kInvalid;
  const bool old_range = t->size == 24 && std::string_view(t->table) == "nat";
  if (old_range && At<uint32_t>(data, 0) != 1) return NetError::kInvalid;  // one range
  if (name == "TPROXY" && protocol && *protocol != kProtoTcp && *protocol != kProtoUdp) return NetError::kInvalid;
  if (name == "LOG" && (data[0] >= 8 || data[31] != 0)) return NetError::kInvalid;
  if (name == "REJECT" && At<uint32_t>(data, 0) > 8) return NetError::kInvalid;
  if ((name == "TTL" || name == "HL") && (data[0] > 2 || (data[0] != 0 && data[1] == 0))) return NetError::kInvalid;
  return {};
}

Verdict XtTarget(std::string_view name, uint8_t revision, ByteSpan data, XtPacket& x) {
  const Target* t = Find(name, revision, x.packet.is_v4() ? Family::kV4 : Family::kV6);
  return t == nullptr ? Verdict::kDrop : t->fn(data, x);
}

}  // namespace ringwall::net
