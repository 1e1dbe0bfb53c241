#include "platform/systrap/systrap_address_space.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

namespace ringwall {

using systrap::Region;
using systrap::RegionPool;

SystrapAddressSpace::SystrapAddressSpace(Ref<SystrapCore> core, std::unique_ptr<StubProcess> stub)
    : StubAddressSpace(Ref<StubHost>(core->host()), std::move(stub)), core_(std::move(core)) {}

SystrapAddressSpace::~SystrapAddressSpace() {
  stub().Kill();
  MutexLock lock(mu_);
  core_->regions().GiveBack(host_pid(), regions_);
}

Result<GuestThread> SystrapAddressSpace::TakeThread() {
  {
    MutexLock lock(mu_);
    if (!idle_.empty()) {
      const GuestThread thread = idle_.back();
      idle_.pop_back();
      return thread;
    }
  }
  const uint32_t index = TRY(core_->regions().Take());
  {
    MutexLock lock(mu_);
    regions_.push_back(index);  // given back with all others, also when the start fails
  }
  Region* const region = core_->regions().At(index);
  memset(region, 0, sizeof *region);
  region->state = RW_STATE_STARTING;
  const uint64_t at = RegionPool::StubAddress(index);
  const StubCall calls[] = {
      {SYS_mmap,
       {at, RW_REGION_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
        static_cast<uint64_t>(core_->regions().fd()), uint64_t{index} * RW_REGION_SIZE},
       0},
      {RW_OP_THREAD, {RW_ENTRY_SYSTRAP, at, 0, 0, 0, 0}, 0},
  };
  const uint32_t tid = TRY(stub().Order(calls));
  return GuestThread{index, static_cast<pid_t>(tid), false};
}

void SystrapAddressSpace::GiveBackThread(GuestThread thread) {
  MutexLock lock(mu_);
  thread.used = true;
  idle_.push_back(thread);
}

Result<Ref<AddressSpace>> SystrapAddressSpace::Adopt(std::unique_ptr<StubProcess> child) {
  return Ref<AddressSpace>(MakeRef<SystrapAddressSpace>(core_, std::move(child)));
}

}  // namespace ringwall
