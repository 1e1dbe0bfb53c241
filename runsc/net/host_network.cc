#include "runsc/net/host_network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>

#include "runsc/net/rtnetlink.h"
#include "sentry/base/log.h"
#include "sentry/base/result.h"

namespace ringwall {
namespace {

constexpr std::string_view kAlias = "runsc ";  // with the pid and the name
constexpr size_t kMaxAlias = 255;              // IFALIASZ, less one
constexpr int kSocketBuffer = 8 << 20;  // a hundred merged segments

net::IpAddr ToAddr(int family, std::span<const uint8_t> bytes) {
  if (family == AF_INET && bytes.size() == 4) {
    return net::IpAddr::V4(bytes[0], bytes[1], bytes[2], bytes[3]);
  }
  if (family == AF_INET6 && bytes.size() == 16) return net::IpAddr::V6(bytes.data());
  return net::IpAddr();
}

template <typename Fixed>
bool Split(std::span<const uint8_t> body, Fixed* fixed, std::span<const uint8_t>* rest) {
  if (body.size() < sizeof(Fixed)) return false;
  std::memcpy(fixed, body.data(), sizeof(Fixed));
  *rest = body.subspan(std::min(body.size(), (sizeof(Fixed) + 3) / 4 * 4));
  return true;
}

// The namespace as dumps show it, keyed by the kernel's interface numbers.
struct Seen {
  NetworkConfig config;
  std::string alias;  // that another container left
  std::map<int, int> link_of;  // interface number -> place in config.links
  struct Address {
    ifaddrmsg header;
    std::vector<uint8_t> attributes;
  };
  std::vector<Address> addresses;  // to be removed
};

void SeeLink(std::span<const uint8_t> body, Seen* seen) {
  ifinfomsg info;
  std::span<const uint8_t> rest;
  if (!Split(body, &info, &rest)) return;
  if ((info.ifi_flags & IFF_LOOPBACK) != 0 || (info.ifi_flags & IFF_UP) == 0) return;
  const NetlinkAttributes attributes(rest);
  const std::string name = attributes.Text(IFLA_IFNAME);
  const std::span<const uint8_t> mac = attributes.Get(IFLA_ADDRESS);
  if (info.ifi_type != ARPHRD_ETHER || mac.size() != 6) {
    RW_LOG(kWarning, "network: interface %s is no Ethernet link; the container has it not",
           name.c_str());
    return;
  }
  if (const std::string alias = attributes.Text(IFLA_IFALIAS); alias.starts_with(kAlias)) seen->alias = alias;
  LinkConfig link;
  link.name = name;
  std::memcpy(link.mac.b.data(), mac.data(), 6);
  link.mtu = attributes.U32(IFLA_MTU, 1500);
  seen->link_of[info.ifi_index] = static_cast<int>(seen->config.links.size());
  seen->config.links.push_back(std::move(link));
}

void SeeAddress(std::span<const uint8_t> body, Seen* seen) {
  ifaddrmsg info;
  std::span<const uint8_t> rest;
  if (!Split(body, &info, &rest)) return;
  const auto link = seen->link_of.find(static_cast<int>(info.ifa_index));
  if (link == seen->link_of.end()) return;
  const NetlinkAttributes attributes(rest);
  const uint16_t which = attributes.Has(IFA_LOCAL) ? IFA_LOCAL : IFA_ADDRESS;
  const net::IpAddr addr = ToAddr(info.ifa_family, attributes.Get(which));
  if (addr.IsNone()) return;
  seen->config.links[static_cast<size_t>(link->second)].addresses.push_back(
      {addr, info.ifa_prefixlen});
  Seen::Address& remove = seen->addresses.emplace_back();
  remove.header = info;
  const std::span<const uint8_t> raw = attributes.Get(which);
  remove.attributes.assign(raw.begin(), raw.end());
}

void SeeRoute(std::span<const uint8_t> body, Seen* seen) {
  rtmsg info;
  std::span<const uint8_t> rest;
  if (!Split(body, &info, &rest)) return;
  if ((info.rtm_flags & RTM_F_CLONED) != 0 || info.rtm_src_len != 0) return;
  const NetlinkAttributes attributes(rest);
  RouteConfig route;
  switch (info.rtm_type) {
    case RTN_UNICAST: route.type = RouteConfig::Type::kUnicast; break;
    case RTN_BLACKHOLE: route.type = RouteConfig::Type::kBlackhole; break;
    case RTN_UNREACHABLE: route.type = RouteConfig::Type::kUnreachable; break;
    case RTN_PROHIBIT: route.type = RouteConfig::Type::kProhibit; break;
    default: return;
  }
  route.table = attributes.U32(RTA_TABLE, info.rtm_table);
  if (route.table == RT_TABLE_LOCAL) return;
  route.dst.len = info.rtm_dst_len;
  route.dst.addr = attributes.Has(RTA_DST)
                       ? ToAddr(info.rtm_family, attributes.Get(RTA_DST))
                       : net::IpAddr::Any(info.rtm_family == AF_INET ? net::Family::kV4
                                                                     : net::Family::kV6);
  route.gateway = ToAddr(info.rtm_family, attributes.Get(RTA_GATEWAY));
  route.source = ToAddr(info.rtm_family, attributes.Get(RTA_PREFSRC));
  route.metric = attributes.U32(RTA_PRIORITY);
  route.protocol = info.rtm_protocol;
  int interface = static_cast<int>(attributes.U32(RTA_OIF));
  route.onlink = (info.rtm_flags & RTNH_F_ONLINK) != 0;
  if (const std::span<const uint8_t> hops = attributes.Get(RTA_MULTIPATH); !hops.empty()) {
    // The stack balances nothing: the first of several next hops.
    rtnexthop hop;
    std::span<const uint8_t> more;
    if (!Split(hops, &hop, &more) || hop.rtnh_len < sizeof(hop) || hop.rtnh_len > hops.size()) {
      return;
    }
    interface = hop.rtnh_ifindex;
    route.gateway = ToAddr(info.rtm_family, NetlinkAttributes(hops.subspan(
                               sizeof(hop), hop.rtnh_len - sizeof(hop))).Get(RTA_GATEWAY));
  }
  if (route.type == RouteConfig::Type::kUnicast) {
    const auto link = seen->link_of.find(interface);
    if (link == seen->link_of.end()) return;
    route.link = link->second;
  }
  if (route.dst.addr.IsNone() || route.dst.addr.IsMulticast()) return;
  seen->config.routes.push_back(route);
}

void SeeNeighbour(std::span<const uint8_t> body, Seen* seen) {
  ndmsg info;
  std::span<const uint8_t> rest;
  if (!Split(body, &info, &rest)) return;
  const auto link = seen->link_of.find(info.ndm_ifindex);
  if (link == seen->link_of.end() || (info.ndm_state & NUD_PERMANENT) == 0) return;
  const NetlinkAttributes attributes(rest);
  const net::IpAddr addr = ToAddr(info.ndm_family, attributes.Get(NDA_DST));
  const std::span<const uint8_t> mac = attributes.Get(NDA_LLADDR);
  if (addr.IsNone() || addr.IsMulticast() || mac.size() != 6) return;
  net::MacAddr out;
  std::memcpy(out.b.data(), mac.data(), 6);
  seen->config.links[static_cast<size_t>(link->second)].neighbours.emplace_back(addr, out);
}

HostResult<void> OpenPacketSocket(int interface, LinkConfig* link) {
  link->wake.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!link->wake) return HostError::Last("make an eventfd");
  UniqueFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return HostError::Last("open a packet socket for", link->name);
  const int one = 1;
  if (setsockopt(fd.get(), SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) != 0) {
    return HostError::Last("ask for virtio-net headers on", link->name);
  }
  // Frames that the host's kernel itself sends there (Linux before 4.20 has it not).
  setsockopt(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one));
  for (const int option : {SO_RCVBUFFORCE, SO_SNDBUFFORCE}) {
    setsockopt(fd.get(), SOL_SOCKET, option, &kSocketBuffer, sizeof(kSocketBuffer));
  }
  // The guest joins groups that the host's kernel does not hear of.
  packet_mreq all = {};
  all.mr_ifindex = interface;
  all.mr_type = PACKET_MR_ALLMULTI;
  setsockopt(fd.get(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof(all));
  sockaddr_ll at = {};
  at.sll_family = AF_PACKET;
  at.sll_protocol = htons(ETH_P_ALL);
  at.sll_ifindex = interface;
  if (bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof(at)) != 0) {
    return HostError::Last("bind a packet socket to", link->name);
  }
  link->fd = std::move(fd);
  link->offload = true;
  return {};
}

