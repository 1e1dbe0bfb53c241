// getdents64 (fs/readdir.c).
#include <sys/inotify.h>

#include "fs/vfs/inotify.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr size_t kHeader = 19;  // ino, off, reclen, type
constexpr size_t kMaxBatch = 256 << 10;

// struct linux_dirent64 records in a Sentry buffer.
class Dirent64Sink final : public DirSink {
 public:
  explicit Dirent64Sink(size_t limit) : limit_(limit) {}
  bool Add(std::string_view name, uint64_t ino, uint8_t type, int64_t next_offset) override {
    const size_t length = (kHeader + name.size() + 1 + 7) & ~size_t{7};
    if (buffer_.size() + length > limit_) {
      full_ = true;
      return false;
    }
    const size_t at = buffer_.size();
    buffer_.resize(at + length);
    std::byte* p = buffer_.data() + at;
    const uint16_t reclen = static_cast<uint16_t>(length);
    memcpy(p, &ino, 8);
    memcpy(p + 8, &next_offset, 8);
    memcpy(p + 16, &reclen, 2);
    memcpy(p + 18, &type, 1);
    memcpy(p + kHeader, name.data(), name.size());
    return true;
  }
  std::span<const std::byte> bytes() const { return buffer_; }
  bool full() const { return full_; }

 private:
  const size_t limit_;
  std::vector<std::byte> buffer_;
  bool full_ = false;
};

}  // namespace

SysResult SysGetdents64(Task& t, int fd, GuestAddr buf, uint32_t size) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  if (!file->inode().is_directory()) return Errno(ENOTDIR);
  MutexLock lock(file->offset_lock());
  if (file->path().dentry().unlinked()) return Errno(ENOENT);
  const int64_t before = file->offset();
  Dirent64Sink sink(std::min<size_t>(size, kMaxBatch));
  TRY(file->ReadDir(sink));
  NotifyFile(*file, IN_ACCESS);
  if (sink.bytes().empty()) {
    if (sink.full()) return Errno(EINVAL);
    return 0;
  }
  Result<void> copied = t.CopyOut(buf, sink.bytes());
  if (!copied.ok()) {
    file->set_offset(before);
    return copied.error();
  }
  return static_cast<int64_t>(sink.bytes().size());
}

}  // namespace ringwall
