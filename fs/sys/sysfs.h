// The parts of sysfs that programs in a container ask for: which CPUs there are, transparent huge
// pages, and the directories of what a sandbox has none of.
#ifndef RINGWALL_FS_SYS_SYSFS_H_
#define RINGWALL_FS_SYS_SYSFS_H_

#include <sched.h>

#include <functional>
#include <string>

#include "fs/vfs/inode.h"

namespace ringwall {

// meminfo: the text of the one memory node's.
Ref<FileSystem> NewSysFs(const cpu_set_t& cpus, std::function<std::string()> meminfo);

}  // namespace ringwall

#endif  // RINGWALL_FS_SYS_SYSFS_H_
