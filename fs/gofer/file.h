// Open files of the gofer file system.
#ifndef RINGWALL_FS_GOFER_FILE_H_
#define RINGWALL_FS_GOFER_FILE_H_

#include <deque>
#include <string>

#include "fs/gofer/inode.h"
#include "fs/vfs/file.h"

namespace ringwall {

// Reads and writes go to the donated descriptor: no round trip to the gofer.
class GoferRegularFile final : public File {
 public:
  GoferRegularFile(Path path, uint32_t flags, Ref<DonatedFd> fd)
      : File(std::move(path), flags), fd_(std::move(fd)) {}
  bool seekable() const override { return true; }
  Result<size_t> Read(IoDst& dst, uint64_t pos, int rw_flags) override;
  Result<size_t> Write(IoSrc& src, uint64_t* pos, int rw_flags) override;
  Result<int64_t> Seek(int64_t offset, int whence) override;
  Result<HostMapping> Map(uint64_t offset, uint64_t length, int prot, bool shared) override;
  Result<void> Fsync(bool data_only) override;
  Result<void> Fallocate(int mode, uint64_t offset, uint64_t length) override;

 private:
  GoferInode& gofer_inode() const { return static_cast<GoferInode&>(inode()); }
  const Ref<DonatedFd> fd_;
};

// Reads batches of entries. Offsets: 0 is ".", 1 is "..", the rest are the gofer's plus 2.
class GoferDirectoryFile final : public File {
 public:
  GoferDirectoryFile(Path path, uint32_t flags) : File(std::move(path), flags) {}
  bool seekable() const override { return true; }
  Result<size_t> Read(IoDst&, uint64_t, int) override { return Errno(EISDIR); }
  Result<int64_t> Seek(int64_t offset, int whence) override;
  Result<void> ReadDir(DirSink& sink) override NO_THREAD_SAFETY_ANALYSIS;
  Result<void> Fsync(bool) override { return {}; }
};

}  // namespace ringwall

#endif  // RINGWALL_FS_GOFER_FILE_H_
