#include "fs/vfs/leases.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <time.h>

#include <algorithm>

#include "fs/vfs/file.h"

namespace ringwall {

namespace {

constexpr int64_t kSecond = 1'000'000'000;

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * kSecond + now.tv_nsec;
}

bool Past(int64_t at) { return at != INT64_MAX && at <= Now(); }

// check_conflicting_open(): a read lease wants nobody to write, the holder itself neither; a write
// lease wants the holder alone.
bool OpenElsewhere(const File& file, bool write) {
  const OpenCounts open = file.inode().open_counts();
  if (!write) return open.writers != 0;
  return open.writers != (file.writable() ? 1 : 0) || open.readers != (file.writable() ? 0 : 1);
}

}  // namespace

LeaseSettings& lease_settings() {
  static auto* settings = new LeaseSettings;
  return *settings;
}

int FileLeases::Lease::target() const {
  if (unlocking) return F_UNLCK;
  if (downgrading) return F_RDLCK;
  return write ? F_WRLCK : F_RDLCK;
}

// time_out_leases(): true when any went or became a read lease.
bool FileLeases::TimeOutLocked() {
  bool changed = false;
  std::erase_if(leases_, [&](Lease& l) {
    if (l.downgrading && Past(l.downgrade_at)) {
      l.downgrading = l.write = false;
      changed = true;
    }
    const bool gone = l.unlocking && Past(l.unlock_at);
    changed |= gone;
    return gone;
  });
  return changed;
}

Result<void> FileLeases::Set(File& file, int fd, int type, int32_t pid, FileTeller teller) {
  bool changed = false;
  {
    MutexLock lock(mu_);
    changed = TimeOutLocked();
    Lease* mine = nullptr;
    bool refused = OpenElsewhere(file, type == F_WRLCK);
    for (Lease& l : leases_) {
      if (l.file == &file) {
        mine = &l;
        refused |= l.unlocking;
      } else if (type == F_WRLCK || l.unlocking) {
        refused = true;
      }
    }
    if (refused) return Errno(EAGAIN);
    if (mine != nullptr) {
      changed = true;
      mine->write = type == F_WRLCK;
      mine->downgrading = false;
    } else {
      if (lease_settings().enabled.load() == 0) return Errno(EINVAL);
      leases_.push_back({&file, fd, pid, type == F_WRLCK, teller});
    }
  }
  if (changed) queue_.Notify(EPOLLOUT);
  return {};
}

Result<void> FileLeases::Drop(const File& file) {
  size_t dropped;
  {
    MutexLock lock(mu_);
    dropped = std::erase_if(leases_, [&](const Lease& l) { return l.file == &file; });
  }
  if (dropped == 0) return Errno(EAGAIN);
  queue_.Notify(EPOLLOUT);
  return {};
}

int FileLeases::Get(const File& file) {
  MutexLock lock(mu_);
  TimeOutLocked();
  for (const Lease& l : leases_) {
    if (l.file == &file) return l.target();
  }
  return F_UNLCK;
}

Result<void> FileLeases::Break(bool write) {
  struct ToTell {
    RefPtr<File> file;
    int fd;
    FileTeller teller;
  };
  std::vector<ToTell> tell;
  bool conflict = false, changed = false;
  {
    MutexLock lock(mu_);
    changed = TimeOutLocked();
    const int64_t seconds = lease_settings().break_time.load();
    const int64_t limit = seconds > 0 ? Now() + seconds * kSecond : INT64_MAX;
    for (Lease& l : leases_) {
      if (!l.write && !write) continue;
      conflict = true;
      if (l.unlocking || (!write && l.downgrading)) continue;
      (write ? l.unlocking : l.downgrading) = true;
      (write ? l.unlock_at : l.downgrade_at) = limit;
      if (l.file->TryAddRef()) tell.push_back({RefPtr<File>::Adopt(l.file), l.fd, l.teller});
    }
  }
  for (ToTell& t : tell) t.teller(*t.file, t.fd);
  if (changed) queue_.Notify(EPOLLOUT);
  if (conflict) return Errno(EAGAIN);
  return {};
}

int64_t FileLeases::deadline() const {
  int64_t first = INT64_MAX;
  MutexLock lock(mu_);
  for (const Lease& l : leases_) {
    if (l.unlocking) first = std::min(first, l.unlock_at);
    if (l.downgrading) first = std::min(first, l.downgrade_at);
  }
  return first;
}

std::vector<FileLeases::Listed> FileLeases::List() const {
  MutexLock lock(mu_);
  std::vector<Listed> out;
  for (const Lease& l : leases_) {
    out.push_back({l.unlocking || l.downgrading, l.write, l.pid, l.file});
  }
  return out;
}

}  // namespace ringwall
