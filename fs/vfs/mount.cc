// The mount table, and how mounts come and go. Compare Linux fs/namespace.c, fs/pnode.c.
#include "fs/vfs/mount.h"

#include <sys/epoll.h>

#include <sched.h>

#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "fs/vfs/epoch.h"
#include "fs/vfs/mount_internal.h"

namespace ringwall {

// What the path walk reads. Holds references to all it names.
struct MountTable {
  using Place = std::pair<const Mount*, const Dentry*>;
  absl::flat_hash_map<Place, Mount*> mounted;
  absl::flat_hash_map<const Mount*, Path> mount_points;
  std::vector<Ref<Mount>> mounts;
  Path root;
};

Mutex<LockClass::kMountTable>& MountLock() {
  static Mutex<LockClass::kMountTable>* mu = new Mutex<LockClass::kMountTable>;
  return *mu;
}

std::vector<Mount*>& AllMounts() {
  static std::vector<Mount*>* all = new std::vector<Mount*>;
  return *all;
}

namespace {

std::atomic<int> next_mount_id{20};

void DeleteTable(const void* table) { delete static_cast<const MountTable*>(table); }

}  // namespace

Mount::Mount(Ref<FileSystem> fs, Ref<Dentry> root, uint32_t flags, std::string source)
    : fs_(std::move(fs)),
      root_(std::move(root)),
      flags_(flags),
      source_(std::move(source)),
      id_(next_mount_id.fetch_add(1, std::memory_order_relaxed)) {
  fs_->AddMount();
}

Ref<Mount> Mount::Make(Ref<FileSystem> fs, uint32_t flags, std::string source) {
  Ref<Dentry> root = Dentry::MakeRoot(fs->root());
  return MakeRef<Mount>(std::move(fs), std::move(root), flags, std::move(source));
}

Mount::~Mount() {
  if (!fs_->RemoveMount()) return;
  // The last one: cached dentries hold inodes, inodes hold the file system.
  RefPtr<Dentry> top(root_.get());
  while (RefPtr<Dentry> up = top->parent()) top = std::move(up);
  top->Prune();
  fs_->OnLastUnmount();
}

MountNamespace::MountNamespace(Ref<Mount> root)
    : Namespace(NamespaceKind::kMount, RefPtr<UserNamespace>(&UserNamespace::Initial()), true),
      counted_(false),
      root_(root) {
  MutexLock lock(MountLock());
  GraftLocked({std::move(root)}, Path());
  PublishLocked();
}

MountNamespace::MountNamespace(Ref<Mount> root, Ref<UserNamespace> owner)
    : Namespace(NamespaceKind::kMount, std::move(owner), false), counted_(true), root_(root) {
  MutexLock lock(MountLock());
  GraftLocked({std::move(root)}, Path());
  PublishLocked();
}

MountNamespace::~MountNamespace() {
  std::vector<Ref<Mount>> gone;
  {
    MutexLock lock(MountLock());
    gone = mounts_;
    UngraftLocked(gone);
    for (const Ref<Mount>& m : gone) LeavePeersLocked(*m);
  }
  EpochRetire(table_.load(std::memory_order_relaxed), DeleteTable);
  if (counted_) user_ns().Uncharge(NamespaceKind::kMount);
}

void MountNamespace::Changed() {
  generation_.fetch_add(1, std::memory_order_acq_rel);
  changes_.Notify(EPOLLPRI | EPOLLERR);
}

void MountNamespace::PublishLocked() {
  auto* table = new MountTable;
  for (const Ref<Mount>& m : mounts_) {
    table->mounts.push_back(m);
    if (!m->mount_point_) continue;
    table->mounted[{&m->mount_point_.mount(), &m->mount_point_.dentry()}] = m.get();
    table->mount_points.emplace(m.get(), m->mount_point_);
  }
  table->root = Path(root_, RefPtr<Dentry>(&root_->root()));
  const MountTable* old = table_.exchange(table, std::memory_order_acq_rel);
  Changed();
  if (old != nullptr) EpochRetire(old, DeleteTable);
}

Path MountNamespace::root() const {
  EpochGuard guard;
  return table_.load(std::memory_order_acquire)->root;
}

Path MountNamespace::TopOf(Path at) const {
  while (RefPtr<Mount> m = MountedAt(at)) {
    RefPtr<Dentry> top(&m->root());
    at = Path(std::move(m), std::move(top));
  }
  return at;
}

Mount* MountNamespace::MountedAtBorrowed(const Mount* mount, const Dentry* dentry) const {
  const MountTable* table = table_.load(std::memory_order_acquire);
  const auto it = table->mounted.find({mount, dentry});
  return it == table->mounted.end() ? nullptr : it->second;
}

bool MountNamespace::MountPointBorrowed(const Mount* m, Mount** mount, Dentry** dentry) const {
  const MountTable* table = table_.load(std::memory_order_acquire);
  const auto it = table->mount_points.find(m);
  if (it == table->mount_points.end()) return false;
  *mount = &it->second.mount();
  *dentry = &it->second.dentry();
  return true;
}

RefPtr<Mount> MountNamespace::MountedAt(const Path& at) const {
  EpochGuard guard;
  return RefPtr<Mount>(MountedAtBorrowed(&at.mount(), &at.dentry()));
}

Path MountNamespace::MountPointOf(const Mount& m) const {
  EpochGuard guard;
  const MountTable* table = table_.load(std::memory_order_acquire);
  const auto it = table->mount_points.find(&m);
  return it == table->mount_points.end() ? Path() : it->second;
}

std::vector<MountNamespace::Info> MountNamespace::List() const {
  MutexLock lock(MountLock());
  std::vector<Info> out;
  for (const Ref<Mount>& m : TreeOfLocked(*root_)) {
    const int parent = m->mount_point_ ? m->mount_point_.mount().id() : m->id();
    out.push_back({m, m->mount_point_, parent, m->peer_group_, m->master_group_, m->unbindable_});
  }
  std::sort(out.begin(), out.end(),
            [](const Info& a, const Info& b) { return a.mount->id() < b.mount->id(); });
  return out;
}

bool MountNamespace::Owns(const Mount& m) const {
  MutexLock lock(MountLock());
  return OwnsLocked(m);
}

Result<void> MountNamespace::Attach(Ref<Mount> m, const Path& at) {
  MutexLock lock(MountLock());
  if (at.dentry().unlinked()) return Errno(ENOENT);
  if (!OwnsLocked(at.mount())) return Errno(EINVAL);
  if (&at.mount().fs() == &m->fs() && &at.dentry() == &at.mount().root()) return Errno(EBUSY);
  if (m->root().is_directory() != at.dentry().is_directory()) return Errno(ENOTDIR);
  return AttachTreeLocked({std::move(m)}, at);
}

Result<void> MountNamespace::DetachLocked(const Path& at, int flags, Tree* gone) {
  Mount& mount = at.mount();
  if (&at.dentry() != &mount.root() || !OwnsLocked(mount) || mount.locked_) return Errno(EINVAL);
  if ((flags & MNT_EXPIRE) && (flags & (MNT_FORCE | MNT_DETACH))) return Errno(EINVAL);
  const bool busy = mount.ref_count() > kIdleMountRefs || HasChildrenLocked(mount);
  if (flags & MNT_EXPIRE) {
    if (busy) return Errno(EBUSY);
    if (!mount.expiring_.exchange(true)) return Errno(EAGAIN);
  }
  if (!mount.mount_point_) return Errno(flags & MNT_DETACH ? EINVAL : EBUSY);
  if (!(flags & MNT_DETACH)) {
    if (busy) return Errno(EBUSY);
    // Nor may the copies that propagation made be in use.
    for (const Mount* on : PropagationOfLocked(mount.mount_point_)) {
      const MountNamespace& space = *on->space_;
      const Mount* child = space.FindMountLocked(*on, mount.mount_point_.dentry());
      if (child == nullptr || space.HasChildrenLocked(*child)) continue;
      if (child->ref_count() > kIdleMountRefs - 1) return Errno(EBUSY);
    }
  }
  *gone = flags & MNT_DETACH ? TreeOfLocked(mount) : Tree{Ref<Mount>(mount)};
  AddPropagatedLocked(gone);
  std::vector<MountNamespace*> changed;
  for (const Ref<Mount>& m : *gone) {
    MountNamespace* space = m->space_;
    space->UngraftLocked({m});
    if (std::find(changed.begin(), changed.end(), space) == changed.end()) changed.push_back(space);
  }
  for (MountNamespace* space : changed) space->PublishLocked();
  // Whoever stands in one of them still walks in it, but no way leads up or down any more.
  for (const Ref<Mount>& m : *gone) {
    m->mount_point_ = Path();
    LeavePeersLocked(*m);
    m->master_group_ = 0;
  }
  return {};
}

Result<void> MountNamespace::Detach(const Path& at, int flags) {
  // Dropped after the lock: the last reference to a mount ends its file system.
  Tree gone;
  // A table that was replaced a moment ago may still hold a reference.
  constexpr int kTries = 50;
  for (int tries = 0;; tries++) {
    Result<void> done;
    {
      MutexLock lock(MountLock());
      done = DetachLocked(at, flags, &gone);
    }
    if (done.ok() || !done.error().Is(EBUSY) || tries == kTries) return done;
    sched_yield();
  }
}

bool MountNamespace::MayReveal(std::string_view type, uint32_t* flags) const {
  if (user_ns().parent() == nullptr) return true;
  MutexLock lock(MountLock());
  for (const Ref<Mount>& m : mounts_) {
    if (m->fs().type_name() != type || !m->root().is_root()) continue;
    if ((m->locked_flags_ & MS_RDONLY) && !(*flags & MS_RDONLY)) continue;
    constexpr uint32_t kTimes = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;
    if ((m->locked_flags_ & MS_NOATIME) && (m->flags() & kTimes) != (*flags & kTimes)) continue;
    const bool covered = std::any_of(mounts_.begin(), mounts_.end(), [&](const Ref<Mount>& c) {
      return c->mount_point_ && &c->mount_point_.mount() == m.get() && c->locked_;
    });
    if (covered) continue;
    return true;
  }
  return false;
}

}  // namespace ringwall
