// The end of tasks and processes (kernel/exit.c).
#include <sys/epoll.h>
#include <sys/wait.h>

#include <algorithm>

#include "sentry/base/log.h"
#include "sentry/kernel/file_async.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/task_futex.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {
constexpr uint64_t kIgn = 1;
}

// The parts of exit that change the links of several processes. TaskSet's lock held throughout.
class TaskLife {
 public:
  // The process has ended: hand its children on, tell its parent, or be gone at once.
  static void GroupExited(ThreadGroup& tg);
  // `waited`: by a parent, whose children's times then grow by this one's.
  static void Reap(ThreadGroup& tg, bool waited);
  static void ReapZombiesOf(ThreadGroup& tg);
  // Tells inits that wait for the last task of their namespaces that one with these numbers is gone.
  static void WakeEndingInit(const Pid& pid);

 private:
  static ThreadGroup* NewParent(ThreadGroup& tg);
  static void HangUpOrphanedGroups(ThreadGroup& tg);
  static void LeaveGroup(ThreadGroup& tg);
};

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
    if (member->zombie || member->parent == nullptr) continue;
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

void Task::ExitGroup(int status) {
  MutexLock lock(tg_->siglock);
  if (!tg_->group_exit) {
    tg_->group_exit = true;
    tg_->group_exit_status = status;
    for (Task* t : tg_->threads) {
      if (t == this) continue;
      t->interrupted_.store(true);
      t->Kick();
    }
  }
  exiting_ = true;
  exit_status_ = tg_->group_exit_status;
  KeepRegisters();
}

void Task::ReleaseMm() {
  RefPtr<MemoryManager> mm;
  std::unique_ptr<Context> context;
  uint64_t user = 0, system = 0;
  if (context_ != nullptr) context_->CpuTime(&user, &system);
  // The last one that uses the memory keeps its counters.
  Rusage counters;
  if (mm_ && mm_->users.fetch_sub(1) == 1) counters = MemoryRusage();
  {
    MutexLock lock(mu_);
    final_rusage_.Add(counters);
    mm = std::move(mm_);
    context = std::move(context_);
    final_rusage_.utime_ns += user;
    final_rusage_.stime_ns += system;
  }
  context.reset();
  mm.reset();
  if (RefPtr<Task> parent = std::move(vfork_parent_)) {
    vfork_done_.store(true, std::memory_order_release);
    parent->Wake();
  }
}

