#include "platform/ptrace/ptrace_platform.h"

#include "platform/ptrace/ptrace_context.h"

namespace ringwall {
void PtraceCounters::AddTo(PlatformStats& stats) const {
  for (size_t i = 0; i < PlatformStats::kSyscalls; ++i) {
    stats.trapped[i] += trapped_[i].load(std::memory_order_relaxed);
  }
}

PtraceAddressSpace::PtraceAddressSpace(Ref<StubHost> host, std::unique_ptr<StubProcess> stub)
    : StubAddressSpace(std::move(host), std::move(stub)) {}

Result<pid_t> PtraceAddressSpace::TakeThread() {
  {
    MutexLock lock(mu_);
    if (!idle_.empty()) {
      const pid_t tid = idle_.back();
      idle_.pop_back();
      return tid;
    }
  }
  return stub().StartThread(RW_ENTRY_PTRACE, {}, 0);
}

void PtraceAddressSpace::GiveBackThread(pid_t tid) {
  MutexLock lock(mu_);
  idle_.push_back(tid);
}

Result<Ref<AddressSpace>> PtraceAddressSpace::Adopt(std::unique_ptr<StubProcess> child) {
  return Ref<AddressSpace>(MakeRef<PtraceAddressSpace>(Ref<StubHost>(host()), std::move(child)));
}

HostResult<std::unique_ptr<Platform>> PtracePlatform::Create() {
  Ref<StubHost> host = TRY(StubHost::Create(GuestSignals::kTracer));
  return std::unique_ptr<Platform>(new PtracePlatform(std::move(host)));
}

Result<Ref<AddressSpace>> PtracePlatform::NewAddressSpace() {
  std::unique_ptr<StubProcess> stub = TRY(host_->NewStub());
  return Ref<AddressSpace>(MakeRef<PtraceAddressSpace>(host_, std::move(stub)));
}

Result<std::unique_ptr<Context>> PtracePlatform::NewContext(AddressSpace& as, Context* parent) {
  auto& space = static_cast<PtraceAddressSpace&>(as);
  const pid_t tid = TRY(space.TakeThread());
  auto context = std::make_unique<PtraceContext>(Ref<PtraceAddressSpace>(space), tid, counters_);
  if (parent != nullptr) TRY(context->CopyFrom(static_cast<PtraceContext&>(*parent)));
  return std::unique_ptr<Context>(std::move(context));
}

PlatformStats PtracePlatform::Stats() const {
  PlatformStats stats;
  counters_->AddTo(stats);
  return stats;
}

}  // namespace ringwall
