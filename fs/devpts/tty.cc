#include "fs/devpts/tty.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

constexpr EventMask kIn = EPOLLIN | EPOLLRDNORM;
constexpr EventMask kOut = EPOLLOUT | EPOLLWRNORM;
// What one call moves at most; the system call comes again for the rest.
constexpr size_t kTurn = 2048;

using PtySet = Guarded<std::set<const RefCountedBase*>, LockClass::kLeaf>;
PtySet& all_ptys() {
  static PtySet* all = new PtySet;
  return *all;
}

}  // namespace

Tty::Tty(Kernel& kernel, uint32_t number) : kernel_(kernel), number_(number) {
  all_ptys().With([this](auto& all) { all.insert(this); });
}

Tty::~Tty() {
  all_ptys().With([this](auto& all) { all.erase(this); });
}

bool Tty::IsPty(const RefCountedBase& tty) {
  return all_ptys().With([&](auto& all) { return all.contains(&tty); });
}

Result<size_t> Tty::MasterRead(IoDst& dst) {
  if (dst.remaining() == 0) return size_t{0};
  size_t n = 0;
  {
    MutexLock lock(mu_);
    if (master_hung_up_) return size_t{0};
    // What a fault keeps from arriving is lost, as data is.
    if (line_.packet_status() != 0) {
      const std::byte status{line_.TakePacketStatus()};
      const size_t got = TRY(dst.Put(std::span(&status, 1)));
      return got;
    }
    if (!line_.OutputReady()) return Errno(slave_gone_ ? EIO : EAGAIN);
    if (line_.packet()) {
      const std::byte data{0};  // TIOCPKT_DATA
      const Result<size_t> put = dst.Put(std::span(&data, 1));
      if (!put.ok()) {
        Result<size_t> lost = line_.ReadOutput(dst);
        static_cast<void>(lost);
        return put.error();
      }
      n = 1;
    }
    if (dst.remaining() > 0) {
      const size_t got = TRY(line_.ReadOutput(dst));
      n += got;
    }
  }
  slave_queue_.Notify(kOut);
  return n;
}

Result<size_t> Tty::MasterWrite(IoSrc& src) {
  std::array<std::byte, kTurn> bytes;
  const std::span<std::byte> want(bytes.data(), std::min(src.remaining(), bytes.size()));
  if (want.empty()) return size_t{0};
  std::vector<int> signals;
  size_t n = 0;
  {
    MutexLock lock(mu_);
    if (master_hung_up_) return Errno(EIO);
    const size_t seen = TRY(PeekWhole(src, want));
    if (master_held_) return Errno(EAGAIN);
    n = line_.Input(want.first(seen), &signals);
    if (n == 0) return Errno(EAGAIN);
    const size_t taken = TRY(src.Get(want.first(n)));
    static_cast<void>(taken);
  }
  slave_queue_.Notify(kIn | kOut);
  master_queue_.Notify(kIn | EPOLLPRI);
  SignalForeground(signals);
  return n;
}

EventMask Tty::MasterPoll() {
  MutexLock lock(mu_);
  if (master_hung_up_) return kIn | kOut | EPOLLERR | EPOLLHUP;
  EventMask mask = 0;
  if (line_.OutputReady()) mask |= kIn;
  if (line_.packet_status() != 0) mask |= kIn | EPOLLPRI;
  if (line_.InputHasRoom() && !master_held_) mask |= kOut;
  if (slave_gone_) mask |= EPOLLHUP;
  return mask;
}

void Tty::MasterClosed() {
  bool last = false;
  {
    MutexLock lock(mu_);
    hung_up_ = true;
    line_.HangUp();
    last = slaves_ == 0;
  }
  slave_queue_.Notify(kIn | kOut | EPOLLHUP | EPOLLERR);
  LoseSession();
  if (last) on_last_file_();
}

void Tty::HangUp() {
  {
    MutexLock lock(mu_);
    life_++;
    line_.HangUp();
  }
  slave_queue_.Notify(kIn | kOut | EPOLLHUP | EPOLLERR);
  LoseSession();
}

void Tty::LoseSession() {
  MutexLock lock(kernel_.tasks().mu);
  Session* session = SessionLocked();
  if (session == nullptr) return;
  const RefPtr<Session> keep = std::move(session_);
  HangUpSessionLocked(*session);
}

Result<uint32_t> Tty::SlaveOpened(bool privileged) {
  MutexLock lock(mu_);
  if (locked_ || hung_up_) return Errno(EIO);
  if (exclusive_ && !privileged) return Errno(EBUSY);
  slaves_++;
  slave_gone_ = false;
  line_.Open();
  return life_;
}

void Tty::SlaveClosed() {
  bool last = false;
  {
    MutexLock lock(mu_);
    if (--slaves_ > 0) return;
    slave_gone_ = true;
    last = hung_up_;
  }
  master_queue_.Notify(kIn | EPOLLHUP);
  if (last) on_last_file_();
}

