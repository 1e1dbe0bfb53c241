// The mount table, and how mounts come and go. Compare Linux fs/namespace.c, fs/pnode.c.
#include "fs/vfs/mount.h"

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
  }
  EpochRetire(table_.load(std::memory_order_relaxed), DeleteTable);
  if (counted_) user_ns().Uncharge(NamespaceKind::kMount);
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
  generation_.fetch_add(1, std::memory_order_acq_rel);
  if (old != nullptr) EpochRetire(old, DeleteTable);
}

Path MountNamespace::root() const {
  EpochGuard guard;
  return table_.load(std::memory_order_acquire)->root;
}

Path MountNamespace::TopRoot() const {
  Path at = root();
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

MountNamespace::Tree MountNamespace::TreeOfLocked(Mount& top) const {
  Tree tree = {Ref<Mount>(top)};
  for (size_t i = 0; i < tree.size(); i++) {
    for (const Ref<Mount>& m : mounts_) {
      if (m->mount_point_ && &m->mount_point_.mount() == tree[i].get()) tree.push_back(m);
    }
  }
  return tree;
}

bool MountNamespace::HasChildrenLocked(const Mount& m) const {
  return std::any_of(mounts_.begin(), mounts_.end(), [&](const Ref<Mount>& c) {
    return c->mount_point_ && &c->mount_point_.mount() == &m;
  });
}

// tree[0] goes to `at`; the others keep their places in it.
void MountNamespace::GraftLocked(const Tree& tree, const Path& at) {
  tree[0]->mount_point_ = at;
  for (const Ref<Mount>& m : tree) {
    m->space_ = this;
    mounts_.push_back(m);
    AllMounts().push_back(m.get());
    if (m->mount_point_) m->mount_point_.dentry().mounted_here.fetch_add(1);
  }
}

void MountNamespace::UngraftLocked(const Tree& tree) {
  for (const Ref<Mount>& m : tree) {
    m->space_ = nullptr;
    std::erase(mounts_, m);
    std::erase(AllMounts(), m.get());
    if (m->mount_point_) m->mount_point_.dentry().mounted_here.fetch_sub(1);
  }
}

std::vector<MountNamespace::Info> MountNamespace::List() const {
  MutexLock lock(MountLock());
  std::vector<Info> out;
  for (const Ref<Mount>& m : TreeOfLocked(*root_)) {
    const int parent = m->mount_point_ ? m->mount_point_.mount().id() : m->id();
    out.push_back({m, m->mount_point_, parent, m->peer_group_, m->master_group_, m->unbindable_});
  }
  return out;
}

Result<void> MountNamespace::Attach(Ref<Mount> m, const Path& at) {
  if (m->root().is_directory() != at.dentry().is_directory()) return Errno(ENOTDIR);
  MutexLock lock(MountLock());
  if (!OwnsLocked(at.mount())) return Errno(EINVAL);
  if (at.dentry().unlinked()) return Errno(ENOENT);
  if (&at.mount().fs() == &m->fs() && &at.dentry() == &m->root()) return Errno(EBUSY);
  AttachTreeLocked({std::move(m)}, at);
  return {};
}

Result<void> MountNamespace::Detach(const Path& at, int flags) {
  // Dropped after the lock: the last reference to a mount ends its file system.
  std::vector<Tree> gone;
  {
    MutexLock lock(MountLock());
    if (!OwnsLocked(at.mount()) || &at.dentry() != &at.mount().root()) return Errno(EINVAL);
    if (!at.mount().mount_point_) return Errno(flags & MNT_DETACH ? EINVAL : EBUSY);
    Mount& mount = at.mount();
    if (!(flags & MNT_DETACH)) {
      if (HasChildrenLocked(mount)) return Errno(EBUSY);
      if (mount.ref_count() > kIdleMountRefs) return Errno(EBUSY);
      if (flags & MNT_EXPIRE) return Errno(EAGAIN);
    } else if (flags & MNT_EXPIRE) {
      return Errno(EINVAL);
    }
    const Path mount_point = mount.mount_point_;
    gone.push_back(TreeOfLocked(mount));
    // What propagated from here goes as well, unless something else was mounted on it.
    for (const Path& other : PropagationOfLocked(mount_point)) {
      MountNamespace& space = *other.mount().space_;
      for (const Ref<Mount>& m : space.mounts_) {
        if (m->mount_point_ == other && &m->root() == &mount.root()) {
          if (!(flags & MNT_DETACH) && space.HasChildrenLocked(*m)) break;
          gone.push_back(space.TreeOfLocked(*m));
          break;
        }
      }
    }
    for (const Tree& tree : gone) {
      MountNamespace& space = *tree[0]->space_;
      space.UngraftLocked(tree);
      space.PublishLocked();
    }
    // A detached tree stays walkable from inside for whoever stands in it, but no way leads up.
    for (const Tree& tree : gone) tree[0]->mount_point_ = Path();
  }
  return {};
}

}  // namespace ringwall
