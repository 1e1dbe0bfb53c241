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
  // owner: who pays for what it watches (fs.epoll.max_user_watches).
  static Ref<EpollFile> Create(Uid owner);
  // Null when `file` is none.
  static EpollFile* From(File& file);

  // EEXIST; EPERM (a file that cannot be waited for); ELOOP (a ring, or deeper than 5); EINVAL
  // (itself, EPOLLEXCLUSIVE with an epoll); ENOSPC (fs.epoll.max_user_watches).
  // promised: the stub has already said that it worked, so the limit does not count.
  Result<void> Add(int fd, File& file, const EpollEvent& event, bool promised = false);
  // ENOENT; EINVAL (EPOLLEXCLUSIVE).
  Result<void> Modify(int fd, File& file, const EpollEvent& event);
  Result<void> Delete(int fd, File& file);
  // One of these by EPOLL_CTL_*; EINVAL.
  Result<void> Control(int op, int fd, File& file, const EpollEvent& event, bool promised = false);
  // The file watched by the descriptor `fd`, the (n+1)th of that number; null when there is none. To
  // compare, not to use.
  const File* Watched(int fd, uint32_t n) const;
  // What is ready, at most `max`; empty when nothing is.
  std::vector<EpollEvent> Collect(size_t max);

  EventMask Poll(EventMask wanted) override;
  WaitQueue* queue() override { return &queue_; }
  const void* kind() const override { return &kKind; }
  std::string FdInfo() override;
  // EPIOCSPARAMS, EPIOCGPARAMS; all others are EINVAL.
  Result<int64_t> Ioctl(Task& task, uint32_t cmd, uint64_t arg) override;

  EpollFile(Path path, Uid owner);
  ~EpollFile() override;

 protected:
  void LastRelease() const override;

 private:
  static constexpr char kKind = 0;
  class Entry;
  using Key = std::pair<const File*, int>;
  using Ready = std::list<Entry*>;

  // Held by whatever adds and removes entries, of all epolls: which epoll watches which stays the
  // same under it. Taken before mu_; waiting and polling take only mu_, from the outer epoll to those
  // it watches, which never form a ring.
  static Mutex<LockClass::kEpollGraph>& GraphMutex();
  static void OnFileGone(const File& file);
  bool AnyReady(std::vector<RefPtr<File>>* held);
  static EventMask PollFile(File& file, EventMask wanted, std::vector<RefPtr<File>>* held);
  // How many epolls there are from `file` down to one that watches none, or from `epoll` up; more
  // than kMaxNests when there are more, or when `from` is among those below. With the graph's lock.
  using Heights = std::map<const File*, int>;
  static int HeightBelow(const File& file, const EpollFile& from, int depth,
                         Heights* known) NO_THREAD_SAFETY_ANALYSIS;
  static int HeightAbove(const EpollFile& epoll, int depth, Heights* known);
  void ArmLocked(Entry& e, File& file) REQUIRES(mu_);
  void Erase(Key key);
  void MarkReady(Entry& e, bool nested);

  // struct epoll_params: how long waits may poll a network device, which nothing here does.
  struct Params {
    uint32_t busy_poll_usecs = 0;
    uint16_t busy_poll_budget = 0;
    uint8_t prefer_busy_poll = 0, pad = 0;
  };
  Guarded<Params, LockClass::kLeaf> params_;
  const Uid owner_;

  mutable Mutex<LockClass::kEpoll> mu_;
  std::map<Key, std::unique_ptr<Entry>> entries_ GUARDED_BY(mu_);  // changed with the graph's too
  mutable Mutex<LockClass::kPlatform> ready_mu_;
  Ready ready_ GUARDED_BY(ready_mu_);
  WaitQueue queue_;
};

// Has the calls made that stubs answer ahead (sentry/kernel/epoll_ahead.h).
void RegisterEpollCalls();

}  // namespace ringwall

#endif  // RINGWALL_FS_EPOLL_EPOLL_H_
