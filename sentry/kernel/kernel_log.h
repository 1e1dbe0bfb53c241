// The log that syslog(2) reads (kernel/printk): what the sandbox's kernel has to say to those inside.
#ifndef RINGWALL_SENTRY_KERNEL_KERNEL_LOG_H_
#define RINGWALL_SENTRY_KERNEL_KERNEL_LOG_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "sentry/base/mutex.h"
#include "sentry/base/wait_queue.h"

namespace ringwall {

// Bounded: the oldest lines go. Thread-safe.
class KernelLog {
 public:
  static constexpr size_t kBufferSize = 1 << 18;
  enum Level : uint8_t { kError = 3, kWarning = 4, kNotice = 5, kInfo = 6 };

  // The sandbox's one.
  static KernelLog& Get();

  // `time_ns` since the sandbox's start.
  void Append(Level level, uint64_t time_ns, std::string_view text) EXCLUDES(mu_);

  // SYSLOG_ACTION_READ: what nobody has read yet, at most `limit` bytes; empty when there is nothing.
  std::string Take(size_t limit) EXCLUDES(mu_);
  size_t Unread() const EXCLUDES(mu_);
  // SYSLOG_ACTION_READ_ALL: the last whole lines since Clear() that fit.
  std::string Tail(size_t limit) const EXCLUDES(mu_);
  void Clear() EXCLUDES(mu_);
  WaitQueue& queue() { return queue_; }

  // The sysctl kernel.dmesg_restrict.
  std::atomic<int> restricted{1};

 private:
  mutable Mutex<LockClass::kLeaf> mu_;
  std::deque<std::string> lines_ GUARDED_BY(mu_);
  size_t size_ GUARDED_BY(mu_) = 0;
  uint64_t first_ GUARDED_BY(mu_) = 0;      // number of the oldest line
  uint64_t next_read_ GUARDED_BY(mu_) = 0;  // by Take
  size_t read_bytes_ GUARDED_BY(mu_) = 0;   // of that line already
  uint64_t cleared_ GUARDED_BY(mu_) = 0;
  WaitQueue queue_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_KERNEL_LOG_H_
