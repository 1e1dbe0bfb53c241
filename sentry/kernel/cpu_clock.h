// Clocks of CPU time of other tasks and processes (kernel/time/posix-cpu-timers.c): what the number of
// such a clock means, its time, and timers on it.
#ifndef RINGWALL_SENTRY_KERNEL_CPU_CLOCK_H_
#define RINGWALL_SENTRY_KERNEL_CPU_CLOCK_H_

#include <memory>

#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/timer_queue.h"

namespace ringwall {

// CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, and negative numbers made of a pid:
// ~pid << 3 | which, bit 2 for a thread.
constexpr bool IsCpuClock(int clock) { return clock < 0 || clock == 2 || clock == 3; }
// ~fd << 3 | 3: of a device such as /dev/ptp0, of which there are none.
constexpr bool IsDeviceClock(int clock) { return clock < 0 && (clock & 7) == 3; }

// The clock's process or thread as `t` may name it. EINVAL. `reading`: clock_gettime also takes the
// caller's own tid for its process.
struct CpuClockTarget {
  RefPtr<ThreadGroup> process;  // one of the two
  RefPtr<Task> thread;
  bool user_only = false;
};
Result<CpuClockTarget> FindCpuClock(Task& t, int clock, bool reading);

// Nanoseconds. Takes the TaskSet's lock.
int64_t ReadCpuClock(const CpuClockTarget& target);

// For timers; keeps its target.
std::unique_ptr<CpuClock> NewCpuClock(CpuClockTarget target);

// clock_nanosleep on such a clock: sleeps until it shows `deadline`. kErestartSys on a signal.
Result<void> SleepOnCpuClock(Task& t, CpuClockTarget target, int64_t deadline);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_CPU_CLOCK_H_
