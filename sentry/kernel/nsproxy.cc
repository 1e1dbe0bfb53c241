// New sets of namespaces (kernel/nsproxy.c), and the files that stand for namespaces (fs/nsfs.c).
#include "sentry/kernel/nsproxy.h"

#include <fcntl.h>
#include <linux/magic.h>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr uint32_t kNsGetUserns = 0xb701, kNsGetParent = 0xb702, kNsGetNstype = 0xb703,
                   kNsGetOwnerUid = 0xb704, kNsGetMntnsId = 0x8008b705,
                   kNsGetPidFromPidns = 0x8004b706, kNsGetTgidFromPidns = 0x8004b707,
                   kNsGetPidInPidns = 0x8004b708, kNsGetTgidInPidns = 0x8004b709;

class NsFileSystem final : public FileSystem {
 public:
  std::string_view type_name() const override { return "nsfs"; }
  Ref<Inode> root() override;
  Result<StatFs> GetStatFs() override {
    StatFs s;
    s.type = NSFS_MAGIC;
    return s;
  }
};

NsFileSystem& ns_fs() {
  static NsFileSystem* fs = MakeRef<NsFileSystem>().Leak();
  return *fs;
}

class NsInode final : public Inode {
 public:
  explicit NsInode(RefPtr<Namespace> ns)
      : Inode(ns_fs(), ns ? S_IFREG : S_IFDIR), ns_(std::move(ns)), made_(CurrentTime()) {}
  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }
  Result<Attr> GetAttr() override {
    Attr a;
    a.ino = ns_ ? ns_->number() : 1;
    a.mode = ns_ ? S_IFREG | 0444 : S_IFDIR | 0555;
    a.atime = a.mtime = a.ctime = made_;
    return a;
  }
  Result<void> Set(const SetAttr&) override { return Errno(EPERM); }
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials&) override;
  RefPtr<Namespace> ns() const { return ns_; }

 private:
  const RefPtr<Namespace> ns_;
  const Timespec made_;
};

Ref<Inode> NsFileSystem::root() { return MakeRef<NsInode>(nullptr); }

