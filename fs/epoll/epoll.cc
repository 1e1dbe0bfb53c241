#include "fs/epoll/epoll.h"

#include <stdio.h>
#include <sys/epoll.h>

#include <algorithm>
#include <set>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/vfs.h"
#include "sentry/kernel/epoll_ahead.h"
#include "sentry/kernel/sysctl_limits.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr uint32_t kControlBits = EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE | EPOLLWAKEUP;
constexpr int kMaxNests = 4;  // of epolls below another one (EP_MAX_NESTS)

// Which epolls watch a file; under the graph's lock.
std::multimap<const File*, EpollFile*>& Watchers() {
  static auto* watchers = new std::multimap<const File*, EpollFile*>;
  return *watchers;
}

// How many entries each user has; under the graph's lock.
std::map<Uid, int64_t>& Watches() {
  static auto* watches = new std::map<Uid, int64_t>;
  return *watches;
}

}  // namespace

// One watched descriptor.
class EpollFile::Entry final : public Waiter {
 public:
  Entry(EpollFile& epoll, Key key) : epoll_(epoll), key(key) {}
  bool OnEvent(EventMask) override {
    if ((events & ~kControlBits) == 0) return false;
    // One with nobody waiting does not use the event up for the others.
    const bool heard = !epoll_.queue_.empty();
    epoll_.MarkReady(*this, true);
    return heard;
  }

 private:
  EpollFile& epoll_;

 public:
  const Key key;
  std::atomic<uint32_t> events{0};  // control bits only after EPOLLONESHOT has fired
  uint64_t data = 0;
  bool in_ready = false;  // under ready_mu_
  Ready::iterator at;     // its place when in_ready
};

EpollFile::EpollFile(Path path, Uid owner) : File(std::move(path), O_RDWR), owner_(owner) {}
EpollFile::~EpollFile() = default;

Mutex<LockClass::kEpollGraph>& EpollFile::GraphMutex() {
  static auto* mu = new Mutex<LockClass::kEpollGraph>;
  return *mu;
}

// ep_eventpoll_ioctl().
Result<int64_t> EpollFile::Ioctl(Task& task, uint32_t cmd, uint64_t arg) {
  constexpr uint32_t kSetParams = 0x40088a01, kGetParams = 0x80088a02;  // EPIOCSPARAMS, EPIOCGPARAMS
  constexpr uint16_t kNapiPollWeight = 64;
  if (cmd == kGetParams) {
    const Params p = params_.With([](const Params& now) { return now; });
    TRY(UserOut<Params>(GuestAddr(arg)).CopyOut(task, p));
    return 0;
  }
  if (cmd != kSetParams) return Errno(EINVAL);
  const Params p = TRY(UserIn<Params>(GuestAddr(arg)).CopyIn(task));
  if (p.pad != 0 || p.busy_poll_usecs > INT32_MAX || p.prefer_busy_poll > 1) return Errno(EINVAL);
  if (p.busy_poll_budget > kNapiPollWeight && !task.creds().Has(Capability::kNetAdmin)) {
    return Errno(EPERM);
  }
  params_.With([&](Params& now) { now = p; });
  return 0;
}

Ref<EpollFile> EpollFile::Create(Uid owner) {
  return MakeRef<EpollFile>(AnonymousPath(MakeRef<AnonInode>(0600, 0, 0), "anon_inode:[eventpoll]"), owner);
}

