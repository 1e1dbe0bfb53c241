// The gofer's seccomp filter: the one list of host calls that its process may make (filter.cc),
// each with its reason. Whatever is not listed kills the process.
#ifndef RINGWALL_GOFER_FILTER_H_
#define RINGWALL_GOFER_FILTER_H_

#include <span>

#include "sentry/base/host_error.h"

namespace ringwall::gofer {

struct FilterOptions {
  bool writable = false;         // some root is
  bool nameless = false;         // some root has nameless files
  bool connect_sockets = false;  // some root allows it
  bool bind_sockets = false;
  int log_fd = 2;
};

// Puts the filter on every thread of the process, for good.
HostResult<void> InstallFilter(const FilterOptions& options);

struct FilterRow {
  int number;
  const char* reason;
};
// The calls of the list, for tests and for people. A call may be there for some arguments only.
std::span<const FilterRow> FilterRows();

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_FILTER_H_
