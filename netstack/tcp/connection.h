// TcpConnection: one connection's state machine. Does no I/O and reads no clock (rule R17): time is
// a parameter, segments leave through TcpUser. Not thread-safe; the stack's lock guards it.
// Read RFC 9293 section 3.10 before editing, and the RFC named at each part.
//
// Positions are stream offsets of 64 bits (see queues.h): the SYN is 0, data starts at 1, the FIN
// follows the last byte.
#ifndef RINGWALL_NETSTACK_TCP_CONNECTION_H_
#define RINGWALL_NETSTACK_TCP_CONNECTION_H_

#include <memory>
#include <optional>
#include <utility>

#include "netstack/host.h"
#include "netstack/tcp/congestion.h"
#include "netstack/tcp/queues.h"
#include "netstack/tcp/rtt.h"
#include "netstack/tcp/scoreboard.h"
#include "netstack/tcp/types.h"

namespace ringwall::net {

struct SocketInfo;

class TcpConnection {
 public:
  // `mss`: the payload that one packet of the path carries without TCP options.
  TcpConnection(TcpUser& user, const TcpSettings& settings, uint32_t mss);

  // ---- Opening ----
  // Sends the SYN. RFC 9293 3.10.1
  void Connect(uint32_t iss, uint32_t ts_offset, TimePoint now) { Connect(iss, ts_offset, now, {}, {}); }
  // With Fast Open (RFC 7413 4.2.1): `data`, already cut to what fits, rides on the SYN.
  void Connect(uint32_t iss, uint32_t ts_offset, TimePoint now, const TcpFastOpen& fast, Chain data);
  // A listener's child that a SYN with a good cookie made: established but for the client's ACK.
  void AcceptedFast(const TcpAgreed& agreed, uint32_t send_window, Chain data, bool fin,
                    const TcpFastOpen& answer, TimePoint now);
  // Such a child before that ACK: it sends and receives.
  bool fast_child() const { return fast_child_; }
  // A listener's child whose handshake the listener has done. `ack`: the segment that ended it.
  void Accepted(const TcpAgreed& agreed, uint32_t send_window, std::optional<Duration> rtt,
                TimePoint now);
  // The window that a SYN of ours tells.
  static uint16_t SynWindow(const TcpSettings& s);

  // ---- The network's side ----
  void OnSegment(const TcpSegment& segment, Chain payload, bool ecn_ce, TimePoint now);
  void OnDeadline(TimePoint now);
  TimePoint NextDeadline() const;
  // ICMP said that packets of `mss` payload are the largest. RFC 1191, RFC 8201
  void SetMss(uint32_t mss, TimePoint now);
  // A quoted sequence number is in flight: RFC 5927 4.
  bool SequenceInFlight(uint32_t seq) const;
  // An ICMP error that may end a handshake. RFC 1122 4.2.3.9, RFC 5461
  void OnSoftError(NetError e, bool hard, TimePoint now);

