// What an IPv4 address means for its subnet (net/ipv4/fib_frontend.c: fib_add_ifaddr()).
#ifndef RINGWALL_NETSTACK_IP_SUBNET_H_
#define RINGWALL_NETSTACK_IP_SUBNET_H_

#include <vector>

#include "netstack/link/interface.h"

namespace ringwall::net {

// The address that an address of one's own is spoken to from: a secondary one has the first of its subnet.
inline IpAddr SourceOfLocal(const std::vector<InterfaceAddress>& all, const InterfaceAddress& a) {
  if (!a.secondary) return a.prefix.addr;
  for (const InterfaceAddress& o : all) {
    if (!o.secondary && o.prefix.addr.is_v4() && o.prefix.len == a.prefix.len &&
        o.prefix.Network() == a.prefix.Network()) {
      return o.prefix.addr;
    }
  }
  return a.prefix.addr;
}

// The broadcast address that a subnet has whether or not one was set; none for a secondary address's.
inline std::optional<IpAddr> SubnetBroadcast(const InterfaceAddress& a) {
  if (a.secondary || a.prefix.len >= 31) return std::nullopt;
  return a.prefix.Broadcast();
}

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_IP_SUBNET_H_
