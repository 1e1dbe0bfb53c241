// open(2). Compare Linux fs/namei.c: path_openat(), open_last_lookups(), lookup_open(), do_open(),
// may_open().
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/inotify.h>

#include "fs/vfs/inotify.h"
#include "fs/vfs/leases.h"
#include "fs/vfs/locks.h"
#include "fs/vfs/open_hint.h"
#include "fs/vfs/path_walk.h"
#include "fs/vfs/permission.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

namespace {

constexpr uint32_t kTmpFileBit = O_TMPFILE & ~O_DIRECTORY;

// What O_PATH gives: a place, nothing to read or write.
class PathFile final : public File {
 public:
  PathFile(const Path& path, uint32_t flags) : File(path, flags) {}
  Result<size_t> Read(IoDst&, uint64_t, int) override { return Errno(EBADF); }
  Result<size_t> Write(IoSrc&, uint64_t*, int) override { return Errno(EBADF); }
  EventMask Poll(EventMask) override { return 0x20; }  // EPOLLNVAL
};

uint32_t WantOf(uint32_t flags) {
  if (flags & kOpenForExec) return kMayExec;
  static constexpr uint32_t kWant[] = {kMayRead, kMayWrite, kMayRead | kMayWrite,
                                       kMayRead | kMayWrite};
  return kWant[flags & O_ACCMODE] | (flags & O_TRUNC ? kMayWrite : 0);
}

// may_open(): type and permission.
Result<void> MayOpen(const Credentials& creds, const Path& at, uint32_t flags) {
  Inode& inode = *at.dentry().inode();
  const uint32_t want = WantOf(flags);
  switch (inode.type()) {
    case S_IFLNK:
      return Errno(ELOOP);
    case S_IFDIR:
      if (want & kMayWrite) return Errno(EISDIR);
      break;
    case S_IFBLK:
    case S_IFCHR:
      // Whoever may mount a file system of their own cannot make devices appear by it.
      if ((at.mount().flags() & MS_NODEV) || at.mount().fs().user_ns().parent() != nullptr) {
        return Errno(EACCES);
      }
      break;
    default:
      break;
  }
  TRY(PathPermission(creds, at, want));
  if (inode.file_flags() & FS_APPEND_FL) {
    if ((want & kMayWrite) && !(flags & O_APPEND)) return Errno(EPERM);
    if (flags & O_TRUNC) return Errno(EPERM);
  }
  if (flags & O_NOATIME) {
    const Attr attr = TRY(inode.GetPermissionAttr());
    if (!OwnerOrCapable(creds, attr)) return Errno(EPERM);
  }
  return {};
}

bool WritesTo(uint32_t flags) {
  const uint32_t mode = flags & O_ACCMODE;
  return (mode == O_WRONLY || mode == O_RDWR) && (flags & kOpenForExec) == 0;
}

// break_lease()
Result<void> BreakLeases(Inode& inode, uint32_t flags, LeaseWait* wait) {
  FileLocks* locks = inode.locks_if_any();
  if (locks == nullptr || (flags & kOpenForExec) != 0) return {};
  const bool write = WritesTo(flags);
  Result<void> broken = locks->leases().Break(write);
  if (!broken.ok() && (flags & O_NONBLOCK) == 0 && wait != nullptr) {
    *wait = {RefPtr<Inode>(&inode), write};
  }
  return broken;
}

// Opens the existing object `at`. A file that this open has created needs no permission.
Result<Ref<File>> OpenObject(const Walk& walk, const Path& at, uint32_t flags, bool created,
                             LeaseWait* wait) {
  Inode& inode = *at.dentry().inode();
  // O_TMPFILE has the bit too, and keeps it for F_GETFL.
  if ((flags & O_DIRECTORY) && !created && !inode.is_directory()) return Errno(ENOTDIR);
  if (flags & O_PATH) {
    return Ref<File>(MakeRef<PathFile>(at, flags & ~static_cast<uint32_t>(O_CLOEXEC)));
  }
  const bool regular = inode.is_regular();
  const bool truncates = !created && regular && (flags & O_TRUNC) != 0;
  if (!created) {
    if (truncates && at.mount().read_only()) return Errno(EROFS);
    TRY(MayOpen(walk.creds, at, flags));
    // Before the truncation, since the holder of a lease may have something to write first.
    if (regular) TRY(BreakLeases(inode, flags, wait));
  }
  const WriteAccess access = TRY(WriteAccess::Get(inode, regular && (truncates || WritesTo(flags))));
  if (truncates) {
    TRY(Vfs::DropPrivileges(walk.creds, inode));
    SetAttr truncate;
    truncate.size = 0;
    TRY(inode.Set(truncate));
  }
  constexpr uint32_t kSpent = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC | kOpenForExec;
  Result<Ref<File>> file = inode.Open(at, flags & ~kSpent, walk.creds);
  if (file.ok() && regular) TRY((*file)->CountOpen((flags & kOpenForExec) != 0));
  if (file.ok()) {
    if (created) (*file)->set_created_file();
    NotifyPath(at, (flags & kOpenForExec) != 0 ? IN_OPEN | kExecEvent : uint32_t{IN_OPEN});
    if (truncates) NotifyAttributes(at, IN_MODIFY);
  }
  return file;
}

// O_CREAT on the last component: the dentry that is there, or a new file's.
Result<Ref<Dentry>> LookupOrCreate(const Walk& walk, const Path& dir, std::string_view name,
                                   uint32_t flags, uint32_t mode, bool* created) {
  if (name.size() > kNameMax) return Errno(ENAMETOOLONG);
  Dentry& parent = dir.dentry();
  if (parent.children_stay()) {
    Ref<Dentry> there = TRY(parent.LookupChild(name));
    if (!there->negative()) return there;
  }
  MutexLock lock(parent.directory_lock());
  Ref<Dentry> there = TRY(parent.LookupChildLocked(name));
  if (!there->negative()) return there;
  if (dir.mount().read_only()) return Errno(EROFS);
  TRY(MayCreate(walk.creds, parent));
  const NewObject fresh = TRY(InitObject(walk, *parent.inode(), S_IFREG | (mode & 07777), 0));
  Result<Ref<Inode>> inode = parent.inode()->Create(name, fresh.args);
  if (!inode.ok()) {
    // Somebody on the host was faster.
    if (!inode.error().Is(EEXIST) || (flags & O_EXCL)) return inode.error();
    return parent.LookupChildLocked(name);
  }
  TRY(fresh.InheritAcl(**inode));
  *created = true;
  NotifyName(*parent.inode(), IN_CREATE, name, false);
  return parent.AddChildLocked(name, std::move(*inode));
}

Result<Ref<File>> OpenCreate(const Walk& walk, std::string_view path, uint32_t flags,
                             uint32_t mode, LeaseWait* wait) {
  PathWalk w(walk);
  TRY(w.ToParent(path));
  for (;;) {
    if (w.last() != PathWalk::Last::kName) {
      TRY(w.Step());
      return Errno(flags & O_EXCL ? EEXIST : EISDIR);
    }
    if (w.trailing_slash()) return Errno(EISDIR);
    bool created = false;
    Ref<Dentry> child = TRY(LookupOrCreate(walk, w.dir(), w.name(), flags, mode, &created));
    if (created) {
      return OpenObject(walk, Path(w.dir().mount_ref(), std::move(child)), flags, true, wait);
    }
    Path at = TRY(w.StepInto(std::move(child)));
    if (flags & O_EXCL) return Errno(EEXIST);
    if (at.dentry().negative()) return Errno(ENOENT);
    if (at.dentry().inode()->is_symlink()) {
      if (flags & O_NOFOLLOW) return Errno(ELOOP);
      Path jumped;
      TRY(w.FollowLast(at, &jumped));
      if (!jumped) continue;
      at = std::move(jumped);
    }
    if (at.dentry().is_directory()) return Errno(EISDIR);
    TRY(MayOpenInSticky(walk.creds, w.dir().dentry(), *at.dentry().inode()));
    return OpenObject(walk, at, flags, false, wait);
  }
}

Result<Ref<File>> OpenTmpFile(const Walk& walk, std::string_view path, uint32_t flags,
                              uint32_t mode, LeaseWait* wait) {
  LookupFlags lookup;
  lookup.directory = true;
  lookup.follow_last = !(flags & O_NOFOLLOW);
  const Path dir = TRY(Vfs::Lookup(walk, path, lookup));
  if (dir.mount().read_only()) return Errno(EROFS);
  TRY(InodePermission(walk.creds, *dir.dentry().inode(), kMayWrite | kMayExec));
  const NewObject fresh =
      TRY(InitObject(walk, *dir.dentry().inode(), S_IFREG | (mode & 07777), 0));
  Ref<Inode> inode = TRY(dir.dentry().inode()->TmpFile(fresh.args));
  TRY(fresh.InheritAcl(*inode));
  inode->set_linkable(!(flags & O_EXCL));
  Ref<Dentry> dentry = dir.dentry().MakeUnnamed(std::move(inode));
  return OpenObject(walk, Path(dir.mount_ref(), std::move(dentry)), flags, true, wait);
}

}  // namespace

