#include "fs/inet/address.h"

namespace ringwall {

net::SockAddr FromSockAddrIn(const SocketAddress& a) {
  const SockAddrInAbi in = a.As<SockAddrInAbi>();
  return {net::IpAddr::V4(in.addr), SwapPort(in.port), 0};
}

net::SockAddr FromSockAddrIn6(const SocketAddress& a) {
  const SockAddrIn6Abi in = a.As<SockAddrIn6Abi>();
  return {net::IpAddr::V6(in.addr), SwapPort(in.port),
          a.size >= sizeof(SockAddrIn6Abi) ? in.scope : 0};
}

SocketAddress ToSocketAddress(int family, const net::SockAddr& a) {
  if (family == AF_INET) {
    SockAddrInAbi out;
    out.port = SwapPort(a.port);
    const net::IpAddr v4 = a.addr.Unmapped();
    memcpy(out.addr, v4.data(), 4);
    return SocketAddress::Of(out);
  }
  SockAddrIn6Abi out;
  out.port = SwapPort(a.port);
  const net::IpAddr v6 = a.addr.is_v4() ? a.addr.Mapped() : a.addr;
  memcpy(out.addr, v6.data(), 16);
  out.scope = a.scope;
  return SocketAddress::Of(out);
}

}  // namespace ringwall
