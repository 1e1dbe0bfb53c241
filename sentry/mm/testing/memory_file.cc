#include "sentry/mm/testing/memory_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <array>

#include "fs/vfs/dentry.h"
#include "fs/vfs/vfs.h"
#include "sentry/base/check.h"

namespace ringwall::testing {

namespace {

class TestFileSystem final : public FileSystem {
 public:
  std::string_view type_name() const override { return "testfs"; }
  Ref<Inode> root() override;
  Result<StatFs> GetStatFs() override { return StatFs{}; }
};

TestFileSystem& TestFs() {
  static TestFileSystem* const fs = new TestFileSystem();
  return *fs;
}

class MemoryInode final : public Inode {
 public:
  MemoryInode(uint32_t mode, uint64_t size)
      : Inode(TestFs(), S_IFREG), mode_(mode), size_(size) {}
  Result<Attr> GetAttr() override {
    return Attr{.ino = 1, .mode = S_IFREG | mode_, .size = size_};
  }
  Result<void> Set(const SetAttr&) override { return Errno(EPERM); }
  Result<Ref<File>> Open(const Path&, uint32_t, const Credentials&) override {
    return Errno(EPERM);
  }

 private:
  const uint32_t mode_;
  const uint64_t size_;
};

Ref<Inode> TestFileSystem::root() { return MakeRef<MemoryInode>(0, 0); }

}  // namespace

Ref<MemoryFile> MemoryFile::Create(std::string_view content, uint32_t flags, uint32_t mode) {
  UniqueFd memory(::memfd_create("test", MFD_CLOEXEC));
  RW_CHECK(memory.valid());
  RW_CHECK(::pwrite(memory.get(), content.data(), content.size(), 0) ==
           static_cast<ssize_t>(content.size()));
  Path path = AnonymousPath(MakeRef<MemoryInode>(mode, content.size()), "test-file");
  return MakeRef<MemoryFile>(std::move(path), flags, std::move(memory));
}

Result<size_t> MemoryFile::Read(IoDst& dst, uint64_t pos, int) {
  ++reads;
  size_t done = 0;
  std::array<std::byte, 4096> buffer;
  while (dst.remaining() != 0) {
    const size_t want = dst.remaining() < buffer.size() ? dst.remaining() : buffer.size();
    const ssize_t n = ::pread(memory_.get(), buffer.data(), want, static_cast<off_t>(pos + done));
    if (n <= 0) break;
    const size_t put = TRY(dst.Put(std::span(buffer).first(static_cast<size_t>(n))));
    done += put;
  }
  return done;
}

Result<HostMapping> MemoryFile::Map(uint64_t offset, uint64_t, int prot, bool shared) {
  ++maps;
  if (sealed && shared && (prot & PROT_WRITE) != 0) return Errno(EPERM);
  return HostMapping{memory_.get(), offset};
}

}  // namespace ringwall::testing
