#include "sentry/kernel/cpu_clock.h"

#include <time.h>

#include "sentry/kernel/process_timers.h"

namespace ringwall {

namespace {

class TargetClock final : public CpuClock {
 public:
  explicit TargetClock(CpuClockTarget target) : target_(std::move(target)) {}
  Reading Read() override { return {ReadCpuClock(target_), 1}; }

 private:
  const CpuClockTarget target_;
};

class SleepTimer final : public RepeatingTimer {
 public:
  explicit SleepTimer(Task& t) : RepeatingTimer(t.kernel().timers()), task_(t) {}

 private:
  void OnExpired(uint64_t) override { task_.Wake(); }
  Task& task_;
};

}  // namespace

Result<CpuClockTarget> FindCpuClock(Task& t, int clock, bool reading) {
  CpuClockTarget target;
  if (clock == CLOCK_THREAD_CPUTIME_ID) {
    target.thread = RefPtr<Task>(&t);
    return target;
  }
  if (clock == CLOCK_PROCESS_CPUTIME_ID) {
    target.process = RefPtr<ThreadGroup>(&t.tg());
    return target;
  }
  constexpr int kVirt = 1, kMax = 3;
  if (clock >= 0 || (clock & 3) >= kMax) return Errno(EINVAL);
  const int pid = ~(clock >> 3);
  const bool thread = (clock & 4) != 0;
  target.user_only = (clock & 3) == kVirt;
  MutexLock lock(t.kernel().tasks().mu);
  Task* found = pid == 0 ? &t : t.pid_ns().FindTask(pid);
  if (found == nullptr) return Errno(EINVAL);
  if (thread) {
    if (&found->tg() != &t.tg()) return Errno(EINVAL);
    target.thread = RefPtr<Task>(found);
    return target;
  }
  if (found->tgid() != found->tid() && pid != 0 && !(reading && found == &t)) return Errno(EINVAL);
  target.process = RefPtr<ThreadGroup>(&found->tg());
  return target;
}

int64_t ReadCpuClock(const CpuClockTarget& target) {
  Rusage r;
  if (target.thread) {
    r = target.thread->OwnRusage();
  } else {
    MutexLock lock(target.process->kernel().tasks().mu);
    r = target.process->exited_threads;
    for (const Task* t : target.process->threads) r.Add(t->OwnRusage());
  }
  return static_cast<int64_t>(target.user_only ? r.utime_ns : r.utime_ns + r.stime_ns);
}

std::unique_ptr<CpuClock> NewCpuClock(CpuClockTarget target) {
  return std::make_unique<TargetClock>(std::move(target));
}

Result<void> SleepOnCpuClock(Task& t, CpuClockTarget target, int64_t deadline) {
  const std::unique_ptr<CpuClock> clock = NewCpuClock(std::move(target));
  SleepTimer timer(t);
  timer.SetCpu(TimerSetting{std::max<int64_t>(deadline, 1), 0}, *clock, true);
  Result<void> result;
  while (clock->Read().now_ns < deadline) {
    result = t.Block();
    if (!result.ok()) break;
  }
  timer.Stop();
  return result;
}

}  // namespace ringwall
