// Timers (kernel/time/itimer.c, posix-timers.c, fs/timerfd.c) and signalfd.
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>

#include "fs/epoll/timerfd.h"
#include "sentry/kernel/cpu_clock.h"
#include "sentry/kernel/process_timers.h"
#include "sentry/kernel/signalfd.h"
#include "syscalls/handlers.h"
#include "syscalls/handlers_ipc.h"

namespace ringwall {

namespace {

constexpr int64_t kNsPerSec = 1'000'000'000;

// struct timespec or timeval, and the pairs of them.
struct Time {
  int64_t sec, fraction;
};
struct Times {
  Time interval, value;
};

Result<int64_t> ToNs(const Time& t, int64_t per_second) {
  if (t.sec < 0 || t.fraction < 0 || t.fraction >= per_second) return Errno(EINVAL);
  if (t.sec >= INT64_MAX / kNsPerSec) return INT64_MAX;
  return t.sec * kNsPerSec + t.fraction * (kNsPerSec / per_second);
}

Time FromNs(int64_t ns, int64_t per_second) {
  return {ns / kNsPerSec, ns % kNsPerSec / (kNsPerSec / per_second)};
}

constexpr int64_t kMicro = 1'000'000;

Times ItimerOut(const TimerSetting& s) {
  Times t = {FromNs(s.interval, kMicro), FromNs(s.value, kMicro)};
  // What is left is never shown as nothing.
  if (s.value > 0 && s.value < 1000) t.value.fraction = 1;
  return t;
}

template <typename Setting>
Times TimerOut(const Setting& s) {
  return {FromNs(s.interval, kNsPerSec), FromNs(s.value, kNsPerSec)};
}

struct SigEvent {
  uint64_t value;
  int32_t signo, notify, tid, pad;
};

}  // namespace

SysResult SysGetitimer(Task& t, int which, GuestAddr out) {
  if (which < ITIMER_REAL || which > ITIMER_PROF) return Errno(EINVAL);
  const TimerSetting s = ProcessTimers::Of(t.tg())->GetItimer(which);
  return Zero(UserOut<Times>(out).CopyOutLast(t, ItimerOut(s)));
}

SysResult SysSetitimer(Task& t, int which, GuestAddr in, GuestAddr out) {
  Times times = {};
  if (!in.IsNull()) {
    times = TRY(UserIn<Times>(in).CopyIn(t));
  }
  TimerSetting to;
  to.value = TRY(ToNs(times.value, kMicro));
  to.interval = TRY(ToNs(times.interval, kMicro));
  if (which < ITIMER_REAL || which > ITIMER_PROF) return Errno(EINVAL);
  const TimerSetting old = ProcessTimers::Of(t.tg())->SetItimer(which, to);
  if (out.IsNull()) return 0;
  return Zero(UserOut<Times>(out).CopyOutLast(t, ItimerOut(old)));
}

SysResult SysAlarm(Task& t, uint32_t seconds) {
  const TimerSetting to{int64_t{seconds} * kNsPerSec, 0};
  const TimerSetting old = ProcessTimers::Of(t.tg())->SetItimer(ITIMER_REAL, to);
  int64_t left = old.value / kNsPerSec;
  // Rounded to the nearest, but what is left is never nothing.
  if (old.value % kNsPerSec >= kNsPerSec / 2 || (left == 0 && old.value > 0)) left++;
  return left;
}

SysResult SysTimerCreate(Task& t, int clock, GuestAddr event, GuestAddr id) {
  if (IsDeviceClock(clock)) return Errno(EOPNOTSUPP);
  ProcessTimers::Notify notify;
  notify.signo = SIGALRM;
  SigEvent e = {};
  if (!event.IsNull()) {
    // struct sigevent is 64 bytes, all of which must be there.
    std::byte raw[64];
    TRY(t.CopyIn(event, raw));
    memcpy(&e, raw, sizeof(e));
  }
  std::unique_ptr<CpuClock> cpu;
  if (IsCpuClock(clock)) {
    CpuClockTarget target = TRY(FindCpuClock(t, clock, false));
    cpu = NewCpuClock(std::move(target));
  } else {
    TRY(ProcessTimers::CheckClock(clock));
    if ((clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM) &&
        !t.creds().Has(Capability::kWakeAlarm)) {
      return Errno(EPERM);
    }
  }
  if (!event.IsNull()) {
    notify.has_value = true;
    notify.value = e.value;
    notify.signo = e.signo;
    switch (e.notify) {
      case SIGEV_NONE:
        notify.signo = 0;
        break;
      case SIGEV_SIGNAL:
      case SIGEV_THREAD:
        if (!abi::ValidSignal(e.signo)) return Errno(EINVAL);
        break;
      case SIGEV_THREAD_ID: {
        if (!abi::ValidSignal(e.signo)) return Errno(EINVAL);
        MutexLock lock(t.kernel().tasks().mu);
        Task* target = t.pid_ns().FindTask(e.tid);
        if (target == nullptr || &target->tg() != &t.tg()) return Errno(EINVAL);
        notify.tid = target->tid();
        break;
      }
      default:
        return Errno(EINVAL);
    }
  }
  Ref<ProcessTimers> timers = ProcessTimers::Of(t.tg());
  const int32_t made = TRY(timers->Create(clock, notify, std::move(cpu)));
  const Result<void> told = UserOut<int32_t>(id).CopyOut(t, made);
  if (!told.ok()) {
    Result<void> ignored = timers->Delete(made);
    static_cast<void>(ignored);
    return told.error();
  }
  return 0;
}

SysResult SysTimerSettime(Task& t, int id, int flags, GuestAddr in, GuestAddr out) {
  if (in.IsNull()) return Errno(EINVAL);
  const Times times = TRY(UserIn<Times>(in).CopyIn(t));
  TimerSetting to;
  to.value = TRY(ToNs(times.value, kNsPerSec));
  to.interval = TRY(ToNs(times.interval, kNsPerSec));
  Ref<ProcessTimers> timers = ProcessTimers::Of(t.tg());
  const TimerSetting old = TRY(timers->Set(id, to, (flags & TIMER_ABSTIME) != 0));
  if (out.IsNull()) return 0;
  return Zero(UserOut<Times>(out).CopyOutLast(t, TimerOut(old)));
}

SysResult SysTimerGettime(Task& t, int id, GuestAddr out) {
  Ref<ProcessTimers> timers = ProcessTimers::Of(t.tg());
  const TimerSetting now = TRY(timers->Get(id));
  return Zero(UserOut<Times>(out).CopyOutLast(t, TimerOut(now)));
}

SysResult SysTimerGetoverrun(Task& t, int id) {
  Ref<ProcessTimers> timers = ProcessTimers::Of(t.tg());
  const int overrun = TRY(timers->Overrun(id));
  return overrun;
}

SysResult SysTimerDelete(Task& t, int id) {
  Ref<ProcessTimers> timers = ProcessTimers::Of(t.tg());
  return Zero(timers->Delete(id));
}

SysResult SysTimerfdCreate(Task& t, int clock, int flags) {
  if ((flags & ~(TFD_CLOEXEC | TFD_NONBLOCK)) != 0) return Errno(EINVAL);
  if ((clock == CLOCK_REALTIME_ALARM || clock == CLOCK_BOOTTIME_ALARM)) {
    constexpr auto kWakeAlarm = static_cast<Capability>(35);
    if (!t.creds().Has(kWakeAlarm)) return Errno(EPERM);
  }
  Ref<File> file = TRY(NewTimerFd(t.kernel().timers(), clock, flags));
  const int fd = TRY(t.fds().Install(std::move(file), (flags & TFD_CLOEXEC) != 0,
                                     t.tg().limit(RLIMIT_NOFILE)));
  return fd;
}

SysResult SysTimerfdSettime(Task& t, int fd, int flags, GuestAddr in, GuestAddr out) {
  const Times times = TRY(UserIn<Times>(in).CopyIn(t));
  if ((flags & ~(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) != 0) return Errno(EINVAL);
  TimerFdSetting to;
  to.value = TRY(ToNs(times.value, kNsPerSec));
  to.interval = TRY(ToNs(times.interval, kNsPerSec));
  Ref<File> file = TRY(GetUsable(t, fd));
  const TimerFdSetting old = TRY(SetTimerFd(*file, to, (flags & TFD_TIMER_ABSTIME) != 0,
                                            (flags & TFD_TIMER_CANCEL_ON_SET) != 0));
  if (out.IsNull()) return 0;
  return Zero(UserOut<Times>(out).CopyOutLast(t, TimerOut(old)));
}

SysResult SysTimerfdGettime(Task& t, int fd, GuestAddr out) {
  Ref<File> file = TRY(GetUsable(t, fd));
  const TimerFdSetting now = TRY(GetTimerFd(*file));
  return Zero(UserOut<Times>(out).CopyOutLast(t, TimerOut(now)));
}

SysResult SysSignalfd(Task& t, int fd, GuestAddr mask, uint64_t size) {
  return SysSignalfd4(t, fd, mask, size, 0);
}

SysResult SysSignalfd4(Task& t, int fd, GuestAddr mask, uint64_t size, int flags) {
  if (size != sizeof(abi::SigSet)) return Errno(EINVAL);
  const abi::SigSet set = TRY(UserIn<abi::SigSet>(mask).CopyIn(t));
  if ((flags & ~(SFD_CLOEXEC | SFD_NONBLOCK)) != 0) return Errno(EINVAL);
  if (fd != -1) {
    Ref<File> file = TRY(GetUsable(t, fd));
    TRY(SetSignalFd(*file, set));
    return fd;
  }
  const int made = TRY(t.fds().Install(NewSignalFd(t, set, static_cast<uint32_t>(flags)),
                                       (flags & SFD_CLOEXEC) != 0, t.tg().limit(RLIMIT_NOFILE)));
  return made;
}

}  // namespace ringwall
