// Limits of the whole sandbox that sysctls set. Any thread.
#ifndef RINGWALL_SENTRY_KERNEL_SYSCTL_LIMITS_H_
#define RINGWALL_SENTRY_KERNEL_SYSCTL_LIMITS_H_

#include <atomic>
#include <cstdint>

namespace ringwall {

// kernel.pid_max: the first number that no task gets, in every pid namespace.
std::atomic<int>& PidMax();
// fs.nr_open: what RLIMIT_NOFILE may be set to.
std::atomic<int>& NrOpen();
// kernel.randomize_va_space: 0 for programs at the same place each time.
std::atomic<int>& RandomizeVaSpace();
// kernel.pty.*: pseudo-terminals of the whole sandbox, of which `reserve` are left for the first mount namespace
// (none of whose devpts a container has), and how many there are.
struct PtyLimits {
  std::atomic<int> max{4096}, reserve{1024}, count{0};
};
inline PtyLimits pty_limits;
// dev.tty.legacy_tiocsti: 1 where a process without CAP_SYS_ADMIN may type into its own terminal (TIOCSTI).
inline std::atomic<int> legacy_tiocsti{0};
// fs.epoll.max_user_watches: what a user may watch with all of his epolls; at start Linux's part of the low memory.
inline std::atomic<int64_t> max_epoll_watches{0};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_SYSCTL_LIMITS_H_
