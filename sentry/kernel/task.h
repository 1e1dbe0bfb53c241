// Task: one thread of a guest process (struct task_struct), with one Sentry host thread of its own.
//
// "Task thread only" members are touched by that host thread alone and need no lock; what others read
// is atomic or guarded. Lock order: TaskSet, siglock, Task::mu_.
#ifndef RINGWALL_SENTRY_KERNEL_TASK_H_
#define RINGWALL_SENTRY_KERNEL_TASK_H_

#include <sched.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fs/vfs/fd_table.h"
#include "fs/vfs/vfs.h"
#include "platform/platform.h"
#include "sentry/abi/registers.h"
#include "sentry/abi/signal.h"
#include "sentry/auth/credentials.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/base/wait_queue.h"
#include "sentry/kernel/fs_context.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/net_base.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/kernel/trace.h"
#include "sentry/kernel/wake_place.h"
#include "sentry/mm/memory_manager.h"

namespace ringwall {

class IpcNamespace;
class SemUndoList;

// A point in CLOCK_MONOTONIC nanoseconds; kNoDeadline waits for ever.
inline constexpr int64_t kNoDeadline = INT64_MAX;
int64_t MonotonicNow();

struct CloneArgs {
  uint64_t flags = 0;  // CLONE_*, without the signal
  int exit_signal = 0;
  GuestAddr stack;     // the new stack pointer, null: the same
  GuestAddr parent_tid, child_tid, pidfd;
  uint64_t tls = 0;
  std::vector<int> set_tid;  // clone3's, innermost namespace first
};

struct ExecArgs {
  RefPtr<File> file;
  std::string filename;  // what AT_EXECFN and scripts get
  std::vector<std::string> argv, envp;
};

// How a task wants to be scheduled (struct sched_attr).
struct SchedPolicy {
  uint32_t policy = 0;    // SCHED_*
  uint32_t priority = 0;  // of the real-time policies
  bool reset_on_fork = false;
  uint64_t runtime_ns = 0, deadline_ns = 0, period_ns = 0;  // SCHED_DEADLINE
};

// set_mempolicy(2).
struct MemoryPolicy {
  uint16_t mode = 0;   // MPOL_*
  uint16_t flags = 0;  // MPOL_F_STATIC_NODES and the like
  uint64_t nodes = 0;
};

class Task : public RefCounted<Task> {
 public:
  // The task whose host thread this is; null on other threads.
  static Task* Current();

  Kernel& kernel() const { return kernel_; }
  ThreadGroup& tg() const { return *tg_; }
  // Numbers in the first pid namespace: for the Sentry's own use, not for showing to guests.
  int tid() const { return tid_; }
  int tgid() const { return tg_->tgid_; }
  // Numbers in its own pid namespace, as the task itself knows them. pid() changes only when a
  // non-leader execs, under the TaskSet's lock.
  const Pid& pid() const { return *pid_; }
  PidNamespace& pid_ns() const { return tg_->pid_ns(); }
  int vtid() const { return pid_->own(); }
  int vtgid() const { return tg_->pid->own(); }

  // --- Memory and processor state. Task thread only.
  MemoryManager& mm() const { return *mm_; }
  Context& context() const { return *context_; }
  abi::Registers& regs() { return context_->regs(); }

  // For others (/proc, process_vm_readv): null when the task has exited.
  RefPtr<MemoryManager> mm_ref() const;
  RefPtr<FdTable> fds_ref() const;
  RefPtr<FsContext> fs_ref() const;
  Ref<const Credentials> creds_ref() const;
  RefPtr<MountNamespace> mounts_ref() const;
  RefPtr<NetNamespaceBase> net_ref() const;

  // --- Copies between guest and Sentry, through the platform's data window when it has the bytes.
  Result<void> CopyIn(GuestAddr from, std::span<std::byte> to);
  Result<void> CopyOut(GuestAddr to, std::span<const std::byte> from);
  // For the last output of a call: may be done by the stub on the way back.
  Result<void> CopyOutLast(GuestAddr to, std::span<const std::byte> from);
  Result<std::string> CopyInString(GuestAddr from, size_t limit);
  // A path: ENOENT when empty unless allow_empty, ENAMETOOLONG over 4,096 with the NUL.
  Result<std::string> CopyInPath(GuestAddr from, bool allow_empty = false);

