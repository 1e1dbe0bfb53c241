// ioctl_tty(2).
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "fs/devpts/tty.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

template <typename T>
Result<int64_t> Answer(Task& task, uint64_t arg, const T& value) {
  TRY(UserOut<T>(GuestAddr(arg)).CopyOut(task, value));
  return 0;
}

}  // namespace

Result<int64_t> Tty::SetTermios(Task& task, uint32_t cmd, uint64_t arg) {
  const TtyTermios t = TRY(UserIn<TtyTermios>(GuestAddr(arg)).CopyIn(task));
  {
    MutexLock lock(mu_);
    line_.SetTermios(t);
    if ((t.iflag & IXON) == 0) line_.set_stopped(false);
    if (cmd == TCSETSF) line_.FlushInput();
  }
  slave_queue_.Notify(EPOLLIN | EPOLLOUT);
  master_queue_.Notify(EPOLLIN | EPOLLOUT);
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

void Tty::FlowControl(uint64_t what) {
  {
    MutexLock lock(mu_);
    line_.set_stopped(what == TCOOFF);
  }
  slave_queue_.Notify(EPOLLOUT | EPOLLWRNORM);
}

Result<int64_t> Tty::Ioctl(Task& task, bool master, uint32_t cmd, uint64_t arg) {
  if (!master) {
    MutexLock lock(mu_);
    if (hung_up_) return Errno(EIO);
  }
  switch (cmd) {
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case TCSBRK:
    case TCSBRKP:
    case TCXONC:
    case TCFLSH:
      if (!master) {
        TRY(CheckBackground(task, SIGTTOU));
      }
      break;
    default:
      break;
  }
  switch (cmd) {
    case TCGETS: {
      TtyTermios t;
      {
        MutexLock lock(mu_);
        t = line_.termios();
      }
      return Answer(task, arg, t);
    }
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
      return SetTermios(task, cmd, arg);
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
      return 0;  // no line to be broken, nothing to wait for
    case TCXONC:
      if (arg > TCION) return Errno(EINVAL);
      if (arg == TCOOFF || arg == TCOON) FlowControl(arg);
      return 0;
    case TCFLSH:
      if (arg > TCIOFLUSH) return Errno(EINVAL);
      // What one side has not read yet is the other's output.
      Flush(arg == TCIOFLUSH || (arg == TCIFLUSH) != master,
            arg == TCIOFLUSH || (arg == TCOFLUSH) != master);
      return 0;
    case TIOCGPTN:
      if (!master) return Errno(ENOTTY);
      return Answer(task, arg, number_);
    case TIOCSPTLCK: {
      if (!master) return Errno(ENOTTY);
      const int32_t on = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(task));
      MutexLock lock(mu_);
      locked_ = on != 0;
      return 0;
    }
    case TIOCGPTLCK: {
      if (!master) return Errno(ENOTTY);
      int32_t on = 0;
      {
        MutexLock lock(mu_);
        on = locked_;
      }
      return Answer(task, arg, on);
    }
    default:
      return IoctlJobs(task, master, cmd, arg);
  }
}

void Tty::ControlLocked(Session& session, int pgid) {
  session.tty = RefPtr<RefCountedBase>(this);
  session.foreground_pgid = pgid;
  session_ = RefPtr<Session>(&session);
}

void Tty::OfferTo(Task& task) {
  MutexLock lock(kernel_.tasks().mu);
  ProcessGroup& pg = *task.tg().pgrp;
  Session& own = *pg.session;
  if (own.leader != &task.tg() || own.tty || SessionLocked() != nullptr) return;
  ControlLocked(own, pg.pgid);
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
        if (!master && (session == nullptr || task.tg().pgrp->session.get() != session)) {
          return Errno(ENOTTY);
        }
        if (session == nullptr && cmd == TIOCGSID) return Errno(ENOTTY);
        if (session != nullptr) {
          id = cmd == TIOCGSID ? session->pid->In(task.pid_ns())
                               : ForegroundGroupLocked(*session, task.pid_ns());
        }
      }
      return Answer(task, arg, id);
    }
    case TIOCSPGRP: {
      if (!master) {
        TRY(CheckBackground(task, SIGTTOU));
      }
      {
        MutexLock lock(set.mu);
        Session* session = SessionLocked();
        if (session == nullptr || task.tg().pgrp->session.get() != session) return Errno(ENOTTY);
      }
      const int32_t pgid = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(task));
      if (pgid < 0) return Errno(EINVAL);
      MutexLock lock(set.mu);
      Session* session = SessionLocked();
      if (session == nullptr) return Errno(ENOTTY);
      const ProcessGroup* pg = task.pid_ns().FindGroup(pgid);
      if (pg == nullptr) return Errno(ESRCH);
      if (pg->session.get() != session) return Errno(EPERM);
      session->foreground_pgid = pg->pgid;
      return 0;
    }
    case TIOCSCTTY: {
      MutexLock lock(set.mu);
      ProcessGroup& pg = *task.tg().pgrp;
      Session& own = *pg.session;
      Session* session = SessionLocked();
      if (own.leader == &task.tg() && session == &own) return 0;
      if (own.leader != &task.tg() || own.tty || session != nullptr) return Errno(EPERM);
      ControlLocked(own, pg.pgid);
      return 0;
    }
    case TIOCNOTTY: {
      MutexLock lock(set.mu);
      Session* session = SessionLocked();
      if (session == nullptr || task.tg().pgrp->session.get() != session) return Errno(ENOTTY);
      if (session->leader != &task.tg()) return 0;
      const RefPtr<Session> keep = std::move(session_);
      HangUpSessionLocked(kernel_, *session);
      return 0;
    }
    default:
      return Errno(ENOTTY);
  }
}

}  // namespace ringwall
