// Sending: segments, Nagle, windows, retransmission, loss recovery, probes, timeouts.
#include "netstack/testing/tcp_test_base.h"

namespace ringwall::net::testing {
namespace {

constexpr int64_t kMss = 1460;

class TcpSendTest : public TcpTest {
 protected:
  // The total of data in what was sent, and checks that it is contiguous from `seq`.
  size_t DrainData(int64_t seq) {
    size_t n = 0;
    for (const Got& g : Drain()) {
      EXPECT_EQ(RelSeq(g), seq + static_cast<int64_t>(n));
      n += g.data.size();
    }
    return n;
  }
  void Fill(TcpEndpoint& e, size_t n) {
    NetResult<size_t> r = Write(e, std::string(n, 'a'));
    ASSERT_TRUE(r.ok());
    ASSERT_EQ(*r, n);
  }
  Seg Ack(int64_t ack, std::vector<std::pair<int64_t, int64_t>> sacks = {},
          uint16_t window = 65535) {
    Seg s{.seq = 1, .ack = ack, .window = window};
    for (auto [from, to] : sacks) {
      s.options.sack[s.options.sack_count++] = {SeqNum(our_iss_ + static_cast<uint32_t>(from)),
                                                SeqNum(our_iss_ + static_cast<uint32_t>(to))};
    }
    return s;
  }
};

TEST_F(TcpSendTest, DataIsCutAtTheMss) {  // RFC 9293 3.7.1
  Ref<TcpEndpoint> e = Established();
  Fill(*e, 3000);
  Expect(kAck, 1, 1, kMss);
  Expect(kAck, 1 + kMss, 1, kMss);
  // The rest too: only an unacknowledged small segment would hold it (Minshall's Nagle).
  Expect(kAck | kPsh, 1 + 2 * kMss, 1, 80);
  ExpectSilence();
}

TEST_F(TcpSendTest, PeerMssIsKept) {  // RFC 9293 3.7.1, MUST-16
  Ref<TcpEndpoint> e = Established(SynOptions(500));
  Fill(*e, 1000);
  Expect(kAck, 1, 1, 500);
  Expect(kAck | kPsh, 501, 1, 500);
}

TEST_F(TcpSendTest, TimestampsShrinkTheSegment) {  // RFC 6691 2
  timestamps_ = true;
  Ref<TcpEndpoint> e = Established();
  Fill(*e, 1460);
  Expect(kAck, 1, 1, 1448);
}

TEST_F(TcpSendTest, NagleHoldsTheSecondSmallSegment) {  // RFC 1122 4.2.3.4
  Ref<TcpEndpoint> e = Established();
  Fill(*e, 10);
  Expect(kAck | kPsh, 1, 1, 10);
  Fill(*e, 10);
  Fill(*e, 10);
  ExpectSilence();
  Send(Ack(11));
  Expect(kAck | kPsh, 11, 1, 20);
}

TEST_F(TcpSendTest, NoDelaySendsEach) {  // tcp(7) TCP_NODELAY
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SetOption(Option::kNoDelay, 1).ok());
  Fill(*e, 10);
  Fill(*e, 10);
  Expect(kAck | kPsh, 1, 1, 10);
  Expect(kAck | kPsh, 11, 1, 10);
}

TEST_F(TcpSendTest, SettingNoDelayFlushes) {  // tcp(7) TCP_NODELAY
  Ref<TcpEndpoint> e = Established();
  Fill(*e, 10);
  Drain();
  Fill(*e, 10);
  ExpectSilence();
  ASSERT_TRUE(e->SetOption(Option::kNoDelay, 1).ok());
  Expect(kAck | kPsh, 11, 1, 10);
}

TEST_F(TcpSendTest, CorkHoldsAPartialSegmentFor200Ms) {  // tcp(7) TCP_CORK
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SetOption(Option::kCork, 1).ok());
  Fill(*e, 2000);
  Expect(kAck, 1, 1, kMss);
  Send(Ack(1 + kMss));
  ExpectSilence();
  AdvanceMs(200);
  Expect(kAck | kPsh, 1 + kMss, 1, 540);
}

