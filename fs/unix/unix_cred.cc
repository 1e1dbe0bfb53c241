#include "fs/unix/unix_cred.h"

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/pidfd.h"

namespace ringwall {

UnixCred SeenBy(const Task& t, UnixCred cred) {
  const UserNamespace& user = t.creds().user_ns();
  cred.uid = user.ShowUid(cred.uid);
  cred.gid = user.ShowGid(cred.gid);
  if (t.pid_ns().level() == 0 && cred.pid < TaskSet::kPidMax) return cred;
  MutexLock lock(t.kernel().tasks().mu);
  const Task* named = t.kernel().tasks().FindTask(cred.pid);
  cred.pid = named != nullptr ? named->pid().In(t.pid_ns()) : 0;
  return cred;
}

Result<UnixCred> TakeCred(const Task& t, UnixCred cred) {
  const Credentials& own = t.creds();
  const std::optional<Uid> uid = own.user_ns().UidIn(cred.uid);
  const std::optional<Gid> gid = own.user_ns().GidIn(cred.gid);
  if (!uid || !gid) return Errno(EINVAL);
  const bool uid_ok = *uid == own.ruid || *uid == own.euid || *uid == own.suid ||
                      own.HasOwn(Capability::kSetuid);
  const bool gid_ok = *gid == own.rgid || *gid == own.egid || *gid == own.sgid ||
                      own.HasOwn(Capability::kSetgid);
  const bool pid_ok =
      cred.pid == t.vtgid() || own.HasIn(t.pid_ns().user_ns(), Capability::kSysAdmin);
  if (!uid_ok || !gid_ok || !pid_ok) return Errno(EPERM);
  cred.uid = *uid, cred.gid = *gid;
  if (cred.pid == t.vtgid()) {
    cred.pid = t.tgid();
    return cred;
  }
  MutexLock lock(t.kernel().tasks().mu);
  const Task* named = t.pid_ns().FindTask(cred.pid);
  if (named == nullptr) return Errno(ESRCH);
  cred.pid = named->tid();
  return cred;
}

Result<Ref<File>> PidFdOf(const Task& t, int32_t pid) {
  RefPtr<ThreadGroup> tg;
  {
    MutexLock lock(t.kernel().tasks().mu);
    Task* named = t.kernel().tasks().FindTask(pid);
    if (named == nullptr) return Errno(EINVAL);
    tg = RefPtr<ThreadGroup>(&named->tg());
  }
  return NewPidFd(*tg, 0);
}

}  // namespace ringwall
