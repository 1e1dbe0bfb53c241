// mount, umount2, pivot_root (fs/namespace.c: path_mount, path_umount, path_pivot_root).
#include <fcntl.h>
#include <sys/mount.h>

#include "fs/vfs/dentry.h"
#include "fs/vfs/fs_type.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr uint64_t kMagic = 0xc0ed0000, kMagicMask = 0xffff0000;
constexpr uint64_t kTimeFlags = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;

bool MayMount(const Task& t) {
  return t.creds().HasIn(t.mounts().user_ns(), Capability::kSysAdmin);
}

// A string that may be missing (copy_mount_string). EINVAL when it is longer than a path.
Result<std::optional<std::string>> CopyInName(Task& t, GuestAddr addr) {
  if (addr.IsNull()) return std::optional<std::string>();
  Result<std::string> s = t.CopyInString(addr, kPathMax);
  if (!s.ok()) return s.error().Is(ENAMETOOLONG) ? Errno(EINVAL) : s.error();
  return std::optional<std::string>(std::move(*s));
}

// The options: up to a page, or what there is of it before a fault (copy_mount_options).
Result<std::string> CopyInData(Task& t, GuestAddr addr) {
  if (addr.IsNull()) return std::string();
  std::string page(kPageSize, '\0');
  const size_t first = kPageSize - (addr.value() & kPageMask);
  const auto bytes = std::as_writable_bytes(std::span(page));
  TRY(t.CopyIn(addr, bytes.first(first)));
  if (first < kPageSize) {
    Result<void> rest = t.CopyIn(addr + first, bytes.subspan(first));
    if (!rest.ok()) page.resize(first);
  }
  page.resize(std::min(page.find('\0'), page.size()));
  return page;
}

Result<Path> LookupMountPoint(Task& t, const std::string& path, bool follow) {
  AtWalk at = TRY(AtWalk::Make(t, AT_FDCWD, path));
  LookupFlags flags;
  flags.follow_last = follow;
  flags.keep_expiry = true;
  return Vfs::Lookup(at.walk(), path, flags);
}

// The MS_* flags of a mount itself.
uint32_t MountFlags(uint64_t flags, const Path& at) {
  uint32_t own = 0;
  if ((flags & MS_NOATIME) == 0) own |= MS_RELATIME;
  own |= static_cast<uint32_t>(flags) & (MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME |
                                         MS_NODIRATIME | MS_RDONLY | MS_NOSYMFOLLOW);
  if ((flags & MS_STRICTATIME) != 0) {
    own &= ~static_cast<uint32_t>(MS_RELATIME | MS_NOATIME);
    own |= MS_STRICTATIME;
  }
  // A remount that says nothing of access times keeps them.
  if ((flags & MS_REMOUNT) != 0 && (flags & kTimeFlags) == 0) {
    own &= ~static_cast<uint32_t>(kTimeFlags);
    own |= at.mount().flags() & static_cast<uint32_t>(kTimeFlags);
  }
  return own;
}

Result<void> Remount(Task& t, const Path& at, uint64_t flags, uint32_t own,
                     const std::string& data) {
  FileSystem& fs = at.mount().fs();
  // Checks that it is a mount point of ours whose locked flags stay.
  const uint32_t old = at.mount().flags();
  TRY(t.mounts().Remount(at, old));
  TRY(t.mounts().CheckLockedFlags(at, own));
  if (!t.creds().HasIn(fs.user_ns(), Capability::kSysAdmin)) return Errno(EPERM);
  const bool read_only = (flags & MS_RDONLY) != 0;
  if (read_only && !fs.read_only() && MountNamespace::HasWriters(fs)) return Errno(EBUSY);
  TRY(fs.Reconfigure(data));
  fs.set_read_only(read_only);
  // The file system is read-only as a whole; the mount itself need not be so to be it.
  return t.mounts().Remount(at, own);
}

Result<void> NewMount(Task& t, const Path& at, uint64_t flags, uint32_t own,
                      const std::optional<std::string>& type, const std::optional<std::string>& source,
                      const std::string& data) {
  if (!type) return Errno(EINVAL);
  const FsType* fs_type = FindFsType(*type);
  if (fs_type == nullptr) return Errno(ENODEV);
  if (!fs_type->in_user_namespaces && !t.creds().Has(Capability::kSysAdmin)) return Errno(EPERM);
  if (!t.creds().HasOwn(Capability::kSysAdmin)) return Errno(EPERM);
  AtWalk walk = TRY(AtWalk::Make(t, AT_FDCWD, "/"));
  const Path cwd = t.fs().cwd(), root = t.fs().root();
  const Walk from{t.creds(), t.mounts(), root, cwd, &t, 0};
  const std::string name = source.value_or("none");
  const NewFsArgs args{.source = name, .data = data, .flags = static_cast<uint32_t>(flags), .walk = from};
  Ref<FileSystem> fs = TRY(fs_type->make(args));
  if (fs_type->reveals && !t.mounts().MayReveal(fs->type_name(), &own)) return Errno(EPERM);
  if (t.creds().user_ns().parent() != nullptr && fs_type->make != nullptr) {
    fs->set_user_ns(Ref<UserNamespace>(t.creds().user_ns()));
  }
  if ((flags & MS_RDONLY) != 0) fs->set_read_only(true);
  Ref<Mount> m = Mount::Make(std::move(fs), own, name);
  return t.mounts().Attach(std::move(m), at);
}

}  // namespace

