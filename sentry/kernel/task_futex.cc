#include "sentry/kernel/task_futex.h"

#include "sentry/kernel/futex.h"
#include "sentry/kernel/task.h"

namespace ringwall {

void ExitFutexes(Task& t) {
  FutexTable& table = t.kernel().futexes();
  const GuestAddr list = t.context().robust_list();
  // Mostly the stub has brought the head along, and the list is empty.
  uint64_t head[3] = {};
  const bool empty = list.IsNull() || !t.CopyIn(list, std::as_writable_bytes(std::span(head))).ok() ||
                     (head[0] == list.value() && head[2] == 0);
  if (!empty) table.ExitRobustList(t.mm(), list, t.vtid());
  table.ExitPi(t.vtid());
}

void WakeClearedTid(Task& t, GuestAddr addr) {
  Result<int> ignored = t.kernel().futexes().Wake({t.mm(), addr, true}, 1, ~uint32_t{0});
  static_cast<void>(ignored);
}

}  // namespace ringwall
