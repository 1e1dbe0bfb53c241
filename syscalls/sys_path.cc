// Calls that change names and attributes (fs/namei.c, fs/open.c, fs/attr.c, fs/utimes.c).
#include <fcntl.h>
#include <sys/stat.h>

#include "fs/vfs/leases.h"
#include "fs/vfs/path_walk.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

struct TimespecAbi {
  int64_t sec, nsec;
};
struct TimevalAbi {
  int64_t sec, usec;
};

Result<std::optional<SetAttr::Time>> ToTime(const TimespecAbi& ts) {
  if (ts.nsec == UTIME_OMIT) return std::optional<SetAttr::Time>();
  if (ts.nsec == UTIME_NOW) return std::optional<SetAttr::Time>(SetAttr::Time{true, {}});
  if (ts.nsec < 0 || ts.nsec > 999'999'999) return Errno(EINVAL);
  return std::optional<SetAttr::Time>(SetAttr::Time{false, {ts.sec, ts.nsec}});
}

SysResult SetTimes(Task& t, const Path& p, const TimespecAbi (&times)[2]) {
  if (times[0].nsec == UTIME_OMIT && times[1].nsec == UTIME_OMIT) return 0;
  const std::optional<SetAttr::Time> atime = TRY(ToTime(times[0]));
  const std::optional<SetAttr::Time> mtime = TRY(ToTime(times[1]));
  return Zero(Vfs::SetTimes(t.creds(), p, atime, mtime));
}

// chown's ids: -1 keeps the old one. EINVAL when it is not mapped.
struct Owners {
  std::optional<Uid> uid;
  std::optional<Gid> gid;
};
Result<Owners> TakeOwners(const Task& t, uint32_t uid, uint32_t gid) {
  Owners o;
  if (uid != kInvalidId) o.uid = TRY(TakeUid(t, uid));
  if (gid != kInvalidId) o.gid = TRY(TakeGid(t, gid));
  return o;
}

}  // namespace

SysResult SysMkdir(Task& t, UserPath path, uint32_t mode) {
  return SysMkdirat(t, AT_FDCWD, path, mode);
}

SysResult SysMkdirat(Task& t, int dirfd, UserPath path, uint32_t mode) {
  const std::string name = TRY(path.CopyIn(t));
  AtWalk at = TRY(AtWalk::Make(t, dirfd, name));
  return Zero(Vfs::Mkdir(at.walk(), name, mode & 01777));
}

SysResult SysMknod(Task& t, UserPath path, uint32_t mode, uint32_t dev) {
  return SysMknodat(t, AT_FDCWD, path, mode, dev);
}

SysResult SysMknodat(Task& t, int dirfd, UserPath path, uint32_t mode, uint32_t dev) {
  switch (mode & S_IFMT) {
    case 0:
      mode |= S_IFREG;
      break;
    case S_IFREG:
    case S_IFIFO:
    case S_IFSOCK:
    case S_IFCHR:
    case S_IFBLK:
      break;
    case S_IFDIR:
      return Errno(EPERM);
    default:
      return Errno(EINVAL);
  }
  const std::string name = TRY(path.CopyIn(t));
  AtWalk at = TRY(AtWalk::Make(t, dirfd, name));
  const uint32_t masked = mode & (S_IFMT | 07777);
  TRY(Vfs::Mknod(at.walk(), name, masked, dev));
  return 0;
}

SysResult SysRmdir(Task& t, UserPath path) { return SysUnlinkat(t, AT_FDCWD, path, AT_REMOVEDIR); }

SysResult SysUnlink(Task& t, UserPath path) { return SysUnlinkat(t, AT_FDCWD, path, 0); }

SysResult SysUnlinkat(Task& t, int dirfd, UserPath path, int flags) {
  if ((flags & ~AT_REMOVEDIR) != 0) return Errno(EINVAL);
  const std::string name = TRY(path.CopyIn(t));
  AtWalk at = TRY(AtWalk::Make(t, dirfd, name));
  if ((flags & AT_REMOVEDIR) != 0) return Zero(Vfs::Rmdir(at.walk(), name));
  return Zero(Vfs::Unlink(at.walk(), name));
}

