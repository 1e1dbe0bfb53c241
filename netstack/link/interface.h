// One network interface: its link properties, addresses, groups and neighbours. Owned by the
// Stack; its lock guards everything here.
#ifndef RINGWALL_NETSTACK_LINK_INTERFACE_H_
#define RINGWALL_NETSTACK_LINK_INTERFACE_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "netstack/host.h"
#include "netstack/link/bridge.h"
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
  // What rtnetlink shows and sets.
  std::string type;           // IFLA_INFO_KIND: "dummy", "veth", "bridge", "vlan", "tun"; or none
  uint32_t tx_queue_len = 1000;
  MacAddr broadcast = MacAddr::Broadcast();
  uint32_t min_mtu = 68, max_mtu = 65535;  // 0: no limit
  bool no_arp = false;        // IFF_NOARP: no neighbour is asked for
  bool multicast = true;      // IFF_MULTICAST
  bool carrier = true;
  IfIndex lower = 0;          // vlan: the interface that carries the tagged frames
  uint16_t vlan_id = 0;
  IfIndex wanted_index = 0;   // 0: the next free one
  // Packets to any unicast address are for this stack, as a NAT that ends them here wants it.
  bool any_destination = false;
};

// Flags of an interface that its owner changes (IFF_*).
inline constexpr uint32_t kIffUp = 0x1, kIffBroadcast = 0x2, kIffDebug = 0x4, kIffLoopback = 0x8,
                          kIffPointToPoint = 0x10, kIffNoTrailers = 0x20, kIffRunning = 0x40,
                          kIffNoArp = 0x80, kIffPromisc = 0x100, kIffAllMulti = 0x200,
                          kIffMulticast = 0x1000, kIffPortSel = 0x2000, kIffAutoMedia = 0x4000,
                          kIffDynamic = 0x8000, kIffLowerUp = 0x10000;
inline constexpr uint32_t kIffSettable = kIffDebug | kIffNoTrailers | kIffNoArp | kIffPromisc |
                                         kIffAllMulti | kIffMulticast | kIffPortSel |
                                         kIffAutoMedia | kIffDynamic;

enum class AddressState : uint8_t { kPreferred, kTentative, kDeprecated, kDuplicate };

struct InterfaceAddress {
  IpPrefix prefix;
  IpAddr broadcast;  // IPv4, none when there is none
  IpAddr peer;       // point to point, none otherwise
  AddressState state = AddressState::kPreferred;
  TimePoint valid_until = TimePoint::Never();
  TimePoint preferred_until = TimePoint::Never();
  bool autoconf = false;  // made by SLAAC
  std::string label;      // IPv4; empty: the interface's name
  uint8_t scope = 0;      // RT_SCOPE_*, IPv4; IPv6's follows from the address
  uint8_t protocol = 0;   // IFAPROT_*
  bool secondary = false;       // IPv4: another address of the subnet came first
  bool no_prefix_route = false;
  bool no_dad = false;
  bool manage_temp = false;
  uint32_t metric = 0;          // of the prefix route; 0: the default
  TimePoint created, updated;
};

// A multicast group of an interface, as /proc/net/igmp shows it.
struct GroupInfo {
  IpAddr group;
  uint32_t users = 0;
};

struct LinkCounters {
  uint64_t rx_packets = 0, rx_bytes = 0, rx_errors = 0, rx_dropped = 0, multicast = 0;
  uint64_t tx_packets = 0, tx_bytes = 0, tx_errors = 0, tx_dropped = 0;
};

struct InterfaceInfo {
  // Facts of the link itself, with the interface's flags (IFF_*).
  InterfaceConfig config;
  uint32_t flags = 0;
  IfIndex master = 0;
  uint32_t group = 0;
  std::string alias;
  bool is_bridge = false;
  std::vector<GroupInfo> groups;
  uint64_t carrier_changes = 0;
  bool ipv6_disabled = false;
  RefPtr<LinkSink> sink;
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
  // All of IFF_*.
  uint32_t Flags() const;
  bool running() const { return up && config.carrier; }
  InterfaceInfo Info() const;
  const InterfaceAddress* FindAddress(const IpAddr& a) const;
  InterfaceAddress* FindAddress(const IpAddr& a);
  // An EUI-64 link-local address, RFC 4291 appendix A.
  IpAddr LinkLocalFromMac() const;

  void SendSolicit(const IpAddr& addr, std::optional<MacAddr> unicast) override;
  void SendResolved(Packet packet, const IpAddr& addr, const MacAddr& mac) override;
  void OnUnreachable(const IpAddr& addr, Packet packet) override;
  void OnNeighbourChange(const NeighbourInfo& info, bool removed) override;

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
  uint32_t user_flags = 0;  // of kIffSettable
  IfIndex master = 0;       // the bridge that this is a port of
  uint32_t group = 0;
  std::string alias;
  uint64_t carrier_changes = 0;
  bool ipv6_disabled = false;
  bool mac_set_by_user = false;
  std::unique_ptr<Bridge> bridge;
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
