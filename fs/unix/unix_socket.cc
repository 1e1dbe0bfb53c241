#include "fs/unix/unix_socket.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>

#include "fs/socket/net_namespace.h"
#include "fs/unix/socket_list.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr size_t kMaxDatagram = UnixEndpoint::kBuffer - 32;
constexpr size_t kMaxBacklog = 4096;

constexpr size_t kMaxScmRights = 253;

// Sockets hold the numbers of the first namespaces.
UnixCred OwnCred(const Task& t) { return {t.tgid(), t.creds().ruid, t.creds().rgid}; }

// As a receiver's namespaces call them; a process out of sight, or gone, is 0.
UnixCred SeenBy(const Task& t, UnixCred cred) {
  const UserNamespace& user = t.creds().user_ns();
  cred.uid = user.ShowUid(cred.uid);
  cred.gid = user.ShowGid(cred.gid);
  if (t.pid_ns().level() == 0) return cred;
  MutexLock lock(t.kernel().tasks().mu);
  const Task* named = t.kernel().tasks().FindTask(cred.pid);
  cred.pid = named != nullptr ? named->pid().In(t.pid_ns()) : 0;
  return cred;
}

// What a sender says of itself (scm_check_creds). EINVAL, EPERM, ESRCH.
Result<UnixCred> TakeCred(const Task& t, UnixCred cred) {
  const Credentials& own = t.creds();
  const std::optional<Uid> uid = own.user_ns().UidIn(cred.uid);
  const std::optional<Gid> gid = own.user_ns().GidIn(cred.gid);
  if (!uid || !gid) return Errno(EINVAL);
  const bool uid_ok = *uid == own.ruid || *uid == own.euid || *uid == own.suid ||
                      own.HasOwn(Capability::kSetuid);
  const bool gid_ok = *gid == own.rgid || *gid == own.egid || *gid == own.sgid ||
                      own.HasOwn(Capability::kSetgid);
  const bool pid_ok =
      cred.pid == t.vtgid() || own.HasIn(t.pid_ns().user_ns(), Capability::kSysAdmin);
  if (!uid_ok || !gid_ok || !pid_ok) return Errno(EPERM);
  cred.uid = *uid, cred.gid = *gid;
  if (cred.pid == t.vtgid()) {
    cred.pid = t.tgid();
    return cred;
  }
  MutexLock lock(t.kernel().tasks().mu);
  const Task* named = t.pid_ns().FindTask(cred.pid);
  if (named == nullptr) return Errno(ESRCH);
  cred.pid = named->tid();
  return cred;
}

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

// sun_path's bytes: up to the NUL of a path, all of an abstract name. Empty: no name (autobind).
Result<std::string> PathOf(const SocketAddress& a) {
  if (a.size < 2 || a.size > sizeof(sockaddr_un) || a.family() != AF_UNIX) return Errno(EINVAL);
  std::string path(reinterpret_cast<const char*>(a.bytes.data()) + 2, a.size - 2);
  if (!path.empty() && path[0] != '\0') path.resize(strnlen(path.data(), path.size()));
  return path;
}

SocketAddress AddressOf(const std::string& path) {
  SocketAddress a = SocketAddress::Of<uint16_t>(AF_UNIX);
  memcpy(a.bytes.data() + 2, path.data(), path.size());
  a.size += static_cast<uint32_t>(path.size());
  // A path's terminating NUL counts.
  if (!path.empty() && path[0] != '\0') a.size++;
  return a;
}

}  // namespace

AbstractNames& AbstractNames::Get() {
  static AbstractNames* names = new AbstractNames;
  return *names;
}

Result<void> AbstractNames::Bind(const std::string& name, Ref<UnixEndpoint> endpoint) {
  MutexLock lock(mu_);
  for (const auto& [known, owner] : names_) {
    if (known == name) return Errno(EADDRINUSE);
  }
  names_.emplace_back(name, endpoint.get());
  return {};
}

RefPtr<UnixEndpoint> AbstractNames::Find(const std::string& name) {
  MutexLock lock(mu_);
  for (const auto& [known, owner] : names_) {
    if (known == name && owner->TryAddRef()) return RefPtr<UnixEndpoint>::Adopt(owner);
  }
  return nullptr;
}

