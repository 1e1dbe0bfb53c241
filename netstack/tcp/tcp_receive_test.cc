// Receiving: acknowledgements, windows, SACK, PAWS, urgent data.
#include "netstack/testing/tcp_test_base.h"

namespace ringwall::net::testing {
namespace {

class TcpReceiveTest : public TcpTest {
 protected:
  static std::vector<std::pair<int64_t, int64_t>> Sacks(const Got& g, uint32_t iss) {
    std::vector<std::pair<int64_t, int64_t>> out;
    for (int i = 0; i < g.segment.options.sack_count; i++) {
      const SackBlock& b = g.segment.options.sack[static_cast<size_t>(i)];
      out.emplace_back(static_cast<int32_t>(b.start.value() - iss),
                       static_cast<int32_t>(b.end.value() - iss));
    }
    return out;
  }
  using Blocks = std::vector<std::pair<int64_t, int64_t>>;
};

TEST_F(TcpReceiveTest, FirstSegmentsAreAcknowledgedAtOnce) {  // RFC 9293 3.8.6.3; Linux quick ACKs
  Ref<TcpEndpoint> e = Established();
  Send({.seq = 1, .ack = 1, .data = "a"});
  ExpectAck(2);
}

TEST_F(TcpReceiveTest, AckIsDelayedAtMost40MsOnceInteractive) {  // RFC 1122 4.2.3.2
  Ref<TcpEndpoint> e = Established();
  Send({.seq = 1, .ack = 1, .data = "a"});
  ExpectAck(2);
  ASSERT_TRUE(e->SetOption(Option::kQuickAck, 0).ok());
  Send({.seq = 2, .ack = 1, .data = "b"});
  ExpectSilence();
  AdvanceMs(39);
  ExpectSilence();
  AdvanceMs(1);
  ExpectAck(3);
}

TEST_F(TcpReceiveTest, EverySecondFullSegmentIsAcknowledged) {  // RFC 5681 4.2
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SetOption(Option::kQuickAck, 0).ok());
  Send({.seq = 1, .ack = 1, .data = std::string(1460, 'a')});
  ExpectSilence();
  Send({.seq = 1461, .ack = 1, .data = std::string(1460, 'a')});
  ExpectAck(2921);
}

TEST_F(TcpReceiveTest, AckRidesOnData) {  // RFC 9293 3.8.6.3
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SetOption(Option::kQuickAck, 0).ok());
  Send({.seq = 1, .ack = 1, .data = "question"});
  ASSERT_TRUE(Write(*e, "answer").ok());
  Expect(kAck | kPsh, 1, 9, 6);
  AdvanceMs(100);
  ExpectSilence();
}

TEST_F(TcpReceiveTest, GapIsAcknowledgedAtOnceWithSack) {  // RFC 5681 4.2, RFC 2018 4
  Ref<TcpEndpoint> e = Established();
  Send({.seq = 11, .ack = 1, .data = "0123456789"});
  Got g = ExpectAck(1);
  EXPECT_EQ(Sacks(g, peer_iss_), (Blocks{{11, 21}}));
  EXPECT_EQ(Read(*e), "");
}

TEST_F(TcpReceiveTest, FilledGapIsAcknowledgedAtOnce) {  // RFC 5681 4.2
  Ref<TcpEndpoint> e = Established();
  Send({.seq = 11, .ack = 1, .data = "0123456789"});
  ExpectAck(1);
  Send({.seq = 1, .ack = 1, .data = "abcdefghij"});
  Got g = ExpectAck(21);
  EXPECT_EQ(g.segment.options.sack_count, 0);
  EXPECT_EQ(Read(*e), "abcdefghij0123456789");
}

TEST_F(TcpReceiveTest, NewestSackBlockComesFirst) {  // RFC 2018 4
  Ref<TcpEndpoint> e = Established();
  Send({.seq = 11, .ack = 1, .data = "x"});
  ExpectAck(1);
  Send({.seq = 31, .ack = 1, .data = "y"});
  EXPECT_EQ(Sacks(ExpectAck(1), peer_iss_), (Blocks{{31, 32}, {11, 12}}));
  Send({.seq = 21, .ack = 1, .data = "z"});
  EXPECT_EQ(Sacks(ExpectAck(1), peer_iss_), (Blocks{{21, 22}, {31, 32}, {11, 12}}));
  Send({.seq = 12, .ack = 1, .data = "w"});
  EXPECT_EQ(Sacks(ExpectAck(1), peer_iss_), (Blocks{{11, 13}, {21, 22}, {31, 32}}));
}

