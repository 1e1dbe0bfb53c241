// When threads that run no task last had much to do (a link to the host). Where processors are few, a
// task that waits by spinning would take theirs.
#ifndef RINGWALL_SENTRY_BASE_BULK_WORK_H_
#define RINGWALL_SENTRY_BASE_BULK_WORK_H_

#include <atomic>
#include <cstdint>

namespace ringwall {

// Thread-safe; a hint, so nothing is ordered by it. Times are the processor's TSC.
class BulkWork {
 public:
  static void Note() { last_.store(__builtin_ia32_rdtsc(), std::memory_order_relaxed); }
  static bool Since(uint64_t tsc) { return last_.load(std::memory_order_relaxed) > tsc; }

 private:
  static inline std::atomic<uint64_t> last_{0};
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_BASE_BULK_WORK_H_
