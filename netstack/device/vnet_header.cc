#include "netstack/device/vnet_header.h"

#include "netstack/wire/checksum.h"
#include "netstack/wire/ip.h"
#include "netstack/wire/tcp.h"

namespace ringwall::net {

VnetHeader VnetHeader::Of(const Packet& packet) {
  VnetHeader h;
  const Offload& o = packet.offload;
  if (!o.needs_checksum) return h;
  h.flags = kNeedsChecksum;
  h.checksum_start = o.checksum_start;
  h.checksum_offset = o.checksum_offset;
  h.header_size = static_cast<uint16_t>(packet.header().size());
  switch (o.gso) {
    case Offload::Gso::kNone: return h;
    case Offload::Gso::kTcp4: h.gso_type = kGsoTcp4; break;
    case Offload::Gso::kTcp6: h.gso_type = kGsoTcp6; break;
    case Offload::Gso::kUdp: h.gso_type = kGsoUdpL4; break;
  }
  h.gso_size = o.gso_size;
  return h;
}

bool VnetHeader::CompleteChecksum(MutableByteSpan frame) const {
  const bool wanted = (flags & kNeedsChecksum) != 0;
  const size_t end = size_t{checksum_start} + checksum_offset + 2;
  if (std::max<size_t>(header_size, wanted ? end : 0) > frame.size()) return false;
  if (!wanted) return true;
  const uint16_t sum = ChecksumOf(frame.subspan(checksum_start));
  Store16(&frame[end - 2], sum == 0 ? 0xffff : sum);
  return true;
}

std::optional<std::vector<Slice>> SplitTcp(ByteSpan packet, size_t link_header, size_t mss) {
  if (mss == 0 || packet.size() <= link_header) return std::nullopt;
  ByteSpan ip = packet.subspan(link_header);
  size_t ip_header;
  IpAddr src, dst;
  const bool v4 = ip[0] >> 4 == 4;
  if (v4) {
    const std::optional<Ipv4View> view = Ipv4View::Parse(ip);
    if (!view || view->protocol() != kProtoTcp || view->is_fragment()) return std::nullopt;
    ip = ip.first(view->total_length());
    ip_header = view->header_size();
    src = view->src(), dst = view->dst();
  } else {
    const std::optional<Ipv6View> view = Ipv6View::Parse(ip);
    if (!view || view->next_header() != kProtoTcp) return std::nullopt;
    ip_header = kIpv6Header;
    ip = ip.first(std::min(ip.size(), kIpv6Header + size_t{Load16(&ip[4])}));
    src = view->src(), dst = view->dst();
  }
  const ByteSpan segment = ip.subspan(ip_header);
  const std::optional<TcpView> tcp = TcpView::Parse(segment);
  if (!tcp) return std::nullopt;
  const ByteSpan data = tcp->payload();
  const size_t headers = link_header + ip_header + tcp->header_size();
  std::vector<Slice> out;
  size_t at = 0;
  do {
    const size_t n = std::min(mss, data.size() - at);
    Ref<Buffer> buffer = Buffer::New(headers + n);
    uint8_t* b = buffer->data();
    std::memcpy(b, packet.data(), headers);
    if (n != 0) std::memcpy(b + headers, data.data() + at, n);
    uint8_t* h = b + link_header;
    const size_t transport = headers - link_header - ip_header + n;
    if (v4) {
      Store16(h + 2, static_cast<uint16_t>(ip_header + transport));
      Store16(h + 4, static_cast<uint16_t>(Load16(h + 4) + out.size()));
      Store16(h + 10, 0);
      Store16(h + 10, ChecksumOf({h, ip_header}));
    } else {
      Store16(h + 4, static_cast<uint16_t>(transport));
    }
    uint8_t* t = h + ip_header;
    Store32(t + 4, Load32(t + 4) + static_cast<uint32_t>(at));
    if (at + n < data.size()) t[13] &= static_cast<uint8_t>(~(kFin | kPsh));
    if (at != 0) t[13] &= static_cast<uint8_t>(~kCwr);
    Store16(t + 16, 0);
    Checksum c;
    c.AddPseudo(src, dst, kProtoTcp, static_cast<uint32_t>(transport));
    c.Add({t, transport});
    Store16(t + 16, c.Finish());
    buffer->set_used(buffer->capacity());
    out.emplace_back(std::move(buffer), 0, headers + n);
    at += n;
  } while (at < data.size());
  return out;
}

}  // namespace ringwall::net
