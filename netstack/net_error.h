// NetError: why an operation of the network stack failed. The socket layer turns it into an errno
// in one place (ToErrno); nothing below it knows errno. NetResult<T> works with TRY.
#ifndef RINGWALL_NETSTACK_NET_ERROR_H_
#define RINGWALL_NETSTACK_NET_ERROR_H_

#include <errno.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "sentry/base/check.h"
#include "sentry/base/result.h"

namespace ringwall::net {

enum class NetError : uint8_t {
  kWouldBlock = 1,   // EAGAIN
  kInProgress,       // EINPROGRESS: connect started
  kAlready,          // EALREADY: connect still running
  kIsConnected,      // EISCONN
  kNotConnected,     // ENOTCONN
  kRefused,          // ECONNREFUSED
  kReset,            // ECONNRESET
  kAborted,          // ECONNABORTED
  kPipe,             // EPIPE: write side is shut
  kTimedOut,         // ETIMEDOUT
  kHostUnreach,      // EHOSTUNREACH
  kNetUnreach,       // ENETUNREACH
  kNetDown,          // ENETDOWN
  kAddrInUse,        // EADDRINUSE
  kAddrNotAvail,     // EADDRNOTAVAIL
  kInvalid,          // EINVAL
  kAccess,           // EACCES: broadcast without SO_BROADCAST
  kPermission,       // EPERM: dropped by a filter rule
  kMessageSize,      // EMSGSIZE
  kNoBuffers,        // ENOBUFS
  kNoMemory,         // ENOMEM
  kDestAddrRequired, // EDESTADDRREQ
  kAfNoSupport,      // EAFNOSUPPORT
  kOpNotSupp,        // EOPNOTSUPP
  kNoProtoOpt,       // ENOPROTOOPT
  kProtocol,         // EPROTO
  kNoDevice,         // ENODEV
  kNotFound,         // ENOENT
  kNoProcess,        // ESRCH: no such route
  kExists,           // EEXIST
  kDomain,           // EDOM
  kBusy,             // EBUSY
  kNoSpace,          // ENOSPC
  kRange,            // ERANGE
  kLoop,             // ELOOP
};

constexpr Errno ToErrno(NetError e) {
  switch (e) {
    case NetError::kWouldBlock: return Errno(EAGAIN);
    case NetError::kInProgress: return Errno(EINPROGRESS);
    case NetError::kAlready: return Errno(EALREADY);
    case NetError::kIsConnected: return Errno(EISCONN);
    case NetError::kNotConnected: return Errno(ENOTCONN);
    case NetError::kRefused: return Errno(ECONNREFUSED);
    case NetError::kReset: return Errno(ECONNRESET);
    case NetError::kAborted: return Errno(ECONNABORTED);
    case NetError::kPipe: return Errno(EPIPE);
    case NetError::kTimedOut: return Errno(ETIMEDOUT);
    case NetError::kHostUnreach: return Errno(EHOSTUNREACH);
    case NetError::kNetUnreach: return Errno(ENETUNREACH);
    case NetError::kNetDown: return Errno(ENETDOWN);
    case NetError::kAddrInUse: return Errno(EADDRINUSE);
    case NetError::kAddrNotAvail: return Errno(EADDRNOTAVAIL);
    case NetError::kInvalid: return Errno(EINVAL);
    case NetError::kAccess: return Errno(EACCES);
    case NetError::kPermission: return Errno(EPERM);
    case NetError::kMessageSize: return Errno(EMSGSIZE);
    case NetError::kNoBuffers: return Errno(ENOBUFS);
    case NetError::kNoMemory: return Errno(ENOMEM);
    case NetError::kDestAddrRequired: return Errno(EDESTADDRREQ);
    case NetError::kAfNoSupport: return Errno(EAFNOSUPPORT);
    case NetError::kOpNotSupp: return Errno(EOPNOTSUPP);
    case NetError::kNoProtoOpt: return Errno(ENOPROTOOPT);
    case NetError::kProtocol: return Errno(EPROTO);
    case NetError::kNoDevice: return Errno(ENODEV);
    case NetError::kNotFound: return Errno(ENOENT);
    case NetError::kNoProcess: return Errno(ESRCH);
    case NetError::kExists: return Errno(EEXIST);
    case NetError::kDomain: return Errno(EDOM);
    case NetError::kBusy: return Errno(EBUSY);
    case NetError::kNoSpace: return Errno(ENOSPC);
    case NetError::kRange: return Errno(ERANGE);
    case NetError::kLoop: return Errno(ELOOP);
  }
  return Errno(EINVAL);
}

template <typename T>
class [[nodiscard]] NetResult {
 public:
  using Value = T;
  NetResult(T value) : value_(std::move(value)) {}  // NOLINT: implicit
  NetResult(NetError error) : error_(error) {}      // NOLINT: implicit
  bool ok() const { return value_.has_value(); }
  T& value() {
    RW_CHECK(value_.has_value());
    return *value_;
  }
  T& operator*() { return value(); }
  T* operator->() { return &value(); }
  NetError error() const {
    RW_CHECK(!value_.has_value());
    return error_;
  }
  T TakeValue() { return std::move(*value_); }

 private:
  std::optional<T> value_;
  NetError error_ = NetError::kInvalid;
};

template <>
class [[nodiscard]] NetResult<void> {
 public:
  using Value = void;
  NetResult() = default;
  NetResult(NetError error) : error_(error) {}  // NOLINT: implicit
  bool ok() const { return !error_.has_value(); }
  NetError error() const {
    RW_CHECK(error_.has_value());
    return *error_;
  }
  void TakeValue() {}

 private:
  std::optional<NetError> error_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_NET_ERROR_H_
