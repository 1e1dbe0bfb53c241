// Names of signals as users write them.
#ifndef RINGWALL_RUNSC_SANDBOX_SIGNAL_NAME_H_
#define RINGWALL_RUNSC_SANDBOX_SIGNAL_NAME_H_

#include <string>

namespace ringwall {

// "TERM", "SIGTERM", "sigterm", "15", "RTMIN+3"; -1 for anything else.
int SignalByName(const std::string& name);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_SANDBOX_SIGNAL_NAME_H_
