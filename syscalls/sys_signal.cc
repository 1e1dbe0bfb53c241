// Signal calls (kernel/signal.c).
#include "platform/signal_frames.h"
#include "sentry/kernel/pidfd.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr int kMinAltStack = 2048;

Result<void> CheckSize(uint64_t size) {
  if (size != sizeof(abi::SigSet)) return Errno(EINVAL);
  return {};
}

// check_kill_permission: same user, CAP_KILL, or SIGCONT inside the session.
bool MayKillLocked(const Task& from, const ThreadGroup& to, int signo) {
  if (&from.tg() == &to || to.leader == nullptr) return true;
  const Credentials& c = from.creds();
  Ref<const Credentials> target = to.leader->creds_ref();
  if (c.euid == target->suid || c.euid == target->ruid || c.ruid == target->suid ||
      c.ruid == target->ruid || c.HasIn(target->user_ns(), Capability::kKill)) {
    return true;
  }
  return signo == SIGCONT && from.tg().pgrp->session == to.pgrp->session;
}

Result<void> KillOneLocked(Task& t, ThreadGroup& tg, int signo, const abi::SigInfo& info) {
  if (signo < 0 || signo > abi::kSigMax) return Errno(EINVAL);
  if (!MayKillLocked(t, tg, signo)) return Errno(EPERM);
  if (signo == 0 || tg.zombie) return {};
  return SendSignalToGroup(tg, info);
}

// To all of a process group: one that got it is enough.
SysResult KillGroupLocked(Task& t, const ProcessGroup& pg, int signo, const abi::SigInfo& info) {
  const std::list<ThreadGroup*> members = pg.members;
  SysResult result = Errno(ESRCH);
  for (ThreadGroup* tg : members) {
    Result<void> r = KillOneLocked(t, *tg, signo, info);
    if (r.ok()) {
      result = 0;
    } else if (!result.ok()) {
      result = r.error();
    }
  }
  return result;
}

abi::SigInfo UserInfo(const Task& t, int signo, int code) {
  abi::SigInfo info = MakeSigInfo(signo, code);
  info.SetPidUid(t.vtgid(), ShowUid(t, t.creds().ruid));
  return info;
}

SysResult DoTkill(Task& t, int tgid, int tid, int signo, const abi::SigInfo& info) {
  if (tid <= 0) return Errno(EINVAL);
  MutexLock lock(t.kernel().tasks().mu);
  Task* target = t.pid_ns().FindTask(tid);
  if (target == nullptr || (tgid > 0 && target->tg().pid->In(t.pid_ns()) != tgid)) {
    return Errno(ESRCH);
  }
  if (signo < 0 || signo > abi::kSigMax) return Errno(EINVAL);
  if (!MayKillLocked(t, target->tg(), signo)) return Errno(EPERM);
  if (signo == 0 || target->tg().zombie) return 0;
  return Zero(target->SendSignal(info, false));
}

}  // namespace

SysResult SysRtSigaction(Task& t, int signo, GuestAddr act, GuestAddr old, uint64_t size) {
  TRY(CheckSize(size));
  abi::SigAction fresh;
  if (!act.IsNull()) fresh = TRY(UserIn<abi::SigAction>(act).CopyIn(t));
  if (!abi::ValidSignal(signo)) return Errno(EINVAL);
  abi::SigAction previous = t.tg().actions().Get(signo);
  if (!act.IsNull()) {
    if (signo == SIGKILL || signo == SIGSTOP) return Errno(EINVAL);
    // Flags that nobody knows go, so that a program can see which are supported.
    constexpr uint64_t kKnown = uint64_t{SA_NOCLDSTOP} | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK | SA_RESTART |
                                SA_NODEFER | static_cast<uint32_t>(SA_RESETHAND) | 0x800 /* SA_EXPOSE_TAGBITS */ |
                                abi::kSaRestorer;
    fresh.flags &= kKnown;
    fresh.mask &= ~abi::kUnblockable;
    previous = t.tg().actions().Exchange(signo, fresh);
    // What is ignored now is not pending any more.
    const bool ignored = fresh.handler == 1 ||
                         (fresh.handler == 0 && (abi::SigBit(signo) & abi::kIgnoredByDefault) != 0);
    if (ignored) t.DropPending(abi::SigBit(signo));
  }
  if (!old.IsNull()) {
    TRY(UserOut<abi::SigAction>(old).CopyOutLast(t, previous));
  }
  return 0;
}

