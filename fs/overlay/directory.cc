// Names in a merged directory. Compare Linux fs/overlayfs/dir.c, namei.c.
#include <linux/fs.h>

#include "fs/overlay/overlay_inode.h"

namespace ringwall {

bool OverlayInode::IsWhiteout(Inode& layer_inode) const {
  if (layer_inode.type() != S_IFCHR) return false;
  const Result<Attr> attr = layer_inode.GetAttr();
  return attr.ok() && attr->rdev == 0;
}

bool OverlayInode::IsOpaque(Inode& layer_dir) const {
  const Result<std::string> mark =
      layer_dir.GetXattr(overlay_.options().xattr_prefix + "opaque");
  return mark.ok() && *mark == "y";
}

Result<void> OverlayInode::MarkOpaque(Inode& layer_dir) const {
  return layer_dir.SetXattr(overlay_.options().xattr_prefix + "opaque", "y", 0);
}

Result<Ref<Inode>> OverlayInode::Lookup(std::string_view name) {
  if (!is_directory()) return Errno(ENOTDIR);
  RefPtr<Inode> in_upper;
  if (Inode* upper_part = upper()) {
    Result<Ref<Inode>> found = upper_part->Lookup(name);
    if (found.ok()) {
      if (IsWhiteout(**found)) return Errno(ENOENT);
      in_upper = std::move(*found);
      if (RefPtr<OverlayInode> known = overlay_.FindUpper(*in_upper)) {
        return Ref<Inode>(*known);
      }
    } else if (!found.error().Is(ENOENT)) {
      return found.error();
    }
  }
  std::vector<Ref<Inode>> found;
  const bool hides = in_upper && (!in_upper->is_directory() || IsOpaque(*in_upper));
  for (size_t i = 0; i < lowers_.size() && !hides; i++) {
    Result<Ref<Inode>> lower = lowers_[i]->Lookup(name);
    if (!lower.ok()) {
      if (lower.error().Is(ENOENT) || lower.error().Is(ENOTDIR)) continue;
      return lower.error();
    }
    if (IsWhiteout(**lower)) break;
    if (!(*lower)->is_directory()) {
      if (!in_upper && found.empty()) found.push_back(std::move(*lower));
      break;
    }
    // The last layer has nothing below that it could hide.
    const bool opaque = i + 1 < lowers_.size() && IsOpaque(**lower);
    found.push_back(std::move(*lower));
    if (opaque) break;
  }
  if (!in_upper && found.empty()) return Errno(ENOENT);
  Ref<OverlayInode> inode = TRY(overlay_.GetInode(std::move(in_upper), std::move(found),
                                                  RefPtr<OverlayInode>(this), name));
  return Ref<Inode>(std::move(inode));
}

Result<bool> OverlayInode::InLower(std::string_view name) const {
  for (const Ref<Inode>& lower : lowers_) {
    const Result<Ref<Inode>> found = lower->Lookup(name);
    if (found.ok()) return !IsWhiteout(**found);
    if (!found.error().Is(ENOENT) && !found.error().Is(ENOTDIR)) return found.error();
  }
  return false;
}

Result<void> OverlayInode::PutWhiteout(std::string_view name) {
  TRY(upper()->Mknod(name, NewInode{S_IFCHR, 0, 0, 0}));
  return {};
}

Result<bool> OverlayInode::ClearWhiteout(std::string_view name) {
  const Result<Ref<Inode>> there = upper()->Lookup(name);
  if (!there.ok()) {
    if (there.error().Is(ENOENT)) return false;
    return there.error();
  }
  if (!IsWhiteout(**there)) return Errno(EEXIST);
  TRY(upper()->Unlink(name, **there));
  return true;
}

template <typename Make>
Result<Ref<Inode>> OverlayInode::MakeNew(std::string_view name, Make make) {
  TRY(CopyUp());
  MutexLock lock(entries_mu_);
  if (gone_.load(std::memory_order_relaxed)) return Errno(ENOENT);
  const bool covered = TRY(ClearWhiteout(name));
  Result<Ref<Inode>> made = make(*upper());
  if (made.ok() && covered && (*made)->is_directory()) {
    const Result<void> marked = MarkOpaque(**made);
    if (!marked.ok()) {
      (void)upper()->Rmdir(name, **made).ok();
      made = marked.error();
    }
  }
  if (!made.ok()) {
    if (covered) (void)PutWhiteout(name).ok();
    return made.error();
  }
  EntriesChanged();
  Ref<OverlayInode> inode = TRY(
      overlay_.GetInode(RefPtr<Inode>(std::move(*made)), {}, RefPtr<OverlayInode>(this), name));
  return Ref<Inode>(std::move(inode));
}

Result<Ref<Inode>> OverlayInode::Create(std::string_view name, const NewInode& args) {
  return MakeNew(name, [&](Inode& dir) { return dir.Create(name, args); });
}

Result<Ref<Inode>> OverlayInode::Mkdir(std::string_view name, const NewInode& args) {
  return MakeNew(name, [&](Inode& dir) { return dir.Mkdir(name, args); });
}

Result<Ref<Inode>> OverlayInode::Mknod(std::string_view name, const NewInode& args) {
  // It would be a whiteout.
  if (S_ISCHR(args.mode) && args.rdev == 0) return Errno(EPERM);
  return MakeNew(name, [&](Inode& dir) { return dir.Mknod(name, args); });
}

Result<Ref<Inode>> OverlayInode::Symlink(std::string_view name, std::string_view target,
                                         const NewInode& args) {
  return MakeNew(name, [&](Inode& dir) { return dir.Symlink(name, target, args); });
}

Result<Ref<Inode>> OverlayInode::TmpFile(const NewInode& args) {
  TRY(CopyUp());
  Ref<Inode> made = TRY(upper()->TmpFile(args));
  Ref<OverlayInode> inode = TRY(overlay_.GetInode(RefPtr<Inode>(std::move(made)), {},
                                                  RefPtr<OverlayInode>(this), std::string_view()));
  return Ref<Inode>(std::move(inode));
}

Result<void> OverlayInode::Link(std::string_view name, Inode& target) {
  auto& inode = static_cast<OverlayInode&>(target);
  TRY(inode.CopyUp());
  TRY(CopyUp());
  MutexLock lock(entries_mu_);
  if (gone_.load(std::memory_order_relaxed)) return Errno(ENOENT);
  const bool covered = TRY(ClearWhiteout(name));
  const Result<void> linked = upper()->Link(name, *inode.upper());
  if (!linked.ok()) {
    if (covered) (void)PutWhiteout(name).ok();
    return linked.error();
  }
  EntriesChanged();
  return {};
}

void OverlayInode::LostLowerName() {
  if (lower_names_.load(std::memory_order_relaxed) != 0) lower_names_.fetch_sub(1);
  // The lower layer still counts the name that went.
  if (lower_names_.load(std::memory_order_relaxed) != 0) overlay_.Pin(*this);
  LostName();
}

void OverlayInode::LostName() {
  if (is_directory()) {
    gone_.store(true, std::memory_order_relaxed);
  } else {
    if (lower_names_.load(std::memory_order_relaxed) != 0) return;
    if (Inode* upper_part = upper()) {
      const Result<Attr> attr = upper_part->GetAttr();
      if (attr.ok() && attr->nlink != 0) return;
      if (attr.ok()) overlay_.DropOrigin(attr->ino);
    }
    gone_.store(true, std::memory_order_relaxed);
  }
  overlay_.Unpin(*this);
}

Result<void> OverlayInode::RemoveName(std::string_view name, OverlayInode& child) {
  // No copy-up of the child may bring the name back meanwhile.
  MutexLock lock(child.copy_up_mu_);
  const bool in_lower = TRY(InLower(name));
  const Result<Ref<Inode>> in_upper = upper()->Lookup(name);
  if (in_upper.ok()) {
    if (child.is_directory()) {
      TRY(upper()->Rmdir(name, **in_upper));
    } else {
      TRY(upper()->Unlink(name, **in_upper));
    }
  }
  if (in_lower) TRY(PutWhiteout(name));
  if (in_upper.ok()) {
    child.LostName();
  } else {
    child.LostLowerName();
  }
  EntriesChanged();
  return {};
}

Result<void> OverlayInode::Unlink(std::string_view name, Inode& child) {
  TRY(CopyUp());
  return RemoveName(name, static_cast<OverlayInode&>(child));
}

Result<void> OverlayInode::Empty() {
  Ref<OverlayListing> listing = TRY(Listing());
  if (!listing->entries.empty()) return Errno(ENOTEMPTY);
  Inode* const upper_part = upper();
  if (upper_part == nullptr) return {};
  // Whatever is left is whiteouts.
  const Ref<const Credentials> root = Credentials::Root();
  class Names final : public DirSink {
   public:
    bool Add(std::string_view name, uint64_t, uint8_t, int64_t) override {
      if (name != "." && name != "..") names.emplace_back(name);
      return true;
    }
    std::vector<std::string> names;
  } left;
  Ref<File> dir = TRY(upper_part->Open(Path(), O_RDONLY | O_DIRECTORY | O_NOATIME, *root));
  TRY(ReadPrivate(*dir, left));
  for (const std::string& name : left.names) {
    Ref<Inode> whiteout = TRY(upper_part->Lookup(name));
    TRY(upper_part->Unlink(name, *whiteout));
  }
  return {};
}

Result<void> OverlayInode::Rmdir(std::string_view name, Inode& child) {
  auto& dir = static_cast<OverlayInode&>(child);
  TRY(CopyUp());
  MutexLock lock(dir.entries_mu_);
  TRY(dir.Empty());
  return RemoveName(name, dir);
}

void OverlayInode::Moved(OverlayInode& parent, std::string_view name) {
  MutexLock lock(mu_);
  parent_ = RefPtr<OverlayInode>(&parent);
  name_ = name;
}

Result<void> OverlayInode::Rename(std::string_view name, Inode& child_inode, Inode& new_dir,
                                  std::string_view new_name, Inode* replaced_inode,
                                  uint32_t flags) {
  if (flags & ~static_cast<uint32_t>(RENAME_EXCHANGE)) return Errno(EINVAL);
  auto& child = static_cast<OverlayInode&>(child_inode);
  auto& to = static_cast<OverlayInode&>(new_dir);
  auto* const replaced = static_cast<OverlayInode*>(replaced_inode);
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  for (OverlayInode* moving : {&child, exchange ? replaced : nullptr}) {
    if (moving == nullptr || !moving->is_directory() || moving->lowers_.empty()) continue;
    if (!overlay_.options().rename_lower_directories) return Errno(EXDEV);
  }
  TRY(CopyUp());
  TRY(to.CopyUp());
  TRY(child.CopyUp());
  if (exchange) TRY(replaced->CopyUp());
  // No name may appear in the target directory while it could be on its way out, none in a
  // directory that is replaced.
  LockBoth lock(to.entries_mu_, replaced != nullptr && replaced->is_directory() && !exchange
                                    ? replaced->entries_mu_
                                    : to.entries_mu_);
  if (to.gone_.load(std::memory_order_relaxed)) return Errno(ENOENT);
  const bool old_in_lower = TRY(InLower(name));
  const bool new_in_lower = TRY(to.InLower(new_name));
  // A file that has names in the lower layer only gets one of its own for each place.
  const auto give_name = [](OverlayInode& dir, std::string_view at,
                            OverlayInode& file) -> Result<void> {
    const Result<Ref<Inode>> there = dir.upper()->Lookup(at);
    if (there.ok()) return {};
    TRY(dir.upper()->Link(at, *file.upper()));
    if (file.lower_names_.load() != 0) file.lower_names_.fetch_sub(1);
    return {};
  };
  if (!child.is_directory()) TRY(give_name(*this, name, child));
  // Until the unmount the inode itself is what knows its lower parts; a directory without any must
  // not get some from its new place.
  const auto settle = [&](OverlayInode& moved, bool over_lower) -> Result<void> {
    if (!moved.is_directory()) return {};
    if (!moved.lowers_.empty()) {
      overlay_.Pin(moved);
    } else if (over_lower) {
      TRY(MarkOpaque(*moved.upper()));
    }
    return {};
  };
  if (exchange) {
    if (!replaced->is_directory()) TRY(give_name(to, new_name, *replaced));
    TRY(settle(child, new_in_lower));
    TRY(settle(*replaced, old_in_lower));
    TRY(upper()->Rename(name, *child.upper(), *to.upper(), new_name, replaced->upper(), flags));
    child.Moved(to, new_name);
    replaced->Moved(*this, name);
    EntriesChanged();
    to.EntriesChanged();
    return {};
  }
  if (replaced != nullptr && replaced->is_directory()) TRY(replaced->Empty());
  TRY(settle(child, new_in_lower));
  bool covered = false;
  RefPtr<Inode> in_the_way;
  if (replaced == nullptr) {
    covered = TRY(to.ClearWhiteout(new_name));
  } else {
    const Result<Ref<Inode>> there = to.upper()->Lookup(new_name);
    if (there.ok()) in_the_way = *there;
  }
  const Result<void> renamed =
      upper()->Rename(name, *child.upper(), *to.upper(), new_name, in_the_way.get(), 0);
  if (!renamed.ok()) {
    if (covered) (void)to.PutWhiteout(new_name).ok();
    return renamed.error();
  }
  child.Moved(to, new_name);
  if (replaced != nullptr) {
    // A copy-up that is under way finds the name taken.
    MutexLock hold(replaced->copy_up_mu_);
    if (in_the_way) {
      replaced->LostName();
    } else {
      replaced->LostLowerName();
    }
  }
  EntriesChanged();
  to.EntriesChanged();
  if (old_in_lower) TRY(PutWhiteout(name));
  return {};
}

}  // namespace ringwall
