// GoferInode: one host file. Internal to fs/gofer.
#ifndef RINGWALL_FS_GOFER_GOFER_INODE_H_
#define RINGWALL_FS_GOFER_GOFER_INODE_H_

#include <list>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "fs/gofer/gofer.h"
#include "fs/vfs/dir_listing.h"
#include "fs/vfs/file.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

// A donated descriptor of a regular file: the inode's cache and the open files share it.
class GoferFd final : public RefCounted<GoferFd> {
 public:
  GoferFd(UniqueFd fd, bool writable, bool readable)
      : writable_(writable), readable_(readable), fd_(std::move(fd)) {}
  int get() const { return fd_.get(); }
  bool writable() const { return writable_; }
  bool readable() const { return readable_; }

 private:
  const bool writable_, readable_;
  const UniqueFd fd_;
};

// All entries of a directory as they were at one moment.
class GoferListing final : public DirListing {
 public:
  absl::flat_hash_map<std::string_view, uint32_t> places;  // of names among the entries
};

class GoferInode final : public Inode {
 public:
  GoferInode(GoferFileSystem& fs, gofer::GoferNode node, RefPtr<GoferInode> parent,
             std::string_view name);
  ~GoferInode() override;

  Result<Attr> GetAttr() override;
  Result<Attr> GetPermissionAttr() override;
  Result<void> Set(const SetAttr& set) override;
  Caching caching() const override {
    return gofer_fs_.shared() ? Caching::kRevalidate : Caching::kForever;
  }
  Result<Ref<Inode>> Lookup(std::string_view name) override;
  Result<Ref<Inode>> Create(std::string_view name, const NewInode& args) override;
  Result<Ref<Inode>> Mkdir(std::string_view name, const NewInode& args) override;
  Result<Ref<Inode>> Mknod(std::string_view name, const NewInode& args) override;
  Result<Ref<Inode>> Symlink(std::string_view name, std::string_view target,
                             const NewInode& args) override;
  Result<void> Link(std::string_view name, Inode& target) override;
  Result<void> Unlink(std::string_view name, Inode& child) override;
  Result<void> Rmdir(std::string_view name, Inode& child) override;
  Result<void> Rename(std::string_view name, Inode& child, Inode& new_dir,
                      std::string_view new_name, Inode* replaced, uint32_t flags) override;
  Result<Ref<Inode>> TmpFile(const NewInode& args) override;
  Result<std::string> ReadLink() override;
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;
  Result<std::string> GetXattr(std::string_view name) override;
  Result<void> SetXattr(std::string_view name, std::string_view value, int flags) override;
  Result<std::vector<std::string>> ListXattr() override;
  Result<void> RemoveXattr(std::string_view name) override;

  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }

  GoferFileSystem& gofer_fs() const { return gofer_fs_; }
  uint64_t host_dev() const { return host_dev_; }
  uint64_t host_ino() const { return host_ino_; }
  uint64_t ino() const { return host_ino_; }
  // The attributes came along with some answer. Of the same host file.
  void Refresh(const gofer::Attr& attr);
  // Something changed that only the host can tell.
  void MarkStale();

  // The handle, asked for when there is none yet.
  Result<const gofer::GoferHandle*> Handle();
  // A descriptor for opening with O_RDONLY, O_WRONLY or O_RDWR; kept for the next.
  Result<Ref<GoferFd>> Descriptor(uint32_t access);
  // One for reading that a lookup brought along: kept for the next open, if none is.
  void OfferDescriptor(UniqueFd fd);
  // Tells of an entry of this directory, and has the gofer tell of those that will be asked for next.
  // Nothing when asking for the one entry is the better way: in shared mode, for links and directories, when
  // there is no listing to go by, on any error.
  std::optional<gofer::PeekedNode> PeekEntry(std::string_view name, LookAhead::Kind kind);
  // Closes the kept descriptors that no open file uses. Whether there are others.
  bool DropIdleDescriptors();
  Result<Ref<GoferListing>> Listing();

  // Whether it was written to by a call since this was last asked.
  bool TakeWritten() {
    return written_.load(std::memory_order_relaxed) && written_.exchange(false, std::memory_order_relaxed);
  }
  void NoteWritten() {
    if (!written_.load(std::memory_order_relaxed)) written_.store(true, std::memory_order_relaxed);
  }

  // Appends are one at a time.
  Mutex<LockClass::kInodeData>& append_lock() ABSL_LOCK_RETURNED(append_mu_) { return append_mu_; }

 private:
  // After this many names that were not there, the whole directory is listed, unless it is large:
  // then the rest costs no round trip (search paths, temporary files).
  static constexpr uint32_t kMissesToList = 8;
  static constexpr uint64_t kLargeDirectory = 256 << 10;
  // After this many names that were there and looked at a small directory is listed, to ask for several.
  static constexpr uint32_t kFoundToList = 3;
  static constexpr uint64_t kSmallDirectory = 32 << 10;
  static constexpr uint32_t kFirstStatWindow = 32;
  static constexpr uint32_t kNoPlace = UINT32_MAX;
  // Where fewer descriptors may be kept, none are opened ahead.
  static constexpr size_t kManyDescriptors = 128;

  // Whether the listing at hand says that there is no such name; may get one.
  bool KnownMissing(std::string_view name);

  // A descriptor for reading by the name it was found by, without a handle. Null when that is not possible.
  RefPtr<GoferFd> DescriptorByName();
  // Whether `place` follows that of the last file opened in this directory.
  bool OpenedInTurn(uint32_t place);
  // Before the name it was found by goes.
  void KeepHandle();

  void StoreLocked(const gofer::Attr& attr) REQUIRES(mu_);
  // Takes size, blocks and times from an open descriptor.
  void RefreshFromFdLocked(int fd) REQUIRES(mu_);
  // Binds a socket of the host's to the new name (host_nodes.cc).
  Result<gofer::GoferNode> BindOnHost(std::string_view name, const NewInode& args);
  Result<Ref<Inode>> Made(Result<gofer::GoferNode> node, std::string_view name);
  // A name in this directory came or went.
  void EntriesChanged();
  void LostName();

  GoferFileSystem& gofer_fs_;
  const uint64_t host_dev_, host_ino_;
  std::atomic<bool> has_handle_;
  std::atomic<bool> told_ahead_{false};  // its attributes were, and no handle has been needed since
  mutable Mutex<LockClass::kInode> mu_;
  gofer::GoferHandle handle_;  // set once, under the lock; has_handle_ publishes it
  Attr attr_ GUARDED_BY(mu_);
  bool stale_ GUARDED_BY(mu_) = false;
  std::string target_ GUARDED_BY(mu_);
  RefPtr<GoferFd> read_fd_ GUARDED_BY(mu_), write_fd_ GUARDED_BY(mu_);
  RefPtr<GoferListing> listing_ GUARDED_BY(mu_);
  std::atomic<bool> written_{false};
  std::atomic<uint32_t> misses_{0}, found_{0};
  std::atomic<uint32_t> stat_window_{kFirstStatWindow};  // how many attributes to ask for at once
  std::atomic<uint32_t> last_opened_{kNoPlace};  // its place in the listing
  // Where it was found, while it has no handle.
  RefPtr<GoferInode> found_in_ GUARDED_BY(mu_);
  std::string found_as_ GUARDED_BY(mu_);
  Mutex<LockClass::kInodeData> append_mu_;

  friend class GoferFileSystem;
  // The file system's, under its lock.
  std::list<GoferInode*>::iterator idle_place_;
  bool in_idle_list_ = false;
};

// The path may be an overlay's, whose inode is another than the file's own.
Ref<File> MakeGoferFile(const Path& path, uint32_t flags, GoferInode& inode, Ref<GoferFd> fd);
// host_nodes.cc
Result<Ref<File>> OpenHostFifo(GoferInode& inode, const Path& path, uint32_t flags);
Ref<File> MakeGoferDirFile(const Path& path, uint32_t flags, GoferInode& inode);

}  // namespace ringwall

#endif  // RINGWALL_FS_GOFER_GOFER_INODE_H_
