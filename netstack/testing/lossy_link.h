// Two stacks joined by a link that delays, loses, repeats, reorders and corrupts by seed, under one
// virtual clock. Everything is deterministic: a seed that fails fails again.
#ifndef RINGWALL_NETSTACK_TESTING_LOSSY_LINK_H_
#define RINGWALL_NETSTACK_TESTING_LOSSY_LINK_H_

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "netstack/tcp/endpoint.h"
#include "netstack/testing/fake_host.h"

namespace ringwall::net::testing {

struct LinkModel {
  Duration delay = Duration::Millis(5);
  Duration jitter;                 // reorders when it exceeds the spacing
  int64_t bits_per_second = 0;     // 0: no limit
  size_t queue_bytes = 1 << 20;    // tail drop behind it
  double loss = 0, repeat = 0, corrupt = 0;
};

class TwoStacks {
 public:
  explicit TwoStacks(uint64_t seed, const LinkModel& model = {}, const StackConfig& config = {},
                     uint32_t mtu = 1500)
      : random_(seed), model_(model) {
    for (int i = 0; i < 2; i++) {
      End& e = ends_[i];
      e.host = std::make_unique<FakeHost>(seed * 2 + static_cast<uint64_t>(i) + 7);
      e.stack = MakeRef<Stack>(*e.host, config);
      InterfaceConfig lo;
      lo.name = "lo";
      lo.kind = LinkKind::kLoopback;
      lo.mtu = 65536;
      const IfIndex l = *e.stack->AddInterface(lo, nullptr);
      EXPECT_TRUE(e.stack->SetUp(l, true).ok());
      InterfaceConfig c;
      c.name = "eth0";
      c.mac = {{2, 0, 0, 0, 0, static_cast<uint8_t>(i + 1)}};
      c.mtu = mtu;
      e.sink = MakeRef<Sink>(*this, 1 - i);
      e.iface = *e.stack->AddInterface(c, e.sink);
      EXPECT_TRUE(e.stack->AddAddress(e.iface, {Addr(i, Family::kV4), 24}).ok());
      EXPECT_TRUE(e.stack->AddAddress(e.iface, {Addr(i, Family::kV6), 64}, true).ok());
      EXPECT_TRUE(e.stack->SetUp(e.iface, true).ok());
    }
  }
  ~TwoStacks() {
    for (End& e : ends_) e.stack->Shutdown();
  }

  static IpAddr Addr(int i, Family f) {
    if (f == Family::kV4) return IpAddr::V4(10, 0, 0, static_cast<uint8_t>(i + 1));
    return *IpAddr::Parse(i == 0 ? "2001:db8::1" : "2001:db8::2");
  }
  Stack& stack(int i) { return *ends_[i].stack; }
  TimePoint now() const { return ends_[0].host->now; }
  IfIndex iface(int i) const { return ends_[i].iface; }
  LinkModel& model() { return model_; }
  double Unit() { return static_cast<double>(random_.Next() >> 11) / 9007199254740992.0; }

  // Runs until `done` says so (asked after every event) or `limit` of virtual time has passed.
  bool Run(const std::function<bool()>& done, Duration limit) {
    const TimePoint end = now() + limit;
    while (!done()) {
      TimePoint next = Min(ends_[0].stack->NextDeadline(), ends_[1].stack->NextDeadline());
      if (!flying_.empty()) next = Min(next, flying_.begin()->first.first);
      if (next > end) return false;
      next = Max(next, now());
      for (End& e : ends_) e.host->now = next;
      for (End& e : ends_) {
        if (e.stack->NextDeadline() <= next) e.stack->OnDeadline();
      }
      while (!flying_.empty() && flying_.begin()->first.first <= next) {
        Flight f = std::move(flying_.begin()->second);
        flying_.erase(flying_.begin());
        queued_[f.to] -= std::min(queued_[f.to], f.frame.size());
        RxFrame rx;
        rx.data = std::move(f.frame);
        End& to = ends_[f.to];
        to.stack->Input(to.iface, std::move(rx));
      }
    }
    return true;
  }

  uint64_t sent = 0, lost = 0, corrupted = 0, repeated = 0, overflowed = 0;

