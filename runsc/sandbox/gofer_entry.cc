#include "runsc/sandbox/gofer_entry.h"

#include "gofer/main.h"

namespace ringwall {

int GoferEntry(GoferEntryArgs args) {
  gofer::GoferOptions options;
  options.socket = std::move(args.connection);
  for (GoferEntryRoot& root : args.roots) {
    gofer::Root& out = options.roots.emplace_back();
    out.fd = std::move(root.fd);
    out.read_only = root.read_only;
    out.nameless = root.nameless;
    out.connect_sockets = root.access.connect_sockets;
    out.bind_sockets = root.access.bind_sockets && !root.read_only;
    out.open_fifos = root.access.open_fifos;
  }
  options.proc_self_fd = std::move(args.proc_self_fd);
  options.strict = args.strict;
  return gofer::GoferMain(std::move(options));
}

}  // namespace ringwall
