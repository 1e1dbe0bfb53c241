// What happens when guests write more to mapped files than the sandbox's budget for them holds.
#ifndef RINGWALL_SENTRY_KERNEL_OOM_H_
#define RINGWALL_SENTRY_KERNEL_OOM_H_

#include "sentry/base/file_memory.h"
#include "sentry/kernel/timer_queue.h"

namespace ringwall {

class Kernel;

// Looks at the budget as long as it may be exceeded, and then ends those who still write (SIGKILL, as
// the OOM killer does where memory has run out).
class FileMemoryWatch final : public Timer, public FileMemory::Watcher {
 public:
  explicit FileMemoryWatch(Kernel& kernel) : kernel_(kernel) {}
  void Start() override;
  std::optional<int64_t> OnExpire(int64_t now_ns) override;

 private:
  Kernel& kernel_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_OOM_H_
