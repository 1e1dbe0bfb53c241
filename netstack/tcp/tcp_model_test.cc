// Every event in every state leaves a state that RFC 9293's figure 5 (with resets and time-outs) has an
// arrow to: all single events, and sequences by seed.
#include <cstdlib>
#include <map>
#include <set>

#include "netstack/testing/tcp_test_base.h"

namespace ringwall::net::testing {
namespace {

using S = TcpState;

// What a peer or a user does. Positions are relative to what would be exactly right.
struct Event {
  enum class Kind : uint8_t { kSegment, kShutWrite, kShutRead, kClose, kAbort, kWrite, kWait } kind = Kind::kSegment;
  uint8_t flags = 0;
  int32_t seq_off = 0, ack_off = 0;
  uint8_t size = 0;
  uint16_t window = 65535;
  int64_t wait_ms = 0;
};

std::vector<Event> Events() {
  std::vector<Event> all;
  for (int flags : {int{kAck}, kAck | kFin, int{kSyn}, kSyn | kAck, int{kRst}, kRst | kAck, int{kFin}, 0,
                    kAck | kUrg, kSyn | kFin | kAck, kAck | kPsh}) {
    for (int32_t seq : {0, -1, 1, 100000}) {
      for (int32_t ack : {0, -1, 1, -100000}) {
        for (uint8_t size : {uint8_t{0}, uint8_t{5}}) {
          all.push_back({Event::Kind::kSegment, static_cast<uint8_t>(flags), seq, ack, size});
        }
      }
    }
  }
  all.push_back({Event::Kind::kSegment, kAck, 0, 0, 0, 0});  // a closed window
  for (Event::Kind k : {Event::Kind::kShutWrite, Event::Kind::kShutRead, Event::Kind::kClose, Event::Kind::kAbort,
                        Event::Kind::kWrite}) {
    all.push_back({k});
  }
  for (int64_t ms : {50, 1100, 70000, 2000000}) all.push_back({.kind = Event::Kind::kWait, .wait_ms = ms});
  return all;
}

class TcpModelTest : public TcpTest {
 protected:
  // The states that are reached without doubt, and the way there.
  void Reach(S state) {
    Start({});
    listener_ = nullptr;
    kept_.clear();
    our_next_ = peer_next_ = 1;
    if (state == S::kSynSent || state == S::kSynReceived) {
      endpoint_ = NewEndpoint();
      Connect(Ref<TcpEndpoint>(*endpoint_));
      peer_next_ = 0;
      if (state == S::kSynReceived) {
        Send({.flags = kSyn, .seq = 0, .options = SynOptions()});
        peer_next_ = 1;
      }
    } else {
      endpoint_ = Established();
      if (state == S::kFinWait1 || state == S::kFinWait2 || state == S::kClosing) {
        EXPECT_TRUE(endpoint_->Shutdown(false, true).ok());
        our_next_ = 2;
        if (state == S::kFinWait2) Send({.seq = 1, .ack = 2});
        if (state == S::kClosing) Send({.flags = kAck | kFin, .seq = 1, .ack = 1});
      }
      if (state == S::kCloseWait || state == S::kLastAck) {
        Send({.flags = kAck | kFin, .seq = 1, .ack = 1});
        if (state == S::kLastAck) {
          EXPECT_TRUE(endpoint_->Shutdown(false, true).ok());
          our_next_ = 2;
        }
      }
      if (state == S::kClosing || state == S::kCloseWait || state == S::kLastAck) peer_next_ = 2;
    }
    Drain();
    ASSERT_EQ(static_cast<int>(endpoint_->State()), static_cast<int>(state));
  }

  void Apply(const Event& e) {
    TcpEndpoint& t = *endpoint_;
    switch (e.kind) {
      case Event::Kind::kSegment:
        Send({.flags = e.flags, .seq = peer_next_ + e.seq_off, .ack = our_next_ + e.ack_off,
              .data = std::string(e.size, 'x'), .window = e.window, .urgent = 3});
        break;
      case Event::Kind::kShutWrite: static_cast<void>(t.Shutdown(false, true)); break;
      case Event::Kind::kShutRead: static_cast<void>(t.Shutdown(true, false)); break;
      case Event::Kind::kClose: t.Close(); break;
      case Event::Kind::kAbort:
        t.SetLinger(Duration());
        t.Close();
        break;
      case Event::Kind::kWrite: static_cast<void>(Write(t, "12345")); break;
      case Event::Kind::kWait: AdvanceMs(e.wait_ms); break;
    }
  }

