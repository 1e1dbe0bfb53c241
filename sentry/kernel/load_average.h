// The load averages of /proc/loadavg and sysinfo(2), computed when somebody asks: nothing wakes up to
// sample while nobody does.
#ifndef RINGWALL_SENTRY_KERNEL_LOAD_AVERAGE_H_
#define RINGWALL_SENTRY_KERNEL_LOAD_AVERAGE_H_

#include <array>
#include <cstdint>

namespace ringwall {

class Kernel;

// Linux's decay over 1, 5 and 15 minutes. Between two looks the number of runnable tasks is taken to have
// been the same throughout: what they computed by the time that went by. Where all processors were busy
// that is too little, and the number that is runnable now counts. Not thread-safe.
class LoadAverage {
 public:
  using Values = std::array<double, 3>;
  // A look less than a second after the last changes nothing.
  bool Due(int64_t now_ns) const { return now_ns - last_ns_ >= 1'000'000'000; }
  // busy_ns: what all have computed so far. Times go on from 0, the sandbox's start.
  void Look(int64_t now_ns, int64_t busy_ns, int runnable, int processors);
  const Values& values() const { return values_; }

 private:
  int64_t last_ns_ = 0, busy_ns_ = 0;
  Values values_ = {};
};

// Those of the sandbox. Takes the TaskSet's lock; any thread.
LoadAverage::Values LoadAverages(Kernel& kernel);

}  // namespace ringwall

#endif  // RINGWALL_SENTRY_KERNEL_LOAD_AVERAGE_H_