 private:
  struct Flight {
    int to;
    Slice frame;
  };
  class Sink final : public LinkSink {
   public:
    Sink(TwoStacks& owner, int to) : owner_(owner), to_(to) {}
    void Transmit(Packet frame) override { owner_.Launch(to_, frame.Flatten()); }

   private:
    TwoStacks& owner_;
    int to_;
  };
  struct End {
    std::unique_ptr<FakeHost> host;
    RefPtr<Stack> stack;
    RefPtr<Sink> sink;
    IfIndex iface = 0;
  };

  void Launch(int to, Slice frame) {
    sent++;
    if (Unit() < model_.loss) {
      lost++;
      return;
    }
    TimePoint leave = now();
    if (model_.bits_per_second != 0) {
      if (queued_[to] + frame.size() > model_.queue_bytes) {
        overflowed++;
        return;
      }
      queued_[to] += frame.size();
      free_at_[to] = Max(free_at_[to], now()) +
                     Duration::Nanos(static_cast<int64_t>(frame.size() * 8) * 1000000000 /
                                     model_.bits_per_second);
      leave = free_at_[to];
    }
    if (Unit() < model_.corrupt && frame.size() > 34) {
      corrupted++;
      frame = Slice::Copy(frame.span());
      const size_t at = 14 + random_.Next() % (frame.size() - 14);
      frame.buffer()->data()[frame.offset() + at] ^= static_cast<uint8_t>(1u << random_.Next() % 8);
    }
    const int copies = Unit() < model_.repeat ? 2 : 1;
    if (copies == 2) repeated++;
    for (int i = 0; i < copies; i++) {
      Duration extra;
      if (!model_.jitter.IsZero()) {
        extra = Duration::Nanos(
            static_cast<int64_t>(Unit() * static_cast<double>(model_.jitter.nanos())));
      }
      flying_.emplace(std::pair(leave + model_.delay + extra, serial_++), Flight{to, frame});
    }
  }

  FakeHost random_;
  LinkModel model_;
  End ends_[2];
  std::map<std::pair<TimePoint, uint64_t>, Flight> flying_;
  uint64_t serial_ = 0;
  size_t queued_[2] = {};
  TimePoint free_at_[2];
};

// One direction of a stream: writes a known pattern from one endpoint, reads and checks it at the
// other.
class Stream {
 public:
  Stream(Ref<TcpEndpoint> from, Ref<TcpEndpoint> to, size_t total, uint64_t seed)
      : from_(std::move(from)), to_(std::move(to)), total_(total), seed_(seed) {}
  // Moves what can be moved; true when all has arrived and the end was seen.
  bool Step() {
    while (written_ < total_) {
      uint8_t chunk[8192];
      const size_t n = std::min(sizeof(chunk), total_ - written_);
      for (size_t i = 0; i < n; i++) chunk[i] = At(written_ + i);
      NetResult<size_t> r = from_->Send(ByteSpan(chunk, n));
      if (!r.ok()) {
        if (r.error() != NetError::kWouldBlock) failed = true;
        break;
      }
      written_ += *r;
    }
    if (written_ == total_ && !shut_) {
      shut_ = from_->Shutdown(false, true).ok();
    }
    while (!ended_) {
      NetResult<Chain> c = to_->Peek(65536);
      if (!c.ok()) {
        if (c.error() != NetError::kWouldBlock) failed = true;
        break;
      }
      if (c->empty()) {
        ended_ = true;
        break;
      }
      for (const Slice& s : c->slices()) {
        for (size_t i = 0; i < s.size(); i++) {
          if (s.data()[i] != At(read_ + i)) wrong = true;
        }
        read_ += s.size();
      }
      to_->Consume(c->size());
    }
    return failed || wrong || (ended_ && read_ == total_);
  }
  size_t read() const { return read_; }
  bool Whole() const { return ended_ && read_ == total_ && !wrong && !failed; }
  bool wrong = false;
  bool failed = false;

 private:
  uint8_t At(size_t i) const {
    return static_cast<uint8_t>((i * 2654435761u + seed_) >> 13 ^ i);
  }
  Ref<TcpEndpoint> from_, to_;
  size_t total_;
  uint64_t seed_;
  size_t written_ = 0, read_ = 0;
  bool shut_ = false, ended_ = false;
};

}  // namespace ringwall::net::testing

#endif  // RINGWALL_NETSTACK_TESTING_LOSSY_LINK_H_
