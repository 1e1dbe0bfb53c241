#include "runsc/net/attach.h"

#include <pthread.h>
#include <signal.h>

#include <thread>

#include "runsc/net/frame_link.h"
#include "sentry/base/log.h"

namespace ringwall {
namespace {

// No signal is ever for a link's thread.
void StartThread(Ref<FrameLink> link, std::string name) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([link = std::move(link), name = std::move(name)] {
    link->Run();
    RW_LOG(kWarning, "network: the other side of interface %s is gone", name.c_str());
  }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

net::RouteType ToStack(RouteConfig::Type type) {
  switch (type) {
    case RouteConfig::Type::kUnicast: return net::RouteType::kUnicast;
    case RouteConfig::Type::kBlackhole: return net::RouteType::kBlackhole;
    case RouteConfig::Type::kUnreachable: return net::RouteType::kUnreachable;
    case RouteConfig::Type::kProhibit: return net::RouteType::kProhibit;
  }
  return net::RouteType::kUnicast;
}

HostResult<net::IfIndex> AddLink(net::Stack& stack, LinkConfig& config) {
  Ref<FrameLink> link = MakeRef<FrameLink>(std::move(config.fd), std::move(config.wake));
  net::InterfaceConfig interface;
  interface.name = config.name;
  interface.mac = config.mac;
  interface.mtu = config.mtu;
  interface.tx_checksum = interface.tx_tso = config.offload;
  interface.rx_checksum = config.rx_checked;
  net::NetResult<net::IfIndex> index = stack.AddInterface(interface, link);
  const auto failed = [&](const char* what, net::NetError error) {
    return HostError::WithErrno(net::ToErrno(error).value(), what, config.name);
  };
  if (!index.ok()) return failed("add the interface", index.error());
  link->Attach(stack, *index);
  for (const net::IpPrefix& address : config.addresses) {
    net::NetResult<void> added = stack.AddAddress(*index, address, /*no_dad=*/true);
    if (!added.ok()) return failed("add an address to", added.error());
  }
  net::NetResult<void> up = stack.SetUp(*index, true);
  if (!up.ok()) return failed("set up", up.error());
  for (const auto& [addr, mac] : config.neighbours) {
    net::NetResult<void> set = stack.SetNeighbour(*index, addr, mac);
    if (!set.ok()) return failed("set a neighbour of", set.error());
  }
  StartThread(std::move(link), config.name);
  return *index;
}

}  // namespace

HostResult<void> AttachNetwork(net::Stack& stack, NetworkConfig config) {
  std::vector<net::IfIndex> indices;
  for (LinkConfig& link : config.links) {
    const net::IfIndex index = TRY(AddLink(stack, link));
    indices.push_back(index);
  }
  // Gateways must be reachable: routes on the link come first.
  for (const bool gateways : {false, true}) {
    for (const RouteConfig& r : config.routes) {
      if (r.gateway.IsNone() == gateways) continue;
      net::RouteEntry route;
      route.dst = r.dst;
      route.gateway = r.gateway;
      if (r.link >= 0 && static_cast<size_t>(r.link) < indices.size()) {
        route.oif = indices[static_cast<size_t>(r.link)];
      }
      route.preferred_src = r.source;
      route.metric = r.metric;
      route.table = r.table;
      route.mtu = r.mtu;
      route.protocol = r.protocol;
      route.onlink = r.onlink;
      route.type = ToStack(r.type);
      net::NetResult<void> added = stack.AddRoute(route);
      // Addresses brought their own routes along.
      if (added.ok() || added.error() == net::NetError::kExists) continue;
      RW_LOG(kWarning, "network: the route to %s/%d cannot be added: errno %d",
             r.dst.addr.ToString().c_str(), r.dst.len, net::ToErrno(added.error()).value());
    }
  }
  return {};
}

}  // namespace ringwall
