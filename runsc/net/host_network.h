// --network=sandbox, the CLI's part: takes the interfaces of a network namespace over.
#ifndef RINGWALL_RUNSC_NET_HOST_NETWORK_H_
#define RINGWALL_RUNSC_NET_HOST_NETWORK_H_

#include <string>

#include "runsc/net/config.h"
#include "sentry/base/host_error.h"

namespace ringwall {

// Holds the calling thread in another network namespace for a scope.
class NetNamespaceScope {
 public:
  // `path`: as /proc/PID/ns/net or what an engine bound somewhere.
  static HostResult<NetNamespaceScope> Enter(const std::string& path);
  static HostResult<NetNamespaceScope> Fresh();
  NetNamespaceScope(NetNamespaceScope&&) = default;
  NetNamespaceScope& operator=(NetNamespaceScope&&) = default;
  ~NetNamespaceScope();

 private:
  explicit NetNamespaceScope(UniqueFd before) : before_(std::move(before)) {}
  UniqueFd before_;
};

// Who takes a namespace's interfaces over: a process in it, and the container's name for others to read.
struct NetworkOwner {
  int pid = 0;
  std::string id;
};

// Reads the namespace that the caller is in, opens a packet socket for each interface that is up,
// and takes the addresses away from the host's kernel, so that nobody but the Sentry answers there. The
// interfaces' alias says whose they are: an error names a running container that has them already.
HostResult<NetworkConfig> TakeOverNetwork(const NetworkOwner& owner);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_NET_HOST_NETWORK_H_
