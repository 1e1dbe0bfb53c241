// The expressions of nftables (net/netfilter/nft_*.c), made from values that were checked: register
// numbers are byte places, lengths fit.
#ifndef RINGWALL_NETSTACK_FILTER_NFT_EXPR_H_
#define RINGWALL_NETSTACK_FILTER_NFT_EXPR_H_

#include "netstack/filter/nft.h"

namespace ringwall::net {

// One expression's settings; which of them count depends on `kind`. A plain struct, so that the
// netlink side fills it and one checked constructor turns it into an expression.
struct NftSpec {
  std::string kind;  // "cmp", "payload" ...
  uint8_t sreg = 0, dreg = 0, sreg2 = 0;
  bool has_sreg = false, has_dreg = false, has_sreg2 = false;
  uint32_t op = 0, key = 0, base = 0, offset = 0, length = 0, size = 0, flags = 0, type = 0, code = 0;
  uint8_t direction = 0;
  bool has_direction = false, invert = false;
  std::vector<uint8_t> data, data2;  // value, mask; xor, range's end
  NftVerdict verdict;
  bool has_verdict = false;
  std::string set, object;           // names
  uint64_t rate = 0, unit = 0;
  uint32_t burst = 0;
  uint64_t packets = 0, bytes = 0;
  uint8_t reg_max_addr = 0, reg_max_port = 0, reg_port = 0, reg_addr = 0;
  bool has_addr = false, has_max_addr = false, has_port = false, has_max_port = false;
  uint32_t family = 0;
  std::string name;                  // of an xt extension
  uint8_t revision = 0;
  uint64_t timeout_ms = 0;
  std::vector<Ref<NftExpr>> exprs;   // of dynset
};

// kNotFound: no such kind. kInvalid, kOpNotSupp: settings that cannot be.
NetResult<Ref<NftExpr>> MakeNftExpr(NftSpec spec, std::vector<uint8_t> raw);

// A netlink attribute appended to `out`, as dumps write it.
void NftPutBe64(std::vector<uint8_t>& out, uint16_t type, uint64_t v);
void NftPutBe32(std::vector<uint8_t>& out, uint16_t type, uint32_t v);

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_FILTER_NFT_EXPR_H_