  // --- Files.
  FdTable& fds() const { return *fds_; }
  FsContext& fs() const { return *fs_; }
  MountNamespace& mounts() const { return *ns_.mounts; }
  const Credentials& creds() const { return *creds_; }
  void set_creds(Ref<const Credentials> c);
  UtsNamespace& uts() const { return *ns_.uts; }
  IpcNamespace& ipc() const;
  NetNamespaceBase& net() const { return static_cast<NetNamespaceBase&>(*ns_.net); }
  void set_net(Ref<NetNamespaceBase> net);
  // Task thread only, as those above; nsproxy_ref is for others.
  const NsProxy& nsproxy() const { return ns_; }
  void set_nsproxy(NsProxy ns);
  NsProxy nsproxy_ref() const;
  // What SEM_UNDO will give back; made on first use.
  SemUndoList& SemUndo();
  // For others, to compare.
  const void* sem_undo_id() const;
  Result<Ref<File>> GetFile(int fd) const { return fds_->Get(fd); }

  // --- Waiting. Task thread only.
  // Sleeps until Wake(), a signal to handle, or the deadline. OK: look again; kErestartSys: a
  // signal, a stop or the end; ETIMEDOUT.
  Result<void> Block(int64_t deadline = kNoDeadline);
  // Sleeps until Wake(), whatever signals wait. For waits that only SIGKILL may end: the caller
  // looks for that itself.
  void SleepUninterrupted();
  // Async, any thread: the next or current Block returns OK.
  void Wake();
  // Tries `attempt` until it does not say EAGAIN, sleeping on `queue` in between.
  template <typename F>
  auto Retry(WaitQueue* queue, EventMask events, int64_t deadline, F attempt)
      -> decltype(attempt());

  // --- Signals.
  // Sends to this very task (tgkill) or, with group, to its process. Never fails for standard
  // signals; EAGAIN when RLIMIT_SIGPENDING is reached by a queued one.
  Result<void> SendSignal(const abi::SigInfo& info, bool group);
  // A fault of this task's own: cannot be blocked or ignored. Task thread only. With `fatal` no
  // handler and no tracer gets it (SA_IMMUTABLE).
  void ForceSignal(abi::SigInfo info, bool fatal = false);
  // What the stub answers alone (getppid, getuid) has changed by somebody else's doing: it is told
  // before the task goes on. TaskSet's lock held.
  void AnswersChanged();
  // Whether Block must end: a deliverable signal, a stop, or the end of the process.
  bool alive() const { return mm_ && context_ != nullptr; }
  bool Interrupted() const { return interrupted_.load(std::memory_order_acquire); }
  // Computes Interrupted() anew. With the siglock held.
  void RecalcInterruptedLocked();
  // Any thread. Everything once the task has no processor state any more.
  abi::SigSet signal_mask() const;
  // sigprocmask and its relatives. Task thread only.
  void SetSignalMask(abi::SigSet mask);
  // For sigsuspend, ppoll, pselect, epoll_pwait: this mask until the call is over and its signals
  // are delivered.
  void SetTemporaryMask(abi::SigSet mask);
  // Puts the mask back when no handler is to run.
  void RestoreMask();
  abi::SigSet PendingMask() const;
  // rt_sigtimedwait: takes one of `set`.
  std::optional<abi::SigInfo> TakeSignal(abi::SigSet set);
  // Wakes the task for these from now on though it blocks them: it reads another process's signalfd.
  void WakeForBlocked(abi::SigSet set) { sigwait_set_.fetch_or(set); }
  // Waits for one of `set`, which the caller blocks. EAGAIN at the deadline, EINTR.
  Result<abi::SigInfo> WaitForSignal(abi::SigSet set, int64_t deadline);
  Result<int64_t> SigReturn();

  abi::StackT alt_stack;  // task thread only