  // ---- The user's side ----
  // How many of n bytes the send buffer takes now: as Linux, the room of the last segment that waits, and a
  // whole one for as long as what is charged is below SO_SNDBUF.
  size_t SendSpace(size_t n) const;
  // What is charged against SO_SNDBUF: bytes, and what Linux's buffers cost beside them.
  size_t send_cost() const { return send_.bytes() + parts_.size() * kPartCost; }
  // The same of SO_RCVBUF.
  size_t receive_cost() const { return receive_.bytes() + ooo_.cost(); }
  // sk_stream_is_writeable(): a third of the buffer is free, and not much waits.
  bool Writable() const {
    return send_cost() + send_cost() / 2 <= settings_.send_buffer && 2 * unsent() < settings_.notsent_lowat;
  }
  // Preconditions: the write side is open. Takes all of data.
  void Send(Chain data, bool push, TimePoint now);
  void SendUrgent(uint8_t byte, TimePoint now);
  // What the window lets out goes, however small: TCP_NAGLE_PUSH.
  void Push(TimePoint now);
  // Readable bytes up to n; stops at the urgent mark.
  Chain Peek(size_t n, size_t skip = 0) const;
  // Takes n of them away.
  void Consume(size_t n, TimePoint now);
  size_t Readable() const { return receive_.bytes(); }
  // The urgent byte: MSG_OOB.
  NetResult<uint8_t> TakeUrgent(bool peek);
  // Whether the next byte is the urgent one, which no plain read gives.
  bool UrgentNext() const {
    return urgent_state_ != Urgent::kNone && urgent_at_ == read_at_ && !settings_.oob_inline &&
           Readable() > 0;
  }
  // Takes that byte away, as a plain read does that comes to it. Preconditions: UrgentNext().
  void SkipUrgent();
  void SetOobInline(bool on) { settings_.oob_inline = on; }
  // shutdown came before connect: a simultaneous open ends with a FIN.
  void ShutEarly() { shut_early_ = true; }
  // What a read could give before the mark (tcp_inq()).
  size_t ReadableToMark() const {
    const size_t all = Readable();
    if (urgent_state_ == Urgent::kNone || settings_.oob_inline || urgent_at_ < read_at_) return all;
    return static_cast<size_t>(std::min<uint64_t>(all, urgent_at_ - read_at_));
  }
  bool AtMark(size_t ahead = 0) const;
  // Whether MSG_OOB has something to give, or to wait for.
  bool UrgentLeft() const {
    return !settings_.oob_inline && (urgent_state_ == Urgent::kNotYet || urgent_state_ == Urgent::kValid);
  }
  bool HasUrgent() const { return urgent_state_ == Urgent::kValid; }
  void ShutdownWrite(TimePoint now);
  void ShutdownRead();
  // No user any more. With `abort` a reset goes out at once.
  void Close(bool abort, TimePoint now);
  void ChangeSettings(const TcpSettings& settings, TimePoint now);
  void SetQuickAck(bool on, TimePoint now);

  TcpState state() const { return state_; }
  const TcpSettings& settings() const { return settings_; }
  bool write_shut() const { return fin_queued_; }
  bool read_shut() const { return read_shut_ || fin_received_; }
  bool fin_received() const { return fin_received_; }
  bool orphaned() const { return orphaned_; }
  size_t unsent() const {
    return static_cast<size_t>(send_.end() - std::min(snd_nxt_, send_.end()));
  }
  // Sequence numbers of ours that the peer has not acknowledged, a FIN's among them.
  size_t unacked() const {
    const bool fin = fin_queued_ && !finished_ && snd_una_ <= send_.end();
    return send_.bytes() + (fin ? 1 : 0);
  }
  uint64_t written() const { return send_.end() - 1; }
  uint64_t arrived() const { return std::max<uint64_t>(std::min(snd_una_, send_.end()), 1) - 1; }
  uint32_t mss() const { return EffectiveMss(); }
  uint16_t peer_mss() const { return agreed_.peer_mss; }
  bool HasReceivedData() const { return bytes_received_ != 0; }
  TcpInfo Info(TimePoint now) const;
  void DescribeTimer(SocketInfo& info, TimePoint now) const;
  // For TIME-WAIT.
  const TcpAgreed& agreed() const { return agreed_; }
  uint32_t snd_nxt_seq() const { return agreed_.iss + static_cast<uint32_t>(snd_nxt_); }
  uint32_t rcv_nxt_seq() const { return agreed_.irs + static_cast<uint32_t>(rcv_nxt_); }
  uint32_t receive_window() const;
  // 1 ms ticks: RFC 7323 5.4.
  uint32_t TsNow(TimePoint now) const {
    return static_cast<uint32_t>(now.millis()) + agreed_.ts_offset;
  }
  // What a SYN or a SYN-ACK of ours carries; shared with the listener.
  static TcpOptions SynOptions(const TcpSettings& s, uint32_t mss, uint32_t ts_now);
  static uint8_t ScaleFor(size_t buffer_max);
  // What both sides want of each other, from a received SYN.
  static void Agree(TcpAgreed& a, const TcpSettings& s, const TcpSegment& syn);

