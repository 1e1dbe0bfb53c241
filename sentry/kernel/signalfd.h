// signalfd (fs/signalfd.c): pending signals of whoever reads, as a file.
#ifndef RINGWALL_SENTRY_KERNEL_SIGNALFD_H_
#define RINGWALL_SENTRY_KERNEL_SIGNALFD_H_

#include "fs/vfs/file.h"
#include "sentry/kernel/task.h"

namespace ringwall {

Ref<File> NewSignalFd(Task& t, abi::SigSet set, uint32_t flags);
// Gives a signalfd another set. EINVAL: it is something else.
Result<void> SetSignalFd(File& file, abi::SigSet set);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_SIGNALFD_H_
