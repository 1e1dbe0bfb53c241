// Several entries of a directory in one request.
#include <fcntl.h>
#include <sys/stat.h>

#include "gofer/server/host.h"
#include "gofer/server/session.h"

namespace ringwall::gofer {

// An entry that cannot be had is an error of its own, not of the request; one that cannot be opened
// comes with its attributes all the same, and opening it says why.
Result<void> Session::Peek(Reader& in, Reply& out) {
  const PeekRequest request = TRY(in.Read<PeekRequest>());
  if ((request.flags & ~kPeekOpen) != 0) return Errno(EINVAL);
  const bool open = (request.flags & kPeekOpen) != 0;
  const size_t most = open ? kMaxDescriptors : kMaxPeekNames;
  if (request.count == 0 || request.count > most) return Errno(EINVAL);
  Reader names = in;
  for (uint32_t i = 0; i < request.count; ++i) {
    const uint16_t size = TRY(in.Read<uint16_t>());
    TRY(in.ReadName(size));
  }
  TRY(in.End());
  const Ref<FileHandle> dir = TRY(GetDir(request.dir));
  for (uint32_t i = 0; i < request.count; ++i) {
    const uint16_t size = TRY(names.Read<uint16_t>());
    const Name name = TRY(names.ReadName(size));
    PeekReply entry;
    const Result<Attr> attr = StatAt(dir->fd(), name.c_str());
    if (!attr.ok()) {
      entry.error = attr.error_value();
      out.body.Put(entry);
      continue;
    }
    entry.attr = *attr;
    if (open && (attr->mode & S_IFMT) == S_IFREG) {
      Result<UniqueFd> fd = OpenRegularAt(dir->fd(), name, dir->root, O_RDONLY, &entry.attr);
      if (fd.ok()) {
        entry.opened = 1;
        out.fds.Add(std::move(*fd));
      }
    }
    out.body.Put(entry);
  }
  return {};
}

}  // namespace ringwall::gofer
