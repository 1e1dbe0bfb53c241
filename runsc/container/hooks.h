// OCI hooks: programs of the host that an engine wants run at points of a container's life.
#ifndef RINGWALL_RUNSC_CONTAINER_HOOKS_H_
#define RINGWALL_RUNSC_CONTAINER_HOOKS_H_

#include <string>

#include "runsc/spec/spec.h"
#include "sentry/base/host_error.h"

namespace ringwall {

// Runs each with `state_json` on its stdin; stops at the first that fails or takes too long.
HostResult<void> RunHooks(const google::protobuf::RepeatedPtrField<oci::Hook>& hooks,
                          const char* kind, const std::string& state_json);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CONTAINER_HOOKS_H_
