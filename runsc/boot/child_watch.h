// The Sentry's host children: stubs, the zygote and the gofer. Whoever of them is killed from outside
// is noticed at once, also while its tasks sleep.
#ifndef RINGWALL_RUNSC_BOOT_CHILD_WATCH_H_
#define RINGWALL_RUNSC_BOOT_CHILD_WATCH_H_

#include "runsc/boot/boot.h"
#include "sentry/kernel/kernel.h"

namespace ringwall {

// Before the first task runs: a task that finds its stub gone before WatchChildren does says so, too.
void ListenForLostStubs(Kernel& kernel, StatusPipe status);

// Reaps children of the calling thread as they end, for ever. A lost stub ends its guest process by
// SIGKILL, a lost zygote or gofer the sandbox; `status` says which part died.
// Preconditions: on the thread that started the platform and the gofer.
[[noreturn]] void WatchChildren(Kernel& kernel, StatusPipe status);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_BOOT_CHILD_WATCH_H_