  // --- Life.
  // Returns the child's numbers; the child itself may be gone already.
  Result<Ref<const Pid>> Clone(const CloneArgs& args);
  Result<void> Exec(ExecArgs args);
  // Ends this task (exit) or all of its process (exit_group) when the current call returns.
  void ExitThread(int status);
  void ExitGroup(int status);  // wait status

  // --- The call being answered. Task thread only.
  // The handler has set the registers itself: rax stays.
  void KeepRegisters() { keep_registers_ = true; }
  // A call that restarts with other arguments after a stop (ERESTART_RESTARTBLOCK).
  void set_restart(std::function<Result<int64_t>(Task&)> f) { restart_ = std::move(f); }
  Result<int64_t> RestartSyscall();
  void FailVsyscall(uint64_t nr);
  int64_t syscall_nr() const { return syscall_nr_.load(std::memory_order_relaxed); }
  // Any thread: whether a call is being answered, as it was a moment ago.
  bool in_syscall() const { return in_syscall_.load(std::memory_order_relaxed); }

  // --- Tracing and seccomp; see trace.h.
  TraceState trace;
  bool traced() const { return trace.traced.load(std::memory_order_relaxed); }
  // Whether a tracer with the option for it, or none, is to hear of `event` (PTRACE_EVENT_*); stops
  // for it. Task thread only.
  void TraceEvent(int event, uint64_t message);
  bool TraceEventEnabled(int event) const;
  SeccompState seccomp;
  SyscallDispatch dispatch;
  SleepingCall sleeping_call;
  // seccomp(2). Task thread only.
  Result<int64_t> SetSeccompStrict();
  Result<int64_t> SetSeccompFilter(uint32_t flags, bpf::SeccompFilter filter);
  RefPtr<const SeccompChain> seccomp_chain() const;
  // The same for what the task does itself.
  void OwnAnswersChanged() { answers_stale_.store(true); }
  ExitState exit_state = ExitState::kAlive;  // under the TaskSet's lock
  int exit_code = 0;                         // as wait4 gives it; with exit_state
  // Ends this thread alone as by a signal (do_exit).
  void DieBySignal(int signo);
  // What a core dump adds to the wait status.
  int CoreFlag(int signo) const;

  // --- Odds and ends that others read.
  std::string comm() const;
  void set_comm(std::string_view name);
  // /proc/PID/stat's letter: R, S, D, T, t, Z.
  char state() const { return state_.load(std::memory_order_relaxed); }
  Rusage OwnRusage() const;
  // Null when there is none.
  GuestAddr RobustList() const;
  // What /proc/PID/status shows: its own pending signals, the process's, and its mask as it was a
  // moment ago.
  struct SignalSets {
    abi::SigSet own = 0, shared = 0, blocked = 0;
    size_t queued = 0;
  };
  SignalSets signal_sets() const;

  // Where its stub thread may run; remembered until the stub exists.
  cpu_set_t affinity() const;
  Result<void> SetAffinity(const cpu_set_t& set);
  // Gives the guest thread the host's scheduling that goes with `nice` and `sched`, as far as the host
  // lets it. Any thread.
  void ApplyScheduling();
  // fork and clone: nice, scheduling, personality and their like come from `parent`.
  void InheritSettings(const Task& parent);
  // Counters of the process's memory so far: the faults and the largest resident size.
  Rusage MemoryRusage() const;
  // Forgets pending signals that are ignored now.
  void DropPending(abi::SigSet set);
  // Makes the descriptor table this task's own.
  void UnshareFds();
  void UnshareFs();
  void set_fs(Ref<FsContext> fs);

