// Changing attributes and extended attributes. Compare Linux fs/attr.c, fs/open.c, fs/xattr.c.
#include <linux/fs.h>
#include <sys/inotify.h>
#include <sys/xattr.h>

#include "fs/vfs/acl.h"
#include "fs/vfs/inotify.h"
#include "fs/vfs/locks.h"
#include "fs/vfs/permission.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

namespace {

constexpr std::string_view kFileCaps = "security.capability";

Inode& InodeOf(const Path& path) { return *path.dentry().inode(); }

// Changes the attributes and tells who watches.
Result<void> Apply(const Path& path, const SetAttr& set) {
  TRY(InodeOf(path).Set(set));
  uint32_t events = 0;
  if (set.mode || set.uid || set.gid) events |= IN_ATTRIB;
  if (set.size) events |= IN_MODIFY;
  if (set.atime && set.mtime) {
    events |= IN_ATTRIB;
  } else if (set.atime) {
    events |= IN_ACCESS;
  } else if (set.mtime) {
    events |= IN_MODIFY;
  }
  if (events != 0) NotifyAttributes(path, events);
  return {};
}

Result<void> WantWrite(const Path& path) {
  if (path.mount().read_only()) return Errno(EROFS);
  return {};
}

// What is immutable or append-only keeps its attributes.
Result<void> NotFixed(const Path& path) {
  if (InodeOf(path).file_flags() & (FS_IMMUTABLE_FL | FS_APPEND_FL)) return Errno(EPERM);
  return {};
}

// set_posix_acl(): a list, or none when it has no entries. The mode follows an access list, which is
// not kept when the mode says all of it.
Result<void> SetAcl(const Credentials& creds, const Path& path, std::string_view name,
                    std::string_view value, bool remove) {
  Inode& inode = InodeOf(path);
  if (inode.is_symlink()) return Errno(EOPNOTSUPP);
  TRY(WantWrite(path));
  std::optional<PosixAcl> acl;
  if (!remove) {
    acl = TRY(PosixAcl::Parse(value, creds.user_ns()));
  }
  TRY(NotFixed(path));
  if (name == kAclDefault && !inode.is_directory()) {
    return acl ? Result<void>(Errno(EACCES)) : Result<void>();
  }
  const Attr attr = TRY(inode.GetPermissionAttr());
  if (!OwnerOrCapable(creds, attr)) return Errno(EPERM);
  if (acl && name == kAclAccess) {
    SetAttr set;
    uint32_t mode = attr.mode & 07777;
    if (acl->ToMode(&mode)) acl.reset();
    if (!creds.InGroup(attr.gid) && !creds.HasOver(attr.uid, attr.gid, Capability::kFsetid)) {
      mode &= ~static_cast<uint32_t>(S_ISGID);
    }
    set.mode = mode;
    TRY(inode.Set(set));
  }
  if (acl) {
    TRY(inode.SetXattr(name, acl->Serialize(UserNamespace::Initial()), 0));
  } else {
    Result<void> removed = inode.RemoveXattr(name);
    if (!removed.ok() && !removed.error().Is(ENODATA)) return removed;
  }
  NotifyAttributes(path, IN_ATTRIB);
  return {};
}

// xattr_permission()
Result<void> XattrPermission(const Credentials& creds, const Path& path, std::string_view name,
                             bool write) {
  if (write) {
    TRY(WantWrite(path));
    TRY(NotFixed(path));
  }
  if (name.starts_with("security.") || name.starts_with("system.")) {
    if (!write || name.starts_with("system.")) return {};
    const bool caps = name == kFileCaps;
    if (caps) {
      const Attr attr = TRY(InodeOf(path).GetPermissionAttr());
      if (!creds.HasOver(attr.uid, attr.gid, Capability::kSetfcap)) return Errno(EPERM);
    } else if (!creds.Has(Capability::kSysAdmin)) {
      return Errno(EPERM);
    }
    return {};
  }
  if (name.starts_with("trusted.")) {
    if (!creds.Has(Capability::kSysAdmin)) return Errno(write ? EPERM : ENODATA);
    return {};
  }
  Inode& inode = InodeOf(path);
  if (!name.starts_with("user.")) {
    TRY(InodePermission(creds, inode, write ? kMayWrite : kMayRead));
    return Errno(EOPNOTSUPP);
  }
  if (!inode.is_regular() && !inode.is_directory()) return Errno(write ? EPERM : ENODATA);
  if (inode.is_directory() && write) {
    const Attr attr = TRY(inode.GetPermissionAttr());
    if ((attr.mode & S_ISVTX) && !OwnerOrCapable(creds, attr)) return Errno(EPERM);
  }
  return InodePermission(creds, inode, write ? kMayWrite : kMayRead);
}

// What is known without asking the file system.
bool HasNoPrivileges(const Inode& inode) {
  const uint32_t mode = PermissionView(inode).mode();
  return mode != 0 && (mode & (S_ISUID | S_ISGID)) == 0 && inode.lacks_file_caps();
}

// The mark is set before the look, so that one who gives capabilities meanwhile takes it off again.
Result<void> DropFileCaps(Inode& inode) {
  if (inode.lacks_file_caps()) return {};
  inode.set_lacks_file_caps(true);
  const Result<std::string> caps = inode.GetXattr(kFileCaps);
  if (!caps.ok()) return {};
  inode.set_lacks_file_caps(false);
  return inode.RemoveXattr(kFileCaps);
}

// cap_convert_nscap(): a size and version that go together.
bool ValidFileCaps(std::string_view value) {
  uint32_t magic;
  if (value.size() < sizeof(magic)) return false;
  memcpy(&magic, value.data(), sizeof(magic));
  const uint32_t version = magic & 0xff000000;
  return (version == 0x02000000 && value.size() == 20) ||
         (version == 0x03000000 && value.size() == 24);
}

bool OnlyPrefix(std::string_view name) {
  return name == "user." || name == "trusted." || name == "security." || name == "system.";
}

}  // namespace

