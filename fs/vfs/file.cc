#include "fs/vfs/file.h"

#include <sys/inotify.h>

#include "fs/vfs/dentry.h"
#include "fs/vfs/inotify.h"
#include "fs/vfs/locks.h"
#include "fs/vfs/mount.h"

namespace ringwall {

File::File(Path path, uint32_t flags) : path_(std::move(path)), flags_(flags) {
  if (!path_ || path_.dentry().negative()) return;
  inode().AddOpenFile();
  path_.mount().Used();
  counts_as_writer_ = writable() && !inode().is_special();
  if (counts_as_writer_) path_.mount().AddWriter();
}

File::~File() {
  if (!path_ || path_.dentry().negative()) return;
  if (counts_as_writer_) path_.mount().RemoveWriter();
  if (counts_at_inode_) {
    if (writable()) {
      inode().PutWriteAccess();
    } else {
      inode().RemoveReader();
    }
  }
  AllowWriting();
  NotifyFile(*this, writable() ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
  if (inode().RemoveOpenFile()) NotifyGone(inode());
  if (inode().is_directory()) {
    if (InotifyMarks* marks = inode().marks()) marks->RemoveDirectoryWatch(nullptr, this);
  }
  if (FileLocks* locks = inode().locks_if_any()) {
    locks->DropOwner(this, true);
    locks->Funlock(this);
    Result<void> ignored = locks->leases().Drop(*this);
    static_cast<void>(ignored);
  }
}

Result<void> File::CountOpen(bool for_exec) {
  if (for_exec) {
    TRY(inode().DenyWriting());
    denies_writing_.store(true);
  } else if (writable()) {
    TRY(inode().GetWriteAccess());
    counts_at_inode_ = true;
  } else if (readable()) {
    inode().AddReader();
    counts_at_inode_ = true;
  }
  return {};
}

void File::AllowWriting() {
  if (denies_writing_.exchange(false)) inode().AllowWriting();
}

void File::LastRelease() const {
  if (LastReleaseHook hook = hook_.load()) hook(*this);
  if (LastReleaseHook hook = async_hook_.load()) hook(*this);
  RefCounted<File>::LastRelease();
}

Inode& File::inode() const { return *path_.dentry().inode(); }

Result<void> File::SetFlags(uint32_t flags) {
  constexpr uint32_t kChangeable = O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME;
  uint32_t old = flags_.load(std::memory_order_relaxed);
  while (!flags_.compare_exchange_weak(old, (old & ~kChangeable) | (flags & kChangeable))) {
  }
  return {};
}

Result<size_t> File::Read(IoDst&, uint64_t, int) {
  return Errno(inode().is_directory() ? EISDIR : EINVAL);
}

Result<size_t> File::Write(IoSrc&, uint64_t*, int) { return Errno(EINVAL); }

Result<int64_t> File::Seek(int64_t offset, int whence) {
  if (!seekable()) return Errno(ESPIPE);
  int64_t base = 0;
  switch (whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      base = offset_;
      break;
    case SEEK_END:
    case SEEK_DATA:
    case SEEK_HOLE: {
      const Attr attr = TRY(inode().GetAttr());
      base = static_cast<int64_t>(attr.size);
      if (whence == SEEK_END) break;
      // One run of data up to the end.
      if (offset < 0 || offset >= base) return Errno(ENXIO);
      return whence == SEEK_DATA ? offset : base;
    }
    default:
      return Errno(EINVAL);
  }
  int64_t to;
  if (__builtin_add_overflow(base, offset, &to)) return Errno(EOVERFLOW);
  if (to < 0) return Errno(EINVAL);
  return to;
}

Result<void> File::ReadDir(DirSink&) { return Errno(ENOTDIR); }
Result<int64_t> File::Fcntl(Task&, int cmd, uint64_t) {
  return Errno(cmd == F_GETPIPE_SZ || cmd == F_SETPIPE_SZ ? EBADF : EINVAL);
}

Result<int64_t> File::Ioctl(Task&, uint32_t, uint64_t) { return Errno(ENOTTY); }
EventMask File::Poll(EventMask wanted) { return wanted & kAlwaysReady; }
Result<HostMapping> File::Map(uint64_t, uint64_t, int, bool) { return Errno(ENODEV); }
Result<void> File::Fallocate(int, uint64_t, uint64_t) { return Errno(EOPNOTSUPP); }

}  // namespace ringwall
