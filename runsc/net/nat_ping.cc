#include "runsc/net/nat_ping.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cstring>

#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"
#include "sentry/base/log.h"

namespace ringwall {
namespace {

constexpr size_t kLargest = 65536;
constexpr size_t kPending = 256;
constexpr int kAtOnce = 32;

}  // namespace

// Every request gets a sequence number of ours, by which its answer is known.
class NatPing::Socket final : public NatWatcher {
 public:
  Socket(Nat& nat, UniqueFd fd, bool v4, bool raw)
      : nat_(nat), fd_(std::move(fd)), v4_(v4), raw_(raw), id_(static_cast<uint16_t>(getpid())) {}
  int fd() const { return fd_.get(); }

  void Send(const net::IpAddr& src, const net::IpAddr& dst, const net::IcmpView& echo) {
    Pending& p = pending_[next_ % kPending];
    p = {true, src, dst, echo.echo_id(), echo.echo_seq(), next_};
    std::vector<uint8_t> message(echo.message().begin(), echo.message().end());
    net::WriteIcmp(message.data(), v4_ ? net::kIcmpEcho : net::kIcmp6Echo, 0,
                   static_cast<uint32_t>(id_) << 16 | next_);
    // Over IPv6, and of ping sockets, the kernel fills it in.
    if (v4_) net::Store16(message.data() + 2, net::ChecksumOf(message));
    next_++;
    HostSockAddr to(net::SockAddr{dst, 0, 0});
    ::sendto(fd_.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL, to.raw(),
             to.size);
  }

  void OnEvents(uint32_t) override {
    if (!buffer_) buffer_ = std::make_unique<uint8_t[]>(kLargest);
    for (int i = 0; i < kAtOnce; i++) {
      HostSockAddr from;
      const ssize_t n = ::recvfrom(fd_.get(), buffer_.get(), kLargest, MSG_DONTWAIT, from.raw(),
                                   &from.size);
      if (n < 0) return;
      net::ByteSpan message(buffer_.get(), static_cast<size_t>(n));
      if (raw_ && v4_) {
        const std::optional<net::Ipv4View> ip = net::Ipv4View::Parse(message);
        if (!ip) continue;
        message = ip->payload();
      }
      const std::optional<net::IcmpView> icmp = net::IcmpView::Parse(message);
      if (!icmp || icmp->type() != (v4_ ? net::kIcmpEchoReply : net::kIcmp6EchoReply)) continue;
      if (raw_ && icmp->echo_id() != id_) continue;  // of another program's ping
      Answer(from.Get().addr, *icmp);
    }
  }

 private:
  struct Pending {
    bool waits = false;
    net::IpAddr guest, to;
    uint16_t id = 0, seq = 0, ours = 0;
  };

  void Answer(const net::IpAddr& from, const net::IcmpView& reply) {
    Pending& p = pending_[reply.echo_seq() % kPending];
    if (!p.waits || p.ours != reply.echo_seq() || p.to != from) return;
    p.waits = false;
    net::Packet packet{net::Chain(net::Slice::Copy(reply.body()))};
    uint8_t* h = packet.Prepend(net::kIcmpHeader);
    net::WriteIcmp(h, reply.type(), 0, static_cast<uint32_t>(p.id) << 16 | p.seq);
    const uint8_t protocol = v4_ ? net::kProtoIcmp : net::kProtoIcmpv6;
    net::Checksum sum;
    if (!v4_) sum.AddPseudo(p.to, p.guest, protocol, static_cast<uint32_t>(packet.size()));
    sum.Add({h, net::kIcmpHeader});
    sum.Add(reply.body());
    net::Store16(h + 2, sum.Finish());
    nat_.ToGuest(p.to, p.guest, protocol, std::move(packet));
  }

  Nat& nat_;
  const UniqueFd fd_;
  const bool v4_, raw_;
  const uint16_t id_;
  uint16_t next_ = 1;
  std::array<Pending, kPending> pending_;
  std::unique_ptr<uint8_t[]> buffer_;
};

NatPing::NatPing(Nat& nat, UniqueFd raw4, UniqueFd raw6) : nat_(nat) {
  UniqueFd raw[2] = {std::move(raw4), std::move(raw6)};
  for (size_t i = 0; i < 2; i++) {
    const bool v4 = i == 0;
    const bool is_raw = raw[i].valid();
    UniqueFd fd = std::move(raw[i]);
    if (!fd) {
      fd.reset(::socket(v4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                        v4 ? static_cast<int>(IPPROTO_ICMP) : static_cast<int>(IPPROTO_ICMPV6)));
    }
    if (!fd) {
      RW_LOG(kDebug, "network: no ping over IPv%d: the host grants no ICMP socket", v4 ? 4 : 6);
      continue;
    }
    sockets_[i] = std::make_unique<Socket>(nat, std::move(fd), v4, is_raw);
    nat.Watch(sockets_[i]->fd(), EPOLLIN, sockets_[i].get());
  }
}

NatPing::~NatPing() = default;

void NatPing::FrameIn(const net::IpAddr& src, const net::IpAddr& dst, net::ByteSpan message) {
  const std::optional<net::IcmpView> icmp = net::IcmpView::Parse(message);
  const bool v4 = dst.is_v4();
  if (!icmp || icmp->type() != (v4 ? net::kIcmpEcho : net::kIcmp6Echo)) return;
  net::SockAddr host;
  if (nat_.Translate({dst, 1, 0}, &host) != Nat::Verdict::kHost) return;
  if (sockets_[v4 ? 0 : 1]) sockets_[v4 ? 0 : 1]->Send(src, dst, *icmp);
}

}  // namespace ringwall
