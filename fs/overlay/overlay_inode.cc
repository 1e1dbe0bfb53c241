// Attributes, opening and extended attributes.
#include "fs/overlay/overlay_inode.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "fs/vfs/host_sockets.h"
#include "fs/vfs/special_files.h"

namespace ringwall {

OverlayInode::OverlayInode(OverlayFileSystem& fs, RefPtr<Inode> upper,
                           std::vector<Ref<Inode>> lowers, RefPtr<OverlayInode> parent,
                           std::string_view name, const Attr& attr, uint64_t ino)
    : Inode(fs, attr.mode),
      overlay_(fs),
      ino_(ino),
      upper_(upper.Leak()),
      lowers_(std::move(lowers)),
      lower_links_(!is_directory() && attr.nlink > 1),
      parent_(std::move(parent)),
      name_(name) {
  if (upper_.load(std::memory_order_relaxed) == nullptr && !is_directory()) {
    lower_names_.store(attr.nlink, std::memory_order_relaxed);
  }
  if (caching() == Caching::kForever) PublishPermission(attr.mode, attr.uid, attr.gid);
}

OverlayInode::~OverlayInode() {
  overlay_.Forget(*this);
  if (Inode* upper = upper_.load(std::memory_order_relaxed)) upper->Release();
}

Inode::Caching OverlayInode::caching() const {
  // Only the lower layers can change without us.
  for (const Ref<Inode>& lower : lowers_) {
    if (lower->caching() != Caching::kForever) return Caching::kRevalidate;
  }
  return Caching::kForever;
}

void OverlayInode::Publish() {
  if (const Inode* upper_part = upper()) {
    set_has_acl(upper_part->has_acl());
    set_file_flags(upper_part->file_flags());
  }
  if (caching() != Caching::kForever) return;
  const Result<Attr> attr = real().GetPermissionAttr();
  if (attr.ok()) {
    PublishPermission(attr->mode, attr->uid, attr->gid);
  } else {
    UnpublishPermission();
  }
}

Result<Attr> OverlayInode::GetAttr() {
  Inode* const upper_part = upper();
  Attr attr = TRY(real().GetAttr());
  attr.ino = ino_;
  attr.dev = 0;
  if (is_directory()) {
    // The count of a merged directory would take a listing; 1 says that it is not known.
    if (upper_part != nullptr && !lowers_.empty()) attr.nlink = 1;
    if (gone_.load(std::memory_order_relaxed)) attr.nlink = 0;
  } else {
    attr.nlink = (upper_part != nullptr ? attr.nlink : 0) +
                 lower_names_.load(std::memory_order_relaxed);
  }
  return attr;
}

Result<void> OverlayInode::Set(const SetAttr& set) {
  TRY(CopyUp(set.size && *set.size == 0 ? Contents::kSkip : Contents::kCopy));
  TRY(upper()->Set(set));
  Publish();
  return {};
}

Result<void> OverlayInode::SetFileFlags(uint32_t flags) {
  TRY(CopyUp());
  TRY(upper()->SetFileFlags(flags));
  Publish();
  return {};
}

Result<Ref<File>> OverlayInode::Open(const Path& path, uint32_t flags, const Credentials& creds) {
  switch (type()) {
    case S_IFDIR:
      return MakeOverlayDirFile(path, flags, *this);
    case S_IFREG:
      break;
    default: {
      const Attr attr = TRY(real().GetAttr());
      return OpenSpecial(*this, path, flags, creds, attr.rdev);
    }
  }
  if ((flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR) TRY(CopyUp());
  if (Inode* upper_part = upper()) return upper_part->Open(path, flags, creds);
  Ref<File> lower = TRY(lowers_[0]->Open(path, flags, creds));
  return MakeOverlayLowerFile(path, flags, *this, std::move(lower));
}

Result<std::string> OverlayInode::GetXattr(std::string_view name) {
  if (name.starts_with(overlay_.options().xattr_prefix)) return Errno(ENODATA);
  return real().GetXattr(name);
}

Result<void> OverlayInode::SetXattr(std::string_view name, std::string_view value, int flags) {
  if (name.starts_with(overlay_.options().xattr_prefix)) return Errno(EPERM);
  TRY(CopyUp());
  TRY(upper()->SetXattr(name, value, flags));
  Publish();
  return {};
}

Result<std::vector<std::string>> OverlayInode::ListXattr() {
  std::vector<std::string> names = TRY(real().ListXattr());
  std::erase_if(names, [&](const std::string& n) {
    return n.starts_with(overlay_.options().xattr_prefix);
  });
  return names;
}

Result<void> OverlayInode::RemoveXattr(std::string_view name) {
  if (name.starts_with(overlay_.options().xattr_prefix)) return Errno(EPERM);
  if (upper() == nullptr) TRY(real().GetXattr(name));  // ENODATA before anything is copied
  TRY(CopyUp());
  TRY(upper()->RemoveXattr(name));
  Publish();
  return {};
}

namespace {

class OverlayLowerFile final : public File {
 public:
  OverlayLowerFile(const Path& path, uint32_t flags, OverlayInode& inode, Ref<File> lower)
      : File(path, flags), inode_(inode), lower_(std::move(lower)) {}
  ~OverlayLowerFile() override {
    if (File* upper = upper_.load(std::memory_order_relaxed)) upper->Release();
  }
  bool seekable() const override { return true; }
  Result<size_t> Read(IoDst& dst, uint64_t pos, int rw_flags) override {
    File* file = TRY(Current());
    return file->Read(dst, pos, rw_flags);
  }
  Result<int64_t> Seek(int64_t offset, int whence) override NO_THREAD_SAFETY_ANALYSIS {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return File::Seek(offset, whence);
    File* file = TRY(Current());
    return file->Seek(offset, whence);
  }
  Result<HostMapping> Map(uint64_t offset, uint64_t length, int prot, bool shared) override {
    File* file = TRY(Current());
    return file->Map(offset, length, prot, shared);
  }
  // Mappings may be of either: each knows its own.
  bool Fault(const HostMapping& byte) override {
    File* const upper = upper_.load(std::memory_order_acquire);
    return lower_->Fault(byte) || (upper != nullptr && upper->Fault(byte));
  }
  bool LacksMemory() const override {
    const File* const upper = upper_.load(std::memory_order_acquire);
    return lower_->LacksMemory() || (upper != nullptr && upper->LacksMemory());
  }
  Result<void> Fsync(bool data_only) override {
    File* file = TRY(Current());
    return file->Fsync(data_only);
  }
  Result<void> Flush() override {
    Result<void> flushed = lower_->Flush();
    if (File* upper = upper_.load(std::memory_order_acquire)) TRY(upper->Flush());
    return flushed;
  }

 private:
  // The lower file until there is an upper one.
  Result<File*> Current() {
    File* file = upper_.load(std::memory_order_acquire);
    if (file != nullptr) return file;
    Inode* const upper_part = inode_->upper();
    if (upper_part == nullptr) return lower_.get();
    // Permission was checked when this file was opened.
    const Ref<const Credentials> root = Credentials::Root();
    Ref<File> fresh = TRY(upper_part->Open(path(), O_RDONLY | (flags() & O_NOATIME), *root));
    if (upper_.compare_exchange_strong(file, fresh.get(), std::memory_order_acq_rel)) {
      return fresh.Leak();
    }
    return file;
  }

  const Ref<OverlayInode> inode_;
  const Ref<File> lower_;  // its mappings live as long as this does
  std::atomic<File*> upper_{nullptr};  // holds a reference
};

}  // namespace

Ref<File> MakeOverlayLowerFile(const Path& path, uint32_t flags, OverlayInode& inode,
                               Ref<File> lower) {
  return MakeRef<OverlayLowerFile>(path, flags, inode, std::move(lower));
}

namespace {

std::optional<Result<UniqueFd>> ConnectLower(Inode& inode, int type) {
  if (inode.kind() != &OverlayInode::kKind || inode.type() != S_IFSOCK) return std::nullopt;
  const auto& node = static_cast<OverlayInode&>(inode);
  if (node.upper() != nullptr || node.lowers().empty()) return std::nullopt;
  return ConnectHostSocket(*node.lowers()[0], type);
}

constexpr HostSocketHooks kHooks = {ConnectLower, nullptr};

}  // namespace

void OverlayFileSystem::OfferHostSockets() { RegisterHostSockets(kHooks); }

}  // namespace ringwall
