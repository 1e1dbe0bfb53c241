// Life and names of AF_UNIX sockets. unix_message.cc has what they send.
#include "fs/unix/unix_socket.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>

#include "fs/socket/net_namespace.h"
#include "fs/unix/socket_list.h"
#include "fs/unix/unix_address.h"
#include "fs/unix/unix_cred.h"
#include "fs/unix/unix_gc.h"
#include "fs/vfs/host_sockets.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr size_t kMaxBacklog = 4096;
constexpr int kSoPassPidfd = 76, kSoPeerPidfd = 77, kSoPassRights = 83;

UnixCred OwnCred(const Task& t) { return {t.tgid(), t.creds().euid, t.creds().egid}; }

// A walk from the caller's directory, with what it borrows.
class OwnWalk {
 public:
  OwnWalk(Task& t, std::string_view path)
      : task_(t), root_(t.fs().root()), start_(path.starts_with('/') ? root_ : t.fs().cwd()) {}
  Walk walk() const { return Walk{task_.creds(), task_.mounts(), root_, start_, &task_, 0}; }

 private:
  Task& task_;
  Path root_, start_;
};

// SO_PEERPIDFD: the number goes out before the descriptor is there.
Result<void> PutPeerPidFd(int32_t pid, OptionOut& out) {
  Task& t = out.task();
  Ref<File> file = TRY(PidFdOf(t, pid));
  FdReservation slot = TRY(t.fds().Reserve(0, t.tg().limit(RLIMIT_NOFILE)));
  const int32_t number = slot.fd();
  const size_t size = std::min<size_t>(out.room(), sizeof(number));
  TRY(t.CopyOut(out.addr(), std::as_bytes(std::span(&number, 1)).first(size)));
  slot.Commit(std::move(file), true);
  out.Int(number);
  return {};
}

constexpr EventMask kHangUp = EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLRDHUP | EPOLLRDNORM |
                              EPOLLWRNORM;

}  // namespace

Result<std::string> UnixPathOf(const SocketAddress& a) {
  if (a.size < 2 || a.size > sizeof(sockaddr_un) || a.family() != AF_UNIX) return Errno(EINVAL);
  std::string path(reinterpret_cast<const char*>(a.bytes.data()) + 2, a.size - 2);
  if (!path.empty() && path[0] != '\0') path.resize(strnlen(path.data(), path.size()));
  return path;
}

SocketAddress UnixAddressOf(const std::string& path) {
  SocketAddress a = SocketAddress::Of<uint16_t>(AF_UNIX);
  memcpy(a.bytes.data() + 2, path.data(), path.size());
  a.size += static_cast<uint32_t>(path.size());
  // A path's terminating NUL counts.
  if (!path.empty() && path[0] != '\0') a.size++;
  return a;
}

UnixSocket::UnixSocket(NetNamespace& net, Path path, uint32_t flags, Ref<UnixEndpoint> endpoint)
    : Socket(net, AF_UNIX, endpoint->type, 0, std::move(path), flags),
      endpoint_(std::move(endpoint)) {
  if (Result<Attr> attr = inode().GetAttr(); attr.ok()) endpoint_->inode = attr->ino;
  endpoint_->queue_limit.store(static_cast<uint32_t>(net.max_dgram_qlen.load()));
  EnlistUnixSocket(*this);
}

Ref<UnixSocket> UnixSocket::Create(Task& t, int type, uint32_t flags) {
  Ref<const Credentials> owner = t.creds_ref();
  return MakeRef<UnixSocket>(NetNamespace::Of(t), NewPath(t), OpenFlags(flags),
                             MakeRef<UnixEndpoint>(type, OwnCred(t), std::move(owner)));
}

void UnixSocket::Pair(UnixSocket& a, UnixSocket& b) {
  const auto join = [](UnixEndpoint& from, UnixEndpoint& to) {
    MutexLock lock(from.mu);
    from.peer = RefPtr<UnixEndpoint>(&to);
    // Both are the caller's.
    from.peer_cred = from.cred;
    from.peer_owner = from.owner;
    from.connected = true;
  };
  join(*a.endpoint_, *b.endpoint_);
  join(*b.endpoint_, *a.endpoint_);
}

