// Timers of a connection: RFC 6298 (retransmission), RFC 8985 7 (tail loss probe), RFC 9293 3.8.6.1
// (zero window), RFC 1122 4.2.3.6 (keepalive), RFC 5482 (user timeout).
#include <algorithm>

#include "netstack/tcp/connection.h"

namespace ringwall::net {

TimePoint TcpConnection::NextDeadline() const {
  return Min(Min(Min(rto_at_, tlp_at_), Min(reo_at_, persist_at_)),
             Min(Min(ack_at_, keep_at_), Min(fin_wait_at_, Min(cork_at_, pace_at_))));
}

Duration TcpConnection::RtoNow() const {
  Duration rto = rtt_.rto();
  for (int i = 0; i < backoff_ && rto < RttEstimator::kMaxRto; i++) rto = rto * 2;
  return Min(rto, RttEstimator::kMaxRto);
}

void TcpConnection::ArmRto(TimePoint now) {
  rto_at_ = snd_nxt_ > snd_una_ ? now + RtoNow() : TimePoint::Never();
}

// Chooses the timer that fits what is out: RTO and probe while something is, the persist timer when
// only the peer's window holds us.
void TcpConnection::ArmAfterSend(TimePoint now) {
  if (finished_) return;
  if (snd_nxt_ == snd_una_) {
    rto_at_ = tlp_at_ = reo_at_ = TimePoint::Never();
    const bool waiting = CanSendData() && send_.end() > snd_nxt_;
    // Corked and Nagled data does not need it, only a window too small.
    const uint64_t next = std::min<uint64_t>(send_.end() - std::min(snd_nxt_, send_.end()),
                                             EffectiveMss());
    if (waiting && snd_wnd_ < next) {
      if (persist_at_.IsNever()) {
        persist_at_ = now + RtoNow();
        if (probes_ == 0) trouble_since_ = now;
      }
    } else {
      persist_at_ = TimePoint::Never();
    }
    return;
  }
  persist_at_ = TimePoint::Never();
  if (rto_at_.IsNever()) {
    rto_at_ = now + RtoNow();
    if (retries_ == 0) trouble_since_ = now;
  }
  // RFC 8985 7.2
  const bool may_probe = agreed_.sack && recovery_ == Recovery::kOpen && tlp_end_ == 0 &&
                         !board_.any_sacked() && state_ != TcpState::kSynReceived && rtt_.have();
  if (!may_probe) {
    tlp_at_ = TimePoint::Never();
    return;
  }
  // What brings nothing new does not put the probe off.
  if (!tlp_at_.IsNever() && tlp_of_ == std::pair(snd_una_, snd_nxt_)) return;
  tlp_of_ = {snd_una_, snd_nxt_};
  Duration pto = rtt_.srtt() * 2;
  const bool one = snd_nxt_ - snd_una_ <= EffectiveMss();
  if (one) pto = pto + Duration::Millis(200);  // the peer may delay its ACK
  pto = Max(pto, Duration::Millis(2));
  // Where the timeout comes sooner, the probe takes its place and the timeout begins anew behind it.
  tlp_at_ = Min(now + pto, rto_at_);
}

void TcpConnection::OnDeadline(TimePoint now) {
  if (finished_) return;
  if (ack_at_ <= now) {
    ack_at_ = TimePoint::Never();
    interactive_ = false;  // the reply did not come in time
    SendAck(now);
  }
  if (cork_at_ <= now) {
    cork_at_ = TimePoint::Never();
    Output(now, true);  // tcp(7): corked data waits 200 ms at most
  }
  if (pace_at_ <= now) {
    pace_at_ = TimePoint::Never();
    Output(now);
  }
  if (reo_at_ <= now) {
    reo_at_ = TimePoint::Never();
    if (DetectLoss(now)) {
      const bool probe = recovery_ == Recovery::kOpen && MtuProbeLost(now);
      if (!probe && (recovery_ == Recovery::kOpen || recovery_ == Recovery::kCwr)) {
        EnterRecovery(now);
        Prr(EffectiveMss(), false);  // pays for the first repeat: tcp_rack_reo_timeout()
      }
      Output(now);
    }
  }
  if (tlp_at_ <= now) OnTlp(now);
  if (!finished_ && rto_at_ <= now) OnRto(now);
  if (!finished_ && persist_at_ <= now) OnPersist(now);
  if (!finished_ && keep_at_ <= now) OnKeepalive(now);
  if (!finished_ && fin_wait_at_ <= now) Finish(std::nullopt);
}

// Whether as much time has passed as `retries` timeouts with doubling take; Linux's
// retransmits_timed_out(), which counts time and not segments.
bool TcpConnection::TimedOut(int retries, TimePoint since, TimePoint now) const {
  if (!settings_.user_timeout.IsZero()) return now - since >= settings_.user_timeout;
  Duration total;
  Duration step = RttEstimator::kMinRto;
  for (int i = 0; i <= retries; i++) {
    total = total + step;
    step = Min(step * 2, RttEstimator::kMaxRto);
  }
  return now - since >= total;
}

void TcpConnection::OnRto(TimePoint now) {
  rto_at_ = TimePoint::Never();
  if (snd_una_ == snd_nxt_) return;
  const bool syn = state_ == TcpState::kSynSent || state_ == TcpState::kSynReceived;
  bool give_up = false;
  if (syn) {
    const int limit = state_ == TcpState::kSynSent ? settings_.syn_retries
                                                   : settings_.synack_retries;
    give_up = retries_ >= limit ||
              (!settings_.user_timeout.IsZero() && now - trouble_since_ >= settings_.user_timeout);
  } else if (orphaned_) {
    give_up = retries_ > 0 && TimedOut(settings_.orphan_retries, trouble_since_, now);
  } else {
    give_up = retries_ > 0 && TimedOut(settings_.retries2, trouble_since_, now);
  }
  if (give_up) {
    user_.counters().abort_on_timeout++;
    const NetError e = soft_error_.value_or(NetError::kTimedOut);
    if (!syn && orphaned_) SendResetSegment(now);
    return Finish(e);
  }
  retries_++;
  user_.counters().timeouts++;
  if (retries_ == 3) user_.OnTrouble();
  if (retries_ >= 3 && !(state_ == TcpState::kSynSent || state_ == TcpState::kSynReceived)) LowerMss();
  backoff_++;  // RFC 6298 5.5
  if (syn) {
    rto_at_ = now + RtoNow();
    board_.MarkAllLost(false);
    board_.OnResent(0, 1, now);
    total_repeats_++;
    user_.counters().retrans_segs++;
    if (state_ == TcpState::kSynSent) return SendSyn(now);
    return Transmit(0, 0, kSyn | kAck, now);
  }
  // RFC 5681 3.1 equation 4 and 6: one reduction for one window, however often the timer fires.
  if (recovery_ != Recovery::kLoss) {
    if (recovery_ == Recovery::kOpen) {
      undo_cwnd_ = cc_.cwnd;
      undo_ssthresh_ = cc_.ssthresh;
      cc_.ssthresh = algorithm_->OnLoss(cc_, snd_nxt_ - snd_una_);
    }
    undo_marker_ = std::max<uint64_t>(snd_una_, 1);
    undo_repeats_ = 0;
    repeat_ts_.reset();
    recover_ = snd_nxt_;
  }
  recovery_ = Recovery::kLoss;
  algorithm_->OnTimeout();
  // RFC 2018 8: a receiver may have taken SACKed data back; when its first segment is SACKed and
  // yet not acknowledged, it has.
  const bool reneged = !board_.empty() && board_.front().sacked;
  if (reneged) user_.counters().sack_reneging++;
  board_.MarkAllLost(reneged);
  dup_acks_ = 0;
  tlp_end_ = 0;
  tlp_at_ = reo_at_ = TimePoint::Never();
  const uint32_t mss = EffectiveMss();
  cc_.cwnd = mss;
  cc_.mss = mss;
  const uint32_t n = std::min<uint32_t>(board_.front().size(), mss);
  ResendFrom(board_.front().start, n, now);
  rto_at_ = now + RtoNow();
  // tcp_clamp_rto_to_user_timeout(): the end of the user's patience is not slept through.
  if (!settings_.user_timeout.IsZero()) {
    rto_at_ = Max(Min(rto_at_, trouble_since_ + settings_.user_timeout), now + Duration::Millis(1));
  }
}

// RFC 8985 7.3: new data if there is some, else the last segment once more.
void TcpConnection::OnTlp(TimePoint now) {
  tlp_at_ = TimePoint::Never();
  if (snd_una_ == snd_nxt_ || board_.empty()) return;
  const uint32_t mss = EffectiveMss();
  const uint64_t limit = SendLimit();
  const uint64_t unsent_bytes = send_.end() - std::min(snd_nxt_, send_.end());
  const uint64_t n = std::min({unsent_bytes, static_cast<uint64_t>(mss),
                               limit > snd_nxt_ ? limit - snd_nxt_ : 0});
  if (n != 0) {
    SendNew(static_cast<uint32_t>(n), fin_queued_ && n == unsent_bytes, now);
    tlp_repeat_ = false;
  } else {
    const TxSegment& last = board_.back();
    if (last.sacked || last.lost) return;
    const uint32_t size = last.size();
    const uint32_t tail = size % mss == 0 ? std::min(size, mss) : size % mss;
    const uint64_t end = last.end;
    // Marks the tail lost for an instant: a repeat starts where a segment starts.
    board_.OnResentTail(end - tail, tail, now);
    total_repeats_++;
    bytes_resent_ += tail;
    undo_repeats_++;
    uint8_t flags = kAck;
    uint32_t bytes = tail;
    if (fin_queued_ && end == FinOffset() + 1) {
      flags |= kFin;
      bytes--;
    }
    Transmit(end - tail, bytes, flags, now, true);
    tlp_repeat_ = true;
  }
  user_.counters().loss_probes++;
  tlp_end_ = snd_nxt_;
  rto_at_ = now + RtoNow();
}

void TcpConnection::OnPersist(TimePoint now) {
  persist_at_ = TimePoint::Never();
  if (snd_nxt_ != snd_una_ || send_.end() <= snd_nxt_) return;
  // RFC 1122 4.2.2.17: a peer that answers is never given up, one that does not is.
  const int limit = orphaned_ ? settings_.orphan_retries : settings_.retries2;
  const bool over = !settings_.user_timeout.IsZero()
                        ? now - trouble_since_ >= settings_.user_timeout && probes_ > 0
                        : probes_ >= limit;
  if (over) {
    if (orphaned_) SendResetSegment(now);
    return Finish(soft_error_.value_or(NetError::kTimedOut));
  }
  // With any window at all the timer is the override of RFC 1122 4.2.3.4: send what fits.
  const uint64_t limit_at = SendLimit();
  probes_++;
  if (limit_at > snd_nxt_) {
    const uint64_t n = std::min<uint64_t>(limit_at - snd_nxt_, send_.end() - snd_nxt_);
    SendNew(static_cast<uint32_t>(std::min<uint64_t>(n, EffectiveMss())), false, now);
    return ArmAfterSend(now);
  }
  SendProbe(now);
  backoff_ = std::min(backoff_ + 1, 16);
  persist_at_ = now + RtoNow();
}

void TcpConnection::ArmKeepalive(TimePoint now) {
  if (!settings_.keepalive || orphaned_ || finished_ || state_ == TcpState::kSynSent ||
      state_ == TcpState::kSynReceived) {
    keep_at_ = TimePoint::Never();
    return;
  }
  keep_at_ = now + settings_.keep_idle;
}

void TcpConnection::OnKeepalive(TimePoint now) {
  keep_at_ = TimePoint::Never();
  // Data that is out keeps the connection honest by itself.
  if (snd_una_ != snd_nxt_ || send_.end() > snd_nxt_) {
    keep_at_ = now + settings_.keep_idle;
    return;
  }
  const Duration idle = now - last_heard_;
  if (idle < settings_.keep_idle) {
    keep_at_ = last_heard_ + settings_.keep_idle;
    return;
  }
  const bool over = !settings_.user_timeout.IsZero() ? idle >= settings_.user_timeout && probes_ > 0
                                                     : probes_ >= settings_.keep_count;
  if (over) {
    SendResetSegment(now);
    return Finish(soft_error_.value_or(NetError::kTimedOut));
  }
  probes_++;
  SendProbe(now);
  keep_at_ = now + settings_.keep_interval;
}

void TcpConnection::SetMss(uint32_t mss, TimePoint now) {
  if (finished_ || mss >= path_mss_) {
    path_mss_ = std::max(path_mss_, mss);
    return;
  }
  path_mss_ = mss;
  settings_.max_segment = std::max(settings_.max_segment / mss * mss, mss);
  // What is out was too large: RFC 1191 6.4. Not a sign of congestion.
  if (snd_nxt_ > snd_una_ && CanSendData()) {
    board_.MarkAllLost(false);
    Output(now);
  }
}

}  // namespace ringwall::net
