#include "fs/overlay/overlay_inode.h"

namespace ringwall {

namespace {

constexpr uint64_t kOverlayMagic = 0x794c7630;
// Set in the inode numbers of what exists only in the upper layer. Low enough for programs that
// keep inode numbers in a double.
constexpr uint64_t kUpperBit = uint64_t{1} << 48;

}  // namespace

Result<Ref<OverlayFileSystem>> OverlayFileSystem::Create(RefPtr<Inode> upper,
                                                         std::vector<Ref<Inode>> lowers,
                                                         OverlayOptions options) {
  if (lowers.empty()) return Errno(EINVAL);
  if (upper && !upper->is_directory()) return Errno(ENOTDIR);
  for (const Ref<Inode>& lower : lowers) {
    if (!lower->is_directory()) return Errno(ENOTDIR);
  }
  Ref<OverlayFileSystem> fs = MakeRef<OverlayFileSystem>(std::move(options));
  Ref<OverlayInode> root =
      TRY(fs->GetInode(std::move(upper), std::move(lowers), nullptr, std::string_view()));
  MutexLock lock(fs->mu_);
  fs->root_ = std::move(root);
  return fs;
}

Ref<Inode> OverlayFileSystem::root() {
  MutexLock lock(mu_);
  return Ref<Inode>(*root_);
}

void OverlayFileSystem::OnLastUnmount() {
  RefPtr<Inode> root;
  absl::flat_hash_map<const OverlayInode*, Ref<Inode>> pinned;
  {
    MutexLock lock(mu_);
    std::swap(root, root_);
    std::swap(pinned, pinned_);
  }
  pinned.clear();
  root.reset();
  for (const Ref<FileSystem>& fs : options_.owned) fs->OnLastUnmount();
  options_.owned.clear();
  options_.held.clear();
}

Result<StatFs> OverlayFileSystem::GetStatFs() {
  Ref<Inode> top = root();
  StatFs s = TRY(static_cast<OverlayInode&>(*top).real().fs().GetStatFs());
  s.type = kOverlayMagic;
  return s;
}

Result<void> OverlayFileSystem::Sync() {
  Ref<Inode> top = root();
  Inode* upper = static_cast<OverlayInode&>(*top).upper();
  if (upper == nullptr) return {};
  return upper->fs().Sync();
}

RefPtr<OverlayInode> OverlayFileSystem::FindUpper(const Inode& upper) const {
  MutexLock lock(mu_);
  const auto it = by_upper_.find(&upper);
  if (it == by_upper_.end() || !it->second->TryAddRef()) return nullptr;
  return RefPtr<OverlayInode>::Adopt(it->second);
}

RefPtr<OverlayInode> OverlayFileSystem::FindLower(const Inode& lower) const {
  MutexLock lock(mu_);
  const auto it = by_lower_.find(&lower);
  if (it == by_lower_.end() || !it->second->TryAddRef()) return nullptr;
  return RefPtr<OverlayInode>::Adopt(it->second);
}

Result<Ref<OverlayInode>> OverlayFileSystem::GetInode(RefPtr<Inode> upper,
                                                      std::vector<Ref<Inode>> lowers,
                                                      RefPtr<OverlayInode> parent,
                                                      std::string_view name) {
  RefPtr<OverlayInode> known = upper ? FindUpper(*upper) : FindLower(*lowers[0]);
  if (known) return Ref<OverlayInode>(std::move(known));
  Inode& real = upper ? *upper : *lowers[0];
  const Attr attr = TRY(real.GetAttr());
  uint64_t ino = attr.ino;
  if (upper) {
    // What was copied up keeps its number; so does a directory that was there already.
    ino = GuestIno(attr.ino);
    if (!lowers.empty() && (ino & kUpperBit)) {
      const Attr lower = TRY(lowers[0]->GetAttr());
      ino = lower.ino;
      MutexLock lock(mu_);
      origins_.emplace(attr.ino, ino);
    }
  }
  const Inode* const upper_key = upper.get();
  const Inode* const lower_key = lowers.empty() ? nullptr : lowers[0].get();
  Ref<OverlayInode> fresh = MakeRef<OverlayInode>(*this, std::move(upper), std::move(lowers),
                                                  std::move(parent), name, attr, ino);
  MutexLock lock(mu_);
  OverlayInode*& place = upper_key != nullptr ? by_upper_[upper_key] : by_lower_[lower_key];
  if (place != nullptr && place->TryAddRef()) {
    // Another thread was faster.
    Ref<OverlayInode> other = Ref<OverlayInode>::Adopt(place);
    lock.Unlock();
    return other;
  }
  place = fresh.get();
  if (upper_key != nullptr && lower_key != nullptr) by_lower_.emplace(lower_key, fresh.get());
  return fresh;
}

void OverlayFileSystem::AddUpper(OverlayInode& inode, Inode& upper, uint64_t upper_ino) {
  MutexLock lock(mu_);
  by_upper_[&upper] = &inode;
  origins_[upper_ino] = inode.ino();
}

void OverlayFileSystem::Forget(OverlayInode& inode) {
  MutexLock lock(mu_);
  const auto drop = [&](auto& table, const Inode* key) {
    const auto it = table.find(key);
    if (it != table.end() && it->second == &inode) table.erase(it);
  };
  if (inode.upper() != nullptr) drop(by_upper_, inode.upper());
  if (!inode.lowers().empty()) drop(by_lower_, inode.lowers()[0].get());
}

void OverlayFileSystem::Pin(OverlayInode& inode) {
  MutexLock lock(mu_);
  pinned_.emplace(&inode, Ref<Inode>(inode));
}

void OverlayFileSystem::Unpin(OverlayInode& inode) {
  RefPtr<Inode> gone;
  MutexLock lock(mu_);
  const auto it = pinned_.find(&inode);
  if (it == pinned_.end()) return;
  gone = std::move(it->second);
  pinned_.erase(it);
  lock.Unlock();
}

uint64_t OverlayFileSystem::GuestIno(uint64_t upper_ino) const {
  MutexLock lock(mu_);
  const auto it = origins_.find(upper_ino);
  return it != origins_.end() ? it->second : upper_ino | kUpperBit;
}

void OverlayFileSystem::DropOrigin(uint64_t upper_ino) {
  MutexLock lock(mu_);
  origins_.erase(upper_ino);
}

}  // namespace ringwall