// unix_release_sock().
UnixSocket::~UnixSocket() {
  DelistUnixSocket(*this);
  UnixEndpoint& e = *endpoint_;
  RefPtr<UnixEndpoint> peer;
  std::string address;
  std::deque<Ref<UnixEndpoint>> pending;
  std::deque<UnixMessage> unread;
  std::vector<Ref<UnixEndpoint>> blocked;
  bool reset = false;
  {
    MutexLock lock(e.mu);
    e.closed = true;
    e.send_shut = e.receive_shut = true;
    peer = std::move(e.peer);
    address = e.address;
    pending.swap(e.pending);
    reset = e.HasUnread();
    unread.swap(e.messages);
    blocked.swap(e.blocked);
    e.queued = 0;
  }
  if (!address.empty() && address[0] == '\0') AbstractNames::Get().Remove(e);
  if (bound_inode_) bound_inode_->Detach();
  e.queue.Notify(kHangUp | EPOLLERR);
  e.senders.Notify(EPOLLOUT | EPOLLHUP);
  for (const Ref<UnixEndpoint>& b : blocked) b->queue.Notify(EPOLLOUT | EPOLLWRNORM);
  const auto hang_up = [](UnixEndpoint& other, bool lost) {
    {
      MutexLock lock(other.mu);
      other.receive_shut = other.send_shut = true;
      if (lost) other.error = ECONNRESET;
    }
    EventMask events = kHangUp;
    if (lost) events |= EPOLLERR;
    other.queue.Notify(events);
  };
  if (peer && !e.datagram()) hang_up(*peer, reset);
  for (const Ref<UnixEndpoint>& p : pending) {
    RefPtr<UnixEndpoint> client;
    std::deque<UnixMessage> sent;
    {
      MutexLock lock(p->mu);
      client = std::move(p->peer);
      p->closed = true;
      sent.swap(p->messages);
    }
    if (client) hang_up(*client, true);
  }
  unread.clear();
  if (UnixSocketsInFlight()) CollectUnixSockets();
}

Result<void> UnixSocket::Bind(Task& t, const SocketAddress& given) {
  std::string address = TRY(UnixPathOf(given));
  if (address.empty()) return Autobind();
  bool bound;
  {
    MutexLock lock(endpoint_->mu);
    bound = !endpoint_->address.empty();
  }
  if (address[0] == '\0') {
    if (bound) return Errno(EINVAL);
    TRY(AbstractNames::Get().Bind(net().ino(), address, endpoint_));
  } else {
    const OwnWalk at(t, address);
    BindHint hint(endpoint_->type);
    Result<Path> made = Vfs::Mknod(at.walk(), address, S_IFSOCK | (0777 & ~t.fs().umask()), 0);
    if (!made.ok()) return made.error().Is(EEXIST) ? Errno(EADDRINUSE) : made.error();
    if (bound) {
      // unix_bind_bsd(): what is wrong with the path comes first.
      TRY(Vfs::Unlink(at.walk(), address));
      return Errno(EINVAL);
    }
    bound_inode_ = made->dentry().inode();
    if (UniqueFd socket = hint.Take()) {
      BindOnHost(std::move(socket));
    } else {
      bound_inode_->AttachOnce(endpoint_);
    }
  }
  MutexLock lock(endpoint_->mu);
  endpoint_->address = std::move(address);
  return {};
}

Result<void> UnixSocket::Autobind() {
  static std::atomic<uint32_t> next{1};
  {
    MutexLock lock(endpoint_->mu);
    // Linux: no harm in asking again.
    if (!endpoint_->address.empty()) return {};
  }
  for (int tries = 0; tries < 0x100000; tries++) {
    char name[8];
    snprintf(name + 1, sizeof(name) - 1, "%05x", next.fetch_add(1) & 0xfffff);
    name[0] = '\0';
    std::string address(name, 6);
    if (!AbstractNames::Get().Bind(net().ino(), address, endpoint_).ok()) continue;
    MutexLock lock(endpoint_->mu);
    endpoint_->address = std::move(address);
    return {};
  }
  return Errno(ENOSPC);
}

