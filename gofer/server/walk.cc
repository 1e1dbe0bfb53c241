// Walking several components in one request, and opening what is there.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gofer/server/host.h"
#include "gofer/server/session.h"

namespace ringwall::gofer {

namespace {

// Reads the next component of a request that was checked before.
Result<Name> NextName(Reader& names) {
  const uint16_t size = TRY(names.Read<uint16_t>());
  return names.ReadName(size);
}

Result<std::string_view> ReadLinkAt(int dir, const char* name, std::span<uint8_t> scratch) {
  char* buf = AsChars(scratch);
  const ssize_t size = ::readlinkat(dir, name, buf, kMaxPathLength + 1);
  if (size < 0) return Errno(errno);
  if (static_cast<size_t>(size) > kMaxPathLength) return Errno(ENAMETOOLONG);
  return std::string_view(buf, static_cast<size_t>(size));
}

// Undoes the handles of a walk whose reply cannot be sent.
class KeptHandles {
 public:
  explicit KeptHandles(HandleTable& table) : table_(table) {}
  ~KeptHandles() {
    for (size_t i = 0; i < count_; ++i) table_.Remove(values_[i]);
  }
  void Add(HandleValue value) { values_[count_++] = value; }
  void Commit() { count_ = 0; }

 private:
  HandleTable& table_;
  size_t count_ = 0;
  HandleValue values_[kMaxWalkNames];
};

}  // namespace

// Compare Linux fs/namei.c:link_path_walk(), but a link ends the walk: the client knows where it
// leads to in its own tree.
Result<void> Session::Walk(Reader& in, Reply& out) {
  const WalkRequest request = TRY(in.Read<WalkRequest>());
  if ((request.flags & ~(kWalkHandleAll | kWalkHandleLast | kWalkOpen)) != 0) return Errno(EINVAL);
  if (request.count == 0 || request.count > kMaxWalkNames) return Errno(EINVAL);
  TRY(HostOpenFlags(request.open_flags));
  Reader names = in;
  for (uint32_t i = 0; i < request.count; ++i) TRY(NextName(in));
  TRY(in.End());
  const Ref<FileHandle> start = TRY(GetDir(request.dir));
  const Root& root = start->root;

  KeptHandles kept(handles_);
  WalkReply reply;
  const size_t reply_at = out.body.used();
  out.body.Put(reply);
  UniqueFd dir_fd;          // of the directory reached, when no handle keeps it
  RefPtr<FileHandle> held;  // or the handle that does
  int dir = start->fd();
  uint64_t dev = start->dev;
  auto fail = [&](WalkStop stop, Errno error) {
    reply.stop = static_cast<uint16_t>(stop);
    reply.error = error.value();
  };

  for (uint32_t i = 0; i < request.count; ++i) {
    const bool last = i + 1 == request.count;
    const Name name = TRY(NextName(names));
    const bool keep =
        (request.flags & kWalkHandleAll) != 0 || (last && (request.flags & kWalkHandleLast) != 0);
    // The last one needs no descriptor when only its attributes are wanted.
    const bool by_name = last && !keep;
    UniqueFd fd;
    if (!by_name) {
      Result<UniqueFd> opened = OpenPath(dir, name.c_str());
      if (!opened.ok()) {
        fail(WalkStop::kError, opened.error());
        break;
      }
      fd = std::move(*opened);
    }
    Result<Attr> attr = by_name ? StatAt(dir, name.c_str()) : StatFd(fd.get());
    if (!attr.ok()) {
      fail(WalkStop::kError, attr.error());
      break;
    }
    NodeReply node = {.handle = 0, .attr = *attr};
    const uint32_t type = attr->mode & S_IFMT;
    const size_t node_at = out.body.used();
    out.body.Put(node);
    ++reply.count;
    if (type == S_IFLNK) {
      Result<std::string_view> target = by_name ? ReadLinkAt(dir, name.c_str(), out.scratch)
                                                : ReadLinkAt(fd.get(), "", out.scratch);
      if (!target.ok()) {  // replaced meanwhile
        out.body.Truncate(node_at);
        --reply.count;
        fail(WalkStop::kError, target.error());
        break;
      }
      out.body.PutBytes(*target);
      reply.target_size = static_cast<uint32_t>(target->size());
      if (!last) reply.stop = static_cast<uint16_t>(WalkStop::kSymlink);
    }
    // Mounted there: perhaps a file system of the host's kernel.
    const bool closed = type == S_IFDIR && fd && attr->dev != dev && IsKernelFs(fd.get());
    if (keep) {
      Ref<FileHandle> handle = MakeRef<FileHandle>(std::move(fd), root, type, attr->dev, closed);
      held = handle;
      Result<HandleValue> value = handles_.Insert(std::move(handle));
      if (!value.ok()) return value.error();
      kept.Add(*value);
      node.handle = *value;
      out.body.Patch(node_at, node);
    }
    if (last && (request.flags & kWalkOpen) != 0 && type == S_IFREG) {
      Result<UniqueFd> opened =
          keep ? OpenForClient(*held, request.open_flags)
               : OpenRegularAt(dir, name, root, request.open_flags, &node.attr);
      if (!keep) out.body.Patch(node_at, node);
      if (opened.ok()) {
        out.fds.Add(std::move(*opened));
      } else {
        fail(WalkStop::kOpenFailed, opened.error());
      }
    }
    if (type == S_IFLNK || last) break;
    if (type != S_IFDIR) {
      fail(WalkStop::kError, Errno(ENOTDIR));
      break;
    }
    if (closed) {
      fail(WalkStop::kError, Errno(EACCES));
      break;
    }
    dev = attr->dev;
    if (keep) {
      dir = held->fd();
    } else {
      dir_fd = std::move(fd);
      dir = dir_fd.get();
    }
  }
  out.body.Patch(reply_at, reply);
  if (out.body.overflow()) return Errno(EMSGSIZE);
  kept.Commit();
  return {};
}

Result<UniqueFd> Session::Reopen(const FileHandle& handle, int flags) const {
  if (handle.closed) return Errno(EACCES);
  if (handle.type == S_IFDIR) {
    UniqueFd fd(::openat(handle.fd(), ".", (flags & ~O_ACCMODE) | O_RDONLY | O_CLOEXEC));
    if (!fd) return Errno(errno);
    return fd;
  }
  if (handle.type == S_IFLNK) return Errno(ELOOP);
  if (handle.type == S_IFSOCK) return Errno(ENXIO);
  if (handle.type != S_IFREG && handle.type != S_IFIFO) return Errno(EACCES);
  const FdPath path(options_.proc, handle.fd());
  if (!path.available()) return Errno(EOPNOTSUPP);
  UniqueFd fd(RetryEintr(
      [&] { return ::openat(AT_FDCWD, path.c_str(), flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC); }));
  if (!fd) return Errno(errno);
  return fd;
}

Result<UniqueFd> Session::OpenForClient(const FileHandle& handle, uint32_t flags) const {
  const int host_flags = TRY(HostOpenFlags(flags));
  if (WantsWrite(flags) && handle.root.read_only && handle.type != S_IFIFO) return Errno(EROFS);
  switch (handle.type) {
    case S_IFREG:
      break;
    case S_IFIFO:
      if (!handle.root.open_fifos) return Errno(ENXIO);
      // Stays non-blocking: waiting is the Sentry's business.
      return Reopen(handle, host_flags & (O_ACCMODE | O_NOATIME));
    case S_IFDIR:
      return Errno(EISDIR);
    case S_IFLNK:
      return Errno(ELOOP);
    case S_IFSOCK:
      return Errno(ENXIO);
    default:
      return Errno(EACCES);  // a device, as on a mount with nodev
  }
  UniqueFd fd = TRY(Reopen(handle, host_flags));
  TRY(FromHost(::fcntl(fd.get(), F_SETFL, host_flags)));  // drops O_NONBLOCK
  return fd;
}

Result<UniqueFd> Session::OpenRegularAt(int dir, const Name& name, const Root& root,
                                        uint32_t flags, Attr* attr) const {
  const int host_flags = TRY(HostOpenFlags(flags));
  if (WantsWrite(flags) && root.read_only) return Errno(EROFS);
  // O_TRUNC only once it is known what was opened: the file may have been replaced since the
  // caller looked. O_NONBLOCK keeps a FIFO in its place from holding the gofer up.
  UniqueFd fd(RetryEintr([&] {
    return ::openat(dir, name.c_str(),
                    (host_flags & ~O_TRUNC) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  }));
  if (!fd) return Errno(errno);
  const Attr opened = TRY(StatFd(fd.get()));
  if ((opened.mode & S_IFMT) != S_IFREG) return Errno(ESTALE);
  if ((flags & O_TRUNC) != 0) {
    // Through the path, since O_RDONLY|O_TRUNC truncates too.
    const FdPath path(options_.proc, fd.get());
    TRY(FromHost(path.available() ? ::truncate(path.c_str(), 0) : ::ftruncate(fd.get(), 0)));
  }
  TRY(FromHost(::fcntl(fd.get(), F_SETFL, host_flags)));
  *attr = opened;
  return fd;
}

Result<void> Session::Open(Reader& in, Reply& out) {
  const OpenRequest request = TRY(in.Read<OpenRequest>());
  TRY(in.End());
  const Ref<FileHandle> handle = TRY(handles_.Get(request.handle));
  UniqueFd fd = TRY(OpenForClient(*handle, request.flags));
  const Attr attr = TRY(StatFd(fd.get()));
  out.body.Put(attr);
  out.fds.Add(std::move(fd));
  return {};
}

}  // namespace ringwall::gofer
