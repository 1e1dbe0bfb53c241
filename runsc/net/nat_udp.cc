#include "runsc/net/nat_udp.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/udp.h"

namespace ringwall {
namespace {

constexpr size_t kLargestDatagram = 65536;
constexpr size_t kMostPeers = 64;
constexpr int kAtOnce = 32;
const net::Duration kIdle = net::Duration::Seconds(120);  // nf_conntrack_udp_timeout_stream

net::IpAddr GatewayOf(const net::IpAddr& a) {
  return a.is_v4() ? NatAddresses::Get().gateway4 : NatAddresses::Get().gateway6;
}

}  // namespace

class NatUdp::Flow final : public NatWatcher {
 public:
  Flow(NatUdp& udp, const Key& key, UniqueFd fd, bool published)
      : udp_(udp), key_(key), fd_(std::move(fd)), published_(published) {}

  const Key& key() const { return key_; }
  int fd() const { return fd_.get(); }
  bool published() const { return published_; }

  void Send(const net::SockAddr& to, const net::SockAddr& host, uint8_t ttl, net::ByteSpan payload) {
    Remember(host, to);
    HostSockAddr address(host);
    iovec v = {const_cast<uint8_t*>(payload.data()), payload.size()};
    msghdr message = {};
    message.msg_name = address.raw();
    message.msg_namelen = address.size;
    message.msg_iov = &v;
    message.msg_iovlen = 1;
    // The guest's choice counts, as traceroute wants it; this helper is the first hop.
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    const int hops = std::max(ttl - 1, 1);
    if (ttl != 64) {
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = host.addr.is_v4() ? static_cast<int>(IPPROTO_IP) : static_cast<int>(IPPROTO_IPV6);
      c->cmsg_type = host.addr.is_v4() ? IP_TTL : IPV6_HOPLIMIT;
      c->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(c), &hops, sizeof(hops));
    }
    ssize_t n = -1;
    // An earlier datagram's error comes first, once.
    for (int tries = 0; n < 0 && tries < 2; tries++) {
      n = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n < 0 && errno != ECONNREFUSED && errno != EHOSTUNREACH) break;
    }
    if (n >= 0 || (errno != ENETUNREACH && errno != EHOSTUNREACH)) return;
    Tell(GatewayOf(to.addr), to, errno == ENETUNREACH ? 0 : 1);
  }

  void OnEvents(uint32_t events) override {
    if ((events & EPOLLERR) != 0) TakeErrors();
    if (!udp_.receive_) udp_.receive_ = std::make_unique<uint8_t[]>(kLargestDatagram);
    for (int i = 0; i < kAtOnce; i++) {
      HostSockAddr from;
      const ssize_t n = ::recvfrom(fd_.get(), udp_.receive_.get(), kLargestDatagram, MSG_DONTWAIT,
                                   from.raw(), &from.size);
      if (n < 0) {
        if (errno == EAGAIN || errno == EINTR) return;
        continue;  // the socket's pending error
      }
      Receive(from.Get(), {udp_.receive_.get(), static_cast<size_t>(n)});
    }
  }

  net::TimePoint used;
  std::list<Flow*>::iterator place;

 private:
  struct Peer {
    net::SockAddr host;   // as the host's sockets name it
    net::SockAddr guest;  // as the guest does
  };

  void Remember(const net::SockAddr& host, const net::SockAddr& guest) {
    for (const Peer& p : peers_) {
      if (p.host == host && p.guest == guest) return;
    }
    if (peers_.size() >= kMostPeers) peers_.erase(peers_.begin());
    peers_.push_back({host, guest});
  }

  void Receive(const net::SockAddr& from, net::ByteSpan payload) {
    net::SockAddr source;
    // The newest peer of that name: the gateway's port 53 and a resolver may be asked both.
    const auto peer = std::find_if(peers_.rbegin(), peers_.rend(),
                                   [&](const Peer& p) { return p.host == from; });
    if (peer != peers_.rend()) {
      source = peer->guest;
    } else if (published_) {
      source = from;
      if (source.addr.IsLoopback()) source.addr = GatewayOf(source.addr);
      Remember(from, source);
    } else {
      return;
    }
    const net::IpAddr& guest = key_.guest;
    if (source.addr.family() != guest.family() || payload.size() > 65507) return;
    net::Packet p{net::Chain(net::Slice::Copy(payload))};
    uint8_t* h = p.Prepend(net::kUdpHeader);
    net::WriteUdp(h, source.port, key_.port, payload.size());
    net::Checksum sum;
    sum.AddPseudo(source.addr, guest, net::kProtoUdp,
                  static_cast<uint32_t>(net::kUdpHeader + payload.size()));
    sum.Add({h, net::kUdpHeader});
    sum.Add(payload);
    const uint16_t value = sum.Finish();
    net::Store16(h + 6, value == 0 ? 0xffff : value);
    udp_.nat_.ToGuest(source.addr, guest, net::kProtoUdp, std::move(p));
  }

  // What routers and peers answered to what we sent.
  void TakeErrors() {
    for (int i = 0; i < kAtOnce; i++) {
      HostSockAddr to;
      uint8_t payload[64];
      iovec v = {payload, sizeof(payload)};
      alignas(cmsghdr) char control[256];
      msghdr message = {};
      message.msg_name = to.raw();
      message.msg_namelen = to.size;
      message.msg_iov = &v;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof(control);
      if (::recvmsg(fd_.get(), &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
      for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
        sock_extended_err e;
        if (c->cmsg_len < CMSG_LEN(sizeof(e))) continue;
        std::memcpy(&e, CMSG_DATA(c), sizeof(e));
        Pass(to.Get(), e, *c);
      }
    }
  }

  void Pass(const net::SockAddr& to, const sock_extended_err& e, const cmsghdr& c) {
    const bool v4 = to.addr.is_v4();
    if (e.ee_origin != (v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6)) return;
    const auto peer = std::find_if(peers_.begin(), peers_.end(),
                                   [&](const Peer& p) { return p.host == to; });
    if (peer == peers_.end()) return;
    HostSockAddr offender;
    const size_t head = CMSG_LEN(sizeof(e));
    std::memcpy(&offender.bytes, reinterpret_cast<const char*>(&c) + head,
                std::min(c.cmsg_len - head, sizeof(sockaddr_in6)));
    net::IpAddr from = offender.Get().addr;
    if (from.family() != to.addr.family() || from.IsLoopback()) from = GatewayOf(to.addr);
    Tell(from, peer->guest, e.ee_code, e.ee_type);
  }

  // An ICMP error about a datagram to `to`.
  void Tell(const net::IpAddr& from, const net::SockAddr& to, uint8_t code, int type = -1) {
    const bool v4 = to.addr.is_v4();
    if (type < 0) {
      type = v4 ? net::kIcmpUnreachable : net::kIcmp6Unreachable;
      if (!v4 && code == 1) code = net::kIcmp6AddrUnreach;
    }
    net::IpHeader header;
    header.src = key_.guest;
    header.dst = to.addr;
    header.protocol = net::kProtoUdp;
    uint8_t quote[net::kIpv6Header + net::kUdpHeader];
    header.Write(quote, net::kUdpHeader);
    net::WriteUdp(quote + header.size(), key_.port, to.port, 0);
    udp_.nat_.ErrorToGuest(from, key_.guest, static_cast<uint8_t>(type), code,
                           {quote, header.size() + net::kUdpHeader});
  }

  NatUdp& udp_;
  const Key key_;
  const UniqueFd fd_;
  const bool published_;
  std::vector<Peer> peers_;
};