// A socket that passes credentials has a name.
Result<void> UnixSocket::AutobindIfNeeded() {
  if (options_.pass_cred == 0 && options_.pass_pidfd == 0) return {};
  return Autobind();
}

Result<void> UnixSocket::Listen(Task& t, int backlog) {
  UnixEndpoint& e = *endpoint_;
  if (e.datagram()) return Errno(EOPNOTSUPP);
  if (HostEnd()) return ListenOnHost(t, backlog);
  {
    MutexLock lock(e.mu);
    if (e.address.empty() || e.connected) return Errno(EINVAL);
    e.listening = true;
    e.cred = OwnCred(t);
    e.owner = t.creds_ref();
    // A negative backlog is a large one.
    e.backlog = std::min<size_t>(static_cast<uint32_t>(backlog), kMaxBacklog);
  }
  e.senders.Notify(EPOLLOUT);
  return {};
}

Result<Ref<Inode>> UnixSocket::FindNode(Task& t, const std::string& address) {
  const OwnWalk from(t, address);
  const Path at = TRY(Vfs::Lookup(from.walk(), address, {}));
  TRY(Vfs::CheckAccess(t.creds(), at, kMayWrite));
  if (at.dentry().inode()->type() != S_IFSOCK) return Errno(ECONNREFUSED);
  return Ref<Inode>(*at.dentry().inode());
}

Result<Ref<UnixEndpoint>> UnixSocket::FindTarget(Task& t, const std::string& address) {
  if (address.empty()) return Errno(ECONNREFUSED);
  if (address[0] == '\0') {
    RefPtr<UnixEndpoint> target =
        AbstractNames::Get().Find(net().ino(), endpoint_->type, address);
    if (!target) return Errno(ECONNREFUSED);
    return Ref<UnixEndpoint>(std::move(target));
  }
  const Ref<Inode> node = TRY(FindNode(t, address));
  RefPtr<RefCountedBase> attached = node->attachment();
  if (!attached) return Errno(ECONNREFUSED);
  Ref<UnixEndpoint> target(*static_cast<UnixEndpoint*>(attached.get()));
  if (target->type != endpoint_->type) return Errno(EPROTOTYPE);
  return target;
}

// A datagram socket gets another peer, or none. What the old one had sent is gone.
Result<void> UnixSocket::Disconnect(RefPtr<UnixEndpoint> to) {
  RefPtr<UnixEndpoint> old;
  std::deque<UnixMessage> dropped;
  RefPtr<HostLink> link;
  {
    MutexLock lock(endpoint_->mu);
    link = std::move(endpoint_->host_peer);
    old = std::move(endpoint_->peer);
    endpoint_->peer = to;
    endpoint_->connected = static_cast<bool>(to);
    if (old && !(old == to)) {
      dropped.swap(endpoint_->messages);
      endpoint_->queued = 0;
    }
  }
  if (!old || old == to) return {};
  bool told = false;
  {
    MutexLock lock(old->mu);
    if (!old->closed && old->peer == endpoint_ && !dropped.empty()) {
      old->error = ECONNRESET;
      told = true;
    }
  }
  if (told) old->queue.Notify(EPOLLERR | EPOLLIN | EPOLLOUT);
  return {};
}

