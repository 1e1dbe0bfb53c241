#include "fs/inet/inet_control.h"

#include <linux/in6.h>
#include <netinet/in.h>

#include "fs/inet/address.h"

namespace ringwall {

namespace {

constexpr int kSolUdp = 17, kUdpSegment = 103;
constexpr int kSoTimestampingNew = 65;
constexpr int kScmTxtime = 61, kScmPriority = 84, kScmTsOptId = 81;
constexpr int kIpProtocol = 52;

struct PktInfoAbi {
  int32_t index;
  uint8_t spec_dst[4], addr[4];
};
static_assert(sizeof(PktInfoAbi) == 12);
struct PktInfo6Abi {
  uint8_t addr[16];
  int32_t index;
};
static_assert(sizeof(PktInfo6Abi) == 20);

bool MayIn(Task& t, Capability c) { return t.creds().HasIn(t.net().user_ns(), c); }

// __sock_cmsg_send().
Result<void> ReadSocketLevel(Task& t, const ControlMessage& c, net::SendParams* p) {
  switch (c.type) {
    case SO_MARK:
      if (!MayIn(t, Capability::kNetAdmin) && !MayIn(t, Capability::kNetRaw)) {
        return Errno(EPERM);
      }
      p->mark = TRY(c.Value<uint32_t>());
      return {};
    case SO_TIMESTAMPING:
    case kSoTimestampingNew: {
      // Only what is to be noted of this message can be said, not how it is told.
      constexpr uint32_t kRecord = 1 << 0 | 1 << 1 | 1 << 8 | 1 << 9;
      const uint32_t flags = TRY(c.Value<uint32_t>());
      if ((flags & ~kRecord) != 0) return Errno(EINVAL);
      p->stamps = flags;
      return {};
    }
    case kScmTxtime:
    case kScmTsOptId:
      return Errno(EINVAL);
    case kScmPriority:
      TRY(c.Value<uint32_t>());
      return {};
    case SCM_RIGHTS:
    case SCM_CREDENTIALS:
      return {};  // silently ignored but by AF_UNIX
    default:
      return Errno(EINVAL);
  }
}

// ip_cmsg_send().
Result<void> ReadIpLevel(const ControlMessage& c, net::SendParams* p) {
  switch (c.type) {
    case IP_RETOPTS:
      return c.data.size() <= 40 ? Result<void>() : Result<void>(Errno(EINVAL));
    case IP_PKTINFO: {
      const PktInfoAbi info = TRY(c.Value<PktInfoAbi>());
      if (info.index != 0) p->iface = static_cast<net::IfIndex>(info.index);
      p->src = net::IpAddr::V4(info.spec_dst);
      return {};
    }
    case IP_TTL: {
      const int32_t v = TRY(c.Value<int32_t>());
      if (v < 1 || v > 255) return Errno(EINVAL);
      p->ttl = static_cast<uint8_t>(v);
      return {};
    }
    case IP_TOS: {
      int32_t v = 0;
      if (c.data.size() == 1) {
        v = static_cast<int32_t>(c.data[0]);
      } else {
        v = TRY(c.Value<int32_t>());
      }
      if (v < 0 || v > 255) return Errno(EINVAL);
      p->tos = static_cast<uint8_t>(v);
      return {};
    }
    case kIpProtocol: {
      const int32_t v = TRY(c.Value<int32_t>());
      return v < 1 || v > 255 ? Result<void>(Errno(EINVAL)) : Result<void>();
    }
    default:
      return Errno(EINVAL);
  }
}

// ip6_datagram_send_ctl().
Result<void> ReadIpv6Level(Task& t, const ControlMessage& c, net::SendParams* p) {
  switch (c.type) {
    case IPV6_PKTINFO:
    case IPV6_2292PKTINFO: {
      if (c.data.size() < sizeof(PktInfo6Abi)) return Errno(EINVAL);
      PktInfo6Abi info;
      memcpy(&info, c.data.data(), sizeof(info));
      if (info.index < 0) return Errno(EINVAL);
      if (info.index != 0) p->iface = static_cast<net::IfIndex>(info.index);
      const net::IpAddr src = net::IpAddr::V6(info.addr);
      if (!src.IsAny()) p->src = src;
      return {};
    }
    case IPV6_FLOWINFO:
      return c.data.size() < 4 ? Result<void>(Errno(EINVAL)) : Result<void>();
    case IPV6_HOPLIMIT:
    case IPV6_2292HOPLIMIT: {
      const int32_t v = TRY(c.Value<int32_t>());
      if (v < -1 || v > 255) return Errno(EINVAL);
      if (v >= 0) p->ttl = static_cast<uint8_t>(v);
      return {};
    }
    case IPV6_TCLASS: {
      const int32_t v = TRY(c.Value<int32_t>());
      if (v < -1 || v > 255) return Errno(EINVAL);
      p->tos = static_cast<uint8_t>(v);  // -1 is all ones, not the socket's own
      return {};
    }
    case IPV6_DONTFRAG: {
      const int32_t v = TRY(c.Value<int32_t>());
      return v < 0 || v > 1 ? Result<void>(Errno(EINVAL)) : Result<void>();
    }
    case IPV6_HOPOPTS:
    case IPV6_2292HOPOPTS:
    case IPV6_DSTOPTS:
    case IPV6_2292DSTOPTS:
    case IPV6_RTHDRDSTOPTS: {
      // Checked; the stack sends no extension headers.
      if (c.data.size() < 2) return Errno(EINVAL);
      const size_t length = (static_cast<size_t>(c.data[1]) + 1) * 8;
      if (length > c.data.size()) return Errno(EINVAL);
      if (!MayIn(t, Capability::kNetRaw)) return Errno(EPERM);
      return {};
    }
    default:
      return Errno(EINVAL);
  }
}

}  // namespace

Result<void> ReadInetControl(Task& t, bool v6, std::span<const std::byte> control,
                             net::SendParams* params, bool to_v4) {
  return ForEachControl(control, [&](const ControlMessage& c) -> Result<void> {
    if (c.level == SOL_SOCKET) return ReadSocketLevel(t, c, params);
    if (v6 && to_v4) {
      // udp_sendmsg() reads it, which takes this one thing of IPv6's.
      if (c.level == IPPROTO_IPV6 && c.type == IPV6_PKTINFO) {
        TRY(ReadIpv6Level(t, c, params));
        const bool mapped = !params->src.IsNone() && params->src.Unmapped().is_v4();
        return mapped ? Result<void>() : Result<void>(Errno(EINVAL));
      }
      if (c.level == IPPROTO_IP) return ReadIpLevel(c, params);
    }
    if (c.level == kSolUdp && c.type == kUdpSegment) {
      params->gso_size = TRY(c.Value<uint16_t>());
      return {};
    }
    if (!v6 && c.level == IPPROTO_IP) return ReadIpLevel(c, params);
    if (v6 && !to_v4 && c.level == IPPROTO_IPV6) return ReadIpv6Level(t, c, params);
    return {};
  });
}

Result<void> ReadStreamControl(Task& t, std::span<const std::byte> control,
                               net::SendParams* params) {
  return ForEachControl(control, [&](const ControlMessage& c) -> Result<void> {
    if (c.level != SOL_SOCKET) return {};
    return ReadSocketLevel(t, c, params);
  });
}

// ip_cmsg_recv_offset() and ip6_datagram_recv_ctl().
void WriteInetControl(bool v6, const IpFlags& wants, const net::Datagram& d, uint16_t local_port,
                      ControlOut& out) {
  const uint16_t first_port = d.first_port != 0 ? d.first_port : local_port;
  if (!wants.any()) return;
  const net::IpAddr to = d.to.Unmapped();
  const auto put_int = [&](int level, int type, int32_t v) { out.Put(level, type, v); };
  const auto put_info = [&](int type) {
    PktInfo6Abi info = {};
    info.index = static_cast<int32_t>(d.iface);
    const net::IpAddr mapped = d.to.Mapped();
    memcpy(info.addr, mapped.data(), 16);
    out.Put(IPPROTO_IPV6, type, info);
  };
  if (v6 && wants.Has(IpFlag::kRecvPktInfo6)) put_info(IPV6_PKTINFO);
  if (to.is_v4()) {
    if (wants.Has(IpFlag::kPktInfo)) {
      PktInfoAbi info = {};
      info.index = static_cast<int32_t>(d.iface);
      const net::IpAddr spec = to.IsMulticast() || d.local.IsNone() ? to : d.local;
      memcpy(info.spec_dst, spec.data(), 4);
      memcpy(info.addr, to.data(), 4);
      out.Put(IPPROTO_IP, IP_PKTINFO, info);
    }
    if (wants.Has(IpFlag::kRecvTtl)) put_int(IPPROTO_IP, IP_TTL, d.ttl);
    if (wants.Has(IpFlag::kRecvTos)) {
      const uint8_t tos = d.tos;
      out.Put(IPPROTO_IP, IP_TOS, tos);
    }
    if (wants.Has(IpFlag::kRecvOrigDst)) {
      const SocketAddress a = ToSocketAddress(AF_INET, {to, first_port, 0});
      out.Put(IPPROTO_IP, IP_ORIGDSTADDR, std::span(a.bytes).first(a.size));
    }
  }
  if (!v6 || to.is_v4()) return;
  if (wants.Has(IpFlag::kRecvHopLimit6)) put_int(IPPROTO_IPV6, IPV6_HOPLIMIT, d.ttl);
  if (wants.Has(IpFlag::kRecvTclass6)) put_int(IPPROTO_IPV6, IPV6_TCLASS, d.tos);
  if (wants.Has(IpFlag::kPktInfo2292)) put_info(IPV6_2292PKTINFO);
  if (wants.Has(IpFlag::kHopLimit2292)) put_int(IPPROTO_IPV6, IPV6_2292HOPLIMIT, d.ttl);
  if (wants.Has(IpFlag::kRecvOrigDst6)) {
    const SocketAddress a = ToSocketAddress(AF_INET6, {d.to, first_port, 0});
    out.Put(IPPROTO_IPV6, 74 /* IPV6_ORIGDSTADDR */, std::span(a.bytes).first(a.size));
  }
}

}  // namespace ringwall
