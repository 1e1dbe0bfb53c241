// Who a task is: ids, groups, capabilities, sessions (kernel/sys.c, kernel/capability.c).
#include <limits.h>

#include <algorithm>

#include "sentry/kernel/core_dump.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr uint32_t kKeep = ~uint32_t{0};
constexpr uint32_t kNoSetuidFixup = 1u << 2, kKeepCaps = 1u << 4;

// security/commoncap.c:cap_task_fix_setuid. Root is the root of the task's own user namespace.
void FixCapabilities(const Credentials& old, Credentials& c) {
  if ((c.securebits & kNoSetuidFixup) != 0) return;
  const std::optional<Uid> root = old.user_ns().UidIn(0);
  const bool had_root = old.ruid == root || old.euid == root || old.suid == root;
  const bool has_root = c.ruid == root || c.euid == root || c.suid == root;
  if (had_root && !has_root) {
    if ((c.securebits & kKeepCaps) == 0) c.cap_permitted = c.cap_effective = 0;
    c.cap_ambient = 0;
  }
  if (old.euid == root && c.euid != root) c.cap_effective = 0;
  if (old.euid != root && c.euid == root) c.cap_effective = c.cap_permitted;
}

// commit_creds(): what else changes with an identity.
void Apply(Task& t, Ref<Credentials> c) {
  const Credentials& old = t.creds();
  if (c->euid != old.euid || c->egid != old.egid || c->fsuid != old.fsuid ||
      c->fsgid != old.fsgid) {
    t.mm().set_dumpable(CoreSettings::Get().suid_dumpable.load());
    MutexLock lock(t.kernel().tasks().mu);
    t.parent_death_signal = 0;
  }
  t.set_creds(Ref<const Credentials>(std::move(c)));
}

void Commit(Task& t, Ref<Credentials> c) {
  FixCapabilities(t.creds(), *c);
  Apply(t, std::move(c));
}

struct CapHeader {
  uint32_t version;
  int32_t pid;
};
struct CapData {
  uint32_t effective, permitted, inheritable;
};
constexpr uint32_t kCapV1 = 0x19980330, kCapV2 = 0x20071026, kCapV3 = 0x20080522;

// How many CapData a version has. EINVAL after writing the preferred version back.
Result<size_t> CapWords(Task& t, const CapHeader& h, GuestAddr addr) {
  switch (h.version) {
    case kCapV1:
      return size_t{1};
    case kCapV2:
    case kCapV3:
      return size_t{2};
    default: {
      const uint32_t preferred = kCapV3;
      TRY(t.CopyOut(addr, std::as_bytes(std::span(&preferred, 1))));
      return Errno(EINVAL);
    }
  }
}

}  // namespace

int ProcessGroupOf(Task& t) {
  MutexLock lock(t.kernel().tasks().mu);
  return t.tg().pgrp->pid->In(t.pid_ns());
}

uint32_t ShowUid(const Task& t, Uid uid) { return t.creds().user_ns().ShowUid(uid); }
uint32_t ShowGid(const Task& t, Gid gid) { return t.creds().user_ns().ShowGid(gid); }

Result<Uid> TakeUid(const Task& t, uint32_t here) {
  const std::optional<Uid> uid = t.creds().user_ns().UidIn(here);
  if (!uid) return Errno(EINVAL);
  return *uid;
}

Result<Gid> TakeGid(const Task& t, uint32_t here) {
  const std::optional<Gid> gid = t.creds().user_ns().GidIn(here);
  if (!gid) return Errno(EINVAL);
  return *gid;
}

SysResult SysGetpid(Task& t) { return t.vtgid(); }
SysResult SysGettid(Task& t) { return t.vtid(); }
SysResult SysGetppid(Task& t) {
  MutexLock lock(t.kernel().tasks().mu);
  return ParentPidLocked(t.tg(), t.pid_ns());
}
SysResult SysGetuid(Task& t) { return ShowUid(t, t.creds().ruid); }
SysResult SysGeteuid(Task& t) { return ShowUid(t, t.creds().euid); }
SysResult SysGetgid(Task& t) { return ShowGid(t, t.creds().rgid); }
SysResult SysGetegid(Task& t) { return ShowGid(t, t.creds().egid); }

SysResult SysGetresuid(Task& t, GuestAddr r, GuestAddr e, GuestAddr s) {
  TRY(UserOut<uint32_t>(r).CopyOut(t, ShowUid(t, t.creds().ruid)));
  TRY(UserOut<uint32_t>(e).CopyOut(t, ShowUid(t, t.creds().euid)));
  return Zero(UserOut<uint32_t>(s).CopyOut(t, ShowUid(t, t.creds().suid)));
}

