#include "fs/proc/cpu_list.h"

#include <algorithm>

#include "fs/proc/nodes.h"

namespace ringwall {

namespace {

// One behind the highest that is in the set: most of it is empty, and every /proc/PID/status shows it.
size_t EndOf(const cpu_set_t& set) {
  constexpr size_t kBits = 8 * sizeof(set.__bits[0]);
  size_t word = CPU_SETSIZE / kBits;
  while (word > 0 && set.__bits[word - 1] == 0) --word;
  size_t end = word * kBits;
  while (end > 0 && !CPU_ISSET(end - 1, &set)) --end;
  return end;
}

}  // namespace

std::string CpuList(const cpu_set_t& set) {
  std::string out;
  const size_t end = EndOf(set);
  for (size_t n = 0; n < end; n++) {
    if (!CPU_ISSET(n, &set)) continue;
    size_t last = n;
    while (last + 1 < end && CPU_ISSET(last + 1, &set)) last++;
    if (!out.empty()) out += ',';
    AppendFormat(&out, "%zu", n);
    if (last != n) AppendFormat(&out, "-%zu", last);
    n = last;
  }
  return out;
}

std::string CpuMask(const cpu_set_t& set) {
  const size_t words = std::max<size_t>(1, (EndOf(set) + 31) / 32);
  std::string out;
  for (size_t w = words; w-- > 0;) {
    uint32_t bits = 0;
    for (size_t b = 0; b < 32; b++) {
      if (CPU_ISSET(w * 32 + b, &set)) bits |= uint32_t{1} << b;
    }
    if (out.empty()) {
      AppendFormat(&out, "%x", bits);
    } else {
      AppendFormat(&out, ",%08x", bits);
    }
  }
  return out;
}

}  // namespace ringwall
