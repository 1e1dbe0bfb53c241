// File handles (name_to_handle_at, open_by_handle_at): the number of an inode on its file system. What
// they lead to is remembered here, for the most recent ones only: a handle that is older than those is
// stale, as one of a file that is gone.
#ifndef RINGWALL_FS_VFS_FILE_HANDLES_H_
#define RINGWALL_FS_VFS_FILE_HANDLES_H_

#include <cstdint>

#include "fs/vfs/dentry.h"

namespace ringwall {

// Whether files of it can be found by a number (exportfs).
bool KeepsHandles(const FileSystem& fs);
void RememberHandle(Dentry& dentry, uint64_t ino);
// Null: stale.
RefPtr<Dentry> FindByHandle(const FileSystem& fs, uint64_t ino);
// A name of the inode is gone.
void ForgetHandle(const Inode& inode);

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_FILE_HANDLES_H_
