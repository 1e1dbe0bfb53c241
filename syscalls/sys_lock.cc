// File locks of fcntl and flock (fs/locks.c). The lists are fs/vfs/locks.h's; here is the waiting.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/file.h>

#include "fs/vfs/locks.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

// struct flock.
struct FlockAbi {
  int16_t type, whence;
  int32_t pad0;
  int64_t start, len;
  int32_t pid, pad1;
};
static_assert(sizeof(FlockAbi) == 32);

Result<int64_t> BaseOf(File& file, int whence) {
  switch (whence) {
    case SEEK_SET:
      return int64_t{0};
    case SEEK_CUR: {
      MutexLock lock(file.offset_lock());
      return file.offset();
    }
    case SEEK_END: {
      const Attr a = TRY(file.inode().GetAttr());
      return static_cast<int64_t>(a.size);
    }
    default:
      return Errno(EINVAL);
  }
}

SysResult GetLock(Task& t, File& file, RangeLock& lock, FlockAbi f, GuestAddr addr) {
  // F_UNLCK asks for the description's own locks (since 6.6).
  const bool own = f.type == F_UNLCK && lock.ofd;
  if (f.type != F_RDLCK && f.type != F_WRLCK && !own) return Errno(EINVAL);
  const FileLocks& locks = file.inode().locks();
  const std::optional<RangeLock> in_way = own ? locks.FindOwn(lock) : locks.FindConflict(lock);
  if (!in_way) {
    f.type = F_UNLCK;
  } else {
    f.type = in_way->write ? F_WRLCK : F_RDLCK;
    f.whence = SEEK_SET;
    f.start = static_cast<int64_t>(in_way->start);
    f.len = in_way->last == RangeLock::kEnd
                ? 0
                : static_cast<int64_t>(in_way->last - in_way->start + 1);
    f.pid = in_way->pid;
  }
  return Zero(UserOut<FlockAbi>(addr).CopyOutLast(t, f));
}

}  // namespace

SysResult FcntlLock(Task& t, File& file, int cmd, GuestAddr addr) {
  const FlockAbi f = TRY(UserIn<FlockAbi>(addr).CopyIn(t));
  const bool ofd = cmd == F_OFD_GETLK || cmd == F_OFD_SETLK || cmd == F_OFD_SETLKW;
  if (ofd && f.pid != 0) return Errno(EINVAL);
  const int64_t base = TRY(BaseOf(file, f.whence));
  RangeLock lock = TRY(FileLocks::MakeRange(base, f.start, f.len));
  lock.ofd = ofd;
  lock.owner = ofd ? static_cast<const void*>(&file) : static_cast<const void*>(&t.fds());
  lock.pid = ofd ? -1 : t.vtgid();
  lock.write = f.type == F_WRLCK;
  if (cmd == F_GETLK || cmd == F_OFD_GETLK) return GetLock(t, file, lock, f, addr);
  FileLocks& locks = file.inode().locks();
  switch (f.type) {
    case F_UNLCK:
      locks.Unlock(lock);
      return 0;
    case F_RDLCK:
      if (!file.readable()) return Errno(EBADF);
      break;
    case F_WRLCK:
      if (!file.writable()) return Errno(EBADF);
      break;
    default:
      return Errno(EINVAL);
  }
  const bool wait = cmd == F_SETLKW || cmd == F_OFD_SETLKW;
  Result<void> locked = t.Retry(wait ? &locks.queue() : nullptr, EPOLLOUT, kNoDeadline,
                                [&] { return locks.Lock(lock, wait); });
  if (!locked.ok() && wait) FileLocks::StopWaiting(lock.owner);
  return Zero(std::move(locked));
}

SysResult Flock(Task& t, File& file, int operation) {
  const bool wait = (operation & LOCK_NB) == 0;
  FileLocks& locks = file.inode().locks();
  if ((operation & LOCK_UN) != 0) {
    locks.Funlock(&file);
    return 0;
  }
  const FlockType type = (operation & LOCK_EX) != 0 ? FlockType::kExclusive : FlockType::kShared;
  return Zero(t.Retry(wait ? &locks.queue() : nullptr, EPOLLOUT, kNoDeadline,
                      [&] { return locks.Flock(&file, type, t.vtgid()); }));
}

}  // namespace ringwall
