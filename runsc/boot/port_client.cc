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
  // One message a call, by calls that the Sentry's filter lists for frames.
  mmsghdr sent = {message, 0}, got = {answer, 0};
  if (RetryEintr([&] { return sendmmsg(socket_.get(), &sent, 1, MSG_NOSIGNAL); }) < 0 ||
      sent.msg_len != sizeof(request)) {
    return Errno(ENETDOWN);
  }
  const int n = RetryEintr([&] { return recvmmsg(socket_.get(), &got, 1, 0, nullptr); });
  // The helper is gone.
  if (n < 0 || got.msg_len != sizeof(reply) || reply.error < 0 || reply.error > 4095) return Errno(ENETDOWN);
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
