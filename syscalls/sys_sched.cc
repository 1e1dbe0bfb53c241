// Scheduling calls (kernel/sched/syscalls.c). Guest threads are host threads of the host's own
// scheduler with its default policy.
#include <sched.h>
#include <sys/resource.h>

#include "syscalls/handlers.h"

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

}  // namespace

SysResult SysSchedYield(Task&) {
  sched_yield();
  return 0;
}

SysResult SysSchedGetaffinity(Task& t, int pid, uint32_t size, GuestAddr out) {
  if (size % 8 != 0) return Errno(EINVAL);
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
  Ref<Task> target = TRY(Target(t, pid));
  if (!MayChange(t, *target)) return Errno(EPERM);
  return Zero(target->SetAffinity(set));
}

SysResult SysSchedGetscheduler(Task& t, int pid) {
  TRY(Target(t, pid));
  return SCHED_OTHER;
}

SysResult SysSchedSetscheduler(Task& t, int pid, int policy, GuestAddr param) {
  Ref<Task> target = TRY(Target(t, pid));
  const int32_t priority = TRY(UserIn<int32_t>(param).CopyIn(t));
  policy &= ~0x40000000;  // SCHED_RESET_ON_FORK
  switch (policy) {
    case SCHED_OTHER:
    case SCHED_BATCH:
    case SCHED_IDLE:
      return priority == 0 ? SysResult(0) : Errno(EINVAL);
    case SCHED_FIFO:
    case SCHED_RR:
      if (priority < 1 || priority > 99) return Errno(EINVAL);
      return Errno(EPERM);  // real-time priorities are not the sandbox's to give
    default:
      return Errno(EINVAL);
  }
}

SysResult SysSchedGetparam(Task& t, int pid, GuestAddr out) {
  if (out.IsNull()) return Errno(EINVAL);
  TRY(Target(t, pid));
  return Zero(UserOut<int32_t>(out).CopyOut(t, 0));
}

SysResult SysSchedSetparam(Task& t, int pid, GuestAddr in) {
  if (in.IsNull()) return Errno(EINVAL);
  TRY(Target(t, pid));
  const int32_t priority = TRY(UserIn<int32_t>(in).CopyIn(t));
  return priority == 0 ? SysResult(0) : Errno(EINVAL);
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
  TRY(Target(t, pid));
  struct {
    int64_t sec, nsec;
  } const slice = {0, 4'000'000};
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
    if (result.error_value() == ESRCH) result = 0;
  }
  return result;
}

}  // namespace ringwall
