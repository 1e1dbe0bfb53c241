// All AF_UNIX sockets, for /proc/net/unix and unix_diag.
#ifndef RINGWALL_FS_UNIX_SOCKET_LIST_H_
#define RINGWALL_FS_UNIX_SOCKET_LIST_H_

#include <string>
#include <vector>

#include "fs/socket/net_namespace.h"

namespace ringwall {

class UnixSocket;

struct UnixSocketInfo {
  const void* cookie = nullptr;  // identity, never followed
  uint32_t refs = 0;
  int type = 0;
  bool listening = false, connected = false, read_shut = false, write_shut = false;
  uint64_t inode = 0, peer_inode = 0;
  std::string address;           // sun_path: a path, or abstract with a leading NUL
  uint32_t queued = 0;           // bytes to read, or connections to accept
  uint32_t backlog = 0;
  std::vector<uint64_t> pending_inodes;
  uint32_t uid = 0;
};

// Those of one namespace.
std::vector<UnixSocketInfo> ListUnixSockets(NetNamespace& net);

// For UnixSocket's constructor and destructor.
void EnlistUnixSocket(UnixSocket& socket);
void DelistUnixSocket(UnixSocket& socket);

}  // namespace ringwall

#endif  // RINGWALL_FS_UNIX_SOCKET_LIST_H_
