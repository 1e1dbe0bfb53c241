#include "fs/inet/datagram_socket.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/epoll.h>

#include "fs/inet/inet_control.h"
#include "fs/socket/timestamp.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr size_t kMaxDatagram = 65535;
constexpr int kSolRaw = 255, kSolUdpLite = 136;
constexpr uint32_t kProbe = 0x10;  // MSG_PROBE, which the C library calls MSG_PROXY
// SOF_TIMESTAMPING_TX_*: what a message can ask for by itself.
constexpr uint32_t kStampRecord = 1 << 0 | 1 << 1 | 1 << 8 | 1 << 9;
constexpr int kUdpCork = 1, kUdpEncap = 100, kUdpNoCheck6Tx = 101, kUdpNoCheck6Rx = 102,
              kUdpSegment = 103, kUdpGro = 104, kUdpLiteSendCoverage = 10,
              kUdpLiteReceiveCoverage = 11;

net::Family StackFamily(int family) {
  return family == AF_INET ? net::Family::kV4 : net::Family::kV6;
}

}  // namespace

DatagramSocket::DatagramSocket(NetNamespace& net, int family, int type, int protocol, Path path,
                               uint32_t flags, RefPtr<net::UdpEndpoint> udp,
                               RefPtr<net::RawEndpoint> raw)
    : InetSocket(net, family, type, protocol, std::move(path), flags,
                 udp ? Ref<net::Endpoint>(*udp) : Ref<net::Endpoint>(*raw)),
      udp_(std::move(udp)),
      raw_(std::move(raw)) {
  if (!raw_) return;
  if (family == AF_INET6 && type == SOCK_DGRAM) {
    Result<void> only_v6 = SetNumber(net::Option::kV6Only, 1);
    static_cast<void>(only_v6);
  }
  options_.reuse_addr = 1;  // INET_PROTOSW_REUSE
  Result<void> reuse = SetNumber(net::Option::kReuseAddr, 1);
  static_cast<void>(reuse);
  if (protocol == IPPROTO_ICMPV6 && type == SOCK_RAW) {
    Result<void> never_fails = SetNumber(net::Option::kChecksum6, 2);
    static_cast<void>(never_fails);
  }
}

Ref<DatagramSocket> DatagramSocket::CreateUdp(Task& t, int family, uint32_t flags) {
  NetNamespace& ns = NetNamespace::Of(t);
  return MakeRef<DatagramSocket>(ns, family, SOCK_DGRAM, IPPROTO_UDP, NewPath(t),
                                 OpenFlags(flags), ns.stack().NewUdp(StackFamily(family)),
                                 nullptr);
}

Ref<DatagramSocket> DatagramSocket::CreateRaw(Task& t, int family, int type, int protocol,
                                              uint32_t flags) {
  NetNamespace& ns = NetNamespace::Of(t);
  Ref<net::RawEndpoint> raw = ns.stack().NewRaw(StackFamily(family),
                                                static_cast<uint8_t>(protocol), type == SOCK_DGRAM);
  return MakeRef<DatagramSocket>(ns, family, type, protocol, NewPath(t), OpenFlags(flags), nullptr,
                                 std::move(raw));
}

// inet_dgram_connect().
Result<void> DatagramSocket::Connect(Task&, const SocketAddress& a, bool) {
  if (udp_ && a.size >= sizeof(uint16_t) && a.family() != AF_UNSPEC) {
    TRY(FromNet(udp_->Autobind()));
  }
  const net::SockAddr to = TRY(ParseConnect(a));
  TRY(FromNet(endpoint().Connect(to)));
  // __ip4_datagram_connect() writes where corked data are to go.
  MutexLock lock(mu_);
  if (corked_ && to.addr.Unmapped().is_v4() && to.port != 0) corked_->params.to = to;
  return {};
}

Result<SocketAddress> DatagramSocket::LocalName() {
  const net::SockAddr a = TRY(FromNet(endpoint().LocalAddress()));
  return ToSocketAddress(family(), a);
}

