// Typed guest pointers of system-call arguments. The direction is in the type, the value is an
// address that only CopyIn and CopyOut can use, and types with padding are refused, since padding
// would carry Sentry bytes out.
#ifndef RINGWALL_SENTRY_KERNEL_USER_PTR_H_
#define RINGWALL_SENTRY_KERNEL_USER_PTR_H_

#include <type_traits>
#include <vector>

#include "sentry/base/guest_addr.h"
#include "sentry/kernel/task.h"

namespace ringwall {

template <typename T>
concept GuestAbi = std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> &&
                   std::has_unique_object_representations_v<T>;

template <GuestAbi T>
class UserIn {
 public:
  UserIn() = default;
  explicit UserIn(GuestAddr a) : addr_(a) {}
  bool IsNull() const { return addr_.IsNull(); }
  GuestAddr addr() const { return addr_; }
  Result<T> CopyIn(Task& t) const {
    T v;
    TRY(t.CopyIn(addr_, std::as_writable_bytes(std::span(&v, 1))));
    return v;
  }
  // Preconditions: the caller has bounded n.
  Result<std::vector<T>> CopyInArray(Task& t, size_t n) const {
    std::vector<T> v(n);
    if (n != 0) {
      TRY(t.CopyIn(addr_, std::as_writable_bytes(std::span(v))));
    }
    return v;
  }

 private:
  GuestAddr addr_;
};

template <GuestAbi T>
class UserOut {
 public:
  UserOut() = default;
  explicit UserOut(GuestAddr a) : addr_(a) {}
  bool IsNull() const { return addr_.IsNull(); }
  GuestAddr addr() const { return addr_; }
  Result<void> CopyOut(Task& t, const T& v) const {
    return t.CopyOut(addr_, std::as_bytes(std::span(&v, 1)));
  }
  Result<void> CopyOutArray(Task& t, std::span<const T> v) const {
    if (v.empty()) return {};
    return t.CopyOut(addr_, std::as_bytes(v));
  }
  // For a call whose last act this is: may be done by the stub on the way back.
  Result<void> CopyOutLast(Task& t, const T& v) const {
    return t.CopyOutLast(addr_, std::as_bytes(std::span(&v, 1)));
  }
  Result<void> CopyOutLastArray(Task& t, std::span<const T> v) const {
    if (v.empty()) return {};
    return t.CopyOutLast(addr_, std::as_bytes(v));
  }

 private:
  GuestAddr addr_;
};

template <GuestAbi T>
class UserInOut {
 public:
  UserInOut() = default;
  explicit UserInOut(GuestAddr a) : addr_(a) {}
  bool IsNull() const { return addr_.IsNull(); }
  GuestAddr addr() const { return addr_; }
  UserIn<T> in() const { return UserIn<T>(addr_); }
  UserOut<T> out() const { return UserOut<T>(addr_); }

 private:
  GuestAddr addr_;
};

// A path argument.
class UserPath {
 public:
  UserPath() = default;
  explicit UserPath(GuestAddr a) : addr_(a) {}
  bool IsNull() const { return addr_.IsNull(); }
  GuestAddr addr() const { return addr_; }
  Result<std::string> CopyIn(Task& t) const { return t.CopyInPath(addr_); }
  Result<std::string> CopyInAllowEmpty(Task& t) const { return t.CopyInPath(addr_, true); }

 private:
  GuestAddr addr_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_USER_PTR_H_
