// NatPing: echo requests of the guest, by one ICMP socket per family: a raw one that a privileged
// caller opened, or an unprivileged ping socket where net.ipv4.ping_group_range allows such.
#ifndef RINGWALL_RUNSC_NET_NAT_PING_H_
#define RINGWALL_RUNSC_NET_NAT_PING_H_

#include "runsc/net/nat.h"

namespace ringwall {

class NatPing {
 public:
  NatPing(Nat& nat, UniqueFd raw4, UniqueFd raw6);
  ~NatPing();
  void FrameIn(const net::IpAddr& src, const net::IpAddr& dst, net::ByteSpan message);

 private:
  class Socket;
  Nat& nat_;
  std::array<std::unique_ptr<Socket>, 2> sockets_;  // IPv4, IPv6
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_NET_NAT_PING_H_
