#include "netstack/timer_queue.h"

#include "sentry/base/check.h"

namespace ringwall::net {

void Timer::Set(TimerQueue& queue, TimePoint at) {
  wanted_ = at;
  if (at.IsNever()) return Cancel();
  if (queue_ == nullptr) {
    queue_ = &queue;
    heap_key_ = at;
    queue.Push(this);
    return;
  }
  if (at < heap_key_) {
    heap_key_ = at;
    queue_->Up(index_);
  }
}

void Timer::Cancel() {
  wanted_ = TimePoint::Never();
  if (queue_ != nullptr) queue_->Remove(this);
}

void TimerQueue::Run(TimePoint now) {
  while (!heap_.empty() && heap_[0]->heap_key_ <= now) {
    Timer* t = heap_[0];
    if (t->wanted_ > now) {
      t->heap_key_ = t->wanted_;
      Down(0);
      continue;
    }
    Remove(t);
    t->wanted_ = TimePoint::Never();
    t->callback_(t->owner_, now);
  }
}

void TimerQueue::Push(Timer* t) {
  t->index_ = heap_.size();
  heap_.push_back(t);
  Up(t->index_);
}

void TimerQueue::Remove(Timer* t) {
  const size_t i = t->index_;
  RW_DCHECK(heap_[i] == t);
  t->queue_ = nullptr;
  heap_[i] = heap_.back();
  heap_[i]->index_ = i;
  heap_.pop_back();
  if (i < heap_.size()) {
    Up(i);
    Down(heap_[i]->index_);
  }
}

void TimerQueue::Up(size_t i) {
  while (i != 0) {
    const size_t parent = (i - 1) / 2;
    if (heap_[parent]->heap_key_ <= heap_[i]->heap_key_) return;
    std::swap(heap_[parent], heap_[i]);
    heap_[parent]->index_ = parent;
    heap_[i]->index_ = i;
    i = parent;
  }
}

void TimerQueue::Down(size_t i) {
  while (true) {
    size_t least = i;
    for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < heap_.size(); child++) {
      if (heap_[child]->heap_key_ < heap_[least]->heap_key_) least = child;
    }
    if (least == i) return;
    std::swap(heap_[least], heap_[i]);
    heap_[least]->index_ = least;
    heap_[i]->index_ = i;
    i = least;
  }
}

}  // namespace ringwall::net
