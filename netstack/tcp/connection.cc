// Opening, closing and the user's calls of a connection.
#include "netstack/tcp/connection.h"

#include <algorithm>

namespace ringwall::net {
namespace {

constexpr uint32_t kInitialSegments = 10;  // RFC 6928 2

}  // namespace

TcpConnection::TcpConnection(TcpUser& user, const TcpSettings& settings, uint32_t mss)
    : user_(user),
      settings_(settings),
      path_mss_(mss),
      algorithm_(MakeCongestionControl(settings.congestion)) {}

uint8_t TcpConnection::ScaleFor(size_t buffer_max) {
  // RFC 7323 2.3: large enough for the largest window that tuning may reach, at most 14.
  uint8_t scale = 0;
  while (scale < 14 && (buffer_max >> scale) > 65535) scale++;
  return scale;
}

TcpOptions TcpConnection::SynOptions(const TcpSettings& s, uint32_t mss, uint32_t ts_now) {
  TcpOptions o;
  o.mss = static_cast<uint16_t>(std::min<uint32_t>(mss, 65535));
  if (s.window_scaling) {
    o.window_scale = ScaleFor(s.receive_buffer_locked ? s.receive_buffer : s.receive_buffer_max);
  }
  o.sack_permitted = s.sack;
  if (s.timestamps) o.timestamps = TcpTimestamps{ts_now, 0};
  return o;
}

uint16_t TcpConnection::SynWindow(const TcpSettings& s) {
  size_t w = s.receive_buffer / 2;
  if (s.window_clamp != 0) w = std::min<size_t>(w, s.window_clamp);
  return static_cast<uint16_t>(std::min<size_t>(w, 65535));
}

void TcpConnection::Agree(TcpAgreed& a, const TcpSettings& s, const TcpSegment& syn) {
  const TcpOptions& o = syn.options;
  a.irs = syn.seq.value();
  a.peer_mss = o.mss.value_or(536);
  // A peer that asks for nothing-sized segments gets small ones, not a division by zero; Linux
  // bounds it by TCP_MIN_SND_MSS.
  a.peer_mss = std::max<uint16_t>(a.peer_mss, 48);
  if (s.window_scaling && o.window_scale) {
    a.window_scaling = true;
    a.send_scale = std::min<uint8_t>(*o.window_scale, 14);  // RFC 7323 2.3
    a.receive_scale = ScaleFor(s.receive_buffer_locked ? s.receive_buffer : s.receive_buffer_max);
  } else {
    a.window_scaling = false;
    a.send_scale = a.receive_scale = 0;
  }
  a.sack = s.sack && o.sack_permitted;
  a.timestamps = s.timestamps && o.timestamps.has_value();
  if (o.timestamps) a.ts_recent = o.timestamps->value;
}

void TcpConnection::Connect(uint32_t iss, uint32_t ts_offset, TimePoint now,
                            const TcpFastOpen& fast, Chain data) {
  fast_ = fast;
  agreed_.iss = iss;
  agreed_.ts_offset = ts_offset;
  state_ = TcpState::kSynSent;
  active_ = true;
  snd_nxt_ = 1;
  syn_sent_at_ = now;
  last_heard_ = now;
  board_.OnSent(0, 1, 1, now);
  if (!data.empty()) {
    for (const Slice& s : data.slices()) send_.Append(s);
    parts_.push_back(send_.end());
    snd_nxt_ += data.size();
    board_.OnSent(1, snd_nxt_, 1, now);
    bytes_sent_ += data.size();
    syn_data_ = true;
  }
  SendSyn(now, std::move(data));
  trouble_since_ = now;
  rto_at_ = now + RtoNow();
}

void TcpConnection::InitBuffers() {
  if (settings_.mtu_probing >= 2) probe_low_ = settings_.base_mss;
  const uint32_t mss = EffectiveMss();
  cc_.mss = mss;
  // RFC 6928 2, with Linux's reading for large segments: ten of them.
  cc_.cwnd = static_cast<uint64_t>(kInitialSegments) * mss;
  // RFC 6928 2: one lost SYN may be a timeout that was too short, two are a loss.
  if (std::max<int>(retries_, agreed_.handshake_repeats) > 1) cc_.cwnd = mss;
  rcv_mss_ = std::clamp<uint32_t>(std::min<uint32_t>(mss, path_mss_), 88, 65535);
  TuneSendBuffer();
  rcv_ssthresh_ = SynWindow(settings_);
  tune_mark_ = std::min<uint64_t>(rcv_ssthresh_, uint64_t{kInitialSegments} * path_mss_);
}

void TcpConnection::Establish(TimePoint now) {
  if (!fast_child_) InitBuffers();
  fast_child_ = false;
  state_ = TcpState::kEstablished;
  retries_ = 0;
  backoff_ = 0;
  rtt_.HandshakeDone();
  soft_error_.reset();
  tune_since_ = now;
  last_data_in_ = now;
  rto_at_ = TimePoint::Never();
  ArmKeepalive(now);
  user_.OnEstablished();
}

void TcpConnection::Accepted(const TcpAgreed& agreed, uint32_t send_window,
                             std::optional<Duration> rtt, TimePoint now) {
  agreed_ = agreed;
  snd_una_ = snd_nxt_ = 1;
  rcv_nxt_ = rcv_wup_ = 1;
  rcv_edge_ = 1 + SynWindow(settings_);
  snd_wnd_ = max_window_ = send_window;
  snd_wl1_ = 0;
  snd_wl2_ = 0;
  last_heard_ = now;
  ts_recent_at_ = now;
  if (rtt) rtt_.Sample(*rtt, now);
  segs_in_ = 1;  // the SYN
  state_ = TcpState::kSynReceived;
  Establish(now);
}

void TcpConnection::AcceptedFast(const TcpAgreed& agreed, uint32_t send_window, Chain data,
                                 bool fin, const TcpFastOpen& answer, TimePoint now) {
  agreed_ = agreed;
  fast_ = answer;
  fast_child_ = true;
  snd_nxt_ = 1;
  rcv_nxt_ = rcv_wup_ = 1;
  rcv_edge_ = 1 + SynWindow(settings_);
  snd_wnd_ = max_window_ = send_window;
  last_heard_ = last_data_in_ = ts_recent_at_ = tune_since_ = syn_sent_at_ = now;
  state_ = TcpState::kSynReceived;
  InitBuffers();
  if (!data.empty()) {
    data.Truncate(static_cast<size_t>(std::min<uint64_t>(data.size(), rcv_edge_ - 1)));
    data_in_++;
    AcceptInOrder(std::move(data), now);
    syn_data_acked_ = true;
  }
  // A FIN behind it is not taken: the client repeats it once it is connected.
  static_cast<void>(fin);
  board_.OnSent(0, 1, 1, now);
  trouble_since_ = now;
  rto_at_ = now + RtoNow();
  Transmit(0, 0, kSyn | kAck, now);
}

void TcpConnection::Finish(std::optional<NetError> error) {
  if (finished_) return;
  finished_ = true;
  state_ = TcpState::kClosed;
  rto_at_ = tlp_at_ = reo_at_ = persist_at_ = ack_at_ = keep_at_ = fin_wait_at_ = cork_at_ =
      pace_at_ = TimePoint::Never();
  ooo_.Clear();
  send_.Clear();
  parts_.clear();
  snd_nxt_ = snd_una_;
  user_.OnClosed(error);
}

void TcpConnection::Reset(std::optional<NetError> error, TimePoint now) {
  if (finished_) return;
  if (state_ != TcpState::kSynSent) SendResetSegment(now);
  Finish(error);
}

// ---- The user's calls ----

size_t TcpConnection::SizeGoal() const {
  const size_t mss = EffectiveMss();
  const size_t most = std::min<size_t>(settings_.max_segment, max_window_ / 2);
  return std::max(mss, most / mss * mss);
}

size_t TcpConnection::SendSpace(size_t n) const {
  const size_t goal = SizeGoal();
  size_t room = 0;
  if (!parts_.empty() && parts_.back() > snd_nxt_) {
    const uint64_t before = parts_.size() > 1 ? parts_[parts_.size() - 2] : snd_una_;
    const uint64_t held = parts_.back() - std::max(before, snd_nxt_);
    room = goal > held ? goal - static_cast<size_t>(held) : 0;
  }
  // sk_stream_memory_free(): TCP_NOTSENT_LOWAT keeps from a new one, too.
  size_t cost = send_cost() + room;
  while (room < n && cost < settings_.send_buffer && unsent() + room < settings_.notsent_lowat) {
    room += goal;
    cost += goal + kPartCost;
  }
  return std::min(n, room);
}

void TcpConnection::NoteWritten() {
  const size_t goal = SizeGoal();
  uint64_t at = parts_.empty() ? std::max<uint64_t>(snd_una_, 1) : parts_.back();
  if (!parts_.empty() && at > snd_nxt_) {
    const uint64_t before = parts_.size() > 1 ? parts_[parts_.size() - 2] : snd_una_;
    const uint64_t full = std::max(before, snd_nxt_) + goal;
    if (full > at) at = parts_.back() = std::min(send_.end(), full);
  }
  while (at < send_.end()) {
    at = std::min<uint64_t>(send_.end(), at + goal);
    parts_.push_back(at);
  }
}

void TcpConnection::Send(Chain data, bool push, TimePoint now) {
  RW_DCHECK(!fin_queued_);
  for (const Slice& s : data.slices()) send_.Append(s);
  NoteWritten();
  // MSG_MORE holds a partial segment as TCP_CORK does, until the next write without it.
  more_follows_ = !push;
  if ((settings_.cork || more_follows_) && cork_at_.IsNever()) {
    cork_at_ = now + Duration::Millis(200);
  }
  Output(now);
}

void TcpConnection::Push(TimePoint now) {
  more_follows_ = false;
  Output(now, true);
}

void TcpConnection::SendUrgent(uint8_t byte, TimePoint now) {
  send_.AppendCopy({&byte, 1});
  NoteWritten();
  urgent_out_ = send_.end();
  Output(now);
}

Chain TcpConnection::Peek(size_t n, size_t skip) const {
  uint64_t at = read_at_ + skip;
  size_t hole = 0;
  const bool marked = urgent_state_ != Urgent::kNone;
  if (marked && urgent_at_ == at && !settings_.oob_inline && !receive_.empty()) {
    hole = 1;  // the urgent byte is read by TakeUrgent alone
    at++;
  }
  // RFC 6093 2: a read does not run across the mark.
  if (marked && urgent_at_ > at) n = std::min<uint64_t>(n, urgent_at_ - at);
  return receive_.Peek(n, skip + hole);
}

void TcpConnection::SkipUrgent() {
  receive_.Consume(1);
  read_at_++;
  urgent_state_ = Urgent::kNone;
}

void TcpConnection::Consume(size_t n, TimePoint now) {
  if (UrgentNext()) SkipUrgent();
  n = std::min(n, receive_.bytes());
  receive_.Consume(n);
  read_at_ += n;
  if (urgent_state_ != Urgent::kNone && read_at_ > urgent_at_) urgent_state_ = Urgent::kNone;
  tune_copied_ += n;
  GrowReceiveBuffer(now);
  if (finished_ || fin_received_) return;
  // Tell of the room when it is worth a segment: at least twice what the peer knows of, or what it
  // waits for. Compare Linux's tcp_cleanup_rbuf().
  const uint64_t told = rcv_edge_ - rcv_nxt_;
  const uint64_t room = ReceiveSpace();
  if ((room >= 2 * told && room >= std::min<uint64_t>(rcv_mss_, settings_.receive_buffer / 4)) ||
      (since_ack_ >= rcv_mss_ && room > told)) {
    SendAck(now);
  }
}

NetResult<uint8_t> TcpConnection::TakeUrgent(bool peek) {
  if (settings_.oob_inline || urgent_state_ == Urgent::kNone || urgent_state_ == Urgent::kRead) {
    return NetError::kInvalid;
  }
  if (urgent_state_ == Urgent::kNotYet) return NetError::kWouldBlock;
  if (!peek) urgent_state_ = Urgent::kRead;
  return urgent_byte_;
}

bool TcpConnection::AtMark(size_t ahead) const {
  return urgent_state_ != Urgent::kNone && read_at_ + ahead == urgent_at_;
}

void TcpConnection::ShutdownWrite(TimePoint now) {
  if (fin_queued_ || finished_) return;
  switch (state_) {
    case TcpState::kSynSent:
      return Finish(std::nullopt);
    case TcpState::kSynReceived:
      fin_queued_ = true;  // the state changes once established: RFC 9293 3.10.4
      return;
    case TcpState::kEstablished:
      state_ = TcpState::kFinWait1;
      break;
    case TcpState::kCloseWait:
      state_ = TcpState::kLastAck;
      break;
    default:
      return;
  }
  fin_queued_ = true;
  Output(now);
}

void TcpConnection::ShutdownRead() { read_shut_ = true; }

// RFC 9293 3.10.4 and 3.10.5; RFC 1122 4.2.2.13: unread data makes it a reset.
void TcpConnection::Close(bool abort, TimePoint now) {
  if (finished_) return;
  orphaned_ = true;
  if (state_ == TcpState::kSynSent) return Finish(std::nullopt);
  const bool lost_data = !receive_.empty() && !(receive_.bytes() == 1 && AtMark());
  if (abort || lost_data) return Reset(std::nullopt, now);
  receive_.Clear();
  keep_at_ = TimePoint::Never();
  ShutdownWrite(now);
  if (finished_) return;
  if (state_ == TcpState::kFinWait2) {
    if (settings_.fin_timeout < Duration()) return Finish(std::nullopt);
    fin_wait_at_ = now + settings_.fin_timeout;
  }
  // From here retransmissions count against the orphan's limit.
  trouble_since_ = now;
}

void TcpConnection::ChangeSettings(const TcpSettings& settings, TimePoint now) {
  const bool uncorked = settings_.cork && !settings.cork;
  const bool nagle_off = !settings_.no_delay && settings.no_delay;
  const bool other_algorithm = settings_.congestion != settings.congestion;
  const size_t send_buffer = settings_.send_buffer;
  const size_t receive_buffer = settings_.receive_buffer;
  settings_ = settings;
  // What tuning has reached stays unless the user fixed a size.
  if (!settings.send_buffer_locked)
    settings_.send_buffer = std::max(send_buffer, settings.send_buffer);
  if (!settings.receive_buffer_locked) {
    settings_.receive_buffer = std::max(receive_buffer, settings.receive_buffer);
  }
  if (other_algorithm) algorithm_ = MakeCongestionControl(settings.congestion);
  if (finished_) return;
  ArmKeepalive(now);
  if (uncorked || nagle_off) {
    cork_at_ = TimePoint::Never();
    Output(now, nagle_off);
  }
}

void TcpConnection::SetQuickAck(bool on, TimePoint now) {
  quick_mode_ = on;
  interactive_ = !on;
  quick_acks_ = on ? 16 : 0;
  if (on && since_ack_ != 0 && !finished_) SendAck(now);
}

bool TcpConnection::SequenceInFlight(uint32_t seq) const {
  const uint32_t from = agreed_.iss + static_cast<uint32_t>(snd_una_);
  return SeqNum(seq).InWindow(SeqNum(from), static_cast<uint32_t>(snd_nxt_ - snd_una_));
}

void TcpConnection::OnSoftError(NetError e, bool hard, TimePoint) {
  if (finished_) return;
  // RFC 5461 4.1 allows, and Linux does: a hard error ends an attempt to connect; an established
  // connection only remembers it for when it times out.
  if (hard && (state_ == TcpState::kSynSent || state_ == TcpState::kSynReceived)) {
    return Finish(e);
  }
  soft_error_ = e;
}

TcpInfo TcpConnection::Info(TimePoint now) const {
  TcpInfo i;
  i.state = state_;
  const uint32_t mss = std::max<uint32_t>(EffectiveMss(), 1);
  auto segments = [mss](uint64_t bytes) { return static_cast<uint32_t>((bytes + mss - 1) / mss); };
  switch (recovery_) {
    case Recovery::kOpen: i.ca_state = board_.any_sacked() || dup_acks_ != 0 ? 1 : 0; break;
    case Recovery::kCwr: i.ca_state = 2; break;
    case Recovery::kFast: i.ca_state = 3; break;
    case Recovery::kLoss: i.ca_state = 4; break;
  }
  i.retransmits = static_cast<uint8_t>(retries_);
  i.probes = static_cast<uint8_t>(probes_);
  i.backoff = static_cast<uint8_t>(backoff_);
  i.timestamps = agreed_.timestamps;
  i.sack = agreed_.sack;
  i.window_scaling = agreed_.window_scaling;
  i.ecn = agreed_.ecn;
  i.syn_data = syn_data_acked_;
  if (algorithm_->pacing_rate() != 0) i.pacing_rate = algorithm_->pacing_rate();
  i.send_scale = agreed_.send_scale;
  i.receive_scale = agreed_.receive_scale;
  i.rto = RtoNow();
  i.ato = data_in_ != 0 ? Duration::Millis(40) : Duration();
  i.rtt = rtt_.srtt();
  i.rttvar = rtt_.have() ? Max(rtt_.rttvar(), Duration::Micros(1)) : rtt_.rttvar();
  i.min_rtt = rtt_.have() ? rtt_.min() : Duration();
  i.receive_rtt = measured_ != kLeastMeasure ? rtt_.srtt() : Duration();
  i.send_mss = mss;
  i.receive_mss = measured_;
  i.advertised_mss = path_mss_ - (agreed_.timestamps ? 12 : 0);
  i.path_mtu = path_mss_ + 40;
  i.unacked = segments(snd_nxt_ - snd_una_);
  i.sacked = segments(board_.sacked());
  // What is lost counts until it is delivered, repeated or not.
  i.lost = segments(board_.lost() + (recovery_ == Recovery::kOpen ? 0 : board_.resent()));
  i.retrans = segments(board_.resent());
  i.total_retrans = total_repeats_;
  i.cwnd = segments(cc_.cwnd);
  i.ssthresh = cc_.ssthresh >= kInfiniteSsthresh ? 0x7fffffff : segments(cc_.ssthresh);
  i.receive_ssthresh = static_cast<uint32_t>(rcv_ssthresh_);
  i.receive_space = static_cast<uint32_t>(tune_mark_);
  i.send_window = static_cast<uint32_t>(std::min<uint64_t>(snd_wnd_, UINT32_MAX));
  i.receive_window = receive_window();
  i.last_data_sent = now - last_sent_;
  i.last_data_received = now - last_data_in_;
  i.last_ack_received = now - last_heard_;
  // Linux counts by sequence numbers: our SYN, and each FIN.
  const bool done = fin_queued_ && snd_una_ > send_.end();
  const uint32_t opened = state_ != TcpState::kSynSent && state_ != TcpState::kSynReceived ? 1 : 0;
  i.bytes_acked = bytes_acked_ + (active_ ? opened : 0) + (done ? 1 : 0);
  i.bytes_received = bytes_received_ + (fin_received_ ? 1 : 0);
  i.bytes_sent = bytes_sent_;
  i.bytes_retrans = bytes_resent_;
  i.segs_out = segs_out_;
  i.segs_in = segs_in_;
  i.data_segs_in = data_in_;
  i.data_segs_out = data_out_;
  i.delivered = delivered_parts_ + opened;
  i.notsent_bytes = static_cast<uint32_t>(unsent());
  i.dsack_dups = dsacks_;
  i.reord_seen = reorders_;
  i.receive_ooopack = ooo_in_;
  return i;
}

}  // namespace ringwall::net