void AbstractNames::Remove(const std::string& name, const UnixEndpoint& endpoint) {
  MutexLock lock(mu_);
  std::erase_if(names_, [&](const auto& n) { return n.first == name && n.second == &endpoint; });
}

UnixSocket::UnixSocket(NetNamespace& net, Path path, uint32_t flags, Ref<UnixEndpoint> endpoint)
    : Socket(net, AF_UNIX, endpoint->type, 0, std::move(path), flags),
      endpoint_(std::move(endpoint)) {
  if (Result<Attr> attr = inode().GetAttr(); attr.ok()) endpoint_->inode = attr->ino;
  EnlistUnixSocket(*this);
}

Ref<UnixSocket> UnixSocket::Create(Task& t, int type, uint32_t flags) {
  return MakeRef<UnixSocket>(NetNamespace::Of(t), NewPath(t), OpenFlags(flags),
                             MakeRef<UnixEndpoint>(type, OwnCred(t)));
}

void UnixSocket::Pair(UnixSocket& a, UnixSocket& b) {
  const auto join = [](UnixEndpoint& from, UnixEndpoint& to) {
    UnixCred cred;
    {
      MutexLock lock(to.mu);
      cred = to.cred;
    }
    MutexLock lock(from.mu);
    from.peer = RefPtr<UnixEndpoint>(&to);
    from.peer_cred = cred;
    from.connected = true;
  };
  join(*a.endpoint_, *b.endpoint_);
  join(*b.endpoint_, *a.endpoint_);
}

UnixSocket::~UnixSocket() {
  DelistUnixSocket(*this);
  RefPtr<UnixEndpoint> peer;
  std::string address;
  std::deque<Ref<UnixEndpoint>> pending;
  std::deque<UnixMessage> unread;
  {
    MutexLock lock(endpoint_->mu);
    endpoint_->closed = true;
    peer = std::move(endpoint_->peer);
    address = endpoint_->address;
    pending = std::move(endpoint_->pending);
    unread = std::move(endpoint_->messages);
    endpoint_->messages.clear();
    endpoint_->pending.clear();
    endpoint_->queued = 0;
  }
  if (!address.empty() && address[0] == '\0') AbstractNames::Get().Remove(address, *endpoint_);
  if (bound_inode_) bound_inode_->Detach();
  endpoint_->queue.Notify(EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLERR);
  const auto hang_up = [&](UnixEndpoint& e, bool reset) {
    {
      MutexLock lock(e.mu);
      if (endpoint_->type == SOCK_DGRAM) {
        if (e.peer == endpoint_) e.peer.reset();
      } else {
        e.receive_shut = true;
        e.send_shut = true;
        e.reset = reset;
      }
    }
    e.queue.Notify(EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLRDHUP);
  };
  if (peer) hang_up(*peer, !unread.empty());
  for (const Ref<UnixEndpoint>& p : pending) {
    RefPtr<UnixEndpoint> client;
    {
      MutexLock lock(p->mu);
      client = std::move(p->peer);
    }
    if (client) hang_up(*client, true);
  }
}

Result<void> UnixSocket::Bind(Task& t, const SocketAddress& given) {
  std::string address = TRY(PathOf(given));
  if (address.empty()) return Autobind();
  {
    MutexLock lock(endpoint_->mu);
    if (!endpoint_->address.empty()) return Errno(EINVAL);
  }
  if (address[0] == '\0') {
    TRY(AbstractNames::Get().Bind(address, endpoint_));
  } else {
    const OwnWalk at(t, address);
    Result<Path> made = Vfs::Mknod(at.walk(), address, S_IFSOCK | (0777 & ~t.fs().umask()), 0);
    if (!made.ok()) return made.error().Is(EEXIST) ? Errno(EADDRINUSE) : made.error();
    bound_inode_ = made->dentry().inode();
    bound_inode_->AttachOnce(endpoint_);
  }
  MutexLock lock(endpoint_->mu);
  endpoint_->address = std::move(address);
  return {};
}