 private:
  enum class Recovery : uint8_t { kOpen, kCwr, kFast, kLoss };
  enum class Urgent : uint8_t { kNone, kNotYet, kValid, kRead };

  // rcv.cc: the order of RFC 9293 3.10.7.
  void SynSentSegment(const TcpSegment& s, Chain payload, TimePoint now);
  bool CheckSequence(const TcpSegment& s, int64_t seq, uint32_t length, TimePoint now);
  void HandleReset(int64_t seq, TimePoint now);
  bool PawsRejects(const TcpSegment& s, TimePoint now) const;
  void HandleData(int64_t seq, Chain payload, bool fin, TimePoint now);
  void AcceptInOrder(Chain data, TimePoint now);
  void HandleFin(TimePoint now);
  void HandleUrgent(const TcpSegment& s, int64_t seq);
  void NoteUrgentByte(const Chain& data, uint64_t at);
  void DecideAck(size_t received, bool out_of_order, TimePoint now);
  void GrowReceiveBuffer(TimePoint now);
  void ChallengeAck(TimePoint now);
  void Establish(TimePoint now);
  void InitBuffers();
  // Ends the connection.
  void Finish(std::optional<NetError> error);
  void Reset(std::optional<NetError> error, TimePoint now);

  // ack.cc
  bool HandleAck(const TcpSegment& s, int64_t seq, bool had_data, TimePoint now);
  // What a first block that is none reports: RFC 2883.
  enum class Duplicate : uint8_t { kNone, kRepeat, kProbe };
  void ReadSacks(const TcpSegment& s, uint64_t ack, TimePoint now, Delivery& d, Duplicate* dsack);
  bool UpdateWindow(const TcpSegment& s, int64_t seq, uint64_t ack);
  void Congest(const TcpSegment& s, const Delivery& d, bool advanced, bool dup, bool dsack,
               TimePoint now);
  void Prr(uint64_t delivered, bool safe);
  void EnterRecovery(TimePoint now);
  void EnterCwr(TimePoint now);
  void LeaveRecovery(bool undo, TimePoint now);
  bool DetectLoss(TimePoint now);
  Duration ReorderWindow() const;
  void TlpAcked(const TcpSegment& s, uint64_t ack, bool dup, bool reported, TimePoint now);
  void OurFinAcked(TimePoint now);

  // snd.cc
  void Output(TimePoint now, bool probe = false);
  void NoteWindowUse();
  bool MaySend(uint32_t size, bool last, TimePoint now) const;
  bool ResendLost(TimePoint now);
  void ResendFrom(uint64_t start, uint32_t n, TimePoint now);
  void SendNew(uint32_t n, bool fin, TimePoint now);
  void Transmit(uint64_t start, uint32_t n, uint8_t flags, TimePoint now, bool repeat = false);
  uint32_t SegmentsOf(uint64_t bytes) const {
    return static_cast<uint32_t>((bytes + EffectiveMss() - 1) / EffectiveMss());
  }
  void SendSyn(TimePoint now, Chain data = {});
  RateMark MarkRate(TimePoint now);
  void FeedRate(const Delivery& d, TimePoint now);
  // Path MTU probes (RFC 4821): one larger segment of data, its end, and a black hole.
  bool ProbeMtu(TimePoint now);
  bool MtuProbeLost(TimePoint now);
  void LowerMss();
  // When pacing holds the next segment back: arms the timer.
  bool Paced(TimePoint now);
  void NotePaced(uint32_t bytes, TimePoint now);
  void SendAck(TimePoint now);
  // An ACK that the peer must answer: a byte below the window. RFC 9293 3.8.4, 3.8.6.1
  void SendProbe(TimePoint now);
  void SendResetSegment(TimePoint now);
  void FillHeader(TcpSegment& seg, TimePoint now);
  uint16_t WindowField(bool syn);
  uint64_t Pipe() const {
    return snd_nxt_ - snd_una_ - board_.sacked() - board_.lost() - NoSackDup();
  }
  uint64_t NoSackDup() const;
  uint32_t EffectiveMss() const;
  uint64_t SendLimit() const { return snd_una_ + snd_wnd_; }
  uint64_t FinOffset() const { return send_.end(); }
  uint64_t EndToSend() const { return send_.end() + (fin_queued_ ? 1 : 0); }
  bool CanSendData() const;
  void TuneSendBuffer();
  // The payload that Linux puts into one buffer: tcp_xmit_size_goal().
  size_t SizeGoal() const;
  void NoteWritten();
  void ReleaseParts() {
    while (!parts_.empty() && parts_.front() <= snd_una_) parts_.pop_front();
  }
  // Bytes of payload that the receive buffer is for: the rest is what holding them costs.
  size_t FullReceiveSpace() const;
  size_t ReceiveSpace() const;
  void MeasureSegment(size_t size);

