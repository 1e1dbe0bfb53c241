// RTM_*ROUTE (net/ipv4/fib_frontend.c, net/ipv6/route.c).
#include <linux/if_addr.h>
#include <linux/netconf.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstddef>

#include "fs/netlink/route.h"

namespace ringwall::netlink {
namespace {

constexpr Policy<RTA_MAX> kRoute4Rules = {
    {RTA_DST, {AttrKind::kU32}},
    {RTA_SRC, {AttrKind::kU32}},
    {RTA_GATEWAY, {AttrKind::kU32}},
    {RTA_PREFSRC, {AttrKind::kU32}},
    {RTA_IIF, {AttrKind::kU32}},
    {RTA_OIF, {AttrKind::kU32}},
    {RTA_PRIORITY, {AttrKind::kU32}},
    {RTA_METRICS, {AttrKind::kNested}},
    {RTA_MULTIPATH, {AttrKind::kAny, sizeof(rtnexthop)}},
    {RTA_FLOW, {AttrKind::kU32}},
    {RTA_TABLE, {AttrKind::kU32}},
    {RTA_MARK, {AttrKind::kU32}},
    {RTA_ENCAP_TYPE, {AttrKind::kU16}},
    {RTA_ENCAP, {AttrKind::kNested}},
    {RTA_UID, {AttrKind::kU32}},
    {RTA_IP_PROTO, {AttrKind::kU8}},
    {RTA_SPORT, {AttrKind::kU16}},
    {RTA_DPORT, {AttrKind::kU16}},
    {RTA_NH_ID, {AttrKind::kU32, 0, true}},
};
constexpr Policy<RTA_MAX> kRoute6Rules = {
    {RTA_GATEWAY, {AttrKind::kAny, 16}},
    {RTA_PREFSRC, {AttrKind::kAny, 16}},
    {RTA_IIF, {AttrKind::kU32}},
    {RTA_OIF, {AttrKind::kU32}},
    {RTA_PRIORITY, {AttrKind::kU32}},
    {RTA_METRICS, {AttrKind::kNested}},
    {RTA_MULTIPATH, {AttrKind::kAny, sizeof(rtnexthop)}},
    {RTA_PREF, {AttrKind::kU8}},
    {RTA_TABLE, {AttrKind::kU32}},
    {RTA_MARK, {AttrKind::kU32}},
    {RTA_ENCAP_TYPE, {AttrKind::kU16}},
    {RTA_ENCAP, {AttrKind::kNested}},
    {RTA_EXPIRES, {AttrKind::kU32}},
    {RTA_UID, {AttrKind::kU32}},
    {RTA_IP_PROTO, {AttrKind::kU8}},
    {RTA_SPORT, {AttrKind::kU16}},
    {RTA_DPORT, {AttrKind::kU16}},
    {RTA_NH_ID, {AttrKind::kU32, 0, true}},
};
using RouteAttrs = Attrs<RTA_MAX>;

// RTCF_LOCAL, RTCF_BROADCAST, RTCF_MULTICAST of linux/in_route.h.
constexpr uint32_t kLocalFlag = 0x80000000, kBroadcastFlag = 0x10000000, kMulticastFlag = 0x20000000;

uint8_t TypeOf(net::RouteType t) {
  switch (t) {
    case net::RouteType::kUnicast: return RTN_UNICAST;
    case net::RouteType::kBlackhole: return RTN_BLACKHOLE;
    case net::RouteType::kUnreachable: return RTN_UNREACHABLE;
    case net::RouteType::kProhibit: return RTN_PROHIBIT;
    case net::RouteType::kThrow: return RTN_THROW;
    case net::RouteType::kLocal: return RTN_LOCAL;
    case net::RouteType::kBroadcast: return RTN_BROADCAST;
    case net::RouteType::kAnycast: return RTN_ANYCAST;
    case net::RouteType::kMulticast: return RTN_MULTICAST;
  }
  return RTN_UNSPEC;
}

std::optional<net::RouteType> TypeFrom(uint8_t t) {
  switch (t) {
    case RTN_UNSPEC:
    case RTN_UNICAST: return net::RouteType::kUnicast;
    case RTN_LOCAL: return net::RouteType::kLocal;
    case RTN_BROADCAST: return net::RouteType::kBroadcast;
    case RTN_ANYCAST: return net::RouteType::kAnycast;
    case RTN_MULTICAST: return net::RouteType::kMulticast;
    case RTN_BLACKHOLE: return net::RouteType::kBlackhole;
    case RTN_UNREACHABLE: return net::RouteType::kUnreachable;
    case RTN_PROHIBIT: return net::RouteType::kProhibit;
    case RTN_THROW: return net::RouteType::kThrow;
    default: return std::nullopt;
  }
}

// fib_props[].scope: the widest scope that a route of a type may have.
uint8_t LeastScope(uint8_t type) {
  switch (type) {
    case RTN_UNSPEC: return RT_SCOPE_NOWHERE;
    case RTN_LOCAL: return RT_SCOPE_HOST;
    case RTN_BROADCAST:
    case RTN_ANYCAST: return RT_SCOPE_LINK;
    default: return RT_SCOPE_UNIVERSE;
  }
}

void PutMetrics(Builder& b, const net::RouteEntry& r) {
  if (r.mtu == 0 && r.advmss == 0 && r.hop_limit == 0) return;
  const size_t m = b.Nest(RTA_METRICS);
  if (r.mtu != 0) b.U32(RTAX_MTU, r.mtu);
  if (r.advmss != 0) b.U32(RTAX_ADVMSS, r.advmss);
  if (r.hop_limit != 0) b.U32(RTAX_HOPLIMIT, r.hop_limit);
  b.Unnest(m);
}

std::span<const AttrRule> RulesFor(net::Family family) {
  if (family == net::Family::kV6) return kRoute6Rules;
  return kRoute4Rules;
}

Result<RouteAttrs> ParseRoute(Context& c) {
  return ParseAttrs<RTA_MAX>(Tail(c, sizeof(rtmsg)), RulesFor(FamilyOf(c.message.payload[0])),
                             &c.ack);
}

void PutGateway(Builder& b, const net::IpAddr& gateway, net::Family family) {
  if (gateway.IsNone()) return;
  if (gateway.family() == family) return PutAddress(b, RTA_GATEWAY, gateway);
  rtvia via = {};
  via.rtvia_family = AfOf(gateway.family());
  std::vector<uint8_t> bytes(2 + gateway.size());
  memcpy(bytes.data(), &via.rtvia_family, 2);
  memcpy(bytes.data() + 2, gateway.data(), gateway.size());
  b.Attribute(RTA_VIA, bytes);
}

// The order in which the kernel's trees give what they hold: by table, then by address; of nested prefixes
// IPv4's trie has the longer one first where both begin at one address (fib_trie), IPv6's tree everywhere.
bool Before(const net::RouteEntry& a, const net::RouteEntry& b) {
  if (a.dst.addr.family() != b.dst.addr.family()) return a.dst.addr.is_v4();
  if (a.table != b.table) return a.table < b.table;
  const bool nested = a.dst.addr.is_v6() && a.dst.len != b.dst.len &&
                      (a.dst.len < b.dst.len ? a.dst.Contains(b.dst.addr) : b.dst.Contains(a.dst.addr));
  if (!nested && a.dst.addr != b.dst.addr) return a.dst.addr < b.dst.addr;
  if (a.dst.len != b.dst.len) return a.dst.len > b.dst.len;
  if (a.tos != b.tos) return a.tos > b.tos;
  return a.metric < b.metric;
}

// Until a rule is added the tables "local" and "main" are one (fib_unmerge()).
bool Merged(Context& c, net::Family family) {
  size_t n = 0;
  for (const net::RuleEntry& r : c.stack().Rules()) n += r.family == family;
  return n <= 3;
}

}  // namespace

void FillRoute(Builder& b, const net::RouteEntry& r, uint32_t extra_flags) {
  const bool v4 = r.dst.addr.is_v4();
  rtmsg head = {};
  head.rtm_family = AfOf(r.dst.addr.family());
  head.rtm_dst_len = r.dst.len;
  head.rtm_tos = r.tos;
  head.rtm_table = r.table < 256 ? static_cast<uint8_t>(r.table) : uint8_t{RT_TABLE_COMPAT};
  head.rtm_protocol = r.protocol;
  head.rtm_scope = r.scope;
  head.rtm_type = TypeOf(r.type);
  head.rtm_flags = extra_flags | (r.onlink ? 4u : 0u);  // RTNH_F_ONLINK
  b.Put(head);
  if (v4) {
    b.U32(RTA_TABLE, r.table);
    if (r.dst.len != 0) PutAddress(b, RTA_DST, r.dst.addr);
    if (r.metric != 0) b.U32(RTA_PRIORITY, r.metric);
    PutMetrics(b, r);
    if (!r.preferred_src.IsNone()) PutAddress(b, RTA_PREFSRC, r.preferred_src);
  } else {
    if (r.dst.len != 0) PutAddress(b, RTA_DST, r.dst.addr);
    b.U32(RTA_TABLE, r.table);
    PutMetrics(b, r);
    if (!r.preferred_src.IsNone()) PutAddress(b, RTA_PREFSRC, r.preferred_src);
    b.U32(RTA_PRIORITY, r.metric);
  }
  if (r.next_hops.size() > 1) {
    const size_t m = b.Nest(RTA_MULTIPATH);
    for (const net::NextHop& n : r.next_hops) {
      const size_t at = b.size();
      rtnexthop hop = {};
      hop.rtnh_hops = static_cast<uint8_t>(n.weight - 1);
      hop.rtnh_ifindex = static_cast<int>(n.oif);
      hop.rtnh_flags = n.onlink ? RTNH_F_ONLINK : 0;
      b.Put(hop);
      PutGateway(b, n.gateway, r.dst.addr.family());
      b.Unnest(at);  // the length is its first field, too
    }
    b.Unnest(m);
  } else {
    PutGateway(b, r.gateway, r.dst.addr.family());
    if (r.oif != 0) b.U32(RTA_OIF, r.oif);
  }
  if (!v4) {
    rta_cacheinfo ci = {};
    b.Value(RTA_CACHEINFO, ci);
    b.U8(RTA_PREF, 0);  // ICMPV6_ROUTER_PREF_MEDIUM
  }
}

Result<void> DumpRoutes(Context& c) {
  const uint8_t af = DumpedFamily(c);
  TRY(CheckHead(c, {sizeof(rtmsg), ByteRange(1, 3) | ByteRange(6, 6),
                    "Invalid header for FIB dump request",
                    "Invalid values in header for FIB dump request"}));
  uint32_t table = 0, oif = 0;
  uint8_t protocol = 0, type = 0;
  bool none = false;
  if (c.message.payload.size() >= sizeof(rtmsg)) {
    const rtmsg head = TRY(Head<rtmsg>(c));
    // None is cached, and none comes from a prefix that a router told.
    none = (head.rtm_flags & (RTM_F_CLONED | RTM_F_PREFIX)) != 0;
    if (c.socket.strict()) {
      if ((head.rtm_flags & ~static_cast<unsigned>(RTM_F_CLONED | RTM_F_PREFIX)) != 0) {
        return c.ack.Fail(EINVAL, "Invalid flags for FIB dump request");
      }
      // IPv6's dump takes IPv4's rules, too (ip_valid_fib_dump_req()).
      const RouteAttrs a =
          TRY(ParseAsked<RTA_MAX>(c, sizeof(rtmsg), kRoute4Rules, {RTA_TABLE, RTA_OIF},
                                  "Unsupported attribute in dump request"));
      table = a.U32(RTA_TABLE, head.rtm_table);
      protocol = head.rtm_protocol;
      type = head.rtm_type;
      oif = a.U32(RTA_OIF);
      if (a.Has(RTA_OIF) && !c.stack().FindInterfaceInfo(oif)) return Errno(ENODEV);
    }
  }
  const bool filtered = table != 0 || oif != 0 || protocol != 0 || type != 0;
  Builder b;
  std::vector<net::RouteEntry> all = c.stack().LocalRoutes();
  for (net::RouteEntry& r : c.stack().Routes()) all.push_back(std::move(r));
  std::stable_sort(all.begin(), all.end(), Before);
  bool found_table = table == 0 || table == RT_TABLE_MAIN || table == RT_TABLE_LOCAL;
  for (net::Family f : {net::Family::kV4, net::Family::kV6}) {
    if (none) break;
    if (af != AF_UNSPEC && FamilyOf(af) != f) continue;
    for (const net::RouteEntry& r : all) {
      if (r.dst.addr.family() != f) continue;
      if (table != 0 && r.table != table) continue;
      found_table = true;
      if (oif != 0 && r.oif != oif) continue;
      if (protocol != 0 && r.protocol != protocol) continue;
      if (type != 0 && TypeOf(r.type) != type) continue;
      c.BeginPart(b, RTM_NEWROUTE, filtered ? NLM_F_DUMP_FILTERED : 0);
      FillRoute(b, r, 0);
      b.End();
    }
  }
  if (!found_table && af != AF_UNSPEC) {
    return c.ack.Fail(ENOENT, af == AF_INET6 ? "ipv6: FIB table does not exist"
                                             : "ipv4: FIB table does not exist");
  }
  return c.Dump(b.Take());
}

Result<void> GetRoute(Context& c) {
  const net::Family family = FamilyOf(c.message.payload[0]);
  if (family == net::Family::kNone) return Errno(EOPNOTSUPP);
  const bool v4 = family == net::Family::kV4;
  const rtmsg head = TRY(Head<rtmsg>(c, v4 ? "ipv4: Invalid header for route get request"
                                           : "ipv6: Invalid header for get route request"));
  const RouteAttrs a = TRY(ParseAsked<RTA_MAX>(
      c, sizeof(rtmsg), RulesFor(family),
      {RTA_IIF, RTA_OIF, RTA_SRC, RTA_DST, RTA_UID, RTA_MARK, RTA_IP_PROTO, RTA_SPORT, RTA_DPORT},
      v4 ? "ipv4: Unsupported attribute in route get request"
         : "ipv6: Unsupported attribute in get route request"));
  if (c.socket.strict()) {
    if ((a.Has(RTA_SRC) && head.rtm_src_len == 0) || (a.Has(RTA_DST) && head.rtm_dst_len == 0)) {
      return c.ack.Fail(EINVAL, v4 ? "ipv4: rtm_src_len and rtm_dst_len must be 32 for IPv4"
                                   : "ipv6: rtm_src_len and rtm_dst_len must be 128 for IPv6");
    }
  }
  net::RouteQuery q;
  q.dst = net::IpAddr::Any(family);
  if (const Attr* x = a.Get(RTA_DST)) {
    q.dst = TRY(AddressOf(*x, family, c.ack));
  }
  if (const Attr* x = a.Get(RTA_SRC)) {
    q.src = TRY(AddressOf(*x, family, c.ack));
  }
  q.oif = a.U32(RTA_OIF);
  q.mark = a.U32(RTA_MARK);
  if (const Attr* x = a.Get(RTA_IP_PROTO)) {
    const uint8_t p = x->U8();
    const uint8_t icmp = v4 ? uint8_t{IPPROTO_ICMP} : uint8_t{IPPROTO_ICMPV6};
    if (p != IPPROTO_TCP && p != IPPROTO_UDP && p != icmp) {
      return c.ack.Fail(EOPNOTSUPP, "Unsupported ip proto");
    }
  }
  q.iif = a.U32(RTA_IIF);
  q.uid = a.U32(RTA_UID);
  if (q.iif != 0 && !c.stack().FindInterfaceInfo(q.iif)) return Errno(ENODEV);
  if (q.oif != 0 && !c.stack().FindInterfaceInfo(q.oif)) return Errno(ENODEV);
  if (v4 && !q.src.IsNone() && q.iif == 0) {
    // ip_route_output_key_hash_rcu(): a source must be an address of one's own.
    net::NetResult<net::Route> own = c.stack().LookupRoute({.dst = q.src});
    if (!own.ok() || own->kind != net::Route::Kind::kLocal) return Errno(ENETUNREACH);
  }
  if (!v4 && q.dst.IsAny()) {
    // A connection to :: goes to the loopback; a question for it finds default routes only.
    const std::vector<net::RouteEntry> all = c.stack().Routes();
    if (std::none_of(all.begin(), all.end(), [](const net::RouteEntry& e) {
          return e.dst.addr.is_v6() && e.dst.len == 0;
        })) {
      return Errno(ENETUNREACH);
    }
  }
  std::optional<net::RouteEntry> entry;
  net::NetResult<net::Route> r = c.stack().LookupRoute(q, &entry);
  if (!r.ok()) return net::ToErrno(r.error());
  if ((head.rtm_flags & RTM_F_FIB_MATCH) != 0 && entry) {
    c.Answer(RTM_NEWROUTE, 0, [&](Builder& b) { FillRoute(b, *entry, 0); });
    return {};
  }
  uint32_t flags = 0;
  net::RouteEntry out;
  out.dst = {r->dst, static_cast<uint8_t>(q.dst.size() * 8)};
  out.oif = r->oif;
  if (r->next_hop != r->dst) out.gateway = r->next_hop;
  out.preferred_src = r->src;
  out.table = entry ? entry->table : net::kTableMain;
  out.protocol = RTPROT_UNSPEC;
  out.metric = entry && family == net::Family::kV6 ? entry->metric : 0;
  switch (r->kind) {
    case net::Route::Kind::kLocal:
      out.type = net::RouteType::kLocal;
      out.table = net::kTableLocal;
      flags = kLocalFlag;
      break;
    case net::Route::Kind::kBroadcast:
      out.type = net::RouteType::kBroadcast;
      out.table = net::kTableLocal;
      flags = kLocalFlag | kBroadcastFlag;
      break;
    case net::Route::Kind::kMulticast:
      out.type = net::RouteType::kMulticast;
      out.table = net::kTableLocal;
      flags = kMulticastFlag;
      break;
    default: break;
  }
  if (v4 && out.table == net::kTableLocal && Merged(c, family)) out.table = net::kTableMain;
  if (!v4) out.protocol = entry ? entry->protocol : uint8_t{RTPROT_KERNEL};
  if (entry) {
    out.mtu = entry->mtu;
    out.advmss = entry->advmss;
    out.hop_limit = entry->hop_limit;
  }
  if (v4) {
    // What was asked for is not told twice, and for what comes in there is no source of ours.
    if (q.iif != 0 || out.preferred_src == q.src) out.preferred_src = net::IpAddr();
  } else if (!q.src.IsNone()) {
    net::RouteQuery any = q;
    any.src = net::IpAddr();
    net::NetResult<net::Route> best = c.stack().LookupRoute(any);
    if (best.ok()) out.preferred_src = best->src;
  }
  c.Answer(RTM_NEWROUTE, 0, [&](Builder& b) {
    const size_t at = b.size();
    FillRoute(b, out, v4 ? flags | RTM_F_CLONED : 0u);
    if (!v4 || !q.src.IsNone()) {
      b.bytes()[at + offsetof(rtmsg, rtm_src_len)] = static_cast<uint8_t>(q.dst.size() * 8);
      PutAddress(b, RTA_SRC, q.src.IsNone() ? net::IpAddr::Any(family) : q.src);
    }
    if (v4) {
      if (q.mark != 0) b.U32(RTA_MARK, q.mark);
      if (q.iif != 0) b.U32(RTA_IIF, q.iif);
      b.U32(RTA_UID, c.task.creds().euid);
      rta_cacheinfo ci = {};
      b.Value(RTA_CACHEINFO, ci);
    }
  });
  return {};
}

namespace {

Result<net::IpAddr> GatewayIn(const RouteAttrs& a, net::Family family, ExtAck& ack) {
  if (a.Has(RTA_GATEWAY) && a.Has(RTA_VIA)) {
    return ack.Fail(EINVAL, "Nexthop configuration can not contain both GATEWAY and VIA");
  }
  if (const Attr* x = a.Get(RTA_GATEWAY)) {
    const net::IpAddr g = TRY(AddressOf(*x, family, ack));
    if (g.IsAny()) return net::IpAddr();
    return g;
  }
  if (const Attr* x = a.Get(RTA_VIA)) {
    if (family == net::Family::kV6) {
      return ack.Fail(EINVAL, "IPv6 does not support RTA_VIA attribute");
    }
    if (x->size() < 2) return ack.Fail(EINVAL, "Invalid attribute length for RTA_VIA");
    Attr inner = *x;
    const net::Family f = FamilyOf(static_cast<uint8_t>(ReadAs<uint16_t>(x->data)));
    if (f == net::Family::kNone) return ack.Fail(EINVAL, "Unsupported address family in RTA_VIA");
    inner.data = x->data.subspan(2);
    return AddressOf(inner, f, ack);
  }
  return net::IpAddr();
}

Result<void> ReadNextHops(Context& c, const Attr& a, net::RouteEntry& r) {
  Bytes left = a.data;
  while (left.size() >= sizeof(rtnexthop)) {
    const rtnexthop h = ReadAs<rtnexthop>(left);
    if (h.rtnh_len < sizeof(rtnexthop) || h.rtnh_len > left.size()) {
      return c.ack.Fail(EINVAL, "Invalid nexthop configuration - extra data after nexthop");
    }
    net::NextHop n;
    n.oif = static_cast<net::IfIndex>(h.rtnh_ifindex);
    n.weight = static_cast<uint8_t>(std::min(h.rtnh_hops + 1, 255));
    n.onlink = (h.rtnh_flags & RTNH_F_ONLINK) != 0;
    const RouteAttrs attrs = TRY(ParseAttrs<RTA_MAX>(
        left.subspan(sizeof(rtnexthop), h.rtnh_len - sizeof(rtnexthop)), {}, &c.ack));
    n.gateway = TRY(GatewayIn(attrs, r.dst.addr.family(), c.ack));
    if (r.next_hops.size() >= 256) return Errno(EINVAL);
    r.next_hops.push_back(n);
    left = left.subspan(std::min(Align4(h.rtnh_len), left.size()));
  }
  return {};
}

Result<net::RouteEntry> ReadRoute(Context& c, bool adding) {
  const net::Family family = FamilyOf(c.message.payload[0]);
  const bool v4 = family == net::Family::kV4;
  // IPv4 checks the rules first (nlmsg_validate_deprecated()), which have no words for a short head.
  if (v4 && c.message.payload.size() < sizeof(rtmsg)) return Errno(EINVAL);
  const rtmsg head = TRY(Head<rtmsg>(c));
  const RouteAttrs a = TRY(ParseRoute(c));
  net::RouteEntry r;
  if (head.rtm_dst_len > (v4 ? 32 : 128)) {
    return c.ack.Fail(EINVAL, "Invalid prefix length");
  }
  if (head.rtm_src_len != 0) {
    // Routes by source (IPV6_SUBTREES) are not built in.
    return c.ack.Fail(EINVAL, "Specifying source address requires IPV6_SUBTREES to be enabled");
  }
  r.dst = {net::IpAddr::Any(family), head.rtm_dst_len};
  if (const Attr* x = a.Get(RTA_DST)) {
    const net::IpAddr dst = TRY(AddressOf(*x, family, c.ack));
    r.dst.addr = dst;
    if (r.dst.Network() != dst) {
      if (v4) return c.ack.Fail(EINVAL, "ipv4: Invalid prefix for given prefix length");
      r.dst.addr = r.dst.Network();
    }
  } else if (head.rtm_dst_len != 0) {
    return Errno(EINVAL);
  }
  r.gateway = TRY(GatewayIn(a, family, c.ack));
  r.oif = a.U32(RTA_OIF);
  r.metric = a.U32(RTA_PRIORITY);
  r.table = a.U32(RTA_TABLE, head.rtm_table == 0 ? net::kTableMain : uint32_t{head.rtm_table});
  r.protocol = head.rtm_protocol;
  r.scope = v4 ? head.rtm_scope : 0;
  r.tos = v4 ? head.rtm_tos : 0;
  r.onlink = (head.rtm_flags & RTNH_F_ONLINK) != 0;
  const std::optional<net::RouteType> type = TypeFrom(head.rtm_type);
  if (!type) return c.ack.Fail(EINVAL, "Invalid route type");
  r.type = *type;
  if (const Attr* x = a.Get(RTA_PREFSRC)) {
    r.preferred_src = TRY(AddressOf(*x, family, c.ack));
  }
  if (const Attr* x = a.Get(RTA_METRICS)) {
    ExtAck silent;  // metrics are looked through without a word about what is left over
    const Attrs<RTAX_MAX> m = TRY(ParseAttrs<RTAX_MAX>(x->data, {}, &silent));
    r.mtu = m.U32(RTAX_MTU);
    r.advmss = m.U32(RTAX_ADVMSS);
    r.hop_limit = m.U32(RTAX_HOPLIMIT);
    if (r.hop_limit > 255) return c.ack.Fail(EINVAL, "Invalid hoplimit metric");
  }
  if (const Attr* x = a.Get(RTA_MULTIPATH)) {
    TRY(ReadNextHops(c, *x, r));
  }
  if (!adding) return r;
  if (v4 && LeastScope(head.rtm_type) > r.scope) return c.ack.Fail(EINVAL, "Invalid scope");
  if ((head.rtm_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) != 0) {
    return c.ack.Fail(EINVAL, "Invalid rtm_flags - can not contain DEAD or LINKDOWN");
  }
  if (v4 && r.type == net::RouteType::kUnicast && !r.gateway.IsNone() &&
      r.scope >= RT_SCOPE_LINK) {
    return c.ack.Fail(EINVAL, "ipv4: Nexthop has invalid scope");
  }
  if (r.oif != 0 && !c.stack().FindInterfaceInfo(r.oif)) return Errno(ENODEV);
  return r;
}

}  // namespace

Result<void> NewRoute(Context& c) {
  const net::RouteEntry r = TRY(ReadRoute(c, true));
  Result<void> done = FromNet(c.stack().AddRoute(r, HowOf(c.message.header.flags)));
  if (done.ok()) return done;
  if (done.error().Is(ENETUNREACH)) {
    return c.ack.Fail(ENETUNREACH, r.dst.addr.is_v4() ? "Nexthop has invalid gateway"
                                                      : "Gateway can not be a local address");
  }
  if (done.error().Is(ENETDOWN)) return c.ack.Fail(ENETDOWN, "Device for nexthop is not up");
  if (done.error().Is(ENODEV) && r.oif == 0 && r.gateway.IsNone()) {
    return r.dst.addr.is_v4() ? c.ack.Fail(ENODEV, "Nexthop device is not specified")
                              : Errno(ENODEV);
  }
  return done;
}

Result<void> DelRoute(Context& c) {
  net::RouteEntry r = TRY(ReadRoute(c, false));
  if (!r.next_hops.empty()) {
    r.gateway = r.next_hops[0].gateway;
    r.oif = r.next_hops[0].oif;
  }
  Result<void> done = FromNet(c.stack().RemoveRoute(r));
  // The root of IPv6's tree holds an entry that says "no route" while there is no default route; it
  // is found, and must stay.
  const bool any = r.dst.addr.is_v6() && r.dst.len == 0 && r.oif == 0 && r.metric == 0 &&
                   r.gateway.IsNone() && r.protocol == 0;
  if (any && !done.ok() && done.error().Is(ESRCH)) return Errno(ENOENT);
  return done;
}

// ---- Other tables that tools ask for ----

Result<void> DumpQdiscs(Context& c) {
  Builder b;
  for (const net::InterfaceInfo& i : c.stack().Interfaces()) {
    if (!i.up) continue;
    c.BeginPart(b, RTM_NEWQDISC);
    tcmsg head = {};
    head.tcm_family = AF_UNSPEC;
    head.tcm_ifindex = static_cast<int>(i.index);
    head.tcm_parent = 0xffffffff;  // TC_H_ROOT
    head.tcm_info = 2;
    b.Put(head);
    b.Text(TCA_KIND, "noqueue");
    b.End();
  }
  return c.Dump(b.Take());
}

}  // namespace ringwall::netlink
