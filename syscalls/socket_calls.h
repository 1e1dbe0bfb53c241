// What the socket calls' files share.
#ifndef RINGWALL_SYSCALLS_SOCKET_CALLS_H_
#define RINGWALL_SYSCALLS_SOCKET_CALLS_H_

#include "fs/socket/socket.h"
#include "syscalls/handlers.h"

namespace ringwall {

struct SocketRef {
  Ref<File> file;
  Socket& socket;
};

// EBADF, ENOTSOCK.
Result<SocketRef> GetSocket(Task& t, int fd);
// EINVAL for a length that is negative or longer than a sockaddr_storage; EFAULT.
Result<SocketAddress> CopyInAddress(Task& t, GuestAddr addr, int64_t length);
// Copies as much as *length allows, and stores the whole size there (move_addr_to_user()).
Result<void> CopyOutAddress(Task& t, const SocketAddress& a, GuestAddr addr, GuestAddr length);

}  // namespace ringwall

#endif  // RINGWALL_SYSCALLS_SOCKET_CALLS_H_
