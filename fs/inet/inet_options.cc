// The options of IPPROTO_IP (net/ipv4/ip_sockglue.c). inet6_options.cc has IPPROTO_IPV6's.
#include <netinet/in.h>

#include <algorithm>

#include "fs/inet/inet_socket.h"
#include "fs/inet/option_rows.h"

namespace ringwall {

namespace {

using net::Option;

constexpr int kIpRecvFragSize = 25, kIpRecvErrRfc4884 = 26, kIpLocalPortRange = 51,
              kIpProtocol = 52, kIpChecksum = 23;
constexpr size_t kMaxIpOptions = 40;

// struct ip_mreqn, and ip_mreq as its first part.
struct MreqnAbi {
  uint8_t group[4], address[4];
  int32_t index;
};
// Those whose value is a number that the stack keeps and checks.
constexpr NumberRow kNumbers[] = {
    {IP_TOS, Option::kTos},
    {IP_TTL, Option::kTtl},
    {IP_MTU_DISCOVER, Option::kMtuDiscover},
    {IP_RECVERR, Option::kRecvErr},
    {IP_MULTICAST_TTL, Option::kMulticastTtl},
    {IP_MULTICAST_LOOP, Option::kMulticastLoop},
    {IP_MULTICAST_ALL, Option::kMulticastAll},
    {IP_FREEBIND, Option::kFreeBind},
    {IP_TRANSPARENT, Option::kTransparent},
    {IP_HDRINCL, Option::kHeaderIncluded},
    {IP_BIND_ADDRESS_NO_PORT, Option::kBindNoPort},
};

constexpr FlagRow kFlags[] = {
    {IP_PKTINFO, IpFlag::kPktInfo},
    {IP_RECVTTL, IpFlag::kRecvTtl},
    {IP_RECVTOS, IpFlag::kRecvTos},
    {IP_RECVOPTS, IpFlag::kRecvOpts},
    {IP_RETOPTS, IpFlag::kRetOpts},
    {IP_PASSSEC, IpFlag::kPassSec},
    {IP_ORIGDSTADDR, IpFlag::kRecvOrigDst},
    {kIpChecksum, IpFlag::kChecksum},
    {kIpRecvFragSize, IpFlag::kRecvFragSize},
    {IP_NODEFRAG, IpFlag::kNoDefrag},
    {kIpRecvErrRfc4884, IpFlag::kRecvErrRfc4884},
};

// An int, or one byte where that is all there is.
Result<int32_t> IntOrByte(const OptionIn& in) {
  if (in.length() >= sizeof(int32_t)) return in.Int();
  if (in.length() == 0) return 0;
  const uint8_t byte = TRY(in.Value<uint8_t>());
  return int32_t{byte};
}

// ip_options_compile(): the end of the list blanks the rest, lengths must fit, and what Linux does
// not know itself only a privileged socket sends.
Result<void> CheckIpOptions(Task& t, NetNamespace& net, std::vector<std::byte>& options) {
  constexpr uint8_t kEnd = 0, kNoop = 1, kRecordRoute = 7, kTimestamp = 68, kLooseRoute = 131,
                    kStrictRoute = 137, kRouterAlert = 148;
  options.resize((options.size() + 3) & ~size_t{3});
  for (size_t at = 0; at < options.size();) {
    const uint8_t type = static_cast<uint8_t>(options[at]);
    if (type == kEnd) {
      std::fill(options.begin() + static_cast<ptrdiff_t>(at), options.end(), std::byte{0});
      break;
    }
    if (type == kNoop) {
      at++;
      continue;
    }
    if (at + 1 >= options.size()) return Errno(EINVAL);
    const size_t length = static_cast<uint8_t>(options[at + 1]);
    if (length < 2 || length > options.size() - at) return Errno(EINVAL);
    const bool known = type == kRecordRoute || type == kTimestamp || type == kLooseRoute ||
                       type == kStrictRoute || type == kRouterAlert;
    if (!known && !t.creds().HasIn(net.user_ns(), Capability::kNetRaw)) return Errno(EINVAL);
    at += length;
  }
  return {};
}

bool MayRaw(Task& t, NetNamespace& net) {
  return t.creds().HasIn(net.user_ns(), Capability::kNetRaw) ||
         t.creds().HasIn(net.user_ns(), Capability::kNetAdmin);
}

}  // namespace

// The interface of a multicast option: by number, or by an address of its own. `missing`: the errno
// when there is none such.
Result<net::IfIndex> InetSocket::FindDevice(const net::IpAddr& address, int32_t index,
                                            int missing) {
  if (index == 0 && (address.IsNone() || address.IsAny())) return net::IfIndex{0};
  for (const net::InterfaceInfo& i : net().stack().Interfaces()) {
    if (index != 0 && static_cast<int32_t>(i.index) == index) return i.index;
    if (index != 0) continue;
    for (const net::InterfaceAddress& a : i.addresses) {
      if (a.prefix.addr == address) return i.index;
    }
    // All of 127/8 is lo's.
    if (i.kind == net::LinkKind::kLoopback && address.IsLoopback()) return i.index;
  }
  return Errno(missing);
}

Result<void> InetSocket::SetMulticastIf(OptionIn& in) {
  if (type() == SOCK_STREAM) return Errno(EINVAL);
  if (in.length() < 4) return Errno(EINVAL);
  MreqnAbi m = {};
  const std::vector<std::byte> bytes = TRY(in.Bytes(sizeof(m)));
  if (bytes.size() >= 8) {
    memcpy(&m, bytes.data(), bytes.size());
  } else {
    memcpy(m.address, bytes.data(), 4);
  }
  const net::IpAddr address = net::IpAddr::V4(m.address);
  const net::IfIndex device = TRY(FindDevice(address, m.index, EADDRNOTAVAIL));
  TRY(SetNumber(Option::kMulticastIf, device));
  uint32_t kept = 0;
  memcpy(&kept, m.address, 4);
  multicast_addr_ = kept;
  return {};
}

// ipv4_mtu(), ip6_mtu(): no IPv4 packet is larger than 65,535 bytes.
Result<uint32_t> InetSocket::PeerMtu() {
  const uint32_t mtu = TRY(FromNet(endpoint().PathMtuToPeer()));
  net::NetResult<net::SockAddr> peer = endpoint().RemoteAddress();
  return peer.ok() && peer->addr.Unmapped().is_v4() ? std::min<uint32_t>(mtu, 65535) : mtu;
}

// do_ip_setsockopt().
Result<void> InetSocket::SetIpOption(int name, OptionIn& in) {
  const bool raw = type() == SOCK_RAW;
  // ip_mroute_setsockopt(): a raw IGMP socket's, and here nobody's.
  if (IsRouting(name)) return Errno(raw && protocol() == IPPROTO_IGMP ? ENOPROTOOPT : EOPNOTSUPP);
  switch (name) {
    case IP_MULTICAST_IF:
      return SetMulticastIf(in);
    case IP_ADD_MEMBERSHIP:
    case IP_DROP_MEMBERSHIP:
    case IP_BLOCK_SOURCE:
    case IP_UNBLOCK_SOURCE:
    case IP_ADD_SOURCE_MEMBERSHIP:
    case IP_DROP_SOURCE_MEMBERSHIP:
      return ChangeMembership(name, in);
    case IP_MSFILTER:
      return SetSourceFilter(in);
    case MCAST_MSFILTER:
      return SetGroupFilter(IPPROTO_IP, in);
    case MCAST_JOIN_GROUP:
    case MCAST_LEAVE_GROUP:
    case MCAST_JOIN_SOURCE_GROUP:
    case MCAST_LEAVE_SOURCE_GROUP:
    case MCAST_BLOCK_SOURCE:
    case MCAST_UNBLOCK_SOURCE:
      return ChangeGroup(IPPROTO_IP, name, in);
    case IP_OPTIONS: {
      if (in.length() > kMaxIpOptions) return Errno(EINVAL);
      std::vector<std::byte> bytes = TRY(in.Bytes(kMaxIpOptions));
      TRY(CheckIpOptions(in.task(), net(), bytes));
      ip_options_.With([&](std::vector<std::byte>& o) { o = std::move(bytes); });
      return {};
    }
    case IP_IPSEC_POLICY:
    case IP_XFRM_POLICY:
      if (!in.task().creds().HasIn(net().user_ns(), Capability::kNetAdmin)) return Errno(EPERM);
      return Errno(ENOPROTOOPT);
    case IP_UNICAST_IF: {
      if (in.length() != sizeof(int32_t)) return Errno(EINVAL);
      const int32_t v = TRY(in.Int());
      const int32_t index = static_cast<int32_t>(__builtin_bswap32(static_cast<uint32_t>(v)));
      if (index != 0) {
        TRY(FindDevice(net::IpAddr(), index, EADDRNOTAVAIL));
      }
      kept_.unicast_if = v;
      return {};
    }
    default:
      break;
  }
  if (const NumberRow* row = Find(kNumbers, name)) {
    const int32_t value = TRY(IntOrByte(in));
    if (in.length() == 0 && name != IP_TOS && name != IP_RECVERR && name != IP_MTU_DISCOVER &&
        name != IP_HDRINCL && name != IP_BIND_ADDRESS_NO_PORT) {
      return Errno(EINVAL);
    }
    if (name == IP_HDRINCL && !raw) return Errno(ENOPROTOOPT);
    const bool multicast = name == IP_MULTICAST_TTL;
    if (multicast && type() == SOCK_STREAM) return Errno(EINVAL);
    if (name == IP_MULTICAST_ALL && value != 0 && value != 1) return Errno(EINVAL);
    if (name == IP_TRANSPARENT && value != 0 && !MayRaw(in.task(), net())) return Errno(EPERM);
    // The low bits go in as they are; what is above a byte is cut.
    if (name == IP_TOS) return SetNumber(row->option, value & 0xff);
    return SetNumber(row->option, value);
  }
  if (const FlagRow* row = Find(kFlags, name)) {
    const int32_t value = TRY(IntOrByte(in));
    if (name == IP_NODEFRAG && !raw) return Errno(ENOPROTOOPT);
    if (name == kIpRecvFragSize && type() == SOCK_STREAM) return Errno(EINVAL);
    if (name == kIpRecvErrRfc4884 && value != 0 && value != 1) return Errno(EINVAL);
    ip_flags_.Set(row->flag, value != 0);
    return {};
  }
  switch (name) {
    case IP_MINTTL:
    case IP_ROUTER_ALERT:
    case kIpLocalPortRange:
      break;
    default:
      return Errno(ENOPROTOOPT);
  }
  const int32_t value = TRY(IntOrByte(in));
  switch (name) {
    case IP_MINTTL:
      if (in.length() == 0 || value < 0 || value > 255) return Errno(EINVAL);
      kept_.min_ttl = value;
      return {};
    case IP_ROUTER_ALERT:
      if (!raw || protocol() == IPPROTO_RAW) return Errno(EINVAL);
      if (ip_flags_.Has(IpFlag::kRouterAlert) == (value != 0)) {
        return Errno(value != 0 ? EADDRINUSE : ENOBUFS);
      }
      ip_flags_.Set(IpFlag::kRouterAlert, value != 0);
      return {};
    case kIpLocalPortRange: {
      if (in.length() != sizeof(uint32_t)) return Errno(EINVAL);
      const uint32_t v = static_cast<uint32_t>(value);
      const uint32_t low = v & 0xffff, high = v >> 16;
      if (low != 0 && high != 0 && low > high) return Errno(EINVAL);
      return SetNumber(Option::kPortRange, v);
    }
    default:
      return Errno(ENOPROTOOPT);
  }
}

// do_ip_getsockopt().
Result<void> InetSocket::GetIpOption(int name, OptionOut& out) {
  if (IsRouting(name)) {
    return Errno(type() == SOCK_RAW && protocol() == IPPROTO_IGMP ? ENOPROTOOPT : EOPNOTSUPP);
  }
  if (const NumberRow* row = Find(kNumbers, name)) {
    int64_t v = TRY(GetNumber(row->option));
    if (name == IP_TTL && v == -1) v = net().stack().Config().default_ttl;
    out.IntOrByte(v);
    return {};
  }
  if (const FlagRow* row = Find(kFlags, name)) {
    out.IntOrByte(ip_flags_.Has(row->flag));
    return {};
  }
  switch (name) {
    case IP_OPTIONS:
      out.Set(ip_options_.With([](const std::vector<std::byte>& o) { return o; }));
      return {};
    case IP_MTU: {
      const uint32_t mtu = TRY(PeerMtu());
      out.IntOrByte(mtu);
      return {};
    }
    case IP_PKTOPTIONS:
      if (type() != SOCK_STREAM) return Errno(ENOPROTOOPT);
      return {};  // none: a length of 0
    case IP_UNICAST_IF:
      out.IntOrByte(kept_.unicast_if);
      return {};
    case IP_MULTICAST_IF:
      out.Put(multicast_addr_.load());
      return {};
    case IP_MINTTL:
      out.IntOrByte(kept_.min_ttl);
      return {};
    case kIpLocalPortRange: {
      const int64_t range = TRY(GetNumber(Option::kPortRange));
      out.IntOrByte(static_cast<int32_t>(range));
      return {};
    }
    case kIpProtocol: {
      // inet_num: the local port, or the protocol of a raw socket.
      net::NetResult<net::SockAddr> local = endpoint().LocalAddress();
      out.IntOrByte(type() == SOCK_RAW ? protocol() : local.ok() ? local->port : 0);
      return {};
    }
    case IP_ROUTER_ALERT:
      out.IntOrByte(ip_flags_.Has(IpFlag::kRouterAlert));
      return {};
    case IP_MSFILTER:
      return GetSourceFilter(out);
    case MCAST_MSFILTER:
      return GetGroupFilter(IPPROTO_IP, out);
    default:
      return Errno(ENOPROTOOPT);
  }
}

}  // namespace ringwall
