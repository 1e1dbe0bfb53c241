// PathWalk: one resolution of a path name, component by component, with references held. Internal
// to fs/vfs. Compare Linux fs/namei.c: link_path_walk(), walk_component(), step_into().
#ifndef RINGWALL_FS_VFS_PATH_WALK_H_
#define RINGWALL_FS_VFS_PATH_WALK_H_

#include <linux/openat2.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/vfs/path.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

class PathWalk {
 public:
  explicit PathWalk(const Walk& walk) : walk_(walk) {}

  // What the last component is (LAST_NORM, LAST_DOT, LAST_DOTDOT, LAST_ROOT).
  enum class Last : uint8_t { kName, kDot, kDotDot, kRoot };

  // Walks all but the last component. To be called again with the target of a symlink found there,
  // which then is resolved from dir().
  Result<void> ToParent(std::string_view path);

  const Path& dir() const { return dir_; }
  std::string_view name() const { return name_; }
  Last last() const { return last_; }
  // Whether the path, or a link's target, ended in a slash: the object has to be a directory.
  bool trailing_slash() const { return trailing_slash_; }

  // The last component, mounts crossed, symlinks not followed. ENOENT only when it is not a name:
  // for a missing name the dentry is negative.
  Result<Path> Step();
  // The same with a dentry that the caller has looked up.
  Result<Path> StepInto(Ref<Dentry> child);
  // Follows the symlink `link`, which was found as the last component: either *jumped is where it
  // leads at once (a magic link), or ToParent has walked its target.
  Result<void> FollowLast(const Path& link, Path* jumped);

 private:
  Result<void> JumpToRoot();
  Result<void> StepUp();
  Result<Path> StepDown(std::string_view name);
  // Reads the link: a target to walk, or a place to be (*jumped).
  Result<std::string_view> Follow(const Path& link, Path* jumped);
  bool scoped() const { return (walk_.resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) != 0; }
  const Path& root() const { return walk_.resolve & RESOLVE_IN_ROOT ? walk_.start : walk_.root; }

  const Walk& walk_;
  Path dir_;
  std::string_view name_;
  Last last_ = Last::kName;
  bool trailing_slash_ = false;
  bool started_ = false;
  uint64_t sequence_ = 0;  // of renames, when the walk began
  int links_ = 0;
  std::vector<std::string_view> rest_;  // of the paths around a symlink in the middle
  std::vector<std::unique_ptr<std::string>> targets_;
};

// The lock-free walk: the answer when every part of the path is cached, nullopt when the slow walk
// has to find out.
std::optional<Result<Path>> FastLookup(const Walk& walk, std::string_view path, LookupFlags flags);

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_PATH_WALK_H_
