#include "fs/vfs/host_sockets.h"

#include <vector>

namespace ringwall {

namespace {

std::vector<const HostSocketHooks*>& registry() {
  static auto* hooks = new std::vector<const HostSocketHooks*>;
  return *hooks;
}

}  // namespace

void RegisterHostSockets(const HostSocketHooks& hooks) { registry().push_back(&hooks); }

bool HostSocketsOffered() { return !registry().empty(); }

std::optional<Result<UniqueFd>> ConnectHostSocket(Inode& inode, int type) {
  for (const HostSocketHooks* hooks : registry()) {
    if (auto socket = hooks->connect(inode, type)) return socket;
  }
  return std::nullopt;
}

Result<void> ListenHostSocket(Inode& inode, uint32_t backlog) {
  for (const HostSocketHooks* hooks : registry()) {
    if (hooks->listen != nullptr) return hooks->listen(inode, backlog);
  }
  return Errno(EINVAL);
}

}  // namespace ringwall
