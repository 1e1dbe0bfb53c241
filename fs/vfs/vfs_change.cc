// Making, removing and renaming names. The order of the checks is that of Linux fs/namei.c, since
// programs and tests see which errno comes first.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/inotify.h>

#include "fs/vfs/file_handles.h"
#include "fs/vfs/inotify.h"
#include "fs/vfs/path_walk.h"
#include "fs/vfs/permission.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

namespace {

using Last = PathWalk::Last;

bool IsMountPoint(const Walk& walk, const Path& dir, const Ref<Dentry>& child) {
  if (child->mounted_here.load(std::memory_order_acquire) == 0) return false;
  return static_cast<bool>(walk.mounts.MountedAt(Path(dir.mount_ref(), child)));
}

Result<void> Start(PathWalk& w, std::string_view path) {
  if (path.empty()) return Errno(ENOENT);
  if (path.size() >= kPathMax) return Errno(ENAMETOOLONG);
  return w.ToParent(path);
}

// filename_create() and the vfs_*() after it. make(dir, name, owner) does the work.
template <typename Make>
Result<Path> CreateAt(const Walk& walk, std::string_view path, bool directory, uint32_t mode,
                      uint64_t rdev, Make make) {
  PathWalk w(walk);
  TRY(Start(w, path));
  if (w.last() != Last::kName) return Errno(EEXIST);
  if (w.name().size() > kNameMax) return Errno(ENAMETOOLONG);
  Dentry& dir = w.dir().dentry();
  MutexLock lock(dir.directory_lock());
  Ref<Dentry> child = TRY(dir.LookupChildLocked(w.name()));
  if (!child->negative()) return Errno(EEXIST);
  if (w.trailing_slash() && !directory) return Errno(ENOENT);
  if (w.dir().mount().read_only()) return Errno(EROFS);
  TRY(MayCreate(walk.creds, dir));
  const NewObject fresh = TRY(InitObject(walk, *dir.inode(), mode, rdev));
  Ref<Inode> inode = TRY(make(*dir.inode(), w.name(), fresh.args));
  TRY(fresh.InheritAcl(*inode));
  Ref<Dentry> made = dir.AddChildLocked(w.name(), std::move(inode));
  NotifyName(*dir.inode(), IN_CREATE, w.name(), directory);
  return Path(w.dir().mount_ref(), std::move(made));
}

}  // namespace

Result<void> Vfs::Mkdir(const Walk& walk, std::string_view path, uint32_t mode) {
  const auto make = [](Inode& dir, std::string_view name, const NewInode& args) {
    return dir.Mkdir(name, args);
  };
  TRY(CreateAt(walk, path, true, S_IFDIR | (mode & 01777), 0, make));
  return {};
}

Result<Path> Vfs::Mknod(const Walk& walk, std::string_view path, uint32_t mode, uint64_t rdev) {
  switch (mode & S_IFMT) {
    case 0:
      mode |= S_IFREG;
      break;
    case S_IFREG:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
      break;
    case S_IFDIR:
      return Errno(EPERM);
    default:
      return Errno(EINVAL);
  }
  const bool device = S_ISCHR(mode) || S_ISBLK(mode);
  const auto make = [&](Inode& dir, std::string_view name,
                        const NewInode& args) -> Result<Ref<Inode>> {
    if (device && rdev != 0 && !walk.creds.Has(Capability::kMknod)) return Errno(EPERM);
    if (S_ISBLK(mode) && !walk.creds.Has(Capability::kMknod)) return Errno(EPERM);
    return S_ISREG(mode) ? dir.Create(name, args) : dir.Mknod(name, args);
  };
  return CreateAt(walk, path, false, mode & (S_IFMT | 07777), device ? rdev : 0, make);
}

Result<void> Vfs::Symlink(const Walk& walk, std::string_view target, std::string_view path) {
  if (target.empty()) return Errno(ENOENT);
  if (target.size() >= kPathMax) return Errno(ENAMETOOLONG);
  const auto make = [&](Inode& dir, std::string_view name, const NewInode& args) {
    return dir.Symlink(name, target, args);
  };
  TRY(CreateAt(walk, path, false, S_IFLNK | 0777, 0, make));
  return {};
}

