#include "netstack/ip/raw_endpoint.h"

#include "netstack/wire/checksum.h"
#include "netstack/wire/ethernet.h"
#include "netstack/wire/icmp.h"

namespace ringwall::net {
namespace {

constexpr size_t kDatagramCost = 256;
constexpr uint8_t kProtoRaw = 255;  // IPPROTO_RAW: sends only

}  // namespace

RawEndpoint::RawEndpoint(Ref<Stack> stack, Family family, uint8_t protocol, bool ping)
    : Endpoint(std::move(stack), family), protocol_(protocol), ping_(ping) {
  if (!ping) local_.port = protocol;  // inet_num, until it is disconnected

  Store(options_, Option::kHeaderIncluded, protocol == kProtoRaw && !ping);
}

NetResult<void> RawEndpoint::TakeIdent(uint16_t wanted) {
  if (!ping_ || ident_ != 0) return {};
  if (wanted != 0) {
    // Ping sockets may share one, as SO_REUSEADDR is on from the start.
    if (!flag(Option::kReuseAddr) && stack_->raw().IdentTaken(family_, wanted)) {
      return NetError::kAddrInUse;
    }
    ident_ = wanted;
    local_.port = wanted;
    return {};
  }
  for (int i = 0; i < 65536; i++) {
    const uint16_t id = static_cast<uint16_t>(stack_->Random64());
    if (id == 0 || stack_->raw().IdentTaken(family_, id)) continue;
    ident_ = id;
    local_.port = id;
    return {};
  }
  return NetError::kWouldBlock;
}

NetResult<void> RawEndpoint::DoBind(const SockAddr& given) {
  // raw_bind() looks at the state before all else, rawv6_bind() after the address.
  if (!ping_ && remote_ && family_ == Family::kV4) return NetError::kInvalid;
  SockAddr a = TRY(Normalise(given));
  if (a.addr.family() != family_) return NetError::kAddrNotAvail;
  if (!ping_ && remote_) return NetError::kInvalid;
  if (ping_ && ident_ != 0) return NetError::kInvalid;
  if (NeedsScope(a.addr)) {
    if (a.scope == 0) a.scope = static_cast<IfIndex>(opt(Option::kBindToDevice));
    if (a.scope == 0) return NetError::kInvalid;
  }
  const bool group = a.addr.IsMulticast() || (a.addr.is_v4() && stack_->IsBroadcast(a.addr));
  if (!a.addr.IsAny() && (ping_ || !group) && !stack_->IsLocal(a.addr) &&
      !flag(Option::kFreeBind)) {
    return NetError::kAddrNotAvail;
  }
  TRY(TakeIdent(a.port));
  local_.addr = a.addr;
  local_.scope = a.scope;
  return {};
}

NetResult<void> RawEndpoint::DoConnect(const SockAddr& given) {
  if (given.addr.IsNone()) {
    // __udp_disconnect(), which raw sockets share: the number goes with the peer.
    remote_.reset();
    if (!ping_) local_.port = 0;
    deaf_ = !ping_;
    if (local_chosen_) local_.addr = IpAddr::Any(family_);
    local_chosen_ = false;
    return {};
  }
  SockAddr a = TRY(Normalise(given));
  // ip6_datagram_connect() takes mapped addresses for raw sockets, too, though nothing can be sent.
  const bool mapped = family_ == Family::kV6 && !ping_ && a.addr.is_v4();
  if (a.addr.family() != family_ && !mapped) return NetError::kAfNoSupport;
  if (NeedsScope(a.addr)) {
    if (a.scope == 0) a.scope = static_cast<IfIndex>(opt(Option::kBindToDevice));
    if (a.scope == 0) return NetError::kInvalid;
  }
  const IpAddr from = local_.addr.family() == a.addr.family() ? local_.addr : IpAddr();
  const Route route = TRY(stack_->FindRoute({.src = from, .dst = a.addr, .oif = a.scope}));
  if (route.kind == Route::Kind::kBroadcast && !flag(Option::kBroadcast)) return NetError::kAccess;
  TRY(TakeIdent(0));
  if (local_.addr.IsNone() || local_.addr.IsAny()) {
    local_.addr = route.src;
    local_chosen_ = true;
  }
  a.addr = route.dst;
  remote_ = a;
  return {};
}

NetResult<void> RawEndpoint::DoShutdown(bool read, bool write) {
  read_shut_ |= read;
  write_shut_ |= write;
  Notify(kReadable | kHangup);
  if (!remote_) return NetError::kNotConnected;
  return {};
}

void RawEndpoint::DoClose() {
  stack_->raw().Remove(this);
  queue_.clear();
}

NetResult<SockAddr> RawEndpoint::DoRemote() {
  if (!remote_) return NetError::kNotConnected;
  return ToUser(*remote_);
}

uint32_t RawEndpoint::DoPoll() {
  uint32_t bits = kWritable;
  if (error_ || !error_queue_.empty()) bits |= kError;
  if (!queue_.empty() || read_shut_) bits |= kReadable;
  if (read_shut_) bits |= kReadHangup;
  if (read_shut_ && write_shut_) bits |= kHangup;
  return bits;
}

NetResult<size_t> RawEndpoint::Send(Chain data, const SendParams& params) {
  StackEntry entry(*stack_);
  if (std::optional<NetError> e = TakeErrorLocked()) return *e;
  SockAddr to;
  if (params.to) {
    to = TRY(Normalise(*params.to));
    if (!ping_ && family_ == Family::kV6 && to.port != 0 &&
        (protocol_ == kProtoRaw ? to.port > 255 : to.port != protocol_)) {
      return NetError::kInvalid;  // the port is the protocol
    }
    if (to.addr.family() != family_) return NetError::kNetUnreach;
  } else if (remote_) {
    to = *remote_;
    if (to.addr.family() != family_) return NetError::kNetUnreach;
  } else {
    return NetError::kDestAddrRequired;
  }
  const size_t size = data.size();
  if (size > 65535) return NetError::kMessageSize;
  IfIndex oif = params.iface != 0 ? params.iface : static_cast<IfIndex>(opt(Option::kBindToDevice));
  if (oif == 0 && to.addr.is_v6()) oif = to.scope;
  IpAddr src = params.src.IsNone() || params.src.IsAny() ? local_.addr : params.src;
  if (src.IsMulticast() || (src.is_v4() && stack_->IsBroadcast(src))) src = IpAddr();

  const bool included = !ping_ && flag(Option::kHeaderIncluded);
  Route route = TRY(stack_->FindRoute({.src = src, .dst = to.addr, .oif = oif,
                                       .mark = static_cast<uint32_t>(opt(Option::kMark))}));
  if (route.kind == Route::Kind::kBroadcast && !flag(Option::kBroadcast)) return NetError::kAccess;
  to.addr = route.dst;  // an unspecified one is this host's
  if (params.probe) return size;
  // Linux looks at the shut side where it allocates for one message, which plain raw ones do not.
  if (write_shut_ && (ping_ || (included && size >= (family_ == Family::kV4 ? kIpv4Header : kIpv6Header)))) {
    return NetError::kPipe;
  }
  if (included) {
    // Linux fills in the length, the checksum, and a source or identifier of 0: raw_send_hdrinc().
    const Slice flat = Slice::Copy(data.Flatten().span());
    if (family_ == Family::kV4) {
      if (flat.size() < kIpv4Header) return NetError::kInvalid;
      uint8_t* h = flat.buffer()->data();
      const size_t header = (h[0] & 0xfu) * 4;
      if (header < kIpv4Header || header > flat.size() || h[0] >> 4 != 4) return NetError::kInvalid;
      Store16(h + 2, static_cast<uint16_t>(flat.size()));
      if (Load32(h + 12) == 0) std::memcpy(h + 12, route.src.data(), 4);
      if (Load16(h + 4) == 0) Store16(h + 4, static_cast<uint16_t>(stack_->Random64()));
      Store16(h + 10, 0);
      Store16(h + 10, ChecksumOf({h, header}));
    } else if (flat.size() < kIpv6Header) {
      return NetError::kInvalid;
    }
    if (flat.size() > route.mtu) return TooLong(to, route.mtu);  // raw_send_hdrinc()
    TRY(stack_->SendRawIp(route, Packet(Chain(flat))));
    return size;
  }
  if (params.hold) return size;

  const bool v4 = family_ == Family::kV4;
  // rawv6_sendmsg(): who has no protocol of its own says it by the port.
  const uint8_t said = !v4 && params.to && protocol_ == kProtoRaw ? static_cast<uint8_t>(to.port) : uint8_t{0};
  IpSend ip{route.src, to.addr, said != 0 ? said : protocol_, params.ttl.value_or(TtlFor(to.addr)),
            params.tos.value_or(TosFor(to.addr))};
  Own(ip);
  const bool icmp6 = protocol_ == kProtoIcmpv6 && !v4;
  const int64_t checksum_at = icmp6 ? 2 : opt(Option::kChecksum6);
  Packet p;
  if (ping_ || (!v4 && checksum_at >= 0)) {
    const Slice flat = Slice::Copy(data.Flatten().span());
    uint8_t* m = flat.empty() ? nullptr : flat.buffer()->data();
    if (ping_) {
      if (flat.size() < kIcmpHeader) return NetError::kInvalid;
      if (m[0] != (v4 ? kIcmpEcho : kIcmp6Echo) || m[1] != 0) {
        return NetError::kInvalid;
      }
      TRY(TakeIdent(0));
      Store16(m + 4, ident_);
    }
    const size_t at = ping_ ? 2 : static_cast<size_t>(checksum_at);
    if (flat.size() < at + 2) return NetError::kInvalid;
    Store16(m + at, 0);
    Checksum c;
    if (!v4) {
      c.AddPseudo(route.src, to.addr, protocol_, static_cast<uint32_t>(flat.size()));
    }
    c.Add(flat.span());
    Store16(m + at, c.Finish());
    p.payload = Chain(flat);
  } else {
    p.payload = std::move(data);
  }
  const int64_t discover = opt(v4 ? Option::kMtuDiscover : Option::kMtuDiscover6);
  const size_t total = p.size() + (v4 ? kIpv4Header : kIpv6Header);
  ip.dont_fragment = discover >= 2 && discover != 5;
  if (discover == 1 && v4) ip.dont_fragment = total <= stack_->PathMtu(route);
  NetResult<void> sent = stack_->SendIp(route, ip, std::move(p));
  if (sent.ok()) return size;
  if (sent.error() == NetError::kMessageSize) return TooLong(to, stack_->PathMtu(route));
  return sent.error();
}

// ip_local_error(): with IP_RECVERR the queue says how much would have been right.
NetError RawEndpoint::TooLong(const SockAddr& to, uint32_t mtu) {
  if (flag(family_ == Family::kV4 ? Option::kRecvErr : Option::kRecvErr6)) {
    QueuedError e;
    e.error = NetError::kMessageSize;
    e.origin = kOriginLocal;
    e.info = mtu;
    e.destination = ToUser(to);
    QueueError(std::move(e));
  }
  return NetError::kMessageSize;
}

NetResult<Datagram> RawEndpoint::Receive(bool peek) {
  StackEntry entry(*stack_);
  if (std::optional<NetError> e = TakeErrorLocked()) return *e;
  if (queue_.empty()) return NetError::kWouldBlock;
  if (peek) return queue_.front();
  Datagram d = std::move(queue_.front());
  queue_.pop_front();
  queued_bytes_ -= d.data.size() + kDatagramCost;
  return d;
}

size_t RawEndpoint::QueuedBytes() {
  StackEntry entry(*stack_);
  return queued_bytes_;
}

size_t RawEndpoint::NextSize() {
  StackEntry entry(*stack_);
  return queue_.empty() ? 0 : queue_.front().data.size();
}

void RawEndpoint::SetIcmpFilter(const std::array<uint32_t, 8>& blocked) {
  StackEntry entry(*stack_);
  blocked_ = blocked;
}

std::array<uint32_t, 8> RawEndpoint::IcmpFilter() {
  StackEntry entry(*stack_);
  return blocked_;
}

bool RawEndpoint::Hears(const IpReceived& rx, const Slice& transport) const {
  if (ping_ || deaf_ || rx.dst.family() != family_ || rx.protocol != protocol_) return false;
  if (remote_ && remote_->addr != rx.src) return false;
  if (!local_.addr.IsNone() && !local_.addr.IsAny() && local_.addr != rx.dst) return false;
  const IfIndex device = static_cast<IfIndex>(opt(Option::kBindToDevice));
  if (device != 0 && device != rx.iface) return false;
  const bool icmp = protocol_ == (family_ == Family::kV4 ? kProtoIcmp : kProtoIcmpv6);
  if (icmp && !transport.empty()) {
    const uint8_t type = transport.data()[0];
    if ((blocked_[type / 32] >> (type % 32) & 1) != 0) return false;
  }
  return true;
}

void RawEndpoint::Enqueue(const IpReceived& rx, Slice data) {
  if (filter_) {
    FilterInput in;
    in.data = data.span();
    in.ethertype = rx.dst.is_v4() ? kEthIpv4 : kEthIpv6;
    in.iface = rx.iface;
    const uint32_t keep = filter_->Run(in);
    if (keep == 0) return;
    data.Truncate(keep);
  }
  const size_t cost = data.size() + kDatagramCost;
  if (queued_bytes_ + cost > static_cast<size_t>(opt(Option::kReceiveBuffer))) return;
  Datagram d;
  d.data = Chain(data.Compact());
  d.from = ToUser({rx.src, 0, rx.iface});
  d.to = rx.dst;
  d.iface = rx.iface;
  d.ttl = rx.ttl;
  d.tos = rx.tos;
  d.when = stack_->now();
  queued_bytes_ += cost;
  queue_.push_back(std::move(d));
  Notify(kReadable);
}

void RawEndpoint::OnIcmp(const IcmpError& e) {
  const IcmpMeaning meaning = MeaningOf(e);
  if (flag(e.v6 ? Option::kRecvErr6 : Option::kRecvErr)) {
    QueuedError q;
    q.error = meaning.error;
    q.origin = e.v6 ? 3 : 2;
    q.type = e.type;
    q.code = e.code;
    q.info = e.mtu;
    q.offender = e.reporter;
    q.destination = {e.remote, 0, 0};
    q.payload = e.transport.Compact();
    q.NoteArrival(e);
    QueueError(std::move(q));
  } else if (!meaning.hard || !remote_) {
    return;
  }
  SetError(meaning.error);
  Notify(kError | kReadable);
}

bool RawProtocol::PacketIn(const IpReceived& rx, const Slice& transport) {
  bool taken = false;
  for (RawEndpoint* e : endpoints_) {
    if (!e->Hears(rx, transport)) continue;
    if (rx.dst.is_v4() && !rx.header.empty()) {
      Chain whole(rx.header);
      whole.Append(transport);
      e->Enqueue(rx, whole.Flatten());
    } else {
      e->Enqueue(rx, transport);
    }
    taken = true;
  }
  return taken;
}

void RawProtocol::PingIn(const IpReceived& rx, const IcmpView& view, const Slice& message) {
  // The last one made comes first.
  for (auto it = endpoints_.rbegin(); it != endpoints_.rend(); ++it) {
    RawEndpoint* e = *it;
    if (!e->ping() || e->family() != rx.dst.family() || e->ident() != view.echo_id()) continue;
    e->Enqueue(rx, message);
    return;
  }
}

void RawProtocol::ErrorIn(const IcmpError& e) {
  for (RawEndpoint* r : endpoints_) {
    if (r->deaf() || r->family() != e.local.family() || r->protocol() != e.protocol) continue;
    if (r->ping()) {
      if (e.transport.size() < kIcmpHeader || Load16(e.transport.data() + 4) != r->ident()) {
        continue;
      }
    } else if (NetResult<SockAddr> remote = r->RemoteLocked(); remote.ok() &&
                                                               remote->addr != e.remote) {
      continue;
    }
    r->OnIcmp(e);
  }
}

bool RawProtocol::HearsTransports() const {
  for (const RawEndpoint* e : endpoints_) {
    if (!e->ping() && (e->protocol() == kProtoTcp || e->protocol() == kProtoUdp)) return true;
  }
  return false;
}

bool RawProtocol::IdentTaken(Family family, uint16_t ident) const {
  for (const RawEndpoint* e : endpoints_) {
    if (e->ping() && e->family() == family && e->ident() == ident) return true;
  }
  return false;
}

}  // namespace ringwall::net
