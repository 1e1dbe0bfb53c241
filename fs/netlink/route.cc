// Dispatch of rtnetlink messages (rtnetlink_rcv_msg()) and what the handlers share.
#include "fs/netlink/ctnetlink.h"
#include "fs/netlink/route.h"

#include <linux/fib_rules.h>
#include <linux/if_arp.h>
#include <linux/neighbour.h>
#include <linux/net_namespace.h>
#include <sys/random.h>

#include "sentry/kernel/nsproxy.h"
#include "sentry/kernel/pid_namespace.h"

namespace ringwall::netlink {
namespace {

struct Row {
  uint16_t type;
  Result<void> (*doit)(Context&);
  Result<void> (*dump)(Context&);
  bool with_family = false;  // only for AF_INET and AF_INET6
};

constexpr Row kRows[] = {
    {RTM_NEWLINK, NewLink, nullptr},
    {RTM_DELLINK, DelLink, nullptr},
    {RTM_GETLINK, GetLink, DumpLinks},
    {RTM_SETLINK, SetLink, nullptr},
    {RTM_NEWADDR, NewAddr, nullptr, true},
    {RTM_DELADDR, DelAddr, nullptr, true},
    {RTM_GETADDR, GetAddr, DumpAddrs},
    {RTM_NEWROUTE, NewRoute, nullptr, true},
    {RTM_DELROUTE, DelRoute, nullptr, true},
    {RTM_GETROUTE, GetRoute, DumpRoutes},
    {RTM_NEWNEIGH, NewNeigh, nullptr},
    {RTM_DELNEIGH, DelNeigh, nullptr},
    {RTM_GETNEIGH, GetNeigh, DumpNeighs},
    {RTM_NEWRULE, NewRule, nullptr},
    {RTM_DELRULE, DelRule, nullptr},
    {RTM_GETRULE, nullptr, DumpRules},
    {RTM_GETQDISC, nullptr, DumpQdiscs},
    {RTM_GETNEIGHTBL, nullptr, DumpNeighTables},
    {RTM_GETNETCONF, GetNetconf, DumpNetconf, true},
    {RTM_NEWNSID, NewNsid, nullptr},
    {RTM_GETNSID, GetNsid, DumpNsids},
    {RTM_GETSTATS, GetStats, DumpStats},
};

}  // namespace

// rtnetlink_bind(): multicast routing's groups are for the namespace's owner.
Result<void> RouteProtocol::CheckGroup(Task& t, uint32_t group) {
  constexpr uint32_t kMroute4 = 30, kMroute6 = 31;  // RTNLGRP_IPV4_MROUTE_R, RTNLGRP_IPV6_MROUTE_R
  if (group != kMroute4 && group != kMroute6) return {};
  if (!t.creds().HasIn(NetNamespace::Of(t).user_ns(), Capability::kNetAdmin)) return Errno(EPERM);
  return {};
}

Result<void> RouteProtocol::Handle(Context& c) {
  const uint16_t type = c.message.header.type;
  if (type > RTM_MAX) return Errno(EOPNOTSUPP);
  if (c.message.payload.size() < sizeof(rtgenmsg)) return {};
  const uint8_t family = c.message.payload[0];
  const bool get = (type & 3) == 2;  // of the four kinds NEW, DEL, GET, SET
  if (!get && !c.Has(Capability::kNetAdmin)) return Errno(EPERM);
  const Row* row = nullptr;
  for (const Row& r : kRows) {
    if (r.type == type) row = &r;
  }
  if (row == nullptr) return Errno(EOPNOTSUPP);
  if (get && (c.message.header.flags & NLM_F_DUMP) != 0) {
    if (row->dump == nullptr) return Errno(EOPNOTSUPP);
    c.dumping = true;
    Result<void> r =
        family == AF_BRIDGE && type == RTM_GETLINK ? DumpBridgeLinks(c) : row->dump(c);
    return c.EndDump(std::move(r));
  }
  if ((type & 3) == 1 && (c.message.header.flags & NLM_F_BULK) != 0) {
    return c.ack.Fail(EOPNOTSUPP, "Bulk delete is not supported");
  }
  if (row->doit == nullptr) return Errno(EOPNOTSUPP);
  if (row->with_family && family != AF_INET && family != AF_INET6) return Errno(EOPNOTSUPP);
  return row->doit(c);
}

// ---- Helpers ----

net::Family FamilyOf(uint8_t af) {
  if (af == AF_INET) return net::Family::kV4;
  if (af == AF_INET6) return net::Family::kV6;
  return net::Family::kNone;
}

Result<net::IpAddr> AddressOf(const Attr& a, net::Family family, ExtAck& ack) {
  if (family == net::Family::kV4 && a.size() >= 4) return net::IpAddr::V4(a.data.data());
  if (family == net::Family::kV6 && a.size() >= 16) return net::IpAddr::V6(a.data.data());
  return ack.FailAt(EINVAL, "Invalid address length", &a);
}

Result<void> CheckHead(Context& c, const StrictHead& head) {
  if (!c.socket.strict()) return {};
  const Bytes payload = c.message.payload;
  if (payload.size() < head.size) return c.ack.Fail(EINVAL, head.too_short);
  for (size_t i = 0; i < head.size; i++) {
    if ((head.zero & (1u << i)) != 0 && payload[i] != 0) return c.ack.Fail(EINVAL, head.values);
  }
  if (head.trailing != nullptr && payload.size() != Align4(head.size)) {
    return c.ack.Fail(EINVAL, head.trailing);
  }
  return {};
}

void PutAddress(Builder& b, uint16_t type, const net::IpAddr& a) {
  b.Attribute(type, {a.data(), a.size()});
}

Result<void> FromNet(const net::NetResult<void>& r) {
  if (r.ok()) return {};
  return net::ToErrno(r.error());
}

net::RouteAdd HowOf(uint16_t flags) {
  return {.create = (flags & NLM_F_CREATE) != 0,
          .exclusive = (flags & NLM_F_EXCL) != 0,
          .replace = (flags & NLM_F_REPLACE) != 0,
          .append = (flags & NLM_F_APPEND) != 0};
}

Result<Ref<NetNamespace>> NamespaceOfPid(Task& t, int pid) {
  TaskSet& set = t.kernel().tasks();
  MutexLock lock(set.mu);
  Task* task = t.pid_ns().FindTask(pid);
  if (task == nullptr) return Errno(ESRCH);
  return Ref<NetNamespace>(NetNamespace::Of(*task));
}

Result<Ref<NetNamespace>> NamespaceOfFd(Task& t, int fd) {
  Result<Ref<File>> file = t.GetFile(fd);
  if (!file.ok()) return Errno(EBADF);
  RefPtr<Namespace> ns = NamespaceOf(**file);
  if (!ns || ns->kind() != NamespaceKind::kNet) return Errno(EINVAL);
  return Ref<NetNamespace>(static_cast<NetNamespace&>(*ns));
}

std::string FreeName(net::Stack& stack, std::string_view pattern) {
  const size_t at = pattern.find("%d");
  if (at == std::string_view::npos) return std::string(pattern);
  const std::vector<net::InterfaceInfo> all = stack.Interfaces();
  for (int n = 0;; n++) {
    std::string name = std::string(pattern.substr(0, at)) + std::to_string(n) +
                       std::string(pattern.substr(at + 2));
    bool taken = false;
    for (const net::InterfaceInfo& i : all) taken = taken || i.name == name;
    if (!taken) return name;
  }
}

net::MacAddr RandomMac() {
  net::MacAddr m;
  // Cannot fail for so few bytes once the host is up.
  (void)!getrandom(m.b.data(), m.b.size(), 0);
  m.b[0] = static_cast<uint8_t>((m.b[0] & 0xfe) | 0x02);  // unicast, local
  return m;
}

// ---- Notifications ----

void RouteProtocol::OnNetChange(NetNamespace& net, const net::StackHost::Change& c) {
  using Kind = net::StackHost::Change::Kind;
  uint32_t group = 0;
  uint16_t type = 0;
  Builder b;
  switch (c.kind) {
    case Kind::kLink:
      group = RTNLGRP_LINK;
      type = c.removed ? RTM_DELLINK : RTM_NEWLINK;
      break;
    case Kind::kAddress:
      if (c.address == nullptr) return;
      group = c.address->prefix.addr.is_v4() ? RTNLGRP_IPV4_IFADDR : RTNLGRP_IPV6_IFADDR;
      type = c.removed ? RTM_DELADDR : RTM_NEWADDR;
      break;
    case Kind::kRoute:
      if (c.route == nullptr) return;
      group = c.route->dst.addr.is_v4() ? RTNLGRP_IPV4_ROUTE : RTNLGRP_IPV6_ROUTE;
      type = c.removed ? RTM_DELROUTE : RTM_NEWROUTE;
      break;
    case Kind::kNeighbour:
      group = RTNLGRP_NEIGH;
      type = c.removed ? RTM_DELNEIGH : RTM_NEWNEIGH;
      break;
    case Kind::kConnection:
      return NotifyConnection(net, c);
    case Kind::kRule:
      if (c.rule == nullptr) return;
      group = c.rule->family == net::Family::kV4 ? RTNLGRP_IPV4_RULE : RTNLGRP_IPV6_RULE;
      type = c.removed ? RTM_DELRULE : RTM_NEWRULE;
      break;
  }
  if (!HasListeners(&net, NETLINK_ROUTE, group)) return;
  b.Begin(type, 0, 0, 0);
  switch (c.kind) {
    case Kind::kLink:
      if (c.link == nullptr) return;
      FillLink(b, *c.link, c.removed ? ~0u : 0, 0);
      break;
    case Kind::kAddress:
      FillAddr(b, c.iface, {}, *c.address, net::TimePoint());
      break;
    case Kind::kRoute: FillRoute(b, *c.route, 0); break;
    case Kind::kNeighbour:
      if (c.neighbour == nullptr) return;
      FillNeigh(b, c.iface, *c.neighbour);
      break;
    case Kind::kRule: FillRule(b, *c.rule); break;
    case Kind::kConnection: return;
  }
  b.End();
  Multicast(&net, NETLINK_ROUTE, group, b.Take());
}

}  // namespace ringwall::netlink
