// Interfaces made of interfaces: bridges (IEEE 802.1D without spanning tree) and VLANs (802.1Q).
// All of it happens inside one stack, under its lock.
#include <algorithm>

#include "netstack/link/packet_endpoint.h"
#include "netstack/stack.h"

namespace ringwall::net {
namespace {

// 802.1D table 7-10: frames for these groups end at a bridge.
bool IsReservedGroup(const MacAddr& m) {
  return m.b[0] == 0x01 && m.b[1] == 0x80 && m.b[2] == 0xc2 && m.b[3] == 0 && m.b[4] == 0 &&
         (m.b[5] & 0xf0) == 0;
}

constexpr size_t kVlanTag = 4;

// NF_BR_*.
constexpr uint32_t kBrPreRouting = 0, kBrLocalIn = 1, kBrForward = 2, kBrLocalOut = 3, kBrPostRouting = 4;

}  // namespace

// ---- Bridges ----

void Stack::BridgeIn(Interface& port, RxFrame& frame) {
  Interface* bridge = FindInterface(port.master);
  std::optional<EthernetView> eth = EthernetView::Parse(frame.data.span());
  if (bridge == nullptr || !bridge->up || !eth) {
    port.counters.rx_dropped++;
    return;
  }
  if (eth->src().IsMulticast() || IsReservedGroup(eth->dst())) return;
  const FilterPacket::Sum sum = frame.checksum_valid ? FilterPacket::Sum::kNone : FilterPacket::Sum::kFull;
  if (!FilterFrame(NftFamily::kBridge, kBrPreRouting, &port, nullptr, sum, frame.data)) return;
  eth = EthernetView::Parse(frame.data.span());
  if (!eth) return;
  const auto up = [&] {
    if (FilterFrame(NftFamily::kBridge, kBrLocalIn, &port, nullptr, sum, frame.data)) FrameIn(*bridge, frame);
  };
  bridge->bridge->Learn(eth->src(), port.index, now_);
  const MacAddr dst = eth->dst();
  if (dst == bridge->config.mac) return up();
  std::optional<IfIndex> known =
      dst.IsMulticast() ? std::nullopt : bridge->bridge->Find(dst, now_);
  if (known == bridge->index) return up();
  if (known != port.index) BridgeOut(*bridge, Packet(Chain(frame.data)), port.index);
  // Groups are for the bridge itself, too; unknown hosts only for those who listen to all.
  if (dst.IsMulticast() || (!known && (bridge->user_flags & kIffPromisc) != 0)) {
    up();
  }
}

// `from`: the port that it came in by; 0: from the bridge's own addresses.
void Stack::BridgeOut(Interface& bridge, Packet frame, IfIndex from) {
  const Slice flat = frame.Flatten();
  std::optional<EthernetView> eth = EthernetView::Parse(flat.span());
  if (!eth) return;
  const MacAddr dst = eth->dst();
  const std::optional<IfIndex> known =
      dst.IsMulticast() ? std::nullopt : bridge.bridge->Find(dst, now_);
  std::vector<Interface*> ports;
  for (auto& [index, i] : interfaces_) {
    if (i->master != bridge.index || index == from || !i->running()) continue;
    if (known && *known != index) continue;
    ports.push_back(i.get());
  }
  for (Interface* port : ports) {
    if (flat.size() > port->config.mtu + eth->header_size() && frame.offload.gso_size == 0) {
      port->counters.tx_dropped++;
      continue;
    }
    Slice mine = flat;
    const auto sum = frame.offload.needs_checksum ? FilterPacket::Sum::kPartial : FilterPacket::Sum::kFull;
    if (from == 0) frame_mark_ = 0;
    const uint32_t mark = frame_mark_;
    const bool passes =
        FilterFrame(NftFamily::kBridge, from != 0 ? kBrForward : kBrLocalOut, FindInterface(from), port, sum, mine) &&
        FilterFrame(NftFamily::kBridge, kBrPostRouting, nullptr, port, sum, mine);
    if (!passes) {
      frame_mark_ = mark;
      continue;
    }
    Packet copy{Chain(std::move(mine))};
    copy.offload = frame.offload;
    // The checksum's place was told from the start of the frame already.
    if (copy.offload.needs_checksum) {
      copy.transport_size = 0;
      const uint16_t start = frame.offload.checksum_start;
      TransmitFlat(*port, std::move(copy), start);
    } else {
      TransmitRawFrame(*port, std::move(copy));
    }
    frame_mark_ = mark;
  }
}

void Stack::TransmitFlat(Interface& port, Packet frame, uint16_t checksum_start) {
  frame.offload.checksum_start = checksum_start;
  if (!Egress(port, frame)) return;
  port.counters.tx_packets++;
  port.counters.tx_bytes += frame.size();
  if (!port.sink) return;
  port.sink->Transmit(std::move(frame));
  WantFlush(port);
}

void Stack::SetMaster(Interface& i, IfIndex master) {
  if (i.master == master) return;
  Interface* old = FindInterface(i.master);
  i.master = master;
  if (old != nullptr && old->bridge) {
    old->bridge->ForgetPort(i.index);
    BridgeChanged(*old);
  }
  if (Interface* bridge = FindInterface(master); bridge != nullptr) {
    bridge->bridge->Set(i.config.mac, i.index, now_);
    BridgeChanged(*bridge);
  }
  NotifyLink(i);
}

// A bridge takes the least address of its ports and has a carrier when one of them has.
void Stack::BridgeChanged(Interface& bridge) {
  bool carrier = false, any = false;
  MacAddr least = MacAddr::Broadcast();
  for (auto& [index, i] : interfaces_) {
    if (i->master != bridge.index) continue;
    any = true;
    carrier = carrier || i->running();
    if (i->config.mac.b < least.b) least = i->config.mac;
  }
  if (any && !bridge.mac_set_by_user && bridge.config.mac != least) {
    bridge.config.mac = least;
    NotifyLink(bridge);
  }
  SetCarrierLocked(bridge, carrier);
}

// ---- VLANs ----

Interface* Stack::FindVlan(IfIndex lower, uint16_t id) {
  for (auto& [index, i] : interfaces_) {
    if (i->config.lower == lower && i->config.vlan_id == id) return i.get();
  }
  return nullptr;
}

void Stack::VlanIn(Interface& vlan, RxFrame& frame) {
  Packet inner{Chain(frame.data.Sub(kEthHeader + kVlanTag))};
  uint8_t* h = inner.Prepend(kEthHeader);
  std::memcpy(h, frame.data.data(), 12);
  std::memcpy(h + 12, frame.data.data() + 16, 2);
  RxFrame untagged = frame;
  untagged.data = inner.Flatten();
  FrameIn(vlan, untagged);
}

void Stack::VlanOut(Interface& vlan, Packet frame) {
  Interface* lower = FindInterface(vlan.config.lower);
  if (lower == nullptr || !lower->up) {
    vlan.counters.tx_dropped++;
    return;
  }
  const Slice flat = frame.Flatten();
  Packet tagged{Chain(flat.Sub(12))};
  uint8_t* h = tagged.Prepend(12 + kVlanTag);
  std::memcpy(h, flat.data(), 12);
  Store16(h + 12, kEthVlan);
  Store16(h + 14, vlan.config.vlan_id);
  TransmitRawFrame(*lower, std::move(tagged));
}

// The carrier of what stands on `lower` is lower's.
void Stack::DependentsChanged(Interface& lower) {
  if (Interface* bridge = FindInterface(lower.master); bridge != nullptr && bridge->bridge) {
    BridgeChanged(*bridge);
  }
  std::vector<Interface*> vlans;
  for (auto& [index, i] : interfaces_) {
    if (i->config.lower == lower.index) vlans.push_back(i.get());
  }
  for (Interface* v : vlans) {
    SetCarrierLocked(*v, lower.running());
    if (!lower.up) SetUpLocked(*v, false);
  }
}

// ---- The forwarding database ----

std::vector<FdbEntry> Stack::ForwardingDatabase(IfIndex index) {
  StackEntry entry(*this);
  Interface* i = FindInterface(index);
  if (i == nullptr || !i->bridge) return {};
  std::vector<FdbEntry> out = i->bridge->List(now_);
  out.push_back({i->config.mac, index, true, now_});
  return out;
}

NetResult<void> Stack::SetForwarding(IfIndex port, const MacAddr& mac, bool add) {
  StackEntry entry(*this);
  Interface* i = FindInterface(port);
  if (i == nullptr) return NetError::kNoDevice;
  Interface* bridge = i->bridge ? i : FindInterface(i->master);
  if (bridge == nullptr || !bridge->bridge) return NetError::kOpNotSupp;
  if (mac.IsMulticast() || mac.IsZero()) return NetError::kInvalid;
  if (add) {
    bridge->bridge->Set(mac, port, now_);
    return {};
  }
  if (!bridge->bridge->Remove(mac, port)) return NetError::kNotFound;
  return {};
}

}  // namespace ringwall::net
