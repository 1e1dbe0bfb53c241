// File: an open file description (struct file): what a descriptor refers to. File systems, pipes,
// sockets and epoll derive theirs. Thread-safe.
//
// No operation here blocks on another guest task: what would block returns EAGAIN, and the system
// call waits on queue() for poll events and tries again (unless O_NONBLOCK). Calls to the gofer and
// host I/O on regular files may take the time the host needs.
#ifndef RINGWALL_FS_VFS_FILE_H_
#define RINGWALL_FS_VFS_FILE_H_

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "fs/vfs/inode.h"
#include "fs/vfs/io.h"
#include "fs/vfs/path.h"
#include "sentry/base/guest_addr.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/base/wait_queue.h"

namespace ringwall {

// A directory's entries on their way out. Add returns false when the buffer is full: the entry is
// then offered again by the next ReadDir. Add is called with the directory's locks held: it must not
// touch guest memory or take locks.
class DirSink {
 public:
  virtual ~DirSink() = default;
  // next_offset: the directory position after this entry. type: DT_*.
  virtual bool Add(std::string_view name, uint64_t ino, uint8_t type, int64_t next_offset) = 0;
};

// A run of host memory behind a file mapping.
struct HostMapping {
  int host_fd = -1;  // stays open as long as the File lives
  uint64_t offset = 0;
};

// An open flag of the Sentry's own: for execve, which needs permission to execute, not to read.
inline constexpr uint32_t kOpenForExec = 0x40000000;

class Socket;

class File : public RefCounted<File> {
 public:
  // The place it was opened at; sockets, pipes and anonymous inodes have one too (see Path).
  const Path& path() const { return path_; }
  Inode& inode() const;

  // O_ACCMODE and the status flags of F_GETFL.
  uint32_t flags() const { return flags_.load(std::memory_order_relaxed); }
  // The access mode 3 is for ioctls alone.
  bool readable() const {
    return ((flags() & O_ACCMODE) == O_RDONLY || (flags() & O_ACCMODE) == O_RDWR) &&
           !(flags() & O_PATH);
  }
  bool writable() const {
    return ((flags() & O_ACCMODE) == O_WRONLY || (flags() & O_ACCMODE) == O_RDWR) &&
           !(flags() & O_PATH);
  }
  // Whether a write with these RWF_* goes to the end.
  bool AppendsWith(int rwf) const {
    constexpr int kAppend = 0x10, kNoAppend = 0x20;
    return (rwf & kAppend) != 0 || ((flags() & O_APPEND) != 0 && (rwf & kNoAppend) == 0);
  }
  bool nonblocking() const { return (flags() & O_NONBLOCK) != 0; }
  // F_SETFL: changes O_APPEND, O_NONBLOCK, O_ASYNC, O_DIRECT, O_NOATIME. EINVAL.
  virtual Result<void> SetFlags(uint32_t flags);

  // The socket that this is (fs/socket), or null. Sockets wait by rules of their own.
  virtual Socket* AsSocket() { return nullptr; }
  // Tells special kinds of files apart without RTTI: the address of a constant of the class.
  virtual const void* kind() const { return nullptr; }

  // Whether the file has a position. Others get ESPIPE from lseek and pread.
  virtual bool seekable() const { return false; }
  // A seekable file whose position lives elsewhere (a host descriptor that others share): read and
  // write then pass kOwnOffset instead of a position.
  virtual bool keeps_own_offset() const { return false; }
  static constexpr uint64_t kOwnOffset = ~uint64_t{0};

  // Reads at `pos` (ignored when not seekable), returns how many bytes; 0 is the end of the file.
  // rw_flags: RWF_*. EAGAIN, EISDIR, EINVAL (not readable this way).
  virtual Result<size_t> Read(IoDst& dst, uint64_t pos, int rw_flags);
  // Writes at *pos and moves it to the end of what was written; with O_APPEND (or RWF_APPEND) at
  // the end of the file, atomically.
  virtual Result<size_t> Write(IoSrc& src, uint64_t* pos, int rw_flags);
  // The position that SEEK_SET, CUR, END, DATA, HOLE mean; does not move the offset. The default
  // works from offset() and GetAttr().size. Called with the offset lock held.
  virtual Result<int64_t> Seek(int64_t offset, int whence) REQUIRES(offset_mu_);
  // Entries from the current offset on, "." and ".." among them, and moves the offset. Called with
  // the offset lock held. ENOTDIR by default.
  virtual Result<void> ReadDir(DirSink& sink) REQUIRES(offset_mu_);

  // What /proc/PID/fdinfo/N says beyond what all files have: whole lines.
  virtual std::string FdInfo() { return {}; }

