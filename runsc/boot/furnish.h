// What a container's tree gets once its mounts are made: devices, masked and read-only
// paths.
#ifndef RINGWALL_RUNSC_BOOT_FURNISH_H_
#define RINGWALL_RUNSC_BOOT_FURNISH_H_

#include <string>

#include "fs/vfs/mount.h"
#include "runsc/boot/boot.h"
#include "sentry/base/host_error.h"

namespace ringwall {

// Shows `text` as /etc/resolv.conf, if the container has one.
Result<void> ShowResolvConf(MountNamespace& ns, const std::string& text);

// While all mounts are writable still. Errors name the field of config.json.
HostResult<void> FurnishTree(MountNamespace& ns, const BootArgs& args);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_FURNISH_H_