TEST_F(TcpSendTest, UncorkingSends) {  // tcp(7) TCP_CORK
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SetOption(Option::kCork, 1).ok());
  Fill(*e, 100);
  ExpectSilence();
  ASSERT_TRUE(e->SetOption(Option::kCork, 0).ok());
  Expect(kAck | kPsh, 1, 1, 100);
}

TEST_F(TcpSendTest, InitialWindowIsTenSegments) {  // RFC 6928 2
  Ref<TcpEndpoint> e = Established();
  Fill(*e, 50000);
  EXPECT_EQ(DrainData(1), 10u * kMss);
}

TEST_F(TcpSendTest, SlowStartGrowsByWhatIsAcknowledged) {  // RFC 5681 3.1
  Ref<TcpEndpoint> e = Established();
  Fill(*e, 80000);
  EXPECT_EQ(DrainData(1), 10u * kMss);
  Send(Ack(1 + 2 * kMss));
  EXPECT_EQ(DrainData(1 + 10 * kMss), 4u * kMss);
  EXPECT_EQ(e->Info().cwnd, 12u);
}

TEST_F(TcpSendTest, PeerWindowIsKept) {  // RFC 9293 3.8.6
  Ref<TcpEndpoint> e = Established(SynOptions(1460, true, -1), 4000);
  Fill(*e, 20000);
  const size_t n = DrainData(1);
  EXPECT_LE(n, 4000u);
  EXPECT_GE(n, 2u * kMss);
}

TEST_F(TcpSendTest, ScaledWindowIsUsed) {  // RFC 7323 2.3
  Ref<TcpEndpoint> e = Established(SynOptions(1460, true, 2), 2000);
  Send({.seq = 1, .ack = 1, .window = 1000});
  EXPECT_EQ(e->Info().send_window, 4000u);
}

TEST_F(TcpSendTest, OldSegmentDoesNotChangeTheWindow) {  // RFC 9293 3.10.7.4: WL1, WL2
  Ref<TcpEndpoint> e = Established(SynOptions(1460, true, 0));
  Send({.seq = 1, .ack = 1, .data = "abc", .window = 5000});
  Send({.seq = 0, .ack = 1, .window = 10});
  EXPECT_EQ(e->Info().send_window, 5000u);
}

TEST_F(TcpSendTest, SillyWindowIsNotFilled) {  // RFC 1122 4.2.3.4
  Ref<TcpEndpoint> e = Established(SynOptions(1460, true, -1), 20000);
  Fill(*e, 30000);
  size_t n = DrainData(1);
  Send(Ack(1 + static_cast<int64_t>(n), {}, 100));
  ExpectSilence();  // 100 bytes of room are not worth a segment
}

// ---- Retransmission timeout: RFC 6298 ----

TEST_F(TcpSendTest, TimeoutRepeatsTheFirstSegmentWithBackoff) {  // RFC 6298 5.4-5.6
  Ref<TcpEndpoint> e = Established(SynOptions(1460, false));
  Fill(*e, 3 * kMss);
  EXPECT_EQ(DrainData(1), 3u * kMss);
  // The handshake took no time, so the RTO is the minimum.
  int64_t due = 0;
  const TimePoint start = host_.now;
  for (int i = 0; i < 6; i++) {
    due += 200ll << i;
    Advance(start + Duration::Millis(due - 2) - host_.now);
    ExpectSilence();
    AdvanceMs(4);
    Expect(kAck, 1, 1, kMss);
    ExpectSilence();
  }
  EXPECT_EQ(e->Info().cwnd, 1u);  // RFC 5681 3.1: the loss window
  EXPECT_EQ(e->Info().backoff, 6);
}

TEST_F(TcpSendTest, TimeoutCollapsesTheWindowOnce) {  // RFC 5681 3.1, equation 4
  Ref<TcpEndpoint> e = Established(SynOptions(1460, false));
  ASSERT_TRUE(e->SetOption(Option::kCongestion, kCongestionReno).ok());
  Fill(*e, 10 * kMss);
  Drain();
  AdvanceMs(3000);
  EXPECT_EQ(e->Info().ssthresh, 5u);
}

