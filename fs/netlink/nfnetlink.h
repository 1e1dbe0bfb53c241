// NETLINK_NETFILTER (net/netfilter/nfnetlink.c): messages of subsystems, some of them in batches that
// are done whole or not at all. Here: nftables, and what iptables-nft asks about extensions.
#ifndef RINGWALL_FS_NETLINK_NFNETLINK_H_
#define RINGWALL_FS_NETLINK_NFNETLINK_H_

#include <linux/netfilter/nfnetlink.h>

#include "fs/netlink/netlink_socket.h"

namespace ringwall::netlink {

class NetfilterProtocol final : public Protocol {
 public:
  uint32_t groups() const override { return NFNLGRP_MAX; }
  Result<void> Receive(Task& t, NetlinkSocket& s, Bytes datagram) override;

 protected:
  Result<void> Handle(Context& c) override;

 private:
  void Batch(Task& t, NetlinkSocket& s, const Message& begin, MessageWalk& walk);
};

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_NFNETLINK_H_
