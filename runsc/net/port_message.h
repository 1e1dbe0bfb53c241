// What the Sentry and its network helper say to each other about ports of --network=host: one request
// and its answer at a time, over a SOCK_SEQPACKET pair of their own.
#ifndef RINGWALL_RUNSC_NET_PORT_MESSAGE_H_
#define RINGWALL_RUNSC_NET_PORT_MESSAGE_H_

#include <cstdint>
#include <cstring>
#include <optional>

#include "netstack/wire/address.h"

namespace ringwall {

struct PortRequest {
  enum class Op : uint8_t { kOpen = 1, kClose = 2 };
  uint8_t op = 0;
  uint8_t udp = 0;
  uint8_t v6_only = 0;
  uint8_t family = 0;  // 4 or 6
  uint16_t port = 0;   // of the host's byte order
  uint16_t pad = 0;
  uint8_t addr[16] = {};

  static PortRequest Of(Op op, const net::SockAddr& at, bool udp, bool v6_only) {
    PortRequest r;
    r.op = static_cast<uint8_t>(op);
    r.udp = udp ? 1 : 0;
    r.v6_only = v6_only ? 1 : 0;
    r.family = at.addr.is_v4() ? 4 : 6;
    r.port = at.port;
    std::memcpy(r.addr, at.addr.data(), at.addr.is_v4() ? 4 : 16);
    return r;
  }
  // nullopt when it makes no sense.
  std::optional<net::SockAddr> Where() const {
    if (port == 0 || udp > 1 || v6_only > 1 || pad != 0) return std::nullopt;
    if (family == 4) return net::SockAddr{net::IpAddr::V4(addr), port, 0};
    if (family == 6) return net::SockAddr{net::IpAddr::V6(addr), port, 0};
    return std::nullopt;
  }
};
static_assert(sizeof(PortRequest) == 24);

struct PortReply {
  int32_t error = 0;  // a Linux errno
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_NET_PORT_MESSAGE_H_