  // timer.cc
  void ArmRto(TimePoint now);
  void ArmAfterSend(TimePoint now);
  void OnRto(TimePoint now);
  void OnTlp(TimePoint now);
  void OnPersist(TimePoint now);
  void OnKeepalive(TimePoint now);
  bool TimedOut(int retries, TimePoint since, TimePoint now) const;
  void ArmKeepalive(TimePoint now);
  Duration RtoNow() const;

  TcpUser& user_;
  TcpSettings settings_;
  TcpState state_ = TcpState::kClosed;
  TcpAgreed agreed_;
  uint32_t path_mss_;

  // Sending. RFC 9293 3.3.1
  SendQueue send_;
  static constexpr size_t kPartCost = 576;  // SKB_TRUESIZE(0)
  Ring<uint64_t> parts_;        // the ends of what would be Linux's buffers
  Scoreboard board_;
  uint64_t snd_una_ = 0;
  uint64_t snd_nxt_ = 0;
  uint64_t snd_wnd_ = 0;
  uint64_t snd_wl1_ = 0;
  uint64_t snd_wl2_ = 0;
  uint64_t max_window_ = 0;
  uint64_t small_sent_ = 0;     // end of the last segment below an MSS: Minshall's Nagle
  bool more_follows_ = false;   // MSG_MORE
  std::optional<uint64_t> urgent_out_;  // one past the urgent byte
  bool fin_queued_ = false;
  bool active_ = false;         // connect made it
  bool shut_early_ = false;

  // Congestion.
  CongestionState cc_;
  std::unique_ptr<CongestionControl> algorithm_;
  RttEstimator rtt_;
  Recovery recovery_ = Recovery::kOpen;
  uint64_t recover_ = 0;        // RFC 6582: snd_nxt when recovery began
  uint64_t prr_delivered_ = 0;  // RFC 6937
  uint64_t prr_out_ = 0;
  uint64_t prr_flight_ = 0;
  uint64_t undo_cwnd_ = 0;
  uint64_t undo_ssthresh_ = 0;
  uint64_t undo_marker_ = 0;    // snd_una when it began; 0: no undo possible
  int undo_repeats_ = 0;        // repeats not yet proved needless by D-SACK
  std::optional<uint32_t> repeat_ts_;  // when the first repeat went out: RFC 3522
  uint32_t dup_acks_ = 0;
  bool cwnd_limited_ = false;
  bool reordering_seen_ = false;
  int reo_mult_ = 1;            // RFC 8985 6.2 step 4
  uint64_t reo_round_ = 0;
  int reo_persist_ = 16;
  uint64_t delivered_ = 0;
  uint32_t delivered_parts_ = 0;  // the same in segments
  // The window's use by the last flight, see NoteWindowUse().
  bool window_filled_ = false;
  uint64_t most_out_ = 0, window_use_end_ = 0, window_use_sent_ = 0;
  uint64_t ece_marker_ = 0;     // ECN: one reduction a round trip, RFC 3168 6.1.2
  bool cwr_out_ = false;
  // Delivery rate and pacing.
  TimePoint delivered_at_, first_sent_;
  uint64_t app_limited_ = 0;    // until this much is delivered; 0: not limited
  TimePoint pace_next_;
  // Path MTU by probes: RFC 4821. Sizes as path_mss_.
  uint32_t probe_low_ = 0;      // what is known to pass; 0: no probing
  uint32_t probe_high_ = UINT32_MAX;
  uint32_t probe_size_ = 0;
  uint64_t probe_start_ = 0, probe_end_ = 0;  // the probe that is out; 0: none
  TimePoint probe_over_;        // when the search ended
  uint32_t emit_mss_ = 0;       // of the segment being sent, where it is not the usual one
  // Fast Open.
  TcpFastOpen fast_;
  bool fast_child_ = false, syn_data_ = false, syn_data_acked_ = false;
  // Tail loss probe: RFC 8985 7
  uint64_t tlp_end_ = 0;        // 0: none out
  std::pair<uint64_t, uint64_t> tlp_of_;  // SND.UNA and SND.NXT when it was armed
  bool tlp_repeat_ = false;

