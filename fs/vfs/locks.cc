#include "fs/vfs/locks.h"

#include <sys/epoll.h>

#include <algorithm>

#include "absl/container/flat_hash_map.h"

namespace ringwall {

namespace {

// Who waits for whom, of POSIX owners; one in the whole Sentry, since a ring may lead through
// several files. Each owner's thread waits for one lock, but threads share an owner, so this finds
// rings of the last waiter of each owner, as Linux does.
using WaitsFor = absl::flat_hash_map<const void*, const void*>;
Guarded<WaitsFor, LockClass::kLeaf>& waits_for() {
  static auto* w = new Guarded<WaitsFor, LockClass::kLeaf>;
  return *w;
}

// Linux gives up looking after this many steps, too.
constexpr int kMaxSteps = 10;

// EDEADLK when `owner` waiting for `holder` would close a ring.
Result<void> StartWaiting(const void* owner, const void* holder) {
  return waits_for().With([&](WaitsFor& map) -> Result<void> {
    const void* at = holder;
    for (int i = 0; i < kMaxSteps; i++) {
      const auto it = map.find(at);
      if (it == map.end()) break;
      at = it->second;
      if (at == owner) return Errno(EDEADLK);
    }
    map[owner] = holder;
    return {};
  });
}

bool Overlaps(const RangeLock& a, const RangeLock& b) {
  return a.start <= b.last && b.start <= a.last;
}

bool SameOwner(const RangeLock& a, const RangeLock& b) {
  return a.owner == b.owner && a.ofd == b.ofd;
}

}  // namespace

Result<RangeLock> FileLocks::MakeRange(int64_t base, int64_t start, int64_t len) {
  int64_t from;
  if (__builtin_add_overflow(base, start, &from)) return Errno(EOVERFLOW);
  if (from < 0) return Errno(EINVAL);
  RangeLock r;
  if (len > 0) {
    int64_t last;
    if (__builtin_add_overflow(from, len - 1, &last)) return Errno(EOVERFLOW);
    r.start = static_cast<uint64_t>(from);
    r.last = static_cast<uint64_t>(last);
  } else if (len < 0) {
    if (from + len < 0) return Errno(EINVAL);
    r.start = static_cast<uint64_t>(from + len);
    r.last = static_cast<uint64_t>(from - 1);
  } else {
    r.start = static_cast<uint64_t>(from);
    r.last = RangeLock::kEnd;
  }
  return r;
}

const RangeLock* FileLocks::ConflictLocked(const RangeLock& lock) const {
  for (const RangeLock& held : ranges_) {
    if (SameOwner(held, lock) || !Overlaps(held, lock)) continue;
    if (held.write || lock.write) return &held;
  }
  return nullptr;
}

// Takes the range out of what its owner holds: locks shrink, split or go.
void FileLocks::CarveLocked(const RangeLock& range) {
  std::vector<RangeLock> pieces;
  std::erase_if(ranges_, [&](RangeLock& held) {
    if (!SameOwner(held, range) || !Overlaps(held, range)) return false;
    if (held.last > range.last) {
      RangeLock right = held;
      right.start = range.last + 1;
      pieces.push_back(right);
    }
    if (held.start < range.start) {
      RangeLock left = held;
      left.last = range.start - 1;
      pieces.push_back(left);
    }
    return true;
  });
  ranges_.insert(ranges_.end(), pieces.begin(), pieces.end());
  std::sort(ranges_.begin(), ranges_.end(),
            [](const RangeLock& a, const RangeLock& b) { return a.start < b.start; });
}

Result<void> FileLocks::Lock(const RangeLock& lock, bool wait) {
  {
    MutexLock hold(mu_);
    if (const RangeLock* in_the_way = ConflictLocked(lock)) {
      if (!wait) return Errno(EAGAIN);
      if (!lock.ofd && !in_the_way->ofd) TRY(StartWaiting(lock.owner, in_the_way->owner));
      return Errno(EAGAIN);
    }
    CarveLocked(lock);
    // Neighbours of one kind become one lock, so that a file locked record by record stays small.
    RangeLock merged = lock;
    std::erase_if(ranges_, [&](const RangeLock& held) {
      if (!SameOwner(held, lock) || held.write != lock.write) return false;
      const bool touches = held.last + 1 == merged.start || merged.last + 1 == held.start;
      if (!touches) return false;
      merged.start = std::min(merged.start, held.start);
      merged.last = std::max(merged.last, held.last);
      return true;
    });
    const auto place = std::upper_bound(
        ranges_.begin(), ranges_.end(), merged,
        [](const RangeLock& a, const RangeLock& b) { return a.start < b.start; });
    ranges_.insert(place, merged);
  }
  if (wait) StopWaiting(lock.owner);
  // A write lock that became a read lock lets others in.
  if (!lock.write) queue_.Notify(EPOLLOUT);
  return {};
}

void FileLocks::Unlock(const RangeLock& range) {
  {
    MutexLock hold(mu_);
    CarveLocked(range);
  }
  queue_.Notify(EPOLLOUT);
}

std::optional<RangeLock> FileLocks::FindConflict(const RangeLock& lock) const {
  MutexLock hold(mu_);
  const RangeLock* c = ConflictLocked(lock);
  if (c == nullptr) return std::nullopt;
  return *c;
}

std::optional<RangeLock> FileLocks::FindOwn(const RangeLock& lock) const {
  MutexLock hold(mu_);
  for (const RangeLock& held : ranges_) {
    if (SameOwner(held, lock) && Overlaps(held, lock)) return held;
  }
  return std::nullopt;
}

void FileLocks::DropOwner(const void* owner, bool ofd) {
  size_t dropped;
  {
    MutexLock hold(mu_);
    dropped = std::erase_if(
        ranges_, [&](const RangeLock& r) { return r.owner == owner && r.ofd == ofd; });
  }
  if (dropped != 0) queue_.Notify(EPOLLOUT);
}

Result<void> FileLocks::Flock(const File* file, FlockType type, int32_t pid) {
  bool dropped = false;
  bool blocked = false;
  {
    MutexLock hold(mu_);
    const auto mine = std::find_if(flocks_.begin(), flocks_.end(),
                                   [&](const FlockEntry& e) { return e.file == file; });
    if (mine != flocks_.end()) {
      if (mine->type == type) return {};
      flocks_.erase(mine);
      dropped = true;
    }
    blocked = std::any_of(flocks_.begin(), flocks_.end(), [&](const FlockEntry& e) {
      return type == FlockType::kExclusive || e.type == FlockType::kExclusive;
    });
    if (!blocked) flocks_.push_back({file, type, pid});
  }
  if (dropped) queue_.Notify(EPOLLOUT);
  if (blocked) return Errno(EAGAIN);
  return {};
}

void FileLocks::Funlock(const File* file) {
  size_t dropped;
  {
    MutexLock hold(mu_);
    dropped = std::erase_if(flocks_, [&](const FlockEntry& e) { return e.file == file; });
  }
  if (dropped != 0) queue_.Notify(EPOLLOUT);
}

void FileLocks::StopWaiting(const void* owner) {
  waits_for().With([&](WaitsFor& map) { map.erase(owner); });
}

std::vector<FileLocks::Listed> FileLocks::List() const {
  std::vector<Listed> out;
  {
    MutexLock lock(mu_);
    for (const RangeLock& r : ranges_) out.push_back({r});
    for (const FlockEntry& f : flocks_) {
      Listed l;
      l.flock = true;
      l.type = f.type;
      l.file = f.file;
      l.range.pid = f.pid;
      out.push_back(l);
    }
  }
  for (const FileLeases::Listed& f : leases_.List()) {
    Listed l;
    l.lease = true;
    l.breaking = f.breaking;
    l.range.write = f.write;
    l.range.pid = f.pid;
    l.file = f.file;
    out.push_back(l);
  }
  return out;
}

}  // namespace ringwall
