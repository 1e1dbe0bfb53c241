// Frames in and out, and ARP. Read RFC 826 and RFC 5227 before editing.
#include <algorithm>

#include "netstack/link/packet_endpoint.h"
#include "netstack/stack.h"

namespace ringwall::net {
namespace {

FilterPacket::Sum SumOf(const RxFrame& frame) {
  return frame.checksum_valid ? FilterPacket::Sum::kNone : FilterPacket::Sum::kFull;
}

}  // namespace

void Stack::Input(IfIndex iface, RxFrame frame) { InputBatch(iface, {&frame, 1}); }

void Stack::InputBatch(IfIndex iface, std::span<RxFrame> frames) {
  StackEntry entry(*this);
  for (RxFrame& frame : frames) {
    Interface* i = FindInterface(iface);
    if (i == nullptr || !i->up || i->is_loopback()) return;
    frame_mark_ = 0;
    FrameIn(*i, frame);
    // Answers on the loopback must not pile up behind a large batch.
    if (loop_.size() > 64) DrainLoop();
  }
}

void Stack::FrameIn(Interface& iface, RxFrame& frame) {
  iface.counters.rx_packets++;
  iface.counters.rx_bytes += frame.data.size();
  frame.checksum_valid |= iface.config.rx_checksum;
  if (iface.config.kind == LinkKind::kIp) {
    TapFrame(iface, frame.data.span(), 0, false);
    if (frame.data.empty()) return;
    if (!FilterFrame(NftFamily::kNetdev, kNftIngress, &iface, nullptr, SumOf(frame), frame.data)) return;
    incoming_meta_.mark = frame_mark_;
    const int version = frame.data.data()[0] >> 4;
    if (version == 4) return Ipv4In(iface, frame.data, frame, false);
    if (version == 6) return Ipv6In(iface, frame.data, frame);
    counters_.link_unknown++;
    return;
  }
  std::optional<EthernetView> eth = EthernetView::Parse(frame.data.span());
  if (!eth) {
    counters_.link_malformed++;
    iface.counters.rx_errors++;
    return;
  }
  TapFrame(iface, frame.data.span(), eth->header_size(), false);
  if (!FilterFrame(NftFamily::kNetdev, kNftIngress, &iface, nullptr, SumOf(frame), frame.data)) return;
  eth = EthernetView::Parse(frame.data.span());
  if (!eth) return;
  const MacAddr dst = eth->dst();
  if (iface.master != 0) return BridgeIn(iface, frame);
  if (eth->tagged() && eth->vlan() != 0) {
    if (Interface* vlan = FindVlan(iface.index, eth->vlan()); vlan != nullptr && vlan->up) {
      return VlanIn(*vlan, frame);
    }
  }
  if (dst.IsMulticast()) {
    iface.counters.multicast++;
  } else if (dst != iface.config.mac) {
    return;  // another host's: only taps see it
  }
  if (eth->tagged() && eth->vlan() != 0) return;  // of a VLAN that is not here
  const uint16_t type = eth->type();
  if (type == kEthArp &&
      !FilterFrame(NftFamily::kArp, kNftArpIn, &iface, nullptr, FilterPacket::Sum::kFull, frame.data)) {
    return;
  }
  Slice payload = frame.data.Sub(std::min(eth->header_size(), frame.data.size()));
  incoming_meta_.mark = frame_mark_;
  switch (type) {
    case kEthIpv4:
      return Ipv4In(iface, std::move(payload), frame, dst.IsMulticast());
    case kEthIpv6:
      return Ipv6In(iface, std::move(payload), frame);
    case kEthArp:
      return ArpIn(iface, payload.span());
    default:
      counters_.link_unknown++;
      return;
  }
}

void Stack::ArpIn(Interface& iface, ByteSpan b) {
  std::optional<ArpPacket> arp = ArpPacket::Parse(b);
  if (!arp || arp->sender_mac.IsMulticast() || arp->target_ip.IsMulticast() ||
      arp->sender_ip.IsMulticast() || arp->target_ip.IsLoopback()) {
    counters_.arp_malformed++;
    return;
  }
  const InterfaceAddress* mine = iface.FindAddress(arp->target_ip);
  // A probe (RFC 5227 2.1.1) has no sender address: answer it, learn nothing.
  if (arp->sender_ip.IsAny()) {
    if (arp->op == ArpOp::kRequest && mine != nullptr) {
      SendArp(iface, {ArpOp::kReply, iface.config.mac, arp->target_ip, arp->sender_mac,
                      arp->sender_ip}, arp->sender_mac);
    }
    return;
  }
  if (iface.FindAddress(arp->sender_ip) != nullptr) {
    // RFC 5227 2.4: someone else uses our address; defend it with one announcement.
    if (arp->sender_mac != iface.config.mac && icmp_limit_.Allow(arp->sender_ip, now_)) {
      SendArp(iface, {ArpOp::kRequest, iface.config.mac, arp->sender_ip, MacAddr{},
                      arp->sender_ip}, MacAddr::Broadcast());
    }
    return;
  }
  if (arp->op == ArpOp::kRequest) {
    // RFC 826: learn from a request to us; from others only refresh what is known.
    iface.neighbours.Learn(arp->sender_ip, arp->sender_mac, now_, mine != nullptr);
    if (mine != nullptr) {
      SendArp(iface, {ArpOp::kReply, iface.config.mac, arp->target_ip, arp->sender_mac,
                      arp->sender_ip}, arp->sender_mac);
    }
    return;
  }
  const bool to_us = mine != nullptr && arp->target_mac == iface.config.mac;
  iface.neighbours.OnAdvert(arp->sender_ip, arp->sender_mac, to_us, true, false, now_);
}

void Stack::SendArp(Interface& iface, const ArpPacket& arp, const MacAddr& to) {
  if (iface.config.kind != LinkKind::kEthernet) return;
  Packet p;
  arp.Write(p.Prepend(ArpPacket::kSize));
  if (!filter_->nft().Sees(NftFamily::kArp)) return TransmitFrame(iface, to, kEthArp, std::move(p));
  if (!iface.up || (!iface.sink && !iface.bridge && iface.config.lower == 0)) return;
  WriteEthernet(p.Prepend(kEthHeader), to, iface.config.mac, kEthArp);
  Slice frame = p.Flatten();
  frame_mark_ = 0;
  if (!FilterFrame(NftFamily::kArp, kNftArpOut, nullptr, &iface, FilterPacket::Sum::kFull, frame)) return;
  TransmitRawFrame(iface, Packet(Chain(std::move(frame))));
}

void Stack::TransmitFrame(Interface& iface, const MacAddr& dst, uint16_t type, Packet packet) {
  if (!iface.up || (!iface.sink && !iface.bridge && iface.config.lower == 0)) {
    iface.counters.tx_dropped++;
    return;
  }
  frame_mark_ = 0;
  if (iface.config.kind == LinkKind::kEthernet) {
    WriteEthernet(packet.Prepend(kEthHeader), dst, iface.config.mac, type);
  }
  TransmitRawFrame(iface, std::move(packet));
}

void Stack::TransmitRawFrame(Interface& iface, Packet frame) {
  if (frame.offload.needs_checksum) {
    frame.offload.checksum_start =
        static_cast<uint16_t>(frame.header().size() - frame.transport_size);
  }
  if (!Egress(iface, frame)) return;
  iface.counters.tx_packets++;
  iface.counters.tx_bytes += frame.size();
  if (!taps_.empty()) {
    const bool ethernet = iface.config.kind == LinkKind::kEthernet || iface.is_loopback();
    const size_t header = ethernet ? kEthHeader : 0;
    const Slice flat = frame.Flatten();
    TapFrame(iface, flat.span(), header, true);
    // What comes back and is neither IPv4 nor IPv6 is nobody's but theirs who listen to all.
    if (iface.is_loopback()) TapFrame(iface, flat.span(), header, false);
  }
  if (iface.is_loopback()) return;
  if (iface.bridge) return BridgeOut(iface, std::move(frame), 0);
  if (iface.config.lower != 0) return VlanOut(iface, std::move(frame));
  iface.sink->Transmit(std::move(frame));
  WantFlush(iface);
}

void Stack::WantFlush(Interface& iface) {
  if (iface.flush_wanted || !iface.sink) return;
  iface.flush_wanted = true;
  flush_.push_back(iface.sink);
}

void Stack::TapFrame(Interface& iface, ByteSpan frame, size_t link_header, bool outgoing) {
  tapped_++;
  for (PacketEndpoint* tap : taps_) tap->OnFrame(iface, frame, link_header, outgoing, tapped_);
}

RefPtr<FanoutGroup> Stack::FindFanout(uint16_t id) {
  for (PacketEndpoint* tap : taps_) {
    if (tap->fanout() != nullptr && tap->fanout()->id == id) {
      return RefPtr<FanoutGroup>(tap->fanout());
    }
  }
  return nullptr;
}

}  // namespace ringwall::net
