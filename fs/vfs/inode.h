// Inode: one object of a file system (a file, directory, device ...). Each file system derives its
// own; fs/vfs checks permissions, mounts and read-only flags before it calls here, so an Inode only
// does what it is told and keeps itself consistent under its own lock.
//
// Names handed to directory operations were checked: not empty, no '/', not "." or "..", at most
// 255 bytes. The VFS serialises changes of one directory (Dentry's directory lock), but an Inode may
// be called through two file systems (an overlay and its layer), so it locks for itself too.
#ifndef RINGWALL_FS_VFS_INODE_H_
#define RINGWALL_FS_VFS_INODE_H_

#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fs/vfs/io.h"
#include "sentry/auth/credentials.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/base/wait_queue.h"

namespace ringwall {

class Dentry;
class File;
class FileLocks;
class InotifyMarks;
class Inode;
class Path;
class Task;

struct Timespec {
  int64_t sec = 0;
  int64_t nsec = 0;
  friend bool operator==(Timespec, Timespec) = default;
};

// The time that files are stamped with (the kernel's coarse clock, as on Linux).
Timespec CurrentTime();
// relatime: whether a read moves an access time.
bool AtimeIsStale(Timespec atime, Timespec mtime, Timespec ctime, Timespec now);

// The attributes of an inode, as statx(2) gives them.
struct Attr {
  uint64_t ino = 0;
  uint32_t mode = 0;  // type and permission bits
  uint32_t nlink = 1;
  Uid uid = 0;
  Gid gid = 0;
  uint64_t rdev = 0;  // makedev(major, minor)
  uint64_t size = 0;
  uint64_t blocks = 0;  // of 512 bytes
  uint32_t blksize = 4096;
  Timespec atime, mtime, ctime;
  std::optional<Timespec> btime;
  uint64_t dev = 0;  // filled by the VFS from the file system when 0
};

// What setattr changes; the VFS has checked that the caller may.
struct SetAttr {
  std::optional<uint32_t> mode;  // permission bits, 07777
  std::optional<Uid> uid;
  std::optional<Gid> gid;
  std::optional<uint64_t> size;
  // A time with `now` set means the current time.
  struct Time {
    bool now = false;
    Timespec time;
  };
  std::optional<Time> atime, mtime;
};

// What a new object starts with; the VFS has applied the umask and set-gid inheritance.
struct NewInode {
  uint32_t mode = 0;  // type and permission bits
  Uid uid = 0;
  Gid gid = 0;
  uint64_t rdev = 0;
};

struct StatFs {
  uint64_t type = 0, bsize = 4096, blocks = 0, bfree = 0, bavail = 0, files = 0, ffree = 0;
  uint64_t namelen = 255, frsize = 4096, flags = 0;
};

// One mounted instance of a file system (struct super_block).
class FileSystem : public RefCounted<FileSystem> {
 public:
  virtual std::string_view type_name() const = 0;  // as in /proc/mounts: "tmpfs"
  virtual Ref<Inode> root() = 0;
  virtual Result<StatFs> GetStatFs() = 0;
  virtual Result<void> Sync() { return {}; }
  // A remount's options. EINVAL for those that it does not know.
  virtual Result<void> Reconfigure(std::string_view data) {
    if (!data.empty()) return Errno(EINVAL);
    return {};
  }
  // Read-only as a whole (SB_RDONLY), whatever its mounts say.
  bool read_only() const { return read_only_.load(std::memory_order_relaxed); }
  void set_read_only(bool on) { read_only_.store(on, std::memory_order_relaxed); }
  // Of whom has mounted it: elsewhere its set-id bits and device nodes mean nothing. Set before it
  // is mounted.
  UserNamespace& user_ns() const { return *user_ns_; }
  void set_user_ns(Ref<UserNamespace> ns) { user_ns_ = std::move(ns); }
  // Options for /proc/mounts beyond ro/rw, without a leading comma.
  virtual std::string mount_options() const { return {}; }
  // The last mount of it is gone: drop the references to its own inodes (each of them holds the
  // file system), so that it ends when the last of them does.
  virtual void OnLastUnmount() {}
  // The st_dev of its files: an anonymous device number (0, n), unique in the sandbox.
  uint64_t dev() const { return dev_; }
  // One rename between directories at a time.
  Mutex<LockClass::kRename>& rename_lock() { return rename_mu_; }

