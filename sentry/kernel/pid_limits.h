// How many processes there may be: the sysctls kernel.pid_max and kernel.threads-max.
#ifndef RINGWALL_SENTRY_KERNEL_PID_LIMITS_H_
#define RINGWALL_SENTRY_KERNEL_PID_LIMITS_H_

#include <atomic>

namespace ringwall {

// The first number that no task gets, in every pid namespace.
std::atomic<int>& PidMax();

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_PID_LIMITS_H_
