// Reading a merged directory.
#include <dirent.h>
#include <fcntl.h>

#include "absl/container/flat_hash_set.h"
#include "fs/overlay/overlay_inode.h"

namespace ringwall {

namespace {

// What one layer's directory holds.
class LayerEntries final : public DirSink {
 public:
  bool Add(std::string_view name, uint64_t ino, uint8_t type, int64_t) override {
    if (name != "." && name != "..") entries.push_back({std::string(name), ino, type});
    return true;
  }
  std::vector<OverlayListing::Entry> entries;
};

}  // namespace

// Nobody else knows the file, and the reader of the overlay's directory holds its own offset lock.
Result<void> ReadPrivate(File& file, DirSink& sink) NO_THREAD_SAFETY_ANALYSIS {
  return file.ReadDir(sink);
}

namespace {

Result<std::vector<OverlayListing::Entry>> ReadLayer(Inode& dir) {
  const Ref<const Credentials> root = Credentials::Root();
  Ref<File> file = TRY(dir.Open(Path(), O_RDONLY | O_DIRECTORY | O_NOATIME, *root));
  LayerEntries sink;
  TRY(ReadPrivate(*file, sink));
  return std::move(sink.entries);
}

class OverlayDirFile final : public ListedDirectoryFile {
 public:
  OverlayDirFile(const Path& path, uint32_t flags, OverlayInode& dir)
      : ListedDirectoryFile(path, flags), dir_(dir) {}

 private:
  Result<Ref<DirListing>> List() override { return dir_->Listing(); }
  uint64_t OwnIno() override { return dir_->ino(); }

  const Ref<OverlayInode> dir_;
};

}  // namespace

Ref<File> MakeOverlayDirFile(const Path& path, uint32_t flags, OverlayInode& inode) {
  return MakeRef<OverlayDirFile>(path, flags, inode);
}

void OverlayInode::EntriesChanged() {
  MutexLock lock(mu_);
  listing_.reset();
  listing_generation_++;
}

Result<Ref<OverlayListing>> OverlayInode::Listing() {
  const bool keep = caching() == Caching::kForever;
  uint64_t generation;
  {
    MutexLock lock(mu_);
    if (listing_ && keep) return Ref<OverlayListing>(*listing_);
    generation = listing_generation_;
  }
  Ref<OverlayListing> listing = MakeRef<OverlayListing>();
  if (gone_.load(std::memory_order_relaxed)) return listing;
  absl::flat_hash_set<std::string> seen;
  if (Inode* upper_part = upper()) {
    std::vector<OverlayListing::Entry> entries = TRY(ReadLayer(*upper_part));
    for (OverlayListing::Entry& e : entries) {
      if (!lowers_.empty()) seen.insert(e.name);
      if (e.type == DT_CHR) {
        const Result<Ref<Inode>> inode = upper_part->Lookup(e.name);
        if (inode.ok() && IsWhiteout(**inode)) continue;
      }
      e.ino = overlay_.GuestIno(e.ino);
      listing->entries.push_back(std::move(e));
    }
  }
  for (size_t i = 0; i < lowers_.size(); i++) {
    std::vector<OverlayListing::Entry> entries = TRY(ReadLayer(*lowers_[i]));
    const bool last = i + 1 == lowers_.size();
    for (OverlayListing::Entry& e : entries) {
      if (last ? seen.contains(e.name) : !seen.insert(e.name).second) continue;
      if (e.type == DT_CHR) {
        const Result<Ref<Inode>> inode = lowers_[i]->Lookup(e.name);
        if (inode.ok() && IsWhiteout(**inode)) continue;
      }
      listing->entries.push_back(std::move(e));
    }
  }
  MutexLock lock(mu_);
  if (keep && generation == listing_generation_) listing_ = listing;
  return listing;
}

}  // namespace ringwall
