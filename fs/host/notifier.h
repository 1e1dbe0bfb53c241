// HostNotifier: tells wait queues of events on host descriptors. One thread in epoll_wait, started
// with the first descriptor; registrations are edge-triggered, so an idle sandbox has no wake-ups.
#ifndef RINGWALL_FS_HOST_NOTIFIER_H_
#define RINGWALL_FS_HOST_NOTIFIER_H_

#include "sentry/base/host_error.h"
#include "sentry/base/result.h"
#include "sentry/base/wait_queue.h"

namespace ringwall {

class HostNotifier {
 public:
  static HostResult<void> Prepare();
  // From now on events on `fd` wake `queue`. False for files that have no events (regular ones are
  // always ready).
  static bool Add(int fd, WaitQueue& queue);
  // After this the queue is not touched any more.
  static void Remove(int fd, WaitQueue& queue);
};

}  // namespace ringwall

#endif  // RINGWALL_FS_HOST_NOTIFIER_H_
