// Segments out: RFC 9293 3.8, RFC 1122 4.2.3.4 (Nagle, silly windows), RFC 5681.
#include <algorithm>
#include <bit>

#include "netstack/tcp/connection.h"

namespace ringwall::net {
uint32_t TcpConnection::EffectiveMss() const {
  uint32_t mss = std::min<uint32_t>(path_mss_, agreed_.peer_mss);
  if (probe_low_ != 0) mss = std::min(mss, probe_low_);
  if (agreed_.timestamps) mss -= std::min<uint32_t>(12, mss - 1);  // RFC 6691 2
  // Linux bounds a segment by half of the largest window seen: tiny windows still move data.
  if (max_window_ > 1 && mss > max_window_ / 2) {
    mss = static_cast<uint32_t>(std::max<uint64_t>(max_window_ / 2, std::min(48u, mss)));
  }
  return std::max<uint32_t>(mss, 1);
}

bool TcpConnection::CanSendData() const {
  switch (state_) {
    case TcpState::kEstablished:
    case TcpState::kCloseWait:
    case TcpState::kFinWait1:
    case TcpState::kClosing:
    case TcpState::kLastAck:
      return true;
    case TcpState::kSynReceived:
      return fast_child_;  // RFC 7413 4.2.2: a server answers before the handshake's end
    default:
      return false;
  }
}

// ---- Rates: draft-cheng-iccrg-delivery-rate-estimation ----

RateMark TcpConnection::MarkRate(TimePoint now) {
  if (snd_nxt_ == snd_una_ || Pipe() == 0) first_sent_ = delivered_at_ = now;
  return {delivered_, delivered_at_, first_sent_, app_limited_ != 0};
}

void TcpConnection::FeedRate(const Delivery& d, TimePoint now) {
  if (!algorithm_->by_rate()) return;
  RateSample r;
  if (d.acked + d.sacked != 0) delivered_at_ = now;
  if (app_limited_ != 0 && delivered_ > app_limited_) app_limited_ = 0;
  r.total_delivered = delivered_;
  r.acked = d.acked + d.sacked;
  r.in_flight = Pipe();
  r.recovering = recovery_ == Recovery::kFast || recovery_ == Recovery::kLoss;
  if (d.rtt_valid) r.rtt = d.rtt;
  if (d.has_mark && d.mark.delivered_at != TimePoint()) {
    first_sent_ = d.mark_sent;
    r.prior_delivered = d.mark.delivered;
    r.delivered = delivered_ - d.mark.delivered;
    // The slower of sending and acknowledging: neither bursts nor merged ACKs make a rate.
    r.interval = Max(d.mark_sent - d.mark.first_sent, now - d.mark.delivered_at);
    r.app_limited = d.mark.app_limited;
    if (r.interval < rtt_.min()) r.delivered = 0;  // not to be trusted
  }
  algorithm_->OnRate(cc_, r, now);
}

bool TcpConnection::Paced(TimePoint now) {
  if (algorithm_->pacing_rate() == 0 || pace_next_ <= now) return false;
  pace_at_ = pace_next_;
  return true;
}

void TcpConnection::NotePaced(uint32_t bytes, TimePoint now) {
  const uint64_t rate = algorithm_->pacing_rate();
  if (rate == 0) return;
  pace_next_ = Max(pace_next_, now) +
               Duration::Nanos(static_cast<int64_t>(uint64_t{bytes} * 1'000'000'000 / rate));
}

void TcpConnection::Output(TimePoint now, bool probe) {
  if (!CanSendData()) return;
  const uint32_t mss = EffectiveMss();
  cc_.mss = mss;
  // RFC 5681 4.1: after idleness the old window is stale; it halves for each timeout passed.
  if (settings_.slow_start_after_idle && snd_nxt_ == snd_una_ && last_sent_ != TimePoint() && now - last_sent_ > rtt_.rto() &&
      EndToSend() > snd_nxt_) {
    const uint64_t initial = 10ull * mss;
    for (Duration idle = now - last_sent_; idle > rtt_.rto() && cc_.cwnd > initial;
         idle = idle - rtt_.rto()) {
      cc_.cwnd = std::max(cc_.cwnd / 2, initial);
      algorithm_->OnIdle();
    }
  }
  while (!Paced(now) && ResendLost(now)) {
  }
  if (finished_) return;
  // A paced connection sends at most what a millisecond carries at once, two segments at least.
  const uint64_t rate = algorithm_->pacing_rate();
  const uint64_t burst = rate == 0 ? UINT64_MAX : std::max<uint64_t>(rate / 1000, 2ull * mss);
  ProbeMtu(now);
  while (snd_nxt_ < EndToSend()) {
    const uint64_t remaining = send_.end() - std::min(snd_nxt_, send_.end());
    const bool fin_next = fin_queued_;
    const uint64_t limit = SendLimit();
    const uint64_t window = limit > snd_nxt_ ? limit - snd_nxt_ : 0;
    if (remaining == 0) {
      // A FIN alone: it may use the byte beyond a full window once nothing else is out.
      if (window == 0 && snd_nxt_ != snd_una_) break;
      SendNew(0, true, now);
      break;
    }
    if (window == 0 || Paced(now)) break;
    const uint64_t pipe = Pipe();
    uint64_t quota = cc_.cwnd > pipe ? cc_.cwnd - pipe : 0;
    if (quota < std::min<uint64_t>(mss, remaining) && pipe != 0) break;
    quota = std::max<uint64_t>(quota, mss);
    uint64_t n = std::min({remaining, window, quota, burst, static_cast<uint64_t>(
                                                         std::max(settings_.max_segment, mss))});
    if (n > mss && n != remaining) n -= n % mss;
    if (n > mss && n % mss != 0) {
      // The full segments first; Nagle decides on the rest.
      if (!MaySend(static_cast<uint32_t>(n % mss), true, now) && !probe) n -= n % mss;
    } else if (n < mss && !probe && !MaySend(static_cast<uint32_t>(n), n == remaining, now)) {
      break;
    }
    SendNew(static_cast<uint32_t>(n), fin_next && n == remaining, now);
    if (finished_) return;
  }
  NoteWindowUse();
  // What has just left may have made room below TCP_NOTSENT_LOWAT; no acknowledgement need tell of it.
  if (settings_.notsent_lowat < UINT32_MAX && Writable()) user_.OnReadiness(kWritable);
  // Nothing is left to send and the window has room: what follows tells nothing of the path.
  if (send_.end() <= snd_nxt_ && Pipe() < cc_.cwnd) app_limited_ = delivered_ + Pipe();
  ArmAfterSend(now);
}

// How much of the window the last flight used, as Linux's tcp_cwnd_validate() keeps it: until that flight is
// acknowledged its most counts, not what of it is still out.
void TcpConnection::NoteWindowUse() {
  const uint64_t out = (Pipe() + cc_.mss - 1) / cc_.mss * cc_.mss;
  const bool filled = out + cc_.mss > cc_.cwnd;
  if (snd_nxt_ == window_use_sent_ && !filled) return;  // nothing was sent
  if (snd_una_ >= window_use_end_ || filled || (!window_filled_ && out > most_out_)) {
    window_filled_ = filled;
    most_out_ = out;
    window_use_end_ = snd_nxt_;
  }
  window_use_sent_ = snd_nxt_;
}

// For a segment below an MSS. RFC 1122 4.2.3.4, with Minshall's change: only an unacknowledged
// *small* segment holds the next one back.
bool TcpConnection::MaySend(uint32_t size, bool last, TimePoint) const {
  if (!last) return size >= max_window_ / 2;  // cut by the peer's window
  if (fin_queued_ || urgent_out_) return true;
  if (settings_.cork || more_follows_) return false;
  if (settings_.no_delay) return true;
  return small_sent_ <= snd_una_;
}

bool TcpConnection::ResendLost(TimePoint now) {
  const TxSegment* lost = board_.NextLost();
  if (lost == nullptr) return false;
  const uint32_t mss = EffectiveMss();
  const uint64_t pipe = Pipe();
  // RFC 6675 5, (C): a full segment of room; the first one after a timeout needs none.
  if (cc_.cwnd < pipe + std::min<uint64_t>(mss, lost->size()) && pipe != 0) return false;
  // A peer that took its window back is not overrun, except by the first segment.
  if (lost->start >= SendLimit() && lost->start != snd_una_) return false;
  uint64_t room = std::max<uint64_t>(cc_.cwnd > pipe ? cc_.cwnd - pipe : 0, mss);
  room = std::min<uint64_t>(room, std::max(settings_.max_segment, mss));
  uint32_t n = lost->size();
  if (n > room) n = static_cast<uint32_t>(room / mss * mss);
  ResendFrom(lost->start, n, now);
  return !finished_;
}

void TcpConnection::ResendFrom(uint64_t start, uint32_t n, TimePoint now) {
  board_.OnResent(start, n, now, MarkRate(now));
  NotePaced(n, now);
  const uint32_t segments = SegmentsOf(n);
  total_repeats_ += segments;
  user_.counters().retrans_segs += segments;
  if (recovery_ == Recovery::kFast) user_.counters().fast_retrans += segments;
  bytes_resent_ += n;
  undo_repeats_ += static_cast<int>(segments);
  if (!repeat_ts_ && agreed_.timestamps) repeat_ts_ = TsNow(now);
  const uint64_t end = start + n;
  uint8_t flags = kAck;
  uint32_t bytes = n;
  if (fin_queued_ && end == FinOffset() + 1) {
    flags |= kFin;
    bytes--;
  }
  Transmit(start, bytes, flags, now, true);
}

// ---- RFC 4821: the path's MTU by probes, as Linux's tcp_mtu_probe() ----

bool TcpConnection::ProbeMtu(TimePoint now) {
  constexpr uint32_t kClose = 8;  // tcp_probe_threshold
  if (probe_low_ == 0 || probe_end_ != 0 || recovery_ != Recovery::kOpen || board_.any_sacked() ||
      state_ != TcpState::kEstablished) {
    return false;
  }
  const uint32_t most = std::min<uint32_t>(path_mss_, agreed_.peer_mss);
  const uint32_t high = std::min(most, probe_high_), low = std::min(probe_low_, most);
  if (high < low + kClose) {
    // RFC 4821 7.7: paths change; after ten minutes (tcp_probe_interval) the search begins anew.
    if (probe_over_ == TimePoint()) probe_over_ = now;
    if (now - probe_over_ < Duration::Seconds(600)) return false;
    probe_high_ = UINT32_MAX;
    probe_over_ = TimePoint();
    return false;
  }
  const uint32_t size = (low + high + 1) / 2;
  const uint32_t bytes = size - (agreed_.timestamps ? 12 : 0);
  const uint32_t mss = EffectiveMss();
  // Enough behind it that its loss shows by duplicates, and room for all of that.
  if (unsent() < bytes + 4ull * mss || cc_.cwnd < 11ull * mss) return false;
  if (snd_nxt_ + bytes > SendLimit() || Pipe() + bytes > cc_.cwnd || Paced(now)) return false;
  probe_start_ = snd_nxt_;
  probe_end_ = snd_nxt_ + bytes;
  probe_size_ = size;
  emit_mss_ = bytes;
  SendNew(bytes, false, now);
  emit_mss_ = 0;
  return true;
}

// Nothing but the probe was lost: RFC 4821 7.6.1, no sign of congestion.
bool TcpConnection::MtuProbeLost(TimePoint now) {
  if (probe_end_ == 0) return false;
  const TxSegment* lost = board_.NextLost();
  if (lost == nullptr || lost->start != probe_start_ || board_.lost() > probe_end_ - probe_start_) {
    return false;
  }
  probe_end_ = 0;
  probe_high_ = probe_size_ - 1;
  static_cast<void>(now);
  return true;
}

// RFC 4821 7.7: timeouts in a row may be a black hole.
void TcpConnection::LowerMss() {
  if (settings_.mtu_probing == 0) return;
  probe_end_ = 0;
  if (probe_low_ == 0) {
    probe_low_ = settings_.base_mss;
  } else {
    probe_low_ = std::max(std::min(settings_.base_mss, probe_low_ / 2), 48u);
  }
}

void TcpConnection::SendNew(uint32_t n, bool fin, TimePoint now) {
  const uint64_t start = snd_nxt_;
  const uint64_t end = start + n + (fin ? 1 : 0);
  const RateMark mark = MarkRate(now);
  NotePaced(n, now);
  snd_nxt_ = end;
  board_.OnSent(start, end, EffectiveMss(), now, mark);
  if (n != 0) bytes_sent_ += n;
  if (n % EffectiveMss() != 0) small_sent_ = start + n;
  // A reply in the time of a delayed ACK: the exchange is interactive, ACKs ride on data.
  if (n != 0 && since_ack_ != 0) interactive_ = true;
  uint8_t flags = kAck;
  if (fin) flags |= kFin;
  Transmit(start, n, flags, now);
}

void TcpConnection::Transmit(uint64_t start, uint32_t n, uint8_t flags, TimePoint now,
                             bool repeat) {
  TcpSegment seg;
  seg.seq = SeqNum(agreed_.iss + static_cast<uint32_t>(start));
  seg.flags = flags;
  const uint32_t mss = emit_mss_ != 0 ? emit_mss_ : EffectiveMss();
  Chain payload;
  if (n != 0) {
    payload = send_.Get(start, n);
    // Linux pushes what makes more than one segment too, so that the receiver's link does not wait for more.
    if (start + n == send_.end() || (flags & kFin) != 0 || n > mss) seg.flags |= kPsh;
    data_out_++;
  }
  if (urgent_out_ && *urgent_out_ > start && (flags & kSyn) == 0) {
    seg.flags |= kUrg;
    seg.urgent = static_cast<uint16_t>(std::min<uint64_t>(*urgent_out_ - start, 65535));
  }
  if (recovery_ == Recovery::kFast || recovery_ == Recovery::kCwr) prr_out_ += n;
  if ((flags & kSyn) != 0) {
    // The answer of a simultaneous open.
    seg.options = SynOptions(settings_, path_mss_, TsNow(now));
    seg.options.sack_permitted = agreed_.sack;
    if (!agreed_.window_scaling) seg.options.window_scale.reset();
    if (!agreed_.timestamps) {
      seg.options.timestamps.reset();
    } else {
      seg.options.timestamps->echo = agreed_.ts_recent;
    }
    seg.ack = SeqNum(rcv_nxt_seq());
    seg.window = WindowField(true);
    if (agreed_.ecn) seg.flags |= kEce;
    if (fast_.ask && fast_.cookie_size != 0) {
      seg.options.fast_open = true;
      seg.options.cookie_size = fast_.cookie_size;
      seg.options.cookie = fast_.cookie;
    }
  } else {
    FillHeader(seg, now);
  }
  if (cwr_out_ && n != 0) {
    seg.flags |= kCwr;  // RFC 3168 6.1.2
    cwr_out_ = false;
  }
  last_sent_ = now;
  segs_out_++;
  // Whatever carries an ACK serves as one.
  ack_now_ = false;
  ack_at_ = TimePoint::Never();
  since_ack_ = 0;
  rcv_wup_ = rcv_nxt_;
  // RFC 3168 6.1.4 and 6.1.5: neither repeats nor pure ACKs are marked capable.
  user_.Emit(seg, std::move(payload), mss, agreed_.ecn && n != 0 && !repeat);
}

void TcpConnection::FillHeader(TcpSegment& seg, TimePoint now) {
  seg.ack = SeqNum(rcv_nxt_seq());
  seg.window = WindowField(false);
  if (agreed_.ecn && ece_echo_) seg.flags |= kEce;
  if (agreed_.timestamps) seg.options.timestamps = TcpTimestamps{TsNow(now), agreed_.ts_recent};
}

void TcpConnection::SendSyn(TimePoint now, Chain data) {
  TcpSegment seg;
  seg.seq = SeqNum(agreed_.iss);
  seg.flags = kSyn;
  // RFC 3168 6.1.1; not on the last attempts, which a broken path may need: 6.1.1.1.
  if (settings_.ecn == 1 && retries_ < 2) seg.flags |= kEce | kCwr;
  seg.window = SynWindow(settings_);
  seg.options = SynOptions(settings_, path_mss_, TsNow(now));
  // RFC 7413 4.1.3: only the first try, since what dropped it may have been the option or the data.
  if (fast_.ask && retries_ == 0) {
    seg.options.fast_open = true;
    seg.options.cookie_size = fast_.cookie_size;
    seg.options.cookie = fast_.cookie;
  }
  if (!data.empty()) data_out_++;
  segs_out_++;
  last_sent_ = now;
  user_.Emit(seg, std::move(data), 65535, false);
}

void TcpConnection::SendAck(TimePoint now) {
  TcpSegment seg;
  seg.seq = SeqNum(snd_nxt_seq());
  seg.flags = kAck;
  if (urgent_out_ && *urgent_out_ > snd_nxt_) {
    seg.flags |= kUrg;
    seg.urgent = static_cast<uint16_t>(std::min<uint64_t>(*urgent_out_ - snd_nxt_, 65535));
  }
  FillHeader(seg, now);
  if (agreed_.sack) {
    // RFC 2018 3: three blocks fit beside timestamps; RFC 2883 4: a D-SACK block comes first.
    const size_t most = agreed_.timestamps ? 3 : 4;
    auto add = [&](const OffsetBlock& b) {
      if (seg.options.sack_count >= most) return;
      seg.options.sack[seg.options.sack_count++] = {
          SeqNum(agreed_.irs + static_cast<uint32_t>(b.start)),
          SeqNum(agreed_.irs + static_cast<uint32_t>(b.end))};
    };
    if (dsack_.end != 0) {
      add(dsack_);
      user_.counters().dsack_sent++;
    }
    for (const OffsetBlock& b : ooo_.blocks()) add(b);
  }
  dsack_ = {};
  ack_now_ = false;
  ack_at_ = TimePoint::Never();
  since_ack_ = 0;
  rcv_wup_ = rcv_nxt_;
  segs_out_++;
  user_.Emit(seg, Chain(), EffectiveMss(), false);
}

void TcpConnection::SendProbe(TimePoint now) {
  TcpSegment seg;
  seg.seq = SeqNum(agreed_.iss + static_cast<uint32_t>(snd_una_) - 1);
  seg.flags = kAck;
  if (urgent_out_) {
    // RFC 9293 3.8.5: a closed window does not keep the urgent pointer from the peer.
    seg.flags |= kUrg;
    seg.urgent = static_cast<uint16_t>(std::min<uint64_t>(*urgent_out_ - snd_una_ + 1, 65535));
  }
  FillHeader(seg, now);
  segs_out_++;
  user_.Emit(seg, Chain(), EffectiveMss(), false);
}

void TcpConnection::SendResetSegment(TimePoint now) {
  TcpSegment seg;
  seg.seq = SeqNum(snd_nxt_seq());
  seg.flags = kRst | kAck;
  FillHeader(seg, now);  // RFC 7323 3.2: timestamps SHOULD be in it
  segs_out_++;
  user_.Emit(seg, Chain(), EffectiveMss(), false);
}

// Twice the congestion window, so that the next window is there when the acknowledgements come, each segment
// with what Linux's buffers cost: tcp_sndbuf_expand().
void TcpConnection::TuneSendBuffer() {
  if (settings_.send_buffer_locked) return;
  const uint32_t mss = EffectiveMss();
  const uint64_t each = std::bit_ceil(uint64_t{std::min<uint32_t>(path_mss_, agreed_.peer_mss)} + 640) + 256;
  const uint64_t want = (algorithm_->by_rate() ? 3 : 2) * std::max<uint64_t>(cc_.cwnd / mss, 10) * each;
  settings_.send_buffer = std::max<size_t>(
      settings_.send_buffer,
      static_cast<size_t>(std::min<uint64_t>(want, settings_.send_buffer_max)));
}

}  // namespace ringwall::net
