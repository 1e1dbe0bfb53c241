#include "fs/epoll/timerfd.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <algorithm>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/vfs.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

// How far CLOCK_REALTIME is ahead of CLOCK_MONOTONIC; it changes when the host's clock is set.
int64_t RealtimeOffset() {
  constexpr int64_t kClose = 100'000;
  int64_t offset = 0;
  for (int turn = 0; turn < 5; ++turn) {
    const int64_t before = TimerClockNow(TimerClock::kMonotonic);
    const int64_t real = TimerClockNow(TimerClock::kRealtime);
    const int64_t after = TimerClockNow(TimerClock::kMonotonic);
    offset = real - (before + (after - before) / 2);
    if (after - before < kClose) break;
  }
  return offset;
}

// A fast interval is not followed one by one: after the first expiry nothing more happens until
// someone reads, who counts what has come.
class TimerFd final : public File, public Timer {
 public:
  TimerFd(Path path, uint32_t flags, TimerQueue& queue, TimerClock clock, int64_t offset,
          int clock_id)
      : File(std::move(path), flags), timers_(queue), clock_id_(clock_id), clock_(clock),
        armed_on_(clock), offset_(offset) {}
  ~TimerFd() override { timers_.Cancel(*this); }

  Result<size_t> Read(IoDst& dst, uint64_t, int) override {
    if (dst.remaining() < sizeof(uint64_t)) return Errno(EINVAL);
    uint64_t value;
    {
      MutexLock lock(mu_);
      CountLocked();
      if (ClockWasSetLocked()) {
        // Everything must be thought over: what has expired no longer counts.
        real_offset_ = RealtimeOffset();
        count_ = 0;
        return Errno(ECANCELED);
      }
      if (count_ == 0) return Errno(EAGAIN);
      value = std::exchange(count_, 0);
      if (armed_) timers_.Arm(*this, armed_on_, deadline_);
    }
    return dst.Put(std::as_bytes(std::span(&value, 1)));
  }
  Result<size_t> Write(IoSrc&, uint64_t*, int) override { return Errno(EINVAL); }
  EventMask Poll(EventMask wanted) override {
    MutexLock lock(mu_);
    return count_ > 0 || ClockWasSetLocked() ? wanted & EPOLLIN : 0;
  }
  Result<int64_t> Ioctl(Task& task, uint32_t cmd, uint64_t arg) override {
    constexpr uint32_t kSetTicks = 0x40085400;  // TFD_IOC_SET_TICKS
    if (cmd != kSetTicks) return File::Ioctl(task, cmd, arg);
    uint64_t ticks = 0;
    TRY(task.CopyIn(GuestAddr(arg), std::as_writable_bytes(std::span(&ticks, 1))));
    if (ticks == 0) return Errno(EINVAL);
    {
      MutexLock lock(mu_);
      if (ClockWasSetLocked()) return Errno(ECANCELED);
      count_ = ticks;
    }
    queue_.Notify(EPOLLIN);
    return 0;
  }
  WaitQueue* queue() override { return &queue_; }
  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }
  std::string FdInfo() override {
    char text[200];
    MutexLock lock(mu_);
    const TimerFdSetting s = GetLocked();
    constexpr int64_t kSecond = 1'000'000'000;
    snprintf(text, sizeof(text),
             "clockid: %d\nticks: %llu\nsettime flags: 00\nit_value: (%lld, %lld)\n"
             "it_interval: (%lld, %lld)\n",
             clock_id_, static_cast<unsigned long long>(count_),
             static_cast<long long>(s.value / kSecond), static_cast<long long>(s.value % kSecond),
             static_cast<long long>(s.interval / kSecond),
             static_cast<long long>(s.interval % kSecond));
    return text;
  }

  TimerFdSetting Set(const TimerFdSetting& to, bool absolute, bool cancel_on_set) {
    MutexLock lock(mu_);
    might_cancel_ = absolute && cancel_on_set && clock_ == TimerClock::kRealtime;
    if (might_cancel_) real_offset_ = RealtimeOffset();
    const TimerFdSetting old = GetLocked();
    count_ = 0;
    armed_ = to.value != 0;
    interval_ = to.interval;
    // What is relative does not move with the host's time.
    armed_on_ = !absolute && clock_ == TimerClock::kRealtime ? TimerClock::kMonotonic : clock_;
    if (absolute) {
      deadline_ = to.value - offset_;
    } else {
      const int64_t now = TimerClockNow(armed_on_);
      deadline_ = to.value > INT64_MAX - now ? INT64_MAX : now + to.value;
    }
    if (armed_) timers_.Arm(*this, armed_on_, deadline_);
    return old;
  }
  TimerFdSetting Get() {
    MutexLock lock(mu_);
    return GetLocked();
  }

  std::optional<int64_t> OnExpire(int64_t now_ns) override {
    {
      MutexLock lock(mu_);
      if (!armed_) return std::nullopt;
      if (now_ns < deadline_) return deadline_;
      CountLocked();
    }
    queue_.Notify(EPOLLIN);
    return std::nullopt;
  }

 private:
  bool ClockWasSetLocked() REQUIRES(mu_) {
    constexpr int64_t kStep = 1'000'000;
    if (!might_cancel_) return false;
    const int64_t moved = RealtimeOffset() - real_offset_;
    return moved > kStep || moved < -kStep;
  }
  void CountLocked() REQUIRES(mu_) {
    if (!armed_) return;
    count_ += CountExpirations(&deadline_, interval_, TimerClockNow(armed_on_));
    if (interval_ == 0 && count_ > 0) armed_ = false;
  }
  TimerFdSetting GetLocked() REQUIRES(mu_) {
    CountLocked();
    if (!armed_) return {0, interval_};
    return {std::max<int64_t>(deadline_ - TimerClockNow(armed_on_), 1), interval_};
  }

  TimerQueue& timers_;
  const int clock_id_;
  const TimerClock clock_;
  WaitQueue queue_;
  Mutex<LockClass::kPipe> mu_;
  TimerClock armed_on_ GUARDED_BY(mu_);
  const int64_t offset_;
  bool armed_ GUARDED_BY(mu_) = false;
  bool might_cancel_ GUARDED_BY(mu_) = false;  // TFD_TIMER_CANCEL_ON_SET
  int64_t real_offset_ GUARDED_BY(mu_) = 0;
  int64_t deadline_ GUARDED_BY(mu_) = 0, interval_ GUARDED_BY(mu_) = 0;
  uint64_t count_ GUARDED_BY(mu_) = 0;
};

