// One guest thread that runs natively and hands its system calls over through its region.
#ifndef RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_CONTEXT_H_
#define RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_CONTEXT_H_

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "platform/epoll_calls.h"
#include "platform/signal_frames.h"
#include "platform/systrap/region.h"
#include "platform/systrap/systrap_address_space.h"
#include "platform/systrap/systrap_core.h"

namespace ringwall {

// Everything read from the region is copied once and then judged. What a forged region can do is to
// make this context see system calls and registers of the forger's choice, which guest code can do
// anyway.
class SystrapContext final : public Context, private EpollCalls, private SignalFrames, private OrderHelper {
 public:
  SystrapContext(Ref<SystrapAddressSpace> as, GuestThread thread);
  ~SystrapContext() override;

  // Starts with the registers, xstate and signal mask of `parent`.
  Result<void> CopyFrom(SystrapContext& parent);

  Event Switch() override;
  bool RunAhead() override;
  abi::Registers& regs() override {
    if (view_queued_) SettleView();
    if (!regs_taken_) TakeRegs();
    return regs_;
  }
  void RegsChanged() override {
    if (!regs_taken_) TakeRegs();
    regs_dirty_ = true;
  }
  SyscallRequest syscall_request() override {
    return {regs_.orig_rax, {regs_.rdi, regs_.rsi, regs_.rdx, regs_.r10, regs_.r8, regs_.r9}};
  }
  void set_result(uint64_t rax) override { regs_.rax = rax; }
  size_t xstate_size() const override;
  Result<void> GetXState(std::span<std::byte> out) override;
  Result<void> SetXState(std::span<const std::byte> in) override;
  bool ReadWindow(GuestAddr addr, std::span<std::byte> out) override;
  std::optional<std::string> ReadWindowString(GuestAddr addr, size_t limit) override;
  bool WriteWindow(GuestAddr addr, std::span<const std::byte> in) override;
  std::span<std::byte> ReserveWindow(size_t size) override;
  void QueueReserved(GuestAddr addr, size_t n) override;
  bool QueueFromView(GuestAddr to, ViewedFile& file, uint64_t pos, size_t n) override;
  void SettleWindow() override;
  Result<uint64_t> GetDebugRegister(int n) override;
  Result<void> SetDebugRegister(int n, uint64_t value) override;
  void Interrupt() override;
  void InterruptToEnd() override;
  void SetLocalAnswers(const LocalAnswers& answers) override;
  uint64_t signal_mask() const override;
  void set_signal_mask(uint64_t mask) override;
  void set_signals_pending(bool pending) override;
  bool has_host_futex() const override { return true; }
  Result<int64_t> HostFutex(const HostFutexCall& call) override;
  Result<void> SetRseq(GuestAddr area, uint32_t signature) override;
  std::optional<std::pair<GuestAddr, uint32_t>> TakeLocalRseq() override;
  GuestAddr robust_list() const override;
  void set_robust_list(GuestAddr head) override;
  void CpuTime(uint64_t* user_ns, uint64_t* system_ns) override;
  void NoteAsleep(bool asleep) override;
  pid_t host_tid() const override { return thread_.tid; }
  std::optional<AddressSpace::HostUsage> BroughtUsage() override;
  bool SetScheduling(uint32_t policy, int nice, uint32_t priority) override;
  Result<void> SetAffinity(const cpu_set_t& set) override EXCLUDES(affinity_mu_);
  void BeforeSleep() override;

  // Before another program takes the region over (exec in place): what earlier calls left of their
  // input, output and registers goes. Preconditions: the guest thread waits for the Sentry.
  void Scrub();

  // For the address space, which stops all threads while it patches. Any thread.
  bool in_guest() const { return in_guest_.load(); }
  void Kick();

  // For SystrapCore. Any thread.
  bool active() const;
  void AddTo(PlatformStats& stats) const;