NatUdp::NatUdp(Nat& nat) : nat_(nat) {}
NatUdp::~NatUdp() = default;

void NatUdp::FrameIn(const net::IpAddr& src, const net::IpAddr& dst, uint8_t ttl,
                     net::ByteSpan datagram, net::ByteSpan transport, net::RxFrame& frame) {
  const std::optional<net::UdpView> udp = net::UdpView::Parse(transport);
  if (!udp) return;
  const net::SockAddr to{dst, udp->dst_port(), 0};
  net::SockAddr host;
  const Nat::Verdict verdict = nat_.Translate(to, &host);
  if (verdict == Nat::Verdict::kRefused) return;
  const Key key{src, udp->src_port(), host.addr.family()};
  Flow* flow = nullptr;
  if (verdict == Nat::Verdict::kStack) {
    // An answer to a client of this host at a published port, which was shown the gateway.
    auto it = flows_.find(key);
    if (it == flows_.end() || !it->second->published()) return nat_.ToStack(std::move(frame));
    flow = it->second.get();
    host.addr = net::IpAddr::Loopback(dst.family());
  } else {
    flow = FindOrOpen(key);
  }
  if (flow == nullptr) return;
  if (ttl <= 1) {
    const bool v4 = dst.is_v4();
    return nat_.ErrorToGuest(GatewayOf(dst), src,
                             v4 ? net::kIcmpTimeExceeded : net::kIcmp6TimeExceeded, 0, datagram);
  }
  flow->used = nat_.Now();
  if (!flow->published()) by_use_.splice(by_use_.end(), by_use_, flow->place);
  flow->Send(to, host, ttl, udp->payload());
}

