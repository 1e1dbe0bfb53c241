// What the Sentry is told about its network: interfaces with their descriptors, addresses, routes and
// neighbours. Made by the CLI, sent over the control channel or in BootArgs.
#ifndef RINGWALL_RUNSC_NET_CONFIG_H_
#define RINGWALL_RUNSC_NET_CONFIG_H_

#include <string>
#include <utility>
#include <vector>

#include "netstack/wire/address.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

struct LinkConfig {
  std::string name;
  net::MacAddr mac;
  uint32_t mtu = 1500;
  bool offload = false;     // the other side segments and fills in checksums
  bool rx_checked = false;  // every frame in has a good checksum
  std::vector<net::IpPrefix> addresses;
  std::vector<std::pair<net::IpAddr, net::MacAddr>> neighbours;
  UniqueFd fd;    // see frame_link.h
  UniqueFd wake;  // an eventfd for its thread
};

struct RouteConfig {
  enum class Type : uint8_t { kUnicast, kBlackhole, kUnreachable, kProhibit };
  net::IpPrefix dst;
  net::IpAddr gateway;  // none: on link
  net::IpAddr source;   // none: chosen
  int link = -1;        // index in NetworkConfig::links; -1: the loopback
  uint32_t metric = 0;
  uint32_t table = 254;
  uint32_t mtu = 0;
  uint8_t protocol = 3;
  bool onlink = false;
  Type type = Type::kUnicast;
};

struct NetworkConfig {
  std::vector<LinkConfig> links;
  std::vector<RouteConfig> routes;
};

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_NET_CONFIG_H_
