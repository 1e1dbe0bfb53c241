#include "platform/stub/cpu_meter.h"

#include <gtest/gtest.h>

namespace ringwall {
namespace {

using In = CpuMeter::In;

constexpr uint64_t kUs = 1000;  // cycles, so that one is a nanosecond
constexpr uint64_t kMs = 1000 * kUs;

class CpuMeterTest : public testing::Test {
 protected:
  // The moments of a test lie after the meters' making.
  const uint64_t start_ = __builtin_ia32_rdtsc() + 1'000'000'000'000;
  CpuShares shares_;
};

TEST_F(CpuMeterTest, TheOnlyThreadHasAll) {
  CpuMeter m(kUs);
  shares_.Add(&m);
  m.Enter(In::kAsleep, start_);
  const CpuTimes t = shares_.Read(m, {7, 5}, start_);
  EXPECT_EQ(t.user_ns, 7U);
  EXPECT_GE(t.system_ns, 5U);
}

TEST_F(CpuMeterTest, ThreadsShareAsTheyRan) {
  CpuMeter a(kUs), b(kUs), idle(kUs);
  for (CpuMeter* m : {&a, &b, &idle}) {
    m->Enter(In::kAsleep, start_);
    shares_.Add(m);
  }
  const CpuTimes none = shares_.Read(idle, {0, 0}, start_);
  a.Enter(In::kGuest, start_);
  b.Enter(In::kGuest, start_ + 6 * kMs);
  const CpuTimes total = {8 * kMs, 4 * kMs};
  const uint64_t now = start_ + 9 * kMs;
  // Who asks gets nothing for it.
  const CpuTimes of_idle = shares_.Read(idle, total, now);
  EXPECT_EQ(of_idle.user_ns, none.user_ns);
  EXPECT_EQ(of_idle.system_ns, none.system_ns);
  const CpuTimes of_a = shares_.Read(a, total, now), of_b = shares_.Read(b, total, now);
  EXPECT_EQ(of_a.user_ns, 6 * kMs);
  EXPECT_EQ(of_b.user_ns, 2 * kMs);
  EXPECT_EQ(of_a.user_ns + of_b.user_ns, total.user_ns);
}

TEST_F(CpuMeterTest, AWaitOfTheStubIsNoRun) {
  uint32_t waiting = 0;
  uint64_t since = 0, waited = 0;
  CpuMeter waits(kUs, {&waiting, &since, &waited}), runs(kUs);
  for (CpuMeter* m : {&waits, &runs}) {
    m->Enter(In::kAsleep, start_);
    shares_.Add(m);
    m->Enter(In::kGuest, start_);
  }
  waiting = 1, since = start_ + 2 * kMs, waited = 1 * kMs;
  const CpuTimes total = {11 * kMs, 0};
  EXPECT_EQ(shares_.Read(runs, total, start_ + 10 * kMs).user_ns, 10 * kMs);
  EXPECT_EQ(shares_.Read(waits, total, start_ + 10 * kMs).user_ns, 1 * kMs);
}

// The words are the guest's to write: they move time among its own threads at most.
TEST_F(CpuMeterTest, ForgedWaits) {
  uint32_t waiting = 1;
  uint64_t since = 0, waited = 0;
  CpuMeter forger(kUs, {&waiting, &since, &waited}), other(kUs);
  for (CpuMeter* m : {&forger, &other}) shares_.Add(m);
  uint64_t used = 0, last = 0;
  for (const uint64_t lie : {uint64_t{0}, ~uint64_t{0}, uint64_t{1} << 63, uint64_t{5}}) {
    since = waited = lie;
    used += kMs;
    const uint64_t sum = shares_.Read(forger, {used, 0}, start_ + used).user_ns +
                         shares_.Read(other, {used, 0}, start_ + used).user_ns;
    EXPECT_LE(sum, used);
    EXPECT_GE(sum, last);
    last = sum;
  }
}

TEST_F(CpuMeterTest, TheSentrysWorkIsSystemTimeAndSpinsAreNobodys) {
  CpuMeter m(kUs);
  shares_.Add(&m);
  m.Enter(In::kGuest, start_);
  const uint64_t before = shares_.Read(m, {0, 0}, start_).system_ns;
  m.Enter(In::kSentry, start_ + 100 * kUs);
  m.NoteSpin(300 * kUs);
  m.Enter(In::kGuest, start_ + 400 * kUs);
  const CpuTimes t = shares_.Read(m, {450 * kUs, 0}, start_ + 450 * kUs);
  EXPECT_EQ(t.user_ns, 150 * kUs);
  EXPECT_EQ(t.system_ns - before, 300 * kUs);
}

TEST_F(CpuMeterTest, SleepIsNobodys) {
  CpuMeter m(kUs);
  shares_.Add(&m);
  m.Enter(In::kSentry, start_);
  const uint64_t before = shares_.Read(m, {0, 0}, start_).system_ns;
  m.Enter(In::kAsleep, start_ + 10 * kUs);
  m.Enter(In::kSentry, start_ + 900 * kMs);
  m.Enter(In::kGuest, start_ + 900 * kMs + 10 * kUs);
  EXPECT_EQ(shares_.Read(m, {0, 0}, start_ + 901 * kMs).system_ns - before, 20 * kUs);
}

TEST_F(CpuMeterTest, TimesNeverGoBack) {
  CpuMeter m(kUs);
  shares_.Add(&m);
  m.Enter(In::kGuest, start_);
  const CpuTimes first = shares_.Read(m, {10 * kUs, 0}, start_ + 10 * kUs);
  m.NoteSpin(30 * kUs);
  const CpuTimes second = shares_.Read(m, {11 * kUs, 0}, start_ + 11 * kUs);
  EXPECT_GE(second.user_ns, first.user_ns);
  EXPECT_GE(second.system_ns, first.system_ns);
}

// A thread that waits for the processor is no work: its own clock stands meanwhile.
TEST_F(CpuMeterTest, WorkIsConfirmedByTheThreadsClock) {
  CpuMeter m(kUs);
  shares_.Add(&m);
  m.Bind();
  m.Enter(In::kSentry, start_);
  m.Enter(In::kGuest, start_ + 3'600'000 * kMs);
  EXPECT_LT(shares_.Read(m, {0, 0}, start_ + 3'600'000 * kMs).system_ns, 60'000 * kMs);
}

}  // namespace
}  // namespace ringwall
