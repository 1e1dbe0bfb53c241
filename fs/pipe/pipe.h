// Pipes (fs/pipe.c, pipe(7)): a bounded byte ring with two kinds of ends.
#ifndef RINGWALL_FS_PIPE_PIPE_H_
#define RINGWALL_FS_PIPE_PIPE_H_

#include <limits.h>

#include <memory>
#include <utility>

#include "fs/vfs/file.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/wait_queue.h"

namespace ringwall {

// The buffer between the ends. Thread-safe. Guest memory is copied with the pipe's lock held, which
// is why the copy may take no lock of its own.
class Pipe : public RefCounted<Pipe> {
 public:
  static constexpr size_t kDefaultCapacity = 65536;
  static constexpr size_t kMaxCapacity = 1 << 20;  // sysctl fs.pipe-max-size

  // EAGAIN when empty and someone may still write; 0 at the end.
  Result<size_t> Read(IoDst& dst);
  // Up to PIPE_BUF bytes all or nothing. EAGAIN when full; EPIPE without readers.
  Result<size_t> Write(IoSrc& src);
  // writers_before: how many there had been when the asking end was made; a FIFO's reader has
  // not lost a writer before it had one.
  EventMask Poll(bool reader, bool writer, uint64_t writers_before) const;
  WaitQueue& queue() { return queue_; }

  size_t used() const;
  size_t capacity() const;
  // F_SETPIPE_SZ: rounds up to a power of two of pages. EBUSY when what is in it does not fit.
  Result<size_t> SetCapacity(size_t size);

  void AddEnd(bool reader, bool writer);
  void RemoveEnd(bool reader, bool writer);
  int readers() const;
  int writers() const;
  // How many ends of that kind there have ever been: a FIFO's open waits for the next one.
  uint64_t readers_ever() const;
  uint64_t writers_ever() const;

 private:
  mutable Mutex<LockClass::kPipe> mu_;
  WaitQueue queue_;
  std::unique_ptr<std::byte[]> ring_ GUARDED_BY(mu_);
  size_t capacity_ GUARDED_BY(mu_) = kDefaultCapacity;
  size_t start_ GUARDED_BY(mu_) = 0;
  size_t used_ GUARDED_BY(mu_) = 0;
  int readers_ GUARDED_BY(mu_) = 0, writers_ GUARDED_BY(mu_) = 0;
  uint64_t readers_ever_ GUARDED_BY(mu_) = 0, writers_ever_ GUARDED_BY(mu_) = 0;
};

// Opening a named pipe (fs/vfs/special_files.h).
void RegisterFifos();

// One end, or both (a FIFO opened O_RDWR).
class PipeFile final : public File {
 public:
  // flags: open(2)'s; the access mode says which end.
  PipeFile(Path path, uint32_t flags, Ref<Pipe> pipe);
  ~PipeFile() override;
  Result<size_t> Read(IoDst& dst, uint64_t pos, int rw_flags) override;
  Result<size_t> Write(IoSrc& src, uint64_t* pos, int rw_flags) override;
  EventMask Poll(EventMask wanted) override;
  WaitQueue* queue() override { return &pipe_->queue(); }
  Result<int64_t> Ioctl(Task& task, uint32_t cmd, uint64_t arg) override;
  Result<int64_t> Fcntl(Task& task, int cmd, uint64_t arg) override;
  // Whether open(2) of a FIFO may return: an end is one from the start, so that its peer finds it,
  // but its opener waits on queue() for that peer (unless O_NONBLOCK).
  bool open_complete() const;
  Pipe& pipe() { return *pipe_; }

 private:
  const Ref<Pipe> pipe_;
  const bool reader_, writer_;
  // Ends of the other kind there had been before this one.
  const uint64_t readers_before_, writers_before_;
};

struct PipePair {
  Ref<File> reader, writer;
};
// pipe2: flags O_NONBLOCK (O_CLOEXEC is the descriptor's).
PipePair MakePipe(uint32_t flags, Uid uid, Gid gid);

}  // namespace ringwall

#endif  // RINGWALL_FS_PIPE_PIPE_H_
