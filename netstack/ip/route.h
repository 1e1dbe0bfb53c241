// The routing tables: routes by longest prefix, then metric; rules that choose the table.
#ifndef RINGWALL_NETSTACK_IP_ROUTE_H_
#define RINGWALL_NETSTACK_IP_ROUTE_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "netstack/host.h"
#include "netstack/net_error.h"
#include "netstack/wire/address.h"

namespace ringwall::net {

inline constexpr uint32_t kTableDefault = 253;
inline constexpr uint32_t kTableMain = 254;
inline constexpr uint32_t kTableLocal = 255;

enum class RouteType : uint8_t {
  kUnicast, kBlackhole, kUnreachable, kProhibit, kThrow, kLocal, kBroadcast, kAnycast, kMulticast,
};

// One way of a multipath route.
struct NextHop {
  IpAddr gateway;  // none: on link
  IfIndex oif = 0;
  uint8_t weight = 1;
  bool onlink = false;
  friend bool operator==(const NextHop&, const NextHop&) = default;
};

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
  uint8_t scope = 0;     // RT_SCOPE_*
  uint8_t tos = 0;
  uint32_t advmss = 0, hop_limit = 0;  // 0: none
  std::vector<NextHop> next_hops;      // of a multipath route; the first is gateway and oif, too
};

// FR_ACT_*.
enum class RuleAction : uint8_t {
  kTable = 1, kGoto = 2, kNop = 3, kBlackhole = 6, kUnreachable = 7, kProhibit = 8,
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
  RuleAction action = RuleAction::kTable;
  uint32_t target = 0;           // of kGoto
  bool invert = false;
  uint8_t tos = 0;
  uint8_t ip_proto = 0;
  uint8_t protocol = 0;          // RTPROT_*
  int32_t suppress_prefix_len = -1;
  int32_t suppress_group = -1;
  std::string iif_name, oif_name;  // a rule may name an interface that is not there
  std::optional<std::pair<uint32_t, uint32_t>> uids;
  std::optional<std::pair<uint16_t, uint16_t>> source_ports, dest_ports;
  friend bool operator==(const RuleEntry&, const RuleEntry&) = default;
};

struct RouteQuery {
  IpAddr src;  // none or any: not chosen yet
  IpAddr dst;
  IfIndex oif = 0;
  IfIndex iif = 0;
  uint32_t mark = 0;
  uint32_t uid = 0;
  uint8_t tos = 0;
  uint8_t protocol = 0;
};

// How Add treats a route that is there: NLM_F_CREATE, EXCL, REPLACE, APPEND.
struct RouteAdd {
  bool create = true;
  bool exclusive = true;
  bool replace = false;
  bool append = false;
};

class RouteTable {
 public:
  // Exists unless `replace`; kExists like Linux's EEXIST when prefix, table, metric agree.
  NetResult<void> Add(const RouteEntry& r, bool replace) {
    return Add(r, RouteAdd{.exclusive = !replace, .replace = replace});
  }
  // fib_table_insert and fib6_add. kNotFound without create when there is nothing to replace.
  NetResult<void> Add(const RouteEntry& r, const RouteAdd& how);
  // The first route that matches the fields set in r; `removed` gets it. kNoProcess when there is
  // none.
  NetResult<void> Remove(const RouteEntry& r, RouteEntry* removed = nullptr);
  // Takes what goes out through the interface away and gives it back.
  std::vector<RouteEntry> RemoveInterface(IfIndex iface);
  struct Found {
    const RouteEntry* route = nullptr;
    const RuleEntry* rule = nullptr;
    // A rule's own verdict: kHostUnreach ..., when there is no route.
    std::optional<NetError> error;
  };
  // Up interfaces only: `usable` says.
  template <typename Usable>
  Found Find(const RouteQuery& q, Usable usable) const {
    for (size_t i = 0; i < rules_.size(); i++) {
      const RuleEntry& rule = rules_[i];
      if (!Matches(rule, q)) continue;
      switch (rule.action) {
        case RuleAction::kTable: break;
        case RuleAction::kNop: continue;
        case RuleAction::kBlackhole: return {nullptr, &rule, NetError::kInvalid};
        case RuleAction::kUnreachable: return {nullptr, &rule, NetError::kNetUnreach};
        case RuleAction::kProhibit: return {nullptr, &rule, NetError::kAccess};
        case RuleAction::kGoto:
          // Targets lie behind: this ends.
          while (i + 1 < rules_.size() && (rules_[i + 1].priority < rule.target ||
                                           rules_[i + 1].family != rule.family)) {
            i++;
          }
          continue;
      }
      for (const RouteEntry& r : routes_) {
        if (r.table != rule.table || !r.dst.Contains(q.dst)) continue;
        if (r.tos != 0 && r.tos != q.tos) continue;
        if (!UsableThrough(r, q.oif, usable)) continue;
        if (r.type == RouteType::kThrow) break;
        if (rule.suppress_prefix_len >= 0 && r.dst.len <= rule.suppress_prefix_len) break;
        return {&r, &rule, std::nullopt};
      }
    }
    return {};
  }
  void AddRule(const RuleEntry& rule);
  // The first rule equal to this one, its zero fields aside. kNotFound.
  NetResult<void> RemoveRule(const RuleEntry& rule);
  const std::vector<RouteEntry>& routes() const { return routes_; }
  const std::vector<RuleEntry>& rules() const { return rules_; }
  // Rules by interface name: the interface has come, gone or changed its name.
  void BindRules(const std::string& name, IfIndex iface);
  RouteTable();

 private:
  static bool Matches(const RuleEntry& rule, const RouteQuery& q);
  template <typename Usable>
  static bool UsableThrough(const RouteEntry& r, IfIndex oif, Usable usable) {
    if (r.next_hops.size() < 2) {
      return (oif == 0 || r.oif == oif || r.oif == 0) && (r.oif == 0 || usable(r.oif));
    }
    for (const NextHop& n : r.next_hops) {
      if ((oif == 0 || n.oif == oif) && usable(n.oif)) return true;
    }
    return false;
  }
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
