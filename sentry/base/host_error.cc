#include "sentry/base/host_error.h"

#include <string.h>

namespace ringwall {

HostError HostError::WithErrno(int error, std::string_view operation, std::string_view object) {
  std::string message(operation);
  if (!object.empty()) {
    message += ' ';
    message += object;
  }
  message += ": ";
  message += strerrordesc_np(error) != nullptr ? strerrordesc_np(error) : "unknown error";
  return HostError(error, std::move(message));
}

HostError HostError::Wrap(std::string_view context) && {
  std::string message(context);
  message += ": ";
  message += message_;
  return HostError(errno_, std::move(message));
}

}  // namespace ringwall
