// linux.sysctl of a bundle, set in the namespaces of the container's first process.
#ifndef RINGWALL_RUNSC_BOOT_SYSCTL_H_
#define RINGWALL_RUNSC_BOOT_SYSCTL_H_

#include <vector>

#include "runsc/boot/boot.h"
#include "sentry/kernel/kernel.h"

namespace ringwall {

// Sets those that are there and takes them out of the list; what is left names no file, perhaps not
// yet: an interface's come with it. The error names the one that does not take its value.
// Preconditions: `init` has not been started.
HostResult<void> SetSysctls(Kernel& kernel, ThreadGroup& init, std::vector<BootSysctl>* sysctls);

// Says which ones have no effect.
void WarnOfSysctls(const std::vector<BootSysctl>& sysctls);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_SYSCTL_H_
