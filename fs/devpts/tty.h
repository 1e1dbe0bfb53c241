// Tty: a pseudo-terminal pair (drivers/tty/pty.c, tty_io.c, tty_jobctrl.c): the line discipline
// between its two sides, and the session that it controls.
//
// Lock order: the TaskSet's lock before mu_; signals are sent with the former only.
#ifndef RINGWALL_FS_DEVPTS_TTY_H_
#define RINGWALL_FS_DEVPTS_TTY_H_

#include <functional>
#include <optional>
#include <vector>

#include "fs/devpts/line_discipline.h"
#include "fs/vfs/file.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/wait_queue.h"
#include "sentry/kernel/task.h"

namespace ringwall {

class Kernel;
struct Session;

class Tty final : public RefCounted<Tty> {
 public:
  Tty(Kernel& kernel, uint32_t number);
  ~Tty() override;
  // Whether a session's terminal is one of these (and not the host's).
  static bool IsPty(const RefCountedBase& tty);
  uint32_t number() const { return number_; }
  // Called once neither side has a file any more, without locks. Set before the first file is made.
  void set_on_last_file(std::function<void()> call) { on_last_file_ = std::move(call); }

  // --- The side of the terminal emulator.
  Result<size_t> MasterRead(IoDst& dst);
  Result<size_t> MasterWrite(IoSrc& src);
  EventMask MasterPoll();
  WaitQueue& master_queue() { return master_queue_; }
  // The emulator is gone: hangs up.
  void MasterClosed();

  // --- The side of the programs.
  // Returns which life of the terminal the opened file belongs to: a hangup ends one. EIO: locked, or
  // the master is gone; EBUSY: TIOCEXCL.
  Result<uint32_t> SlaveOpened(bool privileged);
  void SlaveClosed();
  // waited: in a call that found nothing before, which hears that the master went (EIO) where later ones read the end.
  Result<size_t> SlaveRead(IoDst& dst, bool nonblocking, uint32_t life, bool waited = false);
  Result<size_t> SlaveWrite(IoSrc& src, uint32_t life);
  EventMask SlavePoll(uint32_t life);
  int64_t SlaveReadDeadline();
  // VMIN with VTIME: how many bytes a read waits for, and how long after each of them, in nanoseconds.
  struct ByteTimer {
    size_t minimum = 0;
    int64_t between = 0;
  };
  ByteTimer SlaveByteTimer();
  // vhangup(2), TIOCVHANGUP: what has it open now reads its end, and the session loses it.
  void HangUp();
  WaitQueue& slave_queue() { return slave_queue_; }

  // life: that of a slave's file; the master's files have none.
  Result<int64_t> Ioctl(Task& task, std::optional<uint32_t> life, uint32_t cmd, uint64_t arg);
  // The controlling terminal of a session leader that has none, unless it is another session's.
  void OfferTo(Task& task);

 private:
  // Null once the session has let go. With the TaskSet's lock held.
  Session* SessionLocked();
  void ControlLocked(ThreadGroup& leader);
  // Whether it is this process's controlling terminal.
  bool IsTerminalOfLocked(const ThreadGroup& tg) { return HasTerminalLocked(tg) && SessionLocked() == tg.pgrp->session.get(); }
  uint32_t rdev() const { return (number_ & 0xff) | 136u << 8 | (number_ & ~0xffu) << 12; }
  Result<int64_t> SetForeground(Task& task, uint64_t arg);
  Result<void> CheckBackground(Task& task, int signo);
  void SignalForeground(const std::vector<int>& signals);
  Result<int64_t> IoctlJobs(Task& task, bool master, uint32_t cmd, uint64_t arg);
  Result<int64_t> IoctlTermios(Task& task, uint32_t cmd, uint64_t arg);
  Result<int64_t> IoctlMaster(Task& task, uint32_t cmd, uint64_t arg);
  Result<int64_t> IoctlRare(Task& task, bool master, uint32_t cmd, uint64_t arg);
  Result<int64_t> TypeChar(Task& task, bool master, uint64_t arg);
  void ChangeTermios(TtyTermios t, uint32_t ispeed, uint32_t ospeed, bool flush);
  void LoseSession();
  bool HungUpLocked(uint32_t life) const REQUIRES(mu_) { return hung_up_ || life != life_; }
  Result<int64_t> SetWindow(Task& task, uint64_t arg);
  void FlowControl(bool master, uint64_t what);
  void Flush(bool master, uint64_t what);
  void SendFlowByte(bool master, bool stop, std::vector<int>* signals) REQUIRES(mu_);

  struct WindowSize {
    uint16_t row, col, xpixel, ypixel;
    friend bool operator==(const WindowSize&, const WindowSize&) = default;
  };

  Kernel& kernel_;
  const uint32_t number_;
  std::function<void()> on_last_file_;
  RefPtr<Session> session_;  // under the TaskSet's lock
  WaitQueue master_queue_, slave_queue_;
  Mutex<LockClass::kTty> mu_;
  LineDiscipline line_ GUARDED_BY(mu_);
  WindowSize window_ GUARDED_BY(mu_) = {};
  bool locked_ GUARDED_BY(mu_) = true;  // until unlockpt(3)
  bool hung_up_ GUARDED_BY(mu_) = false;  // the master is gone
  bool master_hung_up_ GUARDED_BY(mu_) = false;  // TIOCVHANGUP on it: its files answer as a slave's would
  uint32_t life_ GUARDED_BY(mu_) = 0;     // counts hangups
  bool exclusive_ GUARDED_BY(mu_) = false, master_exclusive_ GUARDED_BY(mu_) = false;
  bool master_held_ GUARDED_BY(mu_) = false;  // TCOOFF on the master: nothing is typed
  TtyTermios kept_ GUARDED_BY(mu_) = {};      // TIOCSLCKTRMIOS: the bits that cannot be changed
  uint32_t ispeed_ GUARDED_BY(mu_) = 38400, ospeed_ GUARDED_BY(mu_) = 38400;
  bool slave_gone_ GUARDED_BY(mu_) = false;  // opened before, all closed now
  int slaves_ GUARDED_BY(mu_) = 0;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_DEVPTS_TTY_H_
