// HostError: why start-up code (the runsc commands, the gofer's and the Sentry's set-up) failed:
// the errno, the operation and the object, wrapped with context on the way up. Printed to people,
// never shown to a guest.
#ifndef RINGWALL_SENTRY_BASE_HOST_ERROR_H_
#define RINGWALL_SENTRY_BASE_HOST_ERROR_H_

#include <errno.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "sentry/base/check.h"

namespace ringwall {

class [[nodiscard]] HostError {
 public:
  // "operation object: strerror". Captures errno here.
  static HostError Last(std::string_view operation, std::string_view object = {}) {
    return WithErrno(errno, operation, object);
  }
  static HostError WithErrno(int error, std::string_view operation, std::string_view object = {});
  // A message of its own, without an errno.
  static HostError Message(std::string message) { return HostError(0, std::move(message)); }

  HostError Wrap(std::string_view context) &&;
  int error() const { return errno_; }
  const std::string& message() const { return message_; }

 private:
  HostError(int error, std::string message) : errno_(error), message_(std::move(message)) {}
  int errno_;
  std::string message_;
};

// A value or a HostError. TRY works on it too.
template <typename T>
class [[nodiscard]] HostResult {
 public:
  HostResult(T value) : value_(std::move(value)) {}                  // NOLINT: implicit
  HostResult(HostError error) : error_(std::move(error)) {}          // NOLINT: implicit
  bool ok() const { return value_.has_value(); }
  T& value() {
    RW_CHECK(ok());
    return *value_;
  }
  T& operator*() { return value(); }
  T* operator->() { return &value(); }
  HostError error() const {
    RW_CHECK(!ok());
    return *error_;
  }
  T TakeValue() { return std::move(*value_); }

 private:
  std::optional<T> value_;
  std::optional<HostError> error_;
};

template <>
class [[nodiscard]] HostResult<void> {
 public:
  HostResult() = default;
  HostResult(HostError error) : error_(std::move(error)) {}  // NOLINT: implicit
  bool ok() const { return !error_.has_value(); }
  HostError error() const {
    RW_CHECK(!ok());
    return *error_;
  }
  void TakeValue() {}

 private:
  std::optional<HostError> error_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_HOST_ERROR_H_
