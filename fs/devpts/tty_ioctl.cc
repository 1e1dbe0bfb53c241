// ioctl_tty(2).
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "fs/devpts/tty.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/user_ptr.h"
#include "sentry/kernel/sysctl_limits.h"

namespace ringwall {

namespace {

constexpr uint32_t kTiocsig = 0x40045436;  // TIOCSIG

template <typename T>
Result<int64_t> Answer(Task& task, uint64_t arg, const T& value) {
  TRY(UserOut<T>(GuestAddr(arg)).CopyOut(task, value));
  return 0;
}

}  // namespace

Result<int64_t> Tty::TypeChar(Task& task, bool master, uint64_t arg) {
  if (!task.creds().Has(Capability::kSysAdmin)) {
    if (legacy_tiocsti.load() == 0) return Errno(EIO);
    MutexLock lock(kernel_.tasks().mu);
    if (master || !IsTerminalOfLocked(task.tg())) return Errno(EPERM);
  }
  const uint8_t c = TRY(UserIn<uint8_t>(GuestAddr(arg)).CopyIn(task));
  std::vector<int> signals;
  {
    MutexLock lock(mu_);
    if (master) {
      line_.ShowAtOnce(c);
    } else {
      line_.InputAtOnce(c, &signals);
    }
  }
  slave_queue_.Notify(EPOLLIN | EPOLLRDNORM);
  master_queue_.Notify(EPOLLIN | EPOLLRDNORM | EPOLLPRI);
  SignalForeground(signals);
  return 0;
}

Result<int64_t> Tty::SetWindow(Task& task, uint64_t arg) {
  const WindowSize size = TRY(UserIn<WindowSize>(GuestAddr(arg)).CopyIn(task));
  {
    MutexLock lock(mu_);
    if (window_ == size) return 0;
    window_ = size;
  }
  SignalForeground({SIGWINCH});
  return 0;
}

// TCIOFF and TCION: the byte that stops or starts what the other side writes. A master's own settings are
// never changed.
void Tty::SendFlowByte(bool master, bool stop, std::vector<int>* signals) {
  if (master) {
    const std::byte byte{static_cast<uint8_t>(stop ? 023 : 021)};
    if (!master_held_) line_.Input(std::span(&byte, 1), signals);
  } else if (const uint8_t c = line_.termios().cc[stop ? VSTOP : VSTART]; c != 0) {
    line_.OutputPastStop(c);
  }
}

// n_tty_ioctl_helper(): each side has its own flow. What stopped by a key, TCOON does not start.
void Tty::FlowControl(bool master, uint64_t what) {
  std::vector<int> signals;
  {
    MutexLock lock(mu_);
    if (what == TCIOFF || what == TCION) {
      SendFlowByte(master, what == TCIOFF, &signals);
    } else if (master) {
      master_held_ = what == TCOOFF;
    } else {
      line_.set_held(what == TCOOFF);
    }
  }
  slave_queue_.Notify(EPOLLIN | EPOLLOUT | EPOLLWRNORM);
  master_queue_.Notify(EPOLLIN | EPOLLOUT | EPOLLPRI);
  SignalForeground(signals);
}

Result<int64_t> Tty::Ioctl(Task& task, std::optional<uint32_t> life, uint32_t cmd, uint64_t arg) {
  const bool master = !life;
  {
    MutexLock lock(mu_);
    if (master ? master_hung_up_ : HungUpLocked(*life)) return Errno(cmd == TIOCSPGRP ? ENOTTY : EIO);
  }
  switch (cmd) {
    case TIOCGWINSZ: {
      WindowSize size;
      {
        MutexLock lock(mu_);
        size = window_;
      }
      return Answer(task, arg, size);
    }
    case TIOCSWINSZ:
      return SetWindow(task, arg);
    case FIONREAD:
    case TIOCOUTQ: {
      int32_t n = 0;
      {
        MutexLock lock(mu_);
        if (cmd == FIONREAD) {
          n = static_cast<int32_t>(master ? line_.output_bytes() : line_.readable_bytes());
        }
      }
      return Answer(task, arg, n);
    }
    case TCSBRK:
    case TCSBRKP:
    case TIOCSBRK:
    case TIOCCBRK:
      if (!master) {
        TRY(CheckBackground(task, SIGTTOU));
      }
      return 0;  // no line to be broken, nothing to wait for
    case TCXONC:
      if (!master) {
        TRY(CheckBackground(task, SIGTTOU));
      }
      if (arg > TCION) return Errno(EINVAL);
      FlowControl(master, arg);
      return 0;
    case TCFLSH:
      if (!master) {
        TRY(CheckBackground(task, SIGTTOU));
      }
      if (arg > TCIOFLUSH) return Errno(EINVAL);
      Flush(master, arg);
      return 0;
    case TIOCGPTPEER:
      return Errno(EIO);  // the master's file answers it
    case TIOCSTI:
      return TypeChar(task, master, arg);
    case TIOCGPTN:
    case TIOCSPTLCK:
    case TIOCGPTLCK:
    case TIOCPKT:
    case TIOCGPKT:
    case kTiocsig:
      return master ? IoctlMaster(task, cmd, arg) : Result<int64_t>(Errno(ENOTTY));
    case TIOCGPGRP:
    case TIOCSPGRP:
    case TIOCGSID:
    case TIOCSCTTY:
    case TIOCNOTTY:
      return IoctlJobs(task, master, cmd, arg);
    case TIOCEXCL:
    case TIOCNXCL:
    case TIOCGEXCL:
    case TIOCGETD:
    case TIOCSETD:
    case TIOCGDEV:
    case TIOCVHANGUP:
      return IoctlRare(task, master, cmd, arg);
    default:
      return IoctlTermios(task, cmd, arg);
  }
}

void Tty::ControlLocked(ThreadGroup& leader) {
  TakeTerminalLocked(leader, RefPtr<RefCountedBase>(this), rdev());
  session_ = leader.pgrp->session;
}

void Tty::OfferTo(Task& task) {
  MutexLock lock(kernel_.tasks().mu);
  Session& own = *task.tg().pgrp->session;
  if (own.leader != &task.tg() || own.tty || SessionLocked() != nullptr) return;
  ControlLocked(task.tg());
}

// tiocspgrp(): the master asks for its other side.
Result<int64_t> Tty::SetForeground(Task& task, uint64_t arg) {
  const Result<void> background = CheckBackground(task, SIGTTOU);
  if (!background.ok()) return background.error().Is(EIO) ? Errno(ENOTTY) : background.error();
  const int32_t pgid = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(task));
  if (pgid < 0) return Errno(EINVAL);
  TaskSet& set = kernel_.tasks();
  MutexLock lock(set.mu);
  if (!IsTerminalOfLocked(task.tg())) return Errno(ENOTTY);
  Session& session = *task.tg().pgrp->session;
  // A process that leads no group is taken for one that does.
  const ProcessGroup* pg = task.pid_ns().FindGroup(pgid);
  const Task* other = pg == nullptr ? task.pid_ns().FindTask(pgid) : nullptr;
  if (pg == nullptr && other == nullptr) return Errno(ESRCH);
  if (pg != nullptr) {
    if (pg->session.get() != &session) return Errno(EPERM);
    session.foreground_pgid = pg->pgid;
    return 0;
  }
  if (other->tid() != other->tgid() || !other->tg().pgrp || other->tg().pgrp->session.get() != &session) return Errno(EPERM);
  session.foreground_pgid = other->tgid();
  return 0;
}

