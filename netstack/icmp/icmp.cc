// ICMP and ICMPv6: echo, errors in and out. Read RFC 792, RFC 1122 3.2.2 and RFC 4443 before
// editing.
#include <algorithm>

#include "netstack/ip/raw_endpoint.h"
#include "netstack/stack.h"
#include "netstack/tcp/protocol.h"
#include "netstack/udp/endpoint.h"
#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"

namespace ringwall::net {
namespace {

bool IsIcmp4Error(uint8_t type) {
  return type == kIcmpUnreachable || type == kIcmpTimeExceeded || type == kIcmpParamProblem ||
         type == kIcmpRedirect || type == 4;
}

}  // namespace

void Stack::IcmpIn(const IpReceived& rx, const Slice& message) {
  IcmpCounters& count = counters_.icmp4;
  count.in_msgs++;
  std::optional<IcmpView> view = IcmpView::Parse(message.span());
  if (!view) {
    count.in_errors++;
    return;
  }
  if (!rx.checksum_valid && !view->ChecksumOkV4()) {
    count.in_errors++;
    count.in_csum_errors++;
    return;
  }
  switch (view->type()) {
    case kIcmpEcho: {
      count.in_echos++;
      if (config_.icmp_echo_ignore_all || rx.src.IsAny()) return;
      if (rx.dst_is_group && config_.icmp_echo_ignore_broadcasts) return;
      Packet p{Chain(message.Sub(kIcmpHeader))};
      WriteIcmp(p.Prepend(kIcmpHeader), kIcmpEchoReply, 0, view->rest());
      Checksum c;
      c.Add(p.header());
      for (const Slice& s : p.payload.slices()) c.Add(s.span());
      Store16(p.header_data() + 2, c.Finish());
      const IpAddr src = rx.dst_is_group ? IpAddr() : rx.dst;
      NetResult<Route> route = FindRoute({.src = src, .dst = rx.src, .oif = 0});
      if (!route.ok()) return;
      count.out_msgs++;
      count.out_echo_reps++;
      (void)SendIp(*route, {route->src, rx.src, kProtoIcmp, config_.default_ttl, rx.tos},
                   std::move(p));
      return;
    }
    case kIcmpEchoReply:
      count.in_echo_reps++;
      raw_->PingIn(rx, *view, message);
      return;
    case kIcmpUnreachable:
      count.in_dest_unreachs++;
      [[fallthrough]];
    case kIcmpTimeExceeded:
    case kIcmpParamProblem:
      return IcmpErrorIn(rx, false, message);
    default:
      // Redirects are ignored (accept_redirects is off where nothing routes for us), as are the
      // obsolete requests: RFC 6918.
      return;
  }
}

void Stack::Icmp6In(const IpReceived& rx, const Slice& message) {
  IcmpCounters& count = counters_.icmp6;
  count.in_msgs++;
  std::optional<IcmpView> view = IcmpView::Parse(message.span());
  if (!view) {
    count.in_errors++;
    return;
  }
  if (!rx.checksum_valid && !view->ChecksumOkV6(rx.src, rx.dst)) {
    count.in_errors++;
    count.in_csum_errors++;
    return;
  }
  switch (view->type()) {
    case kIcmp6Echo: {
      count.in_echos++;
      if (config_.icmp_echo_ignore_all || rx.src.IsAny()) return;
      const IpAddr src = rx.dst_is_group ? IpAddr() : rx.dst;
      NetResult<Route> route = FindRoute(
          {.src = src, .dst = rx.src, .oif = rx.src.IsLinkLocal() ? rx.iface : 0});
      if (!route.ok()) return;
      Packet p{Chain(message.Sub(kIcmpHeader))};
      WriteIcmp(p.Prepend(kIcmpHeader), kIcmp6EchoReply, 0, view->rest());
      const IpSend ip{route->src, rx.src, kProtoIcmpv6, config_.default_ttl, rx.tos};
      FinishChecksum(*route, ip, p, 2);
      count.out_msgs++;
      count.out_echo_reps++;
      (void)SendIp(*route, ip, std::move(p));
      return;
    }
    case kIcmp6EchoReply:
      count.in_echo_reps++;
      raw_->PingIn(rx, *view, message);
      return;
    case kIcmp6Unreachable:
      count.in_dest_unreachs++;
      [[fallthrough]];
    case kIcmp6PacketTooBig:
    case kIcmp6TimeExceeded:
    case kIcmp6ParamProblem:
      return IcmpErrorIn(rx, true, message);
    case kMldQuery:
      if (rx.ttl == 1 && rx.src.IsLinkLocal()) {  // RFC 3810 6.2
        if (std::optional<GroupQuery> q = GroupQuery::ParseMld(*view)) {
          if (Interface* i = FindInterface(rx.iface)) GroupQueryIn(*i, *q, Family::kV6);
        }
      }
      return;
    case kNdpRouterAdvert:
    case kNdpNeighbourSolicit:
    case kNdpNeighbourAdvert:
      return NdpIn(rx, *view);
    default:
      return;
  }
}

// The quoted packet is as hostile as any: it is parsed with the same views, and transports check
// that it names a connection of theirs (and TCP that its sequence number is in flight).
void Stack::IcmpErrorIn(const IpReceived& rx, bool v6, const Slice& message) {
  const IcmpView view = *IcmpView::Parse(message.span());
  const Slice quoted = message.Sub(kIcmpHeader);
  IcmpError e;
  e.v6 = v6;
  e.type = view.type();
  e.code = view.code();
  e.reporter = rx.src;
  e.to = rx.dst;
  e.iface = rx.iface;
  e.ttl = rx.ttl;
  e.tos = rx.tos;
  if (v6) {
    // The quote may be cut short, so the length field is not checked against it.
    if (quoted.size() < kIpv6Header || quoted.data()[0] >> 4 != 6) return;
    e.local = IpAddr::V6(quoted.data() + 8);
    e.remote = IpAddr::V6(quoted.data() + 24);
    const Ipv6Walk walk = WalkIpv6(quoted.span(), quoted.data()[6], kIpv6Header, 6);
    size_t offset = walk.offset;
    e.protocol = walk.protocol;
    if (walk.stop == Ipv6Walk::Stop::kFragment) {
      std::optional<Ipv6Fragment> f = Ipv6Fragment::Parse(quoted.span().subspan(offset));
      if (!f || f->offset != 0) return;
      e.protocol = f->next_header;
      offset += Ipv6Fragment::kSize;
    } else if (walk.stop != Ipv6Walk::Stop::kUpper) {
      return;
    }
    e.transport = quoted.Sub(std::min(offset, quoted.size()));
    if (e.type == kIcmp6PacketTooBig) e.mtu = view.rest();
  } else {
    if (quoted.size() < kIpv4Header || quoted.data()[0] >> 4 != 4) return;
    const size_t header = (quoted.data()[0] & 0xfu) * 4;
    if (header < kIpv4Header || quoted.size() < header + 8) return;
    if ((Load16(quoted.data() + 6) & 0x1fff) != 0) return;  // not the first fragment
    e.local = IpAddr::V4(quoted.data() + 12);
    e.remote = IpAddr::V4(quoted.data() + 16);
    e.protocol = quoted.data()[9];
    e.transport = quoted.Sub(header);
    if (e.type == kIcmpUnreachable && e.code == kIcmpFragNeeded) {
      e.mtu = view.rest() & 0xffff;
      if (e.mtu == 0) e.mtu = 576;  // RFC 1191 5: a router that does not tell
    }
  }
  if (e.transport.size() < 8 || !IsLocal(e.local)) return;
  raw_->ErrorIn(e);
  if (e.protocol == kProtoTcp) return tcp_->ErrorIn(e);
  if (e.protocol == kProtoUdp) {
    // RFC 8899 would probe; Linux believes the message once a socket of ours sent the packet.
    if (udp_->ErrorIn(e) && e.mtu != 0) LearnPathMtu(e.remote, e.mtu);
    return;
  }
  if (e.mtu != 0) LearnPathMtu(e.remote, e.mtu);
}

void Stack::SendIcmpError(const IpReceived& about, const Slice& datagram, uint8_t type,
                          uint8_t code, uint32_t rest) {
  const bool v4 = about.dst.is_v4();
  IcmpCounters& count = v4 ? counters_.icmp4 : counters_.icmp6;
  // RFC 1122 3.2.2 and RFC 4443 2.4(e): no error about an error, a group, a source that is not one
  // host. IPv6 makes two exceptions for groups.
  if (about.src.IsAny() || about.src.IsMulticast() || IsBroadcast(about.src)) return;
  const bool too_big = !v4 && type == kIcmp6PacketTooBig;
  const bool bad_option = !v4 && type == kIcmp6ParamProblem && code == 2;
  if (about.dst_is_group && !too_big && !bad_option) return;
  if (v4) {
    const size_t header = (datagram.data()[0] & 0xfu) * 4;
    if ((Load16(datagram.data() + 6) & 0x1fff) != 0) return;
    if (datagram.data()[9] == kProtoIcmp &&
        (datagram.size() <= header || IsIcmp4Error(datagram.data()[header]))) {
      return;
    }
  } else {
    const Ipv6Walk walk = WalkIpv6(datagram.span(), datagram.data()[6], kIpv6Header, 6);
    if (walk.stop == Ipv6Walk::Stop::kUpper && walk.protocol == kProtoIcmpv6 &&
        (walk.offset >= datagram.size() || datagram.data()[walk.offset] < 128 ||
         datagram.data()[walk.offset] == kNdpRedirect)) {
      return;
    }
  }
  // icmpv4_xrlim_allow(): what stays on the loopback floods nobody else.
  if (!IsLocal(about.src) && !icmp_limit_.Allow(about.src, now_)) {
    count.out_rate_limited++;
    return;
  }
  const bool local = IsLocal(about.dst) && !about.dst_is_group;
  NetResult<Route> route = FindRoute({.src = local ? about.dst : IpAddr(),
                                      .dst = about.src,
                                      .oif = about.src.IsLinkLocal() ? about.iface : 0});
  if (!route.ok()) return;
  // RFC 1812 4.3.2.3: as much as fits in 576 bytes; RFC 4443 2.4(c): in the least MTU.
  const size_t room = v4 ? 576 - kIpv4Header - kIcmpHeader : 1280 - kIpv6Header - kIcmpHeader;
  Packet p{Chain(datagram.Sub(0, std::min(room, datagram.size())))};
  WriteIcmp(p.Prepend(kIcmpHeader), type, code, rest);
  const IpSend ip{route->src, about.src, v4 ? kProtoIcmp : kProtoIcmpv6, config_.default_ttl,
                  static_cast<uint8_t>(v4 ? (about.tos & 0x1e) | 0xc0 : 0)};
  if (v4) {
    Checksum c;
    c.Add(p.header());
    for (const Slice& s : p.payload.slices()) c.Add(s.span());
    Store16(p.header_data() + 2, c.Finish());
  } else {
    FinishChecksum(*route, ip, p, 2);
  }
  count.out_msgs++;
  if (type == (v4 ? kIcmpUnreachable : kIcmp6Unreachable)) count.out_dest_unreachs++;
  const PacketMeta* before = std::exchange(attach_, &about.meta);
  (void)SendIp(*route, ip, std::move(p));
  attach_ = before;
}

// The neighbour did not answer: what we sent ourselves fails as if a router had said so, what was
// forwarded is answered with an error. Compare Linux's ipv4_link_failure().
void Stack::ReportUnreachable(Packet packet) {
  const Slice datagram = packet.Flatten();
  if (datagram.size() < kIpv4Header) return;
  IpReceived about;
  const bool v4 = datagram.data()[0] >> 4 == 4;
  if (v4) {
    std::optional<Ipv4View> view = Ipv4View::Parse(datagram.span());
    if (!view) return;
    about.src = view->src();
    about.dst = view->dst();
  } else {
    std::optional<Ipv6View> view = Ipv6View::Parse(datagram.span());
    if (!view) return;
    about.src = view->src();
    about.dst = view->dst();
  }
  SendIcmpError(about, datagram, v4 ? kIcmpUnreachable : kIcmp6Unreachable,
                v4 ? kIcmpHostUnreach : kIcmp6AddrUnreach, 0);
}

}  // namespace ringwall::net