Result<void> Vfs::Link(const Path& target, const Walk& walk, std::string_view path) {
  PathWalk w(walk);
  TRY(Start(w, path));
  if (w.last() != Last::kName) return Errno(EEXIST);
  if (w.name().size() > kNameMax) return Errno(ENAMETOOLONG);
  Dentry& dir = w.dir().dentry();
  MutexLock lock(dir.directory_lock());
  Ref<Dentry> child = TRY(dir.LookupChildLocked(w.name()));
  if (!child->negative()) return Errno(EEXIST);
  if (w.trailing_slash()) return Errno(ENOENT);
  if (w.dir().mount().read_only()) return Errno(EROFS);
  if (&target.mount() != &w.dir().mount()) return Errno(EXDEV);
  Inode& inode = *target.dentry().inode();
  TRY(MayLinkTo(walk.creds, inode));
  TRY(MayCreate(walk.creds, dir));
  if (&inode.fs() != &dir.inode()->fs()) return Errno(EXDEV);
  if (inode.file_flags() & (FS_IMMUTABLE_FL | FS_APPEND_FL)) return Errno(EPERM);
  if (inode.is_directory()) return Errno(EPERM);
  if (!inode.linkable()) {
    const Attr attr = TRY(inode.GetAttr());
    if (attr.nlink == 0) return Errno(ENOENT);
  }
  TRY(dir.inode()->Link(w.name(), inode));
  inode.set_linkable(false);
  dir.AddChildLocked(w.name(), Ref<Inode>(inode));
  NotifyInode(inode, IN_ATTRIB);
  NotifyName(*dir.inode(), IN_CREATE, w.name(), false);
  return {};
}

Result<void> Vfs::Unlink(const Walk& walk, std::string_view path) {
  PathWalk w(walk);
  TRY(Start(w, path));
  if (w.last() != Last::kName) return Errno(EISDIR);
  if (w.dir().mount().read_only()) return Errno(EROFS);
  if (w.name().size() > kNameMax) return Errno(ENAMETOOLONG);
  Dentry& dir = w.dir().dentry();
  MutexLock lock(dir.directory_lock());
  Ref<Dentry> child = TRY(dir.LookupChildLocked(w.name()));
  if (child->negative()) return Errno(ENOENT);
  if (w.trailing_slash()) return Errno(child->is_directory() ? EISDIR : ENOTDIR);
  TRY(MayDelete(walk.creds, dir, *child, false));
  if (IsMountPoint(walk, w.dir(), child)) return Errno(EBUSY);
  TRY(dir.inode()->Unlink(w.name(), *child->inode()));
  dir.RemoveChildLocked(w.name(), true);
  ForgetHandle(*child->inode());
  NotifyLinkCount(*child->inode());
  // d_delete_notify(): of an inode that nobody has open its own watchers hear first.
  NotifyGone(*child->inode());
  NotifyName(*dir.inode(), IN_DELETE, w.name(), false);
  return {};
}

Result<void> Vfs::Rmdir(const Walk& walk, std::string_view path) {
  PathWalk w(walk);
  TRY(Start(w, path));
  switch (w.last()) {
    case Last::kDotDot:
      return Errno(ENOTEMPTY);
    case Last::kDot:
      return Errno(EINVAL);
    case Last::kRoot:
      return Errno(EBUSY);
    case Last::kName:
      break;
  }
  if (w.dir().mount().read_only()) return Errno(EROFS);
  if (w.name().size() > kNameMax) return Errno(ENAMETOOLONG);
  Dentry& dir = w.dir().dentry();
  MutexLock lock(dir.directory_lock());
  Ref<Dentry> child = TRY(dir.LookupChildLocked(w.name()));
  TRY(MayDelete(walk.creds, dir, *child, true));
  if (IsMountPoint(walk, w.dir(), child)) return Errno(EBUSY);
  TRY(dir.inode()->Rmdir(w.name(), *child->inode()));
  dir.RemoveChildLocked(w.name(), true);
  ForgetHandle(*child->inode());
  NotifyGone(*child->inode());
  NotifyName(*dir.inode(), IN_DELETE, w.name(), true);
  return {};
}

