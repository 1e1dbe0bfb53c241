// Life of a stack, its lock, and the administration of links, addresses and routes.
#include "netstack/stack.h"

#include <algorithm>

#include "netstack/link/packet_endpoint.h"
#include "netstack/ip/raw_endpoint.h"
#include "netstack/tcp/endpoint.h"
#include "netstack/tcp/protocol.h"
#include "netstack/udp/endpoint.h"

namespace ringwall::net {

StackEntry::StackEntry(Stack& stack) : stack_(stack) {
  lock_.emplace(stack.mu_);
  stack.now_ = stack.host_.Now();
}

StackEntry::~StackEntry() {
  stack_.DrainLoop();
  const TimePoint next = stack_.timers_.Next();
  if (next < stack_.told_deadline_) {
    stack_.told_deadline_ = next;
    stack_.host_.DeadlineChanged(next);
  }
  if (stack_.flush_.empty()) return;
  std::vector<RefPtr<LinkSink>> flush;
  flush.swap(stack_.flush_);
  for (auto& [index, iface] : stack_.interfaces_) iface->flush_wanted = false;
  lock_.reset();
  for (RefPtr<LinkSink>& sink : flush) sink->Flush();
}

Stack::Stack(StackHost& host, const StackConfig& config)
    : host_(host),
      config_(config),
      reassembly_timer_([](void* s, TimePoint) { static_cast<Stack*>(s)->OnReassemblyTimer(); },
                        this) {
  uint8_t seed[32];
  host_.FillRandom(seed);
  std::memcpy(&key_.k0, seed, 8);
  std::memcpy(&key_.k1, seed + 8, 8);
  std::memcpy(&random_state_, seed + 16, 8);
  std::memcpy(&fragment_id_, seed + 24, 4);
  now_ = host_.Now();
  tcp_ = std::make_unique<TcpProtocol>(*this);
  udp_ = std::make_unique<UdpProtocol>(*this);
  raw_ = std::make_unique<RawProtocol>();
}

Stack::~Stack() = default;

void Stack::Shutdown() {
  StackEntry entry(*this);
  tcp_->AbortAll();
  loop_.clear();
  taps_.clear();
  interfaces_.clear();
  local_.clear();
}

// A keyed generator: unpredictable outside, cheap inside.
uint64_t Stack::Random64() {
  random_state_++;
  uint8_t in[16];
  std::memcpy(in, &random_state_, 8);
  const int64_t t = now_.nanos();
  std::memcpy(in + 8, &t, 8);
  return SipHash(key_, in);
}

StackConfig Stack::Config() {
  StackEntry entry(*this);
  return config_;
}

void Stack::SetConfig(const StackConfig& config) {
  StackEntry entry(*this);
  config_ = config;
}

Counters Stack::GetCounters() {
  StackEntry entry(*this);
  return counters_;
}

TimePoint Stack::NextDeadline() {
  MutexLock lock(mu_);
  return timers_.Next();
}

void Stack::OnDeadline() {
  StackEntry entry(*this);
  told_deadline_ = TimePoint::Never();
  timers_.Run(now_);
}

// Endpoints are made under the lock: their constructors read the sysctls.
Ref<TcpEndpoint> Stack::NewTcp(Family family) {
  StackEntry entry(*this);
  return MakeRef<TcpEndpoint>(Ref(*this), family);
}
Ref<UdpEndpoint> Stack::NewUdp(Family family) {
  StackEntry entry(*this);
  return MakeRef<UdpEndpoint>(Ref(*this), family);
}
Ref<RawEndpoint> Stack::NewRaw(Family family, uint8_t protocol, bool ping) {
  StackEntry entry(*this);
  Ref<RawEndpoint> e = MakeRef<RawEndpoint>(Ref(*this), family, protocol, ping);
  raw_->Add(e.get());
  return e;
}
Ref<PacketEndpoint> Stack::NewPacket(bool raw, uint16_t ethertype) {
  StackEntry entry(*this);
  Ref<PacketEndpoint> e = MakeRef<PacketEndpoint>(Ref(*this), raw, ethertype);
  AddTap(e.get());
  return e;
}

void Stack::NotifyChange(StackHost::Change::Kind kind, IfIndex iface, bool removed) {
  if (kind != StackHost::Change::Kind::kNeighbour) route_generation_++;
  host_.OnChange({kind, removed, iface});
}

// ---- Links ----

NetResult<IfIndex> Stack::AddInterface(const InterfaceConfig& config, RefPtr<LinkSink> sink) {
  StackEntry entry(*this);
  if (config.name.empty() || config.name.size() > 15) return NetError::kInvalid;
  for (auto& [i, have] : interfaces_) {
    if (have->config.name == config.name) return NetError::kExists;
  }
  if (config.kind != LinkKind::kLoopback && !sink) return NetError::kInvalid;
  const IfIndex index = next_iface_++;
  interfaces_.emplace(index, std::make_unique<Interface>(*this, index, config, std::move(sink)));
  if (config.kind == LinkKind::kLoopback && loopback_ == 0) loopback_ = index;
  NotifyChange(StackHost::Change::Kind::kLink, index, false);
  return index;
}

NetResult<void> Stack::RemoveInterface(IfIndex iface) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  routes_.RemoveInterface(iface);
  absl::erase_if(local_, [&](const auto& kv) { return kv.second == iface; });
  if (loopback_ == iface) loopback_ = 0;
  interfaces_.erase(iface);
  NotifyChange(StackHost::Change::Kind::kLink, iface, true);
  return {};
}

