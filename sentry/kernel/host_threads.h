// Host threads for tasks. One whose task has ended stays a moment for the next task: a thread that is
// there costs one wake, a new one a clone, a stack and the set-up of libc.
#ifndef RINGWALL_SENTRY_KERNEL_HOST_THREADS_H_
#define RINGWALL_SENTRY_KERNEL_HOST_THREADS_H_

namespace ringwall {

// Runs body(argument) on a host thread that waits for work; false when there is none.
// Binds it to `next_thread_cpu`, if that is set: whoever set it has `body` undo that.
// Preconditions: `body` leaves nothing of its own behind in the thread (signal mask, processors).
bool RunOnIdleThread(void (*body)(void*), void* argument);
// The same on a new thread, which has the signal mask and the processors of its maker. Nobody waits for
// it. 0 or pthread_create's error.
int RunOnNewThread(void (*body)(void*), void* argument);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_HOST_THREADS_H_
