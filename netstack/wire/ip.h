// IPv4 (RFC 791) and IPv6 (RFC 8200) headers: checked views and writers.
#ifndef RINGWALL_NETSTACK_WIRE_IP_H_
#define RINGWALL_NETSTACK_WIRE_IP_H_

#include <optional>

#include "netstack/wire/address.h"
#include "netstack/wire/bytes.h"

namespace ringwall::net {

inline constexpr uint8_t kProtoHopByHop = 0;
inline constexpr uint8_t kProtoIcmp = 1;
inline constexpr uint8_t kProtoIgmp = 2;
inline constexpr uint8_t kProtoTcp = 6;
inline constexpr uint8_t kProtoUdp = 17;
inline constexpr uint8_t kProtoRouting = 43;
inline constexpr uint8_t kProtoFragment = 44;
inline constexpr uint8_t kProtoIcmpv6 = 58;
inline constexpr uint8_t kProtoNoNext = 59;
inline constexpr uint8_t kProtoDestOpts = 60;

inline constexpr size_t kIpv4Header = 20;
inline constexpr size_t kIpv6Header = 40;

// The view covers the datagram only: bytes of link padding behind it are cut off by Parse.
class Ipv4View {
 public:
  static std::optional<Ipv4View> Parse(ByteSpan b);
  size_t header_size() const { return static_cast<size_t>(b_[0] & 0xf) * 4; }
  uint8_t tos() const { return b_[1]; }
  uint16_t total_length() const { return static_cast<uint16_t>(b_.size()); }
  uint16_t id() const { return Load16(&b_[4]); }
  bool dont_fragment() const { return (b_[6] & 0x40) != 0; }
  bool more_fragments() const { return (b_[6] & 0x20) != 0; }
  uint32_t fragment_offset() const { return (Load16(&b_[6]) & 0x1fffu) * 8; }
  bool is_fragment() const { return more_fragments() || fragment_offset() != 0; }
  uint8_t ttl() const { return b_[8]; }
  uint8_t protocol() const { return b_[9]; }
  IpAddr src() const { return IpAddr::V4(&b_[12]); }
  IpAddr dst() const { return IpAddr::V4(&b_[16]); }
  ByteSpan options() const { return b_.subspan(kIpv4Header, header_size() - kIpv4Header); }
  ByteSpan header() const { return b_.first(header_size()); }
  ByteSpan payload() const { return b_.subspan(header_size()); }
  ByteSpan datagram() const { return b_; }
  bool ChecksumOk() const;

 private:
  explicit Ipv4View(ByteSpan b) : b_(b) {}
  ByteSpan b_;
};

class Ipv6View {
 public:
  static std::optional<Ipv6View> Parse(ByteSpan b);
  uint8_t traffic_class() const { return static_cast<uint8_t>(Load16(&b_[0]) >> 4); }
  uint32_t flow_label() const { return Load32(&b_[0]) & 0xfffff; }
  uint8_t next_header() const { return b_[6]; }
  uint8_t hop_limit() const { return b_[7]; }
  IpAddr src() const { return IpAddr::V6(&b_[8]); }
  IpAddr dst() const { return IpAddr::V6(&b_[24]); }
  ByteSpan payload() const { return b_.subspan(kIpv6Header); }
  ByteSpan datagram() const { return b_; }

 private:
  explicit Ipv6View(ByteSpan b) : b_(b) {}
  ByteSpan b_;
};

// The fields of a header that we write.
struct IpHeader {
  IpAddr src;
  IpAddr dst;
  uint8_t protocol = 0;
  uint8_t ttl = 64;
  uint8_t tos = 0;
  bool dont_fragment = false;
  bool more_fragments = false;
  uint16_t fragment_offset = 0;  // bytes; IPv4 only
  uint16_t id = 0;               // IPv4 only
  uint32_t flow_label = 0;       // IPv6 only
  ByteSpan options = {};         // IPv4 only; a multiple of 4 bytes, at most 40

  size_t size() const { return src.is_v4() ? kIpv4Header + options.size() : kIpv6Header; }
  // Writes size() bytes, with IPv4's checksum.
  void Write(uint8_t* out, size_t payload_size) const;
};

// The IPv6 fragment header, RFC 8200 4.5.
struct Ipv6Fragment {
  static constexpr size_t kSize = 8;
  uint8_t next_header = 0;
  uint32_t offset = 0;  // bytes
  bool more = false;
  uint32_t id = 0;

  static std::optional<Ipv6Fragment> Parse(ByteSpan b);
  void Write(uint8_t* out) const;
};

// Where a walk over IPv6's extension headers ended.
struct Ipv6Walk {
  enum class Stop : uint8_t {
    kUpper,          // protocol is a transport's, at offset
    kFragment,       // a fragment header at offset
    kMalformed,      // a header runs past the end: drop
    kParamProblem,   // answer ICMPv6 parameter problem `code` about byte `pointer`
  };
  Stop stop = Stop::kMalformed;
  uint8_t protocol = 0;
  uint32_t offset = 0;         // from the start of the datagram
  uint32_t next_field = 0;     // where the byte naming `protocol` lies
  uint8_t code = 0;
  uint32_t pointer = 0;
  bool silent_if_multicast = false;  // RFC 8200 4.2: option type 11xxxxxx
  bool router_alert = false;
};
// Walks from the header named `protocol` at `offset`. Bounded: at most 16 headers, 64 options.
Ipv6Walk WalkIpv6(ByteSpan datagram, uint8_t protocol, uint32_t offset, uint32_t next_field);

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_WIRE_IP_H_
