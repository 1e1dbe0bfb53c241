// File handles (fs/fhandle.c).
#include <fcntl.h>

#include "fs/vfs/file_handles.h"
#include "fs/vfs/leases.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_misc.h"

namespace ringwall {

namespace {

// struct file_handle, before its bytes.
struct HandleHeader {
  uint32_t bytes;
  int32_t type;
};
constexpr uint32_t kMaxHandle = 128;  // MAX_HANDLE_SZ
constexpr uint64_t kHandleSize = 12;
constexpr int32_t kHandleType = 1;  // FILEID_INO32_GEN

struct Handle {
  uint32_t ino_low, ino_high, generation;
};
static_assert(sizeof(Handle) == kHandleSize);

// The place that a descriptor of a mount stands for.
Result<Path> MountOf(Task& t, int fd) {
  if (fd == AT_FDCWD) return t.fs().cwd();
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  return file->path();
}

}  // namespace

SysResult SysNameToHandleAt(Task& t, int dirfd, UserPath path, GuestAddr handle, GuestAddr mount_id,
                            int flags) {
  constexpr int kUniqueMountId = 1, kFid = 0x200;
  if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH | kUniqueMountId | kFid)) != 0) {
    return Errno(EINVAL);
  }
  const int lookup = (flags & AT_EMPTY_PATH) |
                     ((flags & AT_SYMLINK_FOLLOW) != 0 ? 0 : AT_SYMLINK_NOFOLLOW);
  const Path p = TRY(LookupAt(t, dirfd, path, lookup));
  if ((flags & kFid) == 0 && !KeepsHandles(p.mount().fs())) return Errno(EOPNOTSUPP);
  HandleHeader header = TRY(UserIn<HandleHeader>(handle).CopyIn(t));
  if (header.bytes > kMaxHandle) return Errno(EINVAL);
  const bool fits = header.bytes >= kHandleSize;
  const Attr attr = TRY(Vfs::Stat(p));
  const uint64_t id = static_cast<uint64_t>(p.mount().id());
  if ((flags & kUniqueMountId) != 0) {
    TRY(UserOut<uint64_t>(mount_id).CopyOut(t, id));
  } else {
    TRY(UserOut<int32_t>(mount_id).CopyOut(t, static_cast<int32_t>(id)));
  }
  header.bytes = kHandleSize;
  header.type = kHandleType;
  TRY(UserOut<HandleHeader>(handle).CopyOut(t, header));
  if (!fits) return Errno(EOVERFLOW);
  const Handle h = {static_cast<uint32_t>(attr.ino), static_cast<uint32_t>(attr.ino >> 32), 0};
  TRY(UserOut<Handle>(handle + sizeof(HandleHeader)).CopyOut(t, h));
  if (!p.dentry().unlinked()) RememberHandle(p.dentry(), attr.ino);
  return 0;
}

SysResult SysOpenByHandleAt(Task& t, int mount_fd, GuestAddr handle, int flags) {
  const Path place = TRY(MountOf(t, mount_fd));
  if (!t.creds().Has(Capability::kDacReadSearch)) return Errno(EPERM);
  const HandleHeader header = TRY(UserIn<HandleHeader>(handle).CopyIn(t));
  if (header.bytes > kMaxHandle || header.bytes == 0 || header.type < 0) return Errno(EINVAL);
  Handle h = {};
  if (header.bytes < kHandleSize || header.type != kHandleType) return Errno(ESTALE);
  h = TRY(UserIn<Handle>(handle + sizeof(HandleHeader)).CopyIn(t));
  const uint64_t ino = h.ino_low | uint64_t{h.ino_high} << 32;
  RefPtr<Dentry> dentry = FindByHandle(place.mount().fs(), ino);
  if (!dentry || h.generation != 0) return Errno(ESTALE);
  AtWalk at = TRY(AtWalk::Make(t, AT_FDCWD, "/"));
  const Path p(place.mount_ref(), dentry);
  const uint32_t open_flags = static_cast<uint32_t>(flags) & ~static_cast<uint32_t>(O_CREAT | O_EXCL);
  for (;;) {
    LeaseWait wait;
    Result<Ref<File>> file = Vfs::OpenPath(at.walk(), p, open_flags, &wait);
    if (file.ok()) {
      const int fd = TRY(t.fds().Install(std::move(*file), (flags & O_CLOEXEC) != 0,
                                         t.tg().limit(RLIMIT_NOFILE)));
      return fd;
    }
    if (!wait.inode) return file.error();
    TRY(WaitForLease(t, wait));
  }
}

}  // namespace ringwall