TEST_F(TcpSendTest, SlowStartAfterTimeout) {  // RFC 5681 3.1
  Ref<TcpEndpoint> e = Established(SynOptions(1460, false));
  Fill(*e, 10 * kMss);
  Drain();
  AdvanceMs(201);
  Expect(kAck, 1, 1, kMss);
  Send(Ack(1 + kMss));
  EXPECT_EQ(Drain().size(), 2u);
}

TEST_F(TcpSendTest, AckResetsBackoff) {  // RFC 6298 5.7, Karn
  Ref<TcpEndpoint> e = Established(SynOptions(1460, false));
  Fill(*e, kMss);
  Drain();
  AdvanceMs(2000);
  Drain();
  EXPECT_GT(e->Info().backoff, 0);
  Send(Ack(1 + kMss));
  EXPECT_EQ(e->Info().backoff, 0);
}

TEST_F(TcpSendTest, RepeatIsNoRttSample) {  // RFC 6298 3 (Karn)
  Ref<TcpEndpoint> e = Established(SynOptions(1460, false));
  AdvanceMs(1);
  Fill(*e, kMss);
  Drain();
  const Duration before = e->Info().rtt;
  AdvanceMs(5000);
  Drain();
  Send(Ack(1 + kMss));
  EXPECT_EQ(e->Info().rtt, before);
}

TEST_F(TcpSendTest, RttIsSmoothed) {  // RFC 6298 2.3
  Ref<TcpEndpoint> e = Established();
  Fill(*e, kMss);
  AdvanceMs(80);
  Drain();
  Send(Ack(1 + kMss));
  // The first sample was the handshake's, of no time: srtt = 7/8 * 0 + 1/8 * 80.
  EXPECT_NEAR(static_cast<double>(e->Info().rtt.micros()), 10000, 10);
}

TEST_F(TcpSendTest, ConnectionIsGivenUpAfter15Retries) {  // RFC 9293 3.8.3; tcp(7) tcp_retries2
  Ref<TcpEndpoint> e = Established(SynOptions(1460, false));
  Fill(*e, 10);
  Drain();
  Advance(Duration::Seconds(900));
  EXPECT_EQ(e->State(), TcpState::kEstablished);
  Advance(Duration::Seconds(200));
  EXPECT_EQ(e->State(), TcpState::kClosed);
  EXPECT_EQ(e->TakeError(), NetError::kTimedOut);
}

TEST_F(TcpSendTest, UserTimeoutEndsEarlier) {  // RFC 5482; tcp(7) TCP_USER_TIMEOUT
  Ref<TcpEndpoint> e = Established(SynOptions(1460, false));
  ASSERT_TRUE(e->SetOption(Option::kUserTimeout, 5000).ok());
  Fill(*e, 10);
  Drain();
  AdvanceMs(4000);
  EXPECT_EQ(e->State(), TcpState::kEstablished);
  AdvanceMs(4000);
  EXPECT_EQ(e->TakeError(), NetError::kTimedOut);
}

// ---- Fast retransmit and NewReno: RFC 5681 3.2, RFC 6582 ----

class TcpRenoTest : public TcpSendTest {
 protected:
  Ref<TcpEndpoint> Start10() {
    Ref<TcpEndpoint> e = Established(SynOptions(1460, false));
    EXPECT_TRUE(e->SetOption(Option::kCongestion, kCongestionReno).ok());
    Fill(*e, 10 * kMss);
    EXPECT_EQ(DrainData(1), 10u * kMss);
    return e;
  }
};

TEST_F(TcpRenoTest, ThirdDuplicateRepeats) {  // RFC 5681 3.2
  Ref<TcpEndpoint> e = Start10();
  Send(Ack(1));
  Send(Ack(1));
  ExpectSilence();
  Send(Ack(1));
  Expect(kAck, 1, 1, kMss);
  EXPECT_EQ(e->Info().ca_state, 3);
  EXPECT_EQ(e->Info().ssthresh, 5u);
}