  GuestAddr clear_child_tid;       // task thread only
  // rseq(2): null when none is registered. Task thread only.
  GuestAddr rseq_area;
  uint32_t rseq_length = 0, rseq_signature = 0;
  int parent_death_signal = 0;     // under the TaskSet's lock
  std::atomic<int> nice{0};
  std::atomic<bool> rescheduled{false};  // `nice` or `sched` is not what the task's process began with
  std::atomic<uint64_t> timer_slack_ns{50000}, default_timer_slack_ns{50000};
  std::atomic<uint32_t> personality{0};
  std::atomic<uint16_t> io_priority{0};
  // PR_SET_TSC, PR_MCE_KILL and other settings of prctl that only have to be remembered.
  std::atomic<uint8_t> mce_kill_policy{2};  // PR_MCE_KILL_DEFAULT
  std::atomic<bool> io_flusher{false};
  Guarded<SchedPolicy, LockClass::kLeaf> sched;
  Guarded<MemoryPolicy, LockClass::kLeaf> memory_policy;
  uint64_t start_time_ns = 0;
  IoCounts io;

 private:
  friend class Kernel;
  friend class ThreadGroup;
  friend Result<void> SendSignalToGroup(ThreadGroup&, const abi::SigInfo&);
  friend class PosixTimer;
  friend class TaskLife;
  friend class Ptrace;

  Task(Kernel& kernel, Ref<ThreadGroup> tg, int tid);

  // task_run.cc
  static void ThreadMain(void* self);
  void StartThread();
  // Lets the guest code of a task that nobody runs yet begin, if nothing is to be looked at first.
  void RunAhead();
  void Run();
  void HandleEvent(const Event& e);
  void DoSyscall(bool compat, bool vsyscall, bool redo);
  void FinishSyscall(Result<int64_t> result);
  bool HasSyscallWork() const {
    return traced() || seccomp.mode.load(std::memory_order_relaxed) != 0 ||
           dispatch.on.load(std::memory_order_relaxed);
  }
  void LeaveSyscall();
  bool SetStep();
  void ClearStep();
  void ReportStep();
  void SleepWhilePaused();
  void HandleFault(const Event& e);
  // task_signals.cc
  bool PrepareToReturn();  // false: the task ends
  // What a signal without a handler does.
  void DefaultAction(const abi::SigInfo& info);
  void RestartOrFail();
  void Kick();
  void KickToEnd();  // all of its process is being killed
  // Tells the stub that unblocking a signal must come to the Sentry.
  void NoteSignalsPendingLocked();
  void NoteSignalsPending();
  void DeliverSignal(const abi::SigInfo& info, const abi::SigAction& action);
  bool SetUpFrame(const abi::SigInfo& info, const abi::SigAction& action, abi::SigSet old_mask);
  void QueueLocked(const abi::SigInfo& info, bool group);
  Result<void> QueueWithinLimitLocked(const abi::SigInfo& info, bool group);
  void StopOrContinueLocked(int signo);
  std::optional<abi::SigInfo> TakeNextLocked();
  // task_stop.cc
  bool SetJobPendingLocked(uint32_t bits, int signo);
  bool TakePartInStopLocked();
  bool DoSignalStop(int signo);  // true: has been stopped
  void DoTrap();
  void TrapNotifyLocked();
  void WakeFromTraceLocked(bool resume);
  void TellOfContinue(uint32_t cld);
  int TraceStop(int code, int why, uint64_t message, abi::SigInfo* info);
  int TraceNotify(int code, int why, uint64_t message);
  bool TraceSyscall(uint64_t message);  // false: killed meanwhile
  int TraceSignal(abi::SigInfo& info);
  uint64_t TracerView(const Pid& pid);  // the number by which the tracer knows it
  void KillGroupLocked(int status);
  // task_seccomp.cc
  bool EnterSyscall(SyscallRequest* request);  // false: the call is not made
  bool CheckSeccomp(SyscallRequest* request, bool again);
  bool SeccompSeesLocalCalls() const;
  // The same of the two that set threads up.
  bool SeccompSeesSetupCalls() const;
  bool SeccompSees(std::span<const int> calls) const;
  void Rollback(const SyscallRequest& request);
  // Whether the call is the user's to answer, who has then got SIGSYS.
  bool DispatchToUser(const SyscallRequest& request);
  void UpdateLocalAnswers();
  // task_exit.cc
  void DoExit();
  void ReleaseMm(bool keeps_stub = false);
  void FinishExit();
  bool WaitsForPidNamespaceLocked();
  bool LeaveGroupLocked();
  void ReparentChildrenLocked();
  // task_exec.cc
  Result<void> KillOtherThreads();
  MemoryManager* ReplaceableMm();