  // Receiving.
  ReceiveQueue receive_;
  OutOfOrder ooo_;
  uint64_t rcv_nxt_ = 0;
  uint64_t rcv_wup_ = 0;        // rcv_nxt when an ACK last went out
  uint64_t rcv_edge_ = 0;       // the right edge told to the peer; never moves left
  std::optional<uint64_t> fin_at_;
  bool fin_received_ = false;
  bool read_shut_ = false;
  OffsetBlock dsack_;           // to report next; end 0: none
  TimePoint ts_recent_at_;
  bool ece_echo_ = false;       // RFC 3168 6.1.3
  uint32_t rcv_mss_ = 536;      // estimate of what the peer sends
  size_t since_ack_ = 0;
  bool ack_now_ = false;
  int quick_acks_ = 16;
  bool quick_mode_ = true;
  bool interactive_ = false;    // we answer: acknowledgements ride on data
  Urgent urgent_state_ = Urgent::kNone;
  uint64_t urgent_at_ = 0;
  uint8_t urgent_byte_ = 0;
  uint64_t read_at_ = 1;        // offset of the next byte that the user reads
  // Buffer tuning: RFC-less; compare Linux's tcp_rcv_space_adjust().
  uint64_t tune_copied_ = 0;
  uint64_t tune_mark_ = 0;
  uint32_t scaling_ = 128;      // of 256: how much of a buffer is payload
  static constexpr uint32_t kLeastMeasure = 536;
  uint32_t measured_ = kLeastMeasure;  // the segment size that it was measured with
  uint64_t rcv_ssthresh_ = 0;   // the window told, which grows as the peer fills it
  TimePoint tune_since_;

  // Timers; Never when off.
  TimePoint rto_at_ = TimePoint::Never();
  TimePoint tlp_at_ = TimePoint::Never();
  TimePoint reo_at_ = TimePoint::Never();
  TimePoint persist_at_ = TimePoint::Never();
  TimePoint ack_at_ = TimePoint::Never();
  TimePoint keep_at_ = TimePoint::Never();
  TimePoint fin_wait_at_ = TimePoint::Never();
  TimePoint cork_at_ = TimePoint::Never();
  TimePoint pace_at_ = TimePoint::Never();
  int backoff_ = 0;
  int retries_ = 0;
  int probes_ = 0;
  TimePoint trouble_since_;     // the first unanswered transmission
  TimePoint last_heard_;
  TimePoint last_sent_;
  TimePoint last_data_in_;
  TimePoint syn_sent_at_;
  std::optional<NetError> soft_error_;
  bool orphaned_ = false;
  bool finished_ = false;

  // Facts for TcpInfo.
  uint64_t bytes_acked_ = 0, bytes_received_ = 0, bytes_sent_ = 0, bytes_resent_ = 0;
  uint32_t segs_in_ = 0, segs_out_ = 0, data_in_ = 0, data_out_ = 0, total_repeats_ = 0;
  uint32_t dsacks_ = 0, reorders_ = 0, ooo_in_ = 0;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TCP_CONNECTION_H_
