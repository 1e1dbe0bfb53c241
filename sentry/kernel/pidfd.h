// pidfd: a descriptor that stands for a process (kernel/pid.c, fs/pidfs.c).
#ifndef RINGWALL_SENTRY_KERNEL_PIDFD_H_
#define RINGWALL_SENTRY_KERNEL_PIDFD_H_

#include "fs/vfs/file.h"
#include "sentry/kernel/thread_group.h"

namespace ringwall {

// flags: O_NONBLOCK (PIDFD_NONBLOCK).
Ref<File> NewPidFd(ThreadGroup& tg, uint32_t flags);
// The process of a pidfd, or null when `file` is none.
RefPtr<ThreadGroup> ThreadGroupOfPidFd(File& file);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_PIDFD_H_
