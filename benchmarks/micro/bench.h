// A subject is a function that does its work `n` times; the frame finds n and prints ns per turn.
//
//   BENCH(getpid) { while (n--) syscall(SYS_getpid); }   // set-up: static locals on first use
//
// Every subject runs in a child of its own, so that one that fails or hangs ends alone.
#ifndef RINGWALL_BENCHMARKS_MICRO_BENCH_H_
#define RINGWALL_BENCHMARKS_MICRO_BENCH_H_

#include <stdint.h>

#include <string>

namespace ringwall::bench {

using Body = void (*)(int64_t n);

struct Subject {
  const char* name;
  Body body;
  double per;  // turns' worth: the printed figure is ns per (turn / per)
};

void Register(const Subject& subject);
[[noreturn]] void Fail(const char* what);

// Dies with a message unless ok; for set-up and for calls whose failure would make nonsense.
inline void Need(bool ok, const char* what) {
  if (!ok) Fail(what);
}

int64_t NowNs();

// A folder for this run's files, made on first use in $TMPDIR or /tmp, removed at the end.
const std::string& Dir();

// Ties the calling thread to one of the CPUs we may use, the first or the second.
void PinTo(int which);

// Holds that many connections of this process to itself, with all of it idle, for ever.
[[noreturn]] void HoldConnections(int count);

struct Registrar {
  Registrar(const char* name, Body body, double per = 1) { Register({name, body, per}); }
};

#define BENCH_PER(name, per)                                              \
  static void Bench_##name(int64_t n);                                    \
  static const ::ringwall::bench::Registrar g_##name(#name, Bench_##name, per); \
  static void Bench_##name(int64_t n)
#define BENCH(name) BENCH_PER(name, 1)

}  // namespace ringwall::bench

#endif  // RINGWALL_BENCHMARKS_MICRO_BENCH_H_
