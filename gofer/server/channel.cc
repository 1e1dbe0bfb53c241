#include "gofer/server/channel.h"

#include <sys/socket.h>

namespace ringwall::gofer {

namespace {

// Enough for Walk's tables and some room; threads that sleep have touched a page or two of it.
constexpr size_t kStackSize = 256 << 10;

}  // namespace

void ServeSocket(Session& session, int socket, Buffers& buffers) {
  while (true) {
    Result<size_t> size = ReceiveMessage(socket, buffers.request(), nullptr, Wait::kYes);
    if (!size.ok() || *size == 0) return;
    Descriptors fds;
    const size_t reply = session.Handle(buffers.request().first(*size), buffers.reply(),
                                        buffers.scratch(), &fds);
    if (reply == 0) return;
    // A client that does not take its replies has no business here.
    if (!SendMessage(socket, buffers.reply().first(reply), fds, Wait::kNo).ok()) return;
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

bool Channel::Assign(UniqueFd* socket) {
  MutexLock lock(mu_);
  if (socket_ || stop_) return false;
  socket_ = std::move(*socket);
  changed_.Signal();
  return true;
}

void Channel::Stop() {
  MutexLock lock(mu_);
  stop_ = true;
  if (socket_) ::shutdown(socket_.get(), SHUT_RDWR);
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
    {
      MutexLock lock(mu_);
      while (!socket_ && !stop_) changed_.Wait(mu_);
      if (stop_) return;
      socket = socket_.get();
    }
    ServeSocket(session_, socket, buffers);
    MutexLock lock(mu_);
    socket_.reset();
  }
}

}  // namespace ringwall::gofer
