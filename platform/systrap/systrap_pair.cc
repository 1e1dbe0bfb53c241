// Where a context's two threads run: on one processor while neither may spin.
#include <errno.h>
#include <sched.h>

#include <algorithm>
#include <utility>

#include "platform/systrap/region_access.h"
#include "platform/systrap/systrap_context.h"
#include "sentry/base/thread_place.h"

namespace ringwall {
namespace {

// A pair on one processor: for so long at most.
constexpr uint64_t kPairedUs = 4'000;

}  // namespace

void SystrapContext::Pair() {
  if (cpu_ < 0) {
    const uint32_t cpu = Load(region_->cpu);  // forged, it is a processor of the guest's all the same
    if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &as_->core().all_cpus())) return;
    const cpu_set_t one = OneProcessor(cpu);
    {
      MutexLock lock(affinity_mu_);
      if (!CPU_ISSET(cpu, &affinity_)) return;
      if (::sched_setaffinity(thread_.tid, sizeof one, &one) != 0) return;
    }
    cpu_ = static_cast<int>(cpu);
    paired_at_ = given_at_;
    trial_at_ = std::max(trial_at_, given_at_ + Cycles(kTrialGapUs));
  }
  if (self_held_) return;
  const cpu_set_t one = OneProcessor(static_cast<uint32_t>(cpu_));
  self_held_ = ::sched_setaffinity(0, sizeof one, &one) == 0;
}

void SystrapContext::PairHere() {
  if (as_->core().cpus() == 1) return;
  const int cpu = ::sched_getcpu();
  if (cpu < 0 || cpu >= CPU_SETSIZE) return;
  if (cpu != cpu_) {
    const cpu_set_t one = OneProcessor(static_cast<uint32_t>(cpu));
    MutexLock lock(affinity_mu_);
    if (!CPU_ISSET(cpu, &affinity_)) return;
    if (::sched_setaffinity(thread_.tid, sizeof one, &one) != 0) return;
    cpu_ = cpu;
  }
  paired_at_ = given_at_;
  trial_at_ = std::max(trial_at_, given_at_ + Cycles(kTrialGapUs));
}

void SystrapContext::StartHere() {
  if (as_->core().takes_turns()) PairHere();
  if (cpu_ < 0) return;
  starts_here_ = true;
  spins_ = false;
  stub_spin_ = 0;
  next_thread_cpu = cpu_;
  self_held_ = true;
}

bool SystrapContext::StaysPaired(bool may_spin) {
  const bool trial = may_spin && given_at_ >= trial_at_;
  if (!trial && given_at_ - paired_at_ <= Cycles(kPairedUs)) return true;
  if (trial) {
    Part();
  } else {
    Unpair();
  }
  return false;
}

void SystrapContext::Unpair() {
  LetGo();
  if (cpu_ < 0) return;
  cpu_ = -1;
  MutexLock lock(affinity_mu_);
  ::sched_setaffinity(thread_.tid, sizeof affinity_, &affinity_);
}

void SystrapContext::BeforeSleep() {
  // No answer comes soon, and somebody else may want the processor.
  if (stub_spin_ == RW_SPIN_YIELD) Judge(stub_yield_score_, false);
  if (stub_spin_ > 1) {
    Store(region_->spin, 1U);
    stub_spin_ = 1;
  }
  if (std::exchange(stub_spun_, false)) NoteStubSpin(true);
  slept_ = true;
  LetGo();
}

void SystrapContext::LetGo() {
  if (!self_held_) return;
  ::sched_setaffinity(0, sizeof(cpu_set_t), &as_->core().all_cpus());
  self_held_ = false;
}

Result<void> SystrapContext::SetAffinity(const cpu_set_t& set) {
  MutexLock lock(affinity_mu_);
  if (::sched_setaffinity(thread_.tid, sizeof set, &set) != 0) return Errno(errno);
  affinity_ = set;
  return {};
}

}  // namespace ringwall
