// A stack's world in a test: a clock that moves only when told, randomness by seed, and a link that
// keeps what is sent.
#ifndef RINGWALL_NETSTACK_TESTING_FAKE_HOST_H_
#define RINGWALL_NETSTACK_TESTING_FAKE_HOST_H_

#include <deque>

#include "netstack/host.h"
#include "netstack/stack.h"

namespace ringwall::net::testing {

class FakeHost final : public StackHost {
 public:
  explicit FakeHost(uint64_t seed = 1) : state_(seed * 0x9e3779b97f4a7c15 + 1) {}
  TimePoint Now() override { return now; }
  void FillRandom(MutableByteSpan out) override {
    for (uint8_t& b : out) b = static_cast<uint8_t>(Next() >> 32);
  }
  void DeadlineChanged(TimePoint next) override { told = next; }
  uint64_t Next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_;
  }

  TimePoint now = TimePoint::FromNanos(1000000000000);
  TimePoint told = TimePoint::Never();

 private:
  uint64_t state_;
};

class CaptureSink final : public LinkSink {
 public:
  void Transmit(Packet frame) override {
    last_offload = frame.offload;
    frames.push_back(frame.Flatten());
  }
  void Flush() override { flushes++; }

  std::deque<Slice> frames;
  Offload last_offload;
  int flushes = 0;
};

// Moves the clock on to `until`, running every deadline on the way at its own time.
inline void RunUntil(Stack& stack, FakeHost& host, TimePoint until) {
  for (int guard = 0; guard < 1000000; guard++) {
    const TimePoint next = stack.NextDeadline();
    if (next > until) break;
    host.now = Max(host.now, next);
    stack.OnDeadline();
  }
  host.now = until;
}

}  // namespace ringwall::net::testing

#endif  // RINGWALL_NETSTACK_TESTING_FAKE_HOST_H_