TEST_F(TcpRenoTest, WindowUpdateIsNoDuplicate) {  // RFC 5681 2
  Ref<TcpEndpoint> e = Start10();
  for (int i = 0; i < 5; i++) Send(Ack(1, {}, static_cast<uint16_t>(60000 + i)));
  ExpectSilence();
}

TEST_F(TcpRenoTest, DataIsNoDuplicate) {  // RFC 5681 2
  Ref<TcpEndpoint> e = Start10();
  for (int i = 0; i < 5; i++) Send({.seq = 1 + i, .ack = 1, .data = "x"});
  for (const Got& g : Drain()) EXPECT_EQ(g.data.size(), 0u);
}

TEST_F(TcpRenoTest, PartialAckRepeatsTheNext) {  // RFC 6582 3.2
  Ref<TcpEndpoint> e = Start10();
  for (int i = 0; i < 3; i++) Send(Ack(1));
  Expect(kAck, 1, 1, kMss);
  Send(Ack(1 + 3 * kMss));
  Expect(kAck, 1 + 3 * kMss, 1, kMss);
  EXPECT_EQ(e->Info().ca_state, 3);
}

TEST_F(TcpRenoTest, FullAckEndsRecoveryAtSsthresh) {  // RFC 6582 3.2
  Ref<TcpEndpoint> e = Start10();
  for (int i = 0; i < 3; i++) Send(Ack(1));
  Drain();
  Send(Ack(1 + 10 * kMss));
  EXPECT_EQ(e->Info().ca_state, 0);
  EXPECT_EQ(e->Info().cwnd, 5u);
}

TEST_F(TcpRenoTest, CongestionAvoidanceAddsOneSegmentARoundTrip) {  // RFC 5681 3.1
  Ref<TcpEndpoint> e = Start10();
  for (int i = 0; i < 3; i++) Send(Ack(1));
  Send(Ack(1 + 10 * kMss));
  Drain();
  EXPECT_EQ(e->Info().cwnd, 5u);
  const int64_t at = 1 + 10 * kMss;
  Fill(*e, 40 * kMss);
  EXPECT_EQ(DrainData(at), 5u * kMss);
  for (int i = 1; i <= 4; i++) Send(Ack(at + i * kMss));
  EXPECT_EQ(e->Info().cwnd, 5u);
  Send(Ack(at + 5 * kMss));
  EXPECT_EQ(e->Info().cwnd, 6u);
  for (int i = 6; i <= 11; i++) Send(Ack(at + i * kMss));
  EXPECT_EQ(e->Info().cwnd, 7u);
}

// ---- SACK, RACK, PRR: RFC 6675, 8985, 6937 ----

class TcpSackTest : public TcpSendTest {
 protected:
  Ref<TcpEndpoint> Start10(int64_t rtt_ms = 10) {
    handshake_ms_ = rtt_ms;
    Ref<TcpEndpoint> e = Established();
    Fill(*e, 10 * kMss);
    EXPECT_EQ(DrainData(base_), 10u * kMss);
    return e;
  }
  int64_t At(int segment) const { return base_ + segment * kMss; }
  int64_t base_ = 1;
};

TEST_F(TcpSackTest, HoleIsRepeatedAfterThreeSegmentsBeyondIt) {  // RFC 6675 5, RFC 8985 6.2
  Ref<TcpEndpoint> e = Start10();
  AdvanceMs(10);
  Send(Ack(At(0), {{At(1), At(2)}}));
  Send(Ack(At(0), {{At(1), At(3)}}));
  ExpectSilence();
  Send(Ack(At(0), {{At(1), At(4)}}));
  Expect(kAck, At(0), 1, kMss);
  EXPECT_EQ(e->Info().ca_state, 3);
  EXPECT_EQ(e->Info().sacked, 3u);
}

TEST_F(TcpSackTest, HoleIsRepeatedAfterTheReorderingWindow) {  // RFC 8985 6.2 step 5
  Ref<TcpEndpoint> e = Start10();
  AdvanceMs(10);
  Send(Ack(At(0), {{At(1), At(2)}}));
  ExpectSilence();
  AdvanceMs(5);
  Expect(kAck, At(0), 1, kMss);
}

