// SO_ATTACH_FILTER and its kin (net/core/filter.c): classic BPF programs of guests, on sockets of any
// family. Socket keeps the program; a family whose packets go through it says so (OnFilter).
#ifndef RINGWALL_FS_SOCKET_SOCKET_FILTER_H_
#define RINGWALL_FS_SOCKET_SOCKET_FILTER_H_

#include <optional>

#include "fs/socket/socket.h"
#include "netstack/endpoint.h"

namespace ringwall {

// The program of a struct sock_fprog. EINVAL, EFAULT; EPERM when `locked`.
Result<Ref<net::EndpointFilter>> ReadFilter(OptionIn& in, bool locked);

}  // namespace ringwall

#endif  // RINGWALL_FS_SOCKET_SOCKET_FILTER_H_
