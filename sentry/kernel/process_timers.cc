#include "sentry/kernel/process_timers.h"

#include <sys/time.h>
#include <time.h>

#include <algorithm>

#include "sentry/kernel/late_wakes.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

// A timer that repeats faster is looked at this often; its count is right all the same.
constexpr int64_t kMinPeriod = 50'000;

int64_t AddSaturating(int64_t a, int64_t b) { return a > INT64_MAX - b ? INT64_MAX : a + b; }

// Whom a timer of the process's CPU time tells. On Linux it is the thread that the tick met (complete_signal
// wants the current one), so that a profiler sees each thread as often as it runs. Here it is the one that has
// used most since it was told last.
class CpuShares {
 public:
  // Null without threads. The first of them when all block the signal.
  Task* Next(ThreadGroup& tg, int signo) REQUIRES(tg.siglock) {
    Task* most = tg.threads.empty() ? nullptr : tg.threads.front();
    if (tg.threads.size() < 2) return most;
    std::map<int, uint64_t> told;
    uint64_t largest = 0, used_by_most = 0;
    for (Task* t : tg.threads) {
      const Rusage r = t->OwnRusage();
      const uint64_t used = r.utime_ns + r.stime_ns;
      const auto before = told_at_.find(t->tid());
      const uint64_t at = before == told_at_.end() ? 0 : std::min(before->second, used);
      told.emplace(t->tid(), at);
      if (used - at <= largest || (t->signal_mask() & abi::SigBit(signo)) != 0) continue;
      most = t, largest = used - at, used_by_most = used;
    }
    told_at_ = std::move(told);
    if (largest != 0) told_at_[most->tid()] = used_by_most;
    return most;
  }

 private:
  std::map<int, uint64_t> told_at_;  // by thread: its CPU time when it was told last
};

}  // namespace

TimerSetting RepeatingTimer::GetLocked(int64_t now) {
  TimerSetting s{0, interval_};
  if (!armed_) return s;
  int64_t deadline = deadline_;
  if (interval_ > 0) CountExpirations(&deadline, interval_, now);
  s.value = std::max<int64_t>(deadline - now, 1);
  return s;
}

TimerSetting RepeatingTimer::Get() {
  CpuClock* cpu;
  {
    MutexLock lock(mu_);
    if (cpu_ == nullptr) return GetLocked(TimerClockNow(clock_));
    cpu = cpu_;
  }
  // A clock of CPU time takes the tasks' lock: it is read without ours.
  const int64_t now = cpu->Read().now_ns;
  MutexLock lock(mu_);
  return GetLocked(now);
}

void RepeatingTimer::StoreLocked(const TimerSetting& to, int64_t now, bool absolute) {
  armed_ = to.value != 0 && !stopped_;
  interval_ = to.value != 0 ? to.interval : 0;
  deadline_ = absolute ? to.value : AddSaturating(now, to.value);
}

TimerSetting RepeatingTimer::Set(const TimerSetting& to, TimerClock clock, bool absolute) {
  MutexLock lock(mu_);
  const TimerSetting old = GetLocked(TimerClockNow(clock_));
  clock_ = clock;
  StoreLocked(to, TimerClockNow(clock), absolute);
  if (armed_) queue_.Arm(*this, clock_, deadline_);
  return old;
}

TimerSetting RepeatingTimer::SetCpu(const TimerSetting& to, CpuClock& clock, bool absolute,
                                    bool keeps_interval) {
  const int64_t now = clock.Read().now_ns;
  TimerSetting old;
  int64_t deadline;
  bool armed;
  {
    MutexLock lock(mu_);
    old = GetLocked(now);
    cpu_ = &clock;
    StoreLocked(to, now, absolute);
    if (keeps_interval) interval_ = to.interval;
    armed = armed_;
    deadline = deadline_;
  }
  if (!armed) return old;
  queue_.ArmCpu(*this, clock, deadline);
  // A Stop that came in between has cancelled too early.
  {
    MutexLock lock(mu_);
    if (!stopped_) return old;
  }
  queue_.Cancel(*this);
  return old;
}

std::optional<int64_t> RepeatingTimer::OnExpire(int64_t now_ns) {
  uint64_t times;
  std::optional<int64_t> next;
  {
    MutexLock lock(mu_);
    if (!armed_) return std::nullopt;
    if (now_ns < deadline_) return deadline_;
    times = CountExpirations(&deadline_, interval_, now_ns);
    if (interval_ > 0) {
      next = std::max(deadline_, AddSaturating(now_ns, kMinPeriod));
    } else {
      armed_ = false;
    }
  }
  OnExpired(times);
  return next;
}

