// Bridge: the forwarding database of a bridge interface, as IEEE 802.1D 7.8-7.9 describes it. The
// Stack forwards (link/switching.cc); no spanning tree is spoken. Guarded by the stack's lock.
#ifndef RINGWALL_NETSTACK_LINK_BRIDGE_H_
#define RINGWALL_NETSTACK_LINK_BRIDGE_H_

#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "netstack/host.h"
#include "netstack/time.h"
#include "netstack/wire/address.h"

namespace ringwall::net {

struct FdbEntry {
  MacAddr mac;
  IfIndex port = 0;
  bool permanent = false;  // of the bridge or a port itself, or set by the user
  TimePoint updated;
};

class Bridge {
 public:
  static constexpr Duration kAgeing = Duration::Seconds(300);
  static constexpr size_t kMaxEntries = 4096;

  void Learn(const MacAddr& mac, IfIndex port, TimePoint now);
  // The port behind which mac was seen within the ageing time.
  std::optional<IfIndex> Find(const MacAddr& mac, TimePoint now) const;
  void Set(const MacAddr& mac, IfIndex port, TimePoint now);
  bool Remove(const MacAddr& mac, IfIndex port);
  void ForgetPort(IfIndex port);
  std::vector<FdbEntry> List(TimePoint now) const;

 private:
  absl::flat_hash_map<uint64_t, FdbEntry> table_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_LINK_BRIDGE_H_
