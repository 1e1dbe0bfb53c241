// The inodes that /proc and /sys are made of: directories that are filled once, files whose text is
// made when it is read, symbolic links. The kinds that depend on tasks derive theirs.
#ifndef RINGWALL_FS_PROC_NODES_H_
#define RINGWALL_FS_PROC_NODES_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fs/vfs/file.h"
#include "fs/vfs/inode.h"

namespace ringwall {

// A file system without storage.
class SyntheticFs : public FileSystem {
 public:
  // type_name is static.
  SyntheticFs(std::string_view type_name, uint64_t magic) : name_(type_name), magic_(magic) {}
  std::string_view type_name() const override { return name_; }
  Ref<Inode> root() override { return Ref<Inode>(root_); }
  Result<StatFs> GetStatFs() override {
    StatFs s;
    s.type = magic_;
    return s;
  }
  void OnLastUnmount() override { root_.reset(); }
  void set_root(Ref<Inode> root) { root_ = std::move(root); }

 private:
  const std::string_view name_;
  const uint64_t magic_;
  RefPtr<Inode> root_;
};

struct Owner {
  Uid uid = 0;
  Gid gid = 0;
};

class SyntheticInode : public Inode {
 public:
  Result<Attr> GetAttr() override;
  // Each walk asks for it: without size and links, for which some list what they hold.
  Result<Attr> GetPermissionAttr() override;
  // Truncation does nothing; owners and modes stay.
  Result<void> Set(const SetAttr& attr) override;
  virtual Owner owner() { return {}; }
  uint64_t ino() const { return ino_; }
  uint32_t mode() const { return mode_; }

 protected:
  // mode: with the type.
  SyntheticInode(FileSystem& fs, uint32_t mode, uint64_t ino)
      : Inode(fs, mode), mode_(mode), ino_(ino), made_(CurrentTime()) {}
  virtual uint64_t size() { return 0; }
  // A directory's counts those below it: programs tell by task/ how many threads they have.
  virtual uint32_t nlink() { return is_directory() ? 2 : 1; }

 private:
  const uint32_t mode_;
  const uint64_t ino_;
  const Timespec made_;
};

// A number that is the same each time the same object is looked up.
uint64_t InoOf(uint64_t parent, std::string_view name);

struct DirEntry {
  std::string name;
  uint64_t ino;
  uint8_t type;  // DT_*
};

// A directory, in which names that are not there cannot be made: not even looked up (ENOENT). Entries()
// is asked once for each opening and again after a rewind.
class SyntheticDirectory : public SyntheticInode {
 public:
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;
  virtual Result<std::vector<DirEntry>> Entries() = 0;
  virtual Result<void> CheckOpen() { return {}; }
  Result<Ref<Inode>> Create(std::string_view, const NewInode&) override { return Errno(ENOENT); }
  Result<Ref<Inode>> Mkdir(std::string_view, const NewInode&) override { return Errno(ENOENT); }
  Result<Ref<Inode>> Symlink(std::string_view, std::string_view, const NewInode&) override {
    return Errno(ENOENT);
  }
  Result<void> Link(std::string_view, Inode&) override { return Errno(ENOENT); }
  Result<void> Rename(std::string_view, Inode&, Inode&, std::string_view, Inode* replaced,
                      uint32_t) override {
    return Errno(replaced == nullptr ? ENOENT : EPERM);
  }

 protected:
  using SyntheticInode::SyntheticInode;
  // nlink() of those whose entries come and go: 2, and the directories among them.
  uint32_t LinksOfEntries();
};

// What text files have in common by the place they are in.
struct TextStyle {
  // Whether epoll takes them, with what poll says: always ready (proc_reg_poll()), to read only, changed
  // until they are read (kernfs_generic_poll()), or EPERM.
  enum class Readiness : uint8_t { kAlways, kReadOnly, kOnceRead, kNone };
  // lseek: no end (seq_lseek()), any place (default_llseek()), not beyond 2 GiB (the file system's
  // s_maxbytes), nowhere (noop_llseek()).
  enum class Seeks : uint8_t { kSeq, kPlain, kSmall, kNowhere };
  Readiness readiness = Readiness::kAlways;
  Seeks seeks = Seeks::kSeq;
  // Files without a way to write: EACCES of the open, or this of the write.
  int write_error = EIO;
  uint64_t size = 0;  // that stat tells
  bool maps_as_eio = true;  // mmap; ENODEV else
  // The mode binds root, too (sysctl_perm()), and directories do not count those below.
  bool binds_root = false;
  uint32_t directory_mode = 0555;
};
inline constexpr TextStyle kNetStyle = {.write_error = 0};
inline constexpr TextStyle kSysctlStyle = {
    .seeks = TextStyle::Seeks::kPlain, .write_error = 0, .maps_as_eio = false, .binds_root = true};
inline constexpr TextStyle kSysfsStyle = {.readiness = TextStyle::Readiness::kOnceRead,
                                          .seeks = TextStyle::Seeks::kSmall,
                                          .write_error = 0,
                                          .size = 4096,
                                          .maps_as_eio = false,
                                          .directory_mode = 0755};
inline constexpr TextStyle kTaskStyle = {.readiness = TextStyle::Readiness::kNone,
                                         .write_error = EINVAL,
                                         .maps_as_eio = false};

// Filled before the file system is mounted, fixed from then on.
class StaticDirectory : public SyntheticDirectory {
 public:
  StaticDirectory(FileSystem& fs, uint64_t ino, uint32_t permissions = 0555)
      : SyntheticDirectory(fs, S_IFDIR | permissions, ino) {
    if (fs.type_name() == "sysfs") style_ = kSysfsStyle;
  }
  Result<Ref<Inode>> Lookup(std::string_view name) override;
  Result<std::vector<DirEntry>> Entries() override;
  Owner owner() override { return owner_ ? owner_() : Owner{}; }
  std::optional<Result<void>> CheckPermission(const Credentials&, uint32_t want) override {
    // Who makes or removes names asks to search as well, and hears of the names first.
    if (style_.binds_root && (want & (kMayWrite | kMayExec)) == kMayWrite) return Result<void>(Errno(EACCES));
    return std::nullopt;
  }
  void set_owner(std::function<Owner()> owner) { owner_ = std::move(owner); }
  // Of the files that are added from now on, and of the directories below.
  void set_style(const TextStyle& style) { style_ = style; }

