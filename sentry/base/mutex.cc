#include "sentry/base/mutex.h"

#include <pthread.h>
#include <sched.h>

#include "absl/base/internal/sysinfo.h"

namespace ringwall {

void PrepareMutexes() {
  absl::base_internal::NumCPUs();
  // Abseil asks for a waiting thread's priority. The C library keeps the answer in the thread, and
  // new threads inherit it from the one that makes them.
  int policy;
  sched_param param;
  pthread_getschedparam(pthread_self(), &policy, &param);
}

}  // namespace ringwall
