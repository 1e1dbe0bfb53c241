// epoll and eventfd (fs/eventpoll.c, fs/eventfd.c).
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "fs/epoll/epoll.h"
#include "fs/epoll/eventfd.h"
#include "sentry/kernel/epoll_ahead.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_ipc.h"

namespace ringwall {

namespace {

constexpr int kMaxEvents = INT32_MAX / static_cast<int>(sizeof(EpollEvent));

Result<EpollFile*> GetEpoll(const Ref<File>& file) {
  EpollFile* epoll = EpollFile::From(*file);
  if (epoll == nullptr) return Errno(EINVAL);
  return epoll;
}

SysResult Wait(Task& t, int epfd, GuestAddr out, int max, int64_t deadline) {
  if (max <= 0 || max > kMaxEvents) return Errno(EINVAL);
  Ref<File> file = TRY(GetUsable(t, epfd));
  EpollFile* epoll = TRY(GetEpoll(file));
  // No more come than are watched, however large the buffer.
  const uint64_t size = static_cast<uint64_t>(max) * sizeof(EpollEvent);
  if (!GuestRange::Make(out, size)) return Errno(EFAULT);
  // What has no room in memory stays ready.
  const size_t most = t.mm().WritableFrom(out, size) / sizeof(EpollEvent);
  if (most == 0 && epoll->Poll(EPOLLIN) != 0) return Errno(EFAULT);
  std::vector<EpollEvent> events = epoll->Collect(most);
  if (events.empty() && deadline != 0) {
    TaskWaiter waiter(t);
    epoll->queue()->Add(waiter, EPOLLIN);
    for (;;) {
      if (most == 0 && epoll->Poll(EPOLLIN) != 0) {
        epoll->queue()->Remove(waiter);
        return Errno(EFAULT);
      }
      events = epoll->Collect(most);
      if (!events.empty()) break;
      Result<void> slept = t.Block(deadline);
      if (slept.ok()) continue;
      epoll->queue()->Remove(waiter);
      if (slept.error().Is(ETIMEDOUT)) return 0;
      return Errno(EINTR);
    }
    epoll->queue()->Remove(waiter);
  }
  if (events.empty()) return 0;
  TRY(t.CopyOutLast(out, std::as_bytes(std::span(events))));
  return static_cast<int64_t>(events.size());
}

int64_t DeadlineOf(int timeout_ms) {
  if (timeout_ms < 0) return kNoDeadline;
  if (timeout_ms == 0) return 0;
  return MonotonicNow() + int64_t{timeout_ms} * 1'000'000;
}

Result<void> UseMask(Task& t, GuestAddr mask, uint64_t size) {
  if (mask.IsNull()) return {};
  if (size != sizeof(abi::SigSet)) return Errno(EINVAL);
  const abi::SigSet set = TRY(UserIn<abi::SigSet>(mask).CopyIn(t));
  t.SetTemporaryMask(set & ~abi::kUnblockable);
  return {};
}

}  // namespace

SysResult SysEpollCreate(Task& t, int size) {
  if (size <= 0) return Errno(EINVAL);
  return SysEpollCreate1(t, 0);
}

SysResult SysEpollCreate1(Task& t, int flags) {
  if ((flags & ~EPOLL_CLOEXEC) != 0) return Errno(EINVAL);
  const int fd = TRY(t.fds().Install(EpollFile::Create(t.creds().ruid), flags != 0,
                                     t.tg().limit(RLIMIT_NOFILE)));
  return fd;
}

SysResult SysEpollCtl(Task& t, int epfd, int op, int fd, GuestAddr addr) {
  EpollEvent event;
  if (op != EPOLL_CTL_DEL) {
    TRY(t.CopyIn(addr, std::as_writable_bytes(std::span(&event, 1))));
  }
  Ref<File> file = TRY(GetUsable(t, epfd));
  Ref<File> target = TRY(GetUsable(t, fd));
  if (target->queue() == nullptr) return Errno(EPERM);
  EpollFile* epoll = TRY(GetEpoll(file));
  if (file == target) return Errno(EINVAL);
  Result<void> done = epoll->Control(op, fd, *target, event);
  EpollCalls* const ahead = EpollCalls::Current();
  if (ahead != nullptr && (!done.ok() || (event.events & EPOLLEXCLUSIVE) != 0)) ahead->ForgetEpollFd(fd);
  TRY(std::move(done));
  if (EpollFile::From(*target) != nullptr) {
    if (ahead != nullptr) ahead->ForgetEpoll();
  } else if ((event.events & EPOLLEXCLUSIVE) == 0) {
    NoteEpollCall(t, *file, epfd, fd, op != EPOLL_CTL_DEL);
  }
  return 0;
}

SysResult SysEpollWait(Task& t, int epfd, GuestAddr out, int max, int timeout_ms) {
  return Wait(t, epfd, out, max, DeadlineOf(timeout_ms));
}

SysResult SysEpollPwait(Task& t, int epfd, GuestAddr out, int max, int timeout_ms, GuestAddr mask,
                        uint64_t size) {
  TRY(UseMask(t, mask, size));
  return Wait(t, epfd, out, max, DeadlineOf(timeout_ms));
}

SysResult SysEpollPwait2(Task& t, int epfd, GuestAddr out, int max, GuestAddr timeout,
                         GuestAddr mask, uint64_t size) {
  int64_t deadline = kNoDeadline;
  if (!timeout.IsNull()) {
    const int64_t now = MonotonicNow();
    deadline = TRY(DeadlineFromTimespec(t, timeout));
    if (deadline <= now) deadline = 0;
  }
  TRY(UseMask(t, mask, size));
  return Wait(t, epfd, out, max, deadline);
}

SysResult SysEventfd(Task& t, uint32_t count) { return SysEventfd2(t, count, 0); }

SysResult SysEventfd2(Task& t, uint32_t count, int flags) {
  if ((flags & ~(EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE)) != 0) return Errno(EINVAL);
  const int fd = TRY(t.fds().Install(NewEventFd(count, flags), (flags & EFD_CLOEXEC) != 0,
                                     t.tg().limit(RLIMIT_NOFILE)));
  return fd;
}

}  // namespace ringwall
