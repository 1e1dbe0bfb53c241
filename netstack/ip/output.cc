// The way out: finding a route and a source address, fragmenting, handing to the link or to the
// loopback. Read RFC 1122 3.3, RFC 6724 and RFC 8200 5 before editing.
#include <algorithm>

#include "netstack/ip/raw_endpoint.h"
#include "netstack/ip/subnet.h"
#include "netstack/stack.h"
#include "netstack/tcp/protocol.h"
#include "netstack/udp/endpoint.h"
#include "netstack/wire/checksum.h"
#include "netstack/wire/udp.h"

namespace ringwall::net {

namespace {
constexpr IpAddr kLoopbackBroadcast = IpAddr::V4(127, 255, 255, 255);
}  // namespace

Interface* Stack::OwnerOf(const IpAddr& a) {
  auto it = local_.find(a);
  if (it != local_.end()) return FindInterface(it->second);
  // All of 127/8 is the loopback's: RFC 1122 3.2.1.3(g). Its last address is a broadcast.
  if (a.is_v4() && a.IsLoopback() && loopback_ != 0 && a != kLoopbackBroadcast) {
    return FindInterface(loopback_);
  }
  return nullptr;
}

bool Stack::IsBroadcast(const IpAddr& a) {
  if (!a.is_v4()) return false;
  if (a.IsLimitedBroadcast() || a == kLoopbackBroadcast) return true;
  for (auto& [index, i] : interfaces_) {
    if (!i->up) continue;
    for (const InterfaceAddress& x : i->addresses) {
      if (!x.broadcast.IsNone() && x.broadcast == a) return true;
      if (x.prefix.addr.is_v4() && SubnetBroadcast(x) == a) return true;
    }
  }
  return false;
}

NetResult<Route> Stack::FindRoute(const RouteQuery& q, const RouteEntry** entry) {
  Route r;
  r.dst = q.dst;
  r.generation = route_generation_;
  const bool src_given = !q.src.IsNone() && !q.src.IsAny();
  if (src_given && q.src.family() != q.dst.family()) return NetError::kInvalid;
  // Linux: the unspecified destination means this host.
  if (q.dst.IsAny()) r.dst = src_given ? q.src : IpAddr::Loopback(q.dst.family());

  if (Interface* owner = OwnerOf(r.dst); owner != nullptr) {
    Interface* lo = FindInterface(loopback_);
    if (lo == nullptr || !lo->up) return NetError::kNetUnreach;
    const InterfaceAddress* a = owner->FindAddress(r.dst);
    if (a == nullptr || (a->state != AddressState::kTentative &&
                         a->state != AddressState::kDuplicate)) {
      r.kind = Route::Kind::kLocal;
      r.oif = loopback_;
      // An address of 127/8 that nobody set has the first one for its source, as Linux's route.
      const bool of_network = a == nullptr && r.dst.is_v4() && r.dst.IsLoopback();
      r.src = src_given ? q.src : of_network   ? IpAddr::Loopback(Family::kV4)
              : a != nullptr ? SourceOfLocal(owner->addresses, *a)
                             : r.dst;
      r.next_hop = r.dst;
      r.mtu = lo->config.mtu;
      return r;
    }
  }
  if (r.dst == kLoopbackBroadcast) {
    Interface* lo = FindInterface(loopback_);
    if (lo == nullptr || !lo->up) return NetError::kNetUnreach;
    r.kind = Route::Kind::kBroadcast;
    r.oif = loopback_;
    r.src = src_given ? q.src : IpAddr::Loopback(Family::kV4);
    r.next_hop = r.dst;
    r.mtu = lo->config.mtu;
    return r;
  }

  auto usable = [this](IfIndex i) {
    Interface* f = FindInterface(i);
    return f != nullptr && f->up;
  };
  const bool link_scope = r.dst.IsMulticast() || r.dst.IsLimitedBroadcast();
  Interface* out = nullptr;
  r.next_hop = r.dst;
  if (link_scope && q.oif != 0) {
    out = FindInterface(q.oif);
    if (out == nullptr) return NetError::kNoDevice;
    if (!out->up) return NetError::kNetUnreach;
    // IPv6 has routes for groups, which Linux gives to every device but the loopback.
    if (r.dst.is_v6() && out->is_loopback()) {
      RouteQuery find = q;
      find.dst = r.dst;
      if (routes_.Find(find, usable).route == nullptr) return NetError::kNetUnreach;
    }
    r.mtu = out->config.mtu;
  } else if (link_scope && src_given && OwnerOf(q.src) != nullptr &&
             (q.src.is_v4() || !q.src.IsLoopback())) {
    out = OwnerOf(q.src);
    r.mtu = out->config.mtu;
  } else {
    RouteQuery find = q;
    find.dst = r.dst;
    const RouteTable::Found found = routes_.Find(find, usable);
    const RouteEntry* route = found.route;
    if (entry != nullptr) *entry = route;
    if (found.error) return *found.error;
    if (route == nullptr) {
      // A device alone is route enough for a link-local or directly bound packet, as on Linux.
      if (q.oif == 0 || !usable(q.oif)) return NetError::kNetUnreach;
      out = FindInterface(q.oif);
      r.mtu = out->config.mtu;
    } else {
      switch (route->type) {
        case RouteType::kBlackhole: return NetError::kInvalid;
        case RouteType::kUnreachable: return NetError::kHostUnreach;
        case RouteType::kProhibit: return NetError::kAccess;
        case RouteType::kLocal: {
          Interface* lo = FindInterface(loopback_);
          if (lo == nullptr || !lo->up) return NetError::kNetUnreach;
          r.kind = Route::Kind::kLocal;
          r.oif = loopback_;
          r.src = src_given ? q.src : r.dst;
          r.mtu = lo->config.mtu;
          return r;
        }
        default: break;
      }
      IfIndex oif = route->oif;
      IpAddr gateway = route->gateway;
      if (route->next_hops.size() > 1) ChooseNextHop(*route, find, &gateway, &oif);
      out = FindInterface(oif);
      if (out == nullptr) return NetError::kNetUnreach;
      if (!gateway.IsNone() && !(gateway.is_v4() && IsLocal(gateway))) r.next_hop = gateway;
      r.mtu = route->mtu != 0 ? std::min(route->mtu, out->config.mtu) : out->config.mtu;
      if (!route->preferred_src.IsNone()) r.src = route->preferred_src;
    }
  }
  r.oif = out->index;
  if (r.dst.IsMulticast()) {
    r.kind = Route::Kind::kMulticast;
  } else if (IsBroadcast(r.dst)) {
    r.kind = Route::Kind::kBroadcast;
  }
  if (src_given) {
    r.src = q.src;
  } else if (r.src.IsNone()) {
    r.src = SelectSource(r.dst, r.oif);
    if (r.src.IsNone()) {
      if (r.dst.is_v6()) return NetError::kAddrNotAvail;
      r.src = IpAddr::Any(Family::kV4);
    }
  }
  return r;
}

// By a hash of the addresses, weighted: a flow keeps its way (fib_multipath_hash_policy 0).
void Stack::ChooseNextHop(const RouteEntry& route, const RouteQuery& q, IpAddr* gateway,
                          IfIndex* oif) {
  uint8_t in[32];
  std::memcpy(in, q.src.bytes().data(), 16);
  std::memcpy(in + 16, q.dst.bytes().data(), 16);
  uint32_t total = 0;
  const auto usable = [&](const NextHop& n) {
    Interface* i = FindInterface(n.oif);
    return i != nullptr && i->up && (q.oif == 0 || q.oif == n.oif);
  };
  for (const NextHop& n : route.next_hops) total += usable(n) ? n.weight : 0;
  if (total == 0) return;
  uint64_t at = SipHash(key_, in) % total;
  for (const NextHop& n : route.next_hops) {
    if (!usable(n)) continue;
    if (at < n.weight) {
      *gateway = n.gateway;
      *oif = n.oif;
      return;
    }
    at -= n.weight;
  }
}

namespace {

int Scope6(const IpAddr& a) {
  if (a.IsMulticast()) return a.byte(1) & 0xf;
  if (a.IsLoopback() || a.IsLinkLocal()) return 2;
  return 14;
}

int CommonPrefix(const IpAddr& a, const IpAddr& b) {
  int n = 0;
  for (size_t i = 0; i < a.size(); i++) {
    const uint8_t x = a.byte(i) ^ b.byte(i);
    if (x == 0) {
      n += 8;
      continue;
    }
    return n + __builtin_clz(static_cast<unsigned>(x)) - 24;
  }
  return n;
}

}  // namespace

// RFC 6724 5 for IPv6: rules 1 (same), 2 (scope), 3 (not deprecated), 5 (outgoing interface),
// 8 (longest prefix). IPv4 takes the address of the interface whose network holds dst, else its
// first one, else one of another interface, as Linux's inet_select_addr.
IpAddr Stack::SelectSource(const IpAddr& dst, IfIndex oif) {
  IpAddr best;
  int best_score = -1;
  for (auto& [index, i] : interfaces_) {
    if (!i->up) continue;
    const bool right = index == oif;
    for (const InterfaceAddress& a : i->addresses) {
      if (a.prefix.addr.family() != dst.family()) continue;
      if (a.state == AddressState::kTentative || a.state == AddressState::kDuplicate) continue;
      int score = right ? 1 << 8 : 0;
      if (dst.is_v4()) {
        if (i->is_loopback() && !right) continue;
        if (a.prefix.Contains(dst)) score += 1;
      } else {
        if (a.prefix.addr == dst) return dst;
        const int scope = Scope6(a.prefix.addr), want = Scope6(dst);
        if (i->is_loopback() && !right && scope <= 2) continue;
        if (scope <= 2 && !right) continue;  // a link-local address means nothing elsewhere
        if (scope >= want) score += 1 << 12;
        if (scope == want) score += 1 << 11;
        if (a.state != AddressState::kDeprecated) score += 1 << 10;
        score += std::min(CommonPrefix(a.prefix.addr, dst), static_cast<int>(a.prefix.len));
      }
      if (score > best_score) {
        best = a.prefix.addr;
        best_score = score;
      }
    }
  }
  return best;
}

uint32_t Stack::PathMtu(const Route& route) {
  if (route.kind == Route::Kind::kLocal) return route.mtu;
  auto it = path_mtu_.find(route.dst);
  if (it == path_mtu_.end()) return route.mtu;
  if (it->second.expires <= now_) {
    path_mtu_.erase(it);
    return route.mtu;
  }
  return std::min(route.mtu, it->second.mtu);
}

void Stack::LearnPathMtu(const IpAddr& dst, uint32_t mtu) {
  // RFC 8201 4: never below IPv6's least. For IPv4 Linux's min_pmtu, 552: a forged tiny MTU would
  // make us send dust.
  mtu = std::max(mtu, dst.is_v6() ? 1280u : 552u);
  if (path_mtu_.size() >= 4096) path_mtu_.clear();
  PathMtuEntry& e = path_mtu_[dst];
  if (e.mtu == 0 || mtu < e.mtu || e.expires <= now_) e.mtu = mtu;
  e.expires = now_ + Duration::Seconds(600);  // mtu_expires
}

void Stack::FinishChecksum(const Route& route, const IpSend& ip, Packet& packet, size_t field) {
  packet.transport_size = static_cast<uint16_t>(packet.header().size());
  if (route.kind == Route::Kind::kLocal) return;  // never leaves memory
  Checksum c;
  c.AddPseudo(ip.src, ip.dst, ip.protocol, static_cast<uint32_t>(packet.size()));
  Interface* out = FindInterface(route.oif);
  uint8_t* at = packet.header_data() + field;
  const size_t header = ip.dst.is_v6() ? kIpv6Header : kIpv4Header;
  const bool fits = packet.size() + header <= PathMtu(route) || packet.offload.gso_size != 0;
  if (out != nullptr && out->config.tx_checksum && fits && ip.protocol != kProtoIcmpv6) {
    Store16(at, c.Folded());
    packet.offload.needs_checksum = true;
    packet.offload.checksum_offset = static_cast<uint16_t>(field);
    return;
  }
  c.Add(packet.header());
  for (const Slice& s : packet.payload.slices()) c.Add(s.span());
  uint16_t sum = c.Finish();
  if (sum == 0 && ip.protocol == kProtoUdp) sum = 0xffff;  // RFC 768: 0 means none
  Store16(at, sum);
}

NetResult<void> Stack::SendIp(const Route& route, const IpSend& ip, Packet packet) {
  IpCounters& count = ip.dst.is_v4() ? counters_.ip4 : counters_.ip6;
  count.out_requests++;
  IpHeader h;
  h.src = ip.src;
  h.dst = ip.dst;
  h.protocol = ip.protocol;
  h.ttl = ip.ttl;
  h.tos = ip.tos;
  h.dont_fragment = ip.dont_fragment;
  h.flow_label = ip.flow_label;
  h.options = ip.options;
  const size_t total = packet.size() + h.size();
  const uint32_t mtu = PathMtu(route);
  if (total > mtu && packet.offload.gso == Offload::Gso::kNone &&
      route.kind != Route::Kind::kLocal && !filter_->active()) {
    if (ip.dont_fragment) {
      count.frag_fails++;
      return NetError::kMessageSize;
    }
    return SendFragments(route, ip, std::move(packet), mtu);
  }
  if (total > 65535 + (ip.dst.is_v6() ? kIpv6Header : 0)) return NetError::kMessageSize;
  // RFC 6864 4.1: the identifier of an atomic datagram may be anything; Linux counts anyway.
  if (ip.dst.is_v4()) h.id = static_cast<uint16_t>(++fragment_id_);
  const size_t payload = packet.size();
  h.Write(packet.Prepend(h.size()), payload);
  if (filter_->active()) {
    PacketMeta meta;
    meta.mark = ip.mark;
    meta.uid = ip.uid;
    if (attach_ != nullptr && attach_->connection) {
      meta.connection = attach_->connection;
      meta.info = CtInfo::kRelated;
      meta.reply = !attach_->reply;
    }
    return SendFiltered(route, std::move(packet), meta, ip.dont_fragment);
  }
  SendToNextHop(route, std::move(packet));
  return {};
}

NetResult<void> Stack::SendRawIp(const Route& route, Packet packet) {
  (route.dst.is_v4() ? counters_.ip4 : counters_.ip6).out_requests++;
  if (packet.size() > route.mtu && route.kind != Route::Kind::kLocal) {
    return NetError::kMessageSize;
  }
  if (filter_->active()) return SendFiltered(route, std::move(packet), {}, true);
  SendToNextHop(route, std::move(packet));
  return {};
}

// RFC 791 3.2 and RFC 8200 4.5. The checksum was computed over the whole before.
NetResult<void> Stack::SendFragments(const Route& route, const IpSend& ip, Packet packet,
                                     uint32_t mtu) {
  IpCounters& count = ip.dst.is_v4() ? counters_.ip4 : counters_.ip6;
  const Slice whole = packet.Flatten();
  if (whole.size() > 65535) return NetError::kMessageSize;
  const bool v6 = ip.dst.is_v6();
  const size_t overhead = v6 ? kIpv6Header + Ipv6Fragment::kSize : kIpv4Header + ip.options.size();
  if (mtu < overhead + 8) return NetError::kMessageSize;
  const size_t step = (mtu - overhead) / 8 * 8;
  const uint32_t id = static_cast<uint32_t>(SipHash(key_, ip.dst.bytes()) + ++fragment_id_);
  count.frag_oks++;
  for (size_t at = 0; at < whole.size(); at += step) {
    const size_t n = std::min(step, whole.size() - at);
    Packet part{Chain(whole.Sub(at, n))};
    IpHeader h;
    h.src = ip.src;
    h.dst = ip.dst;
    h.ttl = ip.ttl;
    h.tos = ip.tos;
    h.flow_label = ip.flow_label;
    const bool more = at + n < whole.size();
    if (v6) {
      Ipv6Fragment{ip.protocol, static_cast<uint32_t>(at), more, id}.Write(
          part.Prepend(Ipv6Fragment::kSize));
      h.protocol = kProtoFragment;
    } else {
      h.protocol = ip.protocol;
      h.id = static_cast<uint16_t>(id);
      h.fragment_offset = static_cast<uint16_t>(at);
      h.more_fragments = more;
      h.options = ip.options;
    }
    const size_t payload = part.size();
    h.Write(part.Prepend(h.size()), payload);
    count.frag_creates++;
    SendToNextHop(route, std::move(part));
  }
  return {};
}

void Stack::SendToNextHop(const Route& route, Packet packet) {
  if (route.kind == Route::Kind::kLocal) return LoopDatagram(packet.Flatten());
  Interface* out = FindInterface(route.oif);
  if (out == nullptr || !out->up) {
    (route.dst.is_v4() ? counters_.ip4 : counters_.ip6).out_discards++;
    return;
  }
  if (out->is_loopback()) return LoopDatagram(packet.Flatten());
  if (out->config.kind == LinkKind::kIp) return TransmitFrame(*out, {}, 0, std::move(packet));
  const uint16_t type = route.dst.is_v4() ? kEthIpv4 : kEthIpv6;
  switch (route.kind) {
    case Route::Kind::kBroadcast:
      return TransmitFrame(*out, MacAddr::Broadcast(), type, std::move(packet));
    case Route::Kind::kMulticast:
      return TransmitFrame(*out, MulticastMac(route.dst), type, std::move(packet));
    default:
      if ((out->user_flags & kIffNoArp) != 0) {
        return TransmitFrame(*out, out->config.mac, type, std::move(packet));
      }
      return out->neighbours.Send(route.next_hop, std::move(packet), now_);
  }
}

// ---- The loopback: queued here, delivered when the entry into the stack ends. ----

bool Stack::ShortWay(const Route& route) const {
  return route.kind == Route::Kind::kLocal && taps_.empty() && !raw_->HearsTransports() &&
         !filter_->active();
}

void Stack::LoopTcp(const IpAddr& src, const IpAddr& dst, uint8_t tos, const TcpSegment& seg,
                    Chain payload) {
  loop_.push_back({LoopItem::Kind::kTcp, src, dst, config_.default_ttl, tos, 0, 0, seg,
                   std::move(payload)});
}

void Stack::LoopUdp(const LoopedUdp& h, Chain payload) {
  LoopItem item{LoopItem::Kind::kUdp, h.src, h.dst, h.ttl, h.tos, h.sport, h.dport, {},
                std::move(payload), {}, h.gso_size, h.iface};
  item.meta.mark = h.mark;
  loop_.push_back(std::move(item));
}

void Stack::LoopDatagram(Slice datagram, PacketMeta meta) {
  // A storm that feeds itself ends here; real traffic is bounded by windows and send buffers.
  if (loop_.size() >= 65536) return;
  LoopItem item;
  item.kind = LoopItem::Kind::kDatagram;
  item.payload = Chain(std::move(datagram));
  item.meta = std::move(meta);
  loop_.push_back(std::move(item));
}

void Stack::DrainLoop() {
  while (!loop_.empty()) {
    LoopItem item = std::move(loop_.front());
    loop_.pop_front();
    DeliverLoop(item);
  }
}

void Stack::DeliverLoop(LoopItem& item) {
  Interface* lo = FindInterface(loopback_);
  if (lo == nullptr || !lo->up) return;
  lo->counters.rx_packets++;
  lo->counters.tx_packets++;
  size_t size = item.payload.size();
  if (item.kind != LoopItem::Kind::kDatagram) {
    size += item.src.is_v4() ? kIpv4Header : kIpv6Header;
    size += item.kind == LoopItem::Kind::kTcp ? item.segment.header_size() : kUdpHeader;
  }
  lo->counters.rx_bytes += size;
  lo->counters.tx_bytes += size;
  if (item.kind == LoopItem::Kind::kDatagram) {
    RxFrame frame;
    frame.data = item.payload.Flatten();
    frame.checksum_valid = true;
    if (frame.data.empty()) return;
    if (!taps_.empty()) {
      Packet tapped{Chain(frame.data)};
      WriteEthernet(tapped.Prepend(kEthHeader), {}, {},
                    frame.data.data()[0] >> 4 == 4 ? kEthIpv4 : kEthIpv6);
      const Slice flat = tapped.Flatten();
      TapFrame(*lo, flat.span(), kEthHeader, true);
      TapFrame(*lo, flat.span(), kEthHeader, false);
    }
    if (!FilterLoop(*lo, frame.data, item.meta)) return;
    incoming_meta_ = std::move(item.meta);
    if (frame.data.data()[0] >> 4 == 4) return Ipv4In(*lo, frame.data, frame, false);
    return Ipv6In(*lo, frame.data, frame);
  }
  IpReceived rx;
  rx.src = item.src;
  rx.dst = item.dst;
  rx.iface = loopback_;
  rx.ttl = item.ttl;
  rx.tos = item.tos;
  rx.checksum_valid = true;
  if (item.kind == LoopItem::Kind::kTcp) {
    rx.protocol = kProtoTcp;
    tcp_->SegmentIn(rx, item.segment, std::move(item.payload));
  } else {
    rx.protocol = kProtoUdp;
    rx.gso_size = item.gso_size;
    rx.meta = std::move(item.meta);
    if (item.iface != 0) rx.iface = item.iface;
    // Nobody has joined: the copy is not even made on Linux.
    Interface* in = FindInterface(rx.iface);
    if (rx.dst.IsMulticast() && (in == nullptr || !in->groups.contains(rx.dst))) return;
    udp_->DatagramIn(rx, item.sport, item.dport, std::move(item.payload), nullptr);
  }
}

}  // namespace ringwall::net
