// An interface's own behaviour: neighbour messages, group reports, duplicate address detection,
// router solicitations. Read RFC 4861, RFC 4862 and RFC 5227 before editing.
#include "netstack/link/interface.h"

#include "netstack/stack.h"

namespace ringwall::net {

Interface::Interface(Stack& s, IfIndex i, InterfaceConfig c, RefPtr<LinkSink> link)
    : stack(s),
      index(i),
      config(std::move(c)),
      sink(std::move(link)),
      neighbours(*this, s.timers()),
      timer(&Interface::OnTimer, this) {
  if (config.no_arp) user_flags |= kIffNoArp;
  if (config.multicast && !is_loopback()) user_flags |= kIffMulticast;
  if (config.type == "bridge") bridge = std::make_unique<Bridge>();
}

const InterfaceAddress* Interface::FindAddress(const IpAddr& a) const {
  for (const InterfaceAddress& x : addresses) {
    if (x.prefix.addr == a) return &x;
  }
  return nullptr;
}

InterfaceAddress* Interface::FindAddress(const IpAddr& a) {
  return const_cast<InterfaceAddress*>(std::as_const(*this).FindAddress(a));
}

IpAddr Interface::LinkLocalFromMac() const {
  const auto& m = config.mac.b;
  return IpAddr::V6({0xfe, 0x80, 0, 0, 0, 0, 0, 0, static_cast<uint8_t>(m[0] ^ 2), m[1], m[2], 0xff,
                     0xfe, m[3], m[4], m[5]});
}

void Interface::SendSolicit(const IpAddr& addr, std::optional<MacAddr> unicast) {
  const IpAddr src = stack.SelectSource(addr, index);
  if (addr.is_v4()) {
    const ArpPacket arp{ArpOp::kRequest, config.mac, src.IsNone() ? IpAddr::Any(Family::kV4) : src,
                        MacAddr{}, addr};
    stack.SendArp(*this, arp, unicast.value_or(MacAddr::Broadcast()));
    return;
  }
  stack.SendNeighbourSolicit(*this, addr, unicast, src.IsNone() ? IpAddr::Any(Family::kV6) : src);
}

void Interface::SendResolved(Packet packet, const IpAddr& addr, const MacAddr& mac) {
  stack.TransmitFrame(*this, mac, addr.is_v4() ? kEthIpv4 : kEthIpv6, std::move(packet));
}

void Interface::OnUnreachable(const IpAddr&, Packet packet) {
  counters.tx_dropped++;
  stack.ReportUnreachable(std::move(packet));
}

void Interface::OnNeighbourChange(const NeighbourInfo& info, bool removed) {
  stack.Notify({.kind = StackHost::Change::Kind::kNeighbour, .removed = removed, .iface = index,
                .neighbour = &info});
}

uint32_t Interface::Flags() const {
  uint32_t f = user_flags;
  switch (config.kind) {
    case LinkKind::kLoopback: f |= kIffLoopback; break;
    case LinkKind::kEthernet: f |= kIffBroadcast; break;
    case LinkKind::kIp: f |= kIffPointToPoint | kIffNoArp; break;
  }
  if (up) f |= kIffUp;
  if (running()) f |= kIffRunning | kIffLowerUp;
  return f;
}

InterfaceInfo Interface::Info() const {
  InterfaceInfo info;
  info.config = config;
  info.flags = Flags();
  info.master = master;
  info.group = group;
  info.alias = alias;
  info.is_bridge = bridge != nullptr;
  info.carrier_changes = carrier_changes;
  info.ipv6_disabled = ipv6_disabled;
  info.sink = sink;
  info.index = index;
  info.name = config.name;
  info.kind = config.kind;
  info.mac = config.mac;
  info.mtu = config.mtu;
  info.up = up;
  info.addresses = addresses;
  info.counters = counters;
  for (const auto& [g, state] : groups) info.groups.push_back({g, state.users});
  return info;
}

void Interface::OnTimer(void* self, TimePoint) {
  Interface* i = static_cast<Interface*>(self);
  i->stack.OnInterfaceTimer(*i);
}

}  // namespace ringwall::net
