// The host's cgroups of a sandbox, v1 and v2, through their file system.
#ifndef RINGWALL_RUNSC_CONTAINER_CGROUP_H_
#define RINGWALL_RUNSC_CONTAINER_CGROUP_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "runsc/spec/spec.h"
#include "sentry/base/host_error.h"

namespace ringwall {

// Makes the groups of `path` (linux.cgroupsPath; empty: of the id) with the limits of `resources`
// and returns their directories. Nothing is left behind on an error.
HostResult<std::vector<std::string>> MakeCgroups(const std::string& path, const std::string& id,
                                                 const oci::Resources& resources,
                                                 std::vector<std::string>* warnings);
// Sets what `resources` says and leaves the rest.
HostResult<void> UpdateCgroups(const std::vector<std::string>& directories,
                               const oci::Resources& resources);
// Those named "/PREFIXn" at the top whose process `n` is gone and that hold nobody.
void RemoveStaleCgroups(const std::string& prefix);
// Repeats for a while: processes leave a group some time after their end.
void RemoveCgroups(const std::vector<std::string>& directories);

// "system.slice:docker:ID" of systemd's driver becomes "/system.slice/docker-ID.scope"; no ".."
// gets through.
std::string CgroupPath(const std::string& path, const std::string& id);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CONTAINER_CGROUP_H_
