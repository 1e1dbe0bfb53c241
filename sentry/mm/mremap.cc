// mremap(2) and remap_file_pages(2). Compare Linux mm/mremap.c.
#include <algorithm>
#include <utility>

#include "sentry/mm/map_limits.h"
#include "sentry/mm/memory_manager.h"

namespace ringwall {

// Checked and rounded: `from` is what is moved (empty: a second mapping of shared pages).
struct MemoryManager::MremapArgs {
  GuestRange from;
  uint64_t new_size = 0;
  int flags = 0;
  GuestAddr to;  // with MREMAP_FIXED, or a hint with MREMAP_DONTUNMAP
  // Host memory of the whole new range, when a file mapping grows.
  std::optional<HostMapping> grown;
};

Result<GuestAddr> MemoryManager::Mremap(GuestAddr old, uint64_t old_length, uint64_t new_length,
                                        int flags, GuestAddr new_addr,
                                        const MemoryLimits& limits) {
  if ((flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE | MREMAP_DONTUNMAP)) != 0) return Errno(EINVAL);
  if ((flags & MREMAP_FIXED) != 0 && (flags & MREMAP_MAYMOVE) == 0) return Errno(EINVAL);
  if ((flags & MREMAP_DONTUNMAP) != 0 &&
      ((flags & MREMAP_MAYMOVE) == 0 || old_length != new_length)) {
    return Errno(EINVAL);
  }
  if (!old.IsPageAligned()) return Errno(EINVAL);
  // Lengths that overflow when rounded become 0, as on Linux.
  const uint64_t old_size = PageUp(old_length).value_or(0);
  const uint64_t new_size = PageUp(new_length).value_or(0);
  if (new_size == 0) return Errno(EINVAL);
  const std::optional<GuestRange> from = GuestRange::Make(old, old_size);
  if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0) {
    if (!new_addr.IsPageAligned()) return Errno(EINVAL);
    if (new_size > kTaskSize.value() || new_addr > kTaskSize - new_size) return Errno(EINVAL);
    if (from && from->Overlaps({new_addr, new_addr + new_size})) return Errno(EINVAL);
  }

  MremapArgs args{.new_size = new_size, .flags = flags, .to = new_addr};
  RefPtr<File> file;  // asked without mu_: a file may take locks that come before it
  for (;;) {
    VmaTree::Dropped dropped;
    MutexLock lock(mu_);
    const Vma* vma = vmas_.Find(old);
    if (vma == nullptr) return Errno(EFAULT);
    if (vma->sealed) return Errno(EPERM);
    if (!from || from->end > kTaskSize) return Errno(old_size > new_size ? EINVAL : EFAULT);
    args.from = *from;
    const bool grows = vma->file && new_size > old_size && from->end <= vma->range.end;
    if (!grows || file == vma->file) return MremapLocked(args, limits, &dropped);
    file = vma->file;
    const uint64_t offset = vma->offset + (old - vma->range.start);
    if (offset + new_size < offset) return Errno(EINVAL);
    const int prot = vma->prot | (vma->shared ? vma->max_prot & PROT_WRITE : 0);
    const bool shared = vma->shared;
    lock.Unlock();
    args.grown = TRY(file->Map(offset, new_size, prot, shared));
  }
}

