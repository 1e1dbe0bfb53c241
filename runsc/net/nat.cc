#include "runsc/net/nat.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/tcp.h"
#include "netstack/wire/udp.h"
#include "runsc/net/nat_ping.h"
#include "runsc/net/nat_ports.h"
#include "runsc/net/nat_tcp.h"
#include "runsc/net/nat_udp.h"
#include "sentry/base/resident.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

constexpr uint16_t kDnsPort = 53;
constexpr int kEventsAtOnce = 64;
const net::Duration kSweep = net::Duration::Seconds(10);

// What no guest reaches by any address: this host itself under its own names, and groups.
bool Unreachable(const net::IpAddr& a) {
  if (a.IsMulticast() || a.IsLoopback() || a.IsAny() || a.IsLimitedBroadcast()) return true;
  if (a.is_v4()) return a.byte(0) == 0 || a.byte(0) >= 240;
  return a.IsV4Mapped() || a.IsLinkLocal();
}

}  // namespace

NatAddresses NatAddresses::current_ = Usual();

NatAddresses NatAddresses::Usual() {
  NatAddresses a;
  a.guest4 = net::IpAddr::V4(10, 0, 2, 15);
  a.gateway4 = net::IpAddr::V4(10, 0, 2, 2);
  // A prefix drawn once for this network, RFC 4193 3.2.2.
  a.guest6 = *net::IpAddr::Parse("fd6e:a81b:704f:2::15");
  a.gateway6 = *net::IpAddr::Parse("fd6e:a81b:704f:2::2");
  a.guest_mac = {{0x02, 0x52, 0x57, 0, 0, 0x15}};
  a.gateway_mac = {{0x02, 0x52, 0x57, 0, 0, 0x02}};
  return a;
}

void NatAddresses::UseForNames() {
  current_.guest4 = net::IpAddr::V4(169, 254, 71, 2);
  current_.gateway4 = net::IpAddr::V4(169, 254, 71, 1);
  current_.len4 = 30;
}

HostSockAddr::HostSockAddr(const net::SockAddr& from) {
  if (from.addr.is_v4()) {
    sockaddr_in in = {};
    in.sin_family = AF_INET;
    in.sin_port = htons(from.port);
    std::memcpy(&in.sin_addr, from.addr.data(), 4);
    std::memcpy(&bytes, &in, sizeof(in));
    size = sizeof(in);
  } else {
    sockaddr_in6 in = {};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(from.port);
    in.sin6_scope_id = from.scope;
    std::memcpy(&in.sin6_addr, from.addr.data(), 16);
    std::memcpy(&bytes, &in, sizeof(in));
    size = sizeof(in);
  }
}

net::SockAddr HostSockAddr::Get() const {
  net::SockAddr out;
  if (bytes.ss_family == AF_INET) {
    sockaddr_in in;
    std::memcpy(&in, &bytes, sizeof(in));
    out.addr = net::IpAddr::V4(reinterpret_cast<const uint8_t*>(&in.sin_addr));
    out.port = ntohs(in.sin_port);
  } else if (bytes.ss_family == AF_INET6) {
    sockaddr_in6 in;
    std::memcpy(&in, &bytes, sizeof(in));
    out.addr = net::IpAddr::V6(reinterpret_cast<const uint8_t*>(&in.sin6_addr)).Unmapped();
    out.port = ntohs(in.sin6_port);
  }
  return out;
}

Nat::Nat(NatOptions options) : options_(std::move(options)) {}

Nat::~Nat() {
  ports_.reset();
  tcp_.reset();
  udp_.reset();
  ping_.reset();
  if (stack_) stack_->Shutdown();
}

