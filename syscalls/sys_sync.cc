// Flushing, room in files, hints, and copies between files (fs/sync.c, fs/open.c, mm/fadvise.c,
// fs/read_write.c).
#include <fcntl.h>
#include <sys/epoll.h>

#include "sentry/kernel/guest_io.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr size_t kCopyChunk = 64 << 10;

Result<Ref<File>> GetOpenFile(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  return file;
}

// Moves up to `count` bytes from `in` at *in_pos to `out` at *out_pos (ignored by streams), blocking
// as read and write on them would. What was read and cannot be written is not lost: `in` is asked for
// no more than the chunk that goes out, and its position moves by what went out.
SysResult CopyBetween(Task& t, File& in, uint64_t* in_pos, File& out, uint64_t* out_pos,
                      uint64_t count) {
  std::vector<std::byte> buffer(std::min<uint64_t>(count, kCopyChunk));
  int64_t done = 0;
  while (count > 0) {
    SpanDst dst{std::span<std::byte>(buffer).first(std::min<uint64_t>(count, buffer.size()))};
    Result<size_t> got = t.Retry(in.nonblocking() ? nullptr : in.queue(), EPOLLIN, kNoDeadline,
                                 [&] { return in.Read(dst, *in_pos, 0); });
    if (!got.ok()) return done > 0 ? SysResult(done) : got.error();
    if (*got == 0) break;
    SpanSrc src{std::span<const std::byte>(buffer).first(*got)};
    size_t sent = 0;
    while (sent < *got) {
      Result<size_t> put = t.Retry(out.nonblocking() ? nullptr : out.queue(), EPOLLOUT,
                                   kNoDeadline, [&] { return out.Write(src, out_pos, 0); });
      if (!put.ok()) {
        if (put.error().Is(EPIPE)) {
          Result<void> ignored = t.SendSignal(MakeSigInfo(SIGPIPE, SI_USER), false);
          static_cast<void>(ignored);
        }
        *in_pos += sent;
        done += static_cast<int64_t>(sent);
        return done > 0 ? SysResult(done) : put.error();
      }
      sent += *put;
      if (*put == 0) break;
    }
    *in_pos += sent;
    done += static_cast<int64_t>(sent);
    count -= sent;
    if (sent < *got) break;
  }
  return done;
}

// A file's position for the time of one call: its own, or one from guest memory.
class Position {
 public:
  static Result<Position> Make(Task& t, File& file, GuestAddr addr) {
    Position p;
    p.addr_ = addr;
    if (!addr.IsNull()) {
      if (!file.seekable()) return Errno(ESPIPE);
      const int64_t at = TRY(UserIn<int64_t>(addr).CopyIn(t));
      if (at < 0) return Errno(EINVAL);
      p.at = static_cast<uint64_t>(at);
    } else if (file.keeps_own_offset()) {
      p.at = File::kOwnOffset;
    } else if (file.seekable()) {
      MutexLock lock(file.offset_lock());
      p.at = static_cast<uint64_t>(file.offset());
    }
    return p;
  }
  Result<void> Store(Task& t, File& file) {
    if (!addr_.IsNull()) return UserOut<int64_t>(addr_).CopyOut(t, static_cast<int64_t>(at));
    if (file.seekable() && !file.keeps_own_offset()) {
      MutexLock lock(file.offset_lock());
      file.set_offset(static_cast<int64_t>(at));
    }
    return {};
  }
  uint64_t at = 0;

 private:
  GuestAddr addr_;
};

}  // namespace

SysResult SysFsync(Task& t, int fd) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  return Zero(file->Fsync(false));
}

SysResult SysFdatasync(Task& t, int fd) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  return Zero(file->Fsync(true));
}

SysResult SysSync(Task& t) {
  for (const MountNamespace::Info& m : t.mounts().List()) {
    Result<void> ignored = m.mount->fs().Sync();
    static_cast<void>(ignored);
  }
  return 0;
}

