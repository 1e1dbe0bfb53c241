#include "platform/systrap/systrap_address_space.h"

#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>

#include "platform/systrap/systrap_context.h"
#include "sentry/base/log.h"

namespace ringwall {
namespace {

// How long the threads of a process may take to stop for a patch, and for a call of the guest that
// wants one taken back: others may have the processors for long. One that has blocked the kick on
// the host, by a forged signal frame, never does.
constexpr uint64_t kStopNs = 5'000'000;
constexpr uint64_t kLongStopNs = 10'000'000'000;
constexpr long kLongestPauseNs = 500'000;  // between two looks whether they have
// More running threads than this are not stopped for a patch's sake.
constexpr size_t kMaxStopped = 64;

uint64_t Now() {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

}  // namespace

using systrap::Region;
using systrap::RegionPool;

SystrapAddressSpace::SystrapAddressSpace(Ref<SystrapCore> core, std::unique_ptr<StubProcess> stub)
    : StubAddressSpace(Ref<StubHost>(core->host()), std::move(stub)),
      core_(std::move(core)),
      patcher_(this->stub(), core_->trampolines(), *this),
      views_(this->stub(), *this) {}

SystrapAddressSpace::~SystrapAddressSpace() {
  stub().Kill();
  MutexLock lock(mu_);
  core_->regions().GiveBack(host_pid(), regions_);
}

Result<GuestThread> SystrapAddressSpace::TakeThread() {
  {
    MutexLock lock(mu_);
    // Not one whose scheduling the host did not let us take back, unless there are too many of them.
    constexpr size_t kManyIdle = 8;
    auto it = std::find_if(idle_.rbegin(), idle_.rend(), [](const GuestThread& g) { return g.plain; });
    if (it == idle_.rend() && idle_.size() >= kManyIdle) it = idle_.rbegin();
    if (it != idle_.rend()) {
      const GuestThread thread = *it;
      idle_.erase(std::next(it).base());
      return thread;
    }
  }
  StubCall calls[2];
  const uint32_t index = TRY(StartCalls(*core_, calls));
  {
    MutexLock lock(mu_);
    regions_.push_back(index);  // given back with all others, also when the start fails
  }
  const uint32_t tid = TRY(stub().Order(calls));
  return GuestThread{index, static_cast<pid_t>(tid), false};
}

Result<uint32_t> SystrapAddressSpace::StartCalls(SystrapCore& core, std::span<StubCall> calls) {
  const uint32_t index = TRY(core.regions().Take());
  Region* const region = core.regions().At(index);
  memset(region, 0, sizeof *region);
  region->message = RW_EVENT_READY;
  region->state = RW_STATE_STARTING;
  const uint64_t at = RegionPool::StubAddress(index);
  calls[0] = {SYS_mmap,
              {at, RW_REGION_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
               static_cast<uint64_t>(core.regions().fd()), uint64_t{index} * RW_REGION_SIZE},
              0};
  calls[1] = {RW_OP_THREAD, {RW_ENTRY_SYSTRAP, at, 0, 0, 0, 0}, 0};
  return index;
}

void SystrapAddressSpace::GiveBackThread(GuestThread thread) {
  MutexLock lock(mu_);
  thread.used = true;
  idle_.push_back(thread);
}

Ref<SystrapAddressSpace> SystrapAddressSpace::Make(Ref<SystrapCore> core,
                                                   std::unique_ptr<StubProcess> stub,
                                                   uint32_t region,
                                                   const Result<uint32_t>& thread) {
  Ref<SystrapAddressSpace> as = MakeRef<SystrapAddressSpace>(std::move(core), std::move(stub));
  MutexLock lock(as->mu_);
  as->regions_.push_back(region);
  if (thread.ok()) as->idle_.push_back({region, static_cast<pid_t>(*thread), false});
  return as;
}

void SystrapAddressSpace::GiveBack(SystrapCore& core, uint32_t region, Errno error) {
  // A region that a stub may still map is never used again.
  if (!error.Is(ESRCH)) core.regions().GiveBackUnmapped(region);
}

// The first task of a stub comes at once, so its thread is started with the stub.
Result<Ref<AddressSpace>> SystrapAddressSpace::Create(Ref<SystrapCore> core) {
  // A sandbox that runs one program needs no spare stub.
  const bool again = core->NoteCreated();
  StubCall calls[2];
  uint32_t region;
  Result<uint32_t> thread = 0U;
  std::unique_ptr<StubProcess> stub = core->host().TakeSpare(&thread, &region);
  if (stub == nullptr) {
    region = TRY(StartCalls(*core, calls));
    Result<std::unique_ptr<StubProcess>> made = core->host().NewStub(calls, &thread);
    if (!made.ok()) {
      GiveBack(*core, region, made.error());
      return made.error();
    }
    stub = std::move(made.value());
  }
  if (again) BeginSpare(*core);
  return Ref<AddressSpace>(Make(std::move(core), std::move(stub), region, thread));
}

void SystrapAddressSpace::BeginSpare(SystrapCore& core) {
  StubCall calls[2];
  const Result<uint32_t> region = StartCalls(core, calls);
  if (region.ok() && !core.host().BeginSpare(calls, *region)) {
    core.regions().GiveBackUnmapped(*region);
  }
}

Result<Ref<AddressSpace>> SystrapAddressSpace::Fork() {
  StubCall calls[2];
  const uint32_t region = TRY(StartCalls(*core_, calls));
  Result<uint32_t> thread = 0U;
  systrap::CodePatcher::State state;
  Result<std::unique_ptr<StubProcess>> stub = patcher_.Fork(&state, calls, &thread);
  if (!stub.ok()) {
    GiveBack(*core_, region, stub.error());
    return stub.error();
  }
  Ref<SystrapAddressSpace> child = Make(core_, std::move(stub.value()), region, thread);
  child->InheritChanges(*this);
  child->patcher_.Adopt(std::move(state));
  return Ref<AddressSpace>(std::move(child));
}

Result<void> SystrapAddressSpace::Map(GuestRange range, int prot, int flags, int host_fd,
                                      uint64_t offset) {
  const bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;
  return patcher_.Map(range, prot, shared,
                      [&] { return StubAddressSpace::Map(range, prot, flags, host_fd, offset); });
}

Result<void> SystrapAddressSpace::MapAll(std::span<const Mapping> mappings) {
  return patcher_.MapAll(mappings, [&] { return StubAddressSpace::MapAll(mappings); });
}

bool SystrapAddressSpace::MayReplace() {
  MutexLock lock(mu_);
  return regions_.size() == 1 && pristine();
}

Result<void> SystrapAddressSpace::Replace(std::span<const Mapping> mappings) {
  {
    MutexLock lock(contexts_mu_);
    for (SystrapContext* context : contexts_) context->Scrub();
  }
  return patcher_.Replace(mappings, [&](std::span<const GuestRange> areas) {
    std::vector<GuestRange> gone = views_.TakeAll();
    gone.insert(gone.end(), areas.begin(), areas.end());
    return StubAddressSpace::ReplaceAnd(mappings, gone);
  });
}

Result<void> SystrapAddressSpace::Unmap(GuestRange range) {
  return patcher_.Unmap(range, [&] { return StubAddressSpace::Unmap(range); });
}

Result<void> SystrapAddressSpace::Protect(GuestRange range, int prot) {
  return patcher_.Protect(range, prot, [&] { return StubAddressSpace::Protect(range, prot); });
}

Result<void> SystrapAddressSpace::Remap(GuestRange from, uint64_t new_size, int flags,
                                        GuestAddr to) {
  const std::optional<GuestRange> target = GuestRange::Make(to, new_size);
  if (!target) return Errno(EINVAL);
  const bool keep = from.empty() || (flags & MREMAP_DONTUNMAP) != 0;
  return patcher_.Remap(from, *target, keep,
                        [&] { return StubAddressSpace::Remap(from, new_size, flags, to); });
}

Result<void> SystrapAddressSpace::Advise(int what, GuestRange range, int arg) {
  if (what != SYS_madvise || patcher_.empty()) return StubAddressSpace::Advise(what, range, arg);
  return patcher_.Discard(range, [&] { return StubAddressSpace::Advise(what, range, arg); });
}

Result<size_t> SystrapAddressSpace::Read(GuestAddr from, std::span<std::byte> to) {
  Result<size_t> got = StubAddressSpace::Read(from, to);
  if (got.ok() && !patcher_.empty()) patcher_.Hide(from, to.first(*got));
  return got;
}

Result<size_t> SystrapAddressSpace::Write(GuestAddr to, std::span<const std::byte> from) {
  if (!patcher_.empty()) {
    if (const auto range = GuestRange::Make(to, from.size())) patcher_.BeforeWrite(*range);
  }
  return StubAddressSpace::Write(to, from);
}

Result<void> SystrapAddressSpace::MakeView(ViewedFile& file, uint64_t pos) {
  TRY(views_.Make(file, pos));
  core_->NoteView();
  return {};
}

void SystrapAddressSpace::Add(SystrapContext* context) {
  MutexLock lock(contexts_mu_);
  contexts_.push_back(context);
}

void SystrapAddressSpace::Remove(SystrapContext* context) {
  MutexLock lock(contexts_mu_);
  std::erase(contexts_, context);
}

bool SystrapAddressSpace::Stop(Patience patience) {
  stopped_.store(1);
  // Ordered against Switch(), which says that it is in the guest and then looks at stopped_.
  MutexLock lock(contexts_mu_);
  std::vector<SystrapContext*> running;
  for (SystrapContext* context : contexts_) {
    if (context->in_guest()) running.push_back(context);
  }
  const bool brief = patience == Patience::kBrief;
  bool all = !brief || running.size() <= kMaxStopped;
  if (all && !running.empty()) {
    for (SystrapContext* context : running) context->Kick();
    const uint64_t deadline = Now() + (brief ? kStopNs : kLongStopNs);
    timespec pause = {0, 20'000};
    while (std::any_of(running.begin(), running.end(),
                       [](const SystrapContext* c) { return c->in_guest(); })) {
      if (Now() > deadline || !alive()) {
        all = false;
        break;
      }
      ::ppoll(nullptr, 0, &pause, nullptr);  // the Sentry's filter has no sleep
      pause.tv_nsec = std::min(2 * pause.tv_nsec, kLongestPauseNs);
    }
  }
  lock.Unlock();
  if (!all && !brief) RW_LOG(kWarning, "threads of a process do not stop for a change of their code");
  if (!all) Start();
  return all;
}

void SystrapAddressSpace::Start() {
  stopped_.store(0);
  stopped_.notify_all();
}

}  // namespace ringwall
