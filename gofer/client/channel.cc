#include "gofer/client/channel.h"

#include <poll.h>
#include <sched.h>
#include <sys/stat.h>
#include <time.h>

#include <algorithm>

namespace ringwall::gofer {

namespace {

// A reply that came so much later than the server's work on it explains: others wanted the
// processor.
constexpr int64_t kCrowdedNs = 200000;
// How long the channel then keeps from binding its server: doubled each time it finds the same.
constexpr int64_t kFirstLeaveNs = 50000000;
constexpr int64_t kLastLeaveNs = 1600000000;
// How long a sleeping call takes at most to see that the gofer was killed.
constexpr int kAliveCheckMs = 200;

int64_t NowNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000 + now.tv_nsec;
}

// Whether the socket has one of `events`, or was hung up, within `ms`. The Sentry's filter lists
// ppoll and not poll.
bool Poll(int socket, short events, int ms) {
  pollfd wait = {.fd = socket, .events = events, .revents = 0};
  const timespec time = {ms / 1000, ms % 1000 * 1000000L};
  return ::ppoll(&wait, 1, &time, nullptr) > 0;
}

}  // namespace

ClientChannel::ClientChannel(UniqueFd socket, ChannelMemory memory)
    : socket_(std::move(socket)),
      memory_(std::move(memory)),
      request_(memory_.valid() ? nullptr : new uint8_t[kMaxMessage]),
      reply_(new uint8_t[kMaxMessage]) {}

ClientChannel::~ClientChannel() = default;

std::span<uint8_t> ClientChannel::request_room() {
  if (memory_.valid()) return memory_.request_room();
  return {request_.get(), kMaxMessage};
}

Result<std::span<const uint8_t>> ClientChannel::Exchange(size_t request_size, Descriptors* fds) {
  size_t size;
  if (memory_.valid()) {
    size = TRY(ExchangeShared(fds));
  } else {
    TRY(SendMessage(socket_.get(), {request_.get(), request_size}, {}, Wait::kYes));
    TRY(WaitForSocket());
    size = TRY(ReceiveMessage(socket_.get(), {reply_.get(), kMaxMessage}, fds, Wait::kNo));
  }
  return std::span<const uint8_t>(reply_.get(), size);
}

// The server's thread is bound to this processor: waking it lets it run at once, in our place or as
// soon as we yield, and we stay runnable while it answers. Sleeping instead would let the host move
// us to an idle processor, which has to wake up first. On a crowded processor neither is of use:
// who yields there waits for everybody's slice, so for a while the host places both threads as it
// likes.
Result<size_t> ClientChannel::ExchangeShared(Descriptors* fds) {
  ChannelWords& words = memory_.words();
  const uint32_t before = last_++;
  const int64_t start = NowNs();
  const bool bound = start >= leave_until_;
  cpu_ = ::sched_getcpu();
  words.cpu.store(bound ? static_cast<uint32_t>(cpu_) : kAnyCpu, std::memory_order_relaxed);
  words.request.store(last_);
  if (words.server_sleeps.load() != 0) FutexWake(words.request);
  if (bound && words.reply.load() == before) ::sched_yield();
  TRY(WaitForReply(before));
  if (bound) NoteWait(NowNs() - start);

  const size_t size = CopyMessage(memory_.reply_room(), {reply_.get(), kMaxMessage});
  if (size < sizeof(ReplyHeader)) return Errno(EIO);
  ReplyHeader header;
  std::memcpy(&header, reply_.get(), sizeof(header));
  if (header.fd_count != 0) {
    uint8_t number[sizeof(last_) + 1];
    const size_t got = TRY(ReceiveMessage(socket_.get(), number, fds, Wait::kNo));
    if (got != sizeof(last_) || std::memcmp(number, &last_, sizeof(last_)) != 0) return Errno(EIO);
  }
  return size;
}

void ClientChannel::NoteWait(int64_t waited) {
  const uint32_t service_us = memory_.words().service_us.load(std::memory_order_relaxed);
  if (waited - int64_t{service_us} * 1000 < kCrowdedNs) {
    if (++calm_ >= 1000) leave_ = 0;
    return;
  }
  calm_ = 0;
  leave_ = std::clamp(2 * leave_, kFirstLeaveNs, kLastLeaveNs);
  leave_until_ = NowNs() + leave_;
}

