// Where frames meet nftables: the chains of netdev (and inet's ingress), bridge and arp.
#include "netstack/stack.h"

namespace ringwall::net {
namespace {

constexpr int kMostDepth = 4;  // of frames that rules send on: devices may point at each other

}  // namespace

bool Stack::FilterFrame(NftFamily layer, uint32_t hook, const Interface* in, const Interface* out,
                        FilterPacket::Sum sum, Slice& frame) {
  if (!filter_->nft().Sees(layer)) return true;
  const Interface& at = in != nullptr ? *in : *out;
  if (layer == NftFamily::kNetdev && !filter_->nft().SeesDevice(at.config.name)) return true;
  size_t link = 0;
  uint16_t type = 0;
  if (at.config.kind == LinkKind::kIp) {
    type = !frame.empty() && frame.data()[0] >> 4 == 6 ? kEthIpv6 : kEthIpv4;
  } else {
    const std::optional<EthernetView> eth = EthernetView::Parse(frame.span());
    if (!eth) return false;
    link = eth->header_size();
    type = eth->type();
  }
  FilterPacket p = FilterPacket::ParseFrame(frame.span(), link, type, sum);
  if (in != nullptr) {
    p.in = in->index;
    p.in_name = in->config.name;
  }
  if (out != nullptr) {
    p.out = out->index;
    p.out_name = out->config.name;
  }
  // Behind a link's hooks for what goes out the header is in front already (skb->len).
  p.link_counts = (layer == NftFamily::kNetdev && hook == kNftEgress) ||
                  (layer == NftFamily::kArp && hook == kNftArpOut);
  p.meta.mark = frame_mark_;
  const bool passes = filter_->RunLink(layer, hook, p);
  frame_mark_ = p.meta.mark;
  if (passes && p.changed) frame = p.Frame();
  return passes;
}

bool Stack::Egress(Interface& iface, Packet& frame) {
  if (!filter_->nft().Sees(NftFamily::kNetdev) || !filter_->nft().SeesDevice(iface.config.name)) return true;
  Slice flat = frame.Flatten();
  const auto sum = frame.offload.needs_checksum ? FilterPacket::Sum::kPartial : FilterPacket::Sum::kFull;
  if (!FilterFrame(NftFamily::kNetdev, kNftEgress, nullptr, &iface, sum, flat)) {
    iface.counters.tx_dropped++;
    return false;
  }
  const Offload offload = frame.offload;
  frame = Packet(Chain(std::move(flat)));
  frame.offload = offload;
  return true;
}

bool Stack::FilterLoop(Interface& lo, Slice& datagram, PacketMeta& meta) {
  if (!filter_->nft().Sees(NftFamily::kNetdev) || !filter_->nft().SeesDevice(lo.config.name)) return true;
  Packet p{Chain(datagram)};
  WriteEthernet(p.Prepend(kEthHeader), {}, {}, datagram.data()[0] >> 4 == 4 ? kEthIpv4 : kEthIpv6);
  Slice frame = p.Flatten();
  frame_mark_ = meta.mark;
  if (!FilterFrame(NftFamily::kNetdev, kNftEgress, nullptr, &lo, FilterPacket::Sum::kNone, frame) ||
      !FilterFrame(NftFamily::kNetdev, kNftIngress, &lo, nullptr, FilterPacket::Sum::kNone, frame)) {
    return false;
  }
  meta.mark = frame_mark_;
  datagram = frame.Sub(kEthHeader);
  return true;
}

void Stack::SendFrameCopy(IfIndex oif, const FilterPacket& p) {
  Interface* out = FindInterface(oif);
  if (out == nullptr || !out->up || frame_depth_ >= kMostDepth) return;
  FilterPacket copy = p;
  if (copy.is_ip() && copy.sum() != FilterPacket::Sum::kFull) copy.CompleteChecksum();
  Slice frame = out->config.kind == LinkKind::kIp ? copy.slice() : copy.Frame();
  if (copy.size() > out->config.mtu || (!out->sink && !out->bridge && out->config.lower == 0)) {
    out->counters.tx_dropped++;
    return;
  }
  frame_depth_++;
  TransmitRawFrame(*out, Packet(Chain(std::move(frame))));
  frame_depth_--;
}

}  // namespace ringwall::net