EpollFile* EpollFile::From(File& file) {
  return file.kind() == &kKind ? static_cast<EpollFile*>(&file) : nullptr;
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

int EpollFile::HeightBelow(const File& file, const EpollFile& from, int depth, Heights* known) {
  const EpollFile* epoll = From(const_cast<File&>(file));
  if (epoll == nullptr) return 0;
  if (epoll == &from || depth > kMaxNests) return kMaxNests + 1;
  if (const auto it = known->find(epoll); it != known->end()) return it->second;
  int highest = 0;
  for (const auto& [key, entry] : epoll->entries_) {
    highest = std::max(highest, HeightBelow(*key.first, from, depth + 1, known));
  }
  return (*known)[epoll] = highest + 1;
}

int EpollFile::HeightAbove(const EpollFile& epoll, int depth, Heights* known) {
  if (depth > kMaxNests) return kMaxNests + 1;
  if (const auto it = known->find(&epoll); it != known->end()) return it->second;
  int highest = 0;
  const auto [first, last] = Watchers().equal_range(&epoll);
  for (auto w = first; w != last; ++w) {
    highest = std::max(highest, 1 + HeightAbove(*w->second, depth + 1, known));
  }
  return (*known)[&epoll] = highest;
}

void EpollFile::ArmLocked(Entry& e, File& file) {
  const EventMask wanted = (e.events & ~kControlBits) | EPOLLERR | EPOLLHUP;
  file.queue()->Add(e, wanted, (e.events & EPOLLEXCLUSIVE) != 0);
  std::vector<RefPtr<File>> held;
  if ((PollFile(file, wanted, &held) & wanted) != 0) MarkReady(e, false);
}

Result<void> EpollFile::Add(int fd, File& file, const EpollEvent& event, bool promised) {
  if (&file == this) return Errno(EINVAL);
  if (file.queue() == nullptr) return Errno(EPERM);
  const bool is_epoll = From(file) != nullptr;
  if ((event.events & EPOLLEXCLUSIVE) != 0) {
    constexpr uint32_t kWithExclusive =
        EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
    if (is_epoll || (event.events & ~kWithExclusive) != 0) return Errno(EINVAL);
  }
  MutexLock graph(GraphMutex());
  const Key key{&file, fd};
  if (is_epoll) {
    Heights below, above;
    const int height = HeightBelow(file, *this, 1, &below);
    if (height > kMaxNests || height + HeightAbove(*this, 0, &above) > kMaxNests) {
      return Errno(ELOOP);
    }
  }
  MutexLock lock(mu_);
  if (entries_.contains(key)) return Errno(EEXIST);
  const auto mine = Watches().find(owner_);
  const int64_t watches = mine == Watches().end() ? 0 : mine->second;
  if (watches >= max_epoll_watches.load() && !promised) return Errno(ENOSPC);
  Watches()[owner_] = watches + 1;
  auto entry = std::make_unique<Entry>(*this, key);
  entry->events = event.events | EPOLLERR | EPOLLHUP;
  entry->data = event.data;
  Entry& e = *entry;
  entries_.emplace(key, std::move(entry));
  Watchers().emplace(&file, this);
  file.set_last_release_hook(&EpollFile::OnFileGone);
  ArmLocked(e, file);
  return {};
}

Result<void> EpollFile::Modify(int fd, File& file, const EpollEvent& event) {
  if ((event.events & EPOLLEXCLUSIVE) != 0) return Errno(EINVAL);
  MutexLock lock(mu_);
  const auto it = entries_.find({&file, fd});
  if (it == entries_.end()) return Errno(ENOENT);
  Entry& e = *it->second;
  if ((e.events & EPOLLEXCLUSIVE) != 0) return Errno(EINVAL);
  file.queue()->Remove(e);
  e.events = event.events | EPOLLERR | EPOLLHUP;
  e.data = event.data;
  ArmLocked(e, file);
  return {};
}

void EpollFile::Erase(Key key) {
  std::unique_ptr<Entry> gone;
  {
    MutexLock lock(mu_);
    const auto it = entries_.find(key);
    if (it == entries_.end()) return;
    // The file may be on its way out, but its queue is still there.
    const_cast<File*>(key.first)->queue()->Remove(*it->second);
    {
      MutexLock ready_lock(ready_mu_);
      if (it->second->in_ready) ready_.erase(it->second->at);
    }
    gone = std::move(it->second);
    entries_.erase(it);
  }
  const auto mine = Watches().find(owner_);
  if (--mine->second == 0) Watches().erase(mine);
  auto [first, last] = Watchers().equal_range(key.first);
  for (auto w = first; w != last; ++w) {
    if (w->second == this) {
      Watchers().erase(w);
      break;
    }
  }
}

Result<void> EpollFile::Delete(int fd, File& file) {
  MutexLock graph(GraphMutex());
  {
    MutexLock lock(mu_);
    if (!entries_.contains({&file, fd})) return Errno(ENOENT);
  }
  Erase({&file, fd});
  return {};
}

Result<void> EpollFile::Control(int op, int fd, File& file, const EpollEvent& event, bool promised) {
  switch (op) {
    case EPOLL_CTL_ADD:
      return Add(fd, file, event, promised);
    case EPOLL_CTL_MOD:
      return Modify(fd, file, event);
    case EPOLL_CTL_DEL:
      return Delete(fd, file);
    default:
      return Errno(EINVAL);
  }
}

void EpollFile::OnFileGone(const File& file) {
  MutexLock graph(GraphMutex());
  for (;;) {
    const auto it = Watchers().find(&file);
    if (it == Watchers().end()) return;
    EpollFile& epoll = *it->second;
    Key key;
    {
      MutexLock lock(epoll.mu_);
      key = epoll.entries_.lower_bound({&file, INT32_MIN})->first;
    }
    epoll.Erase(key);
  }
}

void EpollFile::LastRelease() const {
  EpollFile* self = const_cast<EpollFile*>(this);
  {
    MutexLock graph(GraphMutex());
    for (;;) {
      Key key;
      {
        MutexLock lock(mu_);
        if (entries_.empty()) break;
        key = entries_.begin()->first;
      }
      self->Erase(key);
    }
  }
  File::LastRelease();
}

EventMask EpollFile::PollFile(File& file, EventMask wanted, std::vector<RefPtr<File>>* held) {
  if (EpollFile* inner = From(file)) return inner->AnyReady(held) ? EPOLLIN | EPOLLRDNORM : 0;
  return file.Poll(wanted);
}

bool EpollFile::AnyReady(std::vector<RefPtr<File>>* held) {
  // Inside the lock of an epoll that watches this one.
  MutexLock lock(mu_, Nested{});
  // Those that are not ready after all leave the list: their next event puts them at its end
  // (__ep_eventpoll_poll()). Taken off before they are asked, so that no event is lost.
  for (;;) {
    Entry* e;
    {
      MutexLock ready_lock(ready_mu_);
      if (ready_.empty()) return false;
      e = ready_.front();
      ready_.pop_front();
      e->in_ready = false;
    }
    const EventMask wanted = e->events & ~kControlBits;
    if (!e->key.first->TryAddRef()) continue;
    held->push_back(RefPtr<File>::Adopt(const_cast<File*>(e->key.first)));
    if ((PollFile(*held->back(), wanted, held) & wanted) == 0) continue;
    MutexLock ready_lock(ready_mu_);
    if (!e->in_ready) e->at = ready_.insert(ready_.begin(), e);
    e->in_ready = true;
    return true;
  }
}

EventMask EpollFile::Poll(EventMask wanted) {
  std::vector<RefPtr<File>> held;  // dropped after the locks
  return AnyReady(&held) ? wanted & (EPOLLIN | EPOLLRDNORM) : 0;
}

const File* EpollFile::Watched(int fd, uint32_t n) const {
  MutexLock lock(mu_);
  for (const auto& [key, entry] : entries_) {
    if (key.second == fd && n-- == 0) return key.first;
  }
  return nullptr;
}

std::vector<EpollEvent> EpollFile::Collect(size_t max) {
  std::vector<EpollEvent> out;
  std::vector<RefPtr<File>> held;  // dropped after the lock
  MutexLock lock(mu_);
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
    const EventMask wanted = e->events & ~kControlBits;
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

std::string EpollFile::FdInfo() {
  std::string text;
  MutexLock lock(mu_);
  for (const auto& [key, entry] : entries_) {
    char line[128];
    const Result<Attr> attr = key.first->inode().GetAttr();
    const uint64_t dev = attr.ok() ? attr->dev : 0;
    snprintf(line, sizeof(line), "tfd: %8d events: %8x data: %16llx  pos:0 ino:%llx sdev:%llx\n",
             key.second, entry->events.load(),
             static_cast<unsigned long long>(entry->data),
             static_cast<unsigned long long>(attr.ok() ? attr->ino : 0),
             static_cast<unsigned long long>(dev));
    text += line;
  }
  return text;
}

namespace {

// A forged call fails here as it would have from the guest.
void MakeCalls(Task& task, int epfd, std::span<const EpollCall> calls) {
  Result<Ref<File>> file = task.GetFile(epfd);
  EpollFile* const epoll = file.ok() ? EpollFile::From(**file) : nullptr;
  if (epoll == nullptr) return;
  for (const EpollCall& call : calls) {
    Result<Ref<File>> target = task.GetFile(call.fd);
    if (!target.ok() || ((*target)->flags() & O_PATH) != 0) continue;
    static_cast<void>(epoll->Control(call.op, call.fd, **target, {call.events, call.data}, true).ok());
  }
}

}  // namespace

void RegisterEpollCalls() { SetEpollCalls(&MakeCalls); }

}  // namespace ringwall
