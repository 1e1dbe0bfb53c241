#include "sentry/base/mutex.h"

#include "absl/base/internal/sysinfo.h"

namespace ringwall {

void PrepareMutexes() { absl::base_internal::NumCPUs(); }

}  // namespace ringwall
