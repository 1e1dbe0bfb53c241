#include "netstack/wire/ethernet.h"

namespace ringwall::net {

std::optional<ArpPacket> ArpPacket::Parse(ByteSpan b) {
  if (b.size() < kSize) return std::nullopt;
  if (Load16(&b[0]) != 1 || Load16(&b[2]) != kEthIpv4 || b[4] != 6 || b[5] != 4) {
    return std::nullopt;
  }
  const uint16_t op = Load16(&b[6]);
  if (op != 1 && op != 2) return std::nullopt;
  ArpPacket p;
  p.op = static_cast<ArpOp>(op);
  p.sender_mac = MacAddr::From(&b[8]);
  p.sender_ip = IpAddr::V4(&b[14]);
  p.target_mac = MacAddr::From(&b[18]);
  p.target_ip = IpAddr::V4(&b[24]);
  return p;
}

void ArpPacket::Write(uint8_t* out) const {
  Store16(out, 1);
  Store16(out + 2, kEthIpv4);
  out[4] = 6;
  out[5] = 4;
  Store16(out + 6, static_cast<uint16_t>(op));
  std::memcpy(out + 8, sender_mac.b.data(), 6);
  Store32(out + 14, sender_ip.v4());
  std::memcpy(out + 18, target_mac.b.data(), 6);
  Store32(out + 24, target_ip.v4());
}

}  // namespace ringwall::net
