// Which of an address space's memory is code that may be patched, as far as the platform needs to
// know: the executable mappings, and all shared ones (a write to those would reach a file).
#ifndef RINGWALL_PLATFORM_SYSTRAP_CODE_MAP_H_
#define RINGWALL_PLATFORM_SYSTRAP_CODE_MAP_H_

#include <cstdint>
#include <map>
#include <optional>

#include "sentry/base/guest_addr.h"

namespace ringwall::systrap {

// Not thread-safe.
class CodeMap {
 public:
  struct Mapping {
    GuestRange range;
    int prot = 0;
    bool shared = false;
  };

  // A mapping was made, over whatever was there.
  void Mapped(GuestRange range, int prot, bool shared);
  void Unmapped(GuestRange range);
  void Protected(GuestRange range, int prot);
  // The pages of `from` now lie at `to`; `keep`: and those of a shared mapping stay.
  void Moved(GuestRange from, GuestRange to, bool keep);

  // The mapping around addr, as one piece with its equals on both sides; nullopt for what is
  // neither executable nor shared.
  std::optional<Mapping> Find(GuestAddr addr) const;
  bool Overlaps(GuestRange range) const;
  size_t size() const { return mappings_.size(); }

 private:
  struct Piece {
    uint64_t end;
    int prot;
    bool shared;
  };
  // Makes `addr` a border between pieces.
  void SplitAt(uint64_t addr);

  std::map<uint64_t, Piece> mappings_;  // by start; disjoint
};

}  // namespace ringwall::systrap

#endif  // RINGWALL_PLATFORM_SYSTRAP_CODE_MAP_H_
