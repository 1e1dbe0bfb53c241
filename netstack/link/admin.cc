// Administration of links: making, changing and removing them, up and down. Compare Linux's
// net/core/dev.c and rtnetlink.c.
#include <algorithm>

#include "netstack/stack.h"

namespace ringwall::net {
namespace {

bool ValidName(std::string_view name) {
  if (name.empty() || name.size() > 15 || name == "." || name == "..") return false;
  return std::none_of(name.begin(), name.end(),
                      [](char c) { return c == '/' || c == ':' || (c >= 9 && c <= 13) || c == ' '; });
}

}  // namespace

NetResult<IfIndex> Stack::AddInterface(const InterfaceConfig& config, RefPtr<LinkSink> sink) {
  StackEntry entry(*this);
  if (!ValidName(config.name)) return NetError::kInvalid;
  for (auto& [i, have] : interfaces_) {
    if (have->config.name == config.name) return NetError::kExists;
  }
  const bool internal = config.kind == LinkKind::kLoopback || config.type == "bridge" ||
                        config.lower != 0;
  if (!internal && !sink) return NetError::kInvalid;
  Interface* lower = FindInterface(config.lower);
  if (config.lower != 0) {
    if (lower == nullptr) return NetError::kNoDevice;
    if (FindVlan(config.lower, config.vlan_id) != nullptr) return NetError::kExists;
  }
  IfIndex index = config.wanted_index;
  if (index == 0) {
    while (interfaces_.contains(next_iface_)) next_iface_++;
    index = next_iface_++;
  } else if (interfaces_.contains(index)) {
    return NetError::kBusy;
  }
  Interface& made = *interfaces_.emplace(index, std::make_unique<Interface>(
      *this, index, config, std::move(sink))).first->second;
  made.ipv6_disabled = config_.disable_ipv6_default;
  made.config.wanted_index = 0;
  if (config.kind == LinkKind::kLoopback && loopback_ == 0) loopback_ = index;
  if (lower != nullptr) made.config.carrier = lower->running();
  if (made.bridge) made.config.carrier = false;
  routes_.BindRules(config.name, index);
  NotifyLink(made);
  return index;
}

NetResult<void> Stack::RemoveInterface(IfIndex iface) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  RemoveInterfaceLocked(*i);
  return {};
}

void Stack::RemoveInterfaceLocked(Interface& i) {
  const IfIndex iface = i.index;
  std::vector<IfIndex> vlans;
  for (auto& [index, other] : interfaces_) {
    if (other->config.lower == iface) vlans.push_back(index);
  }
  for (IfIndex v : vlans) RemoveInterfaceLocked(*FindInterface(v));
  SetUpLocked(i, false);
  std::vector<Interface*> ports;
  for (auto& [index, other] : interfaces_) {
    if (i.bridge && other->master == iface) ports.push_back(other.get());
  }
  for (Interface* p : ports) SetMaster(*p, 0);
  SetMaster(i, 0);
  std::vector<IpPrefix> addresses;
  for (const InterfaceAddress& a : i.addresses) addresses.push_back(a.prefix);
  for (const IpPrefix& a : addresses) RemoveAddressLocked(i, a);
  RemoveRoutesThrough(iface);
  absl::erase_if(local_, [&](const auto& kv) { return kv.second == iface; });
  if (loopback_ == iface) loopback_ = 0;
  const InterfaceInfo info = i.Info();
  RefPtr<LinkSink> sink = i.sink;
  interfaces_.erase(iface);
  routes_.BindRules("", iface);
  if (sink) {
    sink->OnRemoved();
    flush_.push_back(sink);
  }
  Notify({.kind = StackHost::Change::Kind::kLink, .removed = true, .iface = iface, .link = &info});
}

NetResult<DetachedInterface> Stack::DetachInterface(IfIndex iface) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  // What is made of other interfaces of this stack, or belongs to it, stays.
  if (i->is_loopback() || i->bridge || i->config.lower != 0) return NetError::kInvalid;
  DetachedInterface out;
  out.config = i->config;
  out.sink = std::move(i->sink);
  out.user_flags = i->user_flags;
  out.alias = i->alias;
  i->sink = nullptr;
  RemoveInterfaceLocked(*i);
  return out;
}

void Stack::RemoveRoutesThrough(IfIndex iface) {
  for (const RouteEntry& r : routes_.RemoveInterface(iface)) NotifyRoute(r, true);
  route_generation_++;
}

NetResult<void> Stack::SetUp(IfIndex iface, bool up) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  if (up && i->config.lower != 0) {
    Interface* lower = FindInterface(i->config.lower);
    if (lower == nullptr || !lower->up) return NetError::kNetDown;
  }
  SetUpLocked(*i, up);
  return {};
}