TEST_F(TcpSackTest, ReorderingIsForgiven) {  // RFC 8985 6.2
  Ref<TcpEndpoint> e = Start10();
  AdvanceMs(10);
  Send(Ack(At(0), {{At(1), At(2)}}));
  AdvanceMs(1);
  Send(Ack(At(2)));
  AdvanceMs(3);
  ExpectSilence();
  EXPECT_EQ(e->Info().total_retrans, 0u);
}

TEST_F(TcpSackTest, OnlyHolesAreRepeated) {  // RFC 6675 5
  Ref<TcpEndpoint> e = Start10();
  AdvanceMs(10);
  Send(Ack(At(0), {{At(5), At(10)}, {At(2), At(4)}}));
  std::vector<int64_t> repeated;
  for (const Got& g : Drain()) repeated.push_back(RelSeq(g));
  EXPECT_EQ(repeated, (std::vector<int64_t>{At(0), At(1), At(4)}));
}

TEST_F(TcpSackTest, LostRepeatIsFoundWithoutTimeout) {  // RFC 8985 3.2
  Ref<TcpEndpoint> e = Start10();
  AdvanceMs(10);
  Send(Ack(At(0), {{At(1), At(5)}}));
  Expect(kAck, At(0), 1, kMss);
  Fill(*e, 6 * kMss);
  Send(Ack(At(0), {{At(1), At(10)}}));
  Drain();
  AdvanceMs(12);
  // New data sent after the repeat was SACKed: the repeat is lost too.
  Send(Ack(At(0), {{At(1), At(12)}}));
  AdvanceMs(8);
  bool again = false;
  for (const Got& g : Drain()) again |= RelSeq(g) == At(0);
  EXPECT_TRUE(again);
  EXPECT_EQ(e->Info().retransmits, 0);
}

TEST_F(TcpSackTest, TailLossProbeComesBeforeTheTimeout) {  // RFC 8985 7.2, 7.3
  Ref<TcpEndpoint> e = Start10(100);
  AdvanceMs(199);
  ExpectSilence();
  AdvanceMs(2);  // two round trips
  Expect(kAck | kPsh, At(9), 1, kMss);
  EXPECT_EQ(stack_->GetCounters().tcp.loss_probes, 1u);
  EXPECT_EQ(stack_->GetCounters().tcp.timeouts, 0u);
}

TEST_F(TcpSackTest, ProbeSendsNewDataWhenThereIsSome) {  // RFC 8985 7.3
  Ref<TcpEndpoint> e = Start10(100);
  Fill(*e, 30 * kMss);
  ExpectSilence();  // the window is full
  const int64_t next = At(10);
  AdvanceMs(210);
  std::optional<Got> g = Next();
  ASSERT_TRUE(g);
  EXPECT_EQ(RelSeq(*g), next);
}

TEST_F(TcpSackTest, ProbeThatRepairedTheTailCostsTheWindow) {  // RFC 8985 7.4
  Ref<TcpEndpoint> e = Start10(100);
  AdvanceMs(210);
  Expect(kAck | kPsh, At(9), 1, kMss);
  const uint32_t before = e->Info().cwnd;
  Send(Ack(At(10)));
  EXPECT_LT(e->Info().cwnd, before);
}

TEST_F(TcpSackTest, RecoverySendsInProportion) {  // RFC 6937 3.1
  Ref<TcpEndpoint> e = Start10();
  ASSERT_TRUE(e->SetOption(Option::kCongestion, kCongestionReno).ok());
  Fill(*e, 20 * kMss);
  Drain();
  AdvanceMs(10);
  const uint32_t flight = e->Info().unacked;
  size_t sent = 0;
  for (int i = 1; i < 9; i++) {
    Send(Ack(At(0), {{At(1), At(1 + i)}}));
    for (const Got& g : Drain()) sent += g.data.size();
  }
  // Eight segments delivered: about half as many may leave, and never more than were delivered.
  EXPECT_LE(sent, 6u * kMss);
  EXPECT_GE(sent, 2u * kMss);
  EXPECT_GE(flight, 10u);
}