void RepeatingTimer::Stop() {
  {
    MutexLock lock(mu_);
    armed_ = false;
    stopped_ = true;
  }
  queue_.Cancel(*this);
}

// CPU time of the process, which says it runs as long as it has threads: nobody tells when a thread
// goes on.
class ProcessTimers::ProcessCpuClock final : public CpuClock {
 public:
  ProcessCpuClock(ThreadGroup& tg, bool user_only) : tg_(tg), user_only_(user_only) {}
  Reading Read() override {
    MutexLock lock(tg_.kernel().tasks().mu);
    Rusage sum = tg_.exited_threads;
    int running = 0;
    for (const Task* t : tg_.threads) {
      sum.Add(t->OwnRusage());
      running++;
    }
    return {static_cast<int64_t>(user_only_ ? sum.utime_ns : sum.utime_ns + sum.stime_ns), running};
  }

 private:
  ThreadGroup& tg_;
  const bool user_only_;
};

// Expires at each whole second of CPU time from the soft limit on (kernel/time/posix-cpu-timers.c:
// check_process_timers).
class ProcessTimers::CpuLimit final : public RepeatingTimer {
 public:
  CpuLimit(ThreadGroup& tg, CpuClock& clock)
      : RepeatingTimer(tg.kernel().timers()), tg_(tg), clock_(clock) {}
  void Start() {
    const Rlimits::Limit limit = Get();
    constexpr uint64_t kMaxSeconds = INT64_MAX / kSecond;
    const uint64_t first = std::max<uint64_t>(std::min(limit.soft, limit.hard), 1);
    TimerSetting to{0, kSecond};
    if (first < kMaxSeconds) to.value = static_cast<int64_t>(first) * kSecond;
    SetCpu(to, clock_, true);
  }

 private:
  static constexpr int64_t kSecond = 1'000'000'000;
  Rlimits::Limit Get() const {
    return tg_.rlimits.With([](const Rlimits& r) { return r.limits[RLIMIT_CPU]; });
  }
  void OnExpired(uint64_t) override {
    const uint64_t used = static_cast<uint64_t>(clock_.Read().now_ns / kSecond);
    const Rlimits::Limit limit = Get();
    int signo = 0;
    if (used >= limit.hard) {
      signo = SIGKILL;
    } else if (used >= limit.soft) {
      signo = SIGXCPU;
    }
    if (signo == 0) return;
    if (signo == SIGXCPU) {
      // The next is due a second later.
      tg_.rlimits.With([](Rlimits& r) { r.limits[RLIMIT_CPU].soft++; });
    }
    Result<void> ignored = SendSignalToGroup(tg_, MakeSigInfo(signo, SI_KERNEL));
    static_cast<void>(ignored);
  }

  ThreadGroup& tg_;
  CpuClock& clock_;
};

class PosixTimer final : public RepeatingTimer, public RefCounted<PosixTimer> {
 public:
  PosixTimer(ThreadGroup& tg, int id, int clock_id, const ProcessTimers::Notify& notify,
             std::unique_ptr<CpuClock> cpu)
      : RepeatingTimer(tg.kernel().timers()),
        tg_(tg),
        id_(id),
        notify_(notify),
        cpu_(std::move(cpu)) {
    clock_ = TimerClockOf(clock_id, &offset_).value_or(TimerClock::kMonotonic);
    if (clock_id == CLOCK_THREAD_CPUTIME_ID && Task::Current() != nullptr) whose_ = Task::Current()->tid();
  }
  TimerSetting SetTo(TimerSetting to, bool absolute) {
    {
      // Before it can expire again.
      MutexLock lock(tg_.siglock);
      overrun_ = last_overrun_ = 0;
      DropLocked();
    }
    if (cpu_ != nullptr) return SetCpu(to, *cpu_, absolute);
    if (absolute && to.value != 0) to.value = std::max<int64_t>(to.value - offset_, 1);
    // What is relative does not move with the host's time.
    const bool steady = !absolute && clock_ == TimerClock::kRealtime;
    return Set(to, steady ? TimerClock::kMonotonic : clock_, absolute);
  }
  bool silent() const { return notify_.signo == 0; }
  // A timer that was deleted or set anew tells no more of what it was (posixtimer_deliver_signal).
  void Drop() {
    MutexLock lock(tg_.siglock);
    DropLocked();
  }
  // To the process, by this thread of it if it does not block it.
  static void QueueToProcess([[maybe_unused]] ThreadGroup& tg, Task& by, const abi::SigInfo& info) REQUIRES(tg.siglock) {
    by.QueueLocked(info, true);
  }
  int Overrun() {
    MutexLock lock(tg_.siglock);
    return Find(notify_.tid != 0 ? ThreadLocked(notify_.tid) : nullptr) != nullptr
               ? last_overrun_
               : overrun_;
  }

