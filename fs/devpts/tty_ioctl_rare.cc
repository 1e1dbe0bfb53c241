// The ioctls of terminals that fewer programs use: the three forms of termios, packet mode, exclusive
// use, line disciplines, hangups.
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "fs/devpts/tty.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr uint32_t kTcgets2 = 0x802c542a, kTcsets2 = 0x402c542b, kTcsetsw2 = 0x402c542c,
                   kTcsetsf2 = 0x402c542d;
constexpr uint32_t kBaudMask = 0010017, kBaudOther = 0010000;  // CBAUD, BOTHER
constexpr int kInputShift = 16;                                // IBSHIFT

// struct termios2.
struct Termios2Abi {
  TtyTermios t;
  uint32_t ispeed, ospeed;
};
static_assert(sizeof(Termios2Abi) == 44);

// struct termio.
struct TermioAbi {
  uint16_t iflag, oflag, cflag, lflag;
  uint8_t line;
  uint8_t cc[8];
  uint8_t pad;
};
static_assert(sizeof(TermioAbi) == 18);

constexpr std::pair<uint32_t, uint32_t> kBauds[] = {
    {B0, 0},           {B50, 50},         {B75, 75},           {B110, 110},
    {B134, 134},       {B150, 150},       {B200, 200},         {B300, 300},
    {B600, 600},       {B1200, 1200},     {B1800, 1800},       {B2400, 2400},
    {B4800, 4800},     {B9600, 9600},     {B19200, 19200},     {B38400, 38400},
    {B57600, 57600},   {B115200, 115200}, {B230400, 230400},   {B460800, 460800},
    {B500000, 500000}, {B576000, 576000}, {B921600, 921600},   {B1000000, 1000000},
    {B1152000, 1152000}, {B1500000, 1500000}, {B2000000, 2000000}, {B2500000, 2500000},
    {B3000000, 3000000}, {B3500000, 3500000}, {B4000000, 4000000}};

uint32_t SpeedOf(uint32_t baud, uint32_t other) {
  if (baud == kBaudOther) return other;
  for (const auto& [code, speed] : kBauds) {
    if (code == baud) return speed;
  }
  return 0;
}

bool PlainFlow(const TtyTermios& t) {
  return (t.iflag & IXON) != 0 && t.cc[VSTOP] == 023 && t.cc[VSTART] == 021;
}

// unset_locked_termios().
void KeepLocked(TtyTermios* t, const TtyTermios& old, const TtyTermios& locked) {
  const auto keep = [](uint32_t fresh, uint32_t before, uint32_t mask) { return (fresh & ~mask) | (before & mask); };
  t->iflag = keep(t->iflag, old.iflag, locked.iflag);
  t->oflag = keep(t->oflag, old.oflag, locked.oflag);
  t->cflag = keep(t->cflag, old.cflag, locked.cflag);
  t->lflag = keep(t->lflag, old.lflag, locked.lflag);
  if (locked.line != 0) t->line = old.line;
  for (size_t i = 0; i < std::size(t->cc); i++) {
    if (locked.cc[i] != 0) t->cc[i] = old.cc[i];
  }
}

template <typename T>
Result<int64_t> Answer(Task& task, uint64_t arg, const T& value) {
  TRY(UserOut<T>(GuestAddr(arg)).CopyOut(task, value));
  return 0;
}

}  // namespace

void Tty::ChangeTermios(TtyTermios t, uint32_t ispeed, uint32_t ospeed, bool flush) {
  std::vector<int> signals;
  {
    MutexLock lock(mu_);
    const TtyTermios old = line_.termios();
    KeepLocked(&t, old, kept_);
    if (flush) line_.FlushInput(false, &signals);
    const bool old_flow = PlainFlow(old), new_flow = PlainFlow(t);
    line_.SetTermios(t);
    ospeed_ = SpeedOf(t.cflag & kBaudMask, ospeed);
    const uint32_t input = (t.cflag >> kInputShift) & kBaudMask;
    ispeed_ = input == 0 ? ospeed_ : SpeedOf(input, ispeed);
    if (old_flow != new_flow) {
      line_.Tell(new_flow ? TIOCPKT_DOSTOP : TIOCPKT_NOSTOP, TIOCPKT_DOSTOP | TIOCPKT_NOSTOP);
    }
    constexpr uint32_t kExtProc = 0200000;  // EXTPROC
    if (((old.lflag | t.lflag) & kExtProc) != 0) line_.Tell(TIOCPKT_IOCTL);
  }
  slave_queue_.Notify(EPOLLIN | EPOLLOUT);
  master_queue_.Notify(EPOLLIN | EPOLLOUT | EPOLLPRI);
  SignalForeground(signals);
}

