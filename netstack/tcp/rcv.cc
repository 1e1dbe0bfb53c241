// Segments in, in the order of RFC 9293 3.10.7. Also RFC 5961 (blind attacks), RFC 7323 5 (PAWS),
// RFC 2018 and 2883 (what we report), RFC 6093 (urgent data).
#include <algorithm>

#include "netstack/tcp/connection.h"

namespace ringwall::net {

void TcpConnection::OnSegment(const TcpSegment& s, Chain payload, bool ecn_ce, TimePoint now) {
  if (finished_) return;
  segs_in_++;
  if (state_ == TcpState::kSynSent) return SynSentSegment(s, std::move(payload), now);

  const int32_t rel =
      static_cast<int32_t>(s.seq.value() - (agreed_.irs + static_cast<uint32_t>(rcv_nxt_)));
  const int64_t seq = static_cast<int64_t>(rcv_nxt_) + rel;
  const bool fin = s.Has(kFin);
  const uint32_t length = static_cast<uint32_t>(payload.size()) + (fin ? 1 : 0) +
                          (s.Has(kSyn) ? 1 : 0);

  if (fast_child_ && s.Has(kSyn) && !s.Has(kAck) && !s.Has(kRst) && seq == 0) {
    return Transmit(0, 0, kSyn | kAck, now);  // the client repeats its SYN, most likely without data
  }
  // First, the sequence number; PAWS before it: RFC 7323 5.3 R1.
  if (!s.Has(kRst) && PawsRejects(s, now)) {
    user_.counters().paws_estab_rejected++;
    if (!payload.empty() && settings_.dsack && seq >= 1) {
      dsack_ = {static_cast<uint64_t>(seq), static_cast<uint64_t>(seq) + payload.size()};
    }
    return payload.empty() ? ChallengeAck(now) : SendAck(now);
  }
  if (!CheckSequence(s, seq, length, now)) return;
  if (s.Has(kRst)) return HandleReset(seq, now);
  // RFC 5961 4.2: a SYN in a synchronised state gets a challenge, whatever its sequence number.
  if (s.Has(kSyn)) {
    const bool repeated_synack = state_ == TcpState::kSynReceived && seq == 0 && s.Has(kAck);
    if (!repeated_synack) return ChallengeAck(now);
  }
  if (!s.Has(kAck)) return;
  last_heard_ = now;

  // RFC 7323 4.3: remember the timestamp of the segment that an ACK last covered.
  if (agreed_.timestamps && s.options.timestamps &&
      seq <= static_cast<int64_t>(rcv_wup_) &&
      static_cast<int32_t>(s.options.timestamps->value - agreed_.ts_recent) >= 0) {
    agreed_.ts_recent = s.options.timestamps->value;
    ts_recent_at_ = now;
  }
  if (state_ == TcpState::kSynReceived) {
    const uint32_t ack = s.ack.value() - agreed_.iss;
    if (ack == 0 || ack > snd_nxt_) {
      TcpSegment r;
      r.seq = s.ack;
      r.flags = kRst;
      user_.Emit(r, Chain(), 0, false);
      return;
    }
    if (!rtt_.have() && retries_ == 0) rtt_.Sample(now - syn_sent_at_, now);
    snd_wnd_ = static_cast<uint64_t>(s.window) << agreed_.send_scale;
    const bool fin_waits = fin_queued_;
    Establish(now);
    if (fin_waits) state_ = TcpState::kFinWait1;
  }
  if (agreed_.ecn) {
    // RFC 3168 6.1.3: echo until the sender says CWR.
    if (s.Has(kCwr)) ece_echo_ = false;
    if (ecn_ce) {
      if (!ece_echo_) ack_now_ = true;
      ece_echo_ = true;
    }
  }
  if (!HandleAck(s, seq, !payload.empty() || fin, now)) return;
  if (finished_) return;
  ArmKeepalive(now);

  if (s.Has(kUrg)) {
    HandleUrgent(s, seq);
    // The byte itself is there as soon as it comes, in order or not: tcp_urg().
    if (urgent_state_ == Urgent::kNotYet && seq >= 0) NoteUrgentByte(payload, static_cast<uint64_t>(seq));
  }
  if (s.Has(kSyn)) payload = Chain();  // only a repeated SYN-ACK comes this far
  if (!payload.empty() || fin) {
    const int64_t end = seq + static_cast<int64_t>(payload.size());
    const bool fresh = end > static_cast<int64_t>(rcv_nxt_);
    // RFC 1122 4.2.2.13: data for a process that is gone is lost; tell the peer by a reset.
    if (fresh && !payload.empty() &&
        (orphaned_ || (read_shut_ && (state_ == TcpState::kFinWait1 ||
                                      state_ == TcpState::kFinWait2)))) {
      user_.counters().abort_on_data++;
      SendResetSegment(now);
      return Finish(NetError::kReset);
    }
    HandleData(seq, std::move(payload), fin, now);
    if (finished_) return;
  }
  Output(now);
  if (finished_) return;
  if (ack_now_) SendAck(now);
}

void TcpConnection::SynSentSegment(const TcpSegment& s, Chain payload, TimePoint now) {
  // RFC 9293 3.10.7.3
  const bool has_ack = s.Has(kAck);
  const uint64_t acked = has_ack ? s.ack.value() - agreed_.iss : 1;
  if (acked == 0 || acked > snd_nxt_) {
    if (s.Has(kRst)) return;
    TcpSegment r;
    r.seq = s.ack;
    r.flags = kRst;
    user_.Emit(r, Chain(), 0, false);
    return;
  }
  if (s.Has(kRst)) {
    if (has_ack) Finish(NetError::kRefused);
    return;
  }
  if (!s.Has(kSyn)) return;
  last_heard_ = now;
  const uint32_t ts_offset = agreed_.ts_offset;
  Agree(agreed_, settings_, s);
  agreed_.ts_offset = ts_offset;
  ts_recent_at_ = now;
  rcv_nxt_ = rcv_wup_ = 1;
  rcv_edge_ = 1 + SynWindow(settings_);
  // RFC 7323 2.2: the window of a SYN is never scaled.
  snd_wnd_ = max_window_ = s.window;
  snd_wl1_ = 0;
  // RFC 3168 6.1.1: the answer to ECE|CWR is ECE alone.
  const uint8_t bits = s.flags & (kEce | kCwr);
  agreed_.ecn = settings_.ecn == 1 && (has_ack ? bits == kEce : bits == (kEce | kCwr));
  if (!has_ack) {
    // Simultaneous open: RFC 9293 3.5, figure 7.
    state_ = TcpState::kSynReceived;
    fin_queued_ = shut_early_;
    retries_ = 0;
    backoff_ = 0;
    rto_at_ = now + RtoNow();
    Transmit(0, 0, kSyn | kAck, now);
    return;
  }
  Delivery d;
  std::optional<TimePoint> echo;
  board_.Acked(acked, 1, now, echo, d);
  if (acked > 1) {
    syn_data_acked_ = true;
    bytes_acked_ += acked - 1;
    send_.Release(acked);
  }
  snd_una_ = acked;
  ReleaseParts();
  snd_wl2_ = acked;
  if (fast_.ask) user_.OnFastOpen(s.options, retries_ != 0 && acked == 1 && syn_data_);
  if (acked < snd_nxt_) board_.MarkAllLost(false);  // RFC 7413 4.1.3: sent again, plainly
  if (retries_ == 0) rtt_.Sample(now - syn_sent_at_, now);
  Establish(now);
  if (finished_) return;
  ack_now_ = true;
  if (s.Has(kUrg)) HandleUrgent(s, 1);
  if (!payload.empty() || s.Has(kFin)) HandleData(1, std::move(payload), s.Has(kFin), now);
  Output(now);
  if (!finished_ && ack_now_) SendAck(now);
}

// RFC 7323 5.3 R1 and 5.5: a timestamp older than the last one marks a segment of the past, unless
// the connection was idle for 24 days.
bool TcpConnection::PawsRejects(const TcpSegment& s, TimePoint now) const {
  if (!agreed_.timestamps || !s.options.timestamps) return false;
  if (static_cast<int32_t>(s.options.timestamps->value - agreed_.ts_recent) >= 0) return false;
  return now - ts_recent_at_ < Duration::Seconds(24 * 24 * 3600);
}

bool TcpConnection::CheckSequence(const TcpSegment& s, int64_t seq, uint32_t length,
                                  TimePoint now) {
  const int64_t end = seq + length;
  const bool old = end < static_cast<int64_t>(rcv_wup_);
  const bool beyond = seq > static_cast<int64_t>(rcv_edge_);
  if (!old && !beyond) return true;
  if (s.Has(kRst)) {
    // A peer that got our FIN and closes hard may be one behind; Linux's tcp_reset_check().
    if (seq + 1 == static_cast<int64_t>(rcv_nxt_) && fin_received_) HandleReset(seq + 1, now);
    return false;
  }
  if (s.Has(kSyn)) {
    ChallengeAck(now);
    return false;
  }
  if (old && length != 0 && seq >= 1 && settings_.dsack && agreed_.sack) {
    dsack_ = {static_cast<uint64_t>(seq), static_cast<uint64_t>(end)};
    SendAck(now);
    return false;
  }
  // RFC 9293 3.10.7.4: an unacceptable segment is answered with an ACK. Two stacks that disagree
  // must not answer each other for ever, so empty ones share the challenge's limit.
  if (length != 0) {
    SendAck(now);
  } else {
    ChallengeAck(now);
  }
  return false;
}

// RFC 5961 3.2
void TcpConnection::HandleReset(int64_t seq, TimePoint now) {
  if (seq != static_cast<int64_t>(rcv_nxt_)) return ChallengeAck(now);
  if (state_ == TcpState::kEstablished || state_ == TcpState::kCloseWait) {
    user_.counters().estab_resets++;
  }
  switch (state_) {
    case TcpState::kSynReceived:
      return Finish(fast_child_ ? NetError::kReset : NetError::kRefused);
    case TcpState::kCloseWait:
      return Finish(NetError::kPipe);
    default:
      return Finish(NetError::kReset);
  }
}

void TcpConnection::ChallengeAck(TimePoint now) {
  if (user_.AllowChallengeAck()) SendAck(now);
}

void TcpConnection::HandleData(int64_t seq, Chain payload, bool fin, TimePoint now) {
  if (state_ != TcpState::kEstablished && state_ != TcpState::kFinWait1 &&
      state_ != TcpState::kFinWait2) {
    // RFC 9293 3.10.7.4: after the peer's FIN there is no more; a repeated FIN is acknowledged.
    ack_now_ = true;
    return;
  }
  data_in_++;
  const int64_t next = static_cast<int64_t>(rcv_nxt_);
  int64_t end = seq + static_cast<int64_t>(payload.size());
  if (end + (fin ? 1 : 0) <= next) {
    // All of it was here before: RFC 2883 4.1.
    if (seq >= 1 && end > seq && settings_.dsack) {
      dsack_ = {static_cast<uint64_t>(seq), static_cast<uint64_t>(end)};
    }
    ack_now_ = true;
    return;
  }
  if (seq < next) {
    if (settings_.dsack && seq >= 1 && !payload.empty()) {
      dsack_ = {static_cast<uint64_t>(seq), static_cast<uint64_t>(std::min(next, end))};
    }
    payload = payload.Sub(static_cast<size_t>(std::min<int64_t>(next - seq,
                                              static_cast<int64_t>(payload.size()))));
    seq = next;
  }
  const uint64_t at = static_cast<uint64_t>(seq);
  if (at + payload.size() > rcv_edge_) {
    // Beyond the window: RFC 9293 3.10.7.4, only what fits; the FIN behind it neither.
    payload.Truncate(static_cast<size_t>(rcv_edge_ > at ? rcv_edge_ - at : 0));
    fin = false;
    ack_now_ = true;
    if (payload.empty()) return;
  }
  end = static_cast<int64_t>(at + payload.size());
  if (fin) {
    // The first FIN counts; a later one elsewhere is a forgery or a broken peer.
    if (fin_at_ && *fin_at_ != static_cast<uint64_t>(end)) {
      fin = false;
    } else if (ooo_.highest() > static_cast<uint64_t>(end)) {
      fin = false;
    } else {
      fin_at_ = static_cast<uint64_t>(end);
    }
  }
  if (fin_at_ && static_cast<uint64_t>(end) > *fin_at_) {
    payload.Truncate(static_cast<size_t>(*fin_at_ > at ? *fin_at_ - at : 0));
  }

  const size_t size = payload.size();
  if (size > rcv_mss_) rcv_mss_ = static_cast<uint32_t>(std::min<size_t>(size, path_mss_));
  last_data_in_ = now;
  if (at != rcv_nxt_) {
    // RFC 5681 4.2: a gap is acknowledged at once.
    ooo_in_++;
    user_.counters().ofo_queued++;
    ack_now_ = true;
    if (size == 0) return;
    const OffsetBlock seen = ooo_.Insert(at, payload);
    if (seen.end != 0 && settings_.dsack) dsack_ = seen;
    if (ooo_.cost() > settings_.receive_buffer) {
      user_.counters().ofo_pruned++;
      ooo_.Prune(settings_.receive_buffer);
    }
    return;
  }
  if (size != 0) MeasureSegment(size);  // not beyond a gap: duplicates tell the same window, RFC 5681 2
  const bool filled_gap = !ooo_.empty();
  if (size != 0) AcceptInOrder(std::move(payload), now);
  if (filled_gap) {
    uint64_t reached = rcv_nxt_;
    Chain more = ooo_.TakeFrom(&reached);
    if (!more.empty()) AcceptInOrder(std::move(more), now);
  }
  DecideAck(size, filled_gap, now);
  if (fin_at_ && *fin_at_ == rcv_nxt_) HandleFin(now);
  if (!receive_.empty()) user_.OnReadiness(kReadable);
}

void TcpConnection::AcceptInOrder(Chain data, TimePoint) {
  if (urgent_state_ == Urgent::kNotYet) NoteUrgentByte(data, rcv_nxt_);
  rcv_nxt_ += data.size();
  bytes_received_ += data.size();
  receive_.Append(data);
}

// RFC 5681 4.2 and RFC 1122 4.2.3.2: at least every second full segment, and within 500 ms; Linux
// waits 40 ms. At the start, and whenever the peer may be in slow start, every segment.
//
// What comes in one piece here was many segments on the wire, which the link merged. While the reader
// is behind with what came before it, the ACK is left to Consume, as Linux leaves it to the reader
// when the window would not move: an ACK costs both ends more than the bytes of one piece do.
void TcpConnection::DecideAck(size_t received, bool out_of_order, TimePoint now) {
  // What a reader may leave without an ACK: no more than a quarter of the window, which the peer fills.
  const size_t most = std::min<size_t>(256 << 10, settings_.receive_buffer / 8);
  const size_t two = 2 * static_cast<size_t>(rcv_mss_);
  const size_t unread = receive_.bytes();
  since_ack_ += received;
  if (out_of_order) {
    ack_now_ = true;
    quick_acks_ = std::max(quick_acks_, 4);
  }
  const bool left = received > two && unread > received && unread >= settings_.receive_lowat &&
                    since_ack_ < most;
  if (since_ack_ >= two && !left) ack_now_ = true;
  if (quick_mode_ && quick_acks_ > 0 && !interactive_ && received != 0) {
    quick_acks_--;
    ack_now_ = true;
  }
  if (!ack_now_ && received != 0 && ack_at_.IsNever()) ack_at_ = now + Duration::Millis(40);
}

void TcpConnection::HandleFin(TimePoint now) {
  if (fin_received_) return;
  fin_received_ = true;
  rcv_nxt_++;
  ack_now_ = true;
  ooo_.Clear();
  switch (state_) {
    case TcpState::kEstablished:
      state_ = TcpState::kCloseWait;
      break;
    case TcpState::kFinWait1:
      // Our FIN is not acknowledged, else HandleAck had moved on: simultaneous close.
      state_ = TcpState::kClosing;
      break;
    case TcpState::kFinWait2:
      SendAck(now);
      user_.OnReadiness(kReadable | kReadHangup | kHangup);
      user_.OnTimeWait();
      return Finish(std::nullopt);
    default:
      break;
  }
  user_.OnReadiness(kReadable | kReadHangup);
}

// RFC 6093 3: the pointer means the byte before it, as all systems read it.
void TcpConnection::HandleUrgent(const TcpSegment& s, int64_t seq) {
  if (s.urgent == 0 || state_ == TcpState::kCloseWait || fin_received_) return;
  const int64_t at = seq + s.urgent - 1;
  if (at < static_cast<int64_t>(rcv_nxt_) || at < static_cast<int64_t>(read_at_)) return;
  const uint64_t where = static_cast<uint64_t>(at);
  if (urgent_state_ != Urgent::kNone && urgent_at_ >= where) return;
  if (UrgentNext()) SkipUrgent();  // tcp_check_urg(): a new one leaves no way to the old one
  urgent_state_ = Urgent::kNotYet;
  urgent_at_ = where;
  user_.OnReadiness(kUrgent);
}

void TcpConnection::NoteUrgentByte(const Chain& data, uint64_t at) {
  if (urgent_at_ < at || urgent_at_ >= at + data.size()) return;
  const Chain one = data.Sub(static_cast<size_t>(urgent_at_ - at), 1);
  one.CopyTo(&urgent_byte_);
  urgent_state_ = Urgent::kValid;
  user_.OnReadiness(kUrgent | kReadable);
}

// ---- The window that we tell ----

// Half of the buffer is for bytes, half for what holding them costs, until the peer's segments say better.
size_t TcpConnection::FullReceiveSpace() const {
  const size_t total = settings_.receive_buffer * scaling_ / 256;
  return settings_.window_clamp != 0 ? std::min<size_t>(total, settings_.window_clamp) : total;
}

size_t TcpConnection::ReceiveSpace() const {
  const size_t total = FullReceiveSpace();
  const size_t space = total > receive_.bytes() ? total - receive_.bytes() : 0;
  return std::min<size_t>(space, rcv_ssthresh_);
}

// tcp_measure_rcv_mss() and tcp_grow_window(): large segments waste little of the buffer, so more of it can be
// told; the window opens by two segments for each that comes. Small ones, which Linux would count by far more
// than their bytes, are gathered here and change nothing.
void TcpConnection::MeasureSegment(size_t size) {
  constexpr size_t kCost = 832;  // of one buffer beyond its payload
  if (size >= measured_ && size != measured_) {
    scaling_ = std::max<uint32_t>(128, static_cast<uint32_t>(size * 256 / (size + kCost)));
    measured_ = static_cast<uint32_t>(std::min<size_t>(size, path_mss_));
  }
  const size_t total = FullReceiveSpace();
  if (rcv_ssthresh_ >= total || size < kCost) return;
  rcv_ssthresh_ += std::min<uint64_t>(total - rcv_ssthresh_, 2 * std::max<uint64_t>(size, path_mss_));
}

uint32_t TcpConnection::receive_window() const {
  return static_cast<uint32_t>(rcv_edge_ > rcv_nxt_ ? rcv_edge_ - rcv_nxt_ : 0);
}

uint16_t TcpConnection::WindowField(bool syn) {
  if (syn) return SynWindow(settings_);
  const uint64_t space = ReceiveSpace();
  uint64_t edge = rcv_nxt_ + space;
  // RFC 9293 3.8.6.2.2: the edge moves by a segment or half the buffer, or not at all.
  const uint64_t step = std::min<uint64_t>(rcv_mss_, settings_.receive_buffer / 4);
  if (edge < rcv_edge_ + step) edge = rcv_edge_;
  edge = std::max(edge, std::max(rcv_edge_, rcv_nxt_));  // never to the left: RFC 9293 3.8.6
  const uint64_t round = (1ull << agreed_.receive_scale) - 1;
  const uint64_t field = std::min<uint64_t>((edge - rcv_nxt_ + round) >> agreed_.receive_scale,
                                            65535);
  rcv_edge_ = std::max(rcv_edge_, rcv_nxt_ + (field << agreed_.receive_scale));
  return static_cast<uint16_t>(field);
}

// Once a round trip: when the user has read more than in the round before, the peer may be limited
// by the window; let it double. Compare Linux's tcp_rcv_space_adjust().
void TcpConnection::GrowReceiveBuffer(TimePoint now) {
  if (settings_.receive_buffer_locked) return;
  if (now - tune_since_ < rtt_.srtt()) return;
  if (tune_copied_ > tune_mark_) {
    uint64_t want = 2 * tune_copied_ + 16ull * path_mss_;
    want += 2 * (want * (tune_copied_ - tune_mark_) / std::max<uint64_t>(tune_mark_, 1));
    const size_t buffer = static_cast<size_t>(std::min<uint64_t>(
        want * 256 / scaling_, settings_.receive_buffer_max));
    settings_.receive_buffer = std::max(settings_.receive_buffer, buffer);
    tune_mark_ = tune_copied_;
  }
  tune_copied_ = 0;
  tune_since_ = now;
}

}  // namespace ringwall::net
