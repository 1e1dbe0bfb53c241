#include "runsc/net/nat_tcp.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "netstack/wire/icmp.h"
#include "netstack/wire/tcp.h"
#include "sentry/base/log.h"

namespace ringwall {
namespace {

constexpr size_t kPiece = 64 << 10;
constexpr size_t kAtOnce = 1 << 20;  // of one flow before others have their turn
constexpr size_t kMostVectors = 64;
const net::Duration kOpenTime = net::Duration::Seconds(150);  // longer than connect() takes to fail

void ResetOnClose(int fd) {
  const linger now = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

void NoDelay(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

// The stack may tell once more after it was asked not to, so the hook outlives who is told.
class Hook final : public net::EndpointObserver {
 public:
  explicit Hook(std::function<void()> tell) : tell_(std::move(tell)) {}
  void OnReadiness(uint32_t) override {
    if (tell_) tell_();
  }
  void Drop() { tell_ = nullptr; }

 private:
  std::function<void()> tell_;
};

}  // namespace

// One connection. kConnecting: the host's connect() runs, the guest's SYN is kept. kAccepting: the
// guest's handshake with the stack runs. kCalling: a connection from outside, the stack's handshake
// with the guest runs. kOpen: bytes flow.
class NatTcp::Flow final : public NatWatcher {
 public:
  enum class State : uint8_t { kConnecting, kAccepting, kCalling, kOpen, kDead };

  Flow(NatTcp& tcp, const Key& key, UniqueFd fd, State state)
      : tcp_(tcp), key_(key), fd_(std::move(fd)), state_(state), since_(tcp.nat_.Now()) {
    tcp_.opening_++;
  }
  ~Flow() override {
    if (hook_) hook_->Drop();
    Leave();
  }

  const Key& key() const { return key_; }
  State state() const { return state_; }
  int fd() const { return fd_.get(); }
  net::TimePoint since() const { return since_; }
  bool dead() const { return state_ == State::kDead; }
  void Keep(net::RxFrame syn, net::ByteSpan datagram) {
    quote_ = net::Slice::Copy(datagram.first(std::min<size_t>(datagram.size(), 128)));
    // Of the frame's own: the batch's buffers are large.
    syn.data = net::Slice::Copy(syn.data.span());
    syn_ = std::move(syn);
  }
  void set_listens() { listens_ = true; }
  bool listens() const { return listens_; }

  void Attach(Ref<net::TcpEndpoint> endpoint) {
    endpoint_ = RefPtr<net::TcpEndpoint>(endpoint.get());
    hook_ = RefPtr<Hook>(MakeRef<Hook>([this] { Ready(); }));
    endpoint_->SetObserver(hook_);
    Ready();
  }
  // Events may have been missed before Attach: try everything.
  void Opened() {
    Leave();
    state_ = State::kOpen;
    host_in_ = host_out_ = true;
    Ready();
  }

  void OnEvents(uint32_t events) override {
    if (dead()) return;
    if (state_ == State::kConnecting) {
      if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) Connected();
      return;
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) != 0) host_in_ = true;
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) host_out_ = true;
    Ready();
  }

  void Work() {
    queued_ = false;
    if (state_ == State::kCalling) {
      const uint32_t events = endpoint_->Poll();
      if ((events & (net::kError | net::kHangup)) != 0) return Kill();
      if ((events & net::kWritable) == 0) return;
      Opened();
    }
    if (state_ != State::kOpen) return;
    bool more = ToHost();
    if (!dead()) more |= FromHost();
    if (dead()) return;
    if (guest_end_ && host_end_ && pending_.empty()) return End();
    if (more) Ready();
  }

  // Ends both sides at once, with a reset for whoever is connected.
  void Kill() {
    if (fd_) ResetOnClose(fd_.get());
    if (endpoint_) endpoint_->SetLinger(net::Duration());
    End();
  }
  void End() {
    Leave();
    state_ = State::kDead;
    if (endpoint_) {
      endpoint_->SetObserver(nullptr);
      endpoint_->Close();
      endpoint_ = nullptr;
    }
    fd_.reset();
  }
  void Connected();

 private:
  void Leave() {
    if (state_ != State::kOpen && state_ != State::kDead) tcp_.opening_--;
  }
  void Ready() {
    if (queued_) return;
    queued_ = true;
    tcp_.ready_.push_back(this);
  }
  // Both: true when there is more to do at once.
  bool ToHost();
  bool FromHost();

