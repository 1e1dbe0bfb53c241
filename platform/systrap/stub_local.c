// Calls that the stub answers without the Sentry: those that concern nobody but the calling process. A
// copy that faults hands the call over, before anything of it was done: the Sentry may have memory there
// yet (a stack that grows), or says EFAULT.
#include <linux/eventpoll.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#include "platform/systrap/stub_systrap.h"

#define EINTR 4
#define EINVAL 22

// Indices of Region::local_count (kLocalCalls).
enum {
  kGetpid, kGettid, kGetppid, kGetuid, kGeteuid, kGetgid, kGetegid, kClockGettime, kGettimeofday,
  kTime, kSchedYield, kGetcpu, kSigprocmask, kFutex, kSigreturn,
  kRobustList, kRseq, kEpollCtl
};

static int Done(struct Region* region, int which, long result) {
  region->rax = (uint64_t)result;
  region->local_count[which]++;
  return 1;
}

static int CopyIn(void* to, uint64_t from, uint64_t n) {
  return stub_is_user(from, n) && stub_copy(to, (const void*)from, n) == 0;
}
static int CopyOut(uint64_t to, const void* from, uint64_t n) {
  return stub_is_user(to, n) && stub_copy((void*)to, from, n) == 0;
}

static int ClockGettime(struct Region* region) {
  const uint32_t clock = (uint32_t)region->rdi;
  // REALTIME, MONOTONIC, MONOTONIC_RAW, REALTIME_COARSE, MONOTONIC_COARSE, BOOTTIME, TAI.
  if (clock > 31 || (0x8f3U >> clock & 1) == 0) {
    return 0;
  }
  const long r = stub_vdso_call(region->vdso_clock_gettime, clock,
                                (uint64_t)region->vdso_buffer, region);
  if (r != 0) return 0;
  return CopyOut(region->rsi, region->vdso_buffer, 16) && Done(region, kClockGettime, 0);
}

static int Gettimeofday(struct Region* region) {
  if (region->rsi != 0) return 0;  // a time zone: rare
  const long r =
      stub_vdso_call(region->vdso_gettimeofday, (uint64_t)region->vdso_buffer, 0, region);
  if (r != 0) return 0;
  if (region->rdi != 0 && !CopyOut(region->rdi, region->vdso_buffer, 16)) return 0;
  return Done(region, kGettimeofday, 0);
}

static int Time(struct Region* region) {
  const long now = stub_vdso_call(region->vdso_time, 0, 0, region);
  if (now == -4096) return 0;
  if (region->rdi != 0 && !CopyOut(region->rdi, &now, 8)) return 0;
  return Done(region, kTime, now);
}

static int Getcpu(struct Region* region) {
  uint32_t aux;
  __asm__ volatile("rdtscp" : "=c"(aux) : : "eax", "edx");
  const uint32_t cpu = aux & 0xfff, node = aux >> 12;
  if ((region->rdi != 0 && !CopyOut(region->rdi, &cpu, 4)) ||
      (region->rsi != 0 && !CopyOut(region->rsi, &node, 4))) {
    return 0;
  }
  return Done(region, kGetcpu, 0);
}

static int Sigprocmask(struct Region* region) {
  const uint64_t kAlwaysOpen = 1UL << 8 | 1UL << 18;  // SIGKILL, SIGSTOP
  if (region->r10 != 8 || region->signals_pending != 0) return 0;
  const uint64_t old = region->signal_mask;
  uint64_t mask = old;
  if (region->rsi != 0) {
    uint64_t set;
    if (!CopyIn(&set, region->rsi, 8)) return 0;
    switch ((int)region->rdi) {
      case 0: mask |= set; break;
      case 1: mask &= ~set; break;
      case 2: mask = set; break;
      default: return Done(region, kSigprocmask, -EINVAL);
    }
  }
  // Before the mask changes: who is handed the call must find the old one.
  if (region->rdx != 0 && !CopyOut(region->rdx, &old, 8)) return 0;
  if (region->rsi != 0) {
    __atomic_store_n(&region->signal_mask, mask & ~kAlwaysOpen, __ATOMIC_SEQ_CST);
    // A signal that came in between may have seen the old mask: let the Sentry look.
    if (__atomic_load_n(&region->signals_pending, __ATOMIC_SEQ_CST) != 0) region->kick = 1;
  }
  return Done(region, kSigprocmask, 0);
}

// Private futexes live on the host: a wait and the wake for it are calls of threads of this process.
// What needs the Sentry first (a relative time limit, since a restart must not begin it anew; PI,
// whose words hold thread ids) is handed over; the Sentry has it done by command.
static int Futex(struct Region* region, uint32_t* flags) {
  const uint32_t op = (uint32_t)region->rsi;
  if (region->local_futex == 0 || (op & FUTEX_PRIVATE_FLAG) == 0) return 0;
  switch (op & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
      if (region->r10 != 0) return 0;
      break;
    case FUTEX_WAIT_BITSET:
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
    case FUTEX_REQUEUE:
    case FUTEX_CMP_REQUEUE:
    case FUTEX_WAKE_OP:
      break;
    default:
      return 0;
  }
  if (!stub_is_user(region->rdi, 4)) return 0;
  const uint64_t args[6] = {region->rdi, region->rsi, region->rdx,
                            region->r10, region->r8,  region->r9};
  const long result = stub_futex_noted(region, args);
  if (result == -EINTR) {
    *flags |= RW_FLAG_INTERRUPTED;
    return 0;
  }
  return Done(region, kFutex, result);
}

