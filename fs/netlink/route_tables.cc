// What is told of interfaces beside their links: RTM_GETNETCONF (net/ipv4/devinet.c,
// net/ipv6/addrconf.c) and RTM_GETSTATS (net/core/rtnetlink.c).
#include <linux/netconf.h>

#include "fs/netlink/route.h"

namespace ringwall::netlink {
namespace {

constexpr size_t kMostNetconf = NETCONFA_BC_FORWARDING;
constexpr AttrRule kNumber = {AttrKind::kAny, sizeof(int32_t)};
constexpr Policy<kMostNetconf> kNetconf4Rules = {{NETCONFA_IFINDEX, kNumber},
                                                 {NETCONFA_FORWARDING, kNumber},
                                                 {NETCONFA_RP_FILTER, kNumber},
                                                 {NETCONFA_PROXY_NEIGH, kNumber},
                                                 {NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN, kNumber}};
constexpr Policy<kMostNetconf> kNetconf6Rules = {{NETCONFA_IFINDEX, kNumber},
                                                 {NETCONFA_FORWARDING, kNumber},
                                                 {NETCONFA_PROXY_NEIGH, kNumber},
                                                 {NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN, kNumber}};

// inet_netconf_fill_devconf(), inet6_netconf_fill_devconf(): all that a family tells.
void FillNetconf(Context& c, Builder& b, uint8_t family, int32_t index) {
  const net::StackConfig config = c.stack().Config();
  b.Put(rtgenmsg{family});
  b.Value(NETCONFA_IFINDEX, index);
  b.U32(NETCONFA_FORWARDING, family == AF_INET ? config.forwarding4 : config.forwarding6);
  if (family == AF_INET) b.U32(NETCONFA_RP_FILTER, 0);
  b.U32(NETCONFA_MC_FORWARDING, 0);
  if (family == AF_INET) b.U32(NETCONFA_BC_FORWARDING, 0);
  b.U32(NETCONFA_PROXY_NEIGH, 0);
  b.U32(NETCONFA_IGNORE_ROUTES_WITH_LINKDOWN, 0);
}

}  // namespace

Result<void> GetNetconf(Context& c) {
  const bool v6 = c.message.payload[0] == AF_INET6;
  const Attrs<kMostNetconf> a = TRY(ParseAsked<kMostNetconf>(
      c, sizeof(rtgenmsg),
      v6 ? std::span<const AttrRule>(kNetconf6Rules) : std::span<const AttrRule>(kNetconf4Rules),
      {NETCONFA_IFINDEX},
      v6 ? "ipv6: Unsupported attribute in netconf get request"
         : "ipv4: Unsupported attribute in netconf get request"));
  const Attr* at = a.Get(NETCONFA_IFINDEX);
  if (at == nullptr) return Errno(EINVAL);
  const int32_t index = static_cast<int32_t>(at->U32());
  const bool whole = index == NETCONFA_IFINDEX_ALL || index == NETCONFA_IFINDEX_DEFAULT;
  if (!whole && !c.stack().FindInterfaceInfo(static_cast<net::IfIndex>(index))) {
    return Errno(v6 ? EINVAL : ENODEV);
  }
  c.Answer(RTM_NEWNETCONF, 0, [&](Builder& b) { FillNetconf(c, b, v6 ? AF_INET6 : AF_INET, index); });
  return {};
}

Result<void> DumpNetconf(Context& c) {
  Builder b;
  const uint8_t af = DumpedFamily(c);
  TRY(CheckHead(c, {sizeof(rtgenmsg), 0, "", "",
                    af == AF_INET6 ? "ipv6: Invalid data after header in netconf dump request"
                                   : "ipv4: Invalid data after header in netconf dump request"}));
  for (uint8_t f : {static_cast<uint8_t>(AF_INET), static_cast<uint8_t>(AF_INET6)}) {
    if (af != AF_UNSPEC && af != f) continue;
    std::vector<int32_t> told;
    for (const net::InterfaceInfo& i : c.stack().Interfaces()) {
      told.push_back(static_cast<int32_t>(i.index));
    }
    told.push_back(NETCONFA_IFINDEX_ALL);
    told.push_back(NETCONFA_IFINDEX_DEFAULT);
    for (int32_t index : told) {
      c.BeginPart(b, RTM_NEWNETCONF);
      FillNetconf(c, b, f, index);
      b.End();
    }
  }
  return c.Dump(b.Take());
}

// ---- Statistics ----

namespace {

struct StatsAsked {  // struct if_stats_msg
  uint8_t family, pad1;
  uint16_t pad2;
  uint32_t index, mask;
};
static_assert(sizeof(StatsAsked) == 12);

// rtnl_valid_stats_req(). Of a dump's request the index must be zero too.
Result<StatsAsked> AskedStats(Context& c) {
  const StatsAsked asked = TRY(Head<StatsAsked>(c, "Invalid header for stats dump"));
  TRY(CheckHead(c, {sizeof(StatsAsked), c.dumping ? ByteRange(1, 7) : ByteRange(1, 3), "",
                    "Invalid values in header for stats dump request"}));
  if (c.socket.strict() && asked.mask >= 1u << IFLA_STATS_MAX) {
    return c.ack.Fail(EINVAL, "Invalid stats requested through filter mask");
  }
  return asked;
}

void FillStats(Builder& b, const net::InterfaceInfo& i, uint32_t mask) {
  b.Put(StatsAsked{0, 0, 0, i.index, mask});
  if ((mask & IFLA_STATS_FILTER_BIT(IFLA_STATS_LINK_64)) == 0) return;
  const rtnl_link_stats64 s = Stats64(i.counters);
  b.Value(IFLA_STATS_LINK_64, s);
}

}  // namespace

Result<void> GetStats(Context& c) {
  const StatsAsked asked = TRY(AskedStats(c));
  if (static_cast<int32_t>(asked.index) <= 0) return Errno(EINVAL);
  const std::optional<net::InterfaceInfo> i = c.stack().FindInterfaceInfo(asked.index);
  if (!i) return Errno(ENODEV);
  if (asked.mask == 0) return c.ack.Fail(EINVAL, "Filter mask must be set for stats get");
  c.Answer(RTM_NEWSTATS, 0, [&](Builder& b) { FillStats(b, *i, asked.mask); });
  return {};
}

Result<void> DumpStats(Context& c) {
  const StatsAsked asked = TRY(AskedStats(c));
  if (asked.mask == 0) return c.ack.Fail(EINVAL, "Filter mask must be set for stats dump");
  Builder b;
  for (const net::InterfaceInfo& i : c.stack().Interfaces()) {
    c.BeginPart(b, RTM_NEWSTATS);
    FillStats(b, i, asked.mask);
    b.End();
  }
  return c.Dump(b.Take());
}

}  // namespace ringwall::netlink
