// sockaddr_un from and to the name that it holds.
#ifndef RINGWALL_FS_UNIX_UNIX_ADDRESS_H_
#define RINGWALL_FS_UNIX_UNIX_ADDRESS_H_

#include <string>

#include "fs/socket/socket.h"

namespace ringwall {

// sun_path's bytes: up to the NUL of a path, all of an abstract name. Empty: no name (autobind).
Result<std::string> UnixPathOf(const SocketAddress& a);
SocketAddress UnixAddressOf(const std::string& path);

}  // namespace ringwall

#endif  // RINGWALL_FS_UNIX_UNIX_ADDRESS_H_
