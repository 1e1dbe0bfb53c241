// What a task's end means for futexes: the robust list and the cleared thread id.
#ifndef RINGWALL_SENTRY_KERNEL_TASK_FUTEX_H_
#define RINGWALL_SENTRY_KERNEL_TASK_FUTEX_H_

#include "sentry/base/guest_addr.h"

namespace ringwall {

class Task;

// Walks the robust list, marks what the task held and wakes a waiter of each. Before the memory goes.
void ExitFutexes(Task& t);
// After set_tid_address's word was cleared: wakes one waiter of it, as a shared futex.
void WakeClearedTid(Task& t, GuestAddr addr);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_TASK_FUTEX_H_
