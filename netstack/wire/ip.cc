#include "netstack/wire/ip.h"

#include "netstack/wire/checksum.h"

namespace ringwall::net {

std::optional<Ipv4View> Ipv4View::Parse(ByteSpan b) {
  if (b.size() < kIpv4Header || (b[0] >> 4) != 4) return std::nullopt;
  const size_t header = static_cast<size_t>(b[0] & 0xf) * 4;
  const size_t total = Load16(&b[2]);
  if (header < kIpv4Header || total < header || total > b.size()) return std::nullopt;
  return Ipv4View(b.first(total));
}

bool Ipv4View::ChecksumOk() const {
  return SumBytes(b_.data(), header_size()) == 0xffff;
}

std::optional<Ipv6View> Ipv6View::Parse(ByteSpan b) {
  if (b.size() < kIpv6Header || (b[0] >> 4) != 6) return std::nullopt;
  const size_t total = kIpv6Header + Load16(&b[4]);
  if (total > b.size()) return std::nullopt;
  return Ipv6View(b.first(total));
}

void IpHeader::Write(uint8_t* out, size_t payload_size) const {
  if (src.is_v4()) {
    const size_t header = size();
    out[0] = static_cast<uint8_t>(0x40 | header / 4);
    out[1] = tos;
    Store16(out + 2, static_cast<uint16_t>(header + payload_size));
    Store16(out + 4, id);
    Store16(out + 6, static_cast<uint16_t>((dont_fragment ? 0x4000 : 0) |
                                           (more_fragments ? 0x2000 : 0) | fragment_offset / 8));
    out[8] = ttl;
    out[9] = protocol;
    Store16(out + 10, 0);
    std::memcpy(out + 12, src.data(), 4);
    std::memcpy(out + 16, dst.data(), 4);
    if (!options.empty()) std::memcpy(out + kIpv4Header, options.data(), options.size());
    Store16(out + 10, ChecksumOf({out, header}));
    return;
  }
  Store32(out, 0x60000000u | static_cast<uint32_t>(tos) << 20 | (flow_label & 0xfffff));
  Store16(out + 4, static_cast<uint16_t>(payload_size));
  out[6] = protocol;
  out[7] = ttl;
  std::memcpy(out + 8, src.data(), 16);
  std::memcpy(out + 24, dst.data(), 16);
}

std::optional<Ipv6Fragment> Ipv6Fragment::Parse(ByteSpan b) {
  if (b.size() < kSize) return std::nullopt;
  Ipv6Fragment f;
  f.next_header = b[0];
  f.offset = Load16(&b[2]) & 0xfff8u;
  f.more = (b[3] & 1) != 0;
  f.id = Load32(&b[4]);
  return f;
}

void Ipv6Fragment::Write(uint8_t* out) const {
  out[0] = next_header;
  out[1] = 0;
  Store16(out + 2, static_cast<uint16_t>((offset & 0xfff8) | (more ? 1 : 0)));
  Store32(out + 4, id);
}

namespace {

// Walks the options of a hop-by-hop or destination options header: RFC 8200 4.2. Returns false
// when `walk` was given its end.
bool WalkOptions(ByteSpan options, uint32_t base, Ipv6Walk& walk) {
  size_t i = 0;
  for (int count = 0; i < options.size(); count++) {
    if (count == 64) return walk.stop = Ipv6Walk::Stop::kMalformed, false;
    const uint8_t type = options[i];
    if (type == 0) {  // Pad1
      i++;
      continue;
    }
    if (i + 2 > options.size() || i + 2 + options[i + 1] > options.size()) {
      return walk.stop = Ipv6Walk::Stop::kMalformed, false;
    }
    if (type == 5) {
      walk.router_alert = true;
    } else if (type != 1) {  // PadN
      const int action = type >> 6;
      if (action == 1) return walk.stop = Ipv6Walk::Stop::kMalformed, false;
      if (action >= 2) {
        walk.stop = Ipv6Walk::Stop::kParamProblem;
        walk.code = 2;
        walk.pointer = base + static_cast<uint32_t>(i);
        walk.silent_if_multicast = action == 3;
        return false;
      }
    }
    i += 2u + options[i + 1];
  }
  return true;
}

}  // namespace

Ipv6Walk WalkIpv6(ByteSpan datagram, uint8_t protocol, uint32_t offset, uint32_t next_field) {
  Ipv6Walk walk;
  walk.protocol = protocol;
  walk.offset = offset;
  walk.next_field = next_field;
  for (int count = 0; count < 16; count++) {
    switch (walk.protocol) {
      case kProtoHopByHop:
        // RFC 8200 4.1: only directly behind the IPv6 header.
        if (walk.offset != kIpv6Header) {
          walk.stop = Ipv6Walk::Stop::kParamProblem;
          walk.code = 1;
          walk.pointer = walk.next_field;
          return walk;
        }
        [[fallthrough]];
      case kProtoDestOpts:
      case kProtoRouting: {
        if (walk.offset + 8 > datagram.size()) return walk;
        const size_t size = (datagram[walk.offset + 1] + 1u) * 8;
        if (walk.offset + size > datagram.size()) return walk;
        if (walk.protocol == kProtoRouting) {
          // RFC 8200 4.4, RFC 5095: no routing type is processed here; segments left must be 0.
          if (datagram[walk.offset + 3] != 0) {
            walk.stop = Ipv6Walk::Stop::kParamProblem;
            walk.code = 0;
            walk.pointer = walk.offset + 2;
            return walk;
          }
        } else if (!WalkOptions(datagram.subspan(walk.offset + 2, size - 2), walk.offset + 2,
                                walk)) {
          return walk;
        }
        walk.next_field = walk.offset;
        walk.protocol = datagram[walk.offset];
        walk.offset += static_cast<uint32_t>(size);
        break;
      }
      case kProtoFragment:
        if (walk.offset + Ipv6Fragment::kSize > datagram.size()) return walk;
        walk.stop = Ipv6Walk::Stop::kFragment;
        return walk;
      default:
        walk.stop = Ipv6Walk::Stop::kUpper;
        return walk;
    }
  }
  walk.stop = Ipv6Walk::Stop::kMalformed;
  return walk;
}

}  // namespace ringwall::net
