#include "netstack/tcp/protocol.h"

#include <algorithm>

#include "netstack/tcp/listen.h"
#include "netstack/reuse_group.h"
#include "netstack/wire/checksum.h"

namespace ringwall::net {
namespace {

std::array<uint8_t, 37> TupleBytes(const FourTuple& t, uint8_t purpose) {
  std::array<uint8_t, 37> b;
  std::memcpy(b.data(), t.local.bytes().data(), 16);
  std::memcpy(b.data() + 16, t.remote.bytes().data(), 16);
  Store16(b.data() + 32, t.local_port);
  Store16(b.data() + 34, t.remote_port);
  b[36] = purpose;
  return b;
}

}  // namespace

TcpProtocol::TcpProtocol(Stack& stack)
    : stack_(stack),
      timer_([](void* p, TimePoint) { static_cast<TcpProtocol*>(p)->OnTimer(); }, this),
      challenge_(stack.config().tcp_challenge_ack_limit, stack.config().tcp_challenge_ack_limit) {}

TcpProtocol::~TcpProtocol() = default;

const std::vector<SipKey>& TcpProtocol::FastOpenKeys() {
  if (fast_open_keys_.empty()) fast_open_keys_.push_back({stack_.Random64(), stack_.Random64()});
  return fast_open_keys_;
}

uint32_t TcpProtocol::InitialSequence(const FourTuple& tuple) const {
  const uint32_t hash = static_cast<uint32_t>(SipHash(stack_.key(), TupleBytes(tuple, 1)));
  return hash + static_cast<uint32_t>(stack_.now().micros() / 4);
}

uint32_t TcpProtocol::TimestampOffset(const FourTuple& tuple) const {
  return static_cast<uint32_t>(SipHash(stack_.key(), TupleBytes(tuple, 2)));
}

void TcpProtocol::SegmentIn(const IpReceived& rx, const TcpSegment& segment, Chain payload) {
  const FourTuple tuple{rx.dst, rx.src, segment.dst_port, segment.src_port};
  if (auto it = connections_.find(tuple); it != connections_.end()) {
    // The reference outlives the call: the segment may end the connection.
    RefPtr<TcpEndpoint> e = it->second;
    return e->Segment(rx, segment, std::move(payload));
  }
  const size_t length = payload.size() + (segment.Has(kSyn) ? 1 : 0) + (segment.Has(kFin) ? 1 : 0);
  if (auto it = time_wait_.find(tuple); it != time_wait_.end()) {
    if (!TimeWaitIn(tuple, *it->second, rx, segment, length)) return;
  }
  FourTuple wanted = tuple;
  if (rx.meta.socket_port != 0) {  // TPROXY
    wanted.local = rx.meta.socket_addr;
    wanted.local_port = rx.meta.socket_port;
  }
  if (TcpEndpoint* l = FindListener(wanted, rx.iface, payload)) {
    Ref<TcpEndpoint> hold(*l);
    return l->listener()->Segment(tuple, rx, segment, std::move(payload));
  }
  // RFC 9293 3.10.7.1
  if (!segment.Has(kRst)) SendReset(tuple, rx.iface, segment, length);
}

TcpEndpoint* TcpProtocol::FindConnection(const FourTuple& tuple) {
  auto it = connections_.find(tuple);
  return it == connections_.end() ? nullptr : it->second.get();
}

TcpEndpoint* TcpProtocol::FindRequest(const FourTuple& tuple) {
  const auto has = [&](TcpEndpoint* e) {
    return e->listener() != nullptr && e->listener()->HasRequest(tuple);
  };
  // Nearly always its own port's; a proxy's are elsewhere.
  if (auto own = listeners_.find(tuple.local_port); own != listeners_.end()) {
    for (TcpEndpoint* e : own->second) {
      if (has(e)) return e;
    }
  }
  for (auto& [port, list] : listeners_) {
    for (TcpEndpoint* e : list) {
      if (e->flag(Option::kTransparent) && has(e)) return e;
    }
  }
  return nullptr;
}

TcpEndpoint* TcpProtocol::FindListener(const FourTuple& tuple, IfIndex iface,
                                       const Chain& payload) {
  auto it = listeners_.find(tuple.local_port);
  if (it == listeners_.end()) return nullptr;
  TcpEndpoint* best = nullptr;
  int best_score = -1;
  for (TcpEndpoint* e : it->second) {
    const PortBinding& b = *e->binding();
    int score = 1;
    if (b.addr.IsAny()) {
      if (b.addr.family() != tuple.local.family() && !b.dual) continue;
      if (b.addr.family() == tuple.local.family()) score++;
    } else {
      if (b.addr != tuple.local) continue;
      score += 4;
    }
    if (b.device != 0) {
      if (b.device != iface) continue;
      score += 4;
    }
    if (score <= best_score) continue;
    best = e;
    best_score = score;
  }
  if (best == nullptr || best->reuse_group() == nullptr) return best;
  // SO_REUSEPORT: by flow.
  Slice seen;
  if (best->reuse_group()->program) seen = payload.Flatten();
  const uint64_t hash = SipHash(stack_.key(), TupleBytes(tuple, 1));
  Endpoint* chosen = best->reuse_group()->Select(hash, seen.span());
  return chosen == nullptr ? best : static_cast<TcpEndpoint*>(chosen);
}

void TcpProtocol::AddListener(TcpEndpoint* e, uint16_t port) {
  std::vector<TcpEndpoint*>& there = listeners_[port];
  if (e->binding()->reuse_port) {
    auto same = std::find_if(there.begin(), there.end(), [&](TcpEndpoint* o) {
      const PortBinding& a = *o->binding();
      const PortBinding& b = *e->binding();
      return o->reuse_group() != nullptr && a.addr == b.addr && a.dual == b.dual &&
             a.device == b.device;
    });
    e->JoinReuseGroup(same == there.end() ? nullptr : *same);
  }
  there.push_back(e);
}

void TcpProtocol::RemoveListener(TcpEndpoint* e, uint16_t port) {
  auto it = listeners_.find(port);
  if (it == listeners_.end()) return;
  std::erase(it->second, e);
  e->LeaveReuseGroup();
  if (it->second.empty()) listeners_.erase(it);
}

// ---- Ports ----

NetResult<uint16_t> TcpProtocol::Bind(const TcpEndpoint& e, uint16_t port, const PortBinding& b) {
  if (port == 0) {
    const auto [low, high] = e.PortRange();
    const uint32_t span = high - low + 1u;
    const uint32_t start = static_cast<uint32_t>(stack_.Random64() % span);
    for (uint32_t i = 0; i < span && port == 0; i++) {
      const uint16_t p = static_cast<uint16_t>(low + (start + i) % span);
      if (!ports_.Conflicts(p, b)) port = p;
    }
    if (port == 0) return NetError::kAddrInUse;
  } else if (ports_.Conflicts(port, b)) {
    return NetError::kAddrInUse;
  }
  ports_.Add(port, b);
  return port;
}

void TcpProtocol::Rebind(uint16_t port, const PortBinding& from, const PortBinding& to) {
  ports_.Remove(port, from);
  ports_.Add(port, to);
}

// Linux's tcp_tw_reuse = 2: on the loopback, after a second, when timestamps protect.
bool TcpProtocol::MayReuse(const TimeWait& tw, bool loopback) const {
  return loopback && tw.timestamps && stack_.now() - tw.since > Duration::Seconds(1);
}

NetResult<uint16_t> TcpProtocol::ChoosePort(const TcpEndpoint& e, FourTuple tuple,
                                            bool loopback) {
  const auto [low, high] = e.PortRange();
  const uint32_t span = high - low + 1u;
  const uint32_t start = static_cast<uint32_t>(stack_.Random64() % span);
  for (uint32_t i = 0; i < span; i++) {
    const uint16_t p = static_cast<uint16_t>(low + (start + i) % span);
    if (!ports_.OnlyConnects(p)) continue;
    tuple.local_port = p;
    if (connections_.contains(tuple)) continue;
    auto tw = time_wait_.find(tuple);
    if (tw != time_wait_.end() && !MayReuse(*tw->second, loopback)) continue;
    return p;
  }
  return NetError::kAddrNotAvail;
}

bool TcpProtocol::Register(TcpEndpoint* e, const FourTuple& tuple, bool loopback) {
  auto tw = time_wait_.find(tuple);
  if (tw != time_wait_.end()) {
    if (!MayReuse(*tw->second, loopback)) return false;
    DropTimeWait(tuple);
  }
  return connections_.try_emplace(tuple, RefPtr<TcpEndpoint>(e)).second;
}

void TcpProtocol::Unregister(const FourTuple& tuple) {
  auto it = connections_.find(tuple);
  if (it == connections_.end()) return;
  // Dropped last: it may be the endpoint's only reference.
  RefPtr<TcpEndpoint> hold = std::move(it->second);
  connections_.erase(it);
}

// ---- TIME-WAIT ----

void TcpProtocol::EnterTimeWait(TcpEndpoint& e) {
  const TcpConnection& c = *e.connection();
  stack_.counters().tcp.time_waited++;
  // A flood of closes must not fill memory; then the pair is free at once, as on Linux.
  if (time_wait_.size() >= stack_.config().tcp_max_tw_buckets) return;
  auto tw = std::make_unique<TimeWait>();
  tw->snd_nxt = c.snd_nxt_seq();
  tw->rcv_nxt = c.rcv_nxt_seq();
  tw->window = c.receive_window();
  tw->receive_scale = c.agreed().receive_scale;
  tw->timestamps = c.agreed().timestamps;
  tw->ts_recent = c.agreed().ts_recent;
  tw->ts_offset = c.agreed().ts_offset;
  tw->since = stack_.now();
  tw->expires = stack_.now() + stack_.config().tcp_time_wait;
  tw->binding = *e.binding();
  ports_.Add(e.tuple().local_port, tw->binding);
  time_wait_order_.emplace_back(tw->expires, e.tuple());
  time_wait_[e.tuple()] = std::move(tw);
  Arm();
}

void TcpProtocol::DropTimeWait(const FourTuple& tuple) {
  auto it = time_wait_.find(tuple);
  if (it == time_wait_.end()) return;
  ports_.Remove(tuple.local_port, it->second->binding);
  time_wait_.erase(it);
}

void TcpProtocol::Arm() {
  timer_.Set(stack_.timers(),
             time_wait_order_.empty() ? TimePoint::Never() : time_wait_order_.front().first);
}

void TcpProtocol::OnTimer() {
  while (!time_wait_order_.empty() && time_wait_order_.front().first <= stack_.now()) {
    const auto [at, tuple] = time_wait_order_.front();
    time_wait_order_.pop_front();
    auto it = time_wait_.find(tuple);
    if (it == time_wait_.end()) continue;
    if (it->second->expires > stack_.now()) {
      // Restarted, or another incarnation, which has an entry of its own when it is newer.
      if (it->second->expires != at) continue;
    }
    DropTimeWait(tuple);
  }
  Arm();
}

// RFC 9293 3.10.7.4 for TIME-WAIT, RFC 6191 for the SYN. True: the entry is gone, and a listener
// may take the SYN.
bool TcpProtocol::TimeWaitIn(const FourTuple& tuple, TimeWait& tw, const IpReceived& rx,
                             const TcpSegment& s, size_t length) {
  const bool ts = tw.timestamps && s.options.timestamps.has_value();
  const bool paws = ts && static_cast<int32_t>(s.options.timestamps->value - tw.ts_recent) < 0;
  const SeqNum next(tw.rcv_nxt);
  if (s.Has(kSyn) && !s.Has(kRst) && !s.Has(kAck) && !paws) {
    const bool newer = ts && static_cast<int32_t>(s.options.timestamps->value - tw.ts_recent) > 0;
    if (s.seq.After(next) || newer) {
      DropTimeWait(tuple);
      return true;
    }
  }
  if (s.Has(kRst)) {
    // Linux without tcp_rfc1337: an exact reset ends the wait.
    if (!paws && s.seq == next) DropTimeWait(tuple);
    return false;
  }
  if (!paws && s.seq == next && length == 0) return false;  // a plain ACK
  if (!AllowChallengeAck()) return false;
  TcpSegment r;
  r.seq = SeqNum(tw.snd_nxt);
  r.ack = next;
  r.flags = kAck;
  r.window = static_cast<uint16_t>(std::min<uint32_t>(tw.window >> tw.receive_scale, 65535));
  if (tw.timestamps) {
    r.options.timestamps = TcpTimestamps{
        static_cast<uint32_t>(stack_.now().millis()) + tw.ts_offset, tw.ts_recent};
  }
  SendLone(tuple, rx.iface, r);
  // RFC 9293 3.10.7.4, eighth check: a repeated FIN restarts the 2 MSL.
  if (s.Has(kFin) && tw.expires != stack_.now() + stack_.config().tcp_time_wait) {
    tw.expires = stack_.now() + stack_.config().tcp_time_wait;
    time_wait_order_.emplace_back(tw.expires, tuple);
  }
  return false;
}

// ---- Segments without a connection ----

void TcpProtocol::SendLone(const FourTuple& tuple, IfIndex iface, TcpSegment segment) {
  segment.src_port = tuple.local_port;
  segment.dst_port = tuple.remote_port;
  const bool scoped = tuple.remote.is_v6() && tuple.remote.IsLinkLocal();
  NetResult<Route> route = stack_.FindRoute(
      {.src = tuple.local, .dst = tuple.remote, .oif = scoped ? iface : 0});
  if (!route.ok()) return;
  stack_.counters().tcp.out_segs++;
  if (stack_.ShortWay(*route)) {
    return stack_.LoopTcp(tuple.local, tuple.remote, 0, segment, Chain());
  }
  Packet p;
  segment.Write(p.Prepend(segment.header_size()));
  IpSend ip{tuple.local, tuple.remote, kProtoTcp, stack_.config().default_ttl};
  ip.dont_fragment = true;
  stack_.FinishChecksum(*route, ip, p, 16);
  (void)stack_.SendIp(*route, ip, std::move(p));
}

// RFC 9293 3.5.2, group 1.
void TcpProtocol::SendReset(const FourTuple& tuple, IfIndex iface, const TcpSegment& about,
                            size_t length) {
  TcpSegment r;
  r.flags = kRst;
  if (about.Has(kAck)) {
    r.seq = about.ack;
  } else {
    r.flags |= kAck;
    r.ack = about.seq + static_cast<uint32_t>(length);
  }
  stack_.counters().tcp.out_rsts++;
  SendLone(tuple, iface, r);
}

void TcpProtocol::ErrorIn(const IcmpError& e) {
  const FourTuple tuple{e.local, e.remote, Load16(e.transport.data()),
                        Load16(e.transport.data() + 2)};
  auto it = connections_.find(tuple);
  if (it == connections_.end()) return;
  RefPtr<TcpEndpoint> hold = it->second;
  // RFC 5927 4.1: only about what is in flight.
  if (!hold->connection()->SequenceInFlight(Load32(e.transport.data() + 4))) return;
  hold->OnIcmp(e);
}

void TcpProtocol::AbortAll() {
  while (!connections_.empty()) {
    RefPtr<TcpEndpoint> e = connections_.begin()->second;
    connections_.erase(connections_.begin());
    e->Abort();
  }
  while (!time_wait_.empty()) DropTimeWait(FourTuple(time_wait_.begin()->first));
  time_wait_order_.clear();
}

}  // namespace ringwall::net