TEST_F(TcpReceiveTest, SackBlocksJoin) {  // RFC 2018 4
  Ref<TcpEndpoint> e = Established();
  Send({.seq = 11, .ack = 1, .data = "0123456789"});
  Send({.seq = 31, .ack = 1, .data = "0123456789"});
  Send({.seq = 21, .ack = 1, .data = "0123456789"});
  std::vector<Got> g = Drain();
  ASSERT_EQ(g.size(), 3u);
  EXPECT_EQ(Sacks(g[2], peer_iss_), (Blocks{{11, 41}}));
}

TEST_F(TcpReceiveTest, ThreeBlocksFitBesideTimestamps) {  // RFC 2018 3
  timestamps_ = true;
  Ref<TcpEndpoint> e = Established();
  for (int i = 0; i < 5; i++) Send({.seq = 11 + 10 * i, .ack = 1, .data = "x"});
  EXPECT_EQ(Drain().back().segment.options.sack_count, 3);
}

TEST_F(TcpReceiveTest, FourBlocksWithoutTimestamps) {  // RFC 2018 3
  Ref<TcpEndpoint> e = Established();
  for (int i = 0; i < 6; i++) Send({.seq = 11 + 10 * i, .ack = 1, .data = "x"});
  EXPECT_EQ(Drain().back().segment.options.sack_count, 4);
}

TEST_F(TcpReceiveTest, NoSackToAPeerThatDidNotAsk) {  // RFC 2018 2
  Ref<TcpEndpoint> e = Established(SynOptions(1460, false));
  Send({.seq = 11, .ack = 1, .data = "x"});
  EXPECT_EQ(ExpectAck(1).segment.options.sack_count, 0);
}

TEST_F(TcpReceiveTest, OldDuplicateIsReportedByDsack) {  // RFC 2883 4.1
  Ref<TcpEndpoint> e = Established();
  Send({.seq = 1, .ack = 1, .data = "abc"});
  ExpectAck(4);
  Send({.seq = 1, .ack = 1, .data = "abc"});
  EXPECT_EQ(Sacks(ExpectAck(4), peer_iss_), (Blocks{{1, 4}}));
  EXPECT_EQ(Read(*e), "abc");
}

TEST_F(TcpReceiveTest, DuplicateBeyondAGapIsReportedByDsackFirst) {  // RFC 2883 4.2
  Ref<TcpEndpoint> e = Established();
  Send({.seq = 11, .ack = 1, .data = "0123456789"});
  ExpectAck(1);
  Send({.seq = 13, .ack = 1, .data = "23"});
  EXPECT_EQ(Sacks(ExpectAck(1), peer_iss_), (Blocks{{13, 15}, {11, 21}}));
}

TEST_F(TcpReceiveTest, PartlyOldSegmentGivesItsNewPart) {  // RFC 9293 3.10.7.4
  Ref<TcpEndpoint> e = Established();
  Send({.seq = 1, .ack = 1, .data = "abc"});
  Send({.seq = 2, .ack = 1, .data = "bcdef"});
  Drain();
  EXPECT_EQ(Read(*e), "abcdef");
}

TEST_F(TcpReceiveTest, OverlappingPiecesKeepTheFirstBytes) {  // RFC 9293 3.4
  Ref<TcpEndpoint> e = Established();
  Send({.seq = 5, .ack = 1, .data = "EFGH"});
  Send({.seq = 3, .ack = 1, .data = "cdxxxxij"});
  Send({.seq = 1, .ack = 1, .data = "ab"});
  Drain();
  EXPECT_EQ(Read(*e), "abcdEFGHij");
}

TEST_F(TcpReceiveTest, DataBeyondTheWindowIsCut) {  // RFC 9293 3.10.7.4
  Ref<TcpEndpoint> e = Established();
  // The window told in the SYN-ACK is 65535.
  const std::string big(1460, 'a');
  int64_t at = 1;
  for (int i = 0; i < 44; i++, at += 1460) Send({.seq = at, .ack = 1, .data = big});
  Drain();
  Send({.seq = 1000000, .ack = 1, .data = "far"});
  ExpectAck(at);  // unacceptable: an ACK, nothing kept
  EXPECT_EQ(e->Readable(), 44u * 1460);
}

