#include "runsc/cli/report.h"

#include <fcntl.h>
#include <stdio.h>

#include "sentry/base/log.h"
#include "sentry/base/unique_fd.h"

namespace ringwall {

void ReportError(const Config& config, const std::string& message) {
  fprintf(stderr, "runsc: %s\n", message.c_str());
  if (config.log.empty()) return;
  UniqueFd fd(::open(config.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!fd) return;
  const LogConfig before = GetLogConfig();
  LogConfig logging = before;
  logging.fd = fd.get();
  logging.format = LogFormatByName(config.log_format);
  SetLogConfig(logging);
  LogMessage(LogLevel::kError, "%s", message.c_str());
  SetLogConfig(before);
}

}  // namespace ringwall
