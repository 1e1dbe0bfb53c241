#include "netstack/ip/route.h"

#include <algorithm>

namespace ringwall::net {

RouteTable::RouteTable() {
  for (Family f : {Family::kV4, Family::kV6}) {
    RuleEntry main;
    main.family = f;
    main.priority = 32766;
    AddRule(main);
    main.priority = 32767;
    main.table = kTableDefault;
    AddRule(main);
  }
}

NetResult<void> RouteTable::Add(const RouteEntry& r, bool replace) {
  for (RouteEntry& have : routes_) {
    if (have.table == r.table && have.dst == r.dst && have.metric == r.metric &&
        (r.dst.addr.is_v4() || (have.gateway == r.gateway && have.oif == r.oif))) {
      if (!replace) return NetError::kExists;
      have = r;
      return {};
    }
  }
  auto place = std::find_if(routes_.begin(), routes_.end(), [&](const RouteEntry& have) {
    return have.dst.len < r.dst.len || (have.dst.len == r.dst.len && have.metric > r.metric);
  });
  routes_.insert(place, r);
  return {};
}

NetResult<void> RouteTable::Remove(const RouteEntry& r) {
  auto it = std::find_if(routes_.begin(), routes_.end(), [&](const RouteEntry& have) {
    return have.table == r.table && have.dst == r.dst &&
           (r.gateway.IsNone() || have.gateway == r.gateway) &&
           (r.oif == 0 || have.oif == r.oif) && (r.metric == 0 || have.metric == r.metric);
  });
  if (it == routes_.end()) return NetError::kNoProcess;
  routes_.erase(it);
  return {};
}

void RouteTable::RemoveInterface(IfIndex iface) {
  std::erase_if(routes_, [&](const RouteEntry& r) { return r.oif == iface; });
}

void RouteTable::AddRule(const RuleEntry& rule) {
  auto place = std::find_if(rules_.begin(), rules_.end(), [&](const RuleEntry& have) {
    return have.priority > rule.priority;
  });
  rules_.insert(place, rule);
}

NetResult<void> RouteTable::RemoveRule(const RuleEntry& rule) {
  auto it = std::find_if(rules_.begin(), rules_.end(), [&](const RuleEntry& have) {
    return have.family == rule.family && have.priority == rule.priority &&
           have.table == rule.table && have.src == rule.src && have.mark == rule.mark;
  });
  if (it == rules_.end()) return NetError::kNotFound;
  rules_.erase(it);
  return {};
}

bool RouteTable::Matches(const RuleEntry& rule, const RouteQuery& q) {
  if (rule.family != q.dst.family()) return false;
  if (rule.src.len != 0 && !rule.src.Contains(q.src)) return false;
  if (rule.dst.len != 0 && !rule.dst.Contains(q.dst)) return false;
  if ((q.mark & rule.mark_mask) != rule.mark) return false;
  if (rule.iif != 0 && rule.iif != q.iif) return false;
  if (rule.oif != 0 && rule.oif != q.oif) return false;
  return true;
}

}  // namespace ringwall::net
