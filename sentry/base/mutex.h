// Mutex<LockClass>: a reader-writer lock of the C library with a place in the lock order
// (lock_class.h). Locks are taken only through the guards below, so that the run-time order check
// sees every one. The C library's and not Abseil's, since the latter reads files, sleeps and asks the
// scheduler when a lock is contended, which the filters refuse.
// Clang checks GUARDED_BY and REQUIRES (-Wthread-safety); g++ sees empty macros.
#ifndef RINGWALL_SENTRY_BASE_MUTEX_H_
#define RINGWALL_SENTRY_BASE_MUTEX_H_

#include <cstdint>
#include <utility>

#include <pthread.h>

#include <atomic>

#include "absl/base/thread_annotations.h"
#include "sentry/base/lock_class.h"

// Abseil's header brings older spellings of some of these; ours follow clang's documentation.
#undef GUARDED_BY
#undef NO_THREAD_SAFETY_ANALYSIS
#define GUARDED_BY(x) ABSL_GUARDED_BY(x)
#define REQUIRES(...) ABSL_EXCLUSIVE_LOCKS_REQUIRED(__VA_ARGS__)
#define REQUIRES_SHARED(...) ABSL_SHARED_LOCKS_REQUIRED(__VA_ARGS__)
#define EXCLUDES(...) ABSL_LOCKS_EXCLUDED(__VA_ARGS__)
#define NO_THREAD_SAFETY_ANALYSIS ABSL_NO_THREAD_SAFETY_ANALYSIS

namespace ringwall {

namespace lockdep {
enum class Hold : uint8_t { kShared, kExclusive };
#ifdef RINGWALL_LOCKDEP
// Aborts when this thread holds a lock whose class does not come before `c`, or this very mutex.
void BeforeLock(const void* mutex, LockClass c, Hold hold, bool same_class_allowed);
void AfterUnlock(const void* mutex);
// Aborts unless this thread holds `mutex`, and not only shared.
void AssertHeld(const void* mutex);
// Aborts unless `mutex` is the lock that this thread took last: what it took inside would be held while
// it sleeps, and be held when it takes `mutex` again.
void BeforeWait(const void* mutex);
#else
inline void BeforeLock(const void*, LockClass, Hold, bool) {}
inline void AfterUnlock(const void*) {}
inline void AssertHeld(const void*) {}
inline void BeforeWait(const void*) {}
#endif
}  // namespace lockdep

namespace internal {

// pthread_rwlock_t that lets waiting writers go before new readers.
class RwLock {
 public:
  void Lock() { pthread_rwlock_wrlock(&lock_); }
  void Unlock() { pthread_rwlock_unlock(&lock_); }
  void ReaderLock() { pthread_rwlock_rdlock(&lock_); }
  void ReaderUnlock() { pthread_rwlock_unlock(&lock_); }

 private:
  pthread_rwlock_t lock_ = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
};

}  // namespace internal

template <LockClass kClass>
class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  // Tells the analysis, which believes it; builds with RINGWALL_LOCKDEP abort where it is not true.
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() { lockdep::AssertHeld(this); }

 private:
  template <LockClass>
  friend class MutexLock;
  template <LockClass>
  friend class ReaderLock;
  template <LockClass>
  friend class LockBoth;
  friend class CondVar;
  mutable internal::RwLock mu_;
};

struct Nested {};

