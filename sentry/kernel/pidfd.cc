#include "sentry/kernel/pidfd.h"

#include <fcntl.h>
#include <sys/epoll.h>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/vfs.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/nsproxy.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

RefPtr<ThreadGroup> (*proc_directory_lookup)(Inode& inode) = nullptr;

class PidFdFile final : public File {
 public:
  PidFdFile(Path path, uint32_t flags, ThreadGroup& tg, RefPtr<Task> thread)
      : File(std::move(path), flags), tg_(tg), thread_(std::move(thread)) {}
  EventMask Poll(EventMask wanted) override {
    constexpr EventMask kEnded = EPOLLIN | EPOLLRDNORM;
    MutexLock lock(tg_->kernel().tasks().mu);
    const bool gone =
        thread_ ? thread_->exit_state == ExitState::kDead : tg_->leader == nullptr;
    const bool ended = thread_ ? thread_->exit_state != ExitState::kAlive : tg_->zombie;
    if (gone) return (wanted & kEnded) | EPOLLHUP;
    return ended ? wanted & kEnded : 0;
  }
  WaitQueue* queue() override { return &tg_->exit_queue; }
  Result<size_t> Read(IoDst&, uint64_t, int) override { return Errno(EINVAL); }
  Result<size_t> Write(IoSrc&, uint64_t*, int) override { return Errno(EINVAL); }
  Result<int64_t> Ioctl(Task& task, uint32_t cmd, uint64_t arg) override;
  ThreadGroup& tg() { return *tg_; }
  const RefPtr<Task>& thread() const { return thread_; }
  std::string FdInfo() override {
    const Task* t = Task::Current();
    MutexLock lock(tg_->kernel().tasks().mu);
    // -1: reaped; 0: out of the reader's sight.
    if (tg_->leader == nullptr) return "Pid:\t-1\nNSpid:\t-1\n";
    const PidNamespace& ns = t != nullptr ? t->pid_ns() : tg_->pid_ns();
    const Pid& pid = thread_ ? thread_->pid() : *tg_->pid;
    std::string text = "Pid:\t" + std::to_string(pid.In(ns)) + "\nNSpid:";
    const std::span<const int> numbers = pid.From(ns);
    if (numbers.empty()) text += "\t0";
    for (const int number : numbers) text += "\t" + std::to_string(number);
    return text + "\n";
  }

 private:
  const Ref<ThreadGroup> tg_;
  const RefPtr<Task> thread_;  // of PIDFD_THREAD; else null
};

// PIDFD_GET_*_NAMESPACE (include/uapi/linux/pidfd.h): _IO(0xff, 1) and on. EOPNOTSUPP for the namespaces
// of time, which are not there.
constexpr uint32_t kFirstNamespace = 0xff01, kLastNamespace = 0xff0a;

Result<Ref<Namespace>> NamespaceOf(Task& task, uint32_t cmd) {
  enum { kCgroup = kFirstNamespace, kIpc, kMnt, kNet, kPid, kPidForChildren, kTime, kTimeForChildren, kUser, kUts };
  if (cmd == kUser) return Ref<Namespace>(task.creds_ref()->user_ns());
  if (cmd == kPid) return Ref<Namespace>(task.pid_ns());
  const NsProxy ns = task.nsproxy_ref();
  if (!ns.mounts) return Errno(ESRCH);
  switch (cmd) {
    case kCgroup: return Ref<Namespace>(ns.cgroup);
    case kIpc: return Ref<Namespace>(ns.ipc);
    case kMnt: return Ref<Namespace>(*ns.mounts);
    case kNet: return Ref<Namespace>(ns.net);
    case kPidForChildren: return Ref<Namespace>(*ns.pid_for_children);
    case kUts: return Ref<Namespace>(*ns.uts);
    default: return Errno(EOPNOTSUPP);
  }
}

Result<int64_t> OpenNamespace(Task& t, ThreadGroup& tg, uint32_t cmd, uint64_t arg) {
  RefPtr<Task> target;
  {
    MutexLock lock(tg.kernel().tasks().mu);
    target = RefPtr<Task>(tg.leader);
  }
  if (!target) return Errno(ESRCH);
  if (arg != 0) return Errno(EINVAL);
  if (!Ptrace::MayAccess(t, *target, PtraceAccess::kReadFs).ok()) return Errno(EACCES);
  Ref<Namespace> ns = TRY(NamespaceOf(*target, cmd));
  const Path path = NamespacePath(std::move(ns));
  Ref<File> file = TRY(path.dentry().inode()->Open(path, O_RDONLY, t.creds()));
  const int fd = TRY(t.fds().Install(std::move(file), true, t.tg().limit(RLIMIT_NOFILE)));
  return fd;
}

