// Group membership of an endpoint with its source filters. Compare Linux's ip_mc_source() and
// ip_mc_msfilter(): RFC 3376 3.1 and RFC 3678.
#include <algorithm>

#include "netstack/endpoint.h"

namespace ringwall::net {
namespace {

constexpr size_t kMaxMemberships = 20;                   // igmp_max_memberships
constexpr size_t kMaxSources4 = 10, kMaxSources6 = 64;   // igmp_max_msf, mld_max_msf

size_t MaxSources(const IpAddr& group) { return group.is_v4() ? kMaxSources4 : kMaxSources6; }

}  // namespace

bool GroupMembership::Hears(const IpAddr& source) const {
  const bool listed = std::find(sources.begin(), sources.end(), source) != sources.end();
  return listed == include;
}

GroupMembership* Endpoint::FindMembership(const IpAddr& group, IfIndex iface) {
  auto it = std::find_if(memberships_.begin(), memberships_.end(), [&](const GroupMembership& m) {
    return m.group == group && m.iface == iface;
  });
  return it == memberships_.end() ? nullptr : &*it;
}

// ip_mc_find_dev()
NetResult<IfIndex> Endpoint::GroupInterface(const IpAddr& group, IfIndex iface) {
  if (!group.IsMulticast()) return NetError::kInvalid;
  if (iface != 0) {
    if (stack_->FindInterface(iface) == nullptr) return NetError::kNoDevice;
    return iface;
  }
  NetResult<Route> route = stack_->FindRoute({.dst = group});
  if (!route.ok()) return NetError::kNoDevice;
  return route->oif;
}

bool Endpoint::MemberOf(const IpAddr& group, IfIndex iface) const {
  return std::any_of(memberships_.begin(), memberships_.end(), [&](const GroupMembership& m) {
    return m.group == group && m.iface == iface;
  });
}

NetResult<void> Endpoint::JoinGroup(const IpAddr& group, IfIndex iface, bool by_source) {
  StackEntry entry(*stack_);
  iface = TRY(GroupInterface(group, iface));
  if (MemberOf(group, iface)) return NetError::kAddrInUse;
  if (memberships_.size() >= kMaxMemberships) return NetError::kNoBuffers;
  TRY(stack_->JoinGroup(iface, group));
  memberships_.push_back({group, iface, by_source, false, {}});
  return {};
}

NetResult<void> Endpoint::LeaveGroup(const IpAddr& group, IfIndex iface) {
  StackEntry entry(*stack_);
  auto it = std::find_if(memberships_.begin(), memberships_.end(), [&](const GroupMembership& m) {
    return m.group == group && (iface == 0 || m.iface == iface);
  });
  if (it == memberships_.end()) return NetError::kAddrNotAvail;
  Leave(&*it);
  return {};
}

void Endpoint::Leave(GroupMembership* m) {
  stack_->LeaveGroup(m->iface, m->group);
  memberships_.erase(memberships_.begin() + (m - memberships_.data()));
}

bool Endpoint::IsMember(const IpAddr& group) {
  StackEntry entry(*stack_);
  return std::any_of(memberships_.begin(), memberships_.end(),
                     [&](const GroupMembership& m) { return m.group == group; });
}

NetResult<void> Endpoint::ChangeSource(const IpAddr& group, IfIndex iface, const IpAddr& source,
                                       bool include, bool add) {
  StackEntry entry(*stack_);
  iface = TRY(GroupInterface(group, iface));
  GroupMembership* m = FindMembership(group, iface);
  if (m == nullptr) return NetError::kInvalid;
  if (m->has_list) {
    if (m->include != include) return NetError::kInvalid;
  } else {
    m->include = include;  // a filter without sources has either mode
  }
  auto at = std::find(m->sources.begin(), m->sources.end(), source);
  if (!add) {
    if (at == m->sources.end()) return NetError::kAddrNotAvail;
    if (include && m->sources.size() == 1) {
      Leave(m);  // (INCLUDE, nothing) is to leave
    } else {
      m->sources.erase(at);
    }
    return {};
  }
  if (at != m->sources.end()) return NetError::kAddrNotAvail;
  if (m->sources.size() >= MaxSources(group)) return NetError::kNoBuffers;
  m->has_list = true;
  m->sources.push_back(source);
  return {};
}

NetResult<void> Endpoint::SetSources(const IpAddr& group, IfIndex iface, bool include,
                                     std::vector<IpAddr> sources) {
  StackEntry entry(*stack_);
  iface = TRY(GroupInterface(group, iface));
  GroupMembership* m = FindMembership(group, iface);
  if (include && sources.empty()) {
    if (m == nullptr) return NetError::kAddrNotAvail;
    Leave(m);
    return {};
  }
  if (m == nullptr) return NetError::kInvalid;
  m->include = include;
  m->has_list = !sources.empty();
  m->sources = std::move(sources);
  return {};
}

NetResult<GroupMembership> Endpoint::Membership(const IpAddr& group, IfIndex iface) {
  StackEntry entry(*stack_);
  iface = TRY(GroupInterface(group, iface));
  const GroupMembership* m = FindMembership(group, iface);
  if (m == nullptr) return NetError::kAddrNotAvail;
  return *m;
}

// ip_mc_sf_allow(), inet6_mc_sf_allow(): the latter does not look at the interface.
bool Endpoint::HearsSource(const IpAddr& group, IfIndex iface, const IpAddr& source) const {
  for (const GroupMembership& m : memberships_) {
    if (m.group != group || (group.is_v4() && m.iface != iface)) continue;
    return m.Hears(source);
  }
  return flag(group.is_v4() ? Option::kMulticastAll : Option::kMulticastAll6);
}

}  // namespace ringwall::net
