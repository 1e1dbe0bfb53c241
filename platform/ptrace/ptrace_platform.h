// The portable platform: the Sentry thread of a task traces the task's guest thread and runs it with
// PTRACE_SYSEMU, which stops at every system call before the host looks at it. The reference that
// the fast one is compared with. See platform/stub/README.md for the stubs.
#ifndef RINGWALL_PLATFORM_PTRACE_PTRACE_PLATFORM_H_
#define RINGWALL_PLATFORM_PTRACE_PTRACE_PLATFORM_H_

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "platform/stub/address_space.h"

namespace ringwall {

// Counts system calls by number. Thread-safe.
class PtraceCounters {
 public:
  void Count(uint64_t nr) {
    if (nr < PlatformStats::kSyscalls) trapped_[nr].fetch_add(1, std::memory_order_relaxed);
  }
  void AddTo(PlatformStats& stats) const;

 private:
  std::atomic<uint64_t> trapped_[PlatformStats::kSyscalls] = {};
};

// Adds the idle guest threads of a stub. Thread-safe.
class PtraceAddressSpace final : public StubAddressSpace {
 public:
  PtraceAddressSpace(Ref<StubHost> host, std::unique_ptr<StubProcess> stub);
  static Result<Ref<AddressSpace>> Create(Ref<StubHost> host);
  Result<Ref<AddressSpace>> Fork() override;
  bool MayReplace() override EXCLUDES(mu_);

  // A guest thread that is parked or on its way there.
  Result<pid_t> TakeThread() EXCLUDES(mu_);
  // Preconditions: nobody traces it and it is parked.
  void GiveBackThread(pid_t tid) EXCLUDES(mu_);

  uint64_t park_start() { return host().header().ptrace_park; }
  uint64_t call_site() { return host().header().ptrace_call; }
  uint64_t park_end() { return host().header().ptrace_park_end; }

 private:
  // With the thread that kStartThread has made of it.
  static Ref<PtraceAddressSpace> Make(Ref<StubHost> host, std::unique_ptr<StubProcess> stub,
                                      const Result<uint32_t>& thread);

  Mutex<LockClass::kPlatform> mu_;
  std::vector<pid_t> idle_ GUARDED_BY(mu_);
  size_t threads_ GUARDED_BY(mu_) = 0;  // that the stub has
};

class PtracePlatform final : public Platform {
 public:
  static HostResult<std::unique_ptr<Platform>> Create();

  std::string_view name() const override { return "ptrace"; }
  Result<Ref<AddressSpace>> NewAddressSpace() override;
  Result<std::unique_ptr<Context>> NewContext(AddressSpace& as, Context* parent) override;
  PlatformStats Stats() const override;
  uint32_t rseq_feature_size() const override { return host_->rseq_feature_size(); }

 private:
  explicit PtracePlatform(Ref<StubHost> host) : host_(std::move(host)) {}
  const Ref<StubHost> host_;
  const std::shared_ptr<PtraceCounters> counters_ = std::make_shared<PtraceCounters>();
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_PTRACE_PTRACE_PLATFORM_H_
