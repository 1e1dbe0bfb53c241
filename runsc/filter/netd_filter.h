// The network helper's list of host system calls (runsc/net/nat.h): the only process of a sandbox that
// may make sockets of the host's network. It opens no file, maps no code, makes no thread or process.
#ifndef RINGWALL_RUNSC_FILTER_NETD_FILTER_H_
#define RINGWALL_RUNSC_FILTER_NETD_FILTER_H_

#include <span>

#include "runsc/filter/filter.h"

namespace ringwall {

std::span<const FilterRule> NetdFilterRules();
HostResult<void> InstallNetdFilter(bool host_ports = false);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_FILTER_NETD_FILTER_H_
