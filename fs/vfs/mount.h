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
#include "sentry/base/wait_queue.h"

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
  // The mount or its file system.
  bool read_only() const { return (flags() & MS_RDONLY) != 0 || fs_->read_only(); }
  // Open files that may write: as long as there are any it cannot become read-only.
  void AddWriter() { writers_.fetch_add(1, std::memory_order_seq_cst); }
  void RemoveWriter() { writers_.fetch_sub(1, std::memory_order_seq_cst); }
  bool has_writers() const { return writers_.load(std::memory_order_seq_cst) != 0; }
  // Somebody has walked to it: an MNT_EXPIRE starts anew.
  void Used() {
    if (expiring_.load(std::memory_order_relaxed)) expiring_.store(false, std::memory_order_relaxed);
  }
  const std::string& source() const { return source_; }
  int id() const { return id_; }

 private:
  friend class MountNamespace;
  const Ref<FileSystem> fs_;
  const Ref<Dentry> root_;
  std::atomic<uint32_t> flags_;
  std::atomic<int> writers_{0};
  std::atomic<bool> expiring_{false};  // MNT_EXPIRE has been asked once since it was used
  const std::string source_;
  const int id_;
  // Under the lock of all mount tables: where it is mounted (null for a namespace's root and for
  // what is detached), in which namespace (null when detached), propagation.
  Path mount_point_;
  MountNamespace* space_ = nullptr;
  int peer_group_ = 0;    // shared with the mounts of the same number; 0: not shared
  int master_group_ = 0;  // receives what is mounted in that peer group; 0: no slave
  bool unbindable_ = false;
  // Came with others from a namespace of a more privileged user: it cannot be taken off alone, since
  // that would show what it hides (MNT_LOCKED), nor lose these of its flags (MNT_LOCK_*; MS_NOATIME
  // stands for all that are about access times).
  bool locked_ = false;
  uint32_t locked_flags_ = 0;
  int copied_from_ = 0;    // the id of what it is a copy of, for MountNamespace::Translate
};

class MountNamespace final : public Namespace {
 public:
  // The first one.
  explicit MountNamespace(Ref<Mount> root);
  ~MountNamespace() override;

  Path root() const;
  // What a path walk finds there: the topmost mount on it.
  Path TopRoot() const { return TopOf(root()); }
  // The root of the topmost mount on `at`, or `at` itself.
  Path TopOf(Path at) const;
  // The topmost mount on `at`, or null.
  RefPtr<Mount> MountedAt(const Path& at) const;
  // Where `m` is mounted; null Path for the root mount or one that was detached.
  Path MountPointOf(const Mount& m) const;
  // The same, borrowed: valid while the caller's EpochGuard is. MountPointBorrowed returns false
  // when there is none.
  Mount* MountedAtBorrowed(const Mount* mount, const Dentry* dentry) const;
  bool MountPointBorrowed(const Mount* m, Mount** mount, Dentry** dentry) const;

  // Mounts `m` on `at`. EBUSY, ENOTDIR (file on directory or the reverse), ENOENT (`at` is gone),
  // ENOSPC (fs.mount-max), EINVAL (not of this namespace).
  Result<void> Attach(Ref<Mount> m, const Path& at);
  // umount2. EINVAL (not a mount point, or locked), EBUSY (unless MNT_DETACH). MNT_EXPIRE: EAGAIN.
  Result<void> Detach(const Path& at, int flags);
  // Whether it is one of this namespace's; whether it cannot be taken off alone.
  bool Owns(const Mount& m) const;
  bool IsLocked(const Mount& m) const;
  // EPERM when a remount with these flags would lose a locked one.
  Result<void> CheckLockedFlags(const Path& at, uint32_t flags) const;
  // Whether any mount of a file system has open files that may write.
  static bool HasWriters(const FileSystem& fs);
  // Whether a new instance of a file system that shows the kernel's state may be seen here: in the
  // first user namespace always, elsewhere only when one of the type is visible as a whole already
  // (mount_too_revealing). Takes over what cannot be undone of that one's flags.
  bool MayReveal(std::string_view type, uint32_t* flags) const;
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
  WaitQueue& changes() { return changes_; }  // EPOLLPRI, with each

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
  // EPERM: a locked flag would go. EBUSY: open files write.
  Result<void> Remount(const Path& at, uint32_t flags);
  Result<void> SetPropagation(const Path& at, uint32_t ms_flags);
  // `root` is the caller's root; tasks' roots and cwds are the caller's to change.
  Result<void> PivotRoot(const Path& new_root, const Path& put_old, const Path& root);

 private:
  using Tree = std::vector<Ref<Mount>>;  // a mount and what is below it, parents first
  MountNamespace(Ref<Mount> root, Ref<UserNamespace> owner);

  // How copies of a tree are made.
  struct CopyRules {
    bool recursive = true;
    bool unbindable_too = false;   // for whole namespaces
    bool shared_to_slave = false;  // for namespaces of other users
  };
  struct Copies {
    Tree tree;
    std::vector<const Mount*> sources;  // of each of them
  };
  struct Placed;

  // All with the lock held.
  Tree TreeOfLocked(Mount& top) const;
  bool HasChildrenLocked(const Mount& m) const;
  Result<Copies> CopyTreeLocked(Mount& top, Dentry& root, const CopyRules& rules) const;
  Result<Copies> CopyDetachedLocked(const Tree& tree) const;
  static void LockTreeLocked(const Tree& tree);
  void GraftLocked(const Tree& tree, const Path& at);
  void UngraftLocked(const Tree& tree);
  // The mount at this very place, or null.
  Mount* FindMountLocked(const Mount& on, const Dentry& where) const;
  static void MoveMountPointLocked(Mount& m, const Path& to);
  // The copies that a tree mounted on `at` makes appear elsewhere (propagate_mnt).
  Result<std::vector<Placed>> PropagateLocked(const Tree& tree, const Path& at) const;
  // The mounts on which `at` is seen as well: the peers of its mount and the slaves of those. They
  // are borrowed, since who asks whether one of them is in use counts references.
  static std::vector<Mount*> PropagationOfLocked(const Path& at);
  // Adds to a tree that goes what its mounts brought about elsewhere (propagate_umount).
  static void AddPropagatedLocked(Tree* gone);
  // `moved`: the tree is mounted elsewhere in this namespace until there is no failure any more.
  Result<void> AttachTreeLocked(Tree tree, const Path& at, bool moved = false);
  // Whether others of its group stay.
  static bool LeavePeersLocked(Mount& m);
  static Result<void> CheckLockedFlagsLocked(const Mount& m, uint32_t flags);
  Result<void> DetachLocked(const Path& at, int flags, Tree* gone);
  void PublishLocked();
  bool OwnsLocked(const Mount& m) const { return m.space_ == this; }

  const bool counted_;  // against its owner's limit
  std::vector<Ref<Mount>> mounts_;  // under the lock of all mount tables
  RefPtr<Mount> root_;              // likewise
  std::atomic<const MountTable*> table_{nullptr};
  void Changed();
  std::atomic<uint64_t> generation_{0};
  WaitQueue changes_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_MOUNT_H_
