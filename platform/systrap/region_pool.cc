#include "platform/systrap/region_pool.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <span>

#include "sentry/base/check.h"
#include "sentry/base/guest_addr.h"

namespace ringwall::systrap {

RegionPool::~RegionPool() {
  if (base_ != nullptr) ::munmap(base_, size_t{kMaxRegions} * RW_REGION_SIZE);
}

HostResult<void> RegionPool::Init() {
  const size_t size = size_t{kMaxRegions} * RW_REGION_SIZE;
  fd_ = UniqueFd(::memfd_create("ringwall-regions", MFD_CLOEXEC));
  if (!fd_) return HostError::Last("memfd_create", "thread regions");
  if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) {
    return HostError::Last("ftruncate", "thread regions");
  }
  void* at =
      ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd_.get(), 0);
  if (at == MAP_FAILED) return HostError::Last("mmap", "thread regions");
  base_ = static_cast<std::byte*>(at);
  return {};
}

void RegionPool::ReapLocked() {
  std::erase_if(dying_, [&](const Dying& d) {
    mu_.AssertHeld();
    if (syscall(SYS_tgkill, d.pid, d.pid, 0) == 0 || errno != ESRCH) return false;
    FreeLocked(d.index);
    return true;
  });
}

// What one guest process left is not for the next to see.
void RegionPool::FreeLocked(uint32_t index) {
  const bool warm = warm_ < kMaxWarm && ZeroPages(index);
  if (warm) {
    ++warm_;
  } else {
    ::madvise(At(index), RW_REGION_SIZE, MADV_REMOVE);
  }
  free_.push_back({index, warm});
}

bool RegionPool::ZeroPages(uint32_t index) {
  const off_t start = static_cast<off_t>(index) * RW_REGION_SIZE, end = start + RW_REGION_SIZE;
  struct Run {
    off_t from, to;
  };
  std::array<Run, RW_REGION_SIZE / kPageSize / 2> runs;
  size_t count = 0, bytes = 0;
  for (off_t at = start; at < end; ++count) {
    const off_t data = ::lseek(fd_.get(), at, SEEK_DATA);
    if (data < 0 && errno != ENXIO) return false;
    if (data < 0 || data >= end) break;
    const off_t hole = ::lseek(fd_.get(), data, SEEK_HOLE);
    if (hole <= data) return false;
    runs[count] = {data, std::min(hole, end)};
    bytes += static_cast<size_t>(runs[count].to - data);
    at = runs[count].to;
  }
  if (bytes > kMaxWarmBytes) return false;
  for (const Run& run : std::span(runs).first(count)) {
    memset(base_ + run.from, 0, static_cast<size_t>(run.to - run.from));
  }
  return true;
}

Result<uint32_t> RegionPool::Take() {
  MutexLock lock(mu_);
  if (free_.empty() && !dying_.empty()) ReapLocked();
  if (!free_.empty()) {
    const Free region = free_.back();
    free_.pop_back();
    if (region.warm) --warm_;
    return region.index;
  }
  if (next_ == kMaxRegions) return Errno(EAGAIN);
  return next_++;
}

void RegionPool::GiveBack(pid_t pid, const std::vector<uint32_t>& regions) {
  MutexLock lock(mu_);
  for (const uint32_t index : regions) dying_.push_back({pid, index});
  if (dying_.size() > 64) ReapLocked();
}

void RegionPool::GiveBackUnmapped(uint32_t index) {
  MutexLock lock(mu_);
  FreeLocked(index);
}

}  // namespace ringwall::systrap
