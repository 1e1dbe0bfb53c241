// What acknowledgements do: RFC 9293 3.10.7.4 (fifth check), RFC 5681 and 6582 (Reno recovery),
// RFC 6675 and 8985 (SACK, RACK-TLP), RFC 6937 (PRR), RFC 3522 and 2883 (undo), RFC 3168 (ECN).
#include <algorithm>

#include "netstack/tcp/connection.h"

namespace ringwall::net {

bool TcpConnection::HandleAck(const TcpSegment& s, int64_t seq, bool had_data, TimePoint now) {
  const int32_t rel =
      static_cast<int32_t>(s.ack.value() - (agreed_.iss + static_cast<uint32_t>(snd_una_)));
  if (rel > 0 && static_cast<uint64_t>(rel) > snd_nxt_ - snd_una_) {
    ChallengeAck(now);  // of what was not sent
    return false;
  }
  if (rel < 0) {
    // RFC 5961 5.2: older than the largest window is not ours.
    if (static_cast<uint64_t>(-static_cast<int64_t>(rel)) > max_window_) {
      ChallengeAck(now);
      return false;
    }
    // An old ACK may still carry new SACK blocks.
    Delivery d;
    d.highest_before = board_.highest_sacked();
    Duplicate dsack = Duplicate::kNone;
    ReadSacks(s, snd_una_, now, d, &dsack);
    const bool repeat = dsack == Duplicate::kRepeat;
    delivered_ += d.sacked;
    if (d.sacked != 0 || repeat) Congest(s, d, false, false, repeat, now);
    FeedRate(d, now);
    return true;
  }
  const uint64_t ack = snd_una_ + static_cast<uint64_t>(rel);
  const uint64_t prior_una = snd_una_;
  const bool advanced = ack > prior_una;
  const bool had_flight = snd_nxt_ > snd_una_;
  probes_ = 0;

  std::optional<TimePoint> echo;
  if (agreed_.timestamps && s.options.timestamps && s.options.timestamps->echo != 0) {
    const uint32_t age = TsNow(now) - s.options.timestamps->echo;
    if (age < 0x7fffffff) echo = now - Duration::Millis(age);
  }
  Delivery d;
  d.highest_before = board_.highest_sacked();
  Duplicate dsack = Duplicate::kNone;
  ReadSacks(s, ack, now, d, &dsack);
  if (advanced) {
    board_.Acked(ack, EffectiveMss(), now, echo, d);
    const uint64_t from = std::max<uint64_t>(snd_una_, 1);
    bytes_acked_ += std::max(std::min(ack, send_.end()), from) - from;
    send_.Release(std::min(ack, send_.end()));
    snd_una_ = ack;
    ReleaseParts();
    if (urgent_out_ && *urgent_out_ <= snd_una_) urgent_out_.reset();
    backoff_ = 0;
    retries_ = 0;
    trouble_since_ = now;
    soft_error_.reset();
    if (probe_end_ != 0 && snd_una_ >= probe_end_) {
      probe_end_ = 0;
      probe_low_ = probe_size_;
    }
    user_.OnProgress();
    user_.OnAcked(std::min(snd_una_, send_.end()) - 1);
  }
  if (d.rtt_valid) {
    rtt_.Sample(d.rtt, now);
  } else if (advanced && echo) {
    rtt_.Sample(now - *echo, now);  // RFC 7323 4.1: a repeat's time is known from its echo
  }
  delivered_ += d.acked + d.sacked;
  delivered_parts_ += SegmentsOf(d.acked + d.sacked);
  const bool window_changed = UpdateWindow(s, seq, ack);
  // RFC 5681 2: the definition of a duplicate acknowledgement.
  const bool dup = !advanced && had_flight && !had_data && !window_changed && !s.Has(kSyn);

  TlpAcked(s, ack, dup, dsack != Duplicate::kNone, now);
  Congest(s, d, advanced, dup, dsack == Duplicate::kRepeat, now);
  if (finished_) return false;
  FeedRate(d, now);

  if (advanced) {
    ArmRto(now);
    if (fin_queued_ && snd_una_ == FinOffset() + 1) {
      OurFinAcked(now);
      if (finished_) return false;
    }
    TuneSendBuffer();
    // Linux wakes writers when a third of the buffer is free: sk_stream_is_writeable().
    if (Writable()) user_.OnReadiness(kWritable);
  }
  ArmAfterSend(now);
  return true;
}

bool TcpConnection::UpdateWindow(const TcpSegment& s, int64_t seq, uint64_t ack) {
  const uint64_t at = static_cast<uint64_t>(std::max<int64_t>(seq, 0));
  // RFC 9293 3.10.7.4: SND.WL1 and WL2 keep an old segment from changing the window.
  if (!(snd_wl1_ < at || (snd_wl1_ == at && snd_wl2_ <= ack))) return false;
  const uint64_t window = static_cast<uint64_t>(s.window) << agreed_.send_scale;
  const bool changed = window != snd_wnd_;
  snd_wnd_ = window;
  max_window_ = std::max(max_window_, window);
  snd_wl1_ = at;
  snd_wl2_ = ack;
  if (window != 0 && changed && !persist_at_.IsNever()) {
    persist_at_ = TimePoint::Never();
    backoff_ = 0;
  }
  return changed;
}

void TcpConnection::ReadSacks(const TcpSegment& s, uint64_t ack, TimePoint now, Delivery& d,
                              Duplicate* dsack) {
  if (!agreed_.sack || s.options.sack_count == 0) return;
  for (size_t i = 0; i < s.options.sack_count; i++) {
    const SackBlock& b = s.options.sack[i];
    const int64_t base = static_cast<int64_t>(snd_una_);
    const uint32_t una_seq = agreed_.iss + static_cast<uint32_t>(snd_una_);
    const int64_t start = base + static_cast<int32_t>(b.start.value() - una_seq);
    const int64_t end = base + static_cast<int32_t>(b.end.value() - una_seq);
    if (start >= end || end > static_cast<int64_t>(snd_nxt_)) continue;
    // RFC 2883 4: the first block below the ACK, or inside the second, reports a duplicate.
    if (i == 0) {
      bool duplicate = end <= static_cast<int64_t>(ack);
      if (!duplicate && s.options.sack_count > 1) {
        const SackBlock& outer = s.options.sack[1];
        duplicate = !b.start.Before(outer.start) && !b.end.After(outer.end);
      }
      if (duplicate) {
        // Only what was repeated can come twice: a forged block must not undo a reduction. A probe
        // that came twice tells nothing of reordering: RFC 8985 7.4.2.
        const bool probe = tlp_end_ != 0 && tlp_repeat_ && end == static_cast<int64_t>(tlp_end_);
        const bool repeat = undo_marker_ != 0 && start >= static_cast<int64_t>(undo_marker_);
        if (start >= 1 && (probe || repeat)) {
          *dsack = probe ? Duplicate::kProbe : Duplicate::kRepeat;
          d.duplicate = static_cast<uint64_t>(end - start);
          dsacks_++;
          user_.counters().dsack_recv++;
        }
        continue;
      }
    }
    if (end <= static_cast<int64_t>(ack)) continue;
    const OffsetBlock block{static_cast<uint64_t>(std::max(start, static_cast<int64_t>(ack))),
                            static_cast<uint64_t>(end)};
    board_.Sacked(block, EffectiveMss(), now, d);
  }
}

void TcpConnection::OurFinAcked(TimePoint now) {
  switch (state_) {
    case TcpState::kFinWait1:
      state_ = TcpState::kFinWait2;
      if (orphaned_) {
        if (settings_.fin_timeout < Duration()) return Finish(std::nullopt);
        fin_wait_at_ = now + settings_.fin_timeout;
      }
      user_.OnReadiness(kWritable);
      return;
    case TcpState::kClosing:
      user_.OnTimeWait();
      return Finish(std::nullopt);
    case TcpState::kLastAck:
      return Finish(std::nullopt);
    default:
      return;
  }
}

// ---- Congestion ----

uint64_t TcpConnection::NoSackDup() const {
  if (agreed_.sack || dup_acks_ == 0) return 0;
  const uint64_t flight = snd_nxt_ - snd_una_ - board_.lost();
  return std::min<uint64_t>(static_cast<uint64_t>(dup_acks_) * EffectiveMss(), flight);
}

void TcpConnection::Congest(const TcpSegment& s, const Delivery& d, bool advanced, bool dup,
                            bool dsack, TimePoint now) {
  cc_.mss = EffectiveMss();
  if (d.reordering) {
    reordering_seen_ = true;
    reorders_++;
  }
  if (dsack) {
    // RFC 8985 6.2 step 4: a needless repeat widens the window for reordering.
    if (reo_mult_ < 16 && snd_una_ >= reo_round_) {
      reo_mult_++;
      reo_round_ = snd_nxt_;
      reo_persist_ = 16;
    }
    undo_repeats_ -= std::min(undo_repeats_, static_cast<int>(SegmentsOf(d.duplicate)));
  }
  if (agreed_.ecn && s.Has(kEce) && (recovery_ == Recovery::kOpen) && snd_una_ >= ece_marker_) {
    EnterCwr(now);
  }
  uint64_t delivered = d.acked + d.sacked;
  if (!agreed_.sack) {
    if (dup) {
      // After a timeout all that was out is taken for lost: what still arrives of it must not let
      // more repeats out than acknowledgements do.
      if (recovery_ != Recovery::kLoss) dup_acks_++;
      delivered = cc_.mss;
    } else if (advanced) {
      // The duplicates before it were counted when they came.
      const uint64_t told = static_cast<uint64_t>(dup_acks_) * cc_.mss;
      delivered = d.acked > told + cc_.mss ? d.acked - told : cc_.mss;
      const uint32_t gone = static_cast<uint32_t>(d.acked / cc_.mss);
      dup_acks_ = recovery_ == Recovery::kFast && dup_acks_ > gone ? dup_acks_ - gone : 0;
    }
  }

  // RFC 3522: the echo is older than this recovery's first repeat, so a first transmission arrived.
  const bool eifel = advanced && repeat_ts_ && s.options.timestamps &&
                     static_cast<int32_t>(s.options.timestamps->echo - *repeat_ts_) < 0;
  const bool undo = undo_marker_ != 0 && (eifel || (dsack && undo_repeats_ == 0));

  switch (recovery_) {
    case Recovery::kLoss:
      if (undo) {
        LeaveRecovery(true, now);
        break;
      }
      if (snd_una_ >= recover_) {
        LeaveRecovery(false, now);
      } else if (advanced && !agreed_.sack) {
        board_.MarkHeadLost(cc_.mss);
      }
      DetectLoss(now);
      if (d.acked != 0) algorithm_->OnAck(cc_, d.acked, now, rtt_.srtt());
      return;
    case Recovery::kFast:
    case Recovery::kCwr:
      if (undo) {
        LeaveRecovery(true, now);
        break;
      }
      if (snd_una_ >= recover_) {
        // This ACK set the window to the threshold; growth starts with the next.
        LeaveRecovery(false, now);
        if (DetectLoss(now)) EnterRecovery(now);
        return;
      }
      if (recovery_ == Recovery::kFast && advanced && !agreed_.sack) {
        board_.MarkHeadLost(cc_.mss);  // RFC 6582 3.2: a partial acknowledgement
      }
      {
        const bool lost = DetectLoss(now);
        if (lost && recovery_ == Recovery::kCwr) EnterRecovery(now);
        if (delivered != 0) Prr(delivered, advanced && !lost);
      }
      // RFC 6582 3.2 step 3: what a partial acknowledgement uncovers is repeated at once.
      if (recovery_ == Recovery::kFast && advanced && !agreed_.sack) {
        cc_.cwnd = std::max<uint64_t>(cc_.cwnd, Pipe() + cc_.mss);
      }
      return;
    case Recovery::kOpen:
      break;
  }
  if (DetectLoss(now) && !MtuProbeLost(now)) {
    EnterRecovery(now);
    Prr(delivered, false);
    return;
  }
  // RFC 5681 2.4 and RFC 7661: a window that was not filled tells nothing about the path.
  const bool limited = window_filled_ || (cc_.InSlowStart() && cc_.cwnd < 2 * most_out_);
  if (d.acked != 0 && limited && recovery_ == Recovery::kOpen) {
    algorithm_->OnAck(cc_, delivered, now, rtt_.srtt());
  }
}

// True when something new was found lost.
bool TcpConnection::DetectLoss(TimePoint now) {
  if (!agreed_.sack) {
    if (recovery_ == Recovery::kOpen && dup_acks_ >= 3 && snd_una_ + 1 > recover_) {
      return board_.MarkHeadLost(cc_.mss);
    }
    return false;
  }
  bool marked = false;
  reo_at_ = board_.DetectLoss(now, ReorderWindow(), &marked);
  return marked;
}

// RFC 8985 6.2 step 4
Duration TcpConnection::ReorderWindow() const {
  if (!reordering_seen_) {
    if (recovery_ != Recovery::kOpen) return Duration();
    if (board_.sacked() >= 3ull * EffectiveMss()) return Duration();
  }
  return Min(rtt_.min() / 4 * reo_mult_, rtt_.srtt());
}

void TcpConnection::EnterRecovery(TimePoint now) {
  (void)now;
  if (recovery_ == Recovery::kOpen) {
    undo_cwnd_ = cc_.cwnd;
    undo_ssthresh_ = cc_.ssthresh;
    cc_.ssthresh = algorithm_->OnLoss(cc_, snd_nxt_ - snd_una_);
    prr_delivered_ = prr_out_ = 0;
    prr_flight_ = std::max<uint64_t>(snd_nxt_ - snd_una_, 1);
  }
  undo_marker_ = std::max<uint64_t>(snd_una_, 1);
  undo_repeats_ = 0;
  repeat_ts_.reset();
  recovery_ = Recovery::kFast;
  recover_ = snd_nxt_;
  tlp_end_ = 0;
  tlp_at_ = TimePoint::Never();
}

void TcpConnection::EnterCwr(TimePoint) {
  cc_.ssthresh = algorithm_->OnLoss(cc_, snd_nxt_ - snd_una_);
  prr_delivered_ = prr_out_ = 0;
  prr_flight_ = std::max<uint64_t>(snd_nxt_ - snd_una_, 1);
  undo_marker_ = 0;
  recovery_ = Recovery::kCwr;
  recover_ = snd_nxt_;
  ece_marker_ = snd_nxt_;
  cwr_out_ = true;
}

// RFC 9937 6.2: what was delivered may always be replaced, with a segment more where SND.UNA advances and no
// further loss shows (`safe`).
void TcpConnection::Prr(uint64_t delivered, bool safe) {
  prr_delivered_ += delivered;
  const uint64_t pipe = Pipe();
  uint64_t quota = 0;
  if (pipe > cc_.ssthresh) {
    const uint64_t due = (prr_delivered_ * cc_.ssthresh + prr_flight_ - 1) / prr_flight_;
    quota = due > prr_out_ ? due - prr_out_ : 0;
  } else {
    const uint64_t behind = prr_delivered_ > prr_out_ ? prr_delivered_ - prr_out_ : 0;
    const uint64_t limit = std::max(behind, delivered) + (safe ? cc_.mss : 0);
    quota = std::min(cc_.ssthresh - pipe, limit);
  }
  // The first repeat leaves at once: RFC 5681 3.2.
  if (prr_out_ == 0) quota = std::max<uint64_t>(quota, cc_.mss);
  cc_.cwnd = std::max<uint64_t>(pipe + quota, cc_.mss);
}

void TcpConnection::LeaveRecovery(bool undo, TimePoint) {
  if (undo) {
    // RFC 4015: as if it had not been.
    cc_.cwnd = std::max(cc_.cwnd, undo_cwnd_);
    cc_.ssthresh = std::max(cc_.ssthresh, undo_ssthresh_);
    algorithm_->OnUndo();
    board_.UnmarkLost();
    if (recovery_ == Recovery::kLoss) user_.counters().spurious_rtos++;
  } else if (recovery_ != Recovery::kLoss) {
    cc_.cwnd = std::max<uint64_t>(cc_.ssthresh, 2ull * cc_.mss);
  }
  recovery_ = Recovery::kOpen;
  undo_marker_ = 0;
  repeat_ts_.reset();
  dup_acks_ = 0;
  if (reo_mult_ > 1 && --reo_persist_ == 0) reo_mult_ = 1;
}

// RFC 8985 7.4: was the probe needed?
void TcpConnection::TlpAcked(const TcpSegment& s, uint64_t ack, bool dup, bool reported, TimePoint) {
  if (tlp_end_ == 0 || ack < tlp_end_) return;
  const bool plain_dup = dup && s.options.sack_count == 0 && ack == tlp_end_;
  if (!tlp_repeat_ || reported || plain_dup) {
    tlp_end_ = 0;
    return;
  }
  if (ack > tlp_end_ || recovery_ == Recovery::kOpen) {
    // The probe repaired a loss of the tail; it counts as one.
    tlp_end_ = 0;
    if (recovery_ == Recovery::kOpen) {
      cc_.ssthresh = algorithm_->OnLoss(cc_, snd_nxt_ - snd_una_);
      cc_.cwnd = cc_.ssthresh;
    }
  }
}

}  // namespace ringwall::net
