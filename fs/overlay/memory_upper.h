// The default root: an overlay with a bounded tmpfs over another file system.
#ifndef RINGWALL_FS_OVERLAY_MEMORY_UPPER_H_
#define RINGWALL_FS_OVERLAY_MEMORY_UPPER_H_

#include "fs/overlay/overlay.h"
#include "fs/tmpfs/tmpfs.h"

namespace ringwall {

// `lower` belongs to the overlay from now on. The upper root takes the lower one's attributes,
// whatever `upper` says of them.
Result<Ref<FileSystem>> OverlayOnMemory(Ref<FileSystem> lower, TmpfsOptions upper);

}  // namespace ringwall

#endif  // RINGWALL_FS_OVERLAY_MEMORY_UPPER_H_