Result<void> Vfs::Chmod(const Credentials& creds, const Path& path, uint32_t mode) {
  TRY(WantWrite(path));
  Inode& inode = InodeOf(path);
  // anon_inode_setattr()
  if (inode.is_symlink() || inode.type() == 0) return Errno(EOPNOTSUPP);
  const Attr attr = TRY(inode.GetPermissionAttr());
  if (!OwnerOrCapable(creds, attr)) return Errno(EPERM);
  TRY(NotFixed(path));
  mode &= 07777;
  if (!creds.InGroup(attr.gid) && !creds.HasOver(attr.uid, attr.gid, Capability::kFsetid)) {
    mode &= ~static_cast<uint32_t>(S_ISGID);
  }
  SetAttr set;
  set.mode = mode;
  TRY(Apply(path, set));
  if (std::optional<PosixAcl> acl = AclOf(inode, kAclAccess)) {
    acl->TakeMode(mode);
    TRY(inode.SetXattr(kAclAccess, acl->Serialize(UserNamespace::Initial()), 0));
  }
  return {};
}

Result<void> Vfs::Chown(const Credentials& creds, const Path& path, std::optional<Uid> uid,
                        std::optional<Gid> gid) {
  TRY(WantWrite(path));
  Inode& inode = InodeOf(path);
  if (inode.type() == 0) return Errno(EOPNOTSUPP);
  const Attr attr = TRY(inode.GetPermissionAttr());
  TRY(NotFixed(path));
  const bool capable = creds.HasOver(attr.uid, attr.gid, Capability::kChown);
  if (uid && !capable && !(creds.fsuid == attr.uid && *uid == attr.uid)) return Errno(EPERM);
  if (gid && !capable && !(creds.fsuid == attr.uid && (*gid == attr.gid || creds.InGroup(*gid)))) {
    return Errno(EPERM);
  }
  SetAttr set;
  set.uid = uid;
  set.gid = gid;
  if (!inode.is_directory()) {
    uint32_t mode = attr.mode & 07777;
    const uint32_t stripped = ModeWithoutPrivileges(mode);
    mode = stripped;
    // A set-gid bit without group execution goes only when a stranger changes the group.
    if ((mode & S_ISGID) && !creds.InGroup(attr.gid) &&
        !creds.HasOver(attr.uid, attr.gid, Capability::kFsetid)) {
      mode &= ~static_cast<uint32_t>(S_ISGID);
    }
    if (mode != (attr.mode & 07777)) {
      // Which is a change of the mode, even where nobody's owner changes.
      if (!OwnerOrCapable(creds, attr)) return Errno(EPERM);
      set.mode = mode;
    }
  }
  return Apply(path, set);
}

Result<void> Vfs::DropPrivileges(const Credentials& creds, Inode& inode) {
  if (!inode.is_regular() || HasNoPrivileges(inode)) return {};
  TRY(DropFileCaps(inode));
  const Attr attr = TRY(inode.GetPermissionAttr());
  const uint32_t mode = attr.mode & 07777;
  if ((mode & (S_ISUID | S_ISGID)) == 0 || creds.Has(Capability::kFsetid)) return {};
  uint32_t kept = ModeWithoutPrivileges(mode);
  if (!creds.InGroup(attr.gid)) kept &= ~static_cast<uint32_t>(S_ISGID);
  if (kept == mode) return {};
  SetAttr set;
  set.mode = kept;
  return inode.Set(set);
}

Result<void> Vfs::DropPrivilegesForWrite(const Credentials& creds, Inode& inode) {
  if (!inode.is_regular() || HasNoPrivileges(inode)) return {};
  if (inode.caching() != Inode::Caching::kForever) return {};
  return DropPrivileges(creds, inode);
}

