// What targets of iptables do that expressions of nftables do, too.
#ifndef RINGWALL_NETSTACK_FILTER_XT_ACTIONS_H_
#define RINGWALL_NETSTACK_FILTER_XT_ACTIONS_H_

#include "netstack/filter/xtables.h"

namespace ringwall::net {

// Writes a line about the packet to the kernel's log. flags: NF_LOG_* of nf_log.h.
void FilterLog(XtPacket& x, uint8_t level, uint8_t flags, std::string_view prefix);
// Answers a TCP segment with a reset.
void XtSendTcpReset(XtPacket& x);
// Answers with "unreachable" of the packet's family.
void XtSendUnreachable(XtPacket& x, uint8_t code);
// The address that this host's packets to the destination would have; none when it has none.
IpAddr XtMasqueradeAddress(XtPacket& x);
// The address of the interface that a packet came in by; of the loopback for own ones.
IpAddr XtRedirectAddress(XtPacket& x);

}  // namespace ringwall::net

#endif  // RINGWALL_NETSTACK_FILTER_XT_ACTIONS_H_
