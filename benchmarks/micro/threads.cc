// Work of the processor by more threads than there are processors, which take turns at locks: what
// collectors and parallel loops do. One turn is one such loop, so what threads cost to make hardly counts.
#include <pthread.h>
#include <stdint.h>

#include "benchmarks/micro/bench.h"

namespace ringwall::bench {
namespace {

constexpr int kThreads = 8;
constexpr int kPieces = 2000;      // of work, for all threads together
constexpr int kStepsAPiece = 5000;  // some microseconds

struct Loop {
  pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
  int next = 0;
  uint64_t sum = 0;
};

uint64_t Work(uint64_t seed) {
  for (int i = 0; i < kStepsAPiece; i++) seed = seed * 6364136223846793005u + 1442695040888963407u;
  return seed;
}

void* TakePieces(void* argument) {
  Loop& loop = *static_cast<Loop*>(argument);
  uint64_t done = 0;
  for (;;) {
    pthread_mutex_lock(&loop.mu);
    loop.sum += done;
    const int piece = loop.next < kPieces ? loop.next++ : -1;
    pthread_mutex_unlock(&loop.mu);
    if (piece < 0) return nullptr;
    done = Work(static_cast<uint64_t>(piece));
  }
}

BENCH(eight_threads_with_lock) {
  while (n--) {
    Loop loop;
    pthread_t threads[kThreads];
    for (pthread_t& t : threads) Need(pthread_create(&t, nullptr, &TakePieces, &loop) == 0, "thread");
    for (pthread_t& t : threads) pthread_join(t, nullptr);
    Need(loop.sum != 0, "sum");
  }
}

}  // namespace
}  // namespace ringwall::bench
