#include "sentry/kernel/load_average.h"

#include <algorithm>
#include <cmath>

namespace ringwall {

void LoadAverage::Look(int64_t now_ns, int64_t busy_ns, int runnable, int processors) {
  constexpr int64_t kSecond = 1'000'000'000;
  if (!Due(now_ns)) return;
  const int64_t passed = now_ns - last_ns_;
  // What a process that nobody waits for has computed is forgotten with it.
  double load = static_cast<double>(std::max<int64_t>(0, busy_ns - busy_ns_)) / static_cast<double>(passed);
  constexpr double kAllBusy = 0.9;
  if (load > kAllBusy * processors) load = std::max(load, static_cast<double>(runnable));
  constexpr std::array<double, 3> kMinutes = {1, 5, 15};
  for (size_t i = 0; i < values_.size(); i++) {
    const double kept = std::exp(-static_cast<double>(passed) / (kMinutes[i] * 60 * kSecond));
    values_[i] = values_[i] * kept + load * (1 - kept);
  }
  last_ns_ = now_ns;
  busy_ns_ = busy_ns;
}

}  // namespace ringwall
