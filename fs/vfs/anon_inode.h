// AnonInode: the inode of a file without a name: a pipe, a socket, an eventfd. Derive from it for
// Open (through /proc/PID/fd), or use it as it is.
#ifndef RINGWALL_FS_VFS_ANON_INODE_H_
#define RINGWALL_FS_VFS_ANON_INODE_H_

#include "fs/vfs/inode.h"
#include "fs/vfs/path.h"

namespace ringwall {

class AnonInode : public Inode {
 public:
  // mode: type and permission bits (S_IFIFO | 0600; 0600 for eventfd and friends, which have no
  // type on Linux either).
  AnonInode(uint32_t mode, Uid uid, Gid gid);
  Result<Attr> GetAttr() override;
  Result<void> Set(const SetAttr& attr) override;
  // Opening by /proc/PID/fd/N: ENXIO.
  Result<Ref<File>> Open(const Path& path, uint32_t flags, const Credentials& creds) override;
  uint64_t ino() const { return ino_; }

 private:
  const uint64_t ino_;
  mutable Mutex<LockClass::kInode> mu_;
  Attr attr_ GUARDED_BY(mu_);
};

// O_LARGEFILE as fcntl and fdinfo show it: open(2) adds it on 64 bits; files of the anonymous file system
// and O_PATH are without (0). Debian's headers give the name as 0.
uint32_t LargeFileFlag(const File& file);

// A fresh inode number of the anonymous file system.
uint64_t NextAnonymousIno();

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_ANON_INODE_H_
