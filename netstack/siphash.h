// SipHash-2-4 with a secret key: initial sequence numbers, SYN cookies, port choice and fragment
// identifiers are made of it, so a peer cannot guess them.
#ifndef RINGWALL_NETSTACK_SIPHASH_H_
#define RINGWALL_NETSTACK_SIPHASH_H_

#include <bit>
#include <cstdint>
#include <cstring>

#include "netstack/wire/bytes.h"

namespace ringwall::net {

struct SipKey {
  uint64_t k0 = 0;
  uint64_t k1 = 0;
};

inline uint64_t SipHash(const SipKey& key, ByteSpan in) {
  uint64_t v0 = key.k0 ^ 0x736f6d6570736575, v1 = key.k1 ^ 0x646f72616e646f6d;
  uint64_t v2 = key.k0 ^ 0x6c7967656e657261, v3 = key.k1 ^ 0x7465646279746573;
  auto round = [&] {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  };
  size_t i = 0;
  for (; i + 8 <= in.size(); i += 8) {
    uint64_t m;
    std::memcpy(&m, in.data() + i, 8);
    v3 ^= m;
    round();
    round();
    v0 ^= m;
  }
  uint64_t last = static_cast<uint64_t>(in.size()) << 56;
  for (size_t j = 0; i + j < in.size(); j++) last |= static_cast<uint64_t>(in[i + j]) << (8 * j);
  v3 ^= last;
  round();
  round();
  v0 ^= last;
  v2 ^= 0xff;
  for (int r = 0; r < 4; r++) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_SIPHASH_H_
