#include "runsc/net/frame_link.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <cstring>

#include "netstack/wire/ethernet.h"
#include "sentry/base/bulk_work.h"

namespace ringwall {
namespace {

constexpr size_t kWriteBatch = 16;
constexpr size_t kBulk = 32 << 10;  // bytes at once that tell of a stream

}  // namespace

FrameLink::FrameLink(UniqueFd fd, UniqueFd wake) : fd_(std::move(fd)), wake_(std::move(wake)) {
  frames_.reserve(kBatch);
  sending_.reserve(kWriteBatch);
}

FrameLink::~FrameLink() = default;

void FrameLink::Attach(net::Stack& stack, net::IfIndex iface) {
  stack_ = RefPtr<net::Stack>(&stack);
  iface_ = iface;
}

void FrameLink::Transmit(net::Packet frame) {
  if (frame.payload.slices().size() > kMostSlices) {
    frame.payload = net::Chain(frame.payload.Flatten());
  }
  const VnetHeader header = VnetHeader::Of(frame);
  MutexLock lock(mu_);
  if (queue_.size() >= kMostQueued) {
    dropped_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  queue_.push_back({header, std::move(frame)});
}

void FrameLink::Flush() {
  if (Drain() || !wake_) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof(one));
}

// False when the descriptor takes no more now.
bool FrameLink::Drain() {
  while (true) {
    {
      MutexLock lock(mu_);
      // Whoever writes now takes these, too.
      if (writing_) return true;
      if (sent_ == sending_.size()) {
        sending_.clear();
        sent_ = 0;
      }
      while (sending_.size() < kWriteBatch && !queue_.empty()) {
        sending_.push_back(std::move(queue_.front()));
        queue_.pop_front();
      }
      if (sending_.empty()) {
        blocked_.store(false, std::memory_order_relaxed);
        return true;
      }
      writing_ = true;
    }
    const bool more = WriteSome();
    MutexLock lock(mu_);
    writing_ = false;
    if (more) continue;
    blocked_.store(true, std::memory_order_relaxed);
    return false;
  }
}

// False when the descriptor takes no more now. What it will never take is dropped.
bool FrameLink::WriteSome() {
  std::array<std::array<iovec, kMostSlices + 2>, kWriteBatch> vectors;
  std::array<mmsghdr, kWriteBatch> messages;
  const size_t count = sending_.size() - sent_;
  size_t bytes = 0;
  for (size_t i = 0; i < count; i++) {
    Outgoing& out = sending_[sent_ + i];
    auto& v = vectors[i];
    size_t n = 0;
    v[n++] = {&out.vnet, sizeof(out.vnet)};
    const net::ByteSpan header = out.packet.header();
    v[n++] = {const_cast<uint8_t*>(header.data()), header.size()};
    for (const net::Slice& s : out.packet.payload.slices()) {
      v[n++] = {const_cast<uint8_t*>(s.data()), s.size()};
    }
    bytes += out.packet.size();
    messages[i] = {};
    messages[i].msg_hdr.msg_iov = v.data();
    messages[i].msg_hdr.msg_iovlen = n;
  }
  if (bytes >= kBulk) BulkWork::Note();
  const int n = ::sendmmsg(fd_.get(), messages.data(), static_cast<unsigned>(count),
                           MSG_DONTWAIT | MSG_NOSIGNAL);
  if (n >= 0) {
    for (int i = 0; i < n; i++) sending_[sent_ + static_cast<size_t>(i)].packet = net::Packet();
    sent_ += static_cast<size_t>(n);
    return true;
  }
  if (errno == EAGAIN || errno == ENOBUFS) return false;
  if (errno == EINTR) return true;
  // Larger than the link takes, the interface is down or the peer gone: this one is lost.
  dropped_.fetch_add(1, std::memory_order_relaxed);
  sending_[sent_++].packet = net::Packet();
  return true;
}

void FrameLink::Prepare(size_t slot) {
  buffers_[slot] = net::Buffer::New(kLargest);
  buffers_[slot]->set_used(kLargest);
  vectors_[slot][0] = {&headers_[slot], sizeof(VnetHeader)};
  vectors_[slot][1] = {buffers_[slot]->data(), kLargest};
  messages_[slot] = {};
  messages_[slot].msg_hdr.msg_iov = vectors_[slot].data();
  messages_[slot].msg_hdr.msg_iovlen = vectors_[slot].size();
}

FrameLink::Got FrameLink::ReceiveInto(std::vector<net::RxFrame>* out) {
  for (size_t i = 0; i < kBatch; i++) {
    if (!buffers_[i]) Prepare(i);
  }
  int n = 0;
  do {
    n = ::recvmmsg(fd_.get(), messages_.data(), kBatch, MSG_DONTWAIT, nullptr);
  } while (n < 0 && errno == EINTR);
  if (n < 0) {
    // A packet socket tells that its interface went down; it may come back.
    return errno == EAGAIN || errno == ENETDOWN ? Got::kNothing : Got::kEnd;
  }
  size_t total = 0;
  for (size_t i = 0; i < static_cast<size_t>(n); i++) {
    const size_t size = messages_[i].msg_len;
    if (size == 0) return Got::kEnd;  // the end of a SOCK_SEQPACKET peer
    if (size < sizeof(VnetHeader) + net::kEthHeader) continue;
    const VnetHeader& h = headers_[i];
    const size_t bytes = std::min(size - sizeof(VnetHeader), kLargest);
    total += bytes;
    net::RxFrame& frame = out->emplace_back();
    if (bytes < kCopyBelow) {
      frame.data = net::Slice::Copy({buffers_[i]->data(), bytes});
    } else {
      frame.data = net::Slice(std::move(buffers_[i]), 0, bytes);
    }
    frame.checksum_valid = (h.flags & (VnetHeader::kNeedsChecksum | VnetHeader::kDataValid)) != 0;
    frame.gso_size = h.gso_type != 0 ? h.gso_size : 0;
  }
  if (total >= kBulk) BulkWork::Note();
  if (n == 0) return Got::kNothing;
  return static_cast<size_t>(n) == kBatch ? Got::kFrames : Got::kSome;
}

FrameLink::Got FrameLink::Receive() {
  const Got got = ReceiveInto(&frames_);
  if (!frames_.empty()) stack_->InputBatch(iface_, frames_);
  frames_.clear();
  return got;
}

void FrameLink::DropIdleBuffers() {
  for (RefPtr<net::Buffer>& buffer : buffers_) buffer = nullptr;
}

void FrameLink::Run() {
  const timespec kIdle = {1, 0};
  bool idle = false;
  while (true) {
    const Got got = Receive();
    if (got == Got::kEnd) return;
    if (blocked()) Drain();
    // Only a full batch may have left something behind; asking again for nothing costs as much as
    // the sleep, which ends at once when something came meanwhile.
    if (got == Got::kFrames || got == Got::kSome) idle = false;
    if (got == Got::kFrames) continue;
    pollfd wait[2] = {{fd_.get(), static_cast<short>(blocked() ? POLLIN | POLLOUT : POLLIN), 0},
                      {wake_.get(), POLLIN, 0}};
    // After a quiet second the buffers go, and the next sleep has no end.
    const int n = ::ppoll(wait, 2, idle ? nullptr : &kIdle, nullptr);
    if (n == 0) {
      idle = true;
      DropIdleBuffers();
    }
    if (n > 0 && (wait[0].revents & POLLOUT) != 0) Drain();
    if (n > 0 && wait[1].revents != 0) {
      uint64_t count = 0;
      const iovec v = {&count, sizeof(count)};
      [[maybe_unused]] const ssize_t r = ::preadv2(wake_.get(), &v, 1, -1, 0);
    }
  }
}

}  // namespace ringwall
