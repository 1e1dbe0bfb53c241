// What all contexts of a sandbox share on systrap: the regions, the counters, and the judgement
// whether there are processors to spare for waiting by spinning.
#ifndef RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_CORE_H_
#define RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_CORE_H_

#include <atomic>
#include <cstdint>
#include <unordered_set>

#include "platform/platform.h"
#include "platform/stub/stub_process.h"
#include "platform/systrap/region_pool.h"
#include "platform/systrap/trampoline_pool.h"
#include "sentry/base/ref.h"

namespace ringwall {

class SystrapContext;

// Addresses of the functions of the host's vDSO; 0: none.
struct VdsoFunctions {
  uint64_t clock_gettime = 0;
  uint64_t gettimeofday = 0;
  uint64_t time = 0;
};

// Thread-safe.
class SystrapCore : public RefCounted<SystrapCore> {
 public:
  explicit SystrapCore(Ref<StubHost> host);
  HostResult<void> Init();

  StubHost& host() { return *host_; }
  systrap::RegionPool& regions() { return regions_; }
  systrap::TrampolinePool& trampolines() { return trampolines_; }
  const VdsoFunctions& vdso() const { return vdso_; }

  void Add(SystrapContext* context) EXCLUDES(mu_);
  void Remove(SystrapContext* context) EXCLUDES(mu_);
  PlatformStats Stats() const EXCLUDES(mu_);
  // An address space made a view of a file.
  void NoteView() { views_.fetch_add(1, std::memory_order_relaxed); }

  // A stub is being made for a new program; whether it is not the first.
  bool NoteCreated() { return created_.exchange(true); }

  // Whether both sides of a hand-over may spin: each thread that runs then takes two processors.
  // Looks at all contexts, but only now and then; `at_once`: now, since `asks` has slept. Who asks counts
  // as one that runs.
  bool MaySpin(uint64_t now_tsc, const SystrapContext& asks, bool at_once);
  // What the last look found: another thread's may end a spin.
  bool may_spin() const { return may_spin_.load(std::memory_order_relaxed); }
  // More threads want to run than there are processors: none is idle, so a wake is cheap on any of them.
  bool crowded() const { return crowded_.load(std::memory_order_relaxed); }
  // How spins of contexts that have ended paid, for new ones to begin with: where others crowd the
  // processors, each would find out by itself, at the cost of a spin or two.
  struct SpinScores {
    int sentry, stub;
  };
  SpinScores spin_scores() const { return {spin_score_.load(), stub_spin_score_.load()}; }
  void NoteSpinScores(SpinScores s) { spin_score_.store(s.sentry), stub_spin_score_.store(s.stub); }
  // The same of yields: most processes end before a probe of theirs has told.
  SpinScores yield_scores() const { return {yield_score_.load(), stub_yield_score_.load()}; }
  void NoteYieldScores(SpinScores s) { yield_score_.store(s.sentry), stub_yield_score_.store(s.stub); }
  // Until when (TSC) contexts had better not yield, and how long the last such pause was, by who found out
  // last: for new ones, too.
  struct YieldPause {
    uint64_t until, us;
  };
  YieldPause yield_pause() const { return {no_yields_until_.load(), yield_pause_us_.load()}; }
  void NoteYieldPause(YieldPause p) { no_yields_until_.store(p.until), yield_pause_us_.store(p.us); }
  // Whether a task that starts had better stay on the processor of its maker: the last few ended soon
  // and while all others slept, as the children of a shell do.
  bool takes_turns() const { return turns_.load(std::memory_order_relaxed) >= kTurns; }
  // A task comes to its end.
  void NoteEnding(const SystrapContext& context, uint64_t age_tsc) EXCLUDES(mu_);
  // One that was kept there computes.
  void NoteBusy() { turns_.store(0, std::memory_order_relaxed); }
  // The processors that the Sentry may use.
  const cpu_set_t& all_cpus() const { return all_cpus_; }
  uint32_t cpus() const { return cpus_; }
  // TSC cycles in a microsecond.
  uint64_t cycles_per_us() const { return cycles_per_us_; }

 private:
  const Ref<StubHost> host_;
  systrap::RegionPool regions_;
  systrap::TrampolinePool trampolines_;
  VdsoFunctions vdso_;
  uint64_t cycles_per_us_ = 1000;
  uint32_t cpus_ = 1;
  cpu_set_t all_cpus_ = {};

  std::atomic<uint64_t> next_look_{0};
  std::atomic<bool> may_spin_{false};
  std::atomic<bool> crowded_{false};
  std::atomic<bool> created_{false};
  static constexpr int kTurns = 2;
  std::atomic<uint64_t> views_{0};
  std::atomic<int> turns_{0};  // tasks in a row that ended so
  std::atomic<int> spin_score_{4}, stub_spin_score_{4};
  std::atomic<int> yield_score_{0}, stub_yield_score_{0};
  std::atomic<uint64_t> no_yields_until_{0}, yield_pause_us_{0};
  mutable Mutex<LockClass::kLeaf> mu_;
  std::unordered_set<SystrapContext*> contexts_ GUARDED_BY(mu_);
  uint64_t many_until_ GUARDED_BY(mu_) = 0;  // TSC: how long what many of them were found to do counts
  PlatformStats ended_ GUARDED_BY(mu_);  // of contexts that are gone
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_CORE_H_
