// mmap(2), munmap(2) and the choice of addresses. Compare Linux mm/mmap.c.
#include <sys/mount.h>
#include <sys/syscall.h>

#include <algorithm>
#include <utility>

#include "fs/vfs/mount.h"
#include "sentry/mm/map_limits.h"
#include "sentry/mm/memory_manager.h"
#include "sentry/mm/shared_anon.h"

namespace ringwall {

namespace {

constexpr uint64_t kHugePage = 2 << 20;
// Where bottom-up searches begin (TASK_UNMAPPED_BASE).
constexpr GuestAddr kUnmappedBase{0x2aaa'aaaa'a000};
// MAP_32BIT's window.
constexpr GuestAddr k32BitLow{0x4000'0000};
constexpr GuestAddr k32BitHigh{0x8000'0000};
// What MAP_SHARED_VALIDATE lets through.
constexpr int kLegacyMask = MAP_SHARED | MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_DENYWRITE |
                            MAP_EXECUTABLE | MAP_GROWSDOWN | MAP_LOCKED | MAP_NORESERVE |
                            MAP_POPULATE | MAP_NONBLOCK | MAP_STACK | MAP_HUGETLB | MAP_32BIT |
                            kMapAbove4G | 21 << 26 | 30 << 26;  // and the sizes of huge pages

bool IsFixed(int flags) { return (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0; }

Result<void> CheckFixedPlace(GuestAddr addr, uint64_t length) {
  if (addr > kTaskSize - length) return Errno(ENOMEM);
  if (!addr.IsPageAligned()) return Errno(EINVAL);
  if (addr.value() < kGuestMinAddr) return Errno(EPERM);
  return {};
}

// MAP_HUGETLB without any huge page in the pool, which is all that guests get.
Errno HugeTlbError(int flags) {
  const int log = (flags >> MAP_HUGE_SHIFT) & MAP_HUGE_MASK;
  return Errno(log == 0 || log == 21 || log == 30 ? ENOMEM : EINVAL);
}

// do_mmap()'s rules for a file: fills protections and sharing.
Result<void> CheckFile(const MmapRequest& request, uint64_t length, Vma& vma) {
  const File& file = *request.file;
  // file_mmap_ok(): devices and directories may have positions beyond a signed number.
  const uint32_t type = file.inode().type();
  const uint64_t most = type == S_IFREG || type == S_IFBLK || type == S_IFSOCK ? uint64_t{INT64_MAX} : ~uint64_t{0};
  if (length > most || request.offset / kPageSize > (most - length) / kPageSize) {
    return Errno(EOVERFLOW);
  }
  switch (request.flags & MAP_TYPE) {
    case MAP_SHARED_VALIDATE:
      // MAP_FIXED_NOREPLACE is newer than the mask that was never to grow.
      if ((request.flags & ~kLegacyMask) != 0) return Errno(EOPNOTSUPP);
      [[fallthrough]];
    case MAP_SHARED:
      if ((request.prot & PROT_WRITE) != 0 && !file.writable()) return Errno(EACCES);
      vma.shared = true;
      if (!file.writable()) vma.max_prot &= ~PROT_WRITE;
      break;
    case MAP_PRIVATE:
      break;
    default:
      return Errno(EINVAL);
  }
  if (!file.readable()) return Errno(EACCES);
  const Path& path = file.path();
  if (path && path.mount_ref() && (path.mount().flags() & MS_NOEXEC) != 0) {
    if ((request.prot & PROT_EXEC) != 0) return Errno(EPERM);
    vma.max_prot &= ~PROT_EXEC;
  }
  if ((request.flags & MAP_GROWSDOWN) != 0 && file.maps_as_anonymous()) return Errno(EINVAL);
  return {};
}

// The host memory behind a file mapping. A shared one of a writable file is asked for writable, so
// that a later mprotect can allow it; a sealed file (EPERM) is then never to be written.
Result<HostMapping> MapFile(File& file, Vma& vma, uint64_t length) {
  const bool may_write = vma.shared && (vma.max_prot & PROT_WRITE) != 0;
  if (may_write && (vma.prot & PROT_WRITE) == 0) {
    Result<HostMapping> mapping = file.Map(vma.offset, length, vma.prot | PROT_WRITE, true);
    if (mapping.ok() || !mapping.error().Is(EPERM)) return mapping;
    vma.max_prot &= ~PROT_WRITE;
  }
  return file.Map(vma.offset, length, vma.prot, vma.shared);
}

}  // namespace

Result<GuestAddr> MemoryManager::Mmap(const MmapRequest& request, const MemoryLimits& limits) {
  if ((request.offset & kPageMask) != 0 || request.length == 0) return Errno(EINVAL);
  if ((request.flags & MAP_HUGETLB) != 0) {
    return request.file ? Errno(EINVAL) : HugeTlbError(request.flags);
  }
  const std::optional<uint64_t> rounded = PageUp(request.length);
  if (!rounded || *rounded > kTaskSize.value()) return Errno(ENOMEM);
  const uint64_t length = *rounded;
  const bool fixed = IsFixed(request.flags);
  if (fixed) TRY(CheckFixedPlace(request.hint, length));
  const bool lock_it = (request.flags & MAP_LOCKED) != 0;
  {
    // Linux looks at the place and the limit of locked memory first, then at the file; what holds
    // below is what counts.
    VmaTree::Dropped dropped;
    MutexLock lock(mu_);
    if (fixed) SettleStackLocked({request.hint, request.hint + length}, &dropped);
    if ((request.flags & MAP_FIXED_NOREPLACE) != 0 &&
        vmas_.Intersects({request.hint, request.hint + length})) {
      return Errno(EEXIST);
    }
    if (lock_it && limits.locked == 0) return Errno(EPERM);
    if ((lock_it || lock_future_) && vmas_.locked() + length > (limits.locked & ~kPageMask)) {
      return Errno(EAGAIN);
    }
  }

  Vma vma{.prot = request.prot & (PROT_READ | PROT_WRITE | PROT_EXEC),
          .max_prot = request.max_prot,
          .name = request.name};
  int host_flags = request.flags & (MAP_NORESERVE | MAP_STACK);
  const bool droppable = !request.file && (request.flags & MAP_TYPE) == kMapDroppable;
  const bool anonymous_file = request.file && request.file->maps_as_anonymous();
  if (request.file) TRY(CheckFile(request, length, vma));
  if (request.file && !anonymous_file) {
    vma.offset = request.offset;
    vma.file = request.file;
    vma.host = TRY(MapFile(*request.file, vma, length));
    if ((request.flags & MAP_GROWSDOWN) != 0) return Errno(EINVAL);
  } else if (vma.shared || (request.flags & MAP_TYPE) == MAP_SHARED) {
    if ((request.flags & MAP_GROWSDOWN) != 0) return Errno(EINVAL);
    vma.shared = true;
    vma.file = TRY(MakeSharedAnonFile(length));
    // A mapping of /dev/zero begins where it was asked to, of a file that is as long as the mapping.
    if (anonymous_file) vma.offset = request.offset;
    // Nothing is there as far out as the host counts no more.
    constexpr uint64_t kFar = uint64_t{1} << 52;
    vma.host = TRY(vma.file->Map(std::min(vma.offset, kFar), length, vma.prot, true));
  } else if ((request.flags & MAP_TYPE) == MAP_PRIVATE) {
    vma.grows_down = (request.flags & MAP_GROWSDOWN) != 0;
  } else if (droppable) {
    if ((request.flags & (MAP_LOCKED | MAP_GROWSDOWN)) != 0) return Errno(EINVAL);
    vma.wipe_on_fork = vma.dont_dump = true;
    host_flags |= MAP_NORESERVE;
  } else {
    return Errno(EINVAL);
  }

  constexpr int kWriteExec = PROT_WRITE | PROT_EXEC;
  if (mdwe() != 0 && (vma.prot & kWriteExec) == kWriteExec) return Errno(EACCES);

  VmaTree::Dropped dropped;
  MutexLock lock(mu_);
  if (vmas_.size() > MaxMapCount()) return Errno(ENOMEM);
  const Placement place = TRY(PlaceLocked(request, length));
  vma.range = place.range;
  if ((lock_it || lock_future_) && !droppable) {
    vma.locked = true;
    vma.lock_on_fault = lock_future_on_fault_;
    if (vmas_.locked() + length > (limits.locked & ~kPageMask)) return Errno(EAGAIN);
  }
  const uint64_t replaced = place.replace ? vmas_.TotalIn(vma.range) : 0;
  if (place.replace && SealedLocked(vma.range)) return Errno(EPERM);
  TRY(CheckRoomLocked(vma, replaced, limits));
  const bool populate = (request.flags & (MAP_POPULATE | MAP_NONBLOCK)) == MAP_POPULATE;
  if (populate) host_flags |= MAP_POPULATE;

  const GuestRange range = vma.range;
  const bool locked = vma.locked, on_fault = vma.lock_on_fault;
  const int prot = vma.prot;
  TRY(InstallLocked(std::move(vma), host_flags, place.replace, &dropped));
  if (droppable) TRY(as_->Advise(SYS_madvise, range, MADV_WIPEONFORK));
  if (locked) LockOnHost(range, on_fault, prot);
  lock.Unlock();
  if (populate || (locked && !on_fault)) ServeFaults(range, prot);
  return range.start;
}

std::atomic<int>& MaxMapCountSetting() {
  static std::atomic<int> value{static_cast<int>(kMaxMapCount)};
  return value;
}

Result<MemoryManager::Placement> MemoryManager::PlaceLocked(const MmapRequest& request,
                                                            uint64_t length) {
  GuestAddr at = request.hint;
  if (!IsFixed(request.flags)) {
    at = at.PageDown();
    if (!at.IsNull() && at.value() < kGuestMinAddr) at = GuestAddr(kGuestMinAddr);
    const bool thp = !request.file && at.IsNull() && (length & (kHugePage - 1)) == 0;
    at = TRY(GetUnmappedAreaLocked(at, length, request.flags, thp));
    return Placement{{at, at + length}, false};
  }
  const GuestRange range{at, at + length};
  const bool taken = vmas_.Intersects(range);
  if (taken && (request.flags & MAP_FIXED_NOREPLACE) != 0) return Errno(EEXIST);
  return Placement{range, taken};
}

std::optional<GuestAddr> MemoryManager::FindTopDownLocked(uint64_t length, GuestAddr low) {
  const std::optional<GuestAddr> first = vmas_.FindTopDown(length, low, mmap_base_);
  for (std::optional<GuestAddr> found = first; found;) {
    const GuestAddr own = as_->OwnMemoryIn({*found, *found + length});
    if (own.IsNull()) return found;
    found = vmas_.FindTopDown(length, low, own);
  }
  return first;
}

Result<GuestAddr> MemoryManager::GetUnmappedAreaLocked(GuestAddr hint, uint64_t length, int flags,
                                                       bool thp) {
  if (length > kTaskSize.value()) return Errno(ENOMEM);
  const bool low32 = (flags & MAP_32BIT) != 0;
  const GuestAddr high = low32 ? k32BitHigh : kTaskSize;
  if (length > high.value()) return Errno(ENOMEM);
  if (!hint.IsNull() && hint <= high - length) {
    const auto next = vmas_.FindFrom(hint);
    if (next == vmas_.end() || hint + length <= next->second.start_gap()) return hint;
  }
  std::optional<GuestAddr> found;
  if (low32) {
    found = vmas_.FindBottomUp(length, k32BitLow, high);
    if (!found) return Errno(ENOMEM);
    return *found;
  }
  GuestAddr low(kGuestMinAddr);
  if ((flags & kMapAbove4G) != 0 && hint.value() < (uint64_t{1} << 32)) {
    low = GuestAddr(uint64_t{1} << 32);
  }
  if (thp) {
    // Whole huge pages are aligned, as Linux does since 6.7, so that the host can use some.
    found = FindTopDownLocked(length + kHugePage, low);
    if (found) {
      const uint64_t sub = (0 - found->value()) & (kHugePage - 1);
      return *found + (sub == 0 ? kHugePage : sub);
    }
  }
  found = FindTopDownLocked(length, low);
  if (!found) found = vmas_.FindBottomUp(length, kUnmappedBase, kTaskSize);
  if (!found) return Errno(ENOMEM);
  return *found;
}

// may_expand_vm().
Result<void> MemoryManager::CheckRoomLocked(const Vma& vma, uint64_t replaced,
                                            const MemoryLimits& limits) {
  const uint64_t grow = vma.range.size() - replaced;
  if (vmas_.total() + grow > (limits.address_space & ~kPageMask)) return Errno(ENOMEM);
  if (vma.is_data() && vmas_.data() + grow > (limits.data & ~kPageMask)) return Errno(ENOMEM);
  return {};
}

Result<void> MemoryManager::InstallLocked(Vma vma, int host_flags, bool replace,
                                          VmaTree::Dropped* dropped) {
  const GuestRange range = vma.range;
  const bool host_file = vma.file && vma.host.host_fd >= 0;
  int flags = host_flags | MAP_FIXED | (vma.shared && host_file ? MAP_SHARED : MAP_PRIVATE);
  if (!host_file) flags |= MAP_ANONYMOUS;
  if (overcommit_memory.load(std::memory_order_relaxed) == 1) flags |= MAP_NORESERVE;
  const AddressSpace::Mapping mapping{range, vma.prot, flags, host_file ? vma.host.host_fd : -1,
                                      host_file ? vma.host.offset : 0};
  Result<void> mapped;
  if (deferring_) {
    deferred_.push_back(mapping);
  } else {
    mapped = as_->Map(range, mapping.prot, flags, mapping.host_fd, mapping.offset);
  }
  if (!mapped.ok()) {
    // The host may already have taken away what was there.
    if (replace && as_->Unmap(range).ok()) vmas_.Remove(range, dropped);
    return mapped.error();
  }
  if (replace) vmas_.Remove(range, dropped);
  vmas_.Insert(std::move(vma));
  peak_size_ = std::max(peak_size_, vmas_.total());
  return {};
}

Result<void> MemoryManager::Munmap(GuestAddr addr, uint64_t length) {
  // Linux's end of user memory: nothing of the guest is above kTaskSize, but it may name all below this.
  constexpr GuestAddr kEnd((uint64_t{1} << 47) - kPageSize);
  if (!addr.IsPageAligned() || addr > kEnd || length > kEnd - addr) return Errno(EINVAL);
  const uint64_t size = *PageUp(length);
  if (size == 0) return Errno(EINVAL);
  VmaTree::Dropped dropped;
  MutexLock lock(mu_);
  const GuestRange range{addr, addr + size};
  SettleStackLocked(range, &dropped);
  if (SealedLocked(range)) return Errno(EPERM);
  return UnmapLocked(range, &dropped);
}

Result<void> MemoryManager::UnmapLocked(GuestRange range, VmaTree::Dropped* dropped) {
  const auto first = vmas_.FindFrom(range.start);
  if (first == vmas_.end() || first->second.range.start >= range.end) return {};
  const GuestRange vma = first->second.range;
  if (vma.start < range.start && range.end < vma.end && vmas_.size() >= MaxMapCount()) {
    return Errno(ENOMEM);
  }
  // Only what is there: the range may be much larger, and reach into what is the platform's own.
  TRY(FlushLocked());
  GuestRange there = range;
  there.start = std::max(there.start, vma.start);
  there.end = std::min(there.end, std::prev(vmas_.end())->second.range.end);
  TRY(as_->Unmap(there));
  vmas_.Remove(there, dropped);
  return {};
}

bool MemoryManager::SealedLocked(GuestRange range) const {
  for (auto it = vmas_.FindFrom(range.start);
       it != vmas_.end() && it->second.range.start < range.end; ++it) {
    if (it->second.sealed) return true;
  }
  return false;
}

}  // namespace ringwall
