// inotify (fs/notify/inotify/inotify_user.c).
#include <sys/inotify.h>

#include "fs/vfs/inotify.h"
#include "fs/vfs/permission.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

Result<InotifyGroup*> GetGroup(const Ref<File>& file) {
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  InotifyGroup* group = InotifyGroupOf(*file);
  if (group == nullptr) return Errno(EINVAL);
  return group;
}

}  // namespace

SysResult SysInotifyInit(Task& t) { return SysInotifyInit1(t, 0); }

SysResult SysInotifyInit1(Task& t, int flags) {
  if ((flags & ~(IN_CLOEXEC | IN_NONBLOCK)) != 0) return Errno(EINVAL);
  Ref<File> file =
      TRY(MakeInotifyFile(static_cast<uint32_t>(flags & IN_NONBLOCK), t.creds().ruid));
  const int fd = TRY(t.fds().Install(std::move(file), (flags & IN_CLOEXEC) != 0,
                                     t.tg().limit(RLIMIT_NOFILE)));
  return fd;
}

SysResult SysInotifyAddWatch(Task& t, int fd, UserPath path, uint32_t mask) {
  constexpr uint32_t kModifiers = IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK | IN_MASK_CREATE |
                                  IN_MASK_ADD | IN_ISDIR | IN_ONESHOT;
  constexpr uint32_t kValid =
      IN_ALL_EVENTS | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | kModifiers;
  if (mask == 0 || (mask & ~kValid) != 0) return Errno(EINVAL);
  Ref<File> file = TRY(t.GetFile(fd));
  if ((mask & IN_MASK_ADD) != 0 && (mask & IN_MASK_CREATE) != 0) return Errno(EINVAL);
  InotifyGroup* group = TRY(GetGroup(file));
  const std::string name = TRY(path.CopyIn(t));
  AtWalk at = TRY(AtWalk::Make(t, AT_FDCWD, name));
  LookupFlags flags;
  flags.follow_last = (mask & IN_DONT_FOLLOW) == 0;
  flags.directory = (mask & IN_ONLYDIR) != 0;
  const Path found = TRY(Vfs::Lookup(at.walk(), name, flags));
  TRY(Vfs::CheckAccess(at.walk().creds, found, kMayRead));
  const int32_t wd = TRY(group->AddWatch(*found.dentry().inode(), mask));
  return wd;
}

SysResult SysInotifyRmWatch(Task& t, int fd, int wd) {
  Ref<File> file = TRY(t.GetFile(fd));
  InotifyGroup* group = TRY(GetGroup(file));
  return Zero(group->RemoveWatch(wd));
}

}  // namespace ringwall
