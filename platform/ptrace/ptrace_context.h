// One guest thread under PTRACE_SYSEMU.
#ifndef RINGWALL_PLATFORM_PTRACE_PTRACE_CONTEXT_H_
#define RINGWALL_PLATFORM_PTRACE_PTRACE_CONTEXT_H_

#include <array>
#include <atomic>
#include <memory>
#include <span>
#include <vector>

#include "platform/ptrace/ptrace_platform.h"
#include "platform/xstate.h"

namespace ringwall {

// A guest thread and its tracer. Switch(), once called, binds it to the calling thread: every other
// function but Interrupt() and the destructor too must then be called there, since the host takes
// requests for a traced thread only from its tracer.
class PtraceContext final : public Context {
 public:
  PtraceContext(Ref<PtraceAddressSpace> as, pid_t tid, std::shared_ptr<PtraceCounters> counters);
  ~PtraceContext() override;

  // Starts with the registers and xstate of `parent`.
  Result<void> CopyFrom(PtraceContext& parent);

  Event Switch() override;
  abi::Registers& regs() override { return regs_; }
  void RegsChanged() override {}
  size_t xstate_size() const override { return XStateSize(); }
  Result<void> GetXState(std::span<std::byte> out) override;
  Result<void> SetXState(std::span<const std::byte> in) override;
  bool ReadWindow(GuestAddr, std::span<std::byte>) override { return false; }
  bool WriteWindow(GuestAddr, std::span<const std::byte>) override { return false; }
  Result<uint64_t> GetDebugRegister(int n) override;
  Result<void> SetDebugRegister(int n, uint64_t value) override;
  void Interrupt() override;
  void SetLocalAnswers(const LocalAnswers&) override {}
  uint64_t signal_mask() const override { return signal_mask_.load(); }
  void set_signal_mask(uint64_t mask) override { signal_mask_.store(mask); }
  Result<void> SetRseq(GuestAddr area, uint32_t signature) override;
  bool events_abort_rseq() const override { return false; }
  void CpuTime(uint64_t* user_ns, uint64_t* system_ns) override;
  void NoteAsleep(bool asleep) override;
  pid_t host_tid() const override { return tid_; }

 private:
  enum class State { kParked, kStopped, kLost };

  // Becomes the tracer of the parked thread.
  bool Attach();
  // Waits until the thread stops; false when it is gone.
  bool Wait(int* status);
  // Gives the thread the registers and xstate that the Sentry has set.
  bool Flush();
  // Runs until a stop that means something.
  Event Run();
  Event OnSyscallStop();
  // False when the signal is of no interest to the guest.
  bool OnSignalStop(int signo, Event* event);
  // Has the stopped thread make rseq() on the host; the negative errno, ESRCH when it is gone.
  long HostRseq(int flags);
  uint64_t PageFaultCode(bool present, uint64_t addr);
  static constexpr size_t kLongestInsn = 15;
  // What can be read of the bytes at RIP, in `room`.
  std::span<const uint8_t> CodeAtRip(std::array<uint8_t, kLongestInsn>& room);
  Event Lost();

  const Ref<PtraceAddressSpace> as_;
  const pid_t tid_;
  const std::shared_ptr<PtraceCounters> counters_;
  State state_ = State::kParked;
  bool traced_ = false;
  abi::Registers regs_ = {};
  // Holds the state when `xstate_dirty_`; the thread itself does otherwise.
  std::vector<std::byte> xstate_;
  bool xstate_dirty_ = true;
  std::atomic<uint64_t> signal_mask_{0};  // also read by /proc
  CpuMeter meter_;
  bool debug_used_ = false;
  uint64_t rseq_area_ = 0;  // as the guest registered it
  uint32_t rseq_signature_ = 0;
  bool rseq_due_ = false;  // the host does not know of it yet

  static constexpr uint32_t kRunning = 1, kKicked = 2;
  std::atomic<uint32_t> kick_{0};
};

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_PTRACE_PTRACE_CONTEXT_H_
