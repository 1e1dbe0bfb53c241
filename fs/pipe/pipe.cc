#include "fs/pipe/pipe.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/special_files.h"
#include "fs/vfs/vfs.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

Result<size_t> Pipe::Read(IoDst& dst) {
  if (dst.remaining() == 0) return size_t{0};
  size_t done = 0;
  bool was_full = false;
  {
    MutexLock lock(mu_);
    if (used_ == 0) {
      if (writers_ == 0) return size_t{0};
      return Errno(EAGAIN);
    }
    was_full = capacity_ - used_ < PIPE_BUF;
    while (used_ > 0 && dst.remaining() > 0) {
      const size_t piece = std::min({used_, capacity_ - start_, dst.remaining()});
      Result<size_t> n = dst.Put(std::span(ring_.get() + start_, piece));
      if (!n.ok()) {
        if (done > 0) break;
        return n.error();
      }
      start_ = (start_ + *n) & (capacity_ - 1);
      used_ -= *n;
      done += *n;
      if (*n < piece) break;
    }
    if (used_ == 0) start_ = 0;
    was_full = was_full && capacity_ - used_ >= PIPE_BUF;
  }
  if (was_full) queue_.Notify(EPOLLOUT | EPOLLWRNORM);
  return done;
}

Result<size_t> Pipe::Write(IoSrc& src) {
  const size_t want = src.remaining();
  size_t done = 0;
  {
    MutexLock lock(mu_);
    if (readers_ == 0) return Errno(EPIPE);
    if (want == 0) return size_t{0};
    const size_t room = capacity_ - used_;
    if (room == 0 || (want <= PIPE_BUF && room < want)) return Errno(EAGAIN);
    if (ring_ == nullptr) ring_ = std::make_unique_for_overwrite<std::byte[]>(capacity_);
    while (used_ < capacity_ && src.remaining() > 0) {
      const size_t at = (start_ + used_) & (capacity_ - 1);
      const size_t piece = std::min({capacity_ - used_, capacity_ - at, src.remaining()});
      Result<size_t> n = src.Get(std::span(ring_.get() + at, piece));
      if (!n.ok()) {
        if (done > 0) break;
        return n.error();
      }
      used_ += *n;
      done += *n;
      if (*n < piece) break;
    }
  }
  // Edge-triggered listeners hear of every write.
  queue_.Notify(EPOLLIN | EPOLLRDNORM);
  return done;
}

EventMask Pipe::Poll(bool reader, bool writer, uint64_t writers_before) const {
  MutexLock lock(mu_);
  EventMask mask = 0;
  if (reader) {
    if (used_ > 0) mask |= EPOLLIN | EPOLLRDNORM;
    if (writers_ == 0 && writers_ever_ != writers_before) mask |= EPOLLHUP;
  }
  if (writer) {
    if (capacity_ - used_ >= PIPE_BUF) mask |= EPOLLOUT | EPOLLWRNORM;
    if (readers_ == 0) mask |= EPOLLERR;
  }
  return mask;
}

size_t Pipe::used() const {
  MutexLock lock(mu_);
  return used_;
}

size_t Pipe::capacity() const {
  MutexLock lock(mu_);
  return capacity_;
}

Result<size_t> Pipe::SetCapacity(size_t size) {
  const size_t fresh_size = std::bit_ceil(std::max<size_t>(size, 4096));
  MutexLock lock(mu_);
  if (used_ > fresh_size) return Errno(EBUSY);
  std::unique_ptr<std::byte[]> fresh;
  if (used_ > 0) {
    fresh = std::make_unique_for_overwrite<std::byte[]>(fresh_size);
    const size_t first = std::min(used_, capacity_ - start_);
    std::copy_n(ring_.get() + start_, first, fresh.get());
    std::copy_n(ring_.get(), used_ - first, fresh.get() + first);
  }
  ring_ = std::move(fresh);
  start_ = 0;
  capacity_ = fresh_size;
  return fresh_size;
}

void Pipe::AddEnd(bool reader, bool writer) {
  {
    MutexLock lock(mu_);
    readers_ += reader, readers_ever_ += reader;
    writers_ += writer, writers_ever_ += writer;
  }
  queue_.Notify(EPOLLIN | EPOLLOUT);
}

