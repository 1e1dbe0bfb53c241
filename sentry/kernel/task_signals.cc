// Sending, taking and acting on signals (kernel/signal.c). Read signal(7) and the job-control part of
// POSIX before editing.
#include <sys/epoll.h>

#include <algorithm>

#include "sentry/base/log.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

constexpr uint64_t kDfl = 0, kIgn = 1;

bool IgnoredByDefault(int signo) { return (abi::SigBit(signo) & abi::kIgnoredByDefault) != 0; }

// Whether the signal would be thrown away on delivery, so that it need not be queued (sig_ignored).
bool IsIgnored(const ThreadGroup& tg, int signo) {
  const abi::SigAction a = tg.actions().Get(signo);
  return a.handler == kIgn || (a.handler == kDfl && IgnoredByDefault(signo));
}

// Init of the container or of a pid namespace: what it does not handle does not reach it.
bool IsInit(const ThreadGroup& tg) { return tg.pid && tg.pid_ns().init == &tg; }

// What a process sends is told in the numbers of the receiver (send_signal_locked): a sender that it
// cannot see is 0, and from there comes even what an init does not take from its own.
abi::SigInfo SeenBy(const ThreadGroup& to, const abi::SigInfo& info) {
  const Task* from = Task::Current();
  const bool has_sender = info.code == SI_USER || info.code == SI_TKILL || info.code == SI_QUEUE ||
                          info.code == SI_MESGQ;
  if (from == nullptr || !has_sender || to.leader == nullptr) return info;
  abi::SigInfo seen = info;
  const UserNamespace& mine = from->creds().user_ns();
  const Ref<const Credentials> theirs = to.leader->creds_ref();
  if (&theirs->user_ns() != &mine) {
    const std::optional<Uid> uid = mine.UidIn(info.At<uint32_t>(4));
    seen.Put<uint32_t>(4, uid ? theirs->user_ns().ShowUid(*uid) : kOverflowId);
  }
  if (!from->pid_ns().IsWithin(to.pid_ns())) {
    seen.Put<int32_t>(0, 0);
    if (info.signo == SIGKILL || info.signo == SIGSTOP) seen.code = kFromOutside;
  }
  return seen;
}

}  // namespace

abi::SigInfo MakeSigInfo(int signo, int code) {
  abi::SigInfo info;
  info.signo = signo;
  info.code = code;
  return info;
}

abi::SigSet Task::signal_mask() const {
  if (Current() == this) return context_ != nullptr ? context_->signal_mask() : ~abi::SigSet{0};
  MutexLock lock(mu_);
  return context_ != nullptr ? context_->signal_mask() : ~abi::SigSet{0};
}

Uid UidSeenBy(const ThreadGroup& tg, Uid uid) {
  if (tg.leader == nullptr) return uid;
  return tg.leader->creds_ref()->user_ns().ShowUid(uid);
}

void Task::RecalcInterruptedLocked() {
  const abi::SigSet deliverable = (pending_.mask() | tg_->pending.mask()) & ~signal_mask();
  const bool now = deliverable != 0 || dying_.load() || tg_->group_exit || stop_counted_ ||
                   tg_->stop_state == StopState::kStopped;
  interrupted_.store(now, std::memory_order_seq_cst);
}

