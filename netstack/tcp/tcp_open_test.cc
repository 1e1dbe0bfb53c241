// Opening, closing, resets: RFC 9293 3.5, 3.6, 3.10; RFC 5961.
#include "netstack/testing/tcp_test_base.h"

namespace ringwall::net::testing {
namespace {

class TcpClosedTest : public TcpTest {};
class TcpListenTest : public TcpTest {};
class TcpSynSentTest : public TcpTest {};
class TcpEstablishedTest : public TcpTest {};
class TcpCloseTest : public TcpTest {};

// ---- CLOSED: RFC 9293 3.10.7.1 ----

TEST_F(TcpClosedTest, SynToNobodyIsReset) {
  Send({.flags = kSyn, .seq = 0});
  std::optional<Got> g = Next();
  ASSERT_TRUE(g);
  EXPECT_EQ(g->segment.flags, kRst | kAck);
  EXPECT_EQ(g->segment.seq.value(), 0u);
  EXPECT_EQ(RelAck(*g), 1);
}

TEST_F(TcpClosedTest, DataToNobodyIsResetBeyondItsEnd) {
  Send({.flags = 0, .seq = 5, .data = "abc"});
  std::optional<Got> g = Next();
  ASSERT_TRUE(g);
  EXPECT_EQ(RelAck(*g), 8);
}

TEST_F(TcpClosedTest, AckToNobodyIsResetWithItsNumber) {
  our_iss_ = 1000;
  Send({.flags = kAck, .seq = 5, .ack = 7});
  std::optional<Got> g = Next();
  ASSERT_TRUE(g);
  EXPECT_EQ(g->segment.flags, kRst);
  EXPECT_EQ(g->segment.seq.value(), 1007u);
}

TEST_F(TcpClosedTest, ResetToNobodyIsIgnored) {
  Send({.flags = kRst, .seq = 5});
  ExpectSilence();
}

TEST_F(TcpClosedTest, BadChecksumIsDroppedAndCounted) {  // RFC 9293 3.1, MUST-3
  Listener();
  TcpSegment t;
  t.src_port = 1;
  t.dst_port = kOurPort;
  t.flags = kSyn;
  Packet p;
  t.Write(p.Prepend(t.header_size()));
  IpHeader h;
  h.src = peer_;
  h.dst = our_;
  h.protocol = kProtoTcp;
  h.Write(p.Prepend(h.size()), kTcpHeader);
  stack_->Input(tun_, {p.Flatten()});
  ExpectSilence();
  EXPECT_EQ(stack_->GetCounters().tcp.in_csum_errors, 1u);
}

// ---- LISTEN: RFC 9293 3.10.7.2 ----

TEST_F(TcpListenTest, AckInListenIsReset) {  // second check
  Listener();
  our_iss_ = 500;
  Send({.flags = kAck, .seq = 1, .ack = 1});
  std::optional<Got> g = Next();
  ASSERT_TRUE(g);
  EXPECT_EQ(g->segment.flags, kRst);
  EXPECT_EQ(g->segment.seq.value(), 501u);
}

TEST_F(TcpListenTest, ResetInListenIsIgnored) {  // first check
  Listener();
  Send({.flags = kRst, .seq = 1});
  ExpectSilence();
}

TEST_F(TcpListenTest, SegmentWithoutSynIsDropped) {  // fourth check
  Listener();
  Send({.flags = 0, .seq = 1, .data = "x"});
  ExpectSilence();
}

TEST_F(TcpListenTest, SynAckCarriesTheOptionsAskedFor) {  // RFC 7323 2.2, 3.2; RFC 2018 2
  Listener();
  timestamps_ = true;
  Send({.flags = kSyn, .seq = 0, .options = SynOptions()});
  std::optional<Got> g = Next();
  ASSERT_TRUE(g);
  EXPECT_EQ(g->segment.flags, kSyn | kAck);
  EXPECT_EQ(g->segment.options.mss, 1460);
  EXPECT_TRUE(g->segment.options.sack_permitted);
  EXPECT_EQ(g->segment.options.window_scale, 7);
  ASSERT_TRUE(g->segment.options.timestamps);
  EXPECT_EQ(g->segment.options.timestamps->echo, PeerTs());
}

TEST_F(TcpListenTest, SynAckCarriesNoOptionNotAskedFor) {  // RFC 7323 1.3, RFC 2018 2
  Listener();
  Send({.flags = kSyn, .seq = 0});
  std::optional<Got> g = Next();
  ASSERT_TRUE(g);
  EXPECT_FALSE(g->segment.options.sack_permitted);
  EXPECT_FALSE(g->segment.options.window_scale);
  EXPECT_FALSE(g->segment.options.timestamps);
}

TEST_F(TcpListenTest, SynAckIsRepeatedWithDoublingAndGivenUp) {  // RFC 6298 5.5
  Listener();
  Send({.flags = kSyn, .seq = 0});
  ASSERT_TRUE(Next());
  int64_t wait = 1000;
  for (int i = 0; i < 5; i++) {
    AdvanceMs(wait - 1);
    ExpectSilence();
    AdvanceMs(1);
    ASSERT_TRUE(Next()) << i;
    wait *= 2;
  }
  AdvanceMs(200000);
  ExpectSilence();
  // Forgotten: an ACK for it is a stranger's.
  Send({.flags = kAck, .seq = 1, .ack = 1});
  EXPECT_TRUE(Next()->Has(kRst));
}

TEST_F(TcpListenTest, RepeatedSynGetsTheSameSynAck) {  // RFC 9293 3.10.7.4
  Listener();
  Send({.flags = kSyn, .seq = 0});
  const Got first = *Next();
  Send({.flags = kSyn, .seq = 0});
  const Got second = *Next();
  EXPECT_EQ(first.segment.seq, second.segment.seq);
}

TEST_F(TcpListenTest, WrongAckInSynReceivedIsReset) {  // RFC 9293 3.10.7.4, fifth check
  Listener();
  Send({.flags = kSyn, .seq = 0});
  our_iss_ = Next()->segment.seq.value();
  Send({.flags = kAck, .seq = 1, .ack = 5});
  Expect(kRst, 5, 0);
}

TEST_F(TcpListenTest, DataWithTheLastAckIsDelivered) {  // RFC 9293 3.10.7.4
  Ref<TcpEndpoint> l = Listener();
  Send({.flags = kSyn, .seq = 0});
  our_iss_ = Next()->segment.seq.value();
  Send({.flags = kAck | kPsh, .seq = 1, .ack = 1, .data = "hello"});
  NetResult<Ref<TcpEndpoint>> e = l->Accept();
  ASSERT_TRUE(e.ok());
  kept_.push_back(*e);
  ExpectAck(6);
  EXPECT_EQ(Read(**e), "hello");
}

TEST_F(TcpListenTest, InitialSequenceNumbersDifferByTuple) {  // RFC 6528 3
  Listener();
  Send({.flags = kSyn, .seq = 0});
  const uint32_t a = Next()->segment.seq.value();
  peer_port_++;
  Send({.flags = kSyn, .seq = 0});
  const uint32_t b = Next()->segment.seq.value();
  EXPECT_GT(b - a, 1000u);
  EXPECT_GT(a - b, 1000u);
}

TEST_F(TcpListenTest, AcceptQueueHoldsBacklogPlusOne) {  // listen(2); Linux sk_acceptq_is_full()
  Ref<TcpEndpoint> l = Listener(1);
  for (int i = 0; i < 2; i++) {
    Send({.flags = kSyn, .seq = 0});
    our_iss_ = Next()->segment.seq.value();
    Send({.flags = kAck, .seq = 1, .ack = 1});
    peer_port_++;
  }
  Send({.flags = kSyn, .seq = 0});
  ExpectSilence();  // dropped: the client asks again
  EXPECT_GE(stack_->GetCounters().tcp.listen_overflows, 1u);
  EXPECT_TRUE(l->Accept().ok());
  Send({.flags = kSyn, .seq = 0});
  EXPECT_TRUE(Next().has_value());
}

TEST_F(TcpListenTest, SynFloodIsAnsweredWithCookiesAndBoundedMemory) {  // RFC 4987 3.6
  Ref<TcpEndpoint> l = Listener(8);
  for (int i = 0; i < 5000; i++) {
    peer_port_ = static_cast<uint16_t>(10000 + i);
    Send({.flags = kSyn, .seq = i});
  }
  EXPECT_EQ(Drain().size(), 5000u);
  EXPECT_GE(stack_->GetCounters().tcp.syn_cookies_sent, 4900u);
  // A legitimate client gets through by cookie, with its options in the timestamp.
  peer_port_ = 9000;
  timestamps_ = true;
  Send({.flags = kSyn, .seq = 0, .options = SynOptions()});
  const Got synack = *Next();
  our_iss_ = synack.segment.seq.value();
  Send({.flags = kAck, .seq = 1, .ack = 1});
  NetResult<Ref<TcpEndpoint>> e = l->Accept();
  ASSERT_TRUE(e.ok());
  kept_.push_back(*e);
  const TcpInfo info = (*e)->Info();
  EXPECT_TRUE(info.sack);
  EXPECT_TRUE(info.timestamps);
  EXPECT_EQ(info.send_scale, 7);
  EXPECT_EQ(info.send_mss, 1448u);
}

TEST_F(TcpListenTest, ForgedCookieIsReset) {  // RFC 4987 3.6
  Ref<TcpEndpoint> l = Listener(1);
  for (int i = 0; i < 10; i++) {
    peer_port_ = static_cast<uint16_t>(10000 + i);
    Send({.flags = kSyn, .seq = 0});
  }
  Drain();
  our_iss_ = 12345;
  for (int i = 0; i < 100; i++) {
    peer_port_ = static_cast<uint16_t>(20000 + i);
    Send({.flags = kAck, .seq = 1, .ack = 1 + i * 7919});
    EXPECT_TRUE(Next()->Has(kRst));
  }
  EXPECT_FALSE(l->Accept().ok());
}

TEST_F(TcpListenTest, CookiesOffDropsWhenTheQueueIsFull) {  // tcp(7) tcp_syncookies
  StackConfig c;
  c.tcp_syncookies = 0;
  Start(c);
  Listener(4);
  for (int i = 0; i < 10; i++) {
    peer_port_++;
    Send({.flags = kSyn, .seq = 0});
  }
  EXPECT_EQ(Drain().size(), 4u);
}

TEST_F(TcpListenTest, DeferAcceptWaitsForData) {  // tcp(7) TCP_DEFER_ACCEPT
  Ref<TcpEndpoint> l = Listener();
  ASSERT_TRUE(l->SetOption(Option::kDeferAccept, 10).ok());
  Send({.flags = kSyn, .seq = 0});
  our_iss_ = Next()->segment.seq.value();
  Send({.flags = kAck, .seq = 1, .ack = 1});
  EXPECT_FALSE(l->Accept().ok());
  Send({.flags = kAck, .seq = 1, .ack = 1, .data = "x"});
  NetResult<Ref<TcpEndpoint>> e = l->Accept();
  ASSERT_TRUE(e.ok());
  kept_.push_back(*e);
}

TEST_F(TcpListenTest, ClosingTheListenerResetsTheWaiting) {  // RFC 9293 3.10.4
  Ref<TcpEndpoint> l = Listener();
  Send({.flags = kSyn, .seq = 0});
  our_iss_ = Next()->segment.seq.value();
  Send({.flags = kAck, .seq = 1, .ack = 1});
  l->Close();
  Expect(kRst | kAck, 1, 1);
}

// ---- SYN-SENT: RFC 9293 3.10.7.3 ----

TEST_F(TcpSynSentTest, SynCarriesOurOptions) {  // RFC 9293 3.7.1, RFC 7323, RFC 2018
  Ref<TcpEndpoint> e = NewEndpoint();
  const Got syn = Connect(e);
  EXPECT_EQ(syn.segment.flags, kSyn);
  EXPECT_EQ(syn.segment.options.mss, 1460);
  EXPECT_TRUE(syn.segment.options.sack_permitted);
  EXPECT_TRUE(syn.segment.options.timestamps.has_value());
  EXPECT_EQ(syn.segment.options.window_scale, 7);
  EXPECT_TRUE(syn.dont_fragment);  // RFC 1191 3
}

TEST_F(TcpSynSentTest, SynAckEstablishes) {  // fourth check
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  EXPECT_EQ(e->Poll() & kWritable, 0u);
  Send({.flags = kSyn | kAck, .seq = 0, .ack = 1, .options = SynOptions()});
  ExpectAck(1);
  EXPECT_NE(e->Poll() & kWritable, 0u);
  EXPECT_TRUE(e->Connect({peer_, kPeerPort}).ok());
  EXPECT_EQ(e->Connect({peer_, kPeerPort}).error(), NetError::kIsConnected);
}

TEST_F(TcpSynSentTest, ConnectAgainSaysAlready) {  // connect(2)
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  EXPECT_EQ(e->Connect({peer_, kPeerPort}).error(), NetError::kAlready);
}

TEST_F(TcpSynSentTest, WrongAckIsReset) {  // first check
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  Send({.flags = kAck, .seq = 0, .ack = 7});
  Expect(kRst, 7, 0);
  EXPECT_EQ(e->State(), TcpState::kSynSent);
}

TEST_F(TcpSynSentTest, WrongAckWithResetIsIgnored) {  // first check
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  Send({.flags = kAck | kRst, .seq = 0, .ack = 7});
  ExpectSilence();
  EXPECT_EQ(e->State(), TcpState::kSynSent);
}

TEST_F(TcpSynSentTest, ResetRefuses) {  // second check
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  Send({.flags = kAck | kRst, .seq = 0, .ack = 1});
  EXPECT_EQ(e->State(), TcpState::kClosed);
  EXPECT_EQ(e->TakeError(), NetError::kRefused);
  EXPECT_FALSE(e->TakeError());
}

TEST_F(TcpSynSentTest, ResetWithoutAckIsIgnored) {  // second check
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  Send({.flags = kRst, .seq = 0});
  EXPECT_EQ(e->State(), TcpState::kSynSent);
}

TEST_F(TcpSynSentTest, SegmentWithoutSynIsDropped) {  // fifth check
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  Send({.flags = kAck, .seq = 0, .ack = 1});
  ExpectSilence();
  EXPECT_EQ(e->State(), TcpState::kSynSent);
}

TEST_F(TcpSynSentTest, SimultaneousOpen) {  // RFC 9293 3.5, figure 7
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  Send({.flags = kSyn, .seq = 0, .options = SynOptions()});
  Expect(kSyn | kAck, 0, 1);
  EXPECT_EQ(e->State(), TcpState::kSynReceived);
  Send({.flags = kSyn | kAck, .seq = 0, .ack = 1, .options = SynOptions()});
  EXPECT_EQ(e->State(), TcpState::kEstablished);
  Drain();
  ASSERT_TRUE(Write(*e, "hi").ok());
  Expect(kAck | kPsh, 1, 1, 2);
}

TEST_F(TcpSynSentTest, SynIsRepeatedWithDoublingThenTimesOut) {  // RFC 6298 2.1, 5.5; tcp(7)
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  int64_t wait = 1000;
  for (int i = 0; i < 6; i++) {
    AdvanceMs(wait - 1);
    ExpectSilence();
    AdvanceMs(1);
    Expect(kSyn, 0, 0);
    wait *= 2;
  }
  AdvanceMs(wait);
  ExpectSilence();
  EXPECT_EQ(e->TakeError(), NetError::kTimedOut);
  EXPECT_EQ(e->State(), TcpState::kClosed);
}

TEST_F(TcpSynSentTest, SynCountBoundsTheRepeats) {  // tcp(7) TCP_SYNCNT
  Ref<TcpEndpoint> e = NewEndpoint();
  ASSERT_TRUE(e->SetOption(Option::kSynCount, 2).ok());
  Connect(e);
  AdvanceMs(60000);
  EXPECT_EQ(Drain().size(), 2u);
  EXPECT_EQ(e->TakeError(), NetError::kTimedOut);
}

TEST_F(TcpSynSentTest, PeerWithoutMssOptionGets536) {  // RFC 9293 3.7.1, MUST-15
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  Send({.flags = kSyn | kAck, .seq = 0, .ack = 1});
  ExpectAck(1);
  ASSERT_TRUE(Write(*e, std::string(536, 'a')).ok());
  Expect(kAck | kPsh, 1, 1, 536);
}

TEST_F(TcpSynSentTest, WindowOfTheSynAckIsNotScaled) {  // RFC 7323 2.2
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  Send({.flags = kSyn | kAck, .seq = 0, .ack = 1, .window = 1000, .options = SynOptions()});
  ExpectAck(1);
  ASSERT_TRUE(Write(*e, std::string(5000, 'a')).ok());
  size_t sent = 0;
  for (const Got& g : Drain()) sent += g.data.size();
  EXPECT_LE(sent, 1000u);
  EXPECT_GE(sent, 500u);
}

TEST_F(TcpSynSentTest, CloseSendsNothing) {  // RFC 9293 3.10.4
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  e->Close();
  ExpectSilence();
  Send({.flags = kSyn | kAck, .seq = 0, .ack = 1});
  EXPECT_TRUE(Next()->Has(kRst));
}

TEST_F(TcpSynSentTest, DataOfTheSynAckIsTaken) {  // RFC 9293 3.10.7.3
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  Send({.flags = kSyn | kAck, .seq = 0, .ack = 1, .data = "abc", .options = SynOptions()});
  ExpectAck(4);
  EXPECT_EQ(Read(*e), "abc");
}

// ---- ESTABLISHED: RFC 5961 ----

TEST_F(TcpEstablishedTest, ExactResetEnds) {  // RFC 5961 3.2
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kRst, .seq = 1});
  EXPECT_EQ(e->State(), TcpState::kClosed);
  EXPECT_EQ(e->TakeError(), NetError::kReset);
  EXPECT_EQ(Write(*e, "x").error(), NetError::kPipe);
}

