#include "fs/socket/socket.h"

#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <string>

#include "fs/socket/net_namespace.h"
#include "fs/socket/timestamp.h"
#include "fs/vfs/anon_inode.h"
#include "sentry/kernel/file_async.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

std::array<std::atomic<SocketFamily*>, AF_MAX> families;
std::atomic<Socket::DeviceIoctl> device_ioctl{nullptr};

}  // namespace

void RegisterSocketFamily(int number, SocketFamily& family) {
  families[static_cast<size_t>(number)].store(&family);
}

SocketFamily* FindSocketFamily(int number) {
  return families[static_cast<size_t>(number)].load(std::memory_order_acquire);
}

Result<void> SocketFamily::Pair(Socket&, Socket&) { return Errno(EOPNOTSUPP); }

Result<int32_t> OptionIn::Int() const { return Value<int32_t>(); }

Result<std::vector<std::byte>> OptionIn::Bytes(size_t most) const {
  std::vector<std::byte> v(std::min<size_t>(length_, most));
  TRY(task_.CopyIn(addr_, v));
  return v;
}

void OptionOut::IntOrByte(int64_t v) {
  if (room_ < sizeof(int32_t) && room_ > 0 && v >= 0 && v <= 255) {
    const uint8_t byte = static_cast<uint8_t>(v);
    Put(byte);
  } else {
    Int(v);
  }
}

void SocketOptions::InheritFrom(const SocketOptions& o) {
  using Kept = std::atomic<int32_t> SocketOptions::*;
  using S = SocketOptions;
  constexpr Kept kKept[] = {
      &S::reuse_addr, &S::reuse_port, &S::keepalive, &S::broadcast, &S::dont_route,
      &S::oob_inline, &S::no_check, &S::priority, &S::mark, &S::receive_lowat, &S::timestamp,
      &S::timestamping, &S::pass_cred, &S::pass_sec, &S::pass_pidfd, &S::pass_rights,
      &S::rxq_overflow, &S::busy_poll, &S::zerocopy, &S::buffer_lock, &S::tx_rehash,
      &S::bound_device, &S::debug, &S::send_buffer, &S::receive_buffer, &S::linger_on,
      &S::linger_seconds};
  for (Kept k : kKept) (this->*k).store((o.*k).load());
  max_pacing_rate = o.max_pacing_rate.load();
  receive_timeout_ns = o.receive_timeout_ns.load();
  send_timeout_ns = o.send_timeout_ns.load();
}

Socket::Socket(NetNamespace& net, int family, int type, int protocol, Path path, uint32_t flags)
    : File(std::move(path), flags),
      family_(family),
      type_(type),
      protocol_(protocol),
      net_(net) {}

Socket::~Socket() = default;

Path Socket::NewPath(Task& t) {
  Ref<AnonInode> inode =
      MakeRef<AnonInode>(S_IFSOCK | 0777, t.creds().fsuid, t.creds().fsgid);
  return AnonymousPath(inode, "socket:[" + std::to_string(inode->ino()) + "]");
}

uint64_t Socket::cookie() {
  const Result<Attr> attr = inode().GetAttr();
  return attr.ok() ? attr->ino : 0;
}

Result<void> Socket::Bind(Task&, const SocketAddress&) { return Errno(EOPNOTSUPP); }
Result<void> Socket::Connect(Task&, const SocketAddress&, bool) { return Errno(EOPNOTSUPP); }
Result<void> Socket::Listen(Task&, int) { return Errno(EOPNOTSUPP); }
Result<Ref<Socket>> Socket::Accept(Task&, bool) { return Errno(EOPNOTSUPP); }
Result<void> Socket::Shutdown(Task&, int) { return Errno(EOPNOTSUPP); }
Result<SocketAddress> Socket::LocalName() { return Errno(EOPNOTSUPP); }
Result<SocketAddress> Socket::PeerName() { return Errno(EOPNOTSUPP); }
Result<void> Socket::SetOption(int, int, OptionIn&) { return Errno(EOPNOTSUPP); }
Result<void> Socket::GetOption(int, int, OptionOut&) { return Errno(EOPNOTSUPP); }
Result<void> Socket::OnSocketOption(int, int64_t) { return {}; }
std::optional<Result<void>> Socket::SetSocketLevel(int, OptionIn&) { return std::nullopt; }
std::optional<Result<void>> Socket::GetSocketLevel(int, OptionOut&) { return std::nullopt; }
Result<int64_t> Socket::DoIoctl(Task&, uint32_t, uint64_t) { return Errno(ENOTTY); }