SysResult SysRtSigprocmask(Task& t, int how, GuestAddr set, GuestAddr old, uint64_t size) {
  TRY(CheckSize(size));
  const abi::SigSet current = t.signal_mask();
  if (!set.IsNull()) {
    const abi::SigSet s = TRY(UserIn<abi::SigSet>(set).CopyIn(t));
    switch (how) {
      case SIG_BLOCK:
        t.SetSignalMask(current | s);
        break;
      case SIG_UNBLOCK:
        t.SetSignalMask(current & ~s);
        break;
      case SIG_SETMASK:
        t.SetSignalMask(s);
        break;
      default:
        return Errno(EINVAL);
    }
  }
  if (!old.IsNull()) {
    TRY(UserOut<abi::SigSet>(old).CopyOutLast(t, current));
  }
  return 0;
}

SysResult SysRtSigpending(Task& t, GuestAddr set, uint64_t size) {
  if (size > sizeof(abi::SigSet)) return Errno(EINVAL);
  const abi::SigSet pending = t.PendingMask() & t.signal_mask();
  return Zero(t.CopyOutLast(set, std::as_bytes(std::span(&pending, 1)).first(size)));
}

SysResult SysRtSigsuspend(Task& t, GuestAddr set, uint64_t size) {
  TRY(CheckSize(size));
  const abi::SigSet mask = TRY(UserIn<abi::SigSet>(set).CopyIn(t));
  t.SetTemporaryMask(mask);
  for (;;) {
    Result<void> slept = t.Block();
    if (!slept.ok()) return Errno(kErestartNoHand);
  }
}

SysResult SysPause(Task& t) {
  for (;;) {
    Result<void> slept = t.Block();
    if (!slept.ok()) return Errno(kErestartNoHand);
  }
}

SysResult SysRtSigtimedwait(Task& t, GuestAddr set, GuestAddr info, GuestAddr timeout,
                            uint64_t size) {
  TRY(CheckSize(size));
  const abi::SigSet want = TRY(UserIn<abi::SigSet>(set).CopyIn(t));
  int64_t deadline = kNoDeadline;
  if (!timeout.IsNull()) {
    deadline = TRY(DeadlineFromTimespec(t, timeout));
  }
  const abi::SigInfo got = TRY(t.WaitForSignal(want & ~abi::kUnblockable, deadline));
  if (!info.IsNull()) {
    TRY(UserOut<abi::SigInfo>(info).CopyOut(t, got));
  }
  return got.signo;
}

SysResult SysRtSigreturn(Task& t) { return t.SigReturn(); }
SysResult SysRestartSyscall(Task& t) { return t.RestartSyscall(); }

SysResult SysSigaltstack(Task& t, GuestAddr ss, GuestAddr old) {
  const uint64_t sp = t.regs().rsp;
  const abi::StackT current = t.alt_stack;
  const bool on_it = current.size != 0 && (current.flags & abi::kSsAutodisarm) == 0 &&
                     sp > current.sp && sp - current.sp <= current.size;
  if (!ss.IsNull()) {
    abi::StackT fresh = TRY(UserIn<abi::StackT>(ss).CopyIn(t));
    if (on_it) return Errno(EPERM);
    const int32_t mode = fresh.flags & ~abi::kSsAutodisarm;
    if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0) return Errno(EINVAL);
    if (mode == SS_DISABLE) {
      fresh.size = 0;
      fresh.sp = 0;
    } else if (fresh.size < kMinAltStack) {
      return Errno(ENOMEM);
    }
    t.alt_stack = fresh;
    if (SignalFrames* const frames = SignalFrames::Current()) frames->Forget();
  }
  if (!old.IsNull()) {
    abi::StackT shown = current;
    shown.flags = (current.flags & abi::kSsAutodisarm) |
                  (current.size == 0 ? SS_DISABLE : on_it ? SS_ONSTACK : 0);
    shown.pad = 0;
    TRY(UserOut<abi::StackT>(old).CopyOut(t, shown));
  }
  return 0;
}

