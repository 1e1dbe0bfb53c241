// The counters of /proc/net/snmp and netstat, and our own for every reason to drop.
#ifndef RINGWALL_NETSTACK_COUNTERS_H_
#define RINGWALL_NETSTACK_COUNTERS_H_

#include <cstdint>

namespace ringwall::net {

struct IpCounters {
  uint64_t in_receives = 0, in_hdr_errors = 0, in_addr_errors = 0, in_delivers = 0;
  uint64_t in_unknown_protos = 0, in_discards = 0, forwarded = 0, in_truncated = 0;
  uint64_t in_bad_checksum = 0, in_martian = 0;
  uint64_t out_requests = 0, out_discards = 0, out_no_routes = 0;
  uint64_t reasm_reqds = 0, reasm_oks = 0, reasm_fails = 0, reasm_timeouts = 0, reasm_overlaps = 0;
  uint64_t frag_oks = 0, frag_fails = 0, frag_creates = 0;
};

struct IcmpCounters {
  uint64_t in_msgs = 0, in_errors = 0, in_csum_errors = 0, in_echos = 0, in_echo_reps = 0;
  uint64_t in_dest_unreachs = 0, in_bad_ndp = 0;
  uint64_t out_msgs = 0, out_rate_limited = 0, out_dest_unreachs = 0, out_echo_reps = 0;
};

struct UdpCounters {
  uint64_t in_datagrams = 0, no_ports = 0, in_errors = 0, out_datagrams = 0;
  uint64_t rcvbuf_errors = 0, in_csum_errors = 0;
};

struct TcpCounters {
  uint64_t active_opens = 0, passive_opens = 0, attempt_fails = 0, estab_resets = 0;
  uint64_t in_segs = 0, out_segs = 0, retrans_segs = 0, in_errs = 0, out_rsts = 0;
  uint64_t in_csum_errors = 0, syn_cookies_sent = 0, syn_cookies_recv = 0;
  uint64_t syn_cookies_failed = 0, listen_overflows = 0, listen_drops = 0, req_q_full_drop = 0;
  uint64_t paws_estab_rejected = 0, challenge_acks = 0, time_waited = 0, ofo_pruned = 0;
  uint64_t ofo_queued = 0, sack_reneging = 0, loss_probes = 0, timeouts = 0, spurious_rtos = 0;
  uint64_t fast_retrans = 0, dsack_sent = 0, dsack_recv = 0, abort_on_timeout = 0;
  uint64_t abort_on_data = 0, abort_on_linger = 0, rcv_q_drop = 0, zero_window_drop = 0;
  uint64_t fast_open_active = 0, fast_open_active_fail = 0, fast_open_passive = 0;
  uint64_t fast_open_passive_fail = 0, fast_open_overflow = 0, fast_open_asked = 0;
};

struct Counters {
  IpCounters ip4, ip6;
  IcmpCounters icmp4, icmp6;
  UdpCounters udp4, udp6;
  TcpCounters tcp;
  uint64_t link_malformed = 0, link_unknown = 0, arp_malformed = 0;
};

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_COUNTERS_H_
