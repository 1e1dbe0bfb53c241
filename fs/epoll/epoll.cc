#include "fs/epoll/epoll.h"

#include <sys/epoll.h>

#include <algorithm>
#include <set>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

namespace {

constexpr uint32_t kControlBits = EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE | EPOLLWAKEUP;
constexpr int kMaxDepth = 5;

class EpollInode final : public AnonInode {
 public:
  EpollInode() : AnonInode(0600, 0, 0) {}
  static constexpr char kKind = 0;
  const void* kind() const override { return &kKind; }
};

// Which epolls watch a file; under AllMutex().
std::multimap<const File*, EpollFile*>& Watchers() {
  static auto* watchers = new std::multimap<const File*, EpollFile*>;
  return *watchers;
}

}  // namespace

// One watched descriptor.
class EpollFile::Entry final : public Waiter {
 public:
  Entry(EpollFile& epoll, Key key) : epoll_(epoll), key(key) {}
  bool OnEvent(EventMask) override {
    epoll_.MarkReady(*this, true);
    return true;
  }

 private:
  EpollFile& epoll_;

 public:
  const Key key;
  uint32_t events = 0;  // 0 after EPOLLONESHOT has fired
  uint64_t data = 0;
  bool in_ready = false;  // under ready_mu_
  Ready::iterator at;     // its place when in_ready
};

EpollFile::EpollFile(Path path) : File(std::move(path), O_RDWR) {}
EpollFile::~EpollFile() = default;

Mutex<LockClass::kEpoll>& EpollFile::AllMutex() {
  static auto* mu = new Mutex<LockClass::kEpoll>;
  return *mu;
}

Ref<EpollFile> EpollFile::Create() {
  return MakeRef<EpollFile>(AnonymousPath(MakeRef<EpollInode>(), "anon_inode:[eventpoll]"));
}

EpollFile* EpollFile::From(File& file) {
  return file.inode().kind() == &EpollInode::kKind ? static_cast<EpollFile*>(&file) : nullptr;
}

void EpollFile::MarkReady(Entry& e, bool nested) {
  {
    MutexLock lock(ready_mu_);
    if (!e.in_ready) {
      e.at = ready_.insert(ready_.end(), &e);
      e.in_ready = true;
    }
  }
  nested ? queue_.NotifyNested(EPOLLIN) : queue_.Notify(EPOLLIN);
}

bool EpollFile::WatchesLocked(const File& file, int depth) const {
  if (&file == this || depth > kMaxDepth) return true;
  EpollFile* inner = From(const_cast<File&>(file));
  if (inner == nullptr) return false;
  for (const auto& [key, entry] : inner->entries_) {
    if (WatchesLocked(*key.first, depth + 1)) return true;
  }
  return false;
}

void EpollFile::ArmLocked(Entry& e, File& file) {
  const EventMask wanted = (e.events & ~kControlBits) | EPOLLERR | EPOLLHUP;
  file.queue()->Add(e, wanted, (e.events & EPOLLEXCLUSIVE) != 0);
  std::vector<RefPtr<File>> held;
  if ((PollFile(file, wanted, &held) & wanted) != 0) MarkReady(e, false);
}

Result<void> EpollFile::Add(int fd, File& file, const EpollEvent& event) {
  if (&file == this) return Errno(EINVAL);
  if (file.queue() == nullptr) return Errno(EPERM);
  const bool is_epoll = From(file) != nullptr;
  if ((event.events & EPOLLEXCLUSIVE) != 0) {
    constexpr uint32_t kWithExclusive =
        EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
    if (is_epoll || (event.events & ~kWithExclusive) != 0) return Errno(EINVAL);
  }
  MutexLock lock(AllMutex());
  if (is_epoll && WatchesLocked(file, 1)) return Errno(ELOOP);
  const Key key{&file, fd};
  if (entries_.contains(key)) return Errno(EEXIST);
  auto entry = std::make_unique<Entry>(*this, key);
  entry->events = event.events;
  entry->data = event.data;
  Entry& e = *entry;
  entries_.emplace(key, std::move(entry));
  Watchers().emplace(&file, this);
  file.set_last_release_hook(&EpollFile::OnFileGone);
  ArmLocked(e, file);
  return {};
}