static int SetRobustList(struct Region* region) {
  if (region->local_setup == 0) return 0;
  if (region->rsi != 24) return Done(region, kRobustList, -EINVAL);
  region->guest_robust = region->rdi;
  return Done(region, kRobustList, 0);
}

// The first registration of an area of the original size, as each thread of the C library makes it. The
// write proves that the host can fill the area in.
static int Rseq(struct Region* region) {
  enum { kSize = 32, kCsOffset = 8 };
  const uint64_t area = region->rdi, none = 0;
  if (region->local_setup == 0 || region->rseq_area != 0 || region->rsi != kSize || (int)region->rdx != 0 || area % kSize != 0 ||
      !stub_is_user(area, kSize) || !CopyOut(area + kCsOffset, &none, sizeof none)) {
    return 0;
  }
  if (stub_call(SYS_rseq, (long)area, kSize, 0, (long)region->r10) != 0) return 0;
  region->rseq_area = area;
  region->rseq_signature = (uint32_t)region->r10;
  return Done(region, kRseq, 0);
}

// A call that will succeed: the Sentry makes it before whatever this thread hands over next, and nobody
// else can look at that epoll (sentry/kernel/epoll_ahead.h).
static int EpollCtl(struct Region* region) {
  const uint32_t fd = (uint32_t)region->rdx, count = region->epoll_count;
  if (region->epoll_fd == 0 || (uint32_t)region->rdi != region->epoll_fd - 1) return 0;
  if (fd >= RW_REGION_EPOLL_FDS || count >= RW_REGION_EPOLL_CALLS) return 0;
  const int op = (int)region->rsi;
  const uint8_t known = region->epoll_known[fd];
  struct RegionEpollCall* const call = &region->epoll_calls[count];
  if (known != (op == EPOLL_CTL_ADD ? RW_EPOLL_APART : RW_EPOLL_WATCHED)) return 0;
  switch (op) {
    case EPOLL_CTL_ADD:
    case EPOLL_CTL_MOD: {
      struct epoll_event event;
      if (!CopyIn(&event, region->r10, sizeof event) || (event.events & EPOLLEXCLUSIVE) != 0) return 0;
      call->events = event.events;
      call->data = event.data;
      break;
    }
    case EPOLL_CTL_DEL:
      break;
    default:
      return 0;
  }
  call->op = op;
  call->fd = (int32_t)fd;
  region->epoll_known[fd] = op == EPOLL_CTL_DEL ? RW_EPOLL_APART : RW_EPOLL_WATCHED;
  region->epoll_count = count + 1;
  return Done(region, kEpollCtl, 0);
}

int stub_answer_locally(struct Region* region, uint32_t* flags) {
  switch (region->rax) {
    case SYS_getpid: return Done(region, kGetpid, region->pid);
    case SYS_gettid: return Done(region, kGettid, region->tid);
    case SYS_getppid: return Done(region, kGetppid, region->ppid);
    case SYS_getuid: return Done(region, kGetuid, region->uid);
    case SYS_geteuid: return Done(region, kGeteuid, region->euid);
    case SYS_getgid: return Done(region, kGetgid, region->gid);
    case SYS_getegid: return Done(region, kGetegid, region->egid);
    case SYS_clock_gettime: return region->vdso_clock_gettime != 0 && ClockGettime(region);
    case SYS_gettimeofday: return region->vdso_gettimeofday != 0 && Gettimeofday(region);
    case SYS_time: return region->vdso_time != 0 && Time(region);
    case SYS_sched_yield: return Done(region, kSchedYield, stub_call(SYS_sched_yield, 0, 0, 0, 0));
    case SYS_getcpu: return Getcpu(region);
    case SYS_rt_sigprocmask: return Sigprocmask(region);
    case SYS_futex: return Futex(region, flags);
    case SYS_set_robust_list: return SetRobustList(region);
    case SYS_rseq: return Rseq(region);
    case SYS_epoll_ctl: return EpollCtl(region);
    case SYS_rt_sigreturn:
      return stub_sigreturn(region) && Done(region, kSigreturn, (long)region->rax);
    default: return 0;
  }
}

int stub_is_local(const struct Region* region) {
  switch (region->rax) {
    case SYS_getpid: case SYS_gettid: case SYS_getppid: case SYS_getuid: case SYS_geteuid:
    case SYS_getgid: case SYS_getegid: case SYS_clock_gettime: case SYS_gettimeofday:
    case SYS_time: case SYS_sched_yield: case SYS_getcpu: case SYS_rt_sigprocmask: case SYS_futex:
    case SYS_rt_sigreturn: case SYS_set_robust_list: case SYS_rseq:
      return 1;
    case SYS_epoll_ctl:
      return region->epoll_fd != 0 && (uint32_t)region->rdi == region->epoll_fd - 1;
    default:
      return 0;
  }
}