TEST_F(TcpEstablishedTest, ResetInTheWindowIsChallenged) {  // RFC 5961 3.2
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kRst, .seq = 2});
  ExpectAck(1);
  EXPECT_EQ(e->State(), TcpState::kEstablished);
}

TEST_F(TcpEstablishedTest, ResetOutsideTheWindowIsIgnored) {  // RFC 5961 3.2
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kRst, .seq = 1000000});
  Send({.flags = kRst, .seq = -5});
  ExpectSilence();
  EXPECT_EQ(e->State(), TcpState::kEstablished);
}

TEST_F(TcpEstablishedTest, SynIsChallenged) {  // RFC 5961 4.2
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kSyn, .seq = 1});
  ExpectAck(1);
  EXPECT_EQ(e->State(), TcpState::kEstablished);
}

TEST_F(TcpEstablishedTest, ChallengesAreLimited) {  // RFC 5961 7
  Established();
  for (int i = 0; i < 100; i++) Send({.flags = kSyn, .seq = 1});
  EXPECT_EQ(Drain().size(), 1u);
  AdvanceMs(600);
  Send({.flags = kSyn, .seq = 1});
  EXPECT_EQ(Drain().size(), 1u);
}

TEST_F(TcpEstablishedTest, AckOfTheUnsentIsChallengedAndDropped) {  // RFC 5961 5.2
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kAck, .seq = 1, .ack = 100, .data = "evil"});
  ExpectAck(1);
  EXPECT_EQ(Read(*e), "");
}

