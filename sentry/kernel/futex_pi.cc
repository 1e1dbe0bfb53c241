// Priority-inheritance locks and requeueing to them. Compare Linux kernel/futex/pi.c, requeue.c.
// The word holds the owner's number; while somebody waits, FUTEX_WAITERS is set and the owner must
// come here to unlock.
#include <linux/futex.h>

#include <utility>

#include "sentry/kernel/futex.h"

namespace ringwall {

namespace {

uint32_t OwnerIn(uint32_t word) { return word & FUTEX_TID_MASK; }

// Stores `desired` when the word still is `seen`. False: it is not.
Result<bool> Exchange(const FutexWord& word, uint32_t seen, uint32_t desired) {
  const uint32_t old = TRY(word.mm.address_space().CompareExchange(word.addr, seen, desired));
  return old == seen;
}

}  // namespace

// futex_lock_pi_atomic().
Result<bool> FutexTable::TakePi(FutexBucket& b, const FutexKey& key, const FutexWord& word, int tid,
                                bool set_waiters, const OwnerLook& look, int* owner) {
  const FutexWaiter* first = First(b, key);
  if (first != nullptr && (first->pi_tid_ == 0 || first->requeue_pi_)) return Errno(EINVAL);
  for (;;) {
    const uint32_t seen = TRY(Peek(word));
    const uint32_t holder = OwnerIn(seen);
    if (holder == static_cast<uint32_t>(tid)) return Errno(EDEADLK);
    if (holder == 0) {
      // With waiters the lock would have been handed to one of them.
      if (first != nullptr) {
        if ((seen & FUTEX_OWNER_DIED) == 0) return Errno(EINVAL);
        *owner = first->pi_owner_;  // its end is about to hand the lock on
        return false;
      }
      uint32_t taken = (seen & FUTEX_OWNER_DIED) | static_cast<uint32_t>(tid);
      if (set_waiters) taken |= FUTEX_WAITERS;
      const bool done = TRY(Exchange(word, seen, taken));
      if (done) return true;
      continue;
    }
    if (first != nullptr && first->pi_owner_ != static_cast<int>(holder)) return Errno(EINVAL);
    const bool marked = TRY(Exchange(word, seen, seen | FUTEX_WAITERS));
    if (!marked) continue;
    switch (look(static_cast<int>(holder))) {
      case FutexOwner::kAlive:
        break;
      case FutexOwner::kExiting:
        return Errno(EBUSY);
      case FutexOwner::kGone: {
        // It may have let go between the two looks.
        const uint32_t now = TRY(Peek(word));
        if (now != (seen | FUTEX_WAITERS)) continue;
        return Errno(ESRCH);
      }
    }
    *owner = static_cast<int>(holder);
    return false;
  }
}

Result<bool> FutexTable::LockPi(FutexWaiter& w, const FutexWord& word, int tid, bool try_only,
                                const OwnerLook& look) {
  const Located at = TRY(Locate(word));
  FutexBucket& b = BucketOf(at.key);
  for (int tries = 0;;) {
    {
      MutexLock lock(b.mu);
      int owner = 0;
      const Result<bool> taken = TakePi(b, at.key, word, tid, false, look, &owner);
      if (taken.ok()) {
        if (*taken) return true;
        if (try_only) return Errno(EAGAIN);
        w.pi_tid_ = tid;
        w.pi_owner_ = owner;
        w.pi_mm_ = RefPtr<MemoryManager>(&word.mm);
        w.pi_addr_ = word.addr;
        pi_waiters_.fetch_add(1, std::memory_order_relaxed);
        Queue(b, w, at, FUTEX_BITSET_MATCH_ANY);
        return false;
      }
      if (!taken.error().Is(EFAULT)) return taken.error();
    }
    TRY(FaultIn(word, &tries));
  }
}

void FutexTable::HandOver(FutexBucket& b, FutexWaiter& next) {
  const FutexKey key = next.key_;
  const int tid = next.pi_tid_;
  WakeWaiter(b, next);
  for (FutexWaiter* w = b.head; w != nullptr; w = w->next_) {
    if (w->key_ == key && w->pi_tid_ != 0 && !w->requeue_pi_) w->pi_owner_ = tid;
  }
}

Result<void> FutexTable::UnlockPi(const FutexWord& word, int tid) {
  // Whose lock it is comes before what may be a lock at all.
  uint32_t first = 0;
  TRY(word.mm.CopyIn(word.addr, std::as_writable_bytes(std::span(&first, 1))));
  if (OwnerIn(first) != static_cast<uint32_t>(tid)) return Errno(EPERM);
  const Located at = TRY(Locate(word));
  FutexBucket& b = BucketOf(at.key);
  for (int tries = 0;;) {
    {
      MutexLock lock(b.mu);
      Result<uint32_t> seen = Peek(word);
      while (seen.ok()) {
        if (OwnerIn(*seen) != static_cast<uint32_t>(tid)) return Errno(EPERM);
        FutexWaiter* next = First(b, at.key);
        if (next != nullptr && (next->pi_tid_ == 0 || next->requeue_pi_)) return Errno(EINVAL);
        const uint32_t free =
            next == nullptr ? 0 : FUTEX_WAITERS | static_cast<uint32_t>(next->pi_tid_);
        const Result<bool> done = Exchange(word, *seen, free);
        if (!done.ok()) {
          if (!done.error().Is(EFAULT)) return done.error();
          break;
        }
        if (*done) {
          if (next != nullptr) HandOver(b, *next);
          return {};
        }
        seen = Peek(word);
      }
    }
    TRY(FaultIn(word, &tries));
  }
}

Result<void> FutexTable::WaitRequeuePi(FutexWaiter& w, const FutexWord& word, uint32_t expected,
                                       uint32_t bitset, const FutexWord& lock_word, int tid) {
  if (bitset == 0) return Errno(EINVAL);
  const Located at = TRY(Locate(word));
  const Located target = TRY(Locate(lock_word));
  if (at.key == target.key) return Errno(EINVAL);
  FutexBucket& b = BucketOf(at.key);
  for (int tries = 0;;) {
    {
      MutexLock lock(b.mu);
      const Result<uint32_t> value = Peek(word);
      if (value.ok()) {
        if (*value != expected) return Errno(EAGAIN);
        w.pi_tid_ = tid;
        w.requeue_pi_ = true;
        w.pi_key_ = target.key;
        w.pi_keeps_ = target.keeps;
        w.pi_mm_ = RefPtr<MemoryManager>(&lock_word.mm);
        w.pi_addr_ = lock_word.addr;
        pi_waiters_.fetch_add(1, std::memory_order_relaxed);
        Queue(b, w, at, bitset);
        return {};
      }
    }
    TRY(FaultIn(word, &tries));
  }
}

// The first waiter takes the lock if it is free; it, when not, and `move` others wait for it.
Result<int> FutexTable::RequeuePiIn(FutexBucket& from, FutexBucket& to, const FutexKey& key,
                                    const Located& target, const FutexWord& lock, int move,
                                    const OwnerLook& look, Dropped* dropped) {
  FutexWaiter* top = First(from, key);
  if (top == nullptr) return 0;
  if (!top->requeue_pi_ || !(top->pi_key_ == target.key)) return Errno(EINVAL);
  int owner = 0, done = 0;
  const int top_tid = top->pi_tid_;
  const bool taken = TRY(TakePi(to, target.key, lock, top_tid, move > 0, look, &owner));
  if (taken) {
    WakeWaiter(from, *top);
    owner = top_tid;
    done = 1;
  }
  FutexWaiter* next = nullptr;
  for (FutexWaiter* w = from.head; w != nullptr; w = next) {
    next = w->next_;
    if (done - 1 >= move) break;
    if (!(w->key_ == key)) continue;
    if (!w->requeue_pi_ || !(w->pi_key_ == target.key)) return Errno(EINVAL);
    w->requeue_pi_ = false;
    w->moved_to_lock_ = true;
    w->pi_owner_ = owner;
    Move(from, to, *w, target, dropped);
    ++done;
  }
  return done;
}

Result<int> FutexTable::RequeuePi(const FutexWord& from, const FutexWord& lock_word, int wake,
                                  int move, uint32_t expected, const OwnerLook& look) {
  if (wake != 1 || move < 0) return Errno(EINVAL);
  const Located at = TRY(Locate(from));
  const Located target = TRY(Locate(lock_word));
  if (at.key == target.key) return Errno(EINVAL);
  FutexBucket& b1 = BucketOf(at.key);
  FutexBucket& b2 = BucketOf(target.key);
  Dropped dropped;
  for (int tries = 0;;) {
    bool lock_faults = false;
    {
      LockBoth lock(b1.mu, b2.mu);
      const Result<uint32_t> value = Peek(from);
      if (value.ok()) {
        if (*value != expected) return Errno(EAGAIN);
        Result<int> done =
            RequeuePiIn(b1, b2, at.key, target, lock_word, move, look, &dropped);
        if (done.ok() || !done.error().Is(EFAULT)) return done;
        lock_faults = true;
      }
    }
    TRY(FaultIn(lock_faults ? lock_word : from, &tries));
  }
}

// exit_pi_state_list(): what the dead task held goes to those who wait for it.
void FutexTable::ExitPi(int tid) {
  if (pi_waiters_.load(std::memory_order_acquire) == 0) return;
  for (size_t i = 0; i < kBuckets; ++i) {
    FutexBucket& b = buckets_[i];
    MutexLock lock(b.mu);
    for (FutexWaiter* w = b.head; w != nullptr;) {
      if (w->pi_owner_ != tid || w->requeue_pi_ || w->pi_tid_ == 0) {
        w = w->next_;
        continue;
      }
      const FutexWord word{*w->pi_mm_, w->pi_addr_, false};
      const uint32_t mine = FUTEX_OWNER_DIED | FUTEX_WAITERS | static_cast<uint32_t>(w->pi_tid_);
      // A word that cannot be written is the guest's own doing: the waiter has the lock all the same.
      for (Result<uint32_t> seen = Peek(word); seen.ok(); seen = Peek(word)) {
        const Result<bool> done = Exchange(word, *seen, mine);
        if (!done.ok() || *done) break;
      }
      HandOver(b, *w);
      w = b.head;  // the list has changed
    }
  }
}

}  // namespace ringwall
