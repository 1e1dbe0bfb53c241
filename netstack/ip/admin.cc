// Administration of addresses, routes, rules and neighbours. Compare Linux's net/ipv4/devinet.c,
// fib_frontend.c, net/ipv6/addrconf.c and net/core/neighbour.c.
#include <algorithm>

#include "netstack/ip/subnet.h"
#include "netstack/stack.h"

namespace ringwall::net {
namespace {

constexpr uint8_t kScopeUniverse = 0, kScopeLink = 253, kScopeHost = 254;

// The network that an address puts on the link: its peer's when it has one.
IpPrefix OnLink(const InterfaceAddress& a) {
  const IpPrefix p{a.peer.IsNone() ? a.prefix.addr : a.peer, a.prefix.len};
  return {p.Network(), p.len};
}

}  // namespace

// ---- Addresses ----

NetResult<void> Stack::AddAddress(IfIndex iface, const IpPrefix& prefix, bool no_dad) {
  InterfaceAddress a;
  a.prefix = prefix;
  a.no_dad = no_dad;
  if (std::optional<IpAddr> b = prefix.addr.IsNone() ? std::nullopt : prefix.Broadcast(); b) {
    a.broadcast = *b;
  }
  return PutAddress(iface, a, false);
}

NetResult<void> Stack::PutAddress(IfIndex iface, const InterfaceAddress& given, bool replace) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  const IpAddr& addr = given.prefix.addr;
  if (addr.IsNone() || given.prefix.len > addr.size() * 8) return NetError::kInvalid;
  if (addr.is_v6()) {
    if (addr.IsAny() || addr.IsMulticast()) return NetError::kAddrNotAvail;
    if (addr.IsLoopback() && !i->is_loopback()) return NetError::kAddrNotAvail;  // ipv6_add_addr()
    if (i->ipv6_disabled) return NetError::kAccess;
  } else if (addr.IsAny() || addr.IsMulticast() || addr.IsLimitedBroadcast()) {
    return NetError::kInvalid;
  }
  InterfaceAddress a = given;
  a.created = a.updated = now_;
  if (InterfaceAddress* have = i->FindAddress(addr); have != nullptr) {
    const bool same = addr.is_v6() || (have->prefix.len == a.prefix.len && have->peer == a.peer);
    if (same && !replace) return NetError::kExists;
    if (same) {
      a.created = have->created;
      a.state = have->state == AddressState::kDeprecated ? AddressState::kPreferred : have->state;
      a.secondary = have->secondary;
      if (addr.is_v6()) a.prefix = have->prefix;
      RemovePrefixRoute(*i, *have);
      AddAddressLocked(*i, a, false);
      i->FindAddress(addr)->state = a.state;
      ArmInterface(*i);
      return {};
    }
    if (have->prefix == a.prefix && !replace) return NetError::kExists;
  }
  if (addr.is_v4()) {
    a.secondary = std::any_of(i->addresses.begin(), i->addresses.end(), [&](const auto& x) {
      return x.prefix.addr.is_v4() && !x.secondary && x.prefix.len == a.prefix.len &&
             OnLink(x) == OnLink(a);
    });
  }
  AddAddressLocked(*i, a, addr.is_v6() && !a.no_dad && config_.dad &&
                              (i->user_flags & kIffNoArp) == 0);
  ArmInterface(*i);
  return {};
}