SysResult SysKill(Task& t, int pid, int signo) {
  const abi::SigInfo info = UserInfo(t, signo, SI_USER);
  TaskSet& set = t.kernel().tasks();
  MutexLock lock(set.mu);
  if (pid > 0) {
    Task* target = t.pid_ns().FindTask(pid);
    if (target == nullptr) return Errno(ESRCH);
    return Zero(KillOneLocked(t, target->tg(), signo, info));
  }
  if (pid == -1) {
    // All but init and oneself; that one must not be told is no error.
    SysResult result = Errno(ESRCH);
    for (const auto& [tid, task] : t.pid_ns().tasks) {
      if (task->tgid() != task->tid() || tid == 1 || &task->tg() == &t.tg()) continue;
      Result<void> r = KillOneLocked(t, task->tg(), signo, info);
      if (r.ok() || r.error().Is(EPERM)) {
        if (!result.ok() && result.error().Is(ESRCH)) result = 0;
      } else {
        result = r.error();
      }
    }
    return result;
  }
  if (pid == INT_MIN) return Errno(ESRCH);
  const ProcessGroup* pg = pid == 0 ? t.tg().pgrp.get() : t.pid_ns().FindGroup(-pid);
  if (pg == nullptr) return Errno(ESRCH);
  return KillGroupLocked(t, *pg, signo, info);
}

SysResult SysTkill(Task& t, int tid, int signo) {
  return DoTkill(t, 0, tid, signo, UserInfo(t, signo, SI_TKILL));
}

SysResult SysTgkill(Task& t, int tgid, int tid, int signo) {
  if (tgid <= 0) return Errno(EINVAL);
  return DoTkill(t, tgid, tid, signo, UserInfo(t, signo, SI_TKILL));
}

SysResult SysRtSigqueueinfo(Task& t, int pid, int signo, GuestAddr addr) {
  abi::SigInfo info = TRY(UserIn<abi::SigInfo>(addr).CopyIn(t));
  info.signo = signo;
  // Only the kernel and tgkill may claim to be themselves.
  if ((info.code >= 0 || info.code == SI_TKILL) && pid != t.vtid()) return Errno(EPERM);
  MutexLock lock(t.kernel().tasks().mu);
  Task* target = t.pid_ns().FindTask(pid);
  if (target == nullptr) return Errno(ESRCH);
  return Zero(KillOneLocked(t, target->tg(), signo, info));
}

SysResult SysRtTgsigqueueinfo(Task& t, int tgid, int tid, int signo, GuestAddr addr) {
  abi::SigInfo info = TRY(UserIn<abi::SigInfo>(addr).CopyIn(t));
  info.signo = signo;
  if (tgid <= 0 || tid <= 0) return Errno(EINVAL);
  if ((info.code >= 0 || info.code == SI_TKILL) && tid != t.vtid()) return Errno(EPERM);
  return DoTkill(t, tgid, tid, signo, info);
}

SysResult SysPidfdSendSignal(Task& t, int fd, int signo, GuestAddr addr, uint32_t flags) {
  constexpr uint32_t kThread = 1, kGroup = 2, kPgrp = 4;
  if (flags != 0 && flags != kThread && flags != kGroup && flags != kPgrp) return Errno(EINVAL);
  Ref<File> file = TRY(t.GetFile(fd));
  RefPtr<ThreadGroup> tg = ThreadGroupOfPidFd(*file);
  if (!tg) tg = ThreadGroupOfProcDirectory(*file);
  if (!tg) return Errno(EBADF);
  RefPtr<Task> thread = ThreadOfPidFd(*file);
  if (flags == 0) flags = thread ? kThread : kGroup;
  abi::SigInfo info = UserInfo(t, signo, flags == kThread ? SI_TKILL : SI_USER);
  if (!addr.IsNull()) {
    info = TRY(UserIn<abi::SigInfo>(addr).CopyIn(t));
    if (info.signo != signo) return Errno(EINVAL);
    const bool to_self = flags != kPgrp && (thread ? thread.get() == &t : tg->leader == &t);
    if ((info.code >= 0 || info.code == SI_TKILL) && !to_self) return Errno(EPERM);
  }
  if (signo < 0 || signo > abi::kSigMax) return Errno(EINVAL);
  MutexLock lock(t.kernel().tasks().mu);
  if (flags == kPgrp) {
    const Pid* pid = thread ? &thread->pid() : tg->pid.get();
    const ProcessGroup* pg = t.pid_ns().FindGroup(pid->In(t.pid_ns()));
    return pg == nullptr ? Errno(ESRCH) : KillGroupLocked(t, *pg, signo, info);
  }
  if (tg->leader == nullptr) return Errno(ESRCH);  // reaped; a zombie may be sent anything
  if (flags == kGroup) return Zero(KillOneLocked(t, *tg, signo, info));
  if (!thread) thread = RefPtr<Task>(tg->leader);
  if (thread->exit_state != ExitState::kAlive && thread.get() != tg->leader) return Errno(ESRCH);
  if (!MayKillLocked(t, *tg, signo)) return Errno(EPERM);
  return signo == 0 ? SysResult(0) : Zero(thread->SendSignal(info, false));
}

}  // namespace ringwall
