#include "sentry/kernel/host_threads.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "sentry/base/mutex.h"
#include "sentry/base/thread_place.h"

namespace ringwall {
namespace {

constexpr size_t kHostStackSize = 256 << 10;
// What a burst of short tasks leaves behind: so many threads, for so long, and then nothing.
constexpr size_t kMaxIdle = 16;
constexpr time_t kIdleSeconds = 1;

struct Worker {
  void (*body)(void*);
  void* argument;
  std::atomic<uint32_t> has_work{1};
  pthread_t thread;
};

struct Idle {
  Mutex<LockClass::kLeaf> mu;
  std::array<Worker*, kMaxIdle> workers GUARDED_BY(mu) = {};
  size_t count GUARDED_BY(mu) = 0;
};

Idle& TheIdle() {
  static Idle& idle = *new Idle;
  return idle;
}

bool BecomeIdle(Worker& worker) {
  Idle& idle = TheIdle();
  MutexLock lock(idle.mu);
  if (idle.count == kMaxIdle) return false;
  worker.has_work.store(0, std::memory_order_relaxed);
  idle.workers[idle.count++] = &worker;
  return true;
}

// False when the worker has been given work meanwhile.
bool StopBeingIdle(Worker& worker) {
  Idle& idle = TheIdle();
  MutexLock lock(idle.mu);
  Worker** const end = idle.workers.data() + idle.count;
  Worker** const at = std::find(idle.workers.data(), end, &worker);
  if (at == end) return false;
  std::copy(at + 1, end, at);
  --idle.count;
  return true;
}

// The one that was idle last, whose stack is the warmest.
Worker* TakeIdle() {
  Idle& idle = TheIdle();
  MutexLock lock(idle.mu);
  return idle.count == 0 ? nullptr : idle.workers[--idle.count];
}

void AwaitWork(Worker& worker) {
  const timespec limit = {kIdleSeconds, 0};
  while (worker.has_work.load(std::memory_order_acquire) == 0) {
    if (syscall(SYS_futex, &worker.has_work, FUTEX_WAIT_PRIVATE, 0, &limit, nullptr, 0) == 0 ||
        errno != ETIMEDOUT) {
      continue;
    }
    if (StopBeingIdle(worker)) return;
  }
}

void* Main(void* argument) {
  Worker& worker = *static_cast<Worker*>(argument);
  worker.thread = pthread_self();
  while (worker.has_work.load(std::memory_order_acquire) != 0) {
    worker.body(worker.argument);
    if (!BecomeIdle(worker)) break;
    AwaitWork(worker);
  }
  delete &worker;
  return nullptr;
}

}  // namespace

bool RunOnIdleThread(void (*body)(void*), void* argument) {
  const int cpu = std::exchange(next_thread_cpu, -1);
  Worker* const worker = TakeIdle();
  if (worker == nullptr) return false;
  if (cpu >= 0) {
    const cpu_set_t one = OneProcessor(static_cast<size_t>(cpu));
    pthread_setaffinity_np(worker->thread, sizeof one, &one);
  }
  worker->body = body;
  worker->argument = argument;
  worker->has_work.store(1, std::memory_order_release);
  // It may be at the end of its work, and gone, by now: a wake of nobody does no harm.
  syscall(SYS_futex, &worker->has_work, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  return true;
}

int RunOnNewThread(void (*body)(void*), void* argument) {
  auto* worker = new Worker{body, argument};
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attr, kHostStackSize);
  pthread_t thread;
  const int error = pthread_create(&thread, &attr, &Main, worker);
  pthread_attr_destroy(&attr);
  if (error != 0) delete worker;
  return error;
}

}  // namespace ringwall