  Kernel& kernel_;
  const Ref<ThreadGroup> tg_;
  RefPtr<const Pid> pid_;
  int tid_;  // changes only when a non-leader execs, under the TaskSet's lock

  mutable Mutex<LockClass::kTask> mu_;  // the pointers below, for readers on other threads
  RefPtr<MemoryManager> mm_;
  RefPtr<FdTable> fds_;
  RefPtr<FsContext> fs_;
  NsProxy ns_;
  RefPtr<RefCountedBase> sem_undo_;  // a SemUndoList or null
  RefPtr<const Credentials> creds_;
  std::string comm_ GUARDED_BY(mu_);
  cpu_set_t affinity_ GUARDED_BY(mu_);

  std::unique_ptr<Context> context_;  // replaced under mu_

  // Signals. pending_ is under the siglock.
  PendingSignals pending_;
  std::atomic<bool> interrupted_{false};
  std::atomic<bool> answers_stale_{false};  // what the stub answers alone must be told anew
  std::atomic<bool> no_new_privs_due_{false};  // by another thread's SECCOMP_FILTER_FLAG_TSYNC
  std::atomic<bool> dying_{false};  // leave as soon as possible
  std::atomic<abi::SigSet> sigwait_set_{0};
  bool forced_ = false;      // the next signal is this task's own fault. Task thread only
  bool immutable_ = false;   // ... and nothing may catch it. Task thread only
  uint32_t jobctl_ = 0;      // kJob*, under siglock
  int jobctl_signo_ = 0;     // of the group stop
  bool kill_pending_ = false;  // under siglock: has yet to notice that it is being killed
  std::optional<abi::SigSet> saved_mask_;  // task thread only

  // Wait word: bit 0 says that the thread sleeps, the rest counts wakes.
  std::atomic<uint32_t> wake_{0};
  uint32_t wake_seen_ = 0;
  WakePlace wake_place_;
  bool ran_ahead_ = false;
  std::atomic<bool> in_guest_{false};  // in or about to enter Context::Switch

  // The call.
  std::atomic<int64_t> syscall_nr_{-1};
  bool keep_registers_ = false;
  std::atomic<bool> in_syscall_{false};
  int restart_errno_ = 0;  // one of kErestart*: the call ended because of a signal
  bool redo_ = false;      // answer the same call again
  std::function<Result<int64_t>(Task&)> restart_;

  // Of the last fault, for the signal frame. Task thread only.
  uint64_t fault_error_code_ = 0, fault_trap_no_ = 0, fault_addr_ = 0;

  bool exiting_ = false;
  int exit_status_ = 0;
  std::atomic<char> state_{'R'};

  // The parent of a vfork sleeps until its child lets the memory go.
  RefPtr<Task> vfork_parent_;
  std::atomic<bool> vfork_done_{false};
  Rusage final_rusage_;  // once the context is gone
};

// A Waiter that wakes a task.
class TaskWaiter final : public Waiter {
 public:
  explicit TaskWaiter(Task& t) : task_(t) {}
  bool OnEvent(EventMask) override {
    task_.Wake();
    return true;
  }

