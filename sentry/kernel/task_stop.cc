// Stops: of a whole process by job control, of one task for its tracer (kernel/signal.c:
// do_signal_stop, do_jobctl_trap, ptrace_stop). A traced task takes part in a group stop by stopping
// for its tracer. The task itself decides to stop, on its way back to guest code.
#include <linux/ptrace.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task.h"

namespace ringwall {

bool Task::SetJobPendingLocked(uint32_t bits, int signo) {
  if (kill_pending_ || exiting_) return false;
  if (signo != 0) jobctl_signo_ = signo;
  jobctl_ |= bits;
  interrupted_.store(true);
  return true;
}

// True when this was the last thread that a fresh group stop waited for.
bool Task::TakePartInStopLocked() {
  ThreadGroup& tg = *tg_;
  const bool counted = (jobctl_ & kJobStopConsume) != 0;
  jobctl_ &= ~(kJobStopPending | kJobStopConsume | kJobStopDequeued);
  if (!counted) return false;
  if (tg.group_stop_count > 0) tg.group_stop_count--;
  if (tg.group_stop_count != 0 || (tg.stop_flags & kGroupStopped) != 0) return false;
  tg.stop_flags = kGroupStopped;
  return true;
}

void Task::WakeFromTraceLocked(bool resume) {
  if (resume && (jobctl_ & kJobFrozen) == 0) jobctl_ &= ~kJobTraced;
  interrupted_.store(true);
  Kick();
}

void Task::TrapNotifyLocked() {
  if (!SetJobPendingLocked(kJobTrapNotify, 0)) return;
  WakeFromTraceLocked((jobctl_ & kJobListening) != 0);
}

// The first thread to take a stop signal starts a group stop; `signo` 0 joins one.
bool Task::DoSignalStop(int signo) {
  ThreadGroup& tg = *tg_;
  bool tell = false;
  {
    MutexLock lock(tg.siglock);
    if ((jobctl_ & kJobStopPending) == 0) {
      if (signo == 0 || (jobctl_ & kJobStopDequeued) == 0 || tg.group_exit ||
          tg.exec_task != nullptr) {
        return false;
      }
      // While traced, a second stop can begin before the first was continued: reported once.
      if ((tg.stop_flags & kGroupStopped) == 0) tg.group_stop_code = signo;
      tg.group_stop_count = 0;
      for (Task* t : tg.threads) {
        if (t != this && (t->jobctl_ & kJobStopped) != 0) continue;
        if (!t->SetJobPendingLocked(kJobStopPending | kJobStopConsume, signo)) continue;
        tg.group_stop_count++;
        if (t == this) continue;
        if (t->trace.seized) {
          t->TrapNotifyLocked();
        } else {
          t->Kick();
        }
      }
    }
    if (traced()) {
      SetJobPendingLocked(kJobTrapStop, 0);
      return false;
    }
    tell = TakePartInStopLocked();
    jobctl_ |= kJobStopped;
    state_.store('T');
  }
  if (tell) {
    MutexLock tasks(kernel_.tasks().mu);
    NotifyParentOfStopLocked(*this, false, CLD_STOPPED);
  }
  for (;;) {
    {
      MutexLock lock(tg.siglock);
      if (kill_pending_) jobctl_ &= ~kJobStopped;
      if ((jobctl_ & kJobStopped) == 0) {
        state_.store('R');
        RecalcInterruptedLocked();
        return true;
      }
    }
    SleepUninterrupted();
  }
}

// Stops for the tracer: PTRACE_INTERRUPT, a group stop, or to tell a seizing one of its end.
void Task::DoTrap() {
  int signo;
  {
    MutexLock lock(tg_->siglock);
    signo = jobctl_signo_;
    if (trace.seized && tg_->group_stop_count == 0 && (tg_->stop_flags & kGroupStopped) == 0) {
      signo = SIGTRAP;
    }
  }
  if (trace.seized) {
    TraceNotify(signo | PTRACE_EVENT_STOP << 8, CLD_STOPPED, 0);
  } else {
    TraceStop(signo, CLD_STOPPED, 0, nullptr);
  }
}

// Tells the parent of a continue (or of a stop that was continued before all had stopped).
void Task::TellOfContinue(uint32_t cld) {
  const int why = (cld & kGroupCldContinued) != 0 ? CLD_CONTINUED : CLD_STOPPED;
  MutexLock tasks(kernel_.tasks().mu);
  NotifyParentOfStopLocked(*this, false, why);
  Task* leader = tg_->leader;
  if (leader != nullptr && leader->trace.tracer != nullptr && Ptrace::Reparented(*leader)) {
    NotifyParentOfStopLocked(*leader, true, why);
  }
}

int Task::TraceStop(int code, int why, uint64_t message, abi::SigInfo* info) {
  bool group_stopped = false;
  context_->SettleWindow();
  {
    MutexLock lock(tg_->siglock);
    if (!traced() || kill_pending_) return code;
    trace.code = code;
    trace.info = info;
    trace.message = message;
    jobctl_ |= kJobTraced;
    state_.store('t');
    if (why == CLD_STOPPED && (jobctl_ & kJobStopPending) != 0) group_stopped = TakePartInStopLocked();
    jobctl_ &= ~(kJobTrapStop | kJobTrapping);
    if (info != nullptr && info->code >> 8 == PTRACE_EVENT_STOP) jobctl_ &= ~kJobTrapNotify;
  }
  {
    MutexLock tasks(kernel_.tasks().mu);
    if (trace.tracer != nullptr) {
      NotifyParentOfStopLocked(*this, true, why);
      trace.tracer->Wake();  // may wait for the end of kJobTrapping
    }
    if (group_stopped && (trace.tracer == nullptr || Ptrace::Reparented(*this))) {
      NotifyParentOfStopLocked(*this, false, why);
    }
  }
  for (;;) {
    TraceState::Request* request = nullptr;
    {
      MutexLock lock(tg_->siglock);
      request = trace.request;
      if (kill_pending_ && (jobctl_ & kJobFrozen) == 0) jobctl_ &= ~kJobTraced;
      if (request == nullptr && (jobctl_ & kJobTraced) == 0) {
        code = trace.code;
        trace.code = 0;
        trace.info = nullptr;
        trace.message = 0;
        jobctl_ &= ~(kJobListening | kJobFrozen);
        state_.store('R');
        RecalcInterruptedLocked();
        return code;
      }
    }
    if (request != nullptr) {
      request->work();
      RefPtr<Task> from = request->from;
      {
        MutexLock lock(tg_->siglock);
        trace.request = nullptr;
      }
      request->done.store(true, std::memory_order_release);  // and is gone
      from->Wake();
      continue;
    }
    SleepUninterrupted();
  }
}

int Task::TraceNotify(int code, int why, uint64_t message) {
  abi::SigInfo info = MakeSigInfo((code >> 8) == PTRACE_EVENT_STOP ? code & 0x7f : SIGTRAP, code);
  info.SetPidUid(vtid(), creds().user_ns().ShowUid(creds().ruid));
  return TraceStop(code, why, message, &info);
}

uint64_t Task::TracerView(const Pid& pid) {
  MutexLock lock(kernel_.tasks().mu);
  if (trace.tracer == nullptr) return 0;
  return static_cast<uint64_t>(pid.In(trace.tracer->pid_ns()));
}

bool Task::TraceEventEnabled(int event) const {
  return traced() && (trace.options.load() & (1u << event)) != 0;
}

void Task::TraceEvent(int event, uint64_t message) {
  if (TraceEventEnabled(event)) {
    TraceNotify(SIGTRAP | event << 8, CLD_TRAPPED, message);
  } else if (event == PTRACE_EVENT_EXEC && traced() && !trace.seized) {
    abi::SigInfo info = MakeSigInfo(SIGTRAP, SI_USER);
    info.SetPidUid(vtgid(), creds().user_ns().ShowUid(creds().ruid));
    Result<void> ignored = SendSignal(info, false);
    static_cast<void>(ignored);
  }
}

bool Task::TraceSyscall(uint64_t message) {
  if (!traced()) return true;
  const int good = (trace.options.load() & PTRACE_O_TRACESYSGOOD) != 0 ? 0x80 : 0;
  const int signo = TraceNotify(SIGTRAP | good, CLD_TRAPPED, message);
  if (abi::ValidSignal(signo)) {
    Result<void> ignored = SendSignal(MakeSigInfo(signo, SI_KERNEL), false);
    static_cast<void>(ignored);
  }
  MutexLock lock(tg_->siglock);
  return !kill_pending_;
}

// A signal is about to be delivered: the tracer may change or take it. The signal to go on with; 0:
// none.
int Task::TraceSignal(abi::SigInfo& info) {
  {
    MutexLock lock(tg_->siglock);
    // Whatever it will be; counts only if it stops.
    jobctl_ |= kJobStopDequeued;
  }
  const int signo = TraceStop(info.signo, CLD_TRAPPED, 0, &info);
  if (signo == 0 || !abi::ValidSignal(signo)) return 0;
  if (signo != info.signo) {
    info = MakeSigInfo(signo, SI_USER);
    MutexLock tasks(kernel_.tasks().mu);
    if (trace.tracer != nullptr) {
      info.SetPidUid(trace.tracer->tg().pid->In(pid_ns()), UidSeenBy(*tg_, trace.tracer->creds_ref()->ruid));
    }
  }
  MutexLock lock(tg_->siglock);
  if ((signal_mask() & abi::SigBit(signo)) != 0 || kill_pending_) {
    QueueLocked(info, false);
    return 0;
  }
  return signo;
}

void NotifyParentOfStopLocked(Task& t, bool for_tracer, int why) {
  ThreadGroup& tg = t.tg();
  Task& subject = for_tracer || tg.leader == nullptr ? t : *tg.leader;
  ThreadGroup* parent =
      for_tracer ? (t.trace.tracer != nullptr ? &t.trace.tracer->tg() : nullptr) : tg.parent;
  if (parent == nullptr) return;
  int status = SIGCONT;
  if (why != CLD_CONTINUED) {
    MutexLock lock(tg.siglock);
    status = (why == CLD_STOPPED ? tg.group_stop_code : t.trace.code) & 0x7f;
  }
  const abi::SigAction a = parent->actions().Get(SIGCHLD);
  if (a.handler != reinterpret_cast<uint64_t>(SIG_IGN) &&
      (a.flags & static_cast<uint64_t>(SA_NOCLDSTOP)) == 0) {
    abi::SigInfo info = MakeSigInfo(SIGCHLD, why);
    info.SetPidUid(subject.pid().In(parent->pid_ns()), UidSeenBy(*parent, subject.creds_ref()->ruid));
    info.SetStatus(status, 0, 0);
    Result<void> ignored = SendSignalToGroup(*parent, info);
    static_cast<void>(ignored);
  }
  parent->child_queue.Notify(EPOLLIN);
}

}  // namespace ringwall
