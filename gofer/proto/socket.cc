// sendmmsg(2) and recvmmsg(2) with SCM_RIGHTS. One message a call; these all the same, since the
// Sentry's filter lists them already.
#include "gofer/proto/socket.h"

#include <sys/socket.h>

#include <cstring>

namespace ringwall::gofer {

Result<void> SendMessage(int socket, std::span<const uint8_t> bytes, const Descriptors& fds,
                         Wait wait) {
  iovec iov = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxDescriptors)];
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (fds.count != 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.count);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.count);
    for (uint32_t i = 0; i < fds.count; ++i) {
      const int fd = fds.fd[i].get();
      std::memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof(int));
    }
  }
  const int flags = MSG_NOSIGNAL | (wait == Wait::kNo ? MSG_DONTWAIT : 0);
  mmsghdr one = {message, 0};
  if (RetryEintr([&] { return ::sendmmsg(socket, &one, 1, flags); }) < 0) return Errno(errno);
  if (one.msg_len != bytes.size()) return Errno(EMSGSIZE);
  return {};
}

Result<size_t> ReceiveMessage(int socket, std::span<uint8_t> room, Descriptors* fds, Wait wait) {
  iovec iov = {room.data(), room.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxDescriptors)];
  msghdr message = {};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (fds != nullptr) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
  }
  const int flags = MSG_CMSG_CLOEXEC | (wait == Wait::kNo ? MSG_DONTWAIT : 0);
  mmsghdr one = {message, 0};
  if (RetryEintr([&] { return ::recvmmsg(socket, &one, 1, flags, nullptr); }) < 0) {
    return Errno(errno);
  }
  message = one.msg_hdr;
  const size_t got = one.msg_len;
  // The kernel makes only as many descriptors as there is room for, and says so.
  bool bad = (message.msg_flags & MSG_TRUNC) != 0;
  if (fds != nullptr) {
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
         header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
        bad = true;
        continue;
      }
      const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
        UniqueFd owned(fd);
        if (fds->count < kMaxDescriptors) {
          fds->Add(std::move(owned));
        } else {
          bad = true;
        }
      }
    }
  }
  // It also says so when this process may have no more of them: then some are missing.
  const bool full = fds == nullptr || fds->count == kMaxDescriptors;
  if ((message.msg_flags & MSG_CTRUNC) != 0 && full) bad = true;
  if (bad) {
    if (fds != nullptr) fds->Clear();
    return Errno(EBADMSG);
  }
  return got;
}

}  // namespace ringwall::gofer
