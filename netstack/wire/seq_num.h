// SeqNum: a TCP sequence number, RFC 9293 3.4. Comparison is modulo 2^32.
#ifndef RINGWALL_NETSTACK_WIRE_SEQ_NUM_H_
#define RINGWALL_NETSTACK_WIRE_SEQ_NUM_H_

#include <cstdint>

namespace ringwall::net {

class SeqNum {
 public:
  constexpr SeqNum() = default;
  explicit constexpr SeqNum(uint32_t v) : v_(v) {}
  constexpr uint32_t value() const { return v_; }
  constexpr bool Before(SeqNum o) const { return static_cast<int32_t>(v_ - o.v_) < 0; }
  constexpr bool After(SeqNum o) const { return o.Before(*this); }
  constexpr bool AtOrBefore(SeqNum o) const { return !o.Before(*this); }
  constexpr bool AtOrAfter(SeqNum o) const { return !Before(o); }
  // Whether this lies in [from, from + n).
  constexpr bool InWindow(SeqNum from, uint32_t n) const { return v_ - from.v_ < n; }
  constexpr SeqNum operator+(uint32_t n) const { return SeqNum(v_ + n); }
  constexpr SeqNum operator-(uint32_t n) const { return SeqNum(v_ - n); }
  // The distance from o up to this, modulo 2^32.
  constexpr uint32_t operator-(SeqNum o) const { return v_ - o.v_; }
  SeqNum& operator+=(uint32_t n) {
    v_ += n;
    return *this;
  }
  friend constexpr bool operator==(SeqNum, SeqNum) = default;
  // No operator<: order modulo 2^32 is not a total order.

 private:
  uint32_t v_ = 0;
};

constexpr SeqNum Max(SeqNum a, SeqNum b) { return a.Before(b) ? b : a; }
constexpr SeqNum Min(SeqNum a, SeqNum b) { return a.Before(b) ? a : b; }

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_WIRE_SEQ_NUM_H_
