// Host unix sockets, for roots that allow them (--host-uds). The gofer only connects or binds; the
// descriptor goes to the Sentry, which does the rest.
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "gofer/server/host.h"
#include "gofer/server/session.h"

namespace ringwall::gofer {

namespace {

const sockaddr* AsSockaddr(const sockaddr_un& address) {
  return static_cast<const sockaddr*>(static_cast<const void*>(&address));
}

Result<UniqueFd> MakeSocket(uint32_t type) {
  if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET) return Errno(EINVAL);
  // Non-blocking: neither the gofer nor the Sentry may wait inside the host.
  UniqueFd fd(::socket(AF_UNIX, static_cast<int>(type) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return Errno(errno);
  return fd;
}

}  // namespace

Result<void> Session::Connect(Reader& in, Reply& out) {
  const ConnectRequest request = TRY(in.Read<ConnectRequest>());
  TRY(in.End());
  const Ref<FileHandle> handle = TRY(handles_.Get(request.handle));
  if (handle->type != S_IFSOCK || !handle->root.connect_sockets) return Errno(ECONNREFUSED);
  const FdPath path(options_.proc, handle->fd());
  if (!path.available()) return Errno(ECONNREFUSED);
  UniqueFd fd = TRY(MakeSocket(request.type));
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  ::snprintf(address.sun_path, sizeof(address.sun_path), "%s", path.c_str());
  TRY(FromHost(
      RetryEintr([&] { return ::connect(fd.get(), AsSockaddr(address), sizeof(address)); })));
  out.fds.Add(std::move(fd));
  return {};
}

Result<void> Session::Bind(Reader& in, Reply& out) {
  const BindRequest request = TRY(in.Read<BindRequest>());
  const Name name = TRY(in.ReadName(request.name_size));
  TRY(in.End());
  const Ref<FileHandle> dir = TRY(GetWritableDir(request.dir));
  if (!dir->root.bind_sockets) return Errno(EPERM);
  const FdPath path(options_.proc, dir->fd());
  if (!path.available()) return Errno(EOPNOTSUPP);
  UniqueFd fd = TRY(MakeSocket(request.type));
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  const int size =
      ::snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", path.c_str(), name.c_str());
  if (static_cast<size_t>(size) >= sizeof(address.sun_path)) return Errno(ENAMETOOLONG);
  TRY(FromHost(::bind(fd.get(), AsSockaddr(address), sizeof(address))));
  NodeReply node;
  UniqueFd path_fd = TRY(FinishNew(dir->fd(), name, S_IFSOCK | (request.mode & 07777), request.uid,
                                   request.gid, &node.attr));
  TRY(ChmodFd(options_.proc, path_fd.get(), S_IFSOCK, request.mode & 07777));
  node.attr = TRY(StatFd(path_fd.get()));
  Ref<FileHandle> handle =
      MakeRef<FileHandle>(std::move(path_fd), dir->root, uint32_t{S_IFSOCK}, dir->dev, false);
  if (request.type != SOCK_DGRAM) {
    UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
    if (!copy) return Errno(errno);
    handle->KeepBound(std::move(copy));
  }
  node.handle = TRY(handles_.Insert(std::move(handle)));
  out.body.Put(node);
  out.fds.Add(std::move(fd));
  return {};
}

// The Sentry's filter has no such call.
Result<void> Session::Listen(Reader& in, Reply&) {
  const ListenRequest request = TRY(in.Read<ListenRequest>());
  TRY(in.End());
  const Ref<FileHandle> handle = TRY(handles_.Get(request.handle));
  if (!handle->root.bind_sockets) return Errno(EPERM);
  const UniqueFd socket = handle->TakeBound();
  if (!socket) return Errno(EINVAL);
  TRY(FromHost(::listen(socket.get(), static_cast<int>(request.backlog & INT_MAX))));
  return {};
}

}  // namespace ringwall::gofer
