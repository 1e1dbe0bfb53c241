// bind, move, remount, propagation, pivot_root, and copies of namespaces. Compare Linux
// fs/namespace.c.
#include <algorithm>

#include "fs/vfs/mount.h"
#include "fs/vfs/mount_internal.h"

namespace ringwall {

namespace {

// What mount(2) lets a bind remount change.
constexpr uint32_t kTimeFlags = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;
constexpr uint32_t kMountFlags =
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOSYMFOLLOW | kTimeFlags;

// Walks up from a place to see whether it lies at or below `top`.
bool IsBelow(const MountNamespace& space, const Path& place, const Path& top) {
  Path p = place;
  while (&p.mount() != &top.mount()) {
    p = space.MountPointOf(p.mount());
    if (!p) return false;
  }
  return p.dentry().IsDescendantOf(top.dentry());
}

}  // namespace

Result<void> MountNamespace::Bind(const Path& from, const Path& at, bool recursive) {
  MutexLock lock(MountLock());
  if (at.dentry().unlinked()) return Errno(ENOENT);
  Mount& source = from.mount();
  if (source.unbindable_ || !OwnsLocked(at.mount())) return Errno(EINVAL);
  // Kernel-internal mounts: the files of namespaces may be bound, others not.
  if (!OwnsLocked(source) && (source.space_ != nullptr || source.fs().type_name() != "nsfs")) {
    return Errno(EINVAL);
  }
  if (!recursive) {
    // A bind of the parent alone would show what locked children hide.
    for (const Ref<Mount>& m : mounts_) {
      if (m->mount_point_ && &m->mount_point_.mount() == &source && m->locked_ &&
          m->mount_point_.dentry().IsDescendantOf(from.dentry())) {
        return Errno(EINVAL);
      }
    }
  }
  const CopyRules rules{.recursive = recursive};
  Copies copies = TRY(CopyTreeLocked(source, from.dentry(), rules));
  copies.tree[0]->locked_ = false;
  if (from.dentry().is_directory() != at.dentry().is_directory()) return Errno(ENOTDIR);
  return AttachTreeLocked(std::move(copies.tree), at);
}

Result<void> MountNamespace::Move(const Path& from, const Path& at) {
  MutexLock lock(MountLock());
  Mount& mount = from.mount();
  if (at.dentry().unlinked()) return Errno(ENOENT);
  if (!OwnsLocked(mount) || !OwnsLocked(at.mount()) || mount.locked_) return Errno(EINVAL);
  if (&from.dentry() != &mount.root() || !mount.mount_point_) return Errno(EINVAL);
  if (mount.root().is_directory() != at.dentry().is_directory()) return Errno(EINVAL);
  if (mount.mount_point_.mount().peer_group_ != 0) return Errno(EINVAL);
  Tree tree = TreeOfLocked(mount);
  if (at.mount().peer_group_ != 0) {
    for (const Ref<Mount>& m : tree) {
      if (m->unbindable_) return Errno(EINVAL);
    }
  }
  for (const Mount* m = &at.mount(); m != nullptr;
       m = m->mount_point_ ? &m->mount_point_.mount() : nullptr) {
    if (m == &mount) return Errno(ELOOP);
  }
  return AttachTreeLocked(std::move(tree), at, true);
}

Result<void> MountNamespace::CheckLockedFlagsLocked(const Mount& m, uint32_t flags) {
  const uint32_t held = m.locked_flags_ & (MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC);
  if ((held & ~flags) != 0) return Errno(EPERM);
  if ((m.locked_flags_ & MS_NOATIME) && ((m.flags() ^ flags) & kTimeFlags) != 0) {
    return Errno(EPERM);
  }
  return {};
}

Result<void> MountNamespace::CheckLockedFlags(const Path& at, uint32_t flags) const {
  MutexLock lock(MountLock());
  return CheckLockedFlagsLocked(at.mount(), flags);
}

bool MountNamespace::IsLocked(const Mount& m) const {
  MutexLock lock(MountLock());
  return m.locked_;
}

bool MountNamespace::HasWriters(const FileSystem& fs) {
  MutexLock lock(MountLock());
  return std::any_of(AllMounts().begin(), AllMounts().end(),
                     [&](const Mount* m) { return m->fs_.get() == &fs && m->has_writers(); });
}

Result<void> MountNamespace::Remount(const Path& at, uint32_t flags) {
  MutexLock lock(MountLock());
  Mount& m = at.mount();
  if (!OwnsLocked(m) || &at.dentry() != &m.root()) return Errno(EINVAL);
  TRY(CheckLockedFlagsLocked(m, flags));
  const uint32_t old = m.flags();
  m.set_flags((old & ~kMountFlags) | (flags & kMountFlags));
  if ((flags & MS_RDONLY) && !(old & MS_RDONLY) && m.has_writers()) {
    m.set_flags(old);
    return Errno(EBUSY);
  }
  Changed();
  return {};
}

Result<void> MountNamespace::SetPropagation(const Path& at, uint32_t ms_flags) {
  MutexLock lock(MountLock());
  if (&at.dentry() != &at.mount().root()) return Errno(EINVAL);
  const uint32_t type = ms_flags & ~static_cast<uint32_t>(MS_REC | MS_SILENT);
  if ((type & ~static_cast<uint32_t>(MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE)) != 0 ||
      type == 0 || (type & (type - 1)) != 0 || !OwnsLocked(at.mount())) {
    return Errno(EINVAL);
  }
  const Tree tree = ms_flags & MS_REC ? TreeOfLocked(at.mount()) : Tree{Ref<Mount>(at.mount())};
  for (const Ref<Mount>& m : tree) {
    if (type == MS_SHARED) {
      if (m->peer_group_ == 0) m->peer_group_ = NewPeerGroupLocked();
      m->unbindable_ = false;
      continue;
    }
    const int group = m->peer_group_;
    const bool has_peers = LeavePeersLocked(*m);
    if (type == MS_SLAVE) {
      if (has_peers) m->master_group_ = group;
      continue;
    }
    m->master_group_ = 0;
    m->unbindable_ = type == MS_UNBINDABLE;
  }
  Changed();
  return {};
}

Result<void> MountNamespace::PivotRoot(const Path& new_root, const Path& put_old,
                                       const Path& root) {
  if (!new_root.dentry().is_directory() || !put_old.dentry().is_directory()) return Errno(ENOTDIR);
  MutexLock lock(MountLock());
  if (put_old.dentry().unlinked()) return Errno(ENOENT);
  Mount& fresh = new_root.mount();
  Mount& old = root.mount();
  const auto parent_shared = [](const Mount& m) {
    return m.mount_point_ && m.mount_point_.mount().peer_group_ != 0;
  };
  if (!OwnsLocked(put_old.mount())) return Errno(EINVAL);
  if (put_old.mount().peer_group_ != 0 || parent_shared(fresh) || parent_shared(old)) {
    return Errno(EINVAL);
  }
  if (!OwnsLocked(fresh) || !OwnsLocked(old) || fresh.locked_) return Errno(EINVAL);
  if (new_root.dentry().unlinked()) return Errno(ENOENT);
  if (&fresh == &old || &put_old.mount() == &old) return Errno(EBUSY);
  if (&root.dentry() != &old.root() || &new_root.dentry() != &fresh.root()) return Errno(EINVAL);
  if (!fresh.mount_point_) return Errno(EINVAL);
  // put_old must lie below new_root, new_root below the root.
  if (!IsBelow(*this, put_old, new_root) || !IsBelow(*this, new_root, root)) return Errno(EINVAL);
  // ---- No failure below this line. ----
  const Path old_place = old.mount_point_;
  MoveMountPointLocked(fresh, old_place);
  MoveMountPointLocked(old, put_old);
  fresh.locked_ = std::exchange(old.locked_, false);
  if (root_.get() == &old) root_ = RefPtr<Mount>(&fresh);
  PublishLocked();
  return {};
}

Result<Ref<MountNamespace>> MountNamespace::Clone(const Ref<UserNamespace>& owner) const {
  TRY(owner->Charge(NamespaceKind::kMount));
  RefPtr<Mount> bare;
  Copies copies;
  {
    MutexLock lock(MountLock());
    const bool other_user = owner.get() != &user_ns();
    const CopyRules rules{.unbindable_too = true, .shared_to_slave = other_user};
    Result<Copies> made = CopyTreeLocked(*root_, root_->root(), rules);
    if (!made.ok()) {
      owner->Uncharge(NamespaceKind::kMount);
      return made.error();
    }
    copies = std::move(*made);
    if (other_user) LockTreeLocked(copies.tree);
    bare = copies.tree[0];
    copies.tree.erase(copies.tree.begin());
  }
  Ref<MountNamespace> clone =
      Ref<MountNamespace>::Adopt(new MountNamespace(Ref<Mount>(std::move(bare)), owner));
  MutexLock lock(MountLock());
  for (const Ref<Mount>& m : copies.tree) clone->GraftLocked({m}, Path(m->mount_point_));
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
