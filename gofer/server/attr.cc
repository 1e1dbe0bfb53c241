// Changing attributes, and what concerns a file's contents as a whole.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gofer/server/host.h"
#include "gofer/server/session.h"

namespace ringwall::gofer {

namespace {

Result<timespec> ToTimespec(const SetAttrRequest& request, uint32_t set, uint32_t now,
                            const Time& time) {
  if ((request.mask & now) != 0) return timespec{0, UTIME_NOW};
  if ((request.mask & set) == 0) return timespec{0, UTIME_OMIT};
  if (time.nsec >= 1000000000) return Errno(EINVAL);
  return timespec{time.sec, static_cast<long>(time.nsec)};
}

Result<void> SetTimes(const ProcAccess& proc, const FileHandle& handle,
                      const timespec (&times)[2]) {
  if (::utimensat(handle.fd(), "", times, AT_EMPTY_PATH) == 0) return {};
  // AT_EMPTY_PATH is of Linux 5.8. A link's own times need it.
  const FdPath path(proc, handle.fd());
  if (errno != EINVAL || !path.available()) return Errno(errno);
  TRY(FromHost(::utimensat(AT_FDCWD, path.c_str(), times, 0)));
  return {};
}

}  // namespace

// Size, owner, mode, times, in this order: truncating and changing the owner both take set-id bits
// away, and all of them change times. What was done before a failure stays.
Result<void> Session::SetAttr(Reader& in, Reply& out) {
  const SetAttrRequest request = TRY(in.Read<SetAttrRequest>());
  TRY(in.End());
  const uint32_t mask = request.mask;
  if ((mask & ~kSetAll) != 0) return Errno(EINVAL);
  if ((mask & kSetMode) != 0 && (request.mode & ~07777u) != 0) return Errno(EINVAL);
  if ((mask & kSetSize) != 0 && request.size > INT64_MAX) return Errno(EINVAL);
  const timespec atime = TRY(ToTimespec(request, kSetAtime, kSetAtimeNow, request.atime));
  const timespec mtime = TRY(ToTimespec(request, kSetMtime, kSetMtimeNow, request.mtime));
  const Ref<FileHandle> handle = TRY(GetWritable(request.handle));

  if ((mask & kSetSize) != 0) {
    if (handle->type == S_IFDIR) return Errno(EISDIR);
    if (handle->type != S_IFREG) return Errno(EINVAL);
    const UniqueFd fd = TRY(Reopen(*handle, O_WRONLY));
    TRY(FromHost(::ftruncate(fd.get(), static_cast<off_t>(request.size))));
  }
  if ((mask & (kSetUid | kSetGid)) != 0) {
    const uint32_t uid = (mask & kSetUid) != 0 ? request.uid : kNoId;
    const uint32_t gid = (mask & kSetGid) != 0 ? request.gid : kNoId;
    TRY(FromHost(::fchownat(handle->fd(), "", uid, gid, AT_EMPTY_PATH)));
  }
  if ((mask & kSetMode) != 0) {
    TRY(ChmodFd(options_.proc, handle->fd(), handle->type, request.mode));
  }
  if ((mask & (kSetAtime | kSetMtime | kSetAtimeNow | kSetMtimeNow)) != 0) {
    const timespec times[2] = {atime, mtime};
    TRY(SetTimes(options_.proc, *handle, times));
  }
  const Attr attr = TRY(StatFd(handle->fd()));
  out.body.Put(attr);
  return {};
}

Result<void> Session::Fsync(Reader& in, Reply&) {
  const FsyncRequest request = TRY(in.Read<FsyncRequest>());
  TRY(in.End());
  const Ref<FileHandle> handle = TRY(handles_.Get(request.handle));
  if (handle->type != S_IFREG && handle->type != S_IFDIR) return Errno(EINVAL);
  const UniqueFd fd = TRY(Reopen(*handle, O_RDONLY));
  switch (static_cast<SyncKind>(request.kind)) {
    case SyncKind::kFile:
      TRY(FromHost(::fsync(fd.get())));
      return {};
    case SyncKind::kData:
      TRY(FromHost(::fdatasync(fd.get())));
      return {};
    case SyncKind::kFileSystem:
      TRY(FromHost(::syncfs(fd.get())));
      return {};
  }
  return Errno(EINVAL);
}

Result<void> Session::Fallocate(Reader& in, Reply&) {
  const FallocateRequest request = TRY(in.Read<FallocateRequest>());
  TRY(in.End());
  if (request.offset > INT64_MAX || request.length > INT64_MAX) return Errno(EINVAL);
  const Ref<FileHandle> handle = TRY(GetWritable(request.handle));
  if (handle->type == S_IFDIR) return Errno(EISDIR);
  if (handle->type != S_IFREG) return Errno(ENODEV);
  const UniqueFd fd = TRY(Reopen(*handle, O_WRONLY));
  TRY(FromHost(RetryEintr([&] {
    return ::fallocate(fd.get(), static_cast<int>(request.mode), static_cast<off_t>(request.offset),
                       static_cast<off_t>(request.length));
  })));
  return {};
}

}  // namespace ringwall::gofer
