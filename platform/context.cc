// What all kinds of contexts do alike.
#include <errno.h>
#include <sched.h>

#include "platform/platform.h"

namespace ringwall {

Result<void> Context::SetAffinity(const cpu_set_t& set) {
  if (::sched_setaffinity(host_tid(), sizeof set, &set) != 0) return Errno(errno);
  return {};
}

}  // namespace ringwall
