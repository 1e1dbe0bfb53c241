// madvise(2), msync(2), mincore(2). Compare Linux mm/madvise.c, mm/msync.c, mm/mincore.c.
#include <sys/syscall.h>

#include <algorithm>
#include <array>

#include "sentry/mm/memory_manager.h"

namespace ringwall {

namespace {

// Debian 12's headers end before some of these.
constexpr int kMadvCold = 20, kMadvPageout = 21, kMadvPopulateRead = 22, kMadvPopulateWrite = 23,
              kMadvDontneedLocked = 24, kMadvCollapse = 25;

enum class Effect { kHost, kOnlyHere, kBoth, kUnknown };

// Who must know of an advice. Huge-page collapse, KSM and the like are the host's word.
Effect EffectOf(int advice) {
  switch (advice) {
    case MADV_NORMAL: case MADV_RANDOM: case MADV_SEQUENTIAL: case MADV_WILLNEED:
    case MADV_DONTNEED: case MADV_FREE: case MADV_REMOVE: case MADV_HUGEPAGE:
    case MADV_NOHUGEPAGE: case kMadvCold: case kMadvPageout: case kMadvPopulateRead: case kMadvPopulateWrite: case kMadvDontneedLocked:
    case kMadvCollapse:
      return Effect::kHost;
    case MADV_DONTDUMP: case MADV_DODUMP:
    // Merged pages would tell of others' memory, so this is taken and not handed on.
    case MADV_MERGEABLE: case MADV_UNMERGEABLE:
      return Effect::kOnlyHere;
    case MADV_DONTFORK: case MADV_DOFORK: case MADV_WIPEONFORK: case MADV_KEEPONFORK:
      return Effect::kBoth;
    default:
      // HWPOISON and its like would hurt the host.
      return Effect::kUnknown;
  }
}

// What Linux refuses for this kind of mapping; 0 when nothing.
int Refusal(const Vma& vma, int advice) {
  switch (advice) {
    case MADV_DONTNEED:
      return vma.locked ? EINVAL : 0;
    case kMadvCold: case kMadvPageout:
      return vma.locked ? EINVAL : 0;
    case MADV_FREE:
      return vma.locked || vma.file ? EINVAL : 0;
    case MADV_REMOVE:
      if (vma.locked || !vma.file) return EINVAL;
      return vma.shared && (vma.max_prot & PROT_WRITE) != 0 ? 0 : EACCES;
    case kMadvPopulateRead:
      return (vma.prot & PROT_READ) == 0 ? EINVAL : 0;  // on the host more can be read
    case MADV_WIPEONFORK:
      return vma.file || vma.shared ? EINVAL : 0;
    default:
      return 0;
  }
}

// What mseal(2) forbids on memory that may not be written.
bool Discards(int advice) {
  return advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_REMOVE ||
         advice == kMadvDontneedLocked || advice == MADV_DONTFORK || advice == MADV_WIPEONFORK;
}

}  // namespace

Result<void> MemoryManager::Madvise(GuestAddr addr, uint64_t length, int advice) {
  const Effect effect = EffectOf(advice);
  if (effect == Effect::kUnknown || !addr.IsPageAligned()) return Errno(EINVAL);
  const std::optional<uint64_t> size = PageUp(length);
  if (!size) return Errno(EINVAL);
  const std::optional<GuestRange> asked = GuestRange::Make(addr, *size);
  if (!asked) return Errno(EINVAL);
  if (asked->empty()) return {};
  const bool populates = advice == kMadvPopulateRead || advice == kMadvPopulateWrite;
  if (populates) ServeFaults(*asked, advice == kMadvPopulateWrite ? PROT_WRITE : PROT_READ);

  MutexLock lock(mu_);
  // Linux goes on behind a hole and reports it at the end, but stops where a mapping refuses.
  int error = 0;
  bool hole = false;
  GuestAddr at = addr;
  GuestRange range{asked->end, addr};  // what the host hears of
  for (auto it = vmas_.FindFrom(addr); at < asked->end; ++it) {
    if (it == vmas_.end() || it->second.range.start >= asked->end) {
      hole = true;
      break;
    }
    const Vma& vma = it->second;
    if (at < vma.range.start) {
      hole = true;
      if (populates) break;
      at = vma.range.start;
    }
    error = Refusal(vma, advice);
    if (error == 0 && vma.sealed && Discards(advice) && !vma.file &&
        (vma.prot & PROT_WRITE) == 0) {
      error = EPERM;
    }
    if (error != 0) break;
    range.start = std::min(range.start, at);
    at = std::min(vma.range.end, asked->end);
    range.end = at;
  }
  if (range.start < range.end) {
    if (effect != Effect::kOnlyHere) {
      const Result<void> advised = as_->Advise(SYS_madvise, range, advice);
      // Holes inside are reported by the host, too.
      if (!advised.ok() && !(hole && advised.error().Is(ENOMEM))) return advised.error();
    }
    if (effect != Effect::kHost) {
      vmas_.Change(range, [advice](Vma& vma) {
        switch (advice) {
          case MADV_DONTFORK: vma.dont_fork = true; break;
          case MADV_DOFORK: vma.dont_fork = false; break;
          case MADV_WIPEONFORK: vma.wipe_on_fork = true; break;
          case MADV_KEEPONFORK: vma.wipe_on_fork = false; break;
          case MADV_DONTDUMP: vma.dont_dump = true; break;
          case MADV_DODUMP: vma.dont_dump = false; break;
        }
      });
    }
  }
  if (error != 0) return Errno(error);
  if (hole) return Errno(ENOMEM);
  return {};
}

Result<void> MemoryManager::Msync(GuestAddr addr, uint64_t length, int flags) {
  if ((flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC)) != 0) return Errno(EINVAL);
  if ((flags & MS_ASYNC) != 0 && (flags & MS_SYNC) != 0) return Errno(EINVAL);
  if (!addr.IsPageAligned()) return Errno(EINVAL);
  // As on Linux the length wraps: the last page's worth of them are 0.
  const std::optional<uint64_t> size = (length + kPageMask) & ~kPageMask;
  const std::optional<GuestRange> range = GuestRange::Make(addr, *size);
  if (!range) return Errno(ENOMEM);
  ReaderLock lock(mu_);
  bool hole = false;
  GuestAddr at = addr;
  for (auto it = vmas_.FindFrom(addr); at < range->end; ++it) {
    if (it == vmas_.end() || it->second.range.start >= range->end) {
      hole = true;
      break;
    }
    const Vma& vma = it->second;
    if (at < vma.range.start) {
      hole = true;
      at = vma.range.start;
    }
    if ((flags & MS_INVALIDATE) != 0 && vma.locked) return Errno(EBUSY);
    const GuestAddr end = std::min(vma.range.end, range->end);
    if ((flags & MS_SYNC) != 0 && vma.shared && vma.file) {
      TRY(as_->Advise(SYS_msync, {at, end}, MS_SYNC));
    }
    at = end;
  }
  if (hole) return Errno(ENOMEM);
  return {};
}

