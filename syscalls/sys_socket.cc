// Socket calls (net/socket.c) of all families. sys_socket_message.cc has those with a msghdr.
#include <fcntl.h>
#include <sys/epoll.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "sentry/kernel/guest_io.h"
#include "syscalls/socket_calls.h"

namespace ringwall {

Result<SocketRef> GetSocket(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  Socket* socket = file->AsSocket();
  if (socket == nullptr) return Errno(ENOTSOCK);
  return SocketRef{std::move(file), *socket};
}

Result<SocketAddress> CopyInAddress(Task& t, GuestAddr addr, int64_t length) {
  if (length < 0 || length > static_cast<int64_t>(SocketAddress::kMax)) return Errno(EINVAL);
  SocketAddress a;
  a.size = static_cast<uint32_t>(length);
  if (length > 0) {
    TRY(t.CopyIn(addr, std::span(a.bytes).first(a.size)));
  }
  return a;
}

Result<void> CopyOutAddress(Task& t, const SocketAddress& a, GuestAddr addr, GuestAddr length) {
  const int32_t room = TRY(UserIn<int32_t>(length).CopyIn(t));
  if (room < 0) return Errno(EINVAL);
  const size_t n = std::min<size_t>(a.size, static_cast<size_t>(room));
  if (n > 0) {
    TRY(t.CopyOutLast(addr, std::span<const std::byte>(a.bytes).first(n)));
  }
  const int32_t size = static_cast<int32_t>(a.size);
  return t.CopyOutLast(length, std::as_bytes(std::span(&size, 1)));
}

namespace {

constexpr int kTypeMask = 0xf;

Result<void> CheckFlags(int type) {
  if ((type & ~(kTypeMask | SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return Errno(EINVAL);
  return {};
}

// __sock_create().
Result<Ref<Socket>> Create(Task& t, int domain, int type, int protocol) {
  if (domain < 0 || domain >= AF_MAX) return Errno(EAFNOSUPPORT);
  const int kind = type & kTypeMask;
  if (kind > SOCK_PACKET) return Errno(EINVAL);
  // The way that sockets for packets were once asked for.
  if (domain == AF_INET && kind == SOCK_PACKET) domain = AF_PACKET;
  SocketFamily* family = FindSocketFamily(domain);
  if (family == nullptr) return Errno(EAFNOSUPPORT);
  return family->Create(t, kind, protocol, (type & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0);
}

Result<int> Install(Task& t, Ref<File> file, int flags) {
  return t.fds().Install(std::move(file), (flags & SOCK_CLOEXEC) != 0,
                         t.tg().limit(RLIMIT_NOFILE));
}

SysResult DoAccept(Task& t, int fd, GuestAddr addr, GuestAddr length, int flags) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return Errno(EINVAL);
  FdReservation slot = TRY(t.fds().Reserve(0, t.tg().limit(RLIMIT_NOFILE)));
  Socket* listener = file->AsSocket();
  if (listener == nullptr) return Errno(ENOTSOCK);
  Ref<Socket> fresh = TRY(listener->Accept(t, !file->nonblocking()));
  if ((flags & SOCK_NONBLOCK) != 0) {
    TRY(fresh->SetFlags(fresh->flags() | O_NONBLOCK));
  }
  if (!addr.IsNull()) {
    Result<SocketAddress> peer = fresh->AcceptedName();
    if (!peer.ok()) return Errno(ECONNABORTED);
    TRY(CopyOutAddress(t, *peer, addr, length));
  }
  const int number = slot.fd();
  slot.Commit(std::move(fresh), (flags & SOCK_CLOEXEC) != 0);
  return number;
}

}  // namespace

SysResult SysSocket(Task& t, int domain, int type, int protocol) {
  TRY(CheckFlags(type));
  Ref<Socket> socket = TRY(Create(t, domain, type, protocol));
  const int fd = TRY(Install(t, std::move(socket), type));
  return fd;
}

SysResult SysSocketpair(Task& t, int domain, int type, int protocol, GuestAddr out) {
  TRY(CheckFlags(type));
  const uint64_t limit = t.tg().limit(RLIMIT_NOFILE);
  FdReservation first = TRY(t.fds().Reserve(0, limit));
  FdReservation second = TRY(t.fds().Reserve(0, limit));
  const int32_t numbers[2] = {first.fd(), second.fd()};
  TRY(t.CopyOut(out, std::as_bytes(std::span(numbers))));
  Ref<Socket> a = TRY(Create(t, domain, type, protocol));
  Ref<Socket> b = TRY(Create(t, domain, type, protocol));
  TRY(FindSocketFamily(a->family())->Pair(*a, *b));
  first.Commit(std::move(a), (type & SOCK_CLOEXEC) != 0);
  second.Commit(std::move(b), (type & SOCK_CLOEXEC) != 0);
  return 0;
}

SysResult SysBind(Task& t, int fd, GuestAddr addr, int length) {
  SocketRef s = TRY(GetSocket(t, fd));
  const SocketAddress a = TRY(CopyInAddress(t, addr, length));
  return Zero(s.socket.Bind(t, a));
}

SysResult SysListen(Task& t, int fd, int backlog) {
  SocketRef s = TRY(GetSocket(t, fd));
  return Zero(s.socket.Listen(t, backlog));
}

SysResult SysConnect(Task& t, int fd, GuestAddr addr, int length) {
  SocketRef s = TRY(GetSocket(t, fd));
  const SocketAddress a = TRY(CopyInAddress(t, addr, length));
  return Zero(s.socket.Connect(t, a, !s.file->nonblocking()));
}

SysResult SysAccept(Task& t, int fd, GuestAddr addr, GuestAddr length) {
  return DoAccept(t, fd, addr, length, 0);
}

SysResult SysAccept4(Task& t, int fd, GuestAddr addr, GuestAddr length, int flags) {
  return DoAccept(t, fd, addr, length, flags);
}

SysResult SysGetsockname(Task& t, int fd, GuestAddr addr, GuestAddr length) {
  SocketRef s = TRY(GetSocket(t, fd));
  const SocketAddress a = TRY(s.socket.LocalName());
  return Zero(CopyOutAddress(t, a, addr, length));
}

SysResult SysGetpeername(Task& t, int fd, GuestAddr addr, GuestAddr length) {
  SocketRef s = TRY(GetSocket(t, fd));
  const SocketAddress a = TRY(s.socket.PeerName());
  return Zero(CopyOutAddress(t, a, addr, length));
}

SysResult SysShutdown(Task& t, int fd, int how) {
  SocketRef s = TRY(GetSocket(t, fd));
  return Zero(s.socket.Shutdown(t, how));
}

SysResult SysSetsockopt(Task& t, int fd, int level, int option, GuestAddr value, int length) {
  SocketRef s = TRY(GetSocket(t, fd));
  if (length < 0) return Errno(EINVAL);
  OptionIn in(t, value, static_cast<uint32_t>(length));
  return Zero(s.socket.SetSockOpt(level, option, in));
}

SysResult SysGetsockopt(Task& t, int fd, int level, int option, GuestAddr value,
                        GuestAddr length_addr) {
  SocketRef s = TRY(GetSocket(t, fd));
  const Result<int32_t> given = UserIn<int32_t>(length_addr).CopyIn(t);
  if (!given.ok() && s.socket.KnowsLevel(level, option)) return given.error();
  const int32_t room = given.ok() ? *given : 0;
  // A negative length comes before an unknown option, behind it where the level is nobody's, and is a
  // large one for IPv6.
  const bool v6 = s.socket.family() == AF_INET6 &&
                  (level == IPPROTO_IPV6 || (level == 255 /* SOL_RAW */ && s.socket.type() == SOCK_RAW));
  if (room < 0 && !v6 && s.socket.KnowsLevel(level, option)) return Errno(EINVAL);
  OptionOut out(t, value, static_cast<uint32_t>(v6 && room < 0 ? INT32_MAX : std::max(room, 0)));
  if (Result<void> got = s.socket.GetSockOpt(level, option, out); !got.ok()) {
    if (out.has_length()) {
      TRY(UserOut<int32_t>(length_addr).CopyOut(t, static_cast<int32_t>(out.length())));
    }
    return got.error();
  }
  if (!given.ok()) return given.error();
  if (room < 0 && !v6) return Errno(EINVAL);
  TRY(t.CopyOutLast(value, out.value()));
  const int32_t size = static_cast<int32_t>(out.length());
  return Zero(t.CopyOutLast(length_addr, std::as_bytes(std::span(&size, 1))));
}

}  // namespace ringwall