TEST_F(TcpReceiveTest, WindowClosesAndReopens) {  // RFC 9293 3.8.6.2.2
  Ref<TcpEndpoint> e = Established();
  int64_t at = 1;
  Got last;
  for (int i = 0; i < 100; i++) {
    Send({.seq = at, .ack = 1, .data = std::string(1460, 'a')});
    at += 1460;
    if (i == 99) AdvanceMs(50);
    for (const Got& g : Drain()) last = g;
  }
  EXPECT_EQ(last.segment.window, 0);
  EXPECT_EQ(Read(*e, 1).size(), 1u);
  ExpectSilence();  // one byte is not worth a segment
  Read(*e);
  std::vector<Got> g = Drain();
  ASSERT_EQ(g.size(), 1u);
  EXPECT_GT(g[0].segment.window, 100);
}

TEST_F(TcpReceiveTest, RightEdgeNeverMovesLeft) {  // RFC 9293 3.8.6
  Ref<TcpEndpoint> e = Established();
  int64_t at = 1, edge = 0;
  FakeHost random(5);
  for (int i = 0; i < 400; i++) {
    Send({.seq = at, .ack = 1, .data = std::string(1 + random.Next() % 1460, 'a')});
    if (random.Next() % 3 == 0) Read(*e, random.Next() % 20000);
    for (const Got& g : Drain()) {
      const int64_t told = RelAck(g) + (static_cast<int64_t>(g.segment.window) << 7);
      EXPECT_GE(told, edge);
      edge = told;
      at = RelAck(g);
    }
  }
}

TEST_F(TcpReceiveTest, ZeroWindowProbeIsAnswered) {  // RFC 9293 3.8.6.1, MUST-36
  Ref<TcpEndpoint> e = Established();
  int64_t at = 1;
  for (int i = 0; i < 100; i++, at += 1460) {
    Send({.seq = at, .ack = 1, .data = std::string(1460, 'a')});
  }
  AdvanceMs(50);
  const Got last = Drain().back();
  ASSERT_EQ(last.segment.window, 0);
  Send({.seq = RelAck(last), .ack = 1, .data = "p"});
  ExpectAck(RelAck(last));
}

TEST_F(TcpReceiveTest, KeepaliveProbeIsAnswered) {  // RFC 1122 4.2.3.6
  Ref<TcpEndpoint> e = Established();
  Send({.seq = 0, .ack = 1});
  ExpectAck(1);
}

TEST_F(TcpReceiveTest, SmallBufferTellsASmallWindow) {  // RFC 9293 3.8.6.2.2
  Ref<TcpEndpoint> l = Listener();
  ASSERT_TRUE(l->SetOption(Option::kReceiveBuffer, 4096).ok());
  Send({.flags = kSyn, .seq = 0, .options = SynOptions()});
  EXPECT_EQ(Next()->segment.window, 4096);
}

TEST_F(TcpReceiveTest, BufferGrowsForAFastReader) {  // Linux tcp_rcv_space_adjust()
  Ref<TcpEndpoint> e = Established();
  const int64_t before = *e->GetOption(Option::kReceiveBuffer);
  int64_t at = 1;
  for (int round = 0; round < 8; round++) {
    for (int i = 0; i < 30; i++, at += 1460) {
      Send({.seq = at, .ack = 1, .data = std::string(1460, 'a')});
    }
    Read(*e);
    AdvanceMs(1);
  }
  EXPECT_GT(*e->GetOption(Option::kReceiveBuffer), before);
}

TEST_F(TcpReceiveTest, TinyOutOfOrderPiecesAreBounded) {  // hostile peer
  Ref<TcpEndpoint> e = Established();
  for (int i = 0; i < 30000; i++) Send({.seq = 3 + 2 * i, .ack = 1, .data = "x"});
  EXPECT_GT(stack_->GetCounters().tcp.ofo_pruned, 0u);
  Drain();
  // The legitimate stream goes on.
  Send({.seq = 1, .ack = 1, .data = "abc"});
  EXPECT_EQ(Read(*e).substr(0, 3), "abc");
}

TEST_F(TcpReceiveTest, TinySegmentsDoNotPinLargeBuffers) {
  Ref<TcpEndpoint> e = Established();
  for (int i = 0; i < 1000; i++) Send({.seq = 1 + i, .ack = 1, .data = "x"});
  NetResult<Chain> c = e->Peek(1000);
  ASSERT_TRUE(c.ok());
  EXPECT_LE(c->slices().size(), 4u);
}

