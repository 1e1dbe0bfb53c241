// Who a task is: ids, groups, capabilities, sessions (kernel/sys.c, kernel/capability.c).
#include <limits.h>

#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr uint32_t kKeep = ~uint32_t{0};
constexpr uint32_t kNoSetuidFixup = 1u << 2, kKeepCaps = 1u << 4;

// security/commoncap.c:cap_task_fix_setuid.
void FixCapabilities(const Credentials& old, Credentials& c) {
  if ((c.securebits & kNoSetuidFixup) != 0) return;
  const bool had_root = old.ruid == 0 || old.euid == 0 || old.suid == 0;
  const bool has_root = c.ruid == 0 || c.euid == 0 || c.suid == 0;
  if (had_root && !has_root) {
    if ((c.securebits & kKeepCaps) == 0) c.cap_permitted = c.cap_effective = 0;
    c.cap_ambient = 0;
  }
  if (old.euid == 0 && c.euid != 0) c.cap_effective = 0;
  if (old.euid != 0 && c.euid == 0) c.cap_effective = c.cap_permitted;
}

void Commit(Task& t, Ref<Credentials> c) {
  const Credentials& old = t.creds();
  FixCapabilities(old, *c);
  if (c->euid != old.euid || c->egid != old.egid || c->fsuid != old.fsuid ||
      c->fsgid != old.fsgid) {
    t.mm().set_dumpable(0);
    MutexLock lock(t.kernel().tasks().mu);
    t.parent_death_signal = 0;
  }
  t.set_creds(Ref<const Credentials>(std::move(c)));
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
  return t.tg().pgrp->pgid;
}

SysResult SysGetpid(Task& t) { return t.tgid(); }
SysResult SysGettid(Task& t) { return t.tid(); }
SysResult SysGetppid(Task& t) {
  MutexLock lock(t.kernel().tasks().mu);
  return ParentPidLocked(t.tg());
}
SysResult SysGetuid(Task& t) { return t.creds().ruid; }
SysResult SysGeteuid(Task& t) { return t.creds().euid; }
SysResult SysGetgid(Task& t) { return t.creds().rgid; }
SysResult SysGetegid(Task& t) { return t.creds().egid; }

SysResult SysGetresuid(Task& t, GuestAddr r, GuestAddr e, GuestAddr s) {
  TRY(UserOut<uint32_t>(r).CopyOut(t, t.creds().ruid));
  TRY(UserOut<uint32_t>(e).CopyOut(t, t.creds().euid));
  return Zero(UserOut<uint32_t>(s).CopyOut(t, t.creds().suid));
}

SysResult SysGetresgid(Task& t, GuestAddr r, GuestAddr e, GuestAddr s) {
  TRY(UserOut<uint32_t>(r).CopyOut(t, t.creds().rgid));
  TRY(UserOut<uint32_t>(e).CopyOut(t, t.creds().egid));
  return Zero(UserOut<uint32_t>(s).CopyOut(t, t.creds().sgid));
}

SysResult SysSetuid(Task& t, uint32_t uid) {
  if (uid == kKeep) return Errno(EINVAL);
  Ref<Credentials> c = t.creds().Copy();
  if (c->Has(Capability::kSetuid)) {
    c->ruid = c->suid = uid;
  } else if (uid != c->ruid && uid != c->suid) {
    return Errno(EPERM);
  }
  c->euid = c->fsuid = uid;
  Commit(t, std::move(c));
  return 0;
}

SysResult SysSetgid(Task& t, uint32_t gid) {
  if (gid == kKeep) return Errno(EINVAL);
  Ref<Credentials> c = t.creds().Copy();
  if (c->Has(Capability::kSetgid)) {
    c->rgid = c->sgid = gid;
  } else if (gid != c->rgid && gid != c->sgid) {
    return Errno(EPERM);
  }
  c->egid = c->fsgid = gid;
  Commit(t, std::move(c));
  return 0;
}