void Stack::AddAddressLocked(Interface& i, const InterfaceAddress& given, bool dad) {
  InterfaceAddress a = given;
  const bool v6 = a.prefix.addr.is_v6();
  const bool ethernet = i.config.kind == LinkKind::kEthernet;
  const bool arp = ethernet && (i.user_flags & kIffNoArp) == 0;
  if (a.autoconf && a.created == TimePoint()) a.created = a.updated = now_;
  if (dad && ethernet && i.up) a.state = AddressState::kTentative;
  InterfaceAddress* have = i.FindAddress(a.prefix.addr);
  const bool fresh = have == nullptr || have->prefix.len != a.prefix.len;
  if (!fresh) {
    *have = a;
  } else {
    i.addresses.push_back(a);
  }
  local_[a.prefix.addr] = i.index;
  if (v6 && ethernet && fresh) {
    const IpAddr group = a.prefix.addr.SolicitedNode();
    if (i.groups[group].users++ == 0 && i.up) SendGroupReport(i, group, false);
  }
  if (i.up) {
    RouteEntry r;
    r.dst = OnLink(a);
    r.oif = i.index;
    r.protocol = 2;  // RTPROT_KERNEL
    r.metric = a.metric != 0 ? a.metric : v6 ? 256 : 0;
    if (!v6) {
      r.preferred_src = a.prefix.addr;
      r.scope = kScopeLink;
    }
    const bool whole = a.prefix.len == a.prefix.addr.size() * 8;
    // Linux has a route for an IPv6 address of full length, too; loopback networks are in the
    // table "local".
    const bool wanted = v6 ? !a.no_prefix_route : (!whole || !a.peer.IsNone()) &&
                                                     !a.no_prefix_route && !i.is_loopback();
    if (wanted && !a.secondary && routes_.Add(r, RouteAdd{.exclusive = v6, .append = true}).ok()) {
      NotifyRoute(r, false);
    }
    if (a.state == AddressState::kTentative) {
      // RFC 4862 5.4.2: one solicitation from the unspecified address, then a second of waiting.
      i.dad.push_back({a.prefix.addr, now_ + Duration::Seconds(1)});
      SendNeighbourSolicit(i, a.prefix.addr, std::nullopt, IpAddr::Any(Family::kV6));
      ArmInterface(i);
    } else if (!v6 && arp) {
      // A gratuitous request tells neighbours of the address: RFC 5227 2.3.
      SendArp(i, {ArpOp::kRequest, i.config.mac, a.prefix.addr, MacAddr{}, a.prefix.addr},
              MacAddr::Broadcast());
    }
  }
  NotifyAddress(i, a, false);
}

NetResult<void> Stack::RemoveAddress(IfIndex iface, const IpPrefix& prefix) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  const auto a = std::find_if(i->addresses.begin(), i->addresses.end(),
                              [&](const InterfaceAddress& x) { return x.prefix == prefix; });
  if (a == i->addresses.end()) return NetError::kAddrNotAvail;
  std::vector<IpPrefix> gone;
  // With the first address of an IPv4 subnet the others go (promote_secondaries is off).
  if (prefix.addr.is_v4() && !a->secondary) {
    for (const InterfaceAddress& x : i->addresses) {
      if (x.secondary && x.prefix.len == prefix.len && OnLink(x) == OnLink(*a)) {
        gone.push_back(x.prefix);
      }
    }
  }
  gone.push_back(prefix);
  for (const IpPrefix& x : gone) RemoveAddressLocked(*i, x);
  return {};
}

void Stack::RemovePrefixRoute(Interface& i, const InterfaceAddress& a) {
  const bool shared = std::any_of(i.addresses.begin(), i.addresses.end(), [&](const auto& x) {
    return !(x.prefix == a.prefix) && x.prefix.len == a.prefix.len && OnLink(x) == OnLink(a);
  });
  if (shared) return;
  RouteEntry r, removed;
  r.dst = OnLink(a);
  r.oif = i.index;
  if (routes_.Remove(r, &removed).ok()) NotifyRoute(removed, true);
}

void Stack::RemoveAddressLocked(Interface& i, const IpPrefix& prefix) {
  const IpAddr addr = prefix.addr;
  const auto found = std::find_if(i.addresses.begin(), i.addresses.end(),
                                  [&](const InterfaceAddress& x) { return x.prefix == prefix; });
  if (found == i.addresses.end()) return;
  const InterfaceAddress a = *found;
  RemovePrefixRoute(i, a);
  i.addresses.erase(found);
  filter_->conntrack().ForgetMasqueraded(i.index);
  std::erase_if(i.dad, [&](const Interface::Dad& d) { return d.addr == addr; });
  local_.erase(addr);
  // Another interface may have the same one.
  for (auto& [index, other] : interfaces_) {
    if (other->FindAddress(addr) != nullptr) local_[addr] = index;
  }
  if (addr.is_v6() && i.config.kind == LinkKind::kEthernet) {
    LeaveGroup(i.index, addr.SolicitedNode());
  }
  NotifyAddress(i, a, true);
}

// ---- Routes ----

