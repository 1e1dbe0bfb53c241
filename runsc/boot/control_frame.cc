#include "runsc/boot/control_frame.h"

#include <string.h>
#include <sys/socket.h>

namespace ringwall {
namespace {

union ControlBuffer {
  char bytes[CMSG_SPACE(sizeof(int) * kControlFdsMax)];
  cmsghdr align;
};

void TakeFds(msghdr& message, std::vector<UniqueFd>* fds) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
      fds->emplace_back(fd);
    }
  }
}

// Receives exactly `size` bytes.
Result<void> ReceiveAll(int socket, char* at, size_t size, std::vector<UniqueFd>* fds) {
  while (size > 0) {
    iovec piece = {at, size};
    ControlBuffer control;
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof(control.bytes);
    // The Sentry's filter lists this call for frames of the network, as below.
    mmsghdr one = {message, 0};
    if (RetryEintr([&] { return recvmmsg(socket, &one, 1, MSG_CMSG_CLOEXEC, nullptr); }) < 0) {
      return Errno(errno);
    }
    message = one.msg_hdr;
    const unsigned n = one.msg_len;
    TakeFds(message, fds);
    if (n == 0) return Errno(ECONNRESET);
    if ((message.msg_flags & MSG_CTRUNC) != 0 || fds->size() > kControlFdsMax) {
      return Errno(EMSGSIZE);
    }
    at += n;
    size -= n;
  }
  return {};
}

}  // namespace

Result<void> SendFrame(int socket, const std::string& bytes, const std::vector<int>& fds) {
  if (bytes.size() > kControlFrameMax || fds.size() > kControlFdsMax) return Errno(EMSGSIZE);
  const uint32_t size = static_cast<uint32_t>(bytes.size());
  std::string frame(reinterpret_cast<const char*>(&size), sizeof(size));
  frame += bytes;
  ControlBuffer control;
  size_t sent = 0;
  while (sent < frame.size()) {
    iovec piece = {frame.data() + sent, frame.size() - sent};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (sent == 0 && !fds.empty()) {
      message.msg_control = control.bytes;
      message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      memcpy(CMSG_DATA(c), fds.data(), sizeof(int) * fds.size());
    }
    // The Sentry's filter lists this call for frames of the network; sendmsg would be one more.
    mmsghdr one = {message, 0};
    if (RetryEintr([&] { return sendmmsg(socket, &one, 1, MSG_NOSIGNAL); }) < 0) return Errno(errno);
    sent += one.msg_len;
  }
  return {};
}

Result<std::string> ReceiveFrame(int socket, std::vector<UniqueFd>* fds) {
  uint32_t size = 0;
  TRY(ReceiveAll(socket, reinterpret_cast<char*>(&size), sizeof(size), fds));
  if (size > kControlFrameMax) return Errno(EMSGSIZE);
  std::string bytes(size, '\0');
  TRY(ReceiveAll(socket, bytes.data(), size, fds));
  return bytes;
}

}  // namespace ringwall
