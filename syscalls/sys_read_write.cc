// read, write and their relatives (fs/read_write.c).
#include "syscalls/handlers.h"

#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/uio.h>

#include "fs/socket/socket.h"
#include "fs/vfs/inotify.h"
#include "sentry/kernel/guest_io.h"
#include "sentry/kernel/pidfd.h"

namespace ringwall {

namespace {

constexpr int kRwfNoAppend = 0x20;  // RWF_NOAPPEND, later than Debian's headers
constexpr int kRwfSupported =
    RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | kRwfNoAppend;

// kiocb_set_rw_flags(). Of an empty buffer the flags are not looked at, nor is anything read.
Result<void> CheckRwFlags(int rwf, const GuestBuffers& buffers) {
  if (buffers.total() == 0) return {};
  if ((rwf & ~kRwfSupported) != 0) return Errno(EOPNOTSUPP);
  if ((rwf & RWF_APPEND) != 0 && (rwf & kRwfNoAppend) != 0) return Errno(EINVAL);
  return {};
}

// FMODE_PREAD and FMODE_PWRITE: pidfds and namespaces have them, though there is nothing in
// them to read.
Result<void> CheckPosition(File& file) {
  if (file.seekable()) return {};
  return Errno(file.inode().is_regular() || ThreadGroupOfPidFd(file) ? EINVAL : ESPIPE);
}

// One read by the descriptor at the file's own position or at *pos. Blocks on a file that has nothing yet.
SysResult ReadAt(Task& t, int fd, File& file, GuestBuffers buffers, uint64_t pos, int rwf) {
  GuestDst dst(t, std::move(buffers));
  dst.AllowView(fd, file);
  const bool wait = !file.nonblocking() && (rwf & RWF_NOWAIT) == 0;
  if (Socket* socket = file.AsSocket()) {
    const size_t n = TRY(socket->ReadBlocking(t, dst, wait));
    return static_cast<int64_t>(n);
  }
  const int64_t deadline = wait ? file.read_deadline() : INT64_MAX;
  Result<size_t> n = t.Retry(wait ? file.queue() : nullptr, EPOLLIN | EPOLLRDHUP | EPOLLHUP,
                             deadline, [&] { return file.Read(dst, pos, rwf); });
  if (!n.ok() && n.error().Is(ETIMEDOUT) && deadline != INT64_MAX) {
    // A terminal's VTIME has passed.
    if (file.inode().type() == S_IFCHR) return 0;
    return Errno(EAGAIN);
  }
  if (!n.ok()) return n.error();
  IoCounts::Count(t.io.rchar, *n);
  IoCounts::Count(t.io.syscr, 1);
  if (*n > 0) NotifyFile(file, IN_ACCESS);
  return static_cast<int64_t>(*n);
}

// RLIMIT_FSIZE (generic_write_check_limits): what goes beyond is cut off; SIGXFSZ and EFBIG when
// nothing is left.
Result<void> LimitSize(Task& t, File& file, uint64_t pos, int rwf, GuestBuffers* buffers) {
  const uint64_t limit = t.tg().limit(RLIMIT_FSIZE);
  if (limit == RLIM_INFINITY || !file.inode().is_regular() || buffers->total() == 0) return {};
  if (file.AppendsWith(rwf) || pos == File::kOwnOffset) {
    const Attr attr = TRY(file.inode().GetAttr());
    pos = attr.size;
  }
  if (pos >= limit) return FileTooBig(t).error();
  buffers->Cut(std::min<uint64_t>(buffers->total(), limit - pos));
  return {};
}

SysResult WriteAt(Task& t, File& file, GuestBuffers buffers, uint64_t* pos, int rwf) {
  TRY(LimitSize(t, file, *pos, rwf, &buffers));
  GuestSrc src(t, std::move(buffers));
  const size_t total = src.remaining();
  if (total != 0) TRY(Vfs::DropPrivilegesForWrite(t.creds(), file.inode()));
  const bool wait = !file.nonblocking() && (rwf & RWF_NOWAIT) == 0;
  if (Socket* socket = file.AsSocket()) {
    const size_t n = TRY(socket->WriteBlocking(t, src, wait));
    return static_cast<int64_t>(n);
  }
  size_t done = 0;
  // A blocking stream takes all of it, in as many turns as that needs.
  for (;;) {
    Result<size_t> n = t.Retry(wait ? file.queue() : nullptr, EPOLLOUT | EPOLLERR | EPOLLHUP,
                               file.write_deadline(),
                               [&] { return file.Write(src, pos, rwf); });
    if (!n.ok()) {
      if (n.error().Is(EPIPE)) {
        Result<void> ignored = t.SendSignal(MakeSigInfo(SIGPIPE, SI_USER), false);
        static_cast<void>(ignored);
      }
      if (done > 0) return static_cast<int64_t>(done);
      return n.error();
    }
    done += *n;
    IoCounts::Count(t.io.wchar, *n);
    IoCounts::Count(t.io.syscw, 1);
    if (*n > 0) NotifyFile(file, IN_MODIFY);
    if (done >= total || *n == 0 || !wait || file.seekable()) return static_cast<int64_t>(done);
  }
}

SysResult Read(Task& t, int fd, GuestBuffers buffers, int rwf) {
  Ref<File> file = TRY(t.GetFile(fd));
  if (!file->readable()) return Errno(EBADF);
  TRY(CheckRwFlags(rwf, buffers));
  if (!file->seekable() || file->keeps_own_offset()) {
    return ReadAt(t, fd, *file, std::move(buffers), File::kOwnOffset, rwf);
  }
  MutexLock lock(file->offset_lock());
  const int64_t at = file->offset();
  const GuestRange first = buffers.Current(buffers.total());
  const int64_t n = TRY(ReadAt(t, fd, *file, std::move(buffers), static_cast<uint64_t>(at), rwf));
  // The bytes may still be on their way to the guest: the offset moves only when they will arrive.
  if (n > 0 && !t.mm().MayWrite(first.start, std::min<uint64_t>(first.size(), static_cast<uint64_t>(n)))) {
    return Errno(EFAULT);
  }
  file->set_offset(at + n);
  return n;
}

SysResult Write(Task& t, int fd, GuestBuffers buffers, int rwf) {
  Ref<File> file = TRY(t.GetFile(fd));
  if (!file->writable()) return Errno(EBADF);
  TRY(CheckRwFlags(rwf, buffers));
  if (!file->seekable() || file->keeps_own_offset()) {
    uint64_t none = File::kOwnOffset;
    return WriteAt(t, *file, std::move(buffers), &none, rwf);
  }
  MutexLock lock(file->offset_lock());
  uint64_t at = static_cast<uint64_t>(file->offset());
  const int64_t n = TRY(WriteAt(t, *file, std::move(buffers), &at, rwf));
  file->set_offset(static_cast<int64_t>(at));
  return n;
}

SysResult Pread(Task& t, int fd, GuestBuffers buffers, int64_t pos, int rwf) {
  Ref<File> file = TRY(t.GetFile(fd));
  if (pos < 0) return Errno(EINVAL);
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  TRY(CheckPosition(*file));
  if (!file->readable()) return Errno(EBADF);
  TRY(CheckRwFlags(rwf, buffers));
  return ReadAt(t, fd, *file, std::move(buffers), static_cast<uint64_t>(pos), rwf);
}

SysResult Pwrite(Task& t, int fd, GuestBuffers buffers, int64_t pos, int rwf) {
  Ref<File> file = TRY(t.GetFile(fd));
  if (pos < 0) return Errno(EINVAL);
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  const Result<void> position = CheckPosition(*file);
  // A file that has no position to write at, and is not to be written: only pipes and the like say so first.
  if (!position.ok() && (position.error().Is(ESPIPE) || file->writable())) return position.error();
  if (!file->writable()) return Errno(EBADF);
  TRY(CheckRwFlags(rwf, buffers));
  uint64_t at = static_cast<uint64_t>(pos);
  return WriteAt(t, *file, std::move(buffers), &at, rwf);
}

}  // namespace

SysResult SysRead(Task& t, int fd, GuestAddr buf, uint64_t count) {
  // The order of Linux: EBADF before EFAULT.
  TRY(t.GetFile(fd));
  GuestBuffers b = TRY(GuestBuffers::One(buf, count));
  return Read(t, fd, std::move(b), 0);
}

SysResult SysWrite(Task& t, int fd, GuestAddr buf, uint64_t count) {
  TRY(t.GetFile(fd));
  GuestBuffers b = TRY(GuestBuffers::One(buf, count));
  return Write(t, fd, std::move(b), 0);
}

SysResult SysReadv(Task& t, int fd, GuestAddr iov, uint64_t count) {
  TRY(t.GetFile(fd));
  return SysPreadv2(t, fd, iov, count, -1, 0, 0);
}

SysResult SysWritev(Task& t, int fd, GuestAddr iov, uint64_t count) {
  return SysPwritev2(t, fd, iov, count, -1, 0, 0);
}

SysResult SysPread64(Task& t, int fd, GuestAddr buf, uint64_t count, int64_t pos) {
  if (pos < 0) return Errno(EINVAL);
  TRY(t.GetFile(fd));
  GuestBuffers b = TRY(GuestBuffers::One(buf, count));
  return Pread(t, fd, std::move(b), pos, 0);
}

SysResult SysPwrite64(Task& t, int fd, GuestAddr buf, uint64_t count, int64_t pos) {
  if (pos < 0) return Errno(EINVAL);
  TRY(t.GetFile(fd));
  GuestBuffers b = TRY(GuestBuffers::One(buf, count));
  return Pwrite(t, fd, std::move(b), pos, 0);
}

SysResult SysPreadv(Task& t, int fd, GuestAddr iov, uint64_t count, int64_t pos) {
  if (pos < 0) return Errno(EINVAL);
  return SysPreadv2(t, fd, iov, count, pos, 0, 0);
}

SysResult SysPwritev(Task& t, int fd, GuestAddr iov, uint64_t count, int64_t pos) {
  if (pos < 0) return Errno(EINVAL);
  return SysPwritev2(t, fd, iov, count, pos, 0, 0);
}

SysResult SysPreadv2(Task& t, int fd, GuestAddr iov, uint64_t count, int64_t pos, uint64_t,
                     int rwf) {
  if (pos < -1) return Errno(EINVAL);
  const Ref<File> file = TRY(t.GetFile(fd));
  GuestBuffers b = TRY(GuestBuffers::Iovec(t, iov, count));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  if (pos != -1) TRY(CheckPosition(*file));
  int64_t n = 0;
  if (b.total() != 0 || !file->readable() || file->inode().type() == 0) {
    if (b.total() != 0 && (rwf & ~RWF_HIPRI) != 0 && file->inode().is_directory() && file->readable()) {
      return Errno(EOPNOTSUPP);  // takes no iterators (do_loop_readv_writev)
    }
    n = TRY(pos == -1 ? Read(t, fd, std::move(b), rwf) : Pread(t, fd, std::move(b), pos, rwf));
  }
  // Of reads into vectors those of nothing are told, too (vfs_readv()).
  if (n == 0) NotifyFile(*file, IN_ACCESS);
  return n;
}

SysResult SysPwritev2(Task& t, int fd, GuestAddr iov, uint64_t count, int64_t pos, uint64_t,
                      int rwf) {
  if (pos < -1) return Errno(EINVAL);
  const Ref<File> file = TRY(t.GetFile(fd));
  GuestBuffers b = TRY(GuestBuffers::Iovec(t, iov, count));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  if (pos != -1) TRY(CheckPosition(*file));
  if (b.total() == 0 && file->writable() && file->inode().type() != 0) return 0;
  // Nor does an eventfd.
  if (b.total() != 0 && (rwf & ~RWF_HIPRI) != 0 && file->inode().type() == 0) return Errno(EOPNOTSUPP);
  if (pos == -1) return Write(t, fd, std::move(b), rwf);
  return Pwrite(t, fd, std::move(b), pos, rwf);
}

SysResult SysLseek(Task& t, int fd, int64_t offset, int whence) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  if (whence < SEEK_SET || whence > SEEK_HOLE) return Errno(EINVAL);
  if (!file->seekable()) {
    // noop_llseek(), which eventfd, epoll, timerfd, signalfd and inotify have; a pidfd has none.
    const bool anonymous = file->inode().type() == 0 && !ThreadGroupOfPidFd(*file);
    if (anonymous) return 0;
    return Errno(ESPIPE);
  }
  MutexLock lock(file->offset_lock());
  const int64_t at = TRY(file->Seek(offset, whence));
  file->set_offset(at);
  return at;
}

}  // namespace ringwall
