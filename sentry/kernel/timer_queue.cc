#include "sentry/kernel/timer_queue.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "sentry/base/check.h"

namespace ringwall {

namespace {

constexpr int64_t kNsPerSec = 1'000'000'000;
// How closely CPU clocks are watched; Linux looks at them once a tick.
constexpr int64_t kCpuGrain = 1'000'000;
constexpr size_t kStackSize = 256 << 10;
constexpr int64_t kNever = INT64_MAX;

constexpr std::array<clockid_t, kTimerClocks> kHostClocks = {CLOCK_REALTIME, CLOCK_MONOTONIC,
                                                             CLOCK_BOOTTIME};

size_t Index(TimerClock clock) { return static_cast<size_t>(clock); }

int64_t Now(clockid_t clock) {
  timespec now;
  RW_CHECK(clock_gettime(clock, &now) == 0);
  return int64_t{now.tv_sec} * kNsPerSec + now.tv_nsec;
}

void FutexWake(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace

std::optional<TimerClock> TimerClockOf(int clock_id, int64_t* offset_ns) {
  *offset_ns = 0;
  switch (clock_id) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_ALARM:
      return TimerClock::kRealtime;
    case CLOCK_TAI: {
      // Whole seconds; read together they differ by less than one.
      const int64_t apart = Now(CLOCK_TAI) - Now(CLOCK_REALTIME);
      *offset_ns = (apart + kNsPerSec / 2) / kNsPerSec * kNsPerSec;
      return TimerClock::kRealtime;
    }
    case CLOCK_MONOTONIC:
      return TimerClock::kMonotonic;
    case CLOCK_BOOTTIME:
    case CLOCK_BOOTTIME_ALARM:
      return TimerClock::kBoottime;
    default:
      return std::nullopt;
  }
}

int64_t TimerClockNow(TimerClock clock) { return Now(kHostClocks[Index(clock)]); }

Timer::~Timer() { RW_CHECK(state_ == State::kIdle); }

TimerQueue::TimerQueue() {
  MutexLock lock(mu_);
  programmed_.fill(kNever);
}

TimerQueue::~TimerQueue() {
  {
    MutexLock lock(mu_);
    for (const std::set<Entry>& armed : armed_) RW_CHECK(armed.empty());
    if (!started_) return;
    stop_ = true;
    wakes_.fetch_add(1);
    FutexWake(wakes_);
  }
  pthread_join(thread_, nullptr);
}

void TimerQueue::StartThreadLocked() {
  if (started_) return;
  started_ = true;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, kStackSize);
  // It takes no signal: they are for the threads of tasks.
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  RW_CHECK(pthread_create(&thread_, &attr, &ThreadMain, this) == 0);
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  pthread_attr_destroy(&attr);
}

void TimerQueue::InsertLocked(Timer& timer) {
  timer.state_ = Timer::State::kArmed;
  armed_[Index(timer.clock_)].emplace(timer.deadline_, &timer);
  StartThreadLocked();
  ProgramLocked(timer.clock_);
}

void TimerQueue::EraseLocked(Timer& timer) {
  // The thread is not woken: one look too many is cheaper than a call for each cancelled timer.
  if (timer.state_ == Timer::State::kArmed) {
    armed_[Index(timer.clock_)].erase({timer.deadline_, &timer});
  }
  timer.state_ = Timer::State::kIdle;
}

void TimerQueue::ProgramLocked(TimerClock clock) {
  const std::set<Entry>& armed = armed_[Index(clock)];
  if (!asleep_ || armed.empty() || armed.begin()->first >= programmed_[Index(clock)]) return;
  asleep_ = false;  // one wake is enough
  wakes_.fetch_add(1);
  FutexWake(wakes_);
}

bool TimerQueue::Sleep() {
  uint32_t seen;
  size_t first = Index(TimerClock::kMonotonic);
  int64_t wait = kNever;
  int64_t until = kNever;
  {
    MutexLock lock(mu_);
    if (stop_) return false;
    for (size_t i = 0; i < kTimerClocks; ++i) {
      programmed_[i] = armed_[i].empty() ? kNever : armed_[i].begin()->first;
      if (programmed_[i] == kNever) continue;
      const int64_t now = Now(kHostClocks[i]);
      if (programmed_[i] <= now) return true;
      if (programmed_[i] - now < wait) {
        first = i;
        wait = programmed_[i] - now;
        until = programmed_[i];
      }
    }
    seen = wakes_.load();
    asleep_ = true;
  }
  int op = FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG;
  if (first == Index(TimerClock::kRealtime)) {
    op |= FUTEX_CLOCK_REALTIME;
  } else if (first == Index(TimerClock::kBoottime)) {
    const int64_t now = Now(CLOCK_MONOTONIC);
    until = wait > kNever - now ? kNever : now + wait;
  }
  timespec at = {until / kNsPerSec, until % kNsPerSec};
  syscall(SYS_futex, &wakes_, op, seen, until == kNever ? nullptr : &at, nullptr,
          FUTEX_BITSET_MATCH_ANY);
  MutexLock lock(mu_);
  asleep_ = false;
  return !stop_;
}

void TimerQueue::Arm(Timer& timer, TimerClock clock, int64_t deadline_ns) {
  MutexLock lock(mu_);
  EraseLocked(timer);
  if (running_ == &timer) timer.rearmed_ = true;
  timer.cpu_ = nullptr;
  timer.clock_ = clock;
  timer.deadline_ = deadline_ns;
  InsertLocked(timer);
}

void TimerQueue::LookLocked(Timer& timer, const CpuClock::Reading& reading) {
  if (reading.now_ns < timer.cpu_deadline_ && reading.running <= 0) {
    timer.state_ = Timer::State::kParked;
    return;
  }
  const int64_t left = std::max<int64_t>(timer.cpu_deadline_ - reading.now_ns, 0);
  const int64_t now = TimerClockNow(TimerClock::kMonotonic);
  int64_t wait = 0;
  if (left != 0) wait = std::max(left / std::max(reading.running, 1), kCpuGrain);
  timer.clock_ = TimerClock::kMonotonic;
  timer.deadline_ = wait > kNever - now ? kNever : now + wait;
  InsertLocked(timer);
}

void TimerQueue::ArmCpu(Timer& timer, CpuClock& clock, int64_t deadline_ns) {
  const CpuClock::Reading reading = clock.Read();
  MutexLock lock(mu_);
  EraseLocked(timer);
  if (running_ == &timer) timer.rearmed_ = true;
  timer.cpu_ = &clock;
  timer.cpu_deadline_ = deadline_ns;
  LookLocked(timer, reading);
}

void TimerQueue::Recheck(Timer& timer) {
  MutexLock lock(mu_);
  if (timer.state_ != Timer::State::kParked) return;
  timer.clock_ = TimerClock::kMonotonic;
  timer.deadline_ = TimerClockNow(TimerClock::kMonotonic) + kCpuGrain;
  InsertLocked(timer);
}

bool TimerQueue::Cancel(Timer& timer) {
  MutexLock lock(mu_);
  const bool armed = timer.state_ != Timer::State::kIdle;
  EraseLocked(timer);
  if (running_ == &timer) {
    timer.rearmed_ = true;
    if (pthread_equal(pthread_self(), thread_) != 0) return armed;
    while (running_ == &timer) finished_.Wait(mu_);
    // OnExpire may have armed it itself meanwhile.
    EraseLocked(timer);
  }
  return armed;
}

void* TimerQueue::ThreadMain(void* self) {
  static_cast<TimerQueue*>(self)->Run();
  return nullptr;
}

void TimerQueue::Run() {
  while (Sleep()) {
    for (size_t i = 0; i < kTimerClocks; ++i) ExpireDue(static_cast<TimerClock>(i));
  }
}

void TimerQueue::ExpireDue(TimerClock clock) {
  const size_t i = Index(clock);
  {
    MutexLock lock(mu_);
    if (armed_[i].empty()) return;
  }
  // One reading for all: a timer that arms itself in the past comes again with the next one.
  const int64_t now = TimerClockNow(clock);
  for (;;) {
    Due due;
    {
      MutexLock lock(mu_);
      if (armed_[i].empty() || armed_[i].begin()->first > now) return;
      Timer& timer = *armed_[i].begin()->second;
      EraseLocked(timer);
      timer.rearmed_ = false;
      running_ = &timer;  // nobody lets it go now
      due = {&timer, clock, timer.cpu_, timer.cpu_deadline_};
    }
    Expire(due);
  }
}

void TimerQueue::Expire(const Due& due) {
  Timer& timer = *due.timer;
  std::optional<int64_t> next;
  CpuClock::Reading reading;
  bool expired = true;
  if (due.cpu != nullptr) {
    reading = due.cpu->Read();
    expired = reading.now_ns >= due.cpu_deadline;
  }
  if (expired) {
    next = timer.OnExpire(due.cpu != nullptr ? reading.now_ns : TimerClockNow(due.clock));
  }
  MutexLock lock(mu_);
  running_ = nullptr;
  finished_.SignalAll();
  if (timer.rearmed_ || (expired && !next)) return;
  if (due.cpu != nullptr) {
    if (next) timer.cpu_deadline_ = *next;
    LookLocked(timer, reading);
  } else {
    timer.deadline_ = *next;
    InsertLocked(timer);
  }
}

uint64_t CountExpirations(int64_t* deadline, int64_t interval, int64_t now) {
  if (now < *deadline) return 0;
  if (interval <= 0) return 1;
  const uint64_t behind = static_cast<uint64_t>(now) - static_cast<uint64_t>(*deadline);
  const uint64_t n = behind / static_cast<uint64_t>(interval) + 1;
  const unsigned __int128 next =
      static_cast<unsigned __int128>(n) * static_cast<uint64_t>(interval) +
      static_cast<uint64_t>(*deadline);
  *deadline = next > static_cast<uint64_t>(INT64_MAX) ? INT64_MAX : static_cast<int64_t>(next);
  return n;
}

}  // namespace ringwall
