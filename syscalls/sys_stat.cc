// stat and its relatives (fs/stat.c, fs/statfs.c).
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "syscalls/handlers.h"

namespace ringwall {

namespace {

// struct stat of x86-64 (arch/x86/include/uapi/asm/stat.h).
struct StatAbi {
  uint64_t dev, ino, nlink;
  uint32_t mode, uid, gid, pad0;
  uint64_t rdev;
  int64_t size, blksize, blocks;
  uint64_t atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec;
  int64_t unused[3];
};
static_assert(GuestAbi<StatAbi> && sizeof(StatAbi) == 144);

struct StatxTime {
  int64_t sec;
  uint32_t nsec;
  int32_t reserved;
};
struct StatxAbi {
  uint32_t mask, blksize;
  uint64_t attributes;
  uint32_t nlink, uid, gid;
  uint16_t mode, pad0;
  uint64_t ino, size, blocks, attributes_mask;
  StatxTime atime, btime, ctime, mtime;
  uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  uint64_t mnt_id;
  uint64_t spare[13];
};
static_assert(GuestAbi<StatxAbi> && sizeof(StatxAbi) == 256);

struct StatfsAbi {
  uint64_t type, bsize, blocks, bfree, bavail, files, ffree;
  int32_t fsid[2];
  uint64_t namelen, frsize, flags, spare[4];
};
static_assert(GuestAbi<StatfsAbi> && sizeof(StatfsAbi) == 120);

SysResult PutStat(Task& t, const Attr& a, UserOut<StatAbi> out) {
  StatAbi s = {};
  s.dev = a.dev, s.ino = a.ino, s.nlink = a.nlink, s.mode = a.mode;
  s.uid = ShowUid(t, a.uid), s.gid = ShowGid(t, a.gid);
  s.rdev = a.rdev, s.size = static_cast<int64_t>(a.size), s.blksize = a.blksize;
  s.blocks = static_cast<int64_t>(a.blocks);
  s.atime = static_cast<uint64_t>(a.atime.sec), s.atime_nsec = static_cast<uint64_t>(a.atime.nsec);
  s.mtime = static_cast<uint64_t>(a.mtime.sec), s.mtime_nsec = static_cast<uint64_t>(a.mtime.nsec);
  s.ctime = static_cast<uint64_t>(a.ctime.sec), s.ctime_nsec = static_cast<uint64_t>(a.ctime.nsec);
  return Zero(out.CopyOutLast(t, s));
}

// With AT_EMPTY_PATH no path at all means the descriptor, too (vfs_empty_path).
Result<Path> LookupOrOpen(Task& t, int dirfd, UserPath path, int flags) {
  if (path.IsNull() && (flags & AT_EMPTY_PATH) != 0 && dirfd >= 0) {
    Ref<File> file = TRY(t.GetFile(dirfd));
    return file->path();
  }
  return LookupAt(t, dirfd, path, flags);
}

StatxTime ToStatx(const Timespec& ts) {
  return {ts.sec, static_cast<uint32_t>(ts.nsec), 0};
}

// On Linux each kind of nameless file has a file system of its own.
Result<StatFs> StatFsOf(const Path& path) {
  const Inode& inode = *path.dentry().inode();
  if (path.mount().fs().type_name() != "anon_inodefs") return path.mount().fs().GetStatFs();
  StatFs f = TRY(path.dentry().inode()->fs().GetStatFs());
  constexpr uint64_t kPipeFs = 0x50495045, kSockFs = 0x534f434b, kPidFs = 0x50494446;
  if (inode.type() == S_IFIFO) f.type = kPipeFs;
  if (inode.type() == S_IFSOCK) f.type = kSockFs;
  if (path.dentry().name() == "anon_inode:[pidfd]") f.type = kPidFs;
  return f;
}

SysResult PutStatfs(Task& t, const Path& path, UserOut<StatfsAbi> out) {
  const StatFs f = TRY(StatFsOf(path));
  constexpr uint64_t kStValid = 0x20;
  StatfsAbi s = {};
  s.type = f.type, s.bsize = f.bsize, s.blocks = f.blocks, s.bfree = f.bfree, s.bavail = f.bavail;
  s.files = f.files, s.ffree = f.ffree, s.namelen = f.namelen, s.frsize = f.frsize;
  s.fsid[0] = static_cast<int32_t>(path.mount().fs().dev());
  // ST_* bits are the MS_* ones but for these two.
  constexpr uint64_t kStRelatime = 0x1000, kStNoSymfollow = 0x2000;
  const uint32_t m = path.mount().flags() | (path.mount().read_only() ? MS_RDONLY : 0);
  s.flags = f.flags | kStValid | (m & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME |
                                       MS_NODIRATIME));
  if ((m & MS_RELATIME) != 0) s.flags |= kStRelatime;
  if ((m & MS_NOSYMFOLLOW) != 0) s.flags |= kStNoSymfollow;
  return Zero(out.CopyOutLast(t, s));
}

}  // namespace

SysResult SysStat(Task& t, UserPath path, GuestAddr out) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, 0));
  const Attr a = TRY(Vfs::Stat(p));
  return PutStat(t, a, UserOut<StatAbi>(out));
}

SysResult SysLstat(Task& t, UserPath path, GuestAddr out) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW));
  const Attr a = TRY(Vfs::Stat(p));
  return PutStat(t, a, UserOut<StatAbi>(out));
}

