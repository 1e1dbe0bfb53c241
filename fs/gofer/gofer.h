// The gofer file system: host files through a gofer process (gofer/client). The Sentry opens none of
// them; the gofer donates a descriptor of a regular file, and reading, writing and mapping go there
// without a round trip.
//
// Exclusive (nobody else changes the files): attributes, names (missing ones too), link targets and the
// descriptor for reading are kept per inode. Shared: every walk and stat asks the gofer.
#ifndef RINGWALL_FS_GOFER_GOFER_H_
#define RINGWALL_FS_GOFER_GOFER_H_

#include "fs/vfs/inode.h"
#include "gofer/client/client.h"

namespace ringwall {

struct GoferFsOptions {
  bool exclusive = true;
};

class GoferFileSystem final : public FileSystem {
 public:
  // Mounts root number `root` of the gofer's.
  static Result<Ref<GoferFileSystem>> Create(Ref<gofer::GoferClient> client, uint32_t root,
                                             const GoferFsOptions& options);
  std::string_view type_name() const override { return "9p"; }
  Ref<Inode> root() override;
  Result<StatFs> GetStatFs() override;

  gofer::GoferClient& client() const { return *client_; }
  const Ref<gofer::GoferClient>& client_ref() const { return client_; }
  bool exclusive() const { return options_.exclusive; }
  bool read_only() const { return read_only_; }

  GoferFileSystem(Ref<gofer::GoferClient> client, const GoferFsOptions& options, bool read_only);

 private:
  const Ref<gofer::GoferClient> client_;
  const GoferFsOptions options_;
  const bool read_only_;
  RefPtr<Inode> root_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_GOFER_GOFER_H_
