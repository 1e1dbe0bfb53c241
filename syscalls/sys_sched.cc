// Scheduling calls (kernel/sched/syscalls.c). Guest threads are threads of the host's own scheduler.
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "syscalls/handlers.h"
#include "syscalls/handlers_misc.h"

namespace ringwall {

namespace {

Result<Ref<Task>> Target(Task& t, int pid) {
  if (pid < 0) return Errno(EINVAL);
  MutexLock lock(t.kernel().tasks().mu);
  Task* target = pid == 0 ? &t : t.pid_ns().FindTask(pid);
  if (target == nullptr) return Errno(ESRCH);
  return Ref<Task>(*target);
}

// PRIO_USER's user: nullopt, and so nobody, when the id is not mapped.
std::optional<Uid> UserOf(const Task& t, int who) {
  if (who == 0) return t.creds().ruid;
  return t.creds().user_ns().UidIn(static_cast<uint32_t>(who));
}

bool MayChange(const Task& t, const Task& target) {
  const Credentials& own = t.creds();
  Ref<const Credentials> c = target.creds_ref();
  return own.euid == c->euid || own.euid == c->ruid ||
         own.HasIn(c->user_ns(), Capability::kSysNice);
}

// struct sched_attr.
struct SchedAttrAbi {
  uint32_t size, policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime, deadline, period;
  uint32_t util_min, util_max;
};
static_assert(sizeof(SchedAttrAbi) == 56);
constexpr uint32_t kAttrSizeVer0 = 48;

constexpr uint32_t kSchedDeadline = 6, kResetOnForkBit = 0x40000000;
// sched_attr's flags.
constexpr uint64_t kResetOnFork = 1, kReclaim = 2, kOverrun = 4, kKeepPolicy = 8, kKeepParams = 0x10,
                   kUtilClamp = 0x60;
constexpr uint64_t kKnownFlags =
    kResetOnFork | kReclaim | kOverrun | kKeepPolicy | kKeepParams | kUtilClamp;

// Whether these are times that a deadline task may have (__checkparam_dl).
bool DeadlineIsSane(const SchedPolicy& p) {
  constexpr uint64_t kMinRuntime = 1024, kTopBit = uint64_t{1} << 63;
  constexpr uint64_t kMinPeriod = 100'000, kMaxPeriod = uint64_t{4'194'304} * 1000;
  if (p.deadline_ns == 0 || p.runtime_ns < kMinRuntime) return false;
  if (((p.deadline_ns | p.period_ns) & kTopBit) != 0) return false;
  const uint64_t period = p.period_ns == 0 ? p.deadline_ns : p.period_ns;
  if (period < p.deadline_ns || p.deadline_ns < p.runtime_ns) return false;
  return period >= kMinPeriod && period <= kMaxPeriod;
}

struct Wanted {
  SchedPolicy p;
  std::optional<int> nice;  // of the normal policies; unchanged when empty
};

// __sched_setscheduler: EINVAL, EPERM. Policies are remembered, and obeyed as far as the host lets the
// Sentry give them to the guest thread: a real-time one mostly runs as a normal one does.
Result<void> SetPolicy(Task& t, Task& target, Wanted w) {
  const bool real_time = w.p.policy == SCHED_FIFO || w.p.policy == SCHED_RR;
  const bool deadline = w.p.policy == kSchedDeadline;
  const bool normal =
      w.p.policy == SCHED_OTHER || w.p.policy == SCHED_BATCH || w.p.policy == SCHED_IDLE;
  if (!real_time && !deadline && !normal) return Errno(EINVAL);
  if (w.p.priority > 99 || real_time != (w.p.priority != 0)) return Errno(EINVAL);
  if (deadline && !DeadlineIsSane(w.p)) return Errno(EINVAL);

  const SchedPolicy old = target.sched.With([](const SchedPolicy& s) { return s; });
  const int old_nice = target.nice.load();
  const auto may_be_nice = [&](int nice) {
    return static_cast<uint64_t>(20 - nice) <= target.tg().limit(RLIMIT_NICE);
  };
  bool privileged = deadline || !MayChange(t, target);
  if (normal && w.nice && *w.nice < old_nice && !may_be_nice(*w.nice)) privileged = true;
  if (real_time) {
    const uint64_t limit = target.tg().limit(RLIMIT_RTPRIO);
    if (w.p.policy != old.policy && limit == 0) privileged = true;
    if (w.p.priority > old.priority && w.p.priority > limit) privileged = true;
  }
  if (old.policy == SCHED_IDLE && w.p.policy != SCHED_IDLE && !may_be_nice(old_nice)) {
    privileged = true;
  }
  if (old.reset_on_fork && !w.p.reset_on_fork) privileged = true;
  if (privileged && !t.creds().Has(Capability::kSysNice)) return Errno(EPERM);
  // Deadlines are promised for all processors or none.
  if (deadline) {
    const cpu_set_t own = target.affinity();
    if (!CPU_EQUAL(&own, &t.kernel().cpus())) return Errno(EPERM);
  }

  // ---- No failure below this line. ----
  if (!deadline) w.p.runtime_ns = w.p.deadline_ns = w.p.period_ns = 0;
  if (deadline && w.p.period_ns == 0) w.p.period_ns = w.p.deadline_ns;
  target.sched.With([&](SchedPolicy& s) { s = w.p; });
  if (normal && w.nice) target.nice.store(*w.nice);
  target.rescheduled.store(true);
  target.ApplyScheduling();
  return {};
}

}  // namespace

SysResult SysSchedYield(Task&) {
  sched_yield();
  return 0;
}

SysResult SysSchedGetaffinity(Task& t, int pid, uint32_t size, GuestAddr out) {
  if (size % 8 != 0 || size == 0) return Errno(EINVAL);
  if (pid < 0) return Errno(ESRCH);
  Ref<Task> target = TRY(Target(t, pid));
  cpu_set_t set = target->affinity();
  constexpr size_t kBytes = 8;  // one word covers the CPUs of most hosts
  const size_t words = std::max<size_t>(kBytes, (static_cast<size_t>(CPU_COUNT(&set)) + 63) / 64 * 8);
  if (size < words) return Errno(EINVAL);
  TRY(t.CopyOut(out, std::as_bytes(std::span(&set, 1)).first(words)));
  return static_cast<int64_t>(words);
}

SysResult SysSchedSetaffinity(Task& t, int pid, uint32_t size, GuestAddr in) {
  cpu_set_t set;
  CPU_ZERO(&set);
  TRY(t.CopyIn(in, std::as_writable_bytes(std::span(&set, 1)).first(std::min<size_t>(size, sizeof(set)))));
  if (pid < 0) return Errno(ESRCH);
  Ref<Task> target = TRY(Target(t, pid));
  if (!MayChange(t, *target)) return Errno(EPERM);
  return Zero(target->SetAffinity(set));
}

SysResult SysSchedGetscheduler(Task& t, int pid) {
  Ref<Task> target = TRY(Target(t, pid));
  const SchedPolicy p = target->sched.With([](const SchedPolicy& s) { return s; });
  return static_cast<int64_t>(p.policy | (p.reset_on_fork ? kResetOnForkBit : 0));
}

SysResult SysSchedSetscheduler(Task& t, int pid, int policy, GuestAddr param) {
  if (policy < 0 || pid < 0 || param.IsNull()) return Errno(EINVAL);
  const int32_t priority = TRY(UserIn<int32_t>(param).CopyIn(t));
  Ref<Task> target = TRY(Target(t, pid));
  Wanted w;
  w.p.reset_on_fork = (static_cast<uint32_t>(policy) & kResetOnForkBit) != 0;
  w.p.policy = static_cast<uint32_t>(policy) & ~kResetOnForkBit;
  if (priority < 0) return Errno(EINVAL);
  w.p.priority = static_cast<uint32_t>(priority);
  return Zero(SetPolicy(t, *target, w));
}

SysResult SysSchedGetparam(Task& t, int pid, GuestAddr out) {
  if (out.IsNull() || pid < 0) return Errno(EINVAL);
  Ref<Task> target = TRY(Target(t, pid));
  const SchedPolicy p = target->sched.With([](const SchedPolicy& s) { return s; });
  return Zero(UserOut<int32_t>(out).CopyOut(t, static_cast<int32_t>(p.priority)));
}

SysResult SysSchedSetparam(Task& t, int pid, GuestAddr in) {
  if (in.IsNull() || pid < 0) return Errno(EINVAL);
  const int32_t priority = TRY(UserIn<int32_t>(in).CopyIn(t));
  Ref<Task> target = TRY(Target(t, pid));
  Wanted w;
  w.p = target->sched.With([](const SchedPolicy& s) { return s; });
  if (priority < 0) return Errno(EINVAL);
  w.p.priority = static_cast<uint32_t>(priority);
  return Zero(SetPolicy(t, *target, w));
}

SysResult SysSchedSetattr(Task& t, int pid, GuestAddr addr, uint32_t flags) {
  if (addr.IsNull() || pid < 0 || flags != 0) return Errno(EINVAL);
  uint32_t size = TRY(UserIn<uint32_t>(addr).CopyIn(t));
  if (size == 0) size = kAttrSizeVer0;
  SchedAttrAbi a = {};
  bool too_big = size < kAttrSizeVer0 || size > kPageSize;
  if (!too_big) {
    std::vector<std::byte> raw(std::max<size_t>(size, sizeof(a)));
    TRY(t.CopyIn(addr, std::span(raw).first(size)));
    for (size_t i = sizeof(a); i < size; i++) too_big |= raw[i] != std::byte{0};
    memcpy(&a, raw.data(), sizeof(a));
  }
  if (too_big) {
    TRY(UserOut<uint32_t>(addr).CopyOut(t, sizeof(a)));
    return Errno(E2BIG);
  }
  if ((a.flags & kUtilClamp) != 0 && size < sizeof(a)) return Errno(EINVAL);
  if (static_cast<int32_t>(a.policy) < 0) return Errno(EINVAL);
  Ref<Task> target = TRY(Target(t, pid));
  const SchedPolicy old = target->sched.With([](const SchedPolicy& s) { return s; });
  Wanted w;
  w.p.policy = (a.flags & kKeepPolicy) != 0 ? old.policy : a.policy;
  w.p.reset_on_fork = (a.flags & kResetOnFork) != 0;
  if ((a.flags & kKeepPolicy) != 0) w.p.reset_on_fork = old.reset_on_fork;
  w.nice = std::clamp(a.nice, -20, 19);
  w.p.priority = a.priority;
  w.p.runtime_ns = a.runtime, w.p.deadline_ns = a.deadline, w.p.period_ns = a.period;
  if ((a.flags & kKeepParams) != 0) {
    // get_params(): only those that the policy of now has.
    if (old.policy == kSchedDeadline) {
      w.p.priority = old.priority;
      w.p.runtime_ns = old.runtime_ns, w.p.deadline_ns = old.deadline_ns;
      w.p.period_ns = old.period_ns;
    } else if (old.policy == SCHED_FIFO || old.policy == SCHED_RR) {
      w.p.priority = old.priority;
    } else {
      w.nice = target->nice.load();
    }
  }
  if ((a.flags & ~kKnownFlags) != 0) return Errno(EINVAL);
  if ((a.flags & kUtilClamp) != 0) return Errno(EOPNOTSUPP);  // as without CONFIG_UCLAMP_TASK
  return Zero(SetPolicy(t, *target, w));
}

SysResult SysSchedGetattr(Task& t, int pid, GuestAddr addr, uint32_t size, uint32_t flags) {
  if (addr.IsNull() || pid < 0 || size > kPageSize || size < kAttrSizeVer0 || flags != 0) {
    return Errno(EINVAL);
  }
  Ref<Task> target = TRY(Target(t, pid));
  const SchedPolicy p = target->sched.With([](const SchedPolicy& s) { return s; });
  SchedAttrAbi a = {};
  a.policy = p.policy;
  a.flags = p.reset_on_fork ? kResetOnFork : 0;
  if (p.policy == SCHED_OTHER || p.policy == SCHED_BATCH || p.policy == SCHED_IDLE) {
    a.nice = target->nice.load();
  }
  a.priority = p.priority;
  a.runtime = p.runtime_ns, a.deadline = p.deadline_ns, a.period = p.period_ns;
  a.size = std::min<uint32_t>(size, sizeof(a));
  return Zero(t.CopyOut(addr, std::as_bytes(std::span(&a, 1)).first(a.size)));
}

SysResult SysSchedGetPriorityMax(Task&, int policy) {
  switch (policy) {
    case SCHED_FIFO:
    case SCHED_RR:
      return 99;
    case SCHED_OTHER:
    case SCHED_BATCH:
    case SCHED_IDLE:
    case 6:  // SCHED_DEADLINE
    case 7:  // SCHED_EXT
      return 0;
    default:
      return Errno(EINVAL);
  }
}

SysResult SysSchedGetPriorityMin(Task& t, int policy) {
  const int64_t max = TRY(SysSchedGetPriorityMax(t, policy));
  return max == 99 ? 1 : 0;
}

SysResult SysSchedRrGetInterval(Task& t, int pid, GuestAddr out) {
  Ref<Task> target = TRY(Target(t, pid));
  const SchedPolicy p = target->sched.With([](const SchedPolicy& s) { return s; });
  struct {
    int64_t sec, nsec;
  } slice = {0, 4'000'000};
  if (p.policy == SCHED_RR) slice.nsec = 100'000'000;
  if (p.policy == SCHED_FIFO || p.policy == kSchedDeadline) slice.nsec = 0;
  return Zero(t.CopyOut(out, std::as_bytes(std::span(&slice, 1))));
}

SysResult SysGetpriority(Task& t, int which, int who) {
  MutexLock lock(t.kernel().tasks().mu);
  int best = 40;  // nice as 20 - nice, the largest wins
  bool any = false;
  for (const auto& [tid, task] : t.pid_ns().tasks) {
    bool match = false;
    switch (which) {
      case PRIO_PROCESS:
        match = task == &t ? who == 0 || who == tid : who == tid;
        break;
      case PRIO_PGRP:
        match = who == 0 ? task->tg().pgrp == t.tg().pgrp : task->tg().pgrp->pid->In(t.pid_ns()) == who;
        break;
      case PRIO_USER:
        match = task->creds_ref()->ruid == UserOf(t, who);
        break;
      default:
        return Errno(EINVAL);
    }
    if (!match) continue;
    const int value = 20 - task->nice.load();
    best = any ? std::max(best, value) : value;
    any = true;
  }
  return any ? SysResult(best) : Errno(ESRCH);
}

SysResult SysSetpriority(Task& t, int which, int who, int value) {
  value = std::clamp(value, -20, 19);
  MutexLock lock(t.kernel().tasks().mu);
  SysResult result = Errno(ESRCH);
  for (const auto& [tid, task] : t.pid_ns().tasks) {
    bool match = false;
    switch (which) {
      case PRIO_PROCESS:
        match = task == &t ? who == 0 || who == tid : who == tid;
        break;
      case PRIO_PGRP:
        match = who == 0 ? task->tg().pgrp == t.tg().pgrp : task->tg().pgrp->pid->In(t.pid_ns()) == who;
        break;
      case PRIO_USER:
        match = task->creds_ref()->ruid == UserOf(t, who);
        break;
      default:
        return Errno(EINVAL);
    }
    if (!match) continue;
    if (!MayChange(t, *task)) {
      result = Errno(EPERM);
      continue;
    }
    if (value < task->nice.load() && !t.creds().Has(Capability::kSysNice) &&
        20 - value > static_cast<int>(task->tg().limit(RLIMIT_NICE))) {
      result = Errno(EACCES);
      continue;
    }
    task->nice.store(value);
    task->rescheduled.store(true);
    task->ApplyScheduling();
    if (result.error_value() == ESRCH) result = 0;
  }
  return result;
}

}  // namespace ringwall
