// Congestion control algorithms: Reno (RFC 5681), CUBIC (RFC 9438) and BBR. Windows are in bytes. The
// connection does loss detection, PRR and the accounting; an algorithm says how far to grow on an
// acknowledgement and how far to fall on a loss.
#ifndef RINGWALL_NETSTACK_TCP_CONGESTION_H_
#define RINGWALL_NETSTACK_TCP_CONGESTION_H_

#include <algorithm>
#include <array>
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

// What an acknowledgement tells of the path's rate (draft-cheng-iccrg-delivery-rate-estimation).
struct RateSample {
  uint64_t delivered = 0;        // bytes, over `interval`; 0: nothing to learn
  Duration interval;
  uint64_t prior_delivered = 0;  // when the newest segment acknowledged was sent
  uint64_t total_delivered = 0;
  uint64_t acked = 0;            // bytes that this acknowledgement brought
  uint64_t in_flight = 0;        // after it
  Duration rtt;                  // of a segment sent once; zero: none
  bool app_limited = false;
  bool recovering = false;
};

class CongestionControl {
 public:
  virtual ~CongestionControl() = default;
  // Whether OnRate decides on the window, in recovery too, and sending is paced.
  virtual bool by_rate() const { return false; }
  virtual void OnRate(CongestionState&, const RateSample&, TimePoint) {}
  // Bytes a second; 0: as fast as the window lets.
  virtual uint64_t pacing_rate() const { return 0; }
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

// BBR, version 1 as Linux's tcp_bbr.c has it but for its guess at policers: the window follows the
// product of the largest rate and the least round trip that were seen, whatever is lost.
class Bbr final : public CongestionControl {
 public:
  void OnAck(CongestionState&, uint64_t, TimePoint, Duration) override {}
  uint64_t OnLoss(CongestionState& s, uint64_t flight) override;
  void OnTimeout() override;
  bool by_rate() const override { return true; }
  void OnRate(CongestionState& s, const RateSample& r, TimePoint now) override;
  uint64_t pacing_rate() const override { return pacing_; }
  const char* name() const override { return "bbr"; }

 private:
  enum class Mode : uint8_t { kStartup, kDrain, kProbeBw, kProbeRtt };
  struct Peak {
    uint64_t rate = 0;
    uint64_t round = 0;
  };
  void UpdateRate(const RateSample& r);
  void UpdateRtt(const RateSample& r, const CongestionState& s, TimePoint now);
  void CheckFull(const RateSample& r);
  void Step(const RateSample& r, TimePoint now);
  void SetWindow(CongestionState& s, const RateSample& r);
  uint64_t Target(double gain, uint32_t mss) const;
  uint64_t rate() const { return best_[0].rate; }

  Mode mode_ = Mode::kStartup;
  std::array<Peak, 3> best_;    // the largest rates of the last ten rounds
  uint64_t round_ = 0, round_end_ = 0;
  bool round_began_ = false, filled_ = false;
  uint64_t full_rate_ = 0;
  int full_rounds_ = 0;
  Duration min_rtt_ = Duration::Seconds(3600);
  TimePoint min_rtt_at_, cycle_at_, probe_done_ = TimePoint::Never();
  bool probe_round_ = false, was_recovering_ = false, conserve_ = false;
  size_t cycle_ = 0;
  double pacing_gain_, window_gain_;
  uint64_t cwnd_ = 0, before_ = 0, pacing_ = 0;

 public:
  Bbr();
};

// Kinds, as kCongestionReno and so on.
std::unique_ptr<CongestionControl> MakeCongestionControl(uint8_t kind);

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TCP_CONGESTION_H_