void Task::DoExit() {
  exiting_ = true;
  state_.store('R');
  if (mm_ && context_ != nullptr) {
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
      MutexLock lock(kernel_.tasks().mu);
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
  bool group_done = false;
  {
    MutexLock siglock(tg.siglock);
    tg.threads.remove(this);
    if (stop_counted_) {
      stop_counted_ = false;
      if (--tg.stop_count == 0 && tg.stop_state == StopState::kStopping && !tg.threads.empty()) {
        tg.stop_state = StopState::kStopped;
      }
    }
    group_done = tg.threads.empty();
    if (group_done) tg.exit_status = tg.group_exit ? tg.group_exit_status : exit_status_;
    if (tg.exec_task != nullptr) tg.exec_task->Wake();
  }
  tg.exited_threads.Add(OwnRusage());
  tg.exited_io.Add(io);
  state_.store('Z');
  set.live--;
  if (tg.leader != this) {
    set.EraseTaskLocked(*pid_);
    TaskLife::WakeEndingInit(*pid_);
  }
  if (group_done) TaskLife::GroupExited(tg);
  if (group_done || set.live == 0) kernel_.group_exited_.SignalAll();
  return group_done;
}

ThreadGroup* TaskLife::NewParent(ThreadGroup& tg) {
  for (ThreadGroup* p = tg.parent; p != nullptr; p = p->parent) {
    if (&p->pid_ns() != &tg.pid_ns()) break;
    if (p->is_child_subreaper && !p->zombie) return p;
  }
  ThreadGroup* init = tg.pid_ns().init;
  return init != nullptr && init != &tg && !init->zombie ? init : nullptr;
}

void TaskLife::HangUpOrphanedGroups(ThreadGroup& tg) {
  // A stopped group that this exit leaves without anyone to continue it gets SIGHUP and SIGCONT.
  std::vector<ProcessGroup*> groups;
  for (const Ref<ThreadGroup>& c : tg.children) groups.push_back(c->pgrp.get());
  groups.push_back(tg.pgrp.get());
  std::sort(groups.begin(), groups.end());
  groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
  for (ProcessGroup* pg : groups) {
    bool stopped = false, any = false;
    const ThreadGroup* member = nullptr;
    for (ThreadGroup* m : pg->members) {
      if (m == &tg || m->zombie) continue;
      any = true;
      member = m;
      MutexLock lock(m->siglock);
      stopped |= m->stop_state == StopState::kStopped;
    }
    if (!any || !stopped || !IsOrphanedLocked(*member)) continue;
    SendSignalToProcessGroupLocked(*pg, MakeSigInfo(SIGHUP, SI_KERNEL));
    SendSignalToProcessGroupLocked(*pg, MakeSigInfo(SIGCONT, SI_KERNEL));
  }
}

void TaskLife::LeaveGroup(ThreadGroup& tg) {
  RefPtr<ProcessGroup> pg = tg.pgrp;
  if (!pg) return;
  pg->members.remove(&tg);
  if (pg->members.empty()) tg.kernel().tasks().EraseGroupLocked(*pg);
}

void TaskLife::GroupExited(ThreadGroup& tg) {
  tg.zombie = true;
  // Children go to a subreaper or init; without one they reap themselves.
  ThreadGroup* heir = NewParent(tg);
  HangUpOrphanedGroups(tg);
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
      if (c->zombie) heir->child_queue.Notify(EPOLLIN);
    } else if (c->zombie) {
      Reap(*c, false);
    } else {
      c->self_owned = true;
      c->AddRef();  // until it ends
    }
    for (Task* t : c->threads) t->AnswersChanged();
  }

  if (tg.pgrp && tg.pgrp->session->leader == &tg) {
    Session& session = *tg.pgrp->session;
    session.leader = nullptr;
    if (session.tty) HangUpSessionLocked(tg.kernel(), session);
  }

  tg.exit_queue.Notify(EPOLLIN);
  ThreadGroup* parent = tg.parent;
  if (parent == nullptr) {
    if (tg.kernel().init() == &tg) tg.kernel().InitExitedLocked();
    tg.child_queue.Notify(EPOLLIN | EPOLLHUP);
    if (tg.self_owned) Reap(tg, false);
    return;
  }
  bool reap_now = false;
  if (tg.exit_signal == SIGCHLD) {
    const abi::SigAction a = parent->actions().Get(SIGCHLD);
    reap_now = a.handler == kIgn || (a.flags & static_cast<uint64_t>(SA_NOCLDWAIT)) != 0;
  }
  if (tg.exit_signal != 0) {
    const bool signaled = WIFSIGNALED(tg.exit_status);
    abi::SigInfo info = MakeSigInfo(
        tg.exit_signal, !signaled ? CLD_EXITED : WCOREDUMP(tg.exit_status) ? CLD_DUMPED : CLD_KILLED);
    info.SetPidUid(tg.pid->In(parent->pid_ns()), UidSeenBy(*parent, tg.leader->creds_ref()->ruid));
    constexpr int64_t kTickNs = 10'000'000;
    info.SetStatus(signaled ? WTERMSIG(tg.exit_status) : WEXITSTATUS(tg.exit_status),
                   static_cast<int64_t>(tg.exited_threads.utime_ns) / kTickNs,
                   static_cast<int64_t>(tg.exited_threads.stime_ns) / kTickNs);
    Result<void> ignored = SendSignalToGroup(*parent, info);
    static_cast<void>(ignored);
  }
  if (reap_now) Reap(tg, false);
  parent->child_queue.Notify(EPOLLIN);
}

