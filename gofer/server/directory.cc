// Reading directories, with the attributes of their entries.
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "gofer/server/host.h"
#include "gofer/server/session.h"

namespace ringwall::gofer {

namespace {

// struct linux_dirent64, include/linux/dirent.h; the name follows.
struct HostDirent {
  uint64_t ino;
  int64_t off;
  uint16_t reclen;
  uint8_t type;
} __attribute__((packed));

// The longest entry that the host gives: 19 bytes, a name, its NUL, up to a multiple of 8.
constexpr size_t kMaxHostDirent = 280;

// How many bytes of the host's entries to ask for, so that hardly more come than fit into `room`:
// what does not fit is read again for the next batch. Short names make entries of 32 bytes there
// and of these sizes here.
size_t HostBytesFor(size_t room, bool with_attr, size_t buffer) {
  const size_t ours = sizeof(DirEntryHeader) + 8 + (with_attr ? sizeof(Attr) : 0);
  return std::clamp(room / ours * 32, kMaxHostDirent, buffer);
}

}  // namespace

// Each batch opens the directory anew and seeks: a stream kept open between batches would cost a
// descriptor per reader, and opening costs little beside a batch of hundreds of entries.
Result<void> Session::ReadDir(Reader& in, Reply& out) {
  const ReadDirRequest request = TRY(in.Read<ReadDirRequest>());
  TRY(in.End());
  if ((request.flags & ~kReadDirAttr) != 0) return Errno(EINVAL);
  const bool with_attr = (request.flags & kReadDirAttr) != 0;
  const Ref<FileHandle> dir = TRY(GetDir(request.handle));
  const UniqueFd fd = TRY(Reopen(*dir, O_DIRECTORY));
  if (request.offset != 0 && ::lseek(fd.get(), static_cast<off_t>(request.offset), SEEK_SET) < 0) {
    return Errno(errno);
  }
  const size_t start = out.body.used();
  ReadDirReply reply;
  out.body.Put(reply);
  // Where the batch ends: at the end of the room, or earlier if the client says so.
  const size_t limit = request.max_size == 0
                           ? start + kMaxMessage
                           : start + std::min<size_t>(request.max_size, kMaxMessage);
  while (true) {
    const size_t room = std::min(out.body.left(), limit - std::min(limit, out.body.used()));
    const long got = ::syscall(SYS_getdents64, fd.get(), out.scratch.data(),
                               HostBytesFor(room, with_attr, out.scratch.size()));
    if (got < 0) return Errno(errno);
    if (got == 0) {
      reply.end = 1;
      break;
    }
    bool full = false;
    for (long at = 0; at < got && !full;) {
      HostDirent entry;
      std::memcpy(&entry, out.scratch.data() + at, sizeof(entry));
      const char* text = AsChars(out.scratch) + at + sizeof(entry);
      const std::string_view name(text);
      at += entry.reclen;
      if (CheckName(name) != 0) continue;  // "." and "..", or a broken host file system's
      DirEntryHeader header = {.ino = entry.ino,
                               .next = static_cast<uint64_t>(entry.off),
                               .name_size = static_cast<uint16_t>(name.size()),
                               .type = entry.type};
      const size_t need = sizeof(header) + name.size() + (with_attr ? sizeof(Attr) : 0);
      // One entry always goes, however little the client asked for.
      if (need > out.body.left() || (reply.count != 0 && out.body.used() + need > limit)) {
        full = true;
        break;
      }
      if (with_attr) {
        Result<Attr> attr = StatAt(fd.get(), text);
        header.has_attr = attr.ok();  // it may be gone already
        out.body.Put(header);
        if (attr.ok()) out.body.Put(*attr);
      } else {
        out.body.Put(header);
      }
      out.body.PutBytes(name);
      ++reply.count;
    }
    if (full) break;
  }
  out.body.Patch(start, reply);
  return {};
}

}  // namespace ringwall::gofer