Result<void> UnixSocket::Autobind() {
  static std::atomic<uint32_t> next{1};
  for (int tries = 0; tries < 0x100000; tries++) {
    char name[8];
    snprintf(name + 1, sizeof(name) - 1, "%05x", next.fetch_add(1) & 0xfffff);
    name[0] = '\0';
    std::string address(name, 6);
    if (!AbstractNames::Get().Bind(address, endpoint_).ok()) continue;
    MutexLock lock(endpoint_->mu);
    endpoint_->address = std::move(address);
    return {};
  }
  return Errno(ENOSPC);
}

Result<void> UnixSocket::Listen(Task& t, int backlog) {
  if (endpoint_->type == SOCK_DGRAM) return Errno(EOPNOTSUPP);
  MutexLock lock(endpoint_->mu);
  if (endpoint_->address.empty() || endpoint_->connected) return Errno(EINVAL);
  endpoint_->listening = true;
  endpoint_->cred = OwnCred(t);
  endpoint_->backlog = std::min<size_t>(static_cast<size_t>(std::max(backlog, 0)), kMaxBacklog);
  return {};
}

Result<RefPtr<UnixEndpoint>> UnixSocket::FindTarget(Task& t, const std::string& address) {
  if (address.empty()) return Errno(EINVAL);
  RefPtr<UnixEndpoint> target;
  if (address[0] == '\0') {
    target = AbstractNames::Get().Find(address);
  } else {
    const OwnWalk from(t, address);
    const Path at = TRY(Vfs::Lookup(from.walk(), address, {}));
    TRY(Vfs::CheckAccess(t.creds(), at, kMayWrite));
    if (at.dentry().inode()->type() != S_IFSOCK) return Errno(ECONNREFUSED);
    RefPtr<RefCountedBase> attached = at.dentry().inode()->attachment();
    if (attached) target = RefPtr<UnixEndpoint>(static_cast<UnixEndpoint*>(attached.get()));
  }
  if (!target) return Errno(ECONNREFUSED);
  if (target->type != endpoint_->type) return Errno(EPROTOTYPE);
  return target;
}

Result<void> UnixSocket::Disconnect() {
  MutexLock lock(endpoint_->mu);
  endpoint_->peer.reset();
  endpoint_->connected = false;
  return {};
}

Result<void> UnixSocket::Connect(Task& t, const SocketAddress& given, bool) {
  if (given.family() == AF_UNSPEC && given.size >= 2 && type() == SOCK_DGRAM) return Disconnect();
  const std::string address = TRY(PathOf(given));
  RefPtr<UnixEndpoint> target = TRY(FindTarget(t, address));
  return ConnectTo(std::move(target), OwnCred(t));
}

Result<void> UnixSocket::ConnectTo(RefPtr<UnixEndpoint> target, UnixCred cred) {
  if (endpoint_->type == SOCK_DGRAM) {
    MutexLock lock(endpoint_->mu);
    endpoint_->peer = target;
    endpoint_->connected = true;
    return {};
  }
  std::string own;
  {
    MutexLock lock(endpoint_->mu);
    if (endpoint_->listening) return Errno(EINVAL);
    if (endpoint_->connected) return Errno(EISCONN);
    own = endpoint_->address;
  }
  UnixCred server_cred;
  Ref<UnixEndpoint> accepted = MakeRef<UnixEndpoint>(endpoint_->type, UnixCred{});
  {
    MutexLock lock(accepted->mu);
    accepted->peer = endpoint_;
    accepted->peer_cred = cred;
    accepted->connected = true;
  }
  {
    MutexLock lock(target->mu);
    if (!target->listening || target->closed) return Errno(ECONNREFUSED);
    if (target->pending.size() > target->backlog) return Errno(EAGAIN);
    server_cred = target->cred;
    {
      // Not visible to anyone yet, so the order of the two does not matter.
      MutexLock inner(accepted->mu, Nested{});
      accepted->address = target->address;
      accepted->cred = server_cred;
    }
    target->pending.push_back(accepted);
  }
  {
    MutexLock lock(endpoint_->mu);
    endpoint_->peer = accepted;
    endpoint_->peer_cred = server_cred;
    endpoint_->connected = true;
  }
  target->queue.Notify(EPOLLIN);
  endpoint_->queue.Notify(EPOLLOUT);
  return {};
}

Result<Ref<Socket>> UnixSocket::Accept(Task& t, bool wait) {
  Ref<UnixEndpoint> accepted = TRY(Wait(t, wait, EPOLLIN, options_.receive_timeout_ns,
                                        [&] { return TakePending(); }));
  return Ref<Socket>(
      MakeRef<UnixSocket>(net(), NewPath(t), OpenFlags(0), std::move(accepted)));
}

