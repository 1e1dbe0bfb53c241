// Flushing, room in files and hints (fs/sync.c, fs/open.c, mm/fadvise.c).
#include <fcntl.h>

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
  if (!file->writable()) return Errno(EBADF);
  if (file->inode().type() == S_IFIFO) return Errno(ESPIPE);
  if (file->inode().is_directory()) return Errno(EISDIR);
  if (!file->inode().is_regular()) return Errno(ENODEV);
  if (offset > INT64_MAX - length) return Errno(EFBIG);
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
