#include "sentry/kernel/timer_queue.h"

#include <gtest/gtest.h>
#include <time.h>

#include <atomic>
#include <functional>
#include <vector>

namespace ringwall {
namespace {

constexpr int64_t kMs = 1'000'000;

// Tells the test of each expiry.
class Log {
 public:
  void Add(int id) {
    MutexLock lock(mu_);
    ids_.push_back(id);
    changed_.SignalAll();
  }
  std::vector<int> WaitFor(size_t n) {
    MutexLock lock(mu_);
    while (ids_.size() < n) changed_.Wait(mu_);
    return ids_;
  }
  std::vector<int> Now() {
    MutexLock lock(mu_);
    return ids_;
  }

 private:
  Mutex<LockClass::kLeaf> mu_;
  CondVar changed_;
  std::vector<int> ids_ GUARDED_BY(mu_);
};

class TestTimer final : public Timer {
 public:
  TestTimer(Log& log, int id) : log_(log), id_(id) {}
  std::optional<int64_t> OnExpire(int64_t now_ns) override {
    std::optional<int64_t> next;
    if (then) next = then(now_ns);
    log_.Add(id_);
    return next;
  }
  std::function<std::optional<int64_t>(int64_t)> then;

 private:
  Log& log_;
  const int id_;
};

int64_t In(TimerClock clock, int64_t ns) { return TimerClockNow(clock) + ns; }

TEST(TimerQueueTest, TimersExpireInOrderOfTime) {
  Log log;
  TimerQueue queue;
  TestTimer a(log, 1), b(log, 2), c(log, 3);
  const int64_t now = TimerClockNow(TimerClock::kMonotonic);
  queue.Arm(c, TimerClock::kMonotonic, now + 6 * kMs);
  queue.Arm(a, TimerClock::kMonotonic, now + 2 * kMs);
  queue.Arm(b, TimerClock::kMonotonic, now + 4 * kMs);
  EXPECT_EQ(log.WaitFor(3), (std::vector<int>{1, 2, 3}));
  EXPECT_GE(TimerClockNow(TimerClock::kMonotonic), now + 6 * kMs);
}

TEST(TimerQueueTest, EveryClockExpires) {
  Log log;
  TimerQueue queue;
  TestTimer a(log, 1), b(log, 2);
  queue.Arm(a, TimerClock::kRealtime, In(TimerClock::kRealtime, kMs));
  log.WaitFor(1);
  queue.Arm(b, TimerClock::kBoottime, In(TimerClock::kBoottime, kMs));
  EXPECT_EQ(log.WaitFor(2), (std::vector<int>{1, 2}));
}

TEST(TimerQueueTest, ATimeInThePastIsDueAtOnce) {
  Log log;
  TimerQueue queue;
  TestTimer a(log, 1), b(log, 2);
  queue.Arm(a, TimerClock::kMonotonic, 0);
  log.WaitFor(1);
  queue.Arm(b, TimerClock::kRealtime, -5);
  log.WaitFor(2);
}

TEST(TimerQueueTest, ACancelledTimerDoesNotExpire) {
  Log log;
  TimerQueue queue;
  TestTimer a(log, 1), b(log, 2);
  queue.Arm(a, TimerClock::kMonotonic, In(TimerClock::kMonotonic, 3600'000 * kMs));
  EXPECT_TRUE(queue.Cancel(a));
  EXPECT_FALSE(queue.Cancel(a));
  queue.Arm(b, TimerClock::kMonotonic, 0);
  EXPECT_EQ(log.WaitFor(1), std::vector<int>{2});
  EXPECT_FALSE(queue.Cancel(b));
}

TEST(TimerQueueTest, ArmingAgainMovesATimer) {
  Log log;
  TimerQueue queue;
  TestTimer a(log, 1);
  queue.Arm(a, TimerClock::kMonotonic, In(TimerClock::kMonotonic, 3600'000 * kMs));
  queue.Arm(a, TimerClock::kRealtime, 0);
  EXPECT_EQ(log.WaitFor(1), std::vector<int>{1});
}

TEST(TimerQueueTest, AReturnedTimeRepeats) {
  Log log;
  TimerQueue queue;
  TestTimer a(log, 1);
  int left = 4;
  a.then = [&](int64_t now) -> std::optional<int64_t> {
    if (--left == 0) return std::nullopt;
    return now + kMs;
  };
  queue.Arm(a, TimerClock::kMonotonic, 0);
  EXPECT_EQ(log.WaitFor(4).size(), 4u);
  EXPECT_FALSE(queue.Cancel(a));
}

TEST(TimerQueueTest, CancelWaitsForARunningCallback) {
  Log log;
  TimerQueue queue;
  std::atomic<bool> entered{false}, leave{false}, left{false};
  TestTimer a(log, 1);
  a.then = [&](int64_t now) -> std::optional<int64_t> {
    entered = true;
    while (!leave) sched_yield();
    left = true;
    return now + 3600'000 * kMs;
  };
  queue.Arm(a, TimerClock::kMonotonic, 0);
  while (!entered) sched_yield();
  leave = true;
  queue.Cancel(a);
  EXPECT_TRUE(left);
  EXPECT_FALSE(queue.Cancel(a));  // what it returned was not taken
}

TEST(TimerQueueTest, ACallbackMayArmAndCancelItself) {
  Log log;
  TimerQueue queue;
  TestTimer a(log, 1), b(log, 2);
  bool first = true;
  a.then = [&](int64_t) -> std::optional<int64_t> {
    if (first) {
      first = false;
      queue.Arm(a, TimerClock::kMonotonic, 0);
    } else {
      queue.Cancel(a);
    }
    return 0;  // not taken: the queue was told otherwise
  };
  queue.Arm(a, TimerClock::kMonotonic, 0);
  log.WaitFor(2);
  queue.Cancel(a);
  EXPECT_EQ(log.Now().size(), 2u);
}

class FakeCpu final : public CpuClock {
 public:
  Reading Read() override {
    ++reads;
    return {now.load(), running.load()};
  }
  std::atomic<int64_t> now{0};
  std::atomic<int> running{0};
  std::atomic<int> reads{0};
};

TEST(TimerQueueTest, ACpuTimerFollowsItsClock) {
  Log log;
  TimerQueue queue;
  TestTimer a(log, 1);
  FakeCpu cpu;
  queue.ArmCpu(a, cpu, 5 * kMs);
  EXPECT_EQ(cpu.reads, 1);  // stands still: not watched
  cpu.running = 1;
  queue.Recheck(a);
  while (cpu.reads < 3) sched_yield();
  EXPECT_TRUE(log.Now().empty());
  cpu.now = 5 * kMs;
  log.WaitFor(1);
  queue.Recheck(a);  // no longer armed: nothing
  EXPECT_FALSE(queue.Cancel(a));
}

TEST(TimerQueueTest, AParkedCpuTimerCanBeCancelled) {
  Log log;
  TimerQueue queue;
  TestTimer a(log, 1);
  FakeCpu cpu;
  queue.ArmCpu(a, cpu, kMs);
  EXPECT_TRUE(queue.Cancel(a));
}

TEST(TimerQueueTest, ClocksOfTheGuestHaveATimerClock) {
  int64_t offset = 1;
  EXPECT_EQ(TimerClockOf(CLOCK_REALTIME_ALARM, &offset), TimerClock::kRealtime);
  EXPECT_EQ(offset, 0);
  EXPECT_EQ(TimerClockOf(CLOCK_TAI, &offset), TimerClock::kRealtime);
  EXPECT_EQ(offset % 1'000'000'000, 0);
  EXPECT_EQ(TimerClockOf(CLOCK_MONOTONIC, &offset), TimerClock::kMonotonic);
  EXPECT_FALSE(TimerClockOf(CLOCK_MONOTONIC_COARSE, &offset).has_value());
  EXPECT_FALSE(TimerClockOf(CLOCK_THREAD_CPUTIME_ID, &offset).has_value());
  EXPECT_FALSE(TimerClockOf(99, &offset).has_value());
}

TEST(TimerQueueTest, MissedExpirationsAreCounted) {
  int64_t deadline = 100;
  EXPECT_EQ(CountExpirations(&deadline, 10, 99), 0u);
  EXPECT_EQ(CountExpirations(&deadline, 10, 100), 1u);
  EXPECT_EQ(deadline, 110);
  EXPECT_EQ(CountExpirations(&deadline, 10, 145), 4u);
  EXPECT_EQ(deadline, 150);
  EXPECT_EQ(CountExpirations(&deadline, 0, 200), 1u);
  deadline = 1;
  EXPECT_EQ(CountExpirations(&deadline, INT64_MAX, INT64_MAX), 1u);
  EXPECT_EQ(deadline, INT64_MAX);
}

}  // namespace
}  // namespace ringwall
