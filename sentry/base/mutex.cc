#include "sentry/base/mutex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace ringwall {

void CondVar::Sleep(uint32_t seen) {
  syscall(SYS_futex, &changes_, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}

void CondVar::Wake(int count) {
  changes_.fetch_add(1, std::memory_order_release);
  syscall(SYS_futex, &changes_, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

}  // namespace ringwall
