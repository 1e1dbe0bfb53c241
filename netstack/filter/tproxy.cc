#include "netstack/filter/tproxy.h"

#include "netstack/stack.h"
#include "netstack/tcp/listen.h"
#include "netstack/tcp/protocol.h"
#include "netstack/udp/endpoint.h"

namespace ringwall::net {
namespace {

FourTuple TupleOf(const FilterPacket& p) { return {p.dst(), p.src(), p.dst_port(), p.src_port()}; }

FoundSocket About(const Endpoint& e, bool any_address) {
  FoundSocket f;
  f.whole = true;
  f.transparent = e.flag(Option::kTransparent);
  f.any_address = any_address;
  f.mark = static_cast<uint32_t>(e.opt(Option::kMark));
  return f;
}

// nf_tproxy_laddr4(): the first address of the interface, else the packet's own destination.
IpAddr AddressAt(Stack& stack, const FilterPacket& p) {
  Interface* in = stack.FindInterface(p.in);
  if (in == nullptr) return p.dst();
  for (const InterfaceAddress& a : in->addresses) {
    const IpAddr& own = a.prefix.addr;
    if (own.is_v4() == p.is_v4() && !(own.is_v6() && own.IsLinkLocal())) return own;
  }
  return p.dst();
}

}  // namespace

std::optional<FoundSocket> FindSocketOf(Stack& stack, FilterPacket& p) {
  if (!p.has_ports()) return std::nullopt;
  if (p.protocol() == kProtoUdp) {
    const UdpEndpoint* e =
        stack.udp().Find(p.src(), p.src_port(), p.dst(), p.dst_port(), p.in, nullptr);
    if (e == nullptr) return std::nullopt;
    return About(*e, e->any_address());
  }
  if (p.protocol() != kProtoTcp) return std::nullopt;
  const FourTuple tuple = TupleOf(p);
  if (const TcpEndpoint* e = stack.tcp().FindConnection(tuple)) return About(*e, false);
  if (const TcpEndpoint* e = stack.tcp().FindRequest(tuple)) {
    p.meta.socket_addr = e->binding()->addr.IsAny() ? AddressAt(stack, p) : e->binding()->addr;
    p.meta.socket_port = e->local().port;
    p.meta.first_port = p.dst_port();
    FoundSocket f = About(*e, false);
    f.whole = false;
    return f;
  }
  const TcpEndpoint* e = stack.tcp().FindListener(tuple, p.in, Chain());
  if (e == nullptr) return std::nullopt;
  return About(*e, e->binding()->addr.IsAny());
}

bool GiveToSocket(Stack& stack, FilterPacket& p, IpAddr addr, uint16_t port) {
  if (!p.has_ports()) return false;
  const bool tcp = p.protocol() == kProtoTcp;
  if (!tcp && p.protocol() != kProtoUdp) return false;
  if (addr.IsNone() || addr.IsAny()) addr = AddressAt(stack, p);
  if (port == 0) port = p.dst_port();
  if (tcp) {
    if (const TcpEndpoint* e = stack.tcp().FindConnection(TupleOf(p))) return e->flag(Option::kTransparent);
    const TcpEndpoint* e = stack.tcp().FindListener({addr, p.src(), port, p.src_port()}, p.in, Chain());
    if (e == nullptr || !e->flag(Option::kTransparent)) return false;
  } else {
    const UdpEndpoint* e = stack.udp().Find(p.src(), p.src_port(), p.dst(), p.dst_port(), p.in, nullptr);
    if (e != nullptr && e->connected()) return e->flag(Option::kTransparent);
    e = stack.udp().Find(p.src(), p.src_port(), addr, port, p.in, nullptr);
    if (e == nullptr || e->connected() || !e->flag(Option::kTransparent)) return false;
  }
  p.meta.socket_addr = addr;
  p.meta.socket_port = port;
  p.meta.first_port = p.dst_port();
  return true;
}

}  // namespace ringwall::net
