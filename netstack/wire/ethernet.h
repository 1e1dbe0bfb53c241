// Ethernet II frames with at most one 802.1Q tag, and ARP for IPv4 over Ethernet (RFC 826).
// Views: Parse is the only constructor; no accessor can fail after it.
#ifndef RINGWALL_NETSTACK_WIRE_ETHERNET_H_
#define RINGWALL_NETSTACK_WIRE_ETHERNET_H_

#include <optional>

#include "netstack/wire/address.h"
#include "netstack/wire/bytes.h"

namespace ringwall::net {

inline constexpr uint16_t kEthIpv4 = 0x0800;
inline constexpr uint16_t kEthArp = 0x0806;
inline constexpr uint16_t kEthVlan = 0x8100;
inline constexpr uint16_t kEthIpv6 = 0x86dd;
inline constexpr size_t kEthHeader = 14;

class EthernetView {
 public:
  static std::optional<EthernetView> Parse(ByteSpan frame) {
    if (frame.size() < kEthHeader) return std::nullopt;
    const bool tagged = Load16(&frame[12]) == kEthVlan;
    if (tagged && frame.size() < kEthHeader + 4) return std::nullopt;
    return EthernetView(frame, tagged);
  }
  MacAddr dst() const { return MacAddr::From(&b_[0]); }
  MacAddr src() const { return MacAddr::From(&b_[6]); }
  bool tagged() const { return tagged_; }
  uint16_t vlan() const { return tagged_ ? Load16(&b_[14]) & 0xfff : 0; }
  uint16_t type() const { return Load16(&b_[tagged_ ? 16 : 12]); }
  size_t header_size() const { return tagged_ ? kEthHeader + 4 : kEthHeader; }
  ByteSpan payload() const { return b_.subspan(header_size()); }

 private:
  EthernetView(ByteSpan b, bool tagged) : b_(b), tagged_(tagged) {}
  ByteSpan b_;
  bool tagged_;
};

// Preconditions: out has kEthHeader bytes.
inline void WriteEthernet(uint8_t* out, const MacAddr& dst, const MacAddr& src, uint16_t type) {
  std::memcpy(out, dst.b.data(), 6);
  std::memcpy(out + 6, src.b.data(), 6);
  Store16(out + 12, type);
}

enum class ArpOp : uint16_t { kRequest = 1, kReply = 2 };

struct ArpPacket {
  static constexpr size_t kSize = 28;
  ArpOp op = ArpOp::kRequest;
  MacAddr sender_mac;
  IpAddr sender_ip;
  MacAddr target_mac;
  IpAddr target_ip;

  // nullopt unless it is a request or reply for IPv4 over Ethernet.
  static std::optional<ArpPacket> Parse(ByteSpan b);
  void Write(uint8_t* out) const;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_WIRE_ETHERNET_H_
