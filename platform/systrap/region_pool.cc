#include "platform/systrap/region_pool.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sentry/base/check.h"

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
    // What one guest process left is not for the next to see.
    ::madvise(At(d.index), RW_REGION_SIZE, MADV_REMOVE);
    free_.push_back(d.index);
    return true;
  });
}

Result<uint32_t> RegionPool::Take() {
  MutexLock lock(mu_);
  if (free_.empty() && !dying_.empty()) ReapLocked();
  if (!free_.empty()) {
    const uint32_t index = free_.back();
    free_.pop_back();
    return index;
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
  ::madvise(At(index), RW_REGION_SIZE, MADV_REMOVE);
  free_.push_back(index);
}

}  // namespace ringwall::systrap
