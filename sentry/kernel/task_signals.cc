// Sending, taking and acting on signals (kernel/signal.c). Read signal(7) and the job-control part of
// POSIX before editing.
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>

#include "platform/signal_frames.h"
#include "sentry/base/log.h"
#include "sentry/kernel/kernel_log.h"
#include "sentry/kernel/late_wakes.h"
#include "sentry/kernel/core_dump.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/task_life.h"
#include "sentry/kernel/task_rseq.h"

namespace ringwall {

namespace {

constexpr uint64_t kDfl = 0, kIgn = 1;

// What was before the frame that the stub has yet to write for this thread's task, or has just written.
struct UnsettledFrame {
  abi::Registers regs;
  abi::StackT alt_stack;
  abi::SigInfo info;
  abi::SigAction action;
  abi::SigSet mask = 0;
  std::optional<abi::SigSet> saved_mask;
};
thread_local std::optional<UnsettledFrame> unsettled_frame;

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
    seen.Put<uint32_t>(4, uid ? theirs->user_ns().ShowUid(*uid) : static_cast<uint32_t>(overflow_uid.load()));
  }
  if (!from->pid_ns().IsWithin(to.pid_ns())) {
    seen.Put<int32_t>(0, 0);
    if (info.signo == SIGKILL || info.signo == SIGSTOP) seen.code = kFromOutside;
  }
  return seen;
}

// show_signal_msg: a fault that ends the process, for dmesg.
void LogFatalFault(Task& t, const abi::SigInfo& info) {
  const abi::Registers& r = t.regs();
  char text[200];
  const auto who = t.comm();
  if (info.signo == SIGSEGV && info.code != SI_KERNEL) {
    snprintf(text, sizeof(text), "%s[%d]: segfault at %llx ip %016llx sp %016llx", who.c_str(), t.tid(),
             static_cast<unsigned long long>(info.At<uint64_t>(0)), static_cast<unsigned long long>(r.rip),
             static_cast<unsigned long long>(r.rsp));
  } else if (info.signo == SIGSEGV || info.signo == SIGILL || info.signo == SIGFPE) {
    const char* what = info.signo == SIGSEGV  ? "general protection fault"
                       : info.signo == SIGILL ? "trap invalid opcode"
                                              : "trap divide error";
    snprintf(text, sizeof(text), "traps: %s[%d] %s ip:%llx sp:%llx error:0", who.c_str(), t.tid(), what,
             static_cast<unsigned long long>(r.rip), static_cast<unsigned long long>(r.rsp));
  } else {
    return;
  }
  timespec now;
  clock_gettime(CLOCK_BOOTTIME, &now);
  const uint64_t ns = static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
                      static_cast<uint64_t>(now.tv_nsec) - t.kernel().start_boottime_ns();
  KernelLog::Get().Append(KernelLog::kInfo, ns, text);
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
  const bool now = deliverable != 0 || dying_.load() || tg_->group_exit || kill_pending_ ||
                   (jobctl_ & (kJobPendingMask | kJobStopped)) != 0;
  interrupted_.store(now, std::memory_order_seq_cst);
}

// A stop cancels continues that wait, and the reverse; both whether or not they are blocked.
void Task::StopOrContinueLocked(int signo) {
  ThreadGroup& tg = *tg_;
  const bool stop = signo != SIGCONT;
  const abi::SigSet flush = stop ? abi::SigBit(SIGCONT) : abi::kStopSignals;
  tg.pending.Remove(flush);
  for (Task* t : tg.threads) t->pending_.Remove(flush);
  if (stop) return;
  for (Task* t : tg.threads) {
    t->jobctl_ &= ~(kJobStopPending | kJobStopConsume | kJobStopDequeued);
    if (t->trace.seized) {
      t->TrapNotifyLocked();
    } else {
      t->jobctl_ &= ~kJobStopped;
      t->Wake();
    }
  }
  // The first thread to go on tells the parent. A stop that was not complete yet counts as one.
  if ((tg.stop_flags & kGroupStopped) != 0) {
    tg.stop_flags = kGroupCldContinued | kGroupContinued;
  } else if (tg.group_stop_count != 0) {
    tg.stop_flags = kGroupCldStopped | kGroupContinued;
  } else {
    return;
  }
  tg.group_stop_count = 0;
  tg.group_stop_code = 0;
}

