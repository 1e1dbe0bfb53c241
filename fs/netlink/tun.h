// /dev/net/tun (drivers/net/tun.c): tun and tap interfaces whose other end is a program.
#ifndef RINGWALL_FS_NETLINK_TUN_H_
#define RINGWALL_FS_NETLINK_TUN_H_

namespace ringwall::netlink {

void RegisterTun();

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_TUN_H_