Result<void> UnixSocket::Connect(Task& t, const SocketAddress& given, bool wait) {
  if (given.size < sizeof(uint16_t)) return Errno(EINVAL);
  if (endpoint_->datagram() && given.family() == AF_UNSPEC) return Disconnect(nullptr);
  const std::string address = TRY(UnixPathOf(given));
  if (address.empty()) return Errno(EINVAL);
  TRY(AutobindIfNeeded());
  if (address[0] != '\0' && HostSocketsOffered()) {
    const Ref<Inode> node = TRY(FindNode(t, address));
    const bool done = TRY(ConnectOnHost(t, address, *node, wait && options_.send_timeout_ns != 0));
    if (done) return {};
  }
  if (endpoint_->datagram()) {
    Ref<UnixEndpoint> target = TRY(FindTarget(t, address));
    {
      MutexLock lock(target->mu);
      if (target->closed) return Errno(ECONNREFUSED);
      if (target->peer && target->peer != endpoint_) return Errno(EPERM);
    }
    return Disconnect(std::move(target));
  }
  // While the queue is full the name may pass to another socket: it is looked up each time.
  for (;;) {
    Ref<UnixEndpoint> target = TRY(FindTarget(t, address));
    TaskWaiter waiter(t);
    target->senders.Add(waiter, EPOLLOUT);
    Result<void> done = ConnectTo(t, target);
    if (!done.ok() && done.error().Is(EAGAIN) && wait && options_.send_timeout_ns != 0) {
      const int64_t deadline = write_deadline();
      Result<void> slept = t.Block(deadline);
      target->senders.Remove(waiter);
      if (slept.ok()) continue;
      if (slept.error().Is(ETIMEDOUT)) return Errno(EAGAIN);
      return deadline == kNoDeadline ? slept.error() : Errno(EINTR);
    }
    target->senders.Remove(waiter);
    return done;
  }
}

Result<void> UnixSocket::ConnectTo(Task& t, Ref<UnixEndpoint> target) {
  Ref<const Credentials> owner = t.creds_ref();
  Ref<UnixEndpoint> accepted = MakeRef<UnixEndpoint>(endpoint_->type, UnixCred{}, owner);
  {
    MutexLock lock(accepted->mu);
    accepted->peer = endpoint_;
    accepted->peer_cred = OwnCred(t);
    accepted->peer_owner = owner;
    accepted->connected = true;
  }
  {
    LockBoth lock(target->mu, endpoint_->mu);
    if (!target->listening || target->closed || target->receive_shut) return Errno(ECONNREFUSED);
    if (target->pending.size() > target->backlog) return Errno(EAGAIN);
    if (endpoint_->listening) return Errno(EINVAL);
    if (endpoint_->connected) return Errno(EISCONN);
    {
      MutexLock fresh(accepted->mu, Nested{});  // nobody else knows it yet
      accepted->address = target->address;
      accepted->cred = target->cred;
      accepted->owner = target->owner;
    }
    endpoint_->peer = accepted;
    endpoint_->peer_cred = target->cred;
    endpoint_->peer_owner = target->owner;
    endpoint_->connected = true;
    target->pending.push_back(accepted);
  }
  target->queue.Notify(EPOLLIN | EPOLLRDNORM);
  endpoint_->queue.Notify(EPOLLOUT | EPOLLWRNORM);
  return {};
}

Result<Ref<Socket>> UnixSocket::Accept(Task& t, bool wait) {
  if (const RefPtr<HostLink> host = HostEnd()) return AcceptFromHost(t, *host, wait);
  Ref<UnixEndpoint> accepted = TRY(Wait(t, wait, EPOLLIN, options_.receive_timeout_ns,
                                        [&] { return TakePending(wait); }));
  accepted->pass_cred = endpoint_->pass_cred.load();
  Ref<UnixSocket> socket =
      MakeRef<UnixSocket>(net(), NewPath(t), OpenFlags(0), std::move(accepted));
  socket->options_.pass_cred = options_.pass_cred.load();
  socket->options_.pass_sec = options_.pass_sec.load();
  socket->options_.pass_pidfd = options_.pass_pidfd.load();
  return Ref<Socket>(std::move(socket));
}

