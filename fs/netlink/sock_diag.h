// NETLINK_SOCK_DIAG and what /proc/net shares with it.
#ifndef RINGWALL_FS_NETLINK_SOCK_DIAG_H_
#define RINGWALL_FS_NETLINK_SOCK_DIAG_H_

#include "fs/netlink/netlink_socket.h"

namespace ringwall::netlink {

class DiagProtocol final : public Protocol {
 public:
  uint32_t groups() const override { return 4; }  // SKNLGRP_MAX
  bool anyone_receives() const override { return true; }
  Result<void> CheckGroup(Task& t, uint32_t group) override;

 protected:
  Result<void> Handle(Context& c) override;
};

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
TcpInfoAbi MakeTcpInfo(const net::SocketInfo& s);

// A number for an object that cannot be turned back into its address.
uint64_t CookieOf(const void* p);

Result<void> UnixDiag(Context& c);

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_SOCK_DIAG_H_