NatUdp::Flow* NatUdp::FindOrOpen(const Key& key) {
  if (auto it = flows_.find(key); it != flows_.end()) return it->second.get();
  if (flows_.size() >= kMostFlows && !by_use_.empty()) Remove(*by_use_.front());
  const bool v4 = key.host == net::Family::kV4;
  UniqueFd fd(::socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return nullptr;
  const int one = 1;
  if (v4) {
    setsockopt(fd.get(), IPPROTO_IP, IP_RECVERR, &one, sizeof(one));
  } else {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_RECVERR, &one, sizeof(one));
  }
  auto flow = std::make_unique<Flow>(*this, key, std::move(fd), false);
  Flow* f = flow.get();
  if (!nat_.Watch(f->fd(), EPOLLIN, f)) return nullptr;
  by_use_.push_back(f);
  f->place = std::prev(by_use_.end());
  flows_[key] = std::move(flow);
  return f;
}

void NatUdp::Remove(Flow& flow) {
  by_use_.erase(flow.place);
  auto it = flows_.find(flow.key());
  nat_.Bury(std::unique_ptr<NatWatcher>(it->second.release()));
  flows_.erase(it);
}

void NatUdp::Unpublish(int fd) {
  for (auto it = flows_.begin(); it != flows_.end(); ++it) {
    if (!it->second->published() || it->second->fd() != fd) continue;
    nat_.Unwatch(fd);
    nat_.Bury(std::unique_ptr<NatWatcher>(it->second.release()));
    flows_.erase(it);
    return;
  }
}

void NatUdp::Publish(UniqueFd fd, uint16_t guest_port) {
  HostSockAddr bound;
  getsockname(fd.get(), bound.raw(), &bound.size);
  const NatAddresses& a = NatAddresses::Get();
  const bool v6 = bound.bytes.ss_family == AF_INET6;
  const Key key{v6 ? a.guest6 : a.guest4, guest_port, v6 ? net::Family::kV6 : net::Family::kV4};
  if (auto it = flows_.find(key); it != flows_.end()) {
    if (it->second->published()) return;
    Remove(*it->second);  // of a socket that had the port before
  }
  auto flow = std::make_unique<Flow>(*this, key, std::move(fd), true);
  nat_.Watch(flow->fd(), EPOLLIN, flow.get());
  flows_[key] = std::move(flow);
}

void NatUdp::Sweep(net::TimePoint now) {
  while (!by_use_.empty() && now - by_use_.front()->used > kIdle) Remove(*by_use_.front());
}

}  // namespace ringwall