Result<int64_t> Tty::IoctlTermios(Task& task, uint32_t cmd, uint64_t arg) {
  Termios2Abi now;
  {
    MutexLock lock(mu_);
    now = {line_.termios(), ispeed_, ospeed_};
  }
  const bool flush = cmd == TCSETSF || cmd == kTcsetsf2 || cmd == TCSETAF;
  switch (cmd) {
    case TCGETS:
      return Answer(task, arg, now.t);
    case kTcgets2:
      return Answer(task, arg, now);
    case TCGETA: {
      TermioAbi t = {};
      t.iflag = static_cast<uint16_t>(now.t.iflag);
      t.oflag = static_cast<uint16_t>(now.t.oflag);
      t.cflag = static_cast<uint16_t>(now.t.cflag);
      t.lflag = static_cast<uint16_t>(now.t.lflag);
      t.line = now.t.line;
      std::copy_n(now.t.cc, sizeof(t.cc), t.cc);
      return Answer(task, arg, t);
    }
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case kTcsets2:
    case kTcsetsw2:
    case kTcsetsf2:
    case TCSETA:
    case TCSETAW:
    case TCSETAF:
      break;
    case TIOCGLCKTRMIOS: {
      TtyTermios kept;
      {
        MutexLock lock(mu_);
        kept = kept_;
      }
      return Answer(task, arg, kept);
    }
    case TIOCSLCKTRMIOS: {
      if (!task.creds().Has(Capability::kSysAdmin)) return Errno(EPERM);
      const TtyTermios kept = TRY(UserIn<TtyTermios>(GuestAddr(arg)).CopyIn(task));
      MutexLock lock(mu_);
      kept_ = kept;
      return 0;
    }
    case TIOCSSOFTCAR: {
      const int32_t on = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(task));
      now.t.cflag = (now.t.cflag & ~uint32_t{CLOCAL}) | (on != 0 ? CLOCAL : 0);
      ChangeTermios(now.t, now.ispeed, now.ospeed, false);
      return 0;
    }
    case TIOCGSOFTCAR:
      return Answer(task, arg, int32_t{(now.t.cflag & CLOCAL) != 0 ? 1 : 0});
    default:
      return Errno(ENOTTY);
  }
  // The master's processes, too: it sets its other side.
  TRY(CheckBackground(task, SIGTTOU));
  if (cmd == kTcsets2 || cmd == kTcsetsw2 || cmd == kTcsetsf2) {
    now = TRY(UserIn<Termios2Abi>(GuestAddr(arg)).CopyIn(task));
  } else if (cmd == TCSETA || cmd == TCSETAW || cmd == TCSETAF) {
    const TermioAbi t = TRY(UserIn<TermioAbi>(GuestAddr(arg)).CopyIn(task));
    const auto low = [](uint32_t old, uint16_t fresh) { return (old & 0xffff0000u) | fresh; };
    now.t.iflag = low(now.t.iflag, t.iflag);
    now.t.oflag = low(now.t.oflag, t.oflag);
    now.t.cflag = low(now.t.cflag, t.cflag);
    now.t.lflag = low(now.t.lflag, t.lflag);
    std::copy_n(t.cc, sizeof(t.cc), now.t.cc);
  } else {
    now.t = TRY(UserIn<TtyTermios>(GuestAddr(arg)).CopyIn(task));
  }
  ChangeTermios(now.t, now.ispeed, now.ospeed, flush);
  return 0;
}

Result<int64_t> Tty::IoctlMaster(Task& task, uint32_t cmd, uint64_t arg) {
  switch (cmd) {
    case TIOCGPTN:
      return Answer(task, arg, number_);
    case TIOCSPTLCK: {
      const int32_t on = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(task));
      MutexLock lock(mu_);
      locked_ = on != 0;
      return 0;
    }
    case TIOCGPTLCK: {
      int32_t on = 0;
      {
        MutexLock lock(mu_);
        on = locked_;
      }
      return Answer(task, arg, on);
    }
    case TIOCPKT: {
      const int32_t on = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(task));
      MutexLock lock(mu_);
      line_.set_packet(on != 0);
      return 0;
    }
    case TIOCGPKT: {
      int32_t on = 0;
      {
        MutexLock lock(mu_);
        on = line_.packet();
      }
      return Answer(task, arg, on);
    }
    default: {  // TIOCSIG
      const int signo = static_cast<int>(arg);
      if (signo != SIGINT && signo != SIGQUIT && signo != SIGTSTP) return Errno(EINVAL);
      SignalForeground({signo});
      return 0;
    }
  }
}

Result<int64_t> Tty::IoctlRare(Task& task, bool master, uint32_t cmd, uint64_t arg) {
  switch (cmd) {
    case TIOCEXCL:
    case TIOCNXCL: {
      MutexLock lock(mu_);
      (master ? master_exclusive_ : exclusive_) = cmd == TIOCEXCL;
      return 0;
    }
    case TIOCGEXCL: {
      int32_t on = 0;
      {
        MutexLock lock(mu_);
        on = master ? master_exclusive_ : exclusive_;
      }
      return Answer(task, arg, on);
    }
    case TIOCGETD:
      return Answer(task, arg, int32_t{0});
    case TIOCSETD: {
      // N_TTY is all there is.
      if (!master) {
        TRY(CheckBackground(task, SIGTTOU));
      }
      const int32_t which = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(task));
      if (which != 0) return Errno(EINVAL);
      return 0;
    }
    case TIOCGDEV:
      return Answer(task, arg,
                    rdev());
    default:  // TIOCVHANGUP
      if (!task.creds().Has(Capability::kSysAdmin)) return Errno(EPERM);
      if (master) {
        MutexLock lock(mu_);
        master_hung_up_ = true;
      } else {
        HangUp();
      }
      return 0;
  }
}

}  // namespace ringwall
