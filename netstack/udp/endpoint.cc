#include "netstack/udp/endpoint.h"

#include <algorithm>
#include <bit>

#include "netstack/reuse_group.h"
#include "netstack/wire/checksum.h"
#include "netstack/wire/ethernet.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/udp.h"

namespace ringwall::net {
namespace {

constexpr size_t kMaxSegments = 128;  // UDP_MAX_SEGMENTS

// What a queued datagram costs: the memory of an sk_buff whose headers and bytes lie in one block of a power of
// two, or in pages where they are many (__ip_append_data()).
size_t Cost(const Datagram& d) {
  constexpr size_t kBuffer = 256, kShared = 320, kSmallHead = 576;
  size_t bytes = 0;
  for (const Slice& s : d.data.slices()) bytes += s.size();
  const bool v4 = d.to.Unmapped().is_v4();
  const size_t room = bytes + kUdpHeader + (v4 ? kIpv4Header + 31 : kIpv6Header + 24);
  if (room <= kSmallHead - kShared) return kBuffer + kSmallHead;
  if (room < 16384 - kShared) return kBuffer + std::bit_ceil(room + kShared);
  return kBuffer + kSmallHead + bytes;
}

}  // namespace

// ---- The user's side ----

PortBinding UdpEndpoint::Binding() const {
  PortBinding b;
  b.addr = local_.addr.IsNone() ? IpAddr::Any(family_) : local_.addr;
  b.dual = b.addr.is_v6() && b.addr.IsAny() && !flag(Option::kV6Only);
  b.device = static_cast<IfIndex>(opt(Option::kBindToDevice));
  b.reuse_addr = flag(Option::kReuseAddr);
  b.reuse_port = flag(Option::kReusePort);
  return b;
}

NetResult<void> UdpEndpoint::DoBind(const SockAddr& given) {
  if (family_ == Family::kV4 && !given.addr.is_v4()) return NetError::kAfNoSupport;
  SockAddr a = TRY(Normalise(given));
  if (bound_ && family_ == Family::kV6) return NetError::kInvalid;
  if (NeedsScope(a.addr)) {
    const IfIndex device = static_cast<IfIndex>(opt(Option::kBindToDevice));
    if (a.scope == 0) a.scope = device;
    if (a.scope == 0) return NetError::kInvalid;
    if (device == 0) Store(options_, Option::kBindToDevice, a.scope);
  }
  TRY(CheckLocalLocked(a.addr));
  if (bound_) return NetError::kInvalid;  // __inet_bind() looks at the address first
  if (a.port == 0 && flag(Option::kBindNoPort)) {
    local_ = a;  // the port is chosen when one is needed
    local_chosen_ = false;
    return {};
  }
  TRY(BindTo(a));
  port_by_user_ = a.port != 0;  // one that the stack chose goes when the socket is disconnected
  return {};
}

NetResult<void> UdpEndpoint::BindTo(const SockAddr& addr) {
  const SockAddr before = local_;
  local_ = addr;
  const PortBinding b = Binding();
  NetResult<uint16_t> port = stack_->udp().Bind(this, addr.port, b);
  if (!port.ok()) {
    local_ = before;
    local_.addr = IpAddr::Any(family_);  // __inet_bind() leaves none
    return port.error();
  }
  local_.port = *port;
  bound_ = b;
  return {};
}

void UdpEndpoint::Unbind() {
  if (!bound_) return;
  stack_->udp().Unbind(this, local_.port, *bound_);
  bound_.reset();
  local_.port = 0;
}

std::optional<NetError> UdpEndpoint::WrongFamily(const IpAddr& to) const {
  const IpAddr& own = local_.addr;
  if (local_chosen_ || own.IsNone() || own.IsAny() || own.family() == to.family()) {
    return std::nullopt;
  }
  return to.is_v4() ? NetError::kNetUnreach : NetError::kAfNoSupport;
}

NetResult<void> UdpEndpoint::Autobind() {
  StackEntry entry(*stack_);
  if (bound_) return {};
  return BindTo({local_.addr.IsNone() ? IpAddr::Any(family_) : local_.addr, 0, 0});
}

NetResult<void> UdpEndpoint::DoConnect(const SockAddr& given) {
  if (given.addr.IsNone()) {
    remote_.reset();
    sent_from_ = IpAddr();
    if (local_chosen_) {
      local_.addr = IpAddr::Any(family_);
      local_chosen_ = false;
    }
    // As __udp_disconnect(): a port that nobody bound goes too.
    if (!port_by_user_) Unbind();
    return {};
  }
  SockAddr a = TRY(Normalise(given));
  if (std::optional<NetError> e = WrongFamily(a.addr)) return *e;
  IfIndex device = static_cast<IfIndex>(opt(Option::kBindToDevice));
  if (NeedsScope(a.addr)) {
    if (a.scope == 0) a.scope = device;
    if (a.scope == 0) return NetError::kInvalid;
    device = a.scope;
  }
  if (a.addr.IsMulticast() && device == 0) {
    device = static_cast<IfIndex>(
        opt(a.addr.is_v4() ? Option::kMulticastIf : Option::kMulticastIf6));
  }
  // A source that an earlier connect chose stays (inet_saddr, np->saddr).
  IpAddr src = local_.addr;
  const bool of_group = src.IsMulticast() || (src.is_v4() && stack_->IsBroadcast(src));
  if (of_group) src = sent_from_.family() == a.addr.family() ? sent_from_ : IpAddr();
  if (!src.IsNone() && !src.IsAny() && src.family() != a.addr.family()) {
    if (src.is_v4() && a.addr.IsAny()) {
      a.addr = IpAddr::Any(Family::kV4);  // the loopback of the family that it has
    } else if (src.is_v4()) {
      TRY(stack_->FindRoute({.dst = a.addr, .oif = device}));
      return NetError::kAfNoSupport;  // ip6_dst_lookup_tail()
    } else if (local_chosen_) {
      src = sent_from_;
    }
  }
  Route route = TRY(stack_->FindRoute({.src = src, .dst = a.addr, .oif = device,
                                       .mark = static_cast<uint32_t>(opt(Option::kMark))}));
  if (route.kind == Route::Kind::kBroadcast && !flag(Option::kBroadcast)) return NetError::kAccess;
  if (!bound_) TRY(BindTo({local_.addr.IsNone() ? IpAddr::Any(family_) : local_.addr, 0, 0}));
  const bool other_family = local_.addr.is_v6() && !local_.addr.IsAny() && a.addr.is_v4();
  if ((of_group || other_family) && sent_from_.IsNone()) sent_from_ = route.src;
  // One that is there stays, also when the peer is of the other family (__ip6_datagram_connect()).
  if (local_.addr.IsNone() || local_.addr.IsAny()) {
    local_.addr = route.src;
    local_chosen_ = true;
  }
  a.addr = route.dst;
  remote_ = a;
  return {};
}

NetResult<void> UdpEndpoint::DoShutdown(bool read, bool write) {
  // Linux wakes who waits on an unconnected socket too, and says that it is not connected.
  read_shut_ |= read;
  write_shut_ |= write;
  Notify(kReadable | kReadHangup | kHangup | kWritable);
  if (!remote_) return NetError::kNotConnected;
  return {};
}

void UdpEndpoint::DoClose() {
  Unbind();
  queue_.clear();
  queued_bytes_ = 0;
}

NetResult<SockAddr> UdpEndpoint::DoRemote() {
  if (!remote_) return NetError::kNotConnected;
  return ToUser(*remote_);
}

// Linux looks at the options of both sockets when the second one binds.
NetResult<void> UdpEndpoint::OnOption(Option o, int64_t) {
  if (!bound_ || (o != Option::kReuseAddr && o != Option::kReusePort)) return {};
  PortBinding to = *bound_;
  to.reuse_addr = flag(Option::kReuseAddr);
  to.reuse_port = flag(Option::kReusePort);
  stack_->udp().Rebind(local_.port, *bound_, to);
  bound_ = to;
  return {};
}

uint32_t UdpEndpoint::DoPoll() {
  uint32_t bits = kWritable;
  if (error_ || !error_queue_.empty()) bits |= kError;
  if (!queue_.empty() || read_shut_) bits |= kReadable;
  if (read_shut_) bits |= kReadHangup;
  if (read_shut_ && write_shut_) bits |= kHangup;
  return bits;
}

NetResult<size_t> UdpEndpoint::Send(Chain data, const SendParams& params) {
  StackEntry entry(*stack_);
  // inet_send_prepare(): whatever comes of it, the socket has a port from here on.
  if (!bound_) TRY(BindTo({local_.addr.IsNone() ? IpAddr::Any(family_) : local_.addr, 0, 0}));
  SockAddr to;
  if (params.to) {
    to = TRY(Normalise(*params.to));
    if (to.addr.IsAny() && local_.addr.is_v4()) to.addr = IpAddr::Any(Family::kV4);
    if (to.port == 0) return NetError::kInvalid;
    if (std::optional<NetError> e = WrongFamily(to.addr)) return *e;
  } else if (remote_) {
    to = *remote_;
    // udpv6_sendmsg() hands IPv4 an address, and an address has a port.
    if (to.port == 0 && family_ == Family::kV6 && to.addr.is_v4()) return NetError::kInvalid;
  } else {
    return NetError::kDestAddrRequired;
  }
  const size_t size = data.size();
  const uint32_t mark = params.mark.value_or(static_cast<uint32_t>(opt(Option::kMark)));
  const size_t gso = params.gso_size;
  if (to.addr.is_v4() && size > 65535) return NetError::kMessageSize;
  if (gso != 0 && size > gso * kMaxSegments) return NetError::kInvalid;

  IfIndex oif = params.iface != 0 ? params.iface : static_cast<IfIndex>(opt(Option::kBindToDevice));
  if (to.addr.IsMulticast() && oif == 0) {
    oif = static_cast<IfIndex>(
        opt(to.addr.is_v4() ? Option::kMulticastIf : Option::kMulticastIf6));
  }
  if (to.addr.is_v6() && to.addr.IsLinkLocal() && oif == 0) oif = to.scope;
  IpAddr src = params.src.Unmapped();
  // ip_route_output_key() looks at the source before the device.
  if (to.addr.is_v4() && src.is_v4() && !src.IsAny()) {
    if (src.IsMulticast() || src.IsLimitedBroadcast()) return NetError::kInvalid;
    if (!stack_->IsLocal(src)) return NetError::kNetUnreach;
  }
  if (params.iface != 0 && stack_->FindInterface(params.iface) == nullptr) {
    return NetError::kNoDevice;
  }
  if (to.addr.is_v6() && src.is_v4() && !src.IsAny()) return NetError::kInvalid;
  if (src.IsNone() || src.IsAny()) src = local_.addr.Unmapped();
  if (src.is_v4() && !src.IsAny() && to.addr.is_v6()) {
    TRY(stack_->FindRoute({.dst = to.addr, .oif = oif, .mark = mark}));
    return NetError::kAfNoSupport;
  }
  if (src.family() != to.addr.family() || src.IsMulticast()) src = IpAddr();
  if (!params.src.IsNone() && !params.src.IsAny() && !stack_->IsLocal(src)) {
    return to.addr.is_v4() ? NetError::kNetUnreach : NetError::kInvalid;
  }
  Route route = TRY(stack_->FindRoute({.src = src, .dst = to.addr, .oif = oif,
                                       .mark = mark}));
  if (route.kind == Route::Kind::kBroadcast && !flag(Option::kBroadcast)) return NetError::kAccess;
  to.addr = route.dst;
  if (size > MostBytes(route, gso != 0)) return TooLarge(route, to);
  if (params.probe) return size;
  // Only who makes room for a packet hears of these: sock_alloc_send_skb().
  if (std::optional<NetError> e = TakeErrorLocked()) return *e;
  if (write_shut_) return NetError::kPipe;
  if (params.hold) return size;

  const uint8_t ttl = params.ttl.value_or(TtlFor(to.addr));
  const uint8_t tos = params.tos.value_or(TosFor(to.addr));
  if (gso != 0 && size > gso && stack_->ShortWay(route)) {
    // Whole, to be cut where it is received or not at all.
    TRY(SendOne(route, to, ttl, tos, params.gso_size, mark, std::move(data)));
    return size;
  }
  const size_t step = gso != 0 ? gso : std::max<size_t>(size, 1);
  size_t at = 0;
  do {
    const size_t n = std::min(step, size - at);
    TRY(SendOne(route, to, ttl, tos, 0, mark, gso != 0 ? data.Sub(at, n) : data));
    at += n;
  } while (at < size);
  return size;
}

NetResult<void> UdpEndpoint::SendOne(const Route& route, const SockAddr& to, uint8_t ttl,
                                     uint8_t tos, uint16_t gso, uint32_t mark, Chain data) {
  const bool v4 = to.addr.is_v4();
  (v4 ? stack_->counters().udp4 : stack_->counters().udp6).out_datagrams++;
  if (stack_->ShortWay(route)) {
    stack_->LoopUdp({route.src, to.addr, local_.port, to.port, ttl, tos, gso, 0, mark},
                    std::move(data));
    return {};
  }
  const bool group = route.kind == Route::Kind::kMulticast;
  const bool loop = group && flag(v4 ? Option::kMulticastLoop : Option::kMulticastLoop6);
  Packet p(std::move(data));
  WriteUdp(p.Prepend(kUdpHeader), local_.port, to.port, p.payload.size());
  IpSend ip{route.src, to.addr, kProtoUdp, ttl, tos};
  Own(ip);
  ip.mark = mark;
  const int64_t discover = opt(v4 ? Option::kMtuDiscover : Option::kMtuDiscover6);
  const size_t total = p.size() + (v4 ? kIpv4Header : kIpv6Header);
  // IP_PMTUDISC_WANT sends what fits with DF and cuts what does not; DO and PROBE never cut.
  ip.dont_fragment = discover >= 2 && discover != 5;
  if (discover == 1 && v4) ip.dont_fragment = total <= stack_->PathMtu(route);
  if (!flag(Option::kNoCheck) || !v4) {
    stack_->FinishChecksum(route, ip, p, 6);
  } else {
    p.transport_size = kUdpHeader;
  }
  if (loop || route.kind == Route::Kind::kBroadcast) {
    // A copy for our own listeners, as Linux's ip_mc_output() and ip_output() for broadcasts do.
    stack_->LoopUdp({route.src, to.addr, local_.port, to.port, ttl, tos, 0, route.oif, mark},
                    p.payload);
    if (ttl == 0) return {};
    if (Interface* out = stack_->FindInterface(route.oif); out != nullptr && out->is_loopback()) {
      return {};
    }
  }
  NetResult<void> sent = stack_->SendIp(route, ip, std::move(p));
  if (!sent.ok() && sent.error() == NetError::kMessageSize) return TooLarge(route, to);
  return sent;
}

// RFC 768's length field, and what may not be cut. Beyond the loopback SendIp looks at the path.
size_t UdpEndpoint::MostBytes(const Route& route, bool cut) {
  const bool v4 = route.dst.is_v4();
  const size_t headers = kUdpHeader + (v4 ? kIpv4Header : kIpv6Header);
  const size_t most = v4 ? 65535 : 65535 + kIpv6Header;
  const int64_t discover = opt(v4 ? Option::kMtuDiscover : Option::kMtuDiscover6);
  const bool whole = !cut && discover >= 2 && discover <= 4 && stack_->ShortWay(route);
  return std::min<size_t>(most, whole ? stack_->PathMtu(route) : most) - headers;
}

// ip_local_error().
NetError UdpEndpoint::TooLarge(const Route& route, const SockAddr& to) {
  const bool v4 = route.dst.is_v4();
  if (!flag(v4 ? Option::kRecvErr : Option::kRecvErr6)) return NetError::kMessageSize;
  QueuedError e;
  e.error = NetError::kMessageSize;
  e.origin = kOriginLocal;
  e.info = std::min<uint32_t>(stack_->PathMtu(route), v4 ? 65535 : UINT32_MAX);
  e.destination = ToUser(to);
  if (v4) e.destination.port = remote_ ? remote_->port : 0;  // inet_dport, wherever it was to go
  QueueError(std::move(e));
  return NetError::kMessageSize;
}

void UdpEndpoint::SetGro(bool on) {
  StackEntry entry(*stack_);
  gro_ = on;
}

NetResult<Datagram> UdpEndpoint::Receive(bool peek, size_t* skip) {
  StackEntry entry(*stack_);
  if (std::optional<NetError> e = TakeErrorLocked()) return *e;
  if (queue_.empty()) return NetError::kWouldBlock;
  if (peek && skip != nullptr && *skip != 0) {
    for (const Datagram& d : queue_) {
      if (*skip < d.data.size()) return d;
      *skip -= d.data.size();
    }
    return NetError::kWouldBlock;
  }
  if (peek) return queue_.front();
  Datagram d = std::move(queue_.front());
  queue_.pop_front();
  queued_bytes_ -= Cost(d);
  return d;
}

size_t UdpEndpoint::QueuedBytes() {
  StackEntry entry(*stack_);
  return queued_bytes_;
}

uint32_t UdpEndpoint::Drops() {
  StackEntry entry(*stack_);
  return drops_;
}

size_t UdpEndpoint::NextSize() {
  StackEntry entry(*stack_);
  return queue_.empty() ? 0 : queue_.front().data.size();
}

// ---- The network's side ----

int UdpEndpoint::Score(const IpAddr& src, uint16_t sport, const IpAddr& dst, IfIndex iface) const {
  const bool any = bound_->addr.IsAny() && (local_.addr.IsAny() || local_.addr.IsNone());
  int score = 1;
  if (any) {
    if (dst.family() != bound_->addr.family() && !bound_->dual) return -1;
    if (dst.family() == family_) score += 1;
  } else {
    if (local_.addr != dst) return -1;
    score += 4;
  }
  if (remote_) {
    // A peer without a port is one of any port.
    if (!TalksTo(src, sport)) return -1;
    score += remote_->port != 0 ? 8 : 4;
  }
  const IfIndex device = static_cast<IfIndex>(opt(Option::kBindToDevice));
  if (device != 0) {
    if (device != iface) return -1;
    score += 4;
  }
  return score;
}

bool UdpEndpoint::HearsGroup(const IpAddr& src, uint16_t sport, const IpAddr& dst,
                             IfIndex iface) const {
  const IpAddr& bound = bound_->addr;
  if (bound.IsAny()) {
    if (dst.family() != bound.family() && !bound_->dual) return false;
  } else if (bound != dst) {
    return false;
  }
  if (!TalksTo(src, sport)) return false;
  const IfIndex device = static_cast<IfIndex>(opt(Option::kBindToDevice));
  if (device != 0 && device != iface) return false;
  return !dst.IsMulticast() || HearsSource(dst, iface, src);
}

bool UdpEndpoint::PassesFilter(const IpReceived& rx, uint16_t sport, Chain* payload) const {
  Packet p(*payload);
  WriteUdp(p.Prepend(kUdpHeader), sport, local_.port, payload->size());
  const Slice whole = p.Flatten();
  FilterInput in;
  in.data = whole.span();
  in.ethertype = rx.dst.is_v4() ? kEthIpv4 : kEthIpv6;
  in.iface = rx.iface;
  const uint32_t keep = filter_->Run(in);
  if (keep == 0) return false;
  // The UDP header is not for the user to lose: sk_filter_trim_cap().
  payload->Truncate(std::max<size_t>(keep, kUdpHeader) - kUdpHeader);
  return true;
}

void UdpEndpoint::Enqueue(const IpReceived& rx, uint16_t sport, Chain payload) {
  const size_t step = rx.gso_size;
  if (step == 0 || gro_ || payload.size() <= step) {
    return EnqueueOne(rx, sport, std::move(payload), gro_ ? rx.gso_size : uint16_t{0});
  }
  for (size_t at = 0; at < payload.size(); at += step) {
    EnqueueOne(rx, sport, payload.Sub(at, std::min(step, payload.size() - at)), 0);
  }
}

void UdpEndpoint::EnqueueOne(const IpReceived& rx, uint16_t sport, Chain payload,
                             uint16_t gso_size) {
  UdpCounters& count = rx.dst.is_v4() ? stack_->counters().udp4 : stack_->counters().udp6;
  if (filter_ && !PassesFilter(rx, sport, &payload)) {
    count.in_errors++;
    return;
  }
  Datagram d;
  d.data = std::move(payload);
  d.to = family_ == Family::kV6 ? rx.dst.Mapped() : rx.dst;
  const size_t cost = Cost(d);
  // As Linux: one datagram is always taken when nothing is queued.
  if (queued_bytes_ != 0 &&
      queued_bytes_ + cost > static_cast<size_t>(opt(Option::kReceiveBuffer))) {
    drops_++;
    count.rcvbuf_errors++;
    count.in_errors++;
    return;
  }
  Chain kept;
  for (const Slice& s : d.data.slices()) kept.Append(s.Compact());
  d.data = std::move(kept);
  d.from = ToUser({rx.src, sport, rx.iface});
  d.iface = rx.iface;
  d.ttl = rx.ttl;
  d.tos = rx.tos;
  d.when = stack_->now();
  d.gso_size = gso_size;
  d.mark = rx.meta.mark;
  d.first_port = rx.meta.first_port;
  d.drops = drops_;
  queued_bytes_ += cost;
  queue_.push_back(std::move(d));
  count.in_datagrams++;
  Notify(kReadable);
}

bool UdpEndpoint::TalksTo(const IpAddr& remote, uint16_t port) const {
  return !remote_ || (remote_->addr == remote && (remote_->port == port || remote_->port == 0));
}

void UdpEndpoint::OnIcmp(const IcmpError& e, uint16_t remote_port) {
  const IcmpMeaning meaning = MeaningOf(e);
  const bool queue = flag(e.v6 ? Option::kRecvErr6 : Option::kRecvErr);
  if (queue) {
    QueuedError q;
    q.error = meaning.error;
    q.origin = e.v6 ? 3 : 2;
    q.type = e.type;
    q.code = e.code;
    q.info = e.mtu;
    q.offender = e.reporter;
    q.destination = ToUser({e.remote, remote_port, 0});
    q.NoteArrival(e);
    if (e.transport.size() > kUdpHeader) q.payload = e.transport.Sub(kUdpHeader).Compact();
    QueueError(std::move(q));
  }
  // RFC 1122 4.1.3.3. Linux tells hard errors to connected sockets only.
  const bool discover = opt(e.v6 ? Option::kMtuDiscover6 : Option::kMtuDiscover) != 0;
  const bool hard = meaning.hard || (e.mtu != 0 && discover);
  if (!queue && (!hard || !remote_)) return;
  if (!queue && e.mtu != 0) return;
  SetError(meaning.error);
  Notify(kError | kReadable | kWritable);
}

UdpEndpoint* UdpProtocol::Find(const IpAddr& src, uint16_t sport, const IpAddr& dst,
                               uint16_t dport, IfIndex iface, const Chain* payload) {
  auto it = by_port_.find(dport);
  if (it == by_port_.end()) return nullptr;
  UdpEndpoint* best = nullptr;
  int best_score = -1;
  for (UdpEndpoint* e : it->second) {
    const int score = e->Score(src, sport, dst, iface);
    if (score < best_score || score < 0) continue;
    // A group counts as its first member; else (SO_REUSEADDR) the last to bind hears it.
    if (score == best_score && e->reuse_group() != nullptr) continue;
    best = e;
    best_score = score;
  }
  if (best == nullptr || best->reuse_group() == nullptr || best->connected()) return best;
  // A group shares the load by flow: the same flow always meets the same member.
  uint8_t flow[36];
  std::memcpy(flow, src.bytes().data(), 16);
  std::memcpy(flow + 16, dst.bytes().data(), 16);
  Store16(flow + 32, sport);
  Store16(flow + 34, dport);
  Slice seen;
  if (best->reuse_group()->program && payload != nullptr) seen = payload->Flatten();
  Endpoint* chosen = best->reuse_group()->Select(SipHash(stack_.key(), flow), seen.span());
  UdpEndpoint* e = static_cast<UdpEndpoint*>(chosen);
  return e->Score(src, sport, dst, iface) < 0 ? best : e;
}

void UdpProtocol::DatagramIn(const IpReceived& rx, uint16_t sport, uint16_t dport, Chain payload,
                             const Slice* datagram) {
  const bool v4 = rx.dst.is_v4();
  UdpCounters& count = v4 ? stack_.counters().udp4 : stack_.counters().udp6;
  if (rx.dst.IsMulticast() || stack_.IsBroadcast(rx.dst)) {
    auto it = by_port_.find(dport);
    bool heard = false;
    if (it != by_port_.end()) {
      for (UdpEndpoint* e : it->second) {
        if (!e->HearsGroup(rx.src, sport, rx.dst, rx.iface)) continue;
        e->Enqueue(rx, sport, payload);
        heard = true;
      }
    }
    if (!heard) count.no_ports++;
    return;
  }
  const PacketMeta& given = rx.meta;
  const bool to_other = given.socket_port != 0;  // TPROXY
  if (UdpEndpoint* e = Find(rx.src, sport, to_other ? given.socket_addr : rx.dst,
                            to_other ? given.socket_port : dport, rx.iface, &payload)) {
    return e->Enqueue(rx, sport, std::move(payload));
  }
  count.no_ports++;
  Slice made;
  if (datagram == nullptr) {
    // The short way carries no headers; the answer quotes them.
    Packet p(std::move(payload));
    WriteUdp(p.Prepend(kUdpHeader), sport, dport, p.payload.size());
    const size_t size = p.size();
    IpHeader h;
    h.src = rx.src;
    h.dst = rx.dst;
    h.protocol = kProtoUdp;
    h.Write(p.Prepend(h.size()), size);
    made = p.Flatten();
    datagram = &made;
  }
  // RFC 1122 4.1.3.1
  stack_.SendIcmpError(rx, *datagram, v4 ? kIcmpUnreachable : kIcmp6Unreachable,
                       v4 ? kIcmpPortUnreach : kIcmp6PortUnreach, 0);
}

bool UdpProtocol::ErrorIn(const IcmpError& e) {
  const uint16_t local_port = Load16(e.transport.data());
  const uint16_t remote_port = Load16(e.transport.data() + 2);
  UdpEndpoint* endpoint = Find(e.remote, remote_port, e.local, local_port, 0, nullptr);
  if (endpoint == nullptr) return false;
  endpoint->OnIcmp(e, remote_port);
  return true;
}

NetResult<uint16_t> UdpProtocol::Bind(UdpEndpoint* e, uint16_t port, const PortBinding& b) {
  if (port == 0) {
    const auto [low, high] = e->PortRange();
    const uint32_t span = high - low + 1u;
    const uint32_t start = static_cast<uint32_t>(stack_.Random64() % span);
    for (uint32_t i = 0; i < span && port == 0; i++) {
      const uint16_t p = static_cast<uint16_t>(low + (start + i) % span);
      if (!by_port_.contains(p)) port = p;
    }
    if (port == 0) return NetError::kAddrInUse;
  } else if (ports_.Conflicts(port, b)) {
    return NetError::kAddrInUse;
  }
  ports_.Add(port, b);
  std::vector<UdpEndpoint*>& bound = by_port_[port];
  if (b.reuse_port) {
    auto same = std::find_if(bound.begin(), bound.end(), [&](UdpEndpoint* o) {
      return o->reuse_group() != nullptr && o->SharesWith(b);
    });
    e->JoinReuseGroup(same == bound.end() ? nullptr : *same);
  }
  bound.push_back(e);
  return port;
}

void UdpProtocol::Unbind(UdpEndpoint* e, uint16_t port, const PortBinding& b) {
  ports_.Remove(port, b);
  auto it = by_port_.find(port);
  std::erase(it->second, e);
  e->LeaveReuseGroup();
  if (it->second.empty()) by_port_.erase(it);
}

}  // namespace ringwall::net
