// /proc/net/snmp, snmp6 and netstat: the counters (net/ipv4/proc.c, net/ipv6/proc.c). Names and their
// order are Linux's; what this stack does not count reads as 0.
#include <cstring>

#include "fs/netlink/proc_net.h"
#include "netstack/counters.h"

namespace ringwall::netlink {
namespace {

struct Value {
  const char* name;
  int64_t value;
};

// Two lines: the names, then the values. `all` lists every name; `known` those with a value.
void AddTable(std::string* out, const char* prefix, const char* all,
              std::initializer_list<Value> known) {
  *out += prefix;
  *out += ": ";
  *out += all;
  *out += '\n';
  *out += prefix;
  *out += ':';
  std::string_view left = all;
  while (!left.empty()) {
    const size_t end = std::min(left.find(' '), left.size());
    const std::string_view name = left.substr(0, end);
    int64_t value = 0;
    for (const Value& v : known) {
      if (name == v.name) value = v.value;
    }
    AppendFormat(out, " %lld", static_cast<long long>(value));
    left = left.substr(std::min(end + 1, left.size()));
  }
  *out += '\n';
}

int64_t N(uint64_t v) { return static_cast<int64_t>(v); }

constexpr char kUdpNames[] =
    "InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti "
    "MemErrors";

constexpr char kTcpExt[] =
    "SyncookiesSent SyncookiesRecv SyncookiesFailed EmbryonicRsts PruneCalled RcvPruned OfoPruned "
    "OutOfWindowIcmps LockDroppedIcmps ArpFilter TW TWRecycled TWKilled PAWSActive PAWSEstab "
    "PAWSOldAck DelayedACKs DelayedACKLocked DelayedACKLost ListenOverflows ListenDrops TCPHPHits "
    "TCPPureAcks TCPHPAcks TCPRenoRecovery TCPSackRecovery TCPSACKReneging TCPSACKReorder "
    "TCPRenoReorder TCPTSReorder TCPFullUndo TCPPartialUndo TCPDSACKUndo TCPLossUndo "
    "TCPLostRetransmit TCPRenoFailures TCPSackFailures TCPLossFailures TCPFastRetrans "
    "TCPSlowStartRetrans TCPTimeouts TCPLossProbes TCPLossProbeRecovery TCPRenoRecoveryFail "
    "TCPSackRecoveryFail TCPRcvCollapsed TCPBacklogCoalesce TCPDSACKOldSent TCPDSACKOfoSent "
    "TCPDSACKRecv TCPDSACKOfoRecv TCPAbortOnData TCPAbortOnClose TCPAbortOnMemory "
    "TCPAbortOnTimeout TCPAbortOnLinger TCPAbortFailed TCPMemoryPressures "
    "TCPMemoryPressuresChrono TCPSACKDiscard TCPDSACKIgnoredOld TCPDSACKIgnoredNoUndo "
    "TCPSpuriousRTOs TCPMD5NotFound TCPMD5Unexpected TCPMD5Failure TCPSackShifted TCPSackMerged "
    "TCPSackShiftFallback TCPBacklogDrop PFMemallocDrop TCPMinTTLDrop TCPDeferAcceptDrop "
    "IPReversePathFilter TCPTimeWaitOverflow TCPReqQFullDoCookies TCPReqQFullDrop TCPRetransFail "
    "TCPRcvCoalesce TCPOFOQueue TCPOFODrop TCPOFOMerge TCPChallengeACK TCPSYNChallenge "
    "TCPFastOpenActive TCPFastOpenActiveFail TCPFastOpenPassive TCPFastOpenPassiveFail "
    "TCPFastOpenListenOverflow TCPFastOpenCookieReqd TCPFastOpenBlackhole "
    "TCPSpuriousRtxHostQueues BusyPollRxPackets TCPAutoCorking TCPFromZeroWindowAdv "
    "TCPToZeroWindowAdv TCPWantZeroWindowAdv TCPSynRetrans TCPOrigDataSent TCPHystartTrainDetect "
    "TCPHystartTrainCwnd TCPHystartDelayDetect TCPHystartDelayCwnd TCPACKSkippedSynRecv "
    "TCPACKSkippedPAWS TCPACKSkippedSeq TCPACKSkippedFinWait2 TCPACKSkippedTimeWait "
    "TCPACKSkippedChallenge TCPWinProbe TCPKeepAlive TCPMTUPFail TCPMTUPSuccess TCPDelivered "
    "TCPDeliveredCE TCPAckCompressed TCPZeroWindowDrop TCPRcvQDrop TCPWqueueTooBig "
    "TCPFastOpenPassiveAltKey TcpTimeoutRehash TcpDuplicateDataRehash TCPDSACKRecvSegs "
    "TCPDSACKIgnoredDubious TCPMigrateReqSuccess TCPMigrateReqFailure TCPPLBRehash TCPAORequired "
    "TCPAOBad TCPAOKeyNotFound TCPAOGood TCPAODroppedIcmps";

constexpr const char* kIp6Names[] = {
    "Ip6InReceives", "Ip6InHdrErrors", "Ip6InTooBigErrors", "Ip6InNoRoutes", "Ip6InAddrErrors",
    "Ip6InUnknownProtos", "Ip6InTruncatedPkts", "Ip6InDiscards", "Ip6InDelivers",
    "Ip6OutForwDatagrams", "Ip6OutRequests", "Ip6OutDiscards", "Ip6OutNoRoutes",
    "Ip6ReasmTimeout", "Ip6ReasmReqds", "Ip6ReasmOKs", "Ip6ReasmFails", "Ip6FragOKs",
    "Ip6FragFails", "Ip6FragCreates", "Ip6InMcastPkts", "Ip6OutMcastPkts", "Ip6InOctets",
    "Ip6OutOctets", "Ip6InMcastOctets", "Ip6OutMcastOctets", "Ip6InBcastOctets",
    "Ip6OutBcastOctets", "Ip6InNoECTPkts", "Ip6InECT1Pkts", "Ip6InECT0Pkts", "Ip6InCEPkts",
    "Ip6OutTransmits", "Icmp6InMsgs", "Icmp6InErrors", "Icmp6OutMsgs", "Icmp6OutErrors",
    "Icmp6InCsumErrors", "Icmp6OutRateLimitHost", "Icmp6InDestUnreachs", "Icmp6InPktTooBigs",
    "Icmp6InTimeExcds", "Icmp6InParmProblems", "Icmp6InEchos", "Icmp6InEchoReplies",
    "Icmp6InGroupMembQueries", "Icmp6InGroupMembResponses", "Icmp6InGroupMembReductions",
    "Icmp6InRouterSolicits", "Icmp6InRouterAdvertisements", "Icmp6InNeighborSolicits",
    "Icmp6InNeighborAdvertisements", "Icmp6InRedirects", "Icmp6InMLDv2Reports",
    "Icmp6OutDestUnreachs", "Icmp6OutPktTooBigs", "Icmp6OutTimeExcds", "Icmp6OutParmProblems",
    "Icmp6OutEchos", "Icmp6OutEchoReplies", "Icmp6OutGroupMembQueries",
    "Icmp6OutGroupMembResponses", "Icmp6OutGroupMembReductions", "Icmp6OutRouterSolicits",
    "Icmp6OutRouterAdvertisements", "Icmp6OutNeighborSolicits", "Icmp6OutNeighborAdvertisements",
    "Icmp6OutRedirects", "Icmp6OutMLDv2Reports", "Udp6InDatagrams", "Udp6NoPorts", "Udp6InErrors",
    "Udp6OutDatagrams", "Udp6RcvbufErrors", "Udp6SndbufErrors", "Udp6InCsumErrors",
    "Udp6IgnoredMulti", "Udp6MemErrors", "UdpLite6InDatagrams", "UdpLite6NoPorts",
    "UdpLite6InErrors", "UdpLite6OutDatagrams", "UdpLite6RcvbufErrors", "UdpLite6SndbufErrors",
    "UdpLite6InCsumErrors", "UdpLite6MemErrors"};

}  // namespace

std::string SnmpText(net::Stack& s) {
  const net::Counters c = s.GetCounters();
  const net::StackConfig config = s.Config();
  std::string out;
  AddTable(&out, "Ip",
           "Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos "
           "InDiscards InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds "
           "ReasmOKs ReasmFails FragOKs FragFails FragCreates OutTransmits",
           {{"Forwarding", config.forwarding4 ? 1 : 2}, {"DefaultTTL", config.default_ttl},
            {"InReceives", N(c.ip4.in_receives)}, {"InHdrErrors", N(c.ip4.in_hdr_errors)},
            {"InAddrErrors", N(c.ip4.in_addr_errors)}, {"ForwDatagrams", N(c.ip4.forwarded)},
            {"InUnknownProtos", N(c.ip4.in_unknown_protos)},
            {"InDiscards", N(c.ip4.in_discards)}, {"InDelivers", N(c.ip4.in_delivers)},
            {"OutRequests", N(c.ip4.out_requests)}, {"OutDiscards", N(c.ip4.out_discards)},
            {"OutNoRoutes", N(c.ip4.out_no_routes)}, {"ReasmTimeout", N(c.ip4.reasm_timeouts)},
            {"ReasmReqds", N(c.ip4.reasm_reqds)}, {"ReasmOKs", N(c.ip4.reasm_oks)},
            {"ReasmFails", N(c.ip4.reasm_fails)}, {"FragOKs", N(c.ip4.frag_oks)},
            {"FragFails", N(c.ip4.frag_fails)}, {"FragCreates", N(c.ip4.frag_creates)},
            {"OutTransmits", N(c.ip4.out_requests)}});
  AddTable(&out, "Icmp",
           "InMsgs InErrors InCsumErrors InDestUnreachs InTimeExcds InParmProbs InSrcQuenchs "
           "InRedirects InEchos InEchoReps InTimestamps InTimestampReps InAddrMasks "
           "InAddrMaskReps OutMsgs OutErrors OutRateLimitGlobal OutRateLimitHost OutDestUnreachs "
           "OutTimeExcds OutParmProbs OutSrcQuenchs OutRedirects OutEchos OutEchoReps "
           "OutTimestamps OutTimestampReps OutAddrMasks OutAddrMaskReps",
           {{"InMsgs", N(c.icmp4.in_msgs)}, {"InErrors", N(c.icmp4.in_errors)},
            {"InCsumErrors", N(c.icmp4.in_csum_errors)},
            {"InDestUnreachs", N(c.icmp4.in_dest_unreachs)}, {"InEchos", N(c.icmp4.in_echos)},
            {"InEchoReps", N(c.icmp4.in_echo_reps)}, {"OutMsgs", N(c.icmp4.out_msgs)},
            {"OutRateLimitHost", N(c.icmp4.out_rate_limited)},
            {"OutDestUnreachs", N(c.icmp4.out_dest_unreachs)},
            {"OutEchoReps", N(c.icmp4.out_echo_reps)}});
  int64_t established = 0;
  for (const net::SocketInfo& i : s.Sockets(net::SocketInfo::Kind::kTcp)) {
    established += i.state == 1 || i.state == 8;
  }
  AddTable(&out, "Tcp",
           "RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets "
           "CurrEstab InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors",
           {{"RtoAlgorithm", 1}, {"RtoMin", 200}, {"RtoMax", 120000}, {"MaxConn", -1},
            {"ActiveOpens", N(c.tcp.active_opens)}, {"PassiveOpens", N(c.tcp.passive_opens)},
            {"AttemptFails", N(c.tcp.attempt_fails)}, {"EstabResets", N(c.tcp.estab_resets)},
            {"CurrEstab", established}, {"InSegs", N(c.tcp.in_segs)},
            {"OutSegs", N(c.tcp.out_segs)}, {"RetransSegs", N(c.tcp.retrans_segs)},
            {"InErrs", N(c.tcp.in_errs)}, {"OutRsts", N(c.tcp.out_rsts)},
            {"InCsumErrors", N(c.tcp.in_csum_errors)}});
  AddTable(&out, "Udp", kUdpNames,
           {{"InDatagrams", N(c.udp4.in_datagrams)}, {"NoPorts", N(c.udp4.no_ports)},
            {"InErrors", N(c.udp4.in_errors)}, {"OutDatagrams", N(c.udp4.out_datagrams)},
            {"RcvbufErrors", N(c.udp4.rcvbuf_errors)},
            {"InCsumErrors", N(c.udp4.in_csum_errors)}});
  AddTable(&out, "UdpLite", kUdpNames, {});
  return out;
}

std::string NetstatText(net::Stack& s) {
  const net::Counters c = s.GetCounters();
  std::string out;
  AddTable(&out, "TcpExt", kTcpExt,
           {{"SyncookiesSent", N(c.tcp.syn_cookies_sent)},
            {"SyncookiesRecv", N(c.tcp.syn_cookies_recv)},
            {"SyncookiesFailed", N(c.tcp.syn_cookies_failed)}, {"TW", N(c.tcp.time_waited)},
            {"PAWSEstab", N(c.tcp.paws_estab_rejected)},
            {"ListenOverflows", N(c.tcp.listen_overflows)},
            {"ListenDrops", N(c.tcp.listen_drops)},
            {"TCPReqQFullDrop", N(c.tcp.req_q_full_drop)},
            {"TCPSACKReneging", N(c.tcp.sack_reneging)},
            {"TCPFastRetrans", N(c.tcp.fast_retrans)}, {"TCPTimeouts", N(c.tcp.timeouts)},
            {"TCPLossProbes", N(c.tcp.loss_probes)}, {"TCPDSACKOldSent", N(c.tcp.dsack_sent)},
            {"TCPDSACKRecv", N(c.tcp.dsack_recv)}, {"TCPAbortOnData", N(c.tcp.abort_on_data)},
            {"TCPAbortOnTimeout", N(c.tcp.abort_on_timeout)},
            {"TCPAbortOnLinger", N(c.tcp.abort_on_linger)},
            {"TCPSpuriousRTOs", N(c.tcp.spurious_rtos)}, {"OfoPruned", N(c.tcp.ofo_pruned)},
            {"TCPOFOQueue", N(c.tcp.ofo_queued)}, {"TCPChallengeACK", N(c.tcp.challenge_acks)},
            {"TCPFastOpenActive", N(c.tcp.fast_open_active)},
            {"TCPFastOpenActiveFail", N(c.tcp.fast_open_active_fail)},
            {"TCPFastOpenPassive", N(c.tcp.fast_open_passive)},
            {"TCPFastOpenPassiveFail", N(c.tcp.fast_open_passive_fail)},
            {"TCPFastOpenListenOverflow", N(c.tcp.fast_open_overflow)},
            {"TCPFastOpenCookieReqd", N(c.tcp.fast_open_asked)},
            {"TCPRcvQDrop", N(c.tcp.rcv_q_drop)},
            {"TCPZeroWindowDrop", N(c.tcp.zero_window_drop)}});
  uint64_t in_octets = 0, out_octets = 0;
  for (const net::InterfaceInfo& i : s.Interfaces()) {
    in_octets += i.counters.rx_bytes;
    out_octets += i.counters.tx_bytes;
  }
  AddTable(&out, "IpExt",
           "InNoRoutes InTruncatedPkts InMcastPkts OutMcastPkts InBcastPkts OutBcastPkts InOctets "
           "OutOctets InMcastOctets OutMcastOctets InBcastOctets OutBcastOctets InCsumErrors "
           "InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts ReasmOverlaps",
           {{"InTruncatedPkts", N(c.ip4.in_truncated)}, {"InOctets", N(in_octets)},
            {"OutOctets", N(out_octets)}, {"InCsumErrors", N(c.ip4.in_bad_checksum)},
            {"ReasmOverlaps", N(c.ip4.reasm_overlaps)}});
  return out;
}

std::string Snmp6Text(net::Stack& s) {
  const net::Counters c = s.GetCounters();
  const Value known[] = {
      {"Ip6InReceives", N(c.ip6.in_receives)}, {"Ip6InHdrErrors", N(c.ip6.in_hdr_errors)},
      {"Ip6InAddrErrors", N(c.ip6.in_addr_errors)},
      {"Ip6InUnknownProtos", N(c.ip6.in_unknown_protos)},
      {"Ip6InDiscards", N(c.ip6.in_discards)}, {"Ip6InDelivers", N(c.ip6.in_delivers)},
      {"Ip6OutForwDatagrams", N(c.ip6.forwarded)}, {"Ip6OutRequests", N(c.ip6.out_requests)},
      {"Ip6OutDiscards", N(c.ip6.out_discards)}, {"Ip6OutNoRoutes", N(c.ip6.out_no_routes)},
      {"Ip6ReasmTimeout", N(c.ip6.reasm_timeouts)}, {"Ip6ReasmReqds", N(c.ip6.reasm_reqds)},
      {"Ip6ReasmOKs", N(c.ip6.reasm_oks)}, {"Ip6ReasmFails", N(c.ip6.reasm_fails)},
      {"Ip6FragOKs", N(c.ip6.frag_oks)}, {"Ip6FragFails", N(c.ip6.frag_fails)},
      {"Ip6FragCreates", N(c.ip6.frag_creates)}, {"Icmp6InMsgs", N(c.icmp6.in_msgs)},
      {"Icmp6InErrors", N(c.icmp6.in_errors)}, {"Icmp6OutMsgs", N(c.icmp6.out_msgs)},
      {"Icmp6InCsumErrors", N(c.icmp6.in_csum_errors)}, {"Icmp6InEchos", N(c.icmp6.in_echos)},
      {"Icmp6InEchoReplies", N(c.icmp6.in_echo_reps)},
      {"Icmp6InDestUnreachs", N(c.icmp6.in_dest_unreachs)},
      {"Icmp6OutEchoReplies", N(c.icmp6.out_echo_reps)},
      {"Udp6InDatagrams", N(c.udp6.in_datagrams)}, {"Udp6NoPorts", N(c.udp6.no_ports)},
      {"Udp6InErrors", N(c.udp6.in_errors)}, {"Udp6OutDatagrams", N(c.udp6.out_datagrams)},
      {"Udp6RcvbufErrors", N(c.udp6.rcvbuf_errors)},
      {"Udp6InCsumErrors", N(c.udp6.in_csum_errors)}};
  std::string out;
  for (const char* name : kIp6Names) {
    int64_t value = 0;
    for (const Value& v : known) {
      if (strcmp(v.name, name) == 0) value = v.value;
    }
    AppendFormat(&out, "%-32s\t%lld\n", name, static_cast<long long>(value));
  }
  return out;
}

}  // namespace ringwall::netlink
