#include "gofer/client/channel.h"

#include <sys/socket.h>
#include <sys/stat.h>

namespace ringwall::gofer {

ClientChannel::ClientChannel(UniqueFd socket)
    : socket_(std::move(socket)),
      request_(new uint8_t[kMaxMessage]),
      reply_(new uint8_t[kMaxMessage]) {}

ClientChannel::~ClientChannel() = default;

std::span<uint8_t> ClientChannel::request_room() { return {request_.get(), kMaxMessage}; }

Result<std::span<const uint8_t>> ClientChannel::Exchange(size_t request_size, Descriptors* fds) {
  TRY(SendMessage(socket_.get(), {request_.get(), request_size}, {}, Wait::kYes));
  const size_t size =
      TRY(ReceiveMessage(socket_.get(), {reply_.get(), kMaxMessage}, fds, Wait::kYes));
  return std::span<const uint8_t>(reply_.get(), size);
}

void ClientChannel::Interrupt() { ::shutdown(socket_.get(), SHUT_RDWR); }

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
  Result<std::span<const uint8_t>> bytes = channel_->Exchange(writer_.used(), &fds_);
  if (!bytes.ok() || bytes->empty()) {
    client_.Break("the gofer is gone");
    return Errno(EIO);
  }
  reply_ = Reader(*bytes);
  const ReplyHeader header = TRY(Get<ReplyHeader>());
  if (header.size != bytes->size() || header.seq != seq_ || header.fd_count != fds_.count ||
      header.error < 0 || header.error > kMaxErrno || header.pad != 0) {
    return Malformed();
  }
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
  if (fds_.count != 1) return Malformed();
  fds_.count = 0;
  UniqueFd fd = std::move(fds_.fd[0]);
  // A directory or device would give the Sentry more than a file's contents.
  struct stat buf;
  if (::fstat(fd.get(), &buf) != 0 || (buf.st_mode & S_IFMT) != type) return Malformed();
  return fd;
}

Result<void> Call::End() {
  if (reply_.left() != 0 || fds_.count != 0) return Malformed();
  return {};
}

Errno Call::Malformed() {
  client_.Break("the gofer sent a malformed reply");
  return Errno(EIO);
}

}  // namespace ringwall::gofer
