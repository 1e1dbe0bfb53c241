// Attributes of nfnetlink by number, and nftables' expressions from them.
#ifndef RINGWALL_FS_NETLINK_NFTABLES_PARSE_H_
#define RINGWALL_FS_NETLINK_NFTABLES_PARSE_H_

#include <array>

#include "fs/netlink/message.h"
#include "netstack/filter/nft_expr.h"

namespace ringwall::netlink {

// The last attribute of each number, as the kernel's parser keeps it.
class NfAttrs {
 public:
  explicit NfAttrs(Bytes b) {
    AttrWalk walk(b);
    while (std::optional<Attr> a = walk.Next()) {
      if (a->type < have_.size()) have_[a->type] = *a;
    }
  }
  const Attr* Get(size_t n) const {
    return n < have_.size() && have_[n].has_value() ? &*have_[n] : nullptr;
  }
  uint32_t Be32(size_t n, uint32_t otherwise = 0) const {
    const Attr* a = Get(n);
    return a != nullptr && a->size() >= 4 ? a->Be32() : otherwise;
  }
  uint64_t Be64(size_t n, uint64_t otherwise = 0) const {
    const Attr* a = Get(n);
    return a != nullptr && a->size() >= 8 ? a->Be64() : otherwise;
  }

 private:
  std::array<std::optional<Attr>, 48> have_;
};

// What an expression says of a set, chain or object by a number within the batch is made a name by
// who calls.
struct NftNames {
  virtual ~NftNames() = default;
  // The set's name and its key's and data's sizes; ENOENT.
  virtual Result<const net::NftSet*> Set(const Attr* name, const Attr* id) = 0;
  virtual Result<void> Verdict(const Attr& data, net::NftVerdict* out) = 0;
  virtual Result<Ref<net::NftExpr>> Expr(const Attr& element) = 0;
  virtual bool HasObject(std::string_view name) = 0;
};

// kind: NFTA_EXPR_NAME, data: NFTA_EXPR_DATA's contents.
Result<Ref<net::NftExpr>> ParseNftExpr(std::string_view kind, Bytes data, net::NftFamily family,
                                       NftNames& names);

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_NFTABLES_PARSE_H_
