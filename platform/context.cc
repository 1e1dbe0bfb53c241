// What all kinds of contexts do alike.
#include <errno.h>
#include <sched.h>

#include <vector>

#include "platform/platform.h"

namespace ringwall {

Result<void> AddressSpace::CountResident(std::span<const GuestRange> ranges,
                                         std::span<uint64_t> pages) {
  for (size_t i = 0; i < ranges.size(); ++i) {
    std::vector<uint8_t> in_memory(ranges[i].size() / kPageSize);
    pages[i] = 0;
    if (!Mincore(ranges[i], in_memory).ok()) continue;
    for (const uint8_t page : in_memory) pages[i] += page & 1;
  }
  return {};
}

Result<void> Context::SetAffinity(const cpu_set_t& set) {
  if (::sched_setaffinity(host_tid(), sizeof set, &set) != 0) return Errno(errno);
  return {};
}

}  // namespace ringwall
