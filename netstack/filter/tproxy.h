// Sockets as the filter asks for them: TPROXY gives a packet to one that its addresses do not lead to,
// `socket` matches what has one. Compare Linux's nf_tproxy_ipv4.c and nf_socket_ipv4.c.
#ifndef RINGWALL_NETSTACK_FILTER_TPROXY_H_
#define RINGWALL_NETSTACK_FILTER_TPROXY_H_

#include <optional>

#include "netstack/filter/packet.h"

namespace ringwall::net {

class Stack;

struct FoundSocket {
  bool whole = false;  // no connection that is still being made
  bool transparent = false, any_address = false;
  uint32_t mark = 0;
};

// The socket that a TCP or UDP packet is for by its addresses. A connection that is being made is noted in
// the packet, whose addresses may not lead to the listener.
std::optional<FoundSocket> FindSocketOf(Stack& stack, FilterPacket& p);

// Gives the packet to its connection, or to the transparent socket at addr:port; an address of none is that of
// the interface it came in by, a port of 0 its own. False: there is no such socket.
bool GiveToSocket(Stack& stack, FilterPacket& p, IpAddr addr, uint16_t port);

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_FILTER_TPROXY_H_