TEST_F(TcpSackTest, SackedDataIsNotRepeatedAfterTimeout) {  // RFC 2018 5.1, RFC 6675 5.1
  Ref<TcpEndpoint> e = Start10();
  Send(Ack(At(0), {{At(5), At(10)}}));
  Drain();
  AdvanceMs(5000);
  for (const Got& g : Drain()) EXPECT_LT(RelSeq(g), At(5));
}

TEST_F(TcpSackTest, RenegingIsNoticed) {  // RFC 2018 8
  Ref<TcpEndpoint> e = Start10();
  Send(Ack(At(0), {{At(1), At(10)}}));
  Drain();
  Send(Ack(At(1)));  // yet 1.. was SACKed: the peer threw it away
  Drain();
  AdvanceMs(1000);
  EXPECT_GE(stack_->GetCounters().tcp.sack_reneging, 1u);
  bool repeated = false;
  for (const Got& g : Drain()) repeated |= RelSeq(g) == At(1);
  EXPECT_TRUE(repeated);
}

TEST_F(TcpSackTest, ForgedBlocksAreIgnored) {  // hostile peer
  Ref<TcpEndpoint> e = Start10();
  Send(Ack(At(0), {{At(20), At(30)}}));
  Send(Ack(At(0), {{At(3), At(2)}}));
  Send(Ack(At(0), {{At(0) - 100000, At(0) - 5}}));
  EXPECT_EQ(e->Info().sacked, 0u);
  Send(Ack(At(10)));
  EXPECT_EQ(e->Unacked(), 0u);
}

TEST_F(TcpSackTest, ByteSizedBlocksMakeNoEntries) {  // hostile peer
  Ref<TcpEndpoint> e = Start10();
  for (int i = 1; i < 5000; i += 2) Send(Ack(At(0), {{At(0) + i, At(0) + i + 1}}));
  EXPECT_EQ(e->Info().sacked, 0u);
}

TEST_F(TcpSackTest, SpuriousTimeoutIsUndoneByTimestamps) {  // RFC 3522, RFC 4015
  timestamps_ = true;
  Ref<TcpEndpoint> e = Established();
  Fill(*e, 10 * 1448);
  Drain();
  const uint32_t sent_ts = last_ts_;
  const uint32_t before = e->Info().cwnd;
  AdvanceMs(1000);
  Drain();
  EXPECT_EQ(e->Info().ca_state, 4);
  Seg s{.seq = 1, .ack = 1 + 10 * 1448};
  s.options.timestamps = TcpTimestamps{PeerTs(), sent_ts};
  Send(s);
  EXPECT_EQ(e->Info().ca_state, 0);
  EXPECT_GE(e->Info().cwnd, before);
}

// ---- Zero window: RFC 9293 3.8.6.1 ----

class TcpPersistTest : public TcpSendTest {};

TEST_F(TcpPersistTest, ZeroWindowIsProbedWithBackoff) {  // RFC 9293 3.8.6.1, MUST-35
  Ref<TcpEndpoint> e = Established();
  Send(Ack(1, {}, 0));
  Fill(*e, 1000);
  ExpectSilence();
  int64_t wait = 200;
  for (int i = 0; i < 5; i++) {
    AdvanceMs(wait + 1);
    ExpectAck(1, 0);  // a byte below the window: it must be answered
    Send(Ack(1, {}, 0));
    wait *= 2;
  }
}

TEST_F(TcpPersistTest, OpenedWindowSendsAtOnce) {  // RFC 9293 3.8.6.1
  Ref<TcpEndpoint> e = Established();
  Send(Ack(1, {}, 0));
  Fill(*e, 1000);
  AdvanceMs(300);
  Drain();
  Send(Ack(1, {}, 1000));
  Expect(kAck | kPsh, 1, 1, 1000);
}

TEST_F(TcpPersistTest, AnsweredProbesGoOnForEver) {  // RFC 9293 3.8.6.1, MUST-37
  Ref<TcpEndpoint> e = Established();
  Send(Ack(1, {}, 0));
  Fill(*e, 1000);
  for (int i = 0; i < 100; i++) {
    Advance(Duration::Seconds(130));
    Drain();
    Send(Ack(1, {}, 0));
  }
  EXPECT_EQ(e->State(), TcpState::kEstablished);
}