TEST_F(TcpEstablishedTest, AckOlderThanTheWindowIsChallengedAndDropped) {  // RFC 5961 5.2
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kAck, .seq = 1, .ack = -10000000, .data = "evil"});
  ExpectAck(1);
  EXPECT_EQ(Read(*e), "");
}

TEST_F(TcpEstablishedTest, SegmentWithoutAckIsDropped) {  // RFC 9293 3.10.7.4, fifth check
  Ref<TcpEndpoint> e = Established();
  Send({.flags = 0, .seq = 1, .data = "evil"});
  ExpectSilence();
  EXPECT_EQ(Read(*e), "");
}

// ---- Closing: RFC 9293 3.6 ----

TEST_F(TcpCloseTest, ActiveCloseGoesThroughTimeWait) {  // RFC 9293 3.6, figure 12
  Ref<TcpEndpoint> e = Established();
  e->Close();
  Expect(kAck | kFin, 1, 1);
  EXPECT_EQ(e->State(), TcpState::kFinWait1);
  Send({.flags = kAck, .seq = 1, .ack = 2});
  EXPECT_EQ(e->State(), TcpState::kFinWait2);
  Send({.flags = kAck | kFin, .seq = 1, .ack = 2});
  ExpectAck(2, 2);
  EXPECT_EQ(stack_->GetCounters().tcp.time_waited, 1u);
  // 2 MSL: a repeated FIN is acknowledged again, then it is over.
  Send({.flags = kAck | kFin, .seq = 1, .ack = 2});
  ExpectAck(2, 2);
  AdvanceMs(61000);
  Send({.flags = kAck | kFin, .seq = 1, .ack = 2});
  EXPECT_TRUE(Next()->Has(kRst));
}