Result<Ref<UnixEndpoint>> UnixSocket::TakePending() {
  if (endpoint_->type == SOCK_DGRAM) return Errno(EOPNOTSUPP);
  Result<Ref<UnixEndpoint>> got = Errno(EAGAIN);
  {
    MutexLock lock(endpoint_->mu);
    if (!endpoint_->listening || endpoint_->receive_shut) return Errno(EINVAL);
    if (endpoint_->pending.empty()) return Errno(EAGAIN);
    got = std::move(endpoint_->pending.front());
    endpoint_->pending.pop_front();
  }
  endpoint_->queue.Notify(EPOLLOUT);
  return got;
}

Result<size_t> UnixSocket::Send(IoSrc& src, Outgoing& out) {
  RefPtr<UnixEndpoint> to = out.to;
  UnixMessage message;
  {
    MutexLock lock(endpoint_->mu);
    if (endpoint_->send_shut) return Errno(EPIPE);
    if (!to) to = endpoint_->peer;
    if (!to) return Errno(endpoint_->connected && endpoint_->type == SOCK_DGRAM ? ECONNREFUSED : ENOTCONN);
    message.from = endpoint_->address;
  }
  const size_t want = src.remaining();
  if (!endpoint_->stream() && want > kMaxDatagram) return Errno(EMSGSIZE);
  size_t room;
  {
    MutexLock lock(to->mu);
    if (to->closed || to->receive_shut) {
      return Errno(endpoint_->type == SOCK_DGRAM ? ECONNREFUSED : EPIPE);
    }
    room = to->queued < UnixEndpoint::kBuffer ? UnixEndpoint::kBuffer - to->queued : 0;
    constexpr size_t kMaxDatagrams = 11;  // net.unix.max_dgram_qlen and one
    if (endpoint_->type == SOCK_DGRAM && to->messages.size() >= kMaxDatagrams) room = 0;
  }
  if (room == 0 || (!endpoint_->stream() && room < want)) return Errno(EAGAIN);
  if (endpoint_->stream() && want == 0) return size_t{0};
  const size_t size = endpoint_->stream() ? std::min(want, room) : want;
  message.data.resize(size);
  size_t got = 0;
  if (size > 0) got = TRY(src.Get(message.data));
  message.data.resize(got);
  message.files = std::move(out.files);
  out.files.clear();
  message.cred = out.cred;
  {
    MutexLock lock(to->mu);
    if (to->closed) return Errno(endpoint_->type == SOCK_DGRAM ? ECONNREFUSED : EPIPE);
    to->queued += got;
    to->messages.push_back(std::move(message));
  }
  to->queue.Notify(EPOLLIN | EPOLLRDNORM);
  return got;
}

Result<UnixSocket::Received> UnixSocket::Receive(IoDst& dst, bool peek) {
  Received r;
  std::vector<UnixMessage> spent;  // dropped without the lock
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(endpoint_->mu);
    UnixEndpoint& e = *endpoint_;
    if (e.listening || (!e.connected && e.type != SOCK_DGRAM)) {
      return Errno(e.type == SOCK_STREAM ? EINVAL : ENOTCONN);
    }
    if (e.messages.empty()) {
      if (std::exchange(e.reset, false)) return Errno(ECONNRESET);
      if (e.receive_shut) return r;
      return Errno(EAGAIN);
    }
    peer = e.peer;
    bool first = true;
    size_t index = 0;
    while (index < e.messages.size()) {
      UnixMessage& m = e.messages[index];
      // Descriptors and other senders end a stream's read.
      if (!first && (!m.files.empty() || !r.files.empty() || m.cred.pid != r.cred.pid)) break;
      const size_t left = m.data.size() - m.taken;
      const size_t n = std::min(left, dst.remaining());
      if (n > 0) {
        Result<size_t> put = dst.Put(std::span(m.data).subspan(m.taken, n));
        if (!put.ok()) {
          if (!first) break;
          return put.error();
        }
      }
      r.size += n;
      r.full_size += left;
      r.from = m.from;
      r.cred = m.cred;
      r.has_cred = true;
      if (m.taken == 0 || !m.files.empty()) {
        if (peek) {
          for (const Ref<File>& f : m.files) r.files.push_back(f);
        } else {
          for (Ref<File>& f : m.files) r.files.push_back(std::move(f));
          m.files.clear();
        }
      }
      first = false;
      if (!e.stream()) {
        r.truncated = n < left;
        if (!peek) {
          e.queued -= m.data.size();
          spent.push_back(std::move(m));
          e.messages.pop_front();
        }
        break;
      }
      if (peek) {
        index++;
      } else {
        m.taken += n;
        e.queued -= n;
        if (m.taken == m.data.size()) {
          spent.push_back(std::move(m));
          e.messages.pop_front();
        }
      }
      if (dst.remaining() == 0) break;
    }
  }
  if (!peek) {
    if (peer) peer->queue.Notify(EPOLLOUT | EPOLLWRNORM);
    endpoint_->queue.Notify(EPOLLOUT);  // senders to an unconnected datagram socket wait here
  }
  return r;
}

