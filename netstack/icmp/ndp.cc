// Neighbour discovery and stateless autoconfiguration. Read RFC 4861 and RFC 4862 before editing.
#include <algorithm>

#include "netstack/stack.h"
#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"

namespace ringwall::net {
namespace {

constexpr size_t kMaxAutoconf = 16;       // max_addresses of an interface
constexpr size_t kMaxPrefixRoutes = 64;

IpAddr AllNodes() { return *IpAddr::Parse("ff02::1"); }
IpAddr AllRouters() { return *IpAddr::Parse("ff02::2"); }

void SendNdp(Stack& stack, Interface& iface, const IpAddr& src, const IpAddr& dst,
             std::optional<MacAddr> mac, Packet p) {
  Checksum c;
  c.AddPseudo(src, dst, kProtoIcmpv6, static_cast<uint32_t>(p.size()));
  c.Add(p.header());
  Store16(p.header_data() + 2, c.Finish());
  IpHeader h;
  h.src = src;
  h.dst = dst;
  h.protocol = kProtoIcmpv6;
  h.ttl = 255;
  const size_t payload = p.size();
  h.Write(p.Prepend(kIpv6Header), payload);
  stack.counters().icmp6.out_msgs++;
  if (mac) return stack.TransmitFrame(iface, *mac, kEthIpv6, std::move(p));
  if (dst.IsMulticast()) {
    return stack.TransmitFrame(iface, MulticastMac(dst), kEthIpv6, std::move(p));
  }
  iface.neighbours.Send(dst, std::move(p), stack.now());
}

void PrependMacOption(Packet& p, uint8_t type, const MacAddr& mac) {
  uint8_t* o = p.Prepend(8);
  o[0] = type;
  o[1] = 1;
  std::memcpy(o + 2, mac.b.data(), 6);
}

}  // namespace

void Stack::SendNeighbourSolicit(Interface& iface, const IpAddr& target,
                                 std::optional<MacAddr> unicast, const IpAddr& src) {
  if (iface.config.kind != LinkKind::kEthernet) return;
  Packet p;
  // RFC 4861 4.3: no source address option from the unspecified address.
  if (!src.IsAny()) PrependMacOption(p, 1, iface.config.mac);
  std::memcpy(p.Prepend(16), target.data(), 16);
  WriteIcmp(p.Prepend(kIcmpHeader), kNdpNeighbourSolicit, 0, 0);
  SendNdp(*this, iface, src, unicast ? target : target.SolicitedNode(), unicast, std::move(p));
}

void Stack::SendNeighbourAdvert(Interface& iface, const IpAddr& target, const IpAddr& to,
                                bool solicited, std::optional<MacAddr> mac) {
  Packet p;
  PrependMacOption(p, 2, iface.config.mac);
  std::memcpy(p.Prepend(16), target.data(), 16);
  uint32_t flags = 0x20000000u;  // override
  if (config_.forwarding6) flags |= 0x80000000u;
  if (solicited) flags |= 0x40000000u;
  WriteIcmp(p.Prepend(kIcmpHeader), kNdpNeighbourAdvert, 0, flags);
  SendNdp(*this, iface, target, to, mac, std::move(p));
}

void Stack::NdpIn(const IpReceived& rx, const IcmpView& view) {
  Interface* iface = FindInterface(rx.iface);
  // RFC 4861 6.1, 7.1: hop limit 255 proves that it comes from this link.
  if (iface == nullptr || iface->config.kind != LinkKind::kEthernet) return;
  if (rx.ttl != 255 || view.code() != 0) {
    counters_.icmp6.in_bad_ndp++;
    return;
  }
  if (view.type() == kNdpRouterAdvert) return RouterAdvertIn(*iface, rx, view);
  if (view.type() == kNdpNeighbourSolicit) {
    std::optional<NeighbourSolicit> s = NeighbourSolicit::Parse(view);
    const bool from_any = rx.src.IsAny();
    // RFC 4861 7.1.1: a probe goes to the solicited-node group and names no source address.
    if (!s || (from_any && (s->options.source_mac || rx.dst != s->target.SolicitedNode()))) {
      counters_.icmp6.in_bad_ndp++;
      return;
    }
    InterfaceAddress* mine = iface->FindAddress(s->target);
    if (mine == nullptr) return;
    if (mine->state == AddressState::kTentative || mine->state == AddressState::kDuplicate) {
      // RFC 4862 5.4.3: someone else probes the same address.
      if (from_any && mine->state == AddressState::kTentative) {
        mine->state = AddressState::kDuplicate;
        std::erase_if(iface->dad, [&](const auto& d) { return d.addr == s->target; });
        NotifyAddress(*iface, *mine, false);
      }
      return;
    }
    if (from_any) return SendNeighbourAdvert(*iface, s->target, AllNodes(), false, std::nullopt);
    if (s->options.source_mac) {
      if (s->options.source_mac->IsMulticast()) return;
      iface->neighbours.Learn(rx.src, *s->options.source_mac, now_, true);
    }
    return SendNeighbourAdvert(*iface, s->target, rx.src, true, s->options.source_mac);
  }
  std::optional<NeighbourAdvert> a = NeighbourAdvert::Parse(view);
  if (!a || (rx.dst.IsMulticast() && a->solicited) ||
      (a->options.target_mac && a->options.target_mac->IsMulticast())) {
    counters_.icmp6.in_bad_ndp++;
    return;
  }
  if (InterfaceAddress* mine = iface->FindAddress(a->target)) {
    if (mine->state == AddressState::kTentative) {  // RFC 4862 5.4.4
      mine->state = AddressState::kDuplicate;
      std::erase_if(iface->dad, [&](const auto& d) { return d.addr == a->target; });
      NotifyAddress(*iface, *mine, false);
    }
    return;
  }
  iface->neighbours.OnAdvert(a->target, a->options.target_mac, a->solicited, a->override_,
                             a->router, now_);
}

void Stack::RouterAdvertIn(Interface& iface, const IpReceived& rx, const IcmpView& view) {
  std::optional<RouterAdvert> ra = RouterAdvert::Parse(view);
  if (!ra || !rx.src.IsLinkLocal()) {  // RFC 4861 6.1.2
    counters_.icmp6.in_bad_ndp++;
    return;
  }
  if (!config_.accept_ra || config_.forwarding6) return;
  iface.router_solicits_left = 0;
  iface.next_router_solicit = TimePoint::Never();
  if (ra->hop_limit != 0) iface.hop_limit = ra->hop_limit;
  if (ra->options.source_mac && !ra->options.source_mac->IsMulticast()) {
    iface.neighbours.Learn(rx.src, *ra->options.source_mac, now_, true);
  }
  RouteEntry def;
  def.dst = {IpAddr::Any(Family::kV6), 0};
  def.gateway = rx.src;
  def.oif = iface.index;
  def.metric = 1024;
  def.protocol = 9;  // RTPROT_RA
  if (ra->lifetime_seconds != 0) {
    size_t learned = 0;
    for (const RouteEntry& r : routes_.routes()) learned += r.protocol == 9;
    if (learned < kMaxPrefixRoutes && routes_.Add(def, true).ok()) NotifyRoute(def, false);
    iface.router_expires = now_ + Duration::Seconds(ra->lifetime_seconds);
  } else if (routes_.Remove(def).ok()) {
    NotifyRoute(def, true);
  }
  if (ra->options.mtu && *ra->options.mtu >= 1280 && *ra->options.mtu <= iface.config.mtu) {
    iface.config.mtu = *ra->options.mtu;  // RFC 4861 6.3.4
  }
  for (size_t i = 0; i < ra->options.prefix_count; i++) {
    const NdpOptions::Prefix& p = ra->options.prefixes[i];
    if (p.prefix.addr.IsLinkLocal() || p.prefix.addr.IsMulticast()) continue;
    // RFC 4862 5.5.3
    if (!p.autonomous || p.prefix.len != 64 || p.valid_seconds == 0 ||
        p.preferred_seconds > p.valid_seconds) {
      continue;
    }
    std::array<uint8_t, 16> b = p.prefix.addr.bytes();
    const IpAddr local = iface.LinkLocalFromMac();
    for (size_t k = 8; k < 16; k++) b[k] = local.byte(k);
    InterfaceAddress a;
    a.prefix = {IpAddr::V6(b), 64};
    a.autoconf = true;
    const auto until = [&](uint32_t s) {
      return s == 0xffffffff ? TimePoint::Never() : now_ + Duration::Seconds(s);
    };
    a.valid_until = until(p.valid_seconds);
    a.preferred_until = until(p.preferred_seconds);
    if (InterfaceAddress* have = iface.FindAddress(a.prefix.addr)) {
      if (!have->autoconf) continue;
      // RFC 4862 5.5.3(e): an unauthenticated advertisement shortens a lifetime to two hours at
      // the least.
      const TimePoint two_hours = now_ + Duration::Seconds(7200);
      if (a.valid_until > two_hours || a.valid_until > have->valid_until) {
        have->valid_until = a.valid_until;
      } else if (have->valid_until > two_hours) {
        have->valid_until = two_hours;
      }
      have->preferred_until = a.preferred_until;
      if (have->state == AddressState::kDeprecated && a.preferred_until > now_) {
        have->state = AddressState::kPreferred;
      }
      continue;
    }
    size_t autoconf = 0;
    for (const InterfaceAddress& x : iface.addresses) autoconf += x.autoconf;
    if (autoconf < kMaxAutoconf) AddAddressLocked(iface, a, config_.dad);
  }
  route_generation_++;
  ArmInterface(iface);
}

void Stack::ArmInterface(Interface& iface) {
  TimePoint next = Min(iface.next_router_solicit, iface.router_expires);
  for (const Interface::Dad& d : iface.dad) next = Min(next, d.done);
  for (const auto& [group, g] : iface.groups) next = Min(next, g.next_report);
  for (const InterfaceAddress& a : iface.addresses) {
    next = Min(next, a.valid_until);
    if (a.state == AddressState::kPreferred) next = Min(next, a.preferred_until);
  }
  iface.timer.Set(timers_, next);
}

void Stack::OnInterfaceTimer(Interface& iface) {
  std::vector<Interface::Dad> done;
  for (const Interface::Dad& d : iface.dad) {
    if (d.done <= now_) done.push_back(d);
  }
  std::erase_if(iface.dad, [&](const auto& d) { return d.done <= now_; });
  for (const Interface::Dad& d : done) {
    if (InterfaceAddress* a = iface.FindAddress(d.addr)) {
      if (a->state == AddressState::kTentative) a->state = AddressState::kPreferred;
      NotifyAddress(iface, *a, false);
    }
  }
  for (auto& [group, g] : iface.groups) {
    if (g.next_report > now_) continue;
    g.next_report = --g.reports_left > 0 ? now_ + Duration::Seconds(1) : TimePoint::Never();
    SendGroupReport(iface, group, false);
  }
  if (iface.next_router_solicit <= now_) {
    iface.next_router_solicit = --iface.router_solicits_left > 0 ? now_ + Duration::Seconds(4)
                                                                 : TimePoint::Never();
    // RFC 4861 6.3.7
    const IpAddr local = iface.LinkLocalFromMac();
    const InterfaceAddress* a = iface.FindAddress(local);
    const bool usable = a != nullptr && a->state == AddressState::kPreferred;
    Packet p;
    if (usable) PrependMacOption(p, 1, iface.config.mac);
    WriteIcmp(p.Prepend(kIcmpHeader), kNdpRouterSolicit, 0, 0);
    SendNdp(*this, iface, usable ? local : IpAddr::Any(Family::kV6), AllRouters(), std::nullopt,
            std::move(p));
  }
  if (iface.router_expires <= now_) {
    iface.router_expires = TimePoint::Never();
    RouteEntry def;
    def.dst = {IpAddr::Any(Family::kV6), 0};
    def.oif = iface.index;
    RouteEntry gone;
    while (routes_.Remove(def, &gone).ok()) NotifyRoute(gone, true);
  }
  std::vector<IpPrefix> expired;
  for (InterfaceAddress& a : iface.addresses) {
    if (a.valid_until <= now_) {
      expired.push_back(a.prefix);
    } else if (a.preferred_until <= now_ && a.state == AddressState::kPreferred) {
      a.state = AddressState::kDeprecated;  // RFC 4862 5.5.4
    }
  }
  for (const IpPrefix& a : expired) RemoveAddressLocked(iface, a);
  ArmInterface(iface);
}

}  // namespace ringwall::net
