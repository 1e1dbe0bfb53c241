#include "sentry/kernel/wake_place.h"

#include <algorithm>

#include "sentry/base/thread_place.h"

namespace ringwall {

namespace {

constexpr uint64_t kSoonTicks = 50'000;  // some 20 us
constexpr int kScoreMax = 8;
constexpr int kScoreMin = -8;

// What the calling thread has done as a waker.
struct Waker {
  bool is_task = false;
  int score = 0;
  uint64_t woke_at = 0;  // first, since its last sleep
};
thread_local Waker waker;

}  // namespace

void WakePlace::BeforeSleep() {
  if (waker.woke_at != 0) {
    const bool soon = __builtin_ia32_rdtsc() - waker.woke_at < kSoonTicks;
    waker.score = soon ? std::min(waker.score + 1, kScoreMax) : std::max(waker.score - 2, kScoreMin);
    waker.woke_at = 0;
  }
  waker.is_task = true;
  thread_ = pthread_self();
}

void WakePlace::AfterSleep(const cpu_set_t& all) {
  State state;
  while ((state = state_.load()) == State::kMoving) sched_yield();
  if (state == State::kNone) return;
  state_.store(State::kNone);
  sched_setaffinity(0, sizeof all, &all);
}

bool WakePlace::BeforeWake() {
  if (waker.score <= 0 || waker.woke_at != 0 || bound_.load(std::memory_order_relaxed)) return false;
  State none = State::kNone;
  return state_.compare_exchange_strong(none, State::kMoving);
}

void WakePlace::AfterWake(bool moves, bool asleep) {
  // The first since its sleep counts: who then goes on with work of its own has more than one to do it with.
  if (asleep && waker.is_task && waker.woke_at == 0) waker.woke_at = __builtin_ia32_rdtsc();
  if (!moves) return;
  const int cpu = asleep ? sched_getcpu() : -1;
  if (cpu < 0 || cpu >= CPU_SETSIZE) {
    state_.store(State::kNone);
    return;
  }
  const cpu_set_t here = OneProcessor(static_cast<size_t>(cpu));
  pthread_setaffinity_np(thread_, sizeof here, &here);
  state_.store(State::kMoved);
}

}  // namespace ringwall
