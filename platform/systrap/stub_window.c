// The data window: short inputs of system calls are copied into it by the stub, which has the
// guest's memory at hand; and output is copied from it.
#include <sys/syscall.h>

#include "platform/systrap/stub_systrap.h"

enum Kind { kNone, kString, kBytes, kSized, kVector, kMessage };

// One input of a call: which argument is the address; kSized: which one is the length, in units of
// `size`; kBytes: `size` bytes; kVector: iovecs and then what they name; kMessage: a struct msghdr, its
// iovecs, and what they name when `size` says so.
struct Input {
  uint8_t kind, address, length, size;
};
enum { kStack = 6 };
struct Call {
  uint16_t nr;
  struct Input input[2];
};

// The frame that rt_sigreturn's stack pointer is in, without the xstate.
#define FRAME {kBytes, kStack, 0, 0}
#define STRING(a) {kString, a, 0, 0}
#define BYTES(a, n) {kBytes, a, 0, n}
#define SIZED(a, l, n) {kSized, a, l, n}
#define VECTOR(a, l) {kVector, a, l, sizeof(struct Iovec)}
#define MESSAGE(a, contents) {kMessage, a, 0, contents}

struct Iovec {
  uint64_t base, size;
};
struct Message {
  uint64_t name, name_size, iov, iov_count, control, control_size, flags;
};

// Ascending by number.
static const struct Call kCalls[] = {
    {SYS_write, {SIZED(1, 2, 1)}},
    {SYS_open, {STRING(0)}},
    {SYS_stat, {STRING(0)}},
    {SYS_lstat, {STRING(0)}},
    {SYS_poll, {SIZED(0, 1, 8)}},
    {SYS_rt_sigaction, {BYTES(1, 32)}},
    {SYS_rt_sigprocmask, {BYTES(1, 8)}},
    {SYS_rt_sigreturn, {FRAME}},
    {SYS_pwrite64, {SIZED(1, 2, 1)}},
    {SYS_readv, {SIZED(1, 2, 16)}},
    {SYS_writev, {VECTOR(1, 2)}},
    {SYS_access, {STRING(0)}},
    {SYS_nanosleep, {BYTES(0, 16)}},
    {SYS_setitimer, {BYTES(1, 32)}},
    {SYS_sendfile, {BYTES(2, 8)}},
    {SYS_connect, {SIZED(1, 2, 1)}},
    {SYS_accept, {BYTES(2, 4)}},
    {SYS_sendto, {SIZED(1, 2, 1), SIZED(4, 5, 1)}},
    {SYS_recvfrom, {BYTES(5, 4)}},
    {SYS_sendmsg, {MESSAGE(1, 1)}},
    {SYS_recvmsg, {MESSAGE(1, 0)}},
    {SYS_bind, {SIZED(1, 2, 1)}},
    {SYS_getsockname, {BYTES(2, 4)}},
    {SYS_getpeername, {BYTES(2, 4)}},
    {SYS_setsockopt, {SIZED(3, 4, 1)}},
    {SYS_getsockopt, {BYTES(4, 4)}},
    {SYS_execve, {STRING(0)}},
    {SYS_semop, {SIZED(1, 2, 6)}},
    {SYS_truncate, {STRING(0)}},
    {SYS_chdir, {STRING(0)}},
    {SYS_rename, {STRING(0), STRING(1)}},
    {SYS_mkdir, {STRING(0)}},
    {SYS_rmdir, {STRING(0)}},
    {SYS_creat, {STRING(0)}},
    {SYS_link, {STRING(0), STRING(1)}},
    {SYS_unlink, {STRING(0)}},
    {SYS_symlink, {STRING(0), STRING(1)}},
    {SYS_readlink, {STRING(0)}},
    {SYS_chmod, {STRING(0)}},
    {SYS_chown, {STRING(0)}},
    {SYS_lchown, {STRING(0)}},
    {SYS_rt_sigtimedwait, {BYTES(0, 8), BYTES(2, 16)}},
    {SYS_rt_sigsuspend, {BYTES(0, 8)}},
    {SYS_statfs, {STRING(0)}},
    {SYS_getxattr, {STRING(0), STRING(1)}},
    {SYS_lgetxattr, {STRING(0), STRING(1)}},
    {SYS_futex, {BYTES(3, 16)}},
    {SYS_timer_settime, {BYTES(2, 32)}},
    {SYS_clock_nanosleep, {BYTES(2, 16)}},
    {SYS_epoll_ctl, {BYTES(3, 12)}},
    {SYS_openat, {STRING(1)}},
    {SYS_mkdirat, {STRING(1)}},
    {SYS_newfstatat, {STRING(1)}},
    {SYS_unlinkat, {STRING(1)}},
    {SYS_renameat, {STRING(1), STRING(3)}},
    {SYS_linkat, {STRING(1), STRING(3)}},
    {SYS_symlinkat, {STRING(0), STRING(2)}},
    {SYS_readlinkat, {STRING(1)}},
    {SYS_fchmodat, {STRING(1)}},
    {SYS_faccessat, {STRING(1)}},
    {SYS_ppoll, {SIZED(0, 1, 8), BYTES(2, 16)}},
    {SYS_utimensat, {STRING(1), BYTES(2, 32)}},
    {SYS_epoll_pwait, {BYTES(4, 8)}},
    {SYS_timerfd_settime, {BYTES(2, 32)}},
    {SYS_accept4, {BYTES(2, 4)}},
    {SYS_preadv, {SIZED(1, 2, 16)}},
    {SYS_pwritev, {VECTOR(1, 2)}},
    {SYS_prlimit64, {BYTES(2, 16)}},
    {SYS_renameat2, {STRING(1), STRING(3)}},
    {SYS_statx, {STRING(1)}},
    {SYS_clone3, {SIZED(0, 1, 1)}},
    {SYS_openat2, {STRING(1), SIZED(2, 3, 1)}},
    {SYS_faccessat2, {STRING(1)}},
};

