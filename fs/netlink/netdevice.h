// The ioctls of netdevice(7).
#ifndef RINGWALL_FS_NETLINK_NETDEVICE_H_
#define RINGWALL_FS_NETLINK_NETDEVICE_H_

#include "fs/socket/socket.h"

namespace ringwall::netlink {

// ENOTTY: not one of them.
Result<int64_t> DeviceIoctl(Task& t, Socket& s, uint32_t cmd, uint64_t arg);

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_NETDEVICE_H_
