// The types of file systems that a guest may mount (struct file_system_type). runsc/boot registers
// them, mount(2) and /proc/filesystems look them up.
#ifndef RINGWALL_FS_VFS_FS_TYPE_H_
#define RINGWALL_FS_VFS_FS_TYPE_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fs/vfs/inode.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

// What mount(2) says of the file system that is to be made.
struct NewFsArgs {
  std::string_view source, data;
  uint32_t flags = 0;  // MS_RDONLY
  const Walk& walk;    // of the caller, for paths among the options
};

struct FsType {
  std::string name;
  // Whether the root of a user namespace that is not the first may mount it (FS_USERNS_MOUNT).
  bool in_user_namespaces = false;
  // It shows the kernel's state: see MountNamespace::MayReveal.
  bool reveals = false;
  // EINVAL for options that it does not know.
  std::function<Result<Ref<FileSystem>>(const NewFsArgs&)> make;
};

// At start-up, before the first guest runs.
void RegisterFsType(FsType type);
// Null when there is none.
const FsType* FindFsType(std::string_view name);
std::vector<const FsType*> ListFsTypes();

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_FS_TYPE_H_