SysResult SysFstat(Task& t, int fd, GuestAddr out) {
  Ref<File> file = TRY(t.GetFile(fd));
  const Attr a = TRY(Vfs::Stat(file->path()));
  return PutStat(t, a, UserOut<StatAbi>(out));
}

SysResult SysNewfstatat(Task& t, int dirfd, UserPath path, GuestAddr out, int flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT)) != 0) return Errno(EINVAL);
  const Path p = TRY(LookupOrOpen(t, dirfd, path, flags));
  const Attr a = TRY(Vfs::Stat(p));
  return PutStat(t, a, UserOut<StatAbi>(out));
}

SysResult SysStatx(Task& t, int dirfd, UserPath path, int flags, uint32_t mask, GuestAddr out) {
  constexpr int kSyncMask = AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC;
  if ((mask & 0x80000000u) != 0 || (flags & kSyncMask) == kSyncMask) return Errno(EINVAL);
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | kSyncMask)) != 0) {
    return Errno(EINVAL);
  }
  const Path p = TRY(LookupOrOpen(t, dirfd, path, flags));
  const Attr a = TRY(Vfs::Stat(p));
  StatxAbi s = {};
  constexpr uint32_t kBtime = 0x800, kMountId = 0x1000, kMountIdUnique = 0x4000;
  const uint32_t id = (mask & kMountIdUnique) != 0 ? kMountIdUnique : kMountId;
  s.mask = 0x7ff | (a.btime ? mask & kBtime : 0u) | id;
  s.blksize = a.blksize, s.nlink = a.nlink;
  s.uid = ShowUid(t, a.uid), s.gid = ShowGid(t, a.gid);
  s.mode = static_cast<uint16_t>(a.mode), s.ino = a.ino, s.size = a.size, s.blocks = a.blocks;
  s.atime = ToStatx(a.atime), s.mtime = ToStatx(a.mtime), s.ctime = ToStatx(a.ctime);
  if (a.btime && (mask & kBtime) != 0) s.btime = ToStatx(*a.btime);
  s.rdev_major = major(a.rdev), s.rdev_minor = minor(a.rdev);
  s.dev_major = major(a.dev), s.dev_minor = minor(a.dev);
  s.mnt_id = static_cast<uint64_t>(p.mount().id());
  constexpr uint64_t kMountRoot = 0x2000, kAutomount = 0x1000, kDax = 0x200000;
  constexpr uint64_t kFlags = STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP;
  const Inode& inode = *p.dentry().inode();
  s.attributes_mask = kMountRoot | kAutomount | kDax;
  if (inode.keeps_file_flags()) {
    // The same bits as those of FS_IOC_GETFLAGS.
    s.attributes_mask |= kFlags;
    s.attributes |= inode.file_flags() & kFlags;
  }
  if (&p.mount().root() == &p.dentry()) s.attributes |= kMountRoot;
  return Zero(UserOut<StatxAbi>(out).CopyOutLast(t, s));
}

SysResult SysStatfs(Task& t, UserPath path, GuestAddr out) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, 0));
  return PutStatfs(t, p, UserOut<StatfsAbi>(out));
}

SysResult SysFstatfs(Task& t, int fd, GuestAddr out) {
  Ref<File> file = TRY(t.GetFile(fd));
  return PutStatfs(t, file->path(), UserOut<StatfsAbi>(out));
}

SysResult SysAccess(Task& t, UserPath path, int mode) {
  return SysFaccessat2(t, AT_FDCWD, path, mode, 0);
}

SysResult SysFaccessat(Task& t, int dirfd, UserPath path, int mode) {
  return SysFaccessat2(t, dirfd, path, mode, 0);
}

SysResult SysFaccessat2(Task& t, int dirfd, UserPath path, int mode, int flags) {
  if ((mode & ~7) != 0) return Errno(EINVAL);
  if ((flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Errno(EINVAL);
  // Without AT_EACCESS the real ids count, with the capabilities that they would give.
  Ref<Credentials> real = t.creds().Copy();
  if ((flags & AT_EACCESS) == 0) {
    real->fsuid = real->ruid;
    real->fsgid = real->rgid;
    real->cap_effective = real->user_ns().UidIn(0) == real->ruid ? real->cap_permitted : 0;
  }
  const std::string name = TRY(t.CopyInPath(path.addr(), (flags & AT_EMPTY_PATH) != 0));
  AtWalk at = TRY(AtWalk::Make(t, dirfd, name));
  Path p = at.start();
  if (!name.empty()) {
    const Walk own = at.walk();
    const Walk walk{*real, own.mounts, own.root, own.start, own.task, 0};
    LookupFlags lookup;
    lookup.follow_last = (flags & AT_SYMLINK_NOFOLLOW) == 0;
    p = TRY(Vfs::Lookup(walk, name, lookup));
  }
  if (mode == 0) return 0;
  if ((mode & 2) != 0 && p.mount().read_only() && !p.dentry().inode()->is_special()) {
    return Errno(EROFS);
  }
  if ((mode & 1) != 0 && (p.mount().flags() & MS_NOEXEC) != 0 && p.dentry().inode()->is_regular()) {
    return Errno(EACCES);
  }
  return Zero(Vfs::CheckAccess(*real, p, static_cast<uint32_t>(mode)));
}

}  // namespace ringwall
