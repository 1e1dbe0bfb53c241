#include "sentry/kernel/aio.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "fs/vfs/anon_inode.h"
#include "fs/vfs/vfs.h"
#include "sentry/kernel/file_async.h"

namespace ringwall {

namespace {

SignalEventFdFn signal_event_fd = nullptr;

constexpr uint64_t kRingHeader = 32;

}  // namespace

void SetSignalEventFd(SignalEventFdFn fn) { signal_event_fd = fn; }

bool SignalEventFd(File& file, uint64_t n) {
  return signal_event_fd != nullptr && signal_event_fd(file, n);
}

std::atomic<uint64_t>& AioMaxNr() {
  static std::atomic<uint64_t> max{65536};
  return max;
}

std::atomic<uint64_t>& AioNr() {
  static std::atomic<uint64_t> nr{0};
  return nr;
}

// One IOCB_CMD_POLL under way. Its file's queue has it until it is completed, once.
class AioPoll final : public RefCounted<AioPoll>, public Waiter {
 public:
  AioPoll(AioContext& context, Ref<File> file, EventMask mask, const AioEvent& event,
          RefPtr<File> notify)
      : event_(event),
        context_(context),
        file_(std::move(file)),
        mask_(mask),
        notify_(std::move(notify)) {}

  bool OnEvent(EventMask) override {
    RunLater([self = Ref<AioPoll>(*this)] { self->Look(false); });
    return true;
  }
  void Start() {
    if (file_->queue() != nullptr) {
      file_->queue()->Add(*this, mask_);
      // Cancelled before it was there to be taken out.
      if (completed_.load()) file_->queue()->Remove(*this);
    }
    Look(false);
  }
  // Completes it if the file is ready, or in any case.
  void Look(bool cancel) {
    const EventMask got = file_->Poll(mask_) & mask_;
    if (got == 0 && !cancel) return;
    if (completed_.exchange(true)) return;
    if (file_->queue() != nullptr) file_->queue()->Remove(*this);
    AioEvent event = event_;
    event.result = got;
    context_->Complete(event, notify_.get());
    context_->Forget(*this);
  }

  uint64_t object() const { return event_.object; }