NetResult<void> Stack::CheckNextHop(RouteEntry& r, IpAddr& gateway, IfIndex& oif, bool onlink) {
  // ip6_validate_gw(): a neighbour by its link-local address needs no way there.
  // fib_check_nh_v4_gw(): an IPv4 address of the interface itself may be named; there is no other hop then.
  Interface* own = gateway.is_v4() && !onlink ? OwnerOf(gateway) : nullptr;
  if (own != nullptr && (oif == 0 || oif == own->index)) {
    oif = own->index;
    return own->up ? NetResult<void>() : NetError::kNetDown;
  }
  const bool neighbour = gateway.is_v6() && gateway.IsLinkLocal() && oif != 0;
  if (!gateway.IsNone() && !neighbour && (oif == 0 || !onlink)) {
    NetResult<Route> via = FindRoute({.dst = gateway, .oif = oif});
    if (!via.ok() && via.error() == NetError::kNoDevice) return via.error();
    if (!via.ok()) return gateway.is_v6() ? NetError::kHostUnreach : NetError::kNetUnreach;
    if (via->kind == Route::Kind::kLocal) {
      return r.dst.addr.is_v6() ? NetError::kInvalid : NetError::kNetUnreach;
    }
    if (gateway.is_v4() && via->kind != Route::Kind::kUnicast) return NetError::kInvalid;
    // The way to the gateway must not lead through another gateway.
    if (gateway.is_v4() && via->next_hop != gateway) return NetError::kNetUnreach;
    if (oif == 0) oif = via->oif;
  }
  Interface* i = FindInterface(oif);
  if (i == nullptr) return NetError::kNoDevice;
  if (!i->up) return NetError::kNetDown;
  if (!gateway.IsNone() && IsLocal(gateway)) return NetError::kInvalid;
  return {};
}

NetResult<void> Stack::AddRoute(const RouteEntry& route, bool replace) {
  return AddRoute(route, RouteAdd{.exclusive = !replace, .replace = replace});
}

NetResult<void> Stack::AddRoute(const RouteEntry& route, const RouteAdd& how) {
  StackEntry entry(*this);
  RouteEntry r = route;
  if (r.dst.addr.IsNone() || r.dst.len > r.dst.addr.size() * 8) return NetError::kInvalid;
  if (r.dst.addr != r.dst.Network()) return NetError::kInvalid;
  switch (r.type) {
    case RouteType::kUnicast:
      if (r.next_hops.empty()) {
        TRY(CheckNextHop(r, r.gateway, r.oif, r.onlink));
      } else {
        for (NextHop& n : r.next_hops) {
          TRY(CheckNextHop(r, n.gateway, n.oif, n.onlink));
        }
        r.gateway = r.next_hops[0].gateway;
        r.oif = r.next_hops[0].oif;
        if (r.next_hops.size() == 1) r.next_hops.clear();
      }
      break;
    case RouteType::kLocal:
    case RouteType::kBroadcast:
    case RouteType::kAnycast:
    case RouteType::kMulticast:
      if (FindInterface(r.oif) == nullptr) return NetError::kNoDevice;
      break;
    default:
      if (r.dst.addr.is_v6() && r.oif == 0) r.oif = loopback_;
      break;
  }
  if (!r.preferred_src.IsNone() && !IsLocal(r.preferred_src)) return NetError::kInvalid;
  if (r.dst.addr.is_v6() && r.metric == 0) r.metric = 1024;
  TRY(routes_.Add(r, how));
  NotifyRoute(r, false);
  return {};
}

NetResult<void> Stack::RemoveRoute(const RouteEntry& route) {
  StackEntry entry(*this);
  RouteEntry removed;
  TRY(routes_.Remove(route, &removed));
  NotifyRoute(removed, true);
  return {};
}

std::vector<RouteEntry> Stack::Routes() {
  StackEntry entry(*this);
  return routes_.routes();
}