  NatTcp& tcp_;
  const Key key_;
  UniqueFd fd_;
  State state_;
  const net::TimePoint since_;
  RefPtr<net::TcpEndpoint> endpoint_;
  net::RxFrame syn_;
  net::Slice quote_;
  net::Chain pending_;  // from the host, not yet taken by the endpoint
  RefPtr<Hook> hook_;
  bool queued_ = false;
  bool listens_ = false;
  bool host_in_ = false, host_out_ = false;
  bool guest_end_ = false, host_end_ = false;
};

class NatTcp::Listener final {
 public:
  Listener(NatTcp& tcp, Ref<net::TcpEndpoint> endpoint) : tcp_(tcp), endpoint_(std::move(endpoint)) {
    endpoint_->SetObserver(RefPtr<net::EndpointObserver>(hook_));
  }
  ~Listener() {
    hook_->Drop();
    std::erase(tcp_.accepting_, this);
    endpoint_->SetObserver(nullptr);
    endpoint_->Close();
  }
  void Called() {
    if (queued_) return;
    queued_ = true;
    tcp_.accepting_.push_back(this);
  }
  net::TcpEndpoint& endpoint() { return *endpoint_; }
  void Taken() { queued_ = false; }
  size_t flows = 0;

 private:
  NatTcp& tcp_;
  const Ref<net::TcpEndpoint> endpoint_;
  const Ref<Hook> hook_ = MakeRef<Hook>([this] { Called(); });
  bool queued_ = false;
};

class NatTcp::Published final : public NatWatcher {
 public:
  Published(NatTcp& tcp, UniqueFd fd, uint16_t port)
      : tcp_(tcp), fd_(std::move(fd)), guest_port_(port) {}
  void OnEvents(uint32_t) override {
    // Level-triggered: what is left is told of again.
    for (int i = 0; i < 16; i++) {
      HostSockAddr from;
      UniqueFd fd(accept4(fd_.get(), from.raw(), &from.size, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd) return;
      tcp_.Incoming(std::move(fd), from.Get(), guest_port_);
    }
  }
  int fd() const { return fd_.get(); }

 private:
  NatTcp& tcp_;
  const UniqueFd fd_;
  const uint16_t guest_port_;
};

NatTcp::NatTcp(Nat& nat) : nat_(nat) {}

NatTcp::~NatTcp() {
  for (auto& [key, flow] : flows_) flow->End();
  flows_.clear();
  listeners_.clear();
}

void NatTcp::FrameIn(const net::SockAddr& guest, const net::SockAddr& to, uint8_t flags,
                     net::ByteSpan datagram, net::RxFrame frame) {
  if ((flags & (net::kSyn | net::kAck | net::kRst)) != net::kSyn) {
    return nat_.ToStack(std::move(frame));
  }
  const Key key{guest, to};
  if (auto it = flows_.find(key); it != flows_.end()) {
    // A repeated SYN. While the host connects there is no answer yet.
    if (it->second->state() != Flow::State::kConnecting) nat_.ToStack(std::move(frame));
    return;
  }
  net::SockAddr host;
  switch (nat_.Translate(to, &host)) {
    case Nat::Verdict::kHost:
      return Open(key, host, datagram, std::move(frame));
    case Nat::Verdict::kStack:
      return nat_.ToStack(std::move(frame));  // nobody listens: the stack resets
    case Nat::Verdict::kRefused:
      return;
  }
}

void NatTcp::Open(const Key& key, const net::SockAddr& host, net::ByteSpan datagram,
                  net::RxFrame frame) {
  if (flows_.size() >= kMostFlows) return;  // the guest asks again
  const int family = host.addr.is_v4() ? AF_INET : AF_INET6;
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return;
  NoDelay(fd.get());  // the guest's own stack does the gathering
  HostSockAddr to(host);
  const int result = ::connect(fd.get(), to.raw(), to.size);
  const int error = result == 0 ? 0 : errno;
  auto flow = std::make_unique<Flow>(*this, key, std::move(fd), Flow::State::kConnecting);
  flow->Keep(std::move(frame), datagram);
  Flow& f = *flow;
  flows_[key] = std::move(flow);
  if (error == 0 || error == EINPROGRESS) {
    if (!nat_.Watch(f.fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &f)) {
      f.Kill();
      Remove(f);
    }
    return;
  }
  errno = error;
  f.Connected();
}

// The host's connect() is over.
void NatTcp::Flow::Connected() {
  int error = 0;
  socklen_t size = sizeof(error);
  HostSockAddr peer;
  if (getpeername(fd_.get(), peer.raw(), &peer.size) != 0) {
    error = errno;
    int pending = 0;
    if (getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &pending, &size) == 0 && pending != 0) {
      error = pending;
    }
    if (error == ENOTCONN) error = ENETUNREACH;  // connect() failed at once
  }
  Nat& nat = tcp_.nat_;
  if (error == 0) {
    if (!tcp_.Listen(*this)) {
      Kill();
      return tcp_.Remove(*this);
    }
    state_ = State::kAccepting;
    return nat.ToStack(std::move(syn_));
  }
  const net::IpAddr& peer_addr = key_.peer.addr;
  if (error == ECONNREFUSED || error == ECONNRESET) {
    nat.ToStack(std::move(syn_));  // nobody listens there: the stack resets
  } else if (error == ENETUNREACH || error == EHOSTUNREACH || error == EACCES ||
             error == EPERM || error == EADDRNOTAVAIL) {
    const bool v4 = peer_addr.is_v4();
    const bool net_error = error == ENETUNREACH;
    nat.ErrorToGuest(
        v4 ? NatAddresses::Get().gateway4 : NatAddresses::Get().gateway6, key_.guest.addr,
        v4 ? net::kIcmpUnreachable : net::kIcmp6Unreachable,
        v4 ? (net_error ? net::kIcmpNetUnreach : net::kIcmpHostUnreach)
           : (net_error ? net::kIcmp6NoRoute : net::kIcmp6AddrUnreach),
        quote_.span());
  }
  End();
  tcp_.Remove(*this);
}