 private:
  Task& task_;
};

template <typename F>
auto Task::Retry(WaitQueue* queue, EventMask events, int64_t deadline, F attempt)
    -> decltype(attempt()) {
  auto result = attempt();
  if (result.ok() || !result.error().Is(EAGAIN) || queue == nullptr) return result;
  TaskWaiter waiter(*this);
  queue->Add(waiter, events);
  for (;;) {
    result = attempt();
    if (result.ok() || !result.error().Is(EAGAIN)) break;
    Result<void> slept = Block(deadline);
    if (!slept.ok()) {
      result = decltype(attempt())(slept.error());
      break;
    }
  }
  queue->Remove(waiter);
  return result;
}

// Sends to a process, to one of its threads that takes it. With or without locks? Without.
Result<void> SendSignalToGroup(ThreadGroup& tg, const abi::SigInfo& info);
// To every member of a process group. With the TaskSet's lock held. ESRCH when it is empty.
void SendSignalToProcessGroupLocked(ProcessGroup& pg, const abi::SigInfo& info);
// What a process's user namespace calls this id. TaskSet's lock held.
Uid UidSeenBy(const ThreadGroup& tg, Uid uid);
// SIGCHLD with CLD_STOPPED, CLD_CONTINUED or CLD_TRAPPED to the parent of `t`'s process or the tracer
// of `t`, and a wake of it if it waits. TaskSet's lock held.
void NotifyParentOfStopLocked(Task& t, bool for_tracer, int why);

// The parent's number in the first pid namespace: 0 for init, 1 for one whose parent is gone.
// TaskSet's lock held.
int ParentPidLocked(const ThreadGroup& tg);
// The same as seen from `ns`: 0 also when the parent is out of sight.
int ParentPidLocked(const ThreadGroup& tg, const PidNamespace& ns);
// The foreground group of a session's terminal as `ns` numbers it. TaskSet's lock held.
int ForegroundGroupLocked(const Session& session, const PidNamespace& ns);
abi::SigInfo MakeSigInfo(int signo, int code);
// si_code of a signal from the container's owner (runsc kill), which init cannot refuse.
inline constexpr int kFromOutside = -1000;
// Whether no process of the group has a parent in the same session but another group: its stops
// would never end (POSIX 3.264). TaskSet's lock held.
bool IsOrphanedLocked(const ThreadGroup& tg);

// Closes one descriptor's use of `file`: Flush, and the process's POSIX locks on it.
void CloseFile(Task& t, Ref<File> file, FdTable& table);
// close: the process's POSIX locks on the file go.
void DropPosixLocks(File& file, const FdTable& table);
// Controlling terminals, all with the TaskSet's lock held.
// Whether the process has one, which then is its session's.
bool HasTerminalLocked(const ThreadGroup& tg);
// Gives a session's leader its terminal, with the leader's group in the foreground.
void TakeTerminalLocked(ThreadGroup& leader, RefPtr<RefCountedBase> tty, uint64_t rdev);
// Nobody in the session has the terminal any more. Its foreground group gets the signals.
void LoseTerminalLocked(Kernel& kernel, Session& session, std::initializer_list<int> signals) NO_THREAD_SAFETY_ANALYSIS;
// The terminal hung up: the leader hears of it now, the foreground at the leader's end.
void HangUpSessionLocked(Session& session) NO_THREAD_SAFETY_ANALYSIS;
// The leader ends.
void EndSessionLocked(Kernel& kernel, Session& session) NO_THREAD_SAFETY_ANALYSIS;

// The credentials that clone and unshare give with CLONE_NEWUSER. EPERM, ENOSPC.
Result<Ref<const Credentials>> CredentialsInNewUserNamespace(Task& t);

// ptrace_may_access: may `from` look at (kRead) or change (kAttach) another process? By its ids for
// file accesses or its real ones (kRealCreds).
struct TraceAccess {
  static constexpr uint32_t kRead = 1, kAttach = 2, kRealCreds = 16;
};
bool MayTrace(const Task& from, Task& target, uint32_t access);

struct WaitArgs {
  enum class Which { kAny, kPid, kPgrp, kPidfd } which = Which::kAny;
  int id = 0;
  int options = 0;  // WEXITED, WSTOPPED, WCONTINUED, WNOHANG, WNOWAIT, __WALL, __WCLONE, ...
};
struct WaitResult {
  int pid = 0;  // 0: nothing yet, with WNOHANG
  int status = 0;  // as wait4
  uint32_t uid = 0;
  int code = 0;       // CLD_*
  int child_status = 0;  // si_status of waitid
  Rusage rusage;
};
// wait4 and waitid. ECHILD, kErestartSys.
Result<WaitResult> WaitForChild(Task& t, const WaitArgs& args);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_TASK_H_
