// Sleeping and waking of a task's Sentry thread.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "sentry/kernel/file_async.h"
#include "sentry/kernel/late_wakes.h"
#include "sentry/kernel/task.h"

namespace ringwall {

namespace {

constexpr uint32_t kSleeping = 1;
constexpr uint32_t kOneWake = 2;

// Sleeps while *word == value, until an absolute CLOCK_MONOTONIC time. False at the deadline.
bool FutexWait(std::atomic<uint32_t>& word, uint32_t value, int64_t deadline) {
  timespec at;
  timespec* limit = nullptr;
  if (deadline != kNoDeadline) {
    at.tv_sec = deadline / 1'000'000'000;
    at.tv_nsec = deadline % 1'000'000'000;
    limit = &at;
  }
  const long r = syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, value, limit, nullptr,
                         FUTEX_BITSET_MATCH_ANY);
  return !(r == -1 && errno == ETIMEDOUT);
}

void NoteSleep(Context& context, SleepingCall& note) {
  const abi::Registers& r = context.regs();
  const uint64_t args[6] = {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9};
  for (size_t i = 0; i < std::size(args); i++) note.args[i].store(args[i], std::memory_order_relaxed);
  note.sp.store(r.rsp, std::memory_order_relaxed);
  note.pc.store(r.rip, std::memory_order_relaxed);
}

}  // namespace

int64_t MonotonicNow() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

Result<void> Task::Block(int64_t deadline) {
  SendPendingAsync();
  for (;;) {
    if (Interrupted()) return Errno(kErestartSys);
    uint32_t word = wake_.load(std::memory_order_acquire);
    if ((word & ~kSleeping) != wake_seen_) {
      wake_seen_ = word & ~kSleeping;
      return {};
    }
    if (context_ != nullptr) {
      context_->BeforeSleep();
      NoteSleep(*context_, sleeping_call);
    }
    wake_place_.BeforeSleep();
    if (!wake_.compare_exchange_strong(word, word | kSleeping)) continue;
    // A kick between the check above and here has changed the word, so the wait returns at once.
    state_.store('S', std::memory_order_relaxed);
    if (context_ != nullptr) context_->NoteAsleep(true);
    const bool in_time = deadline > 0 && FutexWait(wake_, word | kSleeping, deadline);
    if (context_ != nullptr) context_->NoteAsleep(false);
    state_.store('R', std::memory_order_relaxed);
    wake_.fetch_and(~kSleeping, std::memory_order_seq_cst);
    wake_place_.AfterSleep(kernel_.cpus());
    if (!in_time) {
      if (Interrupted()) return Errno(kErestartSys);
      return Errno(ETIMEDOUT);
    }
  }
}

void Task::SleepUninterrupted() {
  uint32_t word = wake_.load(std::memory_order_acquire);
  if ((word & ~kSleeping) != wake_seen_) {
    wake_seen_ = word & ~kSleeping;
    return;
  }
  if (context_ != nullptr) context_->BeforeSleep();
  wake_place_.BeforeSleep();
  if (!wake_.compare_exchange_strong(word, word | kSleeping)) return;
  if (context_ != nullptr) context_->NoteAsleep(true);
  FutexWait(wake_, word | kSleeping, kNoDeadline);
  if (context_ != nullptr) context_->NoteAsleep(false);
  wake_.fetch_and(~kSleeping, std::memory_order_seq_cst);
  wake_place_.AfterSleep(kernel_.cpus());
}

void Task::SleepWhilePaused() {
  state_.store('D', std::memory_order_relaxed);
  while (kernel_.Pauses(*this)) {
    {
      MutexLock lock(tg_->siglock);
      if (tg_->group_exit || dying_ || pending_.Has(SIGKILL) || tg_->pending.Has(SIGKILL)) break;
      // Other signals wait; what comes from here on ends the sleep, and the question is asked anew.
      interrupted_.store(false);
    }
    Result<void> ignored = Block();
    static_cast<void>(ignored);
  }
  state_.store('R', std::memory_order_relaxed);
  MutexLock lock(tg_->siglock);
  RecalcInterruptedLocked();
}

void Task::Wake() {
  const bool moves = wake_place_.BeforeWake();
  const uint32_t old = wake_.fetch_add(kOneWake, std::memory_order_seq_cst);
  wake_place_.AfterWake(moves, (old & kSleeping) != 0);
  if ((old & kSleeping) != 0) {
    LateWakes::Wake(&wake_);
  }
}

void Task::Kick() {
  Wake();
  if (!in_guest_.load()) return;
  MutexLock lock(mu_);
  if (context_ != nullptr) context_->Interrupt();
}

void Task::KickToEnd() {
  Wake();
  if (!in_guest_.load()) return;
  MutexLock lock(mu_);
  if (context_ != nullptr) context_->InterruptToEnd();
}

}  // namespace ringwall
