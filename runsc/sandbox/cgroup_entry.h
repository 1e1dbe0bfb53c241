// How a new process gets into its cgroups. Moving another one by its number, or several threads, makes the
// host's kernel wait for an RCU grace period, 10 to 20 ms; a process that is born in its group (v2) or
// moves itself while it has one thread (v1) costs nothing.
#ifndef RINGWALL_RUNSC_SANDBOX_CGROUP_ENTRY_H_
#define RINGWALL_RUNSC_SANDBOX_CGROUP_ENTRY_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "sentry/base/host_error.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

class CgroupEntry {
 public:
  // Opens what it takes, while the paths and the rights are there. What cannot be opened is left to Join.
  explicit CgroupEntry(const std::vector<std::string>& directories);
  bool empty() const { return directories_.empty(); }

  // clone(2) as CloneProcess: the child is born in its group where it can be, and moves itself into all
  // others; it does so before this returns, on both sides.
  pid_t Clone(uint64_t namespace_flags);
  // By the parent: moves the child where it could not go by itself.
  HostResult<void> Finish(pid_t child) const;

 private:
  bool EnterSelf();

  const std::vector<std::string> directories_;
  UniqueFd unified_;             // the directory, of v2
  std::vector<UniqueFd> tasks_;  // the lists of threads, of v1
  bool complete_ = false;        // a way into each of them was opened
  bool inside_ = false;
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_CGROUP_ENTRY_H_
