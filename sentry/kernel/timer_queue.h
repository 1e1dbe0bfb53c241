// TimerQueue: everything of a sandbox that happens at a time: POSIX timers, itimers, alarm, timerfd,
// CPU-time limits, protocol timers. One host thread, begun with the first timer, sleeps until the
// next one is due; arming another costs one host call at most and wakes nobody. A wait that blocks a
// task anyway (nanosleep, a futex with a time limit) needs no timer: Task::Block takes a deadline.
//
// The clocks are the host's. The thread sleeps by futex on the clock that is due first, so a change of
// the host's time is seen when the timer that is slept for is one of CLOCK_REALTIME, and at the next
// expiry otherwise.
//
// Lock order: mu_ (kTimer); callbacks run without it.
#ifndef RINGWALL_SENTRY_KERNEL_TIMER_QUEUE_H_
#define RINGWALL_SENTRY_KERNEL_TIMER_QUEUE_H_

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <set>
#include <utility>

#include "sentry/base/mutex.h"

namespace ringwall {

// Clocks that timers can be armed on.
enum class TimerClock : uint8_t { kRealtime, kMonotonic, kBoottime };
inline constexpr size_t kTimerClocks = 3;

// Of a guest's clock number, the ALARM variants and TAI too; nullopt when no timer can use it.
// *offset: what to take from a time of that clock to have one of the result.
std::optional<TimerClock> TimerClockOf(int clock_id, int64_t* offset_ns);
int64_t TimerClockNow(TimerClock clock);

// A clock of CPU time. Read from the timer thread, without locks.
class CpuClock {
 public:
  virtual ~CpuClock() = default;
  struct Reading {
    int64_t now_ns = 0;
    // How many threads may be adding to it now. 0: it stands still until Recheck.
    int running = 0;
  };
  virtual Reading Read() = 0;
};

class TimerQueue;

// One timer. Its owner cancels it before it is destroyed.
class Timer {
 public:
  Timer() = default;
  virtual ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  // The timer is due: runs on the timer thread without its locks, never twice at a time. The time
  // it returns arms it anew on the same clock (one in the past at once).
  virtual std::optional<int64_t> OnExpire(int64_t now_ns) = 0;

 private:
  friend class TimerQueue;
  // Under the queue's lock.
  enum class State : uint8_t { kIdle, kArmed, kParked };
  State state_ = State::kIdle;
  bool rearmed_ = false;  // while running: Arm or Cancel has decided what comes next
  TimerClock clock_ = TimerClock::kMonotonic;
  int64_t deadline_ = 0;      // of clock_; for a CPU timer: when to look again
  CpuClock* cpu_ = nullptr;   // owned by the timer's owner
  int64_t cpu_deadline_ = 0;
};

class TimerQueue {
 public:
  TimerQueue();
  // Preconditions: no timer is armed.
  ~TimerQueue();

  // Arms at an absolute time; an armed timer is moved. Anywhere, from OnExpire too.
  void Arm(Timer& timer, TimerClock clock, int64_t deadline_ns) EXCLUDES(mu_);
  // Arms at a time of `clock`, which must live as long. Expires up to a millisecond late per
  // thread that runs.
  void ArmCpu(Timer& timer, CpuClock& clock, int64_t deadline_ns) EXCLUDES(mu_);
  // The clock of a CPU timer, which stood still, may run again.
  void Recheck(Timer& timer) EXCLUDES(mu_);
  // True when it was armed and will not expire. When it returns, OnExpire does not run, unless the
  // caller is OnExpire itself. The caller holds no lock that OnExpire takes.
  bool Cancel(Timer& timer) EXCLUDES(mu_);

 private:
  using Entry = std::pair<int64_t, Timer*>;
  static void* ThreadMain(void* self);
  void Run() EXCLUDES(mu_);
  void StartThreadLocked() REQUIRES(mu_);
  void InsertLocked(Timer& timer) REQUIRES(mu_);
  void EraseLocked(Timer& timer) REQUIRES(mu_);
  // Wakes the thread when it sleeps for longer than until the clock's first timer.
  void ProgramLocked(TimerClock clock) REQUIRES(mu_);
  // Sleeps until a timer of any clock is due or Arm wakes it. False: the queue ends.
  bool Sleep() EXCLUDES(mu_);
  void ExpireDue(TimerClock clock) EXCLUDES(mu_);
  // What is due, as it was when it was taken out.
  struct Due {
    Timer* timer = nullptr;
    TimerClock clock = TimerClock::kMonotonic;
    CpuClock* cpu = nullptr;
    int64_t cpu_deadline = 0;
  };
  void Expire(const Due& due) EXCLUDES(mu_);
  // Arms a CPU timer for when its clock must be looked at next, or parks it.
  void LookLocked(Timer& timer, const CpuClock::Reading& reading) REQUIRES(mu_);

  Mutex<LockClass::kTimer> mu_;
  std::array<std::set<Entry>, kTimerClocks> armed_ GUARDED_BY(mu_);
  // While asleep_: until when, of each clock.
  std::array<int64_t, kTimerClocks> programmed_ GUARDED_BY(mu_);
  bool asleep_ GUARDED_BY(mu_) = false;
  bool stop_ GUARDED_BY(mu_) = false;
  std::atomic<uint32_t> wakes_{0};  // what the thread sleeps on
  Timer* running_ GUARDED_BY(mu_) = nullptr;
  CondVar finished_;  // running_ has become null; with mu_
  bool started_ GUARDED_BY(mu_) = false;
  pthread_t thread_ = {};
};

// For a timer that repeats: how many of deadline, deadline + interval, ... have come by `now` (at
// least 1 when the first has); *deadline becomes the next.
uint64_t CountExpirations(int64_t* deadline, int64_t interval, int64_t now);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_TIMER_QUEUE_H_
