#include "runsc/net/nat_ports.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runsc/net/nat_tcp.h"
#include "runsc/net/nat_udp.h"

namespace ringwall {
namespace {

constexpr int kBacklog = 1024;

// 0 or the errno.
int Bind(const net::SockAddr& at, bool udp, UniqueFd* out) {
  UniqueFd fd(::socket(at.addr.is_v4() ? AF_INET : AF_INET6,
                       (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return errno;
  const int one = 1;
  // As the guest's own stack, which knows whose connections are still in TIME-WAIT.
  if (!udp) setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (at.addr.is_v6()) setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
  HostSockAddr address(at);
  if (::bind(fd.get(), address.raw(), address.size) != 0) return errno;
  if (!udp && ::listen(fd.get(), kBacklog) != 0) return errno;
  *out = std::move(fd);
  return 0;
}

}  // namespace

NatPorts::NatPorts(Nat& nat, NatTcp& tcp, NatUdp& udp, UniqueFd socket)
    : nat_(nat), tcp_(tcp), udp_(udp), socket_(std::move(socket)) {}

void NatPorts::OnEvents(uint32_t) {
  // Level-triggered: one at a time, as the Sentry asks.
  PortRequest request;
  const ssize_t n = ::recvfrom(socket_.get(), &request, sizeof(request), MSG_DONTWAIT, nullptr, nullptr);
  if (n <= 0) {
    if (n == 0) nat_.Unwatch(socket_.get());  // the Sentry is gone; the link says so, too
    return;
  }
  PortReply reply;
  reply.error = n == sizeof(request) ? Handle(request) : EINVAL;
  ::sendto(socket_.get(), &reply, sizeof(reply), MSG_DONTWAIT | MSG_NOSIGNAL, nullptr, 0);
}

int NatPorts::Handle(const PortRequest& request) {
  const std::optional<net::SockAddr> at = request.Where();
  if (!at) return EINVAL;
  switch (static_cast<PortRequest::Op>(request.op)) {
    case PortRequest::Op::kOpen:
      return Open(*at, request.udp != 0, request.v6_only != 0);
    case PortRequest::Op::kClose:
      return Close(*at, request.udp != 0);
  }
  return EINVAL;
}

int NatPorts::Open(const net::SockAddr& at, bool udp, bool v6_only) {
  const Key key{at, udp};
  if (const auto it = ports_.find(key); it != ports_.end()) {
    it->second.users++;  // SO_REUSEPORT: the guest's stack has checked that
    return 0;
  }
  if (ports_.size() >= kMostPorts) return ENOBUFS;
  UniqueFd own, v4;
  // An IPv6 socket for all addresses hears IPv4, too, which may be all that the host has.
  const bool both = at.addr.is_v6() && at.addr.IsAny() && !v6_only;
  const int error = Bind(at, udp, &own);
  if (error != 0 && !(both && error == EAFNOSUPPORT)) return error;
  if (both) {
    const int error4 = Bind({net::IpAddr::Any(net::Family::kV4), at.port, 0}, udp, &v4);
    if (error4 != 0) return error4;
  }
  Port port;
  port.users = 1;
  for (UniqueFd* fd : {&own, &v4}) {
    if (!*fd) continue;
    port.fds.push_back(fd->get());
    if (udp) {
      udp_.Publish(std::move(*fd), at.port);
    } else {
      tcp_.Publish(std::move(*fd), at.port);
    }
  }
  ports_[key] = std::move(port);
  return 0;
}

int NatPorts::Close(const net::SockAddr& at, bool udp) {
  const auto it = ports_.find(Key{at, udp});
  if (it == ports_.end()) return EINVAL;
  if (--it->second.users > 0) return 0;
  for (const int fd : it->second.fds) {
    if (udp) {
      udp_.Unpublish(fd);
    } else {
      tcp_.Unpublish(fd);
    }
  }
  ports_.erase(it);
  return 0;
}

}  // namespace ringwall