void TaskLife::ReapZombiesOf(ThreadGroup& tg) {
  for (auto it = tg.children.begin(); it != tg.children.end();) {
    Ref<ThreadGroup> child = *it++;
    if (child->zombie) Reap(*child, false);
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
  tg.kernel().tasks().EraseTaskLocked(*tg.pid);
  if (tg.pid_ns().init == &tg) tg.pid_ns().init = nullptr;
  WakeEndingInit(*tg.pid);
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

namespace {

bool Matches(const ThreadGroup& child, const Task& waiter, const WaitArgs& args) {
  switch (args.which) {
    case WaitArgs::Which::kAny:
      break;
    case WaitArgs::Which::kPid:
    case WaitArgs::Which::kPidfd:
      if (child.pid->In(waiter.pid_ns()) != args.id) return false;
      break;
    case WaitArgs::Which::kPgrp:
      if (child.pgrp->pid->In(waiter.pid_ns()) != args.id) return false;
      break;
  }
  if ((args.options & __WNOTHREAD) != 0 && child.parent_tid != waiter.tid()) return false;
  if ((args.options & __WALL) != 0) return true;
  const bool is_clone = child.exit_signal != SIGCHLD;
  return is_clone == ((args.options & __WCLONE) != 0);
}

// What `child` has to tell, if anything. Reports are used up unless WNOWAIT.
std::optional<WaitResult> Report(const Task& waiter, ThreadGroup& child, int options) {
  WaitResult r;
  r.pid = child.pid->In(waiter.pid_ns());
  r.uid = waiter.creds().user_ns().ShowUid(child.leader != nullptr ? child.leader->creds_ref()->ruid
                                                                   : 0);
  r.rusage = child.exited_threads;
  r.rusage.Add(child.waited_children);
  const bool keep = (options & WNOWAIT) != 0;
  if (child.zombie) {
    if ((options & WEXITED) == 0) return std::nullopt;
    const bool signaled = WIFSIGNALED(child.exit_status);
    r.status = child.exit_status;
    r.code = !signaled ? CLD_EXITED : WCOREDUMP(child.exit_status) ? CLD_DUMPED : CLD_KILLED;
    r.child_status = signaled ? WTERMSIG(child.exit_status) : WEXITSTATUS(child.exit_status);
    if (!keep) TaskLife::Reap(child, true);
    return r;
  }
  if ((options & WSTOPPED) != 0 && !child.stop_reported) {
    if (!keep) child.stop_reported = true;
    r.status = (child.stop_signo << 8) | 0x7f;
    r.code = CLD_STOPPED;
    r.child_status = child.stop_signo;
    return r;
  }
  if ((options & WCONTINUED) != 0 && !child.continue_reported) {
    if (!keep) child.continue_reported = true;
    r.status = 0xffff;
    r.code = CLD_CONTINUED;
    r.child_status = SIGCONT;
    return r;
  }
  return std::nullopt;
}

}  // namespace

Result<WaitResult> WaitForChild(Task& t, const WaitArgs& args) {
  ThreadGroup& tg = t.tg();
  const auto look = [&]() -> Result<WaitResult> {
    MutexLock lock(t.kernel().tasks().mu);
    bool any = false;
    for (auto it = tg.children.begin(); it != tg.children.end();) {
      Ref<ThreadGroup> child = *it++;
      if (!Matches(*child, t, args)) continue;
      any = true;
      if (std::optional<WaitResult> r = Report(t, *child, args.options)) return *r;
    }
    if (!any) return Errno(ECHILD);
    if ((args.options & WNOHANG) != 0) return WaitResult{};
    return Errno(EAGAIN);
  };
  Result<WaitResult> result = t.Retry(&tg.child_queue, EPOLLIN, kNoDeadline, look);
  if (!result.ok() && result.error().Is(kErestartSys)) {
    // What a child has to say wins over its own SIGCHLD.
    Result<WaitResult> last = look();
    if (last.ok() || !last.error().Is(EAGAIN)) return last;
  }
  return result;
}

}  // namespace ringwall