#define PATH_MAX 4096
// Longer input the Sentry reads by itself: one copy instead of two.
enum { kLargest = 32 << 10 };
#define COUNT (sizeof kCalls / sizeof kCalls[0])

static const struct Call* Find(uint64_t nr) {
  uint32_t low = 0, high = COUNT;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (kCalls[middle].nr < nr) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < COUNT && kCalls[low].nr == nr ? &kCalls[low] : 0;
}

static uint64_t Argument(const struct Region* region, int which) {
  switch (which) {
    case 0: return region->rdi;
    case 1: return region->rsi;
    case 2: return region->rdx;
    case 3: return region->r10;
    case 4: return region->r8;
    case kStack: return region->rsp - 8;
    default: return region->r9;
  }
}

// What getrusage tells of memory and switches, and a parent of a process that ended, is the host's count
// for this process, which the Sentry would otherwise have to ask the memory thread for.
static uint32_t FillUsage(struct Region* region) {
  enum { kSelf = 0, kRusageSize = 144 };
  if ((region->rax == SYS_getrusage && (int)region->rdi < kSelf) ||
      stub_call(SYS_getrusage, kSelf, (long)region + RW_REGION_WINDOW, 0, 0) != 0) {
    return 0;
  }
  region->input[0] = (struct RegionCopy){RW_USAGE_ADDR, kRusageSize, 0};
  return 1;
}

// What has been copied so far.
struct Filled {
  uint32_t used, count;
};

// Tells the Sentry of what has just been copied behind the rest.
static void Note(struct Region* region, struct Filled* filled, uint64_t addr, uint64_t size) {
  struct RegionCopy* const copy =
      filled->count == 0 ? &region->input[0] : &region->more_input[filled->count - 1];
  copy->addr = addr;
  copy->size = (uint32_t)size;
  copy->offset = filled->used;
  filled->used += (uint32_t)(size + 63) & ~63U;
  ++filled->count;
}

// Copies bytes of the guest's behind what is there; their place in the window, or 0.
static const uint8_t* Add(struct Region* region, struct Filled* filled, uint64_t addr,
                          uint64_t size) {
  const uint64_t room = RW_REGION_WINDOW_SIZE - filled->used;
  if (filled->count == RW_REGION_INPUTS || addr == 0 || addr >= RW_STUB_START) return 0;
  if (size == 0 || size > kLargest || size > room || size > RW_STUB_START - addr) return 0;
  uint8_t* const to = (uint8_t*)region + RW_REGION_WINDOW + filled->used;
  if (stub_copy(to, (const void*)addr, size) != 0) return 0;
  Note(region, filled, addr, size);
  return to;
}

static void AddString(struct Region* region, struct Filled* filled, uint64_t addr) {
  const uint64_t room = RW_REGION_WINDOW_SIZE - filled->used;
  if (addr == 0 || addr >= RW_STUB_START) return;
  uint64_t most = room < PATH_MAX ? room : PATH_MAX;
  if (most > RW_STUB_START - addr) most = RW_STUB_START - addr;
  uint8_t* const to = (uint8_t*)region + RW_REGION_WINDOW + filled->used;
  const long length = stub_copy_string(to, (const void*)addr, most);
  if (length <= 0) return;
  Note(region, filled, addr, (uint64_t)length);
}

