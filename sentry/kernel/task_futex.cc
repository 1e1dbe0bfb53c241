#include "sentry/kernel/task_futex.h"

#include "sentry/kernel/futex.h"
#include "sentry/kernel/task.h"

namespace ringwall {

void ExitFutexes(Task& t) {
  FutexTable& table = t.kernel().futexes();
  if (!t.robust_list.IsNull()) table.ExitRobustList(t.mm(), t.robust_list, t.vtid());
  table.ExitPi(t.vtid());
}

void WakeClearedTid(Task& t, GuestAddr addr) {
  Result<int> ignored = t.kernel().futexes().Wake({t.mm(), addr, true}, 1, ~uint32_t{0});
  static_cast<void>(ignored);
}

}  // namespace ringwall