void Task::QueueLocked(const abi::SigInfo& info, bool group) {
  ThreadGroup& tg = *tg_;
  const abi::SigSet bit = abi::SigBit(info.signo);
  // A stop cancels continues that wait, and the reverse; both whether or not they are blocked.
  if (info.signo == SIGCONT) {
    tg.pending.Remove(abi::kStopSignals);
    for (Task* t : tg.threads) {
      t->pending_.Remove(abi::kStopSignals);
      t->stop_counted_ = false;
    }
    if (tg.stop_state != StopState::kRunning) {
      const bool was_stopped = tg.stop_state == StopState::kStopped;
      tg.stop_state = StopState::kRunning;
      tg.stop_count = 0;
      tg.continued_to_report = was_stopped;
      for (Task* t : tg.threads) {
        t->RecalcInterruptedLocked();
        t->Wake();
      }
    }
  } else if ((bit & abi::kStopSignals) != 0) {
    tg.pending.Remove(abi::SigBit(SIGCONT));
    for (Task* t : tg.threads) t->pending_.Remove(abi::SigBit(SIGCONT));
  }

  const bool blocked = (signal_mask() & bit) != 0;
  if (!blocked && info.signo != SIGKILL && IsIgnored(tg, info.signo)) return;
  // An init hears only what it has a handler for, and SIGKILL and SIGSTOP from outside; what it
  // blocks waits, since it may take it by sigwait.
  if (!blocked && IsInit(tg) && tg.actions().Get(info.signo).handler == kDfl &&
      !(info.code == kFromOutside && (info.signo == SIGKILL || info.signo == SIGSTOP)) &&
      info.code <= 0) {
    return;
  }
  (group ? tg.pending : pending_).Add(info);
  tg.signalfd_queue.Notify(EPOLLIN);

  if (info.signo == SIGKILL) {
    for (Task* t : tg.threads) {
      t->interrupted_.store(true);
      t->Kick();
    }
    return;
  }
  // Stubs change their masks alone until they see that signals wait: only a mask that is read after
  // this is sure to be known.
  for (Task* t : tg.threads) t->NoteSignalsPendingLocked();
  // Wake the target if it takes the signal, else any thread of the group that does.
  Task* target = (signal_mask() & bit) != 0 ? nullptr : this;
  if (target == nullptr && group) {
    for (Task* t : tg.threads) {
      if ((t->signal_mask() & bit) == 0 && !t->exiting_) {
        target = t;
        break;
      }
    }
  }
  if (target != nullptr) {
    target->interrupted_.store(true);
    target->Kick();
  } else {
    // It may wait in sigtimedwait for a signal that it blocks.
    for (Task* t : tg.threads) {
      if ((t->sigwait_set_.load() & bit) != 0) t->Wake();
    }
  }
}

void Task::NoteSignalsPendingLocked() {
  MutexLock lock(mu_);
  if (context_ != nullptr) context_->set_signals_pending((pending_.mask() | tg_->pending.mask()) != 0);
}

Result<void> Task::SendSignal(const abi::SigInfo& info, bool group) {
  MutexLock lock(tg_->siglock);
  if (info.signo >= abi::kSigRtMin && info.code != SI_KERNEL &&
      pending_.queued() + tg_->pending.queued() >= tg_->limit(RLIMIT_SIGPENDING)) {
    return Errno(EAGAIN);
  }
  QueueLocked(SeenBy(*tg_, info), group);
  return {};
}

Result<void> SendSignalToGroup(ThreadGroup& tg, const abi::SigInfo& info) {
  // Any thread may stand for the group; QueueLocked finds one that takes the signal.
  MutexLock lock(tg.siglock);
  Task* t = tg.threads.empty() ? nullptr : tg.threads.front();
  if (t == nullptr) return {};
  if (info.signo >= abi::kSigRtMin && tg.pending.queued() >= tg.limit(RLIMIT_SIGPENDING)) {
    return Errno(EAGAIN);
  }
  t->QueueLocked(SeenBy(tg, info), true);
  return {};
}

void SendSignalToProcessGroupLocked(ProcessGroup& pg, const abi::SigInfo& info) {
  for (ThreadGroup* tg : pg.members) {
    Result<void> ignored = SendSignalToGroup(*tg, info);
    static_cast<void>(ignored);
  }
}

void Task::ForceSignal(abi::SigInfo info) {
  {
    MutexLock lock(tg_->siglock);
    const abi::SigAction a = tg_->actions().Get(info.signo);
    const bool blocked = (signal_mask() & abi::SigBit(info.signo)) != 0;
    if (blocked || a.handler == kIgn) {
      tg_->actions().Exchange(info.signo, abi::SigAction{});
      context_->set_signal_mask(signal_mask() & ~abi::SigBit(info.signo));
    }
    forced_ = true;
    pending_.Add(info);
    interrupted_.store(true);
  }
}

void Task::SetSignalMask(abi::SigSet mask) {
  MutexLock lock(tg_->siglock);
  context_->set_signal_mask(mask & ~abi::kUnblockable);
  RecalcInterruptedLocked();
  // A process-wide signal that this thread now blocks is somebody else's.
  if ((tg_->pending.mask() & mask) != 0) {
    for (Task* t : tg_->threads) {
      if (t == this || (tg_->pending.mask() & ~t->signal_mask()) == 0) continue;
      t->interrupted_.store(true);
      t->Kick();
    }
  }
}

void Task::SetTemporaryMask(abi::SigSet mask) {
  if (!saved_mask_) saved_mask_ = signal_mask();
  SetSignalMask(mask);
}