SysResult SysGetresgid(Task& t, GuestAddr r, GuestAddr e, GuestAddr s) {
  TRY(UserOut<uint32_t>(r).CopyOut(t, ShowGid(t, t.creds().rgid)));
  TRY(UserOut<uint32_t>(e).CopyOut(t, ShowGid(t, t.creds().egid)));
  return Zero(UserOut<uint32_t>(s).CopyOut(t, ShowGid(t, t.creds().sgid)));
}

SysResult SysSetuid(Task& t, uint32_t here) {
  const Uid uid = TRY(TakeUid(t, here));
  Ref<Credentials> c = t.creds().Copy();
  if (c->HasOwn(Capability::kSetuid)) {
    c->ruid = c->suid = uid;
  } else if (uid != c->ruid && uid != c->suid) {
    return Errno(EPERM);
  }
  c->euid = c->fsuid = uid;
  Commit(t, std::move(c));
  return 0;
}

SysResult SysSetgid(Task& t, uint32_t here) {
  const Gid gid = TRY(TakeGid(t, here));
  Ref<Credentials> c = t.creds().Copy();
  if (c->HasOwn(Capability::kSetgid)) {
    c->rgid = c->sgid = gid;
  } else if (gid != c->rgid && gid != c->sgid) {
    return Errno(EPERM);
  }
  c->egid = c->fsgid = gid;
  Commit(t, std::move(c));
  return 0;
}

SysResult SysSetreuid(Task& t, uint32_t r, uint32_t e) {
  if (r != kKeep) r = TRY(TakeUid(t, r));
  if (e != kKeep) e = TRY(TakeUid(t, e));
  const Credentials& old = t.creds();
  const bool may = old.HasOwn(Capability::kSetuid);
  if (r != kKeep && !may && r != old.ruid && r != old.euid) return Errno(EPERM);
  if (e != kKeep && !may && e != old.ruid && e != old.euid && e != old.suid) return Errno(EPERM);
  Ref<Credentials> c = old.Copy();
  if (r != kKeep) c->ruid = r;
  if (e != kKeep) c->euid = e;
  if (r != kKeep || (e != kKeep && e != old.ruid)) c->suid = c->euid;
  c->fsuid = c->euid;
  Commit(t, std::move(c));
  return 0;
}

SysResult SysSetregid(Task& t, uint32_t r, uint32_t e) {
  if (r != kKeep) r = TRY(TakeGid(t, r));
  if (e != kKeep) e = TRY(TakeGid(t, e));
  const Credentials& old = t.creds();
  const bool may = old.HasOwn(Capability::kSetgid);
  if (r != kKeep && !may && r != old.rgid && r != old.egid) return Errno(EPERM);
  if (e != kKeep && !may && e != old.rgid && e != old.egid && e != old.sgid) return Errno(EPERM);
  Ref<Credentials> c = old.Copy();
  if (r != kKeep) c->rgid = r;
  if (e != kKeep) c->egid = e;
  if (r != kKeep || (e != kKeep && e != old.rgid)) c->sgid = c->egid;
  c->fsgid = c->egid;
  Commit(t, std::move(c));
  return 0;
}

SysResult SysSetresuid(Task& t, uint32_t r, uint32_t e, uint32_t s) {
  for (uint32_t* id : {&r, &e, &s}) {
    if (*id != kKeep) *id = TRY(TakeUid(t, *id));
  }
  const Credentials& old = t.creds();
  const bool may = old.HasOwn(Capability::kSetuid);
  for (const uint32_t id : {r, e, s}) {
    if (id != kKeep && !may && id != old.ruid && id != old.euid && id != old.suid) {
      return Errno(EPERM);
    }
  }
  const bool same = (r == kKeep || r == old.ruid) && (s == kKeep || s == old.suid) &&
                    (e == kKeep || (e == old.euid && e == old.fsuid));
  if (same) return 0;
  Ref<Credentials> c = old.Copy();
  if (r != kKeep) c->ruid = r;
  if (e != kKeep) c->euid = e;
  if (s != kKeep) c->suid = s;
  c->fsuid = c->euid;
  Commit(t, std::move(c));
  return 0;
}

SysResult SysSetresgid(Task& t, uint32_t r, uint32_t e, uint32_t s) {
  for (uint32_t* id : {&r, &e, &s}) {
    if (*id != kKeep) *id = TRY(TakeGid(t, *id));
  }
  const Credentials& old = t.creds();
  const bool may = old.HasOwn(Capability::kSetgid);
  for (const uint32_t id : {r, e, s}) {
    if (id != kKeep && !may && id != old.rgid && id != old.egid && id != old.sgid) {
      return Errno(EPERM);
    }
  }
  const bool same = (r == kKeep || r == old.rgid) && (s == kKeep || s == old.sgid) &&
                    (e == kKeep || (e == old.egid && e == old.fsgid));
  if (same) return 0;
  Ref<Credentials> c = old.Copy();
  if (r != kKeep) c->rgid = r;
  if (e != kKeep) c->egid = e;
  if (s != kKeep) c->sgid = s;
  c->fsgid = c->egid;
  Commit(t, std::move(c));
  return 0;
}

