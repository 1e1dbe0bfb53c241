// Timers of a process: setitimer's three and the POSIX timers (kernel/time/itimer.c,
// posix-timers.c). Thread-safe; a process without timers has no such object.
#ifndef RINGWALL_SENTRY_KERNEL_PROCESS_TIMERS_H_
#define RINGWALL_SENTRY_KERNEL_PROCESS_TIMERS_H_

#include <map>
#include <memory>

#include "sentry/base/mutex.h"
#include "sentry/base/ref.h"
#include "sentry/base/result.h"
#include "sentry/kernel/thread_group.h"
#include "sentry/kernel/timer_queue.h"

namespace ringwall {

// What a timer is set to, in nanoseconds. value: what is left, or with an absolute time that time;
// 0 is off.
struct TimerSetting {
  int64_t value = 0, interval = 0;
};

// A timer's times over the queue: repeats by itself and counts what it missed.
class RepeatingTimer : public Timer {
 public:
  explicit RepeatingTimer(TimerQueue& queue) : queue_(queue) {}
  // Returns what was left.
  TimerSetting Set(const TimerSetting& to, TimerClock clock, bool absolute);
  TimerSetting SetCpu(const TimerSetting& to, CpuClock& clock, bool absolute,
                      bool keeps_interval = false);  // while it is off
  TimerSetting Get();
  std::optional<int64_t> OnExpire(int64_t now_ns) final;
  // After that OnExpired runs no more. The caller holds no lock.
  void Stop();

 protected:
  // Runs without locks: the timer has expired so many times.
  virtual void OnExpired(uint64_t times) = 0;

 private:
  TimerSetting GetLocked(int64_t now) REQUIRES(mu_);
  void StoreLocked(const TimerSetting& to, int64_t now, bool absolute) REQUIRES(mu_);

  TimerQueue& queue_;
  Mutex<LockClass::kPipe> mu_;
  TimerClock clock_ GUARDED_BY(mu_) = TimerClock::kMonotonic;
  CpuClock* cpu_ GUARDED_BY(mu_) = nullptr;
  bool armed_ GUARDED_BY(mu_) = false;
  bool stopped_ GUARDED_BY(mu_) = false;
  int64_t deadline_ GUARDED_BY(mu_) = 0;
  int64_t interval_ GUARDED_BY(mu_) = 0;
};

class PosixTimer;

class ProcessTimers : public RefCounted<ProcessTimers> {
 public:
  // Of the process; made when it has none yet.
  static Ref<ProcessTimers> Of(ThreadGroup& tg);
  // The process ends: nothing expires any more. No lock is held.
  static void ProcessEnds(ThreadGroup& tg);
  // exec: the POSIX timers go, the others stay.
  static void ProcessExecs(ThreadGroup& tg);
  explicit ProcessTimers(ThreadGroup& tg);
  ~ProcessTimers() override;

  // which: ITIMER_*, checked by the caller.
  TimerSetting SetItimer(int which, const TimerSetting& to);
  TimerSetting GetItimer(int which);

  struct Notify {
    int signo = 0;  // 0: SIGEV_NONE
    int tid = 0;    // SIGEV_THREAD_ID
    bool has_value = false;
    uint64_t value = 0;  // the timer's id unless has_value
  };
  // RLIMIT_CPU of the process was set: SIGXCPU at the soft limit and each second after it, SIGKILL at
  // the hard one.
  void LimitCpu();

  // clock_id: one that CheckClock took; `cpu` when it is one of CPU time. EAGAIN: too many.
  Result<int> Create(int clock_id, const Notify& notify, std::unique_ptr<CpuClock> cpu = nullptr);
  static Result<void> CheckClock(int clock_id);
  // EINVAL: no such timer.
  Result<TimerSetting> Set(int id, const TimerSetting& to, bool absolute);
  Result<TimerSetting> Get(int id);
  Result<int> Overrun(int id);
  Result<void> Delete(int id);
  void DeleteAll();

 private:
  class Itimer;
  class CpuLimit;
  class ProcessCpuClock;
  Result<Ref<PosixTimer>> Find(int id);
  // Nothing expires any more. No lock is held.
  void Stop();

  ThreadGroup& tg_;
  std::unique_ptr<ProcessCpuClock> user_clock_, cpu_clock_;
  std::unique_ptr<Itimer> itimers_[3];
  std::unique_ptr<CpuLimit> cpu_limit_;
  Mutex<LockClass::kPipe> mu_;
  std::map<int, Ref<PosixTimer>> posix_ GUARDED_BY(mu_);
  int next_id_ GUARDED_BY(mu_) = 0;
};

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_PROCESS_TIMERS_H_
