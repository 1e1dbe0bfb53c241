// Intrusive counting. Ref<T> is never null, RefPtr<T> may be; both own one reference.
// A class counted this way derives from RefCounted<T> and is made by MakeRef<T>(args...).
// Thread-safe as shared_ptr is: the count is atomic, one Ref object is not.
#ifndef RINGWALL_SENTRY_BASE_REF_H_
#define RINGWALL_SENTRY_BASE_REF_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "sentry/base/check.h"

namespace ringwall {

// Base of every counted class with virtual destruction. Starts with one reference, which MakeRef
// hands out.
class RefCountedBase {
 public:
  RefCountedBase(const RefCountedBase&) = delete;
  RefCountedBase& operator=(const RefCountedBase&) = delete;

  void AddRef() const { count_.fetch_add(1, std::memory_order_relaxed); }
  void Release() const {
    if (count_.fetch_sub(1, std::memory_order_acq_rel) == 1) LastRelease();
  }
  // Takes a reference unless the object is already on its way out; for caches that hold no
  // reference of their own.
  bool TryAddRef() const {
    uint32_t n = count_.load(std::memory_order_relaxed);
    while (n != 0) {
      if (count_.compare_exchange_weak(n, n + 1, std::memory_order_acq_rel)) return true;
    }
    return false;
  }
  // Turns a last reference into none without ending the object: TryAddRef fails from then on, and
  // the caller ends it. False when there are others. For caches that drop what nobody uses.
  bool TryFreeze() const {
    uint32_t one = 1;
    return count_.compare_exchange_strong(one, 0, std::memory_order_acq_rel);
  }
  // A snapshot: for "is it busy" questions asked under a lock that keeps new users away.
  uint32_t ref_count() const { return count_.load(std::memory_order_acquire); }
  uint32_t ref_count_for_test() const { return count_.load(); }

 protected:
  RefCountedBase() = default;
  virtual ~RefCountedBase() = default;
  // Called without locks when the last reference is gone. Override to leave a cache first.
  virtual void LastRelease() const { delete this; }

 private:
  mutable std::atomic<uint32_t> count_{1};
};

template <typename T>
class RefCounted : public RefCountedBase {};

template <typename T>
class Ref;

template <typename T>
class RefPtr {
 public:
  RefPtr() = default;
  RefPtr(std::nullptr_t) {}  // NOLINT: implicit
  explicit RefPtr(T* p) : p_(p) {
    if (p_) p_->AddRef();
  }
  RefPtr(const RefPtr& o) : RefPtr(o.p_) {}
  RefPtr(RefPtr&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  template <typename U>
    requires std::is_convertible_v<U*, T*>
  RefPtr(const RefPtr<U>& o) : RefPtr(o.get()) {}  // NOLINT: implicit
  template <typename U>
    requires std::is_convertible_v<U*, T*>
  RefPtr(RefPtr<U>&& o) : p_(o.Leak()) {}  // NOLINT: implicit
  template <typename U>
    requires std::is_convertible_v<U*, T*>
  RefPtr(const Ref<U>& o) : RefPtr(o.get()) {}  // NOLINT: implicit
  template <typename U>
    requires std::is_convertible_v<U*, T*>
  RefPtr(Ref<U>&& o) : p_(o.Leak()) {}  // NOLINT: implicit
  ~RefPtr() {
    if (p_) p_->Release();
  }
  RefPtr& operator=(RefPtr o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  void reset() { *this = RefPtr(); }
  T* get() const { return p_; }
  T* operator->() const {
    RW_DCHECK(p_ != nullptr);
    return p_;
  }
  T& operator*() const {
    RW_DCHECK(p_ != nullptr);
    return *p_;
  }
  explicit operator bool() const { return p_ != nullptr; }
  friend bool operator==(const RefPtr& a, const RefPtr& b) { return a.p_ == b.p_; }
  // Gives the reference up without dropping it.
  T* Leak() { return std::exchange(p_, nullptr); }
  static RefPtr Adopt(T* p) {
    RefPtr r;
    r.p_ = p;
    return r;
  }

 private:
  T* p_ = nullptr;
};

template <typename T>
class Ref {
 public:
  // Takes a new reference to a live object.
  explicit Ref(T& t) : p_(&t) { p_->AddRef(); }
  // Preconditions: p is not null.
  explicit Ref(RefPtr<T> p) : p_(p.Leak()) { RW_CHECK(p_ != nullptr); }
  Ref(const Ref& o) : p_(o.p_) { p_->AddRef(); }
  Ref(Ref&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  template <typename U>
    requires std::is_convertible_v<U*, T*>
  Ref(const Ref<U>& o) : p_(o.get()) {  // NOLINT: implicit
    p_->AddRef();
  }
  template <typename U>
    requires std::is_convertible_v<U*, T*>
  Ref(Ref<U>&& o) : p_(o.Leak()) {}  // NOLINT: implicit
  ~Ref() {
    if (p_) p_->Release();
  }
  Ref& operator=(Ref o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  T* get() const { return p_; }
  T* operator->() const { return p_; }
  T& operator*() const { return *p_; }
  friend bool operator==(const Ref& a, const Ref& b) { return a.p_ == b.p_; }
  T* Leak() { return std::exchange(p_, nullptr); }
  static Ref Adopt(T* p) { return Ref(RefPtr<T>::Adopt(p)); }

 private:
  T* p_;
};

template <typename T, typename... Args>
Ref<T> MakeRef(Args&&... args) {
  return Ref<T>::Adopt(new T(std::forward<Args>(args)...));
}

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_REF_H_
