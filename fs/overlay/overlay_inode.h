// OverlayInode: one object of an overlay: an upper part, lower parts, or both. Internal to
// fs/overlay.
//
// Lock order: a directory's entries (kUpperDirectory, taken by changes in it and by its removal),
// the copy-up of one inode (kOverlayCopyUp, also by the removal of a name without an upper part),
// the fields (kLeaf). Layers are called with the first two held.
#ifndef RINGWALL_FS_OVERLAY_OVERLAY_INODE_H_
#define RINGWALL_FS_OVERLAY_OVERLAY_INODE_H_

#include <atomic>
#include <string>
#include <vector>

#include "fs/overlay/overlay.h"
#include "fs/vfs/dir_listing.h"

namespace ringwall {

// The merged entries of a directory at one moment.
using OverlayListing = DirListing;

class OverlayInode final : public Inode {
 public:
  OverlayInode(OverlayFileSystem& fs, RefPtr<Inode> upper, std::vector<Ref<Inode>> lowers,
               RefPtr<OverlayInode> parent, std::string_view name, const Attr& attr, uint64_t ino);
  ~OverlayInode() override;

  Result<Attr> GetAttr() override;
  Result<Attr> GetPermissionAttr() override { return real().GetPermissionAttr(); }
  Result<void> Set(const SetAttr& set) override;
  Caching caching() const override;
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
  Result<std::string> ReadLink() override { return real().ReadLink(); }
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;
  Result<std::string> GetXattr(std::string_view name) override;
  Result<void> SetXattr(std::string_view name, std::string_view value, int flags) override;
  Result<std::vector<std::string>> ListXattr() override;
  Result<void> RemoveXattr(std::string_view name) override;
  Result<void> SetFileFlags(uint32_t flags) override;
  bool keeps_file_flags() const override { return true; }

  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }

  OverlayFileSystem& overlay() const { return overlay_; }
  uint64_t ino() const { return ino_; }
  // Null until there is one; then it stays the same.
  Inode* upper() const { return upper_.load(std::memory_order_acquire); }
  const std::vector<Ref<Inode>>& lowers() const { return lowers_; }
  // The part that has the attributes and contents.
  Inode& real() const { return upper() != nullptr ? *upper() : *lowers_[0]; }

  Result<Ref<OverlayListing>> Listing();

 private:
  enum class Contents : uint8_t { kCopy, kSkip };

  // Gives it an upper part, its parents first. EROFS, ENOENT (a directory that is gone), and what
  // the layers say.
  Result<void> CopyUp(Contents contents = Contents::kCopy);
  Result<void> CopyUpOne(Contents contents);
  Result<Ref<Inode>> CopyToUpper(Inode& upper_dir, std::string_view name, bool named,
                                 Contents contents);
  Result<void> CopyContents(Inode& to);
  Result<void> CopyMetadata(Inode& to);
  void Publish();

  bool IsWhiteout(Inode& layer_inode) const;
  bool IsOpaque(Inode& layer_dir) const;
  Result<void> MarkOpaque(Inode& layer_dir) const;
  // Whether a lower layer shows the name, or would without a whiteout above it.
  Result<bool> InLower(std::string_view name) const;
  Result<void> PutWhiteout(std::string_view name);
  // Takes away a whiteout that lies in the way; says whether there was one.
  Result<bool> ClearWhiteout(std::string_view name);
  // ENOTEMPTY, or takes the whiteouts out of an empty directory's upper part.
  Result<void> Empty();
  // make(upper directory) does the work for a new name.
  template <typename Make>
  Result<Ref<Inode>> MakeNew(std::string_view name, Make make);
  // After the name of `child` in this directory went: what is left of it below.
  Result<void> RemoveName(std::string_view name, OverlayInode& child);
  void EntriesChanged();
  void Moved(OverlayInode& parent, std::string_view name);
  // Counts a name of a lower layer that is seen no more; the last name ends what is kept for it.
  void LostLowerName();
  void LostName();

  OverlayFileSystem& overlay_;
  const uint64_t ino_;
  std::atomic<Inode*> upper_;  // holds a reference
  const std::vector<Ref<Inode>> lowers_;
  const bool lower_links_;  // the lower file had several names: name_ is just one of them
  std::atomic<uint32_t> lower_names_{0};  // how many names it has that are not in the upper layer
  std::atomic<bool> gone_{false};         // a directory: removed; a file: all its names
  Mutex<LockClass::kUpperDirectory> entries_mu_;
  Mutex<LockClass::kOverlayCopyUp> copy_up_mu_;
  mutable Mutex<LockClass::kLeaf> mu_;
  // Where a copy-up puts it.
  RefPtr<OverlayInode> parent_ GUARDED_BY(mu_);
  std::string name_ GUARDED_BY(mu_);
  RefPtr<OverlayListing> listing_ GUARDED_BY(mu_);
  uint64_t listing_generation_ GUARDED_BY(mu_) = 0;
};

// All entries of a file that was opened for this.
Result<void> ReadPrivate(File& file, DirSink& sink);
Ref<File> MakeOverlayDirFile(const Path& path, uint32_t flags, OverlayInode& inode);
// A file of a lower layer, open for reading: reads the upper part once there is one.
Ref<File> MakeOverlayLowerFile(const Path& path, uint32_t flags, OverlayInode& inode,
                               Ref<File> lower);

}  // namespace ringwall

#endif  // RINGWALL_FS_OVERLAY_OVERLAY_INODE_H_
