// Socket calls (net/socket.c) on AF_UNIX. Other families are refused as by a kernel without them
// until the network stack joins.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "fs/unix/unix_socket.h"
#include "sentry/kernel/guest_io.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr uint64_t kMaxAddress = 128;
constexpr size_t kMaxScmRights = 253;
constexpr uint64_t kMaxControl = 64 << 10;

// struct user_msghdr.
struct MsgHdrAbi {
  uint64_t name;
  uint32_t name_len, pad0;
  uint64_t iov, iov_len, control, control_len;
  uint32_t flags, pad1;
};
static_assert(sizeof(MsgHdrAbi) == 56);

struct CmsgHdrAbi {
  uint64_t len;
  int32_t level, type;
};

UnixCred OwnCred(const Task& t) { return {t.tgid(), t.creds().ruid, t.creds().rgid}; }

struct SocketRef {
  Ref<File> file;
  UnixSocket& socket;
};

Result<SocketRef> GetSocket(Task& t, int fd) {
  Ref<File> file = TRY(t.GetFile(fd));
  UnixSocket* socket = UnixSocket::From(*file);
  if (socket == nullptr) return Errno(ENOTSOCK);
  return SocketRef{std::move(file), *socket};
}

// sun_path's bytes: up to the NUL of a path, all of an abstract name. Empty: no name (autobind).
Result<std::string> CopyInAddress(Task& t, GuestAddr addr, int32_t length) {
  if (length < 0 || static_cast<uint64_t>(length) > kMaxAddress) return Errno(EINVAL);
  char bytes[kMaxAddress];
  TRY(t.CopyIn(addr, std::as_writable_bytes(std::span(bytes, static_cast<size_t>(length)))));
  if (length < 2) return Errno(EINVAL);
  uint16_t family;
  memcpy(&family, bytes, sizeof(family));
  if (family != AF_UNIX) return Errno(family == AF_UNSPEC ? EAFNOSUPPORT : EINVAL);
  if (length > static_cast<int32_t>(sizeof(sockaddr_un))) return Errno(EINVAL);
  std::string path(bytes + 2, static_cast<size_t>(length) - 2);
  if (!path.empty() && path[0] != '\0') path.resize(strnlen(path.data(), path.size()));
  return path;
}

Result<void> CopyOutAddress(Task& t, const std::string& path, GuestAddr addr, GuestAddr length) {
  if (addr.IsNull()) return {};
  const int32_t room = TRY(UserIn<int32_t>(length).CopyIn(t));
  if (room < 0) return Errno(EINVAL);
  std::string bytes("\1\0", 2);
  bytes += path;
  if (!path.empty() && path[0] != '\0') bytes += '\0';
  TRY(t.CopyOut(addr, std::as_bytes(std::span(bytes)).first(
                          std::min<size_t>(bytes.size(), static_cast<size_t>(room)))));
  return UserOut<int32_t>(length).CopyOut(t, static_cast<int32_t>(bytes.size()));
}

