// RTM_*ADDR (net/ipv4/devinet.c, net/ipv6/addrconf.c).
#include <linux/if_addr.h>

#include "fs/netlink/route.h"

namespace ringwall::netlink {
namespace {

constexpr Policy<IFA_PROTO> kAddr4Rules = {
    {IFA_ADDRESS, {AttrKind::kU32}},
    {IFA_LOCAL, {AttrKind::kU32}},
    {IFA_BROADCAST, {AttrKind::kU32}},
    {IFA_LABEL, {AttrKind::kString, 15}},
    {IFA_CACHEINFO, {AttrKind::kAny, sizeof(ifa_cacheinfo)}},
    {IFA_FLAGS, {AttrKind::kU32}},
    {IFA_RT_PRIORITY, {AttrKind::kU32}},
    {IFA_TARGET_NETNSID, {AttrKind::kU32}},
    {IFA_PROTO, {AttrKind::kU8}},
};
constexpr Policy<IFA_PROTO> kAddr6Rules = {
    {IFA_ADDRESS, {AttrKind::kAny, 16}},
    {IFA_LOCAL, {AttrKind::kAny, 16}},
    {IFA_CACHEINFO, {AttrKind::kAny, sizeof(ifa_cacheinfo)}},
    {IFA_FLAGS, {AttrKind::kU32}},
    {IFA_RT_PRIORITY, {AttrKind::kU32}},
    {IFA_TARGET_NETNSID, {AttrKind::kU32}},
    {IFA_PROTO, {AttrKind::kU8}},
};
using AddrAttrs = Attrs<IFA_PROTO>;

constexpr uint32_t kForever = 0xffffffff;

uint8_t Scope(const net::InterfaceAddress& a) {
  if (a.prefix.addr.is_v4()) return a.scope;
  if (a.prefix.addr.IsLoopback()) return RT_SCOPE_HOST;
  if (a.prefix.addr.IsLinkLocal()) return RT_SCOPE_LINK;
  return RT_SCOPE_UNIVERSE;
}

uint32_t FlagsOf(const net::InterfaceAddress& a) {
  uint32_t f = 0;
  if (a.valid_until.IsNever() && !a.autoconf) f |= IFA_F_PERMANENT;
  if (a.secondary) f |= IFA_F_SECONDARY;
  if (a.no_prefix_route) f |= IFA_F_NOPREFIXROUTE;
  if (a.no_dad) f |= IFA_F_NODAD;
  if (a.manage_temp) f |= IFA_F_MANAGETEMPADDR;
  switch (a.state) {
    case net::AddressState::kTentative: f |= IFA_F_TENTATIVE; break;
    case net::AddressState::kDeprecated: f |= IFA_F_DEPRECATED; break;
    case net::AddressState::kDuplicate: f |= IFA_F_DADFAILED | IFA_F_TENTATIVE; break;
    default: break;
  }
  return f;
}

std::span<const AttrRule> RulesFor(Context& c) {
  if (c.message.payload[0] == AF_INET6) return kAddr6Rules;
  return kAddr4Rules;
}

Result<AddrAttrs> ParseAddr(Context& c) {
  return ParseAttrs<IFA_PROTO>(Tail(c, sizeof(ifaddrmsg)), RulesFor(c), &c.ack);
}

uint32_t Left(net::TimePoint until, net::TimePoint now) {
  if (until.IsNever() || now == net::TimePoint()) return kForever;
  return until > now ? static_cast<uint32_t>((until - now).seconds()) : 0;
}

uint32_t Stamp(net::TimePoint t) { return static_cast<uint32_t>(t.millis() / 10); }

}  // namespace

void FillAddr(Builder& b, net::IfIndex iface, std::string_view name,
              const net::InterfaceAddress& a, net::TimePoint now) {
  const bool v4 = a.prefix.addr.is_v4();
  ifaddrmsg head = {};
  head.ifa_family = AfOf(a.prefix.addr.family());
  head.ifa_prefixlen = a.prefix.len;
  const uint32_t flags = FlagsOf(a);
  head.ifa_flags = static_cast<uint8_t>(flags);
  head.ifa_scope = Scope(a);
  head.ifa_index = iface;
  b.Put(head);
  if (v4) {
    PutAddress(b, IFA_ADDRESS, a.peer.IsNone() ? a.prefix.addr : a.peer);
    PutAddress(b, IFA_LOCAL, a.prefix.addr);
    if (!a.broadcast.IsNone() && !a.broadcast.IsAny()) PutAddress(b, IFA_BROADCAST, a.broadcast);
    const std::string_view label = a.label.empty() ? name : std::string_view(a.label);
    if (!label.empty()) b.Text(IFA_LABEL, label);
    if (a.protocol != 0) b.U8(IFA_PROTO, a.protocol);
    b.U32(IFA_FLAGS, flags);
    if (a.metric != 0) b.U32(IFA_RT_PRIORITY, a.metric);
  } else if (!a.peer.IsNone()) {
    PutAddress(b, IFA_LOCAL, a.prefix.addr);
    PutAddress(b, IFA_ADDRESS, a.peer);
    if (a.metric != 0) b.U32(IFA_RT_PRIORITY, a.metric);
  } else {
    PutAddress(b, IFA_ADDRESS, a.prefix.addr);
    if (a.metric != 0) b.U32(IFA_RT_PRIORITY, a.metric);
  }
  const ifa_cacheinfo cache = {Left(a.preferred_until, now), Left(a.valid_until, now),
                               Stamp(a.created), Stamp(a.updated)};
  b.Value(IFA_CACHEINFO, cache);
  if (!v4) {
    b.U32(IFA_FLAGS, flags);
    if (a.protocol != 0) b.U8(IFA_PROTO, a.protocol);
  }
}

Result<void> GetAddr(Context& c) {
  // Only IPv6 answers for one address.
  if (c.message.payload[0] != AF_INET6) return Errno(EOPNOTSUPP);
  const ifaddrmsg head = TRY(Head<ifaddrmsg>(c, "ipv6: Invalid header for get address request"));
  TRY(CheckHead(c, {sizeof(ifaddrmsg), ByteRange(1, 3), "",
                    "ipv6: Invalid values in header for get address request"}));
  const AddrAttrs attrs = TRY(ParseAsked<IFA_PROTO>(
      c, sizeof(ifaddrmsg), kAddr6Rules, {IFA_TARGET_NETNSID, IFA_ADDRESS, IFA_LOCAL},
      "ipv6: Unsupported attribute in get address request"));
  const Attr* at = attrs.Get(IFA_LOCAL) != nullptr ? attrs.Get(IFA_LOCAL) : attrs.Get(IFA_ADDRESS);
  if (at == nullptr) return Errno(EINVAL);
  const net::IpAddr addr = TRY(AddressOf(*at, net::Family::kV6, c.ack));
  const net::TimePoint now = c.stack().Now();
  for (const net::InterfaceInfo& i : c.stack().Interfaces()) {
    if (head.ifa_index != 0 && i.index != head.ifa_index) continue;
    for (const net::InterfaceAddress& a : i.addresses) {
      if (a.prefix.addr != addr) continue;
      c.Answer(RTM_NEWADDR, 0, [&](Builder& b) { FillAddr(b, i.index, i.name, a, now); });
      return {};
    }
  }
  return Errno(EADDRNOTAVAIL);
}

Result<void> DumpAddrs(Context& c) {
  const uint8_t af = DumpedFamily(c);  // AF_UNSPEC's handler asks IPv4 first
  const bool v6 = af == AF_INET6;
  uint32_t index = 0;
  if (c.socket.strict()) {
    TRY(CheckHead(c, {sizeof(ifaddrmsg), ByteRange(1, 3),
                      v6 ? "ipv6: Invalid header for address dump request"
                         : "ipv4: Invalid header for address dump request",
                      v6 ? "ipv6: Invalid values in header for address dump request"
                         : "ipv4: Invalid values in header for address dump request"}));
    const ifaddrmsg head = TRY(Head<ifaddrmsg>(c));
    const AddrAttrs attrs = TRY(ParseAsked<IFA_PROTO>(
        c, sizeof(ifaddrmsg), RulesFor(c), {IFA_TARGET_NETNSID},
        v6 ? "ipv6: Unsupported attribute in dump request"
           : "ipv4: Unsupported attribute in dump request"));
    if (attrs.Has(IFA_TARGET_NETNSID)) {
      return c.ack.Fail(EINVAL, v6 ? "ipv6: Invalid target network namespace id"
                                   : "ipv4: Invalid target network namespace id");
    }
    index = head.ifa_index;
    if (index != 0 && !c.stack().FindInterfaceInfo(index)) return Errno(ENODEV);
  }
  const net::Family family = FamilyOf(af);
  const net::TimePoint now = c.stack().Now();
  Builder b;
  const std::vector<net::InterfaceInfo> all = c.stack().Interfaces();
  for (net::Family f : {net::Family::kV4, net::Family::kV6}) {
    if (af != AF_UNSPEC && f != family) continue;
    for (const net::InterfaceInfo& i : all) {
      if (index != 0 && i.index != index) continue;
      for (const net::InterfaceAddress& a : i.addresses) {
        if (a.prefix.addr.family() != f) continue;
        c.BeginPart(b, RTM_NEWADDR, index != 0 ? NLM_F_DUMP_FILTERED : 0);
        FillAddr(b, i.index, i.name, a, now);
        b.End();
      }
    }
  }
  return c.Dump(b.Take());
}

namespace {

struct Wanted {
  net::InterfaceAddress address;
  net::IfIndex iface = 0;
};

Result<Wanted> ReadAddr(Context& c, const ifaddrmsg& head, const AddrAttrs& attrs) {
  Wanted w;
  const net::Family family = FamilyOf(head.ifa_family);
  const bool v4 = family == net::Family::kV4;
  w.iface = head.ifa_index;
  if (head.ifa_prefixlen > (v4 ? 32 : 128)) {
    return c.ack.Fail(EINVAL, v4 ? "ipv4: Invalid prefix length" : "ipv6: Invalid prefix length");
  }
  const Attr* local = attrs.Get(IFA_LOCAL);
  const Attr* address = attrs.Get(IFA_ADDRESS);
  if (v4 && local == nullptr) return c.ack.Fail(EINVAL, "ipv4: Local address is not supplied");
  if (local == nullptr && address == nullptr) return Errno(EINVAL);
  net::InterfaceAddress& a = w.address;
  const net::IpAddr first = TRY(AddressOf(local != nullptr ? *local : *address, family, c.ack));
  a.prefix = {first, head.ifa_prefixlen};
  if (local != nullptr && address != nullptr) {
    const net::IpAddr peer = TRY(AddressOf(*address, family, c.ack));
    if (peer != first) a.peer = peer;
  }
  const uint32_t flags = attrs.U32(IFA_FLAGS, head.ifa_flags);
  a.no_prefix_route = (flags & IFA_F_NOPREFIXROUTE) != 0;
  a.no_dad = (flags & IFA_F_NODAD) != 0;
  a.manage_temp = (flags & IFA_F_MANAGETEMPADDR) != 0;
  a.scope = head.ifa_scope;
  a.metric = attrs.U32(IFA_RT_PRIORITY);
  if (const Attr* p = attrs.Get(IFA_PROTO)) a.protocol = p->U8();
  if (v4) {
    if (const Attr* x = attrs.Get(IFA_BROADCAST)) {
      a.broadcast = TRY(AddressOf(*x, family, c.ack));
    }
    if (const Attr* x = attrs.Get(IFA_LABEL)) a.label = std::string(x->Text());
  }
  if (const Attr* x = attrs.Get(IFA_CACHEINFO)) {
    const ifa_cacheinfo ci = x->As<ifa_cacheinfo>();
    if (ci.ifa_valid == 0 || ci.ifa_prefered > ci.ifa_valid) {
      return c.ack.Fail(EINVAL, v4 ? "ipv4: Invalid lifetime" : "ipv6: address lifetime invalid");
    }
    const net::TimePoint now = c.stack().Now();
    if (ci.ifa_valid != kForever) a.valid_until = now + net::Duration::Seconds(ci.ifa_valid);
    if (ci.ifa_prefered != kForever) {
      a.preferred_until = now + net::Duration::Seconds(ci.ifa_prefered);
      if (ci.ifa_prefered == 0) a.state = net::AddressState::kDeprecated;
    }
  }
  return w;
}

}  // namespace

Result<void> NewAddr(Context& c) {
  const ifaddrmsg head = TRY(Head<ifaddrmsg>(c));
  const AddrAttrs attrs = TRY(ParseAddr(c));
  const Wanted w = TRY(ReadAddr(c, head, attrs));
  const std::optional<net::InterfaceInfo> i = c.stack().FindInterfaceInfo(w.iface);
  const bool v4 = head.ifa_family == AF_INET;
  if (!i) {
    return c.ack.Fail(ENODEV, v4 ? "ipv4: Device not found" : "ipv6: Unable to find the interface");
  }
  const uint16_t flags = c.message.header.flags;
  bool have = false;
  for (const net::InterfaceAddress& a : i->addresses) {
    if (a.prefix.addr != w.address.prefix.addr) continue;
    have = have || !v4 || (a.prefix.len == w.address.prefix.len && a.peer == w.address.peer);
  }
  if (have && ((flags & NLM_F_EXCL) != 0 || (flags & NLM_F_REPLACE) == 0)) {
    return c.ack.Fail(EEXIST, v4 ? "ipv4: Address already assigned"
                                 : "ipv6: address already assigned");
  }
  return FromNet(c.stack().PutAddress(w.iface, w.address, (flags & NLM_F_REPLACE) != 0));
}

Result<void> DelAddr(Context& c) {
  const ifaddrmsg head = TRY(Head<ifaddrmsg>(c));
  const AddrAttrs attrs = TRY(ParseAddr(c));
  const net::Family family = FamilyOf(head.ifa_family);
  const bool v4 = family == net::Family::kV4;
  const std::optional<net::InterfaceInfo> i = c.stack().FindInterfaceInfo(head.ifa_index);
  const Attr* local = attrs.Get(IFA_LOCAL);
  const Attr* address = attrs.Get(IFA_ADDRESS);
  net::IpAddr want;
  if (!v4) {
    if (local == nullptr && address == nullptr) return Errno(EINVAL);
    want = TRY(AddressOf(local != nullptr ? *local : *address, family, c.ack));
    if (head.ifa_prefixlen > 128) return c.ack.Fail(EINVAL, "ipv6: Invalid prefix length");
  } else if (local != nullptr) {
    want = TRY(AddressOf(*local, family, c.ack));
  }
  if (!i) {
    return c.ack.Fail(ENODEV, v4 ? "ipv4: Device not found" : "ipv6: Unable to find the interface");
  }
  for (const net::InterfaceAddress& a : i->addresses) {
    if (a.prefix.addr.family() != family) continue;
    if (!want.IsNone() && a.prefix.addr != want) continue;
    if (v4) {
      if (const Attr* label = attrs.Get(IFA_LABEL)) {
        if (label->Text() != (a.label.empty() ? i->name : a.label)) continue;
      }
      if (address != nullptr) {
        const net::IpAddr net = TRY(AddressOf(*address, family, c.ack));
        if (a.prefix.len != head.ifa_prefixlen) continue;
        const net::IpAddr theirs = a.peer.IsNone() ? a.prefix.addr : a.peer;
        if (net::IpPrefix{theirs, a.prefix.len}.Network() !=
            net::IpPrefix{net, a.prefix.len}.Network()) {
          continue;
        }
      }
    } else if (a.prefix.len != head.ifa_prefixlen) {
      continue;
    }
    return FromNet(c.stack().RemoveAddress(i->index, a.prefix));
  }
  return c.ack.Fail(EADDRNOTAVAIL, v4 ? "ipv4: Address not found" : "ipv6: address not found");
}

}  // namespace ringwall::netlink
