#include "fs/vfs/file_handles.h"

#include <algorithm>
#include <deque>

namespace ringwall {

namespace {

// Each keeps a dentry and what belongs to it in memory.
constexpr size_t kMostHandles = 1024;

struct Entry {
  Ref<Dentry> dentry;
  const FileSystem* fs;
  uint64_t ino;
};

std::atomic<size_t> remembered{0};

// Oldest first.
Guarded<std::deque<Entry>, LockClass::kLeaf>& Handles() {
  static auto* handles = new Guarded<std::deque<Entry>, LockClass::kLeaf>;
  return *handles;
}

}  // namespace

bool KeepsHandles(const FileSystem& fs) {
  const std::string_view type = fs.type_name();
  return type == "tmpfs" || type == "overlay" || type == "9p" || type == "devtmpfs" ||
         type == "sysfs";
}

void RememberHandle(Dentry& dentry, uint64_t ino) {
  const FileSystem* fs = &dentry.inode()->fs();
  std::deque<Entry> dropped;  // ended without the lock
  Handles().With([&](std::deque<Entry>& all) {
    const auto known = std::find_if(all.begin(), all.end(), [&](const Entry& e) {
      return e.fs == fs && e.ino == ino;
    });
    if (known != all.end()) {
      dropped.push_back(std::move(*known));
      all.erase(known);
    } else if (all.size() == kMostHandles) {
      dropped.push_back(std::move(all.front()));
      all.pop_front();
    }
    all.push_back({Ref<Dentry>(dentry), fs, ino});
    remembered.store(all.size());
  });
}

RefPtr<Dentry> FindByHandle(const FileSystem& fs, uint64_t ino) {
  return Handles().With([&](std::deque<Entry>& all) {
    for (const Entry& e : all) {
      if (e.fs == &fs && e.ino == ino) return RefPtr<Dentry>(e.dentry);
    }
    return RefPtr<Dentry>();
  });
}

void ForgetHandle(const Inode& inode) {
  if (remembered.load(std::memory_order_relaxed) == 0) return;
  std::deque<Entry> dropped;
  Handles().With([&](std::deque<Entry>& all) {
    for (Entry& e : all) {
      if (e.dentry->inode().get() == &inode) dropped.push_back(e);
    }
    std::erase_if(all, [&](const Entry& e) { return e.dentry->inode().get() == &inode; });
    remembered.store(all.size());
  });
}

}  // namespace ringwall
