// struct tcp_info, as TCP_INFO and sock_diag give it.
#ifndef RINGWALL_FS_SOCKET_TCP_INFO_H_
#define RINGWALL_FS_SOCKET_TCP_INFO_H_

#include <cstdint>

#include "netstack/tcp/types.h"

namespace ringwall {

// struct tcp_info of Linux 6.12.
struct TcpInfoAbi {
  uint8_t state, ca_state, retransmits, probes, backoff, options, scales, limits;
  uint32_t rto, ato, snd_mss, rcv_mss;
  uint32_t unacked, sacked, lost, retrans, fackets;
  uint32_t last_data_sent, last_ack_sent, last_data_recv, last_ack_recv;
  uint32_t pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering;
  uint32_t rcv_rtt, rcv_space, total_retrans;
  uint64_t pacing_rate, max_pacing_rate, bytes_acked, bytes_received;
  uint32_t segs_out, segs_in, notsent_bytes, min_rtt, data_segs_in, data_segs_out;
  uint64_t delivery_rate, busy_time, rwnd_limited, sndbuf_limited;
  uint32_t delivered, delivered_ce;
  uint64_t bytes_sent, bytes_retrans;
  uint32_t dsack_dups, reord_seen, rcv_ooopack, snd_wnd, rcv_wnd, rehash;
  uint16_t total_rto, total_rto_recoveries;
  uint32_t total_rto_time;
};
static_assert(sizeof(TcpInfoAbi) == 248);
TcpInfoAbi ToTcpInfoAbi(const net::TcpInfo& t, uint64_t max_pacing_rate);

}  // namespace ringwall

#endif  // RINGWALL_FS_SOCKET_TCP_INFO_H_