Result<TimerFd*> AsTimerFd(File& file) {
  if (file.kind() != &TimerFd::kKind) return Errno(EINVAL);
  return static_cast<TimerFd*>(&file);
}

}  // namespace

Result<Ref<File>> NewTimerFd(TimerQueue& queue, int clock_id, int flags) {
  int64_t offset;
  const std::optional<TimerClock> clock = TimerClockOf(clock_id, &offset);
  if (!clock || clock_id == CLOCK_TAI) return Errno(EINVAL);
  return Ref<File>(MakeRef<TimerFd>(
      AnonymousPath(MakeRef<AnonInode>(0600, 0, 0), "anon_inode:[timerfd]"),
      O_RDWR | ((flags & TFD_NONBLOCK) != 0 ? uint32_t{O_NONBLOCK} : 0), queue, *clock, offset, clock_id));
}

Result<TimerFdSetting> SetTimerFd(File& file, const TimerFdSetting& to, bool absolute,
                                  bool cancel_on_set) {
  TimerFd* timer = TRY(AsTimerFd(file));
  return timer->Set(to, absolute, cancel_on_set);
}

Result<TimerFdSetting> GetTimerFd(File& file) {
  TimerFd* timer = TRY(AsTimerFd(file));
  return timer->Get();
}

}  // namespace ringwall
