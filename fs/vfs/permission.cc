#include "fs/vfs/permission.h"

#include <linux/fs.h>

#include "fs/vfs/acl.h"
#include "fs/vfs/dentry.h"
#include "fs/vfs/mount.h"

namespace ringwall {

Result<void> InodePermission(const Credentials& creds, Inode& inode, uint32_t want) {
  // Nobody writes to what is immutable.
  if ((want & kMayWrite) && (inode.file_flags() & FS_IMMUTABLE_FL)) return Errno(EPERM);
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
  // The group's bits are then the mask of a list.
  if (creds.fsuid != attr.uid && (attr.mode & S_IRWXG) && inode.has_acl()) {
    if (const std::optional<PosixAcl> acl = AclOf(inode, kAclAccess)) {
      if (acl->Allows(creds, attr.uid, attr.gid, want) ||
          MayOverride(creds, attr.mode, attr.uid, attr.gid, want)) {
        return {};
      }
      return Errno(EACCES);
    }
  }
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
  if (dir.inode()->file_flags() & FS_APPEND_FL) return Errno(EPERM);
  if (victim.inode()->file_flags() & (FS_APPEND_FL | FS_IMMUTABLE_FL)) return Errno(EPERM);
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

LinkProtection& Protection() {
  static LinkProtection* protection = new LinkProtection;
  return *protection;
}

Result<void> MayLinkTo(const Credentials& creds, Inode& inode) {
  if (Protection().hardlinks.load(std::memory_order_relaxed) == 0) return {};
  const Attr attr = TRY(inode.GetPermissionAttr());
  const bool set_id = (attr.mode & S_ISUID) ||
                      (attr.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);
  if (inode.is_regular() && !set_id && InodePermission(creds, inode, kMayRead | kMayWrite).ok()) {
    return {};
  }
  if (!OwnerOrCapable(creds, attr)) return Errno(EPERM);
  return {};
}

Result<void> MayFollow(const Credentials& creds, Dentry& dir, Inode& link) {
  if (Protection().symlinks.load(std::memory_order_relaxed) == 0) return {};
  const Attr attr = TRY(link.GetPermissionAttr());
  if (attr.uid == creds.fsuid) return {};
  const Attr of_dir = TRY(dir.inode()->GetPermissionAttr());
  constexpr uint32_t kOpen = S_ISVTX | S_IWOTH;
  if ((of_dir.mode & kOpen) != kOpen || of_dir.uid == attr.uid) return {};
  return Errno(EACCES);
}

Result<void> MayOpenInSticky(const Credentials& creds, Dentry& dir, Inode& inode) {
  const LinkProtection& p = Protection();
  const int level = inode.type() == S_IFIFO ? p.fifos.load(std::memory_order_relaxed)
                    : inode.is_regular()    ? p.regular.load(std::memory_order_relaxed)
                                            : 0;
  if (level == 0) return {};
  const Attr of_dir = TRY(dir.inode()->GetPermissionAttr());
  const Attr attr = TRY(inode.GetPermissionAttr());
  if (!(of_dir.mode & S_ISVTX) || attr.uid == of_dir.uid || attr.uid == creds.fsuid) return {};
  if ((of_dir.mode & S_IWOTH) || (level >= 2 && (of_dir.mode & S_IWGRP))) return Errno(EACCES);
  return {};
}

bool OwnerOrCapable(const Credentials& creds, const Attr& attr) {
  return creds.fsuid == attr.uid || (creds.HasOwn(Capability::kFowner) && creds.user_ns().UidOut(attr.uid).has_value());
}

Result<void> NewObject::InheritAcl(Inode& inode) const {
  if (!default_acl) return {};
  const UserNamespace& first = UserNamespace::Initial();
  if (access_acl) TRY(inode.SetXattr(kAclAccess, access_acl->Serialize(first), 0));
  if (inode.is_directory()) TRY(inode.SetXattr(kAclDefault, default_acl->Serialize(first), 0));
  return {};
}

Result<NewObject> InitObject(const Walk& walk, Inode& dir, uint32_t mode, uint64_t rdev) {
  NewObject made;
  if (!S_ISLNK(mode)) made.default_acl = AclOf(dir, kAclDefault);
  if (made.default_acl) {
    // The list takes the place of the umask.
    PosixAcl acl = *made.default_acl;
    if (!acl.Mask(&mode)) made.access_acl = std::move(acl);
  } else if (!S_ISLNK(mode)) {
    mode &= ~walk.umask;
  }
  made.args = TRY(InitOwner(walk.creds, dir, mode, rdev));
  return made;
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
