// ThreadGroup: a process (struct signal_struct and sighand_struct), ProcessGroup and Session.
//
// Links between processes (parents, children, groups, sessions, threads) are under the TaskSet's
// lock; signal state is under siglock. Lock order: TaskSet before siglock.
#ifndef RINGWALL_SENTRY_KERNEL_THREAD_GROUP_H_
#define RINGWALL_SENTRY_KERNEL_THREAD_GROUP_H_

#include <sys/resource.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <list>
#include <vector>

#include "sentry/abi/signal.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/wait_queue.h"
#include "sentry/kernel/pid_namespace.h"
#include "sentry/kernel/signal_queue.h"

namespace ringwall {

class Kernel;
class Task;
class ThreadGroup;
class Tty;

// A session (setsid). Under the TaskSet's lock.
struct Session : RefCounted<Session> {
  explicit Session(Ref<const Pid> p) : pid(std::move(p)), sid(pid->first()) {}
  const Ref<const Pid> pid;
  const int sid;  // in the first pid namespace
  ThreadGroup* leader = nullptr;
  // The controlling terminal: an opaque object of the tty layer, which also points here.
  RefPtr<RefCountedBase> tty;
  int foreground_pgid = 0;  // of the terminal; 0: none
  uint64_t tty_rdev = 0;
  // Which of all terminals that sessions ever had it is: only the leader that took it and who was forked
  // by those that have it have it, too (ThreadGroup::terminal).
  uint64_t terminal = 0;
  // The foreground when the terminal hung up: it hears of the leader's end.
  int left_foreground = 0;
  std::atomic<int> autogroup_nice{0};
};

struct ProcessGroup : RefCounted<ProcessGroup> {
  ProcessGroup(Ref<const Pid> p, Ref<Session> s)
      : pid(std::move(p)), pgid(pid->first()), session(std::move(s)) {}
  ~ProcessGroup() override = default;
  const Ref<const Pid> pid;
  const int pgid;  // in the first pid namespace
  const Ref<Session> session;
  std::list<ThreadGroup*> members;  // under the TaskSet's lock
};

// Signal handlers; shared by threads and by CLONE_SIGHAND, so with a lock of its own.
class SignalActions : public RefCounted<SignalActions> {
 public:
  abi::SigAction Get(int signo) const;
  // Returns the old one.
  abi::SigAction Exchange(int signo, const abi::SigAction& action);
  Ref<SignalActions> Copy() const;
  // exec: handlers go back to default, ignored ones stay; with `all` (CLONE_CLEAR_SIGHAND) those too.
  void Reset(bool all);

 private:
  mutable Mutex<LockClass::kLeaf> mu_;
  std::array<abi::SigAction, abi::kSigMax> actions_ GUARDED_BY(mu_);  // index: signo - 1
};

struct Rlimits {
  struct Limit {
    uint64_t soft = ~uint64_t{0}, hard = ~uint64_t{0};
  };
  std::array<Limit, RLIM_NLIMITS> limits;
};

// CPU time in nanoseconds and the other counters of getrusage(2).
struct Rusage {
  uint64_t utime_ns = 0, stime_ns = 0;
  uint64_t minor_faults = 0, major_faults = 0, voluntary = 0, involuntary = 0;
  uint64_t maxrss_kib = 0, in_blocks = 0, out_blocks = 0;
  void Add(const Rusage& o);
};

// What /proc/PID/io counts. Each task's own are changed by its thread alone.
struct IoCounts {
  std::atomic<uint64_t> rchar{0}, wchar{0}, syscr{0}, syscw{0};
  void Add(const IoCounts& o) {
    for (const auto field : {&IoCounts::rchar, &IoCounts::wchar, &IoCounts::syscr, &IoCounts::syscw}) {
      Count(this->*field, (o.*field).load(std::memory_order_relaxed));
    }
  }
  // By the one writer that there is.
  static void Count(std::atomic<uint64_t>& to, uint64_t n) {
    to.store(to.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
};

class ThreadGroup : public RefCounted<ThreadGroup> {
 public:
  ThreadGroup(Kernel& kernel, Ref<SignalActions> actions);

  Kernel& kernel() const { return kernel_; }
  int tgid() const { return tgid_; }

  // Its leader's, whoever that is; set once, before anyone else sees the process.
  RefPtr<const Pid> pid;
  // The pid namespace that it lives in.
  PidNamespace& pid_ns() const { return pid->ns(); }

  // --- Under the TaskSet's lock.
  int tgid_ = 0;  // in the first pid namespace
  Task* leader = nullptr;
  std::list<Task*> threads;
  ThreadGroup* parent = nullptr;  // null for init
  int parent_tid = 0;             // the thread that forked it, for PDEATHSIG and __WNOTHREAD
  std::list<Ref<ThreadGroup>> children;
  RefPtr<ProcessGroup> pgrp;
  uint64_t terminal = 0;  // the controlling terminal, if it is the session's
  bool did_exec = false;
  bool is_child_subreaper = false;
  bool from_outside = false;  // made by `runsc exec`: its parent is not in the container
  bool self_owned = false;  // has no parent to reap it: holds a reference to itself
  bool stub_loss_told = false;  // people know that the stub is gone
  // Whether to say now that the stub is gone: once, and not of a process that is ending, whose first
  // thread to end may take the stub along. Takes siglock.
  bool TakeStubLoss();
  bool zombie = false;  // all threads are gone, the parent has not waited yet
  int exit_signal = SIGCHLD;
  int ptracer = 0;          // PR_SET_PTRACER; -1: anyone
  int exit_status = 0;  // as wait4 gives it; valid when zombie
  bool dead = false;        // all threads have ended; zombie too once no tracer holds one of them
  int zombie_threads = 0;   // ended threads but the leader that their tracers have not waited for
  Rusage exited_threads, waited_children;
  IoCounts exited_io;  // of threads that are gone
  WaitQueue child_queue;  // woken (EPOLLIN) when a child changes state
  WaitQueue exit_queue;   // woken (EPOLLIN) when this process ends: pidfd

  // --- Under siglock.
  mutable Mutex<LockClass::kSignal> siglock;
  PendingSignals pending;
  uint32_t stop_flags = 0;   // kGroup*
  int group_stop_count = 0;  // threads that have yet to stop
  int group_stop_code = 0;   // the signal; 0 when a wait has reported it
  bool group_exit = false;
  int group_exit_status = 0;
  Task* exec_task = nullptr;  // the thread that kills the others in order to exec
  WaitQueue signalfd_queue;   // woken when a signal is queued

  SignalActions& actions() const { return *actions_; }
  // exec unshares the table; with one thread left and the siglock held.
  void set_actions(Ref<SignalActions> a) { actions_ = std::move(a); }

  Guarded<Rlimits, LockClass::kLeaf> rlimits;
  uint64_t limit(int resource) const;  // the soft limit

  std::atomic<int> oom_score_adj{0};
  std::atomic<uint32_t> coredump_filter{0x33};
  std::atomic<uint64_t> start_time_ns{0};  // CLOCK_BOOTTIME

  // Timers of the process: owned by sentry/kernel/process_timers.
  RefPtr<RefCountedBase> timers;

 private:
  Kernel& kernel_;
  Ref<SignalActions> actions_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_THREAD_GROUP_H_
