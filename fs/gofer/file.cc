#include "fs/gofer/file.h"

#include <dirent.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "fs/vfs/dentry.h"

namespace ringwall {

namespace {
// The flags of preadv2 and pwritev2 that a host file takes as they are.
constexpr int kPassedFlags = RWF_DSYNC | RWF_SYNC | RWF_NOWAIT;
}  // namespace

Result<size_t> GoferRegularFile::Read(IoDst& dst, uint64_t pos, int rw_flags) {
  size_t done = 0;
  while (dst.remaining() > 0) {
    const std::span<std::byte> room = dst.Reserve(dst.remaining());
    const iovec v = {room.data(), room.size()};
    const ssize_t n = (rw_flags & kPassedFlags) == 0
                          ? pread(fd_->get(), room.data(), room.size(), static_cast<off_t>(pos + done))
                          : preadv2(fd_->get(), &v, 1, static_cast<off_t>(pos + done),
                                    rw_flags & kPassedFlags);
    if (n < 0) {
      if (done > 0) break;
      return Errno(errno);
    }
    if (n == 0) break;
    Result<size_t> put = dst.Commit(static_cast<size_t>(n));
    if (!put.ok()) {
      if (done > 0) break;
      return put.error();
    }
    done += *put;
    if (*put < static_cast<size_t>(n) || static_cast<size_t>(n) < room.size()) break;
  }
  return done;
}

Result<size_t> GoferRegularFile::Write(IoSrc& src, uint64_t* pos, int rw_flags) {
  const bool append = (flags() & O_APPEND) != 0 || (rw_flags & RWF_APPEND) != 0;
  size_t done = 0;
  while (src.remaining() > 0) {
    Result<std::span<const std::byte>> bytes = src.Take(src.remaining());
    if (!bytes.ok()) {
      if (done > 0) break;
      return bytes.error();
    }
    const iovec v = {const_cast<std::byte*>(bytes->data()), bytes->size()};
    const int passed = (rw_flags & kPassedFlags) | (append ? RWF_APPEND : 0);
    const ssize_t n = passed == 0
                          ? pwrite(fd_->get(), bytes->data(), bytes->size(), static_cast<off_t>(*pos))
                          : pwritev2(fd_->get(), &v, 1, static_cast<off_t>(*pos), passed);
    if (n < 0) {
      if (done > 0) break;
      return Errno(errno);
    }
    gofer_inode().Forget();
    done += static_cast<size_t>(n);
    *pos += static_cast<uint64_t>(n);
    if (append) {
      const Attr a = TRY(gofer_inode().GetAttr());
      *pos = a.size;
    }
    if (static_cast<size_t>(n) < bytes->size()) break;
  }
  return done;
}

Result<int64_t> GoferRegularFile::Seek(int64_t offset, int whence) {
  if (whence == SEEK_DATA || whence == SEEK_HOLE) {
    return FromHost(int64_t{lseek(fd_->get(), offset, whence)});
  }
  return File::Seek(offset, whence);
}

Result<HostMapping> GoferRegularFile::Map(uint64_t offset, uint64_t, int prot, bool shared) {
  if (shared && (prot & 2) != 0) {
    Ref<DonatedFd> writer = TRY(gofer_inode().Donated(true));
    return HostMapping{writer->get(), offset};
  }
  return HostMapping{fd_->get(), offset};
}

Result<void> GoferRegularFile::Fsync(bool data_only) {
  TRY(FromHost(data_only ? fdatasync(fd_->get()) : fsync(fd_->get())));
  return {};
}

Result<void> GoferRegularFile::Fallocate(int mode, uint64_t offset, uint64_t length) {
  TRY(FromHost(fallocate(fd_->get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length))));
  gofer_inode().Forget();
  return {};
}

Result<int64_t> GoferDirectoryFile::Seek(int64_t offset, int whence) {
  if (whence != SEEK_SET) return File::Seek(offset, whence);
  if (offset < 0) return Errno(EINVAL);
  return offset;
}

Result<void> GoferDirectoryFile::ReadDir(DirSink& sink) {
  int64_t at = offset();
  if (at == 0) {
    const Attr self = TRY(inode().GetAttr());
    if (!sink.Add(".", self.ino, DT_DIR, 1)) return {};
    set_offset(at = 1);
  }
  if (at == 1) {
    const RefPtr<Dentry> parent = path().dentry().parent();
    const Attr up = TRY((parent ? *parent->inode() : inode()).GetAttr());
    if (!sink.Add("..", up.ino, DT_DIR, 2)) return {};
    set_offset(at = 2);
  }
  GoferInode& dir = static_cast<GoferInode&>(inode());
  for (;;) {
    const gofer::DirBatch batch =
        TRY(dir.client().ReadDir(dir.handle(), static_cast<uint64_t>(at - 2), false));
    for (const gofer::GoferDirEntry& e : batch.entries) {
      const int64_t next = static_cast<int64_t>(e.next) + 2;
      if (!sink.Add(e.name, e.ino, e.type, next)) return {};
      set_offset(at = next);
    }
    if (batch.end || batch.entries.empty()) return {};
  }
}

}  // namespace ringwall
