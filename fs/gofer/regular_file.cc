// An open regular file of the host: all its operations go to the donated descriptor.
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "fs/gofer/gofer_inode.h"
#include "sentry/base/viewed_file.h"

namespace ringwall {

namespace {

class GoferView final : public ViewedFile {
 public:
  explicit GoferView(Ref<GoferFd> fd) : fd_(std::move(fd)) {}
  int host_fd() const override { return fd_->get(); }
  Result<size_t> ReadAt(std::span<std::byte> to, uint64_t pos) override {
    const ssize_t n =
        RetryEintr([&] { return pread(fd_->get(), to.data(), to.size(), static_cast<off_t>(pos)); });
    if (n < 0) return Errno(errno);
    return static_cast<size_t>(n);
  }

 private:
  const Ref<GoferFd> fd_;
};

class GoferFile final : public File {
 public:
  GoferFile(const Path& path, uint32_t flags, GoferInode& inode, Ref<GoferFd> fd)
      : File(path, flags), inode_(inode), fd_(std::move(fd)) {}
  bool seekable() const override { return true; }

  Result<size_t> Read(IoDst& dst, uint64_t pos, int) override {
    if (pos > INT64_MAX) return Errno(EINVAL);
    if (const size_t n = ReadByView(dst, pos)) return n;
    size_t done = 0;
    while (dst.remaining() != 0) {
      const std::span<std::byte> buffer = dst.Reserve(dst.remaining());
      const ssize_t n = RetryEintr([&] {
        return pread(fd_->get(), buffer.data(), buffer.size(), static_cast<off_t>(pos + done));
      });
      const int error = n < 0 ? errno : 0;
      const Result<size_t> moved = dst.Commit(n > 0 ? static_cast<size_t>(n) : 0);
      if (n < 0 || !moved.ok()) {
        if (done != 0) break;
        return n < 0 ? Errno(error) : moved.error();
      }
      done += *moved;
      if (*moved < buffer.size()) break;
    }
    return done;
  }

  Result<size_t> Write(IoSrc& src, uint64_t* pos, int rw_flags) override {
    if (!AppendsWith(rw_flags)) {
      const size_t done = TRY(WriteAt(src, *pos));
      *pos += done;
      return Written(done, rw_flags);
    }
    size_t done;
    {
      MutexLock lock(inode_->append_lock());
      struct stat st;
      if (fstat(fd_->get(), &st) != 0) return Errno(errno);
      *pos = static_cast<uint64_t>(st.st_size);
      done = TRY(WriteAt(src, *pos));
    }
    *pos += done;
    return Written(done, rw_flags);
  }

  Result<int64_t> Seek(int64_t offset, int whence) override NO_THREAD_SAFETY_ANALYSIS {
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return File::Seek(offset, whence);
    const off_t at = lseek(fd_->get(), offset, whence);
    if (at < 0) return Errno(errno);
    return int64_t{at};
  }

  Result<HostMapping> Map(uint64_t offset, uint64_t, int, bool) override {
    return HostMapping{fd_->get(), offset};
  }

  Result<void> Flush() override {
    views_.Close();
    return {};
  }

  Result<void> Fsync(bool data_only) override {
    const int r = RetryEintr([&] { return data_only ? fdatasync(fd_->get()) : fsync(fd_->get()); });
    if (r != 0) return Errno(errno);
    return {};
  }

  Result<void> Fallocate(int mode, uint64_t offset, uint64_t length) override {
    if (offset > INT64_MAX || length > INT64_MAX) return Errno(EINVAL);
    const int r = RetryEintr([&] {
      return fallocate(fd_->get(), mode, static_cast<off_t>(offset), static_cast<off_t>(length));
    });
    if (r != 0) return Errno(errno);
    return {};
  }

 private:
  // Only where nobody else changes the file, and at its present size: a view does not say where it ends.
  size_t ReadByView(IoDst& dst, uint64_t pos) {
    if (inode_->gofer_fs().shared()) return 0;
    ViewedFile* const file = views_.Find(dst.remaining(), [&] { return MakeRef<GoferView>(fd_); });
    // The first read after a write changes atime (relatime), a view's does not.
    if (file == nullptr || inode_->TakeWritten()) return 0;
    const off_t size = lseek(fd_->get(), 0, SEEK_END);
    if (size < 0 || pos >= static_cast<uint64_t>(size)) return 0;
    return dst.PutByView(*file, pos, std::min<uint64_t>(static_cast<uint64_t>(size) - pos, dst.remaining()));
  }

  Result<size_t> WriteAt(IoSrc& src, uint64_t pos) {
    if (pos > INT64_MAX) return Errno(EINVAL);
    size_t done = 0;
    while (src.remaining() != 0) {
      const Result<std::span<const std::byte>> bytes = src.Take(src.remaining());
      if (!bytes.ok()) {
        if (done != 0) break;
        return bytes.error();
      }
      const ssize_t n = RetryEintr([&] {
        return pwrite(fd_->get(), bytes->data(), bytes->size(), static_cast<off_t>(pos + done));
      });
      if (n < 0) {
        if (done != 0) break;
        return Errno(errno);
      }
      done += static_cast<size_t>(n);
      if (static_cast<size_t>(n) < bytes->size()) break;
    }
    return done;
  }

  Result<size_t> Written(size_t done, int rw_flags) {
    inode_->NoteWritten();
    const bool all = (flags() & O_SYNC) == O_SYNC || (rw_flags & RWF_SYNC);
    if (all || (flags() & O_DSYNC) || (rw_flags & RWF_DSYNC)) TRY(Fsync(!all));
    return done;
  }

  const Ref<GoferInode> inode_;
  const Ref<GoferFd> fd_;
  ViewCount views_;
};

}  // namespace

Ref<File> MakeGoferFile(const Path& path, uint32_t flags, GoferInode& inode, Ref<GoferFd> fd) {
  return MakeRef<GoferFile>(path, flags, inode, std::move(fd));
}

}  // namespace ringwall
