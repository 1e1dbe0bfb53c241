// inotify: what happens to an inode, told to those who watch it (fs/notify/inotify).
//
// Lock order: a group's (kPipe) and an inode's list of marks (kFileLocks) are not held together: an
// event goes to a copy of the list. Reports may come with directory locks held.
#ifndef RINGWALL_FS_VFS_INOTIFY_H_
#define RINGWALL_FS_VFS_INOTIFY_H_

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "fs/vfs/dnotify.h"
#include "fs/vfs/file.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"

namespace ringwall {

class InotifyGroup;

// With IN_MOVED_FROM: the name moved within its directory (DN_RENAME). Not for inotify's readers.
inline constexpr uint32_t kRenamedEvent = 0x00010000;

// With IN_OPEN: the open of an exec (FS_OPEN_EXEC), which is not merged with other opens.
inline constexpr uint32_t kExecEvent = 0x00001000;

// One watch: a group's interest in an inode, which it keeps in memory.
class InotifyMark final : public RefCounted<InotifyMark> {
 public:
  InotifyMark(Ref<InotifyGroup> group, Ref<Inode> inode, int32_t wd);
  ~InotifyMark() override;
  const int32_t wd;
  const Ref<InotifyGroup> group;
  const Ref<Inode> inode;
  std::atomic<uint32_t> mask{0};
};

// The watches on one inode.
class InotifyMarks {
 public:
  // Tells the watchers. mask: IN_*, with IN_ISDIR; name: of the child, for a directory's watch.
  // unlinked: what was opened has no name any more, which IN_EXCL_UNLINK leaves out.
  void Notify(uint32_t mask, uint32_t cookie, std::string_view name, bool unlinked = false);
  void Add(Ref<InotifyMark> mark);
  void Remove(const InotifyMark& mark);
  // The inode is gone: all its watches end.
  void EndAll();

  // F_NOTIFY's: joins one of the same table and file.
  void AddDirectoryWatch(const DirectoryWatch& watch);
  // table: null for all.
  void RemoveDirectoryWatch(const FdTable* table, const File* file);

 private:
  mutable Mutex<LockClass::kFileLocks> mu_;
  void TellDirectoryWatches(uint32_t mask);
  std::vector<Ref<InotifyMark>> marks_ GUARDED_BY(mu_);
  std::vector<DirectoryWatch> directory_watches_ GUARDED_BY(mu_);
  std::atomic<bool> has_directory_watches_{false};
};

// The watches and waiting events of one inotify descriptor.
class InotifyGroup final : public RefCounted<InotifyGroup> {
 public:
  explicit InotifyGroup(Uid owner) : owner_(owner) {}

  // EEXIST (IN_MASK_CREATE), ENOTDIR (IN_ONLYDIR), ENOSPC (too many), EINVAL (a mask without events).
  Result<int32_t> AddWatch(Inode& inode, uint32_t mask);
  Result<void> RemoveWatch(int32_t wd);  // EINVAL
  void RemoveAll();
  // An event for the watch; one that says the same as the last waiting one is not repeated.
  void Post(int32_t wd, uint32_t mask, uint32_t cookie, std::string_view name);
  // The watch ends, by itself or because its inode does: IN_IGNORED.
  void Ended(InotifyMark& mark);

  Result<size_t> Read(IoDst& dst);  // EAGAIN; EINVAL: no room for the first event
  size_t pending_bytes() const;
  std::string FdInfo() const;
  WaitQueue& queue() { return queue_; }

 private:
  friend class InotifyMark;
  struct Event {
    int32_t wd;
    uint32_t mask;
    uint32_t cookie;
    std::string name;
    size_t name_room() const;  // with NULs, a multiple of 16
  };
  const Uid owner_;  // who pays for the watches
  mutable Mutex<LockClass::kPipe> mu_;
  std::deque<Event> events_ GUARDED_BY(mu_);
  absl::flat_hash_map<int32_t, Ref<InotifyMark>> watches_ GUARDED_BY(mu_);
  absl::flat_hash_map<const Inode*, int32_t> by_inode_ GUARDED_BY(mu_);
  int32_t next_wd_ GUARDED_BY(mu_) = 1;
  WaitQueue queue_;
};

// sysctl fs.inotify.*.
struct InotifyLimits {
  std::atomic<int> instances{128}, watches{65536}, events{16384};
};
InotifyLimits& inotify_limits();

// inotify_init1: flags are O_NONBLOCK or 0. EMFILE: the user has too many.
Result<Ref<File>> MakeInotifyFile(uint32_t flags, Uid owner);
// The group behind a descriptor; null when it is another kind of file.
InotifyGroup* InotifyGroupOf(File& file);

// --- What system calls and the VFS report. Each costs a load while nobody watches anything.

// Something happened to the object `path` names (IN_ACCESS, IN_MODIFY, IN_ATTRIB, IN_OPEN,
// IN_CLOSE_*): told to its own watchers and to those of the directory it is in.
void NotifyPath(const Path& path, uint32_t mask);
// The same for what changes attributes (IN_ATTRIB, and IN_MODIFY of truncations), which IN_EXCL_UNLINK
// does not leave out: Linux tells of a dentry there.
void NotifyAttributes(const Path& path, uint32_t mask);
void NotifyFile(const File& file, uint32_t mask);
// A name in `dir` came or went (IN_CREATE, IN_DELETE, IN_MOVED_*).
void NotifyName(Inode& dir, uint32_t mask, std::string_view name, bool is_directory,
                uint32_t cookie = 0);
void NotifyInode(Inode& inode, uint32_t mask);
// A name of `inode` went: IN_ATTRIB. NotifyGone follows.
void NotifyLinkCount(Inode& inode);
// Perhaps the last name of `inode`, or the last File of one without a name, went: the end of its
// watches when nothing is left.
void NotifyGone(Inode& inode);
uint32_t NextInotifyCookie();

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_INOTIFY_H_