// ---- Timestamps: RFC 7323 ----

class TcpTimestampTest : public TcpTest {
 protected:
  TcpTimestampTest() { timestamps_ = true; }
};

TEST_F(TcpTimestampTest, EverySegmentCarriesThem) {  // RFC 7323 3.2
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(Write(*e, "x").ok());
  EXPECT_TRUE(Expect(kAck | kPsh, 1, 1, 1).segment.options.timestamps);
}

TEST_F(TcpTimestampTest, EchoIsOfTheSegmentThatAdvanced) {  // RFC 7323 4.3
  Ref<TcpEndpoint> e = Established();
  AdvanceMs(10);
  Send({.seq = 1, .ack = 1, .data = "a"});
  const uint32_t first = PeerTs();
  EXPECT_EQ(ExpectAck(2).segment.options.timestamps->echo, first);
  AdvanceMs(10);
  Send({.seq = 5, .ack = 1, .data = "gap"});
  EXPECT_EQ(ExpectAck(2).segment.options.timestamps->echo, first);
  AdvanceMs(10);
  Send({.seq = 2, .ack = 1, .data = "bcd"});
  EXPECT_EQ(ExpectAck(8).segment.options.timestamps->echo, PeerTs());
}

TEST_F(TcpTimestampTest, OldTimestampIsRefusedWithAnAck) {  // RFC 7323 5.3 R1
  Ref<TcpEndpoint> e = Established();
  AdvanceMs(100);
  Seg s{.seq = 1, .ack = 1, .data = "old"};
  s.options.timestamps = TcpTimestamps{PeerTs() - 1000, last_ts_};
  Send(s);
  ExpectAck(1);
  EXPECT_EQ(Read(*e), "");
  EXPECT_EQ(stack_->GetCounters().tcp.paws_estab_rejected, 1u);
}

TEST_F(TcpTimestampTest, OldTimestampPassesAfter24Days) {  // RFC 7323 5.5
  Ref<TcpEndpoint> e = Established();
  Advance(Duration::Seconds(25ll * 24 * 3600));
  Seg s{.seq = 1, .ack = 1, .data = "old"};
  s.options.timestamps = TcpTimestamps{PeerTs() - 3000000000u, last_ts_};
  Send(s);
  EXPECT_EQ(Read(*e), "old");
}

TEST_F(TcpTimestampTest, ResetNeedsNoTimestamp) {  // RFC 7323 5.3 R1
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kRst, .seq = 1});
  EXPECT_EQ(e->State(), TcpState::kClosed);
}

TEST_F(TcpTimestampTest, ClocksDifferBetweenConnections) {  // RFC 7323 7.1
  Listener();
  Send({.flags = kSyn, .seq = 0, .options = SynOptions()});
  const uint32_t a = Next()->segment.options.timestamps->value;
  peer_port_++;
  Send({.flags = kSyn, .seq = 0, .options = SynOptions()});
  const uint32_t b = Next()->segment.options.timestamps->value;
  EXPECT_GT(a - b, 100u);
  EXPECT_GT(b - a, 100u);
}

// ---- Urgent data: RFC 6093 ----

class TcpUrgentTest : public TcpTest {};

TEST_F(TcpUrgentTest, ByteIsReadApart) {  // RFC 6093 2.2
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kAck | kUrg, .seq = 1, .ack = 1, .data = "abcde", .urgent = 3});
  EXPECT_NE(e->Poll() & kUrgent, 0u);
  EXPECT_EQ(Read(*e), "ab");  // up to the mark
  EXPECT_TRUE(e->AtMark());
  EXPECT_EQ(*e->ReceiveUrgent(false), 'c');
  EXPECT_EQ(e->ReceiveUrgent(false).error(), NetError::kInvalid);
  EXPECT_EQ(Read(*e), "de");
}

TEST_F(TcpUrgentTest, InlineKeepsItInTheStream) {  // socket(7) SO_OOBINLINE
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SetOption(Option::kOobInline, 1).ok());
  Send({.flags = kAck | kUrg, .seq = 1, .ack = 1, .data = "abcde", .urgent = 3});
  EXPECT_EQ(Read(*e), "ab");
  EXPECT_TRUE(e->AtMark());
  EXPECT_EQ(Read(*e), "cde");
  EXPECT_EQ(e->ReceiveUrgent(false).error(), NetError::kInvalid);
}

