#include "fs/vfs/path.h"

#include "fs/vfs/dentry.h"
#include "fs/vfs/mount.h"

namespace ringwall {

Path::Path() = default;
Path::Path(RefPtr<Mount> mount, RefPtr<Dentry> dentry)
    : mount_(std::move(mount)), dentry_(std::move(dentry)) {}
Path::Path(const Path&) = default;
Path::Path(Path&&) noexcept = default;
Path& Path::operator=(const Path&) = default;
Path& Path::operator=(Path&&) noexcept = default;
Path::~Path() = default;

}  // namespace ringwall