// struct pidfd_info of Linux 6.15.
struct PidFdInfo {
  uint64_t mask, cgroup;
  uint32_t pid, tgid, ppid, ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
  int32_t exit_code;
};
static_assert(sizeof(PidFdInfo) == 64);
constexpr uint64_t kInfoPid = 1, kInfoCreds = 2, kInfoExit = 8;

// PIDFD_GET_INFO, whose number holds the size that the caller knows.
Result<int64_t> PidFdFile::Ioctl(Task& task, uint32_t cmd, uint64_t arg) {
  if (cmd >= kFirstNamespace && cmd <= kLastNamespace) return OpenNamespace(task, *tg_, cmd, arg);
  constexpr uint32_t kType = 0xff, kNumber = 11, kReadWrite = 3;
  const uint32_t size = (cmd >> 16) & 0x3fff;
  if ((cmd & 0xff) != kNumber || ((cmd >> 8) & 0xff) != kType || cmd >> 30 != kReadWrite) {
    return Errno(ENOTTY);
  }
  if (arg == 0 || size < sizeof(PidFdInfo)) return Errno(EINVAL);
  uint64_t asked = 0;
  TRY(task.CopyIn(GuestAddr(arg), std::as_writable_bytes(std::span(&asked, 1))));
  PidFdInfo info = {};
  {
    MutexLock lock(tg_->kernel().tasks().mu);
    const Task* leader = tg_->leader;
    if (leader == nullptr) {
      // Reaped: what is left is how it ended.
      if ((asked & kInfoExit) == 0) return Errno(ESRCH);
      info.mask = kInfoExit;
      info.exit_code = tg_->exit_status;
    } else {
      Ref<const Credentials> c = leader->creds_ref();
      const int number = tg_->pid->In(task.pid_ns());
      if (number == 0) return Errno(EREMOTE);
      info.mask = kInfoPid | kInfoCreds;
      info.pid = info.tgid = static_cast<uint32_t>(number);
      info.ppid = static_cast<uint32_t>(ParentPidLocked(*tg_));
      info.ruid = c->ruid, info.euid = c->euid, info.suid = c->suid, info.fsuid = c->fsuid;
      info.rgid = c->rgid, info.egid = c->egid, info.sgid = c->sgid, info.fsgid = c->fsgid;
    }
  }
  // A caller that knows more finds zeros there.
  std::vector<std::byte> out(size);
  memcpy(out.data(), &info, sizeof(info));
  TRY(task.CopyOut(GuestAddr(arg), out));
  return 0;
}

// Marks the inodes of pidfds, so that a File can be told to be one without RTTI.
class PidFdInode final : public AnonInode {
 public:
  PidFdInode() : AnonInode(0700, 0, 0) {}
  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }
};

}  // namespace

Ref<File> NewPidFd(ThreadGroup& tg, uint32_t flags, RefPtr<Task> thread) {
  return MakeRef<PidFdFile>(AnonymousPath(MakeRef<PidFdInode>(), "anon_inode:[pidfd]"),
                            O_RDWR | (flags & (O_NONBLOCK | O_EXCL)), tg, std::move(thread));
}

RefPtr<Task> ThreadOfPidFd(File& file) {
  if (file.inode().kind() != &PidFdInode::kKind || (file.flags() & O_PATH) != 0) return nullptr;
  return static_cast<PidFdFile&>(file).thread();
}

RefPtr<ThreadGroup> ThreadGroupOfPidFd(File& file) {
  if (file.inode().kind() != &PidFdInode::kKind || (file.flags() & O_PATH) != 0) return nullptr;
  return RefPtr<ThreadGroup>(&static_cast<PidFdFile&>(file).tg());
}

RefPtr<ThreadGroup> ThreadGroupOfProcDirectory(File& file) {
  if (proc_directory_lookup == nullptr || (file.flags() & O_PATH) != 0) return nullptr;
  return proc_directory_lookup(file.inode());
}

void SetProcDirectoryLookup(RefPtr<ThreadGroup> (*lookup)(Inode& inode)) {
  proc_directory_lookup = lookup;
}

}  // namespace ringwall
