// Pipes (fs/pipe.c, pipe(7)): a ring of pages with two kinds of ends.
#ifndef RINGWALL_FS_PIPE_PIPE_H_
#define RINGWALL_FS_PIPE_PIPE_H_

#include <limits.h>

#include <atomic>
#include <memory>
#include <span>
#include <utility>

#include "fs/vfs/file.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/wait_queue.h"

namespace ringwall {

// sysctl fs.pipe-max-size, fs.pipe-user-pages-soft and -hard (0: no limit).
struct PipeLimits {
  std::atomic<uint32_t> max_size{1 << 20};
  std::atomic<uint64_t> user_pages_soft{16384};
  std::atomic<uint64_t> user_pages_hard{0};
};
PipeLimits& pipe_limits();

// The buffer between the ends. Thread-safe. Guest memory is copied with the pipe's lock held, which
// is why the copy may take no lock of its own. Splice works on the ring in place: it marks one side
// as lent (BeginTake, BeginFill), and others of that side wait for the short time that takes.
//
// As on Linux what counts is pages, not bytes: short writes share one when the whole odd part of the
// next fits behind them, other writes begin a new one, and a pipe whose pages are all in use is full.
class Pipe : public RefCounted<Pipe> {
 public:
  static constexpr size_t kPage = 4096;
  static constexpr size_t kDefaultCapacity = 16 * kPage;

  // What the user's pipes take is counted by `owner`. A user over the soft limit gets the least.
  Pipe(Uid owner, bool privileged);
  ~Pipe() override;
  // Whether one more pipe may be made (fs.pipe-user-pages-hard).
  static bool MayMake(Uid owner, bool privileged);

  // EAGAIN when empty and someone may still write; 0 at the end. A page that does not arrive whole stays
  // in the pipe; EFAULT when that is the first.
  Result<size_t> Read(IoDst& dst);
  // Up to PIPE_BUF bytes all or nothing; in packet mode each PIPE_BUF bytes are a packet. EAGAIN when
  // full; EPIPE without readers; EFAULT when not even one page can be filled.
  Result<size_t> Write(IoSrc& src, bool packets);
  // writers_before: how many there had been when the asking end was made; a FIFO's reader has
  // not lost a writer before it had one.
  EventMask Poll(bool reader, bool writer, uint64_t writers_before) const;
  WaitQueue& queue() { return queue_; }

  // The next bytes in the ring, lent until EndTake, which consumes the first `used` of them. EAGAIN
  // when empty; no bytes at the end, and then there is nothing to give back.
  Result<std::span<const std::byte>> BeginTake(size_t most);
  void EndTake(size_t used);
  // Free room in the ring, lent until EndFill, which puts the first `filled` bytes into the pipe.
  // EAGAIN when full; EPIPE without readers.
  Result<std::span<std::byte>> BeginFill(size_t most);
  void EndFill(size_t filled);
  // splice and tee between two pipes: moves or copies at most `most` bytes. EAGAIN with *wait set
  // to the pipe to wait for; EPIPE.
  static Result<size_t> Transfer(Pipe& from, Pipe& to, size_t most, bool keep, Pipe** wait);

  size_t used() const;
  size_t capacity() const;
  // F_SETPIPE_SZ: rounds up to a power of two of pages. EBUSY when what is in it does not fit; EPERM
  // over a limit.
  Result<size_t> SetCapacity(size_t size, bool privileged);

  void AddEnd(bool reader, bool writer);
  void RemoveEnd(bool reader, bool writer);
  int readers() const;
  int writers() const;
  // How many ends of that kind there have ever been: a FIFO's open waits for the next one.
  uint64_t readers_ever() const;
  uint64_t writers_ever() const;

 private:
  // A page of the ring, and what of it is in use.
  struct Slot {
    uint16_t offset, size;
    bool packet;  // O_DIRECT: a read ends with it
    bool merges;  // later writes may add to it; nobody does to what splice brought
  };

  size_t SlotsLocked() const REQUIRES(mu_) { return capacity_ / kPage; }
  bool FullLocked() const REQUIRES(mu_) { return in_use_ == SlotsLocked(); }
  // The i-th page in use; in_use_ is the first free one.
  size_t AtLocked(size_t i) const REQUIRES(mu_) { return (first_ + i) & (SlotsLocked() - 1); }
  std::byte* PageLocked(size_t slot) const REQUIRES(mu_) { return ring_.get() + slot * kPage; }
  // Bytes that lie one behind the other from the first page in use on, and free ones of whole pages.
  size_t RunLocked() const REQUIRES(mu_);
  size_t FreeRunLocked() const REQUIRES(mu_);
  // Puts n bytes that lie at the first free page into use.
  void AddLocked(size_t n, bool packet, bool merges) REQUIRES(mu_);
  // At most n bytes in whole pages, from the first in use on.
  size_t WholePagesLocked(size_t n) const REQUIRES(mu_);
  void TakeLocked(size_t n) REQUIRES(mu_);
  void DropFirstLocked() REQUIRES(mu_);
  void MakeRingLocked() REQUIRES(mu_);
  // The odd part of a write into the last page in use. 0 when it does not fit. EFAULT.
  Result<size_t> MergeLocked(IoSrc& src) REQUIRES(mu_);
  // Until no side is lent; it may be again when this returns.
  void WaitGivenBack();

  mutable Mutex<LockClass::kPipe> mu_;
  WaitQueue queue_;
  const Uid owner_;
  std::unique_ptr<std::byte[]> ring_ GUARDED_BY(mu_);
  size_t capacity_ GUARDED_BY(mu_) = kDefaultCapacity;
  std::unique_ptr<Slot[]> slots_ GUARDED_BY(mu_);
  size_t first_ GUARDED_BY(mu_) = 0, in_use_ GUARDED_BY(mu_) = 0;  // pages
  size_t used_ GUARDED_BY(mu_) = 0;                                // bytes
  bool taking_ GUARDED_BY(mu_) = false, filling_ GUARDED_BY(mu_) = false;
  CondVar given_back_;
  int readers_ GUARDED_BY(mu_) = 0, writers_ GUARDED_BY(mu_) = 0;
  uint64_t readers_ever_ GUARDED_BY(mu_) = 0, writers_ever_ GUARDED_BY(mu_) = 0;
};

// Opening a named pipe (fs/vfs/special_files.h).
void RegisterFifos();

// One end, or both (a FIFO opened O_RDWR).
class PipeFile final : public File {
 public:
  // flags: open(2)'s; the access mode says which end. named: a FIFO's, whose opener waits.
  PipeFile(Path path, uint32_t flags, Ref<Pipe> pipe, bool named);
  ~PipeFile() override;
  // Null when `file` is none.
  static PipeFile* From(File& file);
  const void* kind() const override { return &kKind; }

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
  static constexpr char kKind = 0;
  static constexpr uint64_t kHadPeer = ~uint64_t{0};
  const Ref<Pipe> pipe_;
  const bool reader_, writer_, named_;
  // Ends of the other kind there had been before this one, when none of them was there.
  const uint64_t readers_before_, writers_before_;
};

struct PipePair {
  Ref<File> reader, writer;
};
// pipe2: flags O_NONBLOCK, O_DIRECT (O_CLOEXEC is the descriptor's). ENFILE over the hard limit.
Result<PipePair> MakePipe(uint32_t flags, const Credentials& creds);

}  // namespace ringwall

#endif  // RINGWALL_FS_PIPE_PIPE_H_
