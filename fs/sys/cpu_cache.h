// /sys/devices/system/cpu/cpuN/cache: what the processor itself says of its caches.
#ifndef RINGWALL_FS_SYS_CPU_CACHE_H_
#define RINGWALL_FS_SYS_CPU_CACHE_H_

#include <sched.h>

#include "fs/proc/nodes.h"

namespace ringwall {

// Adds the caches of processor `number` to its directory. Those of the first two levels are its own, later
// ones are shared by all of `cpus`.
void AddCaches(StaticDirectory& cpu, int number, const cpu_set_t& cpus);

}  // namespace ringwall

#endif  // RINGWALL_FS_SYS_CPU_CACHE_H_