// Sessions and groups. What asks for one's own terminal, the master answers for its other side.
Result<int64_t> Tty::IoctlJobs(Task& task, bool master, uint32_t cmd, uint64_t arg) {
  TaskSet& set = kernel_.tasks();
  switch (cmd) {
    case TIOCGPGRP:
    case TIOCGSID: {
      int32_t id = 0;
      {
        MutexLock lock(set.mu);
        Session* session = SessionLocked();
        if (!master && !IsTerminalOfLocked(task.tg())) return Errno(ENOTTY);
        if (session == nullptr && cmd == TIOCGSID) return Errno(ENOTTY);
        if (session != nullptr) {
          id = cmd == TIOCGSID ? session->pid->In(task.pid_ns())
                               : ForegroundGroupLocked(*session, task.pid_ns());
        }
      }
      return Answer(task, arg, id);
    }
    case TIOCSPGRP:
      return SetForeground(task, arg);
    case TIOCSCTTY: {
      MutexLock lock(set.mu);
      Session& own = *task.tg().pgrp->session;
      Session* session = SessionLocked();
      if (own.leader == &task.tg() && session == &own) return 0;
      if (own.leader != &task.tg() || own.tty) return Errno(EPERM);
      if (session != nullptr) {
        // Taken from the other session.
        if (arg != 1 || !task.creds().Has(Capability::kSysAdmin)) return Errno(EPERM);
        LoseTerminalLocked(kernel_, *session, {});
      }
      ControlLocked(task.tg());
      return 0;
    }
    case TIOCNOTTY: {
      if (master) return Errno(ENOTTY);
      MutexLock lock(set.mu);
      if (!IsTerminalOfLocked(task.tg())) return Errno(ENOTTY);
      Session* session = SessionLocked();
      task.tg().terminal = 0;
      if (session->leader != &task.tg()) return 0;
      const RefPtr<Session> keep = std::move(session_);
      LoseTerminalLocked(kernel_, *session, {SIGHUP, SIGCONT});
      return 0;
    }
    default:
      return Errno(ENOTTY);
  }
}

}  // namespace ringwall