TEST_F(TcpCloseTest, PassiveClose) {  // RFC 9293 3.6, figure 12
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kAck | kFin, .seq = 1, .ack = 1});
  ExpectAck(2);
  EXPECT_EQ(e->State(), TcpState::kCloseWait);
  NetResult<Chain> end = e->Peek(10);
  ASSERT_TRUE(end.ok());
  EXPECT_TRUE(end->empty());
  EXPECT_NE(e->Poll() & kReadHangup, 0u);
  e->Close();
  Expect(kAck | kFin, 1, 2);
  EXPECT_EQ(e->State(), TcpState::kLastAck);
  Send({.flags = kAck, .seq = 2, .ack = 2});
  EXPECT_EQ(e->State(), TcpState::kClosed);
}

TEST_F(TcpCloseTest, SimultaneousClose) {  // RFC 9293 3.6, figure 13
  Ref<TcpEndpoint> e = Established();
  e->Close();
  Expect(kAck | kFin, 1, 1);
  Send({.flags = kAck | kFin, .seq = 1, .ack = 1});
  EXPECT_EQ(e->State(), TcpState::kClosing);
  ExpectAck(2, 2);
  Send({.flags = kAck, .seq = 2, .ack = 2});
  EXPECT_EQ(e->State(), TcpState::kClosed);
  EXPECT_EQ(stack_->GetCounters().tcp.time_waited, 1u);
}

