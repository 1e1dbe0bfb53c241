// The tracked connections over NETLINK_NETFILTER (net/netfilter/nf_conntrack_netlink.c): listed, changed,
// taken away, and told of. None are made from outside: there are no helpers that would want it.
#ifndef RINGWALL_FS_NETLINK_CTNETLINK_H_
#define RINGWALL_FS_NETLINK_CTNETLINK_H_

#include "fs/netlink/netlink_socket.h"

namespace ringwall::netlink {

// A message of the subsystem ctnetlink.
Result<void> Conntrack(Context& c);
// With the stack's lock held.
void NotifyConnection(NetNamespace& net, const net::StackHost::Change& change);

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_CTNETLINK_H_
