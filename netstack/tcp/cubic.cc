// CUBIC. Names of variables follow RFC 9438; read its sections 4.1 to 4.9 before editing.
#include <cmath>

#include "netstack/tcp/congestion.h"

namespace ringwall::net {
namespace {

constexpr double kC = 0.4;          // RFC 9438 5
constexpr double kBeta = 0.7;       // RFC 9438 4.6
constexpr double kAlpha = 3 * (1 - kBeta) / (1 + kBeta);  // RFC 9438 4.3

}  // namespace

void Cubic::OnAck(CongestionState& s, uint64_t acked, TimePoint now, Duration srtt) {
  if (s.InSlowStart()) {
    acked = SlowStart(s, acked);
    if (acked == 0) return;
  }
  const double mss = s.mss;
  const double cwnd = static_cast<double>(s.cwnd) / mss;
  const double acked_segments = static_cast<double>(acked) / mss;
  if (!epoch_running_) {
    // RFC 9438 4.2: a new congestion avoidance epoch.
    epoch_running_ = true;
    epoch_start_ = now;
    w_est_ = cwnd;
    if (w_max_ <= cwnd) {
      w_max_ = cwnd;
      k_ = 0;
    } else {
      k_ = std::cbrt((w_max_ - cwnd) / kC);
    }
    if (cwnd_prior_ < cwnd) cwnd_prior_ = cwnd;
  }
  // RFC 9438 4.4 and 4.5: where the curve is one round trip from now, at most 1.5 windows.
  const double t = static_cast<double>((now - epoch_start_ + srtt).nanos()) / 1e9;
  const double x = t - k_;
  double target = kC * x * x * x + w_max_;
  target = std::min(std::max(target, cwnd), 1.5 * cwnd);
  // RFC 9438 4.3: never slower than Reno; alpha is 1 once the old window is reached.
  w_est_ += (w_est_ >= cwnd_prior_ ? 1.0 : kAlpha) * acked_segments / cwnd;
  if (w_est_ > target) target = w_est_;
  fraction_ += (target - cwnd) / cwnd * acked_segments;
  if (fraction_ * mss >= 1) {
    const double whole = std::floor(fraction_ * mss);
    s.cwnd += static_cast<uint64_t>(whole);
    fraction_ -= whole / mss;
  }
}

uint64_t Cubic::OnLoss(CongestionState& s, uint64_t flight) {
  (void)flight;
  const double cwnd = static_cast<double>(s.cwnd) / s.mss;
  before_w_max_ = w_max_;
  cwnd_prior_ = cwnd;
  // RFC 9438 4.7: fast convergence gives way when the window did not reach the last maximum.
  w_max_ = cwnd < w_max_ ? cwnd * (1 + kBeta) / 2 : cwnd;
  epoch_running_ = false;
  fraction_ = 0;
  return std::max<uint64_t>(static_cast<uint64_t>(static_cast<double>(s.cwnd) * kBeta),
                            2ull * s.mss);
}

void Cubic::OnUndo() {
  w_max_ = std::max(w_max_, before_w_max_);
  epoch_running_ = false;
}

}  // namespace ringwall::net
