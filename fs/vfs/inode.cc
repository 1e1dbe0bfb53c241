#include "fs/vfs/inode.h"

#include <sys/sysmacros.h>
#include <time.h>

#include "absl/container/flat_hash_set.h"
#include "fs/vfs/dentry.h"
#include "fs/vfs/file.h"
#include "fs/vfs/inotify.h"
#include "fs/vfs/locks.h"
#include "fs/vfs/path.h"

namespace ringwall {

namespace {

uint64_t NextAnonymousDevice() {
  static std::atomic<uint32_t> next{20};
  return makedev(0, next.fetch_add(1, std::memory_order_relaxed));
}

// Guards the change of attachments, which is rare.
Mutex<LockClass::kLeaf>& AttachmentLock() {
  static auto* mu = new Mutex<LockClass::kLeaf>;
  return *mu;
}

// Of two that make the same thing at once, the first wins.
template <typename T>
T& MakeOnce(std::atomic<T*>& place) {
  T* there = place.load(std::memory_order_acquire);
  if (there != nullptr) return *there;
  auto fresh = std::make_unique<T>();
  if (place.compare_exchange_strong(there, fresh.get(), std::memory_order_acq_rel)) {
    return *fresh.release();
  }
  return *there;
}

}  // namespace

Timespec CurrentTime() {
  timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return {now.tv_sec, now.tv_nsec};
}

bool AtimeIsStale(Timespec atime, Timespec mtime, Timespec ctime, Timespec now) {
  const auto not_after = [](Timespec a, Timespec b) {
    return a.sec < b.sec || (a.sec == b.sec && a.nsec <= b.nsec);
  };
  return not_after(atime, mtime) || not_after(atime, ctime) || now.sec - atime.sec >= 24 * 3600;
}

FileSystem::FileSystem() : dev_(NextAnonymousDevice()) {}

namespace {

struct LockedInodes {
  Mutex<LockClass::kLeaf> mu;
  absl::flat_hash_set<Inode*> all GUARDED_BY(mu);
};
LockedInodes& locked_inodes() {
  static LockedInodes* inodes = new LockedInodes;
  return *inodes;
}

}  // namespace

std::vector<Ref<Inode>> InodesWithLocks() {
  std::vector<Ref<Inode>> out;
  LockedInodes& inodes = locked_inodes();
  MutexLock lock(inodes.mu);
  for (Inode* inode : inodes.all) {
    if (inode->TryAddRef()) out.push_back(Ref<Inode>::Adopt(inode));
  }
  return out;
}

Inode::~Inode() {
  if (locks_.load(std::memory_order_relaxed) != nullptr) {
    LockedInodes& inodes = locked_inodes();
    MutexLock lock(inodes.mu);
    inodes.all.erase(this);
  }
  delete link_target_.load(std::memory_order_relaxed);
  delete locks_.load(std::memory_order_relaxed);
  delete marks_.load(std::memory_order_relaxed);
  if (RefCountedBase* a = attachment_.load(std::memory_order_relaxed)) a->Release();
}

Result<Ref<Inode>> Inode::Lookup(std::string_view) { return Errno(ENOTDIR); }

// A directory without the operation refuses it, anything else is no directory.
#define RW_REFUSE return Errno(is_directory() ? EPERM : ENOTDIR)
Result<Ref<Inode>> Inode::Create(std::string_view, const NewInode&) {
  return Errno(is_directory() ? EACCES : ENOTDIR);
}
Result<Ref<Inode>> Inode::Mkdir(std::string_view, const NewInode&) { RW_REFUSE; }
Result<Ref<Inode>> Inode::Mknod(std::string_view, const NewInode&) { RW_REFUSE; }
Result<Ref<Inode>> Inode::Symlink(std::string_view, std::string_view, const NewInode&) {
  RW_REFUSE;
}
Result<void> Inode::Link(std::string_view, Inode&) { RW_REFUSE; }
Result<void> Inode::Unlink(std::string_view, Inode&) { RW_REFUSE; }
Result<void> Inode::Rmdir(std::string_view, Inode&) { RW_REFUSE; }
Result<void> Inode::Rename(std::string_view, Inode&, Inode&, std::string_view, Inode*, uint32_t) {
  RW_REFUSE;
}
#undef RW_REFUSE

Result<Ref<Inode>> Inode::TmpFile(const NewInode&) { return Errno(EOPNOTSUPP); }
Result<std::string> Inode::ReadLink() { return Errno(EINVAL); }
std::optional<Result<Path>> Inode::FollowMagic(Task*) { return std::nullopt; }

Result<std::string> Inode::GetXattr(std::string_view) { return Errno(EOPNOTSUPP); }
Result<void> Inode::SetXattr(std::string_view, std::string_view, int) { return Errno(EOPNOTSUPP); }
Result<std::vector<std::string>> Inode::ListXattr() { return std::vector<std::string>(); }
Result<void> Inode::RemoveXattr(std::string_view) { return Errno(EOPNOTSUPP); }

FileLocks& Inode::locks() {
  if (FileLocks* there = locks_if_any()) return *there;
  FileLocks& made = MakeOnce(locks_);
  LockedInodes& inodes = locked_inodes();
  MutexLock lock(inodes.mu);
  inodes.all.insert(this);
  return made;
}

// Of a writer and a program that come at the same moment at least one is refused.
Result<void> Inode::GetWriteAccess() {
  writers_.fetch_add(1);
  if (write_deniers_.load() == 0) return {};
  writers_.fetch_sub(1);
  return Errno(ETXTBSY);
}

Result<void> Inode::DenyWriting() {
  write_deniers_.fetch_add(1);
  if (writers_.load() == 0) return {};
  write_deniers_.fetch_sub(1);
  return Errno(ETXTBSY);
}

InotifyMarks& Inode::MakeMarks() { return MakeOnce(marks_); }

RefPtr<RefCountedBase> Inode::attachment() const {
  MutexLock lock(AttachmentLock());
  return RefPtr<RefCountedBase>(attachment_.load(std::memory_order_relaxed));
}

Ref<RefCountedBase> Inode::AttachOnce(Ref<RefCountedBase> fresh) {
  MutexLock lock(AttachmentLock());
  if (RefCountedBase* a = attachment_.load(std::memory_order_relaxed)) return Ref(*a);
  attachment_.store(Ref<RefCountedBase>(fresh).Leak(), std::memory_order_relaxed);
  return fresh;
}

void Inode::Detach() {
  RefPtr<RefCountedBase> old;
  MutexLock lock(AttachmentLock());
  old = RefPtr<RefCountedBase>::Adopt(attachment_.exchange(nullptr));
  lock.Unlock();
}

void Inode::PublishPermission(uint32_t mode, Uid uid, Gid gid) {
  if (has_acl()) {
    UnpublishPermission();
    return;
  }
  owner_.store(uint64_t{uid} << 32 | gid, std::memory_order_release);
  permission_.store((mode & 07777) | PermissionView::kPublished, std::memory_order_release);
}

void PermissionView::StoreLinkTarget(Inode& inode, const std::string& target) {
  auto copy = std::make_unique<const std::string>(target);
  const std::string* none = nullptr;
  if (inode.link_target_.compare_exchange_strong(none, copy.get(), std::memory_order_acq_rel)) {
    (void)copy.release();
  }
}

}  // namespace ringwall
