// TCP segments: a checked view, and TcpSegment, the decoded header with its options.
// Read RFC 9293 3.1-3.2, RFC 7323 and RFC 2018 before editing.
#ifndef RINGWALL_NETSTACK_WIRE_TCP_H_
#define RINGWALL_NETSTACK_WIRE_TCP_H_

#include <array>
#include <optional>

#include "netstack/wire/address.h"
#include "netstack/wire/bytes.h"
#include "netstack/wire/seq_num.h"

namespace ringwall::net {

inline constexpr size_t kTcpHeader = 20;
inline constexpr size_t kTcpMaxHeader = 60;

enum TcpFlags : uint8_t {
  kFin = 0x01,
  kSyn = 0x02,
  kRst = 0x04,
  kPsh = 0x08,
  kAck = 0x10,
  kUrg = 0x20,
  kEce = 0x40,
  kCwr = 0x80,
};

struct SackBlock {
  SeqNum start;
  SeqNum end;
  friend constexpr bool operator==(const SackBlock&, const SackBlock&) = default;
};

struct TcpTimestamps {
  uint32_t value = 0;
  uint32_t echo = 0;
  friend constexpr bool operator==(const TcpTimestamps&, const TcpTimestamps&) = default;
};

struct TcpOptions {
  std::optional<uint16_t> mss;
  std::optional<uint8_t> window_scale;
  bool sack_permitted = false;
  std::optional<TcpTimestamps> timestamps;
  std::array<SackBlock, 4> sack = {};
  uint8_t sack_count = 0;
  bool fast_open = false;  // RFC 7413 2: a cookie, or a request when the length is 0
  uint8_t cookie_size = 0;
  std::array<uint8_t, 16> cookie = {};

  // Decodes the option bytes. Options that are malformed end the list, as Linux does; unknown
  // ones are skipped.
  static TcpOptions Parse(ByteSpan b);
  // Bytes that Write will produce, a multiple of 4, at most 40.
  size_t size() const;
  void Write(uint8_t* out) const;
};

struct TcpSegment {
  uint16_t src_port = 0;
  uint16_t dst_port = 0;
  SeqNum seq;
  SeqNum ack;
  uint8_t flags = 0;
  uint16_t window = 0;
  uint16_t urgent = 0;
  TcpOptions options;

  bool Has(uint8_t f) const { return (flags & f) != 0; }
  size_t header_size() const { return kTcpHeader + options.size(); }
  // Writes header_size() bytes, checksum field 0.
  void Write(uint8_t* out) const;
};

class TcpView {
 public:
  static std::optional<TcpView> Parse(ByteSpan b) {
    if (b.size() < kTcpHeader) return std::nullopt;
    const size_t header = static_cast<size_t>(b[12] >> 4) * 4;
    if (header < kTcpHeader || header > b.size()) return std::nullopt;
    return TcpView(b);
  }
  size_t header_size() const { return static_cast<size_t>(b_[12] >> 4) * 4; }
  uint16_t src_port() const { return Load16(&b_[0]); }
  uint16_t dst_port() const { return Load16(&b_[2]); }
  ByteSpan payload() const { return b_.subspan(header_size()); }
  bool ChecksumOk(const IpAddr& src, const IpAddr& dst) const;
  TcpSegment ToSegment() const;

 private:
  explicit TcpView(ByteSpan b) : b_(b) {}
  ByteSpan b_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_WIRE_TCP_H_
