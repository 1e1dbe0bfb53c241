// Membership of multicast groups and the filters of their sources, by the three interfaces that there
// are: ip_mreq_source, RFC 3678's group_source_req, and whole filters.
#include <netinet/in.h>

#include "fs/inet/inet_socket.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr uint32_t kMaxSources4 = 10, kMaxSources6 = 64;  // igmp_max_msf, mld_max_msf
constexpr size_t kMaxOption = 128 << 10;                  // net.core.optmem_max

// struct ip_mreqn, and ip_mreq as its first part.
struct MreqnAbi {
  uint8_t group[4], address[4];
  int32_t index;
};
// struct ip_mreq_source.
struct MreqSourceAbi {
  uint8_t group[4], interface[4], source[4];
};
using StorageAbi = std::array<std::byte, 128>;
// struct group_req, and as group_source_req.
struct GroupReqAbi {
  uint32_t index, pad;
  StorageAbi group;
};
static_assert(sizeof(GroupReqAbi) == 136);
struct GroupSourceReqAbi {
  GroupReqAbi request;
  StorageAbi source;
};
static_assert(sizeof(GroupSourceReqAbi) == 264);
// struct ip_msfilter and struct group_filter, but for their lists.
struct MsFilterAbi {
  uint8_t group[4], interface[4];
  uint32_t mode, count;
};
static_assert(sizeof(MsFilterAbi) == 16);
struct GroupFilterAbi {
  uint32_t index, pad;
  StorageAbi group;
  uint32_t mode, count;
};
static_assert(sizeof(GroupFilterAbi) == 144);

// The address of a sockaddr_storage; nothing when it is of another family than the level's.
std::optional<net::IpAddr> AddressOf(int level, const StorageAbi& s) {
  SocketAddress a;
  a.bytes = s;
  a.size = SocketAddress::kMax;
  if (a.family() != (level == IPPROTO_IP ? AF_INET : AF_INET6)) return std::nullopt;
  return level == IPPROTO_IP ? FromSockAddrIn(a).addr : FromSockAddrIn6(a).addr;
}

StorageAbi StorageOf(int level, const net::IpAddr& addr) {
  return ToSocketAddress(level == IPPROTO_IP ? AF_INET : AF_INET6, {addr, 0, 0}).bytes;
}

// Joins for a source alone, unless it is a member of the group already.
Result<void> JoinForSource(net::Endpoint& e, const net::IpAddr& group, net::IfIndex device) {
  Result<void> joined = FromNet(e.JoinGroup(group, device, true));
  if (!joined.ok() && !joined.error().Is(EADDRINUSE)) return joined;
  return {};
}

}  // namespace

// IP_ADD_MEMBERSHIP and the like.
Result<void> InetSocket::ChangeMembership(int name, OptionIn& in) {
  const bool whole_group = name == IP_ADD_MEMBERSHIP || name == IP_DROP_MEMBERSHIP;
  if (!whole_group && in.length() != sizeof(MreqSourceAbi)) return Errno(EINVAL);
  if (whole_group) {
    if (type() == SOCK_STREAM) return Errno(EPROTO);
    if (in.length() < 8) return Errno(EINVAL);
    MreqnAbi m = {};
    const std::vector<std::byte> bytes = TRY(in.Bytes(sizeof(m)));
    memcpy(&m, bytes.data(), bytes.size() >= sizeof(m) ? sizeof(m) : 8);
    const net::IpAddr group = net::IpAddr::V4(m.group);
    if (name == IP_ADD_MEMBERSHIP && !group.IsMulticast()) return Errno(EINVAL);
    const bool named = m.index != 0 || !net::IpAddr::V4(m.address).IsAny();
    const int missing = name == IP_DROP_MEMBERSHIP && named ? EADDRNOTAVAIL : ENODEV;
    const net::IfIndex device = TRY(FindDevice(net::IpAddr::V4(m.address), m.index, missing));
    if (name == IP_DROP_MEMBERSHIP && !named && !endpoint().IsMember(group) &&
        !net().stack().LookupRoute({.dst = group}).ok()) {
      return Errno(ENODEV);
    }
    return FromNet(name == IP_ADD_MEMBERSHIP ? endpoint().JoinGroup(group, device)
                                             : endpoint().LeaveGroup(group, device));
  }
  const MreqSourceAbi m = TRY(in.Value<MreqSourceAbi>());
  const net::IpAddr group = net::IpAddr::V4(m.group);
  if (!group.IsMulticast()) return Errno(EINVAL);
  const net::IfIndex device = TRY(FindDevice(net::IpAddr::V4(m.interface), 0, ENODEV));
  if (name == IP_ADD_SOURCE_MEMBERSHIP) {
    TRY(JoinForSource(endpoint(), group, device));
  }
  const bool include = name == IP_ADD_SOURCE_MEMBERSHIP || name == IP_DROP_SOURCE_MEMBERSHIP;
  const bool add = name == IP_ADD_SOURCE_MEMBERSHIP || name == IP_BLOCK_SOURCE;
  return FromNet(endpoint().ChangeSource(group, device, net::IpAddr::V4(m.source), include, add));
}

