// The permission rules of fs/namei.c and fs/attr.c that the operations of vfs.h share.
#ifndef RINGWALL_FS_VFS_PERMISSION_H_
#define RINGWALL_FS_VFS_PERMISSION_H_

#include <atomic>

#include "fs/vfs/acl.h"
#include "fs/vfs/inode.h"
#include "fs/vfs/path.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

// EACCES. want: kMayRead, kMayWrite, kMayExec.
Result<void> InodePermission(const Credentials& creds, Inode& inode, uint32_t want);
// With the mount's and the file type's rules: EROFS.
Result<void> PathPermission(const Credentials& creds, const Path& path, uint32_t want);

// May a name be made in `dir`? ENOENT when the directory itself is gone, EACCES.
Result<void> MayCreate(const Credentials& creds, Dentry& dir);
// May the name of `victim` be taken out of `dir`? ENOENT, EACCES, EPERM (sticky), ENOTDIR, EISDIR.
Result<void> MayDelete(const Credentials& creds, Dentry& dir, Dentry& victim, bool as_directory);

// sysctl fs.protected_*: what one may do with other people's names.
struct LinkProtection {
  std::atomic<int> hardlinks{0}, symlinks{0}, fifos{0}, regular{0};
};
LinkProtection& Protection();
// EPERM: a hard link to a file that one could not write (may_linkat).
Result<void> MayLinkTo(const Credentials& creds, Inode& inode);
// EACCES: a link of somebody else's in a sticky directory that all may write (may_follow_link).
Result<void> MayFollow(const Credentials& creds, Dentry& dir, Inode& link);
// EACCES: O_CREAT of a FIFO or file of somebody else's in such a directory (may_create_in_sticky).
Result<void> MayOpenInSticky(const Credentials& creds, Dentry& dir, Inode& inode);

bool OwnerOrCapable(const Credentials& creds, const Attr& attr);

// The attributes of a new object in `dir`: owner, set-gid inheritance.
Result<NewInode> InitOwner(const Credentials& creds, Inode& dir, uint32_t mode, uint64_t rdev);

// A new object with what it inherits: the umask or the default ACL of its directory.
struct NewObject {
  NewInode args;
  std::optional<PosixAcl> default_acl, access_acl;
  Result<void> InheritAcl(Inode& inode) const;
};
Result<NewObject> InitObject(const Walk& walk, Inode& dir, uint32_t mode, uint64_t rdev);

// The mode left when somebody without CAP_FSETID changes contents; the same when nothing goes.
uint32_t ModeWithoutPrivileges(uint32_t mode);

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_PERMISSION_H_
