// PortWatch: who is told before a socket of one network namespace serves a port, and may object. The
// runtime's way to let --network=host listen on the host's addresses.
#ifndef RINGWALL_FS_INET_PORT_WATCH_H_
#define RINGWALL_FS_INET_PORT_WATCH_H_

#include "fs/socket/net_namespace.h"
#include "netstack/wire/address.h"
#include "sentry/base/result.h"

namespace ringwall {

// Thread-safe. Called without a lock of the sockets.
class PortWatch {
 public:
  virtual ~PortWatch() = default;
  // A TCP socket is about to listen at, or a UDP socket to be bound to, `at`; its port is not 0.
  // What bind(2) of the host says.
  virtual Result<void> Open(const net::SockAddr& at, bool udp, bool v6_only) = 0;
  // Once for each Open that was no error.
  virtual void Close(const net::SockAddr& at, bool udp) = 0;
};

// For the sockets of `ns`. Once, before there are any; both live to the end.
void SetPortWatch(NetNamespace& ns, PortWatch& watch);
// Null for a namespace without one.
PortWatch* PortWatchOf(const NetNamespace& ns);

}  // namespace ringwall

#endif  // RINGWALL_FS_INET_PORT_WATCH_H_
