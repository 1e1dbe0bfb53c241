// The stand-in: what a container that joins another one's sandbox is on the host. It is the parent of that
// container's gofer and terminal keeper, and is in its cgroups; its pid is the container's. It ends with
// the exit code of the container's first process, or as soon as its gofer or the Sentry does, and the
// container ends with it.
#ifndef RINGWALL_RUNSC_SANDBOX_STAND_IN_H_
#define RINGWALL_RUNSC_SANDBOX_STAND_IN_H_

#include <span>

#include "runsc/filter/filter.h"
#include "runsc/sandbox/sandbox.h"

namespace ringwall {

// As StartSandbox, for the stand-in. `boot` gets the Sentry's ends of what it is to hand over: gofer,
// control_connection and, for a container with a terminal, terminal_connection. Its status pipe says
// Ready when the gofer is up.
HostResult<SandboxProcess> StartStandIn(const SandboxOptions& options, BootArgs* boot);

// The calls that it makes once it stands, each with its reason.
std::span<const FilterRule> StandInFilterRules();

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_STAND_IN_H_