Result<void> UnixSocket::Shutdown(Task&, int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(endpoint_->mu);
    if (!endpoint_->connected && !endpoint_->listening) return Errno(ENOTCONN);
    if (how != SHUT_WR) endpoint_->receive_shut = true;
    if (how != SHUT_RD) endpoint_->send_shut = true;
    peer = endpoint_->peer;
  }
  endpoint_->queue.Notify(EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLRDHUP);
  if (peer && endpoint_->type != SOCK_DGRAM) {
    {
      MutexLock lock(peer->mu);
      if (how != SHUT_WR) peer->send_shut = true;
      if (how != SHUT_RD) peer->receive_shut = true;
    }
    peer->queue.Notify(EPOLLIN | EPOLLOUT | EPOLLHUP | EPOLLRDHUP);
  }
  return {};
}

Result<SocketAddress> UnixSocket::LocalName() {
  MutexLock lock(endpoint_->mu);
  return AddressOf(endpoint_->address);
}

Result<SocketAddress> UnixSocket::PeerName() {
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(endpoint_->mu);
    if (!endpoint_->peer) return Errno(ENOTCONN);
    peer = endpoint_->peer;
  }
  MutexLock lock(peer->mu);
  return AddressOf(peer->address);
}

// SCM_RIGHTS and SCM_CREDENTIALS of a sendmsg.
Result<void> UnixSocket::ReadControl(Task& t, std::span<const std::byte> control, Outgoing& out) {
  return ForEachControl(control, [&](const ControlMessage& c) -> Result<void> {
    if (c.level != SOL_SOCKET) return {};
    if (c.type == SCM_RIGHTS) {
      const size_t n = c.data.size() / sizeof(int32_t);
      if (n + out.files.size() > kMaxScmRights) return Errno(EINVAL);
      for (size_t i = 0; i < n; i++) {
        int32_t fd;
        memcpy(&fd, c.data.data() + i * sizeof(fd), sizeof(fd));
        Ref<File> file = TRY(t.GetFile(fd));
        out.files.push_back(std::move(file));
      }
      return {};
    }
    if (c.type != SCM_CREDENTIALS) return Errno(EINVAL);
    const UnixCred cred = TRY(c.Value<UnixCred>());
    out.cred = TRY(TakeCred(t, cred));
    return {};
  });
}