// iovecs, and with `contents` as many of the short pieces that they name as there is room for.
static void AddVector(struct Region* region, struct Filled* filled, uint64_t addr, uint64_t count,
                      int contents) {
  enum { kMostVectors = 16, kMostPiece = 4096 };
  if (count > kMostVectors) return;
  const struct Iovec* const iov =
      (const struct Iovec*)Add(region, filled, addr, count * sizeof(struct Iovec));
  if (iov == 0 || contents == 0) return;
  for (uint64_t i = 0; i < count && filled->count < RW_REGION_INPUTS; ++i) {
    if (iov[i].size <= kMostPiece) Add(region, filled, iov[i].base, iov[i].size);
  }
}

// The sets of select, and the time limit when one of them is not there.
static void AddSets(struct Region* region, struct Filled* filled) {
  enum { kMostFds = 4096 };
  const uint64_t count = (uint32_t)region->rdi;
  const uint64_t size = (count + 63) / 64 * 8;
  if (count > kMostFds) return;
  Add(region, filled, region->rsi, size);
  Add(region, filled, region->rdx, size);
  Add(region, filled, region->r10, size);
  Add(region, filled, region->r8, 16);
}

static int IsLockCommand(uint64_t cmd) {
  enum { kGetLock = 5, kSetLockWait = 7, kGetOwnedLock = 36, kSetOwnedLockWait = 38 };  // F_*LK*
  return (cmd >= kGetLock && cmd <= kSetLockWait) || (cmd >= kGetOwnedLock && cmd <= kSetOwnedLockWait);
}

// What the Sentry wants to know when a task ends: usually that it holds no lock.
static uint32_t FillForExit(struct Region* region) {
  enum { kBehindUsage = 192, kHeadSize = 24 };
  struct Filled filled = {kBehindUsage, region->rax == SYS_exit_group ? FillUsage(region) : 0};
  Add(region, &filled, region->guest_robust, kHeadSize);
  return filled.count;
}

uint32_t stub_fill_window(struct Region* region) {
  struct Filled filled = {0, 0};
  switch (region->rax) {
    case SYS_getrusage:
      return FillUsage(region);
    case SYS_exit:
    case SYS_exit_group:
      return FillForExit(region);
    case SYS_select:
    case SYS_pselect6:
      AddSets(region, &filled);
      return filled.count;
    case SYS_fcntl:
      if (IsLockCommand(region->rsi)) Add(region, &filled, region->rdx, 32);  // struct flock
      return filled.count;
    default:
      break;
  }
  const struct Call* const call = Find(region->rax);
  if (call == 0) return 0;
  for (int i = 0; i < 2 && call->input[i].kind != kNone; ++i) {
    const struct Input* const input = &call->input[i];
    const uint64_t addr = Argument(region, input->address);
    switch (input->kind) {
      case kString:
        AddString(region, &filled, addr);
        break;
      case kVector:
        AddVector(region, &filled, addr, Argument(region, input->length), 1);
        break;
      case kMessage: {
        const struct Message* const m =
            (const struct Message*)Add(region, &filled, addr, sizeof(struct Message));
        if (m != 0) AddVector(region, &filled, m->iov, m->iov_count, input->size);
        break;
      }
      case kSized: {
        const uint64_t units = Argument(region, input->length);
        if (units <= RW_REGION_WINDOW_SIZE) Add(region, &filled, addr, units * input->size);
        break;
      }
      default:
        Add(region, &filled, addr, input->address == kStack ? RW_REGION_FRAME_HEAD : input->size);
        break;
    }
  }
  return filled.count;
}

long stub_copy_output(struct Region* region) {
  const uint8_t* const window = (const uint8_t*)region + RW_REGION_WINDOW;
  for (uint32_t i = 0; i < region->output_count && i < RW_REGION_OUTPUTS; ++i) {
    const struct RegionCopy copy = region->output[i];
    if (copy.addr >= RW_STUB_START || copy.size > RW_STUB_START - copy.addr) return -EFAULT;
    if (stub_copy((void*)copy.addr, window + copy.offset, copy.size) != 0) return -EFAULT;
  }
  return 0;
}

// Guest code that changes these fields copies what it could copy by itself.
long stub_copy_view(struct Region* region) {
  const uint64_t to = region->view_to, from = region->view_from, size = region->view_size;
  if (!stub_is_user(to, size) || from < RW_STUB_VIEWS || from >= RW_STUB_VIEWS_END ||
      size > RW_STUB_VIEWS_END - from) {
    return -EFAULT;
  }
  return stub_copy((void*)to, (const void*)from, size) != 0 ? -EFAULT : 0;
}
