// TimerQueue: a binary heap of Timers that live inside their owners. Setting a timer that is armed
// for later than its old deadline only notes the new one; the heap moves when the old one passes.
// Not thread-safe: the stack's lock guards it.
#ifndef RINGWALL_NETSTACK_TIMER_QUEUE_H_
#define RINGWALL_NETSTACK_TIMER_QUEUE_H_

#include <cstddef>
#include <vector>

#include "netstack/time.h"

namespace ringwall::net {

class TimerQueue;

class Timer {
 public:
  using Callback = void (*)(void* owner, TimePoint now);
  Timer(Callback callback, void* owner) : callback_(callback), owner_(owner) {}
  ~Timer() { Cancel(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  void Set(TimerQueue& queue, TimePoint at);
  void Cancel();
  bool armed() const { return queue_ != nullptr && !wanted_.IsNever(); }
  TimePoint at() const { return wanted_; }

 private:
  friend class TimerQueue;
  Callback callback_;
  void* owner_;
  TimerQueue* queue_ = nullptr;
  size_t index_ = 0;
  TimePoint wanted_ = TimePoint::Never();
  TimePoint heap_key_ = TimePoint::Never();
};

class TimerQueue {
 public:
  // When Run has work; Never when nothing is armed.
  TimePoint Next() const { return heap_.empty() ? TimePoint::Never() : heap_[0]->heap_key_; }
  // Calls the callbacks of all timers due. A callback may set or cancel any timer.
  void Run(TimePoint now);

 private:
  friend class Timer;
  void Push(Timer* t);
  void Remove(Timer* t);
  void Up(size_t i);
  void Down(size_t i);
  std::vector<Timer*> heap_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TIMER_QUEUE_H_
