// The options of IPPROTO_IPV6 (net/ipv6/ipv6_sockglue.c).
#include <linux/in6.h>
#include <netinet/in.h>

#include <algorithm>

#include "fs/inet/inet_socket.h"
#include "fs/inet/option_rows.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

using net::Option;

// linux/in6.h, in part too new for the C library's header.
constexpr int kIpv6MulticastAll = 29, kIpv6RouterAlertIsolate = 30, kIpv6RecvErrRfc4884 = 31,
              kIpv6FlowLabelMgr = 32, kIpv6FlowInfoSend = 33, kIpv6MinHopCount = 73,
              kIpv6OrigDstAddr = 74, kIpv6Transparent = 75, kIpv6UnicastIf = 76,
              kIpv6RecvFragSize = 77, kIpv6FreeBind = 78, kIpv6AutoFlowLabel = 70,
              kIpv6AddrPreferences = 72, kIpv6FlowInfo = 11, kIpv62292PktOptions = 6;

struct Mreq6Abi {
  uint8_t group[16];
  int32_t index;
};

constexpr NumberRow kNumbers[] = {
    {IPV6_V6ONLY, Option::kV6Only},
    {IPV6_UNICAST_HOPS, Option::kUnicastHops},
    {IPV6_MULTICAST_HOPS, Option::kMulticastHops},
    {IPV6_MULTICAST_LOOP, Option::kMulticastLoop6},
    {IPV6_TCLASS, Option::kTrafficClass},
    {IPV6_MTU_DISCOVER, Option::kMtuDiscover6},
    {IPV6_RECVERR, Option::kRecvErr6},
    {kIpv6Transparent, Option::kTransparent},
    {kIpv6FreeBind, Option::kFreeBind},
    {kIpv6MulticastAll, Option::kMulticastAll6},
};

constexpr FlagRow kFlags[] = {
    {IPV6_RECVPKTINFO, IpFlag::kRecvPktInfo6},
    {IPV6_2292PKTINFO, IpFlag::kPktInfo2292},
    {IPV6_RECVHOPLIMIT, IpFlag::kRecvHopLimit6},
    {IPV6_2292HOPLIMIT, IpFlag::kHopLimit2292},
    {IPV6_RECVTCLASS, IpFlag::kRecvTclass6},
    {IPV6_RECVHOPOPTS, IpFlag::kRecvHopOpts6},
    {IPV6_2292HOPOPTS, IpFlag::kHopOpts2292},
    {IPV6_RECVDSTOPTS, IpFlag::kRecvDstOpts6},
    {IPV6_2292DSTOPTS, IpFlag::kDstOpts2292},
    {IPV6_RECVRTHDR, IpFlag::kRecvRtHdr6},
    {IPV6_2292RTHDR, IpFlag::kRtHdr2292},
    {IPV6_RECVPATHMTU, IpFlag::kRecvPathMtu6},
    {kIpv6OrigDstAddr, IpFlag::kRecvOrigDst6},
    {kIpv6RecvFragSize, IpFlag::kRecvFragSize6},
    {kIpv6FlowInfo, IpFlag::kRecvFlowInfo6},
    {IPV6_DONTFRAG, IpFlag::kDontFrag6},
    {kIpv6AutoFlowLabel, IpFlag::kAutoFlowLabel6},
    {kIpv6FlowInfoSend, IpFlag::kFlowInfoSend6},
    {kIpv6RouterAlertIsolate, IpFlag::kRouterAlertIsolate6},
    {kIpv6RecvErrRfc4884, IpFlag::kRecvErrRfc4884V6},
};

}  // namespace

Result<void> InetSocket::ChangeMembership6(int name, OptionIn& in) {
  const Mreq6Abi m = TRY(in.Value<Mreq6Abi>());
  if (type() == SOCK_STREAM) return Errno(EPROTO);
  const net::IpAddr group = net::IpAddr::V6(m.group);
  const bool join = name == IPV6_JOIN_GROUP;
  if (!group.IsMulticast()) return Errno(EINVAL);
  const net::IfIndex device = TRY(FindDevice(net::IpAddr(), m.index, join ? ENODEV : EADDRNOTAVAIL));
  return FromNet(join ? endpoint().JoinGroup(group, device)
                      : endpoint().LeaveGroup(group, device));
}

