#include "fs/vfs/dir_listing.h"

#include <dirent.h>

#include "fs/vfs/dentry.h"

namespace ringwall {

Result<void> ListedDirectoryFile::ReadDir(DirSink& sink) {
  int64_t at = offset();
  if (at <= 0 || !listing_) listing_ = TRY(List());
  if (at < 1 && sink.Add(".", OwnIno(), DT_DIR, 1)) at = 1;
  if (at == 1 && sink.Add("..", ParentIno(), DT_DIR, 2)) at = 2;
  while (at >= 2 && static_cast<size_t>(at - 2) < listing_->entries.size()) {
    const DirListing::Entry& e = listing_->entries[static_cast<size_t>(at - 2)];
    if (!sink.Add(e.name, e.ino, e.type, at + 1)) break;
    at++;
  }
  set_offset(at);
  return {};
}

uint64_t ListedDirectoryFile::ParentIno() {
  const RefPtr<Dentry> parent = path() ? path().dentry().parent() : nullptr;
  if (!parent) return OwnIno();
  const Result<Attr> attr = parent->inode()->GetAttr();
  return attr.ok() ? attr->ino : 0;
}

}  // namespace ringwall
