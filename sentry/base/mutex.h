// Mutex<LockClass>: absl::Mutex with a place in the lock order (lock_class.h). Locks are taken
// only through the guards below, so that the run-time order check sees every one.
// Clang checks GUARDED_BY and REQUIRES (-Wthread-safety); g++ sees empty macros.
#ifndef RINGWALL_SENTRY_BASE_MUTEX_H_
#define RINGWALL_SENTRY_BASE_MUTEX_H_

#include <cstdint>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "sentry/base/lock_class.h"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

// Abseil's header brings older spellings of some of these; ours follow clang's documentation.
#undef GUARDED_BY
#undef NO_THREAD_SAFETY_ANALYSIS
#define GUARDED_BY(x) ABSL_GUARDED_BY(x)
#define REQUIRES(...) ABSL_EXCLUSIVE_LOCKS_REQUIRED(__VA_ARGS__)
#define REQUIRES_SHARED(...) ABSL_SHARED_LOCKS_REQUIRED(__VA_ARGS__)
#define EXCLUDES(...) ABSL_LOCKS_EXCLUDED(__VA_ARGS__)
#define NO_THREAD_SAFETY_ANALYSIS ABSL_NO_THREAD_SAFETY_ANALYSIS

namespace ringwall {

// To be called before a seccomp filter goes up. The first lock that has to wait asks for the number
// of processors, for which the C library reads files; asked for here, Abseil keeps the answer.
void PrepareMutexes();

namespace lockdep {
#ifdef RINGWALL_LOCKDEP
// Aborts when this thread holds a lock whose class does not come before `c`.
void BeforeLock(LockClass c, bool same_class_allowed);
void AfterUnlock(LockClass c);
#else
inline void BeforeLock(LockClass, bool) {}
inline void AfterUnlock(LockClass) {}
#endif
}  // namespace lockdep

// The distribution's Abseil is built without TSan, which therefore has to be told of its locks.
namespace tsan {
#if defined(__SANITIZE_THREAD__)
inline void Acquired(const void* mu) { __tsan_acquire(const_cast<void*>(mu)); }
inline void Releasing(const void* mu) { __tsan_release(const_cast<void*>(mu)); }
#else
inline void Acquired(const void*) {}
inline void Releasing(const void*) {}
#endif
}  // namespace tsan

template <LockClass kClass>
class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() { mu_.AssertHeld(); }

 private:
  template <LockClass>
  friend class MutexLock;
  template <LockClass>
  friend class ReaderLock;
  template <LockClass>
  friend class LockBoth;
  friend class CondVar;
  mutable absl::Mutex mu_;
};

// Holds a mutex for a scope: `MutexLock lock(mu_);`. Unlock() gives it back early.
template <LockClass kClass>
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(const Mutex<kClass>& mu) ABSL_EXCLUSIVE_LOCK_FUNCTION(mu) : mu_(&mu) {
    lockdep::BeforeLock(kClass, false);
    mu_->mu_.Lock();
    tsan::Acquired(mu_);
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() {
    if (mu_ != nullptr) Release();
  }
  void Unlock() ABSL_UNLOCK_FUNCTION() { Release(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  void Release() NO_THREAD_SAFETY_ANALYSIS {
    tsan::Releasing(mu_);
    std::exchange(mu_, nullptr)->mu_.Unlock();
    lockdep::AfterUnlock(kClass);
  }
  const Mutex<kClass>* mu_;
};

// Shared hold.
template <LockClass kClass>
class ABSL_SCOPED_LOCKABLE ReaderLock {
 public:
  explicit ReaderLock(const Mutex<kClass>& mu) ABSL_SHARED_LOCK_FUNCTION(mu) : mu_(mu) {
    lockdep::BeforeLock(kClass, false);
    mu_.mu_.ReaderLock();
    tsan::Acquired(&mu_);
  }
  ~ReaderLock() ABSL_UNLOCK_FUNCTION() { Release(); }
  ReaderLock(const ReaderLock&) = delete;
  ReaderLock& operator=(const ReaderLock&) = delete;

 private:
  void Release() NO_THREAD_SAFETY_ANALYSIS {
    tsan::Releasing(&mu_);
    mu_.mu_.ReaderUnlock();
    lockdep::AfterUnlock(kClass);
  }
  const Mutex<kClass>& mu_;
};

// Two locks of one class, in address order. They may be the same lock.
template <LockClass kClass>
class ABSL_SCOPED_LOCKABLE LockBoth {
 public:
  LockBoth(const Mutex<kClass>& a, const Mutex<kClass>& b) ABSL_EXCLUSIVE_LOCK_FUNCTION(a, b)
      : first_(&a < &b ? &a : &b), second_(&a == &b ? nullptr : (&a < &b ? &b : &a)) {
    lockdep::BeforeLock(kClass, false);
    first_->mu_.Lock();
    tsan::Acquired(first_);
    if (second_ != nullptr) {
      lockdep::BeforeLock(kClass, true);
      second_->mu_.Lock();
      tsan::Acquired(second_);
    }
  }
  ~LockBoth() ABSL_UNLOCK_FUNCTION() { Release(); }
  LockBoth(const LockBoth&) = delete;
  LockBoth& operator=(const LockBoth&) = delete;

 private:
  void Release() NO_THREAD_SAFETY_ANALYSIS {
    if (second_ != nullptr) {
      tsan::Releasing(second_);
      second_->mu_.Unlock();
      lockdep::AfterUnlock(kClass);
    }
    tsan::Releasing(first_);
    first_->mu_.Unlock();
    lockdep::AfterUnlock(kClass);
  }
  const Mutex<kClass>* first_;
  const Mutex<kClass>* second_;
};

class CondVar {
 public:
  template <LockClass kClass>
  void Wait(const Mutex<kClass>& mu) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    tsan::Releasing(&mu);
    cv_.Wait(&mu.mu_);
    tsan::Acquired(&mu);
  }
  void Signal() { cv_.Signal(); }
  void SignalAll() { cv_.SignalAll(); }

 private:
  absl::CondVar cv_;
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
