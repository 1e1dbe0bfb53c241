#include "fs/proc/cpu_list.h"

#include "fs/proc/nodes.h"

namespace ringwall {

std::string CpuList(const cpu_set_t& set) {
  std::string out;
  for (size_t n = 0; n < CPU_SETSIZE; n++) {
    if (!CPU_ISSET(n, &set)) continue;
    size_t last = n;
    while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &set)) last++;
    if (!out.empty()) out += ',';
    AppendFormat(&out, "%zu", n);
    if (last != n) AppendFormat(&out, "-%zu", last);
    n = last;
  }
  return out;
}

std::string CpuMask(const cpu_set_t& set) {
  size_t words = 1;
  for (size_t n = 0; n < CPU_SETSIZE; n++) {
    if (CPU_ISSET(n, &set)) words = n / 32 + 1;
  }
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