void Stack::SetUpLocked(Interface& i, bool up) {
  if (i.up == up) return;
  i.up = up;
  if (i.sink) {
    i.sink->OnUp(up);
    WantFlush(i);
  }
  if (up) {
    InterfaceUp(i);
  } else {
    // Linux forgets what was learnt, IPv6 addresses and all routes through the link.
    filter_->conntrack().ForgetMasqueraded(i.index);
    i.neighbours.Flush(false);
    i.dad.clear();
    i.timer.Cancel();
    i.router_solicits_left = 0;
    i.next_router_solicit = TimePoint::Never();
    RemoveRoutesThrough(i.index);
    std::vector<IpPrefix> gone;
    for (const InterfaceAddress& a : i.addresses) {
      if (a.prefix.addr.is_v6()) gone.push_back(a.prefix);
    }
    for (const IpPrefix& a : gone) RemoveAddressLocked(i, a);
    LeaveGroup(i.index, IpAddr::V4(224, 0, 0, 1));
    LeaveGroup(i.index, *IpAddr::Parse("ff02::1"));
  }
  NotifyLink(i);
  DependentsChanged(i);
}

void Stack::InterfaceUp(Interface& i) {
  if (i.is_loopback() &&
      std::none_of(i.addresses.begin(), i.addresses.end(),
                   [](const InterfaceAddress& a) { return a.prefix.addr.is_v4(); })) {
    InterfaceAddress a;
    a.prefix = {IpAddr::Loopback(Family::kV4), 8};
    a.scope = 254;  // RT_SCOPE_HOST
    AddAddressLocked(i, a, false);
  }
  i.groups[IpAddr::V4(224, 0, 0, 1)].users++;
  i.groups[*IpAddr::Parse("ff02::1")].users++;
  for (const InterfaceAddress& a : std::vector<InterfaceAddress>(i.addresses)) {
    AddAddressLocked(i, a, false);  // the on-link routes come back
  }
  if (i.config.carrier) InterfaceUpV6(i);
}

// What IPv6 does of itself once the link is ready (addrconf_notify).
void Stack::InterfaceUpV6(Interface& i) {
  if (i.ipv6_disabled || i.master != 0) return;
  if (i.is_loopback()) {
    if (i.FindAddress(IpAddr::Loopback(Family::kV6)) == nullptr) {
      InterfaceAddress a;
      a.prefix = {IpAddr::Loopback(Family::kV6), 128};
      a.protocol = 1;  // IFAPROT_KERNEL_LO
      AddAddressLocked(i, a, false);
    }
    return;
  }
  InterfaceAddress a;
  a.protocol = 3;  // IFAPROT_KERNEL_LL
  if (i.config.kind == LinkKind::kEthernet && !i.config.mac.IsZero()) {
    a.prefix = {i.LinkLocalFromMac(), 64};
  } else if (i.config.kind == LinkKind::kIp && !i.config.type.empty()) {
    std::array<uint8_t, 16> b = {0xfe, 0x80};
    const uint64_t random = Random64();
    std::memcpy(b.data() + 8, &random, 8);
    a.prefix = {IpAddr::V6(b), 64};
  } else {
    return;
  }
  const bool arp = i.config.kind == LinkKind::kEthernet && (i.user_flags & kIffNoArp) == 0;
  if (i.FindAddress(a.prefix.addr) == nullptr) AddAddressLocked(i, a, config_.dad && arp);
  if (config_.accept_ra && !config_.forwarding6 && arp) {
    i.router_solicits_left = 3;  // RFC 4861 10: MAX_RTR_SOLICITATIONS
    i.next_router_solicit = now_ + Duration::Millis(static_cast<int64_t>(Random64() % 1000));
    ArmInterface(i);
  }
}

NetResult<void> Stack::SetCarrier(IfIndex iface, bool carrier) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  SetCarrierLocked(*i, carrier);
  return {};
}

void Stack::SetCarrierLocked(Interface& i, bool carrier) {
  if (i.config.carrier == carrier) return;
  i.config.carrier = carrier;
  i.carrier_changes++;
  if (!i.up) return;
  if (carrier) InterfaceUpV6(i);
  NotifyLink(i);
  DependentsChanged(i);
}

void Stack::SetIpv6Disabled(IfIndex iface, bool disabled) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr || i->ipv6_disabled == disabled) return;
  i->ipv6_disabled = disabled;
  if (!disabled) {
    if (i->running()) InterfaceUpV6(*i);
    return;
  }
  std::vector<IpPrefix> gone;
  for (const InterfaceAddress& a : i->addresses) {
    if (a.prefix.addr.is_v6()) gone.push_back(a.prefix);
  }
  for (const IpPrefix& a : gone) RemoveAddressLocked(*i, a);
}

// ---- Changes ----

NetResult<void> Stack::SetMtu(IfIndex iface, uint32_t mtu) {
  return ChangeLink(iface, {.mtu = mtu});
}

NetResult<void> Stack::Rename(IfIndex iface, std::string_view name) {
  if (name.empty()) return NetError::kInvalid;
  return ChangeLink(iface, {.name = std::string(name)});
}

