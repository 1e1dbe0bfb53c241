// Opening and closing, descriptors and their flags (fs/open.c, fs/fcntl.c, fs/file.c).
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>

#include "fs/pipe/pipe.h"
#include "fs/devpts/devpts.h"
#include "fs/vfs/anon_inode.h"
#include "fs/vfs/dnotify.h"
#include "fs/vfs/locks.h"
#include "fs/vfs/permission.h"
#include "fs/vfs/inotify.h"
#include "sentry/kernel/file_async.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_ipc.h"

namespace ringwall {

namespace {

constexpr uint32_t kKnownOpenFlags = O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND |
                                     O_NONBLOCK | O_DSYNC | O_ASYNC | O_DIRECT | 0100000 |
                                     O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_SYNC |
                                     O_PATH | O_TMPFILE;

uint64_t FdLimit(Task& t) { return t.tg().limit(RLIMIT_NOFILE); }

constexpr int kGetOwnerUids = 17;  // F_GETOWNER_UIDS
// F_DUPFD_QUERY, F_CREATED_QUERY: later than Debian's headers.
constexpr int kDupfdQuery = 1027, kCreatedQuery = 1028;

// F_SETFL. Files that know no O_ASYNC never show it.
Result<void> SetFileFlags(Task& t, File& file, int fd, uint32_t flags) {
  if ((flags & ~file.flags() & O_NOATIME) != 0) {
    const Attr attr = TRY(file.inode().GetPermissionAttr());
    if (!OwnerOrCapable(t.creds(), attr)) return Errno(EPERM);
  }
  if (!SupportsAsync(file)) return file.SetFlags(flags & ~uint32_t{O_ASYNC});
  const bool was = (file.flags() & O_ASYNC) != 0, on = (flags & O_ASYNC) != 0;
  TRY(file.SetFlags(flags));
  if (was != on) SetAsync(t, file, fd, on);
  return {};
}

// What a FIFO's inode opens is a pipe's end, on every file system.
Result<void> WaitForFifoPeer(Task& t, PipeFile& end) {
  return t.Retry(end.queue(), EPOLLIN | EPOLLOUT, kNoDeadline, [&]() -> Result<void> {
    if (!end.open_complete()) return Errno(EAGAIN);
    return {};
  });
}

// do_fcntl_add_lease() and vfs_setlease().
Result<void> SetLease(Task& t, File& file, int fd, int type) {
  if (type != F_RDLCK && type != F_WRLCK && type != F_UNLCK) return Errno(EINVAL);
  const Attr attr = TRY(file.inode().GetPermissionAttr());
  if (attr.uid != t.creds().fsuid && !t.creds().Has(Capability::kLease)) return Errno(EACCES);
  if (!file.inode().is_regular()) return Errno(EINVAL);
  FileLeases& leases = file.inode().locks().leases();
  if (type == F_UNLCK) return leases.Drop(file);
  TRY(leases.Set(file, fd, type, t.vtgid(), &TellOwner));
  OwnIfNobody(t, file);
  return {};
}

// F_GET_RW_HINT and F_SET_RW_HINT (fcntl_set_rw_hint()).
SysResult RwHint(Task& t, Inode& inode, int cmd, GuestAddr addr) {
  if (cmd == F_GET_RW_HINT) return Zero(UserOut<uint64_t>(addr).CopyOut(t, inode.write_hint()));
  const Attr attr = TRY(inode.GetPermissionAttr());
  if (!OwnerOrCapable(t.creds(), attr)) return Errno(EPERM);
  const uint64_t hint = TRY(UserIn<uint64_t>(addr).CopyIn(t));
  if (hint > RWH_WRITE_LIFE_EXTREME) return Errno(EINVAL);
  inode.set_write_hint(static_cast<uint8_t>(hint));
  return 0;
}

// F_NOTIFY: directory notification.
Result<void> Notify(Task& t, File& file, int fd, uint32_t events) {
  TRY(WatchDirectory(t.fds(), file, fd, events, &TellOwner));
  if (file.inode().is_directory()) OwnIfNobody(t, file);
  return {};
}

// What was there is closed, with its locks.
SysResult ReplaceFd(Task& t, int fd, Ref<File> file, bool cloexec) {
  RefPtr<File> old;
  TRY(t.fds().Exchange(fd, std::move(file), cloexec, FdLimit(t), &old));
  if (old) CloseFile(t, Ref<File>(std::move(old)), t.fds());
  return fd;
}

SysResult OpenAt(Task& t, int dirfd, const std::string& path, uint32_t flags, uint32_t mode,
                 uint64_t resolve) {
  // A scoped walk starts at the directory whatever the path looks like.
  const bool scoped = (resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) != 0;
  AtWalk at = TRY(AtWalk::Make(t, dirfd, scoped && !path.empty() ? std::string_view(".") : path));
  at.resolve = resolve;
  FdReservation slot = TRY(t.fds().Reserve(0, FdLimit(t)));
  mode &= 07777;
  for (;;) {
    LeaseWait wait;
    Result<Ref<File>> file = Vfs::Open(at.walk(), path, flags, mode, &wait);
    if (file.ok()) {
      (*file)->set_opener(t.creds_ref());
      if (PipeFile* end = PipeFile::From(**file); end != nullptr && (flags & O_NONBLOCK) == 0) {
        TRY(WaitForFifoPeer(t, *end));
      }
      const int fd = slot.fd();
      OpenedTerminal(t, **file, flags);
      slot.Commit(std::move(*file), (flags & O_CLOEXEC) != 0);
      return fd;
    }
    if (!wait.inode) return file.error();
    TRY(WaitForLease(t, wait));
  }
}

// struct open_how.
struct OpenHow {
  uint64_t flags, mode, resolve;
};

}  // namespace

Result<void> WaitForLease(Task& t, const LeaseWait& wait) {
  FileLeases& leases = wait.inode->locks().leases();
  for (;;) {
    Result<void> broken = t.Retry(&leases.queue(), EPOLLOUT, leases.deadline(),
                                  [&] { return leases.Break(wait.write); });
    if (broken.ok() || !broken.error().Is(ETIMEDOUT)) return broken;
  }
}

void OpenedTerminal(Task& t, File& file, uint32_t flags) {
  if ((flags & (O_NOCTTY | O_PATH)) == 0) OfferControllingTty(t, file);
}

SysResult SysOpen(Task& t, UserPath path, int flags, uint32_t mode) {
  return SysOpenat(t, AT_FDCWD, path, flags, mode);
}

SysResult SysCreat(Task& t, UserPath path, uint32_t mode) {
  return SysOpenat(t, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

SysResult SysOpenat(Task& t, int dirfd, UserPath path, int flags, uint32_t mode) {
  uint32_t known = static_cast<uint32_t>(flags) & kKnownOpenFlags;
  TRY(Vfs::CheckOpenFlags(&known));
  const std::string name = TRY(path.CopyIn(t));
  return OpenAt(t, dirfd, name, known, mode, 0);
}

SysResult SysOpenat2(Task& t, int dirfd, UserPath path, GuestAddr how_addr, uint64_t size) {
  if (size < sizeof(OpenHow)) return Errno(EINVAL);
  if (size > kPageSize) return Errno(E2BIG);
  std::vector<std::byte> bytes(size);
  TRY(t.CopyIn(how_addr, bytes));
  OpenHow how;
  memcpy(&how, bytes.data(), sizeof(how));
  for (size_t i = sizeof(how); i < size; i++) {
    if (bytes[i] != std::byte{0}) return Errno(E2BIG);
  }
  constexpr uint64_t kResolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
                                RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_CACHED;
  if ((how.flags & ~uint64_t{kKnownOpenFlags}) != 0 || (how.resolve & ~kResolve) != 0) {
    return Errno(EINVAL);
  }
  const bool creates = (how.flags & O_CREAT) != 0 || (how.flags & O_TMPFILE) == O_TMPFILE;
  if (how.mode != 0 && (!creates || (how.mode & ~uint64_t{07777}) != 0)) return Errno(EINVAL);
  if ((how.resolve & RESOLVE_BENEATH) != 0 && (how.resolve & RESOLVE_IN_ROOT) != 0) {
    return Errno(EINVAL);
  }
  constexpr uint64_t kWithPath = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  if ((how.flags & O_PATH) != 0 && (how.flags & ~kWithPath) != 0) return Errno(EINVAL);
  uint32_t flags = static_cast<uint32_t>(how.flags);
  TRY(Vfs::CheckOpenFlags(&flags));
  if ((how.resolve & RESOLVE_CACHED) != 0 &&
      (how.flags & (O_TRUNC | O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) != 0) {
    return Errno(EAGAIN);
  }
  const std::string name = TRY(path.CopyIn(t));
  return OpenAt(t, dirfd, name, static_cast<uint32_t>(how.flags), static_cast<uint32_t>(how.mode),
                how.resolve);
}

SysResult SysClose(Task& t, int fd) {
  Ref<File> file = TRY(t.fds().Remove(fd));
  Result<void> flushed = file->Flush();
  DropPosixLocks(*file, t.fds());
  UnwatchDirectory(t.fds(), *file);
  return Zero(std::move(flushed));
}

SysResult SysCloseRange(Task& t, uint32_t first, uint32_t last, uint32_t flags) {
  constexpr uint32_t kUnshare = 2, kCloexec = 4;
  if ((flags & ~(kUnshare | kCloexec)) != 0 || first > last) return Errno(EINVAL);
  if ((flags & kUnshare) != 0) t.UnshareFds();
  if ((flags & kCloexec) != 0) {
    t.fds().SetCloexecRange(first, last);
    return 0;
  }
  for (Ref<File>& f : t.fds().RemoveRange(first, last)) CloseFile(t, std::move(f), t.fds());
  return 0;
}

SysResult SysDup(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  const int copy = TRY(t.fds().Install(std::move(file), false, FdLimit(t)));
  return copy;
}

SysResult SysDup2(Task& t, int oldfd, int newfd) {
  if (oldfd == newfd) {
    TRY(t.GetFile(oldfd));
    return newfd;
  }
  Ref<File> file = TRY(t.GetFile(oldfd));
  return ReplaceFd(t, newfd, std::move(file), false);
}

SysResult SysDup3(Task& t, int oldfd, int newfd, int flags) {
  if ((flags & ~O_CLOEXEC) != 0 || oldfd == newfd) return Errno(EINVAL);
  Ref<File> file = TRY(t.GetFile(oldfd));
  return ReplaceFd(t, newfd, std::move(file), (flags & O_CLOEXEC) != 0);
}

SysResult SysFcntl(Task& t, int fd, int cmd, uint64_t arg) {
  FdTable::Entry entry = TRY(t.fds().GetEntry(fd));
  File& file = *entry.file;
  if ((file.flags() & O_PATH) != 0 && cmd != F_DUPFD && cmd != F_DUPFD_CLOEXEC && cmd != F_GETFD &&
      cmd != F_SETFD && cmd != F_GETFL && cmd != kDupfdQuery &&
      cmd != kCreatedQuery) {
    return Errno(EBADF);
  }
  switch (cmd) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC: {
      if (arg >= FdLimit(t)) return Errno(EINVAL);
      const int copy = TRY(t.fds().Install(std::move(entry.file), cmd == F_DUPFD_CLOEXEC, FdLimit(t),
                                           static_cast<int>(arg)));
      return copy;
    }
    case F_GETFD:
      return entry.cloexec ? FD_CLOEXEC : 0;
    case F_SETFD:
      return Zero(t.fds().SetCloexec(fd, (arg & FD_CLOEXEC) != 0));
    case F_GETFL:
      return (file.flags() & ~static_cast<uint32_t>(O_CLOEXEC)) | LargeFileFlag(file);
    case F_SETFL:
      return Zero(SetFileFlags(t, file, fd, static_cast<uint32_t>(arg)));
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
      return FcntlLock(t, file, cmd, GuestAddr(arg));
    case F_GETOWN:
    case F_SETOWN:
    case F_GETOWN_EX:
    case F_SETOWN_EX:
    case F_GETSIG:
    case F_SETSIG:
    case kGetOwnerUids:
      return FcntlAsync(t, file, cmd, arg);
    case F_ADD_SEALS:
      if (!file.writable()) return Errno(EPERM);
      return file.Fcntl(t, cmd, arg);
    case F_GETPIPE_SZ:
    case F_SETPIPE_SZ:
    case F_GET_SEALS:
      return file.Fcntl(t, cmd, arg);
    case kDupfdQuery: {
      const Ref<File> other = TRY(t.GetFile(static_cast<int>(arg)));
      return other.get() == &file ? 1 : 0;
    }
    case kCreatedQuery:
      return file.created_file() ? 1 : 0;
    case F_GETLEASE: {
      FileLocks* locks = file.inode().locks_if_any();
      return locks != nullptr ? locks->leases().Get(file) : F_UNLCK;
    }
    case F_SETLEASE:
      return Zero(SetLease(t, file, fd, static_cast<int>(arg)));
    case F_GET_RW_HINT:
    case F_SET_RW_HINT:
      return RwHint(t, file.inode(), cmd, GuestAddr(arg));
    case F_NOTIFY:
      return Zero(Notify(t, file, fd, static_cast<uint32_t>(arg)));
    default:
      return Errno(EINVAL);
  }
}

namespace {

// s_blocksize, which is not everywhere what statfs shows.
Result<int32_t> BlockSize(FileSystem& fs) {
  constexpr int32_t kSmall = 1024;
  if (fs.type_name() == "devpts" || fs.type_name() == "proc") return kSmall;
  const StatFs s = TRY(fs.GetStatFs());
  return static_cast<int32_t>(s.bsize);
}

// FIONREAD of a regular file: from the position to the end.
Result<void> TellRest(Task& t, File& file, GuestAddr to) {
  const Attr attr = TRY(file.inode().GetAttr());
  MutexLock lock(file.offset_lock());
  const int64_t rest = static_cast<int64_t>(attr.size) - file.offset();
  lock.Unlock();
  return UserOut<int32_t>(to).CopyOut(t, static_cast<int32_t>(rest));
}

}  // namespace

SysResult SysIoctl(Task& t, int fd, uint32_t cmd, uint64_t arg) {
  FdTable::Entry entry = TRY(t.fds().GetEntry(fd));
  File& file = *entry.file;
  if ((file.flags() & O_PATH) != 0) return Errno(EBADF);
  switch (cmd) {
    case FIOCLEX:
      return Zero(t.fds().SetCloexec(fd, true));
    case FIONCLEX:
      return Zero(t.fds().SetCloexec(fd, false));
    case FIONBIO:
    case FIOASYNC: {
      const int32_t on = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(t));
      const uint32_t bit = cmd == FIONBIO ? O_NONBLOCK : O_ASYNC;
      const uint32_t flags = on != 0 ? file.flags() | bit : file.flags() & ~bit;
      if (bit == O_ASYNC && flags != file.flags() && !SupportsAsync(file)) return Errno(ENOTTY);
      return Zero(SetFileFlags(t, file, fd, flags));
    }
    case FIGETBSZ: {
      const int32_t size = TRY(BlockSize(file.inode().fs()));
      return Zero(UserOut<int32_t>(GuestAddr(arg)).CopyOut(t, size));
    }
    case FIOQSIZE: {
      if (!file.inode().is_regular() && !file.inode().is_directory()) return Errno(ENOTTY);
      const Attr attr = TRY(file.inode().GetAttr());
      constexpr uint64_t kBlock = 512;
      return Zero(UserOut<uint64_t>(GuestAddr(arg)).CopyOut(t, attr.blocks * kBlock));
    }
    case FS_IOC_FIEMAP:
      return Errno(EOPNOTSUPP);
    case FIONREAD:
      if (InotifyGroup* group = InotifyGroupOf(file)) {
        const int32_t n = static_cast<int32_t>(group->pending_bytes());
        return Zero(UserOut<int32_t>(GuestAddr(arg)).CopyOut(t, n));
      }
      if (file.inode().is_regular() && !file.keeps_own_offset()) return Zero(TellRest(t, file, GuestAddr(arg)));
      return file.Ioctl(t, cmd, arg);
    default:
      if (std::optional<SysResult> r = FileBlocksIoctl(t, file, cmd, arg)) return std::move(*r);
      if (std::optional<SysResult> r = FileFlagsIoctl(t, file, cmd, arg)) return std::move(*r);
      return file.Ioctl(t, cmd, arg);
  }
}

SysResult SysFlock(Task& t, int fd, int operation) {
  // Mandatory locks are gone; asking for one succeeds and does nothing.
  if ((operation & LOCK_MAND) != 0) return 0;
  const int type = operation & ~LOCK_NB;
  if (type != LOCK_SH && type != LOCK_EX && type != LOCK_UN) return Errno(EINVAL);
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  if (type != LOCK_UN && !file->readable() && !file->writable()) return Errno(EBADF);
  return Flock(t, *file, operation);
}

SysResult SysVhangup(Task& t) {
  if (!t.creds().Has(Capability::kSysTtyConfig)) return Errno(EPERM);
  HangUpControllingTty(t);
  return 0;
}

}  // namespace ringwall
