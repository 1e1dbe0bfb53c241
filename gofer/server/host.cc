#include "gofer/server/host.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace ringwall::gofer {

namespace {

constexpr unsigned kStatxMask = STATX_BASIC_STATS | STATX_BTIME;

Time ToTime(const statx_timestamp& time) {
  return {.sec = time.tv_sec, .nsec = time.tv_nsec, .pad = 0};
}

Result<Attr> DoStat(int dir, const char* name, int flags) {
  struct statx buf = {};
  if (::statx(dir, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, kStatxMask, &buf) != 0) {
    return Errno(errno);
  }
  Attr attr;
  attr.ino = buf.stx_ino;
  attr.dev = makedev(buf.stx_dev_major, buf.stx_dev_minor);
  attr.rdev = makedev(buf.stx_rdev_major, buf.stx_rdev_minor);
  attr.size = buf.stx_size;
  attr.blocks = buf.stx_blocks;
  attr.mode = buf.stx_mode;
  attr.nlink = buf.stx_nlink;
  attr.uid = buf.stx_uid;
  attr.gid = buf.stx_gid;
  attr.blksize = buf.stx_blksize;
  attr.atime = ToTime(buf.stx_atime);
  attr.mtime = ToTime(buf.stx_mtime);
  attr.ctime = ToTime(buf.stx_ctime);
  if ((buf.stx_mask & STATX_BTIME) != 0) {
    attr.has_btime = 1;
    attr.btime = ToTime(buf.stx_btime);
  }
  return attr;
}

}  // namespace

Result<Attr> StatFd(int fd) { return DoStat(fd, "", AT_EMPTY_PATH); }

Result<Attr> StatAt(int dir, const char* name) { return DoStat(dir, name, 0); }

bool IsKernelFs(int fd) {
  struct statfs buf = {};
  if (::fstatfs(fd, &buf) != 0) return true;
  switch (static_cast<uint32_t>(buf.f_type)) {
    case PROC_SUPER_MAGIC:
    case SYSFS_MAGIC:
    case DEBUGFS_MAGIC:
    case TRACEFS_MAGIC:
    case SECURITYFS_MAGIC:
    case SELINUX_MAGIC:
    case CGROUP_SUPER_MAGIC:
    case CGROUP2_SUPER_MAGIC:
    case EFIVARFS_MAGIC:
    case PSTOREFS_MAGIC:
    case BPF_FS_MAGIC:
    case BINFMTFS_MAGIC:
    case NSFS_MAGIC:
    case 0x62656570:  // configfs
      return true;
    default:
      return false;
  }
}

Result<UniqueFd> OpenPath(int dir, const char* name) {
  UniqueFd fd(::openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return Errno(errno);
  return fd;
}

FdPath::FdPath(const ProcAccess& proc, int fd) {
  text_[0] = '\0';
  if (proc.available) ::snprintf(text_, sizeof(text_), "%s%d", proc.prefix, fd);
}

Result<void> ChmodFd(const ProcAccess& proc, int fd, uint32_t type, uint32_t mode) {
  if (type == S_IFLNK) return Errno(EOPNOTSUPP);
  const FdPath path(proc, fd);
  if (path.available()) {
    TRY(FromHost(::fchmodat(AT_FDCWD, path.c_str(), mode, 0)));
    return {};
  }
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
  TRY(FromHost(::syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH)));
  return {};
}

Result<int> HostOpenFlags(uint32_t flags) {
  constexpr uint32_t kAllowed = O_ACCMODE | O_TRUNC | O_APPEND | O_DIRECT | O_NOATIME | O_SYNC |
                                O_DSYNC | 0100000;  // the last: O_LARGEFILE, which glibc hides
  if ((flags & ~kAllowed) != 0 || (flags & O_ACCMODE) == O_ACCMODE) return Errno(EINVAL);
  return static_cast<int>(flags);
}

bool WantsWrite(uint32_t flags) {
  return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0;
}

}  // namespace ringwall::gofer
