// HostLink: a unix socket of the host's behind a guest's one (--host-uds). The gofer made, connected or
// bound it; what happens on it afterwards happens here, never waiting. Descriptors do not pass: neither
// are the guest's the host's, nor may a peer on the host hand any in (they are dropped on arrival, and
// MSG_CTRUNC says so).
#ifndef RINGWALL_FS_UNIX_HOST_LINK_H_
#define RINGWALL_FS_UNIX_HOST_LINK_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/base/unique_fd.h"
#include "sentry/base/wait_queue.h"

namespace ringwall {

// Thread-safe. All errors are the host's; EAGAIN where a call would have to wait.
class HostLink final : public RefCounted<HostLink> {
 public:
  // Events wake `queue`, which outlives the link.
  HostLink(UniqueFd fd, WaitQueue& queue);
  ~HostLink() override;

  // `flags`: MSG_OOB, MSG_EOR. EPIPE without a signal.
  Result<size_t> Send(std::span<const std::byte> bytes, uint32_t flags);
  // `flags`: MSG_PEEK, MSG_OOB, MSG_TRUNC. *out_flags: msg_flags.
  Result<size_t> Receive(std::span<std::byte> room, uint32_t flags, uint32_t* out_flags);
  Result<UniqueFd> Accept();
  Result<void> Shutdown(int how);
  // FIONREAD, TIOCOUTQ.
  Result<int32_t> Count(unsigned long command);
  EventMask Poll(EventMask wanted);

 private:
  const UniqueFd fd_;
  WaitQueue& queue_;
  const bool has_events_;
};

}  // namespace ringwall

#endif  // RINGWALL_FS_UNIX_HOST_LINK_H_