bool NatTcp::Listen(Flow& flow) {
  const net::SockAddr& at = flow.key().peer;
  auto it = listeners_.find(at);
  if (it == listeners_.end()) {
    Ref<net::TcpEndpoint> e = nat_.stack().NewTcp(at.addr.family());
    const bool ok = e->SetOption(net::Option::kTransparent, 1).ok() &&
                    e->SetOption(net::Option::kReuseAddr, 1).ok() &&
                    (at.addr.is_v4() || e->SetOption(net::Option::kV6Only, 1).ok()) &&
                    e->Bind(at).ok() && e->Listen(1024).ok();
    if (!ok) {
      e->Close();
      return false;
    }
    it = listeners_.emplace(at, std::make_unique<Listener>(*this, std::move(e))).first;
  }
  it->second->flows++;
  flow.set_listens();
  return true;
}

void NatTcp::Unlisten(const net::SockAddr& at) {
  auto it = listeners_.find(at);
  if (it != listeners_.end() && --it->second->flows == 0) listeners_.erase(it);
}

void NatTcp::Remove(Flow& flow) {
  if (flow.listens()) Unlisten(flow.key().peer);
  std::erase(ready_, &flow);
  auto it = flows_.find(flow.key());
  if (it == flows_.end() || it->second.get() != &flow) return;
  nat_.Bury(std::unique_ptr<NatWatcher>(it->second.release()));
  flows_.erase(it);
}

void NatTcp::Publish(UniqueFd listener, uint16_t guest_port) {
  published_.push_back(std::make_unique<Published>(*this, std::move(listener), guest_port));
  Published* p = published_.back().get();
  nat_.Watch(p->fd(), EPOLLIN, p);
}

void NatTcp::Unpublish(int listener) {
  const auto it = std::find_if(published_.begin(), published_.end(),
                               [&](const auto& p) { return p->fd() == listener; });
  if (it == published_.end()) return;
  nat_.Unwatch(listener);
  nat_.Bury(std::unique_ptr<NatWatcher>(it->release()));
  published_.erase(it);
}

// A connection from outside to a published port. The guest sees its peer's address, but for one of
// this host's own loopback, which could not be answered.
void NatTcp::Incoming(UniqueFd fd, const net::SockAddr& peer, uint16_t guest_port) {
  if (flows_.size() >= kMostFlows) return ResetOnClose(fd.get());
  const NatAddresses& a = NatAddresses::Get();
  const bool v4 = peer.addr.is_v4();
  net::SockAddr from = peer;
  if (from.addr.IsLoopback() || from.addr.IsLinkLocal()) from.addr = v4 ? a.gateway4 : a.gateway6;
  from.scope = 0;
  const net::SockAddr guest{v4 ? a.guest4 : a.guest6, guest_port, 0};
  Ref<net::TcpEndpoint> e = nat_.stack().NewTcp(from.addr.family());
  bool ok = e->SetOption(net::Option::kTransparent, 1).ok() &&
            e->SetOption(net::Option::kReuseAddr, 1).ok() && e->Bind(from).ok();
  if (ok) {
    const net::NetResult<void> connected = e->Connect(guest);
    ok = connected.ok() || connected.error() == net::NetError::kInProgress;
  }
  const Key key{guest, from};
  if (!ok || flows_.contains(key)) {
    e->Close();
    return ResetOnClose(fd.get());
  }
  NoDelay(fd.get());
  auto flow = std::make_unique<Flow>(*this, key, std::move(fd), Flow::State::kCalling);
  Flow& f = *flow;
  flows_[key] = std::move(flow);
  f.Attach(std::move(e));
  if (!nat_.Watch(f.fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, &f)) {
    f.Kill();
    Remove(f);
  }
}

