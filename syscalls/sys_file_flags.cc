// The flags of chattr(1) (fs/file_attr.c): FS_IOC_GETFLAGS, FS_IOC_SETFLAGS and their wider kin.
#include <linux/fs.h>

#include "fs/vfs/permission.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

struct FsXattrAbi {
  uint32_t xflags, extsize, nextents, projid, cowextsize;
  uint8_t pad[8];
};
static_assert(sizeof(FsXattrAbi) == 28);

constexpr struct {
  uint32_t flag, xflag;
} kPairs[] = {{FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE}, {FS_APPEND_FL, FS_XFLAG_APPEND},
              {FS_NODUMP_FL, FS_XFLAG_NODUMP},       {FS_NOATIME_FL, FS_XFLAG_NOATIME},
              {FS_SYNC_FL, FS_XFLAG_SYNC}};

Result<void> SetFlags(Task& t, File& file, uint32_t flags) {
  Inode& inode = file.inode();
  if (file.path().mount().read_only()) return Errno(EROFS);
  const Attr attr = TRY(inode.GetPermissionAttr());
  if (!OwnerOrCapable(t.creds(), attr)) return Errno(EPERM);
  constexpr uint32_t kFixed = FS_IMMUTABLE_FL | FS_APPEND_FL;
  if (((flags ^ inode.file_flags()) & kFixed) != 0 && !t.creds().Has(Capability::kLinuxImmutable)) {
    return Errno(EPERM);
  }
  return inode.SetFileFlags(flags);
}

}  // namespace

std::optional<SysResult> FileFlagsIoctl(Task& t, File& file, uint32_t cmd, uint64_t arg) {
  const GuestAddr addr(arg);
  // The numbers say long, but int is what is passed.
  if (cmd != FS_IOC_GETFLAGS && cmd != FS_IOC_SETFLAGS && cmd != FS_IOC_FSGETXATTR &&
      cmd != FS_IOC_FSSETXATTR) {
    return std::nullopt;
  }
  // What is to be set is read before anybody asks whether it can be.
  if (cmd == FS_IOC_SETFLAGS) {
    if (!UserIn<uint32_t>(addr).CopyIn(t).ok()) return SysResult(Errno(EFAULT));
  } else if (cmd == FS_IOC_FSSETXATTR) {
    if (!UserIn<FsXattrAbi>(addr).CopyIn(t).ok()) return SysResult(Errno(EFAULT));
  }
  if (!file.inode().is_regular() && !file.inode().is_directory()) return std::nullopt;
  if (!file.inode().keeps_file_flags()) return SysResult(Errno(ENOTTY));
  const auto act = [&]() -> SysResult {
    const uint32_t now = file.inode().file_flags();
    if (cmd == FS_IOC_GETFLAGS) return Zero(UserOut<uint32_t>(addr).CopyOut(t, now));
    if (cmd == FS_IOC_SETFLAGS) {
      const uint32_t flags = TRY(UserIn<uint32_t>(addr).CopyIn(t));
      return Zero(SetFlags(t, file, flags));
    }
    FsXattrAbi x = {};
    if (cmd == FS_IOC_FSGETXATTR) {
      for (const auto& p : kPairs) x.xflags |= now & p.flag ? p.xflag : 0;
      return Zero(UserOut<FsXattrAbi>(addr).CopyOut(t, x));
    }
    x = TRY(UserIn<FsXattrAbi>(addr).CopyIn(t));
    uint32_t flags = 0, known = 0;
    for (const auto& p : kPairs) {
      known |= p.xflag;
      if ((x.xflags & p.xflag) != 0) flags |= p.flag;
    }
    if ((x.xflags & ~known) != 0 || x.projid != 0) return Errno(EOPNOTSUPP);
    return Zero(SetFlags(t, file, flags));
  };
  return act();
}

}  // namespace ringwall
