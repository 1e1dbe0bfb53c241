// unshare and setns (kernel/fork.c, kernel/nsproxy.c); read namespaces(7) first.
#include <fcntl.h>
#include <sched.h>

#include "fs/vfs/dentry.h"
#include "sentry/kernel/pidfd.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

// A process with one thread, and with memory and handlers of its own.
bool SingleThreaded(Task& t) {
  MutexLock lock(t.tg().siglock);
  return t.tg().threads.size() == 1;
}

// What setns has decided on and is about to make true, all at once.
struct Entry {
  Task& t;
  NsProxy ns;
  RefPtr<const Credentials> creds;  // when the user namespace changes
  bool enters_mounts = false;

  const Credentials& Creds() const { return creds ? *creds : t.creds(); }

  Result<void> Enter(Namespace& target);
  void Commit();
};

Result<void> Entry::Enter(Namespace& target) {
  if (target.kind() == NamespaceKind::kUser) {
    UserNamespace& user = static_cast<UserNamespace&>(target);
    // Nobody may come back to the capabilities that were given up.
    if (&user == &t.creds().user_ns() || !SingleThreaded(t)) return Errno(EINVAL);
    if (t.fs().ref_count() != 1) return Errno(EINVAL);
    if (!t.creds().HasIn(user, Capability::kSysAdmin)) return Errno(EPERM);
    Ref<Credentials> c = t.creds().Copy();
    c->EnterUserNamespace(Ref<UserNamespace>(user));
    creds = Ref<const Credentials>(std::move(c));
    return {};
  }
  if (!Creds().HasIn(target.user_ns(), Capability::kSysAdmin)) return Errno(EPERM);
  if (!Creds().HasOwn(Capability::kSysAdmin)) return Errno(EPERM);
  switch (target.kind()) {
    case NamespaceKind::kMount:
      if (!Creds().HasOwn(Capability::kSysChroot)) return Errno(EPERM);
      if (t.fs().ref_count() != 1) return Errno(EINVAL);
      ns.mounts = RefPtr<MountNamespace>(&static_cast<MountNamespace&>(target));
      enters_mounts = true;
      break;
    case NamespaceKind::kUts:
      ns.uts = RefPtr<UtsNamespace>(&static_cast<UtsNamespace&>(target));
      break;
    case NamespaceKind::kIpc:
      ns.ipc = RefPtr<Namespace>(&target);
      break;
    case NamespaceKind::kNet:
      ns.net = RefPtr<Namespace>(&target);
      break;
    case NamespaceKind::kCgroup:
      ns.cgroup = RefPtr<Namespace>(&target);
      break;
    case NamespaceKind::kPid: {
      // Only downwards: a parent must be able to see its children.
      PidNamespace& pid_ns = static_cast<PidNamespace&>(target);
      if (!pid_ns.IsWithin(t.pid_ns())) return Errno(EINVAL);
      ns.pid_for_children = RefPtr<PidNamespace>(&pid_ns);
      break;
    }
    case NamespaceKind::kUser:
      break;
  }
  return {};
}

void Entry::Commit() {
  if (enters_mounts) {
    const Path root = ns.mounts->TopRoot();
    t.fs().set_root(root);
    t.fs().set_cwd(root);
  }
  t.set_nsproxy(std::move(ns));
  if (creds) t.set_creds(Ref<const Credentials>(creds));
}

