#include "runsc/filter/sentry_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <termios.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(RINGWALL_TSAN)
#include <sanitizer/common_interface_defs.h>
#endif

#include "sentry/base/log.h"

namespace ringwall {
namespace {

// What pthread_create passes: a thread, never a process.
constexpr uint64_t kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND |
                                  CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS |
                                  CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
constexpr uint64_t kReadWrite = PROT_READ | PROT_WRITE;

constexpr FilterRule kRules[] = {
    // Descriptors that the CLI or the gofer gave, and our own memory files.
    Allow(SYS_write, "log, status pipe"),
    Allow(SYS_pread64, "donated regular files, memory files"),
    Allow(SYS_pwrite64, "donated regular files, memory files"),
    Allow(SYS_preadv2, "stdio; donated files with RWF_NOWAIT and friends"),
    Allow(SYS_pwritev2, "stdio; donated files with RWF_APPEND and friends"),
    Allow(SYS_close, "donated descriptors"),
    Allow(SYS_newfstatat, ArgIs(3, AT_EMPTY_PATH), "size and times of donated files"),
    Allow(SYS_lseek, "offsets of stdio, holes of donated files"),
    Allow(SYS_ftruncate, "memory files"),
    Allow(SYS_fallocate, "room and holes of memory files"),
    Allow(SYS_fsync, "guest's fsync of a donated file"),
    Allow(SYS_fdatasync, "guest's fdatasync of a donated file"),
    Allow(SYS_fcntl,
          ArgIn(1, {F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC, F_ADD_SEALS, F_GET_SEALS,
                    F_GETPIPE_SZ, F_SETPIPE_SZ}),
          "flags of stdio, copies of donated descriptors, seals of memory files"),
    Allow(SYS_ioctl,
          ArgIn(1, {TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ, TIOCSWINSZ, FIONREAD, TIOCOUTQ,
                    TCFLSH, TCSBRK, TCXONC, 0x5409 /* TCSBRKP */}),
          "the host terminal that is passed through"),
    Allow(SYS_memfd_create, "memory files"),
    Allow(SYS_ppoll, "whether stdio is ready, control connections, short sleeps"),
    Allow(SYS_epoll_wait, "events of stdio"),
    Allow(SYS_epoll_ctl, "the same"),
    Allow(SYS_shutdown, "giving a gofer connection up"),
    Allow(SYS_accept4, "control connections"),
    Allow(SYS_recvmmsg, "frames from packet sockets and the network helper, gofer replies, control requests"),
    Allow(SYS_sendmmsg, "frames to them, gofer requests, control answers"),

    // Our own memory and threads.
    Allow(SYS_mmap, ArgWithin(2, kReadWrite), "heap, stacks, shared regions; never executable"),
    Allow(SYS_munmap, "the same"),
    Allow(SYS_mprotect, ArgWithin(2, kReadWrite), "guard pages, heap"),
    Allow(SYS_madvise, "giving memory back"),
    Allow(SYS_brk, "heap"),
    Allow(SYS_futex, "locks, and the hand-over with stubs"),
    Allow(SYS_sched_yield, "a spin that lets another thread go on"),
    Allow(SYS_restart_syscall, "a timed wait goes on after SIGSTOP and SIGCONT"),
    Allow(SYS_clone, ArgIs(0, kThreadFlags), "a host thread per guest task"),
    Refuse(SYS_clone3, ENOSYS, "its flags cannot be checked; glibc then uses clone"),
    Allow(SYS_rseq, "start of a thread"),
    Refuse(SYS_set_robust_list, ENOSYS, "start of a thread; the Sentry has no robust locks"),
    Allow(SYS_exit, "end of a thread"),
    Allow(SYS_exit_group, "end of the sandbox"),
    Allow(SYS_rt_sigprocmask, "threads start with signals blocked"),
    Allow(SYS_tgkill, "interrupting stub threads"),
    Allow(SYS_getrandom, "guest's getrandom, AT_RANDOM"),

    // Stubs.
    Allow(SYS_process_vm_readv, "guest memory"),
    Allow(SYS_process_vm_writev, "guest memory"),
    Allow(SYS_ptrace, "ptrace platform: running its own stubs"),
    Allow(SYS_wait4, "stops and ends of stubs"),
    Allow(SYS_clock_gettime, "their CPU time (other clocks are read in the vDSO)"),
    Allow(SYS_get_robust_list, "what a stub's memory thread answers"),
    Allow(SYS_sched_setaffinity, "a stub's threads beside their Sentry thread; guest's affinity"),
    Allow(SYS_sched_setattr, "time slices of memory threads"),
#if defined(__SANITIZE_ADDRESS__)
    Allow(SYS_gettid, "the sanitizer at the start of a thread"),
    Allow(SYS_sched_getaffinity, "the same"),
    Allow(SYS_getpid, "the number before each line of its reports"),
    Allow(SYS_pipe2, "the sanitizer asks whether memory may be read"),
    Allow(SYS_sigaltstack, "the sanitizer at the start and end of a thread"),
#endif
#if defined(RINGWALL_TSAN)
    Allow(SYS_gettimeofday, "the sanitizer's own thread"),
    Allow(SYS_nanosleep, "the sanitizer's own thread"),
    Allow(SYS_fstat, "the sanitizer looks at descriptors that were received"),
    Allow(SYS_gettid, "the sanitizer at the start of a thread"),
    Allow(SYS_getpid, "the number before each line of its reports"),
    Allow(SYS_rt_sigaction, "the sanitizer"),
    Allow(SYS_sigaltstack, "the sanitizer at the end of a thread"),
    Allow(SYS_sched_getaffinity, "the sanitizer at the start of a thread"),
    Allow(SYS_pipe2, "the sanitizer asks whether memory may be read"),
    Refuse(SYS_open, EPERM, "the sanitizer looks at its own memory"),
    Refuse(SYS_openat, EPERM, "the same"),
    Refuse(SYS_readlink, EPERM, "the same"),
#endif
};

constexpr size_t AllowedCalls() {
  size_t count = 0;
  for (const FilterRule& rule : kRules) count += rule.error == 0 ? 1 : 0;
  return count;
}
#if !defined(__SANITIZE_ADDRESS__) && !defined(RINGWALL_TSAN)
static_assert(AllowedCalls() <= kSentryFilterMaxCalls);
#endif

extern "C" const char __executable_start;

void OnUnlistedCall(int, siginfo_t* info, void* context) {
  const auto offset = [](uint64_t address) {
    return address - reinterpret_cast<uint64_t>(&__executable_start);
  };
  LogMessage(LogLevel::kError, "host system call %d is not in the Sentry's filter (at %#lx)",
             info->si_syscall, offset(reinterpret_cast<uint64_t>(info->si_call_addr)));
  // What looks like return addresses, for addr2line.
  const ucontext_t* uc = static_cast<const ucontext_t*>(context);
  const uint64_t* stack = reinterpret_cast<const uint64_t*>(uc->uc_mcontext.gregs[REG_RSP]);
  constexpr int kWords = 1000;
  constexpr uint64_t kImage = 256 << 20;  // a sanitizer's build is large
  for (int i = 0; i < kWords; i++) {
    if (offset(stack[i]) < kImage) LogMessage(LogLevel::kDebug, "  %#lx", offset(stack[i]));
  }
  syscall(SYS_exit_group, 128 + SIGSYS);
}

}  // namespace

std::span<const FilterRule> SentryFilterRules() { return kRules; }

HostResult<void> InstallSentryFilter() {
#if defined(__SANITIZE_ADDRESS__) || defined(RINGWALL_TSAN)
  __sanitizer_set_report_fd(reinterpret_cast<void*>(static_cast<intptr_t>(GetLogConfig().fd)));
#endif
  const bool trap = LogEnabled(LogLevel::kDebug);
  if (trap) {
    struct sigaction action = {};
    action.sa_sigaction = OnUnlistedCall;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSYS, &action, nullptr);
  }
  return InstallFilter(kRules, trap);
}

}  // namespace ringwall
