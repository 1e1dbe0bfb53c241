#include "fs/vfs/permission.h"

#include "fs/vfs/dentry.h"
#include "fs/vfs/mount.h"

namespace ringwall {

Result<void> InodePermission(const Credentials& creds, Inode& inode, uint32_t want) {
  const PermissionView view(inode);
  const uint32_t mode = view.mode();
  if (mode != 0) {
    // Most directories let everybody through.
    if (want == kMayExec && (mode & 0111) == 0111) return {};
    if (MayAccess(creds, inode.type() | (mode & 07777), view.uid(), view.gid(), want)) return {};
    return Errno(EACCES);
  }
  if (std::optional<Result<void>> own = inode.CheckPermission(creds, want)) {
    return std::move(*own);
  }
  const Attr attr = TRY(inode.GetPermissionAttr());
  if (MayAccess(creds, attr.mode, attr.uid, attr.gid, want)) return {};
  return Errno(EACCES);
}

Result<void> PathPermission(const Credentials& creds, const Path& path, uint32_t want) {
  Inode& inode = *path.dentry().inode();
  TRY(InodePermission(creds, inode, want));
  const bool data = inode.is_directory() || inode.is_regular() || inode.is_symlink();
  if ((want & kMayWrite) && data && path.mount().read_only()) return Errno(EROFS);
  return {};
}

Result<void> MayCreate(const Credentials& creds, Dentry& dir) {
  if (dir.unlinked()) return Errno(ENOENT);
  return InodePermission(creds, *dir.inode(), kMayWrite | kMayExec);
}

Result<void> MayDelete(const Credentials& creds, Dentry& dir, Dentry& victim, bool as_directory) {
  if (victim.negative()) return Errno(ENOENT);
  TRY(InodePermission(creds, *dir.inode(), kMayWrite | kMayExec));
  const Attr dir_attr = TRY(dir.inode()->GetPermissionAttr());
  if (dir_attr.mode & S_ISVTX) {
    const Attr attr = TRY(victim.inode()->GetPermissionAttr());
    if (attr.uid != creds.fsuid && dir_attr.uid != creds.fsuid &&
        !creds.HasOver(attr.uid, attr.gid, Capability::kFowner)) {
      return Errno(EPERM);
    }
  }
  if (as_directory && !victim.is_directory()) return Errno(ENOTDIR);
  if (!as_directory && victim.is_directory()) return Errno(EISDIR);
  if (dir.unlinked()) return Errno(ENOENT);
  return {};
}

bool OwnerOrCapable(const Credentials& creds, const Attr& attr) {
  return creds.fsuid == attr.uid || (creds.HasOwn(Capability::kFowner) && creds.user_ns().UidOut(attr.uid).has_value());
}

Result<NewInode> InitOwner(const Credentials& creds, Inode& dir, uint32_t mode, uint64_t rdev) {
  NewInode args{mode, creds.fsuid, creds.fsgid, rdev};
  const Attr attr = TRY(dir.GetPermissionAttr());
  if (!(attr.mode & S_ISGID)) return args;
  args.gid = attr.gid;
  if (S_ISDIR(mode)) {
    args.mode |= S_ISGID;
  } else if ((mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && !creds.InGroup(attr.gid) &&
             !creds.HasOver(attr.uid, attr.gid, Capability::kFsetid)) {
    args.mode &= ~static_cast<uint32_t>(S_ISGID);
  }
  return args;
}

uint32_t ModeWithoutPrivileges(uint32_t mode) {
  mode &= ~static_cast<uint32_t>(S_ISUID);
  if (mode & S_IXGRP) mode &= ~static_cast<uint32_t>(S_ISGID);
  return mode;
}

}  // namespace ringwall
