// Messages with descriptors over a SOCK_SEQPACKET socket. Used by both sides.
#ifndef RINGWALL_GOFER_PROTO_SOCKET_H_
#define RINGWALL_GOFER_PROTO_SOCKET_H_

#include <cstdint>
#include <span>

#include "gofer/proto/message.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"

namespace ringwall::gofer {

struct Descriptors {
  UniqueFd fd[kMaxDescriptors];
  uint32_t count = 0;

  void Add(UniqueFd one) {
    RW_CHECK(count < kMaxDescriptors);
    fd[count++] = std::move(one);
  }
  void Clear() {
    while (count > 0) fd[--count].reset();
  }
};

// The bytes of a number, as a message that only accompanies descriptors.
inline std::span<const uint8_t> AsBytes(const uint32_t& number) {
  return {static_cast<const uint8_t*>(static_cast<const void*>(&number)), sizeof(number)};
}

enum class Wait { kNo, kYes };

// Errors of a send that the descriptors are to blame for: the message may go without them.
inline bool DescriptorsRefused(const Errno& error) {
  return error.Is(ETOOMANYREFS) || error.Is(EMFILE) || error.Is(ENFILE);
}

// Sends one message; EAGAIN with Wait::kNo when the peer does not take its messages, EPIPE when
// it is gone. Never raises SIGPIPE.
Result<void> SendMessage(int socket, std::span<const uint8_t> bytes, const Descriptors& fds,
                         Wait wait);

// Receives one message and returns its size; 0 when the peer is gone. EBADMSG when it was larger
// than the room or brought more descriptors than allowed; those are closed.
Result<size_t> ReceiveMessage(int socket, std::span<uint8_t> room, Descriptors* fds, Wait wait);

}  // namespace ringwall::gofer

#endif  // RINGWALL_GOFER_PROTO_SOCKET_H_
