// getdents64 and its old form (fs/readdir.c).
#include <sys/inotify.h>

#include "fs/vfs/inotify.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_misc.h"

namespace ringwall {

namespace {

constexpr size_t kHeader = 19;  // ino, off, reclen, type
constexpr size_t kOldHeader = 18;
constexpr size_t kMaxBatch = 256 << 10;

// Records in a Sentry buffer.
class DirentSink : public DirSink {
 public:
  explicit DirentSink(size_t limit) : limit_(limit) {}
  std::span<const std::byte> bytes() const { return buffer_; }
  bool full() const { return full_; }

 protected:
  // Zeroed room for one more record; null when it does not fit.
  std::byte* Room(size_t length) {
    if (buffer_.size() + length > limit_) {
      full_ = true;
      return nullptr;
    }
    const size_t at = buffer_.size();
    buffer_.resize(at + length);
    return buffer_.data() + at;
  }

 private:
  const size_t limit_;
  std::vector<std::byte> buffer_;
  bool full_ = false;
};

// struct linux_dirent64.
class Dirent64Sink final : public DirentSink {
 public:
  using DirentSink::DirentSink;
  bool Add(std::string_view name, uint64_t ino, uint8_t type, int64_t next_offset) override {
    const size_t length = (kHeader + name.size() + 1 + 7) & ~size_t{7};
    std::byte* p = Room(length);
    if (p == nullptr) return false;
    const uint16_t reclen = static_cast<uint16_t>(length);
    memcpy(p, &ino, 8);
    memcpy(p + 8, &next_offset, 8);
    memcpy(p + 16, &reclen, 2);
    memcpy(p + 18, &type, 1);
    memcpy(p + kHeader, name.data(), name.size());
    return true;
  }
};

// struct linux_dirent: the type is the record's last byte.
class OldDirentSink final : public DirentSink {
 public:
  using DirentSink::DirentSink;
  bool Add(std::string_view name, uint64_t ino, uint8_t type, int64_t next_offset) override {
    const size_t length = (kOldHeader + name.size() + 2 + 7) & ~size_t{7};
    std::byte* p = Room(length);
    if (p == nullptr) return false;
    const uint16_t reclen = static_cast<uint16_t>(length);
    memcpy(p, &ino, 8);
    memcpy(p + 8, &next_offset, 8);
    memcpy(p + 16, &reclen, 2);
    memcpy(p + kOldHeader, name.data(), name.size());
    memcpy(p + length - 1, &type, 1);
    return true;
  }
};

template <typename Sink>
SysResult GetDents(Task& t, int fd, GuestAddr buf, uint32_t size) {
  Ref<File> file = TRY(t.GetFile(fd));
  if ((file->flags() & O_PATH) != 0) return Errno(EBADF);
  if (!file->inode().is_directory()) return Errno(ENOTDIR);
  MutexLock lock(file->offset_lock());
  if (file->path().dentry().unlinked()) return Errno(ENOENT);
  const int64_t before = file->offset();
  // Names beyond the end of memory are read the next time.
  const size_t most = std::min<size_t>(size, kMaxBatch);
  if (!GuestRange::Make(buf, most)) return Errno(EFAULT);
  const size_t room = t.mm().WritableFrom(buf, most);
  Sink sink(room);
  TRY(file->ReadDir(sink));
  NotifyFile(*file, IN_ACCESS);
  if (sink.bytes().empty()) {
    if (sink.full()) return Errno(room < most ? EFAULT : EINVAL);
    return 0;
  }
  Result<void> copied = t.CopyOut(buf, sink.bytes());
  if (!copied.ok()) {
    file->set_offset(before);
    return copied.error();
  }
  return static_cast<int64_t>(sink.bytes().size());
}

}  // namespace

SysResult SysGetdents64(Task& t, int fd, GuestAddr buf, uint32_t size) {
  return GetDents<Dirent64Sink>(t, fd, buf, size);
}

SysResult SysGetdents(Task& t, int fd, GuestAddr buf, uint32_t size) {
  return GetDents<OldDirentSink>(t, fd, buf, size);
}

}  // namespace ringwall
