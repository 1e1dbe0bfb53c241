#include "netstack/wire/checksum.h"

namespace ringwall::net {

uint16_t SumBytes(const uint8_t* p, size_t n) {
  // Sums in the machine's byte order and swaps once at the end: RFC 1071 2(B).
  uint64_t sum = 0;
  while (n >= 32) {
    uint64_t a, b, c, d;
    std::memcpy(&a, p, 8);
    std::memcpy(&b, p + 8, 8);
    std::memcpy(&c, p + 16, 8);
    std::memcpy(&d, p + 24, 8);
    sum += (a & 0xffffffff) + (a >> 32);
    sum += (b & 0xffffffff) + (b >> 32);
    sum += (c & 0xffffffff) + (c >> 32);
    sum += (d & 0xffffffff) + (d >> 32);
    p += 32;
    n -= 32;
  }
  while (n >= 4) {
    uint32_t v;
    std::memcpy(&v, p, 4);
    sum += v;
    p += 4;
    n -= 4;
  }
  if (n >= 2) {
    uint16_t v;
    std::memcpy(&v, p, 2);
    sum += v;
    p += 2;
    n -= 2;
  }
  if (n != 0) sum += *p;
  while ((sum >> 16) != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>((sum & 0xff) << 8 | sum >> 8);
}

uint16_t ChecksumUpdate16(uint16_t check, uint16_t from, uint16_t to) {
  uint32_t s = static_cast<uint16_t>(~check) + static_cast<uint16_t>(~from) + to;
  s = (s & 0xffff) + (s >> 16);
  s = (s & 0xffff) + (s >> 16);
  return static_cast<uint16_t>(~s);
}

uint16_t ChecksumUpdate32(uint16_t check, uint32_t from, uint32_t to) {
  check = ChecksumUpdate16(check, static_cast<uint16_t>(from >> 16),
                           static_cast<uint16_t>(to >> 16));
  return ChecksumUpdate16(check, static_cast<uint16_t>(from), static_cast<uint16_t>(to));
}

}  // namespace ringwall::net