// ipv6_sock_ac_join(). No address here is an anycast one, so none is to be had.
Result<void> InetSocket::JoinAnycast(OptionIn& in) {
  const Mreq6Abi m = TRY(in.Value<Mreq6Abi>());
  if (!in.task().creds().HasIn(net().user_ns(), Capability::kNetAdmin)) return Errno(EPERM);
  const net::IpAddr address = net::IpAddr::V6(m.group);
  if (address.IsMulticast()) return Errno(EINVAL);
  if (m.index != 0) TRY(FindDevice(net::IpAddr(), m.index, ENODEV));
  for (const net::InterfaceInfo& i : net().stack().Interfaces()) {
    for (const net::InterfaceAddress& a : i.addresses) {
      if (a.prefix.addr == address) return Errno(EINVAL);
    }
  }
  return Errno(EADDRNOTAVAIL);
}

// ip6_ra_control(): a socket is listed once; a negative value takes it off the list.
Result<void> InetSocket::SetRouterAlert6(int32_t value) {
  const bool listed = ip_flags_.Has(IpFlag::kRouterAlertOn6);
  if (listed == (value >= 0)) return Errno(listed ? EADDRINUSE : ENOBUFS);
  ip_flags_.Set(IpFlag::kRouterAlertOn6, value >= 0);
  ip_flags_.Set(IpFlag::kRouterAlert6, value != 0);
  return {};
}

// do_ipv6_setsockopt().
Result<void> InetSocket::SetIpv6Option(int name, OptionIn& in) {
  if (IsRouting(name)) {
    return Errno(type() == SOCK_RAW && protocol() == IPPROTO_ICMPV6 ? ENOPROTOOPT : EOPNOTSUPP);
  }
  // What is long enough for a number is read as one before the option is looked at; without a value it is 0.
  int32_t value = 0;
  if (in.length() >= sizeof(int32_t) && !in.addr().IsNull()) value = TRY(in.Int());
  switch (name) {
    case MCAST_JOIN_GROUP:
    case MCAST_LEAVE_GROUP:
    case MCAST_JOIN_SOURCE_GROUP:
    case MCAST_LEAVE_SOURCE_GROUP:
    case MCAST_BLOCK_SOURCE:
    case MCAST_UNBLOCK_SOURCE:
      return ChangeGroup(IPPROTO_IPV6, name, in);
    case IPV6_JOIN_GROUP:
    case IPV6_LEAVE_GROUP:
      return ChangeMembership6(name, in);
    case IPV6_JOIN_ANYCAST:
      return JoinAnycast(in);
    case IPV6_LEAVE_ANYCAST:
      TRY(in.Value<Mreq6Abi>());
      return Errno(ENOENT);
    case IPV6_HOPOPTS:
    case IPV6_RTHDRDSTOPTS:
    case IPV6_RTHDR:
    case IPV6_DSTOPTS:
      if (name != IPV6_RTHDR && !in.task().creds().HasIn(net().user_ns(), Capability::kNetRaw)) {
        return Errno(EPERM);
      }
      return SetSticky(name, in);
    case IPV6_PKTINFO:
      return in.length() < 20 ? Result<void>(Errno(EINVAL)) : Result<void>();
    case kIpv62292PktOptions:
      // Control data for every packet: none of it is taken.
      TRY(in.Bytes(in.length()));
      return in.length() < 16 ? Result<void>() : Result<void>(Errno(EINVAL));
    case IPV6_IPSEC_POLICY:
    case IPV6_XFRM_POLICY:
      if (!in.task().creds().HasIn(net().user_ns(), Capability::kNetAdmin)) return Errno(EPERM);
      return Errno(ENOPROTOOPT);
    case kIpv6FlowLabelMgr:
      return Errno(EINVAL);
    case MCAST_MSFILTER:
      return SetGroupFilter(IPPROTO_IPV6, in);
    case IPV6_MULTICAST_HOPS:
      if (type() == SOCK_STREAM) return Errno(ENOPROTOOPT);
      break;
    default:
      break;
  }
  const NumberRow* number = Find(kNumbers, name);
  const FlagRow* flag = Find(kFlags, name);
  const auto too_short = [&] { return in.length() < sizeof(int32_t); };
  if (number != nullptr) {
    if (too_short()) return Errno(EINVAL);
    if (name == IPV6_V6ONLY && type() == SOCK_RAW) return Errno(EINVAL);  // has its "port" already
    // The ECN bits of a stream are its own.
    if (name == IPV6_TCLASS && type() == SOCK_STREAM && value > 0) value &= ~3;
    if (name == IPV6_MULTICAST_LOOP && value != 0 && value != 1) return Errno(EINVAL);
    if (name == kIpv6Transparent && value != 0 &&
        !in.task().creds().HasIn(net().user_ns(), Capability::kNetAdmin) &&
        !in.task().creds().HasIn(net().user_ns(), Capability::kNetRaw)) {
      return Errno(EPERM);
    }
    return SetNumber(number->option, value);
  }
  if (flag != nullptr) {
    const bool any_length =
        name == IPV6_DONTFRAG || name == kIpv6AutoFlowLabel || name == kIpv6RecvFragSize;
    if (too_short() && !any_length) return Errno(EINVAL);
    if (name == kIpv6RecvErrRfc4884 && value != 0 && value != 1) {
      return Errno(EINVAL);
    }
    ip_flags_.Set(flag->flag, value != 0);
    return {};
  }
  switch (name) {
    case IPV6_MULTICAST_IF: {
      if (type() == SOCK_STREAM) return Errno(ENOPROTOOPT);
      if (too_short()) return Errno(EINVAL);
      const net::IfIndex device = TRY(FindDevice(net::IpAddr(), value, ENODEV));
      return SetNumber(Option::kMulticastIf6, device);
    }
    case kIpv6UnicastIf: {
      if (in.length() != sizeof(int32_t)) return Errno(EINVAL);
      const int32_t index = static_cast<int32_t>(__builtin_bswap32(static_cast<uint32_t>(value)));
      if (index != 0) {
        TRY(FindDevice(net::IpAddr(), index, EADDRNOTAVAIL));
      }
      kept_.unicast_if6 = value;
      return {};
    }
    case kIpv6MinHopCount:
      if (too_short() || value < 0 || value > 255) return Errno(EINVAL);
      kept_.min_hops = value;
      return {};
    case IPV6_MTU:
      if (too_short()) return Errno(EINVAL);
      return value != 0 && value < 1280 ? Result<void>(Errno(EINVAL)) : Result<void>();
    case kIpv6AddrPreferences:
      if (too_short()) return Errno(EINVAL);
      return SetAddressPreferences(value);
    case IPV6_ADDRFORM:
      return SetAddressForm(value);
    case IPV6_ROUTER_ALERT:
      if (too_short()) return Errno(EINVAL);
      if (type() != SOCK_RAW || protocol() != IPPROTO_RAW) return Errno(ENOPROTOOPT);
      return SetRouterAlert6(value);
    case IPV6_HDRINCL:
      if (type() != SOCK_RAW) return Errno(ENOPROTOOPT);
      if (too_short()) return Errno(EINVAL);
      return SetNumber(Option::kHeaderIncluded, value);
    default:
      return Errno(ENOPROTOOPT);
  }
}