TEST_F(TcpCloseTest, HalfCloseStillReceives) {  // RFC 9293 3.6
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->Shutdown(false, true).ok());
  Expect(kAck | kFin, 1, 1);
  Send({.flags = kAck, .seq = 1, .ack = 2, .data = "late"});
  EXPECT_EQ(Read(*e), "late");
  EXPECT_EQ(Write(*e, "x").error(), NetError::kPipe);
}

TEST_F(TcpCloseTest, FinFollowsTheDataQueued) {  // RFC 9293 3.10.4
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(Write(*e, "abc").ok());
  Expect(kAck | kPsh, 1, 1, 3);
  ASSERT_TRUE(Write(*e, "def").ok());  // held by Nagle
  ExpectSilence();
  e->Close();
  Expect(kAck | kPsh | kFin, 4, 1, 3);
}

TEST_F(TcpCloseTest, UnreadDataMakesAReset) {  // RFC 1122 4.2.2.13, RFC 2525 2.17
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kAck, .seq = 1, .ack = 1, .data = "unread"});
  Drain();
  e->Close();
  Expect(kAck | kRst, 1, 7);
}

TEST_F(TcpCloseTest, LingerZeroMakesAReset) {  // socket(7) SO_LINGER
  Ref<TcpEndpoint> e = Established();
  e->SetLinger(Duration());
  e->Close();
  Expect(kAck | kRst, 1, 1);
  EXPECT_EQ(e->State(), TcpState::kClosed);
}

