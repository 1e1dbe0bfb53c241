// WaitQueue: who wants to hear about events of a file, a process, a socket. Events are poll(2)'s
// bits (EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLRDHUP, EPOLLPRI).
//
// A Waiter is called back with the queue's lock held: it may only note the event and wake a thread
// (kWaitQueue is the last class but kPlatform and kLeaf). Registration and removal are the waiter's
// owner's; a waiter is registered with one queue at a time.
#ifndef RINGWALL_SENTRY_BASE_WAIT_QUEUE_H_
#define RINGWALL_SENTRY_BASE_WAIT_QUEUE_H_

#include <cstdint>

#include "sentry/base/mutex.h"

namespace ringwall {

using EventMask = uint32_t;

class WaitQueue;

class Waiter {
 public:
  virtual ~Waiter();
  // `events`: those of the wake that this waiter asked for. Called under the queue's lock.
  // Returns true when an exclusive waiter used the event up.
  virtual bool OnEvent(EventMask events) = 0;
  bool registered() const { return queue_ != nullptr; }

 private:
  friend class WaitQueue;
  WaitQueue* queue_ = nullptr;
  Waiter* next_ = nullptr;
  Waiter* prev_ = nullptr;
  EventMask mask_ = 0;
  bool exclusive_ = false;
};

class WaitQueue {
 public:
  WaitQueue() = default;
  ~WaitQueue();
  WaitQueue(const WaitQueue&) = delete;
  WaitQueue& operator=(const WaitQueue&) = delete;

  // Preconditions: `w` is not registered. EPOLLERR and EPOLLHUP are always added to the mask.
  // Exclusive waiters go to the tail; one wake ends after the first exclusive one that took it.
  void Add(Waiter& w, EventMask mask, bool exclusive = false);
  // After Remove returns, OnEvent is not running and will not be called. Does nothing when not
  // registered here.
  void Remove(Waiter& w);
  void Notify(EventMask events);
  // From another queue's OnEvent. Queues that notify each other form no ring: epolls refuse one.
  void NotifyNested(EventMask events);
  // Whether anyone listens. A hint: may be stale when it returns.
  bool empty() const NO_THREAD_SAFETY_ANALYSIS {
    return __atomic_load_n(&head_, __ATOMIC_ACQUIRE) == nullptr;
  }

 private:
  void NotifyLocked(EventMask events) REQUIRES(mu_);
  void SetHead(Waiter* w) REQUIRES(mu_);
  mutable Mutex<LockClass::kWaitQueue> mu_;
  Waiter* head_ GUARDED_BY(mu_) = nullptr;
  Waiter* tail_ GUARDED_BY(mu_) = nullptr;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_WAIT_QUEUE_H_