// IPV6_ADDR_PREFERENCES: RFC 5014's choices, of which each pair has a default.
Result<void> InetSocket::SetAddressPreferences(int32_t value) {
  constexpr int32_t kTemporary = 1, kPublic = 2, kEither = 0x100, kCareOf = 4, kHome = 0x400,
                    kCga = 8, kNotCga = 0x800;
  const int32_t kind = value & (kTemporary | kPublic | kEither);
  const int32_t place = value & (kCareOf | kHome);
  if (kind != 0 && (kind & (kind - 1)) != 0) return Errno(EINVAL);
  if (place == (kCareOf | kHome)) return Errno(EINVAL);
  if ((value & (kCga | kNotCga)) == (kCga | kNotCga)) return Errno(EINVAL);
  // What is not said is the default again.
  kept_.addr_prefs = (kind != 0 ? kind : kEither) | (place != 0 ? place : kHome);
  return {};
}

// Options that every packet is to carry (ipv6_set_opt_hdr()). Kept; the stack sends none.
Result<void> InetSocket::SetSticky(int name, OptionIn& in) {
  std::vector<std::byte> bytes;
  if (in.length() != 0) {
    if (in.length() < 8 || in.length() % 8 != 0 || in.length() > 8 * 255) return Errno(EINVAL);
    bytes = TRY(in.Bytes(8 * 255));
    const size_t size = (static_cast<size_t>(bytes[1]) + 1) * 8;
    if (size > bytes.size() || name == IPV6_RTHDR) return Errno(EINVAL);
    bytes.resize(size);
  }
  sticky_.With([&](auto& all) { all[name] = std::move(bytes); });
  return {};
}

