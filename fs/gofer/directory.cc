// Names in a directory of the host.
#include <fcntl.h>
#include <linux/fs.h>

#include "fs/gofer/gofer_inode.h"
#include "fs/vfs/dentry.h"
#include "fs/vfs/host_sockets.h"
#include "fs/vfs/open_hint.h"

namespace ringwall {

namespace {

gofer::NewFile ToNewFile(const NewInode& args) {
  return {args.mode & 07777, args.uid, args.gid};
}

class GoferDirFile final : public ListedDirectoryFile {
 public:
  GoferDirFile(const Path& path, uint32_t flags, GoferInode& dir)
      : ListedDirectoryFile(path, flags), dir_(dir) {}

 private:
  Result<Ref<DirListing>> List() override {
    Ref<GoferListing> listing = TRY(dir_->Listing());
    return Ref<DirListing>(std::move(listing));
  }
  uint64_t OwnIno() override { return dir_->ino(); }

  const Ref<GoferInode> dir_;
};

}  // namespace

Ref<File> MakeGoferDirFile(const Path& path, uint32_t flags, GoferInode& inode) {
  return MakeRef<GoferDirFile>(path, flags, inode);
}

Result<Ref<GoferListing>> GoferInode::Listing() {
  {
    MutexLock lock(mu_);
    if (listing_ && !gofer_fs_.shared()) return Ref<GoferListing>(*listing_);
  }
  const gofer::GoferHandle* handle = TRY(Handle());
  Ref<GoferListing> listing = MakeRef<GoferListing>();
  uint64_t offset = 0;
  for (;;) {
    const gofer::DirBatch batch = TRY(gofer_fs_.client().ReadDir(*handle, offset, false));
    for (const gofer::GoferDirEntry& e : batch.entries) {
      listing->entries.push_back({std::string(e.name), e.ino, e.type});
    }
    if (batch.end || batch.entries.empty()) break;
    offset = batch.entries.back().next;
  }
  listing->names.reserve(listing->entries.size());
  for (const GoferListing::Entry& e : listing->entries) listing->names.insert(e.name);
  MutexLock lock(mu_);
  if (!gofer_fs_.shared()) listing_ = listing;
  return listing;
}

void GoferInode::EntriesChanged() {
  MutexLock lock(mu_);
  listing_.reset();
  misses_.store(0, std::memory_order_relaxed);
  stale_ = true;
}

void GoferInode::LostName() {
  bool last;
  {
    MutexLock lock(mu_);
    attr_.ctime = CurrentTime();
    attr_.nlink = is_directory() || attr_.nlink == 0 ? 0 : attr_.nlink - 1;
    last = attr_.nlink == 0;
    if (last) stale_ = false;  // without a handle nobody can tell any more
  }
  if (last) gofer_fs_.Forget(*this);
}

bool GoferInode::KnownMissing(std::string_view name) {
  if (gofer_fs_.shared()) return false;
  RefPtr<GoferListing> listing;
  {
    MutexLock lock(mu_);
    listing = listing_;
    if (!listing && (misses_.load(std::memory_order_relaxed) < kMissesToList ||
                     attr_.size > kLargeDirectory)) {
      return false;
    }
  }
  if (!listing) {
    Result<Ref<GoferListing>> all = Listing();
    if (!all.ok()) return false;
    listing = RefPtr<GoferListing>(std::move(*all));
  }
  return !listing->names.contains(name);
}

Result<Ref<Inode>> GoferInode::Lookup(std::string_view name) {
  if (!is_directory()) return Errno(ENOTDIR);
  if (KnownMissing(name)) return Errno(ENOENT);
  const gofer::GoferHandle* handle = TRY(Handle());
  const std::string_view names[] = {name};
  // In shared mode every open looks up anew, while the descriptor of the first is kept.
  const bool opens = OpenHint::reading() && !gofer_fs_.shared();
  const auto look = [&] {
    return gofer_fs_.client().Walk(
        *handle, names, gofer::kWalkHandleLast | (opens ? gofer::kWalkOpen : 0), O_RDONLY);
  };
  Result<gofer::WalkResult> looked = look();
  if (!looked.ok() && looked.error().Is(ENFILE)) {
    // Handles that were given up already may be the ones that are missing.
    gofer_fs_.client().FlushCloses();
    looked = look();
  }
  gofer::WalkResult walk = TRY(std::move(looked));
  const bool found =
      walk.stop == gofer::WalkStop::kDone || walk.stop == gofer::WalkStop::kOpenFailed;
  if (!found || walk.nodes.empty()) {
    if (walk.error == ENOENT) misses_.fetch_add(1, std::memory_order_relaxed);
    return Errno(walk.error != 0 ? walk.error : EIO);
  }
  Ref<GoferInode> inode =
      gofer_fs_.GetInode(std::move(walk.nodes.back()), RefPtr<GoferInode>(this), name);
  if (inode->is_symlink() && !walk.target.empty()) {
    MutexLock lock(inode->mu_);
    inode->target_ = std::move(walk.target);
  }
  if (walk.fd) inode->OfferDescriptor(std::move(walk.fd));
  return Ref<Inode>(std::move(inode));
}

Result<Ref<Inode>> GoferInode::Made(Result<gofer::GoferNode> node, std::string_view name) {
  if (!node.ok()) return node.error();
  EntriesChanged();
  return Ref<Inode>(gofer_fs_.GetInode(std::move(*node), RefPtr<GoferInode>(this), name));
}

Result<Ref<Inode>> GoferInode::Create(std::string_view name, const NewInode& args) {
  const gofer::GoferHandle* handle = TRY(Handle());
  gofer::CreateResult made =
      TRY(gofer_fs_.client().Create(*handle, name, O_RDWR | O_EXCL, ToNewFile(args)));
  EntriesChanged();
  Ref<GoferInode> inode =
      gofer_fs_.GetInode(std::move(made.node), RefPtr<GoferInode>(this), name);
  if (made.fd.valid()) {
    {
      MutexLock lock(inode->mu_);
      inode->write_fd_ = MakeRef<GoferFd>(std::move(made.fd), true, true);
    }
    gofer_fs_.DescriptorIdle(*inode);
  }
  return Ref<Inode>(std::move(inode));
}

Result<Ref<Inode>> GoferInode::TmpFile(const NewInode& args) {
  const gofer::GoferHandle* handle = TRY(Handle());
  gofer::CreateResult made =
      TRY(gofer_fs_.client().CreateNameless(*handle, O_RDWR, ToNewFile(args)));
  Ref<GoferInode> inode = gofer_fs_.GetInode(std::move(made.node), nullptr, {});
  if (made.fd.valid()) {
    MutexLock lock(inode->mu_);
    inode->write_fd_ = MakeRef<GoferFd>(std::move(made.fd), true, true);
  }
  return Ref<Inode>(std::move(inode));
}

Result<Ref<Inode>> GoferInode::Mkdir(std::string_view name, const NewInode& args) {
  const gofer::GoferHandle* handle = TRY(Handle());
  return Made(gofer_fs_.client().Mkdir(*handle, name, ToNewFile(args)), name);
}

Result<Ref<Inode>> GoferInode::Mknod(std::string_view name, const NewInode& args) {
  const uint32_t type = args.mode & S_IFMT;
  if ((type == S_IFCHR && args.rdev != 0) || type == S_IFBLK) return Errno(EPERM);
  if (type == S_IFSOCK && gofer_fs_.options().bind_sockets && BindHint::current() != nullptr) {
    return Made(BindOnHost(name, args), name);
  }
  const gofer::GoferHandle* handle = TRY(Handle());
  return Made(gofer_fs_.client().Mknod(*handle, name, type, ToNewFile(args)), name);
}

Result<Ref<Inode>> GoferInode::Symlink(std::string_view name, std::string_view target,
                                       const NewInode& args) {
  const gofer::GoferHandle* handle = TRY(Handle());
  return Made(gofer_fs_.client().Symlink(*handle, name, target, args.uid, args.gid), name);
}

Result<void> GoferInode::Link(std::string_view name, Inode& target) {
  auto& inode = static_cast<GoferInode&>(target);
  const gofer::GoferHandle* dir = TRY(Handle());
  const gofer::GoferHandle* file = TRY(inode.Handle());
  const gofer::Attr attr = TRY(gofer_fs_.client().Link(*file, *dir, name));
  EntriesChanged();
  inode.Refresh(attr);
  return {};
}

Result<void> GoferInode::Unlink(std::string_view name, Inode& child) {
  const gofer::GoferHandle* dir = TRY(Handle());
  TRY(gofer_fs_.client().Unlink(*dir, name));
  EntriesChanged();
  static_cast<GoferInode&>(child).LostName();
  return {};
}

Result<void> GoferInode::Rmdir(std::string_view name, Inode& child) {
  const gofer::GoferHandle* dir = TRY(Handle());
  TRY(gofer_fs_.client().Rmdir(*dir, name));
  EntriesChanged();
  static_cast<GoferInode&>(child).LostName();
  return {};
}

Result<void> GoferInode::Rename(std::string_view name, Inode& child, Inode& new_dir,
                                std::string_view new_name, Inode* replaced, uint32_t flags) {
  if (flags & ~static_cast<uint32_t>(RENAME_EXCHANGE)) return Errno(EINVAL);
  auto& to = static_cast<GoferInode&>(new_dir);
  const gofer::GoferHandle* from_handle = TRY(Handle());
  const gofer::GoferHandle* to_handle = TRY(to.Handle());
  // Once moved they would not be found where they were.
  TRY(static_cast<GoferInode&>(child).Handle());
  if (replaced != nullptr) TRY(static_cast<GoferInode*>(replaced)->Handle());
  TRY(gofer_fs_.client().Rename(*from_handle, name, *to_handle, new_name, flags));
  EntriesChanged();
  to.EntriesChanged();
  static_cast<GoferInode&>(child).MarkStale();
  if (replaced != nullptr) {
    if (flags & RENAME_EXCHANGE) {
      static_cast<GoferInode*>(replaced)->MarkStale();
    } else {
      static_cast<GoferInode*>(replaced)->LostName();
    }
  }
  return {};
}

}  // namespace ringwall
