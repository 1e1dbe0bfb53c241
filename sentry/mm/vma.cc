#include "sentry/mm/vma.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "sentry/base/check.h"

namespace ringwall {

namespace {

GuestRange Intersect(GuestRange a, GuestRange b) {
  const GuestAddr start = std::max(a.start, b.start);
  const GuestAddr end = std::min(a.end, b.end);
  return start < end ? GuestRange{start, end} : GuestRange{start, start};
}

}  // namespace

void Vma::BecomeAnother() {
  if (!file) return;
  if (RefPtr<File> own = file->AnotherMapping()) file = std::move(own);
}

bool Vma::IsLike(const Vma& other) const {
  return prot == other.prot && max_prot == other.max_prot && shared == other.shared &&
         grows_down == other.grows_down && locked == other.locked && lock_on_fault == other.lock_on_fault &&
         dont_fork == other.dont_fork && wipe_on_fork == other.wipe_on_fork && dont_dump == other.dont_dump &&
         sealed == other.sealed && policy_mode == other.policy_mode && policy_nodes == other.policy_nodes &&
         name == other.name && file == other.file;
}

bool Vma::CanMerge(const Vma& next) const {
  if (range.end != next.range.start || !IsLike(next)) return false;
  if (!file) return true;
  return offset + range.size() == next.offset && host.host_fd == next.host.host_fd &&
         host.offset + range.size() == next.host.offset;
}

const Vma* VmaTree::Find(GuestAddr addr) const {
  const auto it = FindFrom(addr);
  if (it == vmas_.end() || addr < it->second.range.start) return nullptr;
  return &it->second;
}

bool VmaTree::Intersects(GuestRange range) const {
  const auto it = FindFrom(range.start);
  return it != vmas_.end() && it->second.range.start < range.end;
}

bool VmaTree::Covers(GuestRange range) const {
  GuestAddr at = range.start;
  for (auto it = FindFrom(at); at < range.end; ++it) {
    if (it == vmas_.end() || at < it->second.range.start) return false;
    at = it->second.range.end;
  }
  return true;
}

size_t VmaTree::SplitsFor(GuestRange range) const {
  size_t splits = 0;
  for (const GuestAddr edge : {range.start, range.end}) {
    const Vma* vma = Find(edge);
    if (vma != nullptr && vma->range.start != edge) ++splits;
  }
  return splits;
}

void VmaTree::Insert(Vma vma) {
  RW_DCHECK(!vma.range.empty() && !Intersects(vma.range));
  Account(vma, 1);
  // Grow a neighbour in place rather than make a node and merge it afterwards.
  auto next = FindFrom(vma.range.start);
  const bool joins_next = next != vmas_.end() && vma.CanMerge(next->second);
  const bool joins_prev = next != vmas_.begin() && std::prev(next)->second.CanMerge(vma);
  if (joins_next) {
    Vma& n = next->second;
    const Vma& first = joins_prev ? std::prev(next)->second : vma;
    n.range.start = first.range.start;
    n.offset = first.offset;
    n.host = first.host;
    if (joins_prev) vmas_.erase(std::prev(next));
    return;
  }
  if (joins_prev) {
    auto node = vmas_.extract(std::prev(next));
    node.mapped().range.end = vma.range.end;
    node.key() = vma.range.end;
    vmas_.insert(next, std::move(node));
    return;
  }
  const GuestAddr end = vma.range.end;
  vmas_.emplace_hint(next, end, std::move(vma));
}

void VmaTree::SplitAt(GuestAddr at) {
  const auto it = FindFrom(at);
  if (it == vmas_.end() || at <= it->second.range.start) return;
  Vma& high = it->second;
  Vma low = high;
  const uint64_t delta = at - high.range.start;
  low.range.end = at;
  high.range.start = at;
  high.offset += delta;
  high.host.offset += delta;
  high.BecomeAnother();
  vmas_.emplace_hint(it, at, std::move(low));
}

void VmaTree::MergeAround(GuestRange range) {
  auto it = FindFrom(range.start);
  if (it != vmas_.begin()) --it;
  while (it != vmas_.end()) {
    const auto next = std::next(it);
    if (next == vmas_.end() || next->second.range.start > range.end) break;
    if (it->second.CanMerge(next->second)) {
      next->second.range.start = it->second.range.start;
      next->second.offset = it->second.offset;
      next->second.host = it->second.host;
      vmas_.erase(it);
    }
    it = next;
  }
}

void VmaTree::Remove(GuestRange range, Dropped* dropped) {
  if (stack_reserve_.Overlaps(range)) SetStackReserve({});
  SplitAt(range.start);
  SplitAt(range.end);
  auto it = FindFrom(range.start);
  bool any = false;
  while (it != vmas_.end() && it->second.range.start < range.end) {
    Account(it->second, -1);
    if (it->second.file) dropped->push_back(std::move(it->second.file));
    it = vmas_.erase(it);
    any = true;
  }
  if (!any) return;
  const GuestAddr below = it == vmas_.begin() ? GuestAddr(0) : std::prev(it)->second.range.end;
  const GuestAddr above = it == vmas_.end() ? top_ : it->second.range.start;
  Forget({below, above});
}

// A hole has come to be: searches for up to its size must look from its end again.
void VmaTree::Forget(GuestRange gap) {
  if (gap.end <= gap.start) return;
  const GuestAddr end = std::min(gap.end, top_);
  const uint64_t pages = gap.size() / kPageSize;
  for (size_t c = 0; c < kClasses && (uint64_t{1} << c) <= pages; ++c) {
    full_above_[c] = std::max(full_above_[c], end);
  }
}

void VmaTree::SetTop(GuestAddr top) {
  top_ = top;
  full_above_.fill(top);
}

std::optional<GuestAddr> VmaTree::FindTopDown(uint64_t size, GuestAddr low, GuestAddr high) {
  const uint64_t pages = size / kPageSize;
  RW_DCHECK(pages != 0);
  GuestAddr gap_end = high;
  if (high <= top_) {
    const size_t fits = std::min<size_t>(std::bit_width(pages) - 1, kClasses - 1);
    for (size_t c = 0; c <= fits; ++c) gap_end = std::min(gap_end, full_above_[c]);
  }
  auto it = FindFrom(gap_end);
  if (it != vmas_.end()) gap_end = std::min(gap_end, it->second.start_gap());
  for (;;) {
    const GuestAddr below = it == vmas_.begin() ? GuestAddr(0) : std::prev(it)->second.range.end;
    const GuestAddr gap_start = std::max(low, below);
    if (gap_start < gap_end && gap_end - gap_start >= size) break;
    if (below <= low) return std::nullopt;
    --it;
    gap_end = std::min(gap_end, it->second.start_gap());
  }
  if (high == top_) {
    // Nothing of this size lies above the hole that was found.
    const size_t first = std::bit_width(pages - 1);
    for (size_t c = first; c < kClasses; ++c) full_above_[c] = std::min(full_above_[c], gap_end);
  }
  return gap_end - size;
}

std::optional<GuestAddr> VmaTree::FindBottomUp(uint64_t size, GuestAddr low, GuestAddr high) const {
  if (size > high.value()) return std::nullopt;
  GuestAddr at = low;
  for (auto it = FindFrom(low); at <= high - size; ++it) {
    if (it == vmas_.end() || (at <= it->second.start_gap() && it->second.start_gap() - at >= size)) {
      return at;
    }
    at = std::max(at, it->second.range.end);
  }
  return std::nullopt;
}

uint64_t VmaTree::Counted(GuestRange range) const {
  return range.size() - Intersect(range, stack_reserve_).size();
}

void VmaTree::Account(const Vma& vma, int sign) {
  const uint64_t n = static_cast<uint64_t>(sign) * Counted(vma.range);
  total_ += n;
  if (vma.is_data()) data_ += n;
  if (vma.locked) locked_ += n;
  if (vma.grows_down) stack_ += n;
  if ((vma.prot & PROT_EXEC) != 0) exec_ += n;
}

void VmaTree::SetStackReserve(GuestRange reserve) {
  for (const auto& [end, vma] : vmas_) Account(vma, -1);
  stack_reserve_ = reserve;
  for (const auto& [end, vma] : vmas_) Account(vma, 1);
}

uint64_t VmaTree::TotalIn(GuestRange range) const {
  uint64_t n = 0;
  for (auto it = FindFrom(range.start); it != vmas_.end() && it->second.range.start < range.end;
       ++it) {
    n += Counted(Intersect(it->second.range, range));
  }
  return n;
}

uint64_t VmaTree::DataIn(GuestRange range) const {
  uint64_t n = 0;
  for (auto it = FindFrom(range.start); it != vmas_.end() && it->second.range.start < range.end;
       ++it) {
    if (it->second.is_data()) n += Counted(Intersect(it->second.range, range));
  }
  return n;
}

uint64_t VmaTree::LockedIn(GuestRange range) const {
  uint64_t n = 0;
  for (auto it = FindFrom(range.start); it != vmas_.end() && it->second.range.start < range.end;
       ++it) {
    if (it->second.locked) n += Counted(Intersect(it->second.range, range));
  }
  return n;
}

}  // namespace ringwall
