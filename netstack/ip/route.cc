#include "netstack/ip/route.h"

#include <algorithm>

namespace ringwall::net {

RouteTable::RouteTable() {
  for (Family f : {Family::kV4, Family::kV6}) {
    RuleEntry rule;
    rule.family = f;
    rule.protocol = 2;  // RTPROT_KERNEL
    rule.table = kTableLocal;
    AddRule(rule);
    rule.priority = 32766;
    rule.table = kTableMain;
    AddRule(rule);
    if (f == Family::kV6) continue;
    rule.priority = 32767;
    rule.table = kTableDefault;
    AddRule(rule);
  }
}

NetResult<void> RouteTable::Add(const RouteEntry& r, const RouteAdd& how) {
  const auto same_place = [&](const RouteEntry& have) {
    return have.table == r.table && have.dst == r.dst && have.metric == r.metric &&
           have.tos == r.tos;
  };
  const auto same_way = [&](const RouteEntry& have) {
    return have.gateway == r.gateway && have.oif == r.oif && have.type == r.type &&
           have.next_hops == r.next_hops;
  };
  const bool v6 = r.dst.addr.is_v6();
  const auto first = std::find_if(routes_.begin(), routes_.end(), same_place);
  if (first != routes_.end()) {
    if (how.exclusive) return NetError::kExists;
    const auto twin = std::find_if(first, routes_.end(), [&](const RouteEntry& have) {
      return same_place(have) && same_way(have);
    });
    if (how.replace) {
      if (twin != routes_.end() && twin != first) return NetError::kExists;
      *first = r;
      return {};
    }
    if (twin != routes_.end()) return NetError::kExists;
  }
  // IPv6 only warns of a new route without NLM_F_CREATE.
  if (!how.create && (!v6 || how.replace)) return NetError::kNotFound;
  auto place = std::find_if(routes_.begin(), routes_.end(), [&](const RouteEntry& have) {
    if (have.dst.len != r.dst.len) return have.dst.len < r.dst.len;
    if (have.metric != r.metric) return have.metric > r.metric;
    // A prepended IPv4 route goes before its equals.
    return !v6 && !how.append && same_place(have);
  });
  routes_.insert(place, r);
  return {};
}

NetResult<void> RouteTable::Remove(const RouteEntry& r, RouteEntry* removed) {
  auto it = std::find_if(routes_.begin(), routes_.end(), [&](const RouteEntry& have) {
    return have.table == r.table && have.dst == r.dst &&
           (r.gateway.IsNone() || have.gateway == r.gateway) &&
           (r.oif == 0 || have.oif == r.oif) && (r.metric == 0 || have.metric == r.metric) &&
           (r.tos == 0 || have.tos == r.tos);
  });
  if (it == routes_.end()) return NetError::kNoProcess;
  if (removed != nullptr) *removed = *it;
  routes_.erase(it);
  return {};
}

std::vector<RouteEntry> RouteTable::RemoveInterface(IfIndex iface) {
  std::vector<RouteEntry> gone;
  for (RouteEntry& r : routes_) {
    if (r.next_hops.size() < 2) {
      if (r.oif == iface) gone.push_back(r);
      continue;
    }
    if (std::erase_if(r.next_hops, [&](const NextHop& n) { return n.oif == iface; }) == 0) continue;
    if (r.next_hops.empty()) {
      r.oif = iface;
      gone.push_back(r);
      continue;
    }
    r.gateway = r.next_hops[0].gateway;
    r.oif = r.next_hops[0].oif;
    if (r.next_hops.size() == 1) r.next_hops.clear();
  }
  std::erase_if(routes_, [&](const RouteEntry& r) { return r.oif == iface; });
  return gone;
}

void RouteTable::AddRule(const RuleEntry& rule) {
  auto place = std::find_if(rules_.begin(), rules_.end(), [&](const RuleEntry& have) {
    return have.priority > rule.priority;
  });
  rules_.insert(place, rule);
}

NetResult<void> RouteTable::RemoveRule(const RuleEntry& rule) {
  auto it = std::find(rules_.begin(), rules_.end(), rule);
  if (it == rules_.end()) {
    it = std::find_if(rules_.begin(), rules_.end(), [&](const RuleEntry& have) {
      return have.family == rule.family && have.priority == rule.priority &&
             have.table == rule.table && have.src == rule.src && have.mark == rule.mark;
    });
  }
  if (it == rules_.end()) return NetError::kNotFound;
  rules_.erase(it);
  return {};
}

void RouteTable::BindRules(const std::string& name, IfIndex iface) {
  for (RuleEntry& rule : rules_) {
    if (rule.iif != 0 && rule.iif == iface && rule.iif_name != name) rule.iif = 0;
    if (rule.oif != 0 && rule.oif == iface && rule.oif_name != name) rule.oif = 0;
    if (!name.empty() && rule.iif_name == name) rule.iif = iface;
    if (!name.empty() && rule.oif_name == name) rule.oif = iface;
  }
}

bool RouteTable::Matches(const RuleEntry& rule, const RouteQuery& q) {
  if (rule.family != q.dst.family()) return false;
  const bool match = [&] {
    if (rule.src.len != 0 && !rule.src.Contains(q.src)) return false;
    if (rule.dst.len != 0 && !rule.dst.Contains(q.dst)) return false;
    if ((q.mark & rule.mark_mask) != rule.mark) return false;
    if ((rule.iif != 0 || !rule.iif_name.empty()) && rule.iif != q.iif) return false;
    if ((rule.oif != 0 || !rule.oif_name.empty()) && (rule.oif == 0 || rule.oif != q.oif)) {
      return false;
    }
    if (rule.iif == 0 && !rule.iif_name.empty()) return false;
    if (rule.tos != 0 && rule.tos != q.tos) return false;
    if (rule.ip_proto != 0 && rule.ip_proto != q.protocol) return false;
    if (rule.uids && (q.uid < rule.uids->first || q.uid > rule.uids->second)) return false;
    // Ports are not part of a query here: a rule that names some matches nothing.
    return !rule.source_ports && !rule.dest_ports;
  }();
  return match != rule.invert;
}

}  // namespace ringwall::net
