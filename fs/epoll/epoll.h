// epoll (fs/eventpoll.c): a set of files and the events of each that somebody waits for.
//
// An entry holds no reference to its file: the last close of the file takes the entry out. All
// entries of all epolls are under one lock (kEpoll), as files and epolls may end in any order. Each
// watched file has a Waiter in its queue that puts the entry on the epoll's ready list (its own lock);
// a wait takes entries off, asks the file what holds now, and puts level-triggered ones back.
#ifndef RINGWALL_FS_EPOLL_EPOLL_H_
#define RINGWALL_FS_EPOLL_EPOLL_H_

#include <list>
#include <map>
#include <memory>
#include <vector>

#include "fs/vfs/file.h"
#include "sentry/base/mutex.h"

namespace ringwall {

// struct epoll_event, which x86-64 packs.
struct __attribute__((packed)) EpollEvent {
  uint32_t events = 0;
  uint64_t data = 0;
};
static_assert(sizeof(EpollEvent) == 12);

class EpollFile final : public File {
 public:
  static Ref<EpollFile> Create();
  // Null when `file` is none.
  static EpollFile* From(File& file);

  // EEXIST; EPERM (a file that cannot be waited for); ELOOP (a ring, or deeper than 5); EINVAL
  // (itself, EPOLLEXCLUSIVE with an epoll).
  Result<void> Add(int fd, File& file, const EpollEvent& event);
  // ENOENT; EINVAL (EPOLLEXCLUSIVE).
  Result<void> Modify(int fd, File& file, const EpollEvent& event);
  Result<void> Delete(int fd, File& file);
  // What is ready, at most `max`; empty when nothing is.
  std::vector<EpollEvent> Collect(size_t max);

  EventMask Poll(EventMask wanted) override;
  WaitQueue* queue() override { return &queue_; }

  explicit EpollFile(Path path);
  ~EpollFile() override;

 protected:
  void LastRelease() const override;

 private:
  class Entry;
  using Key = std::pair<const File*, int>;
  using Ready = std::list<Entry*>;

  static Mutex<LockClass::kEpoll>& AllMutex();
  static void OnFileGone(const File& file);
  bool PollLocked(std::vector<RefPtr<File>>* held);
  static EventMask PollFile(File& file, EventMask wanted, std::vector<RefPtr<File>>* held);
  bool WatchesLocked(const File& file, int depth) const;
  void ArmLocked(Entry& e, File& file);
  void EraseLocked(Key key);
  void MarkReady(Entry& e, bool nested);

  std::map<Key, std::unique_ptr<Entry>> entries_;  // under AllMutex()
  mutable Mutex<LockClass::kPlatform> ready_mu_;
  Ready ready_ GUARDED_BY(ready_mu_);
  WaitQueue queue_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_EPOLL_EPOLL_H_
