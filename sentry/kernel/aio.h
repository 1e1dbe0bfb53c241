// Linux aio (fs/aio.c). A context is known by the address of its ring's mapping, as on Linux; the
// ring itself stays empty, so that C libraries ask the kernel. Reads and writes are done when they
// are submitted, which is what Linux does with buffered ones; polls wait.
#ifndef RINGWALL_SENTRY_KERNEL_AIO_H_
#define RINGWALL_SENTRY_KERNEL_AIO_H_

#include <deque>
#include <map>
#include <vector>

#include "fs/vfs/file.h"
#include "sentry/base/unique_fd.h"
#include "sentry/base/wait_queue.h"
#include "sentry/kernel/task.h"

namespace ringwall {

// struct io_event.
struct AioEvent {
  uint64_t data = 0, object = 0;
  int64_t result = 0, result2 = 0;
};
static_assert(sizeof(AioEvent) == 32);

class AioPoll;

class AioContext final : public RefCounted<AioContext> {
 public:
  explicit AioContext(size_t slots);
  ~AioContext() override;

  // A place for one request. EAGAIN.
  Result<void> Reserve();
  void Unreserve();
  // Fills a reserved place; `notify` is an eventfd or null.
  void Complete(const AioEvent& event, File* notify);
  // At most `most` events, which frees their places.
  std::vector<AioEvent> Take(size_t most);
  size_t ready() const;
  WaitQueue& queue() { return queue_; }

  // IOCB_CMD_POLL: the place is reserved.
  void StartPoll(Ref<File> file, EventMask mask, const AioEvent& event, RefPtr<File> notify);
  // io_cancel: completes the poll of that iocb. False when there is none.
  bool Cancel(uint64_t object);
  // io_destroy: cancels all; who waits for events looks at dead().
  void Destroy();
  bool dead() const;

 private:
  friend class AioPoll;
  void Forget(AioPoll& poll);

  const size_t slots_;
  mutable Mutex<LockClass::kAio> mu_;
  size_t used_ GUARDED_BY(mu_) = 0;  // reserved places
  std::deque<AioEvent> done_ GUARDED_BY(mu_);
  std::map<AioPoll*, Ref<AioPoll>> polls_ GUARDED_BY(mu_);  // an iocb may be there twice
  bool dead_ GUARDED_BY(mu_) = false;
  WaitQueue queue_;
};

// What the context's mapping holds.
class AioRing final : public File {
 public:
  AioRing(Path path, UniqueFd memory, Ref<AioContext> context, uint32_t counted);
  ~AioRing() override;
  static AioRing* From(File& file) {
    return file.kind() == &kKind ? static_cast<AioRing*>(&file) : nullptr;
  }
  const void* kind() const override { return &kKind; }
  Result<HostMapping> Map(uint64_t offset, uint64_t length, int prot, bool shared) override;
  AioContext& context() { return *context_; }

 private:
  static constexpr char kKind = 0;
  const UniqueFd memory_;
  const Ref<AioContext> context_;
  const uint32_t counted_;
};

// sysctl fs.aio-max-nr, fs.aio-nr.
std::atomic<uint64_t>& AioMaxNr();
std::atomic<uint64_t>& AioNr();

// io_setup: maps a ring; returns its address. EINVAL, EAGAIN, ENOMEM.
Result<GuestAddr> NewAioContext(Task& t, uint32_t events, const MemoryLimits& limits);
// EINVAL.
Result<Ref<AioContext>> FindAioContext(Task& t, uint64_t id);
Result<void> DestroyAioContext(Task& t, uint64_t id);

// An eventfd's counter grows by n, as far as it can. Set by fs/epoll, which the kernel does not know.
using SignalEventFdFn = bool (*)(File& file, uint64_t n);
void SetSignalEventFd(SignalEventFdFn fn);
// With n 0: whether it is one.
bool SignalEventFd(File& file, uint64_t n);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_AIO_H_
