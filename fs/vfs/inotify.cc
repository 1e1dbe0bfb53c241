#include "fs/vfs/inotify.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#include <algorithm>
#include <cstring>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/dentry.h"
#include "fs/vfs/vfs.h"

namespace ringwall {

namespace {

constexpr uint32_t kAllEvents = IN_ALL_EVENTS;
// Delivered whether asked for or not.

std::atomic<size_t> watches{0};
std::atomic<uint32_t> next_cookie{1};

bool AnythingWatched() { return watches.load(std::memory_order_relaxed) != 0; }

uint32_t DirectoryBit(const Inode& inode) { return inode.is_directory() ? uint32_t{IN_ISDIR} : 0; }

// What users have.
struct UserCounts {
  int instances = 0, watches = 0;
};
Guarded<absl::flat_hash_map<Uid, UserCounts>, LockClass::kLeaf>& Users() {
  static auto* users = new Guarded<absl::flat_hash_map<Uid, UserCounts>, LockClass::kLeaf>;
  return *users;
}

bool Charge(Uid user, int UserCounts::*what, int limit) {
  return Users().With([&](absl::flat_hash_map<Uid, UserCounts>& m) {
    int& n = m[user].*what;
    if (n >= limit) return false;
    n++;
    return true;
  });
}

void Uncharge(Uid user, int UserCounts::*what) {
  Users().With([&](absl::flat_hash_map<Uid, UserCounts>& m) { (m[user].*what)--; });
}

class InotifyFile final : public File {
 public:
  // An instance was charged to the owner.
  InotifyFile(Path path, uint32_t flags, Uid owner)
      : File(std::move(path), flags), owner_(owner), group_(MakeRef<InotifyGroup>(owner)) {}
  ~InotifyFile() override {
    group_->RemoveAll();
    Uncharge(owner_, &UserCounts::instances);
  }
  const void* kind() const override { return &kKind; }
  static constexpr char kKind = 0;
  std::string FdInfo() override { return group_->FdInfo(); }
  Result<size_t> Read(IoDst& dst, uint64_t, int) override { return group_->Read(dst); }
  EventMask Poll(EventMask wanted) override {
    return group_->pending_bytes() != 0 ? wanted & (EPOLLIN | EPOLLRDNORM) : 0;
  }
  WaitQueue* queue() override { return &group_->queue(); }
  InotifyGroup& group() { return *group_; }

