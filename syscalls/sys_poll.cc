// poll, select and their p-forms (fs/select.c).
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <memory>

#include "syscalls/handlers.h"
#include "syscalls/handlers_ipc.h"

namespace ringwall {

namespace {

struct PollFd {
  int32_t fd;
  int16_t events, revents;
};
static_assert(sizeof(PollFd) == 8);

constexpr EventMask kAlways = EPOLLERR | EPOLLHUP;

// Registers for the events of entries that are not ready and sleeps until one may be.
class PollWait {
 public:
  explicit PollWait(Task& t) : task_(t) {}
  ~PollWait() {
    for (auto& [queue, waiter] : waiters_) queue->Remove(*waiter);
  }
  void Add(File& file, EventMask events) {
    WaitQueue* queue = file.queue();
    if (queue == nullptr) return;
    waiters_.emplace_back(queue, std::make_unique<TaskWaiter>(task_));
    queue->Add(*waiters_.back().second, events);
  }

 private:
  Task& task_;
  std::vector<std::pair<WaitQueue*, std::unique_ptr<TaskWaiter>>> waiters_;
};

// Fills revents; returns how many are not zero. Each look finds the files anew, as Linux does: a descriptor that
// another thread closed meanwhile is told as POLLNVAL, not the file that it was.
int64_t Look(Task& t, std::vector<PollFd>& fds) {
  int64_t ready = 0;
  for (PollFd& entry : fds) {
    EventMask got = 0;
    if (entry.fd >= 0) {
      const EventMask wanted = static_cast<uint16_t>(entry.events) | kAlways;
      const Result<Ref<File>> file = GetUsable(t, entry.fd);
      got = file.ok() ? (*file)->Poll(wanted) & wanted : static_cast<EventMask>(POLLNVAL);
    }
    entry.revents = static_cast<int16_t>(got);
    ready += got != 0 ? 1 : 0;
  }
  return ready;
}

// Where it fails, revents are those of the last look.
Result<int64_t> WaitForEvents(Task& t, std::vector<PollFd>& fds, int64_t deadline) {
  int64_t ready = Look(t, fds);
  if (ready != 0 || deadline == 0) return ready;
  std::vector<Ref<File>> files;  // Held while their queues are waited in: outlives the wait.
  files.reserve(fds.size());
  PollWait wait(t);
  for (const PollFd& entry : fds) {
    if (entry.fd < 0) continue;
    Result<Ref<File>> file = GetUsable(t, entry.fd);
    if (!file.ok()) continue;
    wait.Add(**file, static_cast<uint16_t>(entry.events) | kAlways);
    files.push_back(std::move(*file));
  }
  for (;;) {
    ready = Look(t, fds);
    if (ready != 0) return ready;
    Result<void> slept = t.Block(deadline);
    if (slept.ok()) continue;
    if (!slept.error().Is(ETIMEDOUT)) return slept.error();
    return Look(t, fds);
  }
}

// Deadline of a timeout in the past or of zero: do not sleep at all.
int64_t DeadlineAfter(int64_t ns) {
  if (ns == 0) return 0;
  const int64_t now = MonotonicNow();
  return ns > INT64_MAX - now ? kNoDeadline : now + ns;
}

SysResult DoPoll(Task& t, GuestAddr addr, uint32_t n, int64_t deadline) {
  if (n > t.tg().limit(RLIMIT_NOFILE)) return Errno(EINVAL);
  std::vector<PollFd> fds = TRY(UserIn<PollFd>(addr).CopyInArray(t, n));
  Result<int64_t> ready = WaitForEvents(t, fds, deadline);
  TRY(UserOut<PollFd>(addr).CopyOutLastArray(t, fds));  // Also after a signal: no event, then.
  return ready;
}

SysResult RestartPoll(Task& t, GuestAddr addr, uint32_t n, int64_t deadline) {
  SysResult r = DoPoll(t, addr, n, deadline);
  if (!r.ok() && r.error().Is(kErestartSys)) {
    t.set_restart([=](Task& again) { return RestartPoll(again, addr, n, deadline); });
    return Errno(kErestartRestartBlock);
  }
  return r;
}

struct TimeAbi {
  int64_t sec, sub;  // nanoseconds or microseconds
};

Result<int64_t> DeadlineFromTime(Task& t, GuestAddr addr, int64_t per_sub) {
  if (addr.IsNull()) return kNoDeadline;
  const TimeAbi v = TRY(UserIn<TimeAbi>(addr).CopyIn(t));
  // select's timeval may carry more than a second of microseconds; ppoll's timespec may not.
  if (v.sec < 0 || v.sub < 0 || (per_sub == 1 && v.sub >= 1'000'000'000)) return Errno(EINVAL);
  constexpr int64_t kForEver = INT64_MAX / 2'000'000'000;
  const int64_t subs = 1'000'000'000 / per_sub;
  if (v.sec > kForEver || v.sub / subs > kForEver - v.sec) return kNoDeadline;
  return DeadlineAfter((v.sec + v.sub / subs) * 1'000'000'000 + v.sub % subs * per_sub);
}

void PutTimeLeft(Task& t, GuestAddr addr, int64_t deadline, int64_t per_sub) {
  constexpr uint32_t kStickyTimeouts = 0x4000000;  // personality(2)
  if (addr.IsNull() || deadline == kNoDeadline || (t.personality.load() & kStickyTimeouts) != 0) {
    return;
  }
  const int64_t left = deadline == 0 ? 0 : std::max<int64_t>(deadline - MonotonicNow(), 0);
  const TimeAbi v = {left / 1'000'000'000, left % 1'000'000'000 / per_sub};
  Result<void> ignored = UserOut<TimeAbi>(addr).CopyOut(t, v);
  static_cast<void>(ignored);
}

constexpr int kMaxSelect = 1 << 20;

SysResult DoSelect(Task& t, int n, GuestAddr in, GuestAddr out, GuestAddr except,
                   int64_t deadline) {
  if (n < 0) return Errno(EINVAL);
  // Beyond what the table has room for there is nothing to look at.
  n = std::min({n, kMaxSelect, t.fds().size_hint()});
  const size_t words = (static_cast<size_t>(n) + 63) / 64;
  std::vector<uint64_t> want[3], got[3];
  const GuestAddr sets[3] = {in, out, except};
  // A descriptor that cannot be asked (O_PATH) is in every set.
  constexpr EventMask kEvents[3] = {EPOLLIN | EPOLLRDNORM | EPOLLRDBAND | EPOLLHUP | EPOLLERR | POLLNVAL,
                                    EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND | EPOLLERR | POLLNVAL,
                                    EPOLLPRI | POLLNVAL};
  for (int s = 0; s < 3; s++) {
    want[s].assign(words, 0);
    got[s].assign(words, 0);
    if (!sets[s].IsNull()) {
      TRY(t.CopyIn(sets[s], std::as_writable_bytes(std::span(want[s]))));
    }
  }
  std::vector<PollFd> fds;
  for (int fd = 0; fd < n; fd++) {
    EventMask mask = 0;
    for (int s = 0; s < 3; s++) {
      if ((want[s][static_cast<size_t>(fd) / 64] >> (fd % 64) & 1) != 0) mask |= kEvents[s];
    }
    if (mask == 0) continue;
    TRY(t.fds().Get(fd));
    fds.push_back({fd, static_cast<int16_t>(mask), 0});
  }
  TRY(WaitForEvents(t, fds, deadline));
  int64_t bits = 0;
  for (const PollFd& p : fds) {
    for (int s = 0; s < 3; s++) {
      const size_t word = static_cast<size_t>(p.fd) / 64;
      if ((want[s][word] >> (p.fd % 64) & 1) == 0) continue;
      if ((static_cast<uint16_t>(p.revents) & kEvents[s]) == 0) continue;
      got[s][word] |= uint64_t{1} << (p.fd % 64);
      bits++;
    }
  }
  for (int s = 0; s < 3; s++) {
    if (sets[s].IsNull()) continue;
    TRY(t.CopyOutLast(sets[s], std::as_bytes(std::span(got[s]))));
  }
  return bits;
}

Result<void> UseMask(Task& t, GuestAddr mask, uint64_t size) {
  if (mask.IsNull()) return {};
  if (size != sizeof(abi::SigSet)) return Errno(EINVAL);
  const abi::SigSet set = TRY(UserIn<abi::SigSet>(mask).CopyIn(t));
  t.SetTemporaryMask(set & ~abi::kUnblockable);
  return {};
}

}  // namespace

SysResult SysPoll(Task& t, GuestAddr fds, uint32_t n, int timeout_ms) {
  const int64_t deadline =
      timeout_ms < 0 ? kNoDeadline : DeadlineAfter(int64_t{timeout_ms} * 1'000'000);
  return RestartPoll(t, fds, n, deadline);
}

SysResult SysPpoll(Task& t, GuestAddr fds, uint32_t n, GuestAddr timeout, GuestAddr mask,
                   uint64_t size) {
  const int64_t deadline = TRY(DeadlineFromTime(t, timeout, 1));
  TRY(UseMask(t, mask, size));
  SysResult r = DoPoll(t, fds, n, deadline);
  PutTimeLeft(t, timeout, deadline, 1);
  if (!r.ok() && r.error().Is(kErestartSys)) return Errno(kErestartNoHand);
  return r;
}

SysResult SysSelect(Task& t, int n, GuestAddr in, GuestAddr out, GuestAddr except,
                    GuestAddr timeout) {
  const int64_t deadline = TRY(DeadlineFromTime(t, timeout, 1000));
  SysResult r = DoSelect(t, n, in, out, except, deadline);
  PutTimeLeft(t, timeout, deadline, 1000);
  if (!r.ok() && r.error().Is(kErestartSys)) return Errno(kErestartNoHand);
  return r;
}

SysResult SysPselect6(Task& t, int n, GuestAddr in, GuestAddr out, GuestAddr except,
                      GuestAddr timeout, GuestAddr mask_and_size) {
  const int64_t deadline = TRY(DeadlineFromTime(t, timeout, 1));
  if (!mask_and_size.IsNull()) {
    struct MaskArg {
      uint64_t mask, size;
    };
    const MaskArg arg = TRY(UserIn<MaskArg>(mask_and_size).CopyIn(t));
    TRY(UseMask(t, GuestAddr(arg.mask), arg.size));
  }
  SysResult r = DoSelect(t, n, in, out, except, deadline);
  PutTimeLeft(t, timeout, deadline, 1);
  if (!r.ok() && r.error().Is(kErestartSys)) return Errno(kErestartNoHand);
  return r;
}

}  // namespace ringwall
