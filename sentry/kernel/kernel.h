// Kernel: what one sandbox has once: the platform, the task set, the system-call table, the names
// and the clocks' origin. Made by runsc/boot, lives until the process ends.
#ifndef RINGWALL_SENTRY_KERNEL_KERNEL_H_
#define RINGWALL_SENTRY_KERNEL_KERNEL_H_

#include <sched.h>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fs/vfs/fd_table.h"
#include "fs/vfs/mount.h"
#include "platform/platform.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/kernel/net_base.h"
#include "sentry/kernel/nsproxy.h"
#include "sentry/kernel/thread_group.h"

namespace ringwall {

class FutexTable;
class SyscallTable;
class TimerQueue;

struct UtsName {
  std::string hostname = "ringwall";
  std::string domainname = "(none)";
};

// The uts namespace of a task.
class UtsNamespace final : public Namespace {
 public:
  // The first one.
  UtsNamespace() : UtsNamespace(RefPtr<UserNamespace>(&UserNamespace::Initial()), true) {}
  // Preconditions: the owner was charged.
  UtsNamespace(RefPtr<UserNamespace> owner, bool first)
      : Namespace(NamespaceKind::kUts, std::move(owner), first), counted_(!first) {}
  ~UtsNamespace() override {
    if (counted_) user_ns().Uncharge(NamespaceKind::kUts);
  }
  Guarded<UtsName, LockClass::kLeaf> name;

 private:
  const bool counted_;
};

// All tasks, and the lock under which their links change (tasklist_lock). The numbers here are those
// of the outermost pid namespaces: those that a guest names are found by its own (Task::pid_ns).
class TaskSet {
 public:
  TaskSet();
  Mutex<LockClass::kTaskSet> mu;
  const Ref<PidNamespace> first;  // the first container's pid namespace
  // What those of further containers are made in, so that none sees another's processes. Nobody runs in
  // it; its numbers begin where those of `first` end.
  const Ref<PidNamespace> apart;
  std::map<int, Task*> tasks GUARDED_BY(mu);                  // by tid
  std::map<int, RefPtr<ProcessGroup>> groups GUARDED_BY(mu);  // by pgid; empty ones are erased
  int live GUARDED_BY(mu) = 0;  // tasks that have not finished their exit, but a bare init

  // The next free numbers in `ns` and all above it, or those `wanted`, innermost first (clone3's
  // set_tid). EAGAIN when there is none or the limit of tasks is reached; ENOMEM when the init of
  // `ns` is gone; EEXIST, EINVAL of wanted ones.
  Result<Ref<const Pid>> AllocatePid(PidNamespace& ns, std::span<const int> wanted = {})
      REQUIRES(mu);
  Task* FindTask(int tid) REQUIRES(mu);
  ThreadGroup* FindThreadGroup(int tgid) REQUIRES(mu);
  void AddTaskLocked(const Pid& pid, Task& task) REQUIRES(mu);
  void EraseTaskLocked(const Pid& pid) REQUIRES(mu);
  void AddGroupLocked(RefPtr<ProcessGroup> pg) REQUIRES(mu);
  void EraseGroupLocked(ProcessGroup& pg) REQUIRES(mu);
  size_t TasksOfUserLocked(Uid uid) REQUIRES(mu);

  static constexpr int kPidMax = 32768;
  int max_tasks = 16384;
};

struct KernelOptions {
  std::unique_ptr<Platform> platform;
  const SyscallTable* syscalls = nullptr;
  uint64_t memory_limit = 0;  // bytes of memory to show
  cpu_set_t cpus = {};        // that the sandbox may use
  bool strace = false;
  std::vector<std::string> strace_syscalls;  // only these; empty: all
};

class Kernel {
 public:
  explicit Kernel(KernelOptions options);
  ~Kernel();

  Platform& platform() { return *options_.platform; }
  const SyscallTable& syscalls() const { return *options_.syscalls; }
  const KernelOptions& options() const { return options_; }
  TaskSet& tasks() { return tasks_; }
  // The namespaces that a container's first process has. Whoever implements IPC or network
  // namespaces says at start-up how to make one, owned by the given user namespace.
  using NamespaceMaker =
      Result<Ref<Namespace>> (*)(Kernel& kernel, Ref<UserNamespace> owner, bool first);
  void SetNamespaceMaker(NamespaceKind kind, NamespaceMaker maker);
  // A new one; counts against its owner's limit. ENOSPC.
  Result<Ref<Namespace>> NewNamespace(NamespaceKind kind, const Ref<UserNamespace>& owner);
  // The one that the sandbox starts with.
  Ref<Namespace> FirstNamespace(NamespaceKind kind);

  FutexTable& futexes() { return *futexes_; }
  TimerQueue& timers() { return timers_; }

  // The network namespace of processes made out of nothing. Set once, before the first of them.
  void set_initial_net(Ref<NetNamespaceBase> net) { initial_net_ = std::move(net); }
  const RefPtr<NetNamespaceBase>& initial_net() const { return initial_net_; }

  // The CPUs that the sandbox may use.
  const cpu_set_t& cpus() const { return options_.cpus; }

  // The sysctl kernel.yama.ptrace_scope.
  int ptrace_scope() const { return ptrace_scope_.load(std::memory_order_relaxed); }
  void set_ptrace_scope(int scope) { ptrace_scope_.store(scope); }

