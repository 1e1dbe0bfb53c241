// clone, fork and vfork (kernel/fork.c).
#include <linux/ptrace.h>
#include <sched.h>
#include <sys/epoll.h>
#include <time.h>

#include "sentry/base/log.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/rare_settings.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/task_rseq.h"

namespace ringwall {

namespace {

constexpr uint64_t kCloneClearSighand = 0x100000000ull, kCloneIntoCgroup = 0x200000000ull;

Result<void> CheckFlags(const Task& t, uint64_t flags) {
  const auto both = [&](uint64_t a, uint64_t b) { return (flags & a) != 0 && (flags & b) != 0; };
  if (both(CLONE_NEWNS, CLONE_FS) || both(CLONE_NEWUSER, CLONE_FS)) return Errno(EINVAL);
  if ((flags & CLONE_THREAD) != 0 && (flags & CLONE_SIGHAND) == 0) return Errno(EINVAL);
  if ((flags & CLONE_SIGHAND) != 0 && (flags & CLONE_VM) == 0) return Errno(EINVAL);
  if (both(CLONE_THREAD, CLONE_NEWPID) || both(CLONE_THREAD, CLONE_NEWUSER)) return Errno(EINVAL);
  if (both(CLONE_NEWIPC, CLONE_SYSVSEM)) return Errno(EINVAL);
  // A process has all its threads in one pid namespace.
  if ((flags & CLONE_THREAD) != 0 && t.nsproxy().pid_for_children.get() != &t.pid_ns()) {
    return Errno(EINVAL);
  }
  if (both(CLONE_SIGHAND, kCloneClearSighand)) return Errno(EINVAL);
  if (both(CLONE_PIDFD, CLONE_DETACHED)) return Errno(EINVAL);
  // init must not make siblings: nobody would reap them.
  if ((flags & CLONE_PARENT) != 0 && &t.tg() == t.pid_ns().init) return Errno(EINVAL);
  return {};
}

uint64_t BootTimeNow() {
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// What a tracer is told of a clone; 0: nothing.
int TraceEventOf(const Task& t, const CloneArgs& args) {
  if ((args.flags & CLONE_UNTRACED) != 0) return 0;
  const int event = (args.flags & CLONE_VFORK) != 0      ? PTRACE_EVENT_VFORK
                    : args.exit_signal != SIGCHLD ? PTRACE_EVENT_CLONE
                                                  : PTRACE_EVENT_FORK;
  return t.TraceEventEnabled(event) ? event : 0;
}

Result<void> CheckWantedNumbers(const Task& t, PidNamespace& pid_ns, std::span<const int> wanted) {
  if (wanted.size() > static_cast<size_t>(pid_ns.level()) + 1) return Errno(EINVAL);
  for (const PidNamespace* ns = &pid_ns; ns != nullptr; ns = ns->parent()) {
    if (static_cast<size_t>(pid_ns.level() - ns->level()) == wanted.size()) break;
    if (!t.creds().HasIn(ns->user_ns(), Capability::kCheckpointRestore) &&
        !t.creds().HasIn(ns->user_ns(), Capability::kSysAdmin)) {
      return Errno(EPERM);
    }
  }
  TaskSet& set = t.kernel().tasks();
  MutexLock lock(set.mu);
  TRY(set.AllocatePid(pid_ns, wanted));
  return {};
}

}  // namespace

Result<Ref<const Credentials>> CredentialsInNewUserNamespace(Task& t) {
  // Whoever is in a chroot could get out of it with the new capabilities.
  if (!(t.fs().root() == t.mounts().TopRoot())) return Errno(EPERM);
  Ref<UserNamespace> ns = TRY(UserNamespace::Create(t.creds()));
  Ref<Credentials> c = t.creds().Copy();
  c->EnterUserNamespace(std::move(ns));
  return Ref<const Credentials>(std::move(c));
}

Result<Ref<const Pid>> Task::Clone(const CloneArgs& args) {
  const uint64_t flags = args.flags;
  TRY(CheckFlags(*this, flags));
  const bool thread = (flags & CLONE_THREAD) != 0;

  // Parts that may fail, before the child has a name.
  RefPtr<MemoryManager> mm = mm_;
  if ((flags & CLONE_VM) == 0) {
    context_->BeforeSleep();  // a fork takes longer than a spin that pays
    mm = TRY(mm_->Fork());
  }
  std::unique_ptr<Context> context =
      TRY(kernel_.platform().NewContext(mm->address_space(), context_.get()));

  RefPtr<ThreadGroup> tg = tg_;
  if (!thread) {
    Ref<SignalActions> actions = (flags & CLONE_SIGHAND) != 0
                                     ? Ref<SignalActions>(tg_->actions())
                                     : tg_->actions().Copy();
    if ((flags & kCloneClearSighand) != 0) actions->Reset(false);
    tg = MakeRef<ThreadGroup>(kernel_, std::move(actions));
    const Rlimits limits = tg_->rlimits.With([](const Rlimits& r) { return r; });
    tg->rlimits.With([&](Rlimits& r) { r = limits; });
    tg->exit_signal = args.exit_signal;
    tg->oom_score_adj = tg_->oom_score_adj.load();
    tg->coredump_filter = tg_->coredump_filter.load();
    tg->start_time_ns = BootTimeNow();
  }

  Ref<Task> child = Ref<Task>::Adopt(new Task(kernel_, Ref<ThreadGroup>(tg), 0));
  child->mm_ = mm;
  mm->users.fetch_add(1);
  child->fds_ = (flags & CLONE_FILES) != 0 ? fds_ : RefPtr<FdTable>(fds_->Fork());
  child->fs_ = (flags & CLONE_FS) != 0 ? fs_ : RefPtr<FsContext>(fs_->Copy());
  if ((flags & CLONE_SYSVSEM) != 0) {
    SemUndo();
    child->sem_undo_ = sem_undo_;
  }
  child->creds_ = creds_;
  if ((flags & CLONE_NEWUSER) != 0) {
    child->creds_ = TRY(CredentialsInNewUserNamespace(*this));
  }
  child->ns_ = TRY(ns_.Copy(kernel_, flags, *child->creds_, *child->fs_));
  child->set_comm(comm());
  child->start_time_ns = BootTimeNow();
  child->InheritSettings(*this);
  if ((flags & CLONE_VM) == 0 || (flags & CLONE_VFORK) != 0) child->alt_stack = alt_stack;
  if ((flags & CLONE_CHILD_CLEARTID) != 0) child->clear_child_tid = args.child_tid;

  abi::Registers& r = context->regs();
  r = context_->regs();
  r.rax = 0;
  r.orig_rax = ~uint64_t{0};
  if (!args.stack.IsNull()) r.rsp = args.stack.value();
  if ((flags & CLONE_SETTLS) != 0) r.fs_base = args.tls;
  context->RegsChanged();
  context->set_signal_mask(signal_mask());
  if ((flags & CLONE_VM) == 0) InheritRseq(*child, *context, *this);
  child->context_ = std::move(context);

  // Numbers that cannot be had are refused before a pidfd is told of, and that before a cgroup.
  if (!args.set_tid.empty()) TRY(CheckWantedNumbers(*this, *child->ns_.pid_for_children, args.set_tid));
  std::optional<FdReservation> pidfd_slot;
  if ((flags & CLONE_PIDFD) != 0) {
    FdReservation slot = TRY(fds_->Reserve(0, tg_->limit(RLIMIT_NOFILE)));
    pidfd_slot.emplace(std::move(slot));
    const int32_t fd = pidfd_slot->fd();
    TRY(CopyOut(args.pidfd, std::as_bytes(std::span(&fd, 1))));
  }
  // No descriptor is of a cgroup's directory.
  if ((flags & kCloneIntoCgroup) != 0) return Errno(EBADF);
  const uint64_t process_limit = tg_->limit(RLIMIT_NPROC);
  RefPtr<const Pid> numbers;
  const int event = TraceEventOf(*this, args);

  {
    TaskSet& set = kernel_.tasks();
    MutexLock lock(set.mu);
    if (process_limit != ~uint64_t{0} && creds_->ruid != 0 &&
        set.TasksOfUserLocked(creds_->ruid) >= process_limit &&
        !creds_->Has(Capability::kSysResource) && !creds_->Has(Capability::kSysAdmin)) {
      return Errno(EAGAIN);
    }
    PidNamespace& pid_ns = *child->ns_.pid_for_children;
    Ref<const Pid> pid = TRY(set.AllocatePid(pid_ns, args.set_tid));
    numbers = pid;
    child->pid_ = pid;
    child->tid_ = pid->first();
    MutexLock siglock(tg_->siglock);
    // A process that is on its way out makes no more threads.
    if (tg_->group_exit || dying_) return Errno(kErestartNoIntr);
    set.AddTaskLocked(*pid, *child);
    InheritRareSettings(*this, *child);
    child->seccomp.chain = seccomp.chain;
    child->seccomp.mode.store(seccomp.mode.load());
    set.live++;
    if (thread) {
      tg_->threads.push_back(child.get());
      child->NoteSignalsPendingLocked();
      // It joins a stop that has begun.
      if ((jobctl_ & kJobStopPending) != 0) {
        if (child->SetJobPendingLocked(kJobStopPending | kJobStopConsume, jobctl_signo_)) {
          tg_->group_stop_count++;
        }
      }
    } else {
      tg->pid = pid;
      tg->tgid_ = child->tid_;
      if (pid_ns.level() != 0 && !pid_ns.had_init) {
        pid_ns.init = tg.get();
        pid_ns.had_init = true;
      }
      tg->leader = child.get();
      child->AddRef();  // the leader stays until the process is reaped
      tg->threads.push_back(child.get());
      tg->pgrp = tg_->pgrp;
      tg->terminal = tg_->terminal;
      tg->pgrp->members.push_back(tg.get());
      ThreadGroup* parent = tg_.get();
      if ((flags & CLONE_PARENT) != 0) {
        parent = tg_->parent;
        tg->exit_signal = tg_->exit_signal;
      }
      tg->parent = parent;
      tg->parent_tid = tid_;
      if (parent != nullptr) {
        parent->children.push_back(Ref<ThreadGroup>(tg));
      } else {
        tg->self_owned = true;
        tg->AddRef();  // until it ends
      }
    }
    if (event != 0 || (flags & CLONE_PTRACE) != 0) Ptrace::InheritLocked(*this, *child);
  }

  const Ref<const Pid> pid(numbers);
  int32_t tid = pid->In(pid_ns());
  if ((flags & CLONE_PARENT_SETTID) != 0) {
    Result<void> ignored = CopyOut(args.parent_tid, std::as_bytes(std::span(&tid, 1)));
    static_cast<void>(ignored);
  }
  if ((flags & CLONE_CHILD_SETTID) != 0) {
    tid = pid->own();
    Result<void> ignored = mm->CopyOut(args.child_tid, std::as_bytes(std::span(&tid, 1)));
    static_cast<void>(ignored);
  }
  if (pidfd_slot) pidfd_slot->Commit(NewPidFd(*tg, 0), true);

  if (!thread && tg->limit(RLIMIT_CPU) != ~uint64_t{0}) ProcessTimers::Of(*tg)->LimitCpu();

  if ((flags & CLONE_VFORK) == 0) {
    child->StartThread();
    if (event != 0) TraceEvent(event, TracerView(*pid));
    return pid;
  }
  child->vfork_parent_ = RefPtr<Task>(this);
  child->StartThread();
  if (event != 0) TraceEvent(event, TracerView(*pid));
  state_.store('D');
  while (!child->vfork_done_.load(std::memory_order_acquire)) {
    // Only SIGKILL ends this wait; others are kept.
    {
      MutexLock lock(tg_->siglock);
      if (dying_ || tg_->group_exit || pending_.Has(SIGKILL) || tg_->pending.Has(SIGKILL)) break;
    }
    SleepUninterrupted();
  }
  state_.store('R');
  if (child->vfork_done_ && TraceEventEnabled(PTRACE_EVENT_VFORK_DONE)) {
    TraceEvent(PTRACE_EVENT_VFORK_DONE, TracerView(*pid));
  }
  return pid;
}

}  // namespace ringwall