template <typename Fixed>
HostResult<void> Look(RtNetlink& netlink, uint16_t type, const Fixed& fixed, const char* what,
                      void (*see)(std::span<const uint8_t>, Seen*), Seen* seen) {
  NetlinkMessage ask(type, 0, fixed);
  return netlink.Dump(ask, what, [&](uint16_t, std::span<const uint8_t> body) {
    see(body, seen);
  });
}

}  // namespace

HostResult<NetNamespaceScope> NetNamespaceScope::Enter(const std::string& path) {
  UniqueFd before(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!before) return HostError::Last("open", "/proc/self/ns/net");
  UniqueFd to(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!to) return HostError::Last("open the network namespace", path);
  if (setns(to.get(), CLONE_NEWNET) != 0) return HostError::Last("enter the network namespace", path);
  return NetNamespaceScope(std::move(before));
}

HostResult<NetNamespaceScope> NetNamespaceScope::Fresh() {
  UniqueFd before(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!before) return HostError::Last("open", "/proc/self/ns/net");
  if (unshare(CLONE_NEWNET) != 0) return HostError::Last("make a network namespace");
  return NetNamespaceScope(std::move(before));
}

NetNamespaceScope::~NetNamespaceScope() {
  if (before_) RW_CHECK(setns(before_.get(), CLONE_NEWNET) == 0);
}

