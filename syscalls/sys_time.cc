// Clocks and sleeps (kernel/time/). The clocks are the host's.
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>

#include "sentry/kernel/cpu_clock.h"
#include "syscalls/handlers.h"

namespace ringwall {

namespace {

constexpr int64_t kNsPerSec = 1'000'000'000;

struct TimespecAbi {
  int64_t sec, nsec;
};

bool Valid(const TimespecAbi& ts) { return ts.sec >= 0 && ts.nsec >= 0 && ts.nsec < kNsPerSec; }

int64_t ToNs(const TimespecAbi& ts) {
  if (ts.sec >= INT64_MAX / kNsPerSec) return INT64_MAX;
  return ts.sec * kNsPerSec + ts.nsec;
}

int64_t AddSaturating(int64_t a, int64_t b) { return a > INT64_MAX - b ? INT64_MAX : a + b; }

bool IsHostClock(int clock) {
  switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_REALTIME_COARSE:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
    case CLOCK_REALTIME_ALARM:
    case CLOCK_BOOTTIME_ALARM:
    case CLOCK_TAI:
      return true;
    default:
      return false;
  }
}

Result<int64_t> CpuClockNow(Task& t, int clock) {
  if (!IsCpuClock(clock)) return Errno(EINVAL);
  const CpuClockTarget target = TRY(FindCpuClock(t, clock, true));
  return ReadCpuClock(target);
}

Result<int64_t> ReadClock(Task& t, int clock) {
  if (!IsHostClock(clock)) return CpuClockNow(t, clock);
  // A host without an alarm clock does not know these two; only their alarms differ from the others.
  if (clock == CLOCK_REALTIME_ALARM) clock = CLOCK_REALTIME;
  if (clock == CLOCK_BOOTTIME_ALARM) clock = CLOCK_BOOTTIME;
  timespec now;
  if (clock_gettime(clock, &now) != 0) return Errno(EINVAL);
  return int64_t{now.tv_sec} * kNsPerSec + now.tv_nsec;
}

// Sleeps until `deadline` of CLOCK_MONOTONIC. When a signal ends it early the rest goes to `rem`.
SysResult SleepUntil(Task& t, int64_t deadline, GuestAddr rem) {
  for (;;) {
    Result<void> slept = t.Block(deadline);
    if (slept.ok()) continue;
    if (slept.error().Is(ETIMEDOUT)) return 0;
    if (!rem.IsNull()) {
      const int64_t left = std::max<int64_t>(deadline - MonotonicNow(), 0);
      TRY(UserOut<TimespecAbi>(rem).CopyOut(t, {left / kNsPerSec, left % kNsPerSec}));
    }
    t.set_restart([deadline, rem](Task& again) { return SleepUntil(again, deadline, rem); });
    return Errno(kErestartRestartBlock);
  }
}

SysResult SleepOnCpuUntil(Task& t, const CpuClockTarget& target, int64_t deadline, bool absolute,
                          GuestAddr rem) {
  const Result<void> slept = SleepOnCpuClock(t, target, deadline);
  if (slept.ok()) return 0;
  if (absolute) return Errno(kErestartNoHand);
  if (!rem.IsNull()) {
    const int64_t left = std::max<int64_t>(deadline - ReadCpuClock(target), 0);
    TRY(UserOut<TimespecAbi>(rem).CopyOut(t, {left / kNsPerSec, left % kNsPerSec}));
  }
  t.set_restart([target, deadline, rem](Task& again) {
    return SleepOnCpuUntil(again, target, deadline, false, rem);
  });
  return Errno(kErestartRestartBlock);
}

SysResult SleepOnCpu(Task& t, int clock, const TimespecAbi& ts, int flags, GuestAddr rem) {
  // A thread cannot wait for its own time to pass.
  const CpuClockTarget target = TRY(FindCpuClock(t, clock, false));
  if (target.thread.get() == &t) return Errno(EINVAL);
  const bool absolute = (flags & TIMER_ABSTIME) != 0;
  const int64_t from = absolute ? 0 : ReadCpuClock(target);
  return SleepOnCpuUntil(t, target, AddSaturating(from, ToNs(ts)), absolute, rem);
}

}  // namespace

Result<int64_t> DeadlineFromTimespec(Task& t, GuestAddr addr) {
  const TimespecAbi ts = TRY(UserIn<TimespecAbi>(addr).CopyIn(t));
  if (!Valid(ts)) return Errno(EINVAL);
  return AddSaturating(MonotonicNow(), ToNs(ts));
}

SysResult SysClockGettime(Task& t, int clock, GuestAddr out) {
  const int64_t now = TRY(ReadClock(t, clock));
  return Zero(UserOut<TimespecAbi>(out).CopyOutLast(t, {now / kNsPerSec, now % kNsPerSec}));
}

