// Trees of mounts: copies of them, and how mounts and unmounts propagate between peers and slaves.
// Read mount_namespaces(7) and Linux fs/pnode.c first.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "fs/vfs/mount.h"
#include "fs/vfs/mount_internal.h"

namespace ringwall {

int NewPeerGroupLocked() {
  static int next = 1;
  return next++;
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

Mount* MountNamespace::FindMountLocked(const Mount& on, const Dentry& where) const {
  for (const Ref<Mount>& m : mounts_) {
    if (m->mount_point_ && &m->mount_point_.mount() == &on && &m->mount_point_.dentry() == &where) {
      return m.get();
    }
  }
  return nullptr;
}

void MountNamespace::MoveMountPointLocked(Mount& m, const Path& to) {
  if (m.mount_point_) m.mount_point_.dentry().mounted_here.fetch_sub(1);
  m.mount_point_ = to;
  if (to) to.dentry().mounted_here.fetch_add(1);
}

Result<MountNamespace::Copies> MountNamespace::CopyTreeLocked(Mount& top, Dentry& root,
                                                              const CopyRules& rules) const {
  absl::flat_hash_map<const Mount*, Ref<Mount>> copies;
  Copies out;
  const MountNamespace& space = top.space_ != nullptr ? *top.space_ : *this;
  const Tree originals = rules.recursive ? space.TreeOfLocked(top) : Tree{Ref<Mount>(top)};
  for (const Ref<Mount>& m : originals) {
    const bool is_top = m.get() == &top;
    Path mount_point;
    if (!is_top) {
      const auto parent = copies.find(&m->mount_point_.mount());
      if (parent == copies.end()) continue;
      if (!m->mount_point_.dentry().IsDescendantOf(parent->second->root())) continue;
      if (m->unbindable_ && !rules.unbindable_too) {
        // Leaving it out would show what it hides.
        if (m->locked_) return Errno(EPERM);
        continue;
      }
      mount_point = Path(parent->second, m->mount_point_.dentry_ref());
    }
    Ref<Mount> copy =
        MakeRef<Mount>(m->fs_, is_top ? Ref<Dentry>(root) : m->root_, m->flags(), m->source_);
    copy->mount_point_ = std::move(mount_point);
    copy->locked_ = m->locked_;
    copy->locked_flags_ = m->locked_flags_;
    copy->unbindable_ = m->unbindable_;
    if (rules.shared_to_slave && m->peer_group_ != 0) {
      copy->master_group_ = m->peer_group_;
    } else {
      copy->peer_group_ = m->peer_group_;
      copy->master_group_ = m->master_group_;
    }
    copy->copied_from_ = m->id_;
    copies.emplace(m.get(), copy);
    out.tree.push_back(std::move(copy));
    out.sources.push_back(m.get());
  }
  return out;
}

void MountNamespace::LockTreeLocked(const Tree& tree) {
  for (const Ref<Mount>& m : tree) {
    // Access times are all or nothing.
    m->locked_flags_ |= MS_NOATIME | (m->flags() & (MS_RDONLY | MS_NODEV | MS_NOSUID | MS_NOEXEC));
    if (m.get() != tree[0].get()) m->locked_ = true;
  }
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

// --- Propagation.

bool MountNamespace::LeavePeersLocked(Mount& m) {
  const int group = std::exchange(m.peer_group_, 0);
  if (group == 0) return false;
  const std::vector<Mount*>& all = AllMounts();
  if (std::any_of(all.begin(), all.end(), [&](const Mount* o) { return o->peer_group_ == group; })) {
    return true;
  }
  // The last one: its slaves get its own master, or none.
  for (Mount* o : all) {
    if (o->master_group_ == group) o->master_group_ = m.master_group_;
  }
  return false;
}

std::vector<Mount*> MountNamespace::PropagationOfLocked(const Path& at) {
  std::vector<Mount*> out;
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
      if (std::find(out.begin(), out.end(), m) == out.end()) out.push_back(m);
    }
  }
  return out;
}

struct MountNamespace::Placed {
  Tree tree;
  Path at;
};

Result<std::vector<MountNamespace::Placed>> MountNamespace::PropagateLocked(const Tree& tree,
                                                                            const Path& at) const {
  std::vector<Placed> out;
  // The mounts of one peer group get copies that are peers of each other, those of a slave group
  // copies that are slaves of their master's copies.
  struct Group {
    int id;
    absl::flat_hash_map<const Mount*, int> peers, masters;  // by mount of `tree`
  };
  std::vector<Group> groups(1);
  groups[0].id = at.mount().peer_group_;
  for (const Ref<Mount>& m : tree) {
    groups[0].peers[m.get()] = m->peer_group_;
    groups[0].masters[m.get()] = m->master_group_;
  }
  std::vector<int> seen = {groups[0].id};
  const auto place = [&](Mount& on, const absl::flat_hash_map<const Mount*, int>& peers,
                         const absl::flat_hash_map<const Mount*, int>& masters) -> Result<void> {
    if (&on == &at.mount() || !at.dentry().IsDescendantOf(on.root())) return {};
    Copies copies = TRY(CopyDetachedLocked(tree));
    for (size_t i = 0; i < copies.tree.size(); i++) {
      const auto group = peers.find(copies.sources[i]);
      copies.tree[i]->peer_group_ = group == peers.end() ? 0 : group->second;
      const auto master = masters.find(copies.sources[i]);
      copies.tree[i]->master_group_ = master == masters.end() ? 0 : master->second;
    }
    if (&on.space_->user_ns() != &user_ns()) LockTreeLocked(copies.tree);
    copies.tree[0]->locked_ = false;
    out.push_back({std::move(copies.tree), Path(RefPtr<Mount>(&on), at.dentry_ref())});
    return {};
  };
  for (size_t g = 0; g < groups.size(); g++) {
    const std::vector<Mount*> all = AllMounts();
    for (Mount* m : all) {
      if (m->peer_group_ == groups[g].id) {
        TRY(place(*m, groups[g].peers, groups[g].masters));
      } else if (m->master_group_ == groups[g].id && m->peer_group_ == 0) {
        TRY(place(*m, {}, groups[g].peers));
      } else if (m->master_group_ == groups[g].id &&
                 std::find(seen.begin(), seen.end(), m->peer_group_) == seen.end()) {
        seen.push_back(m->peer_group_);
        Group next;
        next.id = m->peer_group_;
        next.masters = groups[g].peers;
        for (const Ref<Mount>& t : tree) next.peers[t.get()] = NewPeerGroupLocked();
        groups.push_back(std::move(next));
      }
    }
  }
  return out;
}

// A copy of a tree that is in no namespace (yet), for which TreeOfLocked cannot look.
Result<MountNamespace::Copies> MountNamespace::CopyDetachedLocked(const Tree& tree) const {
  absl::flat_hash_map<const Mount*, Ref<Mount>> copies;
  Copies out;
  for (const Ref<Mount>& m : tree) {
    const bool is_top = m.get() == tree[0].get();
    Path mount_point;
    if (!is_top) {
      const auto parent = copies.find(&m->mount_point_.mount());
      if (parent == copies.end()) continue;
      if (m->unbindable_) {
        if (m->locked_) return Errno(EPERM);
        continue;
      }
      mount_point = Path(parent->second, m->mount_point_.dentry_ref());
    }
    Ref<Mount> copy = MakeRef<Mount>(m->fs_, m->root_, m->flags(), m->source_);
    copy->mount_point_ = std::move(mount_point);
    copy->locked_ = m->locked_;
    copy->locked_flags_ = m->locked_flags_;
    copy->copied_from_ = m->id_;
    copies.emplace(m.get(), copy);
    out.tree.push_back(std::move(copy));
    out.sources.push_back(m.get());
  }
  return out;
}

Result<void> MountNamespace::AttachTreeLocked(Tree tree, const Path& at, bool moved) {
  // The links of /proc/PID/fd are no places for mounts (dont_mount).
  const Inode* place = at.dentry().inode().get();
  if (place != nullptr && place->is_symlink() && place->fs().type_name() == "proc") {
    return Errno(ENOENT);
  }
  std::vector<Placed> others;
  if (at.mount().peer_group_ != 0) {
    // What is mounted on a shared mount is shared itself.
    for (const Ref<Mount>& m : tree) {
      if (m->peer_group_ == 0) m->peer_group_ = NewPeerGroupLocked();
      m->unbindable_ = false;
    }
    // A tree that moves to a peer of its own top propagates to itself too.
    others = TRY(PropagateLocked(tree, at));
  }
  if (!moved && mounts_.size() + tree.size() > kMaxMounts) return Errno(ENOSPC);
  for (const Placed& p : others) {
    if (p.at.mount().space_->mounts_.size() + p.tree.size() > kMaxMounts) return Errno(ENOSPC);
  }
  // ---- No failure below this line. ----
  if (moved) UngraftLocked(tree);
  const auto graft = [](MountNamespace& space, const Tree& t, const Path& where) {
    // What was there already now lies on top.
    Mount* covers = space.FindMountLocked(where.mount(), where.dentry());
    space.GraftLocked(t, where);
    if (covers == nullptr) return;
    RefPtr<Dentry> top(&t[0]->root());
    MoveMountPointLocked(*covers, Path(t[0], std::move(top)));
  };
  graft(*this, tree, at);
  for (const Placed& p : others) {
    MountNamespace& space = *p.at.mount().space_;
    graft(space, p.tree, p.at);
    if (&space != this) space.PublishLocked();
  }
  PublishLocked();
  return {};
}

void MountNamespace::AddPropagatedLocked(Tree* gone) {
  const auto goes = [gone](const Mount* m) {
    return std::any_of(gone->begin(), gone->end(),
                       [m](const Ref<Mount>& g) { return g.get() == m; });
  };
  // Deepest first, so that what is below has been looked at before.
  const size_t own = gone->size();
  std::vector<Mount*> candidates;
  for (size_t i = own; i-- > 0;) {
    const Path& at = (*gone)[i]->mount_point_;
    if (!at) continue;
    for (const Mount* on : PropagationOfLocked(at)) {
      Mount* child = on->space_->FindMountLocked(*on, at.dentry());
      if (child != nullptr && !goes(child)) candidates.push_back(child);
    }
  }
  // What lies over all of a mount does not keep it, nor do those that go themselves.
  const auto covers = [](const Mount& m, const Mount& below) {
    return m.mount_point_ && &m.mount_point_.mount() == &below &&
           &m.mount_point_.dentry() == &below.root();
  };
  const auto stays = [&](const Mount* m) {
    if (m->locked_ && !goes(&m->mount_point_.mount())) return true;
    const std::vector<Ref<Mount>>& all = m->space_->mounts_;
    return std::any_of(all.begin(), all.end(), [&](const Ref<Mount>& c) {
      return c->mount_point_ && &c->mount_point_.mount() == m && !covers(*c, *m) && !goes(c.get());
    });
  };
  // One that goes may let go the one that it lies on.
  for (bool more = true; std::exchange(more, false);) {
    std::erase_if(candidates, [&](Mount* m) {
      if (goes(m)) return true;
      if (stays(m)) return false;
      gone->push_back(Ref<Mount>(*m));
      return more = true;
    });
  }
  for (size_t i = own; i < gone->size(); i++) {
    const Mount& m = *(*gone)[i];
    Path place = m.mount_point_;
    while (goes(&place.mount())) place = place.mount().mount_point_;
    for (const Ref<Mount>& c : m.space_->mounts_) {
      if (covers(*c, m) && !goes(c.get())) MoveMountPointLocked(*c, place);
    }
  }
}

}  // namespace ringwall
