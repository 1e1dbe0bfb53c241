// tmpfs: a file system in the Sentry's memory. Small regular files lie on the heap; a file moves to
// a memfd of its own when it grows, gets a hole or is mapped, so that holes, punching and mappings
// are the host kernel's own. Also the upper layer of the root's overlay, where files beyond a page may
// lie on the host's disk instead (TmpfsStore).
//
// Lock order: one change of a regular file at a time (kInodeData), what is there of it (kMemoryFile), the
// tree of one file system (kInode: directory entries and link counts), an inode's attributes (kLeaf).
#ifndef RINGWALL_FS_TMPFS_TMPFS_H_
#define RINGWALL_FS_TMPFS_TMPFS_H_

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "fs/vfs/file.h"
#include "fs/vfs/inode.h"
#include "sentry/base/file_memory.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

// Where contents lie that would else take memory.
class TmpfsStore : public RefCountedBase {
 public:
  // An empty file of its own for reading, writing and mapping, which goes with the descriptor.
  virtual Result<UniqueFd> NewFile() = 0;
};

struct TmpfsOptions {
  uint64_t size = 0;       // bytes; 0: no limit of its own
  uint64_t nr_inodes = 0;  // 0: no limit
  uint32_t mode = 01777;
  Uid uid = 0;
  Gid gid = 0;
  RefPtr<TmpfsStore> store;  // for all but the smallest files; null: memory
  bool ramfs = false;        // shows itself as ramfs, which knows no sizes and no extended attributes

  // The data argument of mount(2): "size=10%,nr_inodes=1k,mode=755,uid=1000,gid=1000". A size in
  // percent is of `memory`. EINVAL.
  static Result<TmpfsOptions> Parse(std::string_view data, uint64_t memory);
  // The same for mount(2) by `creds`: the ids are those of its user namespace, and the root is the
  // caller's when there are none.
  static Result<TmpfsOptions> Parse(std::string_view data, uint64_t memory,
                                    const Credentials& creds);
  // The same for a ramfs, which takes notice of mode= alone.
  static Result<TmpfsOptions> ParseRamfs(std::string_view data, uint64_t memory,
                                         const Credentials& creds);
};

class TmpfsFileSystem final : public FileSystem {
 public:
  static Ref<TmpfsFileSystem> Create(const TmpfsOptions& options);
  // The memory of the sandbox, which a file system without a limit of its own shows half of.
  static void SetMemory(uint64_t bytes);
  static uint64_t memory();
  std::string_view type_name() const override { return options_.ramfs ? "ramfs" : "tmpfs"; }
  bool has_xattrs() const { return !options_.ramfs; }
  Ref<Inode> root() override;
  Result<StatFs> GetStatFs() override;
  std::string mount_options() const override;
  Result<void> Reconfigure(std::string_view data) override;
  void OnLastUnmount() override;

  // Pages of file contents. False when its own limit or the sandbox's (FileMemory) does not allow it.
  bool Charge(uint64_t pages);
  // As many of them as fit.
  uint64_t ChargeUpTo(uint64_t pages);
  void Uncharge(uint64_t pages);
  // Corrects what was charged to what the host says is there; may go beyond the limit.
  void Recharge(uint64_t was, uint64_t is);
  bool ChargeInode();
  void UnchargeInode() { inodes_.fetch_sub(1, std::memory_order_relaxed); }
  uint64_t NextIno() { return next_ino_.fetch_add(1, std::memory_order_relaxed); }
  const RefPtr<TmpfsStore>& store() const { return options_.store; }
  // With what mappings have written, for which the host is asked.
  uint64_t used_pages() const {
    return used_pages_.load(std::memory_order_relaxed) + FileMemory::LookAt(mapped_);
  }
  // Whether mappings must not write what they like: a size of its own, in memory.
  bool bounded() const { return size_.load(std::memory_order_relaxed) != 0 && !options_.store; }
  // Pages up to its own limit. Preconditions: bounded().
  uint64_t LeftPages() const;
  FileMemory::Group* mapped_group() { return bounded() ? &mapped_ : nullptr; }

  Mutex<LockClass::kInode>& tree_lock() ABSL_LOCK_RETURNED(tree_mu_) { return tree_mu_; }

 private:
  explicit TmpfsFileSystem(const TmpfsOptions& options);
  template <typename T, typename... Args>
  friend Ref<T> MakeRef(Args&&...);

  const TmpfsOptions options_;  // as made
  std::atomic<uint64_t> size_, nr_inodes_;  // a remount changes them
  std::atomic<uint64_t> used_pages_{0};
  FileMemory::Group mapped_;
  std::atomic<uint64_t> inodes_{0};
  std::atomic<uint64_t> next_ino_{1};
  Mutex<LockClass::kInode> tree_mu_;
  RefPtr<Inode> root_ GUARDED_BY(tree_mu_);
};

// What all kinds share: attributes and extended attributes.
class TmpfsInode : public Inode {
 public:
  Result<Attr> GetAttr() override;
  Result<Attr> GetPermissionAttr() override;
  Result<void> Set(const SetAttr& set) override;
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;
  Result<std::string> GetXattr(std::string_view name) override;
  Result<void> SetXattr(std::string_view name, std::string_view value, int flags) override;
  Result<std::vector<std::string>> ListXattr() override;
  Result<void> RemoveXattr(std::string_view name) override;
  Result<void> SetFileFlags(uint32_t flags) override;
  bool keeps_file_flags() const override { return true; }

  uint64_t ino() const { return ino_; }
  TmpfsFileSystem& tmpfs() const { return tmpfs_; }

  // Link counts; with the tree lock held.
  uint32_t nlink() const { return nlink_.load(std::memory_order_relaxed); }
  void set_nlink(uint32_t n) { nlink_.store(n, std::memory_order_relaxed); }

  void TouchCtime();
  void TouchMtime();  // and ctime
  // A read through `file`: atime by the rules of its mount.
  void Accessed(const File& file);

 protected:
  TmpfsInode(TmpfsFileSystem& fs, const NewInode& args);
  ~TmpfsInode() override;
  // What the kinds add to the attributes.
  virtual void FillSize(Attr* attr) = 0;
  virtual Result<void> Resize(uint64_t size);
  void SetMtime(Timespec time);  // and ctime

 private:
  TmpfsFileSystem& tmpfs_;  // held by Inode
  const uint64_t ino_;
  const uint64_t rdev_;
  const Timespec btime_;
  std::atomic<uint32_t> nlink_{1};
  mutable Mutex<LockClass::kLeaf> attr_mu_;
  uint32_t mode_ GUARDED_BY(attr_mu_);
  Uid uid_ GUARDED_BY(attr_mu_);
  Gid gid_ GUARDED_BY(attr_mu_);
  Timespec atime_ GUARDED_BY(attr_mu_), mtime_ GUARDED_BY(attr_mu_), ctime_ GUARDED_BY(attr_mu_);
  std::unique_ptr<std::map<std::string, std::string, std::less<>>> xattrs_ GUARDED_BY(attr_mu_);
  size_t xattr_bytes_ GUARDED_BY(attr_mu_) = 0;
};

// A regular file without a name on a file system of its own kind: the file behind memfd_create(2)
// and shared anonymous memory.
Result<Ref<Inode>> MakeTmpfsRegular(TmpfsFileSystem& fs, const NewInode& args);

}  // namespace ringwall

#endif  // RINGWALL_FS_TMPFS_TMPFS_H_
