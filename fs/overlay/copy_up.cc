// Copying what is about to change to the upper layer. Compare Linux fs/overlayfs/copy_up.c.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "fs/overlay/overlay_inode.h"

namespace ringwall {

namespace {

constexpr size_t kCopyBuffer = 256 << 10;

// Of a file that nobody else knows.
Result<int64_t> SeekPrivate(File& file, int64_t offset, int whence) NO_THREAD_SAFETY_ANALYSIS {
  return file.Seek(offset, whence);
}

}  // namespace

Result<void> OverlayInode::CopyUp(Contents contents) {
  if (upper() != nullptr) return {};
  // The nearest ancestor that has an upper part, then down again.
  std::vector<Ref<OverlayInode>> chain = {Ref<OverlayInode>(*this)};
  for (;;) {
    RefPtr<OverlayInode> parent;
    {
      MutexLock lock(chain.back()->mu_);
      parent = chain.back()->parent_;
    }
    if (!parent) {
      // The root of an overlay without an upper layer.
      if (chain.back()->upper() == nullptr) return Errno(EROFS);
      break;
    }
    if (parent->upper() != nullptr) break;
    chain.push_back(Ref<OverlayInode>(std::move(parent)));
  }
  while (!chain.empty()) {
    const bool self = chain.back().get() == this;
    TRY(chain.back()->CopyUpOne(self ? contents : Contents::kCopy));
    chain.pop_back();
  }
  return {};
}

// The parent has an upper part.
Result<void> OverlayInode::CopyUpOne(Contents contents) {
  MutexLock lock(copy_up_mu_);
  if (upper() != nullptr) return {};
  RefPtr<OverlayInode> parent;
  std::string name;
  {
    MutexLock fields(mu_);
    parent = parent_;
    name = name_;
  }
  const bool gone = gone_.load(std::memory_order_relaxed);
  if (gone && !is_regular()) return Errno(ENOENT);
  // A regular file with several names in the lower layer keeps them there: all of them lead to this
  // inode, and this inode to a nameless upper file.
  const bool named = !gone && (!is_regular() || !lower_links_);
  Inode& upper_dir = *parent->upper();
  Ref<Inode> copy = TRY(CopyToUpper(upper_dir, name, named, contents));
  const Attr attr = TRY(copy->GetAttr());
  overlay_.AddUpper(*this, *copy, attr.ino);
  if (named && !is_directory()) lower_names_.store(0, std::memory_order_relaxed);
  if (!named && !gone) overlay_.Pin(*this);
  upper_.store(copy.Leak(), std::memory_order_release);
  parent->EntriesChanged();
  return {};
}

Result<Ref<Inode>> OverlayInode::CopyToUpper(Inode& upper_dir, std::string_view name, bool named,
                                             Contents contents) {
  const Attr attr = TRY(lowers_[0]->GetAttr());
  const NewInode args{attr.mode, attr.uid, attr.gid, attr.rdev};
  switch (type()) {
    case S_IFDIR: {
      Ref<Inode> copy = TRY(upper_dir.Mkdir(name, args));
      TRY(CopyMetadata(*copy));
      return copy;
    }
    case S_IFLNK: {
      const std::string target = TRY(lowers_[0]->ReadLink());
      Ref<Inode> copy = TRY(upper_dir.Symlink(name, target, args));
      TRY(CopyMetadata(*copy));
      return copy;
    }
    case S_IFREG: {
      // Unnamed until it is whole.
      Result<Ref<Inode>> unnamed = upper_dir.TmpFile(args);
      const bool by_name = !unnamed.ok() && unnamed.error().Is(EOPNOTSUPP) && named;
      if (by_name) unnamed = upper_dir.Create(name, args);
      Ref<Inode> copy = TRY(std::move(unnamed));
      Result<void> done = contents == Contents::kCopy ? CopyContents(*copy) : Result<void>();
      if (done.ok()) done = CopyMetadata(*copy);
      if (!done.ok()) {
        if (by_name) (void)upper_dir.Unlink(name, *copy).ok();
        return done.error();
      }
      if (named && !by_name) TRY(upper_dir.Link(name, *copy));
      return copy;
    }
    default: {
      Ref<Inode> copy = TRY(upper_dir.Mknod(name, args));
      TRY(CopyMetadata(*copy));
      return copy;
    }
  }
}

Result<void> OverlayInode::CopyContents(Inode& to_inode) {
  const Ref<const Credentials> root = Credentials::Root();
  Ref<File> from = TRY(lowers_[0]->Open(Path(), O_RDONLY | O_NOATIME, *root));
  Ref<File> to = TRY(to_inode.Open(Path(), O_WRONLY | O_NOATIME, *root));
  const Attr attr = TRY(lowers_[0]->GetAttr());
  const auto size = static_cast<int64_t>(attr.size);
  const auto buffer = std::make_unique<std::byte[]>(
      std::min<size_t>(kCopyBuffer, std::max<size_t>(attr.size, 1)));
  int64_t pos = 0;
  while (pos < size) {
    // Holes stay holes.
    int64_t end = size;
    if (attr.size > kCopyBuffer) {
      const Result<int64_t> data = SeekPrivate(*from, pos, SEEK_DATA);
      if (!data.ok() && data.error().Is(ENXIO)) break;
      if (data.ok()) {
        pos = *data;
        const Result<int64_t> hole = SeekPrivate(*from, pos, SEEK_HOLE);
        if (hole.ok()) end = std::min(end, *hole);
      }
    }
    while (pos < end) {
      const size_t want = std::min<size_t>(kCopyBuffer, static_cast<size_t>(end - pos));
      SpanDst dst(std::span(buffer.get(), want));
      const size_t n = TRY(from->Read(dst, static_cast<uint64_t>(pos), 0));
      if (n == 0) return {};  // it became shorter
      SpanSrc src(std::span<const std::byte>(buffer.get(), n));
      uint64_t at = static_cast<uint64_t>(pos);
      const size_t written = TRY(to->Write(src, &at, 0));
      if (written < n) return Errno(ENOSPC);
      pos += static_cast<int64_t>(n);
    }
  }
  SetAttr set;
  set.size = attr.size;
  return to_inode.Set(set);
}

Result<void> OverlayInode::CopyMetadata(Inode& to) {
  Inode& from = *lowers_[0];
  if (!is_symlink()) {
    const std::vector<std::string> names = TRY(from.ListXattr());
    for (const std::string& name : names) {
      if (name.starts_with(overlay_.options().xattr_prefix)) continue;
      const Result<std::string> value = from.GetXattr(name);
      // What one layer cannot tell or the other cannot keep is left behind, as on Linux.
      if (value.ok()) (void)to.SetXattr(name, *value, 0).ok();
    }
  }
  const Attr attr = TRY(from.GetAttr());
  SetAttr set;
  if (!is_symlink()) set.mode = attr.mode & 07777;
  set.atime = SetAttr::Time{false, attr.atime};
  set.mtime = SetAttr::Time{false, attr.mtime};
  return to.Set(set);
}

}  // namespace ringwall