 private:
  // SignalFrames
  bool Queue(const SignalFrameImage& frame) override;
  bool queued() const override { return frame_queued_; }
  bool failed() const override { return frame_failed_; }
  Result<void> Settle() override;
  void Forget() override;
  bool LoadXState(GuestAddr at) override;
  // EpollCalls
  size_t TakeEpollCalls(std::span<EpollCall, kMost> out) override;
  void TellEpoll(int epfd, int fd, bool watched) override;
  void ForgetEpollFd(int fd) override;
  void ForgetEpoll() override;
  // OrderHelper
  int HelperCpu() override;
  void WakeMemoryThread() override;

  // Writes what changed for the stub; the command to give.
  uint32_t PrepareResume();
  // The part of it that is not registers.
  uint32_t PrepareState();
  // Hands the region to the stub.
  void Give(uint32_t command);
  // Waits until the stub hands it back; false when the thread is gone.
  bool Await();
  bool SleepUntilChange();
  bool GiveUp();  // says so; false
  static void Judge(int& score, bool paid);
  // The stub has spun since the last event, until the answer or until it went to sleep.
  void NoteStubSpin(bool gave_up);
  // After a wait in which a side was to yield: whether both may go on so.
  void JudgeYield();
  // Neither side spins: both go to the processor where the guest ran, so that a wake never crosses
  // processors; they never run at the same time anyway. Given up now and then, and when the guest
  // runs long, so that the host's scheduler spreads the pairs.
  void Pair() EXCLUDES(affinity_mu_);
  void Unpair() EXCLUDES(affinity_mu_);
  // Lets the calling thread run on any processor again.
  void LetGo();
  // Whether this wait goes without spinning, on one processor.
  bool StaysPaired(bool may_spin);
  // Has the guest's thread, which sleeps, wake where this thread runs.
  void PairHere() EXCLUDES(affinity_mu_);
  // Before a new task's first run: keeps both where this thread, its maker, runs, when tasks take turns.
  void StartHere() EXCLUDES(affinity_mu_);
  // Begins and ends a trial of spinning on two processors. Part() binds the guest's thread to one.
  void Part() EXCLUDES(affinity_mu_);
  void EndTrial(bool paid);
  uint64_t Cycles(uint64_t us) const;
  // Gives one command that does not resume the guest, and waits for it.
  bool Command(uint32_t command);
  // Has the stub make a queued copy from a view now.
  void SettleView();
  // Makes the copy that the stub could not; its result is the call's.
  void CopyInsteadOfView();
  // Whether the stub, given a copy from a view, has come back for that alone.
  bool ViewFailed() const;
  // The stub is past its copy from a view.
  void LetGoOfView();
  // Copies what happened out of the region.
  Event TakeEvent();
  // Fetches what TakeEvent left in the region: all but the registers of a system call.
  void TakeRegs();
  Event Lost();
  void KeepCommand(uint32_t command);
  bool StepsOn(const Event& event) const;
  bool TraceOnHost(const std::function<bool()>& work);

  const Ref<SystrapAddressSpace> as_;
  GuestThread thread_;
  systrap::Region* const region_;  // hostile
  const uint32_t spin_limit_;      // TSC cycles