HostResult<void> Nat::Prepare() {
  epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return HostError::Last("make an epoll instance");
  net::StackConfig config;
  // One hop away and lossless: large buffers only cost memory.
  config.tcp_rmem_max = config.tcp_wmem_max = 1 << 20;
  config.tcp_rmem_default = 512 << 10;
  config.tcp_wmem_default = 256 << 10;
  config.accept_ra = false;
  config.dad = false;
  config.tcp_max_tw_buckets = 4096;
  config.tcp_max_orphans = 1024;
  config.icmp_echo_ignore_broadcasts = true;
  stack_ = MakeRef<net::Stack>(*this, config);
  link_ = MakeRef<FrameLink>(std::move(options_.link), UniqueFd());
  const NatAddresses& a = NatAddresses::Get();
  net::InterfaceConfig interface;
  interface.name = "guest";
  interface.mac = a.gateway_mac;
  interface.mtu = a.mtu;
  interface.tx_checksum = interface.tx_tso = interface.rx_checksum = true;
  interface.any_destination = true;
  const auto check = [](const auto& result) -> HostResult<void> {
    if (result.ok()) return {};
    return HostError::WithErrno(net::ToErrno(result.error()).value(), "make the helper's stack");
  };
  net::NetResult<net::IfIndex> index = stack_->AddInterface(interface, link_);
  TRY(check(index));
  iface_ = *index;
  link_->Attach(*stack_, iface_);
  TRY(check(stack_->AddAddress(iface_, {a.gateway4, a.len4}, true)));
  TRY(check(stack_->AddAddress(iface_, {a.gateway6, a.len6}, true)));
  TRY(check(stack_->SetUp(iface_, true)));
  TRY(check(stack_->SetNeighbour(iface_, a.guest4, a.guest_mac)));
  TRY(check(stack_->SetNeighbour(iface_, a.guest6, a.guest_mac)));
  tcp_ = std::make_unique<NatTcp>(*this);
  udp_ = std::make_unique<NatUdp>(*this);
  ping_ = std::make_unique<NatPing>(*this, std::move(options_.ping4), std::move(options_.ping6));
  for (NatPublished& p : options_.published) {
    if (p.udp) {
      udp_->Publish(std::move(p.fd), p.guest_port);
    } else {
      tcp_->Publish(std::move(p.fd), p.guest_port);
    }
  }
  options_.published.clear();
  if (options_.ports) {
    ports_ = std::make_unique<NatPorts>(*this, *tcp_, *udp_, std::move(options_.ports));
    if (!Watch(ports_->fd(), EPOLLIN, ports_.get())) return HostError::Last("watch the ports");
  }
  if (!Watch(link_->fd(), EPOLLIN, this)) return HostError::Last("watch the link");
  return {};
}

net::TimePoint Nat::Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return net::TimePoint::FromNanos(now.tv_sec * 1'000'000'000L + now.tv_nsec);
}

void Nat::FillRandom(net::MutableByteSpan out) {
  while (!out.empty()) {
    const ssize_t n = getrandom(out.data(), std::min<size_t>(out.size(), 256), 0);
    if (n > 0) out = out.subspan(static_cast<size_t>(n));
  }
}