const Ref<Mount>& ns_mount() {
  static auto* mount = new Ref<Mount>(MakeRef<Mount>(
      Ref<FileSystem>(ns_fs()), Dentry::MakeRoot(ns_fs().root()), MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsfs"));
  return *mount;
}

class NsFile final : public File {
 public:
  NsFile(const Path& path, uint32_t flags, Ref<Namespace> ns)
      : File(path, flags), ns_(std::move(ns)) {}
  Result<int64_t> Ioctl(Task& t, uint32_t cmd, uint64_t arg) override;

 private:
  Result<int64_t> OpenRelated(Task& t, RefPtr<Namespace> ns) {
    if (!ns) return Errno(EPERM);
    const Path path = NamespacePath(Ref<Namespace>(ns));
    Ref<File> file = TRY(path.dentry().inode()->Open(path, O_RDONLY, t.creds()));
    const int fd = TRY(t.fds().Install(std::move(file), true, t.tg().limit(RLIMIT_NOFILE)));
    return fd;
  }
  Result<int64_t> Translate(Task& t, uint32_t cmd, int pid) const;
  const Ref<Namespace> ns_;
};

Result<Ref<File>> NsInode::Open(const Path& path, uint32_t flags, const Credentials&) {
  if (!ns_) return Errno(EISDIR);
  if ((flags & O_ACCMODE) != O_RDONLY) return Errno(EPERM);
  return Ref<File>(MakeRef<NsFile>(path, flags, Ref<Namespace>(ns_)));
}

Result<int64_t> NsFile::Ioctl(Task& t, uint32_t cmd, uint64_t arg) {
  const UserNamespace& mine = t.creds().user_ns();
  switch (cmd) {
    case kNsGetUserns: {
      // For a user namespace its parent, for others their owner; none that is out of sight.
      UserNamespace* owner = ns_->kind() == NamespaceKind::kUser
                                 ? static_cast<UserNamespace&>(*ns_).parent()
                                 : &ns_->user_ns();
      if (owner == nullptr || !owner->IsWithin(mine)) return Errno(EPERM);
      return OpenRelated(t, RefPtr<Namespace>(owner));
    }
    case kNsGetParent:
      if (ns_->kind() == NamespaceKind::kUser) {
        UserNamespace* up = static_cast<UserNamespace&>(*ns_).parent();
        if (up == nullptr || !up->IsWithin(mine)) return Errno(EPERM);
        return OpenRelated(t, RefPtr<Namespace>(up));
      }
      if (ns_->kind() == NamespaceKind::kPid) {
        PidNamespace* up = static_cast<PidNamespace&>(*ns_).parent();
        if (up == nullptr || !up->IsWithin(t.pid_ns())) return Errno(EPERM);
        return OpenRelated(t, RefPtr<Namespace>(up));
      }
      return Errno(EINVAL);
    case kNsGetNstype:
      return static_cast<int64_t>(ns_->clone_flag());
    case kNsGetOwnerUid: {
      if (ns_->kind() != NamespaceKind::kUser) return Errno(EINVAL);
      const uint32_t uid = mine.ShowUid(static_cast<UserNamespace&>(*ns_).owner());
      TRY(UserOut<uint32_t>(GuestAddr(arg)).CopyOut(t, uid));
      return 0;
    }
    case kNsGetMntnsId: {
      if (ns_->kind() != NamespaceKind::kMount) return Errno(EINVAL);
      TRY(UserOut<uint64_t>(GuestAddr(arg)).CopyOut(t, ns_->number()));
      return 0;
    }
    case kNsGetPidFromPidns:
    case kNsGetTgidFromPidns:
    case kNsGetPidInPidns:
    case kNsGetTgidInPidns:
      if (ns_->kind() != NamespaceKind::kPid) return Errno(EINVAL);
      return Translate(t, cmd, static_cast<int>(arg));
    default:
      return Errno(ENOTTY);
  }
}

Result<int64_t> NsFile::Translate(Task& t, uint32_t cmd, int pid) const {
  const PidNamespace& other = static_cast<const PidNamespace&>(*ns_);
  const bool from = cmd == kNsGetPidFromPidns || cmd == kNsGetTgidFromPidns;
  const PidNamespace& source = from ? other : t.pid_ns();
  const PidNamespace& target = from ? t.pid_ns() : other;
  MutexLock lock(t.kernel().tasks().mu);
  const Task* found = source.FindTask(pid);
  if (found == nullptr) return Errno(ESRCH);
  const bool group = cmd == kNsGetTgidFromPidns || cmd == kNsGetTgidInPidns;
  const int number = group ? found->tg().pid->In(target) : found->pid().In(target);
  if (number == 0) return Errno(ESRCH);
  return number;
}

}  // namespace

Path NamespacePath(Ref<Namespace> ns) {
  std::string name = std::string(ns->name()) + ":[" + std::to_string(ns->number()) + "]";
  return Path(ns_mount(), Dentry::MakeRoot(MakeRef<NsInode>(RefPtr<Namespace>(std::move(ns))), name));
}

RefPtr<Namespace> NamespaceOf(File& file) {
  if (file.inode().kind() != &NsInode::kKind || (file.flags() & O_PATH) != 0) return nullptr;
  return static_cast<NsInode&>(file.inode()).ns();
}

Result<NsProxy> NsProxy::Copy(Kernel& kernel, uint64_t flags, const Credentials& creds,
                              FsContext& fs) const {
  NsProxy fresh = *this;
  if ((flags & (kCloneNamespaces & ~static_cast<uint64_t>(CLONE_NEWUSER))) == 0) return fresh;
  if (!creds.HasOwn(Capability::kSysAdmin)) return Errno(EPERM);
  const Ref<UserNamespace> owner(creds.user_ns());
  if ((flags & CLONE_NEWUTS) != 0) {
    TRY(owner->Charge(NamespaceKind::kUts));
    Ref<UtsNamespace> made = MakeRef<UtsNamespace>(owner, false);
    const UtsName name = uts->name.With([](const UtsName& n) { return n; });
    made->name.With([&](UtsName& n) { n = name; });
    fresh.uts = std::move(made);
  }
  if ((flags & CLONE_NEWIPC) != 0) {
    fresh.ipc = TRY(kernel.NewNamespace(NamespaceKind::kIpc, owner));
  }
  if ((flags & CLONE_NEWCGROUP) != 0) {
    fresh.cgroup = TRY(kernel.NewNamespace(NamespaceKind::kCgroup, owner));
  }
  if ((flags & CLONE_NEWPID) != 0) {
    // A child of the task's own, and only in the user namespace that owns that or one below.
    if (!owner->IsWithin(pid_for_children->user_ns())) return Errno(EINVAL);
    if (pid_for_children->level() >= PidNamespace::kMaxLevel) return Errno(ENOSPC);
    TRY(owner->Charge(NamespaceKind::kPid));
    fresh.pid_for_children = MakeRef<PidNamespace>(pid_for_children, owner);
  }
  if ((flags & CLONE_NEWNET) != 0) {
    TRY(owner->Charge(NamespaceKind::kNet));
    fresh.net = static_cast<NetNamespaceBase&>(*net).NewNamespace(owner);
  }
  if ((flags & CLONE_NEWNS) != 0) {
    Ref<MountNamespace> copy = TRY(mounts->Clone(owner));
    if (Path root = copy->Translate(fs.root())) fs.set_root(std::move(root));
    if (Path cwd = copy->Translate(fs.cwd())) fs.set_cwd(std::move(cwd));
    fresh.mounts = std::move(copy);
  }
  return fresh;
}

}  // namespace ringwall
