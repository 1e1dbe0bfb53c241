// What job control, ptrace and seccomp keep of a task. The rules are in task_stop.cc (stops),
// ptrace.cc (who traces whom) and task_seccomp.cc.
#ifndef RINGWALL_SENTRY_KERNEL_TRACE_H_
#define RINGWALL_SENTRY_KERNEL_TRACE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <optional>

#include "sentry/abi/signal.h"
#include "sentry/base/guest_addr.h"
#include "sentry/base/ref.h"
#include "sentry/bpf/bpf.h"

namespace ringwall {

class Task;

// Task::jobctl_ (include/linux/sched/jobctl.h). Under siglock.
inline constexpr uint32_t kJobStopDequeued = 1;   // a stop signal was taken and may stop the group
inline constexpr uint32_t kJobStopPending = 2;    // must stop for a group stop
inline constexpr uint32_t kJobStopConsume = 4;    // ... and is one of those that the group waits for
inline constexpr uint32_t kJobTrapStop = 8;       // must stop for its tracer
inline constexpr uint32_t kJobTrapNotify = 16;    // must tell its seizing tracer of a change
inline constexpr uint32_t kJobTrapping = 32;      // between a group stop and the tracer's
inline constexpr uint32_t kJobListening = 64;     // PTRACE_LISTEN
inline constexpr uint32_t kJobStopped = 128;      // is in a group stop
inline constexpr uint32_t kJobTraced = 256;       // is in a stop for its tracer
inline constexpr uint32_t kJobFrozen = 512;       // its tracer is at work on it: must not go on
inline constexpr uint32_t kJobTrapMask = kJobTrapStop | kJobTrapNotify;
inline constexpr uint32_t kJobPendingMask = kJobStopPending | kJobTrapMask;

// ThreadGroup::stop_flags. Under siglock.
inline constexpr uint32_t kGroupStopped = 1;      // the last stop is complete
inline constexpr uint32_t kGroupContinued = 2;    // and was continued: for WCONTINUED
inline constexpr uint32_t kGroupCldStopped = 4;   // the parent is still to be told
inline constexpr uint32_t kGroupCldContinued = 8;
inline constexpr uint32_t kGroupCldMask = kGroupCldStopped | kGroupCldContinued;

// How far a task's end has got. Under the TaskSet's lock.
enum class ExitState : uint8_t { kAlive, kZombie, kTraceSeen /* by its tracer */, kDead };

struct TraceState {
  // --- Under the TaskSet's lock; `tracer` also changes with the siglock held.
  Task* tracer = nullptr;
  std::list<Task*> tracees;
  // Whether there is a tracer, for the task's own thread.
  std::atomic<bool> traced{false};
  bool seized = false;

  // --- The tracer's, changed while the task is stopped (or not yet running).
  std::atomic<uint32_t> options{0};  // PTRACE_O_*
  // Also cleared when a running task is seized.
  std::atomic<bool> syscalls{false};  // PTRACE_SYSCALL
  std::atomic<bool> emulate{false};   // PTRACE_SYSEMU
  std::atomic<bool> step{false};
  uint64_t debug_registers[8] = {};
  bool debug_used = false;

  // --- The stop. Under siglock.
  int code = 0;  // what wait reports; then what the tracer says to go on with
  abi::SigInfo* info = nullptr;
  uint64_t message = 0;  // PTRACE_GETEVENTMSG
  // What the task's own thread is to do for its tracer while stopped.
  struct Request {
    std::function<void()> work;
    RefPtr<Task> from;
    std::atomic<bool> done{false};
  };
  Request* request = nullptr;
};

// A seccomp filter and those that were installed before it. Immutable.
struct SeccompChain : RefCounted<SeccompChain> {
  SeccompChain(bpf::SeccompFilter f, RefPtr<const SeccompChain> p, bool l)
      : filter(std::move(f)),
        previous(std::move(p)),
        log(l),
        depth(previous ? previous->depth + 1 : 1),
        cost((previous ? previous->cost + 4 : 0) + filter.cost()) {}
  // A long chain ends link by link, not by recursion.
  ~SeccompChain() override {
    RefPtr<const SeccompChain> p = std::move(previous);
    while (p && p->ref_count() == 1) p = std::move(p->previous);
  }
  const bpf::SeccompFilter filter;
  mutable RefPtr<const SeccompChain> previous;  // immutable until the end
  const bool log;
  const int depth;
  const size_t cost;  // instructions of all, with Linux's penalty of 4 for each filter before
};

struct SeccompState {
  // 0, SECCOMP_MODE_STRICT or SECCOMP_MODE_FILTER.
  std::atomic<int> mode{0};
  RefPtr<const SeccompChain> chain;  // under siglock
};

// PR_SET_SYSCALL_USER_DISPATCH: calls from outside of [offset, offset+length) become SIGSYS when the
// selector says so. Changed by the task's own thread or by its tracer while it is stopped.
struct SyscallDispatch {
  std::atomic<bool> on{false};
  uint64_t offset = 0, length = 0;
  GuestAddr selector;  // null: always
};

// What /proc/PID/syscall says of a task that sleeps in a call; as it was a moment ago.
struct SleepingCall {
  std::atomic<uint64_t> args[6] = {};
  std::atomic<uint64_t> sp{0}, pc{0};
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_TRACE_H_
