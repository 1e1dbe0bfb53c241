// Where the host thread of a task that is about to start had better wake: the platform says so to
// whoever starts it.
#ifndef RINGWALL_SENTRY_BASE_THREAD_PLACE_H_
#define RINGWALL_SENTRY_BASE_THREAD_PLACE_H_

#include <sched.h>

#include <cstddef>

namespace ringwall {

// The set of one processor, below CPU_SETSIZE.
inline cpu_set_t OneProcessor(size_t cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return set;
}

// The processor to which the calling thread's next host thread for a task is to be bound, until that
// first sleeps or lets go; -1: none.
inline thread_local int next_thread_cpu = -1;

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_THREAD_PLACE_H_