bool NatTcp::Flow::ToHost() {
  size_t moved = 0;
  while (host_out_ && !guest_end_) {
    if (moved >= kAtOnce) return true;
    net::NetResult<net::Chain> data = endpoint_->Peek(4 * kPiece);
    if (!data.ok()) {
      if (data.error() == net::NetError::kWouldBlock) return false;
      Kill();
      return false;
    }
    if (data->empty()) {
      guest_end_ = true;
      ::shutdown(fd_.get(), SHUT_WR);
      return false;
    }
    iovec vectors[kMostVectors];
    msghdr message = {};
    message.msg_iov = vectors;
    for (const net::Slice& s : data->slices()) {
      if (message.msg_iovlen == kMostVectors) break;
      vectors[message.msg_iovlen++] = {const_cast<uint8_t*>(s.data()), s.size()};
    }
    const ssize_t n = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) {
        host_out_ = false;
        return false;
      }
      Kill();
      return false;
    }
    endpoint_->Consume(static_cast<size_t>(n));
    moved += static_cast<size_t>(n);
  }
  return false;
}

bool NatTcp::Flow::FromHost() {
  size_t moved = 0;
  while (true) {
    if (pending_.empty()) {
      if (!host_in_ || host_end_) return false;
      if (moved >= kAtOnce) return true;
      Ref<net::Buffer> buffer = net::Buffer::New(kPiece);
      const ssize_t n = ::recv(fd_.get(), buffer->data(), kPiece, MSG_DONTWAIT);
      if (n < 0) {
        if (errno == EINTR) continue;
        if (errno == EAGAIN) {
          host_in_ = false;
          return false;
        }
        Kill();
        return false;
      }
      if (n == 0) {
        host_end_ = true;
        if (!endpoint_->Shutdown(false, true).ok()) Kill();
        return false;
      }
      buffer->set_used(kPiece);
      pending_ = net::Chain(net::Slice(std::move(buffer), 0, static_cast<size_t>(n)).Compact());
    }
    net::NetResult<size_t> taken = endpoint_->Send(pending_);
    if (!taken.ok()) {
      if (taken.error() == net::NetError::kWouldBlock) return false;
      Kill();
      return false;
    }
    moved += *taken;
    pending_ = pending_.Sub(*taken);
    if (!pending_.empty()) return false;  // kWritable tells when there is room
  }
}

void NatTcp::Work() {
  std::vector<Listener*> accepting;
  accepting.swap(accepting_);
  for (Listener* l : accepting) {
    l->Taken();
    while (true) {
      net::NetResult<Ref<net::TcpEndpoint>> e = l->endpoint().Accept();
      if (!e.ok()) break;
      net::NetResult<net::SockAddr> local = (*e)->LocalAddress();
      net::NetResult<net::SockAddr> remote = (*e)->RemoteAddress();
      Flow* flow = nullptr;
      if (local.ok() && remote.ok()) {
        auto it = flows_.find(Key{*remote, *local});
        if (it != flows_.end() && it->second->state() == Flow::State::kAccepting) {
          flow = it->second.get();
        }
      }
      if (flow == nullptr) {
        (*e)->SetLinger(net::Duration());
        (*e)->Close();
        continue;
      }
      flow->Attach(*e);
      flow->Opened();
    }
  }
  // Those that become ready meanwhile have their turn after the link's.
  for (size_t n = ready_.size(); n > 0 && !ready_.empty(); n--) {
    Flow* flow = ready_.front();
    ready_.pop_front();
    flow->Work();
    if (flow->dead()) Remove(*flow);
  }
}

void NatTcp::Sweep(net::TimePoint now) {
  std::vector<Flow*> late;
  for (auto& [key, flow] : flows_) {
    if (flow->state() != Flow::State::kOpen && now - flow->since() > kOpenTime) {
      late.push_back(flow.get());
    }
  }
  for (Flow* flow : late) {
    flow->Kill();
    Remove(*flow);
  }
}

}  // namespace ringwall
