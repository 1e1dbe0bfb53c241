// rseq(2) (kernel/rseq.c).
#include "sentry/kernel/task_rseq.h"
#include "syscalls/handlers_misc.h"

namespace ringwall {

SysResult SysRseq(Task& t, GuestAddr area, uint32_t length, int flags, uint32_t signature) {
  constexpr int kUnregister = 1;
  if ((flags & kUnregister) != 0) {
    if (flags != kUnregister) return Errno(EINVAL);
    return Zero(UnregisterRseq(t, area, length, signature));
  }
  if (flags != 0) return Errno(EINVAL);
  return Zero(RegisterRseq(t, area, length, signature));
}

}  // namespace ringwall
