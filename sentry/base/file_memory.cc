#include "sentry/base/file_memory.h"

#include <errno.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <list>
#include <utility>

#include "sentry/base/mutex.h"

namespace ringwall {

struct MappedMemory::Entry {
  int fd;
  uint64_t size;     // pages that may come to be
  uint64_t charged;  // by the owner
  FileMemory::Group* group;  // or null
  uint64_t seen = 0;         // beyond that, at the last look; may be below zero
  std::list<Entry*>::iterator place;

  // What it may still grow by; files may be larger than all memory.
  uint64_t Room() const {
    constexpr uint64_t kMost = uint64_t{1} << 40;
    const uint64_t there = charged + seen;
    return size > there ? std::min(size - there, kMost) : 0;
  }
};

namespace {

constexpr uint64_t kPage = 4096;
// Guests fill memory at some gigabytes a second: a look comes before all that is left can be full.
constexpr uint64_t kBytesPerNs = 4;
constexpr uint64_t kSoonestNs = 10'000'000, kLatestNs = 2'000'000'000;

struct Budget {
  Mutex<LockClass::kLeaf> mu;
  std::list<MappedMemory::Entry*> mapped GUARDED_BY(mu);
  std::atomic<uint64_t> room{0};  // of all of them; changed with the lock held
  bool watched GUARDED_BY(mu) = false;
  FileMemory::Watcher* watcher GUARDED_BY(mu) = nullptr;
  std::atomic<uint64_t> limit{UINT64_MAX};
  std::atomic<uint64_t> used{0};

