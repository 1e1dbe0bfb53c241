// Restartable sequences of a task (kernel/rseq.c). The area is registered with the host for the task's
// guest thread, so that the host aborts critical sections when it preempts or moves the thread.
#ifndef RINGWALL_SENTRY_KERNEL_TASK_RSEQ_H_
#define RINGWALL_SENTRY_KERNEL_TASK_RSEQ_H_

#include "sentry/kernel/task.h"

namespace ringwall {

// AT_RSEQ_FEATURE_SIZE and AT_RSEQ_ALIGN of Linux 6.12: up to mm_cid.
inline constexpr uint32_t kRseqFeatureSize = 28, kRseqAlign = 32;

// Brings the task's fields up to date with what its stub has registered alone. The task's thread, or one
// that keeps it stopped.
void NoteLocalRseq(Task& t);

// rseq(2). Task thread only.
Result<void> RegisterRseq(Task& t, GuestAddr area, uint32_t length, uint32_t signature);
Result<void> UnregisterRseq(Task& t, GuestAddr area, uint32_t length, uint32_t signature);

// fork: `child`, which does not run yet and whose context is `context`, has the area of its parent.
void InheritRseq(Task& child, Context& context, Task& parent);

// Before the task's memory may be another's: its thread ends while the address space lives on, or with
// `in_place` the thread goes on with another program.
void LeaveRseq(Task& t, bool in_place = false);

// Before a signal frame: ends the critical section that the task is in, where the platform has not.
// False when what the program has registered makes no sense.
bool AbortRseq(Task& t);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_TASK_RSEQ_H_
