#include "runsc/filter/netd_filter.h"

#include <errno.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <vector>

#include "sentry/base/log.h"

namespace ringwall {
namespace {

constexpr uint64_t kReadWrite = PROT_READ | PROT_WRITE;
constexpr uint64_t kSocketFlags = SOCK_NONBLOCK | SOCK_CLOEXEC;

constexpr FilterRule kRules[] = {
    // Frames to and from the Sentry.
    Allow(SYS_recvmmsg, "frames of the guest"),
    Allow(SYS_sendmmsg, "frames for the guest"),
    Allow(SYS_epoll_wait, "the one place to wait"),
    Allow(SYS_epoll_ctl, "sockets that come and go"),

    // The guest's connections and datagrams. Other families and raw sockets are out of reach.
    Allow(SYS_socket, ArgIn(0, {AF_INET, AF_INET6}),
          ArgIn(1, {SOCK_STREAM | kSocketFlags, SOCK_DGRAM | kSocketFlags}),
          "a socket for each of the guest's connections and UDP ports"),
    Allow(SYS_connect, "the guest's connections"),
    Allow(SYS_accept4, ArgIs(3, kSocketFlags), "connections to published ports"),
    Allow(SYS_getpeername, "whether connect() succeeded"),
    Allow(SYS_getsockname, "the family of a published port"),
    Allow(SYS_getsockopt, ArgIs(1, SOL_SOCKET), ArgIs(2, SO_ERROR), "why connect() failed"),
    Allow(SYS_setsockopt, ArgIs(1, SOL_SOCKET), ArgIs(2, SO_LINGER), "passing a reset on"),
    Allow(SYS_setsockopt, ArgIs(1, IPPROTO_TCP), ArgIs(2, TCP_NODELAY),
          "the guest's stack gathers small writes itself"),
    Allow(SYS_setsockopt, ArgIs(1, IPPROTO_IP), ArgIs(2, IP_RECVERR), "ICMP errors for the guest"),
    Allow(SYS_setsockopt, ArgIs(1, IPPROTO_IPV6), ArgIs(2, IPV6_RECVERR), "the same over IPv6"),
    Allow(SYS_shutdown, "the guest's half-close"),
    Allow(SYS_sendmsg, "bytes and datagrams of the guest"),
    Allow(SYS_sendto, "pings"),
    Allow(SYS_recvmsg, "error queues"),
    Allow(SYS_recvfrom, "bytes and datagrams for the guest"),
    Allow(SYS_close, "closed connections"),

    // Itself.
    Allow(SYS_mmap, ArgWithin(2, kReadWrite), "heap; never executable"),
    Allow(SYS_munmap, "the same"),
    Allow(SYS_mprotect, ArgWithin(2, kReadWrite), "the same"),
    Allow(SYS_mremap, "the same"),
    Allow(SYS_madvise, "giving memory back"),
    Allow(SYS_brk, "heap"),
    Allow(SYS_futex, ArgIn(1, {FUTEX_WAIT_PRIVATE, FUTEX_WAKE_PRIVATE}), "locks, never contended"),
    Allow(SYS_clock_gettime, "where the vDSO has no clock"),
    Allow(SYS_getrandom, "sequence numbers"),
    Allow(SYS_restart_syscall, "waiting goes on after SIGSTOP and SIGCONT"),
    Allow(SYS_write, "log"),
    Allow(SYS_exit_group, "the end, with the Sentry's"),
#if defined(__SANITIZE_ADDRESS__)
    Allow(SYS_sigaltstack, "the sanitizer at the end of a thread"),
#endif
#if defined(RINGWALL_TSAN)
    Allow(SYS_gettimeofday, "the sanitizer's own thread"),
    Allow(SYS_nanosleep, "the sanitizer's own thread"),
    Allow(SYS_fstat, "the sanitizer looks at descriptors that were received"),
    Allow(SYS_sched_yield, "the locks of the sanitizer"),
    Allow(SYS_gettid, "the sanitizer at the start of a thread"),
    Allow(SYS_getpid, "the number before each line of its reports"),
#endif
};

// With --network=host beside the above.
constexpr FilterRule kPortRules[] = {
    Allow(SYS_bind, "ports that the guest serves"),
    Allow(SYS_listen, "the same"),
    Allow(SYS_setsockopt, ArgIs(1, SOL_SOCKET), ArgIs(2, SO_REUSEADDR), "the same"),
    Allow(SYS_setsockopt, ArgIs(1, IPPROTO_IPV6), ArgIs(2, IPV6_V6ONLY), "the same"),
};

}  // namespace

std::span<const FilterRule> NetdFilterRules() { return kRules; }

HostResult<void> InstallNetdFilter(bool host_ports) {
  std::vector<FilterRule> rules(std::begin(kRules), std::end(kRules));
  if (host_ports) rules.insert(rules.end(), std::begin(kPortRules), std::end(kPortRules));
  return InstallFilter(rules, false);
}

}  // namespace ringwall
