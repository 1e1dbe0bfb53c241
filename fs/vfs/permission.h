// The permission rules of fs/namei.c and fs/attr.c that the operations of vfs.h share.
#ifndef RINGWALL_FS_VFS_PERMISSION_H_
#define RINGWALL_FS_VFS_PERMISSION_H_

#include "fs/vfs/inode.h"
#include "fs/vfs/path.h"

namespace ringwall {

// EACCES. want: kMayRead, kMayWrite, kMayExec.
Result<void> InodePermission(const Credentials& creds, Inode& inode, uint32_t want);
// With the mount's and the file type's rules: EROFS.
Result<void> PathPermission(const Credentials& creds, const Path& path, uint32_t want);

// May a name be made in `dir`? ENOENT when the directory itself is gone, EACCES.
Result<void> MayCreate(const Credentials& creds, Dentry& dir);
// May the name of `victim` be taken out of `dir`? ENOENT, EACCES, EPERM (sticky), ENOTDIR, EISDIR.
Result<void> MayDelete(const Credentials& creds, Dentry& dir, Dentry& victim, bool as_directory);

bool OwnerOrCapable(const Credentials& creds, const Attr& attr);

// The attributes of a new object in `dir`: owner, set-gid inheritance.
Result<NewInode> InitOwner(const Credentials& creds, Inode& dir, uint32_t mode, uint64_t rdev);

// The mode left when somebody without CAP_FSETID changes contents; the same when nothing goes.
uint32_t ModeWithoutPrivileges(uint32_t mode);

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_PERMISSION_H_
