// What opening a FIFO or a device node leads to, whichever file system the node is on. Drivers and
// the pipe module register at start-up; file systems call OpenSpecial from Inode::Open.
#ifndef RINGWALL_FS_VFS_SPECIAL_FILES_H_
#define RINGWALL_FS_VFS_SPECIAL_FILES_H_

#include "fs/vfs/file.h"

namespace ringwall {

using OpenSpecialFn = Result<Ref<File>> (*)(Inode& inode, const Path& path, uint32_t flags,
                                            const Credentials& creds, uint64_t rdev);

// type: S_IFCHR or S_IFBLK. Minor numbers [first_minor, first_minor + count). Not thread-safe:
// before the first guest runs.
void RegisterDevice(uint32_t type, uint32_t major, uint32_t first_minor, uint32_t count,
                    OpenSpecialFn open);
void RegisterFifo(OpenSpecialFn open);

// ENXIO: a socket, or a device without a driver.
Result<Ref<File>> OpenSpecial(Inode& inode, const Path& path, uint32_t flags,
                              const Credentials& creds, uint64_t rdev);

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_SPECIAL_FILES_H_
