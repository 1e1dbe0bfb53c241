// PortTable: which local ports of one transport are taken, and by what kind of binding. The rules
// are those of Linux's inet_csk_bind_conflict() and inet_rcv_saddr_equal().
#ifndef RINGWALL_NETSTACK_IP_PORTS_H_
#define RINGWALL_NETSTACK_IP_PORTS_H_

#include <vector>

#include "absl/container/flat_hash_map.h"
#include "netstack/host.h"
#include "netstack/wire/address.h"

namespace ringwall::net {

struct PortBinding {
  IpAddr addr;              // any: all addresses of its family
  bool dual = false;        // an IPv6 any-address that takes IPv4 too
  IfIndex device = 0;
  bool reuse_addr = false;
  bool reuse_port = false;
  bool listening = false;
  bool by_connect = false;  // chosen by connect: shared with other connects

  friend bool operator==(const PortBinding&, const PortBinding&) = default;
};

// Whether one packet could be meant for both.
bool AddressesOverlap(const PortBinding& a, const PortBinding& b);

class PortTable {
 public:
  explicit PortTable(bool tcp) : tcp_(tcp) {}
  bool Conflicts(uint16_t port, const PortBinding& b) const;
  void Add(uint16_t port, const PortBinding& b);
  void Remove(uint16_t port, const PortBinding& b);
  // Nothing but connects use the port.
  bool OnlyConnects(uint16_t port) const;

 private:
  struct Counted {
    PortBinding binding;
    uint32_t users;
  };
  bool tcp_;
  absl::flat_hash_map<uint16_t, std::vector<Counted>> table_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_IP_PORTS_H_
