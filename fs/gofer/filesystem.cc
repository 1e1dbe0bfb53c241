#include <sys/sysmacros.h>

#include "fs/gofer/gofer_inode.h"

namespace ringwall {

Result<Ref<GoferFileSystem>> GoferFileSystem::Create(Ref<gofer::GoferClient> client,
                                                     uint32_t index,
                                                     const GoferFsOptions& options) {
  gofer::AttachResult root = TRY(client->Attach(index));
  Ref<GoferFileSystem> fs = MakeRef<GoferFileSystem>(std::move(client), options);
  fs->read_only_ = root.read_only;
  {
    MutexLock lock(fs->mu_);
    fs->devices_.emplace(root.node.attr.dev, fs->dev());
  }
  Ref<GoferInode> inode = fs->GetInode(std::move(root.node), nullptr, {});
  MutexLock lock(fs->mu_);
  fs->root_ = std::move(inode);
  return fs;
}

Ref<Inode> GoferFileSystem::root() {
  MutexLock lock(mu_);
  return Ref<Inode>(*root_);
}

void GoferFileSystem::OnLastUnmount() {
  RefPtr<Inode> root;
  {
    MutexLock lock(mu_);
    std::swap(root, root_);
  }
  root.reset();
  client_->FlushCloses();
}

Result<StatFs> GoferFileSystem::GetStatFs() {
  Ref<Inode> top = root();
  const gofer::GoferHandle* handle = TRY(static_cast<GoferInode&>(*top).Handle());
  const gofer::StatFsReply r = TRY(client_->StatFs(*handle));
  StatFs s;
  s.type = r.type;
  s.bsize = r.bsize;
  s.blocks = r.blocks;
  s.bfree = r.bfree;
  s.bavail = r.bavail;
  s.files = r.files;
  s.ffree = r.ffree;
  s.namelen = r.namelen;
  s.frsize = r.frsize;
  return s;
}

Result<void> GoferFileSystem::Sync() {
  if (read_only_) return {};
  Ref<Inode> top = root();
  const gofer::GoferHandle* handle = TRY(static_cast<GoferInode&>(*top).Handle());
  return client_->Fsync(*handle, gofer::SyncKind::kFileSystem);
}

Ref<GoferInode> GoferFileSystem::GetInode(gofer::GoferNode node, RefPtr<GoferInode> parent,
                                          std::string_view name) {
  const FileId id(node.attr.dev, node.attr.ino);
  const uint32_t type = node.attr.mode & S_IFMT;
  RefPtr<GoferInode> found;
  {
    MutexLock lock(mu_);
    const auto it = inodes_.find(id);
    if (it != inodes_.end() && it->second->type() == type && it->second->TryAddRef()) {
      found = RefPtr<GoferInode>::Adopt(it->second);
    }
  }
  if (found) {
    found->Refresh(node.attr);
    return Ref<GoferInode>(std::move(found));
  }
  Ref<GoferInode> fresh = MakeRef<GoferInode>(*this, std::move(node), std::move(parent), name);
  RefPtr<GoferInode> other;
  MutexLock lock(mu_);
  GoferInode*& place = inodes_[id];
  // Another thread found the same file at the same time: the first stays.
  if (place != nullptr && place->type() == type && place->TryAddRef()) {
    other = RefPtr<GoferInode>::Adopt(place);
  } else {
    place = fresh.get();
  }
  lock.Unlock();
  return other ? Ref<GoferInode>(std::move(other)) : fresh;
}

void GoferFileSystem::Forget(GoferInode& inode) {
  MutexLock lock(mu_);
  const auto it = inodes_.find(FileId(inode.host_dev(), inode.host_ino()));
  if (it != inodes_.end() && it->second == &inode) inodes_.erase(it);
}

uint64_t GoferFileSystem::GuestDevice(uint64_t host_dev) {
  // Above what FileSystem gives out, below 2^20.
  static std::atomic<uint32_t> next{1 << 16};
  MutexLock lock(mu_);
  const auto it = devices_.find(host_dev);
  if (it != devices_.end()) return it->second;
  const uint64_t fresh = makedev(0, next.fetch_add(1, std::memory_order_relaxed));
  devices_.emplace(host_dev, fresh);
  return fresh;
}

void GoferFileSystem::ListIdleLocked(GoferInode& inode) {
  if (inode.in_idle_list_) {
    idle_.splice(idle_.begin(), idle_, inode.idle_place_);
  } else {
    idle_.push_front(&inode);
    inode.idle_place_ = idle_.begin();
    inode.in_idle_list_ = true;
  }
}

void GoferFileSystem::DescriptorIdle(GoferInode& inode) {
  {
    MutexLock lock(mu_);
    ListIdleLocked(inode);
  }
  // Two for one that comes, so that the list shrinks again after many were in use at once.
  for (int i = 0; i < 2; i++) {
    RefPtr<GoferInode> oldest;
    {
      MutexLock lock(mu_);
      if (idle_.size() <= options_.max_idle_descriptors) return;
      GoferInode* last = idle_.back();
      idle_.pop_back();
      last->in_idle_list_ = false;
      if (last->TryAddRef()) oldest = RefPtr<GoferInode>::Adopt(last);
    }
    if (!oldest || !oldest->DropIdleDescriptors()) continue;
    // In use still: it comes up again when it is the oldest once more.
    MutexLock lock(mu_);
    ListIdleLocked(*oldest);
  }
}

void GoferFileSystem::DescriptorGone(GoferInode& inode) {
  MutexLock lock(mu_);
  if (!inode.in_idle_list_) return;
  idle_.erase(inode.idle_place_);
  inode.in_idle_list_ = false;
}

}  // namespace ringwall
