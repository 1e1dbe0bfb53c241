// GuestAddr: an address in a guest's memory. An integer, never a pointer: the Sentry does not
// share the guest's address space, so a dereference cannot be written. GuestRange: [start, end).
#ifndef RINGWALL_SENTRY_BASE_GUEST_ADDR_H_
#define RINGWALL_SENTRY_BASE_GUEST_ADDR_H_

#include <compare>
#include <cstdint>
#include <optional>

namespace ringwall {

inline constexpr uint64_t kPageSize = 4096;
inline constexpr uint64_t kPageMask = kPageSize - 1;

class GuestAddr {
 public:
  constexpr GuestAddr() = default;
  explicit constexpr GuestAddr(uint64_t value) : value_(value) {}
  constexpr uint64_t value() const { return value_; }
  constexpr bool IsNull() const { return value_ == 0; }
  constexpr bool IsPageAligned() const { return (value_ & kPageMask) == 0; }
  constexpr GuestAddr PageDown() const { return GuestAddr(value_ & ~kPageMask); }
  // nullopt when the sum leaves 64 bits.
  constexpr std::optional<GuestAddr> Add(uint64_t n) const {
    if (value_ + n < value_) return std::nullopt;
    return GuestAddr(value_ + n);
  }
  // Preconditions: no overflow; for ranges that were checked before.
  constexpr GuestAddr operator+(uint64_t n) const { return GuestAddr(value_ + n); }
  constexpr GuestAddr operator-(uint64_t n) const { return GuestAddr(value_ - n); }
  constexpr uint64_t operator-(GuestAddr o) const { return value_ - o.value_; }
  friend constexpr auto operator<=>(GuestAddr, GuestAddr) = default;

 private:
  uint64_t value_ = 0;
};

// Rounds up to whole pages; nullopt on overflow.
constexpr std::optional<uint64_t> PageUp(uint64_t n) {
  const uint64_t up = (n + kPageMask) & ~kPageMask;
  if (up < n) return std::nullopt;
  return up;
}

struct GuestRange {
  GuestAddr start;
  GuestAddr end;

  constexpr uint64_t size() const { return end - start; }
  constexpr bool empty() const { return start == end; }
  constexpr bool Contains(GuestAddr a) const { return start <= a && a < end; }
  constexpr bool Contains(GuestRange o) const { return start <= o.start && o.end <= end; }
  constexpr bool Overlaps(GuestRange o) const { return start < o.end && o.start < end; }
  friend constexpr bool operator==(GuestRange, GuestRange) = default;

  // nullopt when addr+size overflows.
  static constexpr std::optional<GuestRange> Make(GuestAddr addr, uint64_t size) {
    const std::optional<GuestAddr> end = addr.Add(size);
    if (!end) return std::nullopt;
    return GuestRange{addr, *end};
  }
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_GUEST_ADDR_H_