Result<int> CheckType(int domain, int type, int protocol) {
  if (domain < 0 || domain >= AF_MAX) return Errno(EAFNOSUPPORT);
  const int kind = type & 0xf;
  if ((type & ~(0xf | SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0 || kind > SOCK_PACKET) return Errno(EINVAL);
  if (domain != AF_UNIX) return Errno(EAFNOSUPPORT);
  if (protocol != 0 && protocol != PF_UNIX) return Errno(EPROTONOSUPPORT);
  // A raw unix socket is a datagram one.
  if (kind == SOCK_RAW) return static_cast<int>(SOCK_DGRAM);
  if (kind != SOCK_STREAM && kind != SOCK_DGRAM && kind != SOCK_SEQPACKET) {
    return Errno(ESOCKTNOSUPPORT);
  }
  return kind;
}

Result<int> Install(Task& t, Ref<File> file, int flags) {
  return t.fds().Install(std::move(file), (flags & SOCK_CLOEXEC) != 0,
                         t.tg().limit(RLIMIT_NOFILE));
}

uint32_t OpenFlags(int flags) { return (flags & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0; }

// What recvmsg and sendmsg share, read once.
struct Message {
  MsgHdrAbi header;
  GuestBuffers buffers;
};

Result<Message> CopyInMessage(Task& t, GuestAddr addr) {
  const MsgHdrAbi h = TRY(UserIn<MsgHdrAbi>(addr).CopyIn(t));
  if (static_cast<int32_t>(h.name_len) < 0) return Errno(EINVAL);
  GuestBuffers b = TRY(GuestBuffers::Iovec(t, GuestAddr(h.iov), h.iov_len));
  return Message{h, std::move(b)};
}

// SCM_RIGHTS and SCM_CREDENTIALS of a sendmsg.
Result<void> ReadControl(Task& t, const MsgHdrAbi& h, UnixSocket::SendArgs& args) {
  if (h.control_len == 0) return {};
  if (h.control_len > kMaxControl) return Errno(ENOBUFS);
  std::vector<std::byte> bytes(h.control_len);
  TRY(t.CopyIn(GuestAddr(h.control), bytes));
  for (size_t at = 0; at + sizeof(CmsgHdrAbi) <= bytes.size();) {
    CmsgHdrAbi c;
    memcpy(&c, bytes.data() + at, sizeof(c));
    if (c.len < sizeof(c) || c.len > bytes.size() - at) return Errno(EINVAL);
    const std::span<const std::byte> data =
        std::span<const std::byte>(bytes).subspan(at + sizeof(c), c.len - sizeof(c));
    if (c.level == SOL_SOCKET && c.type == SCM_RIGHTS) {
      const size_t n = data.size() / sizeof(int32_t);
      if (n > kMaxScmRights) return Errno(EINVAL);
      for (size_t i = 0; i < n; i++) {
        int32_t fd;
        memcpy(&fd, data.data() + i * sizeof(fd), sizeof(fd));
        Ref<File> file = TRY(t.GetFile(fd));
        args.files.push_back(std::move(file));
      }
    } else if (c.level == SOL_SOCKET && c.type == SCM_CREDENTIALS) {
      if (data.size() != sizeof(UnixCred)) return Errno(EINVAL);
      UnixCred cred;
      memcpy(&cred, data.data(), sizeof(cred));
      const Credentials& own = t.creds();
      const bool uid_ok = cred.uid == own.ruid || cred.uid == own.euid || cred.uid == own.suid ||
                          own.Has(Capability::kSetuid);
      const bool gid_ok = cred.gid == own.rgid || cred.gid == own.egid || cred.gid == own.sgid ||
                          own.Has(Capability::kSetgid);
      if ((cred.pid != t.tgid() && !own.Has(Capability::kSysAdmin)) || !uid_ok || !gid_ok) {
        return Errno(EPERM);
      }
      args.cred = cred;
    } else if (c.level == SOL_SOCKET) {
      return Errno(EINVAL);
    }
    at += (c.len + 7) & ~uint64_t{7};
  }
  return {};
}

SysResult Send(Task& t, UnixSocket& s, GuestBuffers buffers, UnixSocket::SendArgs& args,
               int flags) {
  GuestSrc src(t, std::move(buffers));
  args.src = &src;
  const size_t total = src.remaining();
  const bool wait = !s.nonblocking() && (flags & MSG_DONTWAIT) == 0;
  if ((flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  size_t done = 0;
  for (;;) {
    Result<size_t> n = t.Retry(wait ? s.queue() : nullptr, EPOLLOUT, s.write_deadline(),
                               [&] { return s.Send(args); });
    if (!n.ok()) {
      if (done > 0) return static_cast<int64_t>(done);
      if (n.error().Is(EPIPE) && (flags & MSG_NOSIGNAL) == 0) {
        Result<void> ignored = t.SendSignal(MakeSigInfo(SIGPIPE, SI_USER), false);
        static_cast<void>(ignored);
      }
      return n.error().Is(ETIMEDOUT) ? Errno(EAGAIN) : n.error();
    }
    done += *n;
    if (!s.endpoint().stream() || done >= total || *n == 0) return static_cast<int64_t>(done);
  }
}

Result<RefPtr<UnixEndpoint>> Target(Task& t, UnixSocket& s, GuestAddr addr, int32_t length) {
  const std::string path = TRY(CopyInAddress(t, addr, length));
  if (path.empty()) return Errno(EINVAL);
  AtWalk at = TRY(AtWalk::Make(t, AT_FDCWD, path));
  return s.FindTarget(at.walk(), path);
}

SysResult SendMessage(Task& t, int fd, GuestAddr addr, int flags) {
  SocketRef s = TRY(GetSocket(t, fd));
  Message m = TRY(CopyInMessage(t, addr));
  UnixSocket::SendArgs args{.src = nullptr, .files = {}, .cred = OwnCred(t), .to = nullptr};
  if (m.header.name != 0 && m.header.name_len != 0) {
    if (s.socket.endpoint().type != SOCK_DGRAM) return Errno(EISCONN);
    args.to = TRY(Target(t, s.socket, GuestAddr(m.header.name),
                         static_cast<int32_t>(m.header.name_len)));
  }
  TRY(ReadControl(t, m.header, args));
  return Send(t, s.socket, std::move(m.buffers), args, flags);
}

Result<UnixSocket::Received> Receive(Task& t, UnixSocket& s, IoDst& dst, int flags) {
  const bool wait = !s.nonblocking() && (flags & MSG_DONTWAIT) == 0;
  if ((flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  const bool peek = (flags & MSG_PEEK) != 0;
  UnixSocket::Received all;
  bool any = false;
  for (;;) {
    Result<UnixSocket::Received> r =
        t.Retry(wait ? s.queue() : nullptr, EPOLLIN | EPOLLRDHUP, s.read_deadline(),
                [&] { return s.Receive(dst, peek, false); });
    if (!r.ok()) {
      if (any) return all;
      return r.error().Is(ETIMEDOUT) ? Errno(EAGAIN) : r.error();
    }
    const size_t got = r->size;
    if (!any) {
      all = std::move(*r);
    } else {
      all.size += got;
    }
    any = true;
    const bool more = (flags & MSG_WAITALL) != 0 && s.endpoint().stream() && !peek && wait &&
                      all.files.empty();
    if (!more || got == 0 || dst.remaining() == 0) return all;
  }
}

// Writes what came along; returns MSG_CTRUNC when there was no room.
Result<uint32_t> WriteControl(Task& t, UnixSocket& s, MsgHdrAbi& h, UnixSocket::Received& r,
                              int flags) {
  std::vector<std::byte> out;
  uint32_t result = 0;
  const auto put = [&](int type, std::span<const std::byte> data) {
    const size_t length = sizeof(CmsgHdrAbi) + data.size();
    const CmsgHdrAbi c = {length, SOL_SOCKET, type};
    const size_t at = out.size();
    out.resize(at + ((length + 7) & ~size_t{7}));
    memcpy(out.data() + at, &c, sizeof(c));
    memcpy(out.data() + at + sizeof(c), data.data(), data.size());
  };
  if (s.pass_cred && r.has_cred) {
    if (h.control_len >= sizeof(CmsgHdrAbi) + sizeof(UnixCred)) {
      put(SCM_CREDENTIALS, std::as_bytes(std::span(&r.cred, 1)));
    } else {
      result |= MSG_CTRUNC;
    }
  }
  if (!r.files.empty()) {
    const size_t left = h.control_len > out.size() ? h.control_len - out.size() : 0;
    const size_t fit =
        left > sizeof(CmsgHdrAbi) ? (left - sizeof(CmsgHdrAbi)) / sizeof(int32_t) : 0;
    const size_t n = std::min(fit, r.files.size());
    if (n < r.files.size()) result |= MSG_CTRUNC;
    std::vector<int32_t> numbers;
    for (size_t i = 0; i < n; i++) {
      Result<int> fd = t.fds().Install(r.files[i], (flags & MSG_CMSG_CLOEXEC) != 0,
                                       t.tg().limit(RLIMIT_NOFILE));
      if (!fd.ok()) {
        result |= MSG_CTRUNC;
        break;
      }
      numbers.push_back(*fd);
    }
    if (!numbers.empty()) put(SCM_RIGHTS, std::as_bytes(std::span(numbers)));
  }
  const size_t size = std::min<size_t>(out.size(), h.control_len);
  TRY(t.CopyOut(GuestAddr(h.control), std::span<const std::byte>(out).first(size)));
  h.control_len = size;
  return result;
}

SysResult ReceiveMessage(Task& t, int fd, GuestAddr addr, int flags) {
  SocketRef s = TRY(GetSocket(t, fd));
  Message m = TRY(CopyInMessage(t, addr));
  GuestDst dst(t, std::move(m.buffers));
  UnixSocket::Received r = TRY(Receive(t, s.socket, dst, flags));
  MsgHdrAbi h = m.header;
  h.flags = r.truncated ? MSG_TRUNC : 0;
  if (s.socket.endpoint().type == SOCK_SEQPACKET && r.size > 0) h.flags |= MSG_EOR;
  if (h.control != 0 || !r.files.empty()) {
    const uint32_t more = TRY(WriteControl(t, s.socket, h, r, flags));
    h.flags |= more;
  } else {
    h.control_len = 0;
  }
  if (h.name != 0) {
    const GuestAddr length = addr + offsetof(MsgHdrAbi, name_len);
    if (s.socket.endpoint().type == SOCK_DGRAM && !r.from.empty()) {
      TRY(CopyOutAddress(t, r.from, GuestAddr(h.name), length));
      h.name_len = TRY(UserIn<uint32_t>(length).CopyIn(t));
    } else {
      h.name_len = 0;
    }
  }
  TRY(UserOut<MsgHdrAbi>(addr).CopyOut(t, h));
  return static_cast<int64_t>((flags & MSG_TRUNC) != 0 && !s.socket.endpoint().stream()
                                  ? r.full_size
                                  : r.size);
}

SysResult DoAccept(Task& t, int fd, GuestAddr addr, GuestAddr length, int flags) {
  if ((flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != 0) return Errno(EINVAL);
  SocketRef s = TRY(GetSocket(t, fd));
  Ref<UnixEndpoint> accepted =
      TRY(t.Retry(s.file->nonblocking() ? nullptr : s.socket.queue(), EPOLLIN,
                  s.socket.read_deadline(), [&] { return s.socket.Accept(); }));
  Ref<UnixSocket> fresh = UnixSocket::Wrap(std::move(accepted), OpenFlags(flags));
  if (!addr.IsNull()) {
    TRY(CopyOutAddress(t, fresh->PeerAddress().value_or(""), addr, length));
  }
  const int number = TRY(Install(t, std::move(fresh), flags));
  return number;
}

Result<int64_t> ReadTimeout(Task& t, GuestAddr value, int32_t length) {
  struct TimevalAbi {
    int64_t sec, usec;
  };
  if (length < static_cast<int32_t>(sizeof(TimevalAbi))) return Errno(EINVAL);
  const TimevalAbi tv = TRY(UserIn<TimevalAbi>(value).CopyIn(t));
  if (tv.usec < 0 || tv.usec >= 1'000'000) return Errno(EDOM);
  if (tv.sec < 0) return int64_t{1};
  return std::min<int64_t>(tv.sec, INT32_MAX) * 1'000'000'000 + tv.usec * 1000;
}

}  // namespace

SysResult SysSocket(Task& t, int domain, int type, int protocol) {
  const int kind = TRY(CheckType(domain, type, protocol));
  const int fd =
      TRY(Install(t, UnixSocket::Create(kind, OpenFlags(type), OwnCred(t)), type));
  return fd;
}

SysResult SysSocketpair(Task& t, int domain, int type, int protocol, GuestAddr out) {
  const int kind = TRY(CheckType(domain, type, protocol));
  const uint64_t limit = t.tg().limit(RLIMIT_NOFILE);
  FdReservation first = TRY(t.fds().Reserve(0, limit));
  FdReservation second = TRY(t.fds().Reserve(0, limit));
  const int32_t numbers[2] = {first.fd(), second.fd()};
  TRY(t.CopyOut(out, std::as_bytes(std::span(numbers))));
  Ref<UnixSocket> a = UnixSocket::Create(kind, OpenFlags(type), OwnCred(t));
  Ref<UnixSocket> b = UnixSocket::Create(kind, OpenFlags(type), OwnCred(t));
  UnixSocket::Pair(*a, *b);
  first.Commit(std::move(a), (type & SOCK_CLOEXEC) != 0);
  second.Commit(std::move(b), (type & SOCK_CLOEXEC) != 0);
  return 0;
}

SysResult SysBind(Task& t, int fd, GuestAddr addr, int length) {
  SocketRef s = TRY(GetSocket(t, fd));
  std::string path = TRY(CopyInAddress(t, addr, length));
  if (path.empty()) return Zero(s.socket.Autobind());
  AtWalk at = TRY(AtWalk::Make(t, AT_FDCWD, path));
  return Zero(s.socket.Bind(at.walk(), std::move(path), 0777 & ~t.fs().umask()));
}

SysResult SysListen(Task& t, int fd, int backlog) {
  SocketRef s = TRY(GetSocket(t, fd));
  return Zero(s.socket.Listen(backlog, OwnCred(t)));
}

SysResult SysConnect(Task& t, int fd, GuestAddr addr, int length) {
  SocketRef s = TRY(GetSocket(t, fd));
  if (length >= 2) {
    const uint16_t family = TRY(UserIn<uint16_t>(addr).CopyIn(t));
    if (family == AF_UNSPEC && s.socket.endpoint().type == SOCK_DGRAM) {
      return Zero(s.socket.Disconnect());
    }
  }
  const std::string path = TRY(CopyInAddress(t, addr, length));
  if (path.empty()) return Errno(EINVAL);
  AtWalk at = TRY(AtWalk::Make(t, AT_FDCWD, path));
  return Zero(s.socket.Connect(at.walk(), path, OwnCred(t)));
}

SysResult SysAccept(Task& t, int fd, GuestAddr addr, GuestAddr length) {
  return DoAccept(t, fd, addr, length, 0);
}

SysResult SysAccept4(Task& t, int fd, GuestAddr addr, GuestAddr length, int flags) {
  return DoAccept(t, fd, addr, length, flags);
}

SysResult SysGetsockname(Task& t, int fd, GuestAddr addr, GuestAddr length) {
  SocketRef s = TRY(GetSocket(t, fd));
  return Zero(CopyOutAddress(t, s.socket.LocalAddress(), addr, length));
}

SysResult SysGetpeername(Task& t, int fd, GuestAddr addr, GuestAddr length) {
  SocketRef s = TRY(GetSocket(t, fd));
  const std::string peer = TRY(s.socket.PeerAddress());
  return Zero(CopyOutAddress(t, peer, addr, length));
}

SysResult SysSendto(Task& t, int fd, GuestAddr buf, uint64_t size, int flags, GuestAddr addr,
                    int length) {
  SocketRef s = TRY(GetSocket(t, fd));
  GuestBuffers b = TRY(GuestBuffers::One(buf, size));
  UnixSocket::SendArgs args{.src = nullptr, .files = {}, .cred = OwnCred(t), .to = nullptr};
  if (!addr.IsNull() && length != 0) {
    if (s.socket.endpoint().type != SOCK_DGRAM) {
      return Errno(s.socket.PeerAddress().ok() ? EISCONN : EOPNOTSUPP);
    }
    args.to = TRY(Target(t, s.socket, addr, length));
  }
  return Send(t, s.socket, std::move(b), args, flags);
}

SysResult SysRecvfrom(Task& t, int fd, GuestAddr buf, uint64_t size, int flags, GuestAddr addr,
                      GuestAddr length) {
  SocketRef s = TRY(GetSocket(t, fd));
  GuestBuffers b = TRY(GuestBuffers::One(buf, size));
  GuestDst dst(t, std::move(b));
  const UnixSocket::Received r = TRY(Receive(t, s.socket, dst, flags));
  if (!addr.IsNull()) {
    TRY(CopyOutAddress(t, r.from, addr, length));
  }
  return static_cast<int64_t>((flags & MSG_TRUNC) != 0 && !s.socket.endpoint().stream()
                                  ? r.full_size
                                  : r.size);
}

SysResult SysSendmsg(Task& t, int fd, GuestAddr message, int flags) {
  return SendMessage(t, fd, message, flags);
}

SysResult SysRecvmsg(Task& t, int fd, GuestAddr message, int flags) {
  return ReceiveMessage(t, fd, message, flags);
}

SysResult SysShutdown(Task& t, int fd, int how) {
  SocketRef s = TRY(GetSocket(t, fd));
  return Zero(s.socket.Shutdown(how));
}

SysResult SysSetsockopt(Task& t, int fd, int level, int option, GuestAddr value, int length) {
  SocketRef s = TRY(GetSocket(t, fd));
  if (length < 0) return Errno(EINVAL);
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  switch (option) {
    case SO_RCVTIMEO:
    case SO_SNDTIMEO: {
      const int64_t ns = TRY(ReadTimeout(t, value, length));
      (option == SO_RCVTIMEO ? s.socket.receive_timeout_ns : s.socket.send_timeout_ns) = ns;
      return 0;
    }
    case SO_PASSCRED: {
      if (length < 4) return Errno(EINVAL);
      const int32_t on = TRY(UserIn<int32_t>(value).CopyIn(t));
      s.socket.pass_cred = on != 0;
      return 0;
    }
    case SO_REUSEADDR:
    case SO_KEEPALIVE:
    case SO_BROADCAST:
    case SO_SNDBUF:
    case SO_RCVBUF:
    case SO_PRIORITY:
    case SO_LINGER:
      if (length < 4) return Errno(EINVAL);
      TRY(UserIn<int32_t>(value).CopyIn(t));
      return 0;  // accepted and without effect on a unix socket, as on Linux, but for the buffers
    default:
      return Errno(ENOPROTOOPT);
  }
}

SysResult SysGetsockopt(Task& t, int fd, int level, int option, GuestAddr value,
                        GuestAddr length_addr) {
  SocketRef s = TRY(GetSocket(t, fd));
  const int32_t room = TRY(UserIn<int32_t>(length_addr).CopyIn(t));
  if (room < 0) return Errno(EINVAL);
  if (level != SOL_SOCKET) return Errno(EOPNOTSUPP);
  UnixEndpoint& e = s.socket.endpoint();
  std::vector<std::byte> out(sizeof(int32_t));
  const auto number = [&](int32_t v) { memcpy(out.data(), &v, sizeof(v)); };
  switch (option) {
    case SO_TYPE:
      number(e.type);
      break;
    case SO_DOMAIN:
      number(AF_UNIX);
      break;
    case SO_PROTOCOL:
    case SO_ERROR:
    case SO_REUSEADDR:
    case SO_KEEPALIVE:
    case SO_BROADCAST:
      number(0);
      break;
    case SO_ACCEPTCONN: {
      MutexLock lock(e.mu);
      number(e.listening ? 1 : 0);
      break;
    }
    case SO_SNDBUF:
    case SO_RCVBUF:
      number(static_cast<int32_t>(UnixEndpoint::kBuffer));
      break;
    case SO_PASSCRED:
      number(s.socket.pass_cred ? 1 : 0);
      break;
    case SO_PEERCRED: {
      MutexLock lock(e.mu);
      const UnixCred cred = e.connected ? e.peer_cred : UnixCred{0, ~0u, ~0u};
      out.resize(sizeof(cred));
      memcpy(out.data(), &cred, sizeof(cred));
      break;
    }
    case SO_RCVTIMEO:
    case SO_SNDTIMEO: {
      const int64_t ns =
          option == SO_RCVTIMEO ? s.socket.receive_timeout_ns : s.socket.send_timeout_ns;
      const int64_t tv[2] = {ns / 1'000'000'000, ns % 1'000'000'000 / 1000};
      out.resize(sizeof(tv));
      memcpy(out.data(), tv, sizeof(tv));
      break;
    }
    default:
      return Errno(ENOPROTOOPT);
  }
  const size_t n = std::min<size_t>(out.size(), static_cast<size_t>(room));
  TRY(t.CopyOut(value, std::span<const std::byte>(out).first(n)));
  return Zero(UserOut<int32_t>(length_addr).CopyOut(t, static_cast<int32_t>(n)));
}

}  // namespace ringwall
