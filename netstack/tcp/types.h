// Names shared by the parts of TCP.
#ifndef RINGWALL_NETSTACK_TCP_TYPES_H_
#define RINGWALL_NETSTACK_TCP_TYPES_H_

#include <array>
#include <cstdint>
#include <optional>

#include "netstack/buffer.h"
#include "netstack/counters.h"
#include "netstack/net_error.h"
#include "netstack/time.h"
#include "netstack/wire/tcp.h"

namespace ringwall::net {

// The values are those of Linux's tcp_info.tcpi_state.
enum class TcpState : uint8_t {
  kEstablished = 1,
  kSynSent = 2,
  kSynReceived = 3,
  kFinWait1 = 4,
  kFinWait2 = 5,
  kTimeWait = 6,
  kClosed = 7,
  kCloseWait = 8,
  kLastAck = 9,
  kListen = 10,
  kClosing = 11,
};

// What a connection needs to know of its options; copied in by the endpoint.
struct TcpSettings {
  bool no_delay = false;
  bool cork = false;
  bool oob_inline = false;
  bool keepalive = false;
  Duration keep_idle = Duration::Seconds(7200);
  Duration keep_interval = Duration::Seconds(75);
  int keep_count = 9;
  int syn_retries = 6;
  int synack_retries = 5;
  int retries2 = 15;
  int orphan_retries = 8;
  Duration user_timeout;                          // zero: none
  Duration fin_timeout = Duration::Seconds(60);   // FIN-WAIT-2 without a user; negative: none
  uint32_t window_clamp = 0;                      // 0: none
  uint64_t notsent_lowat = UINT32_MAX;
  size_t receive_lowat = 1;
  bool sack = true;
  bool dsack = true;
  bool timestamps = true;
  bool window_scaling = true;
  int ecn = 2;
  uint8_t congestion = 1;            // kCongestionReno and so on
  int mtu_probing = 0;
  uint32_t base_mss = 1024;
  bool slow_start_after_idle = true;
  size_t send_buffer = 87040;
  size_t send_buffer_max = 4 << 20;
  bool send_buffer_locked = false;  // SO_SNDBUF was set: no tuning
  size_t receive_buffer = 131072;
  size_t receive_buffer_max = 6 << 20;
  bool receive_buffer_locked = false;
  uint32_t max_segment = 65535;      // bytes handed to Emit at once; more than an MSS with GSO
};

// What the two sides agreed on by their SYNs.
struct TcpAgreed {
  uint32_t iss = 0;
  uint32_t irs = 0;
  uint16_t peer_mss = 536;           // RFC 9293 3.7.1, MUST-15
  uint8_t send_scale = 0;            // of the windows that the peer tells
  uint8_t receive_scale = 0;
  bool window_scaling = false;
  bool sack = false;
  bool timestamps = false;
  bool ecn = false;
  uint32_t ts_offset = 0;
  uint32_t ts_recent = 0;
  uint8_t handshake_repeats = 0;     // of a listener's SYN-ACK
};

// RFC 7413: what a SYN of ours carries besides.
struct TcpFastOpen {
  bool ask = false;                  // the option, with the cookie or a request for one
  uint8_t cookie_size = 0;
  std::array<uint8_t, 16> cookie = {};
};

// The world around one connection: its endpoint, or a test.
class TcpUser {
 public:
  virtual ~TcpUser() = default;
  // Sends a segment; ports are the user's to fill in. A payload longer than `mss` is to be cut.
  virtual void Emit(TcpSegment& segment, Chain payload, uint32_t mss, bool ecn_capable) = 0;
  // Readiness bits that may hold now.
  virtual void OnReadiness(uint32_t bits) = 0;
  virtual void OnEstablished() = 0;
  // The connection is over; no call to it follows. `error` is the socket's, if any.
  virtual void OnClosed(std::optional<NetError> error) = 0;
  virtual void OnTimeWait() = 0;
  // Whether another challenge ACK may be sent: RFC 5961 7.
  virtual bool AllowChallengeAck() = 0;
  virtual TcpCounters& counters() = 0;
  // The path or the neighbour proved alive.
  virtual void OnProgress() {}
  // The answer of a SYN that had the Fast Open option. lost: only a repeat without data was answered.
  virtual void OnFastOpen(const TcpOptions& answer, bool lost) { (void)answer, (void)lost; }
  // Everything up to this byte of ours, counted from 0, has arrived.
  virtual void OnAcked(uint64_t bytes) { (void)bytes; }
  // Several timeouts: the route may be dead or the path's MTU smaller than told.
  virtual void OnTrouble() {}
};

// struct tcp_info's facts.
struct TcpInfo {
  TcpState state = TcpState::kClosed;
  uint8_t ca_state = 0;  // 0 open, 1 disorder, 2 CWR, 3 recovery, 4 loss
  uint8_t retransmits = 0, probes = 0, backoff = 0;
  bool timestamps = false, sack = false, window_scaling = false, ecn = false;
  bool syn_data = false;  // the SYN's data was taken
  uint64_t pacing_rate = ~uint64_t{0};
  uint8_t send_scale = 0, receive_scale = 0;
  Duration rto, ato, rtt, rttvar, min_rtt, receive_rtt;
  uint32_t send_mss = 0, receive_mss = 0, advertised_mss = 0, path_mtu = 0;
  uint32_t unacked = 0, sacked = 0, lost = 0, retrans = 0, total_retrans = 0;
  uint32_t cwnd = 0, ssthresh = 0, reordering = 3, receive_ssthresh = 0, receive_space = 0;
  uint32_t send_window = 0, receive_window = 0;
  Duration last_data_sent, last_data_received, last_ack_received;
  uint64_t bytes_acked = 0, bytes_received = 0, bytes_sent = 0, bytes_retrans = 0;
  uint32_t segs_out = 0, segs_in = 0, data_segs_in = 0, data_segs_out = 0, delivered = 0;
  uint32_t notsent_bytes = 0, dsack_dups = 0, reord_seen = 0, receive_ooopack = 0;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_TCP_TYPES_H_
