#include "fs/epoll/eventfd.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/vfs.h"
#include "sentry/kernel/aio.h"

namespace ringwall {

namespace {

constexpr uint64_t kMax = UINT64_MAX - 1;

class EventFd final : public File {
 public:
  EventFd(Path path, uint32_t flags, uint64_t initial, bool semaphore)
      : File(std::move(path), flags), semaphore_(semaphore), count_(initial) {}

  Result<size_t> Read(IoDst& dst, uint64_t, int) override {
    if (dst.remaining() < sizeof(uint64_t)) return Errno(EINVAL);
    uint64_t value;
    {
      MutexLock lock(mu_);
      if (count_ == 0) return Errno(EAGAIN);
      value = semaphore_ ? 1 : count_;
      count_ -= value;
    }
    queue_.Notify(EPOLLOUT);
    return PutWhole(dst, std::as_bytes(std::span(&value, 1)));
  }

  Result<size_t> Write(IoSrc& src, uint64_t*, int) override {
    if (src.remaining() != sizeof(uint64_t)) return Errno(EINVAL);
    uint64_t value;
    TRY(PeekWhole(src, std::as_writable_bytes(std::span(&value, 1))));
    if (value == UINT64_MAX) return Errno(EINVAL);
    {
      MutexLock lock(mu_);
      if (value > kMax - count_) return Errno(EAGAIN);
      count_ += value;
    }
    queue_.Notify(EPOLLIN);
    return sizeof(value);
  }

  EventMask Poll(EventMask wanted) override {
    MutexLock lock(mu_);
    EventMask mask = 0;
    if (count_ > 0) mask |= EPOLLIN;
    if (count_ == UINT64_MAX) mask |= EPOLLERR;
    if (count_ < kMax) mask |= EPOLLOUT;
    return mask & (wanted | EPOLLERR);
  }
  WaitQueue* queue() override { return &queue_; }
  const void* kind() const override { return &kKind; }
  static constexpr char kKind = 0;

  std::string FdInfo() override {
    char text[96];
    MutexLock lock(mu_);
    snprintf(text, sizeof(text), "eventfd-count: %16llx\neventfd-id: %llu\neventfd-semaphore: %d\n",
             static_cast<unsigned long long>(count_), static_cast<unsigned long long>(id_),
             semaphore_ ? 1 : 0);
    return text;
  }

  // What the kernel itself counts up never waits.
  void Signal(uint64_t n) {
    {
      MutexLock lock(mu_);
      count_ += std::min(n, UINT64_MAX - count_);
    }
    queue_.Notify(EPOLLIN);
  }

 private:
  static uint64_t NextId() {
    static std::atomic<uint64_t> next{1};
    return next.fetch_add(1, std::memory_order_relaxed);
  }

  const bool semaphore_;
  const uint64_t id_ = NextId();
  Mutex<LockClass::kPipe> mu_;
  uint64_t count_ GUARDED_BY(mu_);
  WaitQueue queue_;
};

bool Signal(File& file, uint64_t n) {
  if (file.kind() != &EventFd::kKind) return false;
  if (n != 0) static_cast<EventFd&>(file).Signal(n);
  return true;
}

}  // namespace

void RegisterEventFds() { SetSignalEventFd(&Signal); }

Ref<File> NewEventFd(uint32_t initial, int flags) {
  const uint32_t open_flags = O_RDWR | ((flags & EFD_NONBLOCK) != 0 ? O_NONBLOCK : 0);
  return MakeRef<EventFd>(
      AnonymousPath(MakeRef<AnonInode>(0600, 0, 0), "anon_inode:[eventfd]"), open_flags, initial,
      (flags & EFD_SEMAPHORE) != 0);
}

}  // namespace ringwall
