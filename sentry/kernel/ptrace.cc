#include "sentry/kernel/ptrace.h"

#include <linux/ptrace.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include <algorithm>

#include "sentry/kernel/task_life.h"

namespace ringwall {

namespace {


bool IsDescendantLocked(const ThreadGroup& ancestor, const ThreadGroup* tg) {
  for (; tg != nullptr; tg = tg->parent) {
    if (tg == &ancestor) return true;
  }
  return false;
}

// kernel.yama.ptrace_scope: 0 as Linux always was, 1 only descendants (and whom they name), 2 only
// with the capability, 3 nobody.
Result<void> MayAttachLocked(const Task& tracer, const Task& target) {
  const int scope = tracer.kernel().ptrace_scope();
  if (scope == 0) return {};
  if (scope == 3) return Errno(EPERM);
  if (tracer.creds().HasIn(target.creds_ref()->user_ns(), Capability::kSysPtrace)) return {};
  if (scope == 2) return Errno(EPERM);
  const ThreadGroup& tg = target.tg();
  if (IsDescendantLocked(tracer.tg(), &tg)) return {};
  if (tg.ptracer == kPtracerAny) return {};
  if (tg.ptracer > 0) {
    TaskSet& set = tracer.kernel().tasks();
    set.mu.AssertHeld();
    ThreadGroup* named = set.FindThreadGroup(tg.ptracer);
    if (named != nullptr && IsDescendantLocked(*named, &tracer.tg())) return {};
  }
  return Errno(EPERM);
}

// The thread of the parent that is the tracer of one that asks for it: the one that made it, or
// another that lives.
Task* RealParentLocked(const ThreadGroup& tg) {
  ThreadGroup* parent = tg.parent;
  if (parent == nullptr) return nullptr;
  Task* any = nullptr;
  for (Task* t : parent->threads) {
    if (t->exit_state != ExitState::kAlive) continue;
    if (t->tid() == tg.parent_tid) return t;
    if (any == nullptr || t == parent->leader) any = t;
  }
  return any;
}

}  // namespace

Result<void> Ptrace::MayAccess(Task& looker, Task& target, PtraceAccess mode) {
  if (&looker.tg() == &target.tg()) return {};
  const Credentials& mine = looker.creds();
  const bool fs = mode == PtraceAccess::kReadFs || mode == PtraceAccess::kAttachFs;
  const bool attach = mode == PtraceAccess::kAttachReal || mode == PtraceAccess::kAttachFs;
  const Uid uid = fs ? mine.fsuid : mine.ruid;
  const Gid gid = fs ? mine.fsgid : mine.rgid;
  Ref<const Credentials> theirs = target.creds_ref();
  const bool trusted = mine.HasIn(theirs->user_ns(), Capability::kSysPtrace);
  const bool same = uid == theirs->euid && uid == theirs->suid && uid == theirs->ruid &&
                    gid == theirs->egid && gid == theirs->sgid && gid == theirs->rgid;
  if (!same && !trusted) return Errno(EPERM);
  if (RefPtr<MemoryManager> mm = target.mm_ref(); mm && mm->dumpable() != 1 && !trusted) {
    return Errno(EPERM);
  }
  const uint64_t caps = fs ? mine.cap_effective : mine.cap_permitted;
  const bool covered = &mine.user_ns() == &theirs->user_ns() && (theirs->cap_permitted & ~caps) == 0;
  if (!covered && !trusted) return Errno(EPERM);
  if (!attach) return {};
  MutexLock lock(looker.kernel().tasks().mu);
  return MayAttachLocked(looker, target);
}

bool Ptrace::Reparented(const Task& t) {
  return t.trace.tracer != nullptr && &t.trace.tracer->tg() != t.tg().parent;
}

void Ptrace::LinkLocked(Task& t, Task& tracer) {
  t.trace.tracer = &tracer;
  t.trace.traced.store(true);
  t.trace.syscalls = t.trace.emulate = t.trace.step = false;
  tracer.trace.tracees.push_back(&t);
  t.answers_stale_.store(true);
}

void Ptrace::UnlinkLocked(Task& t) {
  TraceState& trace = t.trace;
  if (trace.tracer == nullptr) return;
  trace.tracer->trace.tracees.remove(&t);
  ThreadGroup& tg = t.tg();
  MutexLock lock(tg.siglock);
  trace.tracer = nullptr;
  trace.traced.store(false);
  trace.seized = false;
  trace.options.store(0);
  trace.syscalls = trace.emulate = trace.step = false;
  t.answers_stale_.store(true);
  t.jobctl_ &= ~(kJobTrapMask | kJobTrapping);
  // A group stop that it took part in as a tracee goes on as one of its own.
  if (t.exit_state == ExitState::kAlive &&
      ((tg.stop_flags & kGroupStopped) != 0 || tg.group_stop_count != 0)) {
    t.jobctl_ |= kJobStopPending;
  }
  if ((t.jobctl_ & (kJobStopPending | kJobTraced)) != 0) t.WakeFromTraceLocked(true);
}

bool Ptrace::TakeStop(Task& t, bool for_tracer, bool keep, int* code) {
  ThreadGroup& tg = t.tg();
  MutexLock lock(tg.siglock);
  int* from = nullptr;
  if (for_tracer) {
    // SIGKILL has ended the stop, though its thread may not have noticed yet.
    if ((t.jobctl_ & (kJobTraced | kJobListening)) == kJobTraced && !t.kill_pending_) from = &t.trace.code;
  } else if ((tg.stop_flags & kGroupStopped) != 0) {
    from = &tg.group_stop_code;
  }
  if (from == nullptr || *from == 0) return false;
  *code = *from;
  if (!keep) *from = 0;
  return true;
}

Result<void> Ptrace::TraceMe(Task& t) {
  MutexLock lock(t.kernel().tasks().mu);
  if (t.traced()) return Errno(EPERM);
  Task* parent = RealParentLocked(t.tg());
  if (parent == nullptr) return Errno(EPERM);
  Ref<const Credentials> theirs = parent->creds_ref();
  const bool trusted = theirs->HasIn(t.creds().user_ns(), Capability::kSysPtrace);
  if ((t.creds().cap_permitted & ~theirs->cap_permitted) != 0 && !trusted) return Errno(EPERM);
  const int scope = t.kernel().ptrace_scope();
  if (scope == 3 || (scope == 2 && !trusted)) return Errno(EPERM);
  MutexLock siglock(t.tg().siglock);
  t.trace.seized = false;
  t.trace.options.store(0);
  LinkLocked(t, *parent);
  return {};
}

Result<void> Ptrace::Attach(Task& tracer, int tid, bool seize, uint32_t options) {
  RefPtr<Task> target;
  {
    MutexLock lock(tracer.kernel().tasks().mu);
    target = RefPtr<Task>(tracer.pid_ns().FindTask(tid));
    if (!target) return Errno(ESRCH);
    if (&target->tg() == &tracer.tg()) return Errno(EPERM);
  }
  TRY(MayAccess(tracer, *target, PtraceAccess::kAttachReal));
  {
    MutexLock lock(tracer.kernel().tasks().mu);
    if (target->exit_state != ExitState::kAlive || target->trace.tracer != nullptr) {
      return Errno(EPERM);
    }
    MutexLock siglock(target->tg().siglock);
    target->trace.seized = seize;
    target->trace.options.store(options);
    LinkLocked(*target, tracer);
    if (!seize) target->QueueLocked(MakeSigInfo(SIGSTOP, SI_KERNEL), false);
    // From a group stop straight to one for the tracer.
    if ((target->jobctl_ & kJobStopped) != 0 &&
        target->SetJobPendingLocked(kJobTrapStop | kJobTrapping, 0)) {
      target->jobctl_ &= ~kJobStopped;
    }
    target->Kick();
  }
  for (;;) {
    {
      MutexLock siglock(target->tg().siglock);
      if ((target->jobctl_ & kJobTrapping) == 0 || target->kill_pending_) return {};
    }
    if (tracer.kill_pending_) return {};
    tracer.SleepUninterrupted();
  }
}

Result<Ref<Task>> Ptrace::Freeze(Task& tracer, int tid, bool any_state) {
  MutexLock lock(tracer.kernel().tasks().mu);
  Task* t = tracer.pid_ns().FindTask(tid);
  if (t == nullptr || t->trace.tracer != &tracer) return Errno(ESRCH);
  MutexLock siglock(t->tg().siglock);
  if (!any_state) {
    const uint32_t state = t->jobctl_ & (kJobTraced | kJobListening | kJobFrozen);
    if (state != kJobTraced || t->kill_pending_) return Errno(ESRCH);
    t->jobctl_ |= kJobFrozen;
  }
  return Ref<Task>(*t);
}

void Ptrace::Thaw(Task& tracee) {
  MutexLock lock(tracee.tg().siglock);
  tracee.jobctl_ &= ~kJobFrozen;
  if (tracee.kill_pending_) tracee.Kick();
}

void Ptrace::Resume(Task& tracee, Go how, int signo) {
  TraceState& trace = tracee.trace;
  MutexLock lock(tracee.tg().siglock);
  trace.syscalls = how == Go::kSyscall;
  trace.emulate = how == Go::kSysemu || how == Go::kSysemuStep;
  trace.step = how == Go::kStep || how == Go::kSysemuStep;
  tracee.answers_stale_.store(true);
  trace.code = signo;
  tracee.jobctl_ &= ~(kJobTraced | kJobFrozen);
  tracee.Kick();
}

void Ptrace::Detach(Task& tracer, Task& tracee, int signo) {
  MutexLock lock(tracer.kernel().tasks().mu);
  {
    MutexLock siglock(tracee.tg().siglock);
    tracee.trace.code = signo;
    tracee.jobctl_ &= ~kJobFrozen;
  }
  if (tracee.trace.tracer == &tracer) TaskLife::DetachLocked(tracee);
}

Result<void> Ptrace::Listen(Task& tracee) {
  MutexLock lock(tracee.tg().siglock);
  const abi::SigInfo* info = tracee.trace.info;
  if (!tracee.trace.seized || info == nullptr || info->code >> 8 != PTRACE_EVENT_STOP) {
    return Errno(EIO);
  }
  tracee.jobctl_ |= kJobListening;
  // Something has happened since the stop began: stop anew to tell of it.
  if ((tracee.jobctl_ & kJobTrapNotify) != 0) {
    tracee.jobctl_ &= ~kJobFrozen;
    tracee.WakeFromTraceLocked(true);
  }
  return {};
}

Result<void> Ptrace::Interrupt(Task& tracee) {
  MutexLock lock(tracee.tg().siglock);
  if (!tracee.trace.seized) return Errno(EIO);
  if (tracee.SetJobPendingLocked(kJobTrapStop, 0)) {
    tracee.WakeFromTraceLocked((tracee.jobctl_ & kJobListening) != 0);
  }
  return {};
}

Result<abi::SigInfo> Ptrace::StopInfo(Task& tracee) {
  MutexLock lock(tracee.tg().siglock);
  if (tracee.trace.info == nullptr) return Errno(EINVAL);
  return abi::SigInfo(*tracee.trace.info);
}

Result<void> Ptrace::SetStopInfo(Task& tracee, const abi::SigInfo& info) {
  MutexLock lock(tracee.tg().siglock);
  if (tracee.trace.info == nullptr) return Errno(EINVAL);
  *tracee.trace.info = info;
  return {};
}

uint64_t Ptrace::Message(Task& tracee) {
  MutexLock lock(tracee.tg().siglock);
  return tracee.trace.message;
}

std::vector<abi::SigInfo> Ptrace::Pending(Task& tracee, bool shared, uint64_t offset,
                                          size_t count) {
  MutexLock lock(tracee.tg().siglock);
  return (shared ? tracee.tg().pending : tracee.pending_).Slice(offset, count);
}

abi::SigSet Ptrace::SignalMask(Task& tracee) {
  return tracee.saved_mask_.value_or(tracee.context_->signal_mask());
}

void Ptrace::SetSignalMask(Task& tracee, abi::SigSet mask) {
  MutexLock lock(tracee.tg().siglock);
  // What was to be put back is the tracer's business now.
  tracee.context_->set_signal_mask(mask & ~abi::kUnblockable);
  tracee.saved_mask_.reset();
  tracee.RecalcInterruptedLocked();
}

void Ptrace::RunOn(Task& tracer, Task& tracee, std::function<void()> work) {
  TraceState::Request request = {std::move(work), RefPtr<Task>(&tracer)};
  {
    MutexLock lock(tracee.tg().siglock);
    tracee.trace.request = &request;
  }
  tracee.Wake();
  while (!request.done.load(std::memory_order_acquire)) tracer.SleepUninterrupted();
}

void Ptrace::InheritLocked(Task& parent, Task& child) {
  Task* tracer = parent.trace.tracer;
  if (tracer == nullptr) return;
  child.trace.seized = parent.trace.seized;
  child.trace.options.store(parent.trace.options.load());
  LinkLocked(child, *tracer);
  if (child.trace.seized) {
    child.SetJobPendingLocked(kJobTrapStop, 0);
  } else {
    abi::SigInfo stop = MakeSigInfo(SIGSTOP, SI_USER);
    child.pending_.Add(stop);
    child.interrupted_.store(true);
  }
}

void Ptrace::TracerExitsLocked(Task& tracer) {
  while (!tracer.trace.tracees.empty()) {
    Ref<Task> t(*tracer.trace.tracees.front());
    if ((t->trace.options.load() & PTRACE_O_EXITKILL) != 0) {
      Result<void> ignored = SendSignalToGroup(t->tg(), MakeSigInfo(SIGKILL, SI_KERNEL));
      static_cast<void>(ignored);
    }
    TaskLife::DetachLocked(*t);
  }
}

}  // namespace ringwall
