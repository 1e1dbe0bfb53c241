// The way in: checks, reassembly, delivery to transports, forwarding. Read RFC 1122 3.2,
// RFC 1812 5 and RFC 8200 4 before editing.
#include <algorithm>

#include "netstack/ip/raw_endpoint.h"
#include "netstack/stack.h"
#include "netstack/tcp/protocol.h"
#include "netstack/udp/endpoint.h"
#include "netstack/wire/checksum.h"
#include "netstack/wire/icmp.h"
#include "netstack/wire/udp.h"

namespace ringwall::net {
namespace {

enum class OptionCheck { kOk, kBad, kSourceRoute };

// RFC 791 3.1. Nothing is recorded in them here; source routes are refused, as Linux does by
// default (accept_source_route).
OptionCheck CheckIpv4Options(ByteSpan options, uint32_t* bad_at) {
  for (size_t i = 0; i < options.size();) {
    const uint8_t type = options[i];
    if (type == 0) return OptionCheck::kOk;
    if (type == 1) {
      i++;
      continue;
    }
    *bad_at = static_cast<uint32_t>(kIpv4Header + i);
    if (i + 2 > options.size()) return OptionCheck::kBad;
    const size_t len = options[i + 1];
    if (len < 2 || i + len > options.size()) return OptionCheck::kBad;
    if (type == 131 || type == 137) return OptionCheck::kSourceRoute;
    i += len;
  }
  return OptionCheck::kOk;
}

}  // namespace

void Stack::Ipv4In(Interface& iface, Slice datagram, const RxFrame& frame, bool link_group) {
  IpCounters& count = counters_.ip4;
  count.in_receives++;
  std::optional<Ipv4View> view = Ipv4View::Parse(datagram.span());
  if (!view) {
    count.in_hdr_errors++;
    return;
  }
  // On the loopback a packet socket may have written it.
  if ((!frame.checksum_valid || iface.is_loopback()) && !view->ChecksumOk()) {
    count.in_bad_checksum++;
    count.in_hdr_errors++;
    return;
  }
  datagram.Truncate(view->total_length());
  IpReceived rx;
  rx.src = view->src();
  rx.dst = view->dst();
  rx.iface = iface.index;
  rx.protocol = view->protocol();
  rx.ttl = view->ttl();
  rx.tos = view->tos();
  rx.checksum_valid = frame.checksum_valid;
  rx.gso_size = frame.gso_size;
  rx.header = datagram.Sub(0, view->header_size());

  // RFC 1122 3.2.1.3: such sources cannot be; loopback addresses stay inside.
  const bool lo = iface.is_loopback();
  if (rx.src.IsMulticast() || rx.src.IsLimitedBroadcast() ||
      (!lo && (rx.src.IsLoopback() || rx.dst.IsLoopback() || IsLocal(rx.src) ||
               IsBroadcast(rx.src)))) {
    count.in_martian++;
    return;
  }
  uint32_t bad_at = 0;
  switch (CheckIpv4Options(view->options(), &bad_at)) {
    case OptionCheck::kOk:
      break;
    case OptionCheck::kBad:
      count.in_hdr_errors++;
      return SendIcmpError(rx, datagram, kIcmpParamProblem, 0, bad_at << 24);
    case OptionCheck::kSourceRoute:
      count.in_discards++;
      return;
  }
  rx.meta = std::exchange(incoming_meta_, {});
  // Connection tracking wants whole datagrams (nf_defrag_ipv4.c).
  if (filter_->active() && view->is_fragment()) {
    rx.dst_is_group = rx.dst.IsMulticast() || IsBroadcast(rx.dst);
    std::optional<Slice> whole = Reassemble4(iface, datagram, rx);
    if (!whole) return;
    datagram = std::move(*whole);
    rx.dst_is_group = false;
  }
  if (!FilterIn(Hook::kPreRouting, rx, datagram)) return;
  rx.dst_is_broadcast = IsBroadcast(rx.dst);
  if (rx.dst.IsMulticast()) {
    rx.dst_is_group = true;
    if (!iface.groups.contains(rx.dst)) return;
  } else if (rx.dst_is_broadcast) {
    rx.dst_is_group = true;
  } else if (!IsLocal(rx.dst) && !(iface.config.any_destination && !link_group) &&
             (link_group || !RoutedHere(rx))) {
    if (link_group || lo || !config_.forwarding4) {
      count.in_addr_errors++;
      return;
    }
    return Forward(iface, rx, datagram);
  } else if (link_group) {
    // RFC 1122 3.3.6: a unicast datagram in a link broadcast is dropped.
    count.in_discards++;
    return;
  }

  if ((Load16(&datagram.data()[6]) & 0x3fff) != 0) {
    std::optional<Slice> whole = Reassemble4(iface, datagram, rx);
    if (!whole) return;
    datagram = std::move(*whole);
  }
  Deliver(rx, datagram.Sub(rx.header.size()), datagram);
}

bool Stack::RoutedHere(const IpReceived& rx) {
  NetResult<Route> route =
      FindRoute({.src = rx.src, .dst = rx.dst, .iif = rx.iface, .mark = rx.meta.mark});
  return route.ok() && route->kind == Route::Kind::kLocal;
}

std::optional<Slice> Stack::Reassemble4(Interface& iface, const Slice& datagram, IpReceived& rx) {
  IpCounters& count = counters_.ip4;
  const std::optional<Ipv4View> view = Ipv4View::Parse(datagram.span());
  if (!view) return std::nullopt;
  Slice payload = datagram.Sub(view->header_size());
  count.reasm_reqds++;
  if (view->more_fragments() && payload.size() % 8 != 0) {
    count.reasm_fails++;
    SendIcmpError(rx, datagram, kIcmpParamProblem, 0, 2u << 24);
    return std::nullopt;
  }
  Reassembly::Part part;
  part.offset = view->fragment_offset();
  part.more = view->more_fragments();
  part.header = rx.header;
  part.data = payload;
  part.ecn = rx.tos & 3;
  Reassembly::Result r = reassembly_.Add({rx.src, rx.dst, view->id(), rx.protocol, iface.index},
                                         std::move(part), now_);
  ArmReassembly();
  if (r.verdict != Reassembly::Verdict::kComplete) {
    if (r.verdict == Reassembly::Verdict::kOverlap) count.reasm_overlaps++;
    if (r.verdict != Reassembly::Verdict::kHeld) count.reasm_fails++;
    return std::nullopt;
  }
  if (r.ecn == 0xff) {
    count.reasm_fails++;
    return std::nullopt;
  }
  count.reasm_oks++;
  rx.largest_part = static_cast<uint32_t>(r.header.size()) + r.largest;
  Packet whole{Chain(r.payload)};
  uint8_t* h = whole.Prepend(r.header.size());
  std::memcpy(h, r.header.data(), r.header.size());
  rx.tos = static_cast<uint8_t>((rx.tos & ~3) | r.ecn);
  h[1] = rx.tos;
  Store16(h + 2, static_cast<uint16_t>(whole.size()));
  Store16(h + 6, 0);
  Store16(h + 10, 0);
  Store16(h + 10, ChecksumOf({h, r.header.size()}));
  Slice out = whole.Flatten();
  rx.header = out.Sub(0, r.header.size());
  rx.checksum_valid = iface.is_loopback();
  rx.gso_size = 0;
  return out;
}

void Stack::Ipv6In(Interface& iface, Slice datagram, const RxFrame& frame) {
  IpCounters& count = counters_.ip6;
  count.in_receives++;
  std::optional<Ipv6View> view = Ipv6View::Parse(datagram.span());
  if (!view) {
    count.in_hdr_errors++;
    return;
  }
  datagram.Truncate(view->datagram().size());
  IpReceived rx;
  rx.src = view->src();
  rx.dst = view->dst();
  rx.iface = iface.index;
  rx.ttl = view->hop_limit();
  rx.tos = view->traffic_class();
  rx.checksum_valid = frame.checksum_valid;
  rx.gso_size = frame.gso_size;

  const bool lo = iface.is_loopback();
  // RFC 4291 2.5.3 and 2.7; mapped addresses do not travel (RFC 4942 2.2).
  if (rx.src.IsMulticast() || rx.dst.IsAny() || rx.src.IsV4Mapped() || rx.dst.IsV4Mapped() ||
      (!lo && (rx.src.IsLoopback() || rx.dst.IsLoopback())) ||
      (rx.dst.IsMulticast() && ((rx.dst.byte(1) & 0xf) == 0 ||
                                (!lo && (rx.dst.byte(1) & 0xf) == 1)))) {
    count.in_martian++;
    return;
  }
  rx.meta = std::exchange(incoming_meta_, {});
  if (filter_->active()) {
    const Ipv6Walk walk = WalkIpv6(datagram.span(), view->next_header(), kIpv6Header, 6);
    if (walk.stop == Ipv6Walk::Stop::kFragment) {
      rx.dst_is_group = rx.dst.IsMulticast();
      std::optional<Slice> whole = Reassemble6(iface, datagram, rx, walk);
      if (!whole) return;
      datagram = std::move(*whole);
      rx.dst_is_group = false;
    }
  }
  if (!FilterIn(Hook::kPreRouting, rx, datagram)) return;
  if (rx.dst.IsMulticast()) {
    rx.dst_is_group = true;
    if (!iface.groups.contains(rx.dst)) return;
  } else {
    Interface* owner = OwnerOf(rx.dst);
    if (owner == nullptr && iface.config.any_destination && !rx.dst.IsLinkLocal()) owner = &iface;
    if (owner == nullptr && !rx.dst.IsLinkLocal() && RoutedHere(rx)) owner = &iface;
    if (owner == nullptr || (rx.dst.IsLinkLocal() && owner != &iface && !lo)) {
      if (lo || !config_.forwarding6 || rx.dst.IsLinkLocal()) {
        count.in_addr_errors++;
        return;
      }
      return Forward(iface, rx, datagram);
    }
    const InterfaceAddress* a = owner->FindAddress(rx.dst);
    if (a != nullptr && (a->state == AddressState::kTentative ||
                         a->state == AddressState::kDuplicate)) {
      return;  // RFC 4862 5.4: not ours yet; solicitations come by the group
    }
  }
  Ipv6Continue(iface, datagram, rx, WalkIpv6(datagram.span(), datagram.data()[6], kIpv6Header, 6));
}

void Stack::Ipv6Continue(Interface& iface, const Slice& datagram, IpReceived& rx,
                         const Ipv6Walk& walk) {
  IpCounters& count = counters_.ip6;
  switch (walk.stop) {
    case Ipv6Walk::Stop::kMalformed:
      count.in_hdr_errors++;
      return;
    case Ipv6Walk::Stop::kParamProblem:
      count.in_hdr_errors++;
      if (walk.silent_if_multicast && rx.dst_is_group) return;
      return SendIcmpError(rx, datagram, kIcmp6ParamProblem, walk.code, walk.pointer);
    case Ipv6Walk::Stop::kUpper:
      rx.protocol = walk.protocol;
      rx.header = datagram.Sub(0, walk.offset);
      if (walk.protocol == kProtoNoNext) return;
      return Deliver(rx, datagram.Sub(walk.offset), datagram);
    case Ipv6Walk::Stop::kFragment:
      break;
  }
  const std::optional<Slice> whole = Reassemble6(iface, datagram, rx, walk);
  if (!whole) return;
  Ipv6Continue(iface, *whole, rx, WalkIpv6(whole->span(), whole->data()[6], kIpv6Header, 6));
}

std::optional<Slice> Stack::Reassemble6(Interface& iface, const Slice& datagram, IpReceived& rx,
                                        const Ipv6Walk& walk) {
  IpCounters& count = counters_.ip6;
  count.reasm_reqds++;
  const std::optional<Ipv6Fragment> f = Ipv6Fragment::Parse(datagram.span().subspan(walk.offset));
  Slice data = datagram.Sub(walk.offset + Ipv6Fragment::kSize);
  if (!f || (f->more && data.size() % 8 != 0)) {
    count.reasm_fails++;
    // RFC 8200 4.5: points at the payload length.
    SendIcmpError(rx, datagram, kIcmp6ParamProblem, 0, 4);
    return std::nullopt;
  }
  Reassembly::Part part;
  part.offset = f->offset;
  part.more = f->more;
  part.data = std::move(data);
  part.ecn = rx.tos & 3;
  part.next_header = f->next_header;
  if (f->offset == 0) {
    // The header that is put in front again, without the fragment header.
    Slice header = Slice::Copy(datagram.span().first(walk.offset));
    header.buffer()->data()[walk.next_field] = f->next_header;
    part.header = std::move(header);
  }
  Reassembly::Result r;
  if (f->offset == 0 && !f->more) {
    // RFC 6946: an atomic fragment is whole by itself and meets no others.
    r.verdict = Reassembly::Verdict::kComplete;
    r.header = part.header;
    r.payload = part.data;
    r.ecn = part.ecn;
    r.largest = static_cast<uint32_t>(part.data.size());
  } else {
    r = reassembly_.Add({rx.src, rx.dst, f->id, 0, iface.index}, std::move(part), now_);
    ArmReassembly();
  }
  if (r.verdict != Reassembly::Verdict::kComplete) {
    if (r.verdict == Reassembly::Verdict::kOverlap) count.reasm_overlaps++;
    if (r.verdict == Reassembly::Verdict::kTooLong) {
      SendIcmpError(rx, datagram, kIcmp6ParamProblem, 0, walk.offset + 2);
    }
    if (r.verdict != Reassembly::Verdict::kHeld) count.reasm_fails++;
    return std::nullopt;
  }
  const size_t payload_size = r.header.size() - kIpv6Header + r.payload.size();
  if (r.ecn == 0xff || payload_size > 65535) {
    count.reasm_fails++;
    return std::nullopt;
  }
  count.reasm_oks++;
  Chain all(r.header);
  all.Append(r.payload);
  // Flatten shares a lone slice; the length is patched, so the bytes must be ours.
  Slice whole = r.payload.empty() ? Slice::Copy(r.header.span()) : all.Flatten();
  Store16(whole.buffer()->data() + whole.offset() + 4, static_cast<uint16_t>(payload_size));
  rx.tos = static_cast<uint8_t>((rx.tos & ~3) | r.ecn);
  rx.checksum_valid = iface.is_loopback();
  rx.gso_size = 0;
  rx.largest_part = static_cast<uint32_t>(r.header.size() + Ipv6Fragment::kSize) + r.largest;
  const Ipv6Walk again = WalkIpv6(whole.span(), whole.data()[6], kIpv6Header, 6);
  // A fragment header inside a reassembled datagram would let 64 KiB of them recurse.
  if (again.stop == Ipv6Walk::Stop::kFragment) {
    count.in_hdr_errors++;
    return std::nullopt;
  }
  return whole;
}

void Stack::Deliver(IpReceived& rx, Slice transport, const Slice& given) {
  const bool v4 = rx.dst.is_v4();
  IpCounters& count = v4 ? counters_.ip4 : counters_.ip6;
  Slice datagram = given;
  if (filter_->active()) {
    if (!FilterIn(Hook::kLocalIn, rx, datagram)) return;
    transport = datagram.Sub(rx.header.size());
  }
  const bool taken = raw_->PacketIn(rx, transport);
  count.in_delivers++;
  switch (rx.protocol) {
    case kProtoTcp: {
      counters_.tcp.in_segs++;
      if (rx.dst_is_group) return;  // RFC 9293 3.10.7, MUST-57
      std::optional<TcpView> view = TcpView::Parse(transport.span());
      if (!view) {
        counters_.tcp.in_errs++;
        return;
      }
      if (!rx.checksum_valid && !view->ChecksumOk(rx.src, rx.dst)) {
        counters_.tcp.in_errs++;
        counters_.tcp.in_csum_errors++;
        return;
      }
      const TcpSegment segment = view->ToSegment();
      return tcp_->SegmentIn(rx, segment, Chain(transport.Sub(view->header_size())));
    }
    case kProtoUdp: {
      UdpCounters& udp = v4 ? counters_.udp4 : counters_.udp6;
      std::optional<UdpView> view = UdpView::Parse(transport.span());
      if (!view) {
        udp.in_errors++;
        return;
      }
      if (!rx.checksum_valid && !view->ChecksumOk(rx.src, rx.dst)) {
        udp.in_errors++;
        udp.in_csum_errors++;
        return;
      }
      Slice payload = transport.Sub(kUdpHeader, view->payload().size());
      return udp_->DatagramIn(rx, view->src_port(), view->dst_port(), Chain(std::move(payload)),
                              &datagram);
    }
    case kProtoIcmp:
      if (v4) return IcmpIn(rx, transport);
      break;
    case kProtoIcmpv6:
      if (!v4) return Icmp6In(rx, transport);
      break;
    case kProtoIgmp:
      if (v4) return IgmpIn(rx, transport);
      break;
    default:
      break;
  }
  if (taken) return;
  count.in_unknown_protos++;
  if (v4) {
    SendIcmpError(rx, datagram, kIcmpUnreachable, kIcmpProtoUnreach, 0);
  } else {
    SendIcmpError(rx, datagram, kIcmp6ParamProblem, 1, 6);
  }
}

// RFC 1812 5.2-5.3, RFC 8200 3.
void Stack::Forward(Interface& iface, const IpReceived& rx, const Slice& given) {
  Slice datagram = given;
  const bool v4 = rx.dst.is_v4();
  IpCounters& count = v4 ? counters_.ip4 : counters_.ip6;
  if (rx.src.IsAny() || rx.src.IsLinkLocal() || (v4 && rx.dst.IsLinkLocal())) return;
  if (rx.ttl <= 1) {
    count.in_hdr_errors++;
    return SendIcmpError(rx, datagram, v4 ? kIcmpTimeExceeded : kIcmp6TimeExceeded, 0, 0);
  }
  NetResult<Route> route =
      FindRoute({.src = rx.src, .dst = rx.dst, .iif = iface.index, .mark = rx.meta.mark});
  if (!route.ok()) {
    count.out_no_routes++;
    return SendIcmpError(rx, datagram, v4 ? kIcmpUnreachable : kIcmp6Unreachable,
                         v4 ? kIcmpNetUnreach : kIcmp6NoRoute, 0);
  }
  if (route->kind != Route::Kind::kUnicast) return;
  // Before the filter translates anything, so that the sender knows what is quoted (ip_forward()).
  const bool dont_fragment = !v4 || (datagram.data()[6] & 0x40) != 0;
  const bool in_parts = !v4 && rx.largest_part != 0 && rx.largest_part <= route->mtu;
  if (dont_fragment && !in_parts && datagram.size() > route->mtu && rx.gso_size == 0) {
    count.frag_fails++;
    return v4 ? SendIcmpError(rx, datagram, kIcmpUnreachable, kIcmpFragNeeded, route->mtu)
              : SendIcmpError(rx, datagram, kIcmp6PacketTooBig, 0, route->mtu);
  }
  if (!FilterForward(rx, *route, datagram)) return;
  uint32_t mtu = route->mtu;
  // What was put together for the filter goes on in parts no longer than those that came.
  if (rx.largest_part != 0) mtu = std::min(mtu, std::max(rx.largest_part, v4 ? 68u : 1280u));
  if (datagram.size() > mtu && rx.gso_size == 0) {
    if (v4 && Ipv4View::Parse(datagram.span())->is_fragment()) {
      count.frag_fails++;  // fragments of fragments are not made
      return;
    }
    return ForwardInParts(*route, rx, datagram, mtu);
  }
  const size_t header = v4 ? (datagram.data()[0] & 0xfu) * 4 : kIpv6Header;
  Packet p{Chain(datagram.Sub(header))};
  uint8_t* h = p.Prepend(header);
  std::memcpy(h, datagram.data(), header);
  if (v4) {
    h[8]--;
    Store16(h + 10, 0);
    Store16(h + 10, ChecksumOf({h, header}));
  } else {
    h[7]--;
  }
  count.forwarded++;
  SendToNextHop(*route, std::move(p));
}

void Stack::ForwardInParts(const Route& route, const IpReceived& rx, const Slice& datagram,
                           uint32_t mtu) {
  const bool v4 = rx.dst.is_v4();
  (v4 ? counters_.ip4 : counters_.ip6).forwarded++;
  const uint8_t ttl = static_cast<uint8_t>(rx.ttl - 1);
  if (!v4) {
    const Ipv6View view = *Ipv6View::Parse(datagram.span());
    IpSend again{view.src(), rx.dst, view.next_header(), ttl, rx.tos};
    (void)SendFragments(route, again, Packet(Chain(datagram.Sub(kIpv6Header))), mtu);
    return;
  }
  const Ipv4View view = *Ipv4View::Parse(datagram.span());
  IpSend again{view.src(), rx.dst, rx.protocol, ttl, rx.tos};
  again.options = view.options();
  (void)SendFragments(route, again, Packet(Chain(datagram.Sub(view.header_size()))), mtu);
}

void Stack::ArmReassembly() { reassembly_timer_.Set(timers_, reassembly_.NextDeadline()); }

void Stack::OnReassemblyTimer() {
  while (std::optional<Reassembly::Expired> e = reassembly_.TakeExpired(now_)) {
    const bool v4 = e->key.src.is_v4();
    (v4 ? counters_.ip4 : counters_.ip6).reasm_timeouts++;
    (v4 ? counters_.ip4 : counters_.ip6).reasm_fails++;
    if (e->header.empty()) continue;  // RFC 792: only when the first fragment came
    Chain all(e->header);
    all.Append(e->first_data);
    IpReceived rx;
    rx.src = e->key.src;
    rx.dst = e->key.dst;
    rx.iface = e->key.iface;
    rx.header = e->header;
    rx.dst_is_group = rx.dst.IsMulticast() || IsBroadcast(rx.dst);
    SendIcmpError(rx, all.Flatten(), v4 ? kIcmpTimeExceeded : kIcmp6TimeExceeded, 1, 0);
  }
  ArmReassembly();
}

}  // namespace ringwall::net
