// The parts of sysfs that programs in a container ask for: which CPUs there are, transparent huge
// pages, and the directories of what a sandbox has none of.
#ifndef RINGWALL_FS_SYS_SYSFS_H_
#define RINGWALL_FS_SYS_SYSFS_H_

#include <sched.h>

#include "fs/vfs/inode.h"

namespace ringwall {

Ref<FileSystem> NewSysFs(const cpu_set_t& cpus);

}  // namespace ringwall

#endif  // RINGWALL_FS_SYS_SYSFS_H_