Errno Socket::BrokenPipe(Task& t, uint32_t flags) {
  if ((flags & MSG_NOSIGNAL) == 0) {
    Result<void> ignored = t.SendSignal(MakeSigInfo(SIGPIPE, SI_USER), false);
    static_cast<void>(ignored);
  }
  return Errno(EPIPE);
}

Result<size_t> Socket::ReadBlocking(Task& t, IoDst& dst, bool wait) {
  if (dst.remaining() == 0) return size_t{0};  // sock_read_iter()
  ReceiveArgs args{.dst = dst, .flags = wait ? 0u : uint32_t{MSG_DONTWAIT}};
  return RecvMsg(t, args);
}

Result<size_t> Socket::WriteBlocking(Task& t, IoSrc& src, bool wait) {
  // A record of a SOCK_SEQPACKET socket ends with the write.
  SendArgs args{.src = src, .flags = wait ? 0u : uint32_t{MSG_DONTWAIT}};
  if (type_ == SOCK_SEQPACKET) args.flags |= MSG_EOR;
  return SendMsg(t, args);
}

Result<size_t> Socket::Read(IoDst& dst, uint64_t, int) {
  Task* t = Task::Current();
  if (t == nullptr) return Errno(EINVAL);
  return ReadBlocking(*t, dst, false);
}

Result<size_t> Socket::Write(IoSrc& src, uint64_t*, int) {
  Task* t = Task::Current();
  if (t == nullptr) return Errno(EINVAL);
  // The caller, who may have sent something already, raises SIGPIPE.
  SendArgs args{.src = src, .flags = MSG_DONTWAIT | MSG_NOSIGNAL};
  return SendMsg(*t, args);
}

namespace {
int64_t After(int64_t timeout_ns) {
  return timeout_ns == INT64_MAX ? kNoDeadline : MonotonicNow() + timeout_ns;
}
}  // namespace

int64_t Socket::read_deadline() { return After(options_.receive_timeout_ns); }
int64_t Socket::write_deadline() { return After(options_.send_timeout_ns); }

void Socket::SetDeviceIoctl(DeviceIoctl handler) { device_ioctl.store(handler); }

Result<int64_t> Socket::Ioctl(Task& t, uint32_t cmd, uint64_t arg) {
  Result<int64_t> result = DoIoctl(t, cmd, arg);
  // Of stamps no device is asked when the family has none.
  if (result.ok() || !result.error().Is(ENOTTY) || IsStampIoctl(cmd)) return result;
  switch (cmd) {
    case FIOSETOWN:
    case SIOCSPGRP: {
      const int32_t owner = TRY(UserIn<int32_t>(GuestAddr(arg)).CopyIn(t));
      return FcntlAsync(t, *this, F_SETOWN, static_cast<uint64_t>(int64_t{owner}));
    }
    case FIOGETOWN:
    case SIOCGPGRP: {
      const int64_t owner = TRY(FcntlAsync(t, *this, F_GETOWN, 0));
      TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOut(t, static_cast<int32_t>(owner)));
      return 0;
    }
    default:
      break;
  }
  if (DeviceIoctl handler = device_ioctl.load(std::memory_order_acquire)) {
    return handler(t, *this, cmd, arg);
  }
  return Errno(ENOTTY);
}

}  // namespace ringwall