bool Nat::Watch(int fd, uint32_t events, NatWatcher* watcher) {
  epoll_event event = {};
  event.events = events;
  event.data.ptr = watcher;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Nat::Unwatch(int fd) { epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void Nat::OnEvents(uint32_t events) {
  if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) link_ready_ = true;
  if ((events & EPOLLOUT) != 0) link_->Flush();
}

void Nat::Run() {
  // The guest's interface comes up first, so what that needs is forgotten along with the start-up.
  constexpr int64_t kSettleMs = 1'000;
  const net::TimePoint settled = Now() + net::Duration::Millis(kSettleMs);
  bool going = true;
  while (going && Now() < settled) going = Turn(kSettleMs);
  ForgetCode();
  while (going) going = Turn(-1);
  // What the guest sent before its end still goes out.
  constexpr int kMostTurns = 1000;
  for (int i = 0; i < kMostTurns && tcp_->busy(); i++) tcp_->Work();
}

bool Nat::Turn(int timeout_ms) {
  int64_t wait = timeout_ms;
  const net::TimePoint next = std::min(deadline_, next_sweep_);
  if (!next.IsNever()) {
    const int64_t until = std::max<int64_t>(0, ((next - Now()).nanos() + 999'999) / 1'000'000);
    wait = wait < 0 ? until : std::min(wait, until);
  }
  if (link_ready_ || tcp_->busy()) wait = 0;
  epoll_event events[kEventsAtOnce];
  const int n = epoll_wait(epoll_.get(), events, kEventsAtOnce, static_cast<int>(std::min<int64_t>(wait, 1 << 30)));
  if (n < 0 && errno != EINTR) return false;
  for (int i = 0; i < n; i++) static_cast<NatWatcher*>(events[i].data.ptr)->OnEvents(events[i].events);

  if (link_ready_) {
    const FrameLink::Got got = link_->ReceiveInto(&frames_);
    ended_ |= got == FrameLink::Got::kEnd;
    link_ready_ = got == FrameLink::Got::kFrames;  // else epoll tells of more
    for (net::RxFrame& frame : frames_) FrameIn(frame);
    frames_.clear();
  }
  if (!to_stack_.empty()) {
    stack_->InputBatch(iface_, to_stack_);
    to_stack_.clear();
  }
  tcp_->Work();
  const net::TimePoint now = Now();
  if (deadline_ <= now) {
    deadline_ = net::TimePoint::Never();
    stack_->OnDeadline();
    tcp_->Work();
  }
  if (next_sweep_ <= now) {
    next_sweep_ = net::TimePoint::Never();
    udp_->Sweep(now);
    tcp_->Sweep(now);
  }
  if (next_sweep_.IsNever() && (udp_->wants_sweep() || tcp_->wants_sweep())) {
    next_sweep_ = now + kSweep;
  }
  graveyard_.clear();
  link_->Flush();
  if (link_->blocked() != link_watched_for_write_) {
    link_watched_for_write_ = link_->blocked();
    epoll_event event = {};
    event.events = EPOLLIN;
    if (link_watched_for_write_) event.events |= EPOLLOUT;
    event.data.ptr = static_cast<NatWatcher*>(this);
    epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, link_->fd(), &event);
  }
  return !ended_;
}

Nat::Verdict Nat::Translate(const net::SockAddr& to, net::SockAddr* host) const {
  const NatAddresses& a = NatAddresses::Get();
  *host = to;
  if (to.addr == a.gateway4 || to.addr == a.gateway6) {
    if (to.port == kDnsPort && !options_.resolvers.empty()) {
      const auto same = std::find_if(
          options_.resolvers.begin(), options_.resolvers.end(),
          [&](const net::SockAddr& r) { return r.addr.family() == to.addr.family(); });
      *host = same != options_.resolvers.end() ? *same : options_.resolvers[0];
      return Verdict::kHost;
    }
    if (!options_.host_loopback || options_.names_only) return Verdict::kStack;
    host->addr = net::IpAddr::Loopback(to.addr.family());
    return Verdict::kHost;
  }
  return Unreachable(to.addr) || to.port == 0 || options_.names_only ? Verdict::kRefused : Verdict::kHost;
}

// Decides who answers a frame of the guest.
void Nat::FrameIn(net::RxFrame& frame) {
  const std::optional<net::EthernetView> eth = net::EthernetView::Parse(frame.data.span());
  if (!eth || eth->tagged()) return;
  net::IpAddr src, dst;
  uint8_t protocol = 0, ttl = 0;
  net::ByteSpan datagram, transport;
  if (eth->type() == net::kEthIpv4) {
    const std::optional<net::Ipv4View> ip = net::Ipv4View::Parse(frame.data.span().subspan(eth->header_size()));
    if (!ip || ip->is_fragment()) return;
    src = ip->src();
    dst = ip->dst();
    protocol = ip->protocol();
    ttl = ip->ttl();
    datagram = ip->datagram();
    transport = ip->payload();
    if (src != NatAddresses::Get().guest4) return;
  } else if (eth->type() == net::kEthIpv6) {
    const std::optional<net::Ipv6View> ip = net::Ipv6View::Parse(frame.data.span().subspan(eth->header_size()));
    if (!ip) return;
    const net::Ipv6Walk walk = net::WalkIpv6(ip->datagram(), ip->next_header(), net::kIpv6Header, 6);
    if (walk.stop != net::Ipv6Walk::Stop::kUpper) return;
    src = ip->src();
    dst = ip->dst();
    protocol = walk.protocol;
    ttl = ip->hop_limit();
    datagram = ip->datagram();
    transport = datagram.subspan(walk.offset);
    const bool ndp = protocol == net::kProtoIcmpv6 && !transport.empty() &&
                     transport[0] >= net::kMldQuery;
    if (ndp) return ToStack(std::move(frame));
    if (src != NatAddresses::Get().guest6) return;
  } else if (eth->type() == net::kEthArp) {
    return ToStack(std::move(frame));
  } else {
    return;
  }
  switch (protocol) {
    case net::kProtoTcp:
      if (transport.size() < net::kTcpHeader) return;
      return tcp_->FrameIn({src, net::Load16(transport.data()), 0},
                           {dst, net::Load16(transport.data() + 2), 0}, transport[13],
                           datagram, std::move(frame));
    case net::kProtoUdp:
      return udp_->FrameIn(src, dst, ttl, datagram, transport, frame);
    case net::kProtoIcmp:
    case net::kProtoIcmpv6: {
      net::SockAddr host;
      if (Translate({dst, 1, 0}, &host) == Verdict::kStack) return ToStack(std::move(frame));
      return ping_->FrameIn(src, dst, transport);
    }
    default:
      if (dst.is_v6()) return;
      return ErrorToGuest(NatAddresses::Get().gateway4, src, net::kIcmpUnreachable,
                          net::kIcmpProtoUnreach, datagram);
  }
}

void Nat::ToGuest(const net::IpAddr& src, const net::IpAddr& dst, uint8_t protocol,
                  net::Packet packet, uint8_t ttl) {
  const NatAddresses& a = NatAddresses::Get();
  net::IpHeader header;
  header.src = src;
  header.dst = dst;
  header.protocol = protocol;
  header.ttl = ttl;
  header.id = next_id_++;
  const size_t size = packet.size();
  header.Write(packet.Prepend(header.size()), size);
  net::WriteEthernet(packet.Prepend(net::kEthHeader), a.guest_mac, a.gateway_mac,
                     src.is_v4() ? net::kEthIpv4 : net::kEthIpv6);
  link_->Transmit(std::move(packet));
}

void Nat::ErrorToGuest(const net::IpAddr& from, const net::IpAddr& guest, uint8_t type,
                       uint8_t code, net::ByteSpan about) {
  // RFC 792 wants the header and 8 bytes, RFC 4443 as much as fits; both are served by this.
  constexpr size_t kQuote = 500;
  net::Packet p{net::Chain(net::Slice::Copy(about.first(std::min(about.size(), kQuote))))};
  uint8_t* h = p.Prepend(net::kIcmpHeader);
  net::WriteIcmp(h, type, code, 0);
  net::Checksum sum;
  const uint8_t protocol = from.is_v4() ? net::kProtoIcmp : net::kProtoIcmpv6;
  if (from.is_v6()) sum.AddPseudo(from, guest, protocol, static_cast<uint32_t>(p.size()));
  sum.Add({h, net::kIcmpHeader});
  for (const net::Slice& s : p.payload.slices()) sum.Add(s.span());
  net::Store16(h + 2, sum.Finish());
  ToGuest(from, guest, protocol, std::move(p));
}

}  // namespace ringwall
