#include "gofer/server/channel.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "sentry/base/resident.h"

namespace ringwall::gofer {

namespace {

// Enough for Walk's tables and some room; threads that sleep have touched a page or two of it.
constexpr size_t kStackSize = 256 << 10;

uint32_t MicrosecondsSince(const timespec& start) {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint32_t>((now.tv_sec - start.tv_sec) * 1000000 +
                               (now.tv_nsec - start.tv_nsec) / 1000);
}

// Where this thread runs. On the client's processor a request is answered without waking another
// one from its sleep, which takes several times as long as the whole round trip.
class Placement {
 public:
  Placement() {
    CPU_ZERO(&all_);
    ::sched_getaffinity(0, sizeof(all_), &all_);
  }
  // Fails silently where the processor is not ours to use.
  void RunOn(uint32_t cpu) {
    if (cpu == cpu_) return;
    cpu_ = cpu;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
    ::sched_setaffinity(0, sizeof(set), cpu < CPU_SETSIZE ? &set : &all_);
  }

 private:
  cpu_set_t all_;
  uint32_t cpu_ = kAnyCpu;
};

// Asks for short slices: the host then lets this thread run as soon as it is woken, in the place of
// the client that woke it (Linux 6.12; of no effect before).
void AskForShortSlices() {
  struct SchedAttr {  // struct sched_attr, include/uapi/linux/sched/types.h
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  };
  SchedAttr attr = {};
  attr.size = sizeof(attr);
  attr.nice = ::getpriority(PRIO_PROCESS, 0);
  attr.runtime = 100000;  // ns: the shortest there is
  ::syscall(SYS_sched_setattr, 0, &attr, 0);
}

// Without the descriptors when the host refuses to pass them (its user has too many under way): the client
// takes that for ENFILE.
bool SendWithFds(int socket, std::span<const uint8_t> bytes, const Descriptors& fds) {
  Result<void> sent = SendMessage(socket, bytes, fds, Wait::kNo);
  if (!sent.ok() && fds.count != 0 && DescriptorsRefused(sent.error())) {
    sent = SendMessage(socket, bytes, {}, Wait::kNo);
  }
  return sent.ok();
}

// Answers requests in shared memory, with `socket` for the descriptors, until `stop`.
void ServeShared(Session& session, const ChannelMemory& memory, int socket, Buffers& buffers,
                 Placement& placement, const std::atomic<bool>& stop) {
  // What start-up needed of the code is let go of in the first quiet moment, if that comes soon: a sleep
  // with a time limit costs a little more.
  constexpr int kQuietMs = 1'000;
  constexpr uint32_t kStartUp = 4'096;  // requests
  bool forgotten = false;
  ChannelWords& words = memory.words();
  uint32_t last = 0;
  while (true) {
    while (words.request.load(std::memory_order_acquire) == last) {
      words.server_sleeps.store(1);
      forgotten |= last > kStartUp;
      if (!stop.load()) FutexWait(words.request, last, forgotten ? -1 : kQuietMs);
      words.server_sleeps.store(0);
      if (stop.load()) return;
      if (!forgotten && words.request.load() == last) {
        ForgetCode();
        forgotten = true;
      }
    }
    if (stop.load()) return;
    last = words.request.load(std::memory_order_acquire);
    placement.RunOn(words.cpu.load(std::memory_order_relaxed));
    timespec start;
    ::clock_gettime(CLOCK_MONOTONIC, &start);
    const size_t size = CopyMessage(memory.request_room(), buffers.request());
    if (size == 0) return;
    Descriptors fds;
    if (session.Handle(buffers.request().first(size), memory.reply_room(), buffers.scratch(),
                       &fds) == 0) {
      return;
    }
    if (fds.count != 0 && !SendWithFds(socket, AsBytes(last), fds)) return;
    words.service_us.store(MicrosecondsSince(start), std::memory_order_relaxed);
    words.reply.store(last);
    if (words.client_sleeps.load() != 0) FutexWake(words.reply);
  }
}

}  // namespace

void ServeSocket(Session& session, int socket, Buffers& buffers) {
  while (true) {
    Result<size_t> size = ReceiveMessage(socket, buffers.request(), nullptr, Wait::kYes);
    if (!size.ok() || *size == 0) return;
    Descriptors fds;
    const size_t reply =
        session.Handle(buffers.request().first(*size), buffers.reply(), buffers.scratch(), &fds);
    if (reply == 0) return;
    // A client that does not take its replies has no business here.
    if (!SendWithFds(socket, buffers.reply().first(reply), fds)) return;
  }
}

Channel::~Channel() {
  if (!started_) return;
  Stop();
  ::pthread_join(thread_, nullptr);
}

int Channel::Start() {
  pthread_attr_t attr;
  ::pthread_attr_init(&attr);
  ::pthread_attr_setstacksize(&attr, kStackSize);
  const int error = ::pthread_create(&thread_, &attr, &Channel::Main, this);
  ::pthread_attr_destroy(&attr);
  if (error != 0) return error;
  started_ = true;
  return 0;
}

void Channel::AwaitUp() {
  ServerLock lock(mu_);
  while (!up_) lock.Wait(changed_);
}

bool Channel::Assign(UniqueFd* socket, ChannelMemory* memory) {
  ServerLock lock(mu_);
  if (socket_ || stop_) return false;
  socket_ = std::move(*socket);
  memory_ = std::move(*memory);
  changed_.notify_one();
  return true;
}

void Channel::Stop() {
  ServerLock lock(mu_);
  stop_ = true;
  stop_serving_.store(true);
  if (socket_) ::shutdown(socket_.get(), SHUT_RDWR);
  if (memory_.valid()) {
    // A change of the word, so that a thread about to sleep on it does not.
    memory_.words().request.fetch_add(1);
    FutexWake(memory_.words().request);
  }
  changed_.notify_one();
}

void* Channel::Main(void* self) {
  static_cast<Channel*>(self)->Run();
  return nullptr;
}

void Channel::Run() {
  Buffers buffers;
  Placement placement;
  AskForShortSlices();
  {
    ServerLock lock(mu_);
    up_ = true;
    changed_.notify_one();
  }
  while (true) {
    int socket;
    const ChannelMemory* memory;
    {
      ServerLock lock(mu_);
      while (!socket_ && !stop_) lock.Wait(changed_);
      if (stop_) return;
      socket = socket_.get();
      memory = &memory_;
    }
    if (memory->valid()) {
      ServeShared(session_, *memory, socket, buffers, placement, stop_serving_);
    } else {
      ServeSocket(session_, socket, buffers);
    }
    ServerLock lock(mu_);
    socket_.reset();
    memory_ = ChannelMemory();
  }
}

}  // namespace ringwall::gofer