Result<void> Vfs::Truncate(const Credentials& creds, const Path& path, uint64_t size,
                           LeaseWait* wait) {
  Inode& inode = InodeOf(path);
  if (inode.is_directory()) return Errno(EISDIR);
  if (!inode.is_regular()) return Errno(EINVAL);
  TRY(WantWrite(path));
  TRY(InodePermission(creds, inode, kMayWrite));
  if (inode.file_flags() & FS_APPEND_FL) return Errno(EPERM);
  const WriteAccess access = TRY(WriteAccess::Get(inode, true));
  if (FileLocks* locks = inode.locks_if_any(); locks != nullptr && wait != nullptr) {
    Result<void> broken = locks->leases().Break(true);
    if (!broken.ok()) {
      *wait = {RefPtr<Inode>(&inode), true};
      return broken;
    }
  }
  TRY(DropPrivileges(creds, inode));
  SetAttr set;
  set.size = size;
  return Apply(path, set);
}

Result<void> Vfs::Ftruncate(const Credentials& creds, File& file, uint64_t size) {
  if (!file.writable() || !file.inode().is_regular()) return Errno(EINVAL);
  if (file.inode().file_flags() & FS_APPEND_FL) return Errno(EPERM);
  TRY(DropPrivileges(creds, file.inode()));
  SetAttr set;
  set.size = size;
  return Apply(file.path(), set);
}

Result<void> Vfs::SetTimes(const Credentials& creds, const Path& path,
                           std::optional<SetAttr::Time> atime,
                           std::optional<SetAttr::Time> mtime) {
  if (!atime && !mtime) return {};
  TRY(WantWrite(path));
  Inode& inode = InodeOf(path);
  const Attr attr = TRY(inode.GetPermissionAttr());
  const bool both_now = atime && mtime && atime->now && mtime->now;
  if (inode.file_flags() & (both_now ? FS_IMMUTABLE_FL : FS_IMMUTABLE_FL | FS_APPEND_FL)) {
    return Errno(EPERM);
  }
  if (!OwnerOrCapable(creds, attr)) {
    if (!both_now) return Errno(EPERM);
    TRY(InodePermission(creds, inode, kMayWrite));
  }
  SetAttr set;
  set.atime = atime;
  set.mtime = mtime;
  return Apply(path, set);
}

Result<std::string> Vfs::GetXattr(const Credentials& creds, const Path& path,
                                  std::string_view name) {
  if (IsAclName(name)) {
    Inode& inode = InodeOf(path);
    if (inode.is_symlink()) return Errno(EOPNOTSUPP);
    const std::string bytes = TRY(inode.GetXattr(name));
    const std::optional<PosixAcl> acl = TRY(PosixAcl::Parse(bytes, UserNamespace::Initial()));
    if (!acl) return Errno(ENODATA);
    return acl->Serialize(creds.user_ns());
  }
  TRY(XattrPermission(creds, path, name, false));
  if (name.starts_with("system.")) return Errno(EOPNOTSUPP);
  if (OnlyPrefix(name)) return Errno(EINVAL);
  return InodeOf(path).GetXattr(name);
}

Result<void> Vfs::SetXattr(const Credentials& creds, const Path& path, std::string_view name,
                           std::string_view value, int flags) {
  if (IsAclName(name)) return SetAcl(creds, path, name, value, false);
  TRY(XattrPermission(creds, path, name, true));
  if (name.starts_with("system.")) return Errno(EOPNOTSUPP);
  if (OnlyPrefix(name)) return Errno(EINVAL);
  if (name == kFileCaps && !ValidFileCaps(value)) return Errno(EINVAL);
  TRY(InodeOf(path).SetXattr(name, value, flags));
  if (name == kFileCaps) InodeOf(path).set_lacks_file_caps(false);
  NotifyAttributes(path, IN_ATTRIB);
  return {};
}

Result<std::vector<std::string>> Vfs::ListXattr(const Credentials& creds, const Path& path) {
  std::vector<std::string> names = TRY(InodeOf(path).ListXattr());
  if (!creds.Has(Capability::kSysAdmin)) {
    std::erase_if(names, [](const std::string& n) { return n.starts_with("trusted."); });
  }
  return names;
}

Result<void> Vfs::RemoveXattr(const Credentials& creds, const Path& path, std::string_view name) {
  if (IsAclName(name)) return SetAcl(creds, path, name, {}, true);
  TRY(XattrPermission(creds, path, name, true));
  if (name.starts_with("system.")) return Errno(EOPNOTSUPP);
  if (OnlyPrefix(name)) return Errno(EINVAL);
  TRY(InodeOf(path).RemoveXattr(name));
  NotifyAttributes(path, IN_ATTRIB);
  return {};
}

}  // namespace ringwall
