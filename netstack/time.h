// TimePoint and Duration: nanoseconds as types. The stack reads no clock (rule R17): a TimePoint
// comes from StackHost::Now() or from a test's virtual clock; its epoch is the caller's.
#ifndef RINGWALL_NETSTACK_TIME_H_
#define RINGWALL_NETSTACK_TIME_H_

#include <compare>
#include <cstdint>

namespace ringwall::net {

class Duration {
 public:
  constexpr Duration() = default;
  static constexpr Duration Nanos(int64_t n) { return Duration(n); }
  static constexpr Duration Micros(int64_t n) { return Duration(n * 1000); }
  static constexpr Duration Millis(int64_t n) { return Duration(n * 1000000); }
  static constexpr Duration Seconds(int64_t n) { return Duration(n * 1000000000); }
  constexpr int64_t nanos() const { return ns_; }
  constexpr int64_t micros() const { return ns_ / 1000; }
  constexpr int64_t millis() const { return ns_ / 1000000; }
  constexpr int64_t seconds() const { return ns_ / 1000000000; }
  constexpr bool IsZero() const { return ns_ == 0; }
  constexpr Duration operator+(Duration o) const { return Duration(ns_ + o.ns_); }
  constexpr Duration operator-(Duration o) const { return Duration(ns_ - o.ns_); }
  constexpr Duration operator*(int64_t n) const { return Duration(ns_ * n); }
  constexpr Duration operator/(int64_t n) const { return Duration(ns_ / n); }
  friend constexpr auto operator<=>(Duration, Duration) = default;

 private:
  explicit constexpr Duration(int64_t ns) : ns_(ns) {}
  int64_t ns_ = 0;
};

class TimePoint {
 public:
  constexpr TimePoint() = default;
  static constexpr TimePoint FromNanos(int64_t n) { return TimePoint(n); }
  // Later than any real time; "never" of the timers.
  static constexpr TimePoint Never() { return TimePoint(INT64_MAX); }
  constexpr bool IsNever() const { return ns_ == INT64_MAX; }
  constexpr int64_t nanos() const { return ns_; }
  constexpr int64_t micros() const { return ns_ / 1000; }
  constexpr int64_t millis() const { return ns_ / 1000000; }
  constexpr TimePoint operator+(Duration d) const { return TimePoint(ns_ + d.nanos()); }
  constexpr TimePoint operator-(Duration d) const { return TimePoint(ns_ - d.nanos()); }
  constexpr Duration operator-(TimePoint o) const { return Duration::Nanos(ns_ - o.ns_); }
  friend constexpr auto operator<=>(TimePoint, TimePoint) = default;

 private:
  explicit constexpr TimePoint(int64_t ns) : ns_(ns) {}
  int64_t ns_ = 0;
};

constexpr Duration Min(Duration a, Duration b) { return a < b ? a : b; }
constexpr Duration Max(Duration a, Duration b) { return a < b ? b : a; }
constexpr TimePoint Min(TimePoint a, TimePoint b) { return a < b ? a : b; }
constexpr TimePoint Max(TimePoint a, TimePoint b) { return a < b ? b : a; }

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TIME_H_
