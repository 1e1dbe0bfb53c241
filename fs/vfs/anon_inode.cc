#include "fs/vfs/anon_inode.h"

#include "fs/vfs/file.h"
#include "fs/vfs/mount.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

namespace {

constexpr uint64_t kAnonInodeMagic = 0x09041934;  // ANON_INODE_FS_MAGIC

class AnonFileSystem final : public FileSystem {
 public:
  std::string_view type_name() const override { return "anon_inodefs"; }
  Ref<Inode> root() override {
    return MakeRef<AnonInode>(uint32_t{S_IFDIR | 0555}, Uid{0}, Gid{0});
  }
  Result<StatFs> GetStatFs() override {
    StatFs s;
    s.type = kAnonInodeMagic;
    return s;
  }
};

// Lives as long as the Sentry.
AnonFileSystem& anon_fs() {
  static AnonFileSystem* fs = MakeRef<AnonFileSystem>().Leak();
  return *fs;
}

const Ref<Mount>& anon_mount() {
  static auto* mount = new Ref<Mount>(
      MakeRef<Mount>(Ref<FileSystem>(anon_fs()), Dentry::MakeRoot(anon_fs().root()), 0, "none"));
  return *mount;
}

}  // namespace

uint32_t LargeFileFlag(const File& file) {
  constexpr uint32_t kLargeFile = 0100000;
  // Only open(2) sets it, which is not how these are had.
  FileSystem& fs = file.inode().fs();
  // The other end of a terminal that TIOCGPTPEER opened.
  if (file.path() && file.inode().type() == S_IFCHR && &file.path().mount().fs() == &anon_fs()) return 0;
  if ((file.flags() & O_PATH) != 0 || &fs == &anon_fs() || fs.type_name() == "mqueue") return 0;
  return kLargeFile;
}

uint64_t NextAnonymousIno() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

AnonInode::AnonInode(uint32_t mode, Uid uid, Gid gid)
    : Inode(anon_fs(), mode), ino_(NextAnonymousIno()) {
  attr_.ino = ino_;
  attr_.mode = mode;
  attr_.uid = uid;
  attr_.gid = gid;
  attr_.atime = attr_.mtime = attr_.ctime = CurrentTime();
}

Result<Attr> AnonInode::GetAttr() {
  MutexLock lock(mu_);
  return attr_;
}

Result<void> AnonInode::Set(const SetAttr& set) {
  if (set.size) return Errno(EINVAL);
  MutexLock lock(mu_);
  if (set.mode) attr_.mode = (attr_.mode & ~07777u) | (*set.mode & 07777);
  if (set.uid) attr_.uid = *set.uid;
  if (set.gid) attr_.gid = *set.gid;
  return {};
}

Result<Ref<File>> AnonInode::Open(const Path&, uint32_t, const Credentials&) {
  return Errno(ENXIO);
}

Path AnonymousPath(Ref<Inode> inode, std::string name) {
  return Path(anon_mount(), Dentry::MakeRoot(std::move(inode), name));
}

}  // namespace ringwall
