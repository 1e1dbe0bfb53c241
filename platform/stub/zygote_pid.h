// For who reaps the Sentry's children: the pid of this process's zygote, and where to tell of stubs.
#ifndef RINGWALL_PLATFORM_STUB_ZYGOTE_PID_H_
#define RINGWALL_PLATFORM_STUB_ZYGOTE_PID_H_

#include <sys/types.h>

namespace ringwall {

// 0 when there is none.
pid_t ZygotePid();

// A stub was reaped that a signal has ended; the last few are remembered. Any thread.
void NoteStubDeath(pid_t pid, int signo);
// That signal, or 0.
int NotedStubDeath(pid_t pid);

}  // namespace ringwall

#endif  // RINGWALL_PLATFORM_STUB_ZYGOTE_PID_H_