Result<Ref<UnixEndpoint>> UnixSocket::TakePending(bool wait) {
  UnixEndpoint& e = *endpoint_;
  if (e.datagram()) return Errno(EOPNOTSUPP);
  Result<Ref<UnixEndpoint>> got = Errno(EAGAIN);
  {
    MutexLock lock(e.mu);
    if (!e.listening) return Errno(EINVAL);
    // Only who would wait finds out that nobody comes any more.
    if (e.pending.empty()) return Errno(e.receive_shut && wait ? EINVAL : EAGAIN);
    got = std::move(e.pending.front());
    e.pending.pop_front();
  }
  e.senders.Notify(EPOLLOUT);
  return got;
}

Result<void> UnixSocket::Shutdown(Task&, int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  if (const RefPtr<HostLink> host = HostTarget()) return host->Shutdown(how);
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(endpoint_->mu);
    if (how != SHUT_WR) endpoint_->receive_shut = true;
    if (how != SHUT_RD) endpoint_->send_shut = true;
    peer = endpoint_->peer;
  }
  endpoint_->queue.Notify(kHangUp);  // Not who waits to connect or to send here: they find it when there is room.
  if (peer && !endpoint_->datagram()) {
    {
      MutexLock lock(peer->mu);
      if (how != SHUT_WR) peer->send_shut = true;
      if (how != SHUT_RD) peer->receive_shut = true;
    }
    peer->queue.Notify(kHangUp);
  }
  return {};
}

Result<SocketAddress> UnixSocket::LocalName() {
  MutexLock lock(endpoint_->mu);
  return UnixAddressOf(endpoint_->address);
}

Result<SocketAddress> UnixSocket::PeerName() {
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(endpoint_->mu);
    if (!endpoint_->peer) return Errno(ENOTCONN);
    peer = endpoint_->peer;
  }
  MutexLock lock(peer->mu);
  return UnixAddressOf(peer->address);
}

std::optional<Result<void>> UnixSocket::GetSocketLevel(int name, OptionOut& out) {
  if (name == SO_PEERCRED) {
    UnixCred cred;
    bool known;
    {
      MutexLock lock(endpoint_->mu);
      known = endpoint_->peer_owner || endpoint_->listening;
      cred = endpoint_->listening ? endpoint_->cred : endpoint_->peer_cred;
    }
    out.Put(known ? SeenBy(out.task(), cred) : UnixCred{});
    return Result<void>();
  }
  if (name == kSoPeerPidfd) {
    int32_t pid = 0;
    {
      MutexLock lock(endpoint_->mu);
      if (endpoint_->listening) {
        pid = endpoint_->cred.pid;
      } else if (endpoint_->peer_owner) {
        pid = endpoint_->peer_cred.pid;
      }
    }
    if (pid == 0) return Result<void>(Errno(ENODATA));
    return PutPeerPidFd(pid, out);
  }
  MutexLock lock(endpoint_->mu);
  if (name == SO_PEERGROUPS && endpoint_->peer_owner) {
    std::vector<Gid> groups = endpoint_->peer_owner->groups;
    for (Gid& g : groups) g = out.task().creds().user_ns().ShowGid(g);
    const size_t size = groups.size() * sizeof(Gid);
    if (out.room() < size) {
      out.SetLength(static_cast<uint32_t>(size));
      return Result<void>(Errno(ERANGE));
    }
    out.Set(std::as_bytes(std::span(groups)));
    return Result<void>();
  }
  return std::nullopt;
}

Result<void> UnixSocket::OnSocketOption(int name, int64_t value) {
  if (name == SO_SNDBUF) endpoint_->send_buffer = static_cast<size_t>(value);
  if (name == SO_PASSCRED) endpoint_->pass_cred = value != 0 || options_.pass_pidfd != 0;
  if (name == kSoPassPidfd) endpoint_->pass_cred = value != 0 || options_.pass_cred != 0;
  if (name == kSoPassRights) endpoint_->pass_rights = value != 0;
  if (name == SO_TIMESTAMP) endpoint_->stamped = value != 0;
  return {};
}

void UnixSocket::OnFilter(RefPtr<net::EndpointFilter> filter) {
  MutexLock lock(endpoint_->mu);
  endpoint_->filter = std::move(filter);
}

int UnixSocket::TakeSocketError() {
  MutexLock lock(endpoint_->mu);
  return std::exchange(endpoint_->error, 0);
}

