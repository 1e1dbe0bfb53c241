#include "runsc/sandbox/signal_name.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

namespace ringwall {

int SignalByName(const std::string& name) {
  char* end = nullptr;
  const long number = strtol(name.c_str(), &end, 10);
  if (!name.empty() && *end == '\0') {
    return number >= 0 && number <= 64 ? static_cast<int>(number) : -1;
  }
  const char* bare = name.c_str();
  if (strncasecmp(bare, "SIG", 3) == 0) bare += 3;
  for (int signal = 1; signal < 32; signal++) {
    const char* known = sigabbrev_np(signal);
    if (known != nullptr && strcasecmp(known, bare) == 0) return signal;
  }
  if (strcasecmp(bare, "IOT") == 0) return SIGABRT;
  if (strcasecmp(bare, "CLD") == 0) return SIGCHLD;
  if (strcasecmp(bare, "POLL") == 0) return SIGIO;
  const bool from_min = strncasecmp(bare, "RTMIN", 5) == 0;
  if (from_min || strncasecmp(bare, "RTMAX", 5) == 0) {
    // The kernel's numbers: the guest's libc keeps two of them for itself.
    const int base = from_min ? 34 : 64;
    const long offset = bare[5] == '\0' ? 0 : strtol(bare + 5, &end, 10);
    if (bare[5] != '\0' && *end != '\0') return -1;
    const long signal = base + offset;
    return signal >= 32 && signal <= 64 ? static_cast<int>(signal) : -1;
  }
  return -1;
}

}  // namespace ringwall
