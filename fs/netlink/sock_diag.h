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

// A number for an object that cannot be turned back into its address.
uint64_t CookieOf(const void* p);
// What SO_COOKIE tells: the inode number; of those that no program has yet, or any more, their identity.
inline uint64_t CookieOf(uint64_t inode, const void* p) { return inode != 0 ? inode : CookieOf(p); }

Result<void> UnixDiag(Context& c);

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_SOCK_DIAG_H_
