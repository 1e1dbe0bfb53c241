// The container's tree: makes the file systems of BootArgs::mounts and mounts them.
#ifndef RINGWALL_RUNSC_BOOT_FILESYSTEMS_H_
#define RINGWALL_RUNSC_BOOT_FILESYSTEMS_H_

#include "fs/vfs/mount.h"
#include "runsc/boot/boot.h"
#include "runsc/boot/guest_container.h"
#include "sentry/base/host_error.h"

namespace ringwall {

// The drivers of device nodes and FIFOs. Once, before anything is mounted.
void RegisterDrivers();
// What mount(2) knows.
void RegisterFileSystems(Kernel& kernel);

// The mount namespace of the container. Errors name the mount.
HostResult<Ref<MountNamespace>> MountAll(Kernel& kernel, const GuestContainer& container, BootArgs& args);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_FILESYSTEMS_H_
