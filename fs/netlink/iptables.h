// The socket options of iptables and ip6tables.
#ifndef RINGWALL_FS_NETLINK_IPTABLES_H_
#define RINGWALL_FS_NETLINK_IPTABLES_H_

#include <optional>

#include "fs/socket/socket.h"

namespace ringwall::netlink {

// Nothing: not one of them.
std::optional<Result<void>> SetFilterOption(Socket& s, int level, int name, OptionIn& in);
std::optional<Result<void>> GetFilterOption(Socket& s, int level, int name, OptionOut& out);

}  // namespace ringwall::netlink

#endif  // RINGWALL_FS_NETLINK_IPTABLES_H_
