// pidfd: a descriptor that stands for a process or a thread (kernel/pid.c, fs/pidfs.c).
#ifndef RINGWALL_SENTRY_KERNEL_PIDFD_H_
#define RINGWALL_SENTRY_KERNEL_PIDFD_H_

#include "fs/vfs/file.h"
#include "sentry/kernel/thread_group.h"

namespace ringwall {

class Task;

// flags: O_NONBLOCK (PIDFD_NONBLOCK), O_EXCL (PIDFD_THREAD: `thread` alone).
Ref<File> NewPidFd(ThreadGroup& tg, uint32_t flags, RefPtr<Task> thread = nullptr);
// The process of a pidfd, or null when `file` is none.
RefPtr<ThreadGroup> ThreadGroupOfPidFd(File& file);
// The same of a directory /proc/PID, which pidfd_send_signal takes as well (tgid_pidfd_to_pid).
RefPtr<ThreadGroup> ThreadGroupOfProcDirectory(File& file);
// procfs says at start-up how to tell.
void SetProcDirectoryLookup(RefPtr<ThreadGroup> (*lookup)(Inode& inode));
// The thread of one that was opened with PIDFD_THREAD, else null.
RefPtr<Task> ThreadOfPidFd(File& file);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_PIDFD_H_
