// What a container finds in /dev: a tmpfs with the nodes and links that every program expects.
#ifndef RINGWALL_FS_DEV_DEVTMPFS_H_
#define RINGWALL_FS_DEV_DEVTMPFS_H_

#include "fs/vfs/inode.h"

namespace ringwall {

// A tmpfs with null, zero, full, random, urandom, tty, the links fd, stdin, stdout, stderr, core and
// ptmx, and the directories pts, shm and mqueue.
Result<Ref<FileSystem>> NewDevTmpfs();

}  // namespace ringwall

#endif  // RINGWALL_FS_DEV_DEVTMPFS_H_
