// /dev/null, zero, full, random and urandom (drivers/char/mem.c, random.c).
#ifndef RINGWALL_FS_DEV_MEM_DEVICES_H_
#define RINGWALL_FS_DEV_MEM_DEVICES_H_

namespace ringwall {

// Registers the drivers with fs/vfs/special_files.h; once, before the first guest runs.
void RegisterMemDevices();

}  // namespace ringwall

#endif  // RINGWALL_FS_DEV_MEM_DEVICES_H_
