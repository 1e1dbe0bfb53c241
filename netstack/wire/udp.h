// UDP, RFC 768. The view covers what the length field says; bytes behind it are cut off.
#ifndef RINGWALL_NETSTACK_WIRE_UDP_H_
#define RINGWALL_NETSTACK_WIRE_UDP_H_

#include <optional>

#include "netstack/wire/address.h"
#include "netstack/wire/bytes.h"

namespace ringwall::net {

inline constexpr size_t kUdpHeader = 8;

class UdpView {
 public:
  static std::optional<UdpView> Parse(ByteSpan b) {
    if (b.size() < kUdpHeader) return std::nullopt;
    const size_t length = Load16(&b[4]);
    if (length < kUdpHeader || length > b.size()) return std::nullopt;
    return UdpView(b.first(length));
  }
  uint16_t src_port() const { return Load16(&b_[0]); }
  uint16_t dst_port() const { return Load16(&b_[2]); }
  uint16_t checksum() const { return Load16(&b_[6]); }
  ByteSpan payload() const { return b_.subspan(kUdpHeader); }
  // RFC 768: 0 is "none" over IPv4; RFC 8200 8.1: not allowed over IPv6.
  bool ChecksumOk(const IpAddr& src, const IpAddr& dst) const;

 private:
  explicit UdpView(ByteSpan b) : b_(b) {}
  ByteSpan b_;
};

inline void WriteUdp(uint8_t* out, uint16_t src_port, uint16_t dst_port, size_t payload_size) {
  Store16(out, src_port);
  Store16(out + 2, dst_port);
  Store16(out + 4, static_cast<uint16_t>(kUdpHeader + payload_size));
  Store16(out + 6, 0);
}

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_WIRE_UDP_H_