  void Add(std::string_view name, Ref<SyntheticInode> child);
  Ref<StaticDirectory> AddDirectory(std::string_view name);
  void AddLink(std::string_view name, std::string target);
  void AddText(std::string_view name, std::string text, uint32_t permissions = 0444);
  void AddFile(std::string_view name, std::function<Result<std::string>()> read,
               uint32_t permissions = 0444,
               std::function<Result<void>(std::string_view)> write = nullptr);
  uint32_t nlink() override { return style_.binds_root ? 1 : 2 + directories_; }

 private:
  std::map<std::string, Ref<SyntheticInode>, std::less<>> children_;
  uint32_t directories_ = 0;  // of children_
  TextStyle style_;
  std::function<Owner()> owner_;
};

// What a text file does. All but `read` may be null.
struct TextOps {
  std::function<Result<std::string>()> read;
  std::function<Result<void>(std::string_view)> write;
  // Instead of `write`, for files that ask who opened them.
  std::function<Result<void>(std::string_view, const Credentials& opener)> write_as;
  std::function<Result<void>()> check_open;
  std::function<Result<void>()> check_write_open;
  std::function<Owner()> owner;
  // For files that tell of changes by EPOLLPRI: asked when the file is opened.
  struct Watch {
    RefPtr<RefCountedBase> keeps;  // the two below alive
    WaitQueue* queue = nullptr;
    std::function<uint64_t()> generation;
  };
  std::function<Result<Watch>()> watch;
  std::function<Result<int64_t>(Task&, uint32_t cmd, uint64_t arg)> ioctl;
  // Made when the file is opened and not with the first read: for what needs locks that come before
  // a file's offset (mounts, the offsets of other files).
  bool at_open = false;
  TextStyle style;
};

class TextInode final : public SyntheticInode {
 public:
  TextInode(FileSystem& fs, uint64_t ino, uint32_t permissions, TextOps ops)
      : SyntheticInode(fs, S_IFREG | permissions, ino), ops_(std::move(ops)) {}
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;
  Owner owner() override { return ops_.owner ? ops_.owner() : Owner{}; }
  std::optional<Result<void>> CheckPermission(const Credentials&, uint32_t want) override {
    const bool nobody = (mode() & 0222) == 0 && (want & kMayWrite) != 0;
    if (ops_.style.binds_root && nobody) return Result<void>(Errno(EACCES));
    return std::nullopt;
  }
  const TextOps& ops() const { return ops_; }

 protected:
  uint64_t size() override { return ops_.style.size; }

 private:
  const TextOps ops_;
};

class LinkInode final : public SyntheticInode {
 public:
  struct Ops {
    std::function<Result<std::string>()> read;
    std::function<Result<Path>()> follow;  // null: an ordinary link
    std::function<Owner()> owner;
    uint64_t size = 0;  // that stat tells
  };
  LinkInode(FileSystem& fs, uint64_t ino, uint32_t permissions, Ops ops)
      : SyntheticInode(fs, S_IFLNK | permissions, ino), ops_(std::move(ops)) {}
  Result<std::string> ReadLink() override { return ops_.read(); }
  std::optional<Result<Path>> FollowMagic(Task*) override {
    if (!ops_.follow) return std::nullopt;
    return ops_.follow();
  }
  Result<Ref<File>> Open(const Path&, uint32_t, const Credentials&) override {
    return Errno(ELOOP);
  }
  Owner owner() override { return ops_.owner ? ops_.owner() : Owner{}; }

 protected:
  uint64_t size() override { return ops_.size; }

 private:
  const Ops ops_;
};

// printf into a string.
std::string Format(const char* format, ...) __attribute__((format(printf, 1, 2)));
void AppendFormat(std::string* out, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

}  // namespace ringwall

#endif  // RINGWALL_FS_PROC_NODES_H_