// MCAST_JOIN_GROUP ... MCAST_UNBLOCK_SOURCE of both families.
Result<void> InetSocket::ChangeGroup(int level, int name, OptionIn& in) {
  const bool whole_group = name == MCAST_JOIN_GROUP || name == MCAST_LEAVE_GROUP;
  const size_t size = whole_group ? sizeof(GroupReqAbi) : sizeof(GroupSourceReqAbi);
  if (in.length() < size) return Errno(EINVAL);
  if (!whole_group && level == IPPROTO_IP && in.length() != size) return Errno(EINVAL);
  GroupSourceReqAbi req = {};
  const std::vector<std::byte> bytes = TRY(in.Bytes(size));
  memcpy(&req, bytes.data(), size);
  const std::optional<net::IpAddr> group = AddressOf(level, req.request.group);
  if (!group) return Errno(whole_group && level == IPPROTO_IP ? EINVAL : EADDRNOTAVAIL);
  const int32_t index = static_cast<int32_t>(req.request.index);
  if (whole_group) {
    const bool join = name == MCAST_JOIN_GROUP;
    if (!group->IsMulticast()) return Errno(join ? EINVAL : EADDRNOTAVAIL);
    const net::IfIndex device = TRY(FindDevice(net::IpAddr(), index, ENODEV));
    return FromNet(join ? endpoint().JoinGroup(*group, device)
                        : endpoint().LeaveGroup(*group, device));
  }
  const std::optional<net::IpAddr> source = AddressOf(level, req.source);
  if (!source) return Errno(EADDRNOTAVAIL);
  if (!group->IsMulticast()) return Errno(EINVAL);
  const net::IfIndex device = TRY(FindDevice(net::IpAddr(), index, ENODEV));
  if (name == MCAST_JOIN_SOURCE_GROUP) {
    TRY(JoinForSource(endpoint(), *group, device));
  }
  const bool include = name == MCAST_JOIN_SOURCE_GROUP || name == MCAST_LEAVE_SOURCE_GROUP;
  const bool add = name == MCAST_JOIN_SOURCE_GROUP || name == MCAST_BLOCK_SOURCE;
  return FromNet(endpoint().ChangeSource(*group, device, *source, include, add));
}

// IP_MSFILTER.
Result<void> InetSocket::SetSourceFilter(OptionIn& in) {
  if (in.length() < sizeof(MsFilterAbi)) return Errno(EINVAL);
  if (in.length() > kMaxOption) return Errno(ENOBUFS);
  const std::vector<std::byte> bytes = TRY(in.Bytes(kMaxOption));
  MsFilterAbi f;
  memcpy(&f, bytes.data(), sizeof(f));
  if (f.count > kMaxSources4) return Errno(ENOBUFS);
  if (sizeof(f) + f.count * 4 > bytes.size()) return Errno(EINVAL);
  std::vector<net::IpAddr> sources;
  for (uint32_t i = 0; i < f.count; i++) {
    uint8_t a[4];
    memcpy(a, bytes.data() + sizeof(f) + i * 4, sizeof(a));
    sources.push_back(net::IpAddr::V4(a));
  }
  const net::IpAddr group = net::IpAddr::V4(f.group);
  if (!group.IsMulticast() || f.mode > 1) return Errno(EINVAL);
  const net::IfIndex device = TRY(FindDevice(net::IpAddr::V4(f.interface), 0, ENODEV));
  return FromNet(endpoint().SetSources(group, device, f.mode == MCAST_INCLUDE, std::move(sources)));
}