SysResult SysSetreuid(Task& t, uint32_t r, uint32_t e) {
  const Credentials& old = t.creds();
  const bool may = old.Has(Capability::kSetuid);
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
  const Credentials& old = t.creds();
  const bool may = old.Has(Capability::kSetgid);
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
  const Credentials& old = t.creds();
  const bool may = old.Has(Capability::kSetuid);
  for (const uint32_t id : {r, e, s}) {
    if (id != kKeep && !may && id != old.ruid && id != old.euid && id != old.suid) {
      return Errno(EPERM);
    }
  }
  Ref<Credentials> c = old.Copy();
  if (r != kKeep) c->ruid = r;
  if (e != kKeep) c->euid = e;
  if (s != kKeep) c->suid = s;
  c->fsuid = c->euid;
  Commit(t, std::move(c));
  return 0;
}

SysResult SysSetresgid(Task& t, uint32_t r, uint32_t e, uint32_t s) {
  const Credentials& old = t.creds();
  const bool may = old.Has(Capability::kSetgid);
  for (const uint32_t id : {r, e, s}) {
    if (id != kKeep && !may && id != old.rgid && id != old.egid && id != old.sgid) {
      return Errno(EPERM);
    }
  }
  Ref<Credentials> c = old.Copy();
  if (r != kKeep) c->rgid = r;
  if (e != kKeep) c->egid = e;
  if (s != kKeep) c->sgid = s;
  c->fsgid = c->egid;
  Commit(t, std::move(c));
  return 0;
}

SysResult SysSetfsuid(Task& t, uint32_t uid) {
  const Credentials& old = t.creds();
  const int64_t before = old.fsuid;
  if (uid == kKeep) return before;
  if (uid == old.ruid || uid == old.euid || uid == old.suid || uid == old.fsuid ||
      old.Has(Capability::kSetuid)) {
    Ref<Credentials> c = old.Copy();
    c->fsuid = uid;
    constexpr uint64_t kFsCaps = CapBit(Capability::kChown) | CapBit(Capability::kDacOverride) |
                                 CapBit(Capability::kDacReadSearch) | CapBit(Capability::kFowner) |
                                 CapBit(Capability::kFsetid) | CapBit(Capability::kMknod) |
                                 CapBit(Capability::kLinuxImmutable) |
                                 CapBit(Capability::kMacOverride);
    if (old.fsuid == 0 && uid != 0) c->cap_effective &= ~kFsCaps;
    if (old.fsuid != 0 && uid == 0) c->cap_effective |= c->cap_permitted & kFsCaps;
    t.set_creds(Ref<const Credentials>(std::move(c)));
  }
  return before;
}

SysResult SysSetfsgid(Task& t, uint32_t gid) {
  const Credentials& old = t.creds();
  const int64_t before = old.fsgid;
  if (gid == kKeep) return before;
  if (gid == old.rgid || gid == old.egid || gid == old.sgid || gid == old.fsgid ||
      old.Has(Capability::kSetgid)) {
    Ref<Credentials> c = old.Copy();
    c->fsgid = gid;
    t.set_creds(Ref<const Credentials>(std::move(c)));
  }
  return before;
}

SysResult SysGetgroups(Task& t, int size, GuestAddr list) {
  if (size < 0) return Errno(EINVAL);
  Ref<const Credentials> c = t.creds_ref();
  if (size != 0) {
    if (c->groups.size() > static_cast<size_t>(size)) return Errno(EINVAL);
    TRY(UserOut<uint32_t>(list).CopyOutArray(t, c->groups));
  }
  return static_cast<int64_t>(c->groups.size());
}

SysResult SysSetgroups(Task& t, int size, GuestAddr list) {
  if (!t.creds().Has(Capability::kSetgid)) return Errno(EPERM);
  if (size < 0 || size > NGROUPS_MAX) return Errno(EINVAL);
  Ref<Credentials> c = t.creds().Copy();
  c->groups = TRY(UserIn<uint32_t>(list).CopyInArray(t, static_cast<size_t>(size)));
  t.set_creds(Ref<const Credentials>(std::move(c)));
  return 0;
}

