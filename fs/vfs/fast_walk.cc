// The lock-free walk (compare Linux's RCU-walk): steps through cached dentries without taking a
// lock or a reference, and takes references for the result only. Whatever it cannot decide from the
// caches it leaves to PathWalk, from the start.
#include "fs/vfs/dentry.h"
#include "fs/vfs/epoch.h"
#include "fs/vfs/mount.h"
#include "fs/vfs/path_walk.h"
#include "fs/vfs/permission.h"

namespace ringwall {

namespace {

enum class Step : uint8_t { kOn, kSlow, kMissing, kDenied, kLoop };

struct At {
  Mount* mount;
  Dentry* dentry;
};

class FastWalk {
 public:
  explicit FastWalk(const Walk& walk)
      : walk_(walk), at_{&walk.start.mount(), &walk.start.dentry()} {}

  // nullopt: slow.
  std::optional<Result<Path>> Run(std::string_view path, LookupFlags flags);

 private:
  void ToRoot() { at_ = {&walk_.root.mount(), &walk_.root.dentry()}; }
  bool Up();
  bool Cross(At* at) const;
  Step Down(std::string_view name, At* next) const;
  Step MayExec() const;

  const Walk& walk_;
  At at_;
};

Step FastWalk::MayExec() const {
  const Inode& inode = *at_.dentry->inode();
  const PermissionView view(inode);
  const uint32_t mode = view.mode();
  if (mode == 0) return Step::kSlow;
  if ((mode & 0111) == 0111) return Step::kOn;
  return MayAccess(walk_.creds, S_IFDIR | (mode & 07777), view.uid(), view.gid(), kMayExec)
             ? Step::kOn
             : Step::kDenied;
}

bool FastWalk::Cross(At* at) const {
  while (at->dentry->mounted_here.load(std::memory_order_acquire) != 0) {
    Mount* m = walk_.mounts.MountedAtBorrowed(at->mount, at->dentry);
    if (m == nullptr) break;
    *at = {m, &m->root()};
  }
  return true;
}

// False: slow.
bool FastWalk::Up() {
  for (;;) {
    if (at_.mount == &walk_.root.mount() && at_.dentry == &walk_.root.dentry()) return true;
    if (at_.dentry != &at_.mount->root()) break;
    At up;
    if (!walk_.mounts.MountPointBorrowed(at_.mount, &up.mount, &up.dentry)) return true;
    at_ = up;
  }
  Dentry* parent = at_.dentry->ParentBorrowed();
  if (parent == nullptr) return false;
  // Whether the parent is in what a bind mount shows is for the slow walk to find out.
  if (at_.mount->root().ParentBorrowed() != nullptr) return false;
  at_.dentry = parent;
  return Cross(&at_);
}

Step FastWalk::Down(std::string_view name, At* next) const {
  if (name.size() > kNameMax || !at_.dentry->children_stay()) return Step::kSlow;
  Dentry* child = at_.dentry->FindCached(name);
  if (child == nullptr) return Step::kSlow;
  if (child->negative()) return Step::kMissing;
  *next = {at_.mount, child};
  Cross(next);
  return Step::kOn;
}

std::optional<Result<Path>> FastWalk::Run(std::string_view path, LookupFlags flags) {
  std::string_view rest[4];  // of the paths around links in the middle
  int depth = 0;
  int links = 0;
  bool trailing_slash = false;
  if (path.front() == '/') ToRoot();
  if (!at_.dentry->is_directory()) return std::nullopt;
  for (;;) {
    while (!path.empty() && path.front() == '/') path.remove_prefix(1);
    if (path.empty()) {
      if (depth == 0) break;
      path = rest[--depth];
      continue;
    }
    switch (MayExec()) {
      case Step::kOn:
        break;
      case Step::kDenied:
        return Result<Path>(Errno(EACCES));
      default:
        return std::nullopt;
    }
    size_t end = 0;
    while (end < path.size() && path[end] != '/') end++;
    const std::string_view name = path.substr(0, end);
    path.remove_prefix(end);
    const bool slash = !path.empty();
    while (!path.empty() && path.front() == '/') path.remove_prefix(1);
    const bool last = path.empty() && depth == 0;
    if (last) trailing_slash |= slash;
    if (name == ".") continue;
    if (name == "..") {
      if (!Up()) return std::nullopt;
      continue;
    }
    At next;
    switch (Down(name, &next)) {
      case Step::kOn:
        break;
      case Step::kMissing:
        return Result<Path>(Errno(ENOENT));
      default:
        return std::nullopt;
    }
    const Inode& inode = *next.dentry->inode();
    if (inode.is_symlink() && (!last || flags.follow_last || trailing_slash)) {
      const std::string* target = PermissionView(inode).link_target();
      if (target == nullptr || links++ >= kMaxSymlinks || depth == 4) return std::nullopt;
      if (next.mount->flags() & MS_NOSYMFOLLOW) return std::nullopt;
      if (Protection().symlinks.load(std::memory_order_relaxed) != 0) return std::nullopt;
      if (!path.empty()) rest[depth++] = path;
      path = *target;
      if (path.front() == '/') ToRoot();
      continue;
    }
    if (!inode.is_directory()) {
      if (!last || trailing_slash || flags.directory) return Result<Path>(Errno(ENOTDIR));
      at_ = next;
      break;
    }
    at_ = next;
    if (last) break;
  }
  if ((flags.directory || trailing_slash) && !at_.dentry->is_directory()) {
    return Result<Path>(Errno(ENOTDIR));
  }
  // The mount lives: the table that named it does. The dentry may be on its way out.
  if (!at_.dentry->TryAddRef()) return std::nullopt;
  return Result<Path>(Path(RefPtr<Mount>(at_.mount), RefPtr<Dentry>::Adopt(at_.dentry)));
}

}  // namespace

std::optional<Result<Path>> FastLookup(const Walk& walk, std::string_view path,
                                       LookupFlags flags) {
  const uint64_t sequence = Dentry::RenameSequence();
  if (sequence & 1) return std::nullopt;
  std::optional<Result<Path>> found;
  {
    EpochGuard guard;
    found = FastWalk(walk).Run(path, flags);
  }
  // A rename in between may have shown a mixture of before and after.
  if (found && sequence != Dentry::RenameSequence()) return std::nullopt;
  return found;
}

}  // namespace ringwall