Result<size_t> Tty::SlaveRead(IoDst& dst, bool nonblocking, uint32_t life, bool waited) {
  if (dst.remaining() == 0) return size_t{0};
  if (Task* task = Task::Current()) {
    TRY(CheckBackground(*task, SIGTTIN));
  }
  std::vector<int> signals;
  size_t n = 0;
  {
    MutexLock lock(mu_);
    if (waited && hung_up_ && life == life_) return Errno(EIO);
    if (HungUpLocked(life)) return size_t{0};
    const size_t got = TRY(line_.Read(dst, nonblocking, &signals));
    n = got;
  }
  // What had no room before may echo now, or ask for signals.
  master_queue_.Notify(kIn | kOut);
  SignalForeground(signals);
  return n;
}

namespace {
constexpr int64_t kTenth = 100'000'000;  // VTIME's unit
}

Tty::ByteTimer Tty::SlaveByteTimer() {
  MutexLock lock(mu_);
  const TtyTermios& t = line_.termios();
  if (line_.canonical() || t.cc[VTIME] == 0) return {};
  return {t.cc[VMIN], t.cc[VTIME] * kTenth};
}

int64_t Tty::SlaveReadDeadline() {
  MutexLock lock(mu_);
  const TtyTermios& t = line_.termios();
  if (line_.canonical() || t.cc[VMIN] != 0 || t.cc[VTIME] == 0) return INT64_MAX;
  return MonotonicNow() + t.cc[VTIME] * kTenth;
}

Result<size_t> Tty::SlaveWrite(IoSrc& src, uint32_t life) {
  bool may_stop = false;
  {
    MutexLock lock(mu_);
    may_stop = (line_.termios().lflag & TOSTOP) != 0;
  }
  if (Task* task = Task::Current(); may_stop && task != nullptr) {
    TRY(CheckBackground(*task, SIGTTOU));
  }
  std::array<std::byte, kTurn> bytes;
  const std::span<std::byte> want(bytes.data(), std::min(src.remaining(), bytes.size()));
  size_t n = 0;
  {
    MutexLock lock(mu_);
    if (HungUpLocked(life)) return Errno(EIO);
    if (want.empty()) return size_t{0};
    const size_t seen = TRY(PeekWhole(src, want));
    n = line_.Output(want.first(seen));
    if (n == 0) return Errno(EAGAIN);
    const size_t taken = TRY(src.Get(want.first(n)));
    static_cast<void>(taken);
  }
  master_queue_.Notify(kIn);
  return n;
}

EventMask Tty::SlavePoll(uint32_t life) {
  MutexLock lock(mu_);
  if (HungUpLocked(life)) return kIn | kOut | EPOLLERR | EPOLLHUP;
  EventMask mask = 0;
  if (line_.InputReady()) mask |= kIn;
  if (line_.OutputHasRoom()) mask |= kOut;
  return mask;
}

// tcflush(3). Either side's output is the other's input.
void Tty::Flush(bool master, uint64_t what) {
  const bool input = what != TCOFLUSH, output = what != TCIFLUSH;
  std::vector<int> signals;
  {
    MutexLock lock(mu_);
    if (master) {
      if (input) line_.FlushShown();
      if (output) line_.FlushTyped();
    } else {
      if (input) line_.FlushInput(true, &signals);
      if (output) line_.FlushOutput();
    }
  }
  master_queue_.Notify(kOut | kIn | EPOLLPRI);
  slave_queue_.Notify(kOut);
  SignalForeground(signals);
}

Session* Tty::SessionLocked() {
  if (session_ && session_->tty.get() != this) session_.reset();
  return session_.get();
}

void Tty::SignalForeground(const std::vector<int>& signals) {
  if (signals.empty()) return;
  TaskSet& set = kernel_.tasks();
  MutexLock lock(set.mu);
  Session* session = SessionLocked();
  if (session == nullptr) return;
  const auto it = set.groups.find(session->foreground_pgid);
  if (it == set.groups.end()) return;
  for (const int signo : signals) {
    SendSignalToProcessGroupLocked(*it->second, MakeSigInfo(signo, SI_KERNEL));
  }
}

// A process in the background of this terminal is stopped rather than answered. EIO for an orphan.
Result<void> Tty::CheckBackground(Task& task, int signo) {
  MutexLock lock(kernel_.tasks().mu);
  Session* session = SessionLocked();
  ProcessGroup& pg = *task.tg().pgrp;
  if (!IsTerminalOfLocked(task.tg())) return {};
  if (session->foreground_pgid == 0 || pg.pgid == session->foreground_pgid) return {};
  const bool ignored = task.tg().actions().Get(signo).handler == 1 ||
                       (task.signal_mask() & abi::SigBit(signo)) != 0;
  if (signo == SIGTTOU && ignored) return {};
  if (ignored || IsOrphanedLocked(task.tg())) return Errno(EIO);
  SendSignalToProcessGroupLocked(pg, MakeSigInfo(signo, SI_KERNEL));
  return Errno(kErestartSys);
}

}  // namespace ringwall
