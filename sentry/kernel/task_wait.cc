// wait4 and waitid (kernel/exit.c:do_wait): children, and what their tracer waits for.
#include <sys/epoll.h>
#include <sys/wait.h>

#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/task_life.h"

namespace ringwall {

namespace {

// One look at everything that may be waited for. TaskSet's lock held.
class WaitLook {
 public:
  WaitLook(Task& waiter, const WaitArgs& args) : waiter_(waiter), args_(args) {}

  // A report, or ECHILD, EAGAIN (nothing yet).
  Result<WaitResult> Look() {
    ThreadGroup& tg = waiter_.tg();
    const bool own_only = (args_.options & __WNOTHREAD) != 0;
    for (auto it = tg.children.begin(); it != tg.children.end();) {
      Ref<ThreadGroup> child = *it++;
      if (child->leader == nullptr) continue;
      if (own_only && child->parent_tid != waiter_.tid()) continue;
      if (Consider(*child->leader, false)) return std::move(result_);
    }
    for (Task* thread : tg.threads) {
      if (own_only && thread != &waiter_) continue;
      const std::list<Task*> tracees = thread->trace.tracees;
      for (Task* tracee : tracees) {
        if (Consider(*tracee, true)) return std::move(result_);
      }
    }
    if (!any_) return Errno(ECHILD);
    if ((args_.options & WNOHANG) != 0) return WaitResult{};
    return Errno(EAGAIN);
  }

 private:
  bool Matches(const Task& t, bool tracing) const {
    const ThreadGroup& tg = t.tg();
    switch (args_.which) {
      case WaitArgs::Which::kAny:
        break;
      case WaitArgs::Which::kPid:
      case WaitArgs::Which::kPidfd:
        if (t.pid().In(waiter_.pid_ns()) != args_.id) return false;
        break;
      case WaitArgs::Which::kPgrp:
        if (tg.pgrp->pid->In(waiter_.pid_ns()) != args_.id) return false;
        break;
    }
    if (tracing || (args_.options & __WALL) != 0) return true;
    return (tg.exit_signal != SIGCHLD) == ((args_.options & __WCLONE) != 0);
  }

  // True: result_ is the answer.
  bool Consider(Task& t, bool tracing) {
    if (t.exit_state == ExitState::kDead || !Matches(t, tracing)) return false;
    ThreadGroup& tg = t.tg();
    if (t.exit_state == ExitState::kTraceSeen) {
      any_ |= !tracing;
      return false;
    }
    // A parent that traces its own child sees it as its tracer.
    const bool traced = t.trace.tracer != nullptr;
    if (!tracing && traced && !Ptrace::Reparented(t)) tracing = true;
    if (t.exit_state == ExitState::kZombie) {
      const bool waits_for_others = &t == tg.leader && !tg.zombie;
      if (!waits_for_others && (tracing || !traced)) {
        // Nothing else can come of it: who does not ask for ends has no child here.
        if ((args_.options & WEXITED) == 0) return false;
        Exited(t, tracing);
        return true;
      }
      any_ |= !tracing || (args_.options & (WCONTINUED | WEXITED)) != 0;
    } else {
      any_ = true;
    }
    return Stopped(t, tracing) || Continued(t);
  }

  void Describe(Task& t) {
    result_ = WaitResult{};
    result_.pid = t.pid().In(waiter_.pid_ns());
    result_.uid = waiter_.creds().user_ns().ShowUid(t.creds_ref()->ruid);
    const ThreadGroup& tg = t.tg();
    if (&t == tg.leader) {
      result_.rusage = tg.exited_threads;
      result_.rusage.Add(tg.waited_children);
    } else {
      result_.rusage = t.OwnRusage();
    }
  }

  void Exited(Task& t, bool tracing) {
    Describe(t);
    ThreadGroup& tg = t.tg();
    int status = t.exit_code;
    {
      MutexLock lock(tg.siglock);
      if (tg.group_exit) status = tg.group_exit_status;
    }
    const bool signaled = WIFSIGNALED(status);
    result_.status = status;
    result_.code = !signaled ? CLD_EXITED : WCOREDUMP(status) ? CLD_DUMPED : CLD_KILLED;
    result_.child_status = signaled ? WTERMSIG(status) : WEXITSTATUS(status);
    if ((args_.options & WNOWAIT) != 0) return;
    if (&t != tg.leader) {
      TaskLife::ReapThread(t);
    } else if (tracing && Ptrace::Reparented(t)) {
      TaskLife::HandToParent(tg);
    } else {
      TaskLife::Reap(tg, true);
    }
  }

  bool Stopped(Task& t, bool tracing) {
    // A tracer sees stops whatever it asks for.
    if (!tracing && (args_.options & WSTOPPED) == 0) return false;
    int status;
    if (!Ptrace::TakeStop(t, tracing, (args_.options & WNOWAIT) != 0, &status)) return false;
    Describe(t);
    result_.status = status << 8 | 0x7f;
    result_.code = tracing ? CLD_TRAPPED : CLD_STOPPED;
    result_.child_status = status;
    return true;
  }

  bool Continued(Task& t) {
    if ((args_.options & WCONTINUED) == 0) return false;
    ThreadGroup& tg = t.tg();
    {
      MutexLock lock(tg.siglock);
      if ((tg.stop_flags & kGroupContinued) == 0) return false;
      if ((args_.options & WNOWAIT) == 0) tg.stop_flags &= ~kGroupContinued;
    }
    Describe(t);
    result_.status = 0xffff;
    result_.code = CLD_CONTINUED;
    result_.child_status = SIGCONT;
    return true;
  }

  Task& waiter_;
  const WaitArgs& args_;
  bool any_ = false;
  WaitResult result_;
};

}  // namespace

Result<WaitResult> WaitForChild(Task& t, const WaitArgs& args) {
  const auto look = [&]() -> Result<WaitResult> {
    MutexLock lock(t.kernel().tasks().mu);
    return WaitLook(t, args).Look();
  };
  Result<WaitResult> found = t.Retry(&t.tg().child_queue, EPOLLIN, kNoDeadline, look);
  if (found.ok() || !found.error().Is(kErestartSys)) return found;
  // The signal may be the child's own: Linux looks at the children before it looks at signals.
  Result<WaitResult> last = look();
  return last.ok() || last.error().Is(ECHILD) ? std::move(last) : std::move(found);
}

}  // namespace ringwall
