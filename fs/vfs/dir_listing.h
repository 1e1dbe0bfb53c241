// The open directory of file systems that list a directory as a whole: positions are indices into the
// listing that the file took when it was at the start, so they mean the same while others make and
// remove names.
#ifndef RINGWALL_FS_VFS_DIR_LISTING_H_
#define RINGWALL_FS_VFS_DIR_LISTING_H_

#include <string>
#include <vector>

#include "fs/vfs/file.h"

namespace ringwall {

// Without "." and "..". Derive to keep more beside it.
class DirListing : public RefCounted<DirListing> {
 public:
  struct Entry {
    std::string name;
    uint64_t ino;
    uint8_t type;  // DT_*
  };
  std::vector<Entry> entries;
};

class ListedDirectoryFile : public File {
 public:
  bool seekable() const final { return true; }
  Result<void> ReadDir(DirSink& sink) final NO_THREAD_SAFETY_ANALYSIS;

 protected:
  using File::File;
  // What is in the directory now.
  virtual Result<Ref<DirListing>> List() = 0;
  virtual uint64_t OwnIno() = 0;

 private:
  uint64_t ParentIno();
  RefPtr<DirListing> listing_;  // under the offset lock
};

}  // namespace ringwall

#endif  // RINGWALL_FS_VFS_DIR_LISTING_H_