void Task::RestoreMask() {
  if (!saved_mask_) return;
  const abi::SigSet mask = *saved_mask_;
  saved_mask_.reset();
  SetSignalMask(mask);
}

abi::SigSet Task::PendingMask() const {
  MutexLock lock(tg_->siglock);
  return pending_.mask() | tg_->pending.mask();
}

std::optional<abi::SigInfo> Task::TakeSignal(abi::SigSet set) {
  MutexLock lock(tg_->siglock);
  std::optional<abi::SigInfo> info = pending_.Take(~set);
  if (!info) info = tg_->pending.Take(~set);
  if (info) NoteSignalsPendingLocked();
  RecalcInterruptedLocked();
  return info;
}

Result<abi::SigInfo> Task::WaitForSignal(abi::SigSet set, int64_t deadline) {
  sigwait_set_.store(set);
  Result<abi::SigInfo> result = Errno(EAGAIN);
  for (;;) {
    if (std::optional<abi::SigInfo> info = TakeSignal(set)) {
      result = *info;
      break;
    }
    Result<void> slept = Block(deadline);
    if (slept.ok()) continue;
    result = slept.error().Is(ETIMEDOUT) ? Errno(EAGAIN) : Errno(EINTR);
    if (std::optional<abi::SigInfo> info = TakeSignal(set)) result = *info;
    break;
  }
  sigwait_set_.store(0);
  return result;
}

void Task::StartGroupStopLocked(int signo) {
  ThreadGroup& tg = *tg_;
  if (tg.stop_state != StopState::kRunning) return;
  tg.stop_state = StopState::kStopping;
  tg.stop_signo = signo;
  tg.stop_count = 0;
  for (Task* t : tg.threads) {
    if (t->exiting_) continue;
    t->stop_counted_ = true;
    tg.stop_count++;
    t->interrupted_.store(true);
    t->Kick();
  }
}

bool Task::StopIfAsked() {
  ThreadGroup& tg = *tg_;
  bool last = false;
  {
    MutexLock lock(tg.siglock);
    if (tg.stop_state == StopState::kRunning || tg.group_exit || dying_) {
      stop_counted_ = false;
      return false;
    }
    if (stop_counted_) {
      stop_counted_ = false;
      if (--tg.stop_count == 0) {
        tg.stop_state = StopState::kStopped;
        last = true;
      }
    }
  }
  if (last) {
    MutexLock tasks(kernel_.tasks().mu);
    NotifyParentOfStopLocked(tg, CLD_STOPPED, tg.stop_signo);
  }
  state_.store('T');
  for (;;) {
    {
      MutexLock lock(tg.siglock);
      const bool killed = pending_.Has(SIGKILL) || tg.pending.Has(SIGKILL);
      if (tg.stop_state == StopState::kRunning || tg.group_exit || dying_ || killed) {
        if (killed) tg.stop_state = StopState::kRunning;
        break;
      }
      // Only a wake-up from here on ends the sleep: signals other than these wait.
      interrupted_.store(false);
    }
    Result<void> ignored = Block();
    static_cast<void>(ignored);
  }
  state_.store('R');
  bool report = false;
  {
    MutexLock lock(tg.siglock);
    report = std::exchange(tg.continued_to_report, false);
    RecalcInterruptedLocked();
  }
  if (report) {
    MutexLock tasks(kernel_.tasks().mu);
    NotifyParentOfStopLocked(tg, CLD_CONTINUED, SIGCONT);
  }
  return true;
}

void NotifyParentOfStopLocked(ThreadGroup& tg, int code, int signo) {
  ThreadGroup* parent = tg.parent;
  if (code == CLD_STOPPED) {
    tg.stop_reported = false;
    tg.continue_reported = true;
  } else {
    tg.continue_reported = false;
    tg.stop_reported = true;
  }
  if (parent == nullptr) return;
  const abi::SigAction a = parent->actions().Get(SIGCHLD);
  if (a.handler != kIgn && (a.flags & SA_NOCLDSTOP) == 0) {
    abi::SigInfo info = MakeSigInfo(SIGCHLD, code);
    info.SetPidUid(tg.pid->In(parent->pid_ns()),
                   UidSeenBy(*parent, tg.leader != nullptr ? tg.leader->creds_ref()->ruid : 0));
    info.SetStatus(signo, 0, 0);
    Result<void> ignored = SendSignalToGroup(*parent, info);
    static_cast<void>(ignored);
  }
  parent->child_queue.Notify(EPOLLIN);
}

