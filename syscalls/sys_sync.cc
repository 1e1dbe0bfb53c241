// Flushing, room in files and hints (fs/sync.c, fs/open.c, mm/fadvise.c).
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include <sys/inotify.h>

#include "fs/vfs/inotify.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

Result<Ref<File>> GetOpenFile(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  return file;
}

SysResult Flush(Task& t, int fd, bool data_only) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  const uint32_t type = file->inode().type();
  // Pipes, sockets, character devices and anonymous inodes have nothing to flush.
  if (type != S_IFREG && type != S_IFDIR && type != S_IFBLK) return Errno(EINVAL);
  // Nor do the files of these.
  const std::string_view fs = file->inode().fs().type_name();
  if (fs == "proc" || fs == "mqueue" || fs == "nsfs" || (fs == "sysfs" && type == S_IFDIR)) return Errno(EINVAL);
  return Zero(file->Fsync(data_only));
}

}  // namespace

SysResult SysFsync(Task& t, int fd) { return Flush(t, fd, false); }

SysResult SysFdatasync(Task& t, int fd) { return Flush(t, fd, true); }

SysResult SysSync(Task& t) {
  for (const MountNamespace::Info& m : t.mounts().List()) {
    Result<void> ignored = m.mount->fs().Sync();
    static_cast<void>(ignored);
  }
  return 0;
}

SysResult SysSyncfs(Task& t, int fd) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  return Zero(file->path().mount().fs().Sync());
}

SysResult SysSyncFileRange(Task& t, int fd, int64_t offset, int64_t size, uint32_t flags) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  if ((flags & ~7u) != 0 || offset < 0 || size < 0) return Errno(EINVAL);
  if (!file->inode().is_regular() && !file->inode().is_directory()) return Errno(ESPIPE);
  return Zero(file->Fsync(true));
}

SysResult SysFallocate(Task& t, int fd, int mode, int64_t offset, int64_t length) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  if (offset < 0 || length <= 0) return Errno(EINVAL);
  constexpr int kModes = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_ZERO_RANGE |
                         FALLOC_FL_INSERT_RANGE | FALLOC_FL_UNSHARE_RANGE;
  const int what = mode & kModes;
  const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  if ((mode & ~(kModes | FALLOC_FL_KEEP_SIZE)) != 0 || (what & (what - 1)) != 0) {
    return Errno(EOPNOTSUPP);
  }
  if (what == FALLOC_FL_PUNCH_HOLE && !keep_size) return Errno(EOPNOTSUPP);
  if ((what == FALLOC_FL_COLLAPSE_RANGE || what == FALLOC_FL_INSERT_RANGE) && keep_size) {
    return Errno(EOPNOTSUPP);
  }
  if (!file->writable()) return Errno(EBADF);
  const uint32_t flags = file->inode().file_flags();
  if ((flags & FS_IMMUTABLE_FL) != 0 || ((flags & FS_APPEND_FL) != 0 && what != 0)) {
    return Errno(EPERM);
  }
  if (file->inode().type() == S_IFIFO) return Errno(ESPIPE);
  if (file->inode().is_directory()) return Errno(EISDIR);
  if (!file->inode().is_regular()) return Errno(ENODEV);
  if (offset > INT64_MAX - length) return Errno(EFBIG);
  const uint64_t limit = t.tg().limit(RLIMIT_FSIZE), end = static_cast<uint64_t>(offset + length);
  if (what == 0 && !keep_size && end > limit) {
    const Attr attr = TRY(file->inode().GetAttr());
    if (end > attr.size) return FileTooBig(t);
  }
  TRY(Vfs::DropPrivilegesForWrite(t.creds(), file->inode()));
  TRY(file->Fallocate(mode, static_cast<uint64_t>(offset), static_cast<uint64_t>(length)));
  NotifyFile(*file, IN_MODIFY);
  return 0;
}

SysResult SysFadvise64(Task& t, int fd, int64_t, int64_t length, int advice) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  if (file->inode().type() == S_IFIFO) return Errno(ESPIPE);
  if (length < 0 || advice < 0 || advice > POSIX_FADV_NOREUSE) return Errno(EINVAL);
  return 0;  // a hint; the host's page cache does its own reading ahead
}

SysResult SysReadahead(Task& t, int fd, int64_t, uint64_t) {
  Ref<File> file = TRY(GetOpenFile(t, fd));
  if (!file->readable()) return Errno(EBADF);
  if (!file->inode().is_regular()) return Errno(EINVAL);
  return 0;
}

}  // namespace ringwall
