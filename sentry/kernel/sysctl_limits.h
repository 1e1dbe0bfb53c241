// Limits of the whole sandbox that sysctls set. Any thread.
#ifndef RINGWALL_SENTRY_KERNEL_SYSCTL_LIMITS_H_
#define RINGWALL_SENTRY_KERNEL_SYSCTL_LIMITS_H_

#include <atomic>

namespace ringwall {

// kernel.pid_max: the first number that no task gets, in every pid namespace.
std::atomic<int>& PidMax();
// fs.nr_open: what RLIMIT_NOFILE may be set to.
std::atomic<int>& NrOpen();
// kernel.randomize_va_space: 0 for programs at the same place each time.
std::atomic<int>& RandomizeVaSpace();

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_SYSCTL_LIMITS_H_
