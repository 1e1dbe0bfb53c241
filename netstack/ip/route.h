// The routing tables: routes by longest prefix, then metric; rules that choose the table.
#ifndef RINGWALL_NETSTACK_IP_ROUTE_H_
#define RINGWALL_NETSTACK_IP_ROUTE_H_

#include <optional>
#include <vector>

#include "netstack/host.h"
#include "netstack/net_error.h"
#include "netstack/wire/address.h"

namespace ringwall::net {

inline constexpr uint32_t kTableDefault = 253;
inline constexpr uint32_t kTableMain = 254;
inline constexpr uint32_t kTableLocal = 255;

enum class RouteType : uint8_t { kUnicast, kBlackhole, kUnreachable, kProhibit };

struct RouteEntry {
  IpPrefix dst;
  IpAddr gateway;        // none: on link
  IfIndex oif = 0;
  IpAddr preferred_src;  // none: chosen
  uint32_t metric = 0;
  uint32_t table = kTableMain;
  RouteType type = RouteType::kUnicast;
  uint8_t protocol = 3;  // RTPROT_BOOT
  uint32_t mtu = 0;      // 0: the interface's
  bool onlink = false;
};

struct RuleEntry {
  uint32_t priority = 0;
  IpPrefix src;  // len 0: any
  IpPrefix dst;
  uint32_t mark = 0;
  uint32_t mark_mask = 0;
  IfIndex iif = 0;
  IfIndex oif = 0;
  uint32_t table = kTableMain;
  Family family = Family::kV4;
};

struct RouteQuery {
  IpAddr src;  // none or any: not chosen yet
  IpAddr dst;
  IfIndex oif = 0;
  IfIndex iif = 0;
  uint32_t mark = 0;
};

class RouteTable {
 public:
  // Exists unless `replace`; kExists like Linux's EEXIST when prefix, table, metric agree.
  NetResult<void> Add(const RouteEntry& r, bool replace);
  // The first route that matches the fields set in r. kNoProcess when there is none.
  NetResult<void> Remove(const RouteEntry& r);
  void RemoveInterface(IfIndex iface);
  // Up interfaces only: `usable` says.
  template <typename Usable>
  const RouteEntry* Find(const RouteQuery& q, Usable usable) const {
    for (const RuleEntry& rule : rules_) {
      if (!Matches(rule, q)) continue;
      for (const RouteEntry& r : routes_) {
        if (r.table != rule.table || !r.dst.Contains(q.dst)) continue;
        if (q.oif != 0 && r.oif != q.oif) continue;
        if (r.oif != 0 && !usable(r.oif)) continue;
        return &r;
      }
    }
    return nullptr;
  }
  void AddRule(const RuleEntry& rule);
  NetResult<void> RemoveRule(const RuleEntry& rule);
  const std::vector<RouteEntry>& routes() const { return routes_; }
  const std::vector<RuleEntry>& rules() const { return rules_; }
  RouteTable();

 private:
  static bool Matches(const RuleEntry& rule, const RouteQuery& q);
  std::vector<RouteEntry> routes_;  // longest prefix first, then lowest metric
  std::vector<RuleEntry> rules_;    // by priority
};

// Where a packet goes: the answer of Stack::FindRoute.
struct Route {
  enum class Kind : uint8_t { kLocal, kUnicast, kBroadcast, kMulticast };
  Kind kind = Kind::kUnicast;
  IfIndex oif = 0;
  IpAddr src;
  IpAddr dst;
  IpAddr next_hop;
  uint32_t mtu = 0;
  uint32_t generation = 0;  // stale once the stack's differs
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_IP_ROUTE_H_
