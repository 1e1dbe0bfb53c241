// Looking at a map: /proc/PID/maps, status, statm, and what a fault was.
#include <sys/mman.h>

#include <algorithm>
#include <array>

#include "sentry/mm/memory_manager.h"
#include "sentry/mm/shared_anon.h"

namespace ringwall {

void MemoryManager::DescribeLocked(Vma& vma) const {
  if (vma.name != nullptr) return;
  if (vma.range.start <= layout_.start_stack && layout_.start_stack <= vma.range.end &&
      !layout_.start_stack.IsNull()) {
    vma.name = "[stack]";
  } else if (!vma.file && vma.range.start < layout_.brk && layout_.start_brk < vma.range.end) {
    vma.name = "[heap]";
  }
}

bool MemoryManager::MayWrite(GuestRange range) const {
  ReaderLock lock(mu_);
  GuestAddr at = range.start;
  for (auto it = vmas_.FindFrom(at); at < range.end; ++it) {
    if (it == vmas_.end() || at < it->second.range.start) return false;
    const Vma& vma = it->second;
    if ((vma.prot & PROT_WRITE) == 0) return false;
    // A file may end before its mapping does. Private ones are the data of programs, whose copies in
    // between would cost too much.
    if (vma.file && (vma.shared ? !IsSharedAnon(*vma.file) : vma.file->LacksMemory())) return false;
    at = vma.range.end;
  }
  return true;
}

uint64_t MemoryManager::WritableFrom(GuestAddr addr, uint64_t size) {
  const std::optional<GuestRange> range = GuestRange::Make(addr, size);
  if (range && MayWrite(*range)) return size;
  if (!MayWrite(addr, size)) return 0;
  ReaderLock lock(mu_);
  GuestAddr at = addr;
  for (auto it = vmas_.FindFrom(at); at - addr < size; ++it) {
    if (it == vmas_.end() || at < it->second.range.start) break;
    if ((it->second.prot & PROT_WRITE) == 0) break;
    at = it->second.range.end;
  }
  return std::min<uint64_t>(at - addr, size);
}

std::optional<Vma> MemoryManager::Find(GuestAddr addr) const {
  ReaderLock lock(mu_);
  const Vma* vma = vmas_.Find(addr);
  if (vma == nullptr) return std::nullopt;
  Vma copy = *vma;
  DescribeLocked(copy);
  return copy;
}

std::vector<Vma> MemoryManager::List() const {
  ReaderLock lock(mu_);
  std::vector<Vma> list;
  list.reserve(vmas_.size());
  for (const auto& [end, vma] : vmas_) {
    Vma copy = vma;
    DescribeLocked(copy);
    const GuestRange reserve = vmas_.stack_reserve();
    if (!reserve.empty() && vma.range.Contains(reserve)) {
      copy.range.start = LowestUsedStackLocked(vma);
    }
    list.push_back(std::move(copy));
  }
  return list;
}

GuestAddr MemoryManager::LowestUsedStackLocked(const Vma& stack) const {
  const GuestRange reserve = vmas_.stack_reserve();
  std::array<uint8_t, 4096> pages;
  for (GuestAddr at = stack.range.start; at < reserve.end;) {
    const uint64_t n = std::min<uint64_t>((reserve.end - at) / kPageSize, pages.size());
    const std::span<uint8_t> out = std::span(pages).first(n);
    if (!as_->Mincore({at, at + n * kPageSize}, out).ok()) break;
    for (uint64_t i = 0; i < n; ++i) {
      if ((out[i] & 1) != 0) return at + i * kPageSize;
    }
    at = at + n * kPageSize;
  }
  return reserve.end;
}

namespace {
// Sanitizers, databases and run-times reserve terabytes of which they use little, and mincore takes a
// byte for each page: beyond this much, what is in memory is not counted but derived.
constexpr uint64_t kCountedBytes = uint64_t{4} << 30;
constexpr uint64_t kCountedInAll = 8 * kCountedBytes;

// Room that is only kept free: nobody can have touched it but before an mprotect.
bool IsReserve(const Vma& vma) {
  return vma.prot == PROT_NONE && !vma.file && vma.range.size() > kCountedBytes / 4;
}

// The host's peak of what the stub has in memory, in bytes; 0 when it cannot be asked.
uint64_t PeakOnHost(AddressSpace& as) {
  const Result<AddressSpace::HostUsage> used = as.Usage();
  return used.ok() ? std::min<uint64_t>(used->maxrss_kib, uint64_t{1} << 40) * 1024 : 0;
}
}  // namespace

uint64_t MemoryManager::ResidentLocked(GuestRange range) const {
  if (range.size() > kCountedBytes / 4) {
    const Vma* vma = vmas_.Find(range.start);
    if (vma != nullptr && IsReserve(*vma)) return 0;
    if (range.size() > kCountedBytes) return std::min(range.size(), PeakOnHost(*as_));
  }
  std::array<uint8_t, 16384> pages;
  uint64_t resident = 0;
  for (GuestAddr at = range.start; at < range.end;) {
    const uint64_t n = std::min<uint64_t>((range.end - at) / kPageSize, pages.size());
    const std::span<uint8_t> out = std::span(pages).first(n);
    if (!as_->Mincore({at, at + n * kPageSize}, out).ok()) break;
    for (const uint8_t page : out) resident += page & 1;
    at = at + n * kPageSize;
  }
  return resident * kPageSize;
}

uint64_t MemoryManager::ResidentIn(GuestRange range) const {
  ReaderLock lock(mu_);
  return ResidentLocked(range);
}

MemoryManager::Usage MemoryManager::usage(bool with_rss) const {
  ReaderLock lock(mu_);
  Usage u;
  u.size = vmas_.total();
  u.peak_size = std::max(peak_size_, u.size);
  u.data = vmas_.data();
  u.stack = vmas_.stack();
  u.locked = vmas_.locked();
  u.map_count = vmas_.size();
  const uint64_t code = layout_.end_code - layout_.start_code;
  u.exe = layout_.end_code < layout_.start_code ? 0 : PageUp(code).value_or(0);
  u.lib = vmas_.exec() > u.exe ? vmas_.exec() - u.exe : 0;
  if (with_rss) {
    std::vector<GuestRange> ranges;
    std::vector<uint64_t*> sums;
    uint64_t counted = 0, left_out = 0;
    for (const auto& [end, vma] : vmas_) {
      if (vma.name != nullptr || IsReserve(vma)) continue;
      if (vma.range.size() > kCountedBytes || counted + vma.range.size() > kCountedInAll) {
        left_out += vma.range.size();
        continue;
      }
      counted += vma.range.size();
      ranges.push_back(vma.range);
      const bool shmem = vma.file && vma.file->inode().fs().type_name() == "tmpfs";
      sums.push_back(!vma.file ? &u.rss_anon : shmem ? &u.rss_shmem : &u.rss_file);
    }
    std::vector<uint64_t> pages(ranges.size());
    static_cast<void>(as_->CountResident(ranges, pages).ok());
    for (size_t i = 0; i < pages.size(); ++i) *sums[i] += pages[i] * kPageSize;
    u.rss = u.rss_anon + u.rss_file + u.rss_shmem;
    if (left_out != 0) {
      // The host's own peak of the process bounds what the ranges that were left out can hold.
      const uint64_t on_host = PeakOnHost(*as_);
      const uint64_t rest = std::min(left_out, on_host > u.rss ? on_host - u.rss : 0);
      u.rss_anon += rest;
      u.rss += rest;
    }
    uint64_t peak = peak_rss_.load(std::memory_order_relaxed);
    while (peak < u.rss && !peak_rss_.compare_exchange_weak(peak, u.rss)) {
    }
  }
  u.peak = peak_rss_.load(std::memory_order_relaxed);
  return u;
}

bool MemoryManager::WritesTo(const std::vector<int>& host_fds) const {
  ReaderLock lock(mu_);
  return std::any_of(vmas_.begin(), vmas_.end(), [&](const auto& entry) {
    const Vma& vma = entry.second;
    return vma.file && vma.shared && (vma.max_prot & PROT_WRITE) != 0 &&
           std::find(host_fds.begin(), host_fds.end(), vma.host.host_fd) != host_fds.end();
  });
}

int MemoryManager::SegvCode(GuestAddr addr) const {
  constexpr int kMapErr = 1, kAccErr = 2;  // SEGV_MAPERR, SEGV_ACCERR
  ReaderLock lock(mu_);
  return vmas_.Find(addr) == nullptr ? kMapErr : kAccErr;
}

bool MemoryManager::MayWrite(GuestAddr addr, uint64_t size) {
  if (size == 0) return true;
  {
    ReaderLock lock(mu_);
    const Vma* vma = vmas_.Find(addr);
    if (vma != nullptr) return (vma->prot & PROT_WRITE) != 0;
  }
  return GrowStackForCopy(addr);
}

}  // namespace ringwall
