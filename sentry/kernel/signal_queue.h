// PendingSignals: signals that wait for delivery to a task or a thread group (struct sigpending).
// Standard signals are kept once, real-time ones queue. Not locked: the owner's siglock.
#ifndef RINGWALL_SENTRY_KERNEL_SIGNAL_QUEUE_H_
#define RINGWALL_SENTRY_KERNEL_SIGNAL_QUEUE_H_

#include <deque>
#include <optional>
#include <vector>

#include "sentry/abi/signal.h"

namespace ringwall {

class PendingSignals {
 public:
  abi::SigSet mask() const { return mask_; }
  bool Has(int signo) const { return (mask_ & abi::SigBit(signo)) != 0; }
  // False when a standard signal of that number waits already (it is then dropped, as on Linux).
  bool Add(const abi::SigInfo& info);
  // Takes the next one not in `blocked`: synchronous first, then by number, then in order.
  std::optional<abi::SigInfo> Take(abi::SigSet blocked);
  // The signal of a POSIX timer that waits already; null when none does.
  abi::SigInfo* FindTimer(int signo, int timer_id);
  void RemoveTimer(int signo, int timer_id);
  // At most `count` of those that wait, from the `offset`th on, in order.
  std::vector<abi::SigInfo> Slice(uint64_t offset, size_t count) const;
  void Remove(abi::SigSet signals);
  size_t queued() const { return queue_.size(); }

 private:
  // After one of this number was taken out.
  void ForgetIfLast(int signo);

  abi::SigSet mask_ = 0;
  std::deque<abi::SigInfo> queue_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_SIGNAL_QUEUE_H_
