// FdTable: a process's descriptors (struct files_struct). Thread-safe; shared by CLONE_FILES.
// Lookups happen on every file system call: one lock, one array.
#ifndef RINGWALL_FS_VFS_FD_TABLE_H_
#define RINGWALL_FS_VFS_FD_TABLE_H_

#include <cstdint>
#include <vector>

#include "fs/vfs/file.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"

namespace ringwall {

class FdTable;

// Descriptors that are taken but not yet visible: copy their numbers out first, then Commit. What
// is not committed is given back by the destructor.
class FdReservation {
 public:
  FdReservation(FdReservation&& o) noexcept;
  FdReservation& operator=(FdReservation&&) = delete;
  ~FdReservation();
  int fd() const { return fd_; }
  // Cannot fail.
  void Commit(Ref<File> file, bool cloexec);

 private:
  friend class FdTable;
  FdReservation(FdTable& table, int fd) : table_(&table), fd_(fd) {}
  FdTable* table_;
  int fd_;
};

class FdTable : public RefCounted<FdTable> {
 public:
  // EBADF.
  Result<Ref<File>> Get(int fd) const;
  struct Entry {
    Ref<File> file;
    bool cloexec;
  };
  Result<Entry> GetEntry(int fd) const;

  // The lowest free number at or above `from`. EMFILE when it is not below `limit` (RLIMIT_NOFILE);
  // EINVAL when `from` itself is not (F_DUPFD).
  Result<FdReservation> Reserve(int from, uint64_t limit);
  Result<int> Install(Ref<File> file, bool cloexec, uint64_t limit, int from = 0);
  // dup2/dup3: puts `file` at exactly `fd`. EBADF when fd >= limit; EBUSY when an open in another
  // thread is about to use it. *old is what was there, to flush and drop.
  Result<Ref<File>> Exchange(int fd, Ref<File> file, bool cloexec, uint64_t limit,
                             RefPtr<File>* old);
  // The same where nobody cares for the old one.
  Result<void> InstallAt(int fd, Ref<File> file, bool cloexec, uint64_t limit);

  // Takes it out; the caller flushes and drops the file. EBADF.
  Result<Ref<File>> Remove(int fd);
  Result<void> SetCloexec(int fd, bool cloexec);
  // Takes out all in [first, last] (close_range), or marks them.
  std::vector<Ref<File>> RemoveRange(uint32_t first, uint32_t last);
  void SetCloexecRange(uint32_t first, uint32_t last);
  // exec: takes out the close-on-exec ones.
  std::vector<Ref<File>> RemoveCloexec();

  Ref<FdTable> Fork() const;
  // Numbers in use, in order (/proc/PID/fd).
  std::vector<int> List() const;
  int size_hint() const;  // FDSize of /proc/PID/status

 private:
  friend class FdReservation;
  struct Slot {
    RefPtr<File> file;
    bool cloexec = false;
    bool reserved = false;
  };
  void Fill(const std::vector<Slot>& from);

  mutable Mutex<LockClass::kFdTable> mu_;
  std::vector<Slot> slots_ GUARDED_BY(mu_);
  size_t lowest_free_ GUARDED_BY(mu_) = 0;  // nothing free below
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_FD_TABLE_H_