  bool Full() const { return used.load() >= limit.load(); }
  // Whether a watch has to begin; the caller starts it without the lock.
  FileMemory::Watcher* NeedsWatchLocked() REQUIRES(mu) {
    if (watched || watcher == nullptr || used.load() + room.load() <= limit.load()) return nullptr;
    watched = true;
    return watcher;
  }
  // Asks the host for what is there. Adds to `grown` what grew.
  void LookLocked(std::vector<int>* grown, const FileMemory::Group* group = nullptr) REQUIRES(mu) {
    for (MappedMemory::Entry* entry : mapped) {
      if (group != nullptr && entry->group != group) continue;
      struct stat st;
      if (::fstat(entry->fd, &st) != 0) continue;
      const uint64_t there = static_cast<uint64_t>(st.st_blocks) * 512 / kPage;
      const uint64_t seen = there - entry->charged;
      if (seen == entry->seen) continue;
      if (static_cast<int64_t>(seen - entry->seen) > 0 && grown != nullptr) grown->push_back(entry->fd);
      UncountLocked(*entry);
      entry->seen = seen;
      CountLocked(*entry);
    }
  }
  void CountLocked(const MappedMemory::Entry& entry) REQUIRES(mu) {
    room += entry.Room();
    used += entry.seen;
    if (entry.group == nullptr) return;
    entry.group->files++;
    entry.group->room += entry.Room();
    entry.group->seen += entry.seen;
  }
  void UncountLocked(const MappedMemory::Entry& entry) REQUIRES(mu) {
    room -= entry.Room();
    used -= entry.seen;
    if (entry.group == nullptr) return;
    entry.group->files--;
    entry.group->room -= entry.Room();
    entry.group->seen -= entry.seen;
  }
};

Budget& TheBudget() {
  static Budget& budget = *new Budget();
  return budget;
}

}  // namespace

void FileMemory::SetLimit(uint64_t bytes) {
  TheBudget().limit.store(bytes == 0 ? UINT64_MAX : std::max<uint64_t>(1, bytes / kPage));
}

void FileMemory::SetWatcher(Watcher* watcher) {
  Budget& b = TheBudget();
  MutexLock lock(b.mu);
  b.watcher = watcher;
}

uint64_t FileMemory::limit_pages() { return TheBudget().limit.load(); }
uint64_t FileMemory::used_pages() { return TheBudget().used.load(); }

bool FileMemory::Charge(uint64_t pages) {
  if (pages == 0) return true;
  Budget& b = TheBudget();
  const uint64_t limit = b.limit.load();
  const uint64_t used = b.used.fetch_add(pages) + pages;
  if (used + b.room.load() <= limit) return true;
  MutexLock lock(b.mu);
  if (used > limit) b.LookLocked(nullptr);
  const bool fits = b.used.load() <= limit;
  if (!fits) b.used.fetch_sub(pages);
  Watcher* const start = b.NeedsWatchLocked();
  lock.Unlock();
  if (start != nullptr) start->Start();
  return fits;
}

uint64_t FileMemory::LookAt(const Group& group) {
  if (group.files.load() == 0) return 0;
  Budget& b = TheBudget();
  MutexLock lock(b.mu);
  b.LookLocked(nullptr, &group);
  return group.seen.load();
}

void FileMemory::Uncharge(uint64_t pages) { TheBudget().used.fetch_sub(pages); }

void FileMemory::Recharge(uint64_t was, uint64_t is) { TheBudget().used.fetch_add(is - was); }

FileMemory::Outcome FileMemory::Look() {
  Budget& b = TheBudget();
  Outcome outcome;
  MutexLock lock(b.mu);
  b.LookLocked(&outcome.grown);
  const uint64_t used = b.used.load(), limit = b.limit.load();
  if (used <= limit) outcome.grown.clear();
  if (used + b.room.load() <= limit) {
    b.watched = false;
    return outcome;
  }
  const uint64_t left = used < limit ? (limit - used) * kPage : 0;
  outcome.again_ns = std::clamp(left / kBytesPerNs, kSoonestNs, kLatestNs);
  return outcome;
}

Result<MappedMemory> MappedMemory::Create(int fd, uint64_t size_pages, uint64_t charged,
                                          FileMemory::Group* group) {
  Budget& b = TheBudget();
  auto* entry = new Entry{fd, size_pages, charged, group, 0, {}};
  MutexLock lock(b.mu);
  if (b.Full()) b.LookLocked(nullptr);
  if (b.Full() && entry->Room() != 0) {
    lock.Unlock();
    delete entry;
    return Errno(ENOMEM);
  }
  entry->place = b.mapped.insert(b.mapped.end(), entry);
  b.CountLocked(*entry);
  FileMemory::Watcher* const start = b.NeedsWatchLocked();
  lock.Unlock();
  if (start != nullptr) start->Start();
  MappedMemory made;
  made.entry_ = entry;
  return made;
}

MappedMemory::MappedMemory(MappedMemory&& other) noexcept
    : entry_(std::exchange(other.entry_, nullptr)) {}

MappedMemory& MappedMemory::operator=(MappedMemory&& other) noexcept {
  std::swap(entry_, other.entry_);
  return *this;
}

MappedMemory::~MappedMemory() {
  if (entry_ == nullptr) return;
  Budget& b = TheBudget();
  {
    MutexLock lock(b.mu);
    b.UncountLocked(*entry_);
    b.mapped.erase(entry_->place);
  }
  delete entry_;
}

Result<void> MappedMemory::MayMap() const {
  Budget& b = TheBudget();
  if (entry_ == nullptr || !b.Full()) return {};
  MutexLock lock(b.mu);
  b.LookLocked(nullptr);
  if (b.Full() && entry_->Room() != 0) return Errno(ENOMEM);
  return {};
}

void MappedMemory::Update(uint64_t size_pages, uint64_t charged) {
  if (entry_ == nullptr) return;
  Budget& b = TheBudget();
  MutexLock lock(b.mu);
  b.UncountLocked(*entry_);
  entry_->seen = 0;
  entry_->size = size_pages;
  entry_->charged = charged;
  b.CountLocked(*entry_);
  FileMemory::Watcher* const start = b.NeedsWatchLocked();
  lock.Unlock();
  if (start != nullptr) start->Start();
}

}  // namespace ringwall
