// sockaddr_in and sockaddr_in6 from and to the stack's addresses.
#ifndef RINGWALL_FS_INET_ADDRESS_H_
#define RINGWALL_FS_INET_ADDRESS_H_

#include "fs/socket/socket.h"
#include "netstack/wire/address.h"

namespace ringwall {

// struct sockaddr_in; port and address in network order.
struct SockAddrInAbi {
  uint16_t family = 2;
  uint16_t port = 0;
  uint8_t addr[4] = {};
  uint8_t zero[8] = {};
};
static_assert(sizeof(SockAddrInAbi) == 16);

// struct sockaddr_in6.
struct SockAddrIn6Abi {
  uint16_t family = 10;
  uint16_t port = 0;
  uint32_t flow_info = 0;
  uint8_t addr[16] = {};
  uint32_t scope = 0;
};
static_assert(sizeof(SockAddrIn6Abi) == 28);
inline constexpr uint32_t kOldSockAddrIn6 = 24;  // SIN6_LEN_RFC2133: without the scope

constexpr uint16_t SwapPort(uint16_t p) { return static_cast<uint16_t>(p << 8 | p >> 8); }

// Preconditions: the size was checked.
net::SockAddr FromSockAddrIn(const SocketAddress& a);
net::SockAddr FromSockAddrIn6(const SocketAddress& a);
// As a socket of the family shows it.
SocketAddress ToSocketAddress(int family, const net::SockAddr& a);

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_ADDRESS_H_
