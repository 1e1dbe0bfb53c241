#include "sentry/mm/shared_anon.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <utility>

#include "fs/vfs/dentry.h"
#include "fs/vfs/vfs.h"
#include "sentry/base/file_memory.h"
#include "sentry/base/guest_addr.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

namespace {

// The kernel's own tmpfs mount (shm_mnt); nothing can be looked up in it.
class ShmFileSystem final : public FileSystem {
 public:
  std::string_view type_name() const override { return "tmpfs"; }
  Ref<Inode> root() override;
  Result<StatFs> GetStatFs() override { return StatFs{.type = 0x01021994}; }
};

ShmFileSystem& ShmFs() {
  static ShmFileSystem* const fs = new ShmFileSystem();
  return *fs;
}

class SharedAnonInode final : public Inode {
 public:
  SharedAnonInode(UniqueFd memory, uint64_t size, MappedMemory mapped)
      : Inode(ShmFs(), S_IFREG),
        memory_(std::move(memory)),
        size_(size),
        mapped_(std::move(mapped)) {}

  Result<Attr> GetAttr() override {
    return Attr{.ino = ino_, .mode = S_IFREG | 0777, .nlink = 0, .size = size_};
  }
  Result<void> Set(const SetAttr&) override { return Errno(EPERM); }
  // Reached through /proc/PID/map_files only, which Linux guards too.
  Result<Ref<File>> Open(const Path&, uint32_t, const Credentials&) override {
    return Errno(EPERM);
  }
  int memory() const { return memory_.get(); }

 private:
  const UniqueFd memory_;
  const uint64_t size_;
  const MappedMemory mapped_;  // gone before its descriptor
  static std::atomic<uint64_t> next_ino_;
  const uint64_t ino_ = next_ino_.fetch_add(1, std::memory_order_relaxed);
};

std::atomic<uint64_t> SharedAnonInode::next_ino_{1};

Ref<Inode> ShmFileSystem::root() { return MakeRef<SharedAnonInode>(UniqueFd(), 0, MappedMemory()); }

class SharedAnonFile final : public File {
 public:
  SharedAnonFile(Path path, int memory) : File(std::move(path), O_RDWR), memory_(memory) {}
  Result<HostMapping> Map(uint64_t offset, uint64_t, int, bool) override {
    return HostMapping{memory_, offset};
  }

 private:
  const int memory_;  // the inode's
};

}  // namespace

Result<Ref<File>> MakeSharedAnonFile(uint64_t size) {
  UniqueFd memory(::memfd_create("shared", MFD_CLOEXEC));
  if (!memory.valid()) return Errno(errno);
  if (::ftruncate(memory.get(), static_cast<off_t>(size)) != 0) return Errno(ENOMEM);
  const int fd = memory.get();
  MappedMemory mapped = TRY(MappedMemory::Create(fd, size / kPageSize, 0));
  Ref<SharedAnonInode> inode =
      MakeRef<SharedAnonInode>(std::move(memory), size, std::move(mapped));
  Path path = AnonymousPath(std::move(inode), "/dev/zero (deleted)");
  return Ref<File>(MakeRef<SharedAnonFile>(std::move(path), fd));
}

bool IsSharedAnon(const File& file) { return &file.inode().fs() == &ShmFs(); }

}  // namespace ringwall
