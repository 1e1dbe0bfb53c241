// Where the stack's packets meet the filter.
#include "netstack/stack.h"
#include "netstack/wire/checksum.h"

namespace ringwall::net {

bool Stack::FilterIn(Hook hook, IpReceived& rx, Slice& datagram) {
  if (!filter_->active()) return true;
  using Sum = FilterPacket::Sum;
  // What came in unchecked may have a field that was never filled in.
  std::optional<FilterPacket> p =
      FilterPacket::Parse(datagram.span(), rx.checksum_valid ? Sum::kNone : Sum::kFull);
  if (!p) return false;
  Interface* in = FindInterface(rx.iface);
  p->in = rx.iface;
  if (in != nullptr) p->in_name = in->config.name;
  p->meta = rx.meta;
  if (!filter_->Run(hook, *p)) {
    (rx.dst.is_v4() ? counters_.ip4 : counters_.ip6).in_discards++;
    return false;
  }
  rx.meta = p->meta;
  rx.src = p->src();
  rx.dst = p->dst();
  datagram = p->slice();
  if (!rx.header.empty()) rx.header = datagram.Sub(0, rx.header.size());
  return true;
}

bool Stack::FilterForward(const IpReceived& rx, const Route& route, Slice& datagram) {
  using Sum = FilterPacket::Sum;
  if (!filter_->active() && !rx.checksum_valid) return true;
  std::optional<FilterPacket> p =
      FilterPacket::Parse(datagram.span(), rx.checksum_valid ? Sum::kNone : Sum::kFull);
  if (!p) return false;
  if (filter_->active()) {
    Interface* in = FindInterface(rx.iface);
    Interface* out = FindInterface(route.oif);
    p->in = rx.iface;
    p->out = route.oif;
    if (in != nullptr) p->in_name = in->config.name;
    if (out != nullptr) p->out_name = out->config.name;
    p->meta = rx.meta;
    if (!filter_->Run(Hook::kForward, *p)) return false;
    p->in = 0;
    p->in_name.clear();
    if (!filter_->Run(Hook::kPostRouting, *p)) return false;
  }
  // A checksum that nobody had to look at on the way in may be none at all.
  if (p->sum() == Sum::kNone && rx.gso_size == 0) p->CompleteChecksum();
  datagram = p->slice();
  return true;
}

// `packet`: with its IP header. The way out through LOCAL_OUT and POST_ROUTING.
NetResult<void> Stack::SendFiltered(const Route& given, Packet packet, const PacketMeta& meta,
                                    bool dont_fragment) {
  using Sum = FilterPacket::Sum;
  const Sum sum = given.kind == Route::Kind::kLocal    ? Sum::kNone
                  : packet.offload.needs_checksum ? Sum::kPartial : Sum::kFull;
  const uint16_t transport_size = packet.transport_size;
  std::optional<FilterPacket> p = FilterPacket::Parse(packet.Flatten().span(), sum);
  if (!p) return NetError::kInvalid;
  Route route = given;
  Interface* out = FindInterface(route.oif);
  p->out = route.oif;
  if (out != nullptr) p->out_name = out->config.name;
  p->meta = meta;
  const IpAddr src = p->src(), dst = p->dst();
  if (!filter_->Run(Hook::kLocalOut, *p)) return NetError::kPermission;
  // ip_route_me_harder(): another destination or mark is another way.
  if (p->dst() != dst || p->src() != src || p->meta.mark != meta.mark) {
    NetResult<Route> again =
        FindRoute({.src = p->src(), .dst = p->dst(), .mark = p->meta.mark});
    if (!again.ok()) return again.error();
    route = *again;
    out = FindInterface(route.oif);
    p->out = route.oif;
    p->out_name = out != nullptr ? out->config.name : std::string();
  }
  if (!filter_->Run(Hook::kPostRouting, *p)) return NetError::kPermission;
  if (route.kind == Route::Kind::kLocal || (out != nullptr && out->is_loopback())) {
    LoopDatagram(p->slice(), std::move(p->meta));
    return {};
  }
  const bool leave = p->sum() == Sum::kPartial && out != nullptr && out->config.tx_checksum;
  if (!leave && p->sum() != Sum::kFull) p->CompleteChecksum();
  const uint32_t mtu = PathMtu(route);
  if (p->size() > mtu && packet.offload.gso == Offload::Gso::kNone) {
    if (dont_fragment) return NetError::kMessageSize;
    if (p->sum() != Sum::kFull) p->CompleteChecksum();
    IpSend again{p->src(), p->dst(), p->protocol(), p->ttl(), p->tos()};
    return SendFragments(route, again, Packet(Chain(p->slice().Sub(p->transport()))), mtu);
  }
  const size_t head = std::min(p->transport() + transport_size, p->size());
  Packet ready{Chain(p->slice().Sub(head))};
  std::memcpy(ready.Prepend(head), p->bytes().data(), head);
  ready.offload = packet.offload;
  ready.offload.needs_checksum = leave;
  ready.transport_size = static_cast<uint16_t>(head - p->transport());
  SendToNextHop(route, std::move(ready));
  return {};
}

// ---- Administration ----

NetResult<XtSnapshot> Stack::FilterTable(Family family, std::string_view name) {
  StackEntry entry(*this);
  XtTable* t = filter_->Use(family, name);
  if (t == nullptr) return NetError::kNotFound;
  return XtSnapshot{t->info(), t->blob()};
}

std::vector<std::string> Stack::FilterTablesInUse(Family family) {
  StackEntry entry(*this);
  return filter_->TablesInUse(family);
}

NetResult<std::vector<XtCounter>> Stack::ReplaceFilterTable(Family family, std::string_view name,
                                                            const XtInfo& info,
                                                            std::vector<uint8_t> blob) {
  StackEntry entry(*this);
  XtTable* t = filter_->Use(family, name);
  if (t == nullptr) return NetError::kNotFound;
  std::vector<XtCounter> old = t->Counters();
  TRY(t->Replace(info, std::move(blob), nullptr));
  filter_->Changed();
  return old;
}

NetResult<void> Stack::AddFilterCounters(Family family, std::string_view name,
                                         const std::vector<XtCounter>& add) {
  StackEntry entry(*this);
  XtTable* t = filter_->Use(family, name);
  if (t == nullptr) return NetError::kNotFound;
  return t->AddCounters(add);
}

NetResult<SockAddr> Stack::OriginalDestination(const SockAddr& local, const SockAddr& remote) {
  StackEntry entry(*this);
  CtTuple t;
  t.src = local.addr.Unmapped();
  t.dst = remote.addr.Unmapped();
  t.sport = local.port;
  t.dport = remote.port;
  t.protocol = kProtoTcp;
  const std::optional<CtTuple> first = filter_->conntrack().Original(t, now_);
  if (!first) return NetError::kNotFound;
  return SockAddr{first->dst, first->dport, 0};
}

bool Stack::ChangeConnection(const CtTuple& tuple, const std::function<void(Connection&)>& change) {
  StackEntry entry(*this);
  return filter_->conntrack().Change(tuple, now_, change);
}

NetResult<void> Stack::AddConnection(Ref<Connection> c, const std::optional<NatRange>& dst,
                                     const std::optional<NatRange>& src) {
  StackEntry entry(*this);
  if (dst || src) {
    Conntrack& ct = filter_->conntrack();
    const NatRange none;
    if (!ct.SetUp(*c, dst.value_or(none), false, Random64()) || !ct.SetUp(*c, src.value_or(none), true, Random64())) {
      return NetError::kExists;  // every tuple that it could have is another's
    }
  }
  return filter_->conntrack().Insert(std::move(c), now_);
}

void Stack::FlushConnections() {
  StackEntry entry(*this);
  filter_->conntrack().Flush(now_);
  filter_->Changed();
}

bool Stack::ForgetConnection(const CtTuple& tuple) {
  StackEntry entry(*this);
  const bool found = filter_->conntrack().Forget(tuple, now_);
  filter_->Changed();
  return found;
}

std::vector<Ref<Connection>> Stack::Connections() {
  StackEntry entry(*this);
  std::vector<Ref<Connection>> out;
  // Copies: the originals change under the lock.
  for (const Ref<Connection>& c : filter_->conntrack().List(now_)) {
    Ref<Connection> copy = MakeRef<Connection>();
    copy->tuples = c->tuples;
    copy->status = c->status;
    copy->mark = c->mark;
    copy->tcp_state = c->tcp_state;
    copy->expires = c->expires;
    copy->counters = c->counters;
    copy->id = c->id;
    out.push_back(std::move(copy));
  }
  return out;
}

}  // namespace ringwall::net
