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

// A directory. Entries() is asked once for each opening and again after a rewind.
class SyntheticDirectory : public SyntheticInode {
 public:
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;
  virtual Result<std::vector<DirEntry>> Entries() = 0;
  virtual Result<void> CheckOpen() { return {}; }
  Result<Ref<Inode>> Create(std::string_view, const NewInode&) override { return Errno(ENOENT); }
  Result<Ref<Inode>> Mkdir(std::string_view, const NewInode&) override { return Errno(ENOENT); }

 protected:
  using SyntheticInode::SyntheticInode;
};

// Filled before the file system is mounted, fixed from then on.
class StaticDirectory : public SyntheticDirectory {
 public:
  StaticDirectory(FileSystem& fs, uint64_t ino, uint32_t permissions = 0555)
      : SyntheticDirectory(fs, S_IFDIR | permissions, ino) {}
  Result<Ref<Inode>> Lookup(std::string_view name) override;
  Result<std::vector<DirEntry>> Entries() override;

  void Add(std::string_view name, Ref<SyntheticInode> child);
  Ref<StaticDirectory> AddDirectory(std::string_view name);
  void AddLink(std::string_view name, std::string target);
  void AddText(std::string_view name, std::string text, uint32_t permissions = 0444);
  void AddFile(std::string_view name, std::function<Result<std::string>()> read,
               uint32_t permissions = 0444,
               std::function<Result<void>(std::string_view)> write = nullptr);

 private:
  std::map<std::string, Ref<SyntheticInode>, std::less<>> children_;
};

// What a text file does. All but `read` may be null.
struct TextOps {
  std::function<Result<std::string>()> read;
  std::function<Result<void>(std::string_view)> write;
  // Instead of `write`, for files that ask who opened them.
  std::function<Result<void>(std::string_view, const Credentials& opener)> write_as;
  std::function<Result<void>()> check_open;
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
  // Files without a way to write: EACCES of the open, or this of the write.
  int write_error = 0;
  // Whether epoll takes them, with what poll says: those of tasks cannot be waited for, all others are
  // ready (proc_reg_poll()), and those of /sys have changed until they are read (kernfs_generic_poll()).
  enum class Readiness : uint8_t { kAlways, kReadOnly, kOnceRead, kNone };
  Readiness readiness = Readiness::kAlways;
};

class TextInode final : public SyntheticInode {
 public:
  TextInode(FileSystem& fs, uint64_t ino, uint32_t permissions, TextOps ops)
      : SyntheticInode(fs, S_IFREG | permissions, ino), ops_(std::move(ops)) {}
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;
  Owner owner() override { return ops_.owner ? ops_.owner() : Owner{}; }
  const TextOps& ops() const { return ops_; }

 private:
  const TextOps ops_;
};

class LinkInode final : public SyntheticInode {
 public:
  struct Ops {
    std::function<Result<std::string>()> read;
    std::function<Result<Path>()> follow;  // null: an ordinary link
    std::function<Owner()> owner;
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

 private:
  const Ops ops_;
};

// printf into a string.
std::string Format(const char* format, ...) __attribute__((format(printf, 1, 2)));
void AppendFormat(std::string* out, const char* format, ...)
    __attribute__((format(printf, 2, 3)));

}  // namespace ringwall

#endif  // RINGWALL_FS_PROC_NODES_H_
