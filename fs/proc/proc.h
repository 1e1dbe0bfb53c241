// procfs: processes and the sandbox's system as files.
#ifndef RINGWALL_FS_PROC_PROC_H_
#define RINGWALL_FS_PROC_PROC_H_

#include <string>

#include "fs/vfs/inode.h"

namespace ringwall {

class Kernel;
class PidNamespace;

Ref<FileSystem> NewProcFs(Kernel& kernel, const Ref<PidNamespace>& ns);

// /sys/devices/system/node/node0/meminfo: the sandbox's memory, all of which is on one node.
std::string NodeMeminfoText(Kernel& kernel);

}  // namespace ringwall

#endif  // RINGWALL_FS_PROC_PROC_H_
