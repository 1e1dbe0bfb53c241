// splice, tee, vmsplice, sendfile and copy_file_range (fs/splice.c, fs/read_write.c). Between a file
// and a pipe the file's end works on the pipe's ring in place.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/sysmacros.h>

#include "fs/pipe/pipe.h"
#include "fs/vfs/inotify.h"
#include "sentry/kernel/guest_io.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_ipc.h"

namespace ringwall {

namespace {

constexpr uint32_t kSpliceAll =
    SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT;
constexpr size_t kChunk = 64 << 10;

// What an attempt that says EAGAIN waits for; a null queue does not wait.
struct Wait {
  WaitQueue* queue = nullptr;
  EventMask events = 0;
};

// Attempts until it does not say EAGAIN, sleeping where the attempt says.
template <typename F>
Result<size_t> Retry(Task& t, F attempt) {
  for (;;) {
    Wait wait;
    Result<size_t> result = attempt(&wait);
    if (result.ok() || !result.error().Is(EAGAIN) || wait.queue == nullptr) return result;
    TaskWaiter waiter(t);
    WaitQueue* const queue = wait.queue;
    queue->Add(waiter, wait.events | EPOLLERR | EPOLLHUP);
    // Once more, now that nothing can be missed.
    Wait again;
    result = attempt(&again);
    if (!result.ok() && result.error().Is(EAGAIN) && again.queue == queue) {
      const Result<void> slept = t.Block();
      if (!slept.ok()) result = slept.error();
    }
    queue->Remove(waiter);
    if (result.ok() || !result.error().Is(EAGAIN)) return result;
  }
}

void SendSigpipe(Task& t) {
  Result<void> ignored = t.SendSignal(MakeSigInfo(SIGPIPE, SI_USER), false);
  static_cast<void>(ignored);
}

SysResult Finish(Task& t, Result<size_t> result) {
  if (result.ok()) return static_cast<int64_t>(*result);
  if (result.error().Is(EPIPE)) SendSigpipe(t);
  return result.error();
}

// Directories and anonymous inodes (eventfd, epoll ...) have no splice operations.
bool CanSplice(File& file) {
  return file.inode().type() != 0 && !file.inode().is_directory();
}

// Linux's /dev/null can be spliced to, not from.
bool CanSpliceFrom(File& file) {
  if (file.inode().type() == S_IFCHR) {
    const Result<Attr> attr = file.inode().GetAttr();
    return !attr.ok() || attr->rdev != makedev(1, 3);
  }
  return CanSplice(file);
}

// A file's position for the time of one call: its own, or one from guest memory.
class Position {
 public:
  static Result<Position> Make(Task& t, File& file, GuestAddr addr) {
    Position p;
    p.addr_ = addr;
    if (!addr.IsNull()) {
      const int64_t at = TRY(UserIn<int64_t>(addr).CopyIn(t));
      p.at = static_cast<uint64_t>(at);
    } else if (file.keeps_own_offset()) {
      p.at = File::kOwnOffset;
    } else if (file.seekable()) {
      MutexLock lock(file.offset_lock());
      p.at = static_cast<uint64_t>(file.offset());
    }
    return p;
  }
  // A position that the guest gave must be one.
  Result<void> Check(File& file) const {
    if (addr_.IsNull()) return {};
    if (!file.seekable()) return Errno(ESPIPE);
    if (static_cast<int64_t>(at) < 0) return Errno(EINVAL);
    return {};
  }
  Result<void> Store(Task& t, File& file) {
    if (!addr_.IsNull()) return UserOut<int64_t>(addr_).CopyOutLast(t, static_cast<int64_t>(at));
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

// One piece from the pipe to the file. `more`: bytes have gone before, so an empty pipe ends it.
Result<size_t> TakeOnce(Pipe& pipe, bool pipe_waits, File& out, bool out_waits, uint64_t* pos,
                        size_t most, bool more, Wait* wait) {
  Result<std::span<const std::byte>> bytes = pipe.BeginTake(most);
  if (!bytes.ok()) {
    if (more) return size_t{0};
    if (pipe_waits) *wait = {&pipe.queue(), EPOLLIN};
    return bytes.error();
  }
  if (bytes->empty()) return size_t{0};
  SpanSrc src(*bytes);
  Result<size_t> put = out.Write(src, pos, 0);
  pipe.EndTake(put.ok() ? *put : 0);
  if (!put.ok() && put.error().Is(EAGAIN) && out_waits) *wait = {out.queue(), EPOLLOUT};
  return put;
}

Result<size_t> PipeToFile(Task& t, Pipe& pipe, bool pipe_waits, File& out, bool out_waits,
                          uint64_t* pos, size_t count) {
  size_t done = 0;
  if (count != 0) TRY(Vfs::DropPrivilegesForWrite(t.creds(), out.inode()));
  while (done < count) {
    Result<size_t> n = Retry(t, [&](Wait* wait) {
      return TakeOnce(pipe, pipe_waits, out, out_waits, pos, count - done, done > 0, wait);
    });
    if (!n.ok()) {
      if (done == 0) return n.error();
      if (n.error().Is(EPIPE)) SendSigpipe(t);
      break;
    }
    if (*n == 0) break;
    done += *n;
  }
  if (done > 0) NotifyFile(out, IN_MODIFY);
  return done;
}

Result<size_t> FillOnce(File& in, bool in_waits, uint64_t pos, Pipe& pipe, bool pipe_waits,
                        size_t most, Wait* wait) {
  Result<std::span<std::byte>> room = pipe.BeginFill(most);
  if (!room.ok()) {
    if (pipe_waits) *wait = {&pipe.queue(), EPOLLOUT};
    return room.error();
  }
  SpanDst dst(*room);
  Result<size_t> got = in.Read(dst, pos, 0);
  pipe.EndFill(got.ok() ? *got : 0);
  if (!got.ok() && got.error().Is(EAGAIN) && in_waits) *wait = {in.queue(), EPOLLIN | EPOLLRDHUP};
  return got;
}

// What one read gives, but all of a regular file's bytes that fit.
Result<size_t> FileToPipe(Task& t, File& in, bool in_waits, uint64_t* pos, Pipe& pipe,
                          bool pipe_waits, size_t count) {
  size_t done = 0;
  while (done < count) {
    const bool first = done == 0;
    Result<size_t> n = Retry(t, [&](Wait* wait) {
      return FillOnce(in, in_waits && first, *pos, pipe, pipe_waits && first, count - done, wait);
    });
    if (!n.ok()) {
      if (first) return n.error();
      break;
    }
    if (*n == 0) break;
    done += *n;
    if (!in.seekable()) break;
    if (*pos != File::kOwnOffset) *pos += *n;
  }
  if (done > 0) NotifyFile(in, IN_ACCESS);
  return done;
}

Result<size_t> PipeToPipe(Task& t, Pipe& from, Pipe& to, size_t count, bool keep, bool wait_ok) {
  return Retry(t, [&](Wait* wait) {
    Pipe* blocked = nullptr;
    Result<size_t> n = Pipe::Transfer(from, to, count, keep, &blocked);
    if (!n.ok() && blocked != nullptr && wait_ok) {
      *wait = {&blocked->queue(), blocked == &from ? EPOLLIN : EPOLLOUT};
    }
    return n;
  });
}

// Moves up to `count` bytes from a seekable file to any other, as much as one buffer a turn.
// Two gigabytes of /dev/urandom take too long for that.
bool BeingKilled(Task& t) {
  if (!t.Interrupted()) return false;
  MutexLock lock(t.tg().siglock);
  return t.tg().group_exit;
}

Result<size_t> FileToFile(Task& t, File& in, uint64_t* in_pos, File& out, uint64_t* out_pos,
                          size_t count) {
  if (count != 0) TRY(Vfs::DropPrivilegesForWrite(t.creds(), out.inode()));
  std::vector<std::byte> buffer(std::min(count, kChunk));
  size_t done = 0;
  while (done < count) {
    SpanDst dst{std::span<std::byte>(buffer).first(std::min(count - done, buffer.size()))};
    Result<size_t> got = in.Read(dst, *in_pos, 0);
    if (!got.ok() && done == 0) return got.error();
    if (!got.ok() || *got == 0) break;
    SpanSrc src{std::span<const std::byte>(buffer).first(*got)};
    size_t sent = 0;
    Result<size_t> put = size_t{0};
    while (sent < *got) {
      put = t.Retry(out.nonblocking() ? nullptr : out.queue(), EPOLLOUT | EPOLLERR | EPOLLHUP,
                    out.write_deadline(), [&] { return out.Write(src, out_pos, 0); });
      if (!put.ok() || *put == 0) break;
      sent += *put;
    }
    if (*in_pos != File::kOwnOffset) *in_pos += sent;
    done += sent;
    if (sent == *got && !BeingKilled(t)) continue;
    if (in.keeps_own_offset()) {
      // What was read and did not go out is given back.
      MutexLock lock(in.offset_lock());
      Result<int64_t> ignored = in.Seek(static_cast<int64_t>(sent) - static_cast<int64_t>(*got),
                                        SEEK_CUR);
      static_cast<void>(ignored);
    }
    if (!put.ok() && put.error().Is(EPIPE) && done > 0) SendSigpipe(t);
    if (!put.ok() && done == 0) return put.error();
    break;
  }
  if (done > 0) {
    NotifyFile(in, IN_ACCESS);
    NotifyFile(out, IN_MODIFY);
  }
  return done;
}

// The open File of a descriptor for reading or writing. EBADF.
Result<Ref<File>> GetReadable(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  if (!file->readable()) return Errno(EBADF);
  return file;
}

Result<Ref<File>> GetWritable(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  if (!file->writable()) return Errno(EBADF);
  return file;
}

// The bytes that a file has from `at` on, at most `count`.
Result<uint64_t> CutToSize(File& file, uint64_t at, uint64_t count) {
  const Attr attr = TRY(file.inode().GetAttr());
  if (at >= attr.size) return uint64_t{0};
  return std::min(count, attr.size - at);
}

}  // namespace

SysResult SysSplice(Task& t, int in_fd, GuestAddr in_offset, int out_fd, GuestAddr out_offset,
                    uint64_t count, uint32_t flags) {
  if (count == 0) return 0;
  if ((flags & ~kSpliceAll) != 0) return Errno(EINVAL);
  Ref<File> in = TRY(t.GetFile(in_fd));
  Ref<File> out = TRY(t.GetFile(out_fd));
  if (((in->flags() | out->flags()) & O_PATH) != 0) return Errno(EBADF);
  PipeFile* from = PipeFile::From(*in);
  PipeFile* to = PipeFile::From(*out);
  if (from != nullptr && !in_offset.IsNull()) return Errno(ESPIPE);
  if (to != nullptr && !out_offset.IsNull()) return Errno(ESPIPE);
  Position in_at = TRY(Position::Make(t, *in, in_offset));
  Position out_at = TRY(Position::Make(t, *out, out_offset));
  if (!in->readable() || !out->writable()) return Errno(EBADF);
  count = std::min(count, kMaxRwCount);
  const bool wait = (flags & SPLICE_F_NONBLOCK) == 0;
  if (from != nullptr && to != nullptr) {
    if (&from->pipe() == &to->pipe()) return Errno(EINVAL);
    const bool both_wait = wait && !in->nonblocking() && !out->nonblocking();
    return Finish(t, PipeToPipe(t, from->pipe(), to->pipe(), count, false, both_wait));
  }
  if (from != nullptr) {
    if (!out_offset.IsNull() && !out->seekable()) return Errno(EINVAL);
    if ((out->flags() & O_APPEND) != 0) return Errno(EINVAL);
    TRY(out_at.Check(*out));
    if (!CanSplice(*out)) return Errno(EINVAL);
    const size_t n = TRY(Finish(t, PipeToFile(t, from->pipe(), wait && !in->nonblocking(), *out,
                                              !out->nonblocking(), &out_at.at, count)));
    TRY(out_at.Store(t, *out));
    return static_cast<int64_t>(n);
  }
  if (to == nullptr) return Errno(EINVAL);
  if (!in_offset.IsNull() && !in->seekable()) return Errno(EINVAL);
  TRY(in_at.Check(*in));
  if (!CanSpliceFrom(*in)) return Errno(EINVAL);
  const size_t n =
      TRY(Finish(t, FileToPipe(t, *in, wait && !in->nonblocking(), &in_at.at, to->pipe(),
                               wait && !out->nonblocking(), count)));
  TRY(in_at.Store(t, *in));
  return static_cast<int64_t>(n);
}

SysResult SysTee(Task& t, int in_fd, int out_fd, uint64_t count, uint32_t flags) {
  if ((flags & ~kSpliceAll) != 0) return Errno(EINVAL);
  if (count == 0) return 0;
  Ref<File> in = TRY(t.GetFile(in_fd));
  Ref<File> out = TRY(t.GetFile(out_fd));
  if (!in->readable() || !out->writable()) return Errno(EBADF);
  PipeFile* from = PipeFile::From(*in);
  PipeFile* to = PipeFile::From(*out);
  if (from == nullptr || to == nullptr || &from->pipe() == &to->pipe()) return Errno(EINVAL);
  const bool wait =
      (flags & SPLICE_F_NONBLOCK) == 0 && !in->nonblocking() && !out->nonblocking();
  count = std::min(count, kMaxRwCount);
  return Finish(t, PipeToPipe(t, from->pipe(), to->pipe(), count, true, wait));
}

SysResult SysVmsplice(Task& t, int fd, GuestAddr iov, uint64_t count, uint32_t flags) {
  if ((flags & ~kSpliceAll) != 0) return Errno(EINVAL);
  Ref<File> file = TRY(t.GetFile(fd));
  if (!file->readable() && !file->writable()) return Errno(EBADF);
  GuestBuffers buffers = TRY(GuestBuffers::Iovec(t, iov, count));
  if (buffers.total() == 0) return 0;
  PipeFile* end = PipeFile::From(*file);
  if (end == nullptr) return Errno(EBADF);
  // Only the flag counts here, not O_NONBLOCK.
  const bool wait = (flags & SPLICE_F_NONBLOCK) == 0;
  WaitQueue* queue = wait ? &end->pipe().queue() : nullptr;
  if (file->writable()) {
    GuestSrc src(t, std::move(buffers));
    return Finish(t, t.Retry(queue, EPOLLOUT | EPOLLERR, kNoDeadline,
                             [&] { return end->pipe().Write(src, false); }));
  }
  GuestDst dst(t, std::move(buffers));
  return Finish(t, t.Retry(queue, EPOLLIN | EPOLLHUP, kNoDeadline,
                           [&] { return end->pipe().Read(dst); }));
}

SysResult SysSendfile(Task& t, int out_fd, int in_fd, GuestAddr offset, uint64_t count) {
  if (!offset.IsNull()) TRY(UserIn<int64_t>(offset).CopyIn(t));
  Ref<File> in = TRY(GetReadable(t, in_fd));
  Position from = TRY(Position::Make(t, *in, offset));
  TRY(from.Check(*in));
  Ref<File> out = TRY(GetWritable(t, out_fd));
  count = std::min(count, kMaxRwCount);
  if (!CanSpliceFrom(*in) || PipeFile::From(*in) != nullptr) return Errno(EINVAL);
  if (PipeFile* to = PipeFile::From(*out)) {
    const size_t n = TRY(Finish(t, FileToPipe(t, *in, !in->nonblocking(), &from.at, to->pipe(),
                                              !out->nonblocking(), count)));
    TRY(from.Store(t, *in));
    return static_cast<int64_t>(n);
  }
  if (!in->seekable()) return Errno(EINVAL);
  if ((out->flags() & O_APPEND) != 0 || !CanSplice(*out)) return Errno(EINVAL);
  Position to = TRY(Position::Make(t, *out, GuestAddr()));
  const size_t n = TRY(Finish(t, FileToFile(t, *in, &from.at, *out, &to.at, count)));
  TRY(to.Store(t, *out));
  TRY(from.Store(t, *in));
  return static_cast<int64_t>(n);
}

SysResult SysCopyFileRange(Task& t, int in_fd, GuestAddr in_offset, int out_fd,
                           GuestAddr out_offset, uint64_t count, uint32_t flags) {
  Ref<File> in = TRY(t.GetFile(in_fd));
  Ref<File> out = TRY(t.GetFile(out_fd));
  if (((in->flags() | out->flags()) & O_PATH) != 0) return Errno(EBADF);
  Position from = TRY(Position::Make(t, *in, in_offset));
  Position to = TRY(Position::Make(t, *out, out_offset));
  if (flags != 0) return Errno(EINVAL);
  if (in->inode().is_directory() || out->inode().is_directory()) return Errno(EISDIR);
  if (!in->inode().is_regular() || !out->inode().is_regular()) return Errno(EINVAL);
  if (!in->readable() || !out->writable() || (out->flags() & O_APPEND) != 0) return Errno(EBADF);
  if (&in->inode().fs() != &out->inode().fs()) return Errno(EXDEV);
  const bool own = in->keeps_own_offset() || out->keeps_own_offset();
  if (!own) {
    if (from.at + count < from.at || to.at + count < to.at) return Errno(EOVERFLOW);
    if (static_cast<int64_t>(from.at) < 0 || static_cast<int64_t>(to.at) < 0) return Errno(EINVAL);
    count = TRY(CutToSize(*in, from.at, count));
    if (&in->inode() == &out->inode() && from.at < to.at + count && to.at < from.at + count) {
      return Errno(EINVAL);
    }
  }
  count = std::min(count, kMaxRwCount);
  if (count == 0) return 0;
  const size_t n = TRY(Finish(t, FileToFile(t, *in, &from.at, *out, &to.at, count)));
  TRY(from.Store(t, *in));
  TRY(to.Store(t, *out));
  return static_cast<int64_t>(n);
}

}  // namespace ringwall
