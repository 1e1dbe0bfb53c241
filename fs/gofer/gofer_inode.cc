// Attributes, handles and descriptors of a host file.
#include "fs/gofer/gofer_inode.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/vfs/special_files.h"

namespace ringwall {

namespace {

constexpr uint64_t kWorthFlushing = 2048;  // blocks: 1 MiB

Timespec FromWire(const gofer::Time& t) { return {t.sec, static_cast<int64_t>(t.nsec)}; }
gofer::Time ToWire(const Timespec& t) { return {t.sec, static_cast<uint32_t>(t.nsec), 0}; }

}  // namespace

GoferInode::GoferInode(GoferFileSystem& fs, gofer::GoferNode node, RefPtr<GoferInode> parent,
                       std::string_view name)
    : Inode(fs, node.attr.mode),
      gofer_fs_(fs),
      host_dev_(node.attr.dev),
      host_ino_(node.attr.ino),
      has_handle_(node.handle.valid()),
      handle_(std::move(node.handle)) {
  MutexLock lock(mu_);
  if (!has_handle_.load(std::memory_order_relaxed)) {
    found_in_ = std::move(parent);
    found_as_ = name;
  }
  StoreLocked(node.attr);
}

GoferInode::~GoferInode() {
  gofer_fs_.Forget(*this);
  gofer_fs_.DescriptorGone(*this);
  bool flush;
  {
    MutexLock lock(mu_);
    flush = attr_.nlink == 0 && attr_.blocks >= kWorthFlushing;
    if (write_fd_) gofer_fs_.look_ahead().Changed();
  }
  handle_.reset();
  // The host frees the space only when the gofer lets go.
  if (flush) gofer_fs_.client().FlushCloses();
}

void GoferInode::StoreLocked(const gofer::Attr& a) {
  attr_.ino = a.ino;
  attr_.mode = type() | (a.mode & 07777);
  attr_.nlink = a.nlink;
  attr_.uid = a.uid;
  attr_.gid = a.gid;
  attr_.rdev = a.rdev;
  attr_.size = a.size;
  attr_.blocks = a.blocks;
  attr_.blksize = a.blksize;
  attr_.atime = FromWire(a.atime);
  attr_.mtime = FromWire(a.mtime);
  attr_.ctime = FromWire(a.ctime);
  attr_.btime.reset();
  if (a.has_btime) attr_.btime = FromWire(a.btime);
  attr_.dev = gofer_fs_.GuestDevice(a.dev);
  stale_ = false;
  if (!gofer_fs_.shared()) PublishPermission(attr_.mode, attr_.uid, attr_.gid);
}

void GoferInode::Refresh(const gofer::Attr& attr) {
  MutexLock lock(mu_);
  StoreLocked(attr);
}

void GoferInode::MarkStale() {
  gofer_fs_.look_ahead().Changed();
  MutexLock lock(mu_);
  stale_ = true;
}

Result<const gofer::GoferHandle*> GoferInode::Handle() {
  if (has_handle_.load(std::memory_order_acquire)) return &handle_;
  RefPtr<GoferInode> parent;
  std::string name;
  {
    MutexLock lock(mu_);
    parent = found_in_;
    name = found_as_;
  }
  if (!parent) return has_handle_.load(std::memory_order_acquire)
                          ? Result<const gofer::GoferHandle*>(&handle_)
                          : Result<const gofer::GoferHandle*>(Errno(ESTALE));
  if (told_ahead_.exchange(false, std::memory_order_relaxed)) gofer_fs_.look_ahead().NeededHandle();
  const gofer::GoferHandle* dir = TRY(parent->Handle());
  gofer::GoferNode node = TRY(gofer_fs_.client().Lookup(*dir, name));
  if (node.attr.dev != host_dev_ || node.attr.ino != host_ino_) return Errno(ESTALE);
  MutexLock lock(mu_);
  if (!has_handle_.load(std::memory_order_relaxed)) {
    handle_ = std::move(node.handle);
    has_handle_.store(true, std::memory_order_release);
    found_in_.reset();
    found_as_.clear();
  }
  return &handle_;
}

void GoferInode::KeepHandle() {
  // Without one nothing could be done any more to a file that is open. When it fails the file is no
  // longer what it was, and the gofer has the last word on the name.
  if (!has_handle_.load(std::memory_order_acquire)) Handle().ok();
}

RefPtr<GoferFd> GoferInode::DescriptorByName() {
  RefPtr<GoferInode> parent;
  std::string name;
  {
    MutexLock lock(mu_);
    parent = found_in_;
    name = found_as_;
  }
  if (!parent) return nullptr;
  const auto same = [&](const gofer::Attr& attr) {
    return attr.dev == host_dev_ && attr.ino == host_ino_;
  };
  gofer::Attr attr;
  UniqueFd fd;
  std::optional<gofer::PeekedNode> peeked = parent->PeekEntry(name, LookAhead::kDescriptors);
  if (peeked && peeked->fd && same(peeked->attr)) {
    attr = peeked->attr;
    fd = std::move(peeked->fd);
  } else {
    const Result<const gofer::GoferHandle*> dir = parent->Handle();
    if (!dir.ok()) return nullptr;
    const std::string_view names[] = {name};
    Result<gofer::WalkResult> walk =
        gofer_fs_.client().Walk(**dir, names, gofer::kWalkOpen, O_RDONLY);
    if (!walk.ok() || !walk->fd || !same(walk->nodes.back().attr)) return nullptr;
    attr = walk->nodes.back().attr;
    fd = std::move(walk->fd);
  }
  Ref<GoferFd> fresh = MakeRef<GoferFd>(std::move(fd), /*writable=*/false, /*readable=*/true);
  MutexLock lock(mu_);
  StoreLocked(attr);
  read_fd_ = fresh;
  return RefPtr<GoferFd>(std::move(fresh));
}

void GoferInode::RefreshFromFdLocked(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return;
  attr_.size = static_cast<uint64_t>(st.st_size);
  attr_.blocks = static_cast<uint64_t>(st.st_blocks);
  attr_.atime = {st.st_atim.tv_sec, st.st_atim.tv_nsec};
  attr_.mtime = {st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
  attr_.ctime = {st.st_ctim.tv_sec, st.st_ctim.tv_nsec};
}

Result<Attr> GoferInode::GetAttr() {
  {
    MutexLock lock(mu_);
    if (!gofer_fs_.shared() && !stale_) {
      // Writes and writable mappings change the file behind our back.
      if (write_fd_) RefreshFromFdLocked(write_fd_->get());
      return attr_;
    }
  }
  const gofer::GoferHandle* handle = TRY(Handle());
  const gofer::Attr attr = TRY(gofer_fs_.client().Stat(*handle));
  MutexLock lock(mu_);
  StoreLocked(attr);
  return attr_;
}

Result<Attr> GoferInode::GetPermissionAttr() {
  // In shared mode Lookup has just brought them.
  MutexLock lock(mu_);
  return attr_;
}

Result<void> GoferInode::Set(const SetAttr& set) {
  gofer::SetAttrRequest request;
  if (set.size) {
    if (is_directory()) return Errno(EISDIR);
    request.mask |= gofer::kSetSize;
    request.size = *set.size;
    RefPtr<GoferFd> fd;
    {
      MutexLock lock(mu_);
      fd = write_fd_;
    }
    if (fd && !set.mode && !set.uid && !set.gid && !set.atime && !set.mtime) {
      if (ftruncate(fd->get(), static_cast<off_t>(*set.size)) != 0) return Errno(errno);
      gofer_fs_.look_ahead().Changed();
      MutexLock lock(mu_);
      RefreshFromFdLocked(fd->get());
      return {};
    }
  }
  if (set.mode) {
    request.mask |= gofer::kSetMode;
    request.mode = *set.mode & 07777;
  }
  if (set.uid) {
    request.mask |= gofer::kSetUid;
    request.uid = *set.uid;
  }
  if (set.gid) {
    request.mask |= gofer::kSetGid;
    request.gid = *set.gid;
  }
  if (set.atime) {
    request.mask |= set.atime->now ? gofer::kSetAtimeNow : gofer::kSetAtime;
    if (!set.atime->now) request.atime = ToWire(set.atime->time);
  }
  if (set.mtime) {
    request.mask |= set.mtime->now ? gofer::kSetMtimeNow : gofer::kSetMtime;
    if (!set.mtime->now) request.mtime = ToWire(set.mtime->time);
  }
  if (request.mask == 0) return {};
  const gofer::GoferHandle* handle = TRY(Handle());
  const gofer::Attr attr = TRY(gofer_fs_.client().SetAttr(*handle, request));
  gofer_fs_.look_ahead().Changed();
  Refresh(attr);
  return {};
}

Result<std::string> GoferInode::ReadLink() {
  if (!is_symlink()) return Errno(EINVAL);
  {
    MutexLock lock(mu_);
    if (!target_.empty() && !gofer_fs_.shared()) return target_;
  }
  const gofer::GoferHandle* handle = TRY(Handle());
  std::string target = TRY(gofer_fs_.client().ReadLink(*handle));
  MutexLock lock(mu_);
  target_ = target;
  return target;
}

Result<Ref<GoferFd>> GoferInode::Descriptor(uint32_t access) {
  const bool write = access != O_RDONLY, read = access != O_WRONLY;
  {
    MutexLock lock(mu_);
    // One that can do both serves readers as well.
    for (const RefPtr<GoferFd>* fd : {&write_fd_, &read_fd_}) {
      if (!*fd || (write && !(*fd)->writable()) || (read && !(*fd)->readable())) continue;
      return Ref<GoferFd>(**fd);
    }
  }
  if (!write && is_regular()) {
    if (RefPtr<GoferFd> fd = DescriptorByName()) {
      gofer_fs_.DescriptorIdle(*this);
      return Ref<GoferFd>(std::move(fd));
    }
  }
  const gofer::GoferHandle* handle = TRY(Handle());
  bool readable = true;
  Result<gofer::OpenResult> opened =
      gofer_fs_.client().Open(*handle, write ? O_RDWR : O_RDONLY);
  if (!opened.ok() && access == O_WRONLY && opened.error().Is(EACCES)) {
    opened = gofer_fs_.client().Open(*handle, O_WRONLY);
    readable = false;
  }
  if (!opened.ok()) return opened.error();
  Ref<GoferFd> fd = MakeRef<GoferFd>(std::move(opened->fd), write, readable);
  {
    MutexLock lock(mu_);
    StoreLocked(opened->attr);
    (write ? write_fd_ : read_fd_) = fd;
  }
  gofer_fs_.DescriptorIdle(*this);
  return fd;
}

void GoferInode::OfferDescriptor(UniqueFd fd) {
  Ref<GoferFd> fresh = MakeRef<GoferFd>(std::move(fd), /*writable=*/false, /*readable=*/true);
  {
    MutexLock lock(mu_);
    if (read_fd_ || write_fd_) return;
    read_fd_ = std::move(fresh);
  }
  gofer_fs_.DescriptorIdle(*this);
}

bool GoferInode::DropIdleDescriptors() {
  RefPtr<GoferFd> gone[2];
  MutexLock lock(mu_);
  if (write_fd_ && write_fd_->ref_count() == 1) {
    RefreshFromFdLocked(write_fd_->get());
    std::swap(gone[0], write_fd_);
    gofer_fs_.look_ahead().Changed();
  }
  if (read_fd_ && read_fd_->ref_count() == 1) std::swap(gone[1], read_fd_);
  return write_fd_ || read_fd_;
}

Result<Ref<File>> GoferInode::Open(const Path& path, uint32_t flags, const Credentials& creds) {
  switch (type()) {
    case S_IFDIR:
      return MakeGoferDirFile(path, flags, *this);
    case S_IFREG: {
      const uint32_t access = flags & O_ACCMODE;
      Ref<GoferFd> fd = TRY(Descriptor(access == O_ACCMODE ? O_RDONLY : access));
      return MakeGoferFile(path, flags, *this, std::move(fd));
    }
    case S_IFIFO:
      if (gofer_fs_.options().open_fifos) return OpenHostFifo(*this, path, flags);
      [[fallthrough]];
    default: {
      const Attr attr = TRY(GetPermissionAttr());
      return OpenSpecial(*this, path, flags, creds, attr.rdev);
    }
  }
}

Result<std::string> GoferInode::GetXattr(std::string_view name) {
  const gofer::GoferHandle* handle = TRY(Handle());
  return gofer_fs_.client().GetXattr(*handle, name, gofer::kMaxXattrValue);
}

Result<void> GoferInode::SetXattr(std::string_view name, std::string_view value, int flags) {
  const gofer::GoferHandle* handle = TRY(Handle());
  TRY(gofer_fs_.client().SetXattr(*handle, name, value, static_cast<uint32_t>(flags)));
  MarkStale();  // ctime, and the mode by an ACL
  return {};
}

Result<std::vector<std::string>> GoferInode::ListXattr() {
  const gofer::GoferHandle* handle = TRY(Handle());
  const std::string all = TRY(gofer_fs_.client().ListXattr(*handle));
  std::vector<std::string> names;
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.find('\0', at), all.size());
    if (end > at) names.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  return names;
}

Result<void> GoferInode::RemoveXattr(std::string_view name) {
  const gofer::GoferHandle* handle = TRY(Handle());
  TRY(gofer_fs_.client().RemoveXattr(*handle, name));
  MarkStale();
  return {};
}

}  // namespace ringwall
