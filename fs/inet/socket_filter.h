// SO_ATTACH_FILTER: classic BPF programs of guests on endpoints of the stack.
#ifndef RINGWALL_FS_INET_SOCKET_FILTER_H_
#define RINGWALL_FS_INET_SOCKET_FILTER_H_

#include "fs/socket/socket.h"
#include "netstack/endpoint.h"

namespace ringwall {

// SO_ATTACH_FILTER, SO_DETACH_FILTER and their kin; nullopt: not one of them.
std::optional<Result<void>> SetFilterOption(int name, OptionIn& in, SocketOptions& options,
                                            net::Endpoint& endpoint);
std::optional<Result<void>> GetFilterOption(int name, OptionOut& out, net::Endpoint& endpoint);

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_SOCKET_FILTER_H_
