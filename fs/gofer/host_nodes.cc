// Sockets and FIFOs of the host that the guest may use as such (--host-uds, --host-fifo). The gofer opens
// them; what is done with them afterwards is fs/unix's and fs/host's.
#include <fcntl.h>
#include <sys/stat.h>

#include "fs/gofer/gofer_inode.h"
#include "fs/host/host_fifo.h"
#include "fs/vfs/host_sockets.h"

namespace ringwall {

namespace {

std::optional<Result<UniqueFd>> Connect(Inode& inode, int type) {
  if (inode.kind() != &GoferInode::kKind || inode.type() != S_IFSOCK) return std::nullopt;
  auto& node = static_cast<GoferInode&>(inode);
  // A socket that a guest bound in here, when the host's are out of reach.
  if (!node.gofer_fs().options().connect_sockets || inode.attachment()) return std::nullopt;
  Result<const gofer::GoferHandle*> handle = node.Handle();
  if (!handle.ok()) return handle.error();
  return node.gofer_fs().client().Connect(**handle, static_cast<uint32_t>(type));
}

Result<void> Listen(Inode& inode, uint32_t backlog) {
  if (inode.kind() != &GoferInode::kKind) return Errno(EINVAL);
  auto& node = static_cast<GoferInode&>(inode);
  const gofer::GoferHandle* handle = TRY(node.Handle());
  return node.gofer_fs().client().Listen(*handle, backlog);
}

constexpr HostSocketHooks kHooks = {Connect, Listen};

}  // namespace

void GoferFileSystem::OfferHostNodes() { RegisterHostSockets(kHooks); }

Result<gofer::GoferNode> GoferInode::BindOnHost(std::string_view name, const NewInode& args) {
  const gofer::GoferHandle* handle = TRY(Handle());
  BindHint& hint = *BindHint::current();
  gofer::NodeAndFd made =
      TRY(gofer_fs_.client().Bind(*handle, name, static_cast<uint32_t>(hint.type()),
                                  {args.mode & 07777, args.uid, args.gid}));
  hint.Give(std::move(made.fd));
  return std::move(made.node);
}

Result<Ref<File>> OpenHostFifo(GoferInode& inode, const Path& path, uint32_t flags) {
  const gofer::GoferHandle* handle = TRY(inode.Handle());
  return OpenHostFifo(path, flags, [&]() -> Result<UniqueFd> {
    gofer::OpenResult opened =
        TRY(inode.gofer_fs().client().Open(*handle, flags & O_ACCMODE));
    return std::move(opened.fd);
  });
}

}  // namespace ringwall