NetResult<void> Stack::SetUp(IfIndex iface, bool up) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  if (i->up == up) return {};
  i->up = up;
  if (up) {
    InterfaceUp(*i);
  } else {
    // Linux forgets what was learnt, IPv6 addresses and all routes through the link.
    i->neighbours.Flush(false);
    i->dad.clear();
    i->timer.Cancel();
    routes_.RemoveInterface(iface);
    std::vector<IpAddr> gone;
    for (const InterfaceAddress& a : i->addresses) {
      if (a.prefix.addr.is_v6()) gone.push_back(a.prefix.addr);
    }
    for (const IpAddr& a : gone) RemoveAddressLocked(*i, a);
  }
  NotifyChange(StackHost::Change::Kind::kLink, iface, false);
  return {};
}

void Stack::InterfaceUp(Interface& i) {
  if (i.is_loopback()) {
    AddAddressLocked(i, {{IpAddr::Loopback(Family::kV4), 8}}, false);
    AddAddressLocked(i, {{IpAddr::Loopback(Family::kV6), 128}}, false);
    return;
  }
  for (const InterfaceAddress& a : std::vector<InterfaceAddress>(i.addresses)) {
    AddAddressLocked(i, a, false);  // the on-link routes come back
  }
  i.groups[IpAddr::V4(224, 0, 0, 1)].users++;
  i.groups[*IpAddr::Parse("ff02::1")].users++;
  if (i.config.kind == LinkKind::kEthernet && !i.config.mac.IsZero()) {
    AddAddressLocked(i, {{i.LinkLocalFromMac(), 64}}, config_.dad);
    if (config_.accept_ra && !config_.forwarding6) {
      i.router_solicits_left = 3;  // RFC 4861 10: MAX_RTR_SOLICITATIONS
      i.next_router_solicit = now_ + Duration::Millis(static_cast<int64_t>(Random64() % 1000));
      ArmInterface(i);
    }
  }
}

NetResult<void> Stack::SetMtu(IfIndex iface, uint32_t mtu) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  if (mtu < 68 || mtu > 65536) return NetError::kInvalid;  // RFC 791: 68 is the least
  i->config.mtu = mtu;
  NotifyChange(StackHost::Change::Kind::kLink, iface, false);
  return {};
}

NetResult<void> Stack::Rename(IfIndex iface, std::string_view name) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  if (name.empty() || name.size() > 15) return NetError::kInvalid;
  for (auto& [index, have] : interfaces_) {
    if (have->config.name == name && index != iface) return NetError::kExists;
  }
  i->config.name = std::string(name);
  NotifyChange(StackHost::Change::Kind::kLink, iface, false);
  return {};
}

std::vector<InterfaceInfo> Stack::Interfaces() {
  StackEntry entry(*this);
  std::vector<InterfaceInfo> out;
  for (auto& [index, i] : interfaces_) {
    out.push_back({index, i->config.name, i->config.kind, i->config.mac, i->config.mtu, i->up,
                   i->addresses, i->counters});
  }
  return out;
}

// ---- Addresses ----

NetResult<void> Stack::AddAddress(IfIndex iface, const IpPrefix& prefix, bool no_dad) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  if (prefix.addr.IsNone() || prefix.addr.IsAny() || prefix.addr.IsMulticast() ||
      prefix.len > prefix.addr.size() * 8) {
    return NetError::kInvalid;
  }
  if (i->FindAddress(prefix.addr) != nullptr) return NetError::kExists;
  InterfaceAddress a;
  a.prefix = prefix;
  AddAddressLocked(*i, a, prefix.addr.is_v6() && !no_dad && config_.dad);
  return {};
}

