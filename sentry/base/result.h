// Result<T>: a value, or the errno that the guest is to see. Errno is the only
// error of everything below the system-call table; the network stack has its
// own NetError, start-up code has HostError (host_error.h).
#ifndef RINGWALL_SENTRY_BASE_RESULT_H_
#define RINGWALL_SENTRY_BASE_RESULT_H_

#include <errno.h>

#include <new>
#include <type_traits>
#include <utility>

#include "sentry/base/check.h"

namespace ringwall {

// A Linux error number. Never 0. Explicit, so that an int cannot become one by accident:
// `return Errno(ENOENT);`.
class [[nodiscard]] Errno {
 public:
  explicit constexpr Errno(int value) : value_(value) {}
  constexpr int value() const { return value_; }
  friend constexpr bool operator==(Errno a, Errno b) { return a.value_ == b.value_; }
  constexpr bool Is(int value) const { return value_ == value; }

 private:
  int value_;
};

// Error numbers that never leave the Sentry (include/linux/errno.h). A handler returns one of
// them when a signal ended its wait; the task turns it into a restart or EINTR.
inline constexpr int kErestartSys = 512;            // restart if SA_RESTART, else EINTR
inline constexpr int kErestartNoIntr = 513;         // always restart
inline constexpr int kErestartNoHand = 514;         // restart if no handler runs, else EINTR
inline constexpr int kErestartRestartBlock = 516;   // restart_syscall(2) continues it

template <typename T>
class [[nodiscard]] Result {
 public:
  static_assert(!std::is_reference_v<T>, "return a pointer or std::reference_wrapper");
  using Value = T;

  Result(T value) : ok_(true) { new (&value_) T(std::move(value)); }  // NOLINT: implicit
  Result(Errno error) : error_(error), ok_(false) {                   // NOLINT: implicit
    RW_DCHECK(error.value() != 0);
  }
  Result(Result&& o) noexcept : ok_(o.ok_) {
    if (ok_) {
      new (&value_) T(std::move(o.value_));
    } else {
      error_ = o.error_;
    }
  }
  // Converts from a Result of something T can be made of (Ref<Derived> to Ref<Base>).
  template <typename U>
    requires(!std::is_same_v<U, T> && std::is_convertible_v<U&&, T>)
  Result(Result<U>&& o) : ok_(o.ok()) {  // NOLINT: implicit
    if (ok_) {
      new (&value_) T(std::move(o.value()));
    } else {
      error_ = o.error();
    }
  }
  Result& operator=(Result&& o) noexcept {
    if (this != &o) {
      this->~Result();
      new (this) Result(std::move(o));
    }
    return *this;
  }
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  ~Result() {
    if (ok_) value_.~T();
  }

  bool ok() const { return ok_; }
  // Preconditions: ok().
  T& value() {
    RW_CHECK(ok_);
    return value_;
  }
  const T& value() const {
    RW_CHECK(ok_);
    return value_;
  }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  // Preconditions: !ok().
  Errno error() const {
    RW_CHECK(!ok_);
    return error_;
  }
  // The errno, or 0 when ok. For tests and logs.
  int error_value() const { return ok_ ? 0 : error_.value(); }
  T value_or(T other) && { return ok_ ? std::move(value_) : std::move(other); }
  // For TRY only.
  T TakeValue() { return std::move(value_); }

 private:
  union {
    T value_;
    Errno error_;
  };
  bool ok_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using Value = void;
  Result() = default;
  Result(Errno error) : error_(error.value()) {}  // NOLINT: implicit
  Result(Result&&) = default;
  Result& operator=(Result&&) = default;
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  bool ok() const { return error_ == 0; }
  Errno error() const {
    RW_CHECK(error_ != 0);
    return Errno(error_);
  }
  int error_value() const { return error_; }
  void TakeValue() {}

 private:
  int error_ = 0;
};

// Turns a host call's -1/errno into a Result: `TRY(HostResult(::ftruncate(fd, n)))`.
template <typename T>
Result<T> FromHost(T value) {
  if (value < 0) return Errno(errno);
  return value;
}

// TRY(expr): the value of a Result, or return its error from the enclosing function.
// One TRY per statement, and it is the whole initialiser or the whole statement: clang before
// 19 skips destructors of temporaries when control leaves in the middle of an expression.
#define TRY(...)                                                                     \
  __extension__({                                                                    \
    auto rw_try_result = (__VA_ARGS__);                                              \
    static_assert(!std::is_reference_v<decltype(rw_try_result.TakeValue())>);        \
    if (__builtin_expect(!rw_try_result.ok(), 0)) return rw_try_result.error();      \
    rw_try_result.TakeValue();                                                       \
  })

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_RESULT_H_
