#include "runsc/boot/port_client.h"

#include <sys/socket.h>

namespace ringwall {

namespace {

// Served inside alone: nobody on the host could ask there, or it is no place to be asked.
bool StaysInside(const net::IpAddr& a) {
  return a.IsLoopback() || a.IsMulticast() || a.IsLimitedBroadcast();
}

}  // namespace

Result<void> PortClient::Ask(const PortRequest& request) {
  iovec out = {const_cast<PortRequest*>(&request), sizeof(request)};
  msghdr message = {};
  message.msg_iov = &out;
  message.msg_iovlen = 1;
  PortReply reply;
  iovec in = {&reply, sizeof(reply)};
  msghdr answer = {};
  answer.msg_iov = &in;
  answer.msg_iovlen = 1;
  MutexLock lock(mu_);
  const ssize_t sent =
      RetryEintr([&] { return sendmsg(socket_.get(), &message, MSG_NOSIGNAL); });
  if (sent != sizeof(request)) return Errno(ENETDOWN);
  const ssize_t got = RetryEintr([&] { return recvmsg(socket_.get(), &answer, 0); });
  // The helper is gone.
  if (got != sizeof(reply) || reply.error < 0 || reply.error > 4095) return Errno(ENETDOWN);
  if (reply.error != 0) return Errno(reply.error);
  return {};
}

Result<void> PortClient::Open(const net::SockAddr& at, bool udp, bool v6_only) {
  if (StaysInside(at.addr)) return {};
  return Ask(PortRequest::Of(PortRequest::Op::kOpen, at, udp, v6_only));
}

void PortClient::Close(const net::SockAddr& at, bool udp) {
  if (StaysInside(at.addr)) return;
  const Result<void> closed = Ask(PortRequest::Of(PortRequest::Op::kClose, at, udp, false));
  static_cast<void>(closed);  // there is nobody to tell
}

}  // namespace ringwall
