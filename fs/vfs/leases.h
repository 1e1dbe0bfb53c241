// FileLeases: the leases on one inode (fs/locks.c: generic_setlease, __break_lease). Whoever holds
// one is told when somebody opens or truncates the file in a way that conflicts, and has
// fs.lease-break-time seconds to give it up; then it is taken.
//
// Nothing here blocks. Break says EAGAIN while a lease is in the way; the caller waits on queue()
// until deadline() and calls again.
#ifndef RINGWALL_FS_VFS_LEASES_H_
#define RINGWALL_FS_VFS_LEASES_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/base/wait_queue.h"

namespace ringwall {

class File;
class Inode;

// Tells the owner of `file` (F_SETOWN, F_SETSIG) that something has happened to what it watches.
// Called without locks.
using FileTeller = void (*)(File& file, int fd);

class FileLeases {
 public:
  // F_SETLEASE with F_RDLCK or F_WRLCK; changes a lease that `file` has already. EAGAIN: others have
  // the file open in a way that conflicts, or hold leases that do. EINVAL: fs.leases-enable is 0.
  // pid: for /proc/locks.
  Result<void> Set(File& file, int fd, int type, int32_t pid, FileTeller teller);
  // F_SETLEASE with F_UNLCK. EAGAIN when it has none.
  Result<void> Drop(const File& file);
  // F_GETLEASE: what it is to become once it is being broken.
  int Get(const File& file);

  // EAGAIN while a lease conflicts with an open or truncation; tells its holder once.
  Result<void> Break(bool write);
  // When the first lease that is being broken is taken away, in CLOCK_MONOTONIC nanoseconds.
  int64_t deadline() const;
  WaitQueue& queue() { return queue_; }

  struct Listed {  // /proc/locks
    bool breaking, write;
    int32_t pid;
    const void* file;
  };
  std::vector<Listed> List() const;

 private:
  struct Lease {
    File* file;
    int fd;
    int32_t pid;
    bool write;
    FileTeller teller;
    bool unlocking = false, downgrading = false;
    int64_t unlock_at = 0, downgrade_at = 0;
    int target() const;
  };
  bool TimeOutLocked() REQUIRES(mu_);

  mutable Mutex<LockClass::kFileLocks> mu_;
  std::vector<Lease> leases_ GUARDED_BY(mu_);
  WaitQueue queue_;
};

// What an open or a truncation that a lease holds up waits for.
struct LeaseWait {
  RefPtr<Inode> inode;  // null: nothing
  bool write = false;
};

// sysctl fs.lease-break-time (seconds) and fs.leases-enable.
struct LeaseSettings {
  std::atomic<int> break_time{45}, enabled{1};
};
LeaseSettings& lease_settings();

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_LEASES_H_
