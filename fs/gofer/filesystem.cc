#include "fs/gofer/gofer.h"
#include "fs/gofer/inode.h"

namespace ringwall {

GoferFileSystem::GoferFileSystem(Ref<gofer::GoferClient> client, const GoferFsOptions& options,
                                 bool read_only)
    : client_(std::move(client)), options_(options), read_only_(read_only) {}

Result<Ref<GoferFileSystem>> GoferFileSystem::Create(Ref<gofer::GoferClient> client, uint32_t root,
                                                     const GoferFsOptions& options) {
  gofer::AttachResult attached = TRY(client->Attach(root));
  Ref<GoferFileSystem> fs =
      MakeRef<GoferFileSystem>(std::move(client), options, attached.read_only);
  fs->root_ = MakeRef<GoferInode>(*fs, std::move(attached.node.handle), attached.node.attr);
  return fs;
}

Ref<Inode> GoferFileSystem::root() { return Ref<Inode>(*root_); }

Result<StatFs> GoferFileSystem::GetStatFs() {
  const gofer::StatFsReply r =
      TRY(client_->StatFs(static_cast<GoferInode&>(*root_).handle()));
  StatFs s;
  constexpr uint64_t kV9fsMagic = 0x01021997;
  s.type = kV9fsMagic;
  s.bsize = r.bsize, s.blocks = r.blocks, s.bfree = r.bfree, s.bavail = r.bavail;
  s.files = r.files, s.ffree = r.ffree, s.namelen = r.namelen, s.frsize = r.bsize;
  return s;
}

}  // namespace ringwall