  // Mount's: counts mounts. RemoveMount says whether it was the last.
  void AddMount() { mounts_.fetch_add(1, std::memory_order_relaxed); }
  bool RemoveMount() { return mounts_.fetch_sub(1, std::memory_order_acq_rel) == 1; }

 protected:
  FileSystem();

 private:
  const uint64_t dev_;
  std::atomic<int> mounts_{0};
  std::atomic<bool> read_only_{false};
  Ref<UserNamespace> user_ns_{UserNamespace::Initial()};
  Mutex<LockClass::kRename> rename_mu_;
};

struct OpenCounts {
  int32_t writers, readers;
};

class Inode : public RefCounted<Inode> {
 public:
  ~Inode() override;

  FileSystem& fs() const { return *fs_; }
  // The file type bits (S_IFMT) never change.
  uint32_t type() const { return type_; }
  bool is_directory() const { return type_ == S_IFDIR; }
  bool is_regular() const { return type_ == S_IFREG; }
  bool is_symlink() const { return type_ == S_IFLNK; }
  // A node whose contents are not the file system's: writing through it changes no file.
  bool is_special() const {
    return type_ == S_IFCHR || type_ == S_IFBLK || type_ == S_IFIFO || type_ == S_IFSOCK;
  }

  // Tells special kinds of inodes (and so their Files) apart without RTTI: the address of a constant
  // of the class, null for ordinary ones.
  virtual const void* kind() const { return nullptr; }

  virtual Result<Attr> GetAttr() = 0;
  virtual Result<void> Set(const SetAttr& attr) = 0;
  // What permission checks read; override when it is cheaper than GetAttr.
  virtual Result<Attr> GetPermissionAttr() { return GetAttr(); }
  // May decide instead of the mode bits (proc's fd directories, ACLs): nullopt means "use the mode".
  virtual std::optional<Result<void>> CheckPermission(const Credentials&, uint32_t /*want*/) {
    return std::nullopt;
  }

  // --- Directories. The defaults return ENOTDIR (a non-directory) or EPERM (one that cannot).

  // How long a dentry made from Lookup may be believed.
  enum class Caching : uint8_t {
    kForever,    // every change goes through this VFS
    kRevalidate  // call Lookup again on each walk; an equal Inode keeps its dentry
  };
  virtual Caching caching() const { return Caching::kForever; }
  // ENOENT when there is no such name. The name was found missing for good when caching() is
  // kForever: the VFS keeps a negative dentry.
  virtual Result<Ref<Inode>> Lookup(std::string_view name);
  virtual Result<Ref<Inode>> Create(std::string_view name, const NewInode& args);  // S_IFREG
  virtual Result<Ref<Inode>> Mkdir(std::string_view name, const NewInode& args);
  virtual Result<Ref<Inode>> Mknod(std::string_view name, const NewInode& args);
  virtual Result<Ref<Inode>> Symlink(std::string_view name, std::string_view target,
                                     const NewInode& args);
  virtual Result<void> Link(std::string_view name, Inode& target);
  virtual Result<void> Unlink(std::string_view name, Inode& child);
  virtual Result<void> Rmdir(std::string_view name, Inode& child);
  // Moves `child` from here to new_dir, replacing `replaced` (null when there is none). flags:
  // RENAME_NOREPLACE was handled, RENAME_EXCHANGE and RENAME_WHITEOUT are passed: EINVAL when not
  // supported. Type and emptiness rules are the file system's: ENOTEMPTY, EISDIR, ENOTDIR were
  // checked by the VFS but for emptiness.
  virtual Result<void> Rename(std::string_view name, Inode& child, Inode& new_dir,
                              std::string_view new_name, Inode* replaced, uint32_t flags);
  // An unnamed regular file (O_TMPFILE). EOPNOTSUPP by default.
  virtual Result<Ref<Inode>> TmpFile(const NewInode& args);

