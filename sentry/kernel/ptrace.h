// Ptrace: who traces whom, and what a tracer does to a task that has stopped for it
// (kernel/ptrace.c). The system call itself is in syscalls/sys_ptrace.cc; the stops in task_stop.cc.
//
// A stopped task's thread sleeps, so its tracer may use its registers; what must be done by the
// task's own host thread (the xstate, debug registers) is done there by RunOn. Freeze keeps the task
// stopped meanwhile, whatever happens to it.
#ifndef RINGWALL_SENTRY_KERNEL_PTRACE_H_
#define RINGWALL_SENTRY_KERNEL_PTRACE_H_

#include <functional>
#include <span>

#include "sentry/base/result.h"
#include "sentry/kernel/task.h"

namespace ringwall {

// PTRACE_MODE_*.
enum class PtraceAccess : uint8_t { kReadFs, kReadReal, kAttachFs, kAttachReal };

class Ptrace {
 public:
  // ptrace_may_access. EPERM.
  static Result<void> MayAccess(Task& looker, Task& target, PtraceAccess mode);

  // PTRACE_TRACEME, PTRACE_ATTACH, PTRACE_SEIZE. EPERM, ESRCH.
  static Result<void> TraceMe(Task& t);
  static Result<void> Attach(Task& tracer, int tid, bool seize, uint32_t options);

  // The tracee `tid` of `tracer`, stopped and kept so until Thaw; with `any_state` as it is.
  // ESRCH.
  static Result<Ref<Task>> Freeze(Task& tracer, int tid, bool any_state);
  static void Thaw(Task& tracee);

  // On frozen tracees.
  enum class Go : uint8_t { kCont, kSyscall, kSysemu, kSysemuStep, kStep };
  static void Resume(Task& tracee, Go how, int signo);
  // Lets go of a frozen tracee, which is thawed with that.
  static void Detach(Task& tracer, Task& tracee, int signo);
  static Result<void> Listen(Task& tracee);
  // EINVAL when the stop is not for a signal.
  static Result<abi::SigInfo> StopInfo(Task& tracee);
  static Result<void> SetStopInfo(Task& tracee, const abi::SigInfo& info);
  static uint64_t Message(Task& tracee);
  // Pending signals from the `offset`th on, at most `count`.
  static std::vector<abi::SigInfo> Pending(Task& tracee, bool shared, uint64_t offset, size_t count);
  static abi::SigSet SignalMask(Task& tracee);
  static void SetSignalMask(Task& tracee, abi::SigSet mask);
  // Runs `work` on the tracee's host thread and waits for it.
  static void RunOn(Task& tracer, Task& tracee, std::function<void()> work);

  // On a tracee in any state. EIO when it was not seized.
  static Result<void> Interrupt(Task& tracee);

  // --- For the kernel.
  // Whether the tracer is another process than the parent. TaskSet's lock held.
  static bool Reparented(const Task& t);
  // A new task of a traced one (CLONE_PTRACE or an event). TaskSet's lock and siglocks held.
  static void InheritLocked(Task& parent, Task& child);
  // `tracer` ends: its tracees run on untraced, or die. TaskSet's lock held.
  static void TracerExitsLocked(Task& tracer);
  // Takes what wait reports of a stop, for the tracer or for the parent (of a group stop), unless it
  // is to stay. False: there is none. TaskSet's lock held.
  static bool TakeStop(Task& t, bool for_tracer, bool keep, int* code);
  // Ends the tracing of `t`. TaskSet's lock held.
  static void UnlinkLocked(Task& t);

 private:
  static void LinkLocked(Task& t, Task& tracer);
};

// PR_SET_PTRACER and kernel.yama.ptrace_scope (security/yama/yama_lsm.c).
inline constexpr int kPtracerAny = -1;

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_PTRACE_H_
