// AF_UNIX sockets whose other end is on the host (--host-uds).
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <memory>

#include "fs/socket/net_namespace.h"
#include "fs/unix/unix_socket.h"
#include "fs/vfs/host_sockets.h"

namespace ringwall {

namespace {

constexpr size_t kChunk = 32 << 10;
constexpr size_t kLargestMessage = 212992;
constexpr int64_t kRetryNs = 2'000'000;  // nobody tells when a listener's queue has room again

}  // namespace

RefPtr<HostLink> UnixSocket::HostEnd() {
  if (!endpoint_->on_host.load(std::memory_order_acquire)) return nullptr;
  MutexLock lock(endpoint_->mu);
  return endpoint_->host;
}

RefPtr<HostLink> UnixSocket::HostTarget() {
  if (!endpoint_->on_host.load(std::memory_order_acquire)) return nullptr;
  MutexLock lock(endpoint_->mu);
  return endpoint_->datagram() ? endpoint_->host_peer : endpoint_->host;
}

void UnixSocket::BindOnHost(UniqueFd socket) {
  Ref<HostLink> link = MakeRef<HostLink>(std::move(socket), endpoint_->queue);
  MutexLock lock(endpoint_->mu);
  endpoint_->host = std::move(link);
  endpoint_->on_host.store(true, std::memory_order_release);
}

std::optional<Result<Ref<HostLink>>> UnixSocket::OpenOnHost(Task& t, Inode& target, bool wait) {
  const int64_t deadline = wait ? write_deadline() : 0;
  for (;;) {
    std::optional<Result<UniqueFd>> fd = ConnectHostSocket(target, endpoint_->type);
    if (!fd) return std::nullopt;
    if (fd->ok()) return Result<Ref<HostLink>>(MakeRef<HostLink>(std::move(**fd), endpoint_->queue));
    if (!fd->error().Is(EAGAIN) || !wait || MonotonicNow() >= deadline) return fd->error();
    Result<void> slept = t.Block(MonotonicNow() + kRetryNs);
    if (!slept.ok() && !slept.error().Is(ETIMEDOUT)) return slept.error();
  }
}

Result<bool> UnixSocket::ConnectOnHost(Task& t, const std::string& address, Inode& target, bool wait) {
  if (!endpoint_->datagram()) {
    MutexLock lock(endpoint_->mu);
    if (endpoint_->listening) return Errno(EINVAL);
    if (endpoint_->connected) return Errno(EISCONN);
  }
  auto opened = OpenOnHost(t, target, wait);
  if (!opened) return false;
  Ref<HostLink> link = TRY(std::move(*opened));
  // Nobody inside: it has the name of the other end only.
  Ref<UnixEndpoint> far = MakeRef<UnixEndpoint>(endpoint_->type, UnixCred{0, 65534, 65534},
                                                t.creds_ref());
  {
    MutexLock lock(far->mu);
    far->address = address;
  }
  if (endpoint_->datagram()) TRY(Disconnect(far));
  RefPtr<HostLink> before;
  {
    MutexLock lock(endpoint_->mu);
    RefPtr<HostLink>& place = endpoint_->datagram() ? endpoint_->host_peer : endpoint_->host;
    before = std::move(place);
    place = std::move(link);
    endpoint_->peer = std::move(far);
    endpoint_->peer_cred = {0, 65534, 65534};
    endpoint_->connected = true;
    endpoint_->on_host.store(true, std::memory_order_release);
  }
  endpoint_->queue.Notify(EPOLLOUT | EPOLLWRNORM);
  return true;
}

Result<void> UnixSocket::ListenOnHost(Task& t, int backlog) {
  {
    MutexLock lock(endpoint_->mu);
    if (endpoint_->connected || !bound_inode_) return Errno(EINVAL);
    if (endpoint_->listening) return {};
  }
  TRY(ListenHostSocket(*bound_inode_, static_cast<uint32_t>(backlog)));
  MutexLock lock(endpoint_->mu);
  endpoint_->listening = true;
  endpoint_->cred = {t.tgid(), t.creds().euid, t.creds().egid};
  return {};
}

Result<Ref<Socket>> UnixSocket::AcceptFromHost(Task& t, HostLink& link, bool wait) {
  if (endpoint_->datagram()) return Errno(EOPNOTSUPP);
  {
    MutexLock lock(endpoint_->mu);
    if (!endpoint_->listening) return Errno(EINVAL);
  }
  UniqueFd fd = TRY(Wait(t, wait, EPOLLIN, options_.receive_timeout_ns, [&] { return link.Accept(); }));
  Ref<UnixEndpoint> end = MakeRef<UnixEndpoint>(endpoint_->type, UnixCred{}, t.creds_ref());
  {
    Ref<HostLink> own = MakeRef<HostLink>(std::move(fd), end->queue);
    Ref<UnixEndpoint> far = MakeRef<UnixEndpoint>(endpoint_->type, UnixCred{}, t.creds_ref());
    MutexLock lock(end->mu);
    end->host = std::move(own);
    end->peer = std::move(far);
    end->peer_cred = {0, 65534, 65534};
    end->connected = true;
    end->on_host.store(true, std::memory_order_release);
  }
  {
    MutexLock lock(endpoint_->mu);
    MutexLock fresh(end->mu, Nested{});  // nobody else knows it yet
    end->address = endpoint_->address;
  }
  return Ref<Socket>(MakeRef<UnixSocket>(net(), NewPath(t), OpenFlags(0), std::move(end)));
}

Result<size_t> UnixSocket::SendToHost(Task& t, SendArgs& args, const Outgoing& out, HostLink& link) {
  if (!out.files.empty()) return Errno(EPERM);
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  const auto send = [&](std::span<const std::byte> bytes) {
    return Wait(t, wait, EPOLLOUT, options_.send_timeout_ns,
                [&] { return link.Send(bytes, args.flags); });
  };
  const size_t total = args.src.remaining();
  if (!endpoint_->stream()) {
    if (total > kLargestMessage) return Errno(EMSGSIZE);
    auto bytes = std::make_unique<std::byte[]>(total);
    if (total > 0) TRY(GetWhole(args.src, {bytes.get(), total}));
    Result<size_t> sent = send({bytes.get(), total});
    if (!sent.ok() && sent.error().Is(EPIPE) && !endpoint_->datagram()) {
      return BrokenPipe(t, args.flags);
    }
    return sent;
  }
  if (args.to != nullptr && args.to->size != 0) return Errno(EISCONN);
  auto bytes = std::make_unique<std::byte[]>(std::min(total, kChunk));
  size_t done = 0;
  while (done < total) {
    Result<size_t> n = args.src.Peek({bytes.get(), std::min(total - done, kChunk)});
    if (n.ok()) n = send({bytes.get(), *n});
    if (!n.ok()) {
      if (done > 0) break;
      return n.error().Is(EPIPE) ? BrokenPipe(t, args.flags) : n.error();
    }
    args.src.Advance(*n);
    done += *n;
  }
  return done;
}

Result<size_t> UnixSocket::ReceiveFromHost(Task& t, ReceiveArgs& args, HostLink& link) {
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  const size_t length = args.dst.remaining();
  const auto receive = [&](std::span<std::byte> room) {
    return Wait(t, wait, EPOLLIN | EPOLLRDHUP, options_.receive_timeout_ns,
                [&] { return link.Receive(room, args.flags, &args.out_flags); });
  };
  Incoming in;
  in.any = true;
  if (!endpoint_->stream()) {
    const size_t room = std::min(length, kLargestMessage);
    auto bytes = std::make_unique<std::byte[]>(room);
    const size_t n = TRY(receive({bytes.get(), room}));
    const size_t got = std::min(n, room);
    if (got > 0) TRY(PutWhole(args.dst, {bytes.get(), got}));
    Deliver(t, args, in);
    return n;
  }
  const bool all = (args.flags & MSG_WAITALL) != 0 && (args.flags & (MSG_PEEK | MSG_OOB)) == 0;
  size_t done = 0;
  while (done < length) {
    const std::span<std::byte> room = args.dst.Reserve(std::min(length - done, kChunk));
    Result<size_t> n = receive(room);
    if (n.ok() && *n > 0) n = args.dst.Commit(*n);
    if (!n.ok()) {
      if (done > 0) break;
      return n.error();
    }
    done += *n;
    if (*n == 0 || !all) break;
  }
  Deliver(t, args, in);
  return done;
}

// Of a datagram socket the queue inside counts too: it may be bound in here and talk to the host.
EventMask UnixSocket::PollOnHost(EventMask wanted) {
  RefPtr<HostLink> end, target;
  bool queued = false;
  {
    MutexLock lock(endpoint_->mu);
    end = endpoint_->host;
    target = endpoint_->datagram() ? endpoint_->host_peer : endpoint_->host;
    queued = !endpoint_->messages.empty();
  }
  constexpr EventMask kOut = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
  wanted |= EPOLLHUP | EPOLLERR;
  EventMask mask = 0;
  if (end) mask |= end->Poll(endpoint_->datagram() ? wanted & ~kOut : wanted);
  if (target && endpoint_->datagram()) mask |= target->Poll(wanted & kOut);
  if (!target && endpoint_->datagram()) mask |= wanted & kOut;
  if (queued) mask |= wanted & (EPOLLIN | EPOLLRDNORM);
  return mask;
}

}  // namespace ringwall
