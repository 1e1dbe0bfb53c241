// Path: a place in the tree: a mount and a dentry on it (struct path). Null when default-made.
#ifndef RINGWALL_FS_VFS_PATH_H_
#define RINGWALL_FS_VFS_PATH_H_

#include <utility>

#include "sentry/base/ref.h"

namespace ringwall {

class Dentry;
class Mount;

class Path {
 public:
  Path();
  Path(RefPtr<Mount> mount, RefPtr<Dentry> dentry);
  Path(const Path&);
  Path(Path&&) noexcept;
  Path& operator=(const Path&);
  Path& operator=(Path&&) noexcept;
  ~Path();

  explicit operator bool() const { return static_cast<bool>(dentry_); }
  Mount& mount() const { return *mount_; }
  Dentry& dentry() const { return *dentry_; }
  const RefPtr<Mount>& mount_ref() const { return mount_; }
  const RefPtr<Dentry>& dentry_ref() const { return dentry_; }
  friend bool operator==(const Path& a, const Path& b) {
    return a.mount_ == b.mount_ && a.dentry_ == b.dentry_;
  }

 private:
  RefPtr<Mount> mount_;
  RefPtr<Dentry> dentry_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_PATH_H_
