// Unix sockets of the host in a file system of host files (--host-uds): what AF_UNIX asks of the file
// systems, which register what they can do at start-up. A hook answers nullopt for an inode of others.
#ifndef RINGWALL_FS_VFS_HOST_SOCKETS_H_
#define RINGWALL_FS_VFS_HOST_SOCKETS_H_

#include <optional>
#include <utility>

#include "fs/vfs/inode.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

struct HostSocketHooks {
  // A new socket of `type` that is connected to the one bound to `inode`, non-blocking. ECONNREFUSED,
  // EPROTOTYPE, EAGAIN (its queue is full) and what else the host says.
  std::optional<Result<UniqueFd>> (*connect)(Inode& inode, int type);
  // The bound socket of `inode` begins to listen; may be null.
  Result<void> (*listen)(Inode& inode, uint32_t backlog);
};

// Not thread-safe: before the first guest runs. `hooks` lives for ever.
void RegisterHostSockets(const HostSocketHooks& hooks);

// Whether any file system has such sockets at all.
bool HostSocketsOffered();
// nullopt: no socket of the host's.
std::optional<Result<UniqueFd>> ConnectHostSocket(Inode& inode, int type);
// EINVAL: it was not bound here, or listens already.
Result<void> ListenHostSocket(Inode& inode, uint32_t backlog);

// While one lives, an S_IFSOCK node that this thread makes is the name of a socket that is being bound. A
// file system may bind one of the host's and leave it here.
class BindHint {
 public:
  explicit BindHint(int type) : before_(std::exchange(current_, this)), type_(type) {}
  ~BindHint() { current_ = before_; }
  BindHint(const BindHint&) = delete;
  BindHint& operator=(const BindHint&) = delete;

  // Of this thread; null: the node is to be just a node.
  static BindHint* current() { return current_; }
  int type() const { return type_; }
  void Give(UniqueFd socket) { socket_ = std::move(socket); }
  UniqueFd Take() { return std::move(socket_); }

 private:
  static inline thread_local BindHint* current_ = nullptr;
  BindHint* const before_;
  const int type_;
  UniqueFd socket_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_HOST_SOCKETS_H_