  // ioctl: arg is raw; guest memory is reached through the task. ENOTTY by default.
  virtual Result<int64_t> Ioctl(Task& task, uint32_t cmd, uint64_t arg);

  // fcntl commands of one kind of file: F_SETPIPE_SZ, F_ADD_SEALS and their getters. EBADF, as
  // Linux says of a file that is not of the kind; EINVAL for seals.
  virtual Result<int64_t> Fcntl(Task& task, int cmd, uint64_t arg);

  // poll: the events that hold now, and where to hear of changes. Always ready by default.
  static constexpr EventMask kAlwaysReady = 0x1 | 0x4 | 0x40 | 0x100;  // IN, OUT, RDNORM, WRNORM
  virtual EventMask Poll(EventMask wanted);
  virtual WaitQueue* queue() { return nullptr; }
  // Until when a blocking read or write that starts now waits, in CLOCK_MONOTONIC nanoseconds
  // (SO_RCVTIMEO, SO_SNDTIMEO); INT64_MAX for ever.
  virtual int64_t read_deadline() { return INT64_MAX; }
  virtual int64_t write_deadline() { return INT64_MAX; }

  // Host memory for a mapping of [offset, offset+length). `shared` with PROT_WRITE must reach the
  // file. ENODEV by default. May change what backs the file (a heap buffer becomes a memfd).
  virtual Result<HostMapping> Map(uint64_t offset, uint64_t length, int prot, bool shared);

  // A guest touched this byte of what Map gave, where the host has no memory for it. True: it has now, and
  // the access is to be made again. False: SIGBUS. Takes locks of the file.
  virtual bool Fault(const HostMapping& byte) {
    static_cast<void>(byte);
    return false;
  }
  // Whether a touch of what Map gave may need Fault. Takes no lock.
  virtual bool LacksMemory() const { return false; }

  // A mapping of it comes to be from another one, by a fork, a split or a move (vm_ops->open): the File that
  // it holds instead of this one; null for the same. With the MemoryManager's lock held.
  virtual RefPtr<File> AnotherMapping() { return nullptr; }

  // /dev/zero: a mapping of it is anonymous memory.
  virtual bool maps_as_anonymous() const { return false; }

  virtual Result<void> Fsync(bool data_only) { (void)data_only; return {}; }
  virtual Result<void> Fallocate(int mode, uint64_t offset, uint64_t length);  // EOPNOTSUPP
  // Each close(2) of a descriptor, before it is gone (the caller drops the POSIX locks).
  virtual Result<void> Flush() { return {}; }

  // Offset under its lock, for read(2), write(2), lseek(2), getdents64(2).
  Mutex<LockClass::kFileOffset>& offset_lock() ABSL_LOCK_RETURNED(offset_mu_) {
    return offset_mu_;
  }
  int64_t offset() const REQUIRES(offset_mu_) { return offset_; }
  void set_offset(int64_t o) REQUIRES(offset_mu_) { offset_ = o; }

  // For opens by name of a regular file: the File counts as one of its inode's writers or readers
  // until it ends, or as one that is being executed (which AllowWriting ends before).
  Result<void> CountOpen(bool for_exec);
  void AllowWriting();
  // Whether the open that made it made the file as well (F_CREATED_QUERY).
  bool created_file() const { return created_file_; }
  void set_created_file() { created_file_ = true; }

  // Who opened it (f_cred); null for what open(2) did not make. Set before others see it.
  const Credentials* opener() const { return opener_.get(); }
  void set_opener(RefPtr<const Credentials> creds) { opener_ = std::move(creds); }

  // Called once, when the last reference is gone, before the file is: epoll takes it off its lists.
  using LastReleaseHook = void (*)(const File&);
  void set_last_release_hook(LastReleaseHook hook) { hook_.store(hook); }

  // O_ASYNC, F_SETOWN, F_SETSIG (sentry/kernel/file_async.h): a FileAsync, owned, or null.
  std::atomic<RefCountedBase*> async_state{nullptr};
  void set_async_release_hook(LastReleaseHook hook) { async_hook_.store(hook); }

 protected:
  File(Path path, uint32_t flags);
  ~File() override;  // drops flock and OFD locks
  void LastRelease() const override;

 private:
  const Path path_;
  RefPtr<const Credentials> opener_;
  std::atomic<uint32_t> flags_;
  bool counts_as_writer_ = false;  // of its mount
  bool counts_at_inode_ = false;   // as a writer or reader
  bool created_file_ = false;
  std::atomic<bool> denies_writing_{false};
  std::atomic<LastReleaseHook> hook_{nullptr};
  std::atomic<LastReleaseHook> async_hook_{nullptr};
  mutable Mutex<LockClass::kFileOffset> offset_mu_;
  int64_t offset_ GUARDED_BY(offset_mu_) = 0;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_FILE_H_
