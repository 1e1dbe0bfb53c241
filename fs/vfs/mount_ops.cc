// bind, move, remount, propagation, pivot_root, and copies of namespaces. Compare Linux
// fs/namespace.c and fs/pnode.c.
#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "fs/vfs/mount.h"
#include "fs/vfs/mount_internal.h"

namespace ringwall {

namespace {

int next_group = 1;  // under MountLock()

// What mount(2) lets a bind remount change.
constexpr uint32_t kMountFlags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME |
                                 MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;

}  // namespace

MountNamespace::Tree MountNamespace::CopyTreeLocked(Mount& top, Dentry& root,
                                                    bool recursive) const {
  absl::flat_hash_map<const Mount*, Ref<Mount>> copies;
  Tree out;
  const MountNamespace& space = top.space_ != nullptr ? *top.space_ : *this;
  const Tree originals = recursive ? space.TreeOfLocked(top) : Tree{Ref<Mount>(top)};
  for (const Ref<Mount>& m : originals) {
    const bool is_top = m.get() == &top;
    Path mount_point;
    if (!is_top) {
      const auto parent = copies.find(&m->mount_point_.mount());
      if (parent == copies.end() || m->unbindable_) continue;
      if (!m->mount_point_.dentry().IsDescendantOf(parent->second->root())) continue;
      mount_point = Path(parent->second, m->mount_point_.dentry_ref());
    }
    Ref<Mount> copy =
        MakeRef<Mount>(m->fs_, is_top ? Ref<Dentry>(root) : m->root_, m->flags(), m->source_);
    copy->mount_point_ = std::move(mount_point);
    copy->peer_group_ = m->peer_group_;
    copy->master_group_ = m->master_group_;
    copy->copied_from_ = m->id_;
    copies.emplace(m.get(), copy);
    out.push_back(std::move(copy));
  }
  return out;
}

std::vector<Path> MountNamespace::PropagationOfLocked(const Path& at) const {
  std::vector<Path> out;
  std::vector<int> groups;
  if (at.mount().peer_group_ != 0) groups.push_back(at.mount().peer_group_);
  for (size_t i = 0; i < groups.size(); i++) {
    for (Mount* m : AllMounts()) {
      const bool peer = m->peer_group_ == groups[i];
      if (!peer && m->master_group_ != groups[i]) continue;
      // A slave that is shared passes it on to its own peers.
      if (!peer && m->peer_group_ != 0 &&
          std::find(groups.begin(), groups.end(), m->peer_group_) == groups.end()) {
        groups.push_back(m->peer_group_);
      }
      if (m == &at.mount() || !at.dentry().IsDescendantOf(m->root())) continue;
      const Path place(RefPtr<Mount>(m), at.dentry_ref());
      if (std::find(out.begin(), out.end(), place) == out.end()) out.push_back(place);
    }
  }
  return out;
}

void MountNamespace::AttachTreeLocked(Tree tree, const Path& at) {
  const std::vector<Path> others = PropagationOfLocked(at);
  if (at.mount().peer_group_ != 0) {
    // What is mounted on a shared mount is shared itself.
    for (const Ref<Mount>& m : tree) {
      if (m->peer_group_ == 0) m->peer_group_ = next_group++;
    }
  }
  GraftLocked(tree, at);
  for (const Path& other : others) {
    MountNamespace& space = *other.mount().space_;
    Tree copy = CopyTreeLocked(*tree[0], tree[0]->root(), true);
    if (other.mount().peer_group_ != at.mount().peer_group_) {
      // A slave gets slaves, shared among its own peers if it has any.
      for (const Ref<Mount>& m : copy) {
        m->master_group_ = m->peer_group_;
        m->peer_group_ = other.mount().peer_group_ != 0 ? next_group++ : 0;
      }
    }
    space.GraftLocked(copy, other);
    if (&space != this) space.PublishLocked();
  }
  PublishLocked();
}

Result<void> MountNamespace::Bind(const Path& from, const Path& at, bool recursive) {
  if (from.dentry().is_directory() != at.dentry().is_directory()) return Errno(ENOTDIR);
  MutexLock lock(MountLock());
  if (!OwnsLocked(at.mount())) return Errno(EINVAL);
  if (from.mount().unbindable_) return Errno(EINVAL);
  if (!OwnsLocked(from.mount()) && from.mount().space_ != nullptr) return Errno(EINVAL);
  if (at.dentry().unlinked() || from.dentry().unlinked()) return Errno(ENOENT);
  Tree copy = CopyTreeLocked(from.mount(), from.dentry(), recursive);
  AttachTreeLocked(std::move(copy), at);
  return {};
}

Result<void> MountNamespace::Move(const Path& from, const Path& at) {
  MutexLock lock(MountLock());
  Mount& mount = from.mount();
  if (!OwnsLocked(mount) || !OwnsLocked(at.mount())) return Errno(EINVAL);
  if (&from.dentry() != &mount.root() || !mount.mount_point_) return Errno(EINVAL);
  if (mount.root().is_directory() != at.dentry().is_directory()) return Errno(EINVAL);
  if (at.dentry().unlinked()) return Errno(ENOENT);
  if (mount.mount_point_.mount().peer_group_ != 0) return Errno(EINVAL);
  for (const Mount* m = &at.mount(); m != nullptr;
       m = m->mount_point_ ? &m->mount_point_.mount() : nullptr) {
    if (m == &mount) return Errno(ELOOP);
  }
  Tree tree = TreeOfLocked(mount);
  if (at.mount().peer_group_ != 0) {
    for (const Ref<Mount>& m : tree) {
      if (m->unbindable_) return Errno(EINVAL);
    }
  }
  UngraftLocked(tree);
  AttachTreeLocked(std::move(tree), at);
  return {};
}

Result<void> MountNamespace::Remount(const Path& at, uint32_t flags) {
  MutexLock lock(MountLock());
  if (!OwnsLocked(at.mount()) || &at.dentry() != &at.mount().root()) return Errno(EINVAL);
  at.mount().set_flags((at.mount().flags() & ~kMountFlags) | (flags & kMountFlags));
  generation_.fetch_add(1, std::memory_order_acq_rel);
  return {};
}

Result<void> MountNamespace::SetPropagation(const Path& at, uint32_t ms_flags) {
  const uint32_t type = ms_flags & (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE);
  if (type == 0 || (type & (type - 1)) != 0 || (ms_flags & ~(type | MS_REC | MS_SILENT)) != 0) {
    return Errno(EINVAL);
  }
  MutexLock lock(MountLock());
  if (!OwnsLocked(at.mount()) || &at.dentry() != &at.mount().root()) return Errno(EINVAL);
  const Tree tree = ms_flags & MS_REC ? TreeOfLocked(at.mount()) : Tree{Ref<Mount>(at.mount())};
  for (const Ref<Mount>& m : tree) {
    if (type == MS_SHARED) {
      if (m->peer_group_ == 0) m->peer_group_ = next_group++;
      m->unbindable_ = false;
      continue;
    }
    const int group = std::exchange(m->peer_group_, 0);
    const bool has_peers =
        group != 0 && std::any_of(AllMounts().begin(), AllMounts().end(),
                                  [&](const Mount* o) { return o->peer_group_ == group; });
    if (group != 0 && !has_peers) {
      // Its slaves lose their master.
      for (Mount* o : AllMounts()) {
        if (o->master_group_ == group) o->master_group_ = m->master_group_;
      }
    }
    if (type == MS_SLAVE) {
      if (has_peers) m->master_group_ = group;
    } else {
      m->master_group_ = 0;
    }
    m->unbindable_ = type == MS_UNBINDABLE;
  }
  generation_.fetch_add(1, std::memory_order_acq_rel);
  return {};
}

Result<void> MountNamespace::PivotRoot(const Path& new_root, const Path& put_old,
                                       const Path& root) {
  if (!new_root.dentry().is_directory() || !put_old.dentry().is_directory()) return Errno(ENOTDIR);
  MutexLock lock(MountLock());
  Mount& fresh = new_root.mount();
  Mount& old = root.mount();
  if (!OwnsLocked(fresh) || !OwnsLocked(old) || !OwnsLocked(put_old.mount())) {
    return Errno(EINVAL);
  }
  if (fresh.peer_group_ != 0 && fresh.mount_point_ &&
      fresh.mount_point_.mount().peer_group_ != 0) {
    return Errno(EINVAL);
  }
  if (put_old.mount().peer_group_ != 0) return Errno(EINVAL);
  if (new_root.dentry().unlinked()) return Errno(ENOENT);
  if (&fresh == &old || &put_old.mount() == &old) return Errno(EBUSY);
  if (&root.dentry() != &old.root() || &new_root.dentry() != &fresh.root()) return Errno(EINVAL);
  if (!fresh.mount_point_) return Errno(EINVAL);
  // put_old must lie below new_root, new_root below the root.
  const auto below = [](const Path& place, const Path& top) {
    Path p = place;
    while (&p.mount() != &top.mount()) {
      if (!p.mount().mount_point_) return false;
      p = Path(p.mount().mount_point_);
    }
    return p.dentry().IsDescendantOf(top.dentry());
  };
  if (!below(put_old, new_root) || !below(new_root, root)) return Errno(EINVAL);
  fresh.mount_point_.dentry().mounted_here.fetch_sub(1);
  const Path old_place = old.mount_point_;
  if (old_place) old_place.dentry().mounted_here.fetch_sub(1);
  fresh.mount_point_ = old_place;
  if (old_place) old_place.dentry().mounted_here.fetch_add(1);
  old.mount_point_ = put_old;
  put_old.dentry().mounted_here.fetch_add(1);
  if (root_.get() == &old) root_ = RefPtr<Mount>(&fresh);
  PublishLocked();
  return {};
}

Result<Ref<MountNamespace>> MountNamespace::Clone(const Ref<UserNamespace>& owner) const {
  TRY(owner->Charge(NamespaceKind::kMount));
  RefPtr<Mount> bare;
  Tree copy;
  {
    MutexLock lock(MountLock());
    copy = CopyTreeLocked(*root_, root_->root(), true);
    bare = copy[0];
    copy.erase(copy.begin());
  }
  Ref<MountNamespace> clone =
      Ref<MountNamespace>::Adopt(new MountNamespace(Ref<Mount>(std::move(bare)), owner));
  MutexLock lock(MountLock());
  for (const Ref<Mount>& m : copy) clone->GraftLocked({m}, Path(m->mount_point_));
  clone->PublishLocked();
  return clone;
}

Path MountNamespace::Translate(const Path& original) const {
  MutexLock lock(MountLock());
  for (const Ref<Mount>& m : mounts_) {
    if (m->copied_from_ == original.mount().id()) return Path(m, original.dentry_ref());
  }
  return Path();
}

}  // namespace ringwall
