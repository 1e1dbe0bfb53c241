// Namespaces, id maps and the empty root of the sandbox's processes.
#ifndef RINGWALL_RUNSC_SANDBOX_NAMESPACES_H_
#define RINGWALL_RUNSC_SANDBOX_NAMESPACES_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "runsc/sandbox/layers.h"
#include "sentry/base/host_error.h"

namespace ringwall {

// clone(2) as fork, with namespace flags. The caller has one thread. glibc does not learn of it:
// in the child pthread_*_np calls on the main thread's handle must not be used.
// `cgroup`: a directory of cgroup v2 that the child is born in (Linux 5.7), or -1.
pid_t CloneProcess(uint64_t namespace_flags, int cgroup = -1);

// The ids that a child user namespace may map to themselves: all of this namespace for root, the
// caller's own for an ordinary user.
struct IdMaps {
  std::string uid_map, gid_map;
  bool deny_setgroups = false;
  bool has_nobody = false;  // 65534 is mapped both ways

  static HostResult<IdMaps> Identity(bool privileged);
};
HostResult<void> WriteIdMaps(pid_t child, const IdMaps& maps);

// Leaves the network, ipc, uts and cgroup namespaces of the host, each as far as granted.
// Not the network's with `net` false: the process is in the container's already.
void UnshareWorld(bool net, Layers& layers);

// Own mount namespace, nothing propagated in or out. False when the host refuses.
bool UnshareMounts(Layers& layers);

// Makes an empty, read-only directory the root and forgets all mounts of the host; where mounts
// are not granted, a removed directory serves.
void EnterEmptyRoot(Layers& layers);

// A user of many ids sees the overflow id for owners without a mapping.
inline constexpr uid_t kNobody = 65534;

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_NAMESPACES_H_
