#include "fs/host/host_fifo.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <atomic>

#include "fs/host/notifier.h"
#include "sentry/kernel/task.h"
#include "sentry/kernel/user_ptr.h"

namespace ringwall {

namespace {

constexpr size_t kChunk = 64 << 10;
constexpr int64_t kRetryNs = 5'000'000;

class HostFifo final : public File {
 public:
  HostFifo(const Path& path, uint32_t flags, UniqueFd fd) : File(path, flags), fd_(std::move(fd)) {
    has_events_ = HostNotifier::Add(fd_.get(), queue_);
  }
  ~HostFifo() override {
    if (has_events_) HostNotifier::Remove(fd_.get(), queue_);
  }

  Result<size_t> Read(IoDst& dst, uint64_t, int) override {
    if (dst.remaining() == 0) return size_t{0};
    if (const int early = early_.exchange(-1); early >= 0) {
      const std::byte byte{static_cast<uint8_t>(early)};
      return dst.Put({&byte, 1});
    }
    const std::span<std::byte> room = dst.Reserve(std::min(dst.remaining(), kChunk));
    const iovec v = {room.data(), room.size()};
    const ssize_t n = preadv2(fd_.get(), &v, 1, -1, 0);
    if (n < 0) return Errno(errno);
    return dst.Commit(static_cast<size_t>(n));
  }

  // Up to PIPE_BUF bytes are one piece, so they are offered whole.
  Result<size_t> Write(IoSrc& src, uint64_t*, int) override {
    std::byte bytes[PIPE_BUF];
    const size_t want = TRY(src.Peek({bytes, std::min(src.remaining(), sizeof(bytes))}));
    const iovec v = {bytes, want};
    const ssize_t n = pwritev2(fd_.get(), &v, 1, -1, 0);
    if (n < 0) return Errno(errno);
    src.Advance(static_cast<size_t>(n));
    return static_cast<size_t>(n);
  }

  EventMask Poll(EventMask wanted) override {
    pollfd p = {fd_.get(), static_cast<int16_t>(wanted), 0};
    constexpr timespec kNow = {0, 0};
    const EventMask early = early_.load() >= 0 ? wanted & (EPOLLIN | EPOLLRDNORM) : 0;
    if (ppoll(&p, 1, &kNow, nullptr) <= 0) return early;
    return static_cast<uint16_t>(p.revents) | early;
  }
  WaitQueue* queue() override { return has_events_ ? &queue_ : nullptr; }

  Result<int64_t> Ioctl(Task& task, uint32_t cmd, uint64_t arg) override {
    if (cmd != FIONREAD) return Errno(ENOTTY);
    int32_t n = 0;
    TRY(FromHost(ioctl(fd_.get(), FIONREAD, &n)));
    if (early_.load() >= 0) n++;
    TRY(UserOut<int32_t>(GuestAddr(arg)).CopyOutLast(task, n));
    return 0;
  }

  // For a reader that has just opened it: whether there is, or was, a writer.
  bool SeesWriter() {
    if (Poll(EPOLLIN) != 0) return true;
    // Without a writer a read ends at once, with a silent one it would have to wait. What comes in
    // just now is kept.
    uint8_t byte;
    const iovec v = {&byte, 1};
    const ssize_t n = preadv2(fd_.get(), &v, 1, -1, 0);
    if (n == 1) early_.store(byte);
    return n != 0;
  }

 private:
  const UniqueFd fd_;
  std::atomic<int> early_{-1};
  bool has_events_ = false;
  WaitQueue queue_;
};

}  // namespace

Result<Ref<File>> OpenHostFifo(const Path& path, uint32_t flags,
                               const std::function<Result<UniqueFd>()>& open) {
  Task* const t = Task::Current();
  const bool wait = t != nullptr && (flags & O_NONBLOCK) == 0;
  const auto pause = [&]() -> Result<void> {
    Result<void> slept = t->Block(MonotonicNow() + kRetryNs);
    if (slept.ok() || slept.error().Is(ETIMEDOUT)) return {};
    return slept.error();
  };
  for (;;) {
    Result<UniqueFd> fd = open();
    if (fd.ok()) {
      Ref<HostFifo> file = MakeRef<HostFifo>(path, flags, std::move(*fd));
      if ((flags & O_ACCMODE) == O_RDONLY) {
        while (wait && !file->SeesWriter()) TRY(pause());
      }
      return Ref<File>(std::move(file));
    }
    if (!wait || !fd.error().Is(ENXIO) || (flags & O_ACCMODE) != O_WRONLY) return fd.error();
    TRY(pause());
  }
}

}  // namespace ringwall
