#include "gofer/server/channel.h"

#include <sched.h>
#include <sys/socket.h>

namespace ringwall::gofer {

namespace {

// Enough for Walk's tables and some room; threads that sleep have touched a page or two of it.
constexpr size_t kStackSize = 256 << 10;

// Moves this thread to the processor where its client runs. The client yields it, so the request
// is answered without waking another processor from its sleep, which takes several times as long
// as the whole round trip. Fails silently where the processor is not ours to use.
void RunOn(uint32_t cpu) {
  if (cpu >= CPU_SETSIZE) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  ::sched_setaffinity(0, sizeof(set), &set);
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
    if (!SendMessage(socket, buffers.reply().first(reply), fds, Wait::kNo).ok()) return;
  }
}

void ServeShared(Session& session, const ChannelMemory& memory, int socket, Buffers& buffers,
                 const std::atomic<bool>& stop) {
  ChannelWords& words = memory.words();
  uint32_t last = 0;
  uint32_t cpu = ~0u;
  while (true) {
    while (words.request.load(std::memory_order_acquire) == last) {
      words.server_sleeps.store(1);
      if (!stop.load()) FutexWait(words.request, last, -1);
      words.server_sleeps.store(0);
      if (stop.load()) return;
    }
    if (stop.load()) return;
    last = words.request.load(std::memory_order_acquire);
    const uint32_t client_cpu = words.client_cpu.load(std::memory_order_relaxed);
    if (client_cpu != cpu) {
      cpu = client_cpu;
      RunOn(cpu);
    }
    const size_t size = CopyMessage(memory.request_room(), buffers.request());
    if (size == 0) return;
    Descriptors fds;
    if (session.Handle(buffers.request().first(size), memory.reply_room(), buffers.scratch(),
                       &fds) == 0) {
      return;
    }
    if (fds.count != 0 && !SendMessage(socket, AsBytes(last), fds, Wait::kNo).ok()) return;
    words.reply.store(last);
    if (words.client_sleeps.load() != 0) FutexWake(words.reply);
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
  MutexLock lock(mu_);
  while (!up_) changed_.Wait(mu_);
  return 0;
}

bool Channel::Assign(UniqueFd* socket, ChannelMemory* memory) {
  MutexLock lock(mu_);
  if (socket_ || stop_) return false;
  socket_ = std::move(*socket);
  memory_ = std::move(*memory);
  changed_.Signal();
  return true;
}

void Channel::Stop() {
  MutexLock lock(mu_);
  stop_ = true;
  stop_serving_.store(true);
  if (socket_) ::shutdown(socket_.get(), SHUT_RDWR);
  if (memory_.valid()) {
    // A change of the word, so that a thread about to sleep on it does not.
    memory_.words().request.fetch_add(1);
    FutexWake(memory_.words().request);
  }
  changed_.Signal();
}

void* Channel::Main(void* self) {
  static_cast<Channel*>(self)->Run();
  return nullptr;
}

void Channel::Run() {
  Buffers buffers;
  {
    MutexLock lock(mu_);
    up_ = true;
    changed_.Signal();
  }
  while (true) {
    int socket;
    const ChannelMemory* memory;
    {
      MutexLock lock(mu_);
      while (!socket_ && !stop_) changed_.Wait(mu_);
      if (stop_) return;
      socket = socket_.get();
      memory = &memory_;
    }
    if (memory->valid()) {
      ServeShared(session_, *memory, socket, buffers, stop_serving_);
    } else {
      ServeSocket(session_, socket, buffers);
    }
    MutexLock lock(mu_);
    socket_.reset();
    memory_ = ChannelMemory();
  }
}

}  // namespace ringwall::gofer
