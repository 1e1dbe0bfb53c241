#include "netstack/tcp/scoreboard.h"

#include <algorithm>

#include "sentry/base/check.h"

namespace ringwall::net {
namespace {

// RFC 8985 6.2 step 2, RACK_sent_after.
bool SentAfter(TimePoint t1, uint64_t end1, TimePoint t2, uint64_t end2) {
  return t1 > t2 || (t1 == t2 && end1 > end2);
}

}  // namespace

void Scoreboard::OnSent(uint64_t start, uint64_t end, uint32_t mss, TimePoint now,
                        const RateMark& mark) {
  // Back-to-back segments of one moment are one entry, up to 64 KiB: memory stays small with small
  // segments, and blocks cut it where they must.
  if (!segments_.empty()) {
    TxSegment& b = segments_.back();
    if (b.sent == now && b.transmissions == 1 && !b.sacked && !b.lost && b.end == start &&
        end - b.start <= 65536 && !order_.empty() && order_.back().end == b.end &&
        b.start != 0 && b.size() % mss == 0) {
      b.end = end;
      order_.back().end = end;
      return;
    }
  }
  TxSegment s;
  s.start = start;
  s.end = end;
  s.sent = now;
  s.mark = mark;
  segments_.push_back(s);
  order_.push_back({start, end, now});
}

size_t Scoreboard::IndexOf(uint64_t at) const {
  auto it = std::upper_bound(segments_.begin(), segments_.end(), at,
                             [](uint64_t x, const TxSegment& s) { return x < s.start; });
  if (it == segments_.begin()) return 0;
  return static_cast<size_t>(it - segments_.begin()) - 1;
}

void Scoreboard::Split(size_t index, uint64_t at) {
  TxSegment tail = segments_[index];
  RW_CHECK(tail.start < at && at < tail.end);
  segments_[index].end = at;
  tail.start = at;
  segments_.Insert(index + 1, tail);
}

void Scoreboard::Forget(TxSegment& s) {
  if (s.lost) lost_ -= s.size();
  if (s.resent) resent_ -= s.size();
  s.lost = s.resent = false;
}

void Scoreboard::RackUpdate(const TxSegment& s, TimePoint now,
                            std::optional<TimePoint> echo_sent) {
  const Duration rtt = now - s.sent;
  if (s.transmissions > 1) {
    // RFC 8985 6.2 step 2: an acknowledgement of the first transmission tells nothing about the
    // second.
    if (echo_sent && echo_sent->millis() < s.sent.millis()) return;
    if (rtt < min_rtt_) return;
  } else {
    min_rtt_ = Min(min_rtt_, rtt);
  }
  rack_rtt_ = rtt;
  if (SentAfter(s.sent, s.end, rack_sent_, rack_end_)) {
    rack_sent_ = s.sent;
    rack_end_ = s.end;
  }
}

void Scoreboard::TakeMark(const TxSegment& s, Delivery& d) {
  if (d.has_mark && s.mark.delivered < d.mark.delivered) return;
  d.has_mark = true;
  d.mark = s.mark;
  d.mark_sent = s.sent;
}

void Scoreboard::Acked(uint64_t una, uint32_t mss, TimePoint now,
                       std::optional<TimePoint> echo_sent, Delivery& d) {
  (void)mss;
  while (!segments_.empty() && segments_.front().start < una) {
    TxSegment& s = segments_.front();
    const uint64_t upto = std::min(una, s.end);
    const uint64_t n = upto - s.start;
    if (!s.sacked) d.acked += n;  // a SACK told of the others already
    if (s.transmissions == 1 && !s.sacked) {
      d.rtt_valid = true;
      d.rtt = now - s.sent;
      if (s.end < d.highest_before) d.reordering = true;
    } else if (s.transmissions > 1 && !s.sacked) {
      d.repeat_delivered = true;
    }
    if (s.sacked) {
      sacked_ -= n;
    } else {
      TakeMark(s, d);
      RackUpdate(s, now, echo_sent);
    }
    if (s.lost) lost_ -= n;
    if (s.resent) resent_ -= n;
    if (upto == s.end) {
      segments_.pop_front();
    } else {
      s.start = upto;
    }
  }
  while (!order_.empty() && order_.front().end <= una) order_.pop_front();
}

void Scoreboard::Sacked(OffsetBlock block, uint32_t mss, TimePoint now, Delivery& d) {
  if (segments_.empty() || block.start >= segments_.back().end) return;
  size_t i = IndexOf(std::max(block.start, segments_.front().start));
  for (; i < segments_.size() && segments_[i].start < block.end; i++) {
    if (segments_[i].sacked) continue;
    // Cut at whole segments only: a peer that names single bytes makes no more entries than there
    // were segments.
    if (segments_[i].start < block.start) {
      const uint64_t skip = block.start - segments_[i].start;
      const uint64_t at = segments_[i].start + (skip + mss - 1) / mss * mss;
      if (at >= segments_[i].end) continue;
      Split(i, at);
      continue;
    }
    if (segments_[i].end > block.end) {
      const uint64_t whole = (block.end - segments_[i].start) / mss * mss;
      if (whole == 0) break;
      Split(i, segments_[i].start + whole);
    }
    TxSegment& s = segments_[i];
    if (s.transmissions == 1) {
      d.rtt_valid = true;
      d.rtt = now - s.sent;
      if (s.end < d.highest_before && !s.lost) d.reordering = true;
    } else {
      d.repeat_delivered = true;
    }
    TakeMark(s, d);
    RackUpdate(s, now, std::nullopt);
    Forget(s);
    s.sacked = true;
    sacked_ += s.size();
    d.sacked += s.size();
    highest_sacked_ = std::max(highest_sacked_, s.end);
  }
}

const TxSegment* Scoreboard::NextLost() const {
  if (lost_ == 0) return nullptr;
  for (const TxSegment& s : segments_) {
    if (s.lost) return &s;
  }
  return nullptr;
}

void Scoreboard::OnResent(uint64_t start, uint32_t n, TimePoint now, const RateMark& mark) {
  const size_t i = IndexOf(start);
  RW_CHECK(segments_[i].start == start);
  if (n < segments_[i].size()) Split(i, start + n);
  TxSegment& s = segments_[i];
  if (s.lost) lost_ -= s.size();
  if (!s.resent) resent_ += s.size();
  s.lost = false;
  s.resent = true;
  s.sent = now;
  s.mark = mark;
  if (s.transmissions < 255) s.transmissions++;
  order_.push_back({s.start, s.end, now});
}

void Scoreboard::OnResentTail(uint64_t start, uint32_t n, TimePoint now) {
  const size_t i = IndexOf(start);
  if (segments_[i].start < start) Split(i, start);
  OnResent(start, n, now);
}

TimePoint Scoreboard::DetectLoss(TimePoint now, Duration reorder_window, bool* marked) {
  if (rack_sent_ == TimePoint()) return TimePoint::Never();
  TimePoint next = TimePoint::Never();
  bool at_front = true;
  for (size_t o = 0; o < order_.size(); o++) {
    const Order& rec = order_[o];
    bool live = false;
    bool stop = false;
    if (!segments_.empty() && rec.end > segments_.front().start) {
      for (size_t i = IndexOf(std::max(rec.start, segments_.front().start));
           i < segments_.size() && segments_[i].start < rec.end; i++) {
        TxSegment& s = segments_[i];
        if (s.sacked || s.lost || s.sent != rec.sent) continue;
        if (!SentAfter(rack_sent_, rack_end_, s.sent, s.end)) {
          live = stop = true;
          break;
        }
        const TimePoint due = s.sent + rack_rtt_ + reorder_window;
        if (due <= now) {
          MarkLost(s);
          *marked = true;
        } else {
          live = true;
          next = Min(next, due);
        }
      }
    }
    if (!live && at_front) {
      order_.pop_front();
      o--;
    } else {
      at_front = false;
    }
    if (stop) break;
  }
  return next;
}

void Scoreboard::MarkLost(TxSegment& s) {
  if (s.lost || s.sacked) return;
  if (s.resent) resent_ -= s.size();
  s.resent = false;
  s.lost = true;
  lost_ += s.size();
}

void Scoreboard::MarkAllLost(bool forget_sacks) {
  for (TxSegment& s : segments_) {
    if (s.sacked && forget_sacks) {
      s.sacked = false;
      sacked_ -= s.size();
    }
    MarkLost(s);
  }
  if (forget_sacks) highest_sacked_ = 0;
}

bool Scoreboard::MarkHeadLost(uint32_t mss) {
  if (segments_.empty() || segments_.front().lost || segments_.front().resent) return false;
  if (segments_.front().size() > mss) Split(0, segments_.front().start + mss);
  MarkLost(segments_.front());
  return true;
}

void Scoreboard::UnmarkLost() {
  for (TxSegment& s : segments_) {
    if (!s.lost) continue;
    s.lost = false;
    lost_ -= s.size();
  }
  // Their notes of transmission were dropped when they were marked; make them afresh, so that
  // those lost after all are found again.
  order_.clear();
  for (const TxSegment& s : segments_) {
    if (!s.sacked) order_.push_back({s.start, s.end, s.sent});
  }
  std::stable_sort(order_.begin(), order_.end(),
                   [](const Order& a, const Order& b) { return a.sent < b.sent; });
}

}  // namespace ringwall::net
