// The Internet checksum, RFC 1071. A Checksum is fed pieces in order; a piece of odd length is
// remembered, so pieces need no alignment.
#ifndef RINGWALL_NETSTACK_WIRE_CHECKSUM_H_
#define RINGWALL_NETSTACK_WIRE_CHECKSUM_H_

#include <cstdint>

#include "netstack/wire/address.h"
#include "netstack/wire/bytes.h"

namespace ringwall::net {

// One's complement sum of a piece as if it started at an even offset, folded to 16 bits.
uint16_t SumBytes(const uint8_t* p, size_t n);

class Checksum {
 public:
  void Add(ByteSpan piece) {
    uint32_t s = SumBytes(piece.data(), piece.size());
    // RFC 1071 2(B): a piece at an odd offset adds its byte-swapped sum.
    if (odd_) s = ((s & 0xff) << 8) | (s >> 8);
    sum_ += s;
    if ((piece.size() & 1) != 0) odd_ = !odd_;
  }
  void Add16(uint16_t v) { sum_ += v; }
  void Add32(uint32_t v) { sum_ += (v >> 16) + (v & 0xffff); }
  // The pseudo header of RFC 9293 3.1 and RFC 8200 8.1.
  void AddPseudo(const IpAddr& src, const IpAddr& dst, uint8_t proto, uint32_t length) {
    sum_ += SumBytes(src.data(), src.size());
    sum_ += SumBytes(dst.data(), dst.size());
    Add32(length);
    sum_ += proto;
  }
  uint16_t Folded() const {
    uint64_t s = sum_;
    while ((s >> 16) != 0) s = (s & 0xffff) + (s >> 16);
    return static_cast<uint16_t>(s);
  }
  // The value for the header's field.
  uint16_t Finish() const { return static_cast<uint16_t>(~Folded()); }
  // Whether data that contains its own checksum is intact.
  bool Valid() const { return Folded() == 0xffff; }

 private:
  uint64_t sum_ = 0;
  bool odd_ = false;
};

inline uint16_t ChecksumOf(ByteSpan piece) {
  return static_cast<uint16_t>(~SumBytes(piece.data(), piece.size()));
}
// A checksum after a 16-bit or 32-bit field of its data changed: RFC 1624, equation 3.
uint16_t ChecksumUpdate16(uint16_t check, uint16_t from, uint16_t to);
uint16_t ChecksumUpdate32(uint16_t check, uint32_t from, uint32_t to);

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_WIRE_CHECKSUM_H_
