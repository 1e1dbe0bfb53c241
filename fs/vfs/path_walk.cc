#include "fs/vfs/path_walk.h"

#include "fs/vfs/dentry.h"
#include "fs/vfs/epoch.h"
#include "fs/vfs/mount.h"
#include "fs/vfs/permission.h"

namespace ringwall {

namespace {

void SkipSlashes(std::string_view* path) {
  while (!path->empty() && path->front() == '/') path->remove_prefix(1);
}

// path_connected(): a directory that was moved out of what a bind mount shows, or was opened by a
// handle, is not below the mount's root.
bool IsBelowRoot(Mount& mount, Dentry& dentry) {
  if (!mount.root().parent()) return true;  // all of the file system
  RefPtr<Dentry> at(&dentry);
  while (at && at.get() != &mount.root()) at = at->parent();
  return static_cast<bool>(at);
}

}  // namespace

Result<void> PathWalk::JumpToRoot() {
  if (walk_.resolve & RESOLVE_BENEATH) return Errno(EXDEV);
  if ((walk_.resolve & RESOLVE_NO_XDEV) && dir_ && &dir_.mount() != &root().mount()) {
    return Errno(EXDEV);
  }
  dir_ = root();
  return {};
}

// "..": up through the roots of mounts, never above the caller's root.
Result<void> PathWalk::StepUp() {
  const Path& top = scoped() ? walk_.start : walk_.root;
  for (;;) {
    if (dir_ == top) {
      if (walk_.resolve & RESOLVE_BENEATH) return Errno(EXDEV);
      return {};
    }
    if (&dir_.dentry() != &dir_.mount().root()) break;
    Path mount_point = walk_.mounts.MountPointOf(dir_.mount());
    if (!mount_point) return {};  // the top, or a detached tree
    if (walk_.resolve & RESOLVE_NO_XDEV) return Errno(EXDEV);
    dir_ = std::move(mount_point);
  }
  RefPtr<Dentry> parent = dir_.dentry().parent();
  if (!parent) return {};
  if (!IsBelowRoot(dir_.mount(), *parent)) return Errno(ENOENT);
  Path up(dir_.mount_ref(), parent);
  while (up.dentry().mounted_here.load(std::memory_order_acquire) != 0) {
    RefPtr<Mount> m = walk_.mounts.MountedAt(up);
    if (!m) break;
    if (walk_.resolve & RESOLVE_NO_XDEV) return Errno(EXDEV);
    RefPtr<Dentry> mount_root(&m->root());
    up = Path(std::move(m), std::move(mount_root));
  }
  // Whoever moves a directory out of the scope meanwhile must not take this walk along.
  if (scoped() && Dentry::RenameSequence() != sequence_) return Errno(EAGAIN);
  dir_ = std::move(up);
  return {};
}

Result<Path> PathWalk::StepInto(Ref<Dentry> child) {
  Path at(dir_.mount_ref(), std::move(child));
  while (at.dentry().mounted_here.load(std::memory_order_acquire) != 0) {
    RefPtr<Mount> m = walk_.mounts.MountedAt(at);
    if (!m) break;
    if (walk_.resolve & RESOLVE_NO_XDEV) return Errno(EXDEV);
    RefPtr<Dentry> mount_root(&m->root());
    at = Path(std::move(m), std::move(mount_root));
  }
  return at;
}

Result<Path> PathWalk::StepDown(std::string_view name) {
  if (name.size() > kNameMax) return Errno(ENAMETOOLONG);
  Ref<Dentry> child = TRY(dir_.dentry().LookupChild(name));
  return StepInto(std::move(child));
}

Result<Path> PathWalk::Step() {
  switch (last_) {
    case Last::kName:
      return StepDown(name_);
    case Last::kDotDot: {
      TRY(StepUp());
      return dir_;
    }
    case Last::kDot:
    case Last::kRoot:
      return dir_;
  }
  return Errno(EINVAL);
}

Result<std::string_view> PathWalk::Follow(const Path& link, Path* jumped) {
  if (links_++ >= kMaxSymlinks) return Errno(ELOOP);
  if (walk_.resolve & RESOLVE_NO_SYMLINKS) return Errno(ELOOP);
  if (link.mount().flags() & MS_NOSYMFOLLOW) return Errno(ELOOP);
  if (RefPtr<Dentry> in = link.dentry().parent()) {
    TRY(MayFollow(walk_.creds, *in, *link.dentry().inode()));
  }
  Inode& inode = *link.dentry().inode();
  if (std::optional<Result<Path>> magic = inode.FollowMagic(walk_.task)) {
    if (walk_.resolve & RESOLVE_NO_MAGICLINKS) return Errno(ELOOP);
    Path to = TRY(std::move(*magic));
    if (scoped()) return Errno(EXDEV);
    if ((walk_.resolve & RESOLVE_NO_XDEV) && &to.mount() != &dir_.mount()) return Errno(EXDEV);
    *jumped = std::move(to);
    return std::string_view();
  }
  std::string target = TRY(inode.ReadLink());
  if (target.empty()) return Errno(ENOENT);
  // What a directory that stays says about its links stays as well.
  RefPtr<Dentry> parent = link.dentry().parent();
  if (parent && parent->children_stay()) PermissionView::StoreLinkTarget(inode, target);
  targets_.push_back(std::make_unique<std::string>(std::move(target)));
  return std::string_view(*targets_.back());
}

Result<void> PathWalk::FollowLast(const Path& link, Path* jumped) {
  const std::string_view target = TRY(Follow(link, jumped));
  if (*jumped) return {};
  return ToParent(target);
}

Result<void> PathWalk::ToParent(std::string_view path) {
  // An odd one, of a rename that is under way, never is the same again.
  if (!started_) sequence_ = Dentry::RenameSequence();
  if (!path.empty() && path.front() == '/') {
    if (!started_ && !scoped()) {
      dir_ = root();
    } else {
      TRY(JumpToRoot());
    }
  } else if (!started_) {
    dir_ = walk_.start;
    if (!dir_.dentry().is_directory()) return Errno(ENOTDIR);
  }
  if (!dir_) dir_ = root();
  started_ = true;
  last_ = Last::kRoot;
  name_ = {};
  for (;;) {
    SkipSlashes(&path);
    if (path.empty()) {
      // "/" alone, or the end of a link in the middle ("/" or one that ended in slashes).
      if (rest_.empty()) return {};
      path = rest_.back();
      rest_.pop_back();
      continue;
    }
    TRY(InodePermission(walk_.creds, *dir_.dentry().inode(), kMayExec));
    const size_t end = std::min(path.find('/'), path.size());
    const std::string_view name = path.substr(0, end);
    path.remove_prefix(end);
    const bool slash = !path.empty();
    SkipSlashes(&path);
    const Last kind = name == "." ? Last::kDot : name == ".." ? Last::kDotDot : Last::kName;
    if (path.empty() && rest_.empty()) {
      last_ = kind;
      name_ = name;
      trailing_slash_ |= slash;
      return {};
    }
    if (kind == Last::kDot) continue;
    if (kind == Last::kDotDot) {
      TRY(StepUp());
      continue;
    }
    Path next = TRY(StepDown(name));
    if (next.dentry().negative()) return Errno(ENOENT);
    if (next.dentry().inode()->is_symlink()) {
      Path jumped;
      const std::string_view target = TRY(Follow(next, &jumped));
      if (!jumped) {
        if (!path.empty()) rest_.push_back(path);
        path = target;
        if (path.front() == '/') TRY(JumpToRoot());
        continue;
      }
      next = std::move(jumped);
    }
    if (!next.dentry().is_directory()) return Errno(ENOTDIR);
    dir_ = std::move(next);
  }
}

}  // namespace ringwall
