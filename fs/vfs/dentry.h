// Dentry: a name in a directory, positive (with an inode) or negative (known to be missing); the
// cache of the path walk (struct dentry). Children are kept in their parent's table; a dentry holds
// a reference to its parent, the table holds one to each child, and unused children leave it in LRU
// order when the cache is over its bound (the file system can always make them again).
#ifndef RINGWALL_FS_VFS_DENTRY_H_
#define RINGWALL_FS_VFS_DENTRY_H_

#include <atomic>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "fs/vfs/inode.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"

namespace ringwall {

class Dentry : public RefCounted<Dentry> {
 public:
  // A root: of a file system, or of an anonymous file (pipe:[1]).
  static Ref<Dentry> MakeRoot(Ref<Inode> inode, std::string name = "/");

  // Null for a negative dentry. Set once; a removed name makes a fresh dentry.
  const RefPtr<Inode>& inode() const { return inode_; }
  bool negative() const { return !inode_; }

  // Name and parent change by rename: take a snapshot.
  std::string name() const;
  RefPtr<Dentry> parent() const;  // null for a root
  // Whether it has been unlinked (its path ends in " (deleted)").
  bool unlinked() const { return unlinked_.load(std::memory_order_acquire); }
  // How many mounts sit on it; the walk looks for one only when not 0.
  std::atomic<uint32_t> mounted_here{0};

  // The lock under which names in this directory are looked up (shared) and changed (exclusive).
  Mutex<LockClass::kDirectory>& directory_lock() { return directory_mu_; }

  // The child of that name: from the cache, else by Inode::Lookup. A negative dentry when there is
  // none. Takes the directory lock itself.
  Result<Ref<Dentry>> LookupChild(std::string_view name);

  // For the VFS's changes, with the directory lock held exclusively.
  RefPtr<Dentry> CachedChildLocked(std::string_view name) REQUIRES(directory_mu_);
  Result<Ref<Dentry>> LookupChildLocked(std::string_view name) REQUIRES(directory_mu_);
  Ref<Dentry> AddChildLocked(std::string_view name, Ref<Inode> inode) REQUIRES(directory_mu_);
  void RemoveChildLocked(std::string_view name, bool unlinked) REQUIRES(directory_mu_);
  // Moves `child` of `from` to this directory under new_name (rename; both locks held).
  static void MoveLocked(Dentry& child, Dentry& from, Dentry& to, std::string_view new_name)
      NO_THREAD_SAFETY_ANALYSIS;
  bool IsDescendantOf(const Dentry& ancestor) const;

  Dentry(RefPtr<Dentry> parent, std::string name, RefPtr<Inode> inode);
  ~Dentry() override;

 private:
  const RefPtr<Inode> inode_;
  std::atomic<bool> unlinked_{false};
  mutable Mutex<LockClass::kDirectory> directory_mu_;
  mutable Mutex<LockClass::kDentry> mu_;
  std::string name_ GUARDED_BY(mu_);
  RefPtr<Dentry> parent_ GUARDED_BY(mu_);
  // Keyed by the child's own name string.
  absl::flat_hash_map<std::string, Ref<Dentry>> children_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_DENTRY_H_
