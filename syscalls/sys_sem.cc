// System V semaphores (ipc/sem.c).
#include <sys/sem.h>

#include "sentry/ipc/ipc_namespace.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_ipc.h"

namespace ringwall {

namespace {

constexpr int kSemStatAny = 20;  // SEM_STAT_ANY, which glibc names only with _GNU_SOURCE of late
constexpr int kIpc64 = 0x100;    // what C libraries of old add to the command

// struct semid64_ds of x86-64.
struct SemidAbi {
  IpcPermAbi perm;
  int64_t otime;
  uint64_t unused1;
  int64_t ctime;
  uint64_t unused2, nsems, unused3, unused4;
};
static_assert(sizeof(SemidAbi) == 104);

// struct seminfo.
struct SemInfoAbi {
  int32_t semmap, semmni, semmns, semmnu, semmsl, semopm, semume, semusz, semvmx, semaem;
};

// A value takes 8 bytes of the Sentry; this many sets of all namespaces together are plenty.
constexpr int64_t kSemsBound = 16 << 20;

SysResult Info(Task& t, int cmd, GuestAddr out) {
  IpcNamespace& ns = t.ipc();
  SemInfoAbi info = {};
  info.semmni = ns.sem_sets;
  info.semmns = ns.sem_total;
  info.semmsl = ns.sem_per_set;
  info.semopm = ns.sem_ops;
  info.semvmx = kSemValueMax;
  info.semmnu = info.semmap = info.semmns;
  info.semume = info.semopm;
  const int highest = ns.sems.max_index();
  if (cmd == SEM_INFO) {
    info.semusz = ns.sems.count();
    info.semaem = static_cast<int32_t>(ns.usage->sems.load());
  } else {
    constexpr int kUndoSize = 20;
    info.semusz = kUndoSize;
    info.semaem = kSemAdjustMax;
  }
  TRY(UserOut<SemInfoAbi>(out).CopyOut(t, info));
  return highest;
}

SysResult Stat(Task& t, int id, int cmd, GuestAddr out) {
  IpcNamespace& ns = t.ipc();
  Ref<SemSet> set = TRY(cmd == IPC_STAT ? ns.sems.Find(id) : ns.sems.FindIndex(id));
  SemidAbi abi = {};
  int found = 0;
  {
    MutexLock lock(set->mu);
    if (cmd != kSemStatAny) TRY(CheckIpcAccess(t.creds(), set->perm, kIpcRead));
    if (set->removed) return Errno(EIDRM);
    abi.perm = ToAbi(set->perm, t.creds().user_ns());
    abi.otime = set->otime_locked();
    abi.ctime = set->ctime_locked();
    abi.nsems = set->size();
    found = set->perm.id;
  }
  TRY(UserOut<SemidAbi>(out).CopyOut(t, abi));
  return cmd == IPC_STAT ? 0 : found;
}

SysResult GetAll(Task& t, SemSet& set, GuestAddr out) {
  std::vector<uint16_t> values(set.size());
  {
    MutexLock lock(set.mu);
    TRY(CheckIpcAccess(t.creds(), set.perm, kIpcRead));
    if (set.removed) return Errno(EIDRM);
    for (size_t i = 0; i < values.size(); i++) {
      values[i] = static_cast<uint16_t>(set.ValueLocked(i));
    }
  }
  TRY(UserOut<uint16_t>(out).CopyOutArray(t, values));
  return 0;
}

SysResult SetAll(Task& t, SemSet& set, GuestAddr in) {
  {
    MutexLock lock(set.mu);
    TRY(CheckIpcAccess(t.creds(), set.perm, kIpcWrite));
  }
  const std::vector<uint16_t> values = TRY(UserIn<uint16_t>(in).CopyInArray(t, set.size()));
  for (const uint16_t value : values) {
    if (value > kSemValueMax) return Errno(ERANGE);
  }
  MutexLock lock(set.mu);
  if (set.removed) return Errno(EIDRM);
  set.SetLocked(0, values, *t.tg().pid);
  return 0;
}

SysResult SetValue(Task& t, SemSet& set, int num, int value) {
  if (value < 0 || value > kSemValueMax) return Errno(ERANGE);
  if (num < 0 || static_cast<size_t>(num) >= set.size()) return Errno(EINVAL);
  MutexLock lock(set.mu);
  TRY(CheckIpcAccess(t.creds(), set.perm, kIpcWrite));
  if (set.removed) return Errno(EIDRM);
  const uint16_t one = static_cast<uint16_t>(value);
  set.SetLocked(static_cast<size_t>(num), std::span(&one, 1), *t.tg().pid);
  return 0;
}

SysResult GetOne(Task& t, SemSet& set, int num, int cmd) {
  MutexLock lock(set.mu);
  TRY(CheckIpcAccess(t.creds(), set.perm, kIpcRead));
  if (num < 0 || static_cast<size_t>(num) >= set.size()) return Errno(EINVAL);
  if (set.removed) return Errno(EIDRM);
  const size_t n = static_cast<size_t>(num);
  switch (cmd) {
    case GETVAL:
      return set.ValueLocked(n);
    case GETPID:
      return NumberOf(t, set.PidLocked(n));
    default:
      return set.WaitingLocked(n, cmd == GETZCNT);
  }
}

SysResult Remove(Task& t, SemSet& set) {
  IpcPerm perm;
  {
    MutexLock lock(set.mu);
    TRY(CheckIpcOwner(t.creds(), set.perm));
    if (set.removed) return Errno(EIDRM);
    perm = set.perm;
    set.RemoveLocked();
  }
  t.ipc().sems.Erase(set, perm);
  return 0;
}

SysResult SetOwner(Task& t, int id, GuestAddr in) {
  const SemidAbi abi = TRY(UserIn<SemidAbi>(in).CopyIn(t));
  Ref<SemSet> set = TRY(t.ipc().sems.Find(id));
  MutexLock lock(set->mu);
  TRY(CheckIpcOwner(t.creds(), set->perm));
  if (set->removed) return Errno(EIDRM);
  TRY(SetIpcOwner(&set->perm, abi.perm, t.creds().user_ns()));
  set->TouchLocked();
  return 0;
}

Result<void> CheckCount(const Task& t, uint32_t count) {
  if (count > static_cast<uint32_t>(t.ipc().sem_ops.load())) return Errno(E2BIG);
  if (count < 1) return Errno(EINVAL);
  return {};
}

SysResult Operate(Task& t, int id, GuestAddr addr, uint32_t count, int64_t deadline) {
  TRY(CheckCount(t, count));
  const std::vector<SemOp> ops = TRY(UserIn<SemOp>(addr).CopyInArray(t, count));
  Ref<SemSet> set = TRY(t.ipc().sems.Find(id));
  return Zero(set->Operate(t, ops, deadline));
}

}  // namespace

SysResult SysSemget(Task& t, int key, int count, int flags) {
  IpcNamespace& ns = t.ipc();
  if (count < 0 || count > ns.sem_per_set) return Errno(EINVAL);
  const int id = TRY(ns.sems.Get(
      ns.user_ns(), t.creds(), key, flags, ns.sem_sets,
      [&]() -> Result<Ref<SemSet>> {
        if (count == 0) return Errno(EINVAL);
        const int64_t used = ns.usage->sems.load() + count;
        if (used > ns.sem_total.load()) return Errno(ENOSPC);
        if (used > kSemsBound) return Errno(ENOMEM);
        return MakeRef<SemSet>(ns.usage, static_cast<size_t>(count));
      },
      [&](SemSet& there) -> Result<void> {
        if (static_cast<size_t>(count) > there.size()) return Errno(EINVAL);
        return {};
      }));
  return id;
}

SysResult SysSemop(Task& t, int id, GuestAddr ops, uint32_t count) {
  return Operate(t, id, ops, count, kNoDeadline);
}

SysResult SysSemtimedop(Task& t, int id, GuestAddr ops, uint32_t count, GuestAddr timeout) {
  int64_t deadline = kNoDeadline;
  if (!timeout.IsNull()) {
    TRY(CheckCount(t, count));
    deadline = TRY(DeadlineFromTimespec(t, timeout));
  }
  return Operate(t, id, ops, count, deadline);
}

SysResult SysSemctl(Task& t, int id, int num, int cmd, uint64_t arg) {
  if (id < 0) return Errno(EINVAL);
  cmd &= ~kIpc64;
  switch (cmd) {
    case IPC_INFO:
    case SEM_INFO:
      return Info(t, cmd, GuestAddr(arg));
    case IPC_STAT:
    case SEM_STAT:
    case kSemStatAny:
      return Stat(t, id, cmd, GuestAddr(arg));
    case IPC_SET:
      return SetOwner(t, id, GuestAddr(arg));
    default:
      break;
  }
  const int value = static_cast<int>(arg);
  if (cmd == SETVAL && (value < 0 || value > kSemValueMax)) return Errno(ERANGE);
  Ref<SemSet> set = TRY(t.ipc().sems.Find(id));
  switch (cmd) {
    case GETALL:
      return GetAll(t, *set, GuestAddr(arg));
    case SETALL:
      return SetAll(t, *set, GuestAddr(arg));
    case SETVAL:
      return SetValue(t, *set, num, value);
    case GETVAL:
    case GETPID:
    case GETNCNT:
    case GETZCNT:
      return GetOne(t, *set, num, cmd);
    case IPC_RMID:
      return Remove(t, *set);
    default:
      return Errno(EINVAL);
  }
}

}  // namespace ringwall
