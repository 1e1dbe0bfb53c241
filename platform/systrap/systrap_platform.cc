#include "platform/systrap/systrap_platform.h"

#include "platform/systrap/disassembler.h"

#include <cpuid.h>
#include <sys/auxv.h>

#include "platform/systrap/region_access.h"
#include "platform/systrap/systrap_context.h"
#include "platform/xstate.h"

namespace ringwall {

const char* SystrapPlatform::Missing() {
  constexpr unsigned long kFsgsbase = 2;  // HWCAP2_FSGSBASE: the kernel lets user code use it
  constexpr unsigned kBmi2 = 1U << 8;
  constexpr unsigned kRdtscp = 1U << 27;
  constexpr unsigned kOsxsave = 1U << 27;
  if ((::getauxval(AT_HWCAP2) & kFsgsbase) == 0) return "FSGSBASE (Linux 5.9 or later)";
  unsigned a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsxsave) == 0) return "XSAVE";
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (b & kBmi2) == 0) return "BMI2";
  if (__get_cpuid(0x80000001, &a, &b, &c, &d) == 0 || (d & kRdtscp) == 0) return "RDTSCP";
  if (XStateSize() > RW_REGION_XSTATE_SIZE) return "a known size of the processor's state";
  return nullptr;
}

HostResult<std::unique_ptr<Platform>> SystrapPlatform::Create() {
  if (const char* missing = Missing()) {
    return HostError::Message(std::string("the systrap platform needs ") + missing);
  }
  systrap::Disassembler::Prepare();
  Ref<StubHost> host = TRY(StubHost::Create(GuestSignals::kStub));
  Ref<SystrapCore> core = MakeRef<SystrapCore>(std::move(host));
  TRY(core->Init());
  return std::unique_ptr<Platform>(new SystrapPlatform(std::move(core)));
}

Result<Ref<AddressSpace>> SystrapPlatform::NewAddressSpace() {
  return SystrapAddressSpace::Create(core_);
}

Result<std::unique_ptr<Context>> SystrapPlatform::NewContext(AddressSpace& as, Context* parent) {
  auto& space = static_cast<SystrapAddressSpace&>(as);
  const GuestThread thread = TRY(space.TakeThread());
  auto context = std::make_unique<SystrapContext>(Ref<SystrapAddressSpace>(space), thread);
  if (parent != nullptr) TRY(context->CopyFrom(static_cast<SystrapContext&>(*parent)));
  return std::unique_ptr<Context>(std::move(context));
}

void SystrapContext::AddTo(PlatformStats& stats) const {
  for (size_t i = 0; i < PlatformStats::kSyscalls; ++i) {
    stats.patched[i] += patched_[i].load(std::memory_order_relaxed);
    stats.trapped[i] += trapped_[i].load(std::memory_order_relaxed);
  }
  for (size_t i = 0; i < std::size(systrap::kLocalCalls); ++i) {
    stats.local[systrap::kLocalCalls[i]] += Load(region_->local_count[i]);
  }
  stats.view_copies += view_copies_.load(std::memory_order_relaxed);
  stats.view_faults += view_faults_.load(std::memory_order_relaxed);
}

}  // namespace ringwall
