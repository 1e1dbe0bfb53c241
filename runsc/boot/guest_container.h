// What a container inside the sandbox has of its own, but for its network, which all of them share.
#ifndef RINGWALL_RUNSC_BOOT_GUEST_CONTAINER_H_
#define RINGWALL_RUNSC_BOOT_GUEST_CONTAINER_H_

#include "fs/vfs/mount.h"
#include "runsc/boot/boot.h"
#include "sentry/base/host_error.h"
#include "sentry/base/ref.h"
#include "sentry/kernel/kernel.h"

namespace ringwall {

struct GuestContainer {
  RefPtr<PidNamespace> pid_ns;
  RefPtr<UtsNamespace> uts;
  RefPtr<Namespace> ipc, cgroup;
  RefPtr<MountNamespace> mounts;  // set by FillContainer
};

// Those that the sandbox starts with, or fresh ones for one container more. ENOSPC.
Result<GuestContainer> NewContainer(Kernel& kernel, bool first);

// Mounts the tree, sets names and sysctls and loads the first process; nothing runs yet. `args` gives up
// what is taken out of it and keeps the sysctls that are still to be set. On failure *exit_code is what
// the CLI is to end with.
HostResult<Ref<ThreadGroup>> FillContainer(Kernel& kernel, GuestContainer& container, BootArgs& args,
                                           int* exit_code);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_GUEST_CONTAINER_H_