// Holds a mutex for a scope: `MutexLock lock(mu_);`. Unlock() gives it back early.
template <LockClass kClass>
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(const Mutex<kClass>& mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : mu_(&mu) {
    lockdep::BeforeLock(mu_, kClass, lockdep::Hold::kExclusive, false);
    mu_->mu_.Lock();
  }
  // Inside another lock of the same class; the caller knows why that cannot go round.
  MutexLock(const Mutex<kClass>& mu, Nested) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : mu_(&mu) {
    lockdep::BeforeLock(mu_, kClass, lockdep::Hold::kExclusive, true);
    mu_->mu_.Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() {
    if (mu_ != nullptr) Release();
  }
  void Unlock() ABSL_UNLOCK_FUNCTION() { Release(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  void Release() NO_THREAD_SAFETY_ANALYSIS {
    const Mutex<kClass>* const mu = std::exchange(mu_, nullptr);
    lockdep::AfterUnlock(mu);
    mu->mu_.Unlock();
  }
  const Mutex<kClass>* mu_;
};

// Shared hold.
template <LockClass kClass>
class ABSL_SCOPED_LOCKABLE ReaderLock {
 public:
  explicit ReaderLock(const Mutex<kClass>& mu) ABSL_SHARED_LOCK_FUNCTION(mu) : mu_(mu) {
    lockdep::BeforeLock(&mu_, kClass, lockdep::Hold::kShared, false);
    mu_.mu_.ReaderLock();
  }
  ~ReaderLock() ABSL_UNLOCK_FUNCTION() { Release(); }
  ReaderLock(const ReaderLock&) = delete;
  ReaderLock& operator=(const ReaderLock&) = delete;

 private:
  void Release() NO_THREAD_SAFETY_ANALYSIS {
    lockdep::AfterUnlock(&mu_);
    mu_.mu_.ReaderUnlock();
  }
  const Mutex<kClass>& mu_;
};

// Two locks of one class, in address order. They may be the same lock.
template <LockClass kClass>
class ABSL_SCOPED_LOCKABLE LockBoth {
 public:
  LockBoth(const Mutex<kClass>& a, const Mutex<kClass>& b) ABSL_EXCLUSIVE_LOCK_FUNCTION(a, b)
      : first_(&a < &b ? &a : &b), second_(&a == &b ? nullptr : (&a < &b ? &b : &a)) {
    lockdep::BeforeLock(first_, kClass, lockdep::Hold::kExclusive, false);
    first_->mu_.Lock();
    if (second_ != nullptr) {
      lockdep::BeforeLock(second_, kClass, lockdep::Hold::kExclusive, true);
      second_->mu_.Lock();
    }
  }
  ~LockBoth() ABSL_UNLOCK_FUNCTION() { Release(); }
  LockBoth(const LockBoth&) = delete;
  LockBoth& operator=(const LockBoth&) = delete;

 private:
  void Release() NO_THREAD_SAFETY_ANALYSIS {
    if (second_ != nullptr) {
      lockdep::AfterUnlock(second_);
      second_->mu_.Unlock();
    }
    lockdep::AfterUnlock(first_);
    first_->mu_.Unlock();
  }
  const Mutex<kClass>* first_;
  const Mutex<kClass>* second_;
};

// Wakes threads that wait for a change of what a mutex guards. Wakes without cause happen: wait in a
// loop that looks at the condition.
class CondVar {
 public:
  template <LockClass kClass>
  void Wait(const Mutex<kClass>& mu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) NO_THREAD_SAFETY_ANALYSIS {
    lockdep::BeforeWait(&mu);
    const uint32_t seen = changes_.load(std::memory_order_acquire);
    mu.mu_.Unlock();
    Sleep(seen);
    mu.mu_.Lock();
  }
  void Signal() { Wake(1); }
  void SignalAll() { Wake(INT32_MAX); }

 private:
  void Sleep(uint32_t seen);
  void Wake(int count);
  std::atomic<uint32_t> changes_{0};
};

// A value that can be reached only with its lock held: guarded.With([](T& value) {...}).
template <typename T, LockClass kClass>
class Guarded {
 public:
  template <typename... Args>
  explicit Guarded(Args&&... args) : value_(std::forward<Args>(args)...) {}
  template <typename F>
  auto With(F&& f) {
    MutexLock lock(mu_);
    return f(value_);
  }
  template <typename F>
  auto With(F&& f) const {
    MutexLock lock(mu_);
    return f(static_cast<const T&>(value_));
  }

 private:
  mutable Mutex<kClass> mu_;
  T value_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_MUTEX_H_
