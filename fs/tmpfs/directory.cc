#include <dirent.h>
#include <linux/fs.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "fs/tmpfs/inodes.h"

namespace ringwall {

namespace {

constexpr uint64_t kEntrySize = 20;  // what an entry adds to a directory's size (BOGO_DIRENT_SIZE)

class TmpfsDirFile final : public File {
 public:
  TmpfsDirFile(const Path& path, uint32_t flags, TmpfsDirectory& dir)
      : File(path, flags), dir_(dir) {}
  bool seekable() const override { return true; }
  // offset_dir_llseek(): there is no end to count from.
  Result<int64_t> Seek(int64_t offset, int whence) override NO_THREAD_SAFETY_ANALYSIS {
    if (whence != SEEK_SET && whence != SEEK_CUR) return Errno(EINVAL);
    return File::Seek(offset, whence);
  }
  Result<void> ReadDir(DirSink& sink) override NO_THREAD_SAFETY_ANALYSIS {
    int64_t position = offset();
    dir_->List(sink, &position);
    set_offset(position);
    dir_->Accessed(*this);
    return {};
  }

 private:
  const Ref<TmpfsDirectory> dir_;
};

}  // namespace

Result<Ref<File>> TmpfsDirectory::Open(const Path& path, uint32_t flags, const Credentials&) {
  return Ref<File>(MakeRef<TmpfsDirFile>(path, flags, *this));
}

void TmpfsDirectory::FillSize(Attr* attr) {
  ReaderLock lock(tmpfs().tree_lock());
  attr->size = (by_name_.size() + 2) * kEntrySize;
}

// A tree ends level by level: a guest makes it deeper than this thread's stack is.
TmpfsDirectory::~TmpfsDirectory() {
  static thread_local std::vector<Ref<TmpfsInode>>* orphans = nullptr;
  std::vector<Ref<TmpfsInode>> own;
  const bool first = orphans == nullptr;
  if (first) orphans = &own;
  for (Slot& slot : slots_) {
    if (slot.entry) orphans->push_back(std::move(slot.entry->inode));
  }
  if (!first) return;
  while (!own.empty()) {
    const Ref<TmpfsInode> next = std::move(own.back());
    own.pop_back();
  }
  orphans = nullptr;
}

TmpfsDirectory::Entry* TmpfsDirectory::FindLocked(std::string_view name) {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

Result<void> TmpfsDirectory::CheckFreeLocked(std::string_view name) {
  if (nlink() == 0) return Errno(ENOENT);  // the directory itself is gone
  if (by_name_.contains(name)) return Errno(EEXIST);
  return {};
}

void TmpfsDirectory::PutLocked(std::string_view name, Ref<TmpfsInode> inode) {
  if (inode->is_directory()) {
    static_cast<TmpfsDirectory&>(*inode).parent_ino_ = ino();
    set_nlink(nlink() + 1);
  }
  auto entry = std::make_unique<Entry>(Entry{std::string(name), std::move(inode), next_cookie_++});
  by_name_.emplace(entry->name, entry.get());
  const int64_t cookie = entry->cookie;
  slots_.push_back({cookie, std::move(entry)});
}

Ref<TmpfsInode> TmpfsDirectory::EraseLocked(Entry& entry) {
  Ref<TmpfsInode> inode = entry.inode;
  if (inode->is_directory()) set_nlink(nlink() - 1);
  by_name_.erase(entry.name);
  const auto slot =
      std::lower_bound(slots_.begin(), slots_.end(), entry.cookie,
                       [](const Slot& s, int64_t cookie) { return s.cookie < cookie; });
  slot->entry.reset();
  gaps_++;
  if (gaps_ > 16 && gaps_ > slots_.size() / 2) {
    std::erase_if(slots_, [](const Slot& s) { return s.entry == nullptr; });
    gaps_ = 0;
  }
  return inode;
}

Result<Ref<Inode>> TmpfsDirectory::Lookup(std::string_view name) {
  ReaderLock lock(tmpfs().tree_lock());
  Entry* entry = FindLocked(name);
  if (entry == nullptr) return Errno(ENOENT);
  return Ref<Inode>(entry->inode);
}

Result<Ref<Inode>> TmpfsDirectory::AddNew(std::string_view name, Ref<TmpfsInode> inode) {
  {
    MutexLock lock(tmpfs().tree_lock());
    TRY(CheckFreeLocked(name));
    PutLocked(name, inode);
  }
  TouchMtime();
  return Ref<Inode>(std::move(inode));
}

Result<Ref<Inode>> TmpfsDirectory::Create(std::string_view name, const NewInode& args) {
  if (!tmpfs().ChargeInode()) return Errno(ENOSPC);
  return AddNew(name, MakeRef<TmpfsRegular>(tmpfs(), args));
}

Result<Ref<Inode>> TmpfsDirectory::Mkdir(std::string_view name, const NewInode& args) {
  if (!tmpfs().ChargeInode()) return Errno(ENOSPC);
  return AddNew(name, MakeRef<TmpfsDirectory>(tmpfs(), args, ino()));
}

Result<Ref<Inode>> TmpfsDirectory::Mknod(std::string_view name, const NewInode& args) {
  if (!tmpfs().ChargeInode()) return Errno(ENOSPC);
  return AddNew(name, MakeRef<TmpfsSpecial>(tmpfs(), args));
}

Result<Ref<Inode>> TmpfsDirectory::Symlink(std::string_view name, std::string_view target,
                                           const NewInode& args) {
  if (!tmpfs().ChargeInode()) return Errno(ENOSPC);
  return AddNew(name, MakeRef<TmpfsSymlink>(tmpfs(), args, target));
}

Result<Ref<Inode>> TmpfsDirectory::TmpFile(const NewInode& args) {
  return MakeTmpfsRegular(tmpfs(), args);
}

Result<void> TmpfsDirectory::Link(std::string_view name, Inode& target) {
  auto& inode = static_cast<TmpfsInode&>(target);
  {
    MutexLock lock(tmpfs().tree_lock());
    TRY(CheckFreeLocked(name));
    // Each further name counts as an inode.
    if (inode.nlink() != 0 && !tmpfs().ChargeInode()) return Errno(ENOSPC);
    PutLocked(name, Ref<TmpfsInode>(inode));
    inode.set_nlink(inode.nlink() + 1);
  }
  inode.TouchCtime();
  TouchMtime();
  return {};
}

void TmpfsDirectory::DropNameLocked(TmpfsInode& inode) {
  if (inode.is_directory()) {
    inode.set_nlink(0);
    return;
  }
  if (inode.nlink() > 1) tmpfs().UnchargeInode();
  inode.set_nlink(inode.nlink() - 1);
}

Result<void> TmpfsDirectory::Unlink(std::string_view name, Inode& child) {
  RefPtr<TmpfsInode> gone;  // ended after the lock
  {
    MutexLock lock(tmpfs().tree_lock());
    Entry* entry = FindLocked(name);
    if (entry == nullptr || entry->inode.get() != &child) return Errno(ENOENT);
    gone = EraseLocked(*entry);
    DropNameLocked(*gone);
  }
  gone->TouchCtime();
  TouchMtime();
  return {};
}

Result<void> TmpfsDirectory::Rmdir(std::string_view name, Inode& child) {
  RefPtr<TmpfsInode> gone;
  {
    MutexLock lock(tmpfs().tree_lock());
    Entry* entry = FindLocked(name);
    if (entry == nullptr || entry->inode.get() != &child) return Errno(ENOENT);
    if (!static_cast<TmpfsDirectory&>(child).by_name_.empty()) return Errno(ENOTEMPTY);
    gone = EraseLocked(*entry);
    gone->set_nlink(0);
  }
  gone->TouchCtime();
  TouchMtime();
  return {};
}

Result<void> TmpfsDirectory::Rename(std::string_view name, Inode& child, Inode& new_dir,
                                    std::string_view new_name, Inode* replaced, uint32_t flags) {
  auto& to = static_cast<TmpfsDirectory&>(new_dir);
  RefPtr<TmpfsInode> moved, gone, whiteout;
  if (flags & RENAME_WHITEOUT) {
    if (!tmpfs().ChargeInode()) return Errno(ENOSPC);
    whiteout = MakeRef<TmpfsSpecial>(tmpfs(), NewInode{S_IFCHR, 0, 0, makedev(0, 0)});
  }
  {
    MutexLock lock(tmpfs().tree_lock());
    Entry* source = FindLocked(name);
    if (source == nullptr || source->inode.get() != &child) return Errno(ENOENT);
    if (to.nlink() == 0) return Errno(ENOENT);
    Entry* target = to.FindLocked(new_name);
    if ((target == nullptr ? nullptr : static_cast<Inode*>(target->inode.get())) != replaced) {
      return Errno(target == nullptr ? ENOENT : EEXIST);
    }
    if (target != nullptr && !(flags & RENAME_EXCHANGE) && target->inode->is_directory() &&
        !static_cast<TmpfsDirectory&>(*target->inode).by_name_.empty()) {
      return Errno(ENOTEMPTY);
    }
    // ---- No failure below this line. ----
    const std::string old_name(name);
    if (target != nullptr) gone = to.EraseLocked(*target);
    moved = EraseLocked(*source);
    to.PutLocked(new_name, Ref<TmpfsInode>(*moved));
    if (flags & RENAME_EXCHANGE) {
      PutLocked(old_name, Ref<TmpfsInode>(*gone));
    } else if (gone) {
      DropNameLocked(*gone);
    }
    if (whiteout) PutLocked(old_name, Ref<TmpfsInode>(*whiteout));
  }
  moved->TouchCtime();
  if (gone) gone->TouchCtime();
  TouchMtime();
  if (&to != this) to.TouchMtime();
  return {};
}

void TmpfsDirectory::List(DirSink& sink, int64_t* position) {
  ReaderLock lock(tmpfs().tree_lock());
  if (nlink() == 0) return;
  if (*position < 1) {
    if (!sink.Add(".", ino(), DT_DIR, 1)) return;
    *position = 1;
  }
  if (*position < 2) {
    if (!sink.Add("..", parent_ino_, DT_DIR, 2)) return;
    *position = 2;
  }
  auto slot = std::lower_bound(slots_.begin(), slots_.end(), *position + 1,
                               [](const Slot& s, int64_t cookie) { return s.cookie < cookie; });
  for (; slot != slots_.end(); ++slot) {
    if (slot->entry == nullptr) continue;
    const TmpfsInode& inode = *slot->entry->inode;
    const uint8_t type = static_cast<uint8_t>(inode.type() >> 12);  // IFTODT
    if (!sink.Add(slot->entry->name, inode.ino(), type, slot->cookie)) return;
    *position = slot->cookie;
  }
}

}  // namespace ringwall