  bool strace() const { return strace_.load(std::memory_order_relaxed); }
  // For what runs already, too. `only`: these system calls; empty: all.
  void SetStrace(bool on, const std::vector<std::string>& only);
  bool StraceWanted(std::string_view name) const;

  // The freezer (runsc pause): no guest code of the container runs and no system call of it begins from
  // Pause()'s return until Resume(). Calls that wait go on waiting, SIGKILL still ends a process, clocks
  // go on.
  void Pause(PidNamespace& container);
  void Resume(PidNamespace& container);
  // Whether any container is, and whether this task's is.
  bool paused() const { return paused_.load(std::memory_order_acquire) != 0; }
  bool Pauses(const Task& task) const;

  // Hears of each process that finds its stub gone, once, before it dies of that and without a lock;
  // `process` is for people. Set once, before the first task runs.
  using StubLossListener = std::function<void(const std::string& process)>;
  void set_stub_loss_listener(StubLossListener listener) { stub_loss_listener_ = std::move(listener); }
  void TellStubLoss(ThreadGroup& tg);

  // CLOCK_BOOTTIME of the host at the sandbox's start: the guest's boot time is the sandbox's start
  // only in /proc/uptime and btime; the clocks themselves are the host's.
  uint64_t start_boottime_ns() const { return start_boottime_ns_; }

  // A process out of nothing: init, or one of `runsc exec`.
  struct ProcessArgs {
    std::string filename;
    std::vector<std::string> argv, envp;
    Ref<const Credentials> creds;
    Ref<MountNamespace> mounts;
    Path root, cwd;
    uint32_t umask = 022;
    RefPtr<FdTable> fds;
    Rlimits rlimits;
    RefPtr<UtsNamespace> uts;
    // Of a further container; null: those that the sandbox starts with. The first process in pid_ns is
    // its init.
    RefPtr<PidNamespace> pid_ns;
    RefPtr<Namespace> ipc, cgroup;
    // What the process inherits; bit n-1 is signal n.
    uint64_t ignored_signals = 0, blocked_signals = 0;
    // Of `runsc exec`: its parent is outside, getppid says 0, nobody inside waits for it.
    bool from_outside = false;
  };
  // Loads the program; nothing runs before Start(). ENOENT, EACCES, ENOEXEC ...
  Result<Ref<ThreadGroup>> CreateProcess(const ProcessArgs& args);
  // Runs its first task. The returned group stays; Wait for it with WaitForExit.
  void Start(ThreadGroup& tg);
  // Blocks the calling host thread until the process ended; returns its wait status.
  int WaitForExit(ThreadGroup& tg);
  // Sends a signal to a process, its group or everyone, as the container's owner.
  Result<void> SendSignal(int tgid, int signo);
  void KillAll();
  // Blocks until no task is left.
  void WaitForAll();

  ThreadGroup* init() const { return init_.get(); }
  // Makes process 1 out of nothing but the Sentry's own means: no program, no stub. The first of
  // CreateProcess is then its child and not init, as the program of `runsc do` is not init outside
  // either. Without it that is init itself. Preconditions: there is no process yet.
  struct BareInitArgs {
    Ref<const Credentials> creds;
    Ref<MountNamespace> mounts;
    RefPtr<UtsNamespace> uts;
    Rlimits rlimits;
  };
  Result<void> CreateBareInit(const BareInitArgs& args);
  bool IsBareInit(const ThreadGroup& tg) const { return bare_init_ && init_.get() == &tg; }
  void InitExitedLocked() REQUIRES(tasks().mu);

 private:
  friend class Task;
  friend class TaskLife;
  friend class Ptrace;
  void GiveFirstNamespaces(Task& task, const Ref<MountNamespace>& mounts,
                           const RefPtr<UtsNamespace>& uts);
  // Numbers a process that has its first task and enters it, in a session of its own. EAGAIN.
  Result<void> AddProcessLocked(PidNamespace& ns, ThreadGroup& tg, Ref<Task> leader)
      REQUIRES(tasks_.mu);

  KernelOptions options_;
  TaskSet tasks_;
  const std::unique_ptr<FutexTable> futexes_;
  // Never destroyed: timers of files may outlive the kernel.
  TimerQueue& timers_;
  std::atomic<bool> strace_;
  std::atomic<int> ptrace_scope_{1};
  Guarded<std::vector<std::string>, LockClass::kLeaf> strace_only_;
  std::atomic<int> paused_{0};  // containers
  uint64_t start_boottime_ns_;
  StubLossListener stub_loss_listener_;
  RefPtr<ThreadGroup> init_;  // set before the first task runs
  bool bare_init_ = false;
  RefPtr<NetNamespaceBase> initial_net_;
  Mutex<LockClass::kLeaf> namespaces_mu_;
  std::array<NamespaceMaker, kNamespaceKinds> makers_ GUARDED_BY(namespaces_mu_) = {};
  std::array<RefPtr<Namespace>, kNamespaceKinds> first_namespaces_ GUARDED_BY(namespaces_mu_);
  CondVar group_exited_;  // a process ended, or the last task is gone; with tasks_.mu
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_KERNEL_H_