TEST_F(TcpPersistTest, UnansweredProbesEnd) {  // RFC 1122 4.2.2.17
  Ref<TcpEndpoint> e = Established();
  Send(Ack(1, {}, 0));
  Fill(*e, 1000);
  Advance(Duration::Seconds(3600));
  EXPECT_EQ(e->TakeError(), NetError::kTimedOut);
}

// ---- Keepalive: RFC 1122 4.2.3.6 ----

class TcpKeepaliveTest : public TcpSendTest {};

TEST_F(TcpKeepaliveTest, OffByDefault) {  // MUST default to off
  Ref<TcpEndpoint> e = Established();
  Advance(Duration::Seconds(100000));
  ExpectSilence();
}

TEST_F(TcpKeepaliveTest, ProbesThenTimesOut) {
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SetOption(Option::kKeepIdle, 60).ok());
  ASSERT_TRUE(e->SetOption(Option::kKeepInterval, 10).ok());
  ASSERT_TRUE(e->SetOption(Option::kKeepCount, 3).ok());
  ASSERT_TRUE(e->SetOption(Option::kKeepAlive, 1).ok());
  Advance(Duration::Seconds(59));
  ExpectSilence();
  Advance(Duration::Seconds(1));
  ExpectAck(1, 0);
  Advance(Duration::Seconds(20));
  EXPECT_EQ(Drain().size(), 2u);
  EXPECT_EQ(e->State(), TcpState::kEstablished);
  Advance(Duration::Seconds(10));
  EXPECT_TRUE(Next()->Has(kRst));
  EXPECT_EQ(e->TakeError(), NetError::kTimedOut);
}

TEST_F(TcpKeepaliveTest, AnswerStartsAfresh) {
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SetOption(Option::kKeepIdle, 60).ok());
  ASSERT_TRUE(e->SetOption(Option::kKeepCount, 1).ok());
  ASSERT_TRUE(e->SetOption(Option::kKeepAlive, 1).ok());
  for (int i = 0; i < 10; i++) {
    Advance(Duration::Seconds(60));
    ASSERT_TRUE(Next().has_value()) << i;
    Send(Ack(1));
  }
  EXPECT_EQ(e->State(), TcpState::kEstablished);
}

// ---- Path MTU: RFC 1191, RFC 5927 ----

class TcpPathMtuTest : public TcpSendTest {
 protected:
  void TooBig(uint16_t mtu, int64_t seq) {
    Packet p;
    uint8_t* t = p.Prepend(8);
    Store16(t, local_port_);
    Store16(t + 2, peer_port_);
    Store32(t + 4, our_iss_ + static_cast<uint32_t>(seq));
    IpHeader inner;
    inner.src = our_;
    inner.dst = peer_;
    inner.protocol = kProtoTcp;
    inner.Write(p.Prepend(inner.size()), 1480);
    uint8_t* i = p.Prepend(8);
    i[0] = 3;
    i[1] = 4;
    Store32(i + 4, mtu);
    Store16(i + 2, 0);
    Store16(i + 2, ChecksumOf(p.header()));
    IpHeader h;
    h.src = IpAddr::V4(10, 0, 0, 254);
    h.dst = our_;
    h.protocol = kProtoIcmp;
    const size_t n = p.size();
    h.Write(p.Prepend(h.size()), n);
    stack_->Input(tun_, {p.Flatten()});
  }
};

TEST_F(TcpPathMtuTest, SmallerMtuRepeatsInSmallerSegments) {  // RFC 1191 6.4
  Ref<TcpEndpoint> e = Established();
  Fill(*e, 2 * kMss);
  Drain();
  TooBig(1000, 1);
  std::vector<Got> g = Drain();
  ASSERT_GE(g.size(), 2u);
  EXPECT_EQ(g[0].data.size(), 960u);
  EXPECT_EQ(RelSeq(g[0]), 1);
}

