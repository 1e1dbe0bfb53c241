// What all kinds of contexts do alike.
#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

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

bool Context::SetScheduling(uint32_t policy, int nice, uint32_t priority) {
  // struct sched_attr, include/uapi/linux/sched/types.h, first version.
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attr = {};
  attr.size = sizeof(attr);
  attr.policy = policy;
  attr.nice = nice;
  attr.priority = priority;
  return ::syscall(SYS_sched_setattr, host_tid(), &attr, 0) == 0;
}

}  // namespace ringwall