  // Whether link(2) may give a file without a name one (I_LINKABLE): O_TMPFILE without O_EXCL, once.
  // The VFS's; Link itself does as it is told.
  void set_linkable(bool on) { linkable_.store(on, std::memory_order_relaxed); }
  bool linkable() const { return linkable_.load(std::memory_order_relaxed); }

  // --- Symbolic links.
  virtual Result<std::string> ReadLink();  // EINVAL by default
  // Magic links of /proc (fd, exe, cwd, root): where following leads. nullopt: an ordinary link.
  virtual std::optional<Result<Path>> FollowMagic(Task* task);

  // --- Opening. Flags are open(2)'s; access was checked, O_TRUNC was done by Set(size=0) before.
  // `path` is where it was opened.
  virtual Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) = 0;

  // --- Extended attributes. EOPNOTSUPP by default. flags: XATTR_CREATE, XATTR_REPLACE.
  virtual Result<std::string> GetXattr(std::string_view name);  // ENODATA
  virtual Result<void> SetXattr(std::string_view name, std::string_view value, int flags);
  virtual Result<std::vector<std::string>> ListXattr();
  virtual Result<void> RemoveXattr(std::string_view name);

  // FS_*_FL of chattr(1): FS_IMMUTABLE_FL and FS_APPEND_FL are the VFS's to heed. ENOTTY where the
  // file system keeps none.
  virtual Result<void> SetFileFlags(uint32_t) { return Errno(ENOTTY); }
  virtual bool keeps_file_flags() const { return false; }
  uint32_t file_flags() const { return flags_.load(std::memory_order_relaxed) & ~kOwnFlags; }
  // Whether an access control list of either kind may be there.
  bool has_acl() const { return (flags_.load(std::memory_order_relaxed) & kAclFlag) != 0; }

  // F_SET_RW_HINT: RWH_WRITE_LIFE_*. Kept, without effect.
  uint8_t write_hint() const { return write_hint_.load(std::memory_order_relaxed); }
  void set_write_hint(uint8_t hint) { write_hint_.store(hint, std::memory_order_relaxed); }
  // Whether a write need not look for file capabilities (S_NOSEC): the VFS's.
  bool lacks_file_caps() const { return (flags_.load(std::memory_order_acquire) & kNoCapsFlag) != 0; }
  void set_lacks_file_caps(bool on) {
    if (on) {
      flags_.fetch_or(kNoCapsFlag);
    } else {
      flags_.fetch_and(~kNoCapsFlag);
    }
  }

  // POSIX, OFD and flock locks, leases. Made on first use.
  FileLocks& locks();
  FileLocks* locks_if_any() const { return locks_.load(std::memory_order_acquire); }
  // inotify watches on this inode, null while nobody watches.
  InotifyMarks* marks() const { return marks_.load(std::memory_order_acquire); }
  InotifyMarks& MakeMarks();

