// The end of tasks and processes (kernel/exit.c).
#include <linux/ptrace.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include <algorithm>

#include "sentry/base/log.h"
#include "sentry/kernel/file_async.h"
#include "sentry/kernel/late_wakes.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/rare_settings.h"
#include "sentry/kernel/task_futex.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/task_life.h"
#include "sentry/kernel/task_rseq.h"

namespace ringwall {

namespace {
constexpr uint64_t kIgn = 1;
}

int ParentPidLocked(const ThreadGroup& tg) {
  if (tg.parent != nullptr) return tg.parent->tgid_;
  if (tg.from_outside) return 0;
  return tg.kernel().init() == &tg ? 0 : 1;
}

int ParentPidLocked(const ThreadGroup& tg, const PidNamespace& ns) {
  if (tg.parent != nullptr) return tg.parent->pid->In(ns);
  if (ns.level() != 0) return 0;
  return ParentPidLocked(tg);
}

bool IsOrphanedLocked(const ThreadGroup& tg) {
  for (const ThreadGroup* member : tg.pgrp->members) {
    if (member->dead || member->parent == nullptr) continue;
    const ProcessGroup* of_parent = member->parent->pgrp.get();
    if (of_parent != tg.pgrp.get() && of_parent->session == tg.pgrp->session) return false;
  }
  return true;
}

void Task::ExitThread(int status) {
  exiting_ = true;
  exit_status_ = (status & 0xff) << 8;
  KeepRegisters();
}

void Task::KillGroupLocked(int status) {
  if (!tg_->group_exit) {
    tg_->group_exit = true;
    tg_->group_exit_status = status;
    tg_->group_stop_count = 0;
    tg_->stop_flags &= ~(kGroupStopped | kGroupContinued);  // nobody is told of either any more
  }
  for (Task* t : tg_->threads) {
    t->kill_pending_ = true;
    t->interrupted_.store(true);
    if (t != Current()) t->KickToEnd();
  }
}

void Task::ExitGroup(int status) {
  MutexLock lock(tg_->siglock);
  // One that is being killed already has its status.
  if (!tg_->group_exit) KillGroupLocked(status);
  kill_pending_ = false;
  exiting_ = true;
  exit_status_ = tg_->group_exit_status;
  KeepRegisters();
}

void Task::DieBySignal(int signo) {
  exiting_ = true;
  exit_status_ = signo;
  KeepRegisters();
}

// keeps_stub: another program goes on in it, and its counters with it.
void Task::ReleaseMm(bool keeps_stub) {
  RefPtr<MemoryManager> mm;
  std::unique_ptr<Context> context;
  uint64_t user = 0, system = 0;
  if (context_ != nullptr) context_->CpuTime(&user, &system);
  // The last one that uses the memory keeps its counters.
  Rusage counters;
  const bool last = mm_ && mm_->users.fetch_sub(1) == 1;
  if (last && !keeps_stub) counters = MemoryRusage();
  // Those who stay need not have the descriptors that this task's views were made by.
  if (mm_ && !last) mm_->address_space().DropViews(nullptr);
  {
    MutexLock lock(mu_);
    final_rusage_.Add(counters);
    mm = std::move(mm_);
    context = std::move(context_);
    final_rusage_.utime_ns += user;
    final_rusage_.stime_ns += system;
  }
  context.reset();
  // Here and now, not once those who look at it are done: the next waitpid must find its segments detached.
  if (last) mm->LetGo();
  mm.reset();
  if (RefPtr<Task> parent = std::move(vfork_parent_)) {
    vfork_done_.store(true, std::memory_order_release);
    parent->Wake();
  }
}

void Task::DoExit() {
  exiting_ = true;
  state_.store('R');
  TaskLife::JoinCoreDump(*this);
  if (Current() == this && context_ != nullptr) TraceEvent(PTRACE_EVENT_EXIT, static_cast<uint64_t>(exit_status_));
  if (mm_ && context_ != nullptr) {
    if (Current() == this) context_->BeforeSleep();  // no answer comes any more
    LeaveRseq(*this);
    ExitFutexes(*this);
    if (!clear_child_tid.IsNull() && mm_->ref_count_for_test() > 1) {
      const int32_t zero = 0;
      if (mm_->CopyOut(clear_child_tid, std::as_bytes(std::span(&zero, 1))).ok()) {
        WakeClearedTid(*this, clear_child_tid);
      }
    }
  }
  ReleaseMm();
  sem_undo_.reset();
  RefPtr<FdTable> fds;
  RefPtr<FsContext> fs;
  {
    MutexLock lock(mu_);
    fds = std::move(fds_);
    fs = std::move(fs_);
  }
  if (fds && fds->ref_count_for_test() == 1) {
    for (Ref<File>& f : fds->RemoveRange(0, ~uint32_t{0})) CloseFile(*this, std::move(f), *fds);
  }
  fds.reset();
  fs.reset();
  // A zombie has no namespaces but its pid's and its user's; the last of one goes with locks of its own.
  set_nsproxy({});
  SendPendingAsync();
  FinishExit();
}

// The end of a pid namespace's init ends the namespace: all in it are killed, and init is gone only
// after them (zap_pid_ns_processes). Whether there are any left to wait for.
bool Task::WaitsForPidNamespaceLocked() NO_THREAD_SAFETY_ANALYSIS {
  PidNamespace& ns = pid_ns();
  if (ns.level() == 0 || ns.init != tg_.get()) return false;
  {
    MutexLock siglock(tg_->siglock);
    if (tg_->threads.size() != 1) return false;  // the last thread does it
  }
  if (!ns.dead) {
    ns.dead = true;
    // What dies from now on reaps itself.
    abi::SigAction ignore;
    ignore.handler = kIgn;
    tg_->actions().Exchange(SIGCHLD, ignore);
    for (const auto& [tid, task] : ns.tasks) {
      if (&task->tg() == tg_.get()) continue;
      Result<void> ignored = SendSignalToGroup(task->tg(), MakeSigInfo(SIGKILL, kFromOutside));
      static_cast<void>(ignored);
    }
  }
  TaskLife::ReapZombiesOf(*tg_);
  return std::any_of(ns.tasks.begin(), ns.tasks.end(),
                     [&](const auto& entry) { return &entry.second->tg() != tg_.get(); });
}

void Task::FinishExit() {
  RefPtr<ThreadGroup> keep(tg_);
  for (;;) {
    {
      const LateWakes late;
      MutexLock lock(kernel_.tasks().mu);
      // First, or an init would wait for the dead that only it, their tracer, could bury.
      Ptrace::TracerExitsLocked(*this);
      if (!WaitsForPidNamespaceLocked()) {
        if (!LeaveGroupLocked()) return;
        break;
      }
    }
    SleepUninterrupted();
  }
  ProcessTimers::ProcessEnds(*keep);
}

// True when it was the process's last thread.
bool Task::LeaveGroupLocked() NO_THREAD_SAFETY_ANALYSIS {
  TaskSet& set = kernel_.tasks();
  ThreadGroup& tg = *tg_;
  bool group_done = false, stopped = false;
  {
    MutexLock siglock(tg.siglock);
    tg.threads.remove(this);
    if ((jobctl_ & kJobStopPending) != 0) stopped = TakePartInStopLocked() && !tg.threads.empty();
    jobctl_ = 0;
    group_done = tg.threads.empty();
    // The last one's own status is the process's, unless all were told to end.
    if (group_done && !tg.group_exit) {
      tg.group_exit = true;
      tg.group_exit_status = exit_status_;
    }
    if (tg.exec_task != nullptr) tg.exec_task->Wake();
  }
  if (stopped) NotifyParentOfStopLocked(*this, false, CLD_STOPPED);
  tg.exited_threads.Add(OwnRusage());
  tg.exited_io.Add(io);
  state_.store('Z');
  exit_code = exit_status_;
  exit_state = ExitState::kZombie;
  if (!kernel_.IsBareInit(tg)) set.live--;
  if (tg.leader != this) {
    if (trace.tracer != nullptr) {
      tg.zombie_threads++;
      AddRef();  // until the tracer has waited for it
      TaskLife::TellTracerOfExit(*this);
    } else {
      exit_state = ExitState::kDead;
      ForgetRareSettings(*this);
      set.EraseTaskLocked(*pid_);
      TaskLife::WakeEndingInit(*pid_);
    }
  }
  tg.exit_queue.Notify(EPOLLIN);  // for pidfds of the thread
  if (group_done) TaskLife::GroupDied(tg);
  TaskLife::MaybeZombie(tg);
  if (set.live == 0) kernel_.group_exited_.SignalAll();
  return group_done;
}

ThreadGroup* TaskLife::NewParent(ThreadGroup& tg) {
  for (ThreadGroup* p = tg.parent; p != nullptr; p = p->parent) {
    if (&p->pid_ns() != &tg.pid_ns()) break;
    if (p->is_child_subreaper && !p->dead) return p;
  }
  ThreadGroup* init = tg.pid_ns().init;
  return init != nullptr && init != &tg && !init->dead ? init : nullptr;
}

std::vector<RefPtr<ProcessGroup>> TaskLife::GroupsHeldBy(const ThreadGroup& tg) {
  const auto links = [](const ThreadGroup& parent, const ThreadGroup& child) {
    return parent.pgrp && child.pgrp && parent.pgrp != child.pgrp &&
           parent.pgrp->session == child.pgrp->session;
  };
  std::vector<RefPtr<ProcessGroup>> groups;
  if (tg.parent != nullptr && links(*tg.parent, tg)) groups.push_back(tg.pgrp);
  for (const Ref<ThreadGroup>& c : tg.children) {
    if (links(tg, *c)) groups.push_back(c->pgrp);
  }
  const auto by_address = [](const auto& a, const auto& b) { return a.get() < b.get(); };
  std::sort(groups.begin(), groups.end(), by_address);
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  return groups;
}

void TaskLife::HangUpIfOrphaned(ProcessGroup& pg) {
  bool stopped = false;
  const ThreadGroup* member = nullptr;
  for (ThreadGroup* m : pg.members) {
    if (m->dead) continue;
    member = m;
    MutexLock lock(m->siglock);
    stopped |= (m->stop_flags & kGroupStopped) != 0;
  }
  if (!stopped || !IsOrphanedLocked(*member)) return;
  SendSignalToProcessGroupLocked(pg, MakeSigInfo(SIGHUP, SI_KERNEL));
  SendSignalToProcessGroupLocked(pg, MakeSigInfo(SIGCONT, SI_KERNEL));
}

void TaskLife::LeaveGroup(ThreadGroup& tg) {
  RefPtr<ProcessGroup> pg = tg.pgrp;
  if (!pg) return;
  TaskSet& set = tg.kernel().tasks();
  set.mu.AssertHeld();
  pg->members.remove(&tg);
  if (pg->members.empty()) set.EraseGroupLocked(*pg);
}

void TaskLife::GroupDied(ThreadGroup& tg) {
  tg.dead = true;
  // Children go to a subreaper or init; without one they reap themselves.
  ThreadGroup* heir = NewParent(tg);
  // Groups that had somebody to continue them only through `tg`. One that was an orphan before stays
  // as it is: a stopped job of a script is not hung up because the script's next command ends.
  const std::vector<RefPtr<ProcessGroup>> held = GroupsHeldBy(tg);
  std::list<Ref<ThreadGroup>> children = std::move(tg.children);
  tg.children.clear();
  for (Ref<ThreadGroup>& c : children) {
    c->parent = heir;
    if (c->leader != nullptr && c->leader->parent_death_signal != 0 && !c->zombie) {
      Result<void> ignored =
          SendSignalToGroup(*c, MakeSigInfo(c->leader->parent_death_signal, SI_USER));
      static_cast<void>(ignored);
    }
    if (heir != nullptr) {
      c->exit_signal = SIGCHLD;
      heir->children.push_back(c);
      if (c->zombie && c->leader->trace.tracer == nullptr && TellParent(*c)) {
        Reap(*c);
        continue;
      }
    } else if (c->zombie && c->leader->trace.tracer == nullptr) {
      Reap(*c);
    } else {
      c->self_owned = true;
      c->AddRef();  // until it ends
    }
    for (Task* t : c->threads) t->AnswersChanged();
  }
  for (const RefPtr<ProcessGroup>& pg : held) HangUpIfOrphaned(*pg);

  if (tg.pgrp && tg.pgrp->session->leader == &tg) {
    EndSessionLocked(tg.kernel(), *tg.pgrp->session);
  }
}

namespace {
// Under the TaskSet's lock.
std::vector<const ThreadGroup*>& Awaited() {
  static auto& groups = *new std::vector<const ThreadGroup*>;
  return groups;
}
}  // namespace

void TaskLife::AwaitFromOutside(const ThreadGroup& tg, bool waits) {
  std::vector<const ThreadGroup*>& groups = Awaited();
  if (waits) {
    groups.push_back(&tg);
  } else {
    groups.erase(std::find(groups.begin(), groups.end(), &tg));
  }
}

bool TaskLife::IsAwaitedFromOutside(const ThreadGroup& tg) {
  return std::find(Awaited().begin(), Awaited().end(), &tg) != Awaited().end();
}

void TaskLife::MaybeZombie(ThreadGroup& tg) {
  if (!tg.dead || tg.zombie || tg.zombie_threads != 0) return;
  tg.zombie = true;
  tg.exit_status = tg.group_exit_status;
  if (IsAwaitedFromOutside(tg)) tg.kernel().group_exited_.SignalAll();
  tg.exit_queue.Notify(EPOLLIN);
  Task* leader = tg.leader;
  leader->exit_code = tg.exit_status;
  if (leader->trace.tracer != nullptr && Ptrace::Reparented(*leader)) {
    TellTracerOfExit(*leader);
    return;
  }
  if (TellParent(tg)) Reap(tg);
}

void TaskLife::Tell(Task& t, ThreadGroup& to, int signo, int status) {
  // clone() takes any number up to 255; those that are no signals tell nobody.
  if (signo > 0 && signo <= abi::kSigMax) {
    const bool signaled = WIFSIGNALED(status);
    abi::SigInfo info = MakeSigInfo(
        signo, !signaled ? CLD_EXITED : WCOREDUMP(status) ? CLD_DUMPED : CLD_KILLED);
    info.SetPidUid(t.pid().In(to.pid_ns()), UidSeenBy(to, t.creds_ref()->ruid));
    constexpr int64_t kTickNs = 10'000'000;
    const Rusage& spent = t.tg().exited_threads;
    info.SetStatus(signaled ? WTERMSIG(status) : WEXITSTATUS(status),
                   static_cast<int64_t>(spent.utime_ns) / kTickNs,
                   static_cast<int64_t>(spent.stime_ns) / kTickNs);
    Result<void> ignored = SendSignalToGroup(to, info);
    static_cast<void>(ignored);
  }
  to.child_queue.Notify(EPOLLIN);
}

void TaskLife::TellTracerOfExit(Task& t) {
  Tell(t, t.trace.tracer->tg(), SIGCHLD, t.exit_code);
}

bool TaskLife::TellParent(ThreadGroup& tg) {
  ThreadGroup* parent = tg.parent;
  if (parent == nullptr) {
    tg.kernel().tasks().mu.AssertHeld();
    if (tg.kernel().init() == &tg) tg.kernel().InitExitedLocked();
    tg.child_queue.Notify(EPOLLIN | EPOLLHUP);
    return tg.self_owned;
  }
  // An init that is ending buries all its children, whatever they would have told.
  bool nobody = tg.leader->trace.tracer == nullptr && parent->pid_ns().dead && parent->pid_ns().init == parent;
  int signo = tg.exit_signal;
  if (tg.exit_signal == SIGCHLD && tg.leader->trace.tracer == nullptr) {
    const abi::SigAction a = parent->actions().Get(SIGCHLD);
    nobody |= a.handler == kIgn || (a.flags & static_cast<uint64_t>(SA_NOCLDWAIT)) != 0;
    // Not even queued where it is blocked.
    if (a.handler == kIgn) signo = 0;
  }
  Tell(*tg.leader, *parent, signo, tg.exit_status);
  return nobody;
}

void TaskLife::HandToParent(ThreadGroup& tg) {
  Ptrace::UnlinkLocked(*tg.leader);
  tg.leader->exit_state = ExitState::kZombie;
  if (TellParent(tg)) Reap(tg);
}

void TaskLife::DetachLocked(Task& t) {
  ThreadGroup& tg = t.tg();
  const bool reparented = Ptrace::Reparented(t);
  Ptrace::UnlinkLocked(t);
  if (t.exit_state != ExitState::kZombie) return;
  if (&t != tg.leader) {
    ReapThread(t);
  } else if (tg.zombie) {
    if (reparented || tg.parent == nullptr) {
      if (TellParent(tg)) Reap(tg);
    } else {
      const abi::SigAction a = tg.parent->actions().Get(SIGCHLD);
      if (a.handler == kIgn || (a.flags & static_cast<uint64_t>(SA_NOCLDWAIT)) != 0) Reap(tg);
    }
  }
}

void TaskLife::ReapThread(Task& t) {
  RefPtr<ThreadGroup> keep(&t.tg());
  Ptrace::UnlinkLocked(t);
  t.exit_state = ExitState::kDead;
  ForgetRareSettings(t);
  TaskSet& set = t.kernel().tasks();
  set.mu.AssertHeld();
  set.EraseTaskLocked(t.pid());
  WakeEndingInit(t.pid());
  keep->zombie_threads--;
  if (Task* exec = keep->exec_task; exec != nullptr) exec->Wake();
  t.Release();
  MaybeZombie(*keep);
}

void TaskLife::ReapZombiesOf(ThreadGroup& tg) {
  for (auto it = tg.children.begin(); it != tg.children.end();) {
    Ref<ThreadGroup> child = *it++;
    if (child->zombie && child->leader->trace.tracer == nullptr) Reap(*child);
  }
}

void TaskLife::WakeEndingInit(const Pid& pid) {
  pid.ForEach([](PidNamespace& ns, int) {
    if (!ns.dead || ns.init == nullptr) return;
    for (Task* t : ns.init->threads) t->Wake();
  });
}

void TaskLife::Reap(ThreadGroup& tg, bool waited) {
  RefPtr<ThreadGroup> keep(&tg);
  LeaveGroup(tg);
  TaskSet& set = tg.kernel().tasks();
  set.mu.AssertHeld();
  set.EraseTaskLocked(*tg.pid);
  if (tg.pid_ns().init == &tg) tg.pid_ns().init = nullptr;
  WakeEndingInit(*tg.pid);
  if (tg.leader != nullptr) {
    Ptrace::UnlinkLocked(*tg.leader);
    tg.leader->exit_state = ExitState::kDead;
    ForgetRareSettings(*tg.leader);
  }
  ForgetRareSettings(tg);
  Task* leader = std::exchange(tg.leader, nullptr);
  if (tg.parent != nullptr) {
    if (waited) {
      Rusage& sum = tg.parent->waited_children;
      sum.Add(tg.exited_threads);
      sum.Add(tg.waited_children);
    }
    tg.parent->children.remove_if([&](const Ref<ThreadGroup>& c) { return c.get() == &tg; });
    tg.parent = nullptr;
  } else if (tg.self_owned) {
    tg.Release();
  }
  if (leader != nullptr) leader->Release();
}

}  // namespace ringwall