std::vector<RouteEntry> Stack::LocalRoutes() {
  StackEntry entry(*this);
  std::vector<RouteEntry> out;
  RouteEntry base;
  base.table = kTableLocal;
  base.protocol = 2;  // RTPROT_KERNEL
  for (auto& [index, i] : interfaces_) {
    if (!i->up) continue;
    for (const InterfaceAddress& a : i->addresses) {
      RouteEntry r = base;
      r.oif = index;
      r.type = RouteType::kLocal;
      const uint8_t bits = static_cast<uint8_t>(a.prefix.addr.size() * 8);
      r.dst = {a.prefix.addr, bits};
      if (a.prefix.addr.is_v6()) {
        if (a.state == AddressState::kTentative) continue;
        out.push_back(r);
        continue;
      }
      r.preferred_src = SourceOfLocal(i->addresses, a);
      r.scope = kScopeHost;
      if (i->is_loopback() && a.prefix.addr.IsLoopback() && a.prefix.len < 32) {
        RouteEntry net = r;
        net.dst = OnLink(a);
        out.push_back(net);
      }
      out.push_back(r);
      r.type = RouteType::kBroadcast;
      r.scope = kScopeLink;
      const std::optional<IpAddr> b = SubnetBroadcast(a);
      if (!a.broadcast.IsNone() && !a.broadcast.IsLimitedBroadcast() && a.broadcast != b) {
        r.dst = {a.broadcast, 32};
        out.push_back(r);
      }
      if (b) {
        r.dst = {*b, 32};
        out.push_back(r);
      }
    }
    if (i->is_loopback() || i->ipv6_disabled || !i->config.carrier) continue;
    RouteEntry r = base;
    r.oif = index;
    r.type = RouteType::kMulticast;
    r.metric = 256;
    r.dst = {*IpAddr::Parse("ff00::"), 8};
    out.push_back(r);
  }
  (void)kScopeUniverse;
  return out;
}

NetResult<Route> Stack::LookupRoute(const RouteQuery& query) {
  StackEntry entry(*this);
  return FindRoute(query);
}

NetResult<Route> Stack::LookupRoute(const RouteQuery& query, std::optional<RouteEntry>* found) {
  StackEntry entry(*this);
  const RouteEntry* at = nullptr;
  NetResult<Route> r = FindRoute(query, &at);
  if (at != nullptr) *found = *at;
  return r;
}

// ---- Rules ----

void Stack::AddRule(const RuleEntry& rule) {
  StackEntry entry(*this);
  RuleEntry r = rule;
  for (auto& [index, i] : interfaces_) {
    if (!r.iif_name.empty() && i->config.name == r.iif_name) r.iif = index;
    if (!r.oif_name.empty() && i->config.name == r.oif_name) r.oif = index;
  }
  routes_.AddRule(r);
  Notify({.kind = StackHost::Change::Kind::kRule, .rule = &r});
}

NetResult<void> Stack::RemoveRule(const RuleEntry& rule) {
  StackEntry entry(*this);
  TRY(routes_.RemoveRule(rule));
  Notify({.kind = StackHost::Change::Kind::kRule, .removed = true, .rule = &rule});
  return {};
}

std::vector<RuleEntry> Stack::Rules() {
  StackEntry entry(*this);
  return routes_.rules();
}

// ---- Neighbours ----

NetResult<void> Stack::SetNeighbour(IfIndex iface, const IpAddr& addr, const MacAddr& mac) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  i->neighbours.SetPermanent(addr, mac);
  return {};
}

NetResult<void> Stack::SetNeighbour(IfIndex iface, const NeighbourInfo& info, const RouteAdd& how) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  const std::optional<NeighbourInfo> have = i->neighbours.Find(info.addr);
  if (!have && !how.create) return NetError::kNotFound;
  if (have && how.exclusive) return NetError::kExists;
  NeighbourInfo wanted = info;
  if (wanted.mac.IsZero() && have) wanted.mac = have->mac;
  // Without NLM_F_REPLACE an address that is known stays.
  if (have && !how.replace && have->mac != wanted.mac && !have->mac.IsZero()) {
    wanted.mac = have->mac;
  }
  if (!i->neighbours.Set(wanted, now_)) return NetError::kNoBuffers;
  return {};
}

NetResult<void> Stack::RemoveNeighbour(IfIndex iface, const IpAddr& addr) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  if (!i->neighbours.Remove(addr)) return NetError::kNotFound;
  return {};
}

std::vector<NeighbourInfo> Stack::Neighbours(IfIndex iface) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return {};
  return i->neighbours.List();
}

TimePoint Stack::Now() {
  StackEntry entry(*this);
  return now_;
}

}  // namespace ringwall::net
