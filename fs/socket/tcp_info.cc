#include "fs/socket/tcp_info.h"

namespace ringwall {

TcpInfoAbi ToTcpInfoAbi(const net::TcpInfo& t, uint64_t max_pacing_rate) {
  TcpInfoAbi o = {};
  o.state = static_cast<uint8_t>(t.state);
  o.ca_state = t.ca_state;
  o.retransmits = t.retransmits;
  o.probes = t.probes;
  o.backoff = t.backoff;
  o.options = static_cast<uint8_t>((t.timestamps ? 1 : 0) | (t.sack ? 2 : 0) |
                                   (t.window_scaling ? 4 : 0) | (t.ecn ? 8 : 0) |
                                   (t.syn_data ? 32 : 0));
  o.scales = static_cast<uint8_t>((t.send_scale & 0xf) | t.receive_scale << 4);
  const auto us = [](net::Duration d) { return static_cast<uint32_t>(d.micros()); };
  const auto ms = [](net::Duration d) { return static_cast<uint32_t>(d.millis()); };
  o.rto = us(t.rto);
  o.ato = us(t.ato);
  o.snd_mss = t.send_mss;
  o.rcv_mss = t.receive_mss;
  o.unacked = t.unacked;
  o.sacked = t.sacked;
  o.lost = t.lost;
  o.retrans = t.retrans;
  o.last_data_sent = ms(t.last_data_sent);
  o.last_data_recv = ms(t.last_data_received);
  o.last_ack_recv = ms(t.last_ack_received);
  o.pmtu = t.path_mtu;
  o.rcv_ssthresh = t.receive_ssthresh;
  o.rtt = us(t.rtt);
  o.rttvar = us(t.rttvar);
  o.snd_ssthresh = t.ssthresh;
  o.snd_cwnd = t.cwnd;
  o.advmss = t.advertised_mss;
  o.reordering = t.reordering;
  o.rcv_rtt = us(t.receive_rtt);
  o.rcv_space = t.receive_space;
  o.total_retrans = t.total_retrans;
  o.pacing_rate = t.pacing_rate;
  o.max_pacing_rate = max_pacing_rate;
  o.bytes_acked = t.bytes_acked;
  o.bytes_received = t.bytes_received;
  o.segs_out = t.segs_out;
  o.segs_in = t.segs_in;
  o.notsent_bytes = t.notsent_bytes;
  o.min_rtt = us(t.min_rtt);
  o.data_segs_in = t.data_segs_in;
  o.data_segs_out = t.data_segs_out;
  o.delivered = t.delivered;
  o.bytes_sent = t.bytes_sent;
  o.bytes_retrans = t.bytes_retrans;
  o.dsack_dups = t.dsack_dups;
  o.reord_seen = t.reord_seen;
  o.rcv_ooopack = t.receive_ooopack;
  o.snd_wnd = t.send_window;
  o.rcv_wnd = t.receive_window;
  return o;
}

}  // namespace ringwall