SysResult SysCapget(Task& t, GuestAddr header, GuestAddr data) {
  const CapHeader h = TRY(UserIn<CapHeader>(header).CopyIn(t));
  Result<size_t> words = CapWords(t, h, header);
  if (!words.ok()) return data.IsNull() && words.error().Is(EINVAL) ? SysResult(0) : words.error();
  if (h.pid < 0) return Errno(EINVAL);
  RefPtr<const Credentials> c(&t.creds());
  if (h.pid != 0 && h.pid != t.tid()) {
    MutexLock lock(t.kernel().tasks().mu);
    Task* target = t.kernel().tasks().FindTask(h.pid);
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
  if (h.pid != 0 && h.pid != t.tid()) return Errno(EPERM);
  CapData d[2] = {};
  TRY(t.CopyIn(data, std::as_writable_bytes(std::span(d, words))));
  const auto join = [](uint32_t lo, uint32_t hi) {
    return (lo | (uint64_t{hi} << 32)) & kAllCapabilities;
  };
  const uint64_t effective = join(d[0].effective, d[1].effective);
  const uint64_t permitted = join(d[0].permitted, d[1].permitted);
  const uint64_t inheritable = join(d[0].inheritable, d[1].inheritable);
  const Credentials& old = t.creds();
  const bool free_inherit = old.Has(Capability::kSetpcap);
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
  Task* target = pid == 0 ? &t : t.kernel().tasks().FindTask(pid);
  if (target == nullptr) return Errno(ESRCH);
  return target->tg().pgrp->pgid;
}

SysResult SysGetsid(Task& t, int pid) {
  MutexLock lock(t.kernel().tasks().mu);
  Task* target = pid == 0 ? &t : t.kernel().tasks().FindTask(pid);
  if (target == nullptr) return Errno(ESRCH);
  return target->tg().pgrp->session->sid;
}

SysResult SysSetpgid(Task& t, int pid, int pgid) {
  if (pgid < 0) return Errno(EINVAL);
  TaskSet& set = t.kernel().tasks();
  MutexLock lock(set.mu);
  if (pid == 0) pid = t.tgid();
  if (pgid == 0) pgid = pid;
  ThreadGroup* tg = set.FindThreadGroup(pid);
  if (tg == nullptr) return Errno(set.FindTask(pid) != nullptr ? EINVAL : ESRCH);
  if (tg != &t.tg()) {
    if (tg->parent != &t.tg()) return Errno(ESRCH);
    if (tg->pgrp->session != t.tg().pgrp->session) return Errno(EPERM);
    if (tg->did_exec) return Errno(EACCES);
  }
  if (tg->pgrp->session->leader == tg) return Errno(EPERM);
  if (tg->pgrp->pgid == pgid) return 0;
  RefPtr<ProcessGroup> target;
  if (const auto it = set.groups.find(pgid); it != set.groups.end()) {
    if (it->second->session != tg->pgrp->session) return Errno(EPERM);
    target = it->second;
  } else {
    if (pgid != pid) return Errno(EPERM);
    target = MakeRef<ProcessGroup>(pgid, tg->pgrp->session);
    set.groups[pgid] = target;
  }
  MoveToGroupLocked(*tg, std::move(target));
  return 0;
}

SysResult SysSetsid(Task& t) {
  TaskSet& set = t.kernel().tasks();
  MutexLock lock(set.mu);
  ThreadGroup& tg = t.tg();
  if (tg.pgrp->session->leader == &tg || set.groups.contains(tg.tgid_)) return Errno(EPERM);
  Ref<Session> session = MakeRef<Session>(tg.tgid_);
  session->leader = &tg;
  RefPtr<ProcessGroup> pg = MakeRef<ProcessGroup>(tg.tgid_, session);
  set.groups[tg.tgid_] = pg;
  MoveToGroupLocked(tg, std::move(pg));
  return tg.tgid_;
}

void MoveToGroupLocked(ThreadGroup& tg, RefPtr<ProcessGroup> to) {
  RefPtr<ProcessGroup> from = tg.pgrp;
  from->members.remove(&tg);
  if (from->members.empty()) tg.kernel().tasks().EraseGroupLocked(from->pgid);
  to->members.push_back(&tg);
  tg.pgrp = std::move(to);
}

}  // namespace ringwall