 private:
  void DropLocked() REQUIRES(tg_.siglock) {
    if (notify_.signo == 0) return;
    Task* const thread = notify_.tid != 0 ? ThreadLocked(notify_.tid) : nullptr;
    if (notify_.tid != 0 && thread == nullptr) return;
    (thread != nullptr ? thread->pending_ : tg_.pending).RemoveTimer(notify_.signo, id_);
  }
  Task* ThreadLocked(int tid) REQUIRES(tg_.siglock) {
    for (Task* t : tg_.threads) {
      if (t->tid() == tid) return t;
    }
    return nullptr;
  }
  abi::SigInfo* Find(Task* thread) REQUIRES(tg_.siglock) {
    if (notify_.signo == 0) return nullptr;
    if (notify_.tid == 0) return tg_.pending.FindTimer(notify_.signo, id_);
    return thread != nullptr ? thread->pending_.FindTimer(notify_.signo, id_) : nullptr;
  }
  void OnExpired(uint64_t times) override {
    if (notify_.signo == 0) return;
    const LateWakes late;
    MutexLock lock(tg_.siglock);
    Task* target = notify_.tid != 0 ? ThreadLocked(notify_.tid) : nullptr;
    if (target == nullptr && (notify_.tid != 0 || tg_.threads.empty())) return;
    const auto cap = [](uint64_t n) { return static_cast<int>(std::min<uint64_t>(n, INT32_MAX)); };
    if (abi::SigInfo* waiting = Find(target)) {
      overrun_ = cap(static_cast<uint64_t>(overrun_) + std::min<uint64_t>(times, INT32_MAX));
      waiting->Put(4, overrun_);
      return;
    }
    last_overrun_ = overrun_;
    overrun_ = cap(times - 1);
    abi::SigInfo info = MakeSigInfo(notify_.signo, SI_TIMER);
    info.SetTimer(id_, overrun_,
                  notify_.has_value ? notify_.value : static_cast<uint64_t>(id_));
    if (target == nullptr && whose_ != 0) target = ThreadLocked(whose_);
    if (target == nullptr) target = cpu_ != nullptr ? shares_.Next(tg_, notify_.signo) : tg_.threads.front();
    target->QueueLocked(info, notify_.tid == 0);
  }

  ThreadGroup& tg_;
  const int id_;
  const ProcessTimers::Notify notify_;
  const std::unique_ptr<CpuClock> cpu_;  // null: clock_
  CpuShares shares_ GUARDED_BY(tg_.siglock);
  int whose_ = 0;  // the thread whose time it counts
  TimerClock clock_;
  int64_t offset_ = 0;
  int overrun_ GUARDED_BY(tg_.siglock) = 0;       // of the signal queued last
  int last_overrun_ GUARDED_BY(tg_.siglock) = 0;  // of the one before
};

class ProcessTimers::Itimer final : public RepeatingTimer {
 public:
  Itimer(ThreadGroup& tg, int signo) : RepeatingTimer(tg.kernel().timers()), tg_(tg), signo_(signo) {}

 private:
  void OnExpired(uint64_t) override {
    const LateWakes late;
    MutexLock lock(tg_.siglock);
    if (tg_.threads.empty()) return;
    Task* const by = signo_ == SIGALRM ? tg_.threads.front() : shares_.Next(tg_, signo_);
    PosixTimer::QueueToProcess(tg_, *by, MakeSigInfo(signo_, SI_KERNEL));
  }
  ThreadGroup& tg_;
  const int signo_;
  CpuShares shares_ GUARDED_BY(tg_.siglock);
};

namespace {

// Stands in for the timers of a process that has ended: another's prlimit may still come for them.
class Ended : public RefCounted<Ended> {};

RefCountedBase& EndedTimers() {
  static Ended* const ended = MakeRef<Ended>().Leak();
  return *ended;
}

}  // namespace

Ref<ProcessTimers> ProcessTimers::Of(ThreadGroup& tg) {
  {
    MutexLock lock(tg.siglock);
    if (tg.timers && tg.timers.get() != &EndedTimers()) {
      return Ref<ProcessTimers>(static_cast<ProcessTimers&>(*tg.timers));
    }
  }
  Ref<ProcessTimers> fresh = MakeRef<ProcessTimers>(tg);
  {
    MutexLock lock(tg.siglock);
    if (!tg.timers) tg.timers = fresh;
    if (tg.timers.get() != &EndedTimers()) {
      return Ref<ProcessTimers>(static_cast<ProcessTimers&>(*tg.timers));
    }
  }
  fresh->Stop();
  return fresh;
}

void ProcessTimers::Stop() {
  for (std::unique_ptr<Itimer>& i : itimers_) i->Stop();
  cpu_limit_->Stop();
  DeleteAll();
}

