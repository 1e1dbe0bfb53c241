#include "fs/gofer/disk_store.h"

namespace ringwall {

namespace {

class DiskStore final : public TmpfsStore {
 public:
  DiskStore(Ref<gofer::GoferClient> client, gofer::GoferHandle root)
      : client_(std::move(client)), root_(std::move(root)) {}
  Result<UniqueFd> NewFile() override { return client_->CreateUnlinked(root_); }

 private:
  const Ref<gofer::GoferClient> client_;
  const gofer::GoferHandle root_;
};

}  // namespace

Result<Ref<TmpfsStore>> NewDiskStore(Ref<gofer::GoferClient> client, uint32_t root,
                                     uint64_t* free) {
  gofer::AttachResult attached = TRY(client->Attach(root));
  const gofer::StatFsReply room = TRY(client->StatFs(attached.node.handle));
  *free = room.bavail * (room.frsize != 0 ? room.frsize : room.bsize);
  Ref<DiskStore> store =
      MakeRef<DiskStore>(std::move(client), std::move(attached.node.handle));
  return Ref<TmpfsStore>(std::move(store));
}

}  // namespace ringwall
