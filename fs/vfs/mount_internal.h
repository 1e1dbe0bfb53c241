// What the mount operations of fs/vfs share.
#ifndef RINGWALL_FS_VFS_MOUNT_INTERNAL_H_
#define RINGWALL_FS_VFS_MOUNT_INTERNAL_H_

#include <vector>

#include "fs/vfs/mount.h"
#include "sentry/base/mutex.h"

namespace ringwall {

// One lock for the mounts of all namespaces (namespace_sem).
Mutex<LockClass::kMountTable>& MountLock();
// All mounts of all namespaces; under MountLock().
std::vector<Mount*>& AllMounts();

// A number for peers that nobody has; under MountLock().
int NewPeerGroupLocked();

// References to a mount that nobody uses: the namespace's list, its table, and the path that the
// caller of umount looked up.
inline constexpr uint32_t kIdleMountRefs = 3;
// sysctl fs.mount-max.
inline constexpr size_t kMaxMounts = 100000;

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_MOUNT_INTERNAL_H_