void Task::DefaultAction(const abi::SigInfo& info) {
  const abi::SigSet bit = abi::SigBit(info.signo);
  if ((bit & abi::kIgnoredByDefault) != 0) return;
  if ((bit & abi::kStopSignals) != 0) {
    if (info.signo != SIGSTOP) {
      MutexLock tasks(kernel_.tasks().mu);
      if (IsOrphanedLocked(*tg_)) return;
    }
    MutexLock lock(tg_->siglock);
    if (!tg_->pending.Has(SIGCONT) && !pending_.Has(SIGCONT)) StartGroupStopLocked(info.signo);
    return;
  }
  int status = info.signo & 0x7f;
  if ((bit & abi::kCoreDumps) != 0 && tg_->limit(RLIMIT_CORE) != 0) {
    // No core is written, so the status does not claim one.
    RW_LOG(kDebug, "%s[%d]: signal %d would dump core", comm().c_str(), tid_, info.signo);
  }
  ExitGroup(status);
}

void Task::DeliverSignal(const abi::SigInfo& info, const abi::SigAction& action) {
  abi::Registers& r = regs();
  if (restart_errno_ != 0) {
    const bool again = restart_errno_ == kErestartNoIntr ||
                       (restart_errno_ == kErestartSys && (action.flags & SA_RESTART) != 0);
    if (again) {
      r.rax = r.orig_rax;
      r.rip -= 2;
    } else {
      r.rax = static_cast<uint64_t>(-EINTR);
      restart_ = nullptr;
    }
    context_->RegsChanged();
    restart_errno_ = 0;
  }
  const abi::SigSet current = signal_mask();
  const abi::SigSet old_mask = saved_mask_.value_or(current);
  if (!SetUpFrame(info, action, old_mask)) {
    if (info.signo == SIGSEGV) tg_->actions().Exchange(SIGSEGV, abi::SigAction{});
    ForceSignal(MakeSigInfo(SIGSEGV, SI_KERNEL));
    return;
  }
  saved_mask_.reset();
  abi::SigSet mask = current | action.mask;
  if ((action.flags & SA_NODEFER) == 0) mask |= abi::SigBit(info.signo);
  SetSignalMask(mask);
}

bool Task::PrepareToReturn() {
  for (;;) {
    if (exiting_) return false;
    std::optional<abi::SigInfo> info;
    abi::SigAction action;
    {
      MutexLock lock(tg_->siglock);
      if (tg_->group_exit || dying_) {
        exiting_ = true;
        exit_status_ = tg_->group_exit ? tg_->group_exit_status : 0;
        return false;
      }
      if (stop_counted_ || tg_->stop_state == StopState::kStopped) {
        if (!(pending_.Has(SIGKILL) || tg_->pending.Has(SIGKILL))) {
          lock.Unlock();
          StopIfAsked();
          continue;
        }
      }
      const abi::SigSet mask = signal_mask();
      info = pending_.Take(mask);
      if (!info) info = tg_->pending.Take(mask);
      if (!info) {
        RecalcInterruptedLocked();
        if (Interrupted()) continue;
        break;
      }
      action = tg_->actions().Get(info->signo);
      if (action.handler > kIgn && (action.flags & static_cast<uint64_t>(SA_RESETHAND)) != 0) {
        abi::SigAction reset = action;
        reset.handler = kDfl;
        tg_->actions().Exchange(info->signo, reset);
      }
    }
    NoteSignalsPending();
    const bool forced = std::exchange(forced_, false);
    if (action.handler == kIgn && info->signo != SIGKILL && info->signo != SIGSTOP) continue;
    if (action.handler == kDfl || info->signo == SIGKILL || info->signo == SIGSTOP) {
      if (!forced && IsInit(*tg_) && info->code != kFromOutside && info->code <= 0) continue;
      DefaultAction(*info);
      continue;
    }
    DeliverSignal(*info, action);
  }
  if (restart_errno_ != 0) {
    // No handler ran: the call goes on as if nothing had happened.
    redo_ = true;
  }
  RestoreMask();
  return true;
}

void Task::NoteSignalsPending() {
  MutexLock lock(tg_->siglock);
  NoteSignalsPendingLocked();
}

}  // namespace ringwall
