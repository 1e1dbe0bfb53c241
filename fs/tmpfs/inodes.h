// The kinds of tmpfs inodes. Internal to fs/tmpfs.
#ifndef RINGWALL_FS_TMPFS_INODES_H_
#define RINGWALL_FS_TMPFS_INODES_H_

#include <algorithm>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "fs/tmpfs/tmpfs.h"
#include "sentry/base/file_memory.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

class TmpfsDirectory final : public TmpfsInode {
 public:
  TmpfsDirectory(TmpfsFileSystem& fs, const NewInode& args, uint64_t parent_ino)
      : TmpfsInode(fs, args), parent_ino_(parent_ino == 0 ? ino() : parent_ino) {
    set_nlink(2);
  }
  ~TmpfsDirectory() override;

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
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;

  // Entries from the position on.
  void List(DirSink& sink, int64_t* position);

 protected:
  void FillSize(Attr* attr) override;

 private:
  struct Entry {
    std::string name;
    Ref<TmpfsInode> inode;
    int64_t cookie;  // its position; grows with each new entry
  };
  // In the order of their cookies; a removed entry leaves a gap until there are many.
  struct Slot {
    int64_t cookie;
    std::unique_ptr<Entry> entry;
  };
  // All with the tree lock held; they change several directories at once, which the analysis
  // cannot follow.
  Entry* FindLocked(std::string_view name);
  Result<void> CheckFreeLocked(std::string_view name);
  void PutLocked(std::string_view name, Ref<TmpfsInode> inode);
  Ref<TmpfsInode> EraseLocked(Entry& entry);
  // One name of it is gone.
  void DropNameLocked(TmpfsInode& inode);
  Result<Ref<Inode>> AddNew(std::string_view name, Ref<TmpfsInode> inode);

  std::vector<Slot> slots_;
  absl::flat_hash_map<std::string_view, Entry*> by_name_;  // keyed by Entry::name
  size_t gaps_ = 0;
  int64_t next_cookie_ = 3;  // 1 and 2 follow "." and ".."
  uint64_t parent_ino_;
};

class TmpfsSymlink final : public TmpfsInode {
 public:
  TmpfsSymlink(TmpfsFileSystem& fs, const NewInode& args, std::string_view target)
      : TmpfsInode(fs, args), target_(target) {}
  Result<std::string> ReadLink() override { return target_; }

 protected:
  void FillSize(Attr* attr) override { attr->size = target_.size(); }

 private:
  const std::string target_;
};

// FIFOs, sockets, device nodes.
class TmpfsSpecial final : public TmpfsInode {
 public:
  TmpfsSpecial(TmpfsFileSystem& fs, const NewInode& args) : TmpfsInode(fs, args) {}

 protected:
  void FillSize(Attr*) override {}
};

class TmpfsRegular final : public TmpfsInode {
 public:
  TmpfsRegular(TmpfsFileSystem& fs, const NewInode& args) : TmpfsInode(fs, args) {}
  ~TmpfsRegular() override;
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;

  Result<size_t> Read(IoDst& dst, uint64_t pos);
  // The host's file, once there is one; for good. -1 before.
  int host_fd() const { return fd_.load(std::memory_order_acquire); }
  // How many of `want` bytes from pos there are, when none of them is in a hole: a look at one through a
  // mapping would fill it. Else 0.
  uint64_t DenseFrom(uint64_t pos, uint64_t want) const;
  Result<size_t> Write(IoSrc& src, uint64_t* pos, bool append);
  Result<int64_t> SeekHole(int64_t offset, int whence);
  Result<HostMapping> Map(bool may_write);
  // File::Fault.
  bool Fault(const HostMapping& byte);
  bool LacksMemory() const {
    return host_fd() >= 0 && host_size_.load(std::memory_order_relaxed) < size_.load(std::memory_order_relaxed);
  }
  Result<void> Fallocate(int mode, uint64_t offset, uint64_t length);
  Result<void> Set(const SetAttr& set) override;
  // F_SEAL_*. Files that have a name elsewhere are sealed against seals.
  void AllowSeals(uint32_t first = 0);
  Result<void> AddSeals(uint32_t seals);
  uint32_t seals() const;

