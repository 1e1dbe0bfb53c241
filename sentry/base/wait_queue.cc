#include "sentry/base/wait_queue.h"

#include <sys/epoll.h>

#include "sentry/base/check.h"

namespace ringwall {

Waiter::~Waiter() { RW_CHECK(queue_ == nullptr); }

WaitQueue::~WaitQueue() {
  MutexLock lock(mu_);
  RW_CHECK(head_ == nullptr);
}

// Every change of head_ is atomic, since empty() looks without the lock.
void WaitQueue::SetHead(Waiter* w) { __atomic_store_n(&head_, w, __ATOMIC_RELEASE); }

void WaitQueue::Add(Waiter& w, EventMask mask, bool exclusive) {
  MutexLock lock(mu_);
  RW_CHECK(w.queue_ == nullptr);
  w.queue_ = this;
  w.mask_ = mask | EPOLLERR | EPOLLHUP;
  w.exclusive_ = exclusive;
  if (exclusive) {
    w.next_ = nullptr;
    w.prev_ = tail_;
    if (tail_ != nullptr) {
      tail_->next_ = &w;
    } else {
      SetHead(&w);
    }
    tail_ = &w;
  } else {
    w.prev_ = nullptr;
    w.next_ = head_;
    (head_ != nullptr ? head_->prev_ : tail_) = &w;
    SetHead(&w);
  }
}

void WaitQueue::Remove(Waiter& w) {
  MutexLock lock(mu_);
  if (w.queue_ != this) return;
  if (w.prev_ != nullptr) {
    w.prev_->next_ = w.next_;
  } else {
    SetHead(w.next_);
  }
  (w.next_ != nullptr ? w.next_->prev_ : tail_) = w.prev_;
  w.queue_ = nullptr;
  w.next_ = w.prev_ = nullptr;
}

void WaitQueue::Notify(EventMask events) {
  if (empty()) return;
  MutexLock lock(mu_);
  NotifyLocked(events);
}

void WaitQueue::NotifyNested(EventMask events) {
  if (empty()) return;
  MutexLock lock(mu_, Nested{});
  NotifyLocked(events);
}

void WaitQueue::NotifyLocked(EventMask events) {
  for (Waiter* w = head_; w != nullptr; w = w->next_) {
    const EventMask hit = events & w->mask_;
    if (hit == 0) continue;
    if (w->OnEvent(hit) && w->exclusive_) break;
  }
}

}  // namespace ringwall