SysResult SysSymlink(Task& t, UserPath target, UserPath path) {
  return SysSymlinkat(t, target, AT_FDCWD, path);
}

SysResult SysSymlinkat(Task& t, UserPath target, int dirfd, UserPath path) {
  const std::string to = TRY(target.CopyIn(t));
  const std::string name = TRY(path.CopyIn(t));
  AtWalk at = TRY(AtWalk::Make(t, dirfd, name));
  return Zero(Vfs::Symlink(at.walk(), to, name));
}

SysResult SysLink(Task& t, UserPath from, UserPath to) {
  return SysLinkat(t, AT_FDCWD, from, AT_FDCWD, to, 0);
}

SysResult SysLinkat(Task& t, int fromfd, UserPath from, int tofd, UserPath to, int flags) {
  if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) != 0) return Errno(EINVAL);
  const int lookup = (flags & AT_EMPTY_PATH) |
                     ((flags & AT_SYMLINK_FOLLOW) != 0 ? 0 : AT_SYMLINK_NOFOLLOW);
  const std::string old_name = TRY(t.CopyInPath(from.addr(), (flags & AT_EMPTY_PATH) != 0));
  // LOOKUP_LINKAT_EMPTY: a descriptor may have come from someone who could reach more. What was not
  // opened by name, and no pipe, can be linked nowhere anyway.
  if ((flags & AT_EMPTY_PATH) != 0 && fromfd != AT_FDCWD && !old_name.starts_with('/')) {
    const Ref<File> file = TRY(t.GetFile(fromfd));
    if (file->opener() != nullptr && file->opener() != &t.creds() &&
        !t.creds().Has(Capability::kDacReadSearch)) {
      return Errno(ENOENT);
    }
  }
  const Path target = TRY(LookupAt(t, fromfd, old_name, lookup));
  const std::string name = TRY(to.CopyIn(t));
  AtWalk at = TRY(AtWalk::Make(t, tofd, name));
  return Zero(Vfs::Link(target, at.walk(), name));
}

SysResult SysRename(Task& t, UserPath from, UserPath to) {
  return SysRenameat2(t, AT_FDCWD, from, AT_FDCWD, to, 0);
}

SysResult SysRenameat(Task& t, int fromfd, UserPath from, int tofd, UserPath to) {
  return SysRenameat2(t, fromfd, from, tofd, to, 0);
}

SysResult SysRenameat2(Task& t, int fromfd, UserPath from, int tofd, UserPath to, uint32_t flags) {
  constexpr uint32_t kNoReplace = 1, kExchange = 2, kWhiteout = 4;
  if ((flags & ~(kNoReplace | kExchange | kWhiteout)) != 0) return Errno(EINVAL);
  if ((flags & kExchange) != 0 && (flags & (kNoReplace | kWhiteout)) != 0) return Errno(EINVAL);
  if ((flags & kWhiteout) != 0 && !t.creds().Has(Capability::kMknod)) return Errno(EPERM);
  const std::string old_name = TRY(from.CopyIn(t));
  AtWalk old_at = TRY(AtWalk::Make(t, fromfd, old_name));
  const Result<std::string> new_name = to.CopyIn(t);
  Result<AtWalk> new_at = new_name.ok() ? AtWalk::Make(t, tofd, *new_name) : new_name.error();
  if (!new_at.ok()) {
    // What is wrong on the way to the old name is told first.
    const Walk walk = old_at.walk();
    PathWalk first(walk);
    TRY(first.ToParent(old_name));
    return new_at.error();
  }
  return Zero(Vfs::Rename(old_at.walk(), old_name, new_at->walk(), *new_name, flags));
}

SysResult SysReadlink(Task& t, UserPath path, GuestAddr buf, int32_t size) {
  return SysReadlinkat(t, AT_FDCWD, path, buf, size);
}

