// Where a sleeping task goes on. A wake of an idle processor takes the waker some 10 us and comes 20 to
// 110 us later, and what the one has written then crosses over to the other's cache, at 30 ns a line. So
// a task that mostly sleeps itself soon after it has woken another one (the ends of a pipe, a request and
// its answer) has that go on where it runs itself.
#ifndef RINGWALL_SENTRY_KERNEL_WAKE_PLACE_H_
#define RINGWALL_SENTRY_KERNEL_WAKE_PLACE_H_

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstdint>

namespace ringwall {

// Of one task; what it knows of the waker is the calling host thread's own.
class WakePlace {
 public:
  // The task's thread, around a sleep. After it, once nobody takes the thread for asleep any more: then
  // no other thread touches its affinity after AfterSleep has returned.
  void BeforeSleep();
  void AfterSleep(const cpu_set_t& all);

  // A waker's, before it tells the task, and after it; asleep: whether the task slept then. Returns what
  // the second wants to know: whether the task is to be moved.
  bool BeforeWake();
  void AfterWake(bool moves, bool asleep);

  // Whether the guest is bound to some of the processors, and so better woken there. Any thread.
  void set_bound(bool bound) { bound_.store(bound, std::memory_order_relaxed); }

 private:
  enum class State : uint32_t { kNone, kMoving, kMoved };

  pthread_t thread_{};  // written before each sleep
  std::atomic<State> state_{State::kNone};
  std::atomic<bool> bound_{false};
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_WAKE_PLACE_H_
