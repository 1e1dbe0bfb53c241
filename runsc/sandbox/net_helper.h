// The network helper's process (--network=user): stays in the caller's network namespace and gives
// up everything else, then serves runsc/net/nat.h.
#ifndef RINGWALL_RUNSC_SANDBOX_NET_HELPER_H_
#define RINGWALL_RUNSC_SANDBOX_NET_HELPER_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "runsc/net/config.h"
#include "sentry/base/host_error.h"

namespace ringwall {

struct PortMapping {
  std::string host_ip;  // empty: all addresses
  uint16_t host_port = 0;
  uint16_t guest_port = 0;
  bool udp = false;
};

// "[ip:]8080:80[/udp]"; an IPv6 address in brackets.
HostResult<PortMapping> ParsePortMapping(const std::string& text);

struct UserNetworkOptions {
  std::vector<PortMapping> ports;
  bool host_loopback = false;
  bool host_ports = false;  // --network=host: ports that the guest serves are the host's
  bool privileged = false;
  bool strict = false;
};

struct UserNetwork {
  NetworkConfig config;     // for the Sentry
  std::string resolv_conf;  // what the guest's /etc/resolv.conf is to say
  UniqueFd ports;           // host_ports: for the Sentry, see runsc/net/port_message.h
  pid_t helper = -1;
};

// Starts the helper, which ends when the Sentry's side of the link does. The caller has one thread.
HostResult<UserNetwork> StartUserNetwork(const UserNetworkOptions& options);

// Docker's resolver for user-defined networks listens at a loopback address of the container's
// network namespace, which no packet of the guest's own stack reaches. A helper in that namespace
// asks it, over a link of its own that the guest has beside its interfaces.
// What the guest's resolv.conf is to say instead; nullopt when `text` names no such resolver.
std::optional<std::string> RelayedResolvConf(const std::string& text, std::string* resolver);
// Preconditions: the caller is in the container's network namespace. The link is to be added to the
// container's.
HostResult<UserNetwork> StartNameRelay(const std::string& resolver,
                                       const UserNetworkOptions& options);

// Waits for the helper's end, which follows the Sentry's at once; ends it when it does not.
void AwaitNetHelper(pid_t helper);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_NET_HELPER_H_
