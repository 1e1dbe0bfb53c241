// Passive opens. RFC 9293 3.10.7.2 and the SYN-RECEIVED part of 3.10.7.4; backlog rules as Linux's
// tcp_conn_request() and tcp_check_req().
#include "netstack/tcp/listen.h"

#include <algorithm>

#include "netstack/tcp/protocol.h"

namespace ringwall::net {
namespace {

// The peer's MSS as a cookie can hold it.
constexpr uint16_t kMssTable4[] = {536, 1220, 1300, 1380, 1440, 1460, 4312, 8960};
constexpr uint32_t kCookieBits = 24;
constexpr Duration kCookieLife = Duration::Seconds(128);

uint32_t CookieCount(TimePoint now) { return static_cast<uint32_t>(now.millis() / 64000); }

// The low bits of our timestamp while cookies are on: the options that a cookie cannot hold.
constexpr uint32_t kTsMask = 0x3f;
constexpr uint32_t kTsScaleMask = 0x0f;  // 15: no scaling
constexpr uint32_t kTsSack = 0x10;
constexpr uint32_t kTsEcn = 0x20;

}  // namespace

TcpListener::~TcpListener() {
  for (RefPtr<TcpEndpoint>& child : accepted_) child->Abort();
}

RefPtr<TcpEndpoint> TcpListener::TakeWaiting() {
  if (accepted_.empty()) return nullptr;
  RefPtr<TcpEndpoint> child = std::move(accepted_.front());
  accepted_.pop_front();
  return child;
}

bool TcpListener::AcceptFull() const {
  return accepted_.size() > static_cast<size_t>(endpoint_.backlog_limit());
}

void TcpListener::Segment(const FourTuple& tuple, const IpReceived& rx, const TcpSegment& s,
                          Chain payload) {
  if (auto it = requests_.find(tuple); it != requests_.end()) {
    return RequestSegment(*it->second, rx, s, std::move(payload));
  }
  if (s.Has(kRst)) return;  // first check
  if (s.Has(kAck)) return CookieAck(tuple, rx, s, std::move(payload));
  if (!s.Has(kSyn) || s.Has(kFin)) return;
  Syn(tuple, rx, s, std::move(payload));
}

bool TcpListener::FastSyn(const FourTuple& tuple, const IpReceived& rx, const TcpSegment& s,
                          Chain payload, const TcpAgreed& agreed, TcpFastOpen* answer) {
  TcpCounters& count = stack().counters().tcp;
  const uint32_t bits = stack().config().tcp_fastopen;
  const int64_t most = endpoint_.opt(Option::kFastOpen);
  const bool on = (bits & kTfoServer) != 0 && (most > 0 || (bits & kTfoServerAll) != 0);
  const bool free = (bits & kTfoServerNoCookie) != 0 || endpoint_.fast_open_no_cookie();
  if (!on || (!s.options.fast_open && !(free && !payload.empty()))) return false;
  // Those whose client has not shown yet that it is there: bounded, it may be a flood.
  const size_t unproved = static_cast<size_t>(
      std::count_if(accepted_.begin(), accepted_.end(), [](const RefPtr<TcpEndpoint>& e) {
        return e->connection() != nullptr && e->connection()->fast_child();
      }));
  if (most > 0 && unproved >= static_cast<size_t>(most)) {
    count.fast_open_overflow++;
    return false;
  }
  const std::vector<SipKey>& keys = endpoint_.fast_open_keys();
  const auto cookie = MakeFastOpenCookie(keys[0], tuple.remote, tuple.local);
  bool good = free, renew = false;
  if (s.options.fast_open && !free) {
    for (size_t i = 0; i < keys.size() && !good; i++) {
      const auto known = i == 0 ? cookie : MakeFastOpenCookie(keys[i], tuple.remote, tuple.local);
      good = s.options.cookie_size == known.size() &&
             std::memcmp(known.data(), s.options.cookie.data(), known.size()) == 0;
      renew = good && i != 0;
    }
    if (s.options.cookie_size == 0) {
      count.fast_open_asked++;
    } else if (!good) {
      count.fast_open_passive_fail++;
    }
    if (!good || renew) {
      answer->ask = true;
      answer->cookie_size = static_cast<uint8_t>(cookie.size());
      std::copy(cookie.begin(), cookie.end(), answer->cookie.begin());
    }
  }
  if (!good) return false;
  const bool scoped = tuple.remote.is_v6() && tuple.remote.IsLinkLocal();
  NetResult<Route> route = stack().FindRoute(
      {.src = tuple.local, .dst = tuple.remote, .oif = scoped ? rx.iface : 0});
  if (!route.ok()) return false;
  Ref<TcpEndpoint> child = TcpEndpoint::MakeFastChild(endpoint_, tuple, rx.iface, *route, agreed);
  if (!stack().tcp().Register(child.get(), tuple, route->kind == Route::Kind::kLocal)) {
    child->MarkUnregistered();
    child->Abort();
    return true;
  }
  count.passive_opens++;
  count.fast_open_passive++;
  accepted_.push_back(child);
  child->AcceptFast(agreed, s, std::move(payload), *answer);
  endpoint_.NotifyReadable();
  return true;
}

void TcpListener::Syn(const FourTuple& tuple, const IpReceived& rx, const TcpSegment& s,
                      Chain payload) {
  TcpCounters& count = stack().counters().tcp;
  const StackConfig& config = stack().config();
  if (AcceptFull()) {
    // No answer: the client asks again, when there may be room.
    count.listen_overflows++;
    count.listen_drops++;
    return;
  }
  const size_t limit = std::max<size_t>(static_cast<size_t>(endpoint_.backlog_limit()), 1);
  const bool full = requests_.size() >= limit || requests_.size() >= config.tcp_max_syn_backlog;
  bool cookie = config.tcp_syncookies == 2;
  if (full) {
    if (config.tcp_syncookies == 0) {
      count.req_q_full_drop++;
      count.listen_drops++;
      return;
    }
    cookie = true;
  }
  TcpAgreed agreed;
  const TcpSettings settings = endpoint_.MakeSettings();
  TcpConnection::Agree(agreed, settings, s);
  // RFC 3168 6.1.1: answered when asked for.
  agreed.ecn = settings.ecn != 0 && s.Has(kEce) && s.Has(kCwr);
  agreed.ts_offset = stack().tcp().TimestampOffset(tuple);
  uint32_t ts_value = static_cast<uint32_t>(stack().now().millis()) + agreed.ts_offset;
  if (cookie) {
    overflowed_ = true;
    last_overflow_ = stack().now();
    uint32_t index = 0;
    for (uint32_t i = 0; i < std::size(kMssTable4); i++) {
      if (kMssTable4[i] <= agreed.peer_mss) index = i;
    }
    agreed.iss = Cookie(tuple, agreed.irs, CookieCount(stack().now()), index);
    if (agreed.timestamps) {
      uint32_t bits = agreed.window_scaling ? std::min<uint32_t>(agreed.send_scale, 14) : 15;
      if (agreed.sack) bits |= kTsSack;
      if (agreed.ecn) bits |= kTsEcn;
      ts_value = (ts_value & ~kTsMask) | bits;
    } else {
      agreed.window_scaling = agreed.sack = agreed.ecn = false;
    }
    count.syn_cookies_sent++;
    return SendSynAck(tuple, rx.iface, agreed, ts_value);
  }
  agreed.iss = stack().tcp().InitialSequence(tuple);
  TcpFastOpen fast;
  if (FastSyn(tuple, rx, s, std::move(payload), agreed, &fast)) return;
  auto request = std::make_unique<Request>(*this, tuple);
  request->agreed = agreed;
  request->fast = fast;
  request->peer_window = s.window;
  request->iface = rx.iface;
  request->sent = stack().now();
  request->timer.Set(stack().timers(), stack().now() + RttEstimator::kInitialRto);
  requests_.emplace(tuple, std::move(request));
  SendSynAck(tuple, rx.iface, agreed, ts_value, fast);
}

void TcpListener::SendSynAck(const FourTuple& tuple, IfIndex iface, const TcpAgreed& agreed,
                             uint32_t ts_value, const TcpFastOpen& fast) {
  const TcpSettings settings = endpoint_.MakeSettings();
  const bool scoped = tuple.remote.is_v6() && tuple.remote.IsLinkLocal();
  NetResult<Route> route = stack().FindRoute(
      {.src = tuple.local, .dst = tuple.remote, .oif = scoped ? iface : 0});
  if (!route.ok()) return;
  uint32_t mss = TcpEndpoint::MssOf(stack(), *route);
  if (endpoint_.opt(Option::kMaxSegment) != 0) {
    mss = std::min(mss, static_cast<uint32_t>(endpoint_.opt(Option::kMaxSegment)));
  }
  TcpSegment r;
  r.seq = SeqNum(agreed.iss);
  r.ack = SeqNum(agreed.irs + 1);
  r.flags = kSyn | kAck;
  if (agreed.ecn) r.flags |= kEce;
  r.window = TcpConnection::SynWindow(settings);
  r.options = TcpConnection::SynOptions(settings, mss, ts_value);
  if (!agreed.window_scaling) r.options.window_scale.reset();
  r.options.sack_permitted = agreed.sack;
  if (agreed.timestamps) {
    r.options.timestamps->echo = agreed.ts_recent;
  } else {
    r.options.timestamps.reset();
  }
  if (fast.ask) {
    r.options.fast_open = true;
    r.options.cookie_size = fast.cookie_size;
    r.options.cookie = fast.cookie;
  }
  stack().tcp().SendLone(tuple, iface, r);
}

void TcpListener::OnTimer(Request& r) {
  // RFC 6298 5.5-5.6; tcp_synack_retries.
  if (r.retries >= stack().config().tcp_synack_retries) {
    requests_.erase(FourTuple(r.tuple));
    return;
  }
  r.retries++;
  r.timer.Set(stack().timers(), stack().now() + RttEstimator::kInitialRto * (1ll << r.retries));
  stack().counters().tcp.retrans_segs++;
  SendSynAck(r.tuple, r.iface, r.agreed,
             static_cast<uint32_t>(stack().now().millis()) + r.agreed.ts_offset);
}

void TcpListener::Challenge(const Request& r, uint32_t now_ts) {
  if (!stack().tcp().AllowChallengeAck()) return;
  TcpSegment a;
  a.seq = SeqNum(r.agreed.iss + 1);
  a.ack = SeqNum(r.agreed.irs + 1);
  a.flags = kAck;
  a.window = TcpConnection::SynWindow(endpoint_.MakeSettings());
  if (r.agreed.timestamps) a.options.timestamps = TcpTimestamps{now_ts, r.agreed.ts_recent};
  stack().tcp().SendLone(r.tuple, r.iface, a);
}

// RFC 9293 3.10.7.4 in SYN-RECEIVED, and RFC 5961.
void TcpListener::RequestSegment(Request& r, const IpReceived& rx, const TcpSegment& s,
                                 Chain payload) {
  const FourTuple tuple = r.tuple;
  const uint32_t offset = s.seq.value() - (r.agreed.irs + 1);
  const uint32_t now_ts = static_cast<uint32_t>(stack().now().millis()) + r.agreed.ts_offset;
  const bool paws = r.agreed.timestamps && s.options.timestamps && !s.Has(kRst) &&
                    static_cast<int32_t>(s.options.timestamps->value - r.agreed.ts_recent) < 0;
  if (s.Has(kSyn) && !s.Has(kRst) && !s.Has(kAck) && s.seq.value() == r.agreed.irs) {
    return SendSynAck(tuple, r.iface, r.agreed, now_ts, r.fast);  // the client repeats itself
  }
  if (offset > TcpConnection::SynWindow(endpoint_.MakeSettings()) || paws) {
    if (!s.Has(kRst)) Challenge(r, now_ts);
    return;
  }
  if (s.Has(kRst)) {
    if (offset == 0) {  // RFC 5961 3.2: exact
      stack().counters().tcp.attempt_fails++;
      requests_.erase(tuple);
    } else {
      Challenge(r, now_ts);
    }
    return;
  }
  if (s.Has(kSyn)) {
    stack().tcp().SendReset(tuple, r.iface, s, 1);
    requests_.erase(tuple);
    return;
  }
  if (!s.Has(kAck)) return;
  if (s.ack.value() != r.agreed.iss + 1) {
    return stack().tcp().SendReset(tuple, r.iface, s, payload.size());
  }
  if (endpoint_.opt(Option::kDeferAccept) > 0 && payload.empty() && !s.Has(kFin)) {
    // tcp(7) TCP_DEFER_ACCEPT: wait for data; after that many seconds of repeats take it anyway.
    int64_t waited = 0;
    for (int i = 0; i < r.retries; i++) waited += 1ll << i;
    if (waited < endpoint_.opt(Option::kDeferAccept)) {
      r.acked = true;
      return;
    }
  }
  std::optional<Duration> rtt;
  if (r.retries == 0) rtt = stack().now() - r.sent;
  TcpAgreed agreed = r.agreed;
  agreed.handshake_repeats = static_cast<uint8_t>(std::min(r.retries, 255));
  const IfIndex iface = r.iface;
  if (s.options.timestamps && agreed.timestamps) agreed.ts_recent = s.options.timestamps->value;
  if (Complete(tuple, iface, agreed, rtt, rx, s, std::move(payload))) requests_.erase(tuple);
}

bool TcpListener::Complete(const FourTuple& tuple, IfIndex iface, const TcpAgreed& agreed,
                           std::optional<Duration> rtt, const IpReceived& rx, const TcpSegment& s,
                           Chain payload) {
  TcpCounters& count = stack().counters().tcp;
  if (AcceptFull()) {
    // The client believes that it is connected; its data, repeated, will find room or a reset.
    count.listen_overflows++;
    count.listen_drops++;
    if (stack().config().tcp_abort_on_overflow) {
      stack().tcp().SendReset(tuple, iface, s, payload.size());
      return true;
    }
    return false;
  }
  const bool scoped = tuple.remote.is_v6() && tuple.remote.IsLinkLocal();
  NetResult<Route> route = stack().FindRoute(
      {.src = tuple.local, .dst = tuple.remote, .oif = scoped ? iface : 0});
  if (!route.ok()) return false;
  const uint32_t window = static_cast<uint32_t>(s.window) << agreed.send_scale;
  Ref<TcpEndpoint> child =
      TcpEndpoint::MakeChild(endpoint_, tuple, iface, *route, agreed, window, rtt);
  if (!stack().tcp().Register(child.get(), tuple, route->kind == Route::Kind::kLocal)) {
    child->MarkUnregistered();
    child->Abort();
    return true;
  }
  count.passive_opens++;
  accepted_.push_back(child);
  child->Segment(rx, s, std::move(payload));
  endpoint_.NotifyReadable();
  return true;
}

// ---- Cookies: RFC 4987 3.6 ----

uint32_t TcpListener::Cookie(const FourTuple& tuple, uint32_t irs, uint32_t count,
                             uint32_t mss_index) const {
  uint8_t in[48] = {};
  std::memcpy(in, tuple.local.bytes().data(), 16);
  std::memcpy(in + 16, tuple.remote.bytes().data(), 16);
  Store16(in + 32, tuple.local_port);
  Store16(in + 34, tuple.remote_port);
  Store32(in + 36, irs);
  Store32(in + 40, count);
  in[44] = static_cast<uint8_t>(mss_index);
  in[45] = 0xc0;
  const uint32_t hash =
      static_cast<uint32_t>(SipHash(stack().key(), in)) & ((1u << kCookieBits) - 1);
  return (count & 0x1f) << 27 | mss_index << 24 | hash;
}

void TcpListener::CookieAck(const FourTuple& tuple, const IpReceived& rx, const TcpSegment& s,
                            Chain payload) {
  TcpCounters& count = stack().counters().tcp;
  const bool expected = overflowed_ && stack().now() - last_overflow_ < kCookieLife;
  const bool always = stack().config().tcp_syncookies == 2;
  if (s.Has(kSyn) || (!expected && !always)) {
    return stack().tcp().SendReset(tuple, rx.iface, s, payload.size());
  }
  const uint32_t cookie = s.ack.value() - 1;
  const uint32_t irs = s.seq.value() - 1;
  const uint32_t mss_index = cookie >> 24 & 7;
  const uint32_t now_count = CookieCount(stack().now());
  bool good = false;
  for (uint32_t age = 0; age < 2 && !good; age++) {
    good = Cookie(tuple, irs, now_count - age, mss_index) == cookie;
  }
  if (!good) {
    count.syn_cookies_failed++;
    return stack().tcp().SendReset(tuple, rx.iface, s, payload.size());
  }
  count.syn_cookies_recv++;
  const TcpSettings settings = endpoint_.MakeSettings();
  TcpAgreed agreed;
  agreed.iss = cookie;
  agreed.irs = irs;
  agreed.peer_mss = kMssTable4[mss_index];
  agreed.ts_offset = stack().tcp().TimestampOffset(tuple);
  if (s.options.timestamps && settings.timestamps) {
    agreed.timestamps = true;
    agreed.ts_recent = s.options.timestamps->value;
    const uint32_t bits = s.options.timestamps->echo & kTsMask;
    if ((bits & kTsScaleMask) != 15 && settings.window_scaling) {
      agreed.window_scaling = true;
      agreed.send_scale = static_cast<uint8_t>(bits & kTsScaleMask);
      agreed.receive_scale = TcpConnection::ScaleFor(
          settings.receive_buffer_locked ? settings.receive_buffer : settings.receive_buffer_max);
    }
    agreed.sack = settings.sack && (bits & kTsSack) != 0;
    agreed.ecn = settings.ecn != 0 && (bits & kTsEcn) != 0;
  }
  (void)Complete(tuple, rx.iface, agreed, std::nullopt, rx, s, std::move(payload));
}

}  // namespace ringwall::net