Result<size_t> UnixSocket::SendMsg(Task& t, SendArgs& args) {
  Outgoing out{.files = {}, .cred = OwnCred(t), .to = nullptr};
  TRY(ReadControl(t, args.control, out));
  if ((args.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  if (args.to != nullptr && args.to->size != 0) {
    if (type() != SOCK_DGRAM) {
      MutexLock lock(endpoint_->mu);
      return Errno(endpoint_->connected ? EISCONN : EOPNOTSUPP);
    }
    const std::string path = TRY(PathOf(*args.to));
    out.to = TRY(FindTarget(t, path));
  }
  const size_t total = args.src.remaining();
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  size_t done = 0;
  for (;;) {
    Result<size_t> n = Wait(t, wait, EPOLLOUT, options_.send_timeout_ns,
                            [&] { return Send(args.src, out); });
    if (!n.ok()) {
      if (done > 0) return done;
      if (n.error().Is(EPIPE)) return BrokenPipe(t, args.flags);
      return n.error();
    }
    done += *n;
    if (!endpoint_->stream() || done >= total || *n == 0) return done;
  }
}

Result<size_t> UnixSocket::RecvMsg(Task& t, ReceiveArgs& args) {
  if ((args.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  const bool peek = (args.flags & MSG_PEEK) != 0;
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  if (endpoint_->stream() && args.dst.remaining() == 0 && args.control == nullptr) return size_t{0};
  Received all;
  bool any = false;
  for (;;) {
    Result<Received> r = Wait(t, wait, EPOLLIN | EPOLLRDHUP, options_.receive_timeout_ns,
                              [&] { return Receive(args.dst, peek); });
    if (!r.ok()) {
      if (!any) return r.error();
      break;
    }
    const size_t got = r->size;
    if (!any) {
      all = std::move(*r);
    } else {
      all.size += got;
    }
    any = true;
    const bool more = (args.flags & MSG_WAITALL) != 0 && endpoint_->stream() && !peek && wait &&
                      all.files.empty();
    if (!more || got == 0 || args.dst.remaining() == 0) break;
  }
  if (all.truncated) args.out_flags |= MSG_TRUNC;
  if (type() == SOCK_SEQPACKET && all.size > 0) args.out_flags |= MSG_EOR;
  if (type() == SOCK_DGRAM && !all.from.empty()) args.from = AddressOf(all.from);
  if (args.control != nullptr) {
    if (options_.pass_cred != 0 && all.has_cred) {
      args.control->Put(SOL_SOCKET, SCM_CREDENTIALS, SeenBy(t, all.cred));
    }
    args.files = std::move(all.files);
  }
  return (args.flags & MSG_TRUNC) != 0 && !endpoint_->stream() ? all.full_size : all.size;
}

std::optional<Result<void>> UnixSocket::GetSocketLevel(int name, OptionOut& out) {
  if (name != SO_PEERCRED) return std::nullopt;
  UnixCred cred{0, ~0u, ~0u};
  {
    MutexLock lock(endpoint_->mu);
    if (endpoint_->connected) cred = endpoint_->peer_cred;
  }
  const Task* t = Task::Current();
  if (t != nullptr && cred.pid != 0) cred = SeenBy(*t, cred);
  out.Put(cred);
  return Result<void>();
}

Result<void> UnixSocket::OnSocketOption(int, int64_t) { return {}; }

bool UnixSocket::IsListening() {
  MutexLock lock(endpoint_->mu);
  return endpoint_->listening;
}

EventMask UnixSocket::Poll(EventMask wanted) {
  EventMask mask = 0;
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(endpoint_->mu);
    const UnixEndpoint& e = *endpoint_;
    if (e.listening) return e.pending.empty() ? 0 : wanted & (EPOLLIN | EPOLLRDNORM);
    if (!e.messages.empty() || e.receive_shut) mask |= EPOLLIN | EPOLLRDNORM;
    if (e.receive_shut) mask |= EPOLLRDHUP;
    if (e.receive_shut && e.send_shut) mask |= EPOLLHUP;
    if (!e.connected && e.type != SOCK_DGRAM) return (mask | EPOLLOUT | EPOLLHUP) & (wanted | EPOLLHUP);
    peer = e.peer;
  }
  bool room = true;
  if (peer) {
    MutexLock lock(peer->mu);
    room = peer->queued * 4 <= UnixEndpoint::kBuffer;
  }
  if (room) mask |= EPOLLOUT | EPOLLWRNORM;
  return mask & (wanted | EPOLLHUP | EPOLLERR);
}

Result<int64_t> UnixSocket::DoIoctl(Task& task, uint32_t cmd, uint64_t arg) {
  int32_t n = 0;
  if (cmd == FIONREAD) {
    MutexLock lock(endpoint_->mu);
    if (endpoint_->listening) return Errno(EINVAL);
    n = static_cast<int32_t>(endpoint_->stream() || endpoint_->messages.empty()
                                 ? endpoint_->queued
                                 : endpoint_->messages.front().data.size());
  } else if (cmd != TIOCOUTQ) {
    return Errno(ENOTTY);
  }
  TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOut(task, n));
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