NetResult<void> Stack::CheckLinkChange(Interface& i, const LinkChange& c) {
  if (!c.name.empty() && c.name != i.config.name) {
    if (!ValidName(c.name)) return NetError::kInvalid;
    for (auto& [index, have] : interfaces_) {
      if (have->config.name == c.name && index != i.index) return NetError::kExists;
    }
  }
  if (c.mtu) {
    if (*c.mtu < i.config.min_mtu) return NetError::kInvalid;
    if (i.config.max_mtu != 0 && *c.mtu > i.config.max_mtu) return NetError::kInvalid;
    if (*c.mtu > INT32_MAX) return NetError::kInvalid;
    Interface* lower = FindInterface(i.config.lower);
    if (lower != nullptr && *c.mtu > lower->config.mtu) return NetError::kRange;
  }
  if (c.mac) {
    if (i.config.kind != LinkKind::kEthernet) return NetError::kOpNotSupp;
    if (c.mac->IsMulticast() || c.mac->IsZero()) return NetError::kAddrNotAvail;
  }
  if (c.alias && c.alias->size() > 255) return NetError::kInvalid;
  if (c.master && *c.master != 0) {
    Interface* m = FindInterface(*c.master);
    if (m == nullptr) return NetError::kInvalid;
    if (!m->bridge) return NetError::kOpNotSupp;
    if (i.bridge || m == &i) return NetError::kInvalid;
    if (i.is_loopback() || i.config.kind != LinkKind::kEthernet) return NetError::kInvalid;
  }
  if ((c.flags_mask & kIffUp) != 0 && (c.flags & kIffUp) != 0 && i.config.lower != 0) {
    Interface* lower = FindInterface(i.config.lower);
    if (lower == nullptr || !lower->up) return NetError::kNetDown;
  }
  return {};
}

NetResult<void> Stack::ChangeLink(IfIndex iface, const LinkChange& c) {
  StackEntry entry(*this);
  Interface* found = FindInterface(iface);
  if (found == nullptr) return NetError::kNoDevice;
  Interface& i = *found;
  TRY(CheckLinkChange(i, c));
  // ---- No failure below this line. ----
  bool told = false;
  if (c.mac && *c.mac != i.config.mac) {
    i.config.mac = *c.mac;
    i.mac_set_by_user = true;
    i.neighbours.Flush(false);
    if (Interface* bridge = FindInterface(i.master); bridge != nullptr) {
      bridge->bridge->ForgetPort(iface);
      bridge->bridge->Set(*c.mac, iface, now_);
      BridgeChanged(*bridge);
    }
    told = true;
  }
  if (c.broadcast) i.config.broadcast = *c.broadcast;
  if (c.mtu && *c.mtu != i.config.mtu) {
    i.config.mtu = *c.mtu;
    told = true;
  }
  if (c.tx_queue_len && *c.tx_queue_len != i.config.tx_queue_len) {
    i.config.tx_queue_len = *c.tx_queue_len;
    told = true;
  }
  if (c.tx_checksum) i.config.tx_checksum = *c.tx_checksum;
  if (c.tx_tso) i.config.tx_tso = *c.tx_tso;
  if (c.group) i.group = *c.group;
  if (c.alias) i.alias = *c.alias;
  if (!c.name.empty() && c.name != i.config.name) {
    i.config.name = c.name;
    routes_.BindRules(c.name, iface);
    told = true;
  }
  const uint32_t mask = c.flags_mask & kIffSettable;
  if (mask != 0) {
    const uint32_t flags = (i.user_flags & ~mask) | (c.flags & mask);
    if (flags != i.user_flags) told = true;
    i.user_flags = flags;
  }
  if (told) NotifyLink(i);
  if (c.master) SetMaster(i, *c.master);
  if ((c.flags_mask & kIffUp) != 0) SetUpLocked(i, (c.flags & kIffUp) != 0);
  return {};
}

// ---- Looking ----

std::vector<InterfaceInfo> Stack::Interfaces() {
  StackEntry entry(*this);
  std::vector<InterfaceInfo> out;
  for (auto& [index, i] : interfaces_) out.push_back(i->Info());
  return out;
}

std::optional<InterfaceInfo> Stack::FindInterfaceInfo(IfIndex iface) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return std::nullopt;
  return i->Info();
}

std::optional<InterfaceInfo> Stack::FindInterfaceInfo(std::string_view name) {
  StackEntry entry(*this);
  for (auto& [index, i] : interfaces_) {
    if (i->config.name == name) return i->Info();
  }
  return std::nullopt;
}

IfIndex Stack::IndexOf(std::string_view name) {
  StackEntry entry(*this);
  for (auto& [index, i] : interfaces_) {
    if (i->config.name == name) return index;
  }
  return 0;
}

std::string Stack::NameOf(IfIndex iface) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  return i == nullptr ? std::string() : i->config.name;
}

}  // namespace ringwall::net