 protected:
  void FillSize(Attr* attr) override;
  Result<void> Resize(uint64_t size) override;

 private:
  // Up to here a file without holes stays on the heap.
  static constexpr uint64_t kHeapMax = 64 << 10;
  // The same where there is a store.
  static constexpr uint64_t kStoredHeapMax = 4096;
  uint64_t heap_max() const { return tmpfs().store() ? kStoredHeapMax : kHeapMax; }

  Result<void> ToMemfdLocked() REQUIRES(data_mu_);
  // What of the buffer is there, from pos on.
  size_t ReadPiece(std::span<std::byte> buffer, uint64_t pos);
  // Checks that a write of `count` bytes may be made, and finds its place. EPERM, EFBIG, ENFILE.
  Result<void> BeginWrite(uint64_t count, uint64_t* pos, bool append) REQUIRES(write_mu_);
  // As much as fits; ENOSPC when nothing does.
  Result<size_t> WriteHeapLocked(std::span<const std::byte> bytes, uint64_t pos) REQUIRES(write_mu_, data_mu_);
  Result<size_t> WriteMemfdLocked(std::span<const std::byte> bytes, uint64_t pos) REQUIRES(write_mu_, data_mu_);
  // Asks the host what is there now. Not `ours`: a change of its mtime is a mapping's.
  void LookLocked(bool ours) REQUIRES(data_mu_);
  void RechargeLocked() REQUIRES(data_mu_) { LookLocked(true); }
  // Up to where the host's file reaches when this one has `size` bytes.
  uint64_t HostSizeLocked(uint64_t size) const REQUIRES(data_mu_) {
    return tmpfs().bounded() ? std::min(granted_ * 4096, size) : size;
  }
  // Lets the host's file reach to this page. ENOSPC, ENOMEM.
  Result<void> GrantLocked(uint64_t end_page) REQUIRES(data_mu_);
  // The end of the longest run of pages from `first` on, at most to `end`, of which no more than *fresh
  // are not there; *fresh becomes what is left of it.
  uint64_t ReachLocked(uint64_t first, uint64_t end, uint64_t* fresh) const REQUIRES(data_mu_);
  // Pages up to which all are there.
  uint64_t PresentLocked() const REQUIRES(data_mu_);
  // The size or charged_ has changed: for those who watch what mappings write.
  void NoteMappedLocked() REQUIRES(data_mu_);

  // Held by one write, truncation or fallocation at a time (i_rwsem), also while it copies from the guest.
  mutable Mutex<LockClass::kInodeData> write_mu_;
  // Never held over a copy from or to the guest: that may need a page of this very file (Fault).
  mutable Mutex<LockClass::kMemoryFile> data_mu_;
  std::string heap_ GUARDED_BY(data_mu_);
  UniqueFd memfd_ GUARDED_BY(data_mu_);  // or one of the store's; stays once it is there
  std::atomic<int> fd_{-1};              // memfd_, for readers without the lock
  std::atomic<uint64_t> size_{0};        // changed with both locks held
  uint64_t charged_ GUARDED_BY(data_mu_) = 0;  // pages
  // The first pages, all of them there: writes inside and right behind need no look at the host's
  // count.
  uint64_t dense_ GUARDED_BY(data_mu_) = 0;
  // A fault of a page behind the host's end of file is told to us, and no other is. So where a limit of
  // the file system holds, the host's file ends at this page until a fault asks for more (Fault).
  uint64_t granted_ GUARDED_BY(data_mu_) = 0;
  // Of memfd_; less than size_ only so. Changed with the lock held.
  std::atomic<uint64_t> host_size_{0};
  bool written_by_mapping_ GUARDED_BY(data_mu_) = false;
  Timespec host_mtime_ GUARDED_BY(data_mu_);  // at the last look; the host sets it as Linux does
  MappedMemory mapped_ GUARDED_BY(data_mu_);  // once a mapping may write, unless there is a store
  uint32_t seals_ GUARDED_BY(data_mu_) = 1;  // F_SEAL_SEAL
};

}  // namespace ringwall

#endif  // RINGWALL_FS_TMPFS_INODES_H_
