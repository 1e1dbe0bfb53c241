// BBR. Read draft-cardwell-iccrg-bbr-congestion-control-00 sections 3 and 4 before editing; the
// constants are its own.
#include "netstack/tcp/congestion.h"

namespace ringwall::net {
namespace {

constexpr double kHighGain = 2.885;      // 2 / ln 2: doubles the rate each round
constexpr double kDrainGain = 1 / kHighGain;
constexpr double kWindowGain = 2;        // room for delayed and merged acknowledgements
constexpr std::array<double, 8> kCycle = {1.25, 0.75, 1, 1, 1, 1, 1, 1};
constexpr uint64_t kRateRounds = 10;
constexpr Duration kRttLife = Duration::Seconds(10);
constexpr Duration kProbeRttTime = Duration::Millis(200);
constexpr double kFullGrowth = 1.25;
constexpr int kFullRounds = 3;
constexpr double kPacingMargin = 0.99;   // no queue by rounding
constexpr uint64_t kLeastSegments = 4;

}  // namespace

Bbr::Bbr() : pacing_gain_(kHighGain), window_gain_(kHighGain) {}

uint64_t Bbr::OnLoss(CongestionState& s, uint64_t) {
  before_ = std::max(before_, cwnd_);
  return s.ssthresh;
}

void Bbr::OnTimeout() {
  full_rate_ = 0;
  full_rounds_ = 0;
  before_ = std::max(before_, cwnd_);
  cwnd_ = 0;  // one segment, and what is delivered on top
}

uint64_t Bbr::Target(double gain, uint32_t mss) const {
  if (min_rtt_ == Duration::Seconds(3600) || rate() == 0) return 10ull * mss;
  const double product = static_cast<double>(rate()) * static_cast<double>(min_rtt_.nanos()) / 1e9;
  // Three segments more for what offloads hold together, and an even number of them.
  return static_cast<uint64_t>(gain * product) + 3ull * mss + 2ull * mss;
}

void Bbr::UpdateRate(const RateSample& r) {
  round_began_ = false;
  if (r.delivered == 0 || r.interval <= Duration()) return;
  if (r.prior_delivered >= round_end_) {
    round_end_ = r.total_delivered;
    round_++;
    round_began_ = true;
    conserve_ = false;
  }
  const uint64_t now = static_cast<uint64_t>(static_cast<double>(r.delivered) * 1e9 /
                                             static_cast<double>(r.interval.nanos()));
  if (r.app_limited && now < rate()) return;
  // The largest of ten rounds by Kathleen Nichols' three best of sub-windows.
  const Peak fresh{now, round_};
  if (now >= best_[0].rate || round_ - best_[2].round > kRateRounds) {
    best_.fill(fresh);
  } else if (now >= best_[1].rate) {
    best_[1] = best_[2] = fresh;
  } else if (now >= best_[2].rate) {
    best_[2] = fresh;
  }
  if (round_ - best_[0].round > kRateRounds) {
    best_ = {best_[1], best_[2], fresh};
    if (round_ - best_[0].round > kRateRounds) best_ = {best_[1], best_[2], fresh};
  } else if (best_[1].round == best_[0].round && round_ - best_[1].round > kRateRounds / 4) {
    best_[1] = best_[2] = fresh;
  } else if (best_[2].round == best_[1].round && round_ - best_[2].round > kRateRounds / 2) {
    best_[2] = fresh;
  }
}

// 4.3.2.1: the pipe is full once three rounds brought no quarter more.
void Bbr::CheckFull(const RateSample& r) {
  if (filled_ || !round_began_ || r.app_limited) return;
  if (static_cast<double>(rate()) >= static_cast<double>(full_rate_) * kFullGrowth) {
    full_rate_ = rate();
    full_rounds_ = 0;
    return;
  }
  filled_ = ++full_rounds_ >= kFullRounds;
}

void Bbr::UpdateRtt(const RateSample& r, const CongestionState& s, TimePoint now) {
  const bool stale = min_rtt_at_ != TimePoint() && now > min_rtt_at_ + kRttLife;
  if (r.rtt > Duration() && (r.rtt < min_rtt_ || stale)) {
    min_rtt_ = r.rtt;
    min_rtt_at_ = now;
  }
  if (stale && mode_ != Mode::kProbeRtt) {
    mode_ = Mode::kProbeRtt;
    before_ = std::max(before_, cwnd_);
    probe_done_ = TimePoint::Never();
  }
  if (mode_ != Mode::kProbeRtt) return;
  pacing_gain_ = window_gain_ = 1;
  if (probe_done_.IsNever()) {
    if (r.in_flight > kLeastSegments * s.mss) return;
    probe_done_ = now + kProbeRttTime;
    probe_round_ = false;
    round_end_ = r.total_delivered;
    return;
  }
  if (round_began_) probe_round_ = true;
  if (!probe_round_ || now < probe_done_) return;
  min_rtt_at_ = now;
  cwnd_ = std::max(cwnd_, before_);
  before_ = 0;
  mode_ = filled_ ? Mode::kProbeBw : Mode::kStartup;
  cycle_ = 2;
  cycle_at_ = now;
}

void Bbr::Step(const RateSample& r, TimePoint now) {
  if (mode_ == Mode::kStartup && filled_) mode_ = Mode::kDrain;
  if (mode_ == Mode::kDrain && r.in_flight <= Target(1, 0)) {
    mode_ = Mode::kProbeBw;
    cycle_ = 2 + static_cast<size_t>(r.total_delivered / 1448 % 6);  // any but the drain
    cycle_at_ = now;
  }
  switch (mode_) {
    case Mode::kStartup:
      pacing_gain_ = window_gain_ = kHighGain;
      return;
    case Mode::kDrain:
      pacing_gain_ = kDrainGain;
      window_gain_ = kHighGain;
      return;
    case Mode::kProbeRtt:
      return;
    case Mode::kProbeBw:
      break;
  }
  // 4.3.4.2: a phase lasts a round trip; the one above lasts until the pipe is that full, the one
  // below until the queue is gone.
  bool next = now - cycle_at_ > min_rtt_;
  if (kCycle[cycle_] > 1) next = next && (r.recovering || r.in_flight >= Target(kCycle[cycle_], 0));
  if (kCycle[cycle_] < 1) next = next || r.in_flight <= Target(1, 0);
  if (next) {
    cycle_ = (cycle_ + 1) % kCycle.size();
    cycle_at_ = now;
  }
  pacing_gain_ = kCycle[cycle_];
  window_gain_ = kWindowGain;
}

void Bbr::SetWindow(CongestionState& s, const RateSample& r) {
  const uint64_t target = Target(window_gain_, s.mss);
  if (r.recovering && !was_recovering_) {
    // 4.2.3.4: the first round of a recovery sends what it delivers.
    conserve_ = true;
    round_end_ = r.total_delivered;
    cwnd_ = r.in_flight + r.acked;
  } else if (!r.recovering && was_recovering_) {
    cwnd_ = std::max(cwnd_, before_);
    before_ = 0;
    conserve_ = false;
  }
  was_recovering_ = r.recovering;
  if (conserve_) {
    cwnd_ = std::max(cwnd_, r.in_flight + r.acked);
  } else if (filled_) {
    cwnd_ = std::min(cwnd_ + r.acked, target);
  } else if (cwnd_ < target || r.total_delivered < 10ull * s.mss) {
    cwnd_ += r.acked;
  }
  cwnd_ = std::max(cwnd_, kLeastSegments * s.mss);
  s.cwnd = mode_ == Mode::kProbeRtt ? std::min(cwnd_, kLeastSegments * s.mss) : cwnd_;
}

void Bbr::OnRate(CongestionState& s, const RateSample& r, TimePoint now) {
  if (pacing_ == 0) cwnd_ = s.cwnd;
  UpdateRate(r);
  CheckFull(r);
  UpdateRtt(r, s, now);
  Step(r, now);
  double want = pacing_gain_ * static_cast<double>(rate()) * kPacingMargin;
  if (rate() == 0) {
    // Before the first sample: the window over the round trip, or over a millisecond.
    const double seconds = min_rtt_ == Duration::Seconds(3600)
                               ? 1e-3 : static_cast<double>(min_rtt_.nanos()) / 1e9;
    want = kHighGain * static_cast<double>(s.cwnd) / std::max(seconds, 1e-6);
  }
  const uint64_t whole = std::max<uint64_t>(static_cast<uint64_t>(want), s.mss);
  if (filled_ || whole > pacing_) pacing_ = whole;
  SetWindow(s, r);
}

}  // namespace ringwall::net