SysResult SysClockGetres(Task& t, int clock, GuestAddr out) {
  timespec res = {0, 1};
  if (clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM) {
    // A nanosecond, which the host's vDSO does not say of these.
  } else if (IsHostClock(clock)) {
    if (clock_getres(clock, &res) != 0) return Errno(EINVAL);
  } else {
    TRY(CpuClockNow(t, clock));
    // User time, alone or with system time, is counted by ticks.
    if (clock < 0 && (clock & 3) < 2) clock_getres(CLOCK_REALTIME_COARSE, &res);
  }
  if (out.IsNull()) return 0;
  return Zero(UserOut<TimespecAbi>(out).CopyOutLast(t, {res.tv_sec, res.tv_nsec}));
}

SysResult SysClockSettime(Task& t, int clock, GuestAddr in) {
  if (clock > CLOCK_REALTIME) return Errno(EINVAL);
  const TimespecAbi ts = TRY(UserIn<TimespecAbi>(in).CopyIn(t));
  if (clock < 0) {
    TRY(FindCpuClock(t, clock, false));
  } else if (!Valid(ts)) {
    return Errno(EINVAL);
  }
  return Errno(EPERM);  // the clock is the host's, whatever the guest's capabilities
}

SysResult SysClockNanosleep(Task& t, int clock, int flags, GuestAddr request, GuestAddr rem) {
  if (clock == CLOCK_THREAD_CPUTIME_ID || IsDeviceClock(clock)) return Errno(EOPNOTSUPP);
  if (!IsHostClock(clock) && !IsCpuClock(clock)) return Errno(EINVAL);
  if (clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_REALTIME_COARSE ||
      clock == CLOCK_MONOTONIC_COARSE) {
    return Errno(EOPNOTSUPP);
  }
  const TimespecAbi ts = TRY(UserIn<TimespecAbi>(request).CopyIn(t));
  if (!Valid(ts)) return Errno(EINVAL);
  if (IsCpuClock(clock)) return SleepOnCpu(t, clock, ts, flags, rem);
  if ((clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM) &&
      !t.creds().Has(Capability::kWakeAlarm)) {
    return Errno(EPERM);
  }
  if ((flags & TIMER_ABSTIME) == 0) {
    return SleepUntil(t, AddSaturating(MonotonicNow(), ToNs(ts)), rem);
  }
  const int64_t until = ToNs(ts);
  for (;;) {
    const int64_t now = TRY(ReadClock(t, clock));
    const int64_t left = until - now;
    if (left <= 0) return 0;
    Result<void> slept = t.Block(AddSaturating(MonotonicNow(), left));
    if (!slept.ok() && !slept.error().Is(ETIMEDOUT)) return Errno(kErestartNoHand);
  }
}

SysResult SysNanosleep(Task& t, GuestAddr request, GuestAddr rem) {
  const int64_t deadline = TRY(DeadlineFromTimespec(t, request));
  return SleepUntil(t, deadline, rem);
}

SysResult SysGettimeofday(Task& t, GuestAddr tv, GuestAddr tz) {
  timeval now;
  gettimeofday(&now, nullptr);
  if (!tv.IsNull()) {
    TRY(UserOut<TimespecAbi>(tv).CopyOut(t, {now.tv_sec, now.tv_usec}));
  }
  if (!tz.IsNull()) {
    TRY(UserOut<uint64_t>(tz).CopyOut(t, 0));
  }
  return 0;
}

SysResult SysTime(Task& t, GuestAddr out) {
  const int64_t now = time(nullptr);
  if (!out.IsNull()) {
    TRY(UserOut<int64_t>(out).CopyOut(t, now));
  }
  return now;
}

SysResult SysTimes(Task& t, GuestAddr out) {
  constexpr uint64_t kTick = 10'000'000;  // USER_HZ 100
  if (!out.IsNull()) {
    Rusage own, children;
    {
      MutexLock lock(t.kernel().tasks().mu);
      own = ProcessRusageLocked(t.tg());
      children = t.tg().waited_children;
    }
    const int64_t v[4] = {static_cast<int64_t>(own.utime_ns / kTick),
                          static_cast<int64_t>(own.stime_ns / kTick),
                          static_cast<int64_t>(children.utime_ns / kTick),
                          static_cast<int64_t>(children.stime_ns / kTick)};
    TRY(t.CopyOut(out, std::as_bytes(std::span(v))));
  }
  return MonotonicNow() / static_cast<int64_t>(kTick);
}

SysResult SysGetrusage(Task& t, int who, GuestAddr out) {
  Rusage r;
  if (who == RUSAGE_THREAD) {
    r = t.OwnRusage();
  } else {
    MutexLock lock(t.kernel().tasks().mu);
    switch (who) {
      case RUSAGE_SELF:
        r = ProcessRusageLocked(t.tg());
        break;
      case RUSAGE_CHILDREN:
        r = t.tg().waited_children;
        break;
      default:
        return Errno(EINVAL);
    }
  }
  if (who != RUSAGE_CHILDREN) r.Add(t.MemoryRusage());
  return Zero(UserOut<RusageAbi>(out).CopyOutLast(t, ToAbi(r)));
}

}  // namespace ringwall