// As udp_sendmsg(), udpv6_sendmsg(), raw_sendmsg() and ping_v4_sendmsg() look at msg_name.
Result<std::optional<net::SockAddr>> DatagramSocket::ParseDestination(
    const SocketAddress* to) {
  if (to == nullptr) return std::optional<net::SockAddr>();
  if (!is_v6()) {
    // raw_sendmsg() goes by the size, the others by the pointer.
    if (to->size == 0 && type() == SOCK_RAW) return std::optional<net::SockAddr>();
    if (to->size < sizeof(SockAddrInAbi)) return Errno(EINVAL);
    if (to->family() != AF_INET && (to->family() != AF_UNSPEC || (raw_ && type() == SOCK_DGRAM))) {
      return Errno(EAFNOSUPPORT);
    }
    return std::optional(FromSockAddrIn(*to));
  }
  if (to->size < sizeof(uint16_t)) return Errno(EINVAL);
  if (raw_ && type() == SOCK_RAW && to->size < kOldSockAddrIn6) return Errno(EINVAL);
  switch (to->family()) {
    case AF_INET6:
      if (to->size < kOldSockAddrIn6) return Errno(EINVAL);
      return std::optional(FromSockAddrIn6(*to));
    case AF_INET:
      if (raw_) return Errno(type() == SOCK_RAW ? EAFNOSUPPORT : EINVAL);
      {
        const int64_t only = TRY(GetNumber(net::Option::kV6Only));
        if (only != 0) return Errno(ENETUNREACH);
      }
      if (to->size < sizeof(SockAddrInAbi)) return Errno(EINVAL);
      return std::optional(FromSockAddrIn(*to));
    case AF_UNSPEC:
      if (raw_ && type() == SOCK_RAW) return std::optional(FromSockAddrIn6(*to));
      if (raw_) return Errno(EINVAL);
      // The peer's address is taken as it is then: a mapped one has no way by IPv6.
      if (net::NetResult<net::SockAddr> peer = endpoint().RemoteAddress();
          peer.ok() && peer->addr.Unmapped().is_v4()) {
        return Errno(ENETUNREACH);
      }
      return std::optional<net::SockAddr>();
    default:
      return Errno(raw_ && type() == SOCK_RAW ? EAFNOSUPPORT : EINVAL);
  }
}

Result<size_t> DatagramSocket::SendNow(net::Chain data, const net::SendParams& params) {
  if (udp_) return FromNet(udp_->Send(std::move(data), params));
  return FromNet(raw_->Send(std::move(data), params));
}

bool DatagramSocket::MayCork() {
  if (udp_) return true;
  if (type() != SOCK_RAW) return false;
  const Result<int64_t> included = GetNumber(net::Option::kHeaderIncluded);
  return included.ok() && *included == 0;
}

Result<void> DatagramSocket::Uncork() {
  std::optional<Corked> whole;
  {
    MutexLock lock(mu_);
    whole.swap(corked_);
  }
  if (!whole) return {};
  TRY(SendNow(std::move(whole->data), whole->params));
  return {};
}

// udp_sendmsg(): what is added to corked data goes where those go, whatever the address. udpv6_sendmsg() looks
// at one all the same.
bool DatagramSocket::AddsToCorked(const SocketAddress* to) {
  if (!udp_ || to == nullptr) return false;
  if (is_v6() && (to->size < sizeof(uint16_t) || to->family() != AF_UNSPEC)) return false;
  MutexLock lock(mu_);
  return corked_.has_value();
}

