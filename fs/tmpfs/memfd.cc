#include "fs/tmpfs/memfd.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "fs/tmpfs/inodes.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

Result<Ref<File>> NewMemfd(const std::string& name, bool sealable, uint32_t mode,
                           const Credentials& creds, uint32_t seals) {
  // Never destroyed: files of it may be open until the end.
  static TmpfsFileSystem& fs = *TmpfsFileSystem::Create(TmpfsOptions{}).Leak();
  NewInode args;
  args.mode = S_IFREG | mode;
  args.uid = creds.fsuid;
  args.gid = creds.fsgid;
  Ref<Inode> inode = TRY(fs.root()->TmpFile(args));
  if (sealable) static_cast<TmpfsRegular&>(*inode).AllowSeals(seals);
  const Path path = AnonymousPath(inode, "/memfd:" + name + " (deleted)");
  return inode->Open(path, O_RDWR, creds);
}

}  // namespace ringwall
