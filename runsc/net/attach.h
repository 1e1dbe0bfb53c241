// Makes a Stack's interfaces and routes as a NetworkConfig says, with a thread for each link.
#ifndef RINGWALL_RUNSC_NET_ATTACH_H_
#define RINGWALL_RUNSC_NET_ATTACH_H_

#include "netstack/stack.h"
#include "runsc/net/config.h"
#include "sentry/base/host_error.h"

namespace ringwall {

// The stack has its loopback already. The threads end when their peer does or the process ends.
HostResult<void> AttachNetwork(net::Stack& stack, NetworkConfig config);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_NET_ATTACH_H_
