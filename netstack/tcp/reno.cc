// Reno, RFC 5681 3.1.
#include "netstack/tcp/congestion.h"

namespace ringwall::net {

void Reno::OnAck(CongestionState& s, uint64_t acked, TimePoint, Duration) {
  if (s.InSlowStart()) {
    acked = SlowStart(s, acked);
    if (acked == 0) return;
  }
  // One segment for each window's worth of bytes.
  counted_ += acked;
  while (counted_ >= s.cwnd) {
    counted_ -= s.cwnd;
    s.cwnd += s.mss;
  }
}

// RFC 5681 equation 4; Linux halves the window, which is what was in flight when it was the limit.
uint64_t Reno::OnLoss(CongestionState& s, uint64_t flight) {
  (void)flight;
  counted_ = 0;
  return std::max<uint64_t>(s.cwnd / 2, 2ull * s.mss);
}

std::unique_ptr<CongestionControl> MakeCongestionControl(uint8_t kind) {
  if (kind == 1) return std::make_unique<Cubic>();
  if (kind == 2) return std::make_unique<Bbr>();
  return std::make_unique<Reno>();
}

}  // namespace ringwall::net
