// memfd_create (mm/memfd.c): a file of a tmpfs that is mounted nowhere.
#ifndef RINGWALL_FS_TMPFS_MEMFD_H_
#define RINGWALL_FS_TMPFS_MEMFD_H_

#include <string>

#include "fs/vfs/file.h"

namespace ringwall {

// With `sealable` it takes seals (MFD_ALLOW_SEALING) and has those of `seals` already.
Result<Ref<File>> NewMemfd(const std::string& name, bool sealable, uint32_t mode,
                           const Credentials& creds, uint32_t seals = 0);

}  // namespace ringwall

#endif  // RINGWALL_FS_TMPFS_MEMFD_H_