Result<void> MemoryManager::Mincore(GuestAddr addr, uint64_t length, GuestAddr vec) {
  if (!addr.IsPageAligned()) return Errno(EINVAL);
  if (addr > kTaskSize || length > kTaskSize - addr) return Errno(ENOMEM);
  const uint64_t pages = *PageUp(length) / kPageSize;
  if (vec > kTaskSize || pages > kTaskSize - vec) return Errno(EFAULT);
  std::array<uint8_t, 4096> out;
  for (uint64_t done = 0; done < pages;) {
    const uint64_t n = std::min<uint64_t>(pages - done, out.size());
    GuestRange range{addr + done * kPageSize, addr + (done + n) * kPageSize};
    uint64_t got = 0;
    {
      ReaderLock lock(mu_);
      // Up to the first hole.
      GuestAddr at = range.start;
      for (auto it = vmas_.FindFrom(at); at < range.end; ++it) {
        if (it == vmas_.end() || at < it->second.range.start) break;
        at = std::min(range.end, it->second.range.end);
      }
      got = (at - range.start) / kPageSize;
      if (got == 0) return Errno(ENOMEM);
      TRY(as_->Mincore({range.start, at}, std::span(out).first(got)));
    }
    TRY(CopyOut(vec + done, std::as_bytes(std::span(out).first(got))));
    if (got < n) return Errno(ENOMEM);
    done += n;
  }
  return {};
}

}  // namespace ringwall
