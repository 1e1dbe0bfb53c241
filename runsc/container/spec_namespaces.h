// linux.namespaces of a bundle: what of it means something to a container with a kernel of its own.
#ifndef RINGWALL_RUNSC_CONTAINER_SPEC_NAMESPACES_H_
#define RINGWALL_RUNSC_CONTAINER_SPEC_NAMESPACES_H_

#include <string>
#include <vector>

#include "runsc/boot/boot.h"
#include "runsc/spec/spec.h"
#include "sentry/base/host_error.h"

namespace ringwall {

// Looks at every namespace but the network's, which Container::SetUpNetwork joins. A uts namespace that
// is given by its path, or the host's where there is none in the list, lends its names to the
// container. Others cannot be joined: a path that names no such namespace is an error, one that does is
// a warning.
HostResult<void> ApplyNamespaces(const oci::Spec& spec, BootArgs* boot,
                                 std::vector<std::string>* warnings);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CONTAINER_SPEC_NAMESPACES_H_
