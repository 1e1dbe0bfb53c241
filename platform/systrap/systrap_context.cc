#include "platform/systrap/systrap_context.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "platform/systrap/region_access.h"
#include "platform/xstate.h"
#include "sentry/base/log.h"
#include "sentry/base/thread_place.h"

namespace ringwall {
namespace {

constexpr uint64_t kInitialFlags = 0x202;  // IF, and the bit that is always set
constexpr uint64_t kUnblockable = 1UL << (SIGKILL - 1) | 1UL << (SIGSTOP - 1);
// Bits of the flags that guest code may set.
constexpr uint64_t kUserFlags = 0x244dd5;

// How long a spin may last: what the wakes of two idle processors take, which a sleep leads to. The stub's
// ends when the task's thread goes to sleep, so it lasts no longer than the Sentry's work.
constexpr uint64_t kSpinUs = 100;
constexpr int kSpinScoreMax = 8;
constexpr int kSpinScoreMin = -4;
constexpr int kSpinScoreFirst = 4;  // of a new context at most
constexpr uint32_t kStartWaits = 2;   // of a new context without a spin
constexpr uint32_t kProbeEvery = 16;  // waits, to find out whether the side that sleeps should spin
// Whether a pair should part and spin takes a trial of a few waits. In the first the other side
// wakes on an idle processor, which takes longer than any spin that pays. A failed trial makes the
// time until the next one longer.
constexpr uint32_t kTrialWaits = 4;
constexpr uint64_t kTrialFirstUs = 120;
constexpr uint64_t kTrialUs = 100;
constexpr uint64_t kTrialGapMaxUs = 64'000;
// For so long nobody yields after a hand-over by a yield has come late: longer when the next comes late soon
// after, up to where a slice lost costs a hundredth.
constexpr uint64_t kYieldGapMaxUs = 256'000;
constexpr uint64_t kYieldCalmUs = 100'000;

uint64_t MonotonicNs() {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

long Futex(uint32_t* word, int op, uint32_t value, const timespec* timeout = nullptr) {
  return ::syscall(SYS_futex, word, op, value, timeout, nullptr, 0);
}

std::byte* At(systrap::Region* region, size_t offset) {
  return reinterpret_cast<std::byte*>(region) + offset;
}

}  // namespace

SystrapContext::SystrapContext(Ref<SystrapAddressSpace> as, GuestThread thread)
    : as_(std::move(as)),
      thread_(thread),
      region_(as_->core().regions().At(thread.region)),
      spin_limit_(static_cast<uint32_t>(kSpinUs * as_->core().cycles_per_us())),
      xstate_(XStateSize()),
      meter_(as_->core().cycles_per_us(), {&region_->waiting, &region_->wait_from, &region_->waited}) {
  regs_.cs = abi::kUserCs;
  regs_.ss = abi::kUserSs;
  regs_.eflags = kInitialFlags;
  kicked_.store(thread_.used);
  InitXState(xstate_);
  Store(region_->xstate_mask, XStateFeatures());
  Store(region_->xstate_size, uint64_t{XStateSize()});
  Store(region_->return_rip, uint64_t{0});
  const VdsoFunctions& vdso = as_->core().vdso();
  Store(region_->vdso_clock_gettime, vdso.clock_gettime);
  Store(region_->vdso_gettimeofday, vdso.gettimeofday);
  Store(region_->vdso_time, vdso.time);
  Store(region_->local_enabled, 0U);
  Store(region_->signals_pending, 0U);
  Store(region_->spin, 0U);
  Store(region_->signal_mask, uint64_t{0});
  Store(region_->sentry_cpu, RW_NO_CPU);
  Store(region_->rseq_area, uint64_t{0});
  Store(region_->guest_robust, uint64_t{0});
  ForgetEpoll();
  for (uint32_t& count : region_->local_count) Store(count, 0U);
  affinity_ = as_->core().all_cpus();
  cpu_ = std::exchange(thread_.held_on, -1);
  if (std::exchange(thread_.narrowed, false)) {
    cpu_ = -1;
    ::sched_setaffinity(thread_.tid, sizeof affinity_, &affinity_);
  } else if (!as_->core().takes_turns()) {
    Unpair();
  }
  const SystrapCore::SpinScores scores = as_->core().spin_scores();
  spin_score_ = scores.sentry;
  stub_spin_score_ = scores.stub;
  const SystrapCore::SpinScores yields = as_->core().yield_scores();
  yield_score_ = yields.sentry;
  stub_yield_score_ = yields.stub;
  const SystrapCore::YieldPause pause = as_->core().yield_pause();
  yields_from_ = pause.until;
  yield_gap_us_ = std::max(pause.us, kYieldGapUs);
  // Many threads end before they have waited often: the time of a probe is anybody's.
  born_at_ = __builtin_ia32_rdtsc();
  waits_ = static_cast<uint32_t>(born_at_ >> 6);
  as_->core().Add(this);
  as_->Add(this);
  as_->AddMeter(meter_);
}

SystrapContext::~SystrapContext() {
  StubProcess::SetHelper(nullptr, nullptr);
  as_->Remove(this);
  as_->RemoveMeter(meter_);
  as_->core().NoteSpinScores({std::min(spin_score_, kSpinScoreFirst),
                              std::min(stub_spin_score_, kSpinScoreFirst)});
  as_->core().NoteYieldScores({std::min(yield_score_, kSpinScoreFirst),
                               std::min(stub_yield_score_, kSpinScoreFirst)});
  as_->core().Remove(this);
  // The guest's thread stays where it is: mostly it ends now, else its next task has it let go.
  LetGo();
  thread_.held_on = cpu_;
  thread_.narrowed = CPU_EQUAL(&affinity_, &as_->core().all_cpus()) == 0;
  if (debug_used_ && !lost_) static_cast<void>(SetDebugRegister(7, 0).ok());
  ending_.store(true);  // of a thread that has not come up yet no more than seconds are waited for
  if (view_copy_.file) LetGoOfView();
  if (lost_ || (!ready_ && !Await())) return;
  // The host would go on writing to an area that is still registered: not for the next task.
  if (Load(region_->rseq_area) != 0) return;
  if (rescheduled_.load()) thread_.plain = Context::SetScheduling(SCHED_OTHER, as_->core().host().nice(), 0);
  as_->GiveBackThread(thread_);
}

Result<void> SystrapContext::CopyFrom(SystrapContext& parent) {
  TRY(parent.GetXState(xstate_));
  regs_ = parent.regs();
  regs_dirty_ = true;
  xstate_dirty_ = true;
  set_signal_mask(parent.signal_mask());
  return {};
}

Event SystrapContext::Lost() {
  if (!lost_) {
    as_->stub().Kill();
    lost_ = true;
  }
  in_guest_.store(false);
  // The host ends a process in which a restartable sequence makes no sense: of whichever thread.
  return {.kind = EventKind::kStubLost, .signo = as_->stub().DeathSignal()};
}

void SystrapContext::Scrub() {
  constexpr size_t kFrames = 2 * kPageSize;  // signal frames lie at the top
  memset(At(region_, RW_REGION_WINDOW), 0, window_high_);
  memset(At(region_, RW_REGION_XSTATE), 0, xstate_.size());
  if ((message_ & RW_FLAG_IN_HANDLER) != 0) return;  // it is needed once more
  memset(At(region_, RW_REGION_ALTSTACK + RW_REGION_ALTSTACK_SIZE - kFrames), 0, kFrames);
}

uint32_t SystrapContext::PrepareResume() {
  systrap::Region& r = *region_;
  systrap::CodePatcher& patcher = as_->patcher();
  uint32_t command = 0;
  if (!patcher.empty()) {
    if (regs_dirty_ && (regs_.eflags & RW_TRAP_FLAG) != 0) patcher.BeforeStep(regs_.rip);
    const uint64_t generation = patcher.generation();
    if (regs_dirty_ || generation != generation_) {
      if (!regs_taken_) TakeRegs();
      Store(r.resume, patcher.ToResume(regs_.rip));
      generation_ = generation;
    }
  } else if (regs_dirty_) {
    Store(r.resume, regs_.rip);
  }
  Store(r.rax, regs_.rax);
  if (regs_dirty_) {
    Store(r.rdi, regs_.rdi), Store(r.rsi, regs_.rsi), Store(r.rdx, regs_.rdx);
    Store(r.r10, regs_.r10), Store(r.r8, regs_.r8), Store(r.r9, regs_.r9);
    Store(r.rip, regs_.rip), Store(r.rsp, regs_.rsp);
    Store(r.eflags, (regs_.eflags & kUserFlags) | kInitialFlags);
    Store(r.rbx, regs_.rbx), Store(r.rbp, regs_.rbp);
    Store(r.r12, regs_.r12), Store(r.r13, regs_.r13), Store(r.r14, regs_.r14);
    Store(r.r15, regs_.r15), Store(r.rcx, regs_.rcx), Store(r.r11, regs_.r11);
    Store(r.fs_base, regs_.fs_base), Store(r.gs_base, regs_.gs_base);
    Store(r.own_gs, regs_.gs_base != 0 ? 1U : 0U);
    command |= RW_CMD_LOAD_BASES;
    regs_dirty_ = false;
  }
  return command | PrepareState();
}

uint32_t SystrapContext::PrepareState() {
  systrap::Region& r = *region_;
  const systrap::CodePatcher& patcher = as_->patcher();
  uint32_t command = 0;
  if (may_return_ && patcher.generation() != return_generation_) {
    may_return_ = false;
    Store(r.return_rip, uint64_t{0});
  }
  if (frame_queued_) {
    // Under the same patches as the rest, or Switch comes here again.
    return_generation_ = patcher.generation();
    may_return_ = frame_rip_ != 0;
    Store(r.frame_resume, may_return_ ? patcher.ToResume(frame_rip_) : 0);
    command |= RW_CMD_FRAME;
    frame_queued_ = false;
    xstate_fresh_ = false;
  }
  if (xstate_dirty_) {
    memcpy(At(region_, RW_REGION_XSTATE), xstate_.data(), xstate_.size());
    command |= RW_CMD_LOAD_XSTATE;
    xstate_dirty_ = false;
  }
  if (rseq_due_) {
    Store(r.rseq_area, rseq_area_);
    Store(r.rseq_signature, rseq_signature_);
    command |= RW_CMD_LOAD_RSEQ;
    rseq_due_ = false;
  }
  if (std::exchange(view_queued_, false)) command |= RW_CMD_VIEW;
  if (output_count_ != 0) {
    Store(r.output_count, output_count_);
    command |= RW_CMD_OUTPUT;
    kept_output_ = output_count_;
    output_count_ = 0;
  }
  return command;
}

void SystrapContext::Give(uint32_t command) {
  if (command != RW_CMD_ORDER) message_ &= ~static_cast<uint32_t>(RW_FLAG_SAVED);  // others change it
  // One look at the clock and the load for both sides' waits.
  given_at_ = __builtin_ia32_rdtsc();
  // A program starts with work of its own that no spin outlasts: CPUID leaves the virtual machine, pages fault.
  const bool starts = given_ < kStartWaits;
  if (starts) ++given_;
  const bool may_spin = !starts && as_->core().MaySpin(given_at_, *this, slept_);
  if (!may_spin && trial_ != 0) EndTrial(false);
  // Both sides slept: a wake of another processor takes longer than the next few hand-overs on this one.
  const bool slept = std::exchange(slept_, false);
  const bool both_slept = slept && trial_ == 0 && !as_->core().crowded() && (Load(region_->state) & RW_STATE_STUB_SLEEPS) != 0;
  if (both_slept) PairHere();
  const bool was_paired = cpu_ >= 0;
  const bool paired = was_paired && trial_ == 0 && (both_slept || StaysPaired(may_spin));
  const bool probe = ++waits_ % kProbeEvery == 0 || trial_ != 0;
  spins_ = may_spin && !paired && (spin_score_ > 0 || probe);
  const bool stub_spins = may_spin && !paired && (stub_spin_score_ > 0 || probe);
  const bool pair = !spins_ && !stub_spins && as_->core().cpus() > 1 && was_paired == paired &&
                    (paired || !as_->core().crowded());
  const uint64_t trial_us = trial_ == kTrialWaits ? kTrialFirstUs : kTrialUs;
  wait_limit_ = trial_ == 0 ? spin_limit_ : static_cast<uint32_t>(Cycles(trial_us));
  const bool sleeps = (Load(region_->state) & RW_STATE_STUB_SLEEPS) != 0;
  if (pair && sleeps) Pair();
  const bool one = (pair && self_held_) || as_->core().cpus() == 1;
  const bool may_yield = one && !spins_ && !stub_spins && given_at_ >= yields_from_;
  yields_ = may_yield && (yield_score_ > 0 || probe) ? RW_YIELDS : 0;
  yielding_ = yields_ != 0;
  const bool stub_yields = may_yield && (stub_yield_score_ > 0 || probe);
  const uint32_t spin = stub_spins    ? std::max(spin_limit_, wait_limit_)
                        : stub_yields ? RW_SPIN_YIELD
                        : pair        ? 0
                                      : 1;
  const bool yielded = stub_spin_ == RW_SPIN_YIELD;
  if (spin != stub_spin_) {
    Store(region_->spin, spin);
    stub_spin_ = spin;
  }
  // The host may have left both on one processor, or woken one beside the other, while others idle.
  const uint32_t here = spins_ || stub_spins || stub_spun_ ? static_cast<uint32_t>(::sched_getcpu()) : RW_NO_CPU;
  const bool beside = here != RW_NO_CPU && Load(region_->cpu) == here;
  const uint32_t told = stub_spins && given_at_ >= yields_from_ ? here : RW_NO_CPU;
  if (told != told_cpu_) {
    Store(region_->sentry_cpu, told);
    told_cpu_ = told;
  }
  spins_beside_ = spins_ && beside && given_at_ >= yields_from_;
  Store(region_->message, command);
  const bool spun = std::exchange(stub_spun_, stub_spins);
  const uint32_t before =
      __atomic_exchange_n(&region_->state, static_cast<uint32_t>(thread_.tid), __ATOMIC_SEQ_CST);
  if ((before & RW_STATE_STUB_SLEEPS) != 0) {
    if (pair && !sleeps) Pair();
    Futex(&region_->state, FUTEX_WAKE, 1);
  }
  if (spun) NoteStubSpin((before & RW_STATE_STUB_SLEEPS) != 0);
  meter_.Enter(CpuMeter::In::kGuest, given_at_);
  if (spun && trial_ == 0) Judge(stub_spin_score_, !beside && (before & RW_STATE_STUB_SLEEPS) == 0);
  if (yielded) Judge(stub_yield_score_, (before & RW_STATE_STUB_SLEEPS) == 0);
}

uint64_t SystrapContext::Cycles(uint64_t us) const { return us * as_->core().cycles_per_us(); }

// The host's scheduler would often leave both where they are, one of them spinning and the other
// waiting for that processor, so the guest is sent to another one.
void SystrapContext::Part() {
  LetGo();
  {
    MutexLock lock(affinity_mu_);
    int other = 0;
    while (other < CPU_SETSIZE && (other == cpu_ || !CPU_ISSET(other, &affinity_))) ++other;
    if (other < CPU_SETSIZE) {
      const cpu_set_t one = OneProcessor(static_cast<uint32_t>(other));
      if (::sched_setaffinity(thread_.tid, sizeof one, &one) == 0) trial_ = kTrialWaits;
    }
  }
  if (trial_ == 0) EndTrial(false);
}

void SystrapContext::EndTrial(bool paid) {
  Unpair();
  trial_ = 0;
  spin_score_ = stub_spin_score_ = paid ? kSpinScoreMax / 2 : kSpinScoreMin;
  trial_gap_us_ = paid ? kTrialGapUs : std::min(2 * trial_gap_us_, kTrialGapMaxUs);
  if (!paid) trial_at_ = __builtin_ia32_rdtsc() + Cycles(trial_gap_us_);
}

// An answer to a kick takes microseconds. The time limits, which otherwise cost too much, are for
// what a hostile guest can do: break its robust list, so that its death wakes nobody, or block the
// kick by a forged signal frame and run or sleep on.
bool SystrapContext::SleepUntilChange() {
  constexpr uint64_t kTurnNs = 500'000, kFreeNs = 32'000'000, kFirstNs = 4'000'000, kLastNs = 500'000'000, kLongestNs = 60'000'000'000;
  constexpr uint64_t kPatienceNs = 2'000'000'000, kLongPatienceNs = 5'000'000'000;
  const bool in_guest = in_guest_.load();
  const bool was_up = ready_once_ || thread_.used;
  // A command that runs no guest code is carried out at once, if no guest thread spoils the region;
  // who gave it may hold a lock that others want.
  const bool brief = was_up && !in_guest;
  // Beside others on its processor a guest that computes is freed soon; one that is free has no use for it.
  const bool turn = std::exchange(starts_here_, false);
  uint64_t sleep_ns = turn ? kTurnNs : cpu_ < 0 && in_guest ? kFreeNs : kFirstNs;
  uint64_t cpu_before = 0, waited = 0, last = 0;
  bool late = false;
  for (;;) {
    const uint32_t state = __atomic_load_n(&region_->state, __ATOMIC_ACQUIRE);
    if ((state & (RW_STATE_SENTRY | RW_STATE_DIED)) != 0) return true;
    const bool waits_for_answer = brief || interrupted_.load() || ending_.load();
    if (waits_for_answer) {
      // Not by the timeouts: a thread that keeps changing the word lets none pass. A long pause is one
      // of the whole sandbox (a frozen cgroup) and counts little.
      const uint64_t now = MonotonicNs();
      if (last == 0) sleep_ns = kFirstNs;
      if (last != 0) waited += std::min<uint64_t>(now - last, kLastNs);
      last = now;
      if (waited > kLongPatienceNs && (brief || ending_.load())) return GiveUp();
    }
    uint32_t expected = state;
    const uint32_t sleeping = state | RW_STATE_WAITERS;
    if (state != sleeping &&
        !__atomic_compare_exchange_n(&region_->state, &expected, sleeping, false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST)) {
      continue;
    }
    // Before the sleep: dead already, without having owned the word? A thread that is past that
    // point of its end still takes signals for a while, but has no robust list any more. One that
    // starts has none yet, so that wait ends by itself. The first sleep of milliseconds, which mostly is the
    // only one, goes without that look: nobody waits for such a death.
    if (late || waits_for_answer) {
      uint64_t list = 0;
      size_t length = 0;
      if (::syscall(SYS_get_robust_list, thread_.tid, &list, &length) != 0) return false;
      if (list == 0 && was_up) return false;
    }
    // No sleep is for ever. The list is looked through before it goes, so a death of which it does not
    // tell can follow this look; and Interrupt's wake may come just before the sleep, with a kick that
    // is not taken. Both are found out within the time that has been waited already, a minute at most:
    // soon enough for a guest that has nothing but its own end to lose. Outside of guest code nobody
    // wakes at all, since Interrupt finds nothing to stop.
    const uint64_t longest_ns = waits_for_answer || !in_guest ? kLastNs : kLongestNs;
    const uint64_t ns = as_->stopped() ? kFirstNs : sleep_ns;
    const timespec timeout = {static_cast<time_t>(ns / 1'000'000'000),
                              static_cast<long>(ns % 1'000'000'000)};
    if (Futex(&region_->state, FUTEX_WAIT, sleeping, &timeout) == 0 || errno != ETIMEDOUT) continue;
    if (turn) as_->core().NoteBusy();
    late = true;
    sleep_ns = std::min(sleep_ns * 2, longest_ns);
    Unpair();  // the guest runs on
    if (!waits_for_answer) continue;
    uint64_t user, system;
    CpuTime(&user, &system);
    if (cpu_before == 0) cpu_before = user + system;
    if (waited > kPatienceNs && user + system - cpu_before > kPatienceNs / 2) return GiveUp();
    Kick();
  }
}

bool SystrapContext::GiveUp() {
  RW_LOG(kWarning, "guest thread %d does not answer: its process is ended", thread_.tid);
  return false;
}

// Only a spin tells whether spinning pays; where none is done, one now and then finds out.
void SystrapContext::Judge(int& score, bool paid) {
  if (!paid) {
    score = std::max(score - 3, kSpinScoreMin);
  } else {
    score = score < 0 ? 1 : std::min(score + 1, kSpinScoreMax);
  }
}

// Beside a thread that computes each yield lets that one run for all its slice, where a wake would have
// interrupted it. The time is the stub's word: who forges it makes its own sandbox spin and sleep instead.
void SystrapContext::JudgeYield() {
  constexpr uint64_t kLateUs = 200;
  const uint64_t now = __builtin_ia32_rdtsc();
  if (now - Load(region_->given_at) <= Cycles(kLateUs)) return;
  const bool again = now - yields_from_ <= Cycles(kYieldCalmUs);
  yield_gap_us_ = again ? std::min(2 * yield_gap_us_, kYieldGapMaxUs) : kYieldGapUs;
  yields_from_ = now + Cycles(yield_gap_us_);
  as_->core().NoteYieldPause({yields_from_, yield_gap_us_});
}

bool SystrapContext::Await() {
  constexpr uint32_t kLooks = 32;  // as the stub's: the clock is not read, and nobody yields
  uint32_t turn = 1;
  bool yielded = false;
  for (;; ++turn) {
    const uint32_t state = __atomic_load_n(&region_->state, __ATOMIC_ACQUIRE);
    if ((state & RW_STATE_SENTRY) != 0) break;
    if ((state & RW_STATE_DIED) != 0) return false;
    if (turn > kLooks && std::exchange(spins_beside_, false)) {
      yielded = true;
      ::sched_yield();
      continue;
    }
    if (spins_ && (turn % 8 != 0 || (as_->core().may_spin() &&
                                     __builtin_ia32_rdtsc() - given_at_ <= wait_limit_))) {
      __builtin_ia32_pause();
      continue;
    }
    if (std::exchange(spins_, false)) {
      if (trial_ != 0) {
        EndTrial(false);
      } else if (as_->core().may_spin()) {
        Judge(spin_score_, false);
      }
    }
    if (yields_ > 0) {
      --yields_;
      ::sched_yield();
      continue;
    }
    if (std::exchange(yielding_, false)) Judge(yield_score_, false);
    if (!SleepUntilChange()) return false;
  }
  const bool at_once = yielding_ || stub_spin_ == RW_SPIN_YIELD;
  // Where it may have yielded in its spin, the stub has noted the time if it has.
  const bool beside = yielded || told_cpu_ != RW_NO_CPU;
  if (turn > 1 && (at_once || (beside && Load(region_->given_at) > given_at_))) {
    if (yielding_) Judge(yield_score_, true);
    JudgeYield();
  }
  if (spins_) {
    if (trial_ == 0) {
      Judge(spin_score_, !yielded);
    } else if (--trial_ == 0) {
      EndTrial(true);
    }
  }
  ready_ = ready_once_ = true;
  meter_.Enter(CpuMeter::In::kSentry, __builtin_ia32_rdtsc());
  return true;
}

// Only one that spins, which is then on another processor. The wait for one that has helped just now is
// short: guest code could keep it from ever coming back, and the caller holds locks.
int SystrapContext::HelperCpu() {
  constexpr uint32_t kLooks = 500;
  if (lost_ || cpu_ >= 0) return -1;
  for (uint32_t i = 0; !ready_; ++i) {
    if (i == kLooks) return -1;
    if (__atomic_load_n(&region_->state, __ATOMIC_ACQUIRE) == RW_STATE_SENTRY) ready_ = true;
    __builtin_ia32_pause();
  }
  if (Load(region_->state) != RW_STATE_SENTRY) return -1;
  const uint32_t cpu = Load(region_->cpu);
  if (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &as_->core().all_cpus())) return -1;
  return static_cast<int>(cpu) == ::sched_getcpu() ? -1 : static_cast<int>(cpu);
}

void SystrapContext::WakeMemoryThread() {
  Give(RW_CMD_ORDER);
  ready_ = false;
}

bool SystrapContext::Command(uint32_t command) {
  if (lost_ || (!ready_ && !Await())) return false;
  Give(command);
  return Await();
}

void SystrapContext::TakeRegs() {
  const systrap::Region& r = *region_;
  regs_taken_ = true;
  regs_.rip = Load(r.rip), regs_.rsp = Load(r.rsp), regs_.eflags = Load(r.eflags);
  regs_.rbx = Load(r.rbx), regs_.rbp = Load(r.rbp), regs_.r12 = Load(r.r12);
  regs_.r13 = Load(r.r13), regs_.r14 = Load(r.r14), regs_.r15 = Load(r.r15);
  regs_.rcx = Load(r.rcx), regs_.r11 = Load(r.r11), regs_.fs_base = Load(r.fs_base);
  regs_.gs_base = Load(r.own_gs) != 0 ? Load(r.gs_base) : 0;
  regs_.cs = (message_ & RW_FLAG_IN_HANDLER) != 0 ? Load(r.frame_cs) & 0xffff : abi::kUserCs;
  regs_.ss = abi::kUserSs;
  real_rip_ = regs_.rip;
  if (generation_ != 0) regs_.rip = as_->patcher().ToOriginal(real_rip_);
}

Event SystrapContext::TakeEvent() {
  const systrap::Region& r = *region_;
  message_ = Load(r.message);
  generation_ = as_->patcher().generation();
  regs_.rax = Load(r.rax), regs_.rdi = Load(r.rdi), regs_.rsi = Load(r.rsi);
  regs_.rdx = Load(r.rdx), regs_.r10 = Load(r.r10), regs_.r8 = Load(r.r8), regs_.r9 = Load(r.r9);
  regs_.orig_rax = ~uint64_t{0};
  // A patched call leaves the rest for when it is asked for. Other events are translated now, while
  // the patches are still those under which they happened.
  constexpr uint32_t kPlain = RW_EVENT_SYSCALL;
  regs_taken_ = false;
  if ((message_ & (RW_EVENT_MASK | RW_FLAG_IN_HANDLER | RW_FLAG_TRAPPED)) != kPlain) TakeRegs();
  xstate_fresh_ = false;
  input_count_ = 0;
  input_end_ = output_end_ = 0;
  if (view_copy_.file) LetGoOfView();
  Event event;
  switch (message_ & RW_EVENT_MASK) {
    case RW_EVENT_SYSCALL: {
      event.kind = EventKind::kSyscall;
      event.compat_entry = (message_ & RW_FLAG_COMPAT) != 0;
      event.vsyscall = (message_ & RW_FLAG_VSYSCALL) != 0;
      event.futex_interrupted = (message_ & RW_FLAG_INTERRUPTED) != 0;
      regs_.orig_rax = regs_.rax;
      regs_.rax = static_cast<uint64_t>(-ENOSYS);
      if (regs_.orig_rax == SYS_exit || regs_.orig_rax == SYS_exit_group) {
        as_->core().NoteEnding(*this, __builtin_ia32_rdtsc() - born_at_);
      }
      const uint32_t inputs = std::min<uint32_t>(message_ >> RW_INPUTS_SHIFT, RW_REGION_INPUTS);
      for (uint32_t i = 0; i < inputs; ++i) {
        const systrap::RegionCopy& from = i == 0 ? r.input[0] : r.more_input[i - 1];
        const Input input = {Load(from.addr), Load(from.size), Load(from.offset)};
        if (input.offset > RW_REGION_WINDOW_SIZE ||
            input.size > RW_REGION_WINDOW_SIZE - input.offset) {
          continue;
        }
        input_[input_count_++] = input;
        input_end_ = std::max(input_end_, input.offset + input.size);
      }
      window_high_ = std::max(window_high_, input_end_);
      if (regs_.orig_rax < PlatformStats::kSyscalls && (message_ & RW_FLAG_LOCAL) == 0) {
        std::atomic<uint32_t>& count =
            (message_ & RW_FLAG_TRAPPED) != 0 ? trapped_[regs_.orig_rax] : patched_[regs_.orig_rax];
        count.store(count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      }
      break;
    }
    case RW_EVENT_FAULT:
      event.kind = EventKind::kFault;
      event.signo = static_cast<int>(Load(r.fault_signo));
      event.code = Load(r.fault_code);
      event.addr = Load(r.fault_addr);
      event.error_code = Load(r.fault_error);
      event.trap_no = Load(r.fault_trap);
      // Forged, perhaps: nothing but the signals of faults may come of it.
      if (event.signo != SIGSEGV && event.signo != SIGBUS && event.signo != SIGFPE &&
          event.signo != SIGILL && event.signo != SIGTRAP) {
        event.signo = SIGSEGV;
      }
      break;
    default:
      frame_failed_ = frame_given_ && (message_ & RW_FLAG_FRAME_FAILED) != 0;
      event.kind = EventKind::kInterrupted;
      break;
  }
  return event;
}

bool SystrapContext::RunAhead() {
  uint32_t state = __atomic_load_n(&region_->state, __ATOMIC_ACQUIRE);
  if (lost_ || (state != RW_STATE_STARTING && (state & RW_STATE_SENTRY) == 0)) return false;
  if (kicked_.load(std::memory_order_relaxed)) {
    kicked_.store(false);
    Store(region_->kick, 0U);
  }
  const uint32_t command = PrepareResume();
  in_guest_.store(true);
  if (as_->stopped() || as_->patcher().generation() != generation_ || interrupted_.load()) {
    in_guest_.store(false);
    KeepCommand(command);
    return false;
  }
  given_at_ = __builtin_ia32_rdtsc();
  const bool may_spin = as_->core().MaySpin(given_at_, *this, false);
  // The start of a thread takes longer than a spin that pays.
  spins_ = may_spin && spin_score_ > 0 && state != RW_STATE_STARTING;
  wait_limit_ = spin_limit_;
  yields_ = 0;
  yielding_ = spins_beside_ = false;
  stub_spin_ = may_spin && stub_spin_score_ > 0 ? spin_limit_ : 1;
  StartHere();
  Store(region_->spin, stub_spin_);
  Store(region_->message, command);
  const auto tid = static_cast<uint32_t>(thread_.tid);
  if (!__atomic_compare_exchange_n(&region_->state, &state, tid, false, __ATOMIC_SEQ_CST,
                                   __ATOMIC_SEQ_CST)) {
    state = __atomic_exchange_n(&region_->state, tid, __ATOMIC_SEQ_CST);  // it has come up, or gone to sleep
  }
  if ((state & RW_STATE_STUB_SLEEPS) != 0) Futex(&region_->state, FUTEX_WAKE, 1);
  meter_.Enter(CpuMeter::In::kGuest, given_at_);
  ahead_ = true;
  return true;
}

Event SystrapContext::Switch() {
  if (lost_ || (!ahead_ && !ready_ && !Await())) return Lost();
  SignalFrames::MakeCurrent();
  EpollCalls::MakeCurrent();
  if (!meter_.bound()) meter_.Bind();
  if (frame_failed_) return {.kind = EventKind::kInterrupted};
  for (;;) {
    uint32_t command = 0;
    if (!std::exchange(ahead_, false)) {
      if (kicked_.load(std::memory_order_relaxed)) {
        kicked_.store(false);
        Store(region_->kick, 0U);
      }
      command = PrepareResume();
      // Patches made above may have had this thread pass on their orders: it must be back before it is
      // given the next command, or takes none of it and comes back as if it had been interrupted.
      if (!ready_ && !Await()) return Lost();
      in_guest_.store(true);
      if (as_->stopped() || as_->patcher().generation() != generation_) {
        in_guest_.store(false);
        if (as_->stopped()) as_->AwaitStart();
        KeepCommand(command);
        continue;
      }
      if (interrupted_.load()) {
        in_guest_.store(false);
        interrupted_.store(false);
        KeepCommand(command);
        if (std::exchange(local_pending_, false)) {
          // As if it had come before the system call.
          regs_.rip -= 2;
          regs_.orig_rax = ~uint64_t{0};
          regs_dirty_ = true;
        }
        return {.kind = EventKind::kInterrupted};
      }
      frame_given_ = (command & RW_CMD_FRAME) != 0;
      Give(command | (std::exchange(local_pending_, false) ? RW_CMD_LOCAL : 0));
    }
    if (!Await()) return Lost();
    if ((command & RW_CMD_VIEW) != 0 && ViewFailed()) {
      in_guest_.store(false);
      CopyInsteadOfView();
      KeepCommand(command & ~static_cast<uint32_t>(RW_CMD_VIEW));
      continue;
    }
    const Event event = TakeEvent();
    in_guest_.store(false);
    StubProcess::SetHelper(&as_->stub(), this);
    switch (event.kind) {
      case EventKind::kInterrupted:
        if (frame_failed_) return event;
        kicked_.store(true);  // perhaps by the stub itself
        // Else a kick that was meant for an earlier run, or to stop for a patch.
        if (interrupted_.exchange(false)) return event;
        // The stub kicks itself when it has changed the mask while a signal came.
        if (Load(region_->signals_pending) != 0) return event;
        break;
      case EventKind::kSyscall:
        if ((message_ & (RW_FLAG_TRAPPED | RW_FLAG_IN_HANDLER | RW_FLAG_VSYSCALL)) ==
            RW_FLAG_TRAPPED) {
          as_->patcher().Trapped(regs_.rip, regs_.orig_rax);
        }
        // Only a report, to have the site patched: the stub goes on with the call by itself.
        if ((message_ & RW_FLAG_LOCAL) != 0) {
          regs_.rax = regs_.orig_rax;
          local_pending_ = true;
          break;
        }
        return event;
      case EventKind::kFault:
        if (!StepsOn(event)) return event;
        break;
      default:
        return event;
    }
  }
}

// What PrepareResume wrote is still to be done: the region keeps it, the command comes again.
void SystrapContext::KeepCommand(uint32_t command) {
  if ((command & RW_CMD_LOAD_BASES) != 0) regs_dirty_ = true;
  if ((command & RW_CMD_LOAD_XSTATE) != 0) xstate_dirty_ = true;
  if ((command & RW_CMD_LOAD_RSEQ) != 0) rseq_due_ = true;
  if ((command & RW_CMD_OUTPUT) != 0) output_count_ = kept_output_;
  if ((command & RW_CMD_FRAME) != 0) frame_queued_ = true;
  if ((command & RW_CMD_VIEW) != 0) view_queued_ = true;
}

// A guest that single-steps itself by the trap flag must not see the steps through a trampoline.
bool SystrapContext::StepsOn(const Event& event) const {
  return event.signo == SIGTRAP && event.code == TRAP_TRACE && !as_->patcher().empty() &&
         as_->patcher().IsStepInside(real_rip_);
}

size_t SystrapContext::xstate_size() const { return xstate_.size(); }

Result<void> SystrapContext::GetXState(std::span<std::byte> out) {
  if (out.size() != xstate_.size()) return Errno(EINVAL);
  if (!xstate_dirty_ && !xstate_fresh_) {
    const bool saved = (message_ & (RW_FLAG_SAVED | RW_FLAG_IN_HANDLER)) == RW_FLAG_SAVED;
    if (!saved && !Command(RW_CMD_SAVE)) return Errno(ESRCH);
    memcpy(xstate_.data(), At(region_, RW_REGION_XSTATE), xstate_.size());
    // What the processor leaves as it was, and Linux's notes in a signal frame, are not state.
    constexpr size_t kSwBytes = 464, kSwEnd = 512, kHeaderRest = 520, kHeaderEnd = 576;
    memset(xstate_.data() + kSwBytes, 0, kSwEnd - kSwBytes);
    memset(xstate_.data() + kHeaderRest, 0, kHeaderEnd - kHeaderRest);
    // A forged one becomes that of a fresh program.
    if (!CheckXState(xstate_).ok()) InitXState(xstate_);
    xstate_fresh_ = true;
  }
  memcpy(out.data(), xstate_.data(), out.size());
  return {};
}

Result<void> SystrapContext::SetXState(std::span<const std::byte> in) {
  TRY(CheckXState(in));
  memcpy(xstate_.data(), in.data(), in.size());
  xstate_dirty_ = true;
  return {};
}

bool SystrapContext::Queue(const SignalFrameImage& frame) {
  systrap::Region& r = *region_;
  if (std::exchange(refuses_frame_, false)) return false;
  if (frame_queued_ || frame_failed_ || frame.head.size() != sizeof r.frame_head) return false;
  memcpy(r.frame_head, frame.head.data(), frame.head.size());
  Store(r.frame_at, frame.at.value());
  Store(r.frame_xstate, frame.xstate.value());
  frame_rip_ = frame.returns_alone ? regs().rip : 0;
  frame_queued_ = true;
  return true;
}

Result<void> SystrapContext::Settle() {
  if (frame_queued_) {
    if (!Command(PrepareState() | RW_CMD_STAY)) return Errno(ESRCH);
    frame_failed_ = (Load(region_->message) & RW_FLAG_FRAME_FAILED) != 0;
  }
  if (!std::exchange(frame_failed_, false)) return {};
  refuses_frame_ = true;
  return Errno(EFAULT);
}

void SystrapContext::Forget() {
  frame_rip_ = 0;
  may_return_ = false;
  Store(region_->return_rip, uint64_t{0});
}

bool SystrapContext::LoadXState(GuestAddr at) {
  if ((message_ & RW_FLAG_IN_HANDLER) != 0) return false;
  Store(region_->frame_xstate, at.value());
  xstate_fresh_ = false;
  if (!Command(RW_CMD_FRAME_XSTATE)) return false;
  if ((Load(region_->message) & RW_FLAG_FRAME_FAILED) != 0) return false;
  xstate_dirty_ = false;
  return true;
}

bool SystrapContext::ReadWindow(GuestAddr addr, std::span<std::byte> out) {
  for (uint32_t i = 0; i < input_count_; ++i) {
    const Input& input = input_[i];
    if (addr.value() < input.addr || addr.value() - input.addr > input.size) continue;
    const uint64_t skip = addr.value() - input.addr;
    if (out.size() > input.size - skip) continue;
    if (out.empty()) return true;
    memcpy(out.data(), At(region_, RW_REGION_WINDOW + input.offset + skip), out.size());
    return true;
  }
  return false;
}

std::optional<AddressSpace::HostUsage> SystrapContext::BroughtUsage() {
  rusage usage;
  std::byte bytes[sizeof usage];
  if (!ReadWindow(GuestAddr(RW_USAGE_ADDR), bytes)) return std::nullopt;
  memcpy(&usage, bytes, sizeof usage);
  return ToHostUsage(usage);
}

std::optional<std::string> SystrapContext::ReadWindowString(GuestAddr addr, size_t limit) {
  for (uint32_t i = 0; i < input_count_; ++i) {
    const Input& input = input_[i];
    if (addr.value() < input.addr || addr.value() - input.addr >= input.size) continue;
    const uint64_t skip = addr.value() - input.addr;
    std::string copy(std::min<size_t>(limit, input.size - skip), '\0');
    memcpy(copy.data(), At(region_, RW_REGION_WINDOW + input.offset + skip), copy.size());
    const size_t end = copy.find('\0');
    if (end == std::string::npos) continue;
    copy.resize(end);
    return copy;
  }
  return std::nullopt;
}

std::span<std::byte> SystrapContext::ReserveWindow(size_t size) {
  if ((message_ & RW_EVENT_MASK) != RW_EVENT_SYSCALL || output_count_ == RW_REGION_OUTPUTS) {
    return {};
  }
  const uint32_t at = NextOutput();
  if (at > RW_REGION_WINDOW_SIZE || size > RW_REGION_WINDOW_SIZE - at) return {};
  return {static_cast<std::byte*>(At(region_, RW_REGION_WINDOW + at)), size};
}

void SystrapContext::QueueReserved(GuestAddr addr, size_t n) {
  const uint32_t at = NextOutput();
  systrap::RegionCopy& copy = region_->output[output_count_++];
  Store(copy.addr, addr.value());
  Store(copy.size, static_cast<uint32_t>(n));
  Store(copy.offset, at);
  output_end_ = at + static_cast<uint32_t>(n);
  window_high_ = std::max(window_high_, output_end_);
}

bool SystrapContext::WriteWindow(GuestAddr addr, std::span<const std::byte> in) {
  const std::span<std::byte> to = ReserveWindow(in.size());
  if (to.data() == nullptr) return false;
  std::copy(in.begin(), in.end(), to.begin());
  QueueReserved(addr, in.size());
  return true;
}

void SystrapContext::Kick() {
  kicked_.store(true);
  Store(region_->kick, 1U);
  ::syscall(SYS_tgkill, as_->host_pid(), thread_.tid, RW_KICK_SIGNAL);
}

void SystrapContext::Interrupt() {
  interrupted_.store(true);
  if (!in_guest_.load()) return;
  Kick();
  // The task's thread, if it sleeps, now waits with a time limit. All that sleep there: a thread of the
  // guest that took this region for its own may be among them.
  Futex(&region_->state, FUTEX_WAKE, INT_MAX);
}

void SystrapContext::InterruptToEnd() {
  ending_.store(true);
  Interrupt();
}

void SystrapContext::SetLocalAnswers(const LocalAnswers& answers) {
  systrap::Region& r = *region_;
  local_answers_ = answers.enabled;
  ForgetEpoll();
  Store(r.pid, answers.pid), Store(r.tid, answers.tid), Store(r.ppid, answers.ppid);
  Store(r.uid, answers.uid), Store(r.euid, answers.euid);
  Store(r.gid, answers.gid), Store(r.egid, answers.egid);
  Store(r.local_futex, answers.futex ? 1U : 0U);
  Store(r.local_setup, answers.setup ? 1U : 0U);
  __atomic_store_n(&r.local_enabled, answers.enabled ? 1U : 0U, __ATOMIC_RELEASE);
}

uint64_t SystrapContext::signal_mask() const {
  return __atomic_load_n(&region_->signal_mask, __ATOMIC_SEQ_CST) & ~kUnblockable;
}

void SystrapContext::set_signal_mask(uint64_t mask) {
  __atomic_store_n(&region_->signal_mask, mask & ~kUnblockable, __ATOMIC_SEQ_CST);
}

void SystrapContext::set_signals_pending(bool pending) {
  __atomic_store_n(&region_->signals_pending, pending ? 1U : 0U, __ATOMIC_SEQ_CST);
}

Result<int64_t> SystrapContext::HostFutex(const HostFutexCall& call) {
  // In a signal handler the kick is held back: wait in slices, and look in between.
  constexpr int64_t kSliceNs = 10'000'000;
  const bool in_slices = (message_ & RW_FLAG_IN_HANDLER) != 0;
  const uint32_t op = call.op & static_cast<uint32_t>(FUTEX_CMD_MASK);
  const bool waits = op == FUTEX_WAIT || op == FUTEX_WAIT_BITSET;
  if (lost_) return Errno(ESRCH);
  if (op != FUTEX_WAKE && op != FUTEX_WAKE_BITSET && op != FUTEX_REQUEUE &&
      op != FUTEX_CMP_REQUEUE && op != FUTEX_WAKE_OP && !waits) {
    return Errno(ENOSYS);
  }
  systrap::Region& r = *region_;
  const uint64_t timeout_at =
      systrap::RegionPool::StubAddress(thread_.region) + offsetof(systrap::Region, call_timeout);
  for (;;) {
    timespec limit = {call.deadline_sec, call.deadline_nsec};
    bool limited = call.has_deadline && waits;
    bool is_slice = false;
    if (in_slices && waits) {
      timespec now;
      ::clock_gettime((call.op & FUTEX_CLOCK_REALTIME) != 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC,
                      &now);
      now.tv_nsec += kSliceNs;
      now.tv_sec += now.tv_nsec / 1'000'000'000;
      now.tv_nsec %= 1'000'000'000;
      is_slice = !limited || now.tv_sec < limit.tv_sec ||
                 (now.tv_sec == limit.tv_sec && now.tv_nsec < limit.tv_nsec);
      if (is_slice) limit = now;
      limited = true;
    }
    Store(r.call[0], call.uaddr);
    // Always with an absolute time limit.
    const uint32_t real_op =
        op == FUTEX_WAIT ? FUTEX_WAIT_BITSET | (call.op & FUTEX_CLOCK_REALTIME) : call.op;
    Store(r.call[1], uint64_t{real_op | FUTEX_PRIVATE_FLAG});
    Store(r.call[2], uint64_t{call.val});
    Store(r.call[3], limited ? timeout_at : waits ? 0 : call.val2);
    Store(r.call[4], call.uaddr2);
    Store(r.call[5], uint64_t{op == FUTEX_WAIT ? FUTEX_BITSET_MATCH_ANY : call.val3});
    Store(r.call_timeout[0], static_cast<uint64_t>(limit.tv_sec));
    Store(r.call_timeout[1], static_cast<uint64_t>(limit.tv_nsec));

    if (kicked_.load(std::memory_order_relaxed)) {
      kicked_.store(false);
      Store(region_->kick, 0U);
    }
    in_guest_.store(true);
    if (as_->stopped()) {
      in_guest_.store(false);
      as_->AwaitStart();
      continue;
    }
    if (interrupted_.load()) {
      in_guest_.store(false);
      return Errno(EINTR);
    }
    const bool alive = Command(RW_CMD_FUTEX);
    in_guest_.store(false);
    if (!alive) {
      Lost();
      return Errno(ESRCH);
    }
    const auto result = static_cast<int64_t>(Load(r.call[0]));
    if (result == -EINTR || (result == -ETIMEDOUT && is_slice)) {
      if (interrupted_.load()) return Errno(EINTR);
      continue;  // to stop for a patch, or the end of a slice
    }
    if (result < 0) return Errno(result < -4095 ? EFAULT : static_cast<int>(-result));
    return result;
  }
}

std::optional<std::pair<GuestAddr, uint32_t>> SystrapContext::TakeLocalRseq() {
  if (rseq_area_ != 0 || rseq_due_) return std::nullopt;
  rseq_area_ = Load(region_->rseq_area);
  rseq_signature_ = Load(region_->rseq_signature);
  if (rseq_area_ == 0) return std::nullopt;
  return std::pair(GuestAddr(rseq_area_), rseq_signature_);
}

GuestAddr SystrapContext::robust_list() const { return GuestAddr(Load(region_->guest_robust)); }

void SystrapContext::set_robust_list(GuestAddr head) { Store(region_->guest_robust, head.value()); }

Result<void> SystrapContext::SetRseq(GuestAddr area, uint32_t signature) {
  if (!area.IsNull()) {
    rseq_area_ = area.value();
    rseq_signature_ = signature;
    rseq_due_ = true;
    return {};
  }
  // A thread that ends has had it done by the stub.
  if (!std::exchange(rseq_due_, false) && rseq_area_ != 0 && Load(region_->rseq_area) != 0) {
    if (!Command(RW_CMD_CLEAR_RSEQ)) return Errno(ESRCH);
    if (Load(region_->call[0]) != 0) return Errno(EFAULT);
  }
  rseq_area_ = 0;
  Store(region_->rseq_area, uint64_t{0});
  return {};
}

bool SystrapContext::SetScheduling(uint32_t policy, int nice, uint32_t priority) {
  rescheduled_.store(true);
  return Context::SetScheduling(policy, nice, priority);
}

bool SystrapContext::active() const {
  const uint32_t state = Load(region_->state);
  if ((state & RW_STATE_SENTRY) != 0) return (state & RW_STATE_STUB_SLEEPS) == 0;
  return Load(region_->waiting) == 0;
}

}  // namespace ringwall