SysResult SysSyncfs(Task& t, int fd) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  return Zero(file->path().mount().fs().Sync());
}

SysResult SysSyncFileRange(Task& t, int fd, int64_t offset, int64_t size, uint32_t flags) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  if ((flags & ~7u) != 0 || offset < 0 || size < 0) return Errno(EINVAL);
  if (!file->inode().is_regular() && !file->inode().is_directory()) return Errno(ESPIPE);
  return Zero(file->Fsync(true));
}

SysResult SysFallocate(Task& t, int fd, int mode, int64_t offset, int64_t length) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  if (offset < 0 || length <= 0) return Errno(EINVAL);
  if (!file->writable()) return Errno(EBADF);
  if (file->inode().type() == S_IFIFO) return Errno(ESPIPE);
  if (file->inode().is_directory()) return Errno(EISDIR);
  if (!file->inode().is_regular()) return Errno(ENODEV);
  if (offset > INT64_MAX - length) return Errno(EFBIG);
  return Zero(file->Fallocate(mode, static_cast<uint64_t>(offset), static_cast<uint64_t>(length)));
}

SysResult SysFadvise64(Task& t, int fd, int64_t, int64_t length, int advice) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  if (file->inode().type() == S_IFIFO) return Errno(ESPIPE);
  if (length < 0 || advice < 0 || advice > POSIX_FADV_NOREUSE) return Errno(EINVAL);
  return 0;  // a hint; the host's page cache does its own reading ahead
}

SysResult SysReadahead(Task& t, int fd, int64_t, uint64_t) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  if (!file->readable()) return Errno(EBADF);
  if (!file->inode().is_regular()) return Errno(EINVAL);
  return 0;
}

SysResult SysSendfile(Task& t, int out_fd, int in_fd, GuestAddr offset, uint64_t count) {
  Ref<File> in = TRY(t.GetFile(in_fd));
  if (!in->readable()) return Errno(EBADF);
  Ref<File> out = TRY(t.GetFile(out_fd));
  if (!out->writable()) return Errno(EBADF);
  if (!in->inode().is_regular() && !in->seekable()) return Errno(EINVAL);
  if ((out->flags() & O_APPEND) != 0) return Errno(EINVAL);
  Position from = TRY(Position::Make(t, *in, offset));
  Position to = TRY(Position::Make(t, *out, GuestAddr()));
  const int64_t n =
      TRY(CopyBetween(t, *in, &from.at, *out, &to.at, std::min<uint64_t>(count, kMaxRwCount)));
  TRY(from.Store(t, *in));
  TRY(to.Store(t, *out));
  return n;
}

SysResult SysCopyFileRange(Task& t, int in_fd, GuestAddr in_offset, int out_fd,
                           GuestAddr out_offset, uint64_t count, uint32_t flags) {
  Ref<File> in = TRY(t.GetFile(in_fd));
  Ref<File> out = TRY(t.GetFile(out_fd));
  if (flags != 0) return Errno(EINVAL);
  if (!in->readable() || !out->writable() || (out->flags() & O_APPEND) != 0) return Errno(EBADF);
  if (in->inode().is_directory() || out->inode().is_directory()) return Errno(EISDIR);
  if (!in->inode().is_regular() || !out->inode().is_regular()) return Errno(EINVAL);
  Position from = TRY(Position::Make(t, *in, in_offset));
  Position to = TRY(Position::Make(t, *out, out_offset));
  count = std::min<uint64_t>(count, kMaxRwCount);
  if (&in->inode() == &out->inode() && from.at < to.at + count && to.at < from.at + count) {
    return Errno(EINVAL);
  }
  const int64_t n = TRY(CopyBetween(t, *in, &from.at, *out, &to.at, count));
  TRY(from.Store(t, *in));
  TRY(to.Store(t, *out));
  return n;
}

}  // namespace ringwall
