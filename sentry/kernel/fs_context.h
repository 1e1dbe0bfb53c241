// FsContext: a task's root, working directory and umask (struct fs_struct). Shared by CLONE_FS.
#ifndef RINGWALL_SENTRY_KERNEL_FS_CONTEXT_H_
#define RINGWALL_SENTRY_KERNEL_FS_CONTEXT_H_

#include "fs/vfs/path.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"

namespace ringwall {

class FsContext : public RefCounted<FsContext> {
 public:
  FsContext(Path root, Path cwd, uint32_t umask)
      : root_(std::move(root)), cwd_(std::move(cwd)), umask_(umask) {}

  Path root() const {
    MutexLock lock(mu_);
    return root_;
  }
  Path cwd() const {
    MutexLock lock(mu_);
    return cwd_;
  }
  void set_root(Path p) {
    MutexLock lock(mu_);
    std::swap(root_, p);
  }
  void set_cwd(Path p) {
    MutexLock lock(mu_);
    std::swap(cwd_, p);
  }
  // pivot_root: whatever is `from` becomes `to`.
  void Replace(const Path& from, const Path& to) {
    Path old_root, old_cwd;  // dropped after the lock
    MutexLock lock(mu_);
    if (root_ == from) old_root = std::exchange(root_, to);
    if (cwd_ == from) old_cwd = std::exchange(cwd_, to);
    lock.Unlock();
  }
  uint32_t umask() const { return umask_.load(std::memory_order_relaxed); }
  uint32_t exchange_umask(uint32_t m) { return umask_.exchange(m & 0777); }
  Ref<FsContext> Copy() const {
    MutexLock lock(mu_);
    return MakeRef<FsContext>(root_, cwd_, umask());
  }

 private:
  mutable Mutex<LockClass::kFsContext> mu_;
  Path root_ GUARDED_BY(mu_);
  Path cwd_ GUARDED_BY(mu_);
  std::atomic<uint32_t> umask_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_FS_CONTEXT_H_
