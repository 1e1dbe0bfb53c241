// One network interface: its link properties, addresses, groups and neighbours. Owned by the
// Stack; its lock guards everything here.
#ifndef RINGWALL_NETSTACK_LINK_INTERFACE_H_
#define RINGWALL_NETSTACK_LINK_INTERFACE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "netstack/host.h"
#include "netstack/link/neighbour.h"
#include "netstack/wire/ethernet.h"

namespace ringwall::net {

class Stack;

enum class LinkKind : uint8_t {
  kLoopback,
  kEthernet,  // frames with Ethernet headers, ARP and NDP
  kIp,        // bare IP packets (tun, point to point)
};

struct InterfaceConfig {
  std::string name;
  LinkKind kind = LinkKind::kEthernet;
  MacAddr mac;
  uint32_t mtu = 1500;
  // What the sink takes over.
  bool tx_checksum = false;   // fills in TCP and UDP checksums
  bool tx_tso = false;        // splits 64 KiB TCP segments; needs tx_checksum
  bool rx_checksum = false;   // every frame in was checked
};

enum class AddressState : uint8_t { kPreferred, kTentative, kDeprecated, kDuplicate };

struct InterfaceAddress {
  IpPrefix prefix;
  IpAddr broadcast;  // IPv4, none when there is none
  IpAddr peer;       // point to point, none otherwise
  AddressState state = AddressState::kPreferred;
  TimePoint valid_until = TimePoint::Never();
  TimePoint preferred_until = TimePoint::Never();
  bool autoconf = false;  // made by SLAAC
};

struct LinkCounters {
  uint64_t rx_packets = 0, rx_bytes = 0, rx_errors = 0, rx_dropped = 0, multicast = 0;
  uint64_t tx_packets = 0, tx_bytes = 0, tx_errors = 0, tx_dropped = 0;
};

struct InterfaceInfo {
  IfIndex index = 0;
  std::string name;
  LinkKind kind = LinkKind::kEthernet;
  MacAddr mac;
  uint32_t mtu = 0;
  bool up = false;
  std::vector<InterfaceAddress> addresses;
  LinkCounters counters;
};

class Interface final : public NeighbourTable::Owner {
 public:
  Interface(Stack& stack, IfIndex index, InterfaceConfig config, RefPtr<LinkSink> sink);

  bool is_loopback() const { return config.kind == LinkKind::kLoopback; }
  const InterfaceAddress* FindAddress(const IpAddr& a) const;
  InterfaceAddress* FindAddress(const IpAddr& a);
  // An EUI-64 link-local address, RFC 4291 appendix A.
  IpAddr LinkLocalFromMac() const;

  void SendSolicit(const IpAddr& addr, std::optional<MacAddr> unicast) override;
  void SendResolved(Packet packet, const IpAddr& addr, const MacAddr& mac) override;
  void OnUnreachable(const IpAddr& addr, Packet packet) override;
  void OnNeighbourChange(const IpAddr& addr) override;

  // A multicast group joined on this interface, with its report state (RFC 3376, RFC 3810).
  struct Group {
    uint32_t users = 0;
    int reports_left = 0;
    TimePoint next_report = TimePoint::Never();
  };
  // Duplicate address detection of one tentative address, RFC 4862 5.4.
  struct Dad {
    IpAddr addr;
    TimePoint done;
  };

  Stack& stack;
  const IfIndex index;
  InterfaceConfig config;
  RefPtr<LinkSink> sink;
  bool up = false;
  std::vector<InterfaceAddress> addresses;
  std::map<IpAddr, Group> groups;
  std::vector<Dad> dad;
  NeighbourTable neighbours;
  LinkCounters counters;
  int router_solicits_left = 0;
  TimePoint next_router_solicit = TimePoint::Never();
  TimePoint router_expires = TimePoint::Never();
  uint8_t hop_limit = 64;  // of router advertisements
  Timer timer;             // groups, DAD, router solicitations, address lifetimes
  bool flush_wanted = false;

 private:
  static void OnTimer(void* self, TimePoint now);
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_LINK_INTERFACE_H_