Result<size_t> DatagramSocket::SendMsg(Task& t, SendArgs& args) {
  const size_t size = args.src.remaining();
  // inet_send_prepare(): whatever comes of the call, the socket has a port from here on.
  if (udp_) TRY(FromNet(udp_->Autobind()));
  const bool udp6 = udp_ && is_v6();  // which looks at its arguments in another order
  const bool raw6 = raw_ && is_v6() && type() == SOCK_RAW;
  if (size > kMaxDatagram && !udp6 && !raw6) return Errno(EMSGSIZE);
  if ((args.flags & MSG_OOB) != 0 && !udp6) return Errno(EOPNOTSUPP);
  net::SendParams params;
  const bool oob = (args.flags & MSG_OOB) != 0;
  if (udp6 && oob && args.to != nullptr && args.to->size >= sizeof(uint16_t) && args.to->family() == AF_INET) {
    // udp_sendmsg() refuses it before it looks at the address.
    const int64_t only = TRY(GetNumber(net::Option::kV6Only));
    return Errno(only != 0 ? ENETUNREACH : EOPNOTSUPP);
  }
  if (!AddsToCorked(args.to)) params.to = TRY(ParseDestination(args.to));
  if (size > kMaxDatagram) {
    net::NetResult<net::SockAddr> peer = endpoint().RemoteAddress();
    if (!params.to && !peer.ok()) return Errno(EDESTADDRREQ);
    const bool v4 = (params.to ? params.to->addr : peer.value().addr).Unmapped().is_v4();
    if (!udp_ || v4) return Errno(EMSGSIZE);
    // The stack finds the way first, then says that it is too large, in the queue of errors as well.
    Ref<net::Buffer> any = net::Buffer::New(kMaxDatagram + 1);
    any->set_used(kMaxDatagram + 1);
    TRY(SendNow(net::Chain(net::Slice(std::move(any), 0, kMaxDatagram + 1)), params));
    return Errno(EMSGSIZE);
  }
  params.gso_size = static_cast<uint16_t>(gso_size_.load());
  bool to_v4 = false;
  if (udp6 && (oob || !args.control.empty())) {
    net::NetResult<net::SockAddr> peer = endpoint().RemoteAddress();
    to_v4 = params.to ? params.to->addr.Unmapped().is_v4()
                      : peer.ok() && peer->addr.Unmapped().is_v4();
    // udpv6_sendmsg() hands what goes to IPv4 to udp_sendmsg(), which refuses it.
    if (oob && to_v4) return Errno(EOPNOTSUPP);
  }
  Result<void> control = ReadInetControl(t, is_v6(), args.control, &params, to_v4);
  if (!control.ok()) {
    // Whom it is for is looked at first.
    if (!params.to && !endpoint().RemoteAddress().ok()) return Errno(EDESTADDRREQ);
    return control.error();
  }
  const int own_icmp = is_v6() ? int{IPPROTO_ICMPV6} : int{IPPROTO_ICMP};
  const bool icmp = protocol() == own_icmp;
  if (size < 2 && icmp && type() == SOCK_RAW) {
    const int64_t included = TRY(GetNumber(net::Option::kHeaderIncluded));
    if (included == 0) return Errno(EFAULT);  // raw_probe_proto_opt() reads the type and the code
  }
  params.dont_route = (args.flags & MSG_DONTROUTE) != 0;
  if ((udp_ || type() == SOCK_RAW) && (args.flags & kProbe) != 0) {
    params.probe = true;
    TRY(SendNow(net::Chain(), params));
    return size;
  }
  Ref<net::Buffer> buffer = net::Buffer::New(std::max<size_t>(size, 1));
  if (size > 0) TRY(GetWhole(args.src, std::as_writable_bytes(std::span(buffer->data(), size))));
  buffer->set_used(buffer->capacity());
  net::Chain data(net::Slice(std::move(buffer), 0, size));
  const bool more = MayCork() && ((args.flags & MSG_MORE) != 0 || cork_ != 0);
  std::optional<Corked> whole;
  if (MayCork()) {
    MutexLock lock(mu_);
    if (more && !corked_) {
      // Whom it goes to is settled now, whatever is connected meanwhile.
      if (!params.to) {
        if (net::NetResult<net::SockAddr> peer = endpoint().RemoteAddress(); peer.ok()) {
          params.to = *peer;
          if (raw_) params.to->port = 0;
        }
      }
      net::SendParams look = params;
      look.hold = true;
      TRY(SendNow(data, look));
      corked_.emplace(Corked{params, std::move(data)});
      return size;
    }
    if (corked_) {
      if (corked_->data.size() + size > kMaxDatagram) {
        corked_.reset();  // udp_flush_pending_frames()
        return Errno(EMSGSIZE);
      }
      corked_->data.Append(data);
      if (more) return size;
      whole.swap(corked_);
    }
  }
  const uint32_t stamps =
      (static_cast<uint32_t>(options_.timestamping.load()) & ~kStampRecord) |
      params.stamps.value_or(static_cast<uint32_t>(options_.timestamping.load()) & kStampRecord);
  const bool notes = WantsNotes(args.flags, stamps);
  net::Slice sent;
  if (notes) sent = whole ? whole->data.Flatten() : data.Flatten();
  if (whole) {
    TRY(SendNow(std::move(whole->data), whole->params));
  } else {
    TRY(SendNow(std::move(data), params));
  }
  if (notes) NoteSent(args.flags, stamps, size, std::move(sent));
  return size;
}

Result<net::Datagram> DatagramSocket::Take(bool peek, bool wait, size_t* skip) {
  net::NetResult<net::Datagram> d = udp_ ? udp_->Receive(peek, skip) : raw_->Receive(peek);
  if (d.ok()) return d.TakeValue();
  // A reader that waits finds the end of a shut socket; one that does not sees an empty queue.
  if (d.error() == net::NetError::kWouldBlock && wait && endpoint().ReadShut()) {
    return net::Datagram{};
  }
  return net::ToErrno(d.error());
}

