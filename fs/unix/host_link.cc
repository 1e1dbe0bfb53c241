#include "fs/unix/host_link.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "fs/host/notifier.h"

namespace ringwall {

HostLink::HostLink(UniqueFd fd, WaitQueue& queue)
    : fd_(std::move(fd)), queue_(queue), has_events_(HostNotifier::Add(fd_.get(), queue_)) {}

HostLink::~HostLink() {
  if (has_events_) HostNotifier::Remove(fd_.get(), queue_);
}

Result<size_t> HostLink::Send(std::span<const std::byte> bytes, uint32_t flags) {
  iovec piece = {const_cast<std::byte*>(bytes.data()), bytes.size()};
  mmsghdr message = {};
  message.msg_hdr.msg_iov = &piece;
  message.msg_hdr.msg_iovlen = 1;
  const int own = static_cast<int>(flags & (MSG_OOB | MSG_EOR)) | MSG_DONTWAIT | MSG_NOSIGNAL;
  if (sendmmsg(fd_.get(), &message, 1, own) != 1) return Errno(errno);
  return size_t{message.msg_len};
}

Result<size_t> HostLink::Receive(std::span<std::byte> room, uint32_t flags, uint32_t* out_flags) {
  iovec piece = {room.data(), room.size()};
  mmsghdr message = {};
  message.msg_hdr.msg_iov = &piece;
  message.msg_hdr.msg_iovlen = 1;
  const int own = static_cast<int>(flags & (MSG_PEEK | MSG_OOB | MSG_TRUNC)) | MSG_DONTWAIT;
  if (recvmmsg(fd_.get(), &message, 1, own, nullptr) != 1) return Errno(errno);
  *out_flags |= static_cast<uint32_t>(message.msg_hdr.msg_flags) &
                (MSG_TRUNC | MSG_CTRUNC | MSG_OOB | MSG_EOR);
  return size_t{message.msg_len};
}

Result<UniqueFd> HostLink::Accept() {
  UniqueFd fd(accept4(fd_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!fd) return Errno(errno);
  return fd;
}

Result<void> HostLink::Shutdown(int how) {
  TRY(FromHost(shutdown(fd_.get(), how)));
  return {};
}

Result<int32_t> HostLink::Count(unsigned long command) {
  int32_t n = 0;
  TRY(FromHost(ioctl(fd_.get(), command, &n)));
  return n;
}

EventMask HostLink::Poll(EventMask wanted) {
  pollfd p = {fd_.get(), static_cast<int16_t>(wanted), 0};
  constexpr timespec kNow = {0, 0};
  if (ppoll(&p, 1, &kNow, nullptr) <= 0) return 0;
  return static_cast<uint16_t>(p.revents);
}

}  // namespace ringwall