Result<void> ClientChannel::WaitForReply(uint32_t before) {
  ChannelWords& words = memory_.words();
  while (true) {
    uint32_t reply = words.reply.load(std::memory_order_acquire);
    if (reply == before) {
      words.client_sleeps.store(1);
      FutexWait(words.reply, before, kAliveCheckMs);
      words.client_sleeps.store(0);
      reply = words.reply.load(std::memory_order_acquire);
    }
    if (reply == last_) return {};
    if (reply != before || interrupted_.load()) return Errno(EIO);
    if (Poll(socket_.get(), 0, 0)) return Errno(EIO);  // hung up
  }
}

Result<void> ClientChannel::WaitForSocket() {
  while (!interrupted_.load()) {
    if (Poll(socket_.get(), POLLIN, kAliveCheckMs)) return {};
  }
  return Errno(EIO);
}

void ClientChannel::Interrupt() {
  interrupted_.store(true);
  if (memory_.valid()) FutexWake(memory_.words().reply);
}

Call::Call(GoferClient& client) : client_(client) {
  Result<ClientChannel*> channel = client.Acquire();
  if (!channel.ok()) return;
  channel_ = *channel;
  pooled_ = true;
  const std::vector<HandleValue> closes = client.TakeCloses(/*all=*/false);
  if (!closes.empty()) client.SendCloses(*this, closes);
}

Call::~Call() {
  if (pooled_) client_.ReleaseChannel(channel_);
}

Writer& Call::Begin(Op op) {
  writer_ = channel_ == nullptr ? Writer() : Writer(channel_->request_room());
  seq_ = client_.next_seq_.fetch_add(1, std::memory_order_relaxed);
  writer_.Put(RequestHeader{.op = static_cast<uint16_t>(op), .seq = seq_});
  return writer_;
}

Result<void> Call::Run() {
  if (channel_ == nullptr || client_.broken()) return Errno(EIO);
  if (writer_.overflow()) return Errno(E2BIG);
  // `size` is the header's first field.
  static_assert(offsetof(RequestHeader, size) == 0);
  writer_.Patch(0, static_cast<uint32_t>(writer_.used()));
  fds_.Clear();
  next_fd_ = 0;
  Result<std::span<const uint8_t>> bytes = channel_->Exchange(writer_.used(), &fds_);
  if (!bytes.ok() || bytes->empty()) {
    client_.Break("the gofer is gone");
    return Errno(EIO);
  }
  reply_ = Reader(*bytes);
  const ReplyHeader header = TRY(Get<ReplyHeader>());
  if (header.size != bytes->size() || header.seq != seq_ || header.fd_count < fds_.count ||
      header.error < 0 || header.error > kMaxErrno || header.pad != 0) {
    return Malformed();
  }
  // One of the processes could not have or pass so many.
  lost_fds_ = fds_.count < header.fd_count;
  if (lost_fds_) fds_.Clear();
  if (header.error != 0) {
    TRY(End());
    return Errno(header.error);
  }
  return {};
}

Result<std::string_view> Call::GetBytes(size_t size) {
  Result<std::string_view> bytes = reply_.ReadBytes(size);
  if (!bytes.ok()) return Malformed();
  return bytes;
}

Result<Attr> Call::GetAttr() {
  const Attr attr = TRY(Get<Attr>());
  if (!AttrIsSane(attr)) return Malformed();
  return attr;
}

Result<UniqueFd> Call::GetFd(uint32_t type) {
  if (std::exchange(lost_fds_, false)) return Errno(ENFILE);
  if (fds_.count != 1) return Malformed();
  fds_.count = 0;
  return Checked(std::move(fds_.fd[0]), type);
}

Result<UniqueFd> Call::NextFd(uint32_t type) {
  if (lost_fds_) return UniqueFd();
  if (next_fd_ >= fds_.count) return Malformed();
  UniqueFd fd = std::move(fds_.fd[next_fd_++]);
  if (next_fd_ == fds_.count) next_fd_ = fds_.count = 0;
  return Checked(std::move(fd), type);
}

Result<UniqueFd> Call::Checked(UniqueFd fd, uint32_t type) {
  // A directory or device would give the Sentry more than a file's contents.
  struct stat buf;
  if (::fstat(fd.get(), &buf) != 0 || (buf.st_mode & S_IFMT) != type) return Malformed();
  return fd;
}

Result<void> Call::End() {
  if (reply_.left() != 0 || fds_.count != 0 || lost_fds_) return Malformed();
  return {};
}

Errno Call::Malformed() {
  client_.Break("the gofer sent a malformed reply");
  return Errno(EIO);
}

}  // namespace ringwall::gofer