void ProcessTimers::ProcessEnds(ThreadGroup& tg) {
  RefPtr<RefCountedBase> timers;
  {
    MutexLock lock(tg.siglock);
    timers = std::exchange(tg.timers, RefPtr<RefCountedBase>(&EndedTimers()));
  }
  if (timers && timers.get() != &EndedTimers()) static_cast<ProcessTimers&>(*timers).Stop();
}

void ProcessTimers::ProcessExecs(ThreadGroup& tg) {
  RefPtr<RefCountedBase> timers;
  {
    MutexLock lock(tg.siglock);
    timers = tg.timers;
  }
  if (timers) static_cast<ProcessTimers&>(*timers).DeleteAll();
}

ProcessTimers::ProcessTimers(ThreadGroup& tg)
    : tg_(tg),
      user_clock_(std::make_unique<ProcessCpuClock>(tg, true)),
      cpu_clock_(std::make_unique<ProcessCpuClock>(tg, false)) {
  itimers_[ITIMER_REAL] = std::make_unique<Itimer>(tg, SIGALRM);
  itimers_[ITIMER_VIRTUAL] = std::make_unique<Itimer>(tg, SIGVTALRM);
  itimers_[ITIMER_PROF] = std::make_unique<Itimer>(tg, SIGPROF);
  cpu_limit_ = std::make_unique<CpuLimit>(tg, *cpu_clock_);
}

ProcessTimers::~ProcessTimers() = default;

TimerSetting ProcessTimers::SetItimer(int which, const TimerSetting& to) {
  if (which == ITIMER_REAL) return itimers_[which]->Set(to, TimerClock::kMonotonic, false);
  return itimers_[which]->SetCpu(to, which == ITIMER_VIRTUAL ? *user_clock_ : *cpu_clock_, false,
                                 true);
}

TimerSetting ProcessTimers::GetItimer(int which) { return itimers_[which]->Get(); }

void ProcessTimers::LimitCpu() { cpu_limit_->Start(); }

Result<void> ProcessTimers::CheckClock(int clock_id) {
  int64_t offset;
  if (TimerClockOf(clock_id, &offset)) return {};
  // Clocks that are there but run no timers.
  const bool known = clock_id == CLOCK_MONOTONIC_RAW || clock_id == CLOCK_REALTIME_COARSE ||
                     clock_id == CLOCK_MONOTONIC_COARSE;
  return Errno(known ? EOPNOTSUPP : EINVAL);
}

Result<int> ProcessTimers::Create(int clock_id, const Notify& notify,
                                  std::unique_ptr<CpuClock> cpu) {
  const uint64_t limit = tg_.limit(RLIMIT_SIGPENDING);
  MutexLock lock(mu_);
  if (posix_.size() >= limit) return Errno(EAGAIN);
  while (posix_.count(next_id_) != 0) next_id_ = (next_id_ + 1) & INT32_MAX;
  const int id = next_id_;
  next_id_ = (next_id_ + 1) & INT32_MAX;
  posix_.emplace(id, MakeRef<PosixTimer>(tg_, id, clock_id, notify, std::move(cpu)));
  return id;
}

Result<Ref<PosixTimer>> ProcessTimers::Find(int id) {
  MutexLock lock(mu_);
  const auto it = posix_.find(id);
  if (it == posix_.end()) return Errno(EINVAL);
  return it->second;
}

Result<TimerSetting> ProcessTimers::Set(int id, const TimerSetting& to, bool absolute) {
  Ref<PosixTimer> timer = TRY(Find(id));
  return timer->SetTo(to, absolute);
}

Result<TimerSetting> ProcessTimers::Get(int id) {
  Ref<PosixTimer> timer = TRY(Find(id));
  TimerSetting setting = timer->Get();
  // One that has run out and tells nobody is off at once, not when its end was noticed.
  if (timer->silent() && setting.interval == 0 && setting.value <= 1) setting.value = 0;
  return setting;
}

Result<int> ProcessTimers::Overrun(int id) {
  Ref<PosixTimer> timer = TRY(Find(id));
  return timer->Overrun();
}

Result<void> ProcessTimers::Delete(int id) {
  Ref<PosixTimer> timer = TRY(Find(id));
  {
    MutexLock lock(mu_);
    if (posix_.erase(id) == 0) return Errno(EINVAL);
  }
  timer->Stop();
  timer->Drop();
  return {};
}

void ProcessTimers::DeleteAll() {
  std::map<int, Ref<PosixTimer>> all;
  {
    MutexLock lock(mu_);
    all.swap(posix_);
  }
  for (auto& [id, timer] : all) timer->Stop();
}

}  // namespace ringwall