Result<void> EnterAllOf(Task& t, ThreadGroup& tg, uint64_t flags, Entry& entry) {
  if (flags == 0 || (flags & ~kCloneNamespaces) != 0) return Errno(EINVAL);
  RefPtr<Task> leader;
  {
    MutexLock lock(t.kernel().tasks().mu);
    leader = RefPtr<Task>(tg.leader);
    if (!leader || tg.zombie) return Errno(ESRCH);
  }
  if (!MayTrace(t, *leader, TraceAccess::kRead | TraceAccess::kRealCreds)) return Errno(EPERM);
  const NsProxy theirs = leader->nsproxy_ref();
  if (!theirs.mounts) return Errno(ESRCH);
  Ref<const Credentials> creds = leader->creds_ref();
  // The user namespace first: it may give the right to enter the others.
  if ((flags & CLONE_NEWUSER) != 0) TRY(entry.Enter(creds->user_ns()));
  if ((flags & CLONE_NEWNS) != 0) TRY(entry.Enter(*theirs.mounts));
  if ((flags & CLONE_NEWUTS) != 0) TRY(entry.Enter(*theirs.uts));
  if ((flags & CLONE_NEWIPC) != 0) TRY(entry.Enter(*theirs.ipc));
  if ((flags & CLONE_NEWPID) != 0) TRY(entry.Enter(leader->pid_ns()));
  if ((flags & CLONE_NEWCGROUP) != 0) TRY(entry.Enter(*theirs.cgroup));
  if ((flags & CLONE_NEWNET) != 0) TRY(entry.Enter(*theirs.net));
  return {};
}

}  // namespace

SysResult SysUnshare(Task& t, uint64_t flags) {
  constexpr uint64_t kKnown = kCloneNamespaces | CLONE_THREAD | CLONE_FS | CLONE_SIGHAND | CLONE_VM |
                              CLONE_FILES | CLONE_SYSVSEM;
  constexpr uint64_t kNewTime = 0x80;  // CLONE_NEWTIME
  if ((flags & ~(kKnown | kNewTime)) != 0) return Errno(EINVAL);
  if ((flags & CLONE_NEWUSER) != 0) flags |= CLONE_THREAD | CLONE_FS;
  if ((flags & CLONE_VM) != 0) flags |= CLONE_SIGHAND;
  if ((flags & CLONE_SIGHAND) != 0) flags |= CLONE_THREAD;
  if ((flags & CLONE_NEWNS) != 0) flags |= CLONE_FS;
  // Memory and handlers cannot be taken apart; asking for it is an error only when there is need.
  if ((flags & CLONE_THREAD) != 0 && !SingleThreaded(t)) return Errno(EINVAL);
  if ((flags & CLONE_SIGHAND) != 0 && t.tg().actions().ref_count() > 1) return Errno(EINVAL);
  if ((flags & CLONE_VM) != 0 && t.mm().ref_count() > 1) return Errno(EINVAL);

  RefPtr<const Credentials> creds(&t.creds());
  if ((flags & CLONE_NEWUSER) != 0) {
    creds = TRY(CredentialsInNewUserNamespace(t));
  }
  if ((flags & kNewTime) != 0) return Errno(creds->HasOwn(Capability::kSysAdmin) ? EINVAL : EPERM);
  // On a copy, so that a failure leaves everything as it was.
  Ref<FsContext> fs = t.fs().Copy();
  NsProxy ns = TRY(t.nsproxy().Copy(t.kernel(), flags, *creds, *fs));

  // ---- No failure below this line. ----
  if ((flags & CLONE_FS) != 0) t.set_fs(std::move(fs));
  if ((flags & CLONE_FILES) != 0) t.UnshareFds();
  t.set_nsproxy(std::move(ns));
  if (creds.get() != &t.creds()) t.set_creds(Ref<const Credentials>(creds));
  return 0;
}

SysResult SysSetns(Task& t, int fd, int type) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  const uint64_t flags = static_cast<uint32_t>(type);
  Entry entry{t, t.nsproxy(), nullptr};
  if (RefPtr<Namespace> ns = NamespaceOf(*file)) {
    if (flags != 0 && flags != ns->clone_flag()) return Errno(EINVAL);
    TRY(entry.Enter(*ns));
  } else if (RefPtr<ThreadGroup> tg = ThreadGroupOfPidFd(*file)) {
    TRY(EnterAllOf(t, *tg, flags, entry));
  } else {
    return Errno(EINVAL);
  }
  entry.Commit();
  return 0;
}

}  // namespace ringwall