TEST_F(TcpCloseTest, DataAfterCloseIsReset) {  // RFC 1122 4.2.2.13
  Ref<TcpEndpoint> e = Established();
  e->Close();
  Expect(kAck | kFin, 1, 1);
  Send({.flags = kAck, .seq = 1, .ack = 2, .data = "late"});
  EXPECT_TRUE(Next()->Has(kRst));
  EXPECT_EQ(e->State(), TcpState::kClosed);
}

TEST_F(TcpCloseTest, OrphanLeavesFinWait2) {  // tcp(7) tcp_fin_timeout
  Ref<TcpEndpoint> e = Established();
  e->Close();
  Expect(kAck | kFin, 1, 1);
  Send({.flags = kAck, .seq = 1, .ack = 2});
  AdvanceMs(59000);
  EXPECT_EQ(e->State(), TcpState::kFinWait2);
  AdvanceMs(1100);
  EXPECT_EQ(e->State(), TcpState::kClosed);
}

TEST_F(TcpCloseTest, SocketThatLivesStaysInFinWait2) {  // RFC 9293 3.6.1
  Ref<TcpEndpoint> e = Established();
  ASSERT_TRUE(e->Shutdown(false, true).ok());
  Drain();
  Send({.flags = kAck, .seq = 1, .ack = 2});
  AdvanceMs(1000000);
  EXPECT_EQ(e->State(), TcpState::kFinWait2);
}

