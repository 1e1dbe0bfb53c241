// DiskStore: room for a tmpfs's contents in nameless files of a directory of the host, which the gofer
// makes and which go with their descriptors.
#ifndef RINGWALL_FS_GOFER_DISK_STORE_H_
#define RINGWALL_FS_GOFER_DISK_STORE_H_

#include "fs/tmpfs/tmpfs.h"
#include "gofer/client/client.h"

namespace ringwall {

// Over root number `root` of the gofer's, which is for nameless files only. *free gets the bytes that
// the directory's file system has left.
Result<Ref<TmpfsStore>> NewDiskStore(Ref<gofer::GoferClient> client, uint32_t root, uint64_t* free);

}  // namespace ringwall

#endif  // RINGWALL_FS_GOFER_DISK_STORE_H_
