// overlay: a writable layer over read-only ones (overlayfs), at the level of inodes. The root's
// default: a tmpfs over the gofer's files. A change copies what it touches up; a removed name leaves
// a whiteout (a 0:0 character device), a directory that hides the ones below it is marked opaque, as
// on Linux, so the upper layer can be read by Linux.
//
// Better than Linux's defaults: inode numbers never change, hard links of a lower file stay links
// when it is copied up, directories of the lower layers can be renamed, and a file opened for
// reading sees what is written after a copy-up. What that needs beyond the upper layer's files lives
// in memory, until the unmount.
#ifndef RINGWALL_FS_OVERLAY_OVERLAY_H_
#define RINGWALL_FS_OVERLAY_OVERLAY_H_

#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "fs/vfs/file.h"
#include "fs/vfs/inode.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"

namespace ringwall {

class OverlayInode;

struct OverlayOptions {
  // Of the marks in the upper layer: "trusted.overlay." or, on a layer that keeps no such names,
  // "user.overlay.".
  std::string xattr_prefix = "trusted.overlay.";
  // Renaming a directory that has lower parts works until the unmount; otherwise EXDEV.
  bool rename_lower_directories = true;
  // File systems that only this overlay uses: they end with it.
  std::vector<Ref<FileSystem>> owned;
  // Places that have to stay while the overlay is mounted (of layers that are mounted elsewhere).
  std::vector<Path> held;
  std::string mount_options;  // for /proc/mounts
};

class OverlayFileSystem final : public FileSystem {
 public:
  // `lowers`: the topmost first, all directories. Without an upper directory it is read-only.
  // EINVAL, ENOTDIR.
  static Result<Ref<OverlayFileSystem>> Create(RefPtr<Inode> upper, std::vector<Ref<Inode>> lowers,
                                               OverlayOptions options);

  std::string_view type_name() const override { return "overlay"; }
  // Unix sockets of the host in a lower layer of host files. At start-up, once.
  static void OfferHostSockets();
  Ref<Inode> root() override;
  Result<StatFs> GetStatFs() override;
  Result<void> Sync() override;
  std::string mount_options() const override { return options_.mount_options; }
  void OnLastUnmount() override;

  const OverlayOptions& options() const { return options_; }

  // The inode of an object: the one there is, or a new one. `upper` may be null, `lowers` empty,
  // not both.
  Result<Ref<OverlayInode>> GetInode(RefPtr<Inode> upper, std::vector<Ref<Inode>> lowers,
                                     RefPtr<OverlayInode> parent, std::string_view name);
  RefPtr<OverlayInode> FindUpper(const Inode& upper) const;
  RefPtr<OverlayInode> FindLower(const Inode& lower) const;
  // A copy-up gave the inode an upper part.
  void AddUpper(OverlayInode& inode, Inode& upper, uint64_t upper_ino);
  void Forget(OverlayInode& inode);
  // Keeps the inode, whose connection to its lower parts no layer tells, until the end.
  void Pin(OverlayInode& inode);
  void Unpin(OverlayInode& inode);

  // The inode number that the guest sees for an object of the upper layer.
  uint64_t GuestIno(uint64_t upper_ino) const;
  // It lost its last name for good.
  void DropOrigin(uint64_t upper_ino);

 private:
  explicit OverlayFileSystem(OverlayOptions options) : options_(std::move(options)) {}
  template <typename T, typename... Args>
  friend Ref<T> MakeRef(Args&&...);

  OverlayOptions options_;
  mutable Mutex<LockClass::kLeaf> mu_;
  RefPtr<Inode> root_ GUARDED_BY(mu_);
  // Without references: an inode leaves when it ends.
  absl::flat_hash_map<const Inode*, OverlayInode*> by_upper_ GUARDED_BY(mu_);
  absl::flat_hash_map<const Inode*, OverlayInode*> by_lower_ GUARDED_BY(mu_);
  absl::flat_hash_map<const OverlayInode*, Ref<Inode>> pinned_ GUARDED_BY(mu_);
  // Upper inode number to the lower one's, of what was copied up.
  absl::flat_hash_map<uint64_t, uint64_t> origins_ GUARDED_BY(mu_);
};

}  // namespace ringwall

#endif  // RINGWALL_FS_OVERLAY_OVERLAY_H_