Result<size_t> DatagramSocket::RecvMsg(Task& t, ReceiveArgs& args) {
  if ((args.flags & MSG_ERRQUEUE) != 0) return ReceiveError(args);
  if (raw_ && (args.flags & MSG_OOB) != 0) return Errno(EOPNOTSUPP);
  const bool wait = (args.flags & MSG_DONTWAIT) == 0;
  const bool peek = (args.flags & MSG_PEEK) != 0;
  const int32_t offset = options_.peek_off;
  size_t skip = 0;
  net::Datagram d = TRY(Wait(t, wait, EPOLLIN | EPOLLERR, options_.receive_timeout_ns, [&] {
    skip = peek && offset > 0 ? static_cast<size_t>(offset) : 0;
    return Take(peek, wait, &skip);
  }));
  const size_t size = d.data.size();
  if (skip != 0) d.data = d.data.Sub(skip);
  const size_t room = args.dst.remaining();
  size_t left = std::min(size - skip, room);
  // As udp_recvmsg() has it: a part of the rest that was not cut says so, too.
  if (room <= size - skip && room < size) args.out_flags |= MSG_TRUNC;
  const size_t copied = left;
  for (const net::Slice& s : d.data.slices()) {
    if (left == 0) break;
    const size_t n = std::min(s.size(), left);
    TRY(PutWhole(args.dst, std::as_bytes(s.span()).first(n)));
    left -= n;
  }
  if (!d.from.addr.IsNone()) args.from = ToSocketAddress(family(), d.from);
  if (peek && offset >= 0) {
    options_.peek_off = offset + static_cast<int32_t>(copied);
  } else if (!peek && offset > 0) {
    options_.peek_off = std::max(0, offset - static_cast<int32_t>(copied));
  }
  if (!d.to.IsNone()) last_stamp_ns_ = d.when.nanos();
  if (args.control != nullptr && !d.to.IsNone()) {
    WriteTimestamps(options_, d.when.nanos(), *args.control);
    if (options_.rxq_overflow != 0 && d.drops != 0) {
      args.control->Put(SOL_SOCKET, SO_RXQ_OVFL, d.drops);
    }
    if (options_.receive_mark != 0) args.control->Put(SOL_SOCKET, SO_MARK, d.mark);
    if (udp_ && gro_ != 0 && d.gso_size != 0) {
      args.control->Put(IPPROTO_UDP, kUdpGro, int32_t{d.gso_size});
    }
    if (ip_flags().any()) {
      net::NetResult<net::SockAddr> local = endpoint().LocalAddress();
      WriteInetControl(is_v6(), ip_flags(), d, local.ok() ? local->port : uint16_t{0},
                       *args.control);
    }
  }
  return (args.flags & MSG_TRUNC) != 0 ? size : copied;
}

Result<void> DatagramSocket::SetOption(int level, int name, OptionIn& in) {
  if (udp_ && (level == IPPROTO_UDP || level == kSolUdpLite)) {
    const int32_t v = TRY(in.Int());
    switch (name) {
      case kUdpCork:
        cork_ = v != 0;
        return v != 0 ? Result<void>() : Uncork();
      case kUdpEncap:
        if (v != 0) return Errno(ENOPROTOOPT);  // no IPsec here
        encap_ = v;
        return {};
      case kUdpNoCheck6Tx:
        no_check6_tx_ = v != 0;
        return {};
      case kUdpNoCheck6Rx:
        no_check6_rx_ = v != 0;
        return {};
      case kUdpSegment:
        if (v < 0 || v > UINT16_MAX) return Errno(EINVAL);
        gso_size_ = v;
        return {};
      case kUdpGro:
        gro_ = v != 0;
        udp_->SetGro(v != 0);
        return {};
      default:
        return Errno(ENOPROTOOPT);
    }
  }
  const bool icmp4 = raw_ && type() == SOCK_RAW && !is_v6() && level == kSolRaw;
  const bool icmp6 = raw_ && type() == SOCK_RAW && is_v6() && level == IPPROTO_ICMPV6;
  if (icmp4) {
    if (name != 1 /* ICMP_FILTER */) return Errno(ENOPROTOOPT);
    if (protocol() != IPPROTO_ICMP) return Errno(EOPNOTSUPP);
    const std::vector<std::byte> bytes = TRY(in.Bytes(sizeof(uint32_t)));
    std::array<uint32_t, 8> blocked = raw_->IcmpFilter();
    memcpy(blocked.data(), bytes.data(), bytes.size());
    raw_->SetIcmpFilter(blocked);
    return {};
  }
  if (icmp6 && protocol() == IPPROTO_ICMPV6) {
    if (name != 1 /* ICMPV6_FILTER */) return Errno(ENOPROTOOPT);
    const std::vector<std::byte> bytes = TRY(in.Bytes(sizeof(uint32_t) * 8));
    std::array<uint32_t, 8> blocked = raw_->IcmpFilter();
    memcpy(blocked.data(), bytes.data(), bytes.size());
    raw_->SetIcmpFilter(blocked);
    return {};
  }
  if (icmp6) return Errno(EOPNOTSUPP);  // the level of another protocol
  if (raw_ && type() == SOCK_RAW && is_v6() && (level == kSolRaw || level == IPPROTO_IPV6) &&
      (level == kSolRaw || name == IPV6_HDRINCL) && name != IPV6_CHECKSUM) {
    const int32_t v = TRY(in.Int());
    if (name != IPV6_HDRINCL) return Errno(ENOPROTOOPT);
    return SetNumber(net::Option::kHeaderIncluded, v != 0);
  }
  if (raw_ && type() == SOCK_RAW && is_v6() && name == IPV6_CHECKSUM &&
      (level == kSolRaw || level == IPPROTO_IPV6)) {
    const int32_t v = TRY(in.Int());
    if (protocol() == IPPROTO_ICMPV6 && level == IPPROTO_IPV6) return Errno(EINVAL);
    if (v > 0 && (v & 1) != 0) return Errno(EINVAL);
    return SetNumber(net::Option::kChecksum6, v < 0 ? -1 : v);
  }
  return InetSocket::SetOption(level, name, in);
}

