#include "sentry/kernel/epoll_ahead.h"

#include <sys/syscall.h>

#include <array>

#include "fs/vfs/fd_table.h"

namespace ringwall {

namespace {

EpollCallsFn epoll_calls = nullptr;

// Whether the call leaves every open descriptor what it is, and gives none to anybody else. New ones may
// come: their numbers were free, so the stub knows nothing of them.
bool KeepsDescriptors(uint64_t nr) {
  switch (nr) {
    case SYS_read: case SYS_write: case SYS_readv: case SYS_writev: case SYS_pread64: case SYS_pwrite64:
    case SYS_recvfrom: case SYS_sendto: case SYS_recvmsg: case SYS_accept: case SYS_accept4:
    case SYS_socket: case SYS_connect: case SYS_shutdown: case SYS_getsockopt: case SYS_setsockopt:
    case SYS_getsockname: case SYS_getpeername:
    case SYS_epoll_ctl: case SYS_epoll_wait: case SYS_epoll_pwait: case SYS_epoll_pwait2:
    case SYS_poll: case SYS_ppoll: case SYS_openat: case SYS_lseek: case SYS_fstat:
    case SYS_timerfd_settime: case SYS_nanosleep: case SYS_clock_nanosleep: case SYS_futex:
    case SYS_getrandom: case SYS_brk: case SYS_mmap: case SYS_munmap: case SYS_mprotect: case SYS_madvise:
    case SYS_rt_sigprocmask: case SYS_rt_sigreturn: case SYS_sched_yield:
      return true;
    default:
      return false;
  }
}

}  // namespace

void SetEpollCalls(EpollCallsFn fn) { epoll_calls = fn; }

void SettleEpollCalls(Task& task, EpollCalls& ahead, EventKind kind, const SyscallRequest& request) {
  std::array<EpollCall, EpollCalls::kMost> calls;
  const size_t count = ahead.TakeEpollCalls(calls);
  if (count != 0) epoll_calls(task, ahead.epfd(), std::span(calls).first(count));
  // A signal's handler changes no descriptor without a call, but who interrupts the task may want to see
  // its next ones (pidfd_getfd, a tracer).
  if (kind != EventKind::kSyscall) return ahead.ForgetEpoll();
  if (request.nr == SYS_close) return ahead.ForgetEpollFd(static_cast<int>(request.args[0]));
  if (!KeepsDescriptors(request.nr)) ahead.ForgetEpoll();
}

void NoteEpollCall(Task& task, File& epoll, int epfd, int fd, bool watched) {
  EpollCalls* const ahead = EpollCalls::Current();
  if (ahead == nullptr) return;
  const bool seen = task.traced() || task.seccomp.mode.load(std::memory_order_relaxed) != 0;
  // The table's reference to the epoll, and the caller's.
  constexpr uint32_t kOwn = 2;
  const bool shared = epoll.ref_count() > kOwn || task.fds().ref_count() > 1 || !epoll.queue()->empty();
  if (seen || shared) return ahead->ForgetEpoll();
  ahead->TellEpoll(epfd, fd, watched);
}

}  // namespace ringwall