bool UnixSocket::IsListening() {
  MutexLock lock(endpoint_->mu);
  return endpoint_->listening;
}

// unix_poll() and unix_dgram_poll().
EventMask UnixSocket::Poll(EventMask wanted) {
  UnixEndpoint& e = *endpoint_;
  if (e.on_host.load(std::memory_order_acquire)) return PollOnHost(wanted);
  EventMask mask = 0;
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(e.mu);
    if (e.error != 0) mask |= EPOLLERR;
    if (e.error != 0 && !e.stream() && options_.select_error_queue != 0) mask |= EPOLLPRI;
    if (e.receive_shut && e.send_shut) mask |= EPOLLHUP;
    if (e.receive_shut) mask |= EPOLLRDHUP | EPOLLIN | EPOLLRDNORM;
    if (!e.messages.empty() || !e.pending.empty()) mask |= EPOLLIN | EPOLLRDNORM;
    if (e.UrgentIndex() != e.messages.size()) mask |= EPOLLPRI;
    if (!e.datagram() && !e.connected && !e.listening) mask |= EPOLLHUP;
    if (e.listening) return mask & (wanted | EPOLLHUP | EPOLLERR);
    if (e.datagram()) peer = e.peer;
  }
  bool writable = e.Writable();
  if (writable && peer && (wanted & (EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND)) != 0) {
    MutexLock lock(peer->mu);
    if (peer->peer != endpoint_ && !peer->closed && peer->QueueFull()) {
      writable = false;
      if (std::find(peer->blocked.begin(), peer->blocked.end(), endpoint_) ==
          peer->blocked.end()) {
        peer->blocked.push_back(endpoint_);
      }
    }
  }
  if (writable) mask |= EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
  return mask & (wanted | EPOLLHUP | EPOLLERR);
}

Result<int64_t> UnixSocket::DoIoctl(Task& task, uint32_t cmd, uint64_t arg) {
  int32_t n = 0;
  const RefPtr<HostLink> host = cmd == FIONREAD ? HostEnd() : HostTarget();
  if (host && (cmd == FIONREAD || cmd == TIOCOUTQ)) {
    n = TRY(host->Count(cmd));
  } else if (cmd == FIONREAD) {
    MutexLock lock(endpoint_->mu);
    if (endpoint_->listening) return Errno(EINVAL);
    if (!endpoint_->datagram()) {
      n = static_cast<int32_t>(endpoint_->queued);
    } else if (!endpoint_->messages.empty()) {
      n = static_cast<int32_t>(endpoint_->messages.front().data.size());
    }
  } else if (cmd == TIOCOUTQ) {
    n = static_cast<int32_t>(endpoint_->unread.load());
  } else if (cmd == SIOCATMARK) {
    if (!endpoint_->stream()) return Errno(EOPNOTSUPP);
    MutexLock lock(endpoint_->mu);
    n = endpoint_->AtMark();
  } else {
    return Errno(ENOTTY);
  }
  TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOutLast(task, n));
  return 0;
}

namespace {

class UnixFamily final : public SocketFamily {
 public:
  Result<Ref<Socket>> Create(Task& t, int type, int protocol, uint32_t flags) override {
    if (protocol != 0 && protocol != PF_UNIX) return Errno(EPROTONOSUPPORT);
    // A raw unix socket is a datagram one.
    if (type == SOCK_RAW) type = SOCK_DGRAM;
    if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET) {
      return Errno(ESOCKTNOSUPPORT);
    }
    return Ref<Socket>(UnixSocket::Create(t, type, flags));
  }
  Result<void> Pair(Socket& a, Socket& b) override {
    UnixSocket::Pair(static_cast<UnixSocket&>(a), static_cast<UnixSocket&>(b));
    return {};
  }
};

}  // namespace

void RegisterUnixSockets() {
  static UnixFamily* family = new UnixFamily;
  RegisterSocketFamily(AF_UNIX, *family);
}

}  // namespace ringwall
