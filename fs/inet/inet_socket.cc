#include "fs/inet/inet_socket.h"

#include <netinet/in.h>
#include <sys/epoll.h>

#include "fs/inet/port_watch.h"
#include "fs/socket/timestamp.h"

namespace ringwall {

namespace {

constexpr EventMask kNotMasked = EPOLLERR | EPOLLHUP;
constexpr int kSolRaw = 255, kSolUdpLite = 136;
constexpr int32_t kStampReport = 1 << 4;  // SOF_TIMESTAMPING_SOFTWARE

}  // namespace

InetSocket::InetSocket(NetNamespace& net, int family, int type, int protocol, Path path,
                       uint32_t flags, Ref<net::Endpoint> endpoint)
    : Socket(net, family, type, protocol, std::move(path), flags),
      endpoint_(std::move(endpoint)) {
  endpoint_->SetObserver(events_);
  ip_flags_.Set(IpFlag::kAutoFlowLabel6, true);
  const Result<Attr> attr = inode().GetAttr();
  if (attr.ok()) endpoint_->SetOwner(attr->uid, attr->ino);
}

InetSocket::~InetSocket() {
  endpoint_->SetObserver(nullptr);
  endpoint_->Close();
  Retract();
}

Result<void> InetSocket::Announce(const net::SockAddr& at) {
  PortWatch* watch = PortWatchOf(net());
  if (watch == nullptr || at.port == 0) return {};
  if (announced_.With([](const auto& a) { return a.has_value(); })) return {};
  const Result<int64_t> v6_only = GetNumber(net::Option::kV6Only);
  TRY(watch->Open(at, type() == SOCK_DGRAM, v6_only.ok() && *v6_only != 0));
  announced_.With([&](auto& a) { a = at; });
  return {};
}

void InetSocket::Retract() {
  PortWatch* watch = PortWatchOf(net());
  if (watch == nullptr) return;
  std::optional<net::SockAddr> at;
  announced_.With([&](auto& a) { std::swap(a, at); });
  if (at) watch->Close(*at, type() == SOCK_DGRAM);
}

void InetSocket::InheritInet(const InetSocket& listener) {
  ip_flags_.CopyFrom(listener.ip_flags_);
  kept_.min_ttl = listener.kept_.min_ttl.load();
  kept_.min_hops = listener.kept_.min_hops.load();
}

EventMask InetSocket::Poll(EventMask wanted) {
  EventMask now = SocketEvents::ToEvents(endpoint_->Poll());
  // datagram_poll()
  if ((now & EPOLLOUT) != 0 && type() != SOCK_STREAM) now |= EPOLLWRBAND;
  if ((now & EPOLLERR) != 0 && options_.select_error_queue != 0) now |= EPOLLPRI;
  return now & (wanted | kNotMasked);
}

// inet_bind() and inet6_bind().
Result<void> InetSocket::Bind(Task& t, const SocketAddress& a) {
  net::SockAddr to;
  if (!is_v6()) {
    if (a.size < sizeof(SockAddrInAbi)) return Errno(EINVAL);
    to = FromSockAddrIn(a);
    // Programs of old leave the family out; raw_bind() does not look at it.
    if (a.family() != AF_INET && (a.family() != AF_UNSPEC || !to.addr.IsAny()) &&
        type() != SOCK_RAW) {
      return Errno(EAFNOSUPPORT);
    }
  } else {
    if (a.size < kOldSockAddrIn6) return Errno(EINVAL);
    if (a.family() != AF_INET6) return Errno(type() == SOCK_RAW ? EINVAL : EAFNOSUPPORT);
    to = FromSockAddrIn6(a);
    if (to.addr.IsMulticast() && type() == SOCK_STREAM) return Errno(EINVAL);
    if (to.addr.IsV4Mapped()) {
      const int64_t only = TRY(GetNumber(net::Option::kV6Only));
      if (only != 0) return Errno(EINVAL);
    }
  }
  if (type() != SOCK_RAW && to.port != 0 &&
      to.port < net().stack().Config().unprivileged_port_start &&
      !t.creds().HasIn(net().user_ns(), Capability::kNetBindService)) {
    // An address of nobody's comes first for IPv4.
    if (!is_v6()) TRY(FromNet(endpoint_->CheckLocal(to)));
    return Errno(EACCES);
  }
  if (type() != SOCK_DGRAM || protocol() != IPPROTO_UDP) return FromNet(endpoint_->Bind(to));
  TRY(Announce(to));
  Result<void> bound = FromNet(endpoint_->Bind(to));
  if (!bound.ok()) {
    Retract();
    return bound;
  }
  if (to.port != 0) return {};
  const Result<net::SockAddr> chosen = FromNet(endpoint_->LocalAddress());
  // A port of the host's choice would do as well: that this one is taken there is no error.
  if (chosen.ok()) static_cast<void>(Announce(*chosen).ok());
  return {};
}

Result<net::SockAddr> InetSocket::ParseConnect(const SocketAddress& a) {
  if (a.size < sizeof(uint16_t)) return Errno(EINVAL);
  if (a.family() == AF_UNSPEC) return net::SockAddr{};
  const bool udp = type() == SOCK_DGRAM && protocol() == IPPROTO_UDP;
  if (is_v6() && a.family() != AF_INET6 && !udp && type() != SOCK_STREAM) {
    return Errno(EAFNOSUPPORT);  // ip6_datagram_connect_v6_only()
  }
  if (is_v6() && a.family() == AF_INET && type() != SOCK_STREAM) {
    const int64_t only = TRY(GetNumber(net::Option::kV6Only));
    if (only != 0) return Errno(EAFNOSUPPORT);
    if (a.size < sizeof(SockAddrInAbi)) return Errno(EINVAL);
    return FromSockAddrIn(a);
  }
  if (a.size < (is_v6() ? kOldSockAddrIn6 : uint32_t{sizeof(SockAddrInAbi)})) {
    return Errno(EINVAL);
  }
  if (a.family() != family()) return Errno(EAFNOSUPPORT);
  return is_v6() ? FromSockAddrIn6(a) : FromSockAddrIn(a);
}

Result<SocketAddress> InetSocket::LocalName() {
  const net::SockAddr a = TRY(FromNet(endpoint_->LocalAddress()));
  return ToSocketAddress(family(), a);
}

Result<SocketAddress> InetSocket::PeerName() {
  const net::SockAddr a = TRY(FromNet(endpoint_->RemoteAddress()));
  if (a.port == 0) return Errno(ENOTCONN);  // as inet_getname() sees it
  return ToSocketAddress(family(), a);
}

Result<void> InetSocket::Shutdown(Task&, int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Errno(EINVAL);
  return FromNet(endpoint_->Shutdown(how != SHUT_WR, how != SHUT_RD));
}

Result<void> InetSocket::OnReusePortFilter(RefPtr<net::EndpointFilter> filter) {
  if (type() == SOCK_RAW) return Errno(EINVAL);
  return FromNet(endpoint_->SetReuseProgram(std::move(filter)));
}

int InetSocket::TakeSocketError() {
  const std::optional<net::NetError> e = endpoint_->TakeError();
  return e ? net::ToErrno(*e).value() : 0;
}

// struct sock_extended_err with its offender (ip_recv_error(), ipv6_recv_error()).
Result<size_t> InetSocket::ReceiveError(ReceiveArgs& args) {
  struct ExtendedError {
    uint32_t error;
    uint8_t origin, type, code, pad;
    uint32_t info, data;
  };
  static_assert(sizeof(ExtendedError) == 16);
  std::optional<net::QueuedError> e = endpoint_->TakeQueuedError();
  if (!e) return Errno(EAGAIN);
  size_t n = std::min(e->payload.size(), args.dst.remaining());
  if (n < e->payload.size()) args.out_flags |= MSG_TRUNC;
  if (n > 0) {
    n = TRY(args.dst.Put(std::as_bytes(e->payload.span().first(n))));
  }
  const bool own = e->origin == net::kOriginStamp || e->origin == net::kOriginZeroCopy;
  if (!own) args.from = ToSocketAddress(family(), e->destination);
  args.out_flags |= MSG_ERRQUEUE;
  if (args.control == nullptr) return n;
  if (e->when && (options_.timestamping & kStampReport) != 0) {
    WriteStamps(options_, e->when->nanos(), *args.control);
  }
  const int number = own ? (e->origin == net::kOriginStamp ? ENOMSG : 0)
                         : net::ToErrno(e->error).value();
  const ExtendedError err = {static_cast<uint32_t>(number), e->origin, e->type, e->code, 0,
                             e->info, e->data};
  if (e->iface != 0 && ip_flags().any()) {
    // The ICMP message's own arrival, which has no ports.
    net::Datagram d;
    d.to = e->to;
    d.local = net::IpAddr::Any(net::Family::kV4);
    d.iface = e->iface;
    d.ttl = e->ttl;
    d.tos = e->tos;
    IpFlags wants;
    wants.CopyFrom(ip_flags());
    wants.Set(IpFlag::kRecvOrigDst, false);
    wants.Set(IpFlag::kRecvOrigDst6, false);
    WriteInetControl(is_v6(), wants, d, 0, *args.control);
  }
  // ipv6_recv_error() tells of IPv4's errors in its own way.
  const bool v4 = !is_v6();
  std::array<std::byte, sizeof(err) + sizeof(SockAddrIn6Abi)> bytes = {};
  memcpy(bytes.data(), &err, sizeof(err));
  const size_t size = sizeof(err) + (v4 ? sizeof(SockAddrInAbi) : sizeof(SockAddrIn6Abi));
  if (!e->offender.IsNone()) {
    const SocketAddress from =
        ToSocketAddress(v4 ? AF_INET : AF_INET6, net::SockAddr{e->offender, 0, 0});
    memcpy(bytes.data() + sizeof(err), from.bytes.data(), from.size);
  }
  args.control->Put(v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_RECVERR : IPV6_RECVERR,
                    std::span<const std::byte>(bytes).first(size));
  return n;
}

void InetSocket::NoteSent(uint32_t flags, uint32_t stamps, size_t bytes, net::Slice payload) {
  constexpr uint32_t kSoftware = 1 << 1, kSched = 1 << 8, kAck = 1 << 9, kOptId = 1 << 7, kOnly = 1 << 11;
  constexpr uint32_t kScmSnd = 0, kScmSched = 1, kScmAck = 2;
  const uint32_t have = static_cast<uint32_t>(options_.timestamping.load());
  // A stream counts bytes, the others messages.
  uint32_t key = type() == SOCK_STREAM
                     ? stamp_key_.fetch_add(static_cast<uint32_t>(bytes)) +
                           static_cast<uint32_t>(bytes) - 1
                     : stamp_key_.fetch_add(1);
  if ((have & kOptId) == 0) key = 0;
  const auto stamp = [&](uint32_t kind) {
    net::QueuedError e;
    e.origin = net::kOriginStamp;
    e.info = kind;
    e.data = key;
    e.when = net().stack().Now();
    if ((have & kOnly) == 0) e.payload = payload;
    if (kind == kScmAck) return NoteWhenAcked(std::move(e));
    endpoint_->QueueNote(std::move(e));
  };
  if ((stamps & kSched) != 0) stamp(kScmSched);
  if ((stamps & kSoftware) != 0) stamp(kScmSnd);
  if ((stamps & kAck) != 0) stamp(kScmAck);
  if ((flags & MSG_ZEROCOPY) == 0 || options_.zerocopy == 0) return;
  net::QueuedError e;
  e.origin = net::kOriginZeroCopy;
  e.code = 1;  // SO_EE_CODE_ZEROCOPY_COPIED
  e.info = e.data = zerocopy_next_.fetch_add(1);
  endpoint_->QueueNote(std::move(e));
}

Result<void> InetSocket::SetNumber(net::Option option, int64_t value) {
  return FromNet(endpoint_->SetOption(option, value));
}

Result<int64_t> InetSocket::GetNumber(net::Option option) {
  return FromNet(endpoint_->GetOption(option));
}

bool InetSocket::KnowsLevel(int level, int name) const {
  // Options of multicast routing are refused before their length is read.
  constexpr int kFirstRouting = 200, kLastRouting = 212;
  const bool routing = name >= kFirstRouting && name <= kLastRouting;
  const bool raw = type() == SOCK_RAW;
  if (level == SOL_SOCKET) return true;
  if (level == IPPROTO_IP) return (!is_v6() || !raw) && !routing;
  if (level == IPPROTO_IPV6) return is_v6() && !routing;
  const bool own = protocol() == IPPROTO_TCP || protocol() == IPPROTO_UDP;
  if (!raw) return (own && level == protocol()) || (protocol() == IPPROTO_UDP && level == kSolUdpLite);
  if (level == kSolRaw) return is_v6() || (name == 1 && protocol() == IPPROTO_ICMP);
  return is_v6() && level == IPPROTO_ICMPV6 && protocol() == IPPROTO_ICMPV6 && name == 1;
}

Result<void> InetSocket::SetOption(int level, int name, OptionIn& in) {
  if (level == IPPROTO_IP && !(is_v6() && type() == SOCK_RAW)) return SetIpOption(name, in);
  if (level == IPPROTO_IPV6 && is_v6()) return SetIpv6Option(name, in);
  return Errno(ENOPROTOOPT);
}

Result<void> InetSocket::GetOption(int level, int name, OptionOut& out) {
  if (level == IPPROTO_IP && !(is_v6() && type() == SOCK_RAW)) return GetIpOption(name, out);
  if (level == IPPROTO_IPV6 && is_v6()) return GetIpv6Option(name, out);
  return Errno(is_v6() ? ENOPROTOOPT : EOPNOTSUPP);
}

Result<void> InetSocket::OnSocketOption(int name, int64_t value) {
  switch (name) {
    case SO_REUSEADDR: return SetNumber(net::Option::kReuseAddr, value);
    case SO_REUSEPORT: return SetNumber(net::Option::kReusePort, value);
    case SO_KEEPALIVE: return SetNumber(net::Option::kKeepAlive, value);
    case SO_BROADCAST: return SetNumber(net::Option::kBroadcast, value);
    case SO_DONTROUTE: return SetNumber(net::Option::kDontRoute, value);
    case SO_OOBINLINE: return SetNumber(net::Option::kOobInline, value);
    case SO_NO_CHECK: return SetNumber(net::Option::kNoCheck, value);
    case SO_PRIORITY: return SetNumber(net::Option::kPriority, value);
    case SO_MARK: return SetNumber(net::Option::kMark, value);
    case SO_RCVLOWAT: return SetNumber(net::Option::kReceiveLowat, value);
    case SO_PEEK_OFF: return protocol() != IPPROTO_UDP && protocol() != IPPROTO_TCP ? Result<void>(Errno(EOPNOTSUPP)) : Result<void>();
    case SO_TIMESTAMPING:
      if ((value & 1 << 7) != 0 && (options_.timestamping & 1 << 7) == 0) stamp_key_ = 0;
      return {};
    case SO_BINDTODEVICE: return SetNumber(net::Option::kBindToDevice, value);
    case SO_SNDBUF:
      endpoint_->SetBuffer(net::Option::kSendBuffer, static_cast<size_t>(value));
      return {};
    case SO_RCVBUF:
      endpoint_->SetBuffer(net::Option::kReceiveBuffer, static_cast<size_t>(value));
      return {};
    default: return {};
  }
}

std::optional<Result<void>> InetSocket::GetSocketLevel(int name, OptionOut& out) {
  // The stack tunes its buffers.
  if (name != SO_SNDBUF && name != SO_RCVBUF) return std::nullopt;
  const Result<uint32_t> v = BufferSize(name);
  if (!v.ok()) return Result<void>(v.error());
  out.Int(*v);
  return Result<void>();
}

Result<uint32_t> InetSocket::BufferSize(int name) {
  const int64_t v = TRY(GetNumber(name == SO_SNDBUF ? net::Option::kSendBuffer
                                                    : net::Option::kReceiveBuffer));
  return static_cast<uint32_t>(v);
}

}  // namespace ringwall
