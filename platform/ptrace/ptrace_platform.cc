#include "platform/ptrace/ptrace_platform.h"

#include "platform/ptrace/ptrace_context.h"

namespace ringwall {
namespace {

// The first task of a stub comes at once, so its guest thread is started with the stub.
constexpr StubCall kStartThread = {RW_OP_THREAD, {RW_ENTRY_PTRACE, 0, 0, 0, 0, 0}, 0};

}  // namespace
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
  const uint32_t tid = TRY(stub().Order({&kStartThread, 1}));
  MutexLock lock(mu_);
  ++threads_;
  return static_cast<pid_t>(tid);
}

bool PtraceAddressSpace::MayReplace() {
  MutexLock lock(mu_);
  return threads_ == 1 && pristine();
}

void PtraceAddressSpace::GiveBackThread(pid_t tid) {
  MutexLock lock(mu_);
  idle_.push_back(tid);
}

Ref<PtraceAddressSpace> PtraceAddressSpace::Make(Ref<StubHost> host,
                                                 std::unique_ptr<StubProcess> stub,
                                                 const Result<uint32_t>& thread) {
  Ref<PtraceAddressSpace> as = MakeRef<PtraceAddressSpace>(std::move(host), std::move(stub));
  if (!thread.ok()) return as;
  MutexLock lock(as->mu_);
  as->threads_ = 1;
  as->idle_.push_back(static_cast<pid_t>(*thread));
  lock.Unlock();
  return as;
}

Result<Ref<AddressSpace>> PtraceAddressSpace::Create(Ref<StubHost> host) {
  Result<uint32_t> thread = 0U;
  std::unique_ptr<StubProcess> stub = TRY(host->NewStub({&kStartThread, 1}, &thread));
  return Ref<AddressSpace>(Make(std::move(host), std::move(stub), thread));
}

Result<Ref<AddressSpace>> PtraceAddressSpace::Fork() {
  Result<uint32_t> thread = 0U;
  std::unique_ptr<StubProcess> child = TRY(stub().Fork({&kStartThread, 1}, &thread));
  Ref<PtraceAddressSpace> as = Make(Ref<StubHost>(host()), std::move(child), thread);
  as->InheritChanges(*this);
  return Ref<AddressSpace>(std::move(as));
}

HostResult<std::unique_ptr<Platform>> PtracePlatform::Create() {
  Ref<StubHost> host = TRY(StubHost::Create(GuestSignals::kTracer));
  return std::unique_ptr<Platform>(new PtracePlatform(std::move(host)));
}

Result<Ref<AddressSpace>> PtracePlatform::NewAddressSpace() {
  return PtraceAddressSpace::Create(host_);
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
