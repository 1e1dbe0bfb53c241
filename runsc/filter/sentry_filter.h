// The Sentry's list of host system calls. At most kSentryFilterMaxCalls; none opens a file,
// executes a program or makes a process or a socket.
#ifndef RINGWALL_RUNSC_FILTER_SENTRY_FILTER_H_
#define RINGWALL_RUNSC_FILTER_SENTRY_FILTER_H_

#include <span>

#include "runsc/filter/filter.h"

namespace ringwall {

inline constexpr size_t kSentryFilterMaxCalls = 45;

std::span<const FilterRule> SentryFilterRules();

// With --debug an unlisted call is logged by number before the process ends.
HostResult<void> InstallSentryFilter();

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_FILTER_SENTRY_FILTER_H_
