#include "fs/gofer/inode.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "fs/gofer/file.h"
#include "fs/vfs/special_files.h"

namespace ringwall {

namespace {

Timespec FromWire(const gofer::Time& t) { return {t.sec, static_cast<int64_t>(t.nsec)}; }

Attr FromWire(const gofer::Attr& w) {
  Attr a;
  a.ino = w.ino, a.mode = w.mode, a.nlink = w.nlink, a.uid = w.uid, a.gid = w.gid;
  a.rdev = w.rdev, a.size = w.size, a.blocks = w.blocks, a.blksize = w.blksize;
  a.atime = FromWire(w.atime), a.mtime = FromWire(w.mtime), a.ctime = FromWire(w.ctime);
  if (w.has_btime != 0) a.btime = FromWire(w.btime);
  return a;
}

gofer::NewFile ToWire(const NewInode& args) {
  gofer::NewFile f;
  f.mode = args.mode & 07777, f.uid = args.uid, f.gid = args.gid;
  return f;
}

}  // namespace

GoferInode::GoferInode(GoferFileSystem& fs, gofer::GoferHandle handle, const gofer::Attr& attr)
    : Inode(fs, attr.mode), handle_(std::move(handle)) {
  Remember(attr);
}

void GoferInode::Remember(const gofer::Attr& attr) {
  MutexLock lock(mu_);
  attr_ = FromWire(attr);
  valid_ = gofer_fs().exclusive();
}

void GoferInode::Forget() {
  MutexLock lock(mu_);
  valid_ = false;
}

Result<Attr> GoferInode::GetAttr() {
  RefPtr<DonatedFd> fd;
  {
    MutexLock lock(mu_);
    if (valid_) return attr_;
    fd = writer_ ? writer_ : reader_;
  }
  if (fd && gofer_fs().exclusive()) {
    // The descriptor that we hold knows as much as the gofer.
    struct stat st;
    TRY(FromHost(fstat(fd->get(), &st)));
    MutexLock lock(mu_);
    attr_.mode = st.st_mode, attr_.nlink = static_cast<uint32_t>(st.st_nlink);
    attr_.size = static_cast<uint64_t>(st.st_size), attr_.blocks = static_cast<uint64_t>(st.st_blocks);
    attr_.atime = {st.st_atim.tv_sec, st.st_atim.tv_nsec};
    attr_.mtime = {st.st_mtim.tv_sec, st.st_mtim.tv_nsec};
    attr_.ctime = {st.st_ctim.tv_sec, st.st_ctim.tv_nsec};
    return attr_;
  }
  const gofer::Attr fresh = TRY(client().Stat(handle_));
  if ((fresh.mode & S_IFMT) != type()) return Errno(ESTALE);
  Remember(fresh);
  return FromWire(fresh);
}

Result<void> GoferInode::Set(const SetAttr& attr) {
  gofer::SetAttrRequest r;
  if (attr.mode) r.mask |= gofer::kSetMode, r.mode = *attr.mode;
  if (attr.uid) r.mask |= gofer::kSetUid, r.uid = *attr.uid;
  if (attr.gid) r.mask |= gofer::kSetGid, r.gid = *attr.gid;
  if (attr.size) r.mask |= gofer::kSetSize, r.size = *attr.size;
  if (attr.atime) {
    r.mask |= attr.atime->now ? gofer::kSetAtimeNow : gofer::kSetAtime;
    r.atime = {attr.atime->time.sec, static_cast<uint32_t>(attr.atime->time.nsec), 0};
  }
  if (attr.mtime) {
    r.mask |= attr.mtime->now ? gofer::kSetMtimeNow : gofer::kSetMtime;
    r.mtime = {attr.mtime->time.sec, static_cast<uint32_t>(attr.mtime->time.nsec), 0};
  }
  if (r.mask == 0) return {};
  const gofer::Attr fresh = TRY(client().SetAttr(handle_, r));
  Remember(fresh);
  return {};
}

Result<Ref<Inode>> GoferInode::Lookup(std::string_view name) {
  gofer::GoferNode node = TRY(client().Lookup(handle_, name));
  return Ref<Inode>(MakeRef<GoferInode>(gofer_fs(), std::move(node.handle), node.attr));
}

Result<Ref<Inode>> GoferInode::Create(std::string_view name, const NewInode& args) {
  gofer::CreateResult r = TRY(client().Create(handle_, name, O_RDWR | O_EXCL, ToWire(args)));
  Forget();
  Ref<GoferInode> inode = MakeRef<GoferInode>(gofer_fs(), std::move(r.node.handle), r.node.attr);
  if (r.fd.valid() && gofer_fs().exclusive()) {
    MutexLock lock(inode->mu_);
    inode->writer_ = MakeRef<DonatedFd>(std::move(r.fd));
    inode->reader_ = inode->writer_;
  }
  return Ref<Inode>(std::move(inode));
}

Result<Ref<Inode>> GoferInode::Mkdir(std::string_view name, const NewInode& args) {
  gofer::GoferNode node = TRY(client().Mkdir(handle_, name, ToWire(args)));
  Forget();
  return Ref<Inode>(MakeRef<GoferInode>(gofer_fs(), std::move(node.handle), node.attr));
}

Result<Ref<Inode>> GoferInode::Mknod(std::string_view name, const NewInode& args) {
  gofer::GoferNode node =
      TRY(client().Mknod(handle_, name, args.mode & S_IFMT, ToWire(args)));
  Forget();
  return Ref<Inode>(MakeRef<GoferInode>(gofer_fs(), std::move(node.handle), node.attr));
}

Result<Ref<Inode>> GoferInode::Symlink(std::string_view name, std::string_view target,
                                       const NewInode& args) {
  gofer::GoferNode node = TRY(client().Symlink(handle_, name, target, args.uid, args.gid));
  Forget();
  return Ref<Inode>(MakeRef<GoferInode>(gofer_fs(), std::move(node.handle), node.attr));
}

Result<void> GoferInode::Link(std::string_view name, Inode& target) {
  GoferInode& t = static_cast<GoferInode&>(target);
  const gofer::Attr fresh = TRY(client().Link(t.handle_, handle_, name));
  t.Remember(fresh);
  Forget();
  return {};
}

Result<void> GoferInode::Unlink(std::string_view name, Inode& child) {
  TRY(client().Unlink(handle_, name));
  Forget();
  static_cast<GoferInode&>(child).Forget();
  return {};
}

Result<void> GoferInode::Rmdir(std::string_view name, Inode& child) {
  TRY(client().Rmdir(handle_, name));
  Forget();
  static_cast<GoferInode&>(child).Forget();
  return {};
}

Result<void> GoferInode::Rename(std::string_view name, Inode& child, Inode& new_dir,
                                std::string_view new_name, Inode* replaced, uint32_t flags) {
  GoferInode& to = static_cast<GoferInode&>(new_dir);
  TRY(client().Rename(handle_, name, to.handle_, new_name, flags));
  Forget();
  to.Forget();
  static_cast<GoferInode&>(child).Forget();
  if (replaced != nullptr) static_cast<GoferInode*>(replaced)->Forget();
  return {};
}

Result<Ref<Inode>> GoferInode::TmpFile(const NewInode& args) {
  gofer::CreateResult r = TRY(client().CreateNameless(handle_, O_RDWR, ToWire(args)));
  Ref<GoferInode> inode = MakeRef<GoferInode>(gofer_fs(), std::move(r.node.handle), r.node.attr);
  if (r.fd.valid()) {
    MutexLock lock(inode->mu_);
    inode->writer_ = MakeRef<DonatedFd>(std::move(r.fd));
    inode->reader_ = inode->writer_;
  }
  return Ref<Inode>(std::move(inode));
}

Result<std::string> GoferInode::ReadLink() {
  if (!is_symlink()) return Errno(EINVAL);
  {
    MutexLock lock(mu_);
    if (!target_.empty()) return target_;
  }
  std::string target = TRY(client().ReadLink(handle_));
  if (gofer_fs().exclusive()) {
    MutexLock lock(mu_);
    target_ = target;
  }
  return target;
}

Result<Ref<DonatedFd>> GoferInode::Donated(bool write) {
  const bool keep = gofer_fs().exclusive();
  if (keep) {
    MutexLock lock(mu_);
    if (writer_) return Ref<DonatedFd>(*writer_);
    if (!write && reader_) return Ref<DonatedFd>(*reader_);
  }
  gofer::OpenResult opened = TRY(client().Open(handle_, write ? O_RDWR : O_RDONLY));
  Ref<DonatedFd> fd = MakeRef<DonatedFd>(std::move(opened.fd));
  if (keep) {
    MutexLock lock(mu_);
    (write ? writer_ : reader_) = fd;
  }
  return fd;
}

Result<Ref<File>> GoferInode::Open(const Path& path, uint32_t flags, const Credentials& creds) {
  switch (type()) {
    case S_IFDIR:
      return Ref<File>(MakeRef<GoferDirectoryFile>(path, flags));
    case S_IFREG: {
      Result<Ref<DonatedFd>> fd = Donated((flags & O_ACCMODE) != O_RDONLY);
      if (!fd.ok()) return fd.error();
      return Ref<File>(MakeRef<GoferRegularFile>(path, flags, std::move(*fd)));
    }
    default: {
      const Attr attr = TRY(GetAttr());
      return OpenSpecial(*this, path, flags, creds, attr.rdev);
    }
  }
}

Result<std::string> GoferInode::GetXattr(std::string_view name) {
  return client().GetXattr(handle_, name, gofer::kMaxXattrValue);
}

Result<void> GoferInode::SetXattr(std::string_view name, std::string_view value, int flags) {
  return client().SetXattr(handle_, name, value, static_cast<uint32_t>(flags));
}

Result<std::vector<std::string>> GoferInode::ListXattr() {
  const std::string names = TRY(client().ListXattr(handle_));
  std::vector<std::string> list;
  for (size_t at = 0; at < names.size();) {
    const size_t end = names.find('\0', at);
    if (end == std::string::npos) return Errno(EIO);
    list.push_back(names.substr(at, end - at));
    at = end + 1;
  }
  return list;
}

Result<void> GoferInode::RemoveXattr(std::string_view name) {
  return client().RemoveXattr(handle_, name);
}

}  // namespace ringwall
