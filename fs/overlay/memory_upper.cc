#include "fs/overlay/memory_upper.h"

namespace ringwall {

Result<Ref<FileSystem>> OverlayOnMemory(Ref<FileSystem> lower, TmpfsOptions upper) {
  Ref<Inode> lower_root = lower->root();
  const Attr attr = TRY(lower_root->GetAttr());
  upper.mode = attr.mode & 07777;
  upper.uid = attr.uid;
  upper.gid = attr.gid;
  Ref<TmpfsFileSystem> tmpfs = TmpfsFileSystem::Create(upper);
  Ref<Inode> upper_root = tmpfs->root();
  SetAttr times;
  times.atime = SetAttr::Time{false, attr.atime};
  times.mtime = SetAttr::Time{false, attr.mtime};
  TRY(upper_root->Set(times));
  OverlayOptions options;
  options.owned.push_back(std::move(lower));
  options.owned.push_back(tmpfs);
  std::vector<Ref<Inode>> lowers;
  lowers.push_back(std::move(lower_root));
  Ref<OverlayFileSystem> overlay = TRY(OverlayFileSystem::Create(
      RefPtr<Inode>(std::move(upper_root)), std::move(lowers), std::move(options)));
  return Ref<FileSystem>(std::move(overlay));
}

}  // namespace ringwall
