// Extended attributes. Only the namespaces that mean the same inside a sandbox as outside go
// through: user.*, POSIX ACLs, and reading security.capability.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "gofer/server/host.h"
#include "gofer/server/session.h"

namespace ringwall::gofer {

namespace {

bool Readable(std::string_view name) {
  return name.starts_with("user.") || name == "system.posix_acl_access" ||
         name == "system.posix_acl_default" || name == "security.capability";
}

bool Writable(std::string_view name) { return Readable(name) && !name.starts_with("security."); }

// The name as a C string; names are short and were checked.
class XattrName {
 public:
  explicit XattrName(std::string_view name) {
    name.copy(text_, kMaxXattrName);
    text_[name.size()] = '\0';
  }
  const char* c_str() const { return text_; }

 private:
  char text_[kMaxXattrName + 1];
};

}  // namespace

Result<Ref<FileHandle>> Session::XattrTarget(const XattrRequest& request, std::string_view name,
                                             bool write) const {
  if (name.empty() || name.size() > kMaxXattrName) return Errno(ERANGE);
  if (name.find('\0') != std::string_view::npos) return Errno(EINVAL);
  Ref<FileHandle> handle = TRY(write ? GetWritable(request.handle) : handles_.Get(request.handle));
  if (name.starts_with("trusted.")) return Errno(write ? EPERM : ENODATA);
  if (write && name.starts_with("security.") && Readable(name)) return Errno(EPERM);
  if (write ? !Writable(name) : !Readable(name)) return Errno(EOPNOTSUPP);
  return handle;
}

Result<void> Session::GetXattr(Reader& in, Reply& out) {
  const XattrRequest request = TRY(in.Read<XattrRequest>());
  const std::string_view name = TRY(in.ReadBytes(request.name_size));
  TRY(in.End());
  const Ref<FileHandle> handle = TRY(XattrTarget(request, name, /*write=*/false));
  const FdPath path(options_.proc, handle->fd());
  if (!path.available()) return Errno(EOPNOTSUPP);
  const size_t room = request.value_size < kMaxXattrValue ? request.value_size : kMaxXattrValue;
  static_assert(kScratchSize >= kMaxXattrValue);
  const ssize_t size = ::getxattr(path.c_str(), XattrName(name).c_str(), out.scratch.data(), room);
  if (size < 0) return Errno(errno);
  const uint32_t bytes = room == 0 ? 0 : static_cast<uint32_t>(size);
  out.body.Put(XattrReply{.size = static_cast<uint32_t>(size), .bytes = bytes});
  out.body.PutBytes({AsChars(out.scratch), bytes});
  return {};
}

Result<void> Session::SetXattr(Reader& in, Reply&) {
  const XattrRequest request = TRY(in.Read<XattrRequest>());
  const std::string_view name = TRY(in.ReadBytes(request.name_size));
  if (request.value_size > kMaxXattrValue) return Errno(E2BIG);
  const std::string_view value = TRY(in.ReadBytes(request.value_size));
  TRY(in.End());
  if ((request.flags & ~static_cast<uint32_t>(XATTR_CREATE | XATTR_REPLACE)) != 0) {
    return Errno(EINVAL);
  }
  const Ref<FileHandle> handle = TRY(XattrTarget(request, name, /*write=*/true));
  const FdPath path(options_.proc, handle->fd());
  if (!path.available()) return Errno(EOPNOTSUPP);
  TRY(FromHost(::setxattr(path.c_str(), XattrName(name).c_str(), value.data(), value.size(),
                          static_cast<int>(request.flags))));
  return {};
}

Result<void> Session::ListXattr(Reader& in, Reply& out) {
  const XattrRequest request = TRY(in.Read<XattrRequest>());
  TRY(in.End());
  if (request.name_size != 0) return Errno(EINVAL);
  const Ref<FileHandle> handle = TRY(handles_.Get(request.handle));
  const FdPath path(options_.proc, handle->fd());
  if (!path.available()) return Errno(EOPNOTSUPP);
  char* list = AsChars(out.scratch);
  const ssize_t got = ::listxattr(path.c_str(), list, out.scratch.size());
  if (got < 0) return Errno(errno);
  // Keeps, in place, the names that GetXattr would answer for.
  size_t size = 0;
  for (size_t at = 0; at < static_cast<size_t>(got);) {
    const size_t length = ::strnlen(list + at, static_cast<size_t>(got) - at);
    if (Readable({list + at, length}) && at + length < static_cast<size_t>(got)) {
      std::memmove(list + size, list + at, length + 1);
      size += length + 1;
    }
    at += length + 1;
  }
  if (request.value_size != 0 && size > request.value_size) return Errno(ERANGE);
  const uint32_t bytes = request.value_size == 0 ? 0 : static_cast<uint32_t>(size);
  out.body.Put(XattrReply{.size = static_cast<uint32_t>(size), .bytes = bytes});
  out.body.PutBytes({list, bytes});
  return {};
}

Result<void> Session::RemoveXattr(Reader& in, Reply&) {
  const XattrRequest request = TRY(in.Read<XattrRequest>());
  const std::string_view name = TRY(in.ReadBytes(request.name_size));
  TRY(in.End());
  const Ref<FileHandle> handle = TRY(XattrTarget(request, name, /*write=*/true));
  const FdPath path(options_.proc, handle->fd());
  if (!path.available()) return Errno(EOPNOTSUPP);
  TRY(FromHost(::removexattr(path.c_str(), XattrName(name).c_str())));
  return {};
}

}  // namespace ringwall::gofer
