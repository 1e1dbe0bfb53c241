// mprotect(2), mseal(2). Compare Linux mm/mprotect.c, mm/mseal.c.
#include <algorithm>

#include "sentry/mm/map_limits.h"
#include "sentry/mm/memory_manager.h"

namespace ringwall {

namespace {
constexpr int kProtSem = 0x8;
constexpr int kProtAccess = PROT_READ | PROT_WRITE | PROT_EXEC;
}  // namespace

// As on Linux what comes before a hole or a mapping that refuses is changed, then the error is
// returned.
Result<void> MemoryManager::Mprotect(GuestAddr addr, uint64_t length, int prot,
                                     const MemoryLimits& limits) {
  const int grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
  prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP);
  if (grows == (PROT_GROWSDOWN | PROT_GROWSUP) || !addr.IsPageAligned()) return Errno(EINVAL);
  if (length == 0) return {};
  const std::optional<uint64_t> size = PageUp(length);
  if (!size) return Errno(ENOMEM);
  const std::optional<GuestRange> asked = GuestRange::Make(addr, *size);
  if (!asked || asked->end <= addr) return Errno(ENOMEM);
  if ((prot & ~(kProtAccess | kProtSem)) != 0) return Errno(EINVAL);
  prot &= kProtAccess;

  VmaTree::Dropped dropped;
  MutexLock lock(mu_);
  GuestRange range = *asked;
  SettleStackLocked(range, &dropped);
  auto it = vmas_.FindFrom(range.start);
  if (it == vmas_.end()) return Errno(ENOMEM);
  if ((grows & PROT_GROWSDOWN) != 0) {
    if (it->second.range.start >= range.end) return Errno(ENOMEM);
    if (!it->second.grows_down) return Errno(EINVAL);
    range.start = it->second.range.start;
  } else if (it->second.range.start > range.start) {
    return Errno(ENOMEM);
  } else if (grows != 0) {
    return Errno(EINVAL);  // nothing grows up here
  }

  // How far it can be applied, and what stops it there.
  int error = 0;
  bool differs = false;
  GuestAddr at = range.start;
  uint64_t new_data = 0;
  for (; at < range.end; ++it) {
    if (it == vmas_.end() || it->second.range.start > at) {
      error = ENOMEM;
      break;
    }
    const Vma& vma = it->second;
    const bool gains_exec = (prot & PROT_EXEC) != 0 &&
                            ((prot & PROT_WRITE) != 0 || (vma.prot & PROT_EXEC) == 0);
    if ((prot & ~vma.max_prot) != 0 || (gains_exec && mdwe() != 0)) {
      error = EACCES;
      break;
    }
    if (vma.sealed) {
      error = EPERM;
      break;
    }
    const GuestAddr end = std::min(range.end, vma.range.end);
    Vma changed{.range = {at, end}, .prot = prot, .shared = vma.shared};
    changed.grows_down = vma.grows_down;
    if (changed.is_data() && !vma.is_data()) {
      new_data += end - at;
      if (vmas_.data() + new_data > (limits.data & ~kPageMask)) {
        error = ENOMEM;
        break;
      }
    }
    differs |= vma.prot != prot;
    at = end;
  }
  range.end = at;
  if (range.empty()) return Errno(error);
  if (differs) {
    if (vmas_.size() + vmas_.SplitsFor(range) > MaxMapCount()) return Errno(ENOMEM);
    TRY(as_->Protect(range, prot));
    vmas_.Change(range, [prot](Vma& vma) { vma.prot = prot; });
  }
  if (error != 0) return Errno(error);
  return {};
}

Result<void> MemoryManager::Mseal(GuestAddr addr, uint64_t length, uint64_t flags) {
  if (flags != 0 || !addr.IsPageAligned()) return Errno(EINVAL);
  const std::optional<uint64_t> size = PageUp(length);
  if (!size) return Errno(EINVAL);
  const std::optional<GuestRange> range = GuestRange::Make(addr, *size);
  if (!range) return Errno(EINVAL);
  if (range->empty()) return {};
  MutexLock lock(mu_);
  if (!vmas_.Covers(*range)) return Errno(ENOMEM);
  vmas_.Change(*range, [](Vma& vma) { vma.sealed = true; });
  return {};
}

}  // namespace ringwall
