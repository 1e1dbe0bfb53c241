#include "fs/unix/unix_socket.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>

#include "fs/vfs/anon_inode.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

class SocketInode final : public AnonInode {
 public:
  SocketInode(Uid uid, Gid gid) : AnonInode(S_IFSOCK | 0777, uid, gid) {}
  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }
};

constexpr size_t kMaxDatagram = UnixEndpoint::kBuffer - 32;
constexpr size_t kMaxBacklog = 4096;

int64_t After(int64_t timeout_ns) {
  return timeout_ns == 0 ? INT64_MAX : MonotonicNow() + timeout_ns;
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

UnixSocket::UnixSocket(Path path, uint32_t flags, Ref<UnixEndpoint> endpoint)
    : File(std::move(path), flags), endpoint_(std::move(endpoint)) {}

Ref<UnixSocket> UnixSocket::Wrap(Ref<UnixEndpoint> endpoint, uint32_t flags) {
  Ref<SocketInode> inode = MakeRef<SocketInode>(0, 0);
  Path path = AnonymousPath(inode, "socket:[" + std::to_string(inode->ino()) + "]");
  return MakeRef<UnixSocket>(std::move(path), O_RDWR | (flags & O_NONBLOCK), std::move(endpoint));
}

Ref<UnixSocket> UnixSocket::Create(int type, uint32_t flags, UnixCred cred) {
  return Wrap(MakeRef<UnixEndpoint>(type, cred), flags);
}

UnixSocket* UnixSocket::From(File& file) {
  return file.inode().kind() == &SocketInode::kKind ? static_cast<UnixSocket*>(&file) : nullptr;
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

Result<void> UnixSocket::Bind(const Walk& walk, std::string address, uint32_t mode) {
  {
    MutexLock lock(endpoint_->mu);
    if (!endpoint_->address.empty()) return Errno(EINVAL);
  }
  if (address[0] == '\0') {
    TRY(AbstractNames::Get().Bind(address, endpoint_));
  } else {
    Result<Path> made = Vfs::Mknod(walk, address, S_IFSOCK | mode, 0);
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

Result<void> UnixSocket::Listen(int backlog, UnixCred cred) {
  if (endpoint_->type == SOCK_DGRAM) return Errno(EOPNOTSUPP);
  MutexLock lock(endpoint_->mu);
  if (endpoint_->address.empty() || endpoint_->connected) return Errno(EINVAL);
  endpoint_->listening = true;
  endpoint_->cred = cred;
  endpoint_->backlog = std::min<size_t>(static_cast<size_t>(std::max(backlog, 0)), kMaxBacklog);
  return {};
}

Result<RefPtr<UnixEndpoint>> UnixSocket::FindTarget(const Walk& walk, const std::string& address) {
  RefPtr<UnixEndpoint> target;
  if (address[0] == '\0') {
    target = AbstractNames::Get().Find(address);
  } else {
    const Path at = TRY(Vfs::Lookup(walk, address, {}));
    TRY(Vfs::CheckAccess(walk.creds, at, kMayWrite));
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

Result<void> UnixSocket::Connect(const Walk& walk, const std::string& address, UnixCred cred) {
  RefPtr<UnixEndpoint> target = TRY(FindTarget(walk, address));
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

Result<Ref<UnixEndpoint>> UnixSocket::Accept() {
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

Result<size_t> UnixSocket::Send(SendArgs& args) {
  RefPtr<UnixEndpoint> to = args.to;
  UnixMessage message;
  {
    MutexLock lock(endpoint_->mu);
    if (endpoint_->send_shut) return Errno(EPIPE);
    if (!to) to = endpoint_->peer;
    if (!to) return Errno(endpoint_->connected && endpoint_->type == SOCK_DGRAM ? ECONNREFUSED : ENOTCONN);
    message.from = endpoint_->address;
  }
  const size_t want = args.src->remaining();
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
  if (size > 0) got = TRY(args.src->Get(message.data));
  message.data.resize(got);
  message.files = std::move(args.files);
  args.files.clear();
  message.cred = args.cred;
  {
    MutexLock lock(to->mu);
    if (to->closed) return Errno(endpoint_->type == SOCK_DGRAM ? ECONNREFUSED : EPIPE);
    to->queued += got;
    to->messages.push_back(std::move(message));
  }
  to->queue.Notify(EPOLLIN | EPOLLRDNORM);
  return got;
}

Result<UnixSocket::Received> UnixSocket::Receive(IoDst& dst, bool peek, bool) {
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

Result<void> UnixSocket::Shutdown(int how) {
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

std::string UnixSocket::LocalAddress() const {
  MutexLock lock(endpoint_->mu);
  return endpoint_->address;
}

Result<std::string> UnixSocket::PeerAddress() const {
  RefPtr<UnixEndpoint> peer;
  {
    MutexLock lock(endpoint_->mu);
    if (!endpoint_->peer) return Errno(ENOTCONN);
    peer = endpoint_->peer;
  }
  MutexLock lock(peer->mu);
  return peer->address;
}

Result<size_t> UnixSocket::Read(IoDst& dst, uint64_t, int) {
  if (dst.remaining() == 0 && endpoint_->stream()) return size_t{0};
  const Received r = TRY(Receive(dst, false, false));
  return r.size;
}

Result<size_t> UnixSocket::Write(IoSrc& src, uint64_t*, int) {
  SendArgs args{.src = &src, .files = {}, .cred = {}, .to = nullptr};
  if (Task* t = Task::Current()) args.cred = {t->tgid(), t->creds().ruid, t->creds().rgid};
  return Send(args);
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

int64_t UnixSocket::read_deadline() { return After(receive_timeout_ns.load()); }
int64_t UnixSocket::write_deadline() { return After(send_timeout_ns.load()); }

Result<int64_t> UnixSocket::Ioctl(Task& task, uint32_t cmd, uint64_t arg) {
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

}  // namespace ringwall
