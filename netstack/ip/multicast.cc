// Group membership: IGMPv3 (RFC 3376) and MLDv2 (RFC 3810), reported as any-source. Reports
// of version 2 and 1 are sent in the newest form; queries of all versions are answered.
#include "netstack/stack.h"
#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"

namespace ringwall::net {
namespace {

constexpr int kRobustness = 2;  // RFC 3376 8.1
// RFC 3376 4.2.12: record types.
constexpr uint8_t kModeIsExclude = 2;
constexpr uint8_t kChangeToInclude = 3;

// Groups that are never reported: RFC 3376 6, RFC 3810 6.
bool Unreported(const IpAddr& group) {
  if (group.is_v4()) return group == IpAddr::V4(224, 0, 0, 1);
  return (group.byte(1) & 0xf) <= 1 || group == *IpAddr::Parse("ff02::1");
}

}  // namespace

NetResult<void> Stack::JoinGroup(IfIndex iface, const IpAddr& group) {
  Interface* i = FindInterface(iface);
  if (i == nullptr) return NetError::kNoDevice;
  if (!group.IsMulticast()) return NetError::kInvalid;
  if (i->groups.size() >= 4096) return NetError::kNoBuffers;
  Interface::Group& g = i->groups[group];
  if (g.users++ != 0 || !i->up || i->is_loopback() || Unreported(group)) return {};
  SendGroupReport(*i, group, false);
  g.reports_left = kRobustness - 1;
  g.next_report = now_ + Duration::Seconds(1);
  ArmInterface(*i);
  return {};
}

void Stack::LeaveGroup(IfIndex iface, const IpAddr& group) {
  Interface* i = FindInterface(iface);
  if (i == nullptr) return;
  auto it = i->groups.find(group);
  if (it == i->groups.end() || --it->second.users != 0) return;
  i->groups.erase(it);
  if (i->up && !i->is_loopback() && !Unreported(group)) SendGroupReport(*i, group, true);
}

void Stack::SendGroupReport(Interface& iface, const IpAddr& group, bool leave) {
  if (iface.config.kind == LinkKind::kLoopback || Unreported(group)) return;
  const uint8_t record = leave ? kChangeToInclude : kModeIsExclude;
  Packet p;
  std::memcpy(p.Prepend(group.size()), group.data(), group.size());
  uint8_t* r = p.Prepend(4);
  r[0] = record;
  r[1] = r[2] = r[3] = 0;
  const IpAddr chosen = SelectSource(group, iface.index);
  if (group.is_v4()) {
    uint8_t* h = p.Prepend(8);
    WriteIcmp(h, 0x22, 0, 1);  // one record
    Store16(h + 2, ChecksumOf(p.header()));
    IpHeader ip;
    ip.src = chosen.IsNone() ? IpAddr::Any(Family::kV4) : chosen;
    ip.dst = IpAddr::V4(224, 0, 0, 22);
    ip.protocol = kProtoIgmp;
    ip.ttl = 1;
    ip.tos = 0xc0;
    static constexpr uint8_t kRouterAlert[4] = {148, 4, 0, 0};  // RFC 3376 4
    ip.options = kRouterAlert;
    const size_t payload = p.size();
    ip.Write(p.Prepend(ip.size()), payload);
    return TransmitFrame(iface, MulticastMac(ip.dst), kEthIpv4, std::move(p));
  }
  WriteIcmp(p.Prepend(kIcmpHeader), kMldV2Report, 0, 1);
  const InterfaceAddress* local = iface.FindAddress(iface.LinkLocalFromMac());
  const bool usable = local != nullptr && local->state == AddressState::kPreferred;
  IpHeader ip;
  ip.src = usable ? local->prefix.addr : IpAddr::Any(Family::kV6);  // RFC 3810 5.2.13
  ip.dst = *IpAddr::Parse("ff02::16");
  ip.protocol = kProtoHopByHop;
  ip.ttl = 1;
  Checksum c;
  c.AddPseudo(ip.src, ip.dst, kProtoIcmpv6, static_cast<uint32_t>(p.size()));
  c.Add(p.header());
  Store16(p.header_data() + 2, c.Finish());
  // RFC 3810 5: a hop-by-hop header with the router alert.
  static constexpr uint8_t kAlert[8] = {kProtoIcmpv6, 0, 5, 2, 0, 0, 1, 0};
  std::memcpy(p.Prepend(8), kAlert, 8);
  const size_t payload = p.size();
  ip.Write(p.Prepend(kIpv6Header), payload);
  TransmitFrame(iface, MulticastMac(ip.dst), kEthIpv6, std::move(p));
}

void Stack::IgmpIn(const IpReceived& rx, const Slice& message) {
  Interface* iface = FindInterface(rx.iface);
  std::optional<GroupQuery> q = GroupQuery::ParseIgmp(message.span());
  if (iface == nullptr || !q) return;
  GroupQueryIn(*iface, *q, Family::kV4);
}

// RFC 3376 5.2, RFC 3810 6.2: answer at a random moment within the time given.
void Stack::GroupQueryIn(Interface& iface, const GroupQuery& query, Family family) {
  for (auto& [group, g] : iface.groups) {
    if (group.family() != family || Unreported(group)) continue;
    if (!query.group.IsAny() && query.group != group) continue;
    const int64_t within = query.max_response_ms == 0 ? 1 : query.max_response_ms;
    const TimePoint at =
        now_ + Duration::Millis(static_cast<int64_t>(Random64() % static_cast<uint64_t>(within)));
    if (at < g.next_report) {
      g.next_report = at;
      if (g.reports_left < 1) g.reports_left = 1;
    }
  }
  ArmInterface(iface);
}

}  // namespace ringwall::net