Result<void> InetSocket::GetSourceFilter(OptionOut& out) {
  if (out.room() < sizeof(MsFilterAbi)) return Errno(EINVAL);
  MsFilterAbi f = TRY(UserIn<MsFilterAbi>(out.addr()).CopyIn(out.task()));
  const net::IpAddr group = net::IpAddr::V4(f.group);
  if (!group.IsMulticast()) return Errno(EINVAL);
  const net::IfIndex device = TRY(FindDevice(net::IpAddr::V4(f.interface), 0, ENODEV));
  const net::GroupMembership m = TRY(FromNet(endpoint().Membership(group, device)));
  const size_t n = std::min<size_t>(f.count, m.sources.size());
  f.mode = m.include ? MCAST_INCLUDE : MCAST_EXCLUDE;
  f.count = static_cast<uint32_t>(m.sources.size());
  std::vector<std::byte> bytes(sizeof(f) + n * 4);
  memcpy(bytes.data(), &f, sizeof(f));
  for (size_t i = 0; i < n; i++) {
    memcpy(bytes.data() + sizeof(f) + i * 4, m.sources[i].data(), 4);
  }
  out.Set(bytes);
  return {};
}

// MCAST_MSFILTER of both families.
Result<void> InetSocket::SetGroupFilter(int level, OptionIn& in) {
  if (in.length() < sizeof(GroupFilterAbi)) return Errno(EINVAL);
  if (in.length() > kMaxOption) return Errno(ENOBUFS);
  const std::vector<std::byte> bytes = TRY(in.Bytes(kMaxOption));
  GroupFilterAbi f;
  memcpy(&f, bytes.data(), sizeof(f));
  if (f.count > (level == IPPROTO_IP ? kMaxSources4 : kMaxSources6)) return Errno(ENOBUFS);
  if (sizeof(f) + f.count * sizeof(StorageAbi) > bytes.size()) return Errno(EINVAL);
  const std::optional<net::IpAddr> group = AddressOf(level, f.group);
  if (!group) return Errno(level == IPPROTO_IP ? EADDRNOTAVAIL : EINVAL);
  std::vector<net::IpAddr> sources;
  for (uint32_t i = 0; i < f.count; i++) {
    StorageAbi s;
    memcpy(&s, bytes.data() + sizeof(f) + i * sizeof(s), sizeof(s));
    const std::optional<net::IpAddr> source = AddressOf(level, s);
    if (!source) return Errno(EADDRNOTAVAIL);
    sources.push_back(*source);
  }
  if (!group->IsMulticast() || f.mode > 1) return Errno(EINVAL);
  const net::IfIndex device =
      TRY(FindDevice(net::IpAddr(), static_cast<int32_t>(f.index), ENODEV));
  return FromNet(endpoint().SetSources(*group, device, f.mode == MCAST_INCLUDE,
                                       std::move(sources)));
}

Result<void> InetSocket::GetGroupFilter(int level, OptionOut& out) {
  if (out.room() < sizeof(GroupFilterAbi)) return Errno(EINVAL);
  GroupFilterAbi f = TRY(UserIn<GroupFilterAbi>(out.addr()).CopyIn(out.task()));
  const std::optional<net::IpAddr> group = AddressOf(level, f.group);
  if (!group) return Errno(level == IPPROTO_IP ? EINVAL : EADDRNOTAVAIL);
  if (!group->IsMulticast()) return Errno(EINVAL);
  const net::IfIndex device =
      TRY(FindDevice(net::IpAddr(), static_cast<int32_t>(f.index), ENODEV));
  const net::GroupMembership m = TRY(FromNet(endpoint().Membership(*group, device)));
  const size_t n = std::min<size_t>(f.count, m.sources.size());
  f.mode = m.include ? MCAST_INCLUDE : MCAST_EXCLUDE;
  f.count = static_cast<uint32_t>(m.sources.size());
  std::vector<std::byte> bytes(sizeof(f) + n * sizeof(StorageAbi));
  memcpy(bytes.data(), &f, sizeof(f));
  for (size_t i = 0; i < n; i++) {
    const StorageAbi s = StorageOf(level, m.sources[i]);
    memcpy(bytes.data() + sizeof(f) + i * sizeof(s), &s, sizeof(s));
  }
  // No more than the guest has room for, whatever its count says.
  out.Set(bytes);
  return {};
}

}  // namespace ringwall
