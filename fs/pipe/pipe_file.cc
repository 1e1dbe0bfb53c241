// The ends of pipes, and how they are opened: by pipe(2), as a FIFO, or again through /proc/PID/fd.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>

#include "fs/pipe/pipe.h"
#include "fs/vfs/anon_inode.h"
#include "fs/vfs/special_files.h"
#include "fs/vfs/vfs.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

bool Privileged(const Credentials& creds) {
  return creds.Has(Capability::kSysResource) || creds.Has(Capability::kSysAdmin);
}

class PipeInode final : public AnonInode {
 public:
  PipeInode(Ref<Pipe> pipe, const Credentials& creds)
      : AnonInode(S_IFIFO | 0600, creds.fsuid, creds.fsgid), pipe_(std::move(pipe)) {}
  // Such an open waits for nobody, unlike that of a FIFO.
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials&) override {
    return Ref<File>(MakeRef<PipeFile>(path, flags, pipe_, false));
  }

 private:
  const Ref<Pipe> pipe_;
};

Result<Ref<File>> OpenFifo(Inode& inode, const Path& path, uint32_t flags,
                           const Credentials& creds, uint64_t) {
  if ((flags & O_ACCMODE) == O_ACCMODE) return Errno(EINVAL);
  const RefPtr<RefCountedBase> there = inode.attachment();
  if (!there && !Pipe::MayMake(creds.ruid, Privileged(creds))) return Errno(ENFILE);
  Ref<RefCountedBase> attached =
      there ? Ref<RefCountedBase>(there)
            : inode.AttachOnce(
                  Ref<RefCountedBase>(MakeRef<Pipe>(creds.ruid, Privileged(creds))));
  Ref<Pipe> pipe(static_cast<Pipe&>(*attached));
  const bool only_writes = (flags & O_ACCMODE) == O_WRONLY;
  if (only_writes && (flags & O_NONBLOCK) && pipe->readers() == 0) return Errno(ENXIO);
  return Ref<File>(MakeRef<PipeFile>(path, flags, std::move(pipe), true));
}

}  // namespace

PipeFile::PipeFile(Path path, uint32_t flags, Ref<Pipe> pipe, bool named)
    : File(std::move(path), flags),
      pipe_(std::move(pipe)),
      reader_((flags & O_ACCMODE) != O_WRONLY),
      writer_((flags & O_ACCMODE) != O_RDONLY),
      named_(named),
      readers_before_(named && pipe_->readers() == 0 ? pipe_->readers_ever() : kHadPeer),
      writers_before_(named && pipe_->writers() == 0 ? pipe_->writers_ever() : kHadPeer) {
  pipe_->AddEnd(reader_, writer_);
}

PipeFile::~PipeFile() { pipe_->RemoveEnd(reader_, writer_); }

PipeFile* PipeFile::From(File& file) {
  return file.kind() == &kKind ? static_cast<PipeFile*>(&file) : nullptr;
}

Result<size_t> PipeFile::Read(IoDst& dst, uint64_t, int) { return pipe_->Read(dst); }

Result<size_t> PipeFile::Write(IoSrc& src, uint64_t*, int) {
  if (src.remaining() == 0) return size_t{0};  // also where nobody reads
  return pipe_->Write(src, (flags() & O_DIRECT) != 0);
}

EventMask PipeFile::Poll(EventMask wanted) {
  return pipe_->Poll(reader_, writer_, writers_before_) & (wanted | EPOLLERR | EPOLLHUP);
}

bool PipeFile::open_complete() const {
  if (!named_ || (reader_ && writer_)) return true;
  // A peer that came and went meanwhile was one.
  if (reader_) return pipe_->writers() > 0 || pipe_->writers_ever() != writers_before_;
  return pipe_->readers() > 0 || pipe_->readers_ever() != readers_before_;
}

Result<int64_t> PipeFile::Ioctl(Task& task, uint32_t cmd, uint64_t arg) {
  if (cmd != FIONREAD) return Errno(ENOTTY);
  const int32_t n = static_cast<int32_t>(pipe_->used());
  TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOutLast(task, n));
  return 0;
}

Result<int64_t> PipeFile::Fcntl(Task& task, int cmd, uint64_t arg) {
  if (cmd == F_GETPIPE_SZ) return static_cast<int64_t>(pipe_->capacity());
  if (cmd != F_SETPIPE_SZ) return Errno(EINVAL);
  if (arg > 0x80000000u) return Errno(EINVAL);
  const bool privileged = task.creds().Has(Capability::kSysResource);
  // More than a privileged guest needs would be the Sentry's memory.
  constexpr uint64_t kMost = 64 << 20;
  if (arg > pipe_limits().max_size.load() && !privileged) return Errno(EPERM);
  if (arg > std::max<uint64_t>(kMost, pipe_limits().max_size.load())) return Errno(ENOMEM);
  const size_t size = TRY(pipe_->SetCapacity(arg, privileged));
  return static_cast<int64_t>(size);
}

void RegisterFifos() { RegisterFifo(OpenFifo); }

Result<PipePair> MakePipe(uint32_t flags, const Credentials& creds) {
  const bool privileged = Privileged(creds);
  if (!Pipe::MayMake(creds.ruid, privileged)) return Errno(ENFILE);
  Ref<Pipe> pipe = MakeRef<Pipe>(creds.ruid, privileged);
  Ref<PipeInode> inode = MakeRef<PipeInode>(pipe, creds);
  const Path path = AnonymousPath(inode, "pipe:[" + std::to_string(inode->ino()) + "]");
  flags &= O_NONBLOCK | O_DIRECT;
  // Packets are the writer's choice: the other end does not show it.
  return PipePair{MakeRef<PipeFile>(path, O_RDONLY | (flags & O_NONBLOCK), pipe, false),
                  MakeRef<PipeFile>(path, O_WRONLY | flags, pipe, false)};
}

}  // namespace ringwall
