// Dentry: a name in a directory, positive (with an inode) or negative (known to be missing); the
// cache of the path walk (struct dentry). All cached dentries are in one table, by parent and name,
// which is read without locks inside an EpochGuard and changed under one lock (kDentry). A dentry
// holds a reference to its parent, the table holds one to each cached dentry. When the cache is over
// its bound, what nobody uses leaves it in least-recently-used order (the file system can always
// make it again).
#ifndef RINGWALL_FS_VFS_DENTRY_H_
#define RINGWALL_FS_VFS_DENTRY_H_

#include <atomic>
#include <string>
#include <string_view>

#include "fs/vfs/inode.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"

namespace ringwall {

struct DentryName;

class Dentry final : public RefCounted<Dentry> {
 public:
  // A root: of a file system, or of an anonymous file (pipe:[1]).
  static Ref<Dentry> MakeRoot(Ref<Inode> inode, std::string_view name = "/");

  // Null for a negative dentry. Set once; a removed name makes a fresh dentry.
  const RefPtr<Inode>& inode() const { return inode_; }
  bool negative() const { return !inode_; }
  bool is_directory() const { return inode_ && inode_->is_directory(); }

  // Name and parent change by rename: take a snapshot.
  std::string name() const;
  RefPtr<Dentry> parent() const;  // null for a root
  bool is_root() const { return parent_.load(std::memory_order_acquire) == nullptr; }
  // Whether it has been unlinked (its path ends in " (deleted)").
  bool unlinked() const { return unlinked_.load(std::memory_order_acquire); }
  // How many mounts sit on it; the walk looks for one only when not 0.
  std::atomic<uint32_t> mounted_here{0};

  // The lock under which names in this directory are looked up and changed.
  Mutex<LockClass::kDirectory>& directory_lock() ABSL_LOCK_RETURNED(directory_mu_) {
    return directory_mu_;
  }

  // The child of that name: from the cache, else by Inode::Lookup. A negative dentry when there is
  // none. Takes the directory lock itself, only when the cache does not know.
  Result<Ref<Dentry>> LookupChild(std::string_view name);

  // For the VFS's changes, with the directory lock held.
  RefPtr<Dentry> CachedChildLocked(std::string_view name) REQUIRES(directory_mu_);
  Result<Ref<Dentry>> LookupChildLocked(std::string_view name) REQUIRES(directory_mu_);
  // Puts a fresh positive dentry in the place of whatever is cached there.
  Ref<Dentry> AddChildLocked(std::string_view name, Ref<Inode> inode) REQUIRES(directory_mu_);
  // Forgets the name. `unlinked`: it was removed for good; a negative dentry takes its place.
  void RemoveChildLocked(std::string_view name, bool unlinked) REQUIRES(directory_mu_);
  // Moves `child` of `from` to `to` under new_name, in the place of what is cached there, which
  // becomes unlinked. Both directory locks are held.
  static void MoveLocked(Dentry& child, Dentry& from, Dentry& to, std::string_view new_name)
      NO_THREAD_SAFETY_ANALYSIS;
  // Swaps the places of two children (RENAME_EXCHANGE). Both parents' directory locks are held.
  static void ExchangeLocked(Dentry& a, Dentry& b) NO_THREAD_SAFETY_ANALYSIS;
  // An unnamed file (O_TMPFILE): "#<ino>", unlinked from the start, not cached.
  Ref<Dentry> MakeUnnamed(Ref<Inode> inode);
  // True for equal dentries too.
  bool IsDescendantOf(const Dentry& ancestor) const;

  // Forgets all cached dentries below this one (unmount, a directory changed behind the VFS).
  void Prune();

  // The lock-free walk's. What they return is borrowed: valid while the caller's EpochGuard is.
  Dentry* FindCached(std::string_view name) const;
  Dentry* ParentBorrowed() const { return parent_.load(std::memory_order_acquire); }
  // Whether Lookup's results in this directory may be believed forever.
  bool children_stay() const { return children_stay_; }
  // Changes with every rename of a directory: an ascent that saw two values starts again.
  static uint64_t RenameSequence();

  // How many dentries stay cached that nobody uses, and how many are cached now.
  static void SetCacheLimit(size_t limit);
  static size_t CachedCount();

  Dentry(RefPtr<Dentry> parent, std::string_view name, RefPtr<Inode> inode);
  ~Dentry() override;

 private:
  friend class DentryTable;
  void LastRelease() const override;
  static Ref<Dentry> InsertFresh(Dentry& parent, std::string_view name, RefPtr<Inode> inode);

  const RefPtr<Inode> inode_;
  std::atomic<bool> unlinked_{false};
  std::atomic<bool> used_{false};  // found since the LRU's hand passed
  const bool children_stay_;
  bool cached_ = false;  // in the table; under its lock, as all below
  std::atomic<const DentryName*> name_;
  std::atomic<Dentry*> parent_;  // holds a reference
  std::atomic<Dentry*> hash_next_{nullptr};
  Dentry* first_child_ = nullptr;
  Dentry* next_sibling_ = nullptr;
  Dentry* prev_sibling_ = nullptr;
  Dentry* lru_next_ = nullptr;
  Dentry* lru_prev_ = nullptr;
  mutable Mutex<LockClass::kDirectory> directory_mu_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_DENTRY_H_
