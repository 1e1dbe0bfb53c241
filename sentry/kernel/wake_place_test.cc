#include "sentry/kernel/wake_place.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace ringwall {
namespace {

// What the calling thread has done as a waker is its own: each case has a thread for itself.
template <typename F>
void OnAThread(F body) {
  std::thread(body).join();
}

// One wake of `task`, which sleeps, and then the waker's own sleep, at once. Whether the task was moved.
bool WakeAndSleep(WakePlace& task, WakePlace& own) {
  const bool moves = task.BeforeWake();
  task.AfterWake(moves, true);
  own.BeforeSleep();
  return moves;
}

cpu_set_t Now() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  return set;
}

// Wakes a thread that is this one, until it would be moved: a pause between wake and sleep counts against it.
bool Learns(WakePlace& task, WakePlace& own, const cpu_set_t& all) {
  for (int i = 0; i < 100'000; i++) {
    if (WakeAndSleep(task, own)) return true;
    task.AfterSleep(all);
  }
  return false;
}

TEST(WakePlaceTest, FirstWakeMovesNobody) {
  OnAThread([] {
    WakePlace task, own;
    own.BeforeSleep();
    EXPECT_FALSE(task.BeforeWake());
  });
}

TEST(WakePlaceTest, MovesWhenTheWakerSleepsSoonAndGivesTheProcessorsBack) {
  OnAThread([] {
    WakePlace task, own;
    const cpu_set_t all = Now();
    task.BeforeSleep();  // its thread is this one
    own.BeforeSleep();
    ASSERT_TRUE(Learns(task, own, all));
    const cpu_set_t here = Now();
    EXPECT_EQ(CPU_COUNT(&here), 1);
    task.AfterSleep(all);
    const cpu_set_t after = Now();
    EXPECT_TRUE(CPU_EQUAL(&after, &all));
  });
}

TEST(WakePlaceTest, MovesOneTaskForEachSleepOfTheWaker) {
  OnAThread([] {
    WakePlace task, other, own;
    const cpu_set_t all = Now();
    task.BeforeSleep();
    own.BeforeSleep();
    ASSERT_TRUE(Learns(task, own, all));
    task.AfterSleep(all);
    task.AfterWake(task.BeforeWake(), true);
    EXPECT_FALSE(other.BeforeWake());
    task.AfterSleep(all);
  });
}

TEST(WakePlaceTest, CountsFromTheFirstWakeNotFromTheLast) {
  OnAThread([] {
    WakePlace task, own;
    const cpu_set_t all = Now();
    task.BeforeSleep();
    own.BeforeSleep();
    ASSERT_TRUE(Learns(task, own, all));
    task.AfterSleep(all);
    // Long work between a first wake and a last one: after some such turns nobody is moved any more.
    for (int turn = 0; turn < 8; turn++) {
      task.AfterWake(false, true);
      const uint64_t start = __builtin_ia32_rdtsc();
      while (__builtin_ia32_rdtsc() - start < 1'000'000) {
      }
      task.AfterWake(false, true);
      own.BeforeSleep();
    }
    EXPECT_FALSE(task.BeforeWake());
  });
}

TEST(WakePlaceTest, LeavesATaskThatIsAwakeOrWhoseGuestIsBound) {
  OnAThread([] {
    WakePlace task, own;
    const cpu_set_t all = Now();
    task.BeforeSleep();
    own.BeforeSleep();
    ASSERT_TRUE(Learns(task, own, all));
    task.AfterSleep(all);
    // As if it had woken by itself meanwhile.
    task.AfterWake(task.BeforeWake(), false);
    const cpu_set_t awake = Now();
    EXPECT_TRUE(CPU_EQUAL(&awake, &all));
    task.set_bound(true);
    EXPECT_FALSE(task.BeforeWake());
  });
}

TEST(WakePlaceTest, OtherThreadsThanTasksMoveNobody) {
  OnAThread([] {
    WakePlace task;
    for (int i = 0; i < 20; i++) {
      const bool moves = task.BeforeWake();
      EXPECT_FALSE(moves);
      task.AfterWake(moves, true);
    }
  });
}

}  // namespace
}  // namespace ringwall
