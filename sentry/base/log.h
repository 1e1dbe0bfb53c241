// The log of every Ringwall process: one line or one JSON object per record, written with a single
// write(2) to a descriptor that was open before the filters went up. Thread-safe, no locks, no
// allocation. Below the chosen level a call costs one load.
#ifndef RINGWALL_SENTRY_BASE_LOG_H_
#define RINGWALL_SENTRY_BASE_LOG_H_

#include <atomic>

namespace ringwall {

enum class LogLevel : int { kError = 0, kWarning = 1, kInfo = 2, kDebug = 3 };
enum class LogFormat { kText, kJson, kJsonK8s };  // the last with the names that Kubernetes reads

struct LogConfig {
  int fd = 2;
  LogLevel level = LogLevel::kWarning;
  LogFormat format = LogFormat::kText;
  const char* process = "runsc";  // "sentry", "gofer", ...; must outlive the process
};

// Not thread-safe: once, at start.
void SetLogConfig(const LogConfig& config);
const LogConfig& GetLogConfig();

void LogMessage(LogLevel level, const char* format, ...) __attribute__((format(printf, 2, 3)));

extern std::atomic<int> log_level_internal;
inline bool LogEnabled(LogLevel level) {
  return static_cast<int>(level) <= log_level_internal.load(std::memory_order_relaxed);
}

}  // namespace ringwall

#define RW_LOG(level, ...)                                               \
  do {                                                                   \
    if (::ringwall::LogEnabled(::ringwall::LogLevel::level)) {           \
      ::ringwall::LogMessage(::ringwall::LogLevel::level, __VA_ARGS__);  \
    }                                                                    \
  } while (0)

#endif  // RINGWALL_SENTRY_BASE_LOG_H_
