// futex and futex_waitv (kernel/futex/syscalls.c). The table is sentry/kernel/futex.h's; here is the
// waiting.
#include <linux/futex.h>
#include <time.h>

#include <memory>

#include "sentry/kernel/futex.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_ipc.h"

namespace ringwall {

namespace {

constexpr int64_t kNsPerSec = 1'000'000'000;

class TaskFutexWaiter final : public FutexWaiter {
 public:
  explicit TaskFutexWaiter(Task& t) : task_(t) {}
  void OnWake() override { task_.Wake(); }

 private:
  Task& task_;
};

struct TimespecAbi {
  int64_t sec, nsec;
};

// The deadline in CLOCK_MONOTONIC of a timeout that is relative, or absolute on one of two clocks.
Result<int64_t> Deadline(Task& t, GuestAddr addr, bool relative, bool realtime) {
  if (addr.IsNull()) return kNoDeadline;
  const TimespecAbi ts = TRY(UserIn<TimespecAbi>(addr).CopyIn(t));
  if (ts.sec < 0 || ts.nsec < 0 || ts.nsec >= kNsPerSec) return Errno(EINVAL);
  if (ts.sec >= INT64_MAX / kNsPerSec / 2) return kNoDeadline;
  const int64_t ns = ts.sec * kNsPerSec + ts.nsec;
  if (relative) return MonotonicNow() + ns;
  if (!realtime) return std::max<int64_t>(ns, 1);
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const int64_t left = ns - (int64_t{now.tv_sec} * kNsPerSec + now.tv_nsec);
  return std::max<int64_t>(MonotonicNow() + left, 1);
}

// Sleeps until the waiter is woken. ETIMEDOUT, kErestartSys; a wake wins over both.
Result<void> Sleep(Task& t, TaskFutexWaiter& waiter, int64_t deadline) {
  Result<void> slept;
  while (!waiter.woken()) {
    slept = t.Block(deadline);
    if (!slept.ok()) break;
  }
  if (t.kernel().futexes().Finish(waiter)) return {};
  return slept;
}

SysResult Wait(Task& t, FutexWord word, uint32_t expected, int64_t deadline, uint32_t bitset,
               bool restartable) {
  auto waiter = std::make_unique<TaskFutexWaiter>(t);
  TRY(t.kernel().futexes().Wait(*waiter, word, expected, bitset));
  Result<void> slept = Sleep(t, *waiter, deadline);
  if (slept.ok()) return 0;
  if (!slept.error().Is(kErestartSys) || deadline == kNoDeadline || !restartable) {
    return slept.error();
  }
  // A relative timeout goes on with what is left of it.
  const GuestAddr addr = word.addr;
  const bool shared = word.shared;
  t.set_restart([=](Task& again) {
    return Wait(again, {again.mm(), addr, shared}, expected, deadline, bitset, true);
  });
  return Errno(kErestartRestartBlock);
}

FutexOwner LookAtOwner(Task& t, int tid) {
  MutexLock lock(t.kernel().tasks().mu);
  Task* owner = t.pid_ns().FindTask(tid);
  return owner == nullptr ? FutexOwner::kGone : FutexOwner::kAlive;
}

SysResult LockPi(Task& t, FutexWord word, int64_t deadline, bool try_only) {
  auto waiter = std::make_unique<TaskFutexWaiter>(t);
  const FutexTable::OwnerLook look = [&](int tid) { return LookAtOwner(t, tid); };
  const bool got = TRY(t.kernel().futexes().LockPi(*waiter, word, t.vtid(), try_only, look));
  if (got) return 0;
  Result<void> slept = Sleep(t, *waiter, deadline);
  if (slept.ok()) return 0;
  return slept.error().Is(kErestartSys) ? Errno(kErestartNoIntr) : slept.error();
}

SysResult WaitRequeuePi(Task& t, FutexWord word, uint32_t expected, int64_t deadline,
                        uint32_t bitset, FutexWord lock) {
  auto waiter = std::make_unique<TaskFutexWaiter>(t);
  TRY(t.kernel().futexes().WaitRequeuePi(*waiter, word, expected, bitset, lock, t.vtid()));
  Result<void> slept = Sleep(t, *waiter, deadline);
  if (slept.ok()) return 0;
  if (!slept.error().Is(kErestartSys)) return slept.error();
  // Once moved, it would wait anew for what has been signalled already.
  return Errno(waiter->moved_to_lock() ? EAGAIN : kErestartNoIntr);
}

// struct futex_waitv.
struct WaitvAbi {
  uint64_t val, uaddr;
  uint32_t flags, reserved;
};

}  // namespace

SysResult SysFutex(Task& t, GuestAddr addr, int op, uint32_t val, GuestAddr timeout,
                   GuestAddr addr2, uint32_t val3) {
  const int cmd = op & FUTEX_CMD_MASK;
  const bool shared = (op & FUTEX_PRIVATE_FLAG) == 0;
  const bool realtime = (op & FUTEX_CLOCK_REALTIME) != 0;
  // The timeout is read before the operation is looked at.
  int64_t deadline = kNoDeadline;
  switch (cmd) {
    case FUTEX_WAIT:
      deadline = TRY(Deadline(t, timeout, true, realtime));
      break;
    case FUTEX_LOCK_PI:
      deadline = TRY(Deadline(t, timeout, false, true));
      break;
    case FUTEX_LOCK_PI2:
    case FUTEX_WAIT_BITSET:
    case FUTEX_WAIT_REQUEUE_PI:
      deadline = TRY(Deadline(t, timeout, false, realtime));
      break;
    default:
      break;
  }
  if (realtime && cmd != FUTEX_WAIT_BITSET && cmd != FUTEX_WAIT_REQUEUE_PI &&
      cmd != FUTEX_LOCK_PI2) {
    return Errno(ENOSYS);
  }
  FutexTable& table = t.kernel().futexes();
  const FutexWord word{t.mm(), addr, shared};
  const FutexWord word2{t.mm(), addr2, shared};
  const int val2 = static_cast<int>(timeout.value());
  const int count = static_cast<int>(val);
  const auto number = [](Result<int> r) -> SysResult {
    if (!r.ok()) return r.error();
    return *r;
  };
  switch (cmd) {
    case FUTEX_WAIT:
      return Wait(t, word, val, deadline, FUTEX_BITSET_MATCH_ANY, true);
    case FUTEX_WAIT_BITSET:
      return Wait(t, word, val, deadline, val3, true);
    case FUTEX_WAKE:
      return number(table.Wake(word, count, FUTEX_BITSET_MATCH_ANY));
    case FUTEX_WAKE_BITSET:
      return number(table.Wake(word, count, val3));
    case FUTEX_REQUEUE:
      return number(table.Requeue(word, word2, count, val2, std::nullopt));
    case FUTEX_CMP_REQUEUE:
      return number(table.Requeue(word, word2, count, val2, val3));
    case FUTEX_WAKE_OP:
      return number(table.WakeOp(word, word2, count, val2, val3));
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
      return LockPi(t, word, deadline, false);
    case FUTEX_TRYLOCK_PI:
      return LockPi(t, word, kNoDeadline, true);
    case FUTEX_UNLOCK_PI:
      return Zero(table.UnlockPi(word, t.vtid()));
    case FUTEX_WAIT_REQUEUE_PI:
      return WaitRequeuePi(t, word, val, deadline, FUTEX_BITSET_MATCH_ANY, word2);
    case FUTEX_CMP_REQUEUE_PI:
      return number(table.RequeuePi(word, word2, count, val2, val3,
                                    [&](int tid) { return LookAtOwner(t, tid); }));
    default:
      return Errno(ENOSYS);
  }
}

SysResult SysFutexWaitv(Task& t, GuestAddr waiters_addr, uint32_t n, uint32_t flags,
                        GuestAddr timeout, int clock) {
  constexpr uint32_t kFutex32 = 2, kPrivate = FUTEX_PRIVATE_FLAG;
  constexpr uint32_t kMaxWaitv = 128;
  if (flags != 0 || n == 0 || n > kMaxWaitv || waiters_addr.IsNull()) return Errno(EINVAL);
  if (!timeout.IsNull() && clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME) {
    return Errno(EINVAL);
  }
  const int64_t deadline = TRY(Deadline(t, timeout, false, clock == CLOCK_REALTIME));
  const std::vector<WaitvAbi> abi = TRY(UserIn<WaitvAbi>(waiters_addr).CopyInArray(t, n));
  std::vector<FutexTable::WaitvEntry> entries;
  std::vector<std::unique_ptr<TaskFutexWaiter>> owned;
  std::vector<FutexWaiter*> waiters;
  for (const WaitvAbi& w : abi) {
    if ((w.flags & ~(kFutex32 | kPrivate)) != 0 || (w.flags & 3) != kFutex32 || w.reserved != 0 ||
        w.val > UINT32_MAX) {
      return Errno(EINVAL);
    }
    entries.push_back({{t.mm(), GuestAddr(w.uaddr), (w.flags & kPrivate) == 0},
                       static_cast<uint32_t>(w.val)});
    owned.push_back(std::make_unique<TaskFutexWaiter>(t));
    waiters.push_back(owned.back().get());
  }
  FutexTable& table = t.kernel().futexes();
  const int early = TRY(table.WaitMultiple(waiters, entries));
  if (early >= 0) return early;
  const auto woken = [&]() -> int {
    for (size_t i = 0; i < owned.size(); i++) {
      if (owned[i]->woken()) return static_cast<int>(i);
    }
    return -1;
  };
  Result<void> slept;
  while (woken() < 0) {
    slept = t.Block(deadline);
    if (!slept.ok()) break;
  }
  int index = -1;
  for (size_t i = 0; i < owned.size(); i++) {
    if (table.Finish(*owned[i])) index = static_cast<int>(i);
  }
  if (index >= 0) return index;
  return slept.error();
}

namespace {

// The flags of the futex2 calls: one size, private or not. EINVAL.
constexpr uint32_t kFutex2U32 = 2, kFutex2SizeMask = 3;
Result<void> CheckFlags2(uint32_t flags) {
  if ((flags & ~(kFutex2SizeMask | FUTEX_PRIVATE_FLAG)) != 0) return Errno(EINVAL);
  if ((flags & kFutex2SizeMask) != kFutex2U32) return Errno(EINVAL);
  return {};
}

}  // namespace

SysResult SysFutexWake(Task& t, GuestAddr addr, uint64_t mask, int count, uint32_t flags) {
  TRY(CheckFlags2(flags));
  if (mask == 0 || mask > UINT32_MAX) return Errno(EINVAL);
  const FutexWord word{t.mm(), addr, (flags & FUTEX_PRIVATE_FLAG) == 0};
  if ((addr.value() & 3) != 0) return Errno(EINVAL);
  if (count == 0) return 0;  // futex(2) would wake one
  const int woken = TRY(t.kernel().futexes().Wake(word, count, static_cast<uint32_t>(mask)));
  return woken;
}

SysResult SysFutexWait(Task& t, GuestAddr addr, uint64_t value, uint64_t mask, uint32_t flags,
                       GuestAddr timeout, int clock) {
  TRY(CheckFlags2(flags));
  if (value > UINT32_MAX || mask == 0 || mask > UINT32_MAX) return Errno(EINVAL);
  if (!timeout.IsNull() && clock != CLOCK_MONOTONIC && clock != CLOCK_REALTIME) {
    return Errno(EINVAL);
  }
  const int64_t deadline = TRY(Deadline(t, timeout, false, clock == CLOCK_REALTIME));
  const FutexWord word{t.mm(), addr, (flags & FUTEX_PRIVATE_FLAG) == 0};
  return Wait(t, word, static_cast<uint32_t>(value), deadline, static_cast<uint32_t>(mask), true);
}

SysResult SysFutexRequeue(Task& t, GuestAddr waiters, uint32_t flags, int wake, int move) {
  if (flags != 0 || waiters.IsNull()) return Errno(EINVAL);
  const std::vector<WaitvAbi> two = TRY(UserIn<WaitvAbi>(waiters).CopyInArray(t, 2));
  for (const WaitvAbi& w : two) {
    TRY(CheckFlags2(w.flags));
    if (w.reserved != 0 || w.val > UINT32_MAX) return Errno(EINVAL);
  }
  const FutexWord from{t.mm(), GuestAddr(two[0].uaddr), (two[0].flags & FUTEX_PRIVATE_FLAG) == 0};
  const FutexWord to{t.mm(), GuestAddr(two[1].uaddr), (two[1].flags & FUTEX_PRIVATE_FLAG) == 0};
  const int done = TRY(t.kernel().futexes().Requeue(from, to, wake, move,
                                                    static_cast<uint32_t>(two[0].val)));
  return done;
}

}  // namespace ringwall