SysResult SysSetfsuid(Task& t, uint32_t here) {
  const Credentials& old = t.creds();
  const int64_t before = ShowUid(t, old.fsuid);
  const std::optional<Uid> mapped = old.user_ns().UidIn(here);
  if (!mapped) return before;
  const Uid uid = *mapped;
  if (uid == old.ruid || uid == old.euid || uid == old.suid || uid == old.fsuid ||
      old.HasOwn(Capability::kSetuid)) {
    Ref<Credentials> c = old.Copy();
    c->fsuid = uid;
    constexpr uint64_t kFsCaps = CapBit(Capability::kChown) | CapBit(Capability::kDacOverride) |
                                 CapBit(Capability::kDacReadSearch) | CapBit(Capability::kFowner) |
                                 CapBit(Capability::kFsetid) | CapBit(Capability::kMknod) |
                                 CapBit(Capability::kLinuxImmutable) |
                                 CapBit(Capability::kMacOverride);
    const bool fixed = (old.securebits & kNoSetuidFixup) != 0;
    const std::optional<Uid> root = old.user_ns().UidIn(0);
    if (!fixed && old.fsuid == root && uid != root) c->cap_effective &= ~kFsCaps;
    if (!fixed && old.fsuid != root && uid == root) c->cap_effective |= c->cap_permitted & kFsCaps;
    Apply(t, std::move(c));
  }
  return before;
}

SysResult SysSetfsgid(Task& t, uint32_t here) {
  const Credentials& old = t.creds();
  const int64_t before = ShowGid(t, old.fsgid);
  const std::optional<Gid> mapped = old.user_ns().GidIn(here);
  if (!mapped) return before;
  const Gid gid = *mapped;
  if (gid == old.rgid || gid == old.egid || gid == old.sgid || gid == old.fsgid ||
      old.HasOwn(Capability::kSetgid)) {
    Ref<Credentials> c = old.Copy();
    c->fsgid = gid;
    Apply(t, std::move(c));
  }
  return before;
}

SysResult SysGetgroups(Task& t, int size, GuestAddr list) {
  if (size < 0) return Errno(EINVAL);
  Ref<const Credentials> c = t.creds_ref();
  if (size != 0) {
    if (c->groups.size() > static_cast<size_t>(size)) return Errno(EINVAL);
    std::vector<uint32_t> shown;
    for (const Gid g : c->groups) shown.push_back(ShowGid(t, g));
    TRY(UserOut<uint32_t>(list).CopyOutArray(t, shown));
  }
  return static_cast<int64_t>(c->groups.size());
}

SysResult SysSetgroups(Task& t, int size, GuestAddr list) {
  if (!t.creds().HasOwn(Capability::kSetgid) || !t.creds().user_ns().MaySetgroups()) {
    return Errno(EPERM);
  }
  if (size < 0 || size > NGROUPS_MAX) return Errno(EINVAL);
  Ref<Credentials> c = t.creds().Copy();
  c->groups = TRY(UserIn<uint32_t>(list).CopyInArray(t, static_cast<size_t>(size)));
  for (Gid& g : c->groups) g = TRY(TakeGid(t, g));
  std::sort(c->groups.begin(), c->groups.end());
  t.set_creds(Ref<const Credentials>(std::move(c)));
  return 0;
}

SysResult SysCapget(Task& t, GuestAddr header, GuestAddr data) {
  const CapHeader h = TRY(UserIn<CapHeader>(header).CopyIn(t));
  Result<size_t> words = CapWords(t, h, header);
  if (!words.ok()) return data.IsNull() && words.error().Is(EINVAL) ? SysResult(0) : words.error();
  if (data.IsNull()) return 0;  // only the version was asked for
  if (h.pid < 0) return Errno(EINVAL);
  RefPtr<const Credentials> c(&t.creds());
  if (h.pid != 0 && h.pid != t.vtid()) {
    MutexLock lock(t.kernel().tasks().mu);
    Task* target = t.pid_ns().FindTask(h.pid);
    if (target == nullptr) return Errno(ESRCH);
    c = target->creds_ref();
  }
  CapData d[2];
  for (int i = 0; i < 2; i++) {
    d[i] = {static_cast<uint32_t>(c->cap_effective >> (32 * i)),
            static_cast<uint32_t>(c->cap_permitted >> (32 * i)),
            static_cast<uint32_t>(c->cap_inheritable >> (32 * i))};
  }
  return Zero(UserOut<CapData>(data).CopyOutArray(t, std::span(d, *words)));
}

