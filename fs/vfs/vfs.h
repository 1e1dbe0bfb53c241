// The operations on paths that system calls use (fs/namei.c, fs/open.c). Each takes a Walk: who
// asks, in which root and directory. Blocking: only for the host (gofer). All return Linux's errnos.
#ifndef RINGWALL_FS_VFS_VFS_H_
#define RINGWALL_FS_VFS_VFS_H_

#include <string>
#include <string_view>

#include "fs/vfs/file.h"
#include "fs/vfs/mount.h"
#include "fs/vfs/path.h"
#include "sentry/auth/credentials.h"

namespace ringwall {

struct LeaseWait;

inline constexpr size_t kPathMax = 4096;  // with the terminating NUL
inline constexpr size_t kNameMax = 255;
inline constexpr int kMaxSymlinks = 40;

// Who walks and from where. Cheap to make for one system call; borrows.
struct Walk {
  const Credentials& creds;
  MountNamespace& mounts;
  const Path& root;
  const Path& start;  // cwd, or the directory of an *at() call
  Task* task = nullptr;  // for magic links of /proc; null in the Sentry's own walks
  uint64_t resolve = 0;  // openat2's RESOLVE_*
  // Taken off the mode of new objects, unless their directory has a default ACL. The Sentry's own
  // walks have none.
  uint32_t umask = 0;
};

struct LookupFlags {
  bool follow_last = true;     // follow a symlink in the last component
  bool directory = false;      // the last must be a directory (also by a trailing slash)
  bool allow_empty = false;    // AT_EMPTY_PATH: "" means the start
  bool no_automount = false;
  bool keep_expiry = false;    // of mount and umount themselves: no use of the mount (MNT_EXPIRE)
};

class Vfs {
 public:
  // The existing object at `path`. ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG, EXDEV (RESOLVE_*).
  static Result<Path> Lookup(const Walk& walk, std::string_view path, LookupFlags flags);

  // build_open_flags(): what flags cannot go together (EINVAL), before the path is looked at. Takes out
  // what O_PATH ignores.
  static Result<void> CheckOpenFlags(uint32_t* flags);
  // open(2). mode: permission bits for O_CREAT, the umask applied. While a lease is in the way and
  // without O_NONBLOCK: EAGAIN with *wait filled in (fs/vfs/leases.h).
  static Result<Ref<File>> Open(const Walk& walk, std::string_view path, uint32_t flags,
                                uint32_t mode, LeaseWait* wait);
  // Opens what a Path already names (execve's files, /proc/PID/fd, magic links).
  static Result<Ref<File>> OpenPath(const Walk& walk, const Path& path, uint32_t flags,
                                    LeaseWait* wait);

  static Result<Attr> Stat(const Path& path);
  static Result<void> CheckAccess(const Credentials& creds, const Path& path, uint32_t want);

  static Result<void> Mkdir(const Walk& walk, std::string_view path, uint32_t mode);
  // S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK. Returns where it is now.
  static Result<Path> Mknod(const Walk& walk, std::string_view path, uint32_t mode, uint64_t rdev);
  static Result<void> Symlink(const Walk& walk, std::string_view target, std::string_view path);
  static Result<void> Link(const Path& target, const Walk& walk, std::string_view path);
  static Result<void> Unlink(const Walk& walk, std::string_view path);
  static Result<void> Rmdir(const Walk& walk, std::string_view path);
  static Result<void> Rename(const Walk& from, std::string_view old_path, const Walk& to,
                             std::string_view new_path, uint32_t flags);
  static Result<std::string> ReadLink(const Path& path);

  // chmod, chown, truncate, utimensat on an object, with Linux's permission rules and the clearing
  // of set-id bits.
  static Result<void> Chmod(const Credentials& creds, const Path& path, uint32_t mode);
  static Result<void> Chown(const Credentials& creds, const Path& path, std::optional<Uid> uid,
                            std::optional<Gid> gid);
  // Before contents change (file_remove_privs): takes set-id bits off the file unless `creds` may
  // keep them, and file capabilities whoever writes.
  static Result<void> DropPrivileges(const Credentials& creds, Inode& inode);
  // The same before a write to an open file. Costs two loads when there is nothing to take; with the
  // host's own files the host sees to it.
  static Result<void> DropPrivilegesForWrite(const Credentials& creds, Inode& inode);
  // While a lease is in the way: EAGAIN with *wait filled in.
  static Result<void> Truncate(const Credentials& creds, const Path& path, uint64_t size,
                               LeaseWait* wait = nullptr);
  // For an open file: no permission check but that it is writable (EINVAL).
  static Result<void> Ftruncate(const Credentials& creds, File& file, uint64_t size);
  static Result<void> SetTimes(const Credentials& creds, const Path& path,
                               std::optional<SetAttr::Time> atime,
                               std::optional<SetAttr::Time> mtime);

  static Result<std::string> GetXattr(const Credentials& creds, const Path& path,
                                      std::string_view name);
  static Result<void> SetXattr(const Credentials& creds, const Path& path, std::string_view name,
                               std::string_view value, int flags);
  static Result<std::vector<std::string>> ListXattr(const Credentials& creds, const Path& path);
  static Result<void> RemoveXattr(const Credentials& creds, const Path& path,
                                  std::string_view name);

  // The absolute name of `path` as seen from `root` (getcwd, /proc/PID/fd): "(unreachable)" in
  // front when it is outside, " (deleted)" behind when unlinked.
  // *outside: whether it lies outside `root`, though perhaps in the namespace.
  static std::string FullName(const Path& path, const Path& root, const MountNamespace& mounts,
                              bool* outside = nullptr);
};

// A Path for a file that has no name: "pipe:[7]", "anon_inode:[eventfd]", "socket:[8]". On a
// kernel-internal mount.
Path AnonymousPath(Ref<Inode> inode, std::string name);

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_VFS_H_
