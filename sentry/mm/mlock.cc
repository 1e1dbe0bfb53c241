// mlock(2), mlock2, munlock, mlockall, munlockall. Compare Linux mm/mlock.c.
//
// What a guest may lock is its RLIMIT_MEMLOCK's matter. The host's limit for the stub may be lower:
// then pages are only made resident, which is all a guest can see.
#include <sys/syscall.h>

#include <algorithm>

#include "sentry/mm/map_limits.h"
#include "sentry/mm/memory_manager.h"

namespace ringwall {

namespace {

constexpr int kMlockOnFault = 1;
constexpr int kMadvPopulateRead = 22, kMadvPopulateWrite = 23;

// The pages that hold [addr, addr+length), whose length wraps as on Linux; nullopt when its end does.
std::optional<GuestRange> WholePages(GuestAddr addr, uint64_t length) {
  const uint64_t in_page = addr.value() & kPageMask;
  return GuestRange::Make(addr.PageDown(), (length + in_page + kPageMask) & ~kPageMask);
}

}  // namespace

// False: not all of it is resident now, which mlock(2) alone tells its caller.
bool MemoryManager::LockOnHost(GuestRange range, bool on_fault, int prot) {
  if (as_->Advise(SYS_mlock2, range, on_fault ? kMlockOnFault : 0).ok() || on_fault) return true;
  if (prot == PROT_NONE) return false;
  if ((prot & (PROT_READ | PROT_WRITE)) == 0) return true;
  const int advice = (prot & PROT_WRITE) != 0 ? kMadvPopulateWrite : kMadvPopulateRead;
  return as_->Advise(SYS_madvise, range, advice).ok();
}

// Applied up to the first hole, as on Linux. ENOMEM then, and when pages could not be had.
Result<void> MemoryManager::SetLockedLocked(GuestRange range, bool locked, bool on_fault) {
  bool resident = true;
  GuestAddr at = range.start;
  while (at < range.end) {
    const Vma* vma = vmas_.Find(at);
    if (vma == nullptr) break;
    at = vma->range.end;
  }
  const GuestRange there{range.start, std::min(at, range.end)};
  if (!there.empty()) {
    if (vmas_.size() + vmas_.SplitsFor(there) > MaxMapCount()) return Errno(ENOMEM);
    vmas_.Change(there, [&](Vma& vma) {
      vma.locked = locked;
      vma.lock_on_fault = locked && on_fault;
    });
    if (locked) {
      for (auto it = vmas_.FindFrom(there.start);
           it != vmas_.end() && it->second.range.start < there.end; ++it) {
        const GuestRange part{std::max(there.start, it->second.range.start),
                              std::min(there.end, it->second.range.end)};
        resident &= LockOnHost(part, on_fault, it->second.prot);
      }
    } else {
      (void)as_->Advise(SYS_munlock, there, 0).ok();
    }
  }
  if (there.end < range.end || !resident) return Errno(ENOMEM);
  return {};
}

Result<void> MemoryManager::Mlock(GuestAddr addr, uint64_t length, bool on_fault,
                                  const MemoryLimits& limits) {
  if (limits.locked == 0) return Errno(EPERM);
  const std::optional<GuestRange> range = WholePages(addr, length);
  if (range && !on_fault) ServeFaults(*range, 0);
  MutexLock lock(mu_);
  const uint64_t limit = limits.locked / kPageSize;
  // In pages, so that nothing wraps: the limit is looked at before the range is.
  const uint64_t size = (length + (addr.value() & kPageMask) + kPageMask) / kPageSize;
  uint64_t want = size + vmas_.locked() / kPageSize;
  if (want > limit && range) want -= vmas_.LockedIn(*range) / kPageSize;
  if (want > limit) return Errno(ENOMEM);
  if (!range) return Errno(EINVAL);
  if (range->empty()) return {};
  return SetLockedLocked(*range, true, on_fault);
}

Result<void> MemoryManager::Munlock(GuestAddr addr, uint64_t length) {
  const std::optional<GuestRange> range = WholePages(addr, length);
  if (!range) return Errno(EINVAL);
  if (range->empty()) return {};
  MutexLock lock(mu_);
  return SetLockedLocked(*range, false, false);
}

Result<void> MemoryManager::Mlockall(int flags, const MemoryLimits& limits) {
  constexpr int kOnFault = 4;  // MCL_ONFAULT
  if (flags == 0 || flags == kOnFault || (flags & ~(MCL_CURRENT | MCL_FUTURE | kOnFault)) != 0) {
    return Errno(EINVAL);
  }
  if (limits.locked == 0) return Errno(EPERM);
  MutexLock lock(mu_);
  if ((flags & MCL_CURRENT) != 0 && vmas_.total() > (limits.locked & ~kPageMask)) {
    return Errno(ENOMEM);
  }
  lock_future_ = (flags & MCL_FUTURE) != 0;
  lock_future_on_fault_ = lock_future_ && (flags & kOnFault) != 0;
  if ((flags & MCL_CURRENT) == 0) return {};
  const bool on_fault = (flags & kOnFault) != 0;
  std::vector<GuestRange> ranges;
  for (const auto& [end, vma] : vmas_) {
    if (vma.name == nullptr) ranges.push_back(vma.range);
  }
  const GuestRange reserve = vmas_.stack_reserve();
  for (GuestRange range : ranges) {
    // Not the part of the stack that only we have mapped.
    if (range.start == reserve.start && !reserve.empty()) range.start = reserve.end;
    // As __mm_populate(): what cannot be had does not count.
    if (!range.empty()) (void)SetLockedLocked(range, true, on_fault).ok();
  }
  return {};
}

Result<void> MemoryManager::Munlockall() {
  MutexLock lock(mu_);
  lock_future_ = lock_future_on_fault_ = false;
  std::vector<GuestRange> ranges;
  for (const auto& [end, vma] : vmas_) {
    if (vma.locked) ranges.push_back(vma.range);
  }
  for (const GuestRange range : ranges) TRY(SetLockedLocked(range, false, false));
  return {};
}

}  // namespace ringwall