 private:
  const AioEvent event_;
  const Ref<AioContext> context_;
  const Ref<File> file_;
  const EventMask mask_;
  const RefPtr<File> notify_;
  std::atomic<bool> completed_{false};
};

AioContext::AioContext(size_t slots) : slots_(slots) {}
AioContext::~AioContext() = default;

Result<void> AioContext::Reserve() {
  MutexLock lock(mu_);
  if (used_ >= slots_) return Errno(EAGAIN);
  used_++;
  return {};
}

void AioContext::Unreserve() {
  MutexLock lock(mu_);
  used_--;
}

void AioContext::Complete(const AioEvent& event, File* notify) {
  {
    MutexLock lock(mu_);
    done_.push_back(event);
  }
  queue_.Notify(EPOLLIN);
  if (notify != nullptr) SignalEventFd(*notify, 1);
}

std::vector<AioEvent> AioContext::Take(size_t most) {
  std::vector<AioEvent> out;
  MutexLock lock(mu_);
  while (out.size() < most && !done_.empty()) {
    out.push_back(done_.front());
    done_.pop_front();
    used_--;
  }
  return out;
}

size_t AioContext::ready() const {
  MutexLock lock(mu_);
  return done_.size();
}

bool AioContext::dead() const {
  MutexLock lock(mu_);
  return dead_;
}

void AioContext::StartPoll(Ref<File> file, EventMask mask, const AioEvent& event,
                           RefPtr<File> notify) {
  StartLateWork();
  Ref<AioPoll> poll =
      MakeRef<AioPoll>(*this, std::move(file), mask, event, std::move(notify));
  {
    MutexLock lock(mu_);
    polls_.emplace(poll.get(), poll);
  }
  poll->Start();
}

void AioContext::Forget(AioPoll& poll) {
  RefPtr<AioPoll> gone;  // dropped after the lock
  MutexLock lock(mu_);
  const auto it = polls_.find(&poll);
  if (it == polls_.end()) return;
  gone = it->second;
  polls_.erase(it);
}

bool AioContext::Cancel(uint64_t object) {
  RefPtr<AioPoll> poll;
  {
    MutexLock lock(mu_);
    const auto it = std::find_if(polls_.begin(), polls_.end(), [object](const auto& entry) {
      return entry.second->object() == object;
    });
    if (it == polls_.end()) return false;
    poll = it->second;
  }
  poll->Look(true);
  return true;
}

void AioContext::Destroy() {
  std::vector<Ref<AioPoll>> polls;
  {
    MutexLock lock(mu_);
    dead_ = true;
    for (const auto& [raw, poll] : polls_) polls.push_back(poll);
  }
  for (const Ref<AioPoll>& poll : polls) poll->Look(true);
  queue_.Notify(EPOLLIN | EPOLLHUP);
}

AioRing::AioRing(Path path, UniqueFd memory, Ref<AioContext> context, uint32_t counted)
    : File(std::move(path), O_RDWR),
      memory_(std::move(memory)),
      context_(std::move(context)),
      counted_(counted) {
  AioNr().fetch_add(counted);
}

AioRing::~AioRing() {
  context_->Destroy();
  AioNr().fetch_sub(counted_);
}

Result<HostMapping> AioRing::Map(uint64_t offset, uint64_t, int, bool) {
  return HostMapping{memory_.get(), offset};
}

Result<GuestAddr> NewAioContext(Task& t, uint32_t events, const MemoryLimits& limits) {
  if (events == 0 || events > 0x10000000u / sizeof(AioEvent)) return Errno(EINVAL);
  if (events > AioMaxNr().load()) return Errno(EAGAIN);
  // Some more than asked for, so that every CPU gets a batch of its own.
  const uint32_t cpus = static_cast<uint32_t>(std::max(1, CPU_COUNT(&t.kernel().cpus())));
  const uint64_t wanted = uint64_t{std::max(events, cpus * 4)} * 2 + 2;
  const uint64_t bytes =
      (kRingHeader + wanted * sizeof(AioEvent) + kPageSize - 1) & ~uint64_t{kPageMask};
  const uint64_t slots = (bytes - kRingHeader) / sizeof(AioEvent) - 1;
  if (AioNr().load() + events > AioMaxNr().load()) return Errno(EAGAIN);
  UniqueFd memory(::memfd_create("aio", MFD_CLOEXEC));
  if (!memory.valid() || ::ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0) {
    return Errno(ENOMEM);
  }
  const Path path = AnonymousPath(MakeRef<AnonInode>(S_IFREG | 0600, 0, 0), "/[aio] (deleted)");
  MmapRequest request;
  request.length = bytes;
  request.prot = PROT_READ | PROT_WRITE;
  request.flags = MAP_SHARED;
  request.file = MakeRef<AioRing>(path, std::move(memory), MakeRef<AioContext>(slots), events);
  const GuestAddr at = TRY(t.mm().Mmap(request, limits));
  // A child has no contexts.
  TRY(t.mm().Madvise(at, bytes, MADV_DONTFORK));
  return at;
}

namespace {

Result<Vma> FindRing(Task& t, uint64_t id) {
  std::optional<Vma> vma = t.mm().Find(GuestAddr(id));
  if (!vma || !vma->file || vma->offset != 0 || vma->range.start.value() != id ||
      AioRing::From(*vma->file) == nullptr) {
    return Errno(EINVAL);
  }
  return std::move(*vma);
}

}  // namespace

Result<Ref<AioContext>> FindAioContext(Task& t, uint64_t id) {
  const Vma vma = TRY(FindRing(t, id));
  AioContext& context = AioRing::From(*vma.file)->context();
  if (context.dead()) return Errno(EINVAL);
  return Ref<AioContext>(context);
}

Result<void> DestroyAioContext(Task& t, uint64_t id) {
  const Vma vma = TRY(FindRing(t, id));
  AioContext& context = AioRing::From(*vma.file)->context();
  if (context.dead()) return Errno(EINVAL);
  context.Destroy();
  return t.mm().Munmap(vma.range.start, vma.range.size());
}

}  // namespace ringwall