Result<void> EpollFile::Modify(int fd, File& file, const EpollEvent& event) {
  MutexLock lock(AllMutex());
  const auto it = entries_.find({&file, fd});
  if (it == entries_.end()) return Errno(ENOENT);
  Entry& e = *it->second;
  if (((e.events | event.events) & EPOLLEXCLUSIVE) != 0) return Errno(EINVAL);
  file.queue()->Remove(e);
  e.events = event.events;
  e.data = event.data;
  ArmLocked(e, file);
  return {};
}

void EpollFile::EraseLocked(Key key) {
  const auto it = entries_.find(key);
  Entry& e = *it->second;
  // The file may be on its way out, but its queue is still there.
  const_cast<File*>(key.first)->queue()->Remove(e);
  {
    MutexLock lock(ready_mu_);
    if (e.in_ready) ready_.erase(e.at);
  }
  entries_.erase(it);
  auto [first, last] = Watchers().equal_range(key.first);
  for (auto w = first; w != last; ++w) {
    if (w->second == this) {
      Watchers().erase(w);
      break;
    }
  }
}

Result<void> EpollFile::Delete(int fd, File& file) {
  MutexLock lock(AllMutex());
  if (!entries_.contains({&file, fd})) return Errno(ENOENT);
  EraseLocked({&file, fd});
  return {};
}

void EpollFile::OnFileGone(const File& file) {
  MutexLock lock(AllMutex());
  for (;;) {
    const auto it = Watchers().find(&file);
    if (it == Watchers().end()) return;
    EpollFile& epoll = *it->second;
    const auto entry = epoll.entries_.lower_bound({&file, INT32_MIN});
    epoll.EraseLocked(entry->first);
  }
}

void EpollFile::LastRelease() const {
  EpollFile* self = const_cast<EpollFile*>(this);
  {
    MutexLock lock(AllMutex());
    while (!self->entries_.empty()) self->EraseLocked(self->entries_.begin()->first);
  }
  File::LastRelease();
}

EventMask EpollFile::PollFile(File& file, EventMask wanted, std::vector<RefPtr<File>>* held) {
  if (EpollFile* inner = From(file)) return inner->PollLocked(held) ? EPOLLIN | EPOLLRDNORM : 0;
  return file.Poll(wanted);
}

bool EpollFile::PollLocked(std::vector<RefPtr<File>>* held) {
  Ready ready;
  {
    MutexLock lock(ready_mu_);
    ready = ready_;
  }
  for (Entry* e : ready) {
    const EventMask wanted = (e->events & ~kControlBits) | EPOLLERR | EPOLLHUP;
    if (e->events == 0 || !e->key.first->TryAddRef()) continue;
    held->push_back(RefPtr<File>::Adopt(const_cast<File*>(e->key.first)));
    if ((PollFile(*held->back(), wanted, held) & wanted) != 0) return true;
  }
  return false;
}

EventMask EpollFile::Poll(EventMask wanted) {
  std::vector<RefPtr<File>> held;  // dropped after the lock
  MutexLock lock(AllMutex());
  return PollLocked(&held) ? wanted & (EPOLLIN | EPOLLRDNORM) : 0;
}

std::vector<EpollEvent> EpollFile::Collect(size_t max) {
  std::vector<EpollEvent> out;
  std::vector<RefPtr<File>> held;  // dropped after the lock
  MutexLock lock(AllMutex());
  size_t left;
  {
    MutexLock ready_lock(ready_mu_);
    left = ready_.size();
  }
  // Each entry that is ready now is looked at once; level-triggered ones go to the end.
  while (left-- > 0 && out.size() < max) {
    Entry* e;
    {
      MutexLock ready_lock(ready_mu_);
      if (ready_.empty()) break;
      e = ready_.front();
      ready_.pop_front();
      e->in_ready = false;
    }
    if ((e->events & ~kControlBits) == 0 && (e->events & EPOLLONESHOT) != 0) continue;
    const EventMask wanted = (e->events & ~kControlBits) | EPOLLERR | EPOLLHUP;
    if (!e->key.first->TryAddRef()) continue;
    held.push_back(RefPtr<File>::Adopt(const_cast<File*>(e->key.first)));
    const EventMask got = PollFile(*held.back(), wanted, &held) & wanted;
    if (got == 0) continue;
    out.push_back({got, e->data});
    if ((e->events & EPOLLONESHOT) != 0) {
      e->events &= kControlBits;
    } else if ((e->events & EPOLLET) == 0) {
      MutexLock ready_lock(ready_mu_);
      if (!e->in_ready) {
        e->at = ready_.insert(ready_.end(), e);
        e->in_ready = true;
      }
    }
  }
  return out;
}

}  // namespace ringwall
