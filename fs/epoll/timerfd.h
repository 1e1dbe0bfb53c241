// timerfd (fs/timerfd.c): a timer whose expirations are read.
#ifndef RINGWALL_FS_EPOLL_TIMERFD_H_
#define RINGWALL_FS_EPOLL_TIMERFD_H_

#include "fs/vfs/file.h"
#include "sentry/kernel/timer_queue.h"

namespace ringwall {

struct TimerFdSetting {
  int64_t value = 0, interval = 0;  // nanoseconds; value 0 is off
};

// flags: TFD_NONBLOCK. EINVAL: no timer runs on that clock.
Result<Ref<File>> NewTimerFd(TimerQueue& queue, int clock_id, int flags);
// Both return what was left. EINVAL: not a timerfd. With cancel_on_set a read after a step of the
// host's clock is ECANCELED; nobody who sleeps is woken by the step.
Result<TimerFdSetting> SetTimerFd(File& file, const TimerFdSetting& to, bool absolute,
                                  bool cancel_on_set = false);
Result<TimerFdSetting> GetTimerFd(File& file);

}  // namespace ringwall

#endif  // RINGWALL_FS_EPOLL_TIMERFD_H_