Result<void> Vfs::CheckOpenFlags(uint32_t* flags) {
  if (*flags & O_PATH) *flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  if ((*flags & (O_CREAT | O_DIRECTORY)) == (O_CREAT | O_DIRECTORY)) return Errno(EINVAL);
  if (*flags & kTmpFileBit) {
    if ((*flags & O_TMPFILE) != O_TMPFILE || (*flags & O_ACCMODE) == O_RDONLY) return Errno(EINVAL);
  }
  return {};
}

Result<Ref<File>> Vfs::Open(const Walk& walk, std::string_view path, uint32_t flags, uint32_t mode,
                            LeaseWait* wait) {
  TRY(CheckOpenFlags(&flags));
  if (path.empty()) return Errno(ENOENT);
  if (path.size() >= kPathMax) return Errno(ENAMETOOLONG);
  if (flags & kTmpFileBit) return OpenTmpFile(walk, path, flags, mode, wait);
  if (flags & O_CREAT) return OpenCreate(walk, path, flags, mode, wait);
  LookupFlags lookup;
  lookup.follow_last = !(flags & O_NOFOLLOW);
  lookup.directory = (flags & O_DIRECTORY) != 0;
  const Path at = TRY([&] {
    const OpenHint hint((flags & (O_ACCMODE | O_PATH | O_DIRECTORY)) == O_RDONLY);
    return Lookup(walk, path, lookup);
  }());
  return OpenObject(walk, at, flags, false, wait);
}

Result<Ref<File>> Vfs::OpenPath(const Walk& walk, const Path& path, uint32_t flags,
                                LeaseWait* wait) {
  if (flags & O_PATH) flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  return OpenObject(walk, path, flags, false, wait);
}

}  // namespace ringwall