SysResult SysCapset(Task& t, GuestAddr header, GuestAddr data) {
  const CapHeader h = TRY(UserIn<CapHeader>(header).CopyIn(t));
  const size_t words = TRY(CapWords(t, h, header));
  if (h.pid != 0 && h.pid != t.vtid()) return Errno(EPERM);
  CapData d[2] = {};
  TRY(t.CopyIn(data, std::as_writable_bytes(std::span(d, words))));
  const auto join = [](uint32_t lo, uint32_t hi) {
    return (lo | (uint64_t{hi} << 32)) & kAllCapabilities;
  };
  const uint64_t effective = join(d[0].effective, d[1].effective);
  const uint64_t permitted = join(d[0].permitted, d[1].permitted);
  const uint64_t inheritable = join(d[0].inheritable, d[1].inheritable);
  const Credentials& old = t.creds();
  const bool free_inherit = old.HasOwn(Capability::kSetpcap);
  if (!free_inherit && (inheritable & ~(old.cap_inheritable | old.cap_permitted)) != 0) {
    return Errno(EPERM);
  }
  if ((inheritable & ~(old.cap_inheritable | old.cap_bounding)) != 0) return Errno(EPERM);
  if ((permitted & ~old.cap_permitted) != 0 || (effective & ~permitted) != 0) return Errno(EPERM);
  Ref<Credentials> c = old.Copy();
  c->cap_effective = effective;
  c->cap_permitted = permitted;
  c->cap_inheritable = inheritable;
  c->cap_ambient &= permitted & inheritable;
  t.set_creds(Ref<const Credentials>(std::move(c)));
  return 0;
}

SysResult SysGetpgrp(Task& t) { return ProcessGroupOf(t); }

SysResult SysGetpgid(Task& t, int pid) {
  MutexLock lock(t.kernel().tasks().mu);
  Task* target = pid == 0 ? &t : t.pid_ns().FindTask(pid);
  if (target == nullptr) return Errno(ESRCH);
  return target->tg().pgrp->pid->In(t.pid_ns());
}

SysResult SysGetsid(Task& t, int pid) {
  MutexLock lock(t.kernel().tasks().mu);
  Task* target = pid == 0 ? &t : t.pid_ns().FindTask(pid);
  if (target == nullptr) return Errno(ESRCH);
  return target->tg().pgrp->session->pid->In(t.pid_ns());
}

SysResult SysSetpgid(Task& t, int pid, int pgid) {
  if (pgid < 0 || (pgid == 0 && pid < 0)) return Errno(EINVAL);
  TaskSet& set = t.kernel().tasks();
  MutexLock lock(set.mu);
  const PidNamespace& ns = t.pid_ns();
  if (pid == 0) pid = t.vtgid();
  if (pgid == 0) pgid = pid;
  ThreadGroup* tg = ns.FindThreadGroup(pid);
  if (tg == nullptr) return Errno(ns.FindTask(pid) != nullptr ? EINVAL : ESRCH);
  if (tg != &t.tg()) {
    if (tg->parent != &t.tg()) return Errno(ESRCH);
    if (tg->pgrp->session != t.tg().pgrp->session) return Errno(EPERM);
    if (tg->did_exec) return Errno(EACCES);
  }
  if (tg->pgrp->session->leader == tg) return Errno(EPERM);
  if (tg->pgrp->pid->In(ns) == pgid) return 0;
  RefPtr<ProcessGroup> target(ns.FindGroup(pgid));
  if (target) {
    if (target->session != tg->pgrp->session) return Errno(EPERM);
  } else {
    if (pgid != pid) return Errno(EPERM);
    target = MakeRef<ProcessGroup>(Ref<const Pid>(tg->pid), tg->pgrp->session);
    set.AddGroupLocked(target);
  }
  MoveToGroupLocked(set, *tg, std::move(target));
  return 0;
}

SysResult SysSetsid(Task& t) {
  TaskSet& set = t.kernel().tasks();
  MutexLock lock(set.mu);
  ThreadGroup& tg = t.tg();
  if (tg.pgrp->session->leader == &tg || set.groups.contains(tg.tgid_)) return Errno(EPERM);
  const Ref<const Pid> pid(tg.pid);
  Ref<Session> session = MakeRef<Session>(pid);
  session->leader = &tg;
  RefPtr<ProcessGroup> pg = MakeRef<ProcessGroup>(pid, session);
  set.AddGroupLocked(pg);
  MoveToGroupLocked(set, tg, std::move(pg));
  return pid->own();
}

void MoveToGroupLocked(TaskSet& set, ThreadGroup& tg, RefPtr<ProcessGroup> to) {
  RefPtr<ProcessGroup> from = tg.pgrp;
  from->members.remove(&tg);
  if (from->members.empty()) set.EraseGroupLocked(*from);
  to->members.push_back(&tg);
  tg.pgrp = std::move(to);
}

}  // namespace ringwall