SysResult SysReadlinkat(Task& t, int dirfd, UserPath path, GuestAddr buf, int32_t size) {
  if (size <= 0) return Errno(EINVAL);
  const std::string name = TRY(path.CopyInAllowEmpty(t));
  AtWalk at = TRY(AtWalk::Make(t, dirfd, name));
  Path p = at.start();
  if (name.empty()) {
    if (!p.dentry().inode()->is_symlink()) return Errno(ENOENT);
  } else {
    LookupFlags flags;
    flags.follow_last = false;
    p = TRY(Vfs::Lookup(at.walk(), name, flags));
  }
  const std::string target = TRY(Vfs::ReadLink(p));
  const size_t n = std::min(target.size(), static_cast<size_t>(size));
  TRY(t.CopyOutLast(buf, std::as_bytes(std::span(target.data(), n))));
  return static_cast<int64_t>(n);
}

SysResult SysChmod(Task& t, UserPath path, uint32_t mode) {
  return SysFchmodat(t, AT_FDCWD, path, mode);
}

SysResult SysFchmodat(Task& t, int dirfd, UserPath path, uint32_t mode) {
  return SysFchmodat2(t, dirfd, path, mode, 0);
}

SysResult SysFchmodat2(Task& t, int dirfd, UserPath path, uint32_t mode, int flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Errno(EINVAL);
  const Path p = TRY(LookupAt(t, dirfd, path, flags));
  if (p.dentry().inode()->is_symlink()) return Errno(EOPNOTSUPP);
  return Zero(Vfs::Chmod(t.creds(), p, mode & 07777));
}

SysResult SysFchmod(Task& t, int fd, uint32_t mode) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  return Zero(Vfs::Chmod(t.creds(), file->path(), mode & 07777));
}

SysResult SysChown(Task& t, UserPath path, uint32_t uid, uint32_t gid) {
  return SysFchownat(t, AT_FDCWD, path, uid, gid, 0);
}

SysResult SysLchown(Task& t, UserPath path, uint32_t uid, uint32_t gid) {
  return SysFchownat(t, AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

SysResult SysFchownat(Task& t, int dirfd, UserPath path, uint32_t uid, uint32_t gid, int flags) {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Errno(EINVAL);
  const Path p = TRY(LookupAt(t, dirfd, path, flags));
  const Owners o = TRY(TakeOwners(t, uid, gid));
  return Zero(Vfs::Chown(t.creds(), p, o.uid, o.gid));
}

SysResult SysFchown(Task& t, int fd, uint32_t uid, uint32_t gid) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  const Owners o = TRY(TakeOwners(t, uid, gid));
  return Zero(Vfs::Chown(t.creds(), file->path(), o.uid, o.gid));
}

SysResult SysTruncate(Task& t, UserPath path, int64_t size) {
  if (size < 0) return Errno(EINVAL);
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, 0));
  if (static_cast<uint64_t>(size) > t.tg().limit(RLIMIT_FSIZE)) return FileTooBig(t);
  for (;;) {
    LeaseWait wait;
    Result<void> done = Vfs::Truncate(t.creds(), p, static_cast<uint64_t>(size), &wait);
    if (!wait.inode) return Zero(std::move(done));
    TRY(WaitForLease(t, wait));
  }
}

SysResult SysFtruncate(Task& t, int fd, int64_t size) {
  if (size < 0) return Errno(EINVAL);
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  if (static_cast<uint64_t>(size) > t.tg().limit(RLIMIT_FSIZE)) return FileTooBig(t);
  return Zero(Vfs::Ftruncate(t.creds(), *file, static_cast<uint64_t>(size)));
}

SysResult FileTooBig(Task& t) {
  Result<void> ignored = t.SendSignal(MakeSigInfo(SIGXFSZ, SI_USER), false);
  static_cast<void>(ignored);
  return Errno(EFBIG);
}