void Pipe::RemoveEnd(bool reader, bool writer) {
  EventMask events = 0;
  {
    MutexLock lock(mu_);
    readers_ -= reader;
    writers_ -= writer;
    if (reader && readers_ == 0) events |= EPOLLERR | EPOLLOUT;
    if (writer && writers_ == 0) events |= EPOLLHUP | EPOLLIN;
    // What is left in a FIFO goes with its last end.
    if (readers_ == 0 && writers_ == 0) {
      ring_.reset();
      start_ = used_ = 0;
    }
  }
  if (events != 0) queue_.Notify(events);
}

int Pipe::readers() const {
  MutexLock lock(mu_);
  return readers_;
}
int Pipe::writers() const {
  MutexLock lock(mu_);
  return writers_;
}
uint64_t Pipe::readers_ever() const {
  MutexLock lock(mu_);
  return readers_ever_;
}
uint64_t Pipe::writers_ever() const {
  MutexLock lock(mu_);
  return writers_ever_;
}

PipeFile::PipeFile(Path path, uint32_t flags, Ref<Pipe> pipe)
    : File(std::move(path), flags),
      pipe_(std::move(pipe)),
      reader_((flags & O_ACCMODE) != O_WRONLY),
      writer_((flags & O_ACCMODE) != O_RDONLY),
      readers_before_(pipe_->readers_ever()),
      writers_before_(pipe_->writers_ever()) {
  pipe_->AddEnd(reader_, writer_);
}

PipeFile::~PipeFile() { pipe_->RemoveEnd(reader_, writer_); }

Result<size_t> PipeFile::Read(IoDst& dst, uint64_t, int) { return pipe_->Read(dst); }

Result<size_t> PipeFile::Write(IoSrc& src, uint64_t*, int) { return pipe_->Write(src); }

EventMask PipeFile::Poll(EventMask wanted) {
  return pipe_->Poll(reader_, writer_, writers_before_) & (wanted | EPOLLERR | EPOLLHUP);
}

bool PipeFile::open_complete() const {
  if (reader_ && writer_) return true;
  // A peer that came and went meanwhile was one.
  if (reader_) return pipe_->writers() > 0 || pipe_->writers_ever() != writers_before_;
  return pipe_->readers() > 0 || pipe_->readers_ever() != readers_before_;
}

Result<int64_t> PipeFile::Ioctl(Task& task, uint32_t cmd, uint64_t arg) {
  if (cmd != FIONREAD) return Errno(ENOTTY);
  const int32_t n = static_cast<int32_t>(pipe_->used());
  TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOut(task, n));
  return 0;
}

Result<int64_t> PipeFile::Fcntl(Task& task, int cmd, uint64_t arg) {
  if (cmd == F_GETPIPE_SZ) return static_cast<int64_t>(pipe_->capacity());
  if (cmd != F_SETPIPE_SZ) return Errno(EINVAL);
  if (arg > 0x80000000u) return Errno(EINVAL);
  if (arg > Pipe::kMaxCapacity && !task.creds().Has(Capability::kSysResource)) {
    return Errno(EPERM);
  }
  if (arg > 64 * Pipe::kMaxCapacity) return Errno(ENOMEM);
  const size_t size = TRY(pipe_->SetCapacity(arg));
  return static_cast<int64_t>(size);
}

namespace {

Result<Ref<File>> OpenFifo(Inode& inode, const Path& path, uint32_t flags, const Credentials&,
                           uint64_t) {
  Ref<RefCountedBase> attached = inode.AttachOnce(Ref<RefCountedBase>(MakeRef<Pipe>()));
  Ref<Pipe> pipe(static_cast<Pipe&>(*attached));
  const bool only_writes = (flags & O_ACCMODE) == O_WRONLY;
  if (only_writes && (flags & O_NONBLOCK) && pipe->readers() == 0) return Errno(ENXIO);
  return Ref<File>(MakeRef<PipeFile>(path, flags, std::move(pipe)));
}

}  // namespace

void RegisterFifos() { RegisterFifo(OpenFifo); }

PipePair MakePipe(uint32_t flags, Uid uid, Gid gid) {
  Ref<AnonInode> inode = MakeRef<AnonInode>(S_IFIFO | 0600, uid, gid);
  const Path path = AnonymousPath(inode, "pipe:[" + std::to_string(inode->ino()) + "]");
  Ref<Pipe> pipe = MakeRef<Pipe>();
  flags &= O_NONBLOCK | O_DIRECT;
  return PipePair{MakeRef<PipeFile>(path, O_RDONLY | flags, pipe),
                  MakeRef<PipeFile>(path, O_WRONLY | flags, pipe)};
}

}  // namespace ringwall
