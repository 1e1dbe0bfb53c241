// The gofer file system: the host's files, as one root of a gofer process. Inodes hold what the
// gofer knows a file by; contents are read and written through donated descriptors, without the
// gofer.
//
// Exclusive: nobody else changes the files, so attributes, names (also missing ones), link targets,
// directory listings and descriptors are kept, and what is known costs no round trip; programs that go
// through a directory get several entries by one (look_ahead.h). Shared: names and attributes are asked
// for again each time.
//
// Lock order: an inode's (kInode), the table of inodes (kLeaf). Calls to the gofer are made with at
// most one inode's lock held.
#ifndef RINGWALL_FS_GOFER_GOFER_H_
#define RINGWALL_FS_GOFER_GOFER_H_

#include <atomic>
#include <list>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "fs/gofer/look_ahead.h"
#include "fs/vfs/inode.h"
#include "gofer/client/client.h"
#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"

namespace ringwall {

class GoferInode;

struct GoferFsOptions {
  bool exclusive = true;  // false: --file-access=shared
  // How many descriptors of closed files are kept for the next open.
  size_t max_idle_descriptors = 512;
  bool connect_sockets = false;  // --host-uds=open
  bool bind_sockets = false;     // --host-uds=create
  bool open_fifos = false;       // --host-fifo=open
};

class GoferFileSystem final : public FileSystem {
 public:
  // Mounts root number `root` of the gofer's. The mount has to be read-only where read_only() says.
  static Result<Ref<GoferFileSystem>> Create(Ref<gofer::GoferClient> client, uint32_t root,
                                             const GoferFsOptions& options);

  std::string_view type_name() const override { return "9p"; }
  Ref<Inode> root() override;
  Result<StatFs> GetStatFs() override;
  Result<void> Sync() override;
  void OnLastUnmount() override;

  gofer::GoferClient& client() const { return *client_; }
  const Ref<gofer::GoferClient>& client_ref() const { return client_; }
  bool shared() const { return !options_.exclusive; }
  bool read_only() const { return read_only_; }
  const GoferFsOptions& options() const { return options_; }
  // Unix sockets and FIFOs of the host, for mounts whose options allow them. At start-up, once.
  static void OfferHostNodes();

  // The inode of a host file: the one there is, or a new one. `parent` and `name` say where it was
  // found, for asking again when `node` has no handle.
  Ref<GoferInode> GetInode(gofer::GoferNode node, RefPtr<GoferInode> parent,
                           std::string_view name);
  // Called by an inode that ends, or whose file has lost its last name.
  void Forget(GoferInode& inode);
  // The st_dev that a guest sees for a device of the host.
  uint64_t GuestDevice(uint64_t host_dev);

  // An inode has a descriptor that no open file uses, perhaps: the oldest of too many are closed.
  void DescriptorIdle(GoferInode& inode);
  void DescriptorGone(GoferInode& inode);

  LookAhead& look_ahead() { return look_ahead_; }

 private:
  void ListIdleLocked(GoferInode& inode) REQUIRES(mu_);

  using FileId = std::pair<uint64_t, uint64_t>;  // host device and inode number

  GoferFileSystem(Ref<gofer::GoferClient> client, const GoferFsOptions& options)
      : client_(std::move(client)), options_(options) {}
  template <typename T, typename... Args>
  friend Ref<T> MakeRef(Args&&...);

  const Ref<gofer::GoferClient> client_;
  const GoferFsOptions options_;
  bool read_only_ = false;
  LookAhead look_ahead_;
  mutable Mutex<LockClass::kLeaf> mu_;
  RefPtr<Inode> root_ GUARDED_BY(mu_);
  absl::flat_hash_map<FileId, GoferInode*> inodes_ GUARDED_BY(mu_);  // without references
  absl::flat_hash_map<uint64_t, uint64_t> devices_ GUARDED_BY(mu_);
  std::list<GoferInode*> idle_ GUARDED_BY(mu_);  // the newest first; without references
};

}  // namespace ringwall

#endif  // RINGWALL_FS_GOFER_GOFER_H_