  // Files that are open on it: it is not gone before the last of them. File's.
  void AddOpenFile() { open_files_.fetch_add(1, std::memory_order_relaxed); }
  // True: that was the last.
  bool RemoveOpenFile() { return open_files_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
  bool has_open_files() const { return open_files_.load(std::memory_order_acquire) > 0; }

  // Who has a regular file open by name (i_writecount, i_readcount): Files that may write, Files that
  // may only read. ETXTBSY while it is being executed, and the reverse.
  Result<void> GetWriteAccess();
  void PutWriteAccess() { writers_.fetch_sub(1); }
  void AddReader() { readers_.fetch_add(1, std::memory_order_relaxed); }
  void RemoveReader() { readers_.fetch_sub(1, std::memory_order_relaxed); }
  Result<void> DenyWriting();
  void AllowWriting() { write_deniers_.fetch_sub(1); }
  OpenCounts open_counts() const { return {writers_.load(), readers_.load()}; }

  // The bound AF_UNIX socket of an S_IFSOCK inode, or a named pipe's pipe: state that belongs to
  // the sandbox, not to the file system.
  RefPtr<RefCountedBase> attachment() const;
  // Returns the one that stays: `fresh` when there was none.
  Ref<RefCountedBase> AttachOnce(Ref<RefCountedBase> fresh);
  void Detach();

 protected:
  Inode(FileSystem& fs, uint32_t type) : fs_(fs), type_(type & S_IFMT) {}

  // Tells the permission checks what GetPermissionAttr would, so that a path walk need not ask.
  // For file systems that see every change and decide by the mode bits alone; called at the start
  // and after each change.
  void PublishPermission(uint32_t mode, Uid uid, Gid gid);
  // From now on permission checks ask again (an ACL was set).
  void UnpublishPermission() { permission_.store(0, std::memory_order_release); }
  void set_file_flags(uint32_t flags) {
    uint32_t old = flags_.load(std::memory_order_relaxed);
    while (!flags_.compare_exchange_weak(old, (flags & ~kOwnFlags) | (old & kOwnFlags))) {
    }
  }
  void set_has_acl(bool on) {
    if (on) {
      flags_.fetch_or(kAclFlag, std::memory_order_relaxed);
      UnpublishPermission();
    } else {
      flags_.fetch_and(~kAclFlag, std::memory_order_relaxed);
    }
  }

 private:
  friend class PermissionView;
  const Ref<FileSystem> fs_;
  const uint32_t type_;
  static constexpr uint32_t kAclFlag = 1u << 31, kNoCapsFlag = 1u << 27;
  static constexpr uint32_t kOwnFlags = kAclFlag | kNoCapsFlag;
  std::atomic<uint32_t> flags_{0};  // FS_*_FL and kOwnFlags
  std::atomic<bool> linkable_{false};
  std::atomic<uint8_t> write_hint_{0};
  std::atomic<int32_t> open_files_{0};
  std::atomic<int32_t> writers_{0}, readers_{0}, write_deniers_{0};
  std::atomic<uint32_t> permission_{0};  // mode bits and kPublished
  std::atomic<uint64_t> owner_{0};       // uid << 32 | gid
  std::atomic<const std::string*> link_target_{nullptr};
  std::atomic<FileLocks*> locks_{nullptr};
  std::atomic<InotifyMarks*> marks_{nullptr};
  std::atomic<RefCountedBase*> attachment_{nullptr};
};

// The right to write for a moment: of a truncation, or of an open until its File has it.
class WriteAccess {
 public:
  static Result<WriteAccess> Get(Inode& inode, bool wanted) {
    if (!wanted) return WriteAccess(nullptr);
    TRY(inode.GetWriteAccess());
    return WriteAccess(&inode);
  }
  WriteAccess(WriteAccess&& o) noexcept : inode_(std::exchange(o.inode_, nullptr)) {}
  ~WriteAccess() {
    if (inode_ != nullptr) inode_->PutWriteAccess();
  }

 private:
  explicit WriteAccess(Inode* inode) : inode_(inode) {}
  Inode* inode_;
};

// The permission word and the symlink target that the lock-free walk reads.
class PermissionView {
 public:
  static constexpr uint32_t kPublished = 1u << 31;
  explicit PermissionView(const Inode& inode) : inode_(inode) {}
  // 0 when nothing is published, else the mode with kPublished.
  uint32_t mode() const { return inode_.permission_.load(std::memory_order_acquire); }
  Uid uid() const { return static_cast<Uid>(owner() >> 32); }
  Gid gid() const { return static_cast<Gid>(owner()); }
  // Null until somebody has stored it. Only for links whose target never changes.
  const std::string* link_target() const {
    return inode_.link_target_.load(std::memory_order_acquire);
  }
  static void StoreLinkTarget(Inode& inode, const std::string& target);

 private:
  uint64_t owner() const { return inode_.owner_.load(std::memory_order_acquire); }
  const Inode& inode_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_INODE_H_