// IPV6_ADDRFORM: an IPv6 socket with an IPv4 peer becomes an IPv4 one.
Result<void> InetSocket::SetAddressForm(int32_t family) {
  if (family != AF_INET) return Errno(EINVAL);
  if (protocol() != IPPROTO_TCP && protocol() != IPPROTO_UDP) return Errno(ENOPROTOOPT);
  net::NetResult<net::SockAddr> peer = endpoint().RemoteAddress();
  if (!peer.ok()) return Errno(ENOTCONN);
  if (type() == SOCK_STREAM && peer->port == 0) return Errno(ENOTCONN);
  const int64_t only = TRY(GetNumber(Option::kV6Only));
  if (only != 0 || !peer->addr.IsV4Mapped()) return Errno(EADDRNOTAVAIL);
  endpoint().BecomeIpv4();
  BecomeFamily(AF_INET);
  return {};
}

// do_ipv6_getsockopt().
Result<void> InetSocket::GetIpv6Option(int name, OptionOut& out) {
  if (IsRouting(name)) {
    return Errno(type() == SOCK_RAW && protocol() == IPPROTO_ICMPV6 ? ENOPROTOOPT : EOPNOTSUPP);
  }
  if (const NumberRow* row = Find(kNumbers, name)) {
    int64_t v = TRY(GetNumber(row->option));
    if (name == IPV6_UNICAST_HOPS && v == -1) v = net().stack().Config().default_ttl;
    out.Int(v);
    return {};
  }
  if (const FlagRow* row = Find(kFlags, name)) {
    out.Int(ip_flags_.Has(row->flag));
    return {};
  }
  switch (name) {
    case IPV6_MULTICAST_IF: {
      const int64_t v = TRY(GetNumber(Option::kMulticastIf6));
      out.Int(v);
      return {};
    }
    case IPV6_ADDRFORM:
      if (protocol() != IPPROTO_TCP && protocol() != IPPROTO_UDP) return Errno(ENOPROTOOPT);
      if (!endpoint().RemoteAddress().ok()) return Errno(ENOTCONN);
      out.Int(AF_INET6);
      return {};
    case IPV6_MTU: {
      const Result<uint32_t> mtu = PeerMtu();
      if (!mtu.ok()) return Errno(ENOTCONN);
      out.Int(*mtu);
      return {};
    }
    case IPV6_PATHMTU: {
      if (out.room() < 32) return Errno(EINVAL);
      const uint32_t mtu = TRY(FromNet(endpoint().PathMtuToPeer()));
      std::array<std::byte, 32> info = {};
      memcpy(info.data() + 28, &mtu, sizeof(mtu));
      out.Put(info);
      return {};
    }
    case kIpv6UnicastIf: out.Int(kept_.unicast_if6); return {};
    case kIpv6MinHopCount: out.Int(kept_.min_hops); return {};
    case kIpv6AddrPreferences: out.Int(kept_.addr_prefs); return {};
    case IPV6_HDRINCL: {
      if (type() != SOCK_RAW) return Errno(ENOPROTOOPT);
      const int64_t v = TRY(GetNumber(Option::kHeaderIncluded));
      out.Int(v);
      return {};
    }
    case IPV6_HOPOPTS:
    case IPV6_RTHDRDSTOPTS:
    case IPV6_RTHDR:
    case IPV6_DSTOPTS:
      out.Set(sticky_.With([&](const auto& all) {
        auto it = all.find(name);
        return it == all.end() ? std::vector<std::byte>() : it->second;
      }));
      return {};
    case IPV6_ROUTER_ALERT:
      out.Int(ip_flags_.Has(IpFlag::kRouterAlert6));
      return {};
    case kIpv6FlowLabelMgr:
      if (out.room() < 32) return Errno(EINVAL);
      {
        // struct in6_flowlabel_req: its action is the byte behind the address and the label.
        const uint8_t action = TRY(UserIn<uint8_t>(out.addr() + 20).CopyIn(out.task()));
        return Errno(action != 0 /* IPV6_FL_A_GET */ ? EINVAL : ENOENT);
      }
    case MCAST_MSFILTER:
      if (out.room() == INT32_MAX) return Errno(EINVAL);  // a negative length
      return GetGroupFilter(IPPROTO_IPV6, out);
    case kIpv62292PktOptions:
      if (type() != SOCK_STREAM) return Errno(ENOPROTOOPT);
      return {};
    default:
      return Errno(ENOPROTOOPT);
  }
}

}  // namespace ringwall
