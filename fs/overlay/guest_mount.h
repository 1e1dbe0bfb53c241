// mount -t overlay -o lowerdir=a:b,upperdir=c,workdir=d by a guest.
#ifndef RINGWALL_FS_OVERLAY_GUEST_MOUNT_H_
#define RINGWALL_FS_OVERLAY_GUEST_MOUNT_H_

#include "fs/vfs/fs_type.h"

namespace ringwall {

// EINVAL (options that are not known or do not fit), ENOENT, ENOTDIR.
Result<Ref<FileSystem>> MountOverlay(const NewFsArgs& args);

}  // namespace ringwall

#endif  // RINGWALL_FS_OVERLAY_GUEST_MOUNT_H_
