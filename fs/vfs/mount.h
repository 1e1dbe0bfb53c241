// Mounts and mount namespaces (struct mount, struct mnt_namespace). Who is mounted where is kept in
// a table that is read without locks and replaced as a whole by each change; changes of all
// namespaces happen under one lock (kMountTable), since propagation crosses them.
#ifndef RINGWALL_FS_VFS_MOUNT_H_
#define RINGWALL_FS_VFS_MOUNT_H_

#include <sys/mount.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "fs/vfs/dentry.h"
#include "fs/vfs/path.h"
#include "sentry/auth/user_namespace.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"

namespace ringwall {

class MountNamespace;
struct MountTable;

class Mount : public RefCounted<Mount> {
 public:
  Mount(Ref<FileSystem> fs, Ref<Dentry> root, uint32_t flags, std::string source);
  // The whole of a file system.
  static Ref<Mount> Make(Ref<FileSystem> fs, uint32_t flags, std::string source);
  ~Mount() override;

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
  // Under the lock of all mount tables: where it is mounted (null for a namespace's root and for
  // what is detached), in which namespace (null when detached), propagation.
  Path mount_point_;
  MountNamespace* space_ = nullptr;
  int peer_group_ = 0;    // shared with the mounts of the same number; 0: not shared
  int master_group_ = 0;  // receives what is mounted in that peer group; 0: no slave
  bool unbindable_ = false;
  int copied_from_ = 0;   // the id of what it is a copy of, for MountNamespace::Translate
};

class MountNamespace final : public Namespace {
 public:
  // The first one.
  explicit MountNamespace(Ref<Mount> root);
  ~MountNamespace() override;

  Path root() const;
  // What a path walk finds there: the topmost mount on it.
  Path TopRoot() const;
  // The topmost mount on `at`, or null.
  RefPtr<Mount> MountedAt(const Path& at) const;
  // Where `m` is mounted; null Path for the root mount or one that was detached.
  Path MountPointOf(const Mount& m) const;
  // The same, borrowed: valid while the caller's EpochGuard is. MountPointBorrowed returns false
  // when there is none.
  Mount* MountedAtBorrowed(const Mount* mount, const Dentry* dentry) const;
  bool MountPointBorrowed(const Mount* m, Mount** mount, Dentry** dentry) const;

  // Mounts `m` on `at`. EBUSY, ENOTDIR (file on directory or the reverse), ENOENT (`at` is gone).
  Result<void> Attach(Ref<Mount> m, const Path& at);
  // umount2. EINVAL (not a mount point), EBUSY (unless MNT_DETACH). MNT_EXPIRE: EAGAIN.
  Result<void> Detach(const Path& at, int flags);
  // All mounts, parents first, for /proc/PID/mounts and mountinfo.
  struct Info {
    Ref<Mount> mount;
    Path mount_point;
    int parent_id;
    int peer_group;    // "shared:N" when not 0
    int master_group;  // "master:N" when not 0
    bool unbindable;
  };
  std::vector<Info> List() const;
  // Changes with every change of the mounts (poll on /proc/PID/mounts).
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

  // A copy for CLONE_NEWNS; the copies are peers of shared originals. Translate gives the place in
  // this copy of one in the original (root and cwd of the task); null when it has none.
  // Owned by `owner`; when that is another user namespace than this one's, it can neither change
  // what is mounted here nor look below it. ENOSPC.
  Result<Ref<MountNamespace>> Clone(const Ref<UserNamespace>& owner) const;
  Path Translate(const Path& original) const;

  // The rest of mount(2): bind, recursive bind, move, remount, propagation; pivot_root. EINVAL,
  // ELOOP, EBUSY, ENOTDIR as there.
  Result<void> Bind(const Path& from, const Path& at, bool recursive);
  Result<void> Move(const Path& from, const Path& at);
  Result<void> Remount(const Path& at, uint32_t flags);
  Result<void> SetPropagation(const Path& at, uint32_t ms_flags);
  // `root` is the caller's root; tasks' roots and cwds are the caller's to change.
  Result<void> PivotRoot(const Path& new_root, const Path& put_old, const Path& root);

 private:
  using Tree = std::vector<Ref<Mount>>;  // a mount and what is below it, parents first
  MountNamespace(Ref<Mount> root, Ref<UserNamespace> owner);

  // All with the lock held.
  Tree TreeOfLocked(Mount& top) const;
  bool HasChildrenLocked(const Mount& m) const;
  // Copies a mount, or its whole tree when recursive; unbindable ones are left out.
  Tree CopyTreeLocked(Mount& top, Dentry& root, bool recursive) const;
  void GraftLocked(const Tree& tree, const Path& at);
  void UngraftLocked(const Tree& tree);
  // Where a mount on `at` has to appear as well: the other peers and the slaves of its mount.
  std::vector<Path> PropagationOfLocked(const Path& at) const;
  void AttachTreeLocked(Tree tree, const Path& at);
  void PublishLocked();
  bool OwnsLocked(const Mount& m) const { return m.space_ == this; }

  const bool counted_;  // against its owner's limit
  std::vector<Ref<Mount>> mounts_;  // under the lock of all mount tables
  RefPtr<Mount> root_;              // likewise
  std::atomic<const MountTable*> table_{nullptr};
  std::atomic<uint64_t> generation_{0};
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_MOUNT_H_