TEST_F(TcpPathMtuTest, ForgedSequenceIsIgnored) {  // RFC 5927 4.1
  Ref<TcpEndpoint> e = Established();
  Fill(*e, 2 * kMss);
  Drain();
  TooBig(1000, 999999);
  ExpectSilence();
  EXPECT_EQ(e->Info().send_mss, static_cast<uint32_t>(kMss));
}

TEST_F(TcpPathMtuTest, TinyMtuIsRaised) {  // Linux min_pmtu
  Ref<TcpEndpoint> e = Established();
  Fill(*e, 2 * kMss);
  Drain();
  TooBig(68, 1);
  EXPECT_EQ(e->Info().send_mss, 512u);
}

// ---- Buffers and options ----

TEST_F(TcpSendTest, SendBufferIsBounded) {
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SetOption(Option::kSendBuffer, 8192).ok());
  NetResult<size_t> r = Write(*e, std::string(100000, 'a'));
  ASSERT_TRUE(r.ok());
  // One buffer of Linux's, which the bound is not looked at for while it fills: 44 segments. Ten of them
  // left it when they were sent.
  EXPECT_EQ(*r, 44u * kMss);
  EXPECT_EQ(Write(*e, std::string(20000, 'b')).value(), 10u * kMss);
  EXPECT_EQ(Write(*e, "x").error(), NetError::kWouldBlock);
  EXPECT_EQ(e->Unacked(), 54u * kMss);
}

TEST_F(TcpSendTest, NotSentLowatMakesItUnwritable) {  // tcp(7) TCP_NOTSENT_LOWAT
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SetOption(Option::kNotSentLowat, 1000).ok());
  Fill(*e, 16 * kMss);
  EXPECT_EQ(e->Poll() & kWritable, 0u);
}

// The acknowledgement itself finds too much unsent; what it lets out is what makes room, and no other may come.
TEST_F(TcpSendTest, RoomBelowNotSentLowatIsToldWhenItIsMade) {  // tcp(7) TCP_NOTSENT_LOWAT
  struct Ears : EndpointObserver {
    uint32_t heard = 0;
    void OnReadiness(uint32_t bits) override { heard |= bits; }
  };
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SetOption(Option::kSendBuffer, 1 << 20).ok());
  ASSERT_TRUE(e->SetOption(Option::kNotSentLowat, 4 * kMss).ok());
  Fill(*e, 14 * kMss);
  EXPECT_EQ(e->Poll() & kWritable, 0u);
  Ref<Ears> ears = MakeRef<Ears>();
  e->SetObserver(ears);
  Send(Ack(1 + 2 * kMss));
  EXPECT_NE(ears->heard & kWritable, 0u);
  EXPECT_NE(e->Poll() & kWritable, 0u);
  e->SetObserver(nullptr);
}

TEST_F(TcpSendTest, OptionRanges) {  // tcp(7)
  Ref<TcpEndpoint> e = NewEndpoint();
  EXPECT_EQ(e->SetOption(Option::kKeepIdle, 0).error(), NetError::kInvalid);
  EXPECT_EQ(e->SetOption(Option::kKeepIdle, 32768).error(), NetError::kInvalid);
  EXPECT_EQ(e->SetOption(Option::kKeepCount, 128).error(), NetError::kInvalid);
  EXPECT_EQ(e->SetOption(Option::kMaxSegment, 40).error(), NetError::kInvalid);
  EXPECT_EQ(e->SetOption(Option::kTtl, 256).error(), NetError::kInvalid);
  EXPECT_TRUE(e->SetOption(Option::kTtl, 7).ok());
  EXPECT_EQ(Connect(e).ttl, 7);
}

TEST_F(TcpSendTest, WriteBeforeConnectIsPipe) {
  Ref<TcpEndpoint> e = NewEndpoint();
  EXPECT_EQ(Write(*e, "x").error(), NetError::kPipe);
  EXPECT_EQ(e->Peek(1).error(), NetError::kNotConnected);
  EXPECT_EQ(e->Poll(), kWritable | kHangup);  // as a fresh socket on Linux
}

}  // namespace
}  // namespace ringwall::net::testing