SysResult SysUtimensat(Task& t, int dirfd, UserPath path, GuestAddr times_addr, int flags) {
  TimespecAbi times[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
  if (!times_addr.IsNull()) {
    TRY(t.CopyIn(times_addr, std::as_writable_bytes(std::span(times))));
    // Nothing to do: Linux does not even look at the path and the flags.
    if (times[0].nsec == UTIME_OMIT && times[1].nsec == UTIME_OMIT) return 0;
  }
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) != 0) return Errno(EINVAL);
  if (path.IsNull()) {
    if (dirfd == AT_FDCWD) return Errno(EFAULT);
    if (flags != 0) return Errno(EINVAL);
    Ref<File> file = TRY(t.GetFile(dirfd));
    if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
    return SetTimes(t, file->path(), times);
  }
  const Path p = TRY(LookupAt(t, dirfd, path, flags));
  return SetTimes(t, p, times);
}

SysResult SysFutimesat(Task& t, int dirfd, UserPath path, GuestAddr times_addr) {
  TimespecAbi times[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
  if (!times_addr.IsNull()) {
    TimevalAbi tv[2];
    TRY(t.CopyIn(times_addr, std::as_writable_bytes(std::span(tv))));
    for (int i = 0; i < 2; i++) {
      if (tv[i].usec < 0 || tv[i].usec > 999'999) return Errno(EINVAL);
      times[i] = {tv[i].sec, tv[i].usec * 1000};
    }
  }
  const Path p = TRY(LookupAt(t, dirfd, path, 0));
  return SetTimes(t, p, times);
}

SysResult SysUtimes(Task& t, UserPath path, GuestAddr times) {
  return SysFutimesat(t, AT_FDCWD, path, times);
}

SysResult SysUtime(Task& t, UserPath path, GuestAddr times_addr) {
  TimespecAbi times[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
  if (!times_addr.IsNull()) {
    int64_t sec[2];
    TRY(t.CopyIn(times_addr, std::as_writable_bytes(std::span(sec))));
    times[0] = {sec[0], 0};
    times[1] = {sec[1], 0};
  }
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, 0));
  return SetTimes(t, p, times);
}

SysResult SysUmask(Task& t, uint32_t mask) {
  return static_cast<int64_t>(t.fs().exchange_umask(mask));
}

SysResult SysGetcwd(Task& t, GuestAddr buf, uint64_t size) {
  bool outside = false;
  std::string name = Vfs::FullName(t.fs().cwd(), t.fs().root(), t.mounts(), &outside);
  if (t.fs().cwd().dentry().unlinked()) return Errno(ENOENT);
  if (outside && !name.starts_with("(unreachable)")) name.insert(0, "(unreachable)");
  if (name.size() + 1 > kPathMax) return Errno(ENAMETOOLONG);
  if (name.size() + 1 > size) return Errno(ERANGE);
  TRY(t.CopyOutLast(buf, std::as_bytes(std::span(name.c_str(), name.size() + 1))));
  return static_cast<int64_t>(name.size() + 1);
}

SysResult SysChdir(Task& t, UserPath path) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, 0));
  if (!p.dentry().inode()->is_directory()) return Errno(ENOTDIR);
  TRY(Vfs::CheckAccess(t.creds(), p, kMayExec));
  t.fs().set_cwd(p);
  return 0;
}

SysResult SysFchdir(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  if (!file->inode().is_directory()) return Errno(ENOTDIR);
  TRY(Vfs::CheckAccess(t.creds(), file->path(), kMayExec));
  t.fs().set_cwd(file->path());
  return 0;
}

SysResult SysChroot(Task& t, UserPath path) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, 0));
  if (!p.dentry().inode()->is_directory()) return Errno(ENOTDIR);
  TRY(Vfs::CheckAccess(t.creds(), p, kMayExec));
  if (!t.creds().HasOwn(Capability::kSysChroot)) return Errno(EPERM);
  t.fs().set_root(p);
  return 0;
}

}  // namespace ringwall