void Task::QueueLocked(const abi::SigInfo& info, bool group) {
  ThreadGroup& tg = *tg_;
  const abi::SigSet bit = abi::SigBit(info.signo);
  // A process that is being killed hears no more.
  if (tg.group_exit) {
    if (info.signo == SIGKILL) StopCoreDump(tg);
    return;
  }
  if (info.signo == SIGCONT || (bit & abi::kStopSignals) != 0) StopOrContinueLocked(info.signo);

  const bool blocked = (signal_mask() & bit) != 0;
  if (!blocked && info.signo != SIGKILL && !traced() && IsIgnored(tg, info.signo)) return;
  // An init hears only what it has a handler for, and SIGKILL and SIGSTOP from outside; what it
  // blocks waits, since it may take it by sigwait.
  const bool seen_by_tracer = traced() && info.signo != SIGKILL;
  if (!blocked && !seen_by_tracer && IsInit(tg) && tg.actions().Get(info.signo).handler == kDfl &&
      !(info.code == kFromOutside && (info.signo == SIGKILL || info.signo == SIGSTOP)) &&
      info.code <= 0) {
    return;
  }
  if (info.signo == SIGKILL) {
    KillGroupLocked(SIGKILL);
    return;
  }
  (group ? tg.pending : pending_).Add(info);
  tg.signalfd_queue.Notify(EPOLLIN);

  // Stubs change their masks alone until they see that signals wait: only a mask that is read after
  // this is sure to be known.
  for (Task* t : tg.threads) t->NoteSignalsPendingLocked();
  // Wake the target if it takes the signal, else any thread of the group that does.
  Task* target = (signal_mask() & bit) != 0 ? nullptr : this;
  if (group && (target == nullptr || (jobctl_ & (kJobStopped | kJobTraced)) != 0)) {
    // Rather one that is not stopped.
    for (Task* t : tg.threads) {
      if ((t->signal_mask() & bit) != 0 || t->exiting_) continue;
      if (target == nullptr) target = t;
      if ((t->jobctl_ & (kJobStopped | kJobTraced)) == 0) {
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

// RLIMIT_SIGPENDING: at the limit a real-time signal is refused, but one of kill(2) is kept once and
// without what came with it (__send_signal_locked). Here it counts what waits for the process.
Result<void> Task::QueueWithinLimitLocked(const abi::SigInfo& info, bool group) {
  if (info.signo >= abi::kSigRtMin && !tg_->group_exit) {
    size_t waiting = tg_->pending.queued();
    for (const Task* t : tg_->threads) waiting += t->pending_.queued();
    if (waiting >= tg_->limit(RLIMIT_SIGPENDING)) {
      if (info.code != SI_USER) return Errno(EAGAIN);
      if (!(group ? tg_->pending : pending_).Has(info.signo)) {
        QueueLocked(MakeSigInfo(info.signo, SI_USER), group);
      }
      return {};
    }
  }
  QueueLocked(SeenBy(*tg_, info), group);
  return {};
}

Result<void> Task::SendSignal(const abi::SigInfo& info, bool group) {
  const LateWakes late;
  MutexLock lock(tg_->siglock);
  return QueueWithinLimitLocked(info, group);
}

Result<void> SendSignalToGroup(ThreadGroup& tg, const abi::SigInfo& info) {
  // Any thread may stand for the group; QueueLocked finds one that takes the signal.
  const LateWakes late;
  MutexLock lock(tg.siglock);
  Task* t = tg.threads.empty() ? nullptr : tg.threads.front();
  if (t == nullptr) return {};
  return t->QueueWithinLimitLocked(info, true);
}

void SendSignalToProcessGroupLocked(ProcessGroup& pg, const abi::SigInfo& info) {
  for (ThreadGroup* tg : pg.members) {
    Result<void> ignored = SendSignalToGroup(*tg, info);
    static_cast<void>(ignored);
  }
}

void Task::ForceSignal(abi::SigInfo info, bool fatal) {
  MutexLock lock(tg_->siglock);
  const abi::SigAction a = tg_->actions().Get(info.signo);
  const bool blocked = (signal_mask() & abi::SigBit(info.signo)) != 0;
  if (blocked || a.handler == kIgn || fatal) {
    tg_->actions().Exchange(info.signo, abi::SigAction{});
    if (blocked) context_->set_signal_mask(signal_mask() & ~abi::SigBit(info.signo));
  }
  forced_ = true;
  immutable_ |= fatal;
  pending_.Add(info);
  interrupted_.store(true);
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

// Whether this task would leave a core file, if one may be had at all.
int Task::CoreFlag(int signo) const {
  const bool dumps = (abi::SigBit(signo) & abi::kCoreDumps) != 0 && alive() && mm_->dumpable() != 0;
  return dumps ? WCOREFLAG : 0;
}

void Task::DefaultAction(const abi::SigInfo& info) {
  const abi::SigSet bit = abi::SigBit(info.signo);
  if ((bit & abi::kIgnoredByDefault) != 0) return;
  if ((bit & abi::kStopSignals) != 0) {
    if (info.signo != SIGSTOP) {
      MutexLock tasks(kernel_.tasks().mu);
      if (IsOrphanedLocked(*tg_)) return;
    }
    DoSignalStop(info.signo);
    return;
  }
  if (info.code > 0) LogFatalFault(*this, info);
  const int core = TaskLife::DumpCore(*this, info);
  ExitGroup(info.signo | core);
}

// A call that a signal has ended, when no handler runs: it goes on as if nothing had happened. A
// tracer and a seccomp filter see it being made again; else it is answered again at once.
void Task::RestartOrFail() {
  if (!HasSyscallWork()) {
    redo_ = true;
    return;
  }
  abi::Registers& r = regs();
  const int error = std::exchange(restart_errno_, 0);
  if (r.orig_rax == ~uint64_t{0} || r.rax != static_cast<uint64_t>(-static_cast<int64_t>(error))) {
    return;  // the tracer has other plans
  }
  constexpr uint64_t kRestartSyscall = 219;
  r.rax = error == kErestartRestartBlock ? kRestartSyscall : r.orig_rax;
  r.rip -= 2;
  context_->RegsChanged();
}

void Task::DeliverSignal(const abi::SigInfo& info, const abi::SigAction& action) {
  abi::Registers& r = regs();
  if (restart_errno_ != 0) {
    const int error = std::exchange(restart_errno_, 0);
    const bool again = error == kErestartNoIntr ||
                       (error == kErestartSys && (action.flags & SA_RESTART) != 0);
    const bool untouched =
        !traced() || (r.orig_rax != ~uint64_t{0} &&
                      r.rax == static_cast<uint64_t>(-static_cast<int64_t>(error)));
    if (untouched && again) {
      r.rax = r.orig_rax;
      r.rip -= 2;
    } else if (untouched) {
      r.rax = static_cast<uint64_t>(-EINTR);
    }
    restart_ = nullptr;
    context_->RegsChanged();
  }
  // The frame shows the registers as they are without the tracer.
  const bool stepping = trace.step.exchange(false);
  const abi::SigSet current = signal_mask();
  const abi::SigSet old_mask = saved_mask_.value_or(current);
  if (!AbortRseq(*this)) {
    ForceSignal(MakeSigInfo(SIGSEGV, SI_KERNEL), true);
    return;
  }
  unsettled_frame = UnsettledFrame{r, alt_stack, info, action, current, saved_mask_};
  if (!SetUpFrame(info, action, old_mask)) {
    unsettled_frame.reset();
    abi::SigInfo segv = MakeSigInfo(SIGSEGV, SI_KERNEL);
    ForceSignal(segv, info.signo == SIGSEGV);
    return;
  }
  saved_mask_.reset();
  abi::SigSet mask = current | action.mask;
  if ((action.flags & SA_NODEFER) == 0) mask |= abi::SigBit(info.signo);
  SetSignalMask(mask);
  if (stepping) TraceNotify(SIGTRAP, CLD_TRAPPED, 0);
}

std::optional<abi::SigInfo> Task::TakeNextLocked() {
  const abi::SigSet mask = signal_mask();
  std::optional<abi::SigInfo> info = pending_.Take(mask);
  if (!info) info = tg_->pending.Take(mask);
  if (info && (abi::SigBit(info->signo) & abi::kStopSignals) != 0) jobctl_ |= kJobStopDequeued;
  return info;
}

bool Task::PrepareToReturn() {
  // Before anyone looks at what a frame changes that is not written yet. When it cannot be, all is put
  // back, and the frame is made here, which finds out why and says SIGSEGV.
  const auto settle_frame = [&]() NO_THREAD_SAFETY_ANALYSIS {
    SignalFrames* const frames = SignalFrames::Current();
    if (frames == nullptr || frames->Settle().ok() || !unsettled_frame) return;
    const UnsettledFrame before = *std::exchange(unsettled_frame, std::nullopt);
    regs() = before.regs;
    context_->RegsChanged();
    alt_stack = before.alt_stack;
    SetSignalMask(before.mask);
    saved_mask_ = before.saved_mask;
    DeliverSignal(before.info, before.action);
  };
  for (;;) {
    if (exiting_) return false;
    if (Interrupted()) settle_frame();  // which may fail, and that comes first
    std::optional<abi::SigInfo> info;
    uint32_t cld = 0;
    bool stop = false, trap = false;
    {
      MutexLock lock(tg_->siglock);
      cld = tg_->stop_flags & kGroupCldMask;
      tg_->stop_flags &= ~kGroupCldMask;
      if (cld != 0) {
        // Told below, without the lock.
      } else if (tg_->group_exit || dying_) {
        kill_pending_ = false;
        exiting_ = true;
        exit_status_ = tg_->group_exit ? tg_->group_exit_status : SIGKILL;
        return false;
      } else if ((jobctl_ & kJobPendingMask) != 0) {
        stop = (jobctl_ & kJobStopPending) != 0;
        trap = (jobctl_ & kJobTrapMask) != 0;
      } else {
        info = TakeNextLocked();
        if (!info) {
          RecalcInterruptedLocked();
          if (Interrupted()) continue;
          break;
        }
      }
    }
    if (cld != 0) {
      TellOfContinue(cld);
      continue;
    }
    settle_frame();
    if (stop || trap) {
      if (stop && DoSignalStop(0)) continue;
      if (trap || traced()) DoTrap();
      continue;
    }
    NoteSignalsPending();
    const bool forced = std::exchange(forced_, false);
    const bool immutable = std::exchange(immutable_, false);
    if (traced() && !immutable && TraceSignal(*info) == 0) continue;
    const abi::SigAction action = tg_->actions().Get(info->signo);
    const bool unstoppable = info->signo == SIGKILL || info->signo == SIGSTOP;
    if (action.handler == kIgn && !unstoppable) continue;
    if (action.handler == kDfl || unstoppable) {
      if (!forced && IsInit(*tg_) && info->code != kFromOutside && info->code <= 0) continue;
      DefaultAction(*info);
      continue;
    }
    if ((action.flags & static_cast<uint64_t>(SA_RESETHAND)) != 0) {
      abi::SigAction reset = action;
      reset.handler = kDfl;
      tg_->actions().Exchange(info->signo, reset);
    }
    DeliverSignal(*info, action);
  }
  if (restart_errno_ != 0) RestartOrFail();
  RestoreMask();
  return true;
}

void Task::NoteSignalsPending() {
  MutexLock lock(tg_->siglock);
  NoteSignalsPendingLocked();
}

}  // namespace ringwall
