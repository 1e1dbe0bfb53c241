// Round-trip time and the retransmission timeout: RFC 6298, with Linux's bounds (200 ms to 120 s).
#ifndef RINGWALL_NETSTACK_TCP_RTT_H_
#define RINGWALL_NETSTACK_TCP_RTT_H_


#include "netstack/time.h"

namespace ringwall::net {

class RttEstimator {
 public:
  static constexpr Duration kInitialRto = Duration::Seconds(1);   // RFC 6298 2.1
  static constexpr Duration kMinRto = Duration::Millis(200);      // TCP_RTO_MIN
  static constexpr Duration kMaxRto = Duration::Seconds(120);     // TCP_RTO_MAX

  void Sample(Duration rtt, TimePoint now) {
    if (rtt <= Duration()) rtt = Duration::Micros(1);
    if (!have_) {
      have_ = true;
      srtt_ = rtt;          // RFC 6298 2.2
      rttvar_ = rtt / 2;
    } else {                // RFC 6298 2.3
      const Duration delta = srtt_ > rtt ? srtt_ - rtt : rtt - srtt_;
      rttvar_ = (rttvar_ * 3 + delta) / 4;
      srtt_ = (srtt_ * 7 + rtt) / 8;
    }
    // The minimum over the last five minutes (RFC 8985 5.2 asks for a window), in two halves.
    if (now - min_since_ > Duration::Seconds(150) || min_since_ == TimePoint()) {
      min_before_ = min_now_;
      min_now_ = rtt;
      min_since_ = now;
    }
    min_now_ = Min(min_now_, rtt);
  }
  // RFC 6298 5.7: without a sample from the handshake, data begin with a longer timeout.
  void HandshakeDone() { initial_ = Duration::Seconds(3); }
  bool have() const { return have_; }
  Duration srtt() const { return srtt_; }
  Duration rttvar() const { return rttvar_; }
  Duration min() const { return Min(min_now_, min_before_); }
  Duration rto() const {
    if (!have_) return initial_;
    const Duration var = Max(rttvar_ * 4, kMinRto);  // Linux: the floor is on the variance
    return Min(srtt_ + var, kMaxRto);
  }

 private:
  bool have_ = false;
  Duration initial_ = kInitialRto;
  Duration srtt_;
  Duration rttvar_;
  Duration min_now_ = Duration::Seconds(3600);
  Duration min_before_ = Duration::Seconds(3600);
  TimePoint min_since_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TCP_RTT_H_