Result<void> DatagramSocket::GetOption(int level, int name, OptionOut& out) {
  if (udp_ && (level == IPPROTO_UDP || level == kSolUdpLite)) {
    switch (name) {
      case kUdpCork: out.Int(cork_); return {};
      case kUdpEncap: out.Int(encap_); return {};
      case kUdpNoCheck6Tx: out.Int(no_check6_tx_); return {};
      case kUdpNoCheck6Rx: out.Int(no_check6_rx_); return {};
      case kUdpSegment: out.Int(gso_size_); return {};
      case kUdpGro: out.Int(gro_); return {};
      case kUdpLiteSendCoverage:
      case kUdpLiteReceiveCoverage: out.Int(0); return {};
      default: return Errno(ENOPROTOOPT);
    }
  }
  if (raw_ && type() == SOCK_RAW && !is_v6() && level == kSolRaw) {
    if (name != 1) return Errno(ENOPROTOOPT);
    if (protocol() != IPPROTO_ICMP) return Errno(EOPNOTSUPP);
    out.Put(raw_->IcmpFilter()[0]);
    return {};
  }
  if (raw_ && type() == SOCK_RAW && is_v6() && level == kSolRaw && name == IPV6_HDRINCL) {
    return InetSocket::GetOption(IPPROTO_IPV6, name, out);  // do_rawv6_getsockopt() takes both levels
  }
  if (raw_ && type() == SOCK_RAW && is_v6() && level == IPPROTO_ICMPV6) {
    if (protocol() != IPPROTO_ICMPV6) return Errno(EOPNOTSUPP);
    if (name != 1) return Errno(ENOPROTOOPT);
    out.Put(raw_->IcmpFilter());
    return {};
  }
  if (raw_ && type() == SOCK_RAW && is_v6() && name == IPV6_CHECKSUM &&
      (level == kSolRaw || level == IPPROTO_IPV6)) {
    const int64_t v = TRY(GetNumber(net::Option::kChecksum6));
    out.Int(v);
    return {};
  }
  return InetSocket::GetOption(level, name, out);
}

Socket::MemoryUse DatagramSocket::MemoryInUse() {
  return {.receive = static_cast<uint32_t>(udp_ ? udp_->QueuedBytes() : raw_->QueuedBytes()),
          .drops = udp_ ? udp_->Drops() : 0};
}

Result<int64_t> DatagramSocket::DoIoctl(Task& t, uint32_t cmd, uint64_t arg) {
  int32_t n = 0;
  if (raw_ && type() == SOCK_DGRAM) return StampIoctl(t, cmd, arg, last_stamp_ns_);
  if (cmd == SIOCINQ) {
    n = static_cast<int32_t>(udp_ ? udp_->NextSize() : raw_->NextSize());
  } else if (cmd != SIOCOUTQ) {
    return StampIoctl(t, cmd, arg, last_stamp_ns_);
  }
  TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOutLast(t, n));
  return 0;
}

}  // namespace ringwall