  abi::Registers regs_ = {};
  bool regs_taken_ = true;
  bool regs_dirty_ = true;
  // Holds the state when xstate_dirty_ or xstate_fresh_; the stub does in any case but the first.
  std::vector<std::byte> xstate_;
  bool xstate_dirty_ = true;
  bool xstate_fresh_ = false;
  bool lost_ = false;
  bool ahead_ = false;  // RunAhead has let the guest run
  bool ready_ = false;
  bool ready_once_ = false;
  // How the last event came.
  uint32_t message_ = 0;
  bool local_pending_ = false;  // a call that the stub is to go on with by itself
  uint64_t real_rip_ = 0;       // before its translation
  uint64_t generation_ = 0;     // of the patches, when `resume` was last right
  // A signal frame for the stub to write, whose code goes on at frame_rip_ when the stub may answer
  // its rt_sigreturn.
  bool frame_queued_ = false;
  bool frame_given_ = false;
  bool frame_failed_ = false;
  bool refuses_frame_ = false;  // the next, because the last failed
  uint64_t frame_rip_ = 0;
  bool may_return_ = false;  // the stub has leave for such a frame, ...
  uint64_t return_generation_ = 0;  // ... given under these patches
  // The window, as the stub announced it: checked to lie inside.
  struct Input {
    uint64_t addr;
    uint32_t size, offset;
  };
  uint32_t input_count_ = 0;
  Input input_[RW_REGION_INPUTS] = {};
  uint32_t input_end_ = 0;
  uint32_t output_count_ = 0;
  uint32_t output_end_ = 0;
  uint32_t window_high_ = 0;  // so much of the window has ever been used
  // Where output may go: behind the input, which may be read yet, on a cache line of its own.
  uint32_t NextOutput() const { return (std::max(input_end_, output_end_) + 63) & ~63U; }
  uint32_t kept_output_ = 0;
  // A copy from a view: not given to the stub yet; its view, from then until the stub is past it.
  bool view_queued_ = false;
  bool local_answers_ = false;
  struct ViewCopy {
    RefPtr<ViewedFile> file;  // null: there is none
    uint32_t view = 0;
    GuestAddr to;
    uint64_t pos = 0, size = 0;
  };
  ViewCopy view_copy_;

  // Whether waiting by spinning has paid lately, for the Sentry's side and the stub's.
  int spin_score_;
  int stub_spin_score_;
  uint32_t waits_ = 0;
  uint32_t given_ = 0;       // commands, as far as the first few
  uint64_t given_at_ = 0;
  uint32_t wait_limit_ = 0;  // TSC cycles
  bool spins_ = false;      // in the wait now
  bool spins_beside_ = false;  // beside the guest's thread, it seems: it yields once
  uint32_t told_cpu_ = RW_NO_CPU;  // what the region says: sentry_cpu
  bool slept_ = false;      // this thread, since the last wait
  bool stub_spun_ = false;  // so the region told the stub for the wait that ends
  uint32_t stub_spin_ = 0;  // what the region says
  // Whether yielding has paid lately: this thread's when the guest came back, the stub's when the answer
  // came before it slept. A thread that ends soon never finds out.
  int yield_score_ = 0;
  int stub_yield_score_ = 0;
  uint32_t yields_ = 0;         // left in the wait now
  bool yielding_ = false;       // in the wait now
  uint64_t yields_from_ = 0;    // TSC: none before
  static constexpr uint64_t kYieldGapUs = 8'000;
  uint64_t yield_gap_us_ = kYieldGapUs;

  int cpu_ = -1;              // the processor of both, or -1; the stub's also when...
  bool self_held_ = false;    // ...this thread is free
  bool starts_here_ = false;  // since StartHere
  uint64_t paired_at_ = 0;    // TSC
  uint64_t born_at_;          // TSC
  uint32_t trial_ = 0;        // waits left of a trial of spinning
  uint64_t trial_at_ = 0;     // TSC: none before
  static constexpr uint64_t kTrialGapUs = 500;
  uint64_t trial_gap_us_ = 250;
  Mutex<LockClass::kLeaf> affinity_mu_;
  cpu_set_t affinity_ GUARDED_BY(affinity_mu_);

  CpuMeter meter_;
  bool debug_used_ = false;
  uint64_t rseq_area_ = 0;  // as the guest registered it
  uint32_t rseq_signature_ = 0;
  std::atomic<bool> rescheduled_{false};
  bool rseq_due_ = false;  // the host does not know of it yet

  std::atomic<bool> in_guest_{false};
  std::atomic<bool> interrupted_{false};
  std::atomic<bool> ending_{false};  // and for good
  std::atomic<bool> kicked_{false};
  // Written by the task's thread only.
  std::atomic<uint32_t> patched_[PlatformStats::kSyscalls] = {};
  std::atomic<uint32_t> trapped_[PlatformStats::kSyscalls] = {};
  std::atomic<uint32_t> view_copies_{0}, view_faults_{0};
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_SYSTRAP_SYSTRAP_CONTEXT_H_
