// Telling of an error: to people on stderr, to engines as the last line of --log.
#ifndef RINGWALL_RUNSC_CLI_REPORT_H_
#define RINGWALL_RUNSC_CLI_REPORT_H_

#include <string>

#include "runsc/cli/config.h"

namespace ringwall {

void ReportError(const Config& config, const std::string& message);

}  // namespace ringwall

#endif  // RINGWALL_RUNSC_CLI_REPORT_H_
