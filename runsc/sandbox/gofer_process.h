// The gofer's process: roots as detached mounts of its own, everything else of the host out of
// reach, then GoferMain.
#ifndef RINGWALL_RUNSC_SANDBOX_GOFER_PROCESS_H_
#define RINGWALL_RUNSC_SANDBOX_GOFER_PROCESS_H_

#include <string>
#include <vector>

#include "runsc/boot/boot.h"
#include "runsc/sandbox/layers.h"
#include "sentry/base/host_error.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

// Host files that the container may see, as one mount. Its place in the list is its attach index.
struct GoferRoot {
  std::string path;  // absolute, on the host
  bool read_only = true;
  bool recursive = true;  // with what is mounted below
  bool nameless = false;  // not shown: only nameless files are made there, for a writable layer
  HostAccess access = {};
};

struct GoferProcessOptions {
  std::vector<GoferRoot> roots;
  bool strict = false;
  bool own_namespaces = false;  // made by a process that may clone namespaces
  int null_fd = -1;             // /dev/null
  int64_t max_files = -1;       // --fdlimit
};

// Runs in the process that will be the Sentry, before that gives anything up. Returns the pid (in
// the caller's pid namespace) of the gofer, which serves `connection` until its peer is closed.
// Set-up errors of the gofer arrive as its death and a line on `status_fd`.
HostResult<pid_t> StartGofer(const GoferProcessOptions& options, UniqueFd connection,
                             int status_fd, Layers world);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_GOFER_PROCESS_H_
