// epoll_ctl answered by the stub ahead of the Sentry, which makes the calls at the task's next event.
//
// Programs that wait now for input and now for room change an entry twice for each message, and mostly
// nobody can tell when: the epoll belongs to a task that shares its descriptors with nobody, and whose
// table holds the only reference to it; no other epoll watches it. The stub is told of descriptors whose calls have succeeded and
// must go on to do so: those of one epoll, for as long as the task makes no call but some that leave
// known descriptors as they are. Its answer is 0; what it leaves to be done is a call like any other to
// the Sentry, made before the event that brought it is looked at.
#ifndef RINGWALL_SENTRY_KERNEL_EPOLL_AHEAD_H_
#define RINGWALL_SENTRY_KERNEL_EPOLL_AHEAD_H_

#include <span>

#include "platform/epoll_calls.h"
#include "sentry/kernel/task.h"

namespace ringwall {

// Makes the calls on the task's epoll `epfd`, each as if it had just come; results are nobody's.
using EpollCallsFn = void (*)(Task& task, int epfd, std::span<const EpollCall> calls);
void SetEpollCalls(EpollCallsFn fn);

// Before an event of the calling thread's task is looked at: makes what calls its stub has answered, and
// has the stub forget what the event may change.
void SettleEpollCalls(Task& task, EpollCalls& ahead, EventKind kind, const SyscallRequest& request);

// After a call of epoll_ctl on `epoll` (descriptor epfd) for `fd` that has succeeded: tells the stub if it
// may answer the next ones.
void NoteEpollCall(Task& task, File& epoll, int epfd, int fd, bool watched);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_EPOLL_AHEAD_H_
