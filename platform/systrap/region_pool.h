// The regions of all guest threads: one memfd, seen whole by the Sentry, piecewise by stubs.
#ifndef RINGWALL_PLATFORM_SYSTRAP_REGION_POOL_H_
#define RINGWALL_PLATFORM_SYSTRAP_REGION_POOL_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "platform/stub/stub_abi.h"
#include "platform/systrap/region.h"
#include "sentry/base/host_error.h"
#include "sentry/base/mutex.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::systrap {

inline constexpr uint32_t kMaxRegions = (RW_STUB_REGIONS_END - RW_STUB_REGIONS) / RW_REGION_SIZE;

// Thread-safe.
class RegionPool {
 public:
  RegionPool() = default;
  ~RegionPool();
  RegionPool(const RegionPool&) = delete;
  RegionPool& operator=(const RegionPool&) = delete;

  HostResult<void> Init();

  // A region of zeros. EAGAIN when all are in use.
  Result<uint32_t> Take() EXCLUDES(mu_);
  // Gives back regions of a stub that has been killed: they are used again only when `pid` is gone,
  // since until then its threads could still write them.
  void GiveBack(pid_t pid, const std::vector<uint32_t>& regions) EXCLUDES(mu_);
  // Gives back a region that no stub has mapped.
  void GiveBackUnmapped(uint32_t index) EXCLUDES(mu_);

  // The region as the Sentry sees it: hostile.
  Region* At(uint32_t index) const {
    return reinterpret_cast<Region*>(base_ + size_t{index} * RW_REGION_SIZE);
  }
  static uint64_t StubAddress(uint32_t index) {
    return RW_STUB_REGIONS + uint64_t{index} * RW_REGION_SIZE;
  }
  int fd() const { return fd_.get(); }

 private:
  // Pages of free regions that are kept, since zeroing them costs less than getting new ones.
  static constexpr size_t kMaxWarm = 8;            // regions
  static constexpr size_t kMaxWarmBytes = 64 << 10;  // of each

  void ReapLocked() REQUIRES(mu_);
  // Empties a region for its next owner.
  void FreeLocked(uint32_t index) REQUIRES(mu_);
  // Zeroes the pages that there are; false when there are many.
  bool ZeroPages(uint32_t index);

  struct Free {
    uint32_t index;
    bool warm;
  };
  struct Dying {
    pid_t pid;
    uint32_t index;
  };
  UniqueFd fd_;
  std::byte* base_ = nullptr;
  Mutex<LockClass::kLeaf> mu_;
  uint32_t next_ GUARDED_BY(mu_) = 0;
  std::vector<Free> free_ GUARDED_BY(mu_);
  size_t warm_ GUARDED_BY(mu_) = 0;
  std::vector<Dying> dying_ GUARDED_BY(mu_);
};

}  // namespace ringwall::systrap

#endif  // RINGWALL_PLATFORM_SYSTRAP_REGION_POOL_H_