SysResult SysMount(Task& t, GuestAddr source, UserPath target, GuestAddr type, uint64_t flags,
                   GuestAddr data) {
  const std::optional<std::string> fs_type = TRY(CopyInName(t, type));
  const std::optional<std::string> from = TRY(CopyInName(t, source));
  const std::string options = TRY(CopyInData(t, data));
  const std::string path = TRY(target.CopyIn(t));
  const Path at = TRY(LookupMountPoint(t, path, true));
  if ((flags & kMagicMask) == kMagic) flags &= ~kMagicMask;
  constexpr uint64_t kNoUser = uint64_t{1} << 31;
  if ((flags & kNoUser) != 0) return Errno(EINVAL);
  if (!MayMount(t)) return Errno(EPERM);
  const uint32_t own = MountFlags(flags, at);
  MountNamespace& mounts = t.mounts();
  if ((flags & (MS_REMOUNT | MS_BIND)) == (MS_REMOUNT | MS_BIND)) return Zero(mounts.Remount(at, own));
  if ((flags & MS_REMOUNT) != 0) return Zero(Remount(t, at, flags, own, options));
  const bool takes_path = (flags & (MS_BIND | MS_MOVE)) != 0 &&
                          ((flags & MS_BIND) != 0 ||
                           (flags & (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE)) == 0);
  // What is mounted goes on top of what is there.
  const Path top = mounts.TopOf(at);
  if (!takes_path) {
    if ((flags & (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE)) != 0) {
      return Zero(mounts.SetPropagation(at, static_cast<uint32_t>(flags)));
    }
    return Zero(NewMount(t, top, flags, own, fs_type, from, options));
  }
  if (!from || from->empty()) return Errno(EINVAL);
  const Path old = TRY(LookupMountPoint(t, *from, true));
  if ((flags & MS_BIND) != 0) return Zero(mounts.Bind(old, top, (flags & MS_REC) != 0));
  return Zero(mounts.Move(old, top));
}

SysResult SysUmount2(Task& t, UserPath target, int flags) {
  if ((flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW)) != 0) return Errno(EINVAL);
  const std::string path = TRY(target.CopyIn(t));
  Path at = TRY(LookupMountPoint(t, path, (flags & UMOUNT_NOFOLLOW) == 0));
  if (!MayMount(t)) return Errno(EPERM);
  MountNamespace& mounts = t.mounts();
  at = mounts.TopOf(std::move(at));
  if (&at.dentry() != &at.mount().root() || !mounts.Owns(at.mount())) return Errno(EINVAL);
  if (mounts.IsLocked(at.mount())) return Errno(EINVAL);
  if ((flags & MNT_FORCE) != 0 &&
      !t.creds().HasIn(at.mount().fs().user_ns(), Capability::kSysAdmin)) {
    return Errno(EPERM);
  }
  const bool is_root = &t.fs().root().mount() == &at.mount();
  if ((flags & MNT_EXPIRE) != 0 && is_root) return Errno(EINVAL);
  if (is_root && (flags & MNT_DETACH) == 0) {
    // The root cannot go: it becomes read-only instead (do_umount_root).
    FileSystem& fs = at.mount().fs();
    if (!t.creds().HasIn(fs.user_ns(), Capability::kSysAdmin)) return Errno(EPERM);
    if (fs.read_only()) return 0;
    if (MountNamespace::HasWriters(fs)) return Errno(EBUSY);
    fs.set_read_only(true);
    return 0;
  }
  return Zero(mounts.Detach(at, flags));
}

SysResult SysPivotRoot(Task& t, UserPath new_root, UserPath put_old) {
  if (!MayMount(t)) return Errno(EPERM);
  const std::string new_name = TRY(new_root.CopyIn(t));
  const Path fresh = TRY(LookupAt(t, AT_FDCWD, new_name, 0));
  if (!fresh.dentry().is_directory()) return Errno(ENOTDIR);
  const std::string old_name = TRY(put_old.CopyIn(t));
  Path old = TRY(LookupAt(t, AT_FDCWD, old_name, 0));
  if (!old.dentry().is_directory()) return Errno(ENOTDIR);
  old = t.mounts().TopOf(std::move(old));
  const Path root = t.fs().root();
  TRY(t.mounts().PivotRoot(fresh, old, root));
  // Whoever stood in the old root stands in the new one (chroot_fs_refs).
  std::vector<RefPtr<FsContext>> contexts;
  {
    TaskSet& set = t.kernel().tasks();
    MutexLock lock(set.mu);
    for (const auto& [tid, task] : set.tasks) contexts.push_back(task->fs_ref());
  }
  for (const RefPtr<FsContext>& fs : contexts) {
    if (fs) fs->Replace(root, fresh);
  }
  return 0;
}

}  // namespace ringwall
