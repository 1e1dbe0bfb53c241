// The join to gofer/: called in the gofer's process when only its descriptors are left.
#ifndef RINGWALL_RUNSC_SANDBOX_GOFER_ENTRY_H_
#define RINGWALL_RUNSC_SANDBOX_GOFER_ENTRY_H_

#include <vector>

#include "runsc/sandbox/gofer_process.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

struct GoferEntryRoot {
  UniqueFd fd;  // O_PATH
  bool read_only = true;
  bool nameless = false;
  HostAccess access = {};
};

struct GoferEntryArgs {
  UniqueFd connection;
  std::vector<GoferEntryRoot> roots;
  UniqueFd proc_self_fd;  // the directory /proc/self/fd; invalid where there is no /proc
  bool strict = false;
};

// Installs the gofer's filter and serves until the connection ends. Returns the exit code.
int GoferEntry(GoferEntryArgs args);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_GOFER_ENTRY_H_