void Stack::AddAddressLocked(Interface& i, const InterfaceAddress& given, bool dad) {
  InterfaceAddress a = given;
  if (std::optional<IpAddr> b = a.prefix.Broadcast(); b && !i.is_loopback()) a.broadcast = *b;
  const bool ethernet = i.config.kind == LinkKind::kEthernet;
  if (dad && ethernet && i.up) a.state = AddressState::kTentative;
  if (InterfaceAddress* have = i.FindAddress(a.prefix.addr)) {
    *have = a;
  } else {
    i.addresses.push_back(a);
  }
  local_[a.prefix.addr] = i.index;
  if (a.prefix.addr.is_v6() && ethernet) {
    const IpAddr group = a.prefix.addr.SolicitedNode();
    if (i.groups[group].users++ == 0 && i.up) SendGroupReport(i, group, false);
  }
  if (i.up) {
    if (a.prefix.len < a.prefix.addr.size() * 8) {
      RouteEntry r;
      r.dst = {a.prefix.Network(), a.prefix.len};
      r.oif = i.index;
      if (a.prefix.addr.is_v4()) r.preferred_src = a.prefix.addr;
      r.metric = a.prefix.addr.is_v6() ? 256 : 0;
      r.protocol = 2;  // RTPROT_KERNEL
      if (a.prefix.addr.is_v6() && !a.prefix.addr.IsLinkLocal() && i.is_loopback()) return;
      (void)routes_.Add(r, false);
    }
    if (a.state == AddressState::kTentative) {
      // RFC 4862 5.4.2: one solicitation from the unspecified address, then a second of waiting.
      i.dad.push_back({a.prefix.addr, now_ + Duration::Seconds(1)});
      SendNeighbourSolicit(i, a.prefix.addr, std::nullopt, IpAddr::Any(Family::kV6));
      ArmInterface(i);
    } else if (a.prefix.addr.is_v4() && ethernet) {
      // A gratuitous request tells neighbours of the address: RFC 5227 2.3.
      SendArp(i, {ArpOp::kRequest, i.config.mac, a.prefix.addr, MacAddr{}, a.prefix.addr},
              MacAddr::Broadcast());
    }
  }
  NotifyChange(StackHost::Change::Kind::kAddress, i.index, false);
}

NetResult<void> Stack::RemoveAddress(IfIndex iface, const IpPrefix& prefix) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  const InterfaceAddress* a = i->FindAddress(prefix.addr);
  if (a == nullptr || a->prefix.len != prefix.len) return NetError::kAddrNotAvail;
  RemoveAddressLocked(*i, prefix.addr);
  return {};
}

void Stack::RemoveAddressLocked(Interface& i, const IpAddr& addr) {
  const InterfaceAddress* a = i.FindAddress(addr);
  if (a == nullptr) return;
  const IpPrefix prefix = a->prefix;
  std::erase_if(i.addresses, [&](const InterfaceAddress& x) { return x.prefix.addr == addr; });
  std::erase_if(i.dad, [&](const Interface::Dad& d) { return d.addr == addr; });
  local_.erase(addr);
  const bool shared = std::any_of(i.addresses.begin(), i.addresses.end(), [&](const auto& x) {
    return x.prefix.len == prefix.len && x.prefix.Network() == prefix.Network();
  });
  if (!shared) {
    RouteEntry r;
    r.dst = {prefix.Network(), prefix.len};
    r.oif = i.index;
    (void)routes_.Remove(r);
  }
  if (addr.is_v6() && i.config.kind == LinkKind::kEthernet) {
    LeaveGroup(i.index, addr.SolicitedNode());
  }
  NotifyChange(StackHost::Change::Kind::kAddress, i.index, true);
}

// ---- Routes and neighbours ----

NetResult<void> Stack::AddRoute(const RouteEntry& route, bool replace) {
  StackEntry entry(*this);
  RouteEntry r = route;
  if (r.dst.addr.IsNone() || r.dst.len > r.dst.addr.size() * 8) return NetError::kInvalid;
  if (r.dst.addr != r.dst.Network()) return NetError::kInvalid;
  if (r.type == RouteType::kUnicast) {
    if (!r.gateway.IsNone() && r.oif == 0) {
      NetResult<Route> via = FindRoute({.dst = r.gateway});
      if (!via.ok() || via->kind == Route::Kind::kLocal) return NetError::kNetUnreach;
      r.oif = via->oif;
    }
    Interface* i = FindInterface(r.oif);
    if (i == nullptr) return NetError::kNoDevice;
    if (!i->up) return NetError::kNetDown;
    if (!r.gateway.IsNone() && IsLocal(r.gateway)) return NetError::kInvalid;
  }
  if (r.dst.addr.is_v6() && r.metric == 0) r.metric = 1024;
  TRY(routes_.Add(r, replace));
  NotifyChange(StackHost::Change::Kind::kRoute, r.oif, false);
  return {};
}

NetResult<void> Stack::RemoveRoute(const RouteEntry& route) {
  StackEntry entry(*this);
  TRY(routes_.Remove(route));
  NotifyChange(StackHost::Change::Kind::kRoute, route.oif, true);
  return {};
}

std::vector<RouteEntry> Stack::Routes() {
  StackEntry entry(*this);
  return routes_.routes();
}

void Stack::AddRule(const RuleEntry& rule) {
  StackEntry entry(*this);
  routes_.AddRule(rule);
  route_generation_++;
}

NetResult<void> Stack::RemoveRule(const RuleEntry& rule) {
  StackEntry entry(*this);
  route_generation_++;
  return routes_.RemoveRule(rule);
}

std::vector<RuleEntry> Stack::Rules() {
  StackEntry entry(*this);
  return routes_.rules();
}

NetResult<void> Stack::SetNeighbour(IfIndex iface, const IpAddr& addr, const MacAddr& mac) {
  StackEntry entry(*this);
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  i->neighbours.SetPermanent(addr, mac);
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

NetResult<Route> Stack::LookupRoute(const RouteQuery& query) {
  StackEntry entry(*this);
  return FindRoute(query);
}

}  // namespace ringwall::net
