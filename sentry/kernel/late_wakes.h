// Wakes of host threads put off until the locks are given back under which they were decided. Who wakes on
// the waker's own processor often runs at once, and would only find that lock held.
#ifndef RINGWALL_SENTRY_KERNEL_LATE_WAKES_H_
#define RINGWALL_SENTRY_KERNEL_LATE_WAKES_H_

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ringwall {

// Declared before the lock is taken. While it lives the calling thread must not wait for whom it woke.
// Within another one it does nothing by itself.
class LateWakes {
 public:
  LateWakes() {
    if (current_ == nullptr) current_ = this;
  }
  ~LateWakes() {
    if (current_ != this) return;
    current_ = nullptr;
    // The word may be gone by now: a wake of nobody does no harm.
    for (size_t i = 0; i < count_; ++i) WakeNow(words_[i]);
  }
  LateWakes(const LateWakes&) = delete;
  LateWakes& operator=(const LateWakes&) = delete;

  // Wakes who sleeps on the word, now or at the end of the outermost scope of this thread.
  static void Wake(std::atomic<uint32_t>* word) {
    LateWakes* const late = current_;
    if (late == nullptr || late->count_ == late->words_.size()) return WakeNow(word);
    late->words_[late->count_++] = word;
  }

 private:
  static void WakeNow(std::atomic<uint32_t>* word) {
    ::syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }

  static inline thread_local LateWakes* current_ = nullptr;
  size_t count_ = 0;
  std::array<std::atomic<uint32_t>*, 8> words_;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_LATE_WAKES_H_
