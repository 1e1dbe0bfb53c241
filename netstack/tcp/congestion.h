// Congestion control algorithms: Reno (RFC 5681) and CUBIC (RFC 9438). Windows are in bytes. The
// connection does loss detection, PRR and the accounting; an algorithm says how far to grow on an
// acknowledgement and how far to fall on a loss.
#ifndef RINGWALL_NETSTACK_TCP_CONGESTION_H_
#define RINGWALL_NETSTACK_TCP_CONGESTION_H_

#include <algorithm>
#include <cstdint>
#include <memory>

#include "netstack/time.h"

namespace ringwall::net {

inline constexpr uint64_t kInfiniteSsthresh = UINT64_MAX / 4;

struct CongestionState {
  uint64_t cwnd = 0;
  uint64_t ssthresh = kInfiniteSsthresh;
  uint32_t mss = 536;
  bool InSlowStart() const { return cwnd < ssthresh; }
};

class CongestionControl {
 public:
  virtual ~CongestionControl() = default;
  // `acked` new bytes were acknowledged while the window was the limit, outside recovery.
  virtual void OnAck(CongestionState& s, uint64_t acked, TimePoint now, Duration srtt) = 0;
  // The threshold after a loss (or an ECN mark) with `flight` bytes out.
  virtual uint64_t OnLoss(CongestionState& s, uint64_t flight) = 0;
  // A timeout began a new slow start.
  virtual void OnTimeout() {}
  // The loss was none after all.
  virtual void OnUndo() {}
  // The connection was idle.
  virtual void OnIdle() {}
  virtual const char* name() const = 0;

 protected:
  // RFC 5681 3.1 with RFC 3465's byte counting, without its limit for one acknowledgement, as Linux:
  // receivers that merge segments acknowledge many at once. Returns what is left of `acked` once
  // slow start has ended.
  static uint64_t SlowStart(CongestionState& s, uint64_t acked) {
    const uint64_t grow = std::min(acked, s.ssthresh - s.cwnd);
    s.cwnd += grow;
    return acked - grow;
  }
};

class Reno final : public CongestionControl {
 public:
  void OnAck(CongestionState& s, uint64_t acked, TimePoint now, Duration srtt) override;
  uint64_t OnLoss(CongestionState& s, uint64_t flight) override;
  const char* name() const override { return "reno"; }

 private:
  uint64_t counted_ = 0;
};

class Cubic final : public CongestionControl {
 public:
  void OnAck(CongestionState& s, uint64_t acked, TimePoint now, Duration srtt) override;
  uint64_t OnLoss(CongestionState& s, uint64_t flight) override;
  void OnTimeout() override { epoch_running_ = false; }
  void OnUndo() override;
  void OnIdle() override { epoch_running_ = false; }
  const char* name() const override { return "cubic"; }

 private:
  bool epoch_running_ = false;
  TimePoint epoch_start_;
  double w_max_ = 0;       // segments
  double k_ = 0;           // seconds
  double w_est_ = 0;       // segments: what Reno would have
  double cwnd_prior_ = 0;  // segments, before the last reduction
  double fraction_ = 0;    // growth not yet applied
  double before_w_max_ = 0;
};

std::unique_ptr<CongestionControl> MakeCongestionControl(bool cubic);

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TCP_CONGESTION_H_