  static bool Legal(S from, S to) {
    static const std::map<S, std::set<S>> kArrows = {
        {S::kSynSent, {S::kSynReceived, S::kEstablished, S::kCloseWait, S::kClosed}},
        {S::kSynReceived, {S::kEstablished, S::kFinWait1, S::kCloseWait, S::kClosing, S::kClosed}},
        {S::kEstablished, {S::kCloseWait, S::kFinWait1, S::kClosed}},
        {S::kFinWait1, {S::kFinWait2, S::kClosing, S::kClosed}},
        {S::kFinWait2, {S::kClosed}},
        {S::kCloseWait, {S::kLastAck, S::kClosed}},
        {S::kClosing, {S::kClosed}},
        {S::kLastAck, {S::kClosed}},
        {S::kClosed, {}}};
    return from == to || kArrows.at(from).contains(to);
  }

  // One event with all that must hold of it.
  // `known`: positions are still what Reach made them.
  void Check(const Event& e, const std::string& where, bool known) {
    const S from = endpoint_->State();
    Apply(e);
    const S to = endpoint_->State();
    EXPECT_TRUE(Legal(from, to)) << where << ": " << static_cast<int>(from) << " to " << static_cast<int>(to);
    const bool segment = e.kind == Event::Kind::kSegment;
    if (segment && from == S::kEstablished && to == S::kClosed) {
      EXPECT_TRUE((e.flags & kRst) != 0) << where;  // nothing else of a peer ends it
    }
    if (segment && (e.flags & kRst) != 0) {
      for (const Got& g : Drain()) EXPECT_FALSE(g.Has(kRst)) << where;  // RFC 9293 3.5.2
    }
    if (known && segment && e.seq_off == 100000 && (e.flags & kSyn) == 0 && from != S::kSynSent) {
      EXPECT_EQ(static_cast<int>(from), static_cast<int>(to)) << where;  // far out of the window
    }
    static_cast<void>(endpoint_->Poll());
    static_cast<void>(endpoint_->Info());
    EXPECT_LT(Drain().size(), 30u) << where;
  }

  RefPtr<TcpEndpoint> endpoint_;
  int64_t our_next_ = 1, peer_next_ = 1;
  static constexpr S kStates[] = {S::kSynSent, S::kSynReceived, S::kEstablished, S::kFinWait1, S::kFinWait2,
                                  S::kCloseWait, S::kClosing, S::kLastAck};
};

TEST_F(TcpModelTest, EveryEventInEveryStateIsLegal) {  // RFC 9293 3.3.2, figure 5
  const std::vector<Event> events = Events();
  for (S state : kStates) {
    for (size_t i = 0; i < events.size(); i++) {
      Reach(state);
      if (HasFatalFailure()) return;
      Check(events[i], "state " + std::to_string(static_cast<int>(state)) + " event " + std::to_string(i), true);
    }
  }
}

TEST_F(TcpModelTest, SequencesOfEventsStayLegalBySeeds) {  // RFC 9293 3.3.2, figure 5
  const char* many = std::getenv("RINGWALL_SEEDS");
  const uint64_t seeds = many != nullptr ? std::strtoull(many, nullptr, 10) : 3000;
  const std::vector<Event> events = Events();
  for (uint64_t seed = 1; seed <= seeds && !HasFailure(); seed++) {
    FakeHost random(seed);
    Reach(kStates[random.Next() % std::size(kStates)]);
    if (HasFatalFailure()) return;
    bool closed = false;
    for (int step = 0; step < 12 && !closed; step++) {
      const Event& e = events[random.Next() % events.size()];
      Check(e, "seed " + std::to_string(seed) + " step " + std::to_string(step), step == 0);
      closed = e.kind == Event::Kind::kClose || e.kind == Event::Kind::kAbort;
    }
  }
}

}  // namespace
}  // namespace ringwall::net::testing