Result<GuestAddr> MemoryManager::MremapLocked(const MremapArgs& asked, const MemoryLimits& limits,
                                              VmaTree::Dropped* dropped) {
  MremapArgs args = asked;
  const bool fixed = (args.flags & MREMAP_FIXED) != 0;
  const bool to_place = (args.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0;
  const GuestAddr old = args.from.start;

  if (to_place) {  // mremap_to()
    const GuestRange target{args.to, args.to + args.new_size};
    if (vmas_.size() + 2 >= MaxMapCount() - 3) return Errno(ENOMEM);
    if (fixed) {
      if (args.to.value() < kGuestMinAddr) return Errno(EPERM);
      SettleStackLocked(target, dropped);
      if (SealedLocked(target)) return Errno(EPERM);
      TRY(UnmapLocked(target, dropped));
    }
  }
  if (args.from.size() > args.new_size) {
    const GuestRange tail{old + args.new_size, args.from.end};
    if (SealedLocked(tail)) return Errno(EPERM);
    TRY(UnmapLocked(tail, dropped));
    args.from.end = tail.start;
    if (!to_place) return old;
  } else if (args.from.size() == args.new_size && !to_place) {
    return old;
  }

  const Vma* found = vmas_.Find(old);
  if (found == nullptr) return Errno(EFAULT);
  const Vma vma = *found;
  TRY(CheckResizeLocked(vma, args, limits));
  if (!to_place) {
    // In place, when the mapping ends here and what follows is free.
    const uint64_t delta = args.new_size - args.from.size();
    if (args.from.end == vma.range.end && delta <= kTaskSize - vma.range.end &&
        !args.from.empty()) {
      const GuestRange tail{vma.range.end, vma.range.end + delta};
      const auto next = vmas_.FindFrom(tail.start);
      if (next == vmas_.end() || tail.end <= next->second.range.start) {
        TRY(MapTailLocked(vma, tail, args.from.size()));
        if (vma.locked) LockOnHost(tail, vma.lock_on_fault, vma.prot);
        return old;
      }
    }
    if ((args.flags & MREMAP_MAYMOVE) == 0) return Errno(ENOMEM);
  }
  GuestAddr to = args.to;
  if (!fixed) {
    to = TRY(GetUnmappedAreaLocked(to_place ? args.to : GuestAddr(), args.new_size, 0, false));
  }
  return MoveVmaLocked(vma, args, to, dropped);
}

// vma_to_resize().
Result<void> MemoryManager::CheckResizeLocked(const Vma& vma, const MremapArgs& args,
                                              const MemoryLimits& limits) {
  if (args.from.empty() && !vma.shared) return Errno(EINVAL);
  if (args.from.end > vma.range.end) return Errno(EFAULT);
  const uint64_t old_size = args.from.size();
  Vma grown = vma;
  if (args.new_size > old_size) {
    const uint64_t delta = args.new_size - old_size;
    if (vma.file) {
      const uint64_t offset = vma.offset + (args.from.start - vma.range.start);
      if (offset + args.new_size > uint64_t{INT64_MAX}) return Errno(EINVAL);
    }
    if (vma.locked && vmas_.locked() + delta > (limits.locked & ~kPageMask)) return Errno(EAGAIN);
    if (delta > kTaskSize.value()) return Errno(ENOMEM);
    grown.range = {GuestAddr(0), GuestAddr(delta)};
    TRY(CheckRoomLocked(grown, 0, limits));
  }
  if ((args.flags & MREMAP_DONTUNMAP) != 0) {
    grown.range = {GuestAddr(0), GuestAddr(old_size)};
    TRY(CheckRoomLocked(grown, 0, limits));
  }
  return {};
}

// Grows `vma` by the free range right behind it. `kept`: how many bytes of the mapping before the
// tail the call named.
Result<void> MemoryManager::MapTailLocked(const Vma& vma, GuestRange tail, uint64_t kept) {
  const GuestRange old{tail.start - kept, tail.start};
  // The host's own mremap keeps one mapping there, so that the next one finds it whole.
  TRY(as_->Remap(old, kept + tail.size(), 0, old.start));
  Vma added = vma;
  added.range = tail;
  if (vma.file) {
    added.offset = vma.offset + vma.range.size();
    added.host.offset = vma.host.offset + vma.range.size();
  }
  vmas_.Insert(std::move(added));
  peak_size_ = std::max(peak_size_, vmas_.total());
  return {};
}

Result<GuestAddr> MemoryManager::MoveVmaLocked(const Vma& vma, const MremapArgs& args, GuestAddr to,
                                               VmaTree::Dropped* dropped) {
  const uint64_t inside = args.from.start - vma.range.start;
  Vma moved = vma;
  moved.range = {to, to + args.new_size};
  if (vma.file) {
    moved.offset += inside;
    moved.host.offset += inside;
  }
  moved.name = vma.name;
  moved.BecomeAnother();
  if (args.from.empty()) {
    // Shared pages a second time.
    TRY(InstallLocked(moved, 0, false, dropped));
    if (moved.locked) LockOnHost(moved.range, moved.lock_on_fault, moved.prot);
    return to;
  }
  const bool keep = (args.flags & MREMAP_DONTUNMAP) != 0;
  if (vmas_.size() + 3 > MaxMapCount()) return Errno(ENOMEM);
  const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (keep ? MREMAP_DONTUNMAP : 0);
  TRY(as_->Remap(args.from, args.new_size, flags, to));
  if (keep) {
    // All of the mapping that is left, not only what was moved from it.
    vmas_.Change(vma.range, [](Vma& left) { left.locked = left.lock_on_fault = false; });
  } else {
    vmas_.Remove(args.from, dropped);
  }
  const bool locked = moved.locked, on_fault = moved.lock_on_fault;
  const GuestRange range = moved.range;
  vmas_.Insert(std::move(moved));
  peak_size_ = std::max(peak_size_, vmas_.total());
  if (locked) LockOnHost(range, on_fault, vma.prot);
  return to;
}

Result<void> MemoryManager::RemapFilePages(GuestAddr addr, uint64_t length, int prot,
                                           uint64_t pgoff, int flags, const MemoryLimits& limits) {
  if (prot != 0) return Errno(EINVAL);
  const GuestAddr start = addr.PageDown();
  const uint64_t size = length & ~kPageMask;
  if (size == 0 || !GuestRange::Make(start, size)) return Errno(EINVAL);
  if (pgoff + size / kPageSize < pgoff || pgoff > (~uint64_t{0} >> 12)) return Errno(EINVAL);
  const std::optional<Vma> vma = Find(start);
  if (!vma || !vma->shared || !vma->file || !vma->file->writable() || start + size > vma->range.end) return Errno(EINVAL);
  MmapRequest request{.hint = start, .length = size, .prot = vma->prot};
  request.flags = (flags & MAP_NONBLOCK) | MAP_SHARED | MAP_FIXED | MAP_POPULATE;
  if (vma->locked) request.flags |= MAP_LOCKED;
  request.file = vma->file;
  request.offset = pgoff * kPageSize;
  const GuestAddr mapped = TRY(Mmap(request, limits));
  (void)mapped;
  return {};
}

}  // namespace ringwall
