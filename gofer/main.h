// GoferMain: the life of a gofer process, from the moment that whoever forked it has put it into
// its namespaces and chroot.
#ifndef RINGWALL_GOFER_MAIN_H_
#define RINGWALL_GOFER_MAIN_H_

#include <cstdint>
#include <vector>

#include "gofer/server/session.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::gofer {

struct GoferOptions {
  UniqueFd socket;          // to the Sentry: connected, SOCK_SEQPACKET
  std::vector<Root> roots;  // what the client may attach to, by its index here
  // A procfs of this process's pid namespace, O_PATH; -1: /proc as the process sees it. Without
  // one, files can be opened by name only, and their modes and xattrs not be changed (README.md).
  UniqueFd proc;
  // Instead of `proc`: the directory /proc/self/fd of this process, best as a mount of its own.
  UniqueFd proc_self_fd;
  uint32_t channels = 4;      // requests answered at the same time; a thread each
  uint32_t max_handles = 0;   // 0: as many as RLIMIT_NOFILE's hard limit allows, at most 1 Mi
  bool strict = false;        // fail when a layer (filter, capabilities, /proc) cannot be had
  std::vector<int> keep_fds;  // stay open beside 0, 1, 2 and the log's
};

// Closes every other descriptor, gives up all capabilities but those for files, puts up the filter
// and answers until the client is gone. Returns the exit status: 0, or 1 with a message logged.
// Takes the process over (working directory, umask, limits, filter): call it last, and _exit() with
// what it returns.
int GoferMain(GoferOptions options);

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_MAIN_H_