 private:
  const Uid owner_;
  const Ref<InotifyGroup> group_;
};

}  // namespace

InotifyLimits& inotify_limits() {
  static auto* limits = new InotifyLimits;
  return *limits;
}

InotifyMark::InotifyMark(Ref<InotifyGroup> g, Ref<Inode> i, int32_t number)
    : wd(number), group(std::move(g)), inode(std::move(i)) {
  watches.fetch_add(1, std::memory_order_relaxed);
}

InotifyMark::~InotifyMark() {
  watches.fetch_sub(1, std::memory_order_relaxed);
  Uncharge(group->owner_, &UserCounts::watches);
}

void InotifyMarks::Add(Ref<InotifyMark> mark) {
  MutexLock lock(mu_);
  marks_.push_back(std::move(mark));
}

void InotifyMarks::Remove(const InotifyMark& mark) {
  RefPtr<InotifyMark> gone;  // ended after the lock
  MutexLock lock(mu_);
  const auto it = std::find_if(marks_.begin(), marks_.end(),
                               [&](const Ref<InotifyMark>& m) { return m.get() == &mark; });
  if (it == marks_.end()) return;
  gone = *it;
  marks_.erase(it);
  lock.Unlock();
}

void InotifyMarks::Notify(uint32_t mask, uint32_t cookie, std::string_view name, bool unlinked) {
  std::vector<Ref<InotifyMark>> marks;
  {
    MutexLock lock(mu_);
    marks = marks_;
  }
  for (const Ref<InotifyMark>& m : marks) {
    const uint32_t wanted = m->mask.load(std::memory_order_relaxed);
    if ((mask & wanted & kAllEvents) == 0) continue;
    if (unlinked && (wanted & IN_EXCL_UNLINK) != 0) continue;
    m->group->Post(m->wd, mask & ~kRenamedEvent, cookie, name);
    if (wanted & IN_ONESHOT) m->group->Ended(*m);
  }
  if (has_directory_watches_.load(std::memory_order_relaxed)) TellDirectoryWatches(mask);
}

void InotifyMarks::AddDirectoryWatch(const DirectoryWatch& watch) {
  MutexLock lock(mu_);
  for (DirectoryWatch& w : directory_watches_) {
    if (w.table != watch.table || w.file != watch.file) continue;
    w.events |= watch.events;
    w.fd = watch.fd;
    w.once &= watch.once;
    return;
  }
  directory_watches_.push_back(watch);
  has_directory_watches_.store(true);
  watches.fetch_add(1, std::memory_order_relaxed);
}

void InotifyMarks::RemoveDirectoryWatch(const FdTable* table, const File* file) {
  MutexLock lock(mu_);
  const size_t gone = std::erase_if(directory_watches_, [&](const DirectoryWatch& w) {
    return (table == nullptr || w.table == table) && w.file == file;
  });
  has_directory_watches_.store(!directory_watches_.empty());
  watches.fetch_sub(gone, std::memory_order_relaxed);
}

void InotifyMarks::TellDirectoryWatches(uint32_t mask) {
  std::vector<std::pair<Ref<File>, DirectoryWatch>> tell;
  {
    MutexLock lock(mu_);
    const size_t gone = std::erase_if(directory_watches_, [&](const DirectoryWatch& w) {
      if ((w.events & mask) == 0) return false;
      if (w.file->TryAddRef()) tell.emplace_back(Ref<File>::Adopt(w.file), w);
      return w.once;
    });
    has_directory_watches_.store(!directory_watches_.empty());
    watches.fetch_sub(gone, std::memory_order_relaxed);
  }
  for (auto& [file, watch] : tell) watch.teller(*file, watch.fd);
}

Result<int32_t> InotifyGroup::AddWatch(Inode& inode, uint32_t mask) {
  if (mask == 0) return Errno(EINVAL);
  if ((mask & IN_MASK_ADD) && (mask & IN_MASK_CREATE)) return Errno(EINVAL);
  if ((mask & IN_ONLYDIR) && !inode.is_directory()) return Errno(ENOTDIR);
  const uint32_t kept = mask & (kAllEvents | IN_EXCL_UNLINK | IN_ONESHOT);
  RefPtr<InotifyMark> fresh;
  {
    MutexLock lock(mu_);
    const auto known = by_inode_.find(&inode);
    if (known != by_inode_.end()) {
      if (mask & IN_MASK_CREATE) return Errno(EEXIST);
      InotifyMark& mark = *watches_.at(known->second);
      mark.mask.store(mask & IN_MASK_ADD ? mark.mask.load() | kept : kept);
      return known->second;
    }
    if (!Charge(owner_, &UserCounts::watches, inotify_limits().watches.load())) {
      return Errno(ENOSPC);
    }
    fresh = MakeRef<InotifyMark>(Ref<InotifyGroup>(*this), Ref<Inode>(inode), next_wd_++);
    fresh->mask.store(kept);
    watches_.emplace(fresh->wd, Ref<InotifyMark>(fresh));
    by_inode_.emplace(&inode, fresh->wd);
  }
  const int32_t wd = fresh->wd;
  inode.MakeMarks().Add(Ref<InotifyMark>(std::move(fresh)));
  return wd;
}

void InotifyGroup::Ended(InotifyMark& mark) {
  RefPtr<InotifyMark> gone;
  {
    MutexLock lock(mu_);
    const auto it = watches_.find(mark.wd);
    if (it == watches_.end()) return;
    gone = it->second;
    watches_.erase(it);
    by_inode_.erase(gone->inode.get());
  }
  gone->inode->MakeMarks().Remove(*gone);
  Post(gone->wd, IN_IGNORED, 0, {});
}

Result<void> InotifyGroup::RemoveWatch(int32_t wd) {
  RefPtr<InotifyMark> mark;
  {
    MutexLock lock(mu_);
    const auto it = watches_.find(wd);
    if (it == watches_.end()) return Errno(EINVAL);
    mark = it->second;
  }
  Ended(*mark);
  return {};
}

void InotifyGroup::RemoveAll() {
  absl::flat_hash_map<int32_t, Ref<InotifyMark>> all;
  {
    MutexLock lock(mu_);
    std::swap(all, watches_);
    by_inode_.clear();
    events_.clear();
  }
  for (auto& [wd, mark] : all) mark->inode->MakeMarks().Remove(*mark);
}

size_t InotifyGroup::Event::name_room() const {
  return name.empty() ? 0 : (name.size() + 1 + 15) / 16 * 16;
}

void InotifyGroup::Post(int32_t wd, uint32_t mask, uint32_t cookie, std::string_view name) {
  {
    MutexLock lock(mu_);
    if (!events_.empty()) {
      const Event& last = events_.back();
      if (last.wd == wd && last.mask == mask && last.cookie == cookie && last.name == name) return;
      if (last.mask == IN_Q_OVERFLOW) return;
    }
    if (events_.size() >= static_cast<size_t>(std::max(1, inotify_limits().events.load()))) {
      events_.push_back({-1, IN_Q_OVERFLOW, 0, {}});
    } else {
      events_.push_back({wd, mask, cookie, std::string(name)});
    }
  }
  queue_.Notify(EPOLLIN | EPOLLRDNORM);
}

size_t InotifyGroup::pending_bytes() const {
  MutexLock lock(mu_);
  size_t bytes = 0;
  for (const Event& e : events_) bytes += sizeof(inotify_event) + e.name_room();
  return bytes;
}

std::string InotifyGroup::FdInfo() const {
  std::vector<Ref<InotifyMark>> marks;
  {
    MutexLock lock(mu_);
    for (const auto& [wd, mark] : watches_) marks.push_back(mark);
  }
  std::sort(marks.begin(), marks.end(), [](auto& a, auto& b) { return a->wd < b->wd; });
  std::string text;
  for (const Ref<InotifyMark>& m : marks) {
    const Result<Attr> attr = m->inode->GetAttr();
    char line[128];
    snprintf(line, sizeof(line), "inotify wd:%x ino:%llx sdev:%llx mask:%x ignored_mask:0 \n",
             static_cast<unsigned>(m->wd),
             static_cast<unsigned long long>(attr.ok() ? attr->ino : 0),
             static_cast<unsigned long long>(m->inode->fs().dev()), m->mask.load());
    text += line;
  }
  return text;
}

Result<size_t> InotifyGroup::Read(IoDst& dst) {
  size_t done = 0;
  for (;;) {
    Event event;
    {
      MutexLock lock(mu_);
      if (events_.empty()) break;
      const size_t size = sizeof(inotify_event) + events_.front().name_room();
      if (size > dst.remaining()) {
        if (done == 0) return Errno(EINVAL);
        break;
      }
      event = std::move(events_.front());
      events_.pop_front();
    }
    // The buffer is sized for the longest name, and cleared: the padding is NULs.
    std::byte buffer[sizeof(inotify_event) + 256] = {};
    const inotify_event header = {event.wd, event.mask & ~kExecEvent, event.cookie,
                                  static_cast<uint32_t>(event.name_room())};
    memcpy(buffer, &header, sizeof(header));
    if (!event.name.empty()) {
      memcpy(buffer + sizeof(header), event.name.data(), event.name.size());
    }
    const size_t size = sizeof(header) + event.name_room();
    // The events before this one are lost to the reader, too.
    const size_t put = TRY(PutWhole(dst, std::span(buffer, size)));
    done += put;
  }
  if (done == 0) return Errno(EAGAIN);
  return done;
}

Result<Ref<File>> MakeInotifyFile(uint32_t flags, Uid owner) {
  if (!Charge(owner, &UserCounts::instances, inotify_limits().instances.load())) {
    return Errno(EMFILE);
  }
  Ref<Inode> inode = MakeRef<AnonInode>(uint32_t{0600}, Uid{0}, Gid{0});
  return Ref<File>(MakeRef<InotifyFile>(AnonymousPath(std::move(inode), "anon_inode:inotify"),
                                        O_RDONLY | flags, owner));
}

InotifyGroup* InotifyGroupOf(File& file) {
  if (file.kind() != &InotifyFile::kKind) return nullptr;
  return &static_cast<InotifyFile&>(file).group();
}

namespace {

void TellInode(Inode& inode, uint32_t mask, bool unlinked) {
  InotifyMarks* marks = inode.marks();
  if (marks == nullptr) return;
  // Of itself moved or deleted, Linux does not say what it was.
  const bool self = (mask & (IN_MOVE_SELF | IN_DELETE_SELF)) != 0;
  marks->Notify(self ? mask : mask | DirectoryBit(inode), 0, {}, unlinked);
}

// unlinked: when the name is gone, IN_EXCL_UNLINK leaves it out.
void Tell(const Path& path, uint32_t mask, bool unlinked) {
  if (!path || path.dentry().negative()) return;
  const RefPtr<Dentry> parent = path.dentry().parent();
  Inode& inode = *path.dentry().inode();
  if (parent && parent->inode()) {
    if (InotifyMarks* marks = parent->inode()->marks()) {
      marks->Notify(mask | DirectoryBit(inode), 0, path.dentry().name(), unlinked);
    }
  }
  TellInode(inode, mask, unlinked);
}

}  // namespace

void NotifyInode(Inode& inode, uint32_t mask) {
  if (AnythingWatched()) TellInode(inode, mask, false);
}

void NotifyPath(const Path& path, uint32_t mask) {
  if (AnythingWatched()) Tell(path, mask, path && path.dentry().unlinked());
}

void NotifyAttributes(const Path& path, uint32_t mask) {
  if (AnythingWatched()) Tell(path, mask, false);
}

void NotifyFile(const File& file, uint32_t mask) {
  if (AnythingWatched() && !(file.flags() & O_PATH)) NotifyPath(file.path(), mask);
}

void NotifyName(Inode& dir, uint32_t mask, std::string_view name, bool is_directory,
                uint32_t cookie) {
  if (!AnythingWatched()) return;
  if (InotifyMarks* marks = dir.marks()) {
    marks->Notify(mask | (is_directory ? uint32_t{IN_ISDIR} : 0), cookie, name);
  }
}

void NotifyLinkCount(Inode& inode) {
  if (!AnythingWatched()) return;
  TellInode(inode, IN_ATTRIB, false);
}

void NotifyGone(Inode& inode) {
  if (!AnythingWatched() || inode.has_open_files()) return;
  InotifyMarks* marks = inode.marks();
  if (marks == nullptr) return;
  const Result<Attr> attr = inode.GetAttr();
  if (!attr.ok() || attr->nlink != 0) return;
  marks->Notify(IN_DELETE_SELF, 0, {});
  marks->EndAll();
}

uint32_t NextInotifyCookie() { return next_cookie.fetch_add(1, std::memory_order_relaxed); }

void InotifyMarks::EndAll() {
  std::vector<Ref<InotifyMark>> marks;
  {
    MutexLock lock(mu_);
    marks = marks_;
  }
  for (const Ref<InotifyMark>& m : marks) m->group->Ended(*m);
}

}  // namespace ringwall
