// Big-endian loads and stores, and the span types of the wire layer.
#ifndef RINGWALL_NETSTACK_WIRE_BYTES_H_
#define RINGWALL_NETSTACK_WIRE_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace ringwall::net {

using ByteSpan = std::span<const uint8_t>;
using MutableByteSpan = std::span<uint8_t>;

inline uint16_t Load16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
inline uint32_t Load32(const uint8_t* p) {
  return static_cast<uint32_t>(p[0]) << 24 | static_cast<uint32_t>(p[1]) << 16 |
         static_cast<uint32_t>(p[2]) << 8 | p[3];
}
inline void Store16(uint8_t* p, uint16_t v) {
  p[0] = static_cast<uint8_t>(v >> 8);
  p[1] = static_cast<uint8_t>(v);
}
inline void Store32(uint8_t* p, uint32_t v) {
  Store16(p, static_cast<uint16_t>(v >> 16));
  Store16(p + 2, static_cast<uint16_t>(v));
}

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_WIRE_BYTES_H_
