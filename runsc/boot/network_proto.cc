// NetworkConfig over the control channel.
#include <cstring>

#include "runsc/boot/control.h"

namespace ringwall {
namespace {

std::string Bytes(const net::IpAddr& a) {
  return std::string(reinterpret_cast<const char*>(a.data()), a.size());
}

Result<net::IpAddr> Address(const std::string& bytes) {
  const uint8_t* b = reinterpret_cast<const uint8_t*>(bytes.data());
  if (bytes.empty()) return net::IpAddr();
  if (bytes.size() == 4) return net::IpAddr::V4(b);
  if (bytes.size() == 16) return net::IpAddr::V6(b);
  return Errno(EINVAL);
}

Result<net::MacAddr> Mac(const std::string& bytes) {
  if (bytes.size() != 6) return Errno(EINVAL);
  return net::MacAddr::From(reinterpret_cast<const uint8_t*>(bytes.data()));
}

Result<net::IpPrefix> Prefix(const control::IpPrefix& in) {
  net::IpPrefix out;
  out.addr = TRY(Address(in.addr()));
  if (out.addr.IsNone() || in.len() > out.addr.size() * 8) return Errno(EINVAL);
  out.len = static_cast<uint8_t>(in.len());
  return out;
}

Result<LinkConfig> Link(const control::Network::Link& in) {
  LinkConfig out;
  out.name = in.name();
  out.mac = TRY(Mac(in.mac()));
  out.mtu = in.mtu();
  out.offload = in.offload();
  out.rx_checked = in.rx_checked();
  for (const control::IpPrefix& a : in.addresses()) {
    const net::IpPrefix prefix = TRY(Prefix(a));
    out.addresses.push_back(prefix);
  }
  for (const control::Neighbour& n : in.neighbours()) {
    const net::IpAddr addr = TRY(Address(n.addr()));
    const net::MacAddr mac = TRY(Mac(n.mac()));
    out.neighbours.emplace_back(addr, mac);
  }
  return out;
}

Result<RouteConfig> Route(const control::Network::Route& in) {
  RouteConfig out;
  out.dst = TRY(Prefix(in.dst()));
  out.gateway = TRY(Address(in.gateway()));
  out.source = TRY(Address(in.source()));
  out.link = in.link();
  out.metric = in.metric();
  out.table = in.table();
  out.mtu = in.mtu();
  out.protocol = static_cast<uint8_t>(in.protocol());
  out.onlink = in.onlink();
  if (in.type() > static_cast<uint32_t>(RouteConfig::Type::kProhibit)) return Errno(EINVAL);
  out.type = static_cast<RouteConfig::Type>(in.type());
  return out;
}

}  // namespace

void ToProto(const NetworkConfig& config, control::Network* out, std::vector<int>* fds) {
  for (const LinkConfig& link : config.links) {
    control::Network::Link* l = out->add_links();
    l->set_name(link.name);
    l->set_mac(std::string(reinterpret_cast<const char*>(link.mac.b.data()), 6));
    l->set_mtu(link.mtu);
    l->set_offload(link.offload);
    l->set_rx_checked(link.rx_checked);
    for (const net::IpPrefix& a : link.addresses) {
      control::IpPrefix* p = l->add_addresses();
      p->set_addr(Bytes(a.addr));
      p->set_len(a.len);
    }
    for (const auto& [addr, mac] : link.neighbours) {
      control::Neighbour* n = l->add_neighbours();
      n->set_addr(Bytes(addr));
      n->set_mac(std::string(reinterpret_cast<const char*>(mac.b.data()), 6));
    }
    fds->push_back(link.fd.get());
    fds->push_back(link.wake.get());
  }
  for (const RouteConfig& route : config.routes) {
    control::Network::Route* r = out->add_routes();
    r->mutable_dst()->set_addr(Bytes(route.dst.addr));
    r->mutable_dst()->set_len(route.dst.len);
    r->set_gateway(Bytes(route.gateway));
    r->set_source(Bytes(route.source));
    r->set_link(route.link);
    r->set_metric(route.metric);
    r->set_table(route.table);
    r->set_mtu(route.mtu);
    r->set_protocol(route.protocol);
    r->set_onlink(route.onlink);
    r->set_type(static_cast<uint32_t>(route.type));
  }
}

Result<NetworkConfig> FromProto(const control::Network& in, std::vector<UniqueFd> fds) {
  NetworkConfig out;
  if (fds.size() != 2 * static_cast<size_t>(in.links_size())) return Errno(EINVAL);
  for (int i = 0; i < in.links_size(); i++) {
    LinkConfig link = TRY(Link(in.links(i)));
    link.fd = std::move(fds[2 * static_cast<size_t>(i)]);
    link.wake = std::move(fds[2 * static_cast<size_t>(i) + 1]);
    out.links.push_back(std::move(link));
  }
  for (const control::Network::Route& r : in.routes()) {
    const RouteConfig route = TRY(Route(r));
    out.routes.push_back(route);
  }
  return out;
}

}  // namespace ringwall