namespace {

// do_renameat2() from the point where both parents are known and locked.
Result<void> RenameLocked(const Walk& walk, const PathWalk& from, const PathWalk& to,
                          uint32_t flags) NO_THREAD_SAFETY_ANALYSIS {
  Dentry& old_dir = from.dir().dentry();
  Dentry& new_dir = to.dir().dentry();
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  Ref<Dentry> old = TRY(old_dir.LookupChildLocked(from.name()));
  if (old->negative()) return Errno(ENOENT);
  if (to.name().size() > kNameMax) return Errno(ENAMETOOLONG);
  Ref<Dentry> fresh = TRY(new_dir.LookupChildLocked(to.name()));
  if ((flags & RENAME_NOREPLACE) && !fresh->negative()) return Errno(EEXIST);
  if (exchange) {
    if (fresh->negative()) return Errno(ENOENT);
    if (!fresh->is_directory() && to.trailing_slash()) return Errno(ENOTDIR);
  }
  if (!old->is_directory()) {
    if (from.trailing_slash()) return Errno(ENOTDIR);
    if (!exchange && to.trailing_slash()) return Errno(ENOTDIR);
  }
  if (&old_dir != &new_dir) {
    if (new_dir.IsDescendantOf(*old)) return Errno(EINVAL);
    if (!fresh->negative() && old_dir.IsDescendantOf(*fresh)) {
      return Errno(exchange ? EINVAL : ENOTEMPTY);
    }
  }
  // vfs_rename()
  if (!fresh->negative() && old->inode().get() == fresh->inode().get()) return {};
  const bool is_dir = old->is_directory();
  TRY(MayDelete(walk.creds, old_dir, *old, is_dir));
  if (fresh->negative()) {
    TRY(MayCreate(walk.creds, new_dir));
  } else {
    TRY(MayDelete(walk.creds, new_dir, *fresh, exchange ? fresh->is_directory() : is_dir));
  }
  if (&old_dir != &new_dir) {
    // Its ".." changes.
    if (is_dir) TRY(InodePermission(walk.creds, *old->inode(), kMayWrite));
    if (exchange && fresh->is_directory()) {
      TRY(InodePermission(walk.creds, *fresh->inode(), kMayWrite));
    }
  }
  if (IsMountPoint(walk, from.dir(), old)) return Errno(EBUSY);
  if (!fresh->negative() && IsMountPoint(walk, to.dir(), fresh)) return Errno(EBUSY);
  const uint32_t fs_flags = flags & ~static_cast<uint32_t>(RENAME_NOREPLACE);
  TRY(old_dir.inode()->Rename(from.name(), *old->inode(), *new_dir.inode(), to.name(),
                              fresh->inode().get(), fs_flags));
  const auto moved = [](Dentry& from_dir, std::string_view from_name, Dentry& to_dir,
                        std::string_view to_name, Inode& inode) {
    const uint32_t cookie = NextInotifyCookie();
    const uint32_t within = &from_dir == &to_dir ? kRenamedEvent : 0;
    NotifyName(*from_dir.inode(), IN_MOVED_FROM | within, from_name, inode.is_directory(), cookie);
    NotifyName(*to_dir.inode(), IN_MOVED_TO, to_name, inode.is_directory(), cookie);
  };
  moved(old_dir, from.name(), new_dir, to.name(), *old->inode());
  if (exchange) {
    Dentry::ExchangeLocked(*old, *fresh);
    NotifyInode(*old->inode(), IN_MOVE_SELF);
    moved(new_dir, to.name(), old_dir, from.name(), *fresh->inode());
    NotifyInode(*fresh->inode(), IN_MOVE_SELF);
    return {};
  }
  if (!fresh->negative()) {
    ForgetHandle(*fresh->inode());
    NotifyLinkCount(*fresh->inode());
  }
  NotifyInode(*old->inode(), IN_MOVE_SELF);
  if (!fresh->negative()) NotifyGone(*fresh->inode());
  Dentry::MoveLocked(*old, old_dir, new_dir, to.name());
  if (flags & RENAME_WHITEOUT) old_dir.RemoveChildLocked(from.name(), false);
  return {};
}

}  // namespace

Result<void> Vfs::Rename(const Walk& from_walk, std::string_view old_path, const Walk& to_walk,
                         std::string_view new_path, uint32_t flags) {
  if (flags & ~static_cast<uint32_t>(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) {
    return Errno(EINVAL);
  }
  if ((flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) && (flags & RENAME_EXCHANGE)) {
    return Errno(EINVAL);
  }
  if ((flags & RENAME_WHITEOUT) && !from_walk.creds.Has(Capability::kMknod)) return Errno(EPERM);
  PathWalk from(from_walk);
  TRY(Start(from, old_path));
  PathWalk to(to_walk);
  TRY(Start(to, new_path));
  if (&from.dir().mount() != &to.dir().mount()) return Errno(EXDEV);
  if (from.last() != Last::kName) return Errno(EBUSY);
  if (to.last() != Last::kName) return Errno(flags & RENAME_NOREPLACE ? EEXIST : EBUSY);
  if (from.dir().mount().read_only()) return Errno(EROFS);
  if (from.name().size() > kNameMax) return Errno(ENAMETOOLONG);
  Dentry& old_dir = from.dir().dentry();
  Dentry& new_dir = to.dir().dentry();
  if (&old_dir == &new_dir) {
    MutexLock lock(old_dir.directory_lock());
    return RenameLocked(from_walk, from, to, flags);
  }
  MutexLock topology(from.dir().mount().fs().rename_lock());
  LockBoth lock(old_dir.directory_lock(), new_dir.directory_lock());
  return RenameLocked(from_walk, from, to, flags);
}

}  // namespace ringwall