TEST_F(TcpUrgentTest, PointerBeforeItsByte) {  // RFC 9293 3.8.5
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kAck | kUrg, .seq = 1, .ack = 1, .data = "ab", .urgent = 3});
  EXPECT_EQ(e->ReceiveUrgent(false).error(), NetError::kWouldBlock);
  Send({.flags = kAck, .seq = 3, .ack = 1, .data = "c"});
  EXPECT_EQ(*e->ReceiveUrgent(false), 'c');
}

TEST_F(TcpUrgentTest, SentWithPointerBehindTheByte) {  // RFC 6093 3.2, RFC 1122 4.2.2.4
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->SendUrgent('!').ok());
  const Got g = Expect(kAck | kPsh | kUrg, 1, 1, 1);
  EXPECT_EQ(g.segment.urgent, 1);
}

TEST_F(TcpUrgentTest, NoneToRead) {  // recv(2) MSG_OOB: EINVAL
  Ref<TcpEndpoint> e = Established();
  EXPECT_EQ(e->ReceiveUrgent(false).error(), NetError::kInvalid);
}

// ---- ECN: RFC 3168 ----

class TcpEcnTest : public TcpTest {
 protected:
  Ref<TcpEndpoint> EstablishedEcn() {
    Ref<TcpEndpoint> l = Listener();
    Send({.flags = kSyn | kEce | kCwr, .seq = 0, .options = SynOptions()});
    std::optional<Got> g = Next();
    EXPECT_TRUE(g.has_value());
    EXPECT_EQ(int{g->segment.flags}, kSyn | kAck | kEce);  // RFC 3168 6.1.1
    our_iss_ = g->segment.seq.value();
    Send({.seq = 1, .ack = 1});
    NetResult<Ref<TcpEndpoint>> e = l->Accept();
    EXPECT_TRUE(e.ok());
    kept_.push_back(*e);
    return *e;
  }
};

TEST_F(TcpEcnTest, DataIsMarkedCapableAcksAreNot) {  // RFC 3168 6.1.2, 6.1.4
  Ref<TcpEndpoint> e = EstablishedEcn();
  ASSERT_TRUE(Write(*e, "x").ok());
  EXPECT_EQ(Expect(kAck | kPsh, 1, 1, 1).tos & 3, 2);
  Send({.seq = 1, .ack = 2, .data = "y"});
  EXPECT_EQ(ExpectAck(2, 2).tos & 3, 0);
}

TEST_F(TcpEcnTest, CongestionIsEchoedUntilCwr) {  // RFC 3168 6.1.3
  Ref<TcpEndpoint> e = EstablishedEcn();
  Send({.seq = 1, .ack = 1, .data = "a", .tos = 3});
  Expect(kAck | kEce, 1, 2);
  Send({.seq = 2, .ack = 1, .data = "b", .tos = 2});
  Expect(kAck | kEce, 1, 3);
  Send({.flags = kAck | kCwr, .seq = 3, .ack = 1, .data = "c", .tos = 2});
  Expect(kAck, 1, 4);
}

TEST_F(TcpEcnTest, EchoHalvesTheWindowOnceARoundTrip) {  // RFC 3168 6.1.2
  Ref<TcpEndpoint> e = EstablishedEcn();
  ASSERT_TRUE(Write(*e, std::string(14600, 'a')).ok());
  Drain();
  const uint32_t before = e->Info().cwnd;
  Send({.flags = kAck | kEce, .seq = 1, .ack = 1 + 1460});
  Send({.flags = kAck | kEce, .seq = 1, .ack = 1 + 2920});
  EXPECT_EQ(e->Info().ca_state, 2);
  EXPECT_EQ(e->Info().ssthresh, before * 7 / 10);
  Drain();
  for (int i = 3; i <= 10; i++) Send({.seq = 1, .ack = 1 + 1460 * i});
  ASSERT_TRUE(Write(*e, "next").ok());
  EXPECT_TRUE(Next()->Has(kCwr));
}

TEST_F(TcpEcnTest, NotUsedUnlessAskedFor) {  // RFC 3168 6.1.1
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(Write(*e, "x").ok());
  EXPECT_EQ(Expect(kAck | kPsh, 1, 1, 1).tos & 3, 0);
  EXPECT_FALSE(e->Info().ecn);
}

}  // namespace
}  // namespace ringwall::net::testing
