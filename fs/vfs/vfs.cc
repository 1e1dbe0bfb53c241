// Looking up, stat, and names of places.
#include "fs/vfs/vfs.h"

#include "fs/vfs/mount.h"
#include "fs/vfs/path_walk.h"
#include "fs/vfs/permission.h"

namespace ringwall {

Result<Path> Vfs::Lookup(const Walk& walk, std::string_view path, LookupFlags flags) {
  if (path.empty()) {
    if (!flags.allow_empty) return Errno(ENOENT);
    if (flags.directory && !walk.start.dentry().is_directory()) return Errno(ENOTDIR);
    return walk.start;
  }
  if (path.size() >= kPathMax) return Errno(ENAMETOOLONG);
  if (walk.resolve == 0) {
    if (std::optional<Result<Path>> fast = FastLookup(walk, path, flags)) {
      if (fast->ok() && !flags.keep_expiry) (*fast)->mount().Used();
      return std::move(*fast);
    }
  }
  PathWalk w(walk);
  TRY(w.ToParent(path));
  for (;;) {
    Path at = TRY(w.Step());
    if (at.dentry().negative()) return Errno(ENOENT);
    if (at.dentry().inode()->is_symlink() && (flags.follow_last || w.trailing_slash())) {
      Path jumped;
      TRY(w.FollowLast(at, &jumped));
      if (!jumped) continue;
      at = std::move(jumped);
    }
    if ((flags.directory || w.trailing_slash()) && !at.dentry().is_directory()) {
      return Errno(ENOTDIR);
    }
    if (!flags.keep_expiry) at.mount().Used();
    return at;
  }
}

Result<Attr> Vfs::Stat(const Path& path) {
  Inode& inode = *path.dentry().inode();
  Attr attr = TRY(inode.GetAttr());
  if (attr.dev == 0) attr.dev = inode.fs().dev();
  return attr;
}

Result<void> Vfs::CheckAccess(const Credentials& creds, const Path& path, uint32_t want) {
  if ((want & kMayExec) && path.dentry().inode()->is_regular() &&
      (path.mount().flags() & MS_NOEXEC)) {
    return Errno(EACCES);
  }
  return PathPermission(creds, path, want);
}

Result<std::string> Vfs::ReadLink(const Path& path) {
  Inode& inode = *path.dentry().inode();
  // readlink("") on something else is ENOENT, but that is the system call's to tell.
  if (!inode.is_symlink()) return Errno(EINVAL);
  return inode.ReadLink();
}

std::string Vfs::FullName(const Path& path, const Path& root, const MountNamespace& mounts,
                          bool* outside) {
  if (outside != nullptr) *outside = true;
  const bool deleted = path.dentry().unlinked();
  std::string name;
  Path at = path;
  bool reachable = false;
  for (;;) {
    if (at == root) {
      reachable = true;
      if (outside != nullptr) *outside = false;
      break;
    }
    if (&at.dentry() == &at.mount().root()) {
      Path up = mounts.MountPointOf(at.mount());
      if (!up) {
        reachable = at == mounts.root();
        break;
      }
      at = std::move(up);
      continue;
    }
    RefPtr<Dentry> parent = at.dentry().parent();
    if (!parent) {
      // An anonymous file's name is the whole of it.
      if (name.empty()) return at.dentry().name();
      break;
    }
    name.insert(0, at.dentry().name());
    name.insert(0, 1, '/');
    at = Path(at.mount_ref(), std::move(parent));
  }
  if (name.empty()) name = "/";
  if (!reachable) name.insert(0, "(unreachable)");
  if (deleted) name += " (deleted)";
  return name;
}

}  // namespace ringwall