namespace {

// Whether the process is alive in the caller's network namespace.
bool IsHere(int pid) {
  struct stat own, other;
  const std::string path = "/proc/" + std::to_string(pid) + "/ns/net";
  return pid > 0 && stat("/proc/thread-self/ns/net", &own) == 0 && stat(path.c_str(), &other) == 0 &&
         own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

// Two stacks cannot answer for one address: each would reset the other's connections.
HostResult<void> CheckOwner(const std::string& alias) {
  if (alias.empty()) return {};
  char* end = nullptr;
  const long pid = strtol(alias.c_str() + kAlias.size(), &end, 10);
  if (!IsHere(static_cast<int>(pid))) return {};
  return HostError::Message("network: the namespace belongs to the running container" + std::string(end) +
                            ", whose sandbox answers for its addresses; sandboxes cannot share one");
}

HostResult<void> SetAlias(RtNetlink& netlink, int interface, const NetworkOwner& owner) {
  std::string alias = std::string(kAlias) + std::to_string(owner.pid) + " " + owner.id;
  alias.resize(std::min(alias.size(), kMaxAlias));
  ifinfomsg link = {};
  link.ifi_index = interface;
  NetlinkMessage set(RTM_SETLINK, 0, link);
  set.Add(IFLA_IFALIAS, alias);
  return netlink.Request(set, "name the owner of an interface");
}

}  // namespace

HostResult<NetworkConfig> TakeOverNetwork(const NetworkOwner& owner) {
  RtNetlink netlink = TRY(RtNetlink::Open());
  Seen seen;
  TRY(Look(netlink, RTM_GETLINK, ifinfomsg{}, "list the interfaces", SeeLink, &seen));
  TRY(Look(netlink, RTM_GETADDR, ifaddrmsg{}, "list the addresses", SeeAddress, &seen));
  TRY(Look(netlink, RTM_GETROUTE, rtmsg{}, "list the routes", SeeRoute, &seen));
  TRY(Look(netlink, RTM_GETNEIGH, ndmsg{}, "list the neighbours", SeeNeighbour, &seen));
  TRY(CheckOwner(seen.alias));
  for (const auto& [interface, place] : seen.link_of) {
    TRY(SetAlias(netlink, interface, owner));
    TRY(OpenPacketSocket(interface, &seen.config.links[static_cast<size_t>(place)]));
  }
  for (const Seen::Address& address : seen.addresses) {
    NetlinkMessage remove(RTM_DELADDR, 0, address.header);
    remove.Add(IFA_LOCAL, address.attributes.data(), address.attributes.size());
    HostResult<void> removed = netlink.Request(remove, "take an address from the host's interface");
    // One address may go with another (secondary ones), or have expired meanwhile.
    if (!removed.ok() && removed.error().error() != EADDRNOTAVAIL) return removed.error();
  }
  return std::move(seen.config);
}

}  // namespace ringwall
