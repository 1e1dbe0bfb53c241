// The segments in flight, with what SACK told of them, and RACK's notes: RFC 2018, RFC 6675,
// RFC 8985. Not a state machine: the connection decides when to ask.
#ifndef RINGWALL_NETSTACK_TCP_SCOREBOARD_H_
#define RINGWALL_NETSTACK_TCP_SCOREBOARD_H_

#include <cstdint>
#include <optional>

#include "netstack/tcp/queues.h"
#include "netstack/time.h"

namespace ringwall::net {

// How the connection stood when a segment left: what a rate is measured from.
struct RateMark {
  uint64_t delivered = 0;
  TimePoint delivered_at;  // when that much had been delivered
  TimePoint first_sent;    // of the segments that were out
  bool app_limited = false;
};

struct TxSegment {
  uint64_t start = 0;
  uint64_t end = 0;
  RateMark mark;
  TimePoint sent;              // the last transmission
  bool sacked = false;
  bool lost = false;           // not again in flight
  bool resent = false;         // the last transmission was a repeat
  uint8_t transmissions = 1;
  uint32_t size() const { return static_cast<uint32_t>(end - start); }
};

// What an acknowledgement delivered.
struct Delivery {
  // The highest SACK before this acknowledgement: its own blocks come in any order.
  uint64_t highest_before = 0;
  uint64_t acked = 0;        // bytes newly acknowledged in order
  uint64_t sacked = 0;       // bytes newly selectively acknowledged
  bool rtt_valid = false;    // a segment sent once: RFC 6298 3 (Karn)
  Duration rtt;
  bool reordering = false;   // something below the highest SACK came late, without a repeat
  bool repeat_delivered = false;
  uint64_t duplicate = 0;    // bytes that a D-SACK reports
  // Of the segment sent last of all that this acknowledged.
  bool has_mark = false;
  RateMark mark;
  TimePoint mark_sent;
};

class Scoreboard {
 public:
  bool empty() const { return segments_.empty(); }
  uint64_t sacked() const { return sacked_; }
  uint64_t lost() const { return lost_; }
  uint64_t resent() const { return resent_; }
  size_t count() const { return segments_.size(); }
  const TxSegment& front() const { return segments_.front(); }
  const TxSegment& back() const { return segments_.back(); }

  void OnSent(uint64_t start, uint64_t end, uint32_t mss, TimePoint now, const RateMark& mark = {});
  // Everything below `una` is acknowledged.
  void Acked(uint64_t una, uint32_t mss, TimePoint now, std::optional<TimePoint> echo_sent,
             Delivery& d);
  // A checked SACK block within (una, nxt].
  void Sacked(OffsetBlock block, uint32_t mss, TimePoint now, Delivery& d);
  // The lowest segment to repeat: lost and not in flight again. Null: none.
  const TxSegment* NextLost() const;
  // A repeat of [start, start + n) goes out; splits its segment when it is longer.
  void OnResent(uint64_t start, uint32_t n, TimePoint now, const RateMark& mark = {});
  // The same for the last n bytes: a tail loss probe, which nothing was found lost for.
  void OnResentTail(uint64_t start, uint32_t n, TimePoint now);
  // RFC 8985 6.2 step 5. Marks what is overdue; returns when to look again, or Never.
  TimePoint DetectLoss(TimePoint now, Duration reorder_window, bool* marked);
  // After a timeout: everything not selectively acknowledged is lost. RFC 8985 6.3.
  void MarkAllLost(bool forget_sacks);
  // Without SACK: the first segment is lost. RFC 6582 3.2.
  bool MarkHeadLost(uint32_t mss);
  void MarkLost(TxSegment& s);
  // A loss was none: nothing is to be repeated.
  void UnmarkLost();

  Duration rack_rtt() const { return rack_rtt_; }
  TimePoint rack_sent() const { return rack_sent_; }
  uint64_t highest_sacked() const { return highest_sacked_; }
  bool any_sacked() const { return sacked_ != 0; }

 private:
  struct Order {
    uint64_t start, end;
    TimePoint sent;
  };
  size_t IndexOf(uint64_t at) const;
  // Cuts the segment at `index` so that one starts at `at`.
  void Split(size_t index, uint64_t at);
  void RackUpdate(const TxSegment& s, TimePoint now, std::optional<TimePoint> echo_sent);
  void Forget(TxSegment& s);
  static void TakeMark(const TxSegment& s, Delivery& d);

  Ring<TxSegment> segments_;  // by start, contiguous
  Ring<Order> order_;         // by time of transmission; entries may be stale
  uint64_t sacked_ = 0;
  uint64_t lost_ = 0;     // lost, not in flight again
  uint64_t resent_ = 0;   // in flight again
  uint64_t highest_sacked_ = 0;
  Duration min_rtt_ = Duration::Seconds(3600);
  TimePoint rack_sent_;
  uint64_t rack_end_ = 0;
  Duration rack_rtt_;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TCP_SCOREBOARD_H_
