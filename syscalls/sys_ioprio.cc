// I/O priorities (block/ioprio.c): remembered, for there is no scheduler of block devices to tell.
#include <algorithm>

#include "syscalls/handlers_misc.h"

namespace ringwall {

namespace {

constexpr int kClassShift = 13;

Result<void> Check(const Task& t, int ioprio) {
  const int type = (ioprio >> kClassShift) & 7, level = ioprio & 7;
  switch (type) {
    case 1:  // real-time
      if (!t.creds().Has(Capability::kSysAdmin) && !t.creds().Has(Capability::kSysNice)) {
        return Errno(EPERM);
      }
      return {};
    case 2:  // best effort
    case 3:  // idle
      return {};
    case 0:
      if (level != 0) return Errno(EINVAL);
      return {};
    default:
      return Errno(EINVAL);
  }
}

// Calls f(Task&) for each that (which, who) names. EINVAL, ESRCH, or f's error.
template <typename F>
Result<void> ForEach(Task& t, int which, int who, F f) {
  constexpr int kProcess = 1, kGroup = 2, kUser = 3;
  if (which < kProcess || which > kUser) return Errno(EINVAL);
  MutexLock lock(t.kernel().tasks().mu);
  bool any = false;
  for (const auto& [tid, task] : t.pid_ns().tasks) {
    bool match = false;
    switch (which) {
      case kProcess:
        match = who == 0 ? task == &t : tid == who;
        break;
      case kGroup:
        match = who == 0 ? task->tg().pgrp == t.tg().pgrp
                         : task->tg().pgrp && task->tg().pgrp->pid->In(t.pid_ns()) == who;
        break;
      default:
        match = task->creds_ref()->ruid == (who == 0 ? t.creds().ruid : static_cast<Uid>(who));
        break;
    }
    if (!match) continue;
    any = true;
    TRY(f(*task));
  }
  if (!any) return Errno(ESRCH);
  return {};
}

// What a task without a priority of its own counts as: its nice value decides.
int Effective(const Task& t) {
  const int own = t.io_priority.load();
  if ((own >> kClassShift) != 0) return own;
  return (2 << kClassShift) | ((t.nice.load() + 20) / 5);
}

}  // namespace

SysResult SysIoprioSet(Task& t, int which, int who, int ioprio) {
  TRY(Check(t, ioprio));
  TRY(ForEach(t, which, who, [&](Task& target) -> Result<void> {
    Ref<const Credentials> c = target.creds_ref();
    if (c->ruid != t.creds().euid && c->ruid != t.creds().ruid &&
        !t.creds().Has(Capability::kSysNice)) {
      return Errno(EPERM);
    }
    target.io_priority.store(static_cast<uint16_t>(ioprio));
    return {};
  }));
  return 0;
}

SysResult SysIoprioGet(Task& t, int which, int who) {
  int best = -1;
  TRY(ForEach(t, which, who, [&](Task& target) -> Result<void> {
    // Of one task what was set, of several the best that holds.
    const int value = which == 1 ? target.io_priority.load() : Effective(target);
    best = best < 0 ? value : std::min(best, value);
    return {};
  }));
  return best;
}

}  // namespace ringwall
