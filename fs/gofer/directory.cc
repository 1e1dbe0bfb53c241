// Names in a directory of the host.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>

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
  listing->places.reserve(listing->entries.size());
  for (uint32_t i = 0; i < listing->entries.size(); i++) {
    listing->places.emplace(listing->entries[i].name, i);
  }
  MutexLock lock(mu_);
  if (!gofer_fs_.shared()) listing_ = listing;
  return listing;
}

void GoferInode::EntriesChanged() {
  gofer_fs_.look_ahead().Changed();
  MutexLock lock(mu_);
  listing_.reset();
  misses_.store(0, std::memory_order_relaxed);
  found_.store(0, std::memory_order_relaxed);
  // What is told of a directory that changes often is hardly ever used.
  stat_window_.store(stat_window_.load(std::memory_order_relaxed) / 2, std::memory_order_relaxed);
  last_opened_.store(kNoPlace, std::memory_order_relaxed);
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
  return !listing->places.contains(name);
}

bool GoferInode::OpenedInTurn(uint32_t place) {
  constexpr uint32_t kStep = 8;  // past what the program knows not to be files, or has no wish to open
  const uint32_t last = last_opened_.exchange(place, std::memory_order_relaxed);
  return last == kNoPlace ? place < kStep : place > last && place - last <= kStep;
}

std::optional<gofer::PeekedNode> GoferInode::PeekEntry(std::string_view name,
                                                       LookAhead::Kind kind) {
  if (gofer_fs_.shared()) return std::nullopt;
  LookAhead& ahead = gofer_fs_.look_ahead();
  const LookAhead::FileId id(host_dev_, host_ino_);
  const bool open = kind == LookAhead::kDescriptors;
  std::optional<gofer::PeekedNode> kept = ahead.Take(id, name, kind);
  RefPtr<GoferListing> listing;
  bool list = false;
  const uint32_t found = found_.load(std::memory_order_relaxed);
  {
    MutexLock lock(mu_);
    listing = listing_;
    list = !kept && !listing && !open && found >= kFoundToList &&
           attr_.size <= kSmallDirectory && stat_window_.load(std::memory_order_relaxed) >= 2 &&
           ahead.AttributesPay();
  }
  if (list) {
    Result<Ref<GoferListing>> all = Listing();
    if (all.ok()) listing = RefPtr<GoferListing>(std::move(*all));
  }
  if (!listing) return kept;
  const auto place = listing->places.find(name);
  if (place == listing->places.end()) return kept;
  const bool in_turn = !open || OpenedInTurn(place->second);
  if (kept || !in_turn) return kept;
  const std::vector<GoferListing::Entry>& entries = listing->entries;
  // A directory is mostly gone into, which takes a handle, and a link's target is wanted, too.
  const auto fits = [&](const GoferListing::Entry& e) {
    return e.type != DT_LNK && e.type != DT_DIR &&
           (!open || e.type == DT_REG || e.type == DT_UNKNOWN);
  };
  if (!fits(entries[place->second])) return std::nullopt;
  if (open && gofer_fs_.options().max_idle_descriptors < kManyDescriptors) return std::nullopt;
  const uint32_t window =
      open ? ahead.OpenWindow() : stat_window_.load(std::memory_order_relaxed);
  if (!open && !list && !ahead.AttributesSurelyPay() &&
      (found < kFoundToList || !ahead.AttributesPay())) {
    return std::nullopt;
  }
  if (window < 2) {
    if (open) ahead.TryOpening();
    return std::nullopt;
  }
  // Programs open files in the order of the listing, but look at them in any: those before the name are
  // told of, too.
  std::vector<std::string_view> names = {name};
  const size_t until = open ? entries.size() - place->second : entries.size();
  for (size_t i = 1; i < until && names.size() < window; i++) {
    const GoferListing::Entry& e = entries[(place->second + i) % entries.size()];
    if (fits(e)) names.push_back(e.name);
  }
  const uint64_t epoch = ahead.epoch();
  const Result<const gofer::GoferHandle*> handle = Handle();
  if (!handle.ok()) return std::nullopt;
  Result<std::vector<gofer::PeekedNode>> nodes = gofer_fs_.client().Peek(**handle, names, open);
  if (!nodes.ok()) return std::nullopt;
  const auto usable = [](const gofer::PeekedNode& node) {
    return node.error == 0 && (node.attr.mode & S_IFMT) != S_IFLNK;
  };
  std::vector<LookAhead::Entry> rest;
  rest.reserve(names.size() - 1);
  for (size_t i = 1; i < names.size(); i++) {
    if (usable((*nodes)[i])) rest.push_back({std::string(names[i]), std::move((*nodes)[i])});
  }
  const LookAhead::Verdict verdict = ahead.Keep(id, kind, epoch, std::move(rest));
  if (!open && verdict != LookAhead::kNoneBefore) {
    stat_window_.store(verdict == LookAhead::kUsed
                           ? std::min<uint32_t>(2 * window, gofer::kMaxPeekNames)
                           : 0,
                       std::memory_order_relaxed);
  }
  if (!usable(nodes->front())) return std::nullopt;
  return std::move(nodes->front());
}

Result<Ref<Inode>> GoferInode::Lookup(std::string_view name) {
  if (!is_directory()) return Errno(ENOTDIR);
  if (KnownMissing(name)) return Errno(ENOENT);
  // In shared mode every open looks up anew, while the descriptor of the first is kept.
  const bool opens = OpenHint::reading() && !gofer_fs_.shared();
  if (std::optional<gofer::PeekedNode> peeked =
          PeekEntry(name, opens ? LookAhead::kDescriptors : LookAhead::kAttributes)) {
    Ref<GoferInode> inode = gofer_fs_.GetInode({.handle = {}, .attr = peeked->attr},
                                               RefPtr<GoferInode>(this), name);
    if (peeked->fd) {
      inode->OfferDescriptor(std::move(peeked->fd));
    } else {
      inode->told_ahead_.store(true, std::memory_order_relaxed);
    }
    return Ref<Inode>(std::move(inode));
  }
  const gofer::GoferHandle* handle = TRY(Handle());
  const std::string_view names[] = {name};
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
  found_.fetch_add(1, std::memory_order_relaxed);
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
  static_cast<GoferInode&>(child).KeepHandle();
  TRY(gofer_fs_.client().Unlink(*dir, name));
  EntriesChanged();
  static_cast<GoferInode&>(child).LostName();
  return {};
}

Result<void> GoferInode::Rmdir(std::string_view name, Inode& child) {
  const gofer::GoferHandle* dir = TRY(Handle());
  static_cast<GoferInode&>(child).KeepHandle();
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
