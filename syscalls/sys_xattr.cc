// Extended attributes (fs/xattr.c).
#include <fcntl.h>
#include <sys/xattr.h>

#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr size_t kXattrNameMax = 255, kXattrSizeMax = 65536;

Result<std::string> CopyInName(Task& t, GuestAddr addr) {
  Result<std::string> name = t.CopyInString(addr, kXattrNameMax + 1);
  if (!name.ok()) return name.error().Is(ENAMETOOLONG) ? Errno(ERANGE) : name.error();
  if (name->empty()) return Errno(ERANGE);
  return name;
}

SysResult Set(Task& t, const Path& p, GuestAddr name, GuestAddr value, uint64_t size, int flags) {
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) != 0) return Errno(EINVAL);
  const std::string key = TRY(CopyInName(t, name));
  if (size > kXattrSizeMax) return Errno(E2BIG);
  std::string bytes(size, '\0');
  TRY(t.CopyIn(value, std::as_writable_bytes(std::span(bytes))));
  return Zero(Vfs::SetXattr(t.creds(), p, key, bytes, flags));
}

SysResult Get(Task& t, const Path& p, GuestAddr name, GuestAddr value, uint64_t size) {
  const std::string key = TRY(CopyInName(t, name));
  const std::string bytes = TRY(Vfs::GetXattr(t.creds(), p, key));
  if (size == 0) return static_cast<int64_t>(bytes.size());
  if (bytes.size() > size) return Errno(ERANGE);
  TRY(t.CopyOutLast(value, std::as_bytes(std::span(bytes))));
  return static_cast<int64_t>(bytes.size());
}

SysResult List(Task& t, const Path& p, GuestAddr list, uint64_t size) {
  const std::vector<std::string> names = TRY(Vfs::ListXattr(t.creds(), p));
  std::string bytes;
  for (const std::string& n : names) bytes.append(n.c_str(), n.size() + 1);
  if (size == 0) return static_cast<int64_t>(bytes.size());
  if (bytes.size() > size) return Errno(ERANGE);
  TRY(t.CopyOutLast(list, std::as_bytes(std::span(bytes))));
  return static_cast<int64_t>(bytes.size());
}

SysResult Remove(Task& t, const Path& p, GuestAddr name) {
  const std::string key = TRY(CopyInName(t, name));
  return Zero(Vfs::RemoveXattr(t.creds(), p, key));
}

// The place of an open descriptor; O_PATH ones are EBADF.
Result<Path> PathOf(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  return file->path();
}

}  // namespace

SysResult SysSetxattr(Task& t, UserPath path, GuestAddr name, GuestAddr value, uint64_t size,
                      int flags) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, 0));
  return Set(t, p, name, value, size, flags);
}
SysResult SysLsetxattr(Task& t, UserPath path, GuestAddr name, GuestAddr value, uint64_t size,
                       int flags) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW));
  return Set(t, p, name, value, size, flags);
}
SysResult SysFsetxattr(Task& t, int fd, GuestAddr name, GuestAddr value, uint64_t size,
                       int flags) {
  const Path p = TRY(PathOf(t, fd));
  return Set(t, p, name, value, size, flags);
}
SysResult SysGetxattr(Task& t, UserPath path, GuestAddr name, GuestAddr value, uint64_t size) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, 0));
  return Get(t, p, name, value, size);
}
SysResult SysLgetxattr(Task& t, UserPath path, GuestAddr name, GuestAddr value, uint64_t size) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW));
  return Get(t, p, name, value, size);
}
SysResult SysFgetxattr(Task& t, int fd, GuestAddr name, GuestAddr value, uint64_t size) {
  const Path p = TRY(PathOf(t, fd));
  return Get(t, p, name, value, size);
}
SysResult SysListxattr(Task& t, UserPath path, GuestAddr list, uint64_t size) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, 0));
  return List(t, p, list, size);
}
SysResult SysLlistxattr(Task& t, UserPath path, GuestAddr list, uint64_t size) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW));
  return List(t, p, list, size);
}
SysResult SysFlistxattr(Task& t, int fd, GuestAddr list, uint64_t size) {
  const Path p = TRY(PathOf(t, fd));
  return List(t, p, list, size);
}
SysResult SysRemovexattr(Task& t, UserPath path, GuestAddr name) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, 0));
  return Remove(t, p, name);
}
SysResult SysLremovexattr(Task& t, UserPath path, GuestAddr name) {
  const Path p = TRY(LookupAt(t, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW));
  return Remove(t, p, name);
}
SysResult SysFremovexattr(Task& t, int fd, GuestAddr name) {
  const Path p = TRY(PathOf(t, fd));
  return Remove(t, p, name);
}

}  // namespace ringwall
