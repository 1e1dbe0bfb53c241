// The socket side of TCP: bind, connect, listen, options, readiness. Compare Linux's
// net/ipv4/af_inet.c and tcp.c for what a program sees.
#include "netstack/tcp/endpoint.h"

#include <algorithm>

#include "netstack/tcp/listen.h"
#include "netstack/tcp/protocol.h"
#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"

namespace ringwall::net {
namespace {

constexpr uint32_t kGsoMost = 65000;  // one frame's payload with any headers

}  // namespace

TcpEndpoint::TcpEndpoint(Ref<Stack> stack, Family family)
    : Endpoint(std::move(stack), family),
      timer_([](void* e, TimePoint now) {
        TcpEndpoint* self = static_cast<TcpEndpoint*>(e);
        Ref<TcpEndpoint> hold(*self);
        self->connection_->OnDeadline(now);
        self->Rearm();
      }, this) {
  const StackConfig& c = stack_->config();
  Store(options_, Option::kSendBuffer, static_cast<int64_t>(c.tcp_wmem_default));
  Store(options_, Option::kReceiveBuffer, static_cast<int64_t>(c.tcp_rmem_default));
}

uint32_t TcpEndpoint::MssOf(Stack& stack, const Route& route) {
  const uint32_t mtu = stack.PathMtu(route);
  const uint32_t headers = kTcpHeader + (route.dst.is_v4() ? kIpv4Header : kIpv6Header);
  // With a packet's headers no more than 65,535, which a larger MTU does not change.
  return std::clamp<uint32_t>(mtu > headers ? mtu - headers : 0, 48, 65495);
}

TcpSettings TcpEndpoint::MakeSettings() const {
  const StackConfig& c = stack_->config();
  TcpSettings s;
  s.no_delay = flag(Option::kNoDelay);
  s.cork = flag(Option::kCork);
  s.oob_inline = flag(Option::kOobInline);
  s.keepalive = flag(Option::kKeepAlive);
  s.keep_idle = Duration::Seconds(opt(Option::kKeepIdle));
  s.keep_interval = Duration::Seconds(opt(Option::kKeepInterval));
  s.keep_count = static_cast<int>(opt(Option::kKeepCount));
  s.syn_retries = static_cast<int>(opt(Option::kSynCount));
  s.synack_retries = c.tcp_synack_retries;
  s.retries2 = c.tcp_retries2;
  s.orphan_retries = c.tcp_orphan_retries != 0 ? c.tcp_orphan_retries : 8;  // tcp_orphan_retries()
  s.user_timeout = Duration::Millis(opt(Option::kUserTimeout));
  const int64_t linger2 = opt(Option::kLinger2);
  s.fin_timeout =
      linger2 == 0 ? c.tcp_fin_timeout : Duration::Seconds(std::min<int64_t>(linger2, 120));
  s.window_clamp = static_cast<uint32_t>(opt(Option::kWindowClamp));
  const int64_t lowat = opt(Option::kNotSentLowat);
  s.notsent_lowat = lowat == 0 ? c.tcp_notsent_lowat : static_cast<uint64_t>(lowat);
  s.slow_start_after_idle = c.tcp_slow_start_after_idle;
  s.receive_lowat = static_cast<size_t>(std::max<int64_t>(opt(Option::kReceiveLowat), 1));
  s.sack = c.tcp_sack;
  s.dsack = c.tcp_dsack;
  s.timestamps = c.tcp_timestamps;
  s.window_scaling = c.tcp_window_scaling;
  s.ecn = c.tcp_ecn;
  s.mtu_probing = c.tcp_mtu_probing;
  s.base_mss = std::clamp<uint32_t>(c.tcp_base_mss, 48, 65483);
  s.congestion = static_cast<uint8_t>(opt(Option::kCongestion));
  s.send_buffer = static_cast<size_t>(opt(Option::kSendBuffer));
  s.send_buffer_max = std::max(c.tcp_wmem_max, s.send_buffer);
  s.send_buffer_locked = send_buffer_locked_;
  s.receive_buffer = static_cast<size_t>(opt(Option::kReceiveBuffer));
  s.receive_buffer_max = std::max(c.tcp_rmem_max, s.receive_buffer);
  s.receive_buffer_locked = receive_buffer_locked_;
  s.max_segment = route_.kind == Route::Kind::kLocal ? 65483 : kGsoMost;
  return s;
}

void TcpEndpoint::Rearm() {
  if (connection_ && registered_) {
    timer_.Set(stack_->timers(), connection_->NextDeadline());
  } else {
    timer_.Cancel();
  }
}

// ---- Addresses ----

PortBinding TcpEndpoint::Binding() const {
  PortBinding b;
  b.addr = local_.addr.IsNone() ? IpAddr::Any(family_) : local_.addr;
  b.dual = b.addr.is_v6() && b.addr.IsAny() && !flag(Option::kV6Only);
  b.device = static_cast<IfIndex>(opt(Option::kBindToDevice));
  b.reuse_addr = flag(Option::kReuseAddr);
  b.reuse_port = flag(Option::kReusePort);
  return b;
}

NetResult<void> TcpEndpoint::DoBind(const SockAddr& given) {
  if (family_ == Family::kV4 && !given.addr.is_v4()) return NetError::kAfNoSupport;
  SockAddr a = TRY(Normalise(given));
  if (NeedsScope(a.addr)) {
    const IfIndex device = static_cast<IfIndex>(opt(Option::kBindToDevice));
    if (a.scope == 0) a.scope = device;
    if (a.scope == 0) return NetError::kInvalid;
    device_ = a.scope;
  }
  // A connection that was reset has given its port back, unless the user chose that.
  const bool over = connection_ && connection_->state() == TcpState::kClosed && !bound_;
  const bool taken = bound_ || listener_ || (connection_ && !over);
  if (taken && family_ == Family::kV6) return NetError::kInvalid;
  TRY(CheckLocalLocked(a.addr));
  if (taken) return NetError::kInvalid;  // __inet_bind() looks at the address first
  if (a.port == 0 && flag(Option::kBindNoPort)) {
    local_ = a;  // connect chooses a port for the whole tuple
    bound_by_user_ = true;
    return {};
  }
  const SockAddr before = local_;
  local_ = a;
  const PortBinding b = Binding();
  NetResult<uint16_t> port = stack_->tcp().Bind(*this, a.port, b);
  if (!port.ok()) {
    local_ = before;
    local_.addr = IpAddr::Any(family_);  // __inet_bind() leaves none
    return port.error();
  }
  local_.port = *port;
  bound_ = b;
  bound_by_user_ = true;
  addr_by_user_ = !a.addr.IsAny();
  port_by_user_ = a.port != 0;
  return {};
}

void TcpEndpoint::Unbind() {
  if (bound_) stack_->tcp().Unbind(local_.port, *bound_);
  bound_.reset();
}

NetResult<SockAddr> TcpEndpoint::DoLocal() { return ToUser(local_); }

NetResult<SockAddr> TcpEndpoint::DoRemote() {
  if (!remote_ || !connection_) return NetError::kNotConnected;
  const TcpState s = connection_->state();
  if (s == TcpState::kClosed || s == TcpState::kSynSent) return NetError::kNotConnected;
  return ToUser(*remote_);
}

// ---- Opening ----

NetResult<void> TcpEndpoint::DoConnect(const SockAddr& given) {
  if (given.addr.IsNone()) return Disconnect();
  if (listener_) return NetError::kIsConnected;
  if (dead_end_) return NetError::kInvalid;
  if (deferred_) return NetError::kIsConnected;
  if (connection_) {
    if (connecting_) {
      if (connection_->state() == TcpState::kSynSent ||
          connection_->state() == TcpState::kSynReceived) {
        return NetError::kAlready;
      }
      connecting_ = false;
      if (std::optional<NetError> e = TakeErrorLocked()) {
        // As __inet_stream_connect(), which ends with tcp_disconnect().
        TRY(Disconnect());
        return *e;
      }
      if (connection_->state() == TcpState::kClosed) {
        TRY(Disconnect());
        return NetError::kAborted;
      }
      return {};
    }
    if (connection_->state() != TcpState::kClosed) return NetError::kIsConnected;
    if (was_connected_) return NetError::kIsConnected;
    connection_.reset();
  }
  SockAddr a = TRY(Normalise(given));
  // The loopback of the family that it is bound to.
  if (a.addr.IsAny() && bound_by_user_ && local_.addr.is_v4()) a.addr = IpAddr::Any(Family::kV4);
  IfIndex oif = static_cast<IfIndex>(opt(Option::kBindToDevice));
  if (a.addr.is_v6() && a.addr.IsLinkLocal()) {
    if (a.scope == 0) a.scope = device_ != 0 ? device_ : oif;
    if (a.scope == 0) return NetError::kInvalid;
    oif = device_ = a.scope;
  }
  IpAddr src = bound_by_user_ ? local_.addr : IpAddr();
  if (!src.IsNone() && !src.IsAny() && src.family() != a.addr.family()) {
    return a.addr.is_v4() ? NetError::kNetUnreach : NetError::kAfNoSupport;
  }
  // __inet_bind(): what is bound to a group or a broadcast address sends from the interface's.
  if (!src.IsNone() && (src.IsAny() || src.IsMulticast() || (src.is_v4() && stack_->IsBroadcast(src)))) {
    src = IpAddr();
  }
  Route route = TRY(stack_->FindRoute({.src = src, .dst = a.addr, .oif = oif,
                                       .mark = static_cast<uint32_t>(opt(Option::kMark))}));
  if (route.kind == Route::Kind::kBroadcast || route.kind == Route::Kind::kMulticast) {
    return NetError::kNetUnreach;
  }
  a.addr = route.dst;
  const TcpFastOpen fast = FastOpenFor(route.src, a.addr);
  if (fast_connect_ && fast_data_ == nullptr && fast.ask && (fast.cookie_size != 0 || fast_free_)) {
    deferred_ = given;
    return {};
  }
  deferred_.reset();
  const bool loopback = route.kind == Route::Kind::kLocal;
  FourTuple tuple{route.src, a.addr, local_.port, a.port};
  if (!bound_) {
    tuple.local_port = TRY(stack_->tcp().ChoosePort(*this, tuple, loopback));
    PortBinding b = Binding();
    b.addr = route.src;
    b.dual = false;
    b.by_connect = true;
    stack_->tcp().Share(tuple.local_port, b);
    bound_ = b;
    local_.port = tuple.local_port;
  }
  if (!stack_->tcp().Register(this, tuple, loopback)) {
    if (!bound_by_user_) {
      Unbind();
      local_.port = 0;
    }
    return NetError::kAddrNotAvail;
  }
  registered_ = true;
  tuple_ = tuple;
  local_.addr = route.src;
  remote_ = a;
  route_ = route;
  connecting_ = true;
  uint32_t mss = MssOf(*stack_, route);
  if (opt(Option::kMaxSegment) != 0) {
    mss = std::min(mss, static_cast<uint32_t>(opt(Option::kMaxSegment)));
  }
  error_.reset();  // tcp_connect_init()
  connection_ = std::make_unique<TcpConnection>(*this, MakeSettings(), mss);
  stack_->counters().tcp.active_opens++;
  Chain on_syn;
  if (fast_data_ != nullptr && fast.ask && (fast.cookie_size != 0 || fast_free_)) {
    // RFC 7413 4.1.2: not more than the peer's last MSS, less the options.
    const FastOpenCache::Entry* known = stack_->tcp().fast_open().Find(route.src, a.addr);
    const size_t room = std::min<size_t>(known != nullptr ? known->mss : 536, mss);
    on_syn = fast_data_->Sub(0, std::min(fast_data_->size(), room > 40 ? room - 40 : 0));
    fast_taken_ = on_syn.size();
  }
  // A shutdown from before connect stays, but sends nothing by itself.
  if (shut_write_) connection_->ShutEarly();
  if (shut_read_) connection_->ShutdownRead();
  connection_->Connect(stack_->tcp().InitialSequence(tuple_),
                       stack_->tcp().TimestampOffset(tuple_), stack_->now(), fast,
                       std::move(on_syn));
  Rearm();
  return NetError::kInProgress;
}

// What a SYN to that server carries: a cookie, a request for one, or nothing.
TcpFastOpen TcpEndpoint::FastOpenFor(const IpAddr& src, const IpAddr& dst) {
  fast_free_ = false;
  const uint32_t bits = stack_->config().tcp_fastopen;
  if ((fast_data_ == nullptr && !fast_connect_) || (bits & kTfoClient) == 0) return {};
  const FastOpenCache::Entry* known = stack_->tcp().fast_open().Find(src, dst);
  if (known != nullptr && FastOpenCache::Resting(*known, stack_->now())) return {};
  fast_free_ = (bits & kTfoClientNoCookie) != 0 || fast_no_cookie_;
  if (fast_free_) return {.ask = true};
  if (known != nullptr && known->cookie.cookie_size != 0) return known->cookie;
  return {.ask = true};
}

// connect with AF_UNSPEC: tcp_disconnect().
NetResult<void> TcpEndpoint::Disconnect() {
  Ref<TcpEndpoint> hold(*this);
  deferred_.reset();
  dead_end_ = false;
  shut_read_ = shut_write_ = false;
  std::optional<NetError> left;
  // tcp_set_state(): what was closed all the time keeps its port.
  const bool was_open = listener_ || (connection_ && connection_->state() != TcpState::kClosed);
  listener_.reset();
  if (connection_) {
    const TcpState state = connection_->state();
    // Linux leaves an error behind where a reset goes out.
    if (state != TcpState::kClosed && state != TcpState::kTimeWait &&
        state != TcpState::kLastAck && state != TcpState::kClosing) {
      left = NetError::kReset;
    }
    connection_->Close(true, stack_->now());
    connection_.reset();
  }
  stack_->tcp().RemoveListener(this, local_.port);
  // SOCK_BINDADDR_LOCK and SOCK_BINDPORT_LOCK: what bind did not name goes; the number of the port is seen until
  // there is another (inet_sport).
  if (bound_ && bound_by_user_) {
    local_.addr = addr_by_user_ || bound_->addr.IsAny() ? bound_->addr : IpAddr::Any(family_);
    bound_by_user_ = !was_open || port_by_user_ || !local_.addr.IsAny();
  }
  if (bound_ && (!bound_by_user_ || (was_open && !port_by_user_))) Unbind();
  if (!bound_by_user_) {
    local_.addr = IpAddr::Any(family_);
    local_.scope = 0;
  }
  remote_.reset();
  connecting_ = was_connected_ = false;
  if (left) error_ = left;  // else what is there stays
  return {};
}

NetResult<void> TcpEndpoint::Listen(int backlog) {
  StackEntry entry(*stack_);
  if (connection_) return NetError::kInvalid;
  const int most = static_cast<int>(stack_->config().somaxconn);
  backlog_ = backlog < 0 || backlog > most ? most : backlog;
  if (listener_) return {};
  if (!bound_) {
    // Linux: listen without bind takes an ephemeral port.
    Store(options_, Option::kBindNoPort, 0);
    const bool by_user = bound_by_user_;
    TRY(DoBind({by_user ? local_.addr : IpAddr::Any(family_), 0, local_.scope}));
    bound_by_user_ = by_user;
  }
  PortBinding to = Binding();
  to.listening = true;
  stack_->tcp().Unbind(local_.port, *bound_);
  if (stack_->tcp().Conflicts(local_.port, to)) {
    stack_->tcp().Share(local_.port, *bound_);
    return NetError::kAddrInUse;
  }
  stack_->tcp().Share(local_.port, to);
  bound_ = to;
  listener_ = std::make_unique<TcpListener>(*this);
  stack_->tcp().AddListener(this, local_.port);
  return {};
}

NetResult<Ref<TcpEndpoint>> TcpEndpoint::Accept() {
  StackEntry entry(*stack_);
  if (!listener_) return NetError::kInvalid;
  RefPtr<TcpEndpoint> child = listener_->TakeWaiting();
  if (!child) return NetError::kWouldBlock;
  return Ref<TcpEndpoint>(std::move(child));
}

SockAddr TcpEndpoint::Accepted() {
  StackEntry entry(*stack_);
  return remote_ ? ToUser(*remote_) : SockAddr{IpAddr::Any(family_), 0, 0};
}

Ref<TcpEndpoint> TcpEndpoint::MakeChild(TcpEndpoint& parent, const FourTuple& tuple, IfIndex iface,
                                        const Route& route, const TcpAgreed& agreed,
                                        uint32_t send_window, std::optional<Duration> rtt) {
  Ref<TcpEndpoint> child = MakeFastChild(parent, tuple, iface, route, agreed);
  child->connection_->Accepted(agreed, send_window, rtt, child->stack_->now());
  return child;
}

void TcpEndpoint::AcceptFast(const TcpAgreed& agreed, const TcpSegment& syn, Chain data,
                             const TcpFastOpen& answer) {
  // RFC 7323 2.2: a SYN's window is never scaled.
  connection_->AcceptedFast(agreed, syn.window, std::move(data), syn.Has(kFin), answer,
                            stack_->now());
  Rearm();
}

const std::vector<SipKey>& TcpEndpoint::fast_open_keys() const {
  return fast_keys_.empty() ? stack_->tcp().FastOpenKeys() : fast_keys_;
}

void TcpEndpoint::SetFastOpenKeys(std::vector<SipKey> keys) {
  StackEntry entry(*stack_);
  fast_keys_ = std::move(keys);
}

std::vector<SipKey> TcpEndpoint::OwnFastOpenKeys() {
  StackEntry entry(*stack_);
  return fast_keys_;
}

void TcpEndpoint::SetFastOpenConnect(bool on) {
  StackEntry entry(*stack_);
  fast_connect_ = on;
}

void TcpEndpoint::SetFastOpenNoCookie(bool on) {
  StackEntry entry(*stack_);
  fast_no_cookie_ = on;
}

NetResult<void> TcpEndpoint::ConnectFast(const SockAddr& to, const Chain& data, size_t* taken) {
  StackEntry entry(*stack_);
  if ((stack_->config().tcp_fastopen & kTfoClient) == 0) return NetError::kOpNotSupp;
  Ref<TcpEndpoint> hold(*this);
  fast_data_ = &data;
  fast_taken_ = 0;
  NetResult<void> r = DoConnect(to);
  fast_data_ = nullptr;
  *taken = fast_taken_;
  return r;
}

void TcpEndpoint::OnFastOpen(const TcpOptions& answer, bool lost) {
  TcpCounters& count = stack_->counters().tcp;
  if (connection_->Info(stack_->now()).syn_data) count.fast_open_active++;
  if (lost) count.fast_open_active_fail++;
  if (answer.fast_open && answer.cookie_size % 2 != 0) return;  // RFC 7413 2: 4 to 16, even
  if (answer.fast_open && answer.cookie_size < 4) return;
  stack_->tcp().fast_open().Learn(tuple_.local, tuple_.remote, answer,
                                  answer.mss.value_or(536), lost, stack_->now());
}

void TcpEndpoint::NoteAcked(QueuedError note) {
  StackEntry entry(*stack_);
  if (!connection_) return;
  note.when = stack_->now();
  const uint64_t end = connection_->written();
  if (end <= connection_->arrived()) return QueueError(std::move(note));
  if (ack_notes_.size() < 1000) ack_notes_.emplace_back(end, std::move(note));
}

void TcpEndpoint::OnAcked(uint64_t bytes) {
  while (!ack_notes_.empty() && ack_notes_.front().first <= bytes) {
    ack_notes_.front().second.when = stack_->now();
    QueueError(std::move(ack_notes_.front().second));
    ack_notes_.pop_front();
  }
}

Ref<TcpEndpoint> TcpEndpoint::MakeFastChild(TcpEndpoint& parent, const FourTuple& tuple,
                                            IfIndex iface, const Route& route,
                                            const TcpAgreed& agreed) {
  static_cast<void>(agreed);
  Ref<TcpEndpoint> child = MakeRef<TcpEndpoint>(parent.stack_, parent.family_);
  TcpEndpoint& c = *child;
  c.options_ = parent.options_;
  c.linger_ = parent.linger_;
  c.send_buffer_locked_ = parent.send_buffer_locked_;
  c.receive_buffer_locked_ = parent.receive_buffer_locked_;
  c.tuple_ = tuple;
  c.local_ = {tuple.local, tuple.local_port, iface};
  c.remote_ = SockAddr{tuple.remote, tuple.remote_port, iface};
  if (tuple.remote.is_v6() && tuple.remote.IsLinkLocal()) c.device_ = iface;
  c.route_ = route;
  PortBinding b = *parent.bound_;
  b.listening = false;
  b.dual = false;
  b.addr = tuple.local;
  c.bound_ = b;
  c.stack_->tcp().Share(tuple.local_port, b);
  c.registered_ = true;
  c.was_connected_ = true;
  c.bound_by_user_ = parent.bound_by_user_;  // sk_userlocks
  c.addr_by_user_ = parent.addr_by_user_;
  c.port_by_user_ = parent.port_by_user_;
  uint32_t mss = MssOf(*c.stack_, route);
  if (c.opt(Option::kMaxSegment) != 0) {
    mss = std::min(mss, static_cast<uint32_t>(c.opt(Option::kMaxSegment)));
  }
  c.connection_ = std::make_unique<TcpConnection>(c, c.MakeSettings(), mss);
  return child;
}

// ---- Closing ----

NetResult<void> TcpEndpoint::DoShutdown(bool read, bool write) {
  Ref<TcpEndpoint> hold(*this);
  if (listener_) {
    if (!read) return {};
    // Linux: a listener shut for reading stops listening but keeps its port.
    listener_.reset();
    stack_->tcp().RemoveListener(this, local_.port);
    // tcp_disconnect(): as it was before; a port that nobody asked for goes.
    shut_read_ = shut_write_ = false;
    if (port_by_user_) {
      PortBinding to = *bound_;
      to.listening = false;
      stack_->tcp().Rebind(local_.port, *bound_, to);
      bound_ = to;
    } else {
      Unbind();
    }
    Notify(kReadable | kHangup);
    return {};
  }
  if (!connection_ || connection_->state() == TcpState::kClosed) {
    // As inet_shutdown(): the wish is kept all the same, for who polls.
    shut_read_ |= read;
    shut_write_ |= write;
    if (connection_ && connecting_) dead_end_ = true;  // SS_DISCONNECTING: until AF_UNSPEC
    Notify(kReadable | kWritable | kReadHangup | kHangup);
    return NetError::kNotConnected;
  }
  if (connection_->state() == TcpState::kSynSent) {
    TRY(Disconnect());
    Notify(kReadable | kWritable | kError | kHangup);
    return {};
  }
  // The result of connect is told by this: SS_CONNECTED, or SS_DISCONNECTING before there is one.
  dead_end_ = connecting_ && connection_->state() == TcpState::kSynReceived;
  connecting_ = false;
  if (read) connection_->ShutdownRead();
  if (write) connection_->ShutdownWrite(stack_->now());
  Rearm();
  Notify(kReadable | kWritable | (read ? kReadHangup : 0u) | kHangup);
  return {};
}

void TcpEndpoint::DoClose() {
  if (listener_) {
    listener_.reset();
    stack_->tcp().RemoveListener(this, local_.port);
  }
  if (connection_ && connection_->state() != TcpState::kClosed) {
    const bool abort = (linger_ && linger_->IsZero()) ||
                       stack_->tcp().orphans >= stack_->config().tcp_max_orphans;
    stack_->tcp().orphans++;
    connection_->Close(abort, stack_->now());
    Rearm();
    return;
  }
  Unbind();
}

void TcpEndpoint::Abort() {
  Ref<TcpEndpoint> hold(*this);
  MarkClosed();
  observer_.reset();
  if (connection_ && connection_->state() != TcpState::kClosed) {
    stack_->tcp().orphans++;
    connection_->Close(true, stack_->now());
  } else {
    Unbind();
  }
}

void TcpEndpoint::OnClosed(std::optional<NetError> error) {
  timer_.Cancel();
  if (!was_connected_ && connecting_) stack_->counters().tcp.attempt_fails++;
  if (closed_) {
    if (stack_->tcp().orphans > 0) stack_->tcp().orphans--;
  }
  if (error) SetError(*error);
  // tcp_set_state(): a port that bind named stays taken while the socket lives, one that was chosen does not.
  if (closed_ || !port_by_user_) Unbind();
  Notify(kReadable | kWritable | kHangup | kReadHangup | (error ? kError : 0u));
  if (registered_) {
    registered_ = false;
    stack_->tcp().Unregister(tuple_);
  }
}

void TcpEndpoint::OnEstablished() {
  was_connected_ = true;
  Notify(kWritable);
}

void TcpEndpoint::OnTimeWait() { stack_->tcp().EnterTimeWait(*this); }

// RFC 5961 7 and Linux's tcp_invalid_ratelimit: one in 500 ms from one connection.
bool TcpEndpoint::AllowChallengeAck() {
  if (challenged_ && stack_->now() - last_challenge_ < Duration::Millis(500)) return false;
  if (!stack_->tcp().AllowChallengeAck()) return false;
  challenged_ = true;
  last_challenge_ = stack_->now();
  stack_->counters().tcp.challenge_acks++;
  return true;
}

void TcpEndpoint::OnProgress() {
  if (route_.kind == Route::Kind::kLocal) return;
  if (Interface* i = stack_->FindInterface(route_.oif)) {
    if (i->config.kind == LinkKind::kEthernet) {
      i->neighbours.Confirm(route_.next_hop, stack_->now());
    }
  }
}

void TcpEndpoint::OnTrouble() { route_.generation = 0; }

// ---- Segments ----

void TcpEndpoint::Segment(const IpReceived& rx, const TcpSegment& s, Chain payload) {
  connection_->OnSegment(s, std::move(payload), (rx.tos & 3) == 3, stack_->now());
  Rearm();
}

void TcpEndpoint::OnIcmp(const IcmpError& e) {
  if (e.mtu != 0) {
    const int64_t discover = opt(e.v6 ? Option::kMtuDiscover6 : Option::kMtuDiscover);
    if (discover == 0 || discover >= 4) return;
    stack_->LearnPathMtu(e.remote, e.mtu);
    if (Route* r = FreshRoute()) connection_->SetMss(MssOf(*stack_, *r), stack_->now());
    return Rearm();
  }
  const IcmpMeaning meaning = MeaningOf(e);
  if (flag(e.v6 ? Option::kRecvErr6 : Option::kRecvErr)) {
    QueuedError q;
    q.error = meaning.error;
    q.origin = e.v6 ? 3 : 2;
    q.type = e.type;
    q.code = e.code;
    q.offender = e.reporter;
    q.destination = ToUser({e.remote, tuple_.remote_port, 0});
    q.NoteArrival(e);
    QueueError(std::move(q));
  }
  connection_->OnSoftError(meaning.error, meaning.hard, stack_->now());
  Rearm();
}

Route* TcpEndpoint::FreshRoute() {
  if (route_.generation == stack_->route_generation()) return &route_;
  NetResult<Route> r = stack_->FindRoute(
      {.src = tuple_.local,
       .dst = tuple_.remote,
       .oif = device_ != 0 ? device_ : static_cast<IfIndex>(opt(Option::kBindToDevice)),
       .mark = static_cast<uint32_t>(opt(Option::kMark))});
  if (!r.ok()) return nullptr;
  route_ = *r;
  return &route_;
}

void TcpEndpoint::Emit(TcpSegment& seg, Chain payload, uint32_t mss, bool ecn_capable) {
  Route* route = FreshRoute();
  TcpCounters& count = stack_->counters().tcp;
  count.out_segs++;
  if (seg.Has(kRst)) count.out_rsts++;
  if (route == nullptr) return;  // the timers will try again
  seg.src_port = tuple_.local_port;
  seg.dst_port = tuple_.remote_port;
  const uint8_t tos = static_cast<uint8_t>((TosFor(tuple_.remote) & ~3) | (ecn_capable ? 2 : 0));
  if (stack_->ShortWay(*route)) {
    return stack_->LoopTcp(tuple_.local, tuple_.remote, tos, seg, std::move(payload));
  }
  IpSend ip{tuple_.local, tuple_.remote, kProtoTcp, TtlFor(tuple_.remote), tos};
  Own(ip);
  const int64_t discover = opt(ip.dst.is_v4() ? Option::kMtuDiscover : Option::kMtuDiscover6);
  // ip_dont_fragment(): IPv4's IP_PMTUDISC_PROBE, _INTERFACE and _OMIT send without DF.
  ip.dont_fragment = ip.dst.is_v4() ? discover == 1 || discover == 2 : discover != 0;
  Interface* out = stack_->FindInterface(route->oif);
  const bool tso = out != nullptr && out->config.tx_tso && out->config.tx_checksum;
  const size_t size = payload.size();
  const size_t step =
      tso || mss == 0 || route->kind == Route::Kind::kLocal ? std::max<size_t>(size, 1) : mss;
  size_t at = 0;
  do {
    const size_t n = std::min(step, size - at);
    TcpSegment part = seg;
    part.seq = seg.seq + static_cast<uint32_t>(at);
    if (at + n < size) part.flags &= static_cast<uint8_t>(~(kFin | kPsh));
    if (at != 0) part.flags &= static_cast<uint8_t>(~kCwr);
    Packet p(n == size ? std::move(payload) : payload.Sub(at, n));
    part.Write(p.Prepend(part.header_size()));
    if (tso && n > mss && mss != 0) {
      p.offload.gso = ip.dst.is_v4() ? Offload::Gso::kTcp4 : Offload::Gso::kTcp6;
      p.offload.gso_size = static_cast<uint16_t>(mss);
    }
    stack_->FinishChecksum(*route, ip, p, 16);
    NetResult<void> sent = stack_->SendIp(*route, ip, std::move(p));
    if (!sent.ok() && sent.error() == NetError::kMessageSize && connection_) {
      // The path shrank under us; the timers repeat with the new size.
      connection_->SetMss(MssOf(*stack_, *route), stack_->now());
      return;
    }
    at += n;
  } while (at < size);
}

// ---- Data ----

NetResult<size_t> TcpEndpoint::SendChecks(size_t want) {
  if (std::optional<NetError> e = TakeErrorLocked()) return *e;
  if (!connection_) return NetError::kPipe;
  switch (connection_->state()) {
    case TcpState::kSynReceived:
      if (connection_->fast_child()) break;
      return NetError::kWouldBlock;
    case TcpState::kSynSent:
      return NetError::kWouldBlock;
    case TcpState::kEstablished:
    case TcpState::kCloseWait:
      break;
    default:
      return NetError::kPipe;
  }
  if (connection_->write_shut() || shut_write_) return NetError::kPipe;
  const size_t space = connection_->SendSpace(want);
  if (space == 0 && want != 0) return NetError::kWouldBlock;
  return space;
}

// The part of sk_stream_wait_connect() that comes before a message is looked at.
NetResult<void> TcpEndpoint::MaySend() {
  StackEntry entry(*stack_);
  if (deferred_) return {};
  const TcpState s = connection_ ? connection_->state() : TcpState::kClosed;
  if (s == TcpState::kEstablished || s == TcpState::kCloseWait) return {};
  if (connection_ && connection_->fast_child()) return {};
  if (std::optional<NetError> e = TakeErrorLocked()) return *e;
  if (s == TcpState::kSynSent || s == TcpState::kSynReceived) return NetError::kWouldBlock;
  return NetError::kPipe;
}

NetResult<size_t> TcpEndpoint::Send(const Chain& data, bool more) {
  StackEntry entry(*stack_);
  if (deferred_) {
    const SockAddr to = *std::exchange(deferred_, std::nullopt);
    Ref<TcpEndpoint> hold(*this);
    fast_data_ = &data;
    fast_taken_ = 0;
    NetResult<void> r = DoConnect(to);
    fast_data_ = nullptr;
    connecting_ = false;  // connect has told its result
    if (!r.ok() && r.error() != NetError::kInProgress) return r.error();
    if (fast_taken_ == 0) return NetError::kWouldBlock;
    return fast_taken_;
  }
  const size_t n = TRY(SendChecks(data.size()));
  if (n == 0) return size_t{0};
  Ref<TcpEndpoint> hold(*this);
  connection_->Send(n == data.size() ? data : data.Sub(0, n), !more, stack_->now());
  if (n < data.size()) connection_->Push(stack_->now());
  Rearm();
  return n;
}

void TcpEndpoint::Push() {
  StackEntry entry(*stack_);
  if (!connection_) return;
  Ref<TcpEndpoint> hold(*this);
  connection_->Push(stack_->now());
  Rearm();
}

NetResult<size_t> TcpEndpoint::Send(ByteSpan data, bool more) {
  return Send(Chain(Slice::Copy(data)), more);
}

NetResult<Chain> TcpEndpoint::Peek(size_t n, size_t skip, bool some, bool keep) {
  StackEntry entry(*stack_);
  if (connection_) {
    Chain c = connection_->Peek(n, skip);
    if (!c.empty()) return c;
    if (n == 0 && connection_->Readable() > skip) return Chain();
    // A read that comes to the urgent byte passes it, even when nothing follows.
    if (n != 0 && !keep && connection_->UrgentNext()) connection_->SkipUrgent();
  }
  if (listener_) return NetError::kNotConnected;  // an error stays
  // Behind the peer's FIN (SOCK_DONE), or with something read already, an error is left to the next call.
  if (connection_ && connection_->fin_received()) return Chain();
  if (some && error_) return Chain();
  if (std::optional<NetError> e = TakeErrorLocked()) return *e;
  if (deferred_) return NetError::kWouldBlock;
  if (!connection_ && shut_read_) return Chain();
  if (!connection_) return NetError::kNotConnected;
  // What was refused is shut both ways, too: tcp_done().
  if (connection_->read_shut() || shut_read_ || connection_->state() == TcpState::kClosed) return Chain();
  return NetError::kWouldBlock;
}

void TcpEndpoint::Consume(size_t n) {
  StackEntry entry(*stack_);
  if (!connection_) return;
  Ref<TcpEndpoint> hold(*this);
  connection_->Consume(n, stack_->now());
  Rearm();
}

NetResult<void> TcpEndpoint::SendUrgent(uint8_t byte) {
  StackEntry entry(*stack_);
  TRY(SendChecks(1));
  Ref<TcpEndpoint> hold(*this);
  connection_->SendUrgent(byte, stack_->now());
  Rearm();
  return {};
}

NetResult<std::optional<uint8_t>> TcpEndpoint::ReceiveUrgent(bool peek) {
  StackEntry entry(*stack_);
  if (listener_) return NetError::kNotConnected;
  if (!connection_) return NetError::kInvalid;
  const bool over = connection_->state() == TcpState::kClosed;
  // tcp_recv_urg(): whether there is such a byte comes before the connection's state.
  if (over && !connection_->fin_received() && connection_->UrgentLeft()) return NetError::kNotConnected;
  NetResult<uint8_t> byte = connection_->TakeUrgent(peek);
  if (byte.ok()) return std::optional<uint8_t>(*byte);
  const bool no_more = over || connection_->read_shut() || shut_read_;
  if (byte.error() == NetError::kWouldBlock && no_more) return std::optional<uint8_t>();
  return byte.error();
}

bool TcpEndpoint::AtMark(size_t ahead) {
  StackEntry entry(*stack_);
  return connection_ && connection_->AtMark(ahead);
}

bool TcpEndpoint::IsFresh() {
  StackEntry entry(*stack_);
  if (listener_ || connecting_ || deferred_) return false;
  return !connection_ || (connection_->state() == TcpState::kClosed && !was_connected_);
}

size_t TcpEndpoint::Readable() {
  StackEntry entry(*stack_);
  return connection_ ? connection_->ReadableToMark() : 0;
}

size_t TcpEndpoint::Unacked() {
  StackEntry entry(*stack_);
  return connection_ ? connection_->unacked() : 0;
}

size_t TcpEndpoint::Unsent() {
  StackEntry entry(*stack_);
  return connection_ ? connection_->unsent() : 0;
}

std::pair<size_t, size_t> TcpEndpoint::Charged() {
  StackEntry entry(*stack_);
  if (!connection_) return {};
  return {connection_->receive_cost(), connection_->send_cost()};
}

// Compare Linux's tcp_poll().
uint32_t TcpEndpoint::DoPoll() {
  if (listener_) return listener_->HasWaiting() ? uint32_t{kReadable} : 0u;
  uint32_t bits = 0;
  if (error_ || !error_queue_.empty()) bits |= kError;
  if (deferred_) return bits | kWritable;
  if (!connection_) {
    if (shut_read_) bits |= kReadable | kReadHangup;
    return bits | kWritable | kHangup;
  }
  const TcpState state = connection_->state();
  const bool read_end = connection_->read_shut() || state == TcpState::kClosed;
  const bool write_end = connection_->write_shut() || shut_write_ || state == TcpState::kClosed;
  if (read_end && write_end) bits |= kHangup;
  if (read_end) bits |= kReadable | kReadHangup;
  if (state == TcpState::kSynSent) return bits;
  if (state == TcpState::kSynReceived && !connection_->fast_child()) return bits;
  if (connection_->Readable() - (connection_->UrgentNext() ? 1 : 0) >=
      static_cast<size_t>(std::max<int64_t>(opt(Option::kReceiveLowat), 1))) {
    bits |= kReadable;
  }
  if (write_end || connection_->Writable()) bits |= kWritable;
  if (connection_->HasUrgent()) bits |= kUrgent;
  return bits;
}

// ---- Options ----

NetResult<void> TcpEndpoint::OnOption(Option o, int64_t value) {
  switch (o) {
    case Option::kReuseAddr:
    case Option::kReusePort:
      // Linux looks at the options of both sockets when the second one binds.
      if (bound_ && bound_by_user_) {
        PortBinding to = *bound_;
        to.reuse_addr = flag(Option::kReuseAddr);
        to.reuse_port = flag(Option::kReusePort);
        stack_->tcp().Rebind(local_.port, *bound_, to);
        bound_ = to;
      }
      return {};
    case Option::kSendBuffer:
      send_buffer_locked_ = true;
      break;
    case Option::kReceiveBuffer:
      receive_buffer_locked_ = true;
      break;
    case Option::kOobInline:
      // What was received before the end is read as the option is now.
      if (connection_) connection_->SetOobInline(value != 0);
      break;
    case Option::kQuickAck:
      if (connection_) {
        connection_->SetQuickAck(value != 0, stack_->now());
        Rearm();
      }
      return {};
    case Option::kWindowClamp:
      if (value == 0 && connection_ && connection_->state() != TcpState::kClosed) {
        return NetError::kInvalid;
      }
      break;
    default:
      break;
  }
  if (connection_ && connection_->state() != TcpState::kClosed) {
    Ref<TcpEndpoint> hold(*this);
    connection_->ChangeSettings(MakeSettings(), stack_->now());
    Rearm();
  }
  return {};
}

NetResult<int64_t> TcpEndpoint::OnGetOption(Option o) {
  if (connection_) {
    switch (o) {
      case Option::kMaxSegment: return static_cast<int64_t>(connection_->mss());
      case Option::kSendBuffer: return static_cast<int64_t>(connection_->settings().send_buffer);
      case Option::kReceiveBuffer:
        return static_cast<int64_t>(connection_->settings().receive_buffer);
      default: break;
    }
  } else if (o == Option::kMaxSegment && opt(o) == 0) {
    return int64_t{536};  // TCP_MSS_DEFAULT
  }
  return opt(o);
}

void TcpEndpoint::SetLinger(std::optional<Duration> linger) {
  StackEntry entry(*stack_);
  linger_ = linger;
}

std::optional<Duration> TcpEndpoint::Linger() {
  StackEntry entry(*stack_);
  return linger_;
}

bool TcpEndpoint::Lingers() {
  StackEntry entry(*stack_);
  if (!connection_) return false;
  const TcpState s = connection_->state();
  return s == TcpState::kFinWait1 || s == TcpState::kClosing || s == TcpState::kLastAck;
}

TcpInfo TcpEndpoint::Info() {
  StackEntry entry(*stack_);
  if (connection_) {
    TcpInfo i = connection_->Info(stack_->now());
    if (route_.oif != 0) {
      i.path_mtu = std::min<uint32_t>(stack_->PathMtu(route_), route_.dst.is_v4() ? 65535 : UINT32_MAX);
    }
    return i;
  }
  TcpInfo i;
  if (listener_) {  // tcp_get_info() tells little of one
    i.state = TcpState::kListen;
    i.unacked = static_cast<uint32_t>(listener_->waiting());
    i.sacked = static_cast<uint32_t>(backlog_);
    i.cwnd = 10;
    return i;
  }
  // tcp_init_sock()
  i.rto = Duration::Seconds(1);
  i.rttvar = Duration::Millis(250);
  i.send_mss = 536;
  i.ssthresh = INT32_MAX;
  i.cwnd = 10;
  i.reordering = 3;
  i.min_rtt = Duration::Micros(UINT32_MAX);
  return i;
}

TcpState TcpEndpoint::State() {
  StackEntry entry(*stack_);
  if (listener_) return TcpState::kListen;
  return connection_ ? connection_->state() : TcpState::kClosed;
}

}  // namespace ringwall::net