TEST_F(TcpCloseTest, FinIsRepeated) {  // RFC 9293 3.8.1
  Ref<TcpEndpoint> e = Established(SynOptions(1460, false));
  e->Close();
  Expect(kAck | kFin, 1, 1);
  AdvanceMs(1000);
  Expect(kAck | kFin, 1, 1);
}

TEST_F(TcpCloseTest, NewSynLeavesTimeWait) {  // RFC 9293 3.6.1, RFC 6191
  Ref<TcpEndpoint> e = Established();
  e->Close();
  Expect(kAck | kFin, 1, 1);
  Send({.flags = kAck | kFin, .seq = 1, .ack = 2});
  ExpectAck(2, 2);
  Send({.flags = kSyn, .seq = 1});  // old: refused with an ACK
  ExpectAck(2, 2);
  Send({.flags = kSyn, .seq = 5000});
  std::optional<Got> g = Next();
  ASSERT_TRUE(g);
  EXPECT_EQ(g->segment.flags, kSyn | kAck);
}

TEST_F(TcpCloseTest, FinOutOfOrderWaitsForTheGap) {  // RFC 9293 3.10.7.4, eighth check
  Ref<TcpEndpoint> e = Established();
  Send({.flags = kAck | kFin, .seq = 4, .ack = 1, .data = "def"});
  ExpectAck(1);
  EXPECT_EQ(e->State(), TcpState::kEstablished);
  Send({.flags = kAck, .seq = 1, .ack = 1, .data = "abc"});
  ExpectAck(8);
  EXPECT_EQ(e->State(), TcpState::kCloseWait);
  EXPECT_EQ(Read(*e), "abcdef");
}

TEST_F(TcpCloseTest, PortIsFreeAgainAfterTimeWait) {  // RFC 9293 3.6.1
  Ref<TcpEndpoint> e = Established();
  listener_->Close();
  e->Close();
  Drain();
  Send({.flags = kAck | kFin, .seq = 1, .ack = 2});
  Drain();
  Ref<TcpEndpoint> again = NewEndpoint();
  EXPECT_EQ(again->Bind({our_, kOurPort}).error(), NetError::kAddrInUse);
  AdvanceMs(61000);
  EXPECT_TRUE(again->Bind({our_, kOurPort}).ok());
}

TEST_F(TcpCloseTest, DisconnectFreesTheEndpoint) {  // connect(2), AF_UNSPEC
  Ref<TcpEndpoint> e = NewEndpoint();
  Connect(e);
  Send({.flags = kSyn | kAck, .seq = 0, .ack = 1});
  ExpectAck(1);
  EXPECT_TRUE(e->Connect({IpAddr(), 0}).ok());
  EXPECT_TRUE(Next()->Has(kRst));
  EXPECT_EQ(e->Connect({peer_, kPeerPort}).error(), NetError::kInProgress);
}

}  // namespace
}  // namespace ringwall::net::testing
