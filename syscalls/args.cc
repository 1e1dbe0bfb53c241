#include "syscalls/args.h"

#include <fcntl.h>

namespace ringwall {

AtWalk::AtWalk(Task& t, Path root, Path start)
    : task_(&t),
      creds_(&t.creds()),
      mounts_(&t.mounts()),
      root_(std::move(root)),
      start_(std::move(start)) {}

Result<AtWalk> AtWalk::Make(Task& t, int dirfd, std::string_view path) {
  Path root = t.fs().root();
  if (!path.empty() && path[0] == '/') return AtWalk(t, root, root);
  if (dirfd == AT_FDCWD) return AtWalk(t, std::move(root), t.fs().cwd());
  Ref<File> file = TRY(t.GetFile(dirfd));
  if (!path.empty() && !file->inode().is_directory()) return Errno(ENOTDIR);
  return AtWalk(t, std::move(root), file->path());
}

Result<Path> LookupAt(Task& t, int dirfd, std::string_view path, int at_flags) {
  AtWalk at = TRY(AtWalk::Make(t, dirfd, path));
  if (path.empty()) {
    if ((at_flags & AT_EMPTY_PATH) == 0) return Errno(ENOENT);
    return at.start();
  }
  LookupFlags flags;
  flags.follow_last = (at_flags & AT_SYMLINK_NOFOLLOW) == 0;
  return Vfs::Lookup(at.walk(), path, flags);
}

Result<Path> LookupAt(Task& t, int dirfd, UserPath path, int at_flags) {
  const std::string name = TRY(t.CopyInPath(path.addr(), (at_flags & AT_EMPTY_PATH) != 0));
  return LookupAt(t, dirfd, name, at_flags);
}

}  // namespace ringwall
