// Mounts and mount namespaces (struct mount, struct mnt_namespace).
#ifndef RINGWALL_FS_VFS_MOUNT_H_
#define RINGWALL_FS_VFS_MOUNT_H_

#include <sys/mount.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "fs/vfs/dentry.h"
#include "fs/vfs/path.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"

namespace ringwall {

class MountNamespace;

class Mount : public RefCounted<Mount> {
 public:
  Mount(Ref<FileSystem> fs, Ref<Dentry> root, uint32_t flags, std::string source);
  FileSystem& fs() const { return *fs_; }
  Dentry& root() const { return *root_; }
  // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_NOATIME, MS_NODIRATIME, MS_RELATIME.
  uint32_t flags() const { return flags_.load(std::memory_order_relaxed); }
  void set_flags(uint32_t f) { flags_.store(f, std::memory_order_relaxed); }
  bool read_only() const { return (flags() & MS_RDONLY) != 0; }
  const std::string& source() const { return source_; }
  int id() const { return id_; }

 private:
  friend class MountNamespace;
  const Ref<FileSystem> fs_;
  const Ref<Dentry> root_;
  std::atomic<uint32_t> flags_;
  const std::string source_;
  const int id_;
  // Under the namespace's lock: where it is mounted (null for the root mount), propagation.
  Path mount_point_;
  int peer_group_ = 0;
  int master_group_ = 0;
  bool unbindable_ = false;
};

class MountNamespace : public RefCounted<MountNamespace> {
 public:
  explicit MountNamespace(Ref<Mount> root);
  Path root() const;
  // The topmost mount on `at`, or null.
  RefPtr<Mount> MountedAt(const Path& at) const;
  // Where `m` is mounted; null Path for the root mount or one that was detached.
  Path MountPointOf(const Mount& m) const;
  // Mounts `m` on `at`. EBUSY, ENOTDIR (file on directory or the reverse), ELOOP.
  Result<void> Attach(Ref<Mount> m, const Path& at);
  // umount2. EINVAL (not a mount point), EBUSY (unless MNT_DETACH).
  Result<void> Detach(const Path& at, int flags);
  // All mounts, parents first, for /proc/PID/mounts and mountinfo.
  struct Info {
    Ref<Mount> mount;
    Path mount_point;
    int parent_id;
  };
  std::vector<Info> List() const;
  // A copy for CLONE_NEWNS.
  Ref<MountNamespace> Clone() const;
  // The rest of mount(2): bind, recursive bind, move, remount, propagation; pivot_root.
  Result<void> Bind(const Path& from, const Path& at, bool recursive);
  Result<void> Move(const Path& from, const Path& at);
  Result<void> Remount(const Path& at, uint32_t flags);
  Result<void> SetPropagation(const Path& at, uint32_t ms_flags);
  Result<void> PivotRoot(const Path& new_root, const Path& put_old);

 private:
  mutable Mutex<LockClass::kMountTable> mu_;
  std::vector<Ref<Mount>> mounts_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_MOUNT_H_
