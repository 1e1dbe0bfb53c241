#include "platform/systrap/code_map.h"

#include <sys/mman.h>

#include <algorithm>
#include <vector>

namespace ringwall::systrap {

void CodeMap::SplitAt(uint64_t addr) {
  auto it = mappings_.upper_bound(addr);
  if (it == mappings_.begin()) return;
  --it;
  if (it->first == addr || it->second.end <= addr) return;
  mappings_.emplace(addr, it->second);
  it->second.end = addr;
}

void CodeMap::Unmapped(GuestRange range) {
  SplitAt(range.start.value());
  SplitAt(range.end.value());
  mappings_.erase(mappings_.lower_bound(range.start.value()),
                  mappings_.lower_bound(range.end.value()));
}

void CodeMap::Mapped(GuestRange range, int prot, bool shared) {
  Unmapped(range);
  if (!shared && (prot & PROT_EXEC) == 0) return;
  mappings_.emplace(range.start.value(), Piece{range.end.value(), prot, shared});
}

void CodeMap::Protected(GuestRange range, int prot) {
  SplitAt(range.start.value());
  SplitAt(range.end.value());
  // Shared pieces stay shared; the rest is private and of interest only when executable.
  std::vector<std::pair<uint64_t, uint64_t>> shared;
  auto it = mappings_.lower_bound(range.start.value());
  while (it != mappings_.end() && it->first < range.end.value()) {
    if (it->second.shared) {
      it->second.prot = prot;
      shared.emplace_back(it->first, it->second.end);
      ++it;
    } else {
      it = mappings_.erase(it);
    }
  }
  if ((prot & PROT_EXEC) == 0) return;
  uint64_t at = range.start.value();
  shared.emplace_back(range.end.value(), range.end.value());
  for (const auto& [start, end] : shared) {
    if (at < start) mappings_.emplace(at, Piece{start, prot, false});
    at = end;
  }
}

void CodeMap::Moved(GuestRange from, GuestRange to, bool keep) {
  const std::optional<Mapping> old = Find(from.start);
  Unmapped(to);
  if (!keep) Unmapped(from);
  if (old) Mapped(to, old->prot, old->shared);
}

std::optional<CodeMap::Mapping> CodeMap::Find(GuestAddr addr) const {
  auto it = mappings_.upper_bound(addr.value());
  if (it == mappings_.begin()) return std::nullopt;
  --it;
  if (it->second.end <= addr.value()) return std::nullopt;
  uint64_t start = it->first, end = it->second.end;
  const auto alike = [&](const Piece& p) {
    return p.prot == it->second.prot && p.shared == it->second.shared;
  };
  for (auto next = std::next(it);
       next != mappings_.end() && next->first == end && alike(next->second); ++next) {
    end = next->second.end;
  }
  for (auto before = it; before != mappings_.begin();) {
    --before;
    if (before->second.end != start || !alike(before->second)) break;
    start = before->first;
  }
  return Mapping{{GuestAddr(start), GuestAddr(end)}, it->second.prot, it->second.shared};
}

bool CodeMap::Overlaps(GuestRange range) const {
  const auto it = mappings_.lower_bound(range.end.value());
  return it != mappings_.begin() && std::prev(it)->second.end > range.start.value();
}

}  // namespace ringwall::systrap
