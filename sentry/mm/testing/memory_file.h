// A mappable file for unit tests: a memfd with an inode and no place in any tree.
#ifndef RINGWALL_SENTRY_MM_TESTING_MEMORY_FILE_H_
#define RINGWALL_SENTRY_MM_TESTING_MEMORY_FILE_H_

#include <string_view>

#include "fs/vfs/file.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::testing {

class MemoryFile final : public File {
 public:
  // `content` rounded up with zeros to nothing: the file is exactly that long. flags: O_RDWR ...
  static Ref<MemoryFile> Create(std::string_view content, uint32_t flags = O_RDWR,
                                uint32_t mode = 0755);
  bool seekable() const override { return true; }
  Result<size_t> Read(IoDst& dst, uint64_t pos, int rw_flags) override;
  Result<HostMapping> Map(uint64_t offset, uint64_t length, int prot, bool shared) override;
  int host_fd() const { return memory_.get(); }
  int maps = 0;   // calls of Map
  int reads = 0;  // calls of Read
  bool sealed = false;  // refuses shared writable mappings with EPERM

  MemoryFile(Path path, uint32_t flags, UniqueFd memory)
      : File(std::move(path), flags), memory_(std::move(memory)) {}

 private:
  const UniqueFd memory_;
};

}  // namespace ringwall::testing

#endif  // RINGWALL_SENTRY_MM_TESTING_MEMORY_FILE_H_
