// FileLocks: the locks on one inode: POSIX (fcntl), OFD and flock. Advisory; Linux fs/locks.c.
// POSIX and OFD locks cover byte ranges and conflict with each other; flock's are apart.
//
// Nothing here blocks. A caller that is to wait calls the same function with `wait`, gets EAGAIN,
// waits on queue() and calls again; EDEADLK when POSIX owners would wait in a ring. Whoever stops
// waiting without the lock calls StopWaiting.
#ifndef RINGWALL_FS_VFS_LOCKS_H_
#define RINGWALL_FS_VFS_LOCKS_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "fs/vfs/leases.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/base/wait_queue.h"

namespace ringwall {

class File;
class Inode;

struct RangeLock {
  static constexpr uint64_t kEnd = INT64_MAX;
  uint64_t start = 0;
  uint64_t last = kEnd;  // inclusive; kEnd: to the end of the file, however far
  bool write = false;
  bool ofd = false;
  const void* owner = nullptr;  // POSIX: the FdTable; OFD: the File
  int32_t pid = 0;              // what F_GETLK tells; -1 for OFD
};

enum class FlockType : uint8_t { kShared, kExclusive };

class FileLocks {
 public:
  // struct flock's range, from l_whence resolved to `base`. EINVAL, EOVERFLOW.
  static Result<RangeLock> MakeRange(int64_t base, int64_t start, int64_t len);

  // F_SETLK, F_SETLKW: replaces the owner's own locks in the range. EAGAIN, EDEADLK.
  Result<void> Lock(const RangeLock& lock, bool wait);
  // F_UNLCK.
  void Unlock(const RangeLock& range);
  // F_GETLK: the first lock in the way.
  std::optional<RangeLock> FindConflict(const RangeLock& lock) const;
  // A lock that the same owner holds in the range.
  std::optional<RangeLock> FindOwn(const RangeLock& lock) const;
  // close(2) of any descriptor of the file drops the process's POSIX locks; the last close of the
  // description its OFD locks.
  void DropOwner(const void* owner, bool ofd);

  // flock(2); a held lock is converted: dropped first, as Linux does. EAGAIN.
  // pid: for /proc/locks.
  Result<void> Flock(const File* file, FlockType type, int32_t pid = 0);
  void Funlock(const File* file);

  FileLeases& leases() { return leases_; }
  const FileLeases& leases() const { return leases_; }

  // Woken (EPOLLOUT) when a lock goes away.
  WaitQueue& queue() { return queue_; }
  static void StopWaiting(const void* owner);

  struct Listed {
    RangeLock range;
    bool flock = false;
    FlockType type = FlockType::kShared;
    const void* file = nullptr;  // the holder of a flock or a lease
    bool lease = false, breaking = false;
  };
  std::vector<Listed> List() const;  // /proc/locks

 private:
  struct FlockEntry {
    const File* file;
    FlockType type;
    int32_t pid;
  };
  const RangeLock* ConflictLocked(const RangeLock& lock) const REQUIRES(mu_);
  void CarveLocked(const RangeLock& range) REQUIRES(mu_);

  mutable Mutex<LockClass::kFileLocks> mu_;
  std::vector<RangeLock> ranges_ GUARDED_BY(mu_);  // by start
  std::vector<FlockEntry> flocks_ GUARDED_BY(mu_);
  WaitQueue queue_;
  FileLeases leases_;
};

// The inodes that have been locked at some time and are still in use.
std::vector<Ref<Inode>> InodesWithLocks();

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_LOCKS_H_
